"""The programming languages whose definitions are found: the files that are theirs, and the kinds of their tree nodes.

Pure, and loads no grammar: that is `_outline`'s, for the language of a text and not before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Language:
    """A language.

    Attributes:
        name: as people call it, small: `python`, `c++`.
        module: what carries its grammar.
        function: that module's function which gives it.
        definitions: kinds of nodes that define something with a body or a type: functions, classes, interfaces.
        values: kinds of nodes that define a constant, a field or the like.
        nests: kinds of definitions in which others are looked for.
        named: only values whose name is all in capitals, or that stand in a definition.
    """

    name: str
    module: str
    definitions: frozenset[str]
    values: frozenset[str] = frozenset()
    nests: frozenset[str] = frozenset()
    function: str = "language"
    named: bool = False


def kinds(text: str) -> frozenset[str]:
    """Kinds of nodes, listed with blanks between them."""
    return frozenset(text.split())


_SCRIPT_TYPES = "class_declaration abstract_class_declaration interface_declaration internal_module module"
_SCRIPT = (
    f"{_SCRIPT_TYPES} function_declaration generator_function_declaration method_definition type_alias_declaration "
    "enum_declaration function_signature method_signature abstract_method_signature assignment_expression"
)
_SCRIPT_VALUES = "variable_declarator field_definition public_field_definition property_signature"
_C_TYPES = "struct_specifier union_specifier enum_specifier class_specifier namespace_definition"
_C = f"{_C_TYPES} function_definition type_definition preproc_function_def alias_declaration concept_definition"
_C_VALUES = "declaration field_declaration preproc_def enumerator"
_SHARP_TYPES = (
    "class_declaration interface_declaration struct_declaration record_declaration enum_declaration "
    "namespace_declaration"
)


def _script(name: str, module: str, function: str = "language") -> Language:
    return Language(name, module, kinds(_SCRIPT), kinds(_SCRIPT_VALUES), kinds(_SCRIPT_TYPES), function)


_LISTED = (
    Language(
        "python",
        "tree_sitter_python",
        kinds("function_definition class_definition type_alias_statement"),
        kinds("assignment"),
        kinds("class_definition"),
        named=True,
    ),
    _script("javascript", "tree_sitter_javascript"),
    _script("typescript", "tree_sitter_typescript", "language_typescript"),
    _script("tsx", "tree_sitter_typescript", "language_tsx"),
    Language(
        "go",
        "tree_sitter_go",
        kinds("function_declaration method_declaration type_spec type_alias method_elem"),
        kinds("const_spec var_spec field_declaration"),
        kinds("type_spec"),
    ),
    Language(
        "rust",
        "tree_sitter_rust",
        kinds(
            "function_item function_signature_item struct_item enum_item union_item trait_item impl_item mod_item "
            "macro_definition type_item associated_type"
        ),
        kinds("const_item static_item field_declaration enum_variant"),
        kinds("struct_item enum_item union_item trait_item impl_item mod_item"),
    ),
    Language(
        "java",
        "tree_sitter_java",
        kinds(
            "class_declaration interface_declaration enum_declaration record_declaration annotation_type_declaration "
            "method_declaration constructor_declaration annotation_type_element_declaration"
        ),
        kinds("field_declaration constant_declaration enum_constant"),
        kinds(
            "class_declaration interface_declaration enum_declaration record_declaration annotation_type_declaration"
        ),
    ),
    Language("c", "tree_sitter_c", kinds(_C), kinds(_C_VALUES), kinds(f"{_C_TYPES} type_definition")),
    Language("c++", "tree_sitter_cpp", kinds(_C), kinds(_C_VALUES), kinds(f"{_C_TYPES} type_definition")),
    Language(
        "c#",
        "tree_sitter_c_sharp",
        kinds(
            f"{_SHARP_TYPES} delegate_declaration method_declaration constructor_declaration destructor_declaration "
            "operator_declaration indexer_declaration event_declaration"
        ),
        kinds("property_declaration field_declaration event_field_declaration enum_member_declaration"),
        kinds(_SHARP_TYPES),
    ),
    Language(
        "ruby",
        "tree_sitter_ruby",
        kinds("module class method singleton_method"),
        kinds("assignment"),
        kinds("module class"),
        named=True,
    ),
    Language(
        "php",
        "tree_sitter_php",
        kinds(
            "class_declaration interface_declaration trait_declaration enum_declaration function_definition "
            "method_declaration"
        ),
        kinds("const_element property_element enum_case"),
        kinds("class_declaration interface_declaration trait_declaration enum_declaration"),
        "language_php",
    ),
    Language(
        "kotlin",
        "tree_sitter_kotlin",
        kinds("class_declaration object_declaration function_declaration type_alias"),
        kinds("property_declaration enum_entry"),
        kinds("class_declaration object_declaration"),
    ),
    Language(
        "swift",
        "tree_sitter_swift",
        kinds(
            "class_declaration protocol_declaration function_declaration init_declaration subscript_declaration "
            "protocol_function_declaration typealias_declaration"
        ),
        kinds("property_declaration protocol_property_declaration enum_entry"),
        kinds("class_declaration protocol_declaration"),
    ),
    Language(
        "scala",
        "tree_sitter_scala",
        kinds(
            "class_definition object_definition trait_definition enum_definition function_definition "
            "function_declaration type_definition given_definition"
        ),
        kinds("val_definition var_definition val_declaration simple_enum_case"),
        kinds("class_definition object_definition trait_definition enum_definition"),
    ),
    Language("bash", "tree_sitter_bash", kinds("function_definition"), kinds("variable_assignment"), named=True),
    Language("lua", "tree_sitter_lua", kinds("function_declaration assignment_statement")),
)

LANGUAGES: Final[Mapping[str, Language]] = {language.name: language for language in _LISTED}
"""The languages by name."""

_ENDINGS_LISTED = {
    "python": "py pyi pyw",
    "javascript": "js jsx mjs cjs",
    "typescript": "ts mts cts",
    "tsx": "tsx",
    "go": "go",
    "rust": "rs",
    "java": "java",
    "c": "c",
    "c++": "cc cpp cxx c++ h hh hpp hxx ipp inl",  # a header is often both, and the larger language reads both
    "c#": "cs",
    "ruby": "rb rake gemspec",
    "php": "php",
    "kotlin": "kt kts",
    "swift": "swift",
    "scala": "scala sc",
    "bash": "sh bash",
    "lua": "lua",
}
_LANGUAGE_OF = {ending: name for name, endings in _ENDINGS_LISTED.items() for ending in endings.split()}
_DATA = kinds(
    "json jsonl ndjson csv tsv lock svg xml map ipynb geojson sum log po pot snap plist xsd min.js min.css bib sql.gz"
)


def language_of(path: str) -> str | None:
    """The name of the language of a file, by its ending; None where it has none of these."""
    return _LANGUAGE_OF.get(_ending(path))


def is_data(path: str) -> bool:
    """Whether a file is data by its name: in the summary of a folder it is named, and nothing is taken from it."""
    name = path.rpartition("/")[2].lower()
    return _ending(path) in _DATA or name.endswith((".min.js", ".min.css")) or name.startswith("requirements")


def _ending(path: str) -> str:
    name = path.rpartition("/")[2].lower()
    stem, dot, ending = name.rpartition(".")
    return ending if dot and stem else ""
