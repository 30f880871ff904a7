"""Outlines: the definitions of source code in every language that there are outlines of, and of what is no code."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive_llm_gateway.compression import LANGUAGES, LONGEST_SOURCE, Outline, has_grammar, language_of, outline_of
from adaptive_llm_gateway.compression._outline import grammar_of
from adaptive_llm_gateway.core import InvalidInput, Unavailable

PYTHON = '''"""Of the module."""

LIMIT: int = 10
quiet = 2


@decorated
class Pool(Base):
    """Holds connections.

    More about them.
    """

    size: int = 1

    async def take(self, wait: float) -> Connection:
        """Take one."""

        def inner() -> None:
            pass

    @property
    def free(self): ...


if LIMIT:

    def late(): ...
'''

# By language: a text, and of each definition that it has the depth, line, name, signature and documentation.
SAMPLES: dict[str, tuple[str, list[str]]] = {
    "python": (
        PYTHON,
        [
            "0 3 LIMIT LIMIT: int = 10 | ",
            "0 8 Pool class Pool(Base) | Holds connections.",
            "1 14 size size: int = 1 | ",
            "1 16 take async def take(self, wait: float) -> Connection | Take one.",
            "1 23 free def free(self) | ",
            "0 28 late def late() | ",
        ],
    ),
    "javascript": (
        """const net = require("net");
// Holds connections.
export class Pool extends Base {
  static limit = 3;
  take(wait) { return 1 }
}

export const open = async (url, options) => { };
// Closes it.
module.exports.close = function (pool) { return 2 };
function* each() {}
""",
        [
            "0 3 Pool export class Pool extends Base | Holds connections.",
            "1 4 limit static limit = 3 | ",
            "1 5 take take(wait) | ",
            "0 8 open export const open = async (url, options) | ",
            "0 10 close module.exports.close = function (pool) | Closes it.",
            "0 11 each function* each() | ",
        ],
    ),
    "typescript": (
        """/** What a pool does. */
export interface Pool<T> { size: number; take(wait: number): T }
export type Url = string;
export abstract class Base { abstract close(): void }
namespace Inner { export function help(): void {} }
""",
        [
            "0 2 Pool export interface Pool<T> | What a pool does.",
            "1 2 size size: number | ",
            "1 2 take take(wait: number): T | ",
            "0 3 Url export type Url = string | ",
            "0 4 Base export abstract class Base | ",
            "1 4 close abstract close(): void | ",
            "0 5 Inner namespace Inner | ",
            "1 5 help export function help(): void | ",
        ],
    ),
    "tsx": (
        "// Shows it.\nexport const View = ({ text }: Props) => <div>{text}</div>;\n",
        ["0 2 View export const View = ({ text }: Props) | Shows it."],
    ),
    "go": (
        """package pool

// Pool holds connections.
// It is shared.
type Pool struct { Size int }

type Taker interface { Take(wait int) error }

// Take takes one.
func (p *Pool) Take(wait int) error { return nil }

const Limit = 3
""",
        [
            "0 5 Pool type Pool struct | Pool holds connections.",
            "1 5 Size Size int | ",
            "0 7 Taker type Taker interface | ",
            "1 7 Take Take(wait int) error | ",
            "0 10 Take func (p *Pool) Take(wait int) error | Take takes one.",
            "0 12 Limit const Limit = 3 | ",
        ],
    ),
    "rust": (
        """//! Of the crate.

/// Holds connections.
#[derive(Debug)]
pub struct Pool<T> { size: T }

pub trait Taker { fn take(&self) -> i32; }
impl<T> Pool<T> { pub fn new() -> Self { todo!() } }
mod inner { pub fn help() {} }
""",
        [
            "0 5 Pool pub struct Pool<T> | Holds connections.",
            "1 5 size size: T | ",
            "0 7 Taker pub trait Taker | ",
            "1 7 take fn take(&self) -> i32 | ",
            "0 8 Pool impl<T> Pool<T> | ",
            "1 8 new pub fn new() -> Self | ",
            "0 9 inner mod inner | ",
            "1 9 help pub fn help() | ",
        ],
    ),
    "java": (
        """package a;
/** Holds connections.
 * @param T what it holds */
public class Pool<T> extends Base {
  private int size = 1;
  public Pool() {}
  public T take(int wait) throws Late { return null; }
  enum State { OPEN, CLOSED }
}
""",
        [
            "0 4 Pool public class Pool<T> extends Base | Holds connections.",
            "1 5 size private int size = 1 | ",
            "1 6 Pool public Pool() | ",
            "1 7 take public T take(int wait) throws Late | ",
            "1 8 State enum State | ",
            "2 8 OPEN OPEN | ",
            "2 8 CLOSED CLOSED | ",
        ],
    ),
    "c": (
        """/* The most there are. */
#define LIMIT 3
struct pool { int size; };
typedef struct { int wait; } options;
/* Takes one. */
static int *take(struct pool *from, int wait) { return 0; }
char *name_of(void);
""",
        [
            "0 2 LIMIT #define LIMIT 3 | The most there are.",
            "0 3 pool struct pool | ",
            "1 3 size int size | ",
            "0 4 options typedef struct | ",
            "1 4 wait int wait | ",
            "0 6 take static int *take(struct pool *from, int wait) | Takes one.",
            "0 7 name_of char *name_of(void) | ",
        ],
    ),
    "c++": (
        """namespace net {
// Holds connections.
class Pool : public Base {
 public:
  void take() const;
  int size;
};
}
template <typename T> struct Box { };
void Pool::take() const { }
""",
        [
            "0 1 net namespace net | ",
            "1 3 Pool class Pool : public Base | Holds connections.",
            "2 5 take void take() const | ",
            "2 6 size int size | ",
            "0 9 Box template <typename T> struct Box | ",
            "0 10 take void Pool::take() const | ",
        ],
    ),
    "c#": (
        """namespace A.B;
/// <summary>Holds connections</summary>
public class Pool<T> : Base {
  public int Size { get; set; }
  public T Take(int wait) { return default; }
}
""",
        [
            "0 3 Pool public class Pool<T> : Base | Holds connections",
            "1 4 Size public int Size { get; set; } | ",
            "1 5 Take public T Take(int wait) | ",
        ],
    ),
    "ruby": (
        """# Of the net.
module Net
  class Pool < Base
    LIMIT = 1
    # Takes one.
    def take(wait)
      wait
    end
    class << self
      def open?; end
    end
  end
end
""",
        [
            "0 2 Net module Net | Of the net.",
            "1 3 Pool class Pool < Base | ",
            "2 4 LIMIT LIMIT = 1 | ",
            "2 6 take def take(wait) | Takes one.",
            "2 10 open? def open?; end | ",
        ],
    ),
    "php": (
        """<?php
/** Holds connections. */
abstract class Pool extends Base {
  const LIMIT = 1;
  public function take(int $wait): string { }
}
function help($with) { }
""",
        [
            "0 3 Pool abstract class Pool extends Base | Holds connections.",
            "1 4 LIMIT const LIMIT = 1 | ",
            "1 5 take public function take(int $wait): string | ",
            "0 7 help function help($with) | ",
        ],
    ),
    "kotlin": (
        """package a
/** Holds connections. */
class Pool(val size: Int) : Base() {
  fun take(wait: Int): Int = 1
  val free = 1
}
fun String.help(): Int { return 1 }
""",
        [
            "0 3 Pool class Pool(val size: Int) : Base() | Holds connections.",
            "1 4 take fun take(wait: Int): Int | ",
            "1 5 free val free = 1 | ",
            "0 7 help fun String.help(): Int | ",
        ],
    ),
    "swift": (
        """/// Holds connections.
public class Pool: Base {
  var size = 1
  init(size: Int) {}
  func take(_ wait: Int) -> Int { 1 }
}
protocol Taker { func take() -> Int }
""",
        [
            "0 2 Pool public class Pool: Base | Holds connections.",
            "1 3 size var size = 1 | ",
            "1 4 init init(size: Int) | ",
            "1 5 take func take(_ wait: Int) -> Int | ",
            "0 7 Taker protocol Taker | ",
            "1 7 take func take() -> Int | ",
        ],
    ),
    "scala": (
        """/** Holds connections. */
class Pool(size: Int) extends Base { def take(wait: Int): Int = 1; val free = 2 }
object Main { def run = 1 }
""",
        [
            "0 2 Pool class Pool(size: Int) extends Base | Holds connections.",
            "1 2 take def take(wait: Int): Int | ",
            "1 2 free val free = 2 | ",
            "0 3 Main object Main | ",
            "1 3 run def run | ",
        ],
    ),
    "bash": (
        "# Takes one.\ntake() { echo; }\nLIMIT=1\nquiet=2\n",
        ["0 2 take take() | Takes one.", "0 3 LIMIT LIMIT=1 | "],
    ),
    "lua": (
        "local M = {}\n-- Takes one.\nfunction M.take(wait) return 1 end\nM.free = function(pool) return 2 end\n",
        ["0 3 take function M.take(wait) | Takes one.", "0 4 free M.free = function(pool) | "],
    ),
}


def rows(outline: Outline) -> list[str]:
    found: list[str] = []
    for one in outline.definitions:
        depth, parent = 0, one.parent
        while parent >= 0:
            depth, parent = depth + 1, outline.definitions[parent].parent
        found.append(f"{depth} {one.lines[0]} {one.name} {one.signature} | {one.doc}")
    return found


@pytest.mark.parametrize("language", LANGUAGES)
def test_definitions_have_their_place_name_signature_and_documentation(language: str) -> None:
    text, expected = SAMPLES[language]
    outline = outline_of(text, language)
    assert rows(outline) == expected
    assert outline.complete
    assert not outline.broken
    last = text.count("\n") + 1
    for one in outline.definitions:
        assert 1 <= one.lines[0] <= one.lines[1] <= last
        assert one.parent < outline.definitions.index(one)
        if one.parent >= 0:
            around = outline.definitions[one.parent].lines
            assert around[0] <= one.lines[0] <= one.lines[1] <= around[1]


def test_lines_go_to_the_end_of_a_definition() -> None:
    ends = {one.name: one.lines for one in outline_of(PYTHON, "python").definitions}
    assert ends["Pool"] == (8, 23)
    assert ends["take"] == (16, 20)


def test_a_signature_is_one_line_and_has_its_end() -> None:
    text = "def long(\n" + "".join(f"    argument_{number}: int,\n" for number in range(200)) + ") -> int:\n    pass\n"
    (one,) = outline_of(text, "python").definitions
    assert "\n" not in one.signature
    assert len(one.signature) <= 201
    assert one.lines == (1, 203)


def test_what_cannot_be_read_leaves_the_rest_in_place() -> None:
    outline = outline_of("def before(): pass\n\n$$$ ?? (((\n\ndef behind(): pass\n", "python")
    assert outline.broken
    assert "before" in {one.name for one in outline.definitions}


@pytest.mark.parametrize(
    "text",
    [
        "class A:\n" + "".join(f"{'  ' * depth}class C{depth}:\n" for depth in range(1, 300)),
        "(" * 50_000,
        "if(a){" * 20_000,
        "def f(): pass\n" * 10_000,
        "\x00\x01\ud800 \u202e" * 500,
        "x" * 200_000,
        '"""' + "a" * 1_000,
        "",
    ],
)
@pytest.mark.parametrize("language", ["python", "c++", "typescript"])
def test_a_text_made_to_do_harm_gets_a_bounded_outline(text: str, language: str) -> None:
    outline = outline_of(text, language)
    assert len(outline.definitions) <= 2_000
    assert all(len(one.signature) <= 201 and len(one.doc) <= 121 for one in outline.definitions)
    assert outline == outline_of(text, language)


def test_of_too_many_definitions_the_first_are_there_and_that_is_said() -> None:
    outline = outline_of("def f(): pass\n" * 3_000, "python")
    assert len(outline.definitions) == 2_000
    assert not outline.complete


@given(st.text(max_size=300), st.sampled_from(sorted(LANGUAGES)))
@settings(max_examples=150, deadline=None)
def test_any_text_has_an_outline_in_any_language(text: str, language: str) -> None:
    outline = outline_of(text, language)
    last = text.count("\n") + 1
    assert all(1 <= one.lines[0] <= one.lines[1] <= last for one in outline.definitions)


def test_a_text_beyond_the_limit_and_an_unknown_language_are_refused() -> None:
    with pytest.raises(InvalidInput, match="too long"):
        outline_of("x" * (LONGEST_SOURCE + 1), "python")
    with pytest.raises(InvalidInput, match="'cobol'"):
        outline_of("x", "cobol")


def test_outlines_touch_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_arguments: object, **_more: object) -> None:
        raise AssertionError("outlines reached for the network")

    grammar_of.cache_clear()
    monkeypatch.setattr(socket, "socket", refused)
    monkeypatch.setattr(socket, "create_connection", refused)
    assert all(outline_of(text, language).definitions for language, (text, _) in SAMPLES.items())


@pytest.mark.usefixtures("without_grammars")
def test_without_the_extra_the_error_names_it() -> None:
    assert not has_grammar("python")
    with pytest.raises(Unavailable, match="grammar of python") as refused:
        outline_of("def f(): pass", "python")
    assert "adaptive-llm-gateway[code]" in str(refused.value.hint)


@pytest.mark.parametrize(
    ("path", "language"),
    [
        ("a/b.py", "python"),
        ("B.TSX", "tsx"),
        ("a.h", "c++"),
        ("a.c", "c"),
        ("lib.rs", "rust"),
        ("README.md", None),
        (".py", None),
        ("py", None),
        ("a.py/b", None),
    ],
)
def test_a_file_has_the_language_of_its_ending(path: str, language: str | None) -> None:
    assert language_of(path) == language
