"""Import a basic-memory project folder (its NOTE-FORMAT.md): notes with observations and typed relations."""

from __future__ import annotations

import re
from pathlib import Path

from adaptive_llm_gateway.memory._import import ImportKind, ImportSource, Progress, clean_rel
from adaptive_llm_gateway.memory._import_markdown import Names, Note, read_folder, resolve_links
from adaptive_llm_gateway.memory._import_text import Target, link_targets, wiki_name, wiki_names_in
from adaptive_llm_gateway.memory._values import Link

FAMILY = "basic-memory"

_ITEM = re.compile(r"^[ \t]*[-*+][ \t]+([^\n]*?)[ \t\r]*$", re.MULTILINE)
# A relation is the whole item: a type (one word, or quoted), one target, and at most one note in parentheses.
_RELATION = re.compile(
    r"(?:\"([^\"\[\]]+)\"|'([^'\[\]]+)'|([^\s\[\]\"']+))?[ \t]*\[\[([^\[\]]{1,500})\]\][ \t]*(?:\([^()]*\))?"
)


def read(
    path: Path,
    *,
    kind: ImportKind,
    project: str | None = None,
    name: str | None = None,
    on_progress: Progress | None = None,
) -> ImportSource:
    """Read a project folder.

    Raises:
        InvalidInput: the path is neither a folder nor a Markdown file.
    """
    return read_folder(
        path, kind=kind, family=FAMILY, project=project, name=name, on_progress=on_progress, linker=typed_links
    )


def typed_links(note: Note, names: Names) -> tuple[list[Link], int]:
    """Relations under their own types, every other link as `links_to`; and how many lead nowhere."""
    wanted: list[tuple[str, Target]] = []

    def take(match: re.Match[str]) -> str:
        relation = _RELATION.fullmatch(match[1])
        if relation is None or not (target := wiki_name(relation[4])):
            return match[0]
        rel = relation[1] or relation[2] or relation[3] or "relates_to"
        wanted.append((clean_rel(rel), Target("wiki", target)))
        return ""

    rest = _ITEM.sub(take, note.prose) if "[[" in note.prose else note.prose
    wanted += [("links_to", target) for target in link_targets(rest)]
    for name, value in note.split.fields.items():
        wanted += [(clean_rel(name), Target("wiki", link)) for link in wiki_names_in(value)]
    return resolve_links(wanted, note, names)
