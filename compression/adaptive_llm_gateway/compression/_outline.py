"""Source code as an outline: its definitions with their lines, signatures, nesting and first words of documentation.

Pure. The grammars are the extra `adaptive-llm-gateway[code]`; each one lies whole in its package, so nothing is ever
downloaded, and each is loaded by the first text of its language.
"""

from __future__ import annotations

import importlib
import itertools
import re
import sys
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final, cast

from adaptive_llm_gateway.compression._languages import LANGUAGES, Language, kinds
from adaptive_llm_gateway.compression._references import is_telling
from adaptive_llm_gateway.core import InvalidInput, Unavailable

if TYPE_CHECKING:
    from tree_sitter import Language as Grammar
    from tree_sitter import Node, Point, Tree

OUTLINE_FORMAT: Final = 1
"""Changes when the same text would give another outline."""

LONGEST_SOURCE: Final = 256 * 1024
"""Bytes of a text of which an outline is made: some grammars take seconds for a megabyte made to hold them up."""

_SIGNATURE, _VALUE, _DOC = 200, 80, 120  # characters
_DEEPEST = 12  # definitions in one another
_MOST = 2_000  # definitions of a text
_MOST_NODES = 200_000
_MOST_NAMES = 8_000
_IN_PIECES = 32 * 1024  # bytes from which on a text is parsed in steps, between which other threads may run
_NAME = re.compile(r"[^\W\d]\w{2,}")
_LAST = re.compile(r"[^\W\d]\w*[!?]?")
_SPACE = re.compile(r"\s+")
_CONSTANT = re.compile(r"[A-Z][A-Z0-9_]*")
_MARKS = re.compile(r"^[\s/*#!<>-]+|[\s*/-]+$")
_TAG = re.compile(r"</?[A-Za-z][^<>]{0,100}>")
_WORD = re.compile(r"[^\W_]")
_IDENTIFIERS = kinds(
    "identifier simple_identifier type_identifier field_identifier property_identifier private_property_identifier "
    "namespace_identifier constant name word variable_name qualified_identifier nested_namespace_specifier "
    "destructor_name operator_name nested_identifier scoped_identifier"
)
_FUNCTIONS = kinds("arrow_function function_expression generator_function class function_definition")  # as values
_BODIES = re.compile(r".*(?:body|block|declaration_list|compound_statement|enumerator_list|field_declaration_list)")
_WRAPPERS = kinds(
    "export_statement ambient_declaration lexical_declaration variable_declaration expression_statement "
    "template_declaration type_declaration const_declaration var_declaration var_spec_list decorated_definition "
    "declaration_command property_declaration declaration assignment_statement"
)
_BETWEEN = frozenset(["attribute_item", "decorator", "attribute_list", "annotation", "template_parameter_list"])


@dataclass(frozen=True, slots=True)
class Definition:
    """Something that a text defines.

    Attributes:
        name: the last part of what it is called.
        signature: on one line, without the body.
        doc: the first line of its documentation, or empty.
        lines: first and last, from 1.
        parent: place of the definition that it stands in, among those of the text; -1: none.
        value: whether it is a constant, a field or the like.
    """

    name: str
    signature: str
    doc: str
    lines: tuple[int, int]
    parent: int
    value: bool


@dataclass(frozen=True, slots=True)
class Outline:
    """The definitions of a text, in its order, parents before what is in them.

    Attributes:
        names: every word of the text that may name something, of three letters and more.
        complete: whether all of its definitions are there; a text may have too many.
        broken: whether the grammar found parts that it could not read.
    """

    language: str
    definitions: tuple[Definition, ...]
    names: frozenset[str]
    complete: bool
    broken: bool


def has_grammar(language: str) -> bool:
    """Whether the grammar of a language is installed."""
    try:
        grammar_of(language)
    except Unavailable:
        return False
    return True


def outline_of(text: str, language: str) -> Outline:
    """The outline of a text in a language of `LANGUAGES`.

    Raises:
        InvalidInput: there is no such language, or the text is longer than `LONGEST_SOURCE`.
        Unavailable: its grammar is not installed.
    """
    grammar = grammar_of(language)
    source = text.encode("utf-8", "replace")
    if len(source) > LONGEST_SOURCE:
        raise InvalidInput(
            f"a text of {len(source):,} bytes is too long for an outline",
            hint=f"The longest is {LONGEST_SOURCE:,} bytes.",
        )
    tree = _parsed(source, grammar)
    walk = _Walk(LANGUAGES[language], source)
    walk.run(tree.root_node)
    # The same names stand in many files, and each is kept once.
    names = frozenset(map(sys.intern, itertools.islice(dict.fromkeys(_NAME.findall(text)), _MOST_NAMES)))
    return Outline(language, tuple(walk.found), names, walk.complete, tree.root_node.has_error)


def names_of_text(text: str) -> frozenset[str]:
    """The words of a text that look like names among others: `take_one`, `takeOne`; of very many the first ones."""
    telling = dict.fromkeys(name for name in dict.fromkeys(_NAME.findall(text)) if is_telling(name))
    return frozenset(map(sys.intern, itertools.islice(telling, _MOST_NAMES)))


@lru_cache(len(LANGUAGES))
def grammar_of(name: str) -> Grammar:
    """The grammar of a language, loaded once.

    Raises:
        InvalidInput: there is no such language.
        Unavailable: it is not installed.
    """
    language = LANGUAGES.get(name)
    if language is None:
        raise InvalidInput(f"there are no outlines of {name!r}", hint=f"Languages: {', '.join(LANGUAGES)}.")
    try:
        from tree_sitter import Language as Loaded  # noqa: PLC0415 - an extra, and only where there is code

        module = importlib.import_module(language.module)
        return Loaded(cast("object", getattr(module, language.function)()))
    except (ImportError, AttributeError, ValueError) as error:
        raise Unavailable(
            f"the grammar of {name} is not installed ({error})",
            hint="Install adaptive-llm-gateway[code].",
        ) from error


def _parsed(source: bytes, grammar: Grammar) -> Tree:
    from tree_sitter import Parser  # noqa: PLC0415 - as above

    parser = Parser(grammar)
    if len(source) < _IN_PIECES:
        return parser.parse(source)

    def read(offset: int, _point: Point | tuple[int, int], /) -> bytes:
        return source[offset : offset + 65_536]

    return parser.parse(read, encoding="utf8", progress_callback=_go_on)


def _go_on(_offset: int, _broken: bool) -> bool:
    """Whether parsing is to end."""
    return False


class _Walk:
    """Finds definitions in a tree, without recursion: a text may nest as deep as it likes."""

    def __init__(self, language: Language, source: bytes) -> None:
        self.found: list[Definition] = []
        self.complete = True
        self._language = language
        self._source = source

    def run(self, root: Node) -> None:
        """Look at every node but those in functions."""
        stack: list[tuple[Node, int, int, Node | None, list[Node]]] = [(root, -1, 0, None, [])]
        looked = 0
        while stack:
            node, parent, depth, wrapper, comments = stack.pop()
            looked += 1
            if looked > _MOST_NODES or len(self.found) >= _MOST:
                self.complete = False
                return
            inner = parent
            made = self._definition(node, parent, wrapper, comments) if node is not root else None
            if made is not None:
                self.found.append(made)
                if node.type not in self._language.nests or depth >= _DEEPEST:
                    continue
                inner, depth = len(self.found) - 1, depth + 1
            elif self._is_function(node):
                continue
            keeps = made is None and node.type in _WRAPPERS
            stack += self._children(node, inner, depth, node if keeps and wrapper is None else wrapper if keeps else
                                    None, comments if keeps else [])  # fmt: skip

    def _is_function(self, node: Node) -> bool:
        return node.type in self._language.definitions and node.type not in self._language.nests

    def _children(
        self, node: Node, parent: int, depth: int, wrapper: Node | None, comments: list[Node]
    ) -> list[tuple[Node, int, int, Node | None, list[Node]]]:
        """What is in a node, the last one first, each with the comments that stand directly above it."""
        if not node.named_child_count:
            return []
        made: list[tuple[Node, int, int, Node | None, list[Node]]] = []
        above: list[Node] = []
        first = True
        for child in node.named_children:
            if "comment" in child.type:
                if above and child.start_point.row > _last_row(above[-1]) + 1:
                    above = []
                above.append(child)
                continue
            if child.type in _BETWEEN:
                above = [*above, child] if above else []
                continue
            near = bool(above) and child.start_point.row <= _last_row(above[-1]) + 1
            own = [one for one in above if "comment" in one.type] if near else comments if first else []
            made.append((child, parent, depth, wrapper if first else None, own))
            above, first = [], False
        made.reverse()
        return made

    def _definition(self, node: Node, parent: int, wrapper: Node | None, comments: list[Node]) -> Definition | None:
        language, kind = self._language, node.type
        value = kind in language.values
        if not value and kind not in language.definitions:
            return None
        body = _body(node)
        if kind in ("assignment_expression", "assignment_statement"):
            given = _assigned_function(node)
            if given is None:
                return None
            body = given.child_by_field_name("body")
        if kind.endswith("_specifier") and body is None:
            return None  # a type that is used, not defined
        given = node.child_by_field_name("value")
        if given is not None and given.type == "call_expression" and self._text(given).startswith("require("):
            return None  # an import
        if kind == "variable_declarator" and given is not None and given.type in _FUNCTIONS:
            value, body = False, given.child_by_field_name("body")
        if kind in ("declaration", "field_declaration") and _declares_function(node):
            value = False
        name = _name(node)
        text = self._text(name) if name is not None else _KEYWORDS.get(kind, "")
        last = _LAST.findall(text[:_SIGNATURE])
        if not last:
            return None
        if value and language.named and parent < 0 and not _CONSTANT.fullmatch(text):
            return None
        if value and language.named and language.name == "python" and parent >= 0 and "type" not in _fields(node):
            return None
        start = node
        if wrapper is not None and wrapper.type != "decorated_definition":
            start = wrapper if wrapper.start_point.row == node.start_point.row else node
        end = body.start_byte if body is not None and not value else node.end_byte
        if kind == "type_spec":  # its body has no name of its own
            brace = self._source.find(b"{", node.start_byte, end)
            end = brace if brace > 0 else end
        signature = self._signature(start.start_byte, end, _VALUE if value else _SIGNATURE)
        lines = (node.start_point.row + 1, _last_row(node) + 1)
        return Definition(last[-1], signature, self._doc(body, comments), lines, parent, value)

    def _signature(self, start: int, end: int, most: int) -> str:
        text = self._source[start : min(end, start + 8 * most)].decode("utf-8", "replace")
        line = _SPACE.sub(" ", text).strip().rstrip("{=:;, ").removesuffix(" =>").rstrip("= ")
        return line if len(line) <= most else line[:most].rstrip() + "…"

    def _doc(self, body: Node | None, comments: list[Node]) -> str:
        if self._language.name == "python":
            first = body.named_children[0] if body is not None and body.named_child_count else None
            if first is not None and first.type == "expression_statement" and first.named_child_count:
                first = first.named_children[0]
            if first is None or first.type != "string":
                return ""
            text = self._text(first).lstrip("rRuUbBfF").strip("\"'")
        else:
            text = "\n".join(self._text(comment) for comment in comments[:20])
        for line in text.split("\n"):
            bare = _SPACE.sub(" ", _MARKS.sub("", _TAG.sub("", line[: _DOC * 4]))).strip()
            if _WORD.search(bare) and not bare.startswith("@"):
                return bare if len(bare) <= _DOC else bare[:_DOC].rstrip() + "…"
        return ""

    def _text(self, node: Node) -> str:
        return self._source[node.start_byte : min(node.end_byte, node.start_byte + 4_000)].decode("utf-8", "replace")


_KEYWORDS = {"init_declaration": "init", "subscript_declaration": "subscript", "operator_declaration": "operator"}


def _last_row(node: Node) -> int:
    """The row of a node's last character: some end at the beginning of the row behind them."""
    return max(node.start_point.row, node.end_point.row - (node.end_point.column == 0))


def _fields(node: Node) -> frozenset[str]:
    return frozenset(name for place in range(node.child_count) if (name := node.field_name_for_child(place)))


def _body(node: Node) -> Node | None:
    body = node.child_by_field_name("body")
    if body is not None:
        return body
    for child in node.named_children:
        if _BODIES.fullmatch(child.type):
            return child
    inner = node.child_by_field_name("type")
    return inner.child_by_field_name("body") if inner is not None and inner.type != node.type else None


def _assigned_function(node: Node) -> Node | None:
    """The function that is assigned, if what is assigned is one."""
    right = node.child_by_field_name("right")
    if right is None:
        values = [child for child in node.named_children if child.type == "expression_list"]
        right = values[0].named_children[0] if values and values[0].named_child_count else None
    return right if right is not None and right.type in _FUNCTIONS else None


def _declares_function(node: Node) -> bool:
    inner = node.child_by_field_name("declarator")
    for _ in range(_DEEPEST):
        if inner is None:
            return False
        if inner.type == "function_declarator":
            return True
        inner = inner.child_by_field_name("declarator")
    return False


def _name(node: Node) -> Node | None:
    """The node that names what a node defines."""
    for _ in range(_DEEPEST):
        named = node.child_by_field_name("name")
        if named is not None:
            return None if named.type in ("object_pattern", "array_pattern") else named
        for field in ("declarator", "left", "pattern", "type"):
            inner = node.child_by_field_name(field)
            if inner is not None and (field != "type" or node.type in ("impl_item", "type_alias")):
                break
        else:
            inner = next((child for child in node.named_children if _may_name(child)), None)
        if inner is not None and inner.type == "generic_type":
            inner = inner.child_by_field_name("type")
        if inner is None:
            return None
        if inner.type in _IDENTIFIERS or not inner.named_child_count or inner.type in _WHOLE:
            return inner
        node = inner
    return None


_WHOLE = frozenset(["dot_index_expression", "method_index_expression", "member_expression", "scoped_type_identifier"])


def _may_name(node: Node) -> bool:
    return node.type in _IDENTIFIERS or node.type in (
        "variable_declaration",
        "variable_declarator",
        "variable_list",
        "reference_declarator",
    )
