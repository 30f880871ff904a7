"""A second scanner beside ours: kingfisher itself where it is installed, and programs in its place that misbehave."""

from __future__ import annotations

import base64
import json
import os
import shutil
import string
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest

from adaptive_llm_gateway.core import Allowance, NotFound, SecretScanner, Unavailable
from adaptive_llm_gateway.server._second_opinion import NAME, program, second_opinion

ALG = str(Path(sys.executable).with_name("alg"))
_LETTERS = string.ascii_letters + string.digits


def drawn(seed: int, size: int) -> str:
    return "".join(Random(seed).choices(_LETTERS, k=size))  # noqa: S311 - has to repeat


GITHUB = "gh" + "p_" + drawn(1, 36)
GITLAB = "gl" + "pat-" + drawn(2, 20)
OTHER = "zz" + drawn(3, 30)
NOWHERE = (GITHUB, GITLAB, OTHER, GITHUB[6:20], GITLAB[8:20], OTHER[6:20])


def finding(file: Path, line: int, secret: str, *, rule: str = "betterleaks.some-key", column: int = 1) -> Any:
    return {
        "rule": {"id": rule, "name": "x"},
        "finding": {"snippet": secret, "path": str(file), "line": line, "column_start": column},
    }


def stand_in(folder: Path, code: str) -> str:
    """A program that is started in kingfisher's place."""
    path = folder / NAME
    path.write_text(f"#!{sys.executable}\nimport json, os, sys, time\n{code}\n", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def saying(folder: Path, *findings: Any, code: int = 200) -> str:
    report = folder / "report.json"
    report.write_text(json.dumps({"findings": list(findings)}), encoding="utf-8")
    return stand_in(folder, f"sys.stdout.write(open({str(report)!r}, encoding='utf-8').read())\nsys.exit({code})")


@pytest.fixture
def bin_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    return folder


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "work" / "a.md"
    path.parent.mkdir()
    path.write_text(f"# Notes\n\nuse {GITHUB} here\nand {OTHER} there\n", encoding="utf-8")
    return path


# --- Two scanners, one list ---------------------------------------------------------------------------------------


def test_what_both_find_is_one_finding_with_both_names_and_what_only_the_other_has_is_masked(
    file: Path, bin_folder: Path
) -> None:
    at = saying(bin_folder, finding(file, 4, OTHER), finding(file, 3, GITHUB, rule="betterleaks.github-pat", column=5))
    opinion = second_opinion([file.parent], at=at)
    text = file.read_text(encoding="utf-8")
    (ours, also), (theirs, name) = opinion.merge(str(file), text, SecretScanner())
    assert (ours.kind, ours.line, also) == ("github-token", 3, "kingfisher:github-pat")
    assert (theirs.kind, theirs.line, name) == ("kingfisher:some-key", 4, "kingfisher:some-key")
    assert theirs.preview == f"{OTHER[:4]}…{OTHER[-2:]}"
    assert not any(value in repr([ours, theirs]) for value in NOWHERE)


def test_what_is_allowed_does_not_come_back_under_another_name(file: Path, bin_folder: Path) -> None:
    at = saying(bin_folder, finding(file, 3, GITHUB), finding(file, 4, OTHER))
    text = file.read_text(encoding="utf-8")
    opinion = second_opinion([file], at=at)
    both = list(opinion.merge(str(file), text, SecretScanner()))
    for allowed, left in ((both[0][0], ["kingfisher:some-key"]), (both[1][0], ["github-token"])):
        scanner = SecretScanner(allowed=[Allowance(allowed.fingerprint, "looked at")])
        assert [each.kind for each, _ in opinion.merge(str(file), text, scanner)] == left


def test_a_place_that_two_of_its_rules_name_is_told_once_and_one_that_was_decoded_as_its_line(
    file: Path, bin_folder: Path
) -> None:
    at = saying(
        bin_folder,
        finding(file, 4, OTHER),
        finding(file, 4, OTHER[:20], rule="x.y"),
        finding(file, 1, "was in base64"),
        finding(file, 900, "is nowhere"),
        finding(file.parent / "gone.md", 1, "of another file"),
    )
    told = list(second_opinion([file], at=at).merge(str(file), file.read_text(encoding="utf-8"), SecretScanner()))
    assert [(each.kind, each.line) for each, _ in told][:3] == [
        ("kingfisher:some-key", 1),
        ("github-token", 3),
        ("kingfisher:some-key", 4),
    ]
    assert not any(value in repr(told) for value in NOWHERE)


def test_paths_are_told_as_they_were_given(file: Path, bin_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent.parent)
    opinion = second_opinion([Path("work")], at=saying(bin_folder, finding(file, 4, OTHER)))
    kinds = [each.kind for each, _ in opinion.merge("work/a.md", file.read_text(encoding="utf-8"), SecretScanner())]
    assert kinds == ["github-token", "kingfisher:some-key"]


def test_places_that_cannot_be_are_told_all_the_same(file: Path, bin_folder: Path) -> None:
    places = [(-3, 1), (0, -7), (10**9, 10**9), (4, 10**6)]
    at = saying(bin_folder, *(finding(file, line, OTHER, column=column) for line, column in places))
    told = list(second_opinion([file], at=at).merge(str(file), file.read_text(encoding="utf-8"), SecretScanner()))
    assert ("kingfisher:some-key", 4) in [(each.kind, each.line) for each, _ in told]
    empty = file.with_name("empty.md")
    empty.write_text("", encoding="utf-8")
    at = saying(bin_folder, finding(empty, 1, OTHER))
    assert len(list(second_opinion([empty], at=at).merge(str(empty), "", SecretScanner()))) == 1


def test_two_on_a_line_are_two(file: Path, bin_folder: Path) -> None:
    file.write_text(f"{OTHER} and {OTHER}\n", encoding="utf-8")
    at = saying(bin_folder, finding(file, 1, OTHER, column=1), finding(file, 1, OTHER, column=len(OTHER) + 6))
    told = list(second_opinion([file], at=at).merge(str(file), file.read_text(encoding="utf-8"), SecretScanner()))
    assert len(told) == 2


# --- A program that does not behave -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("print('no report', os.environ)", "no report"),
        ("print('[' * 100_000)", "no report"),
        ("print(json.dumps({'findings': 3}))", "no report"),
        ("print(json.dumps({'findings': [{'rule': 3}]}))", "no report"),
        ("sys.stdout.buffer.write(bytes(range(256)))", "no report"),
        (f"print({OTHER!r}); sys.stderr.write({OTHER!r}); sys.exit(3)", "exit code 3"),
        ("os.kill(os.getpid(), 9)", "exit code -9"),
        ("sys.stdout.write('x' * 5_000_000)", "more than 1,000,000 bytes"),
        ("print('{', flush=True); time.sleep(600)", "longer than 5 s"),
        ("os.fork() or time.sleep(600); time.sleep(600)", "longer than 5 s"),
    ],
)
def test_one_that_misbehaves_is_an_error_that_says_nothing_of_its_output_and_leaves_nothing(
    file: Path, bin_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, said: str
) -> None:
    place = tmp_path / "tmp"
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    leave = "open(os.path.join(os.environ['TMPDIR'], 'left'), 'w').write('x'); open('here', 'w').write('x')"
    with pytest.raises(Unavailable) as caught:
        second_opinion([file], at=stand_in(bin_folder, f"{leave}\n{code}"), seconds=5, most=1_000_000)
    assert said in caught.value.message
    assert not any(value in repr(caught.value.as_dict()) for value in NOWHERE)
    assert caught.value.__cause__ is None
    assert list(place.iterdir()) == []


def test_it_is_told_to_ask_no_network_and_gets_none_of_our_environment(
    file: Path, bin_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = tmp_path / "seen.json"
    monkeypatch.setenv("KINGFISHER_ALERT_REPORT_URL", "http://127.0.0.1:1/")
    monkeypatch.setenv("SOME_API_KEY", OTHER)
    code = f"json.dump([sys.argv[1:], sorted(os.environ)], open({str(seen)!r}, 'w')); print('{{\"findings\": []}}')"
    second_opinion([file], at=stand_in(bin_folder, code))
    arguments, environment = json.loads(seen.read_text(encoding="utf-8"))
    assert {"--no-validate", "--no-update-check"} <= set(arguments)
    assert arguments[-2:] == ["--", os.path.realpath(file)]
    assert not {"KINGFISHER_ALERT_REPORT_URL", "SOME_API_KEY"} & set(environment)


def test_where_it_is_not_installed_the_error_says_how_to_install_it(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable, match="not installed") as caught:
        second_opinion([file])
    assert "adaptive-llm-gateway[kingfisher]" in str(caught.value.hint)
    with pytest.raises(NotFound):
        second_opinion([tmp_path / "none"])


# --- Kingfisher itself --------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def kingfisher(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which it is found, with one cache of its rules for all tests."""
    try:
        at = program()
    except Unavailable:
        at = shutil.which(NAME) or ""
    if not at:
        reason = "kingfisher-bin is not installed"
        if os.environ.get("ALG_REQUIRE_KINGFISHER") == "1":
            pytest.fail(f"ALG_REQUIRE_KINGFISHER is set, but {reason}")
        pytest.skip(reason)
    return {**os.environ, "KF_RULE_CACHE_DIR": str(tmp_path_factory.mktemp("rules"))}


def scanned(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ALG, "secrets", "scan", *arguments], capture_output=True, text=True, timeout=170, check=False, env=environment
    )


def test_the_real_one_adds_what_it_alone_finds_and_shows_no_value(
    kingfisher: dict[str, str], tmp_path: Path, isolated: Path
) -> None:
    environment = {**kingfisher, "HOME": os.environ["HOME"], "ADAPTIVE_LLM_GATEWAY_HOME": str(isolated)}
    twice = base64.b64encode(base64.b64encode(f"token={GITLAB}".encode())).decode()
    file = tmp_path / "a.md"
    file.write_text(f"# Notes\n\nuse {GITHUB}\nor {GITLAB}\n{twice}\n", encoding="utf-8")
    (tmp_path / "fine.md").write_text("nothing here\n", encoding="utf-8")
    done = scanned(environment, str(tmp_path), "--second-opinion", "--json")
    assert done.returncode == 5, done.stderr
    found = json.loads(done.stdout)["findings"]
    assert (found[0]["kind"], found[0]["line"], found[0]["second"]) == ("github-token", 3, "kingfisher:github-pat")
    assert (found[1]["kind"], found[1]["line"], found[1]["second"]) == ("gitlab-token", 4, "kingfisher:gitlab-pat")
    assert not any(value in done.stdout + done.stderr for value in NOWHERE)
    told = scanned(environment, str(file), "--second-opinion")
    assert told.stdout.splitlines()[0].endswith("also kingfisher:github-pat")
    assert not any(value in told.stdout + told.stderr for value in NOWHERE)
    assert scanned(environment, str(tmp_path / "fine.md"), "--second-opinion").returncode == 0


def test_it_is_no_gate(tmp_path: Path) -> None:
    done = scanned(dict(os.environ), "--staged", "--second-opinion")
    assert done.returncode == 2
    assert "--second-opinion" in done.stderr
    (tmp_path / "a.md").write_text("nothing here\n", encoding="utf-8")
    plain = json.loads(scanned(dict(os.environ), str(tmp_path / "a.md"), "--json").stdout)
    assert plain == {"findings": [], "scanned": 1, "skipped": []}
