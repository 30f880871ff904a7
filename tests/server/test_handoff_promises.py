"""What docs/handoffs.md promises, tried by clients that speak MCP, where other tests of handoffs do not come by."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

TOKEN = "ghp_" + "x7Kq2Lm9Pz4Rt6Wv8Yb1Nc3Df5Gh0Js2Ka4Q"
WAIT = 60.0


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *words], check=True, capture_output=True, text=True, timeout=WAIT)
    return done.stdout


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A repository of work: a commit, and a change that is not committed."""
    folder = tmp_path / "work"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    git(folder, "remote", "add", "origin", "https://me:wonder@git.example.org/work.git")
    (folder / "parser.py").write_text("quotes = 1\n", encoding="utf-8")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "Begin")
    (folder / "parser.py").write_text("quotes = 2\n", encoding="utf-8")
    return folder


def offered(server: Any, client: Any, **arguments: Any) -> str:
    return server.id_of(client.call("handoff_create", **{"objective": "Have quotes nest", **arguments}))


def shown(server: Any, id: str) -> dict[str, Any]:
    return server.json("handoff", "show", id)


def edit(server: Any, path: str, old: str, new: str) -> None:
    """Change a file by hand."""
    file = server.repo / path
    text = file.read_text(encoding="utf-8")
    assert re.search(old, text, re.MULTILINE), text
    file.write_text(re.sub(old, new, text, flags=re.MULTILINE), encoding="utf-8")


# -- offering ------------------------------------------------------------------------------------------------------


def test_the_repository_in_which_a_client_was_started_goes_along(server: Any, work: Path) -> None:
    client = server.client("claude-code", cwd=work)
    without = offered(server, client)
    found = shown(server, without)["work"]
    assert found["remote"] == "https://git.example.org/work.git"
    assert (found["branch"], found["commit"]) == ("main", git(work, "rev-parse", "HEAD").strip())
    assert found["dirty"] == ["M parser.py"]
    package = server.client("codex").call("handoff_claim", id=without)
    for part in ("https://git.example.org/work.git", "main", found["commit"], "M parser.py"):
        assert part in package
    assert "wonder" not in package + str(shown(server, without))
    assert "patch" not in package


def test_a_patch_applies_or_not_and_is_delivered_all_the_same(server: Any, work: Path, tmp_path: Path) -> None:
    client = server.client("claude-code", cwd=work)
    id_ = offered(server, client, patch=True)
    copy = tmp_path / "copy"
    git(tmp_path, "clone", "-q", str(work), str(copy))
    codex = server.client("codex", cwd=copy)
    package = codex.call("handoff_claim", id=id_)
    patch = re.search(r"a patch of ([\d,]+) bytes: memory_read ([0-9A-Z]{26})\.$", package, re.MULTILINE)
    assert patch is not None, package
    assert "\n## Patch\nin your copy of the work: applies\n" in package
    carried = codex.call("memory_read", id=patch[2])
    diff = carried.split("```diff\n", 1)[1].split("```", 1)[0]
    (copy / "change.patch").write_text(diff, encoding="utf-8")
    git(copy, "apply", "change.patch")
    assert (copy / "parser.py").read_text(encoding="utf-8") == "quotes = 2\n"
    (copy / "parser.py").write_text("quotes = 3\n", encoding="utf-8")
    again = codex.call("handoff_claim", id=id_)
    assert f"memory_read {patch[2]}." in again
    assert "\n## Patch\nin your copy of the work: does not apply: 'parser.py' has changed" in again


# -- claiming ------------------------------------------------------------------------------------------------------


def test_after_a_crash_a_client_gets_what_it_held_without_naming_it(server: Any) -> None:
    claude, codex = server.client("claude-code"), server.client("codex")
    mine = offered(server, claude, objective="Mine", priority="low")
    codex.call("handoff_claim", id=mine)
    offered(server, claude, objective="Another", priority="urgent", to="codex")
    codex.process.kill()
    codex.process.wait(timeout=WAIT)
    server.wait_until(lambda: server.json("hub", "status")["clients"] == 1, what="the client's end")
    assert mine in server.client("codex").call("handoff_claim")


def test_open_work_is_taken_by_name_then_priority_then_age(server: Any) -> None:
    claude, codex = server.client("claude-code"), server.client("codex")
    ids = [
        offered(server, claude, objective=f"Number {number}", priority=priority, to=to)
        for number, (priority, to) in enumerate(
            [("normal", None), ("normal", None), ("high", None), ("low", "codex"), ("urgent", "cursor")]
        )
    ]
    taken: list[str] = []
    for _ in range(4):
        taken.append(re.findall(r"Handoff ([0-9A-Z]{26}) is yours", codex.call("handoff_claim"))[0])
        codex.call("handoff_complete", id=taken[-1])
    assert taken == [ids[3], ids[2], ids[0], ids[1]]
    codex.refused("handoff_claim")


def test_the_next_holder_is_told_what_holders_before_it_reported(server: Any) -> None:
    claude, codex, cursor = (server.client(name) for name in ("claude-code", "codex", "cursor"))
    id_ = offered(server, claude)
    codex.call("handoff_claim", id=id_)
    codex.call("handoff_update", id=id_, text="Single quotes nest.")
    assert "offered" in codex.call("handoff_release", id=id_, reason="No time for double quotes.")
    package = cursor.call("handoff_claim", id=id_)
    assert "Single quotes nest." in package
    assert "No time for double quotes." in package


def test_work_is_declined_and_an_offer_taken_back(server: Any) -> None:
    claude, codex = server.client("claude-code"), server.client("codex")
    theirs, ours = offered(server, claude, to="codex"), offered(server, claude)
    assert "declined by codex" in codex.call("handoff_release", id=theirs, outcome="declined", reason="No.")
    assert "claude-code" in codex.refused("handoff_release", id=ours, outcome="withdrawn")
    assert "withdrawn by claude-code" in claude.call("handoff_release", id=ours, outcome="withdrawn")
    assert "declined" in claude.refused("handoff_claim", id=theirs)
    assert "claude-code" in (refusal := codex.refused("handoff_claim", id=ours))
    assert "withdrew it at" in refusal


def test_of_two_homes_that_claim_at_once_one_is_told_of_the_other_and_nothing_of_its_claim_stays(
    server: Any, tmp_path: Path
) -> None:
    bare = tmp_path / "remote.git"
    git(tmp_path, "init", "-q", "--bare", "--initial-branch=main", str(bare))
    homes = [type(server)(tmp_path / name) for name in ("one", "two")]
    try:
        for home in homes:
            home.configure(f"sync:\n  remote: {bare}\n")
        clients = [home.client(name) for home, name in zip(homes, ("claude-code", "codex"), strict=True)]
        ids = [offered(server, clients[0], objective=f"Number {number}") for number in range(4)]
        assert all(id_ in clients[1].call("handoff_list") for id_ in ids)
        for id_ in ids:
            asked = [client.start_call("handoff_claim", id=id_) for client in clients]
            answers = [client.answer(number)["result"] for client, number in zip(clients, asked, strict=True)]
            assert sorted(bool(answer.get("isError")) for answer in answers) == [False, True]
            lost = next(at for at, answer in enumerate(answers) if answer.get("isError"))
            said, winner = server.text_of(answers[lost]), clients[1 - lost].name
            assert re.search(rf"is taken: {winner}\S* claimed it at \d{{4}}-\d\d-\d\dT", said), said
        for home in homes:
            home.json("memory", "pull")
            for id_ in ids:
                assert [step["event"] for step in shown(home, id_)["steps"]] == ["claim"]
            every = git(home.repo, "log", "--all", "--reflog", "--name-only", "--format=")
            assert len(set(re.findall(r"^handoffs/.*-claim-.*$", every, re.MULTILINE))) == len(ids)
    finally:
        for home in homes:
            home.close()


# -- what is refused -----------------------------------------------------------------------------------------------


def test_what_is_over_or_anothers_is_not_claimed_and_says_why(server: Any) -> None:
    claude, codex = server.client("claude-code"), server.client("codex")
    done, late = offered(server, claude), offered(server, claude, expires="12h")
    assert "Claim it first" in codex.refused("handoff_complete", id=done)
    assert "Claim it first" in codex.refused("handoff_update", id=done, text="half of it")
    codex.call("handoff_claim", id=done)
    codex.call("handoff_complete", id=done)
    for tool, more in (("handoff_claim", {}), ("handoff_complete", {}), ("handoff_update", {"text": "more"})):
        assert re.search(r"codex\S* finished it at \d{4}-\d\d-\d\dT", claude.refused(tool, id=done, **more))
    server.settled()
    edit(server, shown(server, late)["path"], r"^expires: .*$", "expires: 2026-01-01T00:00:00Z")
    server.wait_until(lambda: shown(server, late)["state"] == "expired", what="the edit to be taken in")
    assert "expired at 2026-01-01" in codex.refused("handoff_claim", id=late)


def test_a_secret_in_a_patch_is_refused_or_replaced_and_is_in_no_file(server: Any, work: Path) -> None:
    (work / "settings.py").write_text(f'key = "{TOKEN}"\n', encoding="utf-8")
    client = server.client("claude-code", cwd=work)
    refusal = client.refused("handoff_create", objective="Deploy", patch=True)
    assert "settings.py" in refusal or "patch" in refusal
    assert TOKEN not in refusal
    assert "No open handoffs" in client.call("handoff_list")
    id_ = offered(server, client, patch=True, redact=True)
    package = client.call("handoff_claim", id=id_)
    patch = re.search(r"memory_read ([0-9A-Z]{26})", package)
    assert patch is not None
    assert "settings.py" in client.call("memory_read", id=patch[1])
    server.settled()
    server.alg("hub", "stop")
    for path in server.files_below(server.home):
        assert TOKEN.encode() not in path.read_bytes(), path


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (r"^lease_until: .*\n", ""),
        (r"^term: 1$", "term: 3"),
        (r"^event: claim$", "event: seize"),
    ],
    ids=["no lease", "a term too many", "an unknown event"],
)
def test_a_file_that_says_what_cannot_be_is_kept_and_nobody_claims_until_it_is_mended(
    server: Any, old: str, new: str
) -> None:
    claude, codex = server.client("claude-code"), server.client("codex")
    id_, other = offered(server, claude), offered(server, claude)
    codex.call("handoff_claim", id=id_)
    server.settled()
    path = shown(server, id_)["steps"][0]["path"]
    whole = (server.repo / path).read_text(encoding="utf-8")
    edit(server, path, old, new)
    server.wait_until(lambda: shown(server, id_)["state"] == "damaged", what="the edit to be taken in")
    broken = (server.repo / path).read_text(encoding="utf-8")
    assert path in claude.refused("handoff_claim", id=id_)
    assert path in codex.refused("handoff_complete", id=id_)
    assert "DAMAGED" in claude.call("handoff_list")
    assert other in claude.call("handoff_claim")  # the others go on
    assert (server.repo / path).read_text(encoding="utf-8") == broken
    (server.repo / path).write_text(whole, encoding="utf-8")
    server.wait_until(lambda: shown(server, id_)["state"] == "claimed", what="the file to be mended")
    assert "done by codex" in codex.call("handoff_complete", id=id_)
