"""What the command line makes of its arguments, without a hub: parsing, errors, exit codes, speed of its imports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from adaptive_llm_gateway.core import AlgError, InvalidInput
from adaptive_llm_gateway.server import _cli_output
from adaptive_llm_gateway.server._cli import take_home
from adaptive_llm_gateway.server._cli_output import harmless
from adaptive_llm_gateway.server._cli_work import parse_fields, parse_links
from adaptive_llm_gateway.server._registration import registration_lines, serve_command

ALG = str(Path(sys.executable).with_name("alg"))
ROOT = Path(__file__).resolve().parents[2]


def alg(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([ALG, *arguments], capture_output=True, text=True, timeout=60, check=False, **options)


@pytest.mark.parametrize(
    ("given", "home", "rest"),
    [
        (["memory", "list", "--home", "h"], "h", ["memory", "list"]),
        (["--home=h", "hub", "status"], "h", ["hub", "status"]),
        (["--home", "a", "--home", "b", "path"], "b", ["path"]),
        (["memory", "search", "--", "--home", "x"], None, ["memory", "search", "--", "--home", "x"]),
    ],
)
def test_home_may_stand_anywhere_before_two_dashes(given: list[str], home: str | None, rest: list[str]) -> None:
    assert take_home(given) == (home, rest)


@pytest.mark.parametrize("given", [["--home"], ["--home="], ["--home", "--json"]])
def test_home_without_a_folder_is_refused(given: list[str]) -> None:
    with pytest.raises(InvalidInput, match="needs a folder"):
        take_home(given)


def test_help_imports_nothing_slow() -> None:
    code = (
        "import sys\n"
        "sys.argv = ['alg', '--help']\n"
        "from adaptive_llm_gateway.server.__main__ import main\n"
        "try:\n    main()\nexcept SystemExit as ended:\n    assert not ended.code\n"
        "slow = {'pydantic', 'rich', 'asyncio', 'mcp', 'apsw', 'pygit2', 'numpy', 'yaml', 'onnxruntime', 'httpx2'}\n"
        "found = {name.split('.')[0] for name in sys.modules} & slow\n"
        "assert not found, found\n"
        "assert not [name for name in sys.modules if name.startswith('adaptive_llm_gateway.memory')]\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "memory" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["hub", "status", "--json"],
        ["register"],
        ["memory", "list", "--type", "note", "--tag", "a", "--limit", "3", "--order", "title", "--help"],
        ["memory", "write", "body", "--file", "f", "--link", "nonsense"],
        ["complete", "x", "--trust", "public", "--temperature", "0.5", "--deadline", "9", "--budget", "nonsense"],
    ],
)
def test_values_are_converted_without_pydantic(arguments: list[str]) -> None:
    # typer loads it for every value, unless `_cli_values` is there before.
    code = (
        "import sys\n"
        f"sys.argv = ['alg', *{arguments!r}]\n"
        "from adaptive_llm_gateway.server.__main__ import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "assert 'typer' in sys.modules\n"
        "assert 'pydantic' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, capture_output=True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["memory", "list", "--limit", "x"], "--limit"),
        (["memory", "list", "--order", "size"], "'updated', 'created', 'title'"),
        (["hub", "logs", "-n", "-1"], "greater than or equal to 0"),
        (["path", "nowhere"], "'home', 'config'"),
        (["complete", "x", "--temperature", "warm"], "--temperature"),
        (["consent", "grant", "x", "--trust", "none"], "'public', 'internal'"),
    ],
)
def test_a_value_that_is_wrong_is_named_with_what_is_allowed(arguments: list[str], words: str) -> None:
    done = alg(*arguments)
    assert done.returncode == 2
    assert words in done.stderr


def test_a_staged_scan_imports_no_typer() -> None:
    code = (
        "import sys\n"
        "sys.argv = ['alg', 'secrets', 'scan', '--staged']\n"
        "from adaptive_llm_gateway.server.__main__ import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "slow = {'typer', 'rich', 'pydantic', 'asyncio', 'onnxruntime'}\n"
        "found = {name.split('.')[0] for name in sys.modules} & slow\n"
        "assert not found, found\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, stderr=subprocess.DEVNULL)


def test_every_generated_document_is_what_the_code_says() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "render_docs.py"), "--check"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_every_exit_code_of_an_error_is_documented() -> None:
    def kinds(kind: type[AlgError]) -> list[type[AlgError]]:
        return [kind, *(found for child in kind.__subclasses__() for found in kinds(child))]

    assert {kind.exit_code for kind in kinds(AlgError)} <= set(_cli_output.EXIT_CODES)


def test_the_command_line_knows_the_exit_code_of_every_error_of_every_component() -> None:
    # Their classes are not loaded where the command line runs; here they are, and both have to agree.
    code = (
        "import importlib, json, pkgutil\n"
        "from adaptive_llm_gateway.server._cli_output import exit_code\n"
        "import adaptive_llm_gateway.core._errors as errors\n"
        "def kinds(kind):\n    yield kind\n    for child in kind.__subclasses__():\n        yield from kinds(child)\n"
        "core = {kind.code for kind in kinds(errors.AlgError)}\n"
        "import adaptive_llm_gateway.memory as memory, adaptive_llm_gateway.gateway as gateway\n"
        "names = [f'{package.__name__}.{m.name}' for package in (memory, gateway)\n"
        "         for m in pkgutil.iter_modules(package.__path__) if 'transformers' not in m.name]\n"
        "codes = json.loads(input())\n"
        "print(json.dumps({'now': {code: exit_code(code) for code in codes}}))\n"
        "for name in names: importlib.import_module(name)\n"
        "print(json.dumps({kind.code: kind.exit_code for kind in kinds(errors.AlgError)}))\n"
    )

    def run(codes: list[str]) -> tuple[dict[str, int], dict[str, int]]:
        done = subprocess.run(
            [sys.executable, "-c", code],
            input=json.dumps(codes) + "\n",
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        first, second = done.stdout.splitlines()
        return json.loads(first)["now"], json.loads(second)

    _, real = run([])
    known, _ = run(sorted(real))
    assert known == real


def test_the_choices_of_import_and_export_are_those_of_the_memory_component() -> None:
    from typing import get_args

    from adaptive_llm_gateway.memory import IMPORT_KINDS, ExportFormat
    from adaptive_llm_gateway.server import _cli_memory

    assert set(get_args(_cli_memory.ImportKind)) == set(IMPORT_KINDS)
    assert get_args(_cli_memory.ExportFormat) == get_args(ExportFormat)


def test_fields_are_text_unless_given_as_json() -> None:
    assert parse_fields(["status=done", "note=a=b", "confidence:=0.5", "supersedes:=[]"]) == {
        "status": "done",
        "note": "a=b",
        "confidence": 0.5,
        "supersedes": [],
    }


@pytest.mark.parametrize("text", ["status", "=x", ":=1", "n:=nonsense", "n:=" + "[" * 100_000])
def test_a_field_that_is_neither_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_fields([text])


@pytest.mark.parametrize("text", ["", "supersedes", ":01K9", "supersedes:", " : "])
def test_a_link_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_links([text])


def test_recalled_text_cannot_steer_a_terminal() -> None:
    assert harmless("a\x1b[2Jb\r\x07\x9bc\u202ed\te\n") == "a�[2Jb���c�d\te\n"


def test_a_registration_names_the_home_only_where_it_is_not_the_default() -> None:
    assert serve_command(("/opt/alg",), "/home/p/.a", default_root="/home/p/.a") == ("/opt/alg", "serve")
    lines = registration_lines(serve_command(("/opt/my tools/alg",), "/data/it's", default_root="/home/p/.a"))
    assert lines == {
        "claude-code": """claude mcp add --scope user alg -- '/opt/my tools/alg' serve --home '/data/it'"'"'s'""",
        "codex": """codex mcp add alg -- '/opt/my tools/alg' serve --home '/data/it'"'"'s'""",
    }


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["memory", "read"],
        ["hub", "logs", "--follow"],
        ["hub", "logs", "-n", "-1"],
        ["secrets", "scan"],
        ["secrets", "scan", "--staged", "x"],
        ["memory", "list", "--deleted", "--tag", "x"],
        ["memory", "write", "x", "--trust", "none"],
        ["memory", "import", "x", "--kind", "none"],
        ["complete", "x", "--trust", "none"],
        ["complete", "x", "--budget", "1e3"],
        ["consent", "grant", "x"],
        ["receipts", "list", "--outcome", "none"],
        ["gateway"],
        ["--home"],
        [],
    ],
)
def test_wrong_usage_is_exit_code_2_and_one_json_document(arguments: list[str]) -> None:
    done = alg(*arguments, "--json")
    assert done.returncode == 2
    error = json.loads(done.stdout)["error"]
    assert error["code"] in ("usage", "invalid_input")
    assert error["message"]
    assert error["hint"]


def test_wrong_usage_is_told_on_stderr_with_a_hint() -> None:
    done = alg("memory", "reed")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: No such command 'reed'")
    assert "\nhint: `alg memory --help` shows the usage.\n" in done.stderr


def test_the_version_is_the_installed_one() -> None:
    from importlib.metadata import version

    assert alg("--version").stdout == f"alg {version('adaptive-llm-gateway')}\n"


def test_paths_name_everything_and_start_nothing(isolated: Path) -> None:
    found = json.loads(alg("path", "--json").stdout)
    assert found["home"] == str(isolated)
    assert found["memory"] == str(isolated / "memory")
    assert found["alg"] == ALG
    assert found["register"]["codex"].endswith(f"{ALG} serve --home {isolated}")
    assert alg("path", "config").stdout == f"{isolated / 'config.yaml'}\n"
    assert json.loads(alg("path", "index", "--json").stdout) == {"index": str(isolated / "index.db")}
    assert not isolated.exists()


def test_registration_has_a_line_for_each_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ADAPTIVE_LLM_GATEWAY_HOME")
    assert alg("register").stdout.splitlines() == [
        f"claude mcp add --scope user alg -- {ALG} serve",
        f"codex mcp add alg -- {ALG} serve",
    ]


def test_a_reader_that_goes_away_is_no_error_worth_words() -> None:
    process = subprocess.Popen([ALG, "path"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    _, words = process.communicate(timeout=60)
    assert (process.returncode, words) == (141, b"")


def test_a_path_comes_out_as_it_is_whatever_the_locale(tmp_path: Path) -> None:
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    home = os.fsencode(tmp_path / "für-immer")
    done = subprocess.run(
        [ALG, "--home", home, "path", "home"], capture_output=True, env=environment, timeout=60, check=True
    )
    assert done.stdout == home + b"\n"
