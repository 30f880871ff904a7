"""The work of the secret scanner is bounded on any input: measured as ratios, and read off its expressions."""

from __future__ import annotations

import importlib
import pkgutil
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, cast

import pytest

from adaptive_llm_gateway import core
from adaptive_llm_gateway.core import SecretScanner, _secret_encoded, _secret_formats
from adaptive_llm_gateway.core._secret_formats import prefixes

# --- The expressions ----------------------------------------------------------------------------------------


def scanner_modules() -> list[ModuleType]:
    names = [info.name for info in pkgutil.iter_modules(core.__path__) if info.name.startswith("_secret")]
    return [importlib.import_module(f"adaptive_llm_gateway.core.{name}") for name in names]


def expressions(value: object, seen: set[int]) -> Iterator[re.Pattern[str]]:
    """Every compiled expression in a module's values, also within tables and objects."""
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, re.Pattern):
        yield cast("re.Pattern[str]", value)
    elif isinstance(value, dict):
        for inner in cast("dict[object, object]", value).values():
            yield from expressions(inner, seen)
    elif isinstance(value, list | tuple | set | frozenset):
        for inner in cast("list[object]", value):
            yield from expressions(inner, seen)


def repeats(pattern: re.Pattern[str]) -> Iterator[bool]:
    """Of each repeat without a bound whether it stands within another repeat."""
    parser = importlib.import_module("re._parser")
    yield from _repeats(parser.parse(pattern.pattern, pattern.flags), within=False)


def _repeats(tree: Any, *, within: bool) -> Iterator[bool]:
    for operation, argument in tree:
        name = str(operation)
        if name in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
            _, most, inner = argument
            unbounded = int(most) >= 2**16
            if unbounded:
                yield within
            yield from _repeats(inner, within=within or int(most) > 1)
        elif name == "SUBPATTERN":
            yield from _repeats(argument[-1], within=within)
        elif name == "BRANCH":
            for branch in argument[1]:
                yield from _repeats(branch, within=within)
        elif name in ("ASSERT", "ASSERT_NOT"):
            yield from _repeats(argument[1], within=within)
        elif name == "ATOMIC_GROUP":
            yield from _repeats(argument, within=within)


MODULES = scanner_modules()


def of_module(module: ModuleType) -> Iterator[re.Pattern[str]]:
    """All of its expressions: those of its names, of its vendors' table, and of what is built on first use."""
    yield from expressions(vars(module).copy(), set())
    if module is _secret_formats:
        yield from (re.compile(rest, re.ASCII) for _, _, rest, _ in cast("Any", module)._TABLE)
    if module is _secret_encoded:
        yield from expressions(vars(_secret_encoded.changed()).copy(), set())


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.rsplit(".", 1)[-1])
def test_no_expression_of_the_scanner_repeats_without_bound_within_a_repeat(module: ModuleType) -> None:
    nested = [pattern.pattern[:80] for pattern in of_module(module) for within in repeats(pattern) if within]
    assert nested == []


def test_the_walk_over_expressions_sees_repeats_within_repeats() -> None:
    assert list(repeats(re.compile(r"(?:a+b)*"))) == [False, True]
    assert list(repeats(re.compile(r"a{1,9}(?=(b{1,3}|c*)x)"))) == [False]


# --- The work -----------------------------------------------------------------------------------------------

TOKEN = "gh" + "p_" + "x8Kd02LmQz71RtVb64NcYw93HsPfJe5UaTgi"


def rng(name: str) -> random.Random:
    return random.Random(f"bounds {name}")  # noqa: S311 - has to repeat


def times(piece: str) -> Callable[[int], str]:
    return lambda size: piece * (size // len(piece))


def characters(low: int, high: int) -> Callable[[int], str]:
    def make(size: int) -> str:
        source = rng(f"{low} {high}")
        return "".join(chr(source.randrange(low, high)) for _ in range(size))

    return make


def of_pieces(pieces: list[str]) -> Callable[[int], str]:
    def make(size: int) -> str:
        source, parts, length = rng("pieces"), list[str](), 0
        while length < size:
            parts.append(source.choice(pieces))
            length += len(parts[-1])
        return "".join(parts)

    return make


_WORDS = [
    *("password", "passwd is ", "api_key=", "token: ", "secret", "Bearer ", "Basic ", "AccountKey=", "sig=", "://a:b"),
    *("-----BEGIN PRIVATE KEY-----\n", "-----END PRIVATE KEY-----", "curl -u a:", "machine x login y password "),
]
_SEAMS = [
    '" + "',
    "\\\n",
    "=\n",
    "\n> ",
    "\n    ",
    "**",
    "`",
    "${'",
    "\u200b",
    "%41",
    "\\u0041",
    "&#65;",
    "\\x41",
    "\\_",
]
_HALF = [TOKEN[:20], TOKEN[20:], "aB3dE6gH9jK2mN5p", "QUtJQVFVVUlRVVU2", "476870", "Z2hwX3g4S2QwMkxtUXo3MVJ0"]
TEXTS: dict[str, Callable[[int], str]] = {
    "bytes": characters(0, 256),
    "unicode with halves of pairs": characters(0, 0x10FFFF),
    "full-width": characters(0xFF01, 0xFF5F),
    "prefixes, one after the other": of_pieces(sorted(prefixes())),
    "prefixes with what almost fits": of_pieces([f"{prefix}aB3dE6gH9" for prefix in sorted(prefixes())]),
    "prefixes in lines": of_pieces([f"{prefix}aB3dE6gH9jK2\n" for prefix in sorted(prefixes())]),
    "words": of_pieces(_WORDS),
    "words and quotes": of_pieces([*_WORDS, '"', "'", "=", " ", "\n", "xY7#"]),
    "seams": of_pieces(_SEAMS),
    "seams and halves": of_pieces([*_SEAMS, *_HALF]),
    "halves": of_pieces(_HALF),
    "halves in lines": of_pieces([half + "\n" for half in _HALF]),
    "tags": times("aB3dE6gH9jK2mN5p</b><i>"),
    "open tags": times("<b " + "a" * 90),
    "a bracket at the front": lambda size: ">aB3dE6gH9jK2mN5p_1" * (size // 19),
    "base64 of A": times("QUFB"),
    "base64 of everything": times("Z2hwX3g4S2QwMkxtUXo3MVJ0VmI2NE5jWXc5M0hzUGZKZTVVYVRnaQ"),
    "short base64 among bytes": times("Z2hwX3g4S2QwMkxtUXo3MVJ0AAAAAAAA"),
    "base64 in lines": times("Z2hwX3g4S2QwMkxtUXo3MVJ0VmI2NE5jWXc5M0hzUGZKZTVVYVRnaQ" * 2 + "\n"),
    "hex of A": times("41"),
    "hex of hex": times("3437363837303566"),
    "percent": times("%"),
    "escaped percents": times("%25"),
    "escapes of escapes": times("%2525255C"),
    "backslashes": times("\\"),
    "entities": times("&#65;"),
    "zero-width": times("\u200b"),
    "zero-width letters": times("a\u200b"),
    "blanks": times(" "),
    "line ends": times("\n"),
    "blanks and line ends": times("a" * 16 + "1" + " " * 40 + "\n" + " " * 60),
    "quotes": times("\"'"),
    "pluses": times('a" + '),
    "one letter": times("a"),
    "one digit": times("7"),
    "letters and digits": times("aB3"),
    "dots": times("eyJhbGciOiJIUzI1NiJ9."),
    "tokens": times(TOKEN + " "),
    "tokens without a blank": times(TOKEN),
    "settings on one line": times('user = "a1", password = "hunt", secret_key = "x", '),
    "declarations on one line": times('-token "a1b2c3d4e5f6" set key {a1b2c3} '),
    "logins of a registry on one line": times("_auth=YTpi _password=YTpi "),
    "manifests": times("kind: Secret\ndata:\n  a: YTpi\n---\n"),
    "elements": times("<password>a1</password><!-- name='password'>"),
    "accounts": times("a:$1$abcdefgh\n"),
    "lines of pgpass": times("a:*:*:b:c "),
    "rows": times("insert into users values ('a', 'b'), ('c', 'd'); create table users (\n a int\n);\n"),
    "commands": times("mysql -p -u a curl -u b:c echo d | sudo "),
    "calls": times('connect("a", "b", "c") define("A_KEY", "'),
    "arrows": times("password: \n password -> token => "),
    "tokens over two lines": times(TOKEN[:20] + "\n" + TOKEN[20:] + "\n\n"),
}
# Enough for a square to show beside what is linear, little enough to be done in some milliseconds.
SMALL, FACTOR = 12_000, 8
LIMIT = 2 * FACTOR  # the square would be 64


def took(text: str) -> float:
    """Seconds of this process; what else the machine does has no part in it."""
    scanner = SecretScanner()
    start = time.process_time()
    scanner.scan(text)
    return time.process_time() - start


@pytest.mark.parametrize("name", TEXTS)
def test_eight_times_the_text_is_about_eight_times_the_work(name: str) -> None:
    little, much = TEXTS[name](SMALL), TEXTS[name](SMALL * FACTOR)
    took(little)  # what is compiled on first use
    small, large = min(took(little) for _ in range(3)), took(much)
    for _ in range(4):  # something may have been slow by chance, but not each time
        if large <= LIMIT * max(small, 0.001):
            break
        small, large = min(small, took(little)), min(large, took(much))
    assert large <= LIMIT * max(small, 0.001), (name, small, large)


_SCAN_EACH = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("bounds", sys.argv[1])
module = importlib.util.module_from_spec(spec)
sys.modules["bounds"] = module
spec.loader.exec_module(module)
for name, make in module.TEXTS.items():
    print(name, flush=True)
    module.SecretScanner().scan(make(module.SMALL))
"""


def test_a_scan_that_would_never_end_is_cut_off_and_named() -> None:
    # Some seconds' work: ten minutes pass only where the work grows beyond any measure.
    with subprocess.Popen(
        [sys.executable, "-c", _SCAN_EACH, __file__], stdout=subprocess.PIPE, text=True, encoding="utf-8"
    ) as scanning:
        try:
            told, _ = scanning.communicate(timeout=600)
        except subprocess.TimeoutExpired:
            scanning.kill()
            told, _ = scanning.communicate()
    assert (scanning.returncode, told.splitlines()[-1:]) == (0, [[*TEXTS][-1]])
    assert told.splitlines() == [*TEXTS]
