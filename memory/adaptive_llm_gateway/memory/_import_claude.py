"""Import Claude Code's own memory: CLAUDE.md files and rules that people write, and auto memory that Claude writes.

Where things lie is Claude Code's documentation of memory (https://code.claude.com/docs/en/memory): `CLAUDE.md`,
`.claude/CLAUDE.md`, `CLAUDE.local.md`, `.claude/rules/**/*.md` in a project; `~/.claude/CLAUDE.md` and
`~/.claude/rules/` for the user; `~/.claude/projects/<project>/memory/` with `MEMORY.md` and topic files;
`agent-memory/<agent>/` likewise.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from adaptive_llm_gateway.core import InvalidInput
from adaptive_llm_gateway.memory._import import (
    ImportItem,
    ImportKind,
    ImportSource,
    Progress,
    SkippedFile,
    clean_tags,
    clean_title,
    fitting,
    item_id,
    with_links,
)
from adaptive_llm_gateway.memory._import_files import (
    MARKDOWN,
    Found,
    Text,
    Unreadable,
    is_within,
    read_text,
    shown,
    walk,
)
from adaptive_llm_gateway.memory._import_markdown import RESERVED, Names, source_name_of
from adaptive_llm_gateway.memory._import_text import (
    Split,
    first_heading,
    front_tags,
    link_targets,
    plain_fields,
    split_front_matter,
    without_code,
)
from adaptive_llm_gateway.memory._values import Link

FAMILY = "claude-code"
SPLIT_ABOVE = 8_000
"""Characters from which a CLAUDE.md is taken apart at its second-level headings."""

_MEMORY_FILES = ("CLAUDE.md", "CLAUDE.local.md")
_IMPORT_DEPTH = 5
# What auto memory says of its files (`type`, or `metadata: {type}`), and what that is here.
_AUTO_TYPES = {"user": "fact", "feedback": "preference", "project": "note", "reference": "note"}


@dataclass(frozen=True, slots=True)
class _Part:
    """One group of files with an identity of its own, whatever folder the import began at.

    `place` is part of the ids, `prefix` comes before the paths people see.
    """

    place: str
    prefix: str
    root: Path
    files: tuple[Found, ...]
    project: str | None
    auto: bool = False


@dataclass(frozen=True, slots=True)
class _Read:
    part: _Part
    found: Found
    split: Split
    prose: str
    item: ImportItem


def read(
    path: Path,
    *,
    kind: ImportKind,
    project: str | None = None,
    name: str | None = None,
    on_progress: Progress | None = None,
) -> ImportSource:
    """Read a project's folder, `~/.claude`, an auto memory folder, or one file of these.

    Raises:
        InvalidInput: nothing of Claude Code's is there.
    """
    skipped: list[SkippedFile] = []
    parts = list(_parts(path, name, skipped))
    total = sum(len(part.files) for part in parts)
    if not total and not skipped:
        raise InvalidInput(
            f"{str(path)!r} holds no memory of Claude Code",
            hint="Give a project with a CLAUDE.md, ~/.claude, or a folder with a MEMORY.md.",
            path=str(path),
        )
    done = 0
    items: list[ImportItem] = []
    for part in parts:
        reads: list[_Read] = []
        for found in part.files:
            _read_with_imports(part, found, project=project, kind=kind, reads=reads, skipped=skipped)
            done += 1
            if on_progress:
                on_progress(done, total)
        items += _linked(reads)
    unique = {item.id: item for item in reversed(items)}
    identity = parts[0].place if len(parts) == 1 else "user"
    return ImportSource(kind, identity, tuple(reversed(unique.values())), tuple(skipped))


# --- Where the files are -------------------------------------------------------------------------------


def _parts(path: Path, name: str | None, skipped: list[SkippedFile]) -> Iterator[_Part]:
    # The path as given names the source; what it points to is what is read.
    given = Path(os.path.abspath(path))  # noqa: PTH100 - links stay
    if given.is_file():
        yield _file_part(given, name)
    elif _is_auto(given):
        yield _auto_part(given, name, skipped)
    elif given.name == ".claude" and _is_users(given):
        yield from _user_parts(given, skipped)
    else:
        root = given.parent if given.name == ".claude" else given
        yield _project_part(root, tuple(_project_files(root, skipped)), name)
        yield from _agent_parts(root / ".claude", name or source_name_of(root), root.name, skipped)


def _file_part(given: Path, name: str | None) -> _Part:
    disk = given.resolve()
    if _is_auto(given.parent):
        return replace(_auto_part(given.parent, name, []), files=(Found(disk, shown(given.name)),))
    claude = next((folder for folder in given.parents if folder.name == ".claude"), None)
    if claude and _is_users(claude):
        return _Part("user", "user/", claude, (Found(disk, shown(str(given.relative_to(claude)))),), None)
    root = claude.parent if claude else given.parent
    return _project_part(root, (Found(disk, shown(str(given.relative_to(root)))),), name)


def _is_auto(folder: Path) -> bool:
    return (folder / "MEMORY.md").is_file() or (folder.name == "memory" and folder.parent.parent.name == "projects")


def _is_users(folder: Path) -> bool:
    return folder.parent.resolve() == Path.home().resolve() or (folder / "projects").is_dir()


def _project_part(root: Path, files: tuple[Found, ...], name: str | None) -> _Part:
    return _Part(f"project:{name or source_name_of(root)}", "", root, files, clean_title(root.name))


def _project_files(root: Path, skipped: list[SkippedFile]) -> Iterator[Found]:
    yield from _markdown_under(root / ".claude", ".claude/", skipped, deep=False)
    yield from _markdown_under(root / ".claude" / "rules", ".claude/rules/", skipped)
    links: list[SkippedFile] = []
    for found in walk(root, links):
        if found.disk.name in _MEMORY_FILES:
            yield found
    for link in links:  # CLAUDE.md is often a link to the AGENTS.md beside it
        file = root / link.path
        if file.name not in _MEMORY_FILES:
            continue
        target = Path(os.path.realpath(file))
        if is_within(str(root), str(target)) and target.is_file():
            yield Found(target, link.path)
        else:
            skipped.append(link)


def _user_parts(root: Path, skipped: list[SkippedFile]) -> Iterator[_Part]:
    problems: list[SkippedFile] = []
    files = [
        *_markdown_under(root, "", problems, deep=False),
        *_markdown_under(root / "rules", "rules/", problems),
    ]
    skipped += [SkippedFile(f"user/{problem.path}", problem.problem) for problem in problems]
    if files:
        yield _Part("user", "user/", root, tuple(files), None)
    projects = root / "projects"
    if projects.is_dir():
        for folder in sorted(projects.iterdir()):
            memory = folder / "memory"
            if memory.is_dir() and not memory.is_symlink() and not folder.is_symlink():
                yield _auto_part(memory, None, skipped)
    yield from _agent_parts(root, "user", None, skipped)


def _agent_parts(root: Path, owner: str, project: str | None, skipped: list[SkippedFile]) -> Iterator[_Part]:
    for shelf in ("agent-memory", "agent-memory-local"):
        if not (root / shelf).is_dir():
            continue
        for folder in sorted((root / shelf).iterdir()):
            if folder.is_dir() and not folder.is_symlink():
                files = tuple(_markdown_under(folder, "", skipped))
                place = f"agent:{owner}/{shelf}/{folder.name}"
                yield _Part(place, f"{shelf}/{folder.name}/", folder, files, project, auto=True)


def _auto_part(folder: Path, name: str | None, skipped: list[SkippedFile]) -> _Part:
    project = _project_of_slug(folder.parent.name) if folder.name == "memory" else folder.name
    place = name or unicodedata.normalize("NFC", project).casefold()
    files = tuple(_markdown_under(folder, "", skipped))
    return _Part(f"auto:{place}", f"auto/{project}/", folder, files, clean_title(project), auto=True)


def _project_of_slug(slug: str) -> str:
    """`-home-jane-work-app` as `work-app`: Claude Code names the folder after the project's path.

    Only the part of the home goes, so that it is the same for the same layout on another machine; where one name ends
    and the next begins cannot be told.
    """
    home = re.sub(r"[^A-Za-z0-9]", "-", str(Path.home()))
    rest = slug.removeprefix(home) if slug.startswith(home + "-") else slug
    return re.sub(r"^-(?:home|Users)-[^-]+-(?=.)", "", rest).strip("-") or "home"


def _markdown_under(root: Path, prefix: str, skipped: list[SkippedFile], *, deep: bool = True) -> Iterator[Found]:
    if not root.is_dir():
        return
    problems: list[SkippedFile] = []
    if deep:
        for found in walk(root, problems):
            if found.path.casefold().endswith(MARKDOWN):
                yield Found(found.disk, f"{prefix}{found.path}")
    else:
        for name in _MEMORY_FILES:
            file = root / name
            if file.is_file() and is_within(os.path.realpath(root), os.path.realpath(file)):
                yield Found(file.resolve(), f"{prefix}{name}")
            elif file.is_symlink():
                problems.append(SkippedFile(name, "is a symbolic link that leads out of the folder; import its target"))
    skipped += [SkippedFile(f"{prefix}{problem.path}", problem.problem) for problem in problems]


# --- What they say ---------------------------------------------------------------------------------------


def _read_with_imports(
    part: _Part,
    found: Found,
    *,
    project: str | None,
    kind: ImportKind,
    reads: list[_Read],
    skipped: list[SkippedFile],
    depth: int = 0,
) -> None:
    if any(read.found.disk == found.disk for read in reads):
        return
    try:
        text = read_text(found.disk)
        if not text.text.strip():
            raise Unreadable("is empty")
    except Unreadable as error:
        skipped.append(SkippedFile(f"{part.prefix}{found.path}", str(error)))
        return
    split = split_front_matter(text.text)
    prose = without_code(split.body)
    if part.auto and found.disk.name == "MEMORY.md" and _is_mere_index(prose):
        skipped.append(SkippedFile(f"{part.prefix}{found.path}", "only lists the other files"))
        return
    imported, warnings = ([], []) if part.auto else _imports(part, found, prose)
    item = _item(part, found, text, split=split, prose=prose, source=kind, project=project)
    item = replace(item, warnings=(*item.warnings, *warnings))
    reads.append(_Read(part, found, split, prose, item))
    if depth < _IMPORT_DEPTH:
        for other in imported:
            _read_with_imports(part, other, project=project, kind=kind, reads=reads, skipped=skipped, depth=depth + 1)


def _item(
    part: _Part, found: Found, text: Text, *, split: Split, prose: str, source: str, project: str | None
) -> ImportItem:
    fields = split.fields
    metadata = fields.get("metadata")
    said = fields.get("type") or (cast("dict[str, Any]", metadata).get("type") if isinstance(metadata, dict) else None)
    memory_type = _AUTO_TYPES.get(str(said).casefold(), "note") if part.auto else "preference"
    kept = plain_fields(fields, {"title", "tags", "type"}, RESERVED)
    if said is not None:
        kept["source_type"] = said
    title = fields.get("title") or fields.get("name") if part.auto else fields.get("title")
    otherwise = first_heading(split.body, prose) or found.path.rpartition("/")[2]
    if not part.auto and otherwise in _MEMORY_FILES:
        otherwise = f"{otherwise} of {part.project}" if part.project else f"{otherwise} of the user"
    return ImportItem(
        key=f"{part.prefix}{found.path}",
        id=item_id(FAMILY, part.place, found.path),
        type=memory_type,
        title=clean_title(str(title or otherwise)),
        body=split.body,
        created=text.created,
        updated=text.updated,
        source=f"{source}:{part.prefix}{found.path}",
        tags=clean_tags(("claude-code", *front_tags(fields.get("tags")))),
        project=project if project is not None else part.project,
        fields=fitting(memory_type, kept),
        warnings=tuple(problem for problem in (text.problem, split.problem) if problem),
    )


_LIST_LINK = re.compile(r"[ \t]*[-*+][ \t]+(?:\[[^\]\n]*\]\([^)\n]*\)|\[\[[^\]\n]*\]\]|\S+\.md\b)[^\n]*")


def _is_mere_index(prose: str) -> bool:
    lines = [line for line in prose.split("\n") if line.strip() and not line.lstrip().startswith("#")]
    return bool(lines) and all(_LIST_LINK.fullmatch(line.rstrip()) for line in lines)


# `@path` as a word of its own; a name such as @someone or @scope/package is not one unless such a file exists.
_AT_PATH = re.compile(r"(?<!\S)@((?:~/|\.{0,2}/)?[^\s@]{1,300})")


def _imports(part: _Part, found: Found, prose: str) -> tuple[list[Found], list[str]]:
    root = os.path.realpath(part.root)
    inside: list[Found] = []
    warnings: list[str] = []
    for match in _AT_PATH.finditer(prose):
        said = match[1].rstrip(".,;:!?)\"'")
        looks_like_path = said.startswith(("~/", "/", "./", "../")) or said.casefold().endswith(MARKDOWN)
        base = os.path.expanduser(said) if said.startswith("~/") else said  # noqa: PTH111 - may be relative
        target = os.path.realpath(found.disk.parent / base)
        if not is_within(root, target):
            if looks_like_path:
                warnings.append(f"@{said} leads out of the folder; not followed")
        elif os.path.isfile(target):  # noqa: PTH113 - a string all the way
            if target.casefold().endswith((*MARKDOWN, ".txt")):
                inside.append(Found(Path(target), shown(os.path.relpath(target, root))))
        elif looks_like_path:
            warnings.append(f"@{said} does not exist")
    return inside, warnings


def _linked(reads: list[_Read]) -> Iterator[ImportItem]:
    """The items with links between them; a large CLAUDE.md as one item per section."""
    names = Names()
    by_disk = {read.found.disk: read.item.id for read in reads}
    for read in reads:
        aliases = [str(alias) for key in ("name", "title") if (alias := read.split.fields.get(key))]
        names.add(read.found.path, read.item.id, aliases)
    for read in reads:
        found = [names.resolve(target, read.found.path) for target in link_targets(read.prose)]
        links = [Link("links_to", ident) for ident in found if ident]
        if not read.part.auto:
            imported, _ = _imports(read.part, read.found, read.prose)
            links += [Link("imports", by_disk[other.disk]) for other in imported if other.disk in by_disk]
        item = with_links(read.item, links)
        if read.found.disk.name in _MEMORY_FILES and len(item.body) > SPLIT_ABOVE:
            yield from _sections(item, read)
        else:
            yield item


_SECTION = re.compile(r"^ {0,3}##[ \t]+(.{1,500}?)(?:[ \t]+#+)?[ \t]*\r?$", re.MULTILINE)


def _sections(item: ImportItem, read: _Read) -> Iterator[ImportItem]:
    """The file's item with what comes before the first section, then one item per section, linked as its parts."""
    starts = list(_SECTION.finditer(read.prose))
    if len(starts) < 2:
        yield item
        return
    first = starts[0].start()
    has_preamble = any(line.strip() and not line.lstrip().startswith("#") for line in read.prose[:first].split("\n"))
    if not has_preamble:  # the file's own memory must not be empty: it takes the first section
        starts = starts[1:]
        first = starts[0].start()
    yield replace(item, body=item.body[:first])
    seen: dict[str, int] = {}
    for match, following in zip(starts, [*starts[1:], None], strict=True):
        heading = item.body[match.start(1) : match.end(1)]
        slug = "-".join(re.findall(r"\w+", unicodedata.normalize("NFC", heading).casefold())) or "section"
        seen[slug] = seen.get(slug, 0) + 1
        anchor = slug if seen[slug] == 1 else f"{slug}-{seen[slug]}"
        yield replace(
            item,
            key=f"{item.key}#{anchor}",
            id=item_id(FAMILY, read.part.place, f"{read.found.path}#{anchor}"),
            title=clean_title(heading.replace("`", "").replace("**", "")),
            body=item.body[match.start() : following.start() if following else len(item.body)],
            source=f"{item.source}#{anchor}",
            links=(Link("part_of", item.id),),
            warnings=(),
        )
