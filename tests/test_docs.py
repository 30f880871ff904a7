"""The pages are true: their commands run and print what is shown, their links lead somewhere, their tests exist."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
DECISIONS = [name for name in NAMES if name.startswith("docs/decisions/")]
WAIT = 60.0

# A page shows ids, hashes and dates as they were once; these stand for whatever they are now, and when a later command
# of the page names an id or hash, it gets the one that was really there.
_ULID = r"[0-7][0-9A-HJKMNP-TV-Z]{25}"
_HEX = r"[0-9a-f]{40}|[0-9a-f]{12}"
_KEPT = re.compile(rf"\b(?:{_ULID}|{_HEX})\b")
_MOVING = re.compile(
    rf"(?P<kept>\b(?:{_ULID}|{_HEX})\b)"
    r"|(?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)|(?P<date>\d{4}-\d\d-\d\d)|(?P<month>/\d{4}/\d\d/)"
    r"|(?P<tail>-[0-9a-hjkmnp-tv-z]{8}(?=\.md))|(?P<score>(?<=score )-?\d+\.\d\d)|(?P<dots>\.\.\.)"
)
_FORMS = {
    "time": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ",
    "date": r"\d{4}-\d\d-\d\d",
    "month": r"/\d{4}/\d\d/",
    "tail": r"-[0-9a-hjkmnp-tv-z]{8}",
    "score": r"-?\d+\.\d\d",
    "dots": r".*",
}


# --- Blocks that run ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: the words after the fence, its text, and the line of its fence in the page."""

    words: tuple[str, ...]
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    found: list[Block] = []
    fence: tuple[str, tuple[str, ...], int] | None = None
    lines: list[str] = []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        mark = re.match(r" *(`{3,})(.*)$", line)
        if fence is None and mark:
            fence, lines = (mark[1], tuple(mark[2].split()), number), []
        elif fence is not None and mark and mark[1] == fence[0] and not mark[2]:
            found.append(Block(fence[1], "\n".join(lines), fence[2]))
            fence = None
        elif fence is not None:
            lines.append(line)
    assert fence is None, f"{page}: the block that begins in line {fence and fence[2]} has no end"
    return found


def steps(block: Block, prompt: str) -> Iterator[tuple[str, str]]:
    """Each command of a block, and the output shown for it."""
    command, shown = "", list[str]()
    for line in block.text.splitlines():
        if re.match(prompt, line):
            if command:
                yield command, "\n".join(shown)
            command, shown = line, []
        else:
            assert command, f"line {block.line}: output before the first command"
            shown.append(line)
    yield command, "\n".join(shown)


class Reader:
    """Somebody who types a page's commands, in an empty home, and compares."""

    def __init__(self, folder: Path) -> None:
        self.home = folder
        self._meant: dict[str, str] = {}  # as the page has it -> as it is
        self.env = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("ALG_", "ADAPTIVE_"))},
            "HOME": str(folder),
            "ALG_MEMORY__COMMIT_WAIT_MS": "10000",  # pages show `committed`, also while the machine is busy
            "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "NO_COLOR": "1",
            "GIT_PAGER": "cat",
        }

    def shell(self, command: str, shown: str, where: str) -> None:
        assert shlex.split(command)[0] in ("alg", "memory", "git", "mkdir"), f"{where}: {command}"
        done = subprocess.run(
            ["/bin/sh", "-c", self._real(command)],
            cwd=self.home,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            timeout=WAIT,
            check=False,
        )
        refused = shown.startswith("error:")
        assert (done.returncode != 0) == refused, f"{where}: {command}\nexit code {done.returncode}\n{done.stdout}"
        self._compare(done.stdout, shown, f"{where}: {command}")

    def python(self, code: str, where: str) -> None:
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=self.home,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=WAIT,
            check=False,
        )
        assert done.returncode == 0, f"{where}\n{done.stdout}{done.stderr}"

    def turn(self, line: str, shown: str, where: str) -> None:
        """A client's call of a tool: `client> tool {arguments}`."""
        found = re.fullmatch(r"([a-z-]+)> (\w+) (\{.*\})", line)
        assert found, f"{where}: {line}"
        with Call(self.env, found[1]) as call:
            self._compare(call.tool(found[2], json.loads(self._real(found[3]))), shown, where)

    def _real(self, command: str) -> str:
        return _KEPT.sub(lambda found: self._meant.get(found[0], found[0]), command)

    def _compare(self, said: str, shown: str, where: str) -> None:
        said = "\n".join(line.rstrip() for line in said.replace(str(self.home), "~").strip("\n").splitlines())
        pattern, kept = _pattern(shown)
        found = re.fullmatch(pattern, said)
        assert found, f"{where}\n--- shown\n{shown}\n--- said\n{said}"
        for name, real in zip(kept, found.groups(), strict=True):
            # A short hash is also the beginning of a long one, shown elsewhere.
            assert self._meant.setdefault(name, real) == real, f"{where}: {name} was {self._meant[name]}, now {real}"

    def close(self) -> None:
        for lock in self.home.rglob("hub.lock"):
            subprocess.run(
                [BIN / "alg", "--home", lock.parent, "hub", "stop"],
                env=self.env,
                capture_output=True,
                timeout=WAIT,
                check=False,
            )


def _pattern(shown: str) -> tuple[str, list[str]]:
    """A regular expression for the output, and what its groups stand for; `...` on its own is any lines."""
    kept: list[str] = []
    parts: list[str] = []
    for line in shown.rstrip("\n").splitlines():
        if line.strip() == "...":
            parts.append(r"(?:.*\n)*?")
            continue
        pattern, end = "", 0
        for found in _MOVING.finditer(line):
            pattern += re.escape(line[end : found.start()])
            end = found.end()
            if found.lastgroup == "kept":
                kept.append(found[0])
                pattern += f"([0-9A-Za-z]{{{len(found[0])}}})"
            else:
                pattern += _FORMS[str(found.lastgroup)]
        parts.append(pattern + re.escape(line[end:]) + r"(?:\n|$)")
    # The last line has no line end.
    return "".join(parts) + r"(?:.+)?" * (shown.rstrip().endswith("\n...") or shown.strip() == "..."), kept


class Call(AbstractContextManager["Call"]):
    """One client over stdio, without any MCP library."""

    def __init__(self, env: dict[str, str], name: str) -> None:
        self._process = subprocess.Popen(
            [BIN / "alg", "serve"], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        client = {"name": name, "version": "1"}
        self._ask(1, "initialize", {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client})

    def _ask(self, number: int, method: str, params: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        line = json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()
        for answer in self._process.stdout:
            message = json.loads(answer)
            if message.get("id") == number:
                return message["result"]
        raise EOFError("the server ended")

    def tool(self, name: str, arguments: dict[str, Any]) -> str:
        result = self._ask(2, "tools/call", {"name": name, "arguments": arguments})
        return "".join(part["text"] for part in result["content"])

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=WAIT)
        finally:
            self._process.kill()
            self._process.stdout.close()


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    home = tmp_path / "user"
    vault = home / "vault"
    vault.mkdir()
    (vault / "Backups.md").write_text("# Backups\n\nEvery night, to the attic.\n", encoding="utf-8")
    someone = Reader(home)
    yield someone
    someone.close()


RUN = [name for name in NAMES if any(b.words[:1] in (("console",), ("python",)) for b in blocks(ROOT / name))]


@pytest.mark.parametrize("name", RUN)
def test_what_a_page_tells_to_type_prints_what_it_shows(name: str, reader: Reader) -> None:
    for block in blocks(ROOT / name):
        where = f"{name}, line {block.line}"
        match block.words:
            case ("console",):
                for command, shown in steps(block, r"\$ "):
                    reader.shell(command.removeprefix("$ "), shown, where)
            case ("text", "turn"):
                for line, shown in steps(block, r"[a-z-]+> "):
                    reader.turn(line, shown, where)
            case ("python",):
                reader.python(block.text, where)
            case _:
                pass


@pytest.mark.parametrize("name", NAMES)
def test_every_block_says_what_it_is_and_data_can_be_read(name: str) -> None:
    for block in blocks(ROOT / name):
        where = f"{name}, line {block.line}"
        assert block.words, f"{where}: the block does not say what it is"
        match block.words[0]:
            case "json":
                json.loads(block.text)
            case "yaml":
                yaml.safe_load(block.text)
            case "toml":
                tomllib.loads(block.text)
            case kind:
                assert kind in ("console", "python", "sh", "text", "markdown"), f"{where}: {kind}"


def test_the_settings_that_are_shown_are_settings() -> None:
    from adaptive_llm_gateway.core import Settings

    shown: dict[str, int] = {}
    for name in NAMES:
        for block in blocks(ROOT / name):
            data: dict[str, Any] = yaml.safe_load(block.text) if block.words == ("yaml",) else {}
            if Settings.model_fields.keys() & data.keys():
                Settings(**data)
                shown[name] = shown.get(name, 0) + 1
    assert shown["docs/configuration.md"] > 5
    assert shown["docs/http.md"]


# --- What the pages say -------------------------------------------------------------------------------------------


def test_the_readme_names_both_commands_and_the_lines_that_register_the_hub() -> None:
    from adaptive_llm_gateway.server._registration import registration_lines

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    first_screen = "\n".join(readme.splitlines()[:25])
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in ("run", "test"):
        assert re.search(rf"^make {target}\b", first_screen, re.MULTILINE)
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
    for line in registration_lines(("ALG", "serve")).values():
        assert line.replace("ALG", '"$PWD/.venv/bin/alg"') in first_screen


def test_the_readme_shows_the_layout_as_it_is() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme.split("## Layout\n")[1].split("\n## ")[0]
    shown = set(re.findall(r"^([a-z]+)/", section, re.MULTILINE))
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert shown == {line.split("/")[0] for line in listed.splitlines() if "/" in line and not line.startswith(".")}


def test_the_pages_made_from_the_code_are_current() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "render_docs.py", "--check"],
        capture_output=True,
        text=True,
        timeout=WAIT,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_architecture_names_every_fault_point() -> None:
    from adaptive_llm_gateway.core import POINTS

    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    steps = "write|commit|sync|append|key|clients|objects|idempotency"
    assert set(re.findall(rf"`((?:{steps})\.(?!json|db)\w+)`", page)) == set(POINTS)


@pytest.mark.parametrize("name", NAMES)
def test_commands_named_in_prose_exist_with_their_options(name: str) -> None:
    reference = (ROOT / "docs/command-line.md").read_text(encoding="utf-8")
    helps = dict(re.findall(r"^#+ `(alg[\w ]*)`\n+```text\n(.*?)^```", reference, re.MULTILINE | re.DOTALL))
    for span in re.findall(r"`((?:alg|memory|\.venv/bin/alg) [^`]+)`", _prose(ROOT / name)):
        words = span.replace(".venv/bin/", "").replace("\n", " ").split()
        words = ["alg", *words] if words[0] == "memory" else words
        command = "alg"
        for word in words[1:]:
            if f"{command} {word}" not in helps:
                break
            command += f" {word}"
        nested = re.search(r"^Commands:", helps[command], re.MULTILINE)
        rest = words[len(command.split()) :]
        assert not (nested and rest and re.fullmatch(r"[a-z]+", rest[0])), f"{span}: no such command"
        options = [word.split("=")[0] for word in rest if word.startswith("--")]
        known = helps[command] + helps["alg"]
        assert all(re.search(rf"{re.escape(option)}\b", known) for option in options), f"{span}: no such option"


@pytest.mark.parametrize("name", NAMES)
def test_relative_links_lead_somewhere(name: str) -> None:
    page = ROOT / name
    broken: list[str] = []
    for target in _links(page):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        there = found.is_relative_to(ROOT) and found.exists()
        if not there or (anchor and anchor not in _anchors(found)):
            broken.append(target)
    assert not broken


def _prose(page: Path) -> str:
    """The page without its fenced blocks."""
    text = page.read_text(encoding="utf-8")
    return re.sub(r"^( *)(`{3,}).*?^\1\2 *$", "", text, flags=re.MULTILINE | re.DOTALL)


def _links(page: Path) -> list[str]:
    text = re.sub(r"`[^`\n]*`(?!\])", "", _prose(page))
    return re.findall(r"\]\(([^)\s]+)\)", text)


@cache
def _anchors(page: Path) -> frozenset[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.+?) *$", _prose(page), re.MULTILINE)
    return frozenset(re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings)


@pytest.mark.parametrize("name", NAMES)
def test_a_page_names_no_path_of_a_machine(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert not re.findall(r"/(?:tmp|root|work|Users)/\S+|/home/(?!you\b)\w+/\S+", text)


# --- Tests that pages name ----------------------------------------------------------------------------------------


@cache
def functions_of(path: str) -> frozenset[str]:
    file = ROOT / path
    if not file.is_file():
        return frozenset()
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def missing_tests(text: str) -> list[str]:
    """The tests that a text names and that do not exist."""
    named = re.findall(r"(tests/[\w/]+\.py)::(\w+)", text)
    return [f"{path}::{test}" for path, test in named if test not in functions_of(path)]


@pytest.mark.parametrize("name", NAMES)
def test_the_tests_that_a_page_names_exist(name: str) -> None:
    assert not missing_tests((ROOT / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", DECISIONS)
def test_a_decision_has_its_parts_and_every_invariant_names_its_test(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## (.+?) *\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    assert {"Context", "Decision", "Consequences", "Alternatives"} <= set(sections)
    invariants = re.findall(r"^\d+\. .*?(?=^\d+\. |\Z)", sections["Decision"], re.MULTILINE | re.DOTALL)
    assert invariants
    for invariant in invariants:
        assert _tests_named(invariant), invariant


def _tests_named(text: str) -> list[str]:
    """Tests that a text names, in full or by the words that tell them from others."""
    words = re.findall(r"\b[a-z]+(?:_[a-z0-9]+){2,}\b", text)
    files = {str(file.relative_to(ROOT)): file for file in ROOT.glob("tests/**/test_*.py")}
    known = [name for path in files for name in functions_of(path)] + [file.stem for file in files.values()]
    return [word for word in words if any(word in name for name in known)]
