"""What is held back of what came in: files that HEAD has as the remote has them, and that the work tree does not get.

The commits keep what somebody else pushed, so that no push of ours takes it away again. The work tree, and with it the
index and every search, keeps the last good version of such a path, or nothing where there was none. What is held back,
why, and what lies there instead is kept in the git folder. An entry counts only where HEAD still has what it speaks of.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final, Literal, cast, get_args

from adaptive_llm_gateway.core import counted
from adaptive_llm_gateway.memory._merge import Entry

QUARANTINE_FILE: Final = "alg-quarantine.json"
QUARANTINE_REF: Final = "refs/alg/quarantine"
"""The same once more, as a blob. Were it lost, the older text in the work tree would look like an edit of theirs."""
MOST_IN_HISTORY: Final = 50

HeldKind = Literal[
    "secret", "link", "submodule", "mode", "path", "name", "depth", "size", "attributes", "submodules", "collision",
    "unreadable", "moved", "allowances",
]  # fmt: skip
_KINDS: Final = frozenset(get_args(HeldKind))
_LONGEST_SHOWN: Final = 200


@dataclass(frozen=True, slots=True)
class Held:
    """A path whose content is held back.

    Attributes:
        entry: what HEAD has there; None where HEAD has nothing, because the file moved to a place that is held back.
        kept: what the work tree has there instead; None for nothing.
        kind, why: the reason, for programs and for people; what it quotes is harmless to show.
        since: when it was first held back, in ISO 8601.
        commit, author: the remote's commit that brought it, and whose that is.
        shown: the path, harmless to show: one line, no control characters, no secret.
        of: the new place of a file that moved.
    """

    path: str
    entry: Entry | None
    kept: Entry | None
    kind: HeldKind
    why: str
    since: str
    commit: str
    author: str
    shown: str
    of: str | None = None


@dataclass(frozen=True, slots=True)
class InHistory:
    """A secret in the remote's history that no present file has: it is neither written nor indexed nor shown.

    Attributes:
        commit: one that has it, where that is known; else the remote's newest one when it was found.
        where: the path, harmless to show; `the commit's message` for that.
        why: what was found, masked.
        since: when it was found, in ISO 8601.
        object: git's id of the file's content or of the commit, 40 hex digits.
    """

    commit: str
    where: str
    why: str
    since: str
    object: str


@dataclass(frozen=True, slots=True)
class Quarantine:
    """What is held back, by path, and the secrets of the remote's history."""

    held: Mapping[str, Held] = field(default_factory=lambda: MappingProxyType({}))
    history: tuple[InHistory, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.held or self.history)

    def effective(self, entry_of: Callable[[str], Entry | None]) -> Quarantine:
        """Without what does not fit a tree: somebody has put something else there."""
        held = {path: item for path, item in self.held.items() if entry_of(path) == item.entry}
        held = {path: item for path, item in held.items() if item.of is None or item.of in held}
        return self if len(held) == len(self.held) else replace(self, held=held)

    def overlay(self, files: dict[str, str]) -> dict[str, str]:
        """A commit's regular files, path to blob, as the work tree is to have them."""
        for path, item in self.held.items():
            if item.kept is None:
                files.pop(path, None)
            else:
                files[path] = item.kept.blob
        return files

    def as_json(self) -> dict[str, Any]:
        """For the git folder."""
        return {
            "held": [
                {
                    **{name: getattr(item, name) for name in _TEXTS},
                    "entry": _entry_json(item.entry),
                    "kept": _entry_json(item.kept),
                    "of": item.of,
                }
                for item in self.held.values()
            ],
            "history": [{name: getattr(item, name) for name in _HISTORY} for item in self.history],
        }

    @classmethod
    def from_json(cls, found: object) -> Quarantine:
        """From the git folder; what cannot be read of it counts as not there."""
        if not isinstance(found, dict):
            return cls()
        document = cast("dict[str, Any]", found)
        held: dict[str, Held] = {}
        for item in _objects(document.get("held")):
            texts = {name: str(item.get(name) or "") for name in _TEXTS}
            of = item.get("of")
            if not texts["path"] or texts["kind"] not in _KINDS:
                continue
            try:
                held[texts["path"]] = Held(
                    **cast("Any", texts),
                    entry=_entry(item.get("entry")),
                    kept=_entry(item.get("kept")),
                    of=str(of) if of is not None else None,
                )
            except (TypeError, ValueError, KeyError):
                continue
        history = tuple(
            InHistory(**{name: str(item.get(name) or "") for name in _HISTORY})
            for item in _objects(document.get("history"))
        )
        return cls(held, history[-MOST_IN_HISTORY:])

    @classmethod
    def parse(cls, data: bytes) -> Quarantine:
        """As `from_json`, from the file's bytes."""
        try:
            return cls.from_json(json.loads(data))
        except ValueError:
            return cls()

    @classmethod
    def intact(cls, data: bytes) -> Quarantine | None:
        """As `parse`; None where not all of it could be read."""
        found = cls.parse(data)
        return found if found.as_bytes() == data else None

    def as_bytes(self) -> bytes:
        """The file's bytes."""
        return json.dumps(self.as_json(), indent=1).encode("ascii")


_TEXTS: Final = ("path", "kind", "why", "since", "commit", "author", "shown")
_HISTORY: Final = ("commit", "where", "why", "since", "object")


def _objects(found: object) -> list[dict[str, Any]]:
    items = cast("list[Any]", found) if isinstance(found, list) else []
    return [item for item in items if isinstance(item, dict)]


def _entry_json(entry: Entry | None) -> list[Any] | None:
    return None if entry is None else [entry.mode, entry.blob]


def _entry(found: object) -> Entry | None:
    if found is None:
        return None
    mode, blob = cast("Sequence[Any]", found)
    return Entry(int(mode), str(blob))


def harmless(text: str, *, mask: Callable[[str], str] = str, longest: int = _LONGEST_SHOWN) -> str:
    """A text from a remote, to be shown: one line, printable, without secrets, not too long."""
    line = "".join(
        char if char.isprintable() else " " if char.isspace() else "\N{REPLACEMENT CHARACTER}" for char in text[:4000]
    )
    line = mask(" ".join(line.split(" ")))
    return line if len(line) <= longest else line[: longest - 1] + "\N{HORIZONTAL ELLIPSIS}"


def summary(quarantine: Quarantine, *, shown: int = 3) -> tuple[str, ...]:
    """What people are told of a quarantine, in few lines: how many, the first ones, what to do."""
    lines: list[str] = []
    held = sorted(quarantine.held.values(), key=lambda item: item.path)
    if held:
        first = "; ".join(f"{item.shown!r}: {item.why}" for item in held[:shown])
        more = f"; and {len(held) - shown} more" if len(held) > shown else ""
        files = counted(len(held), "file of the remote is", "files of the remote are")
        lines.append(f"{files} held back ({first}{more}); `alg memory quarantine` lists them and says what to do")
    if quarantine.history:
        count = len(quarantine.history)
        what = counted(count, "secret that is", "secrets that are")
        lines.append(
            f"the remote's history has {what} in no file any more, and whoever can read the remote can read there: "
            "`alg memory quarantine` names the commits and says what to do"
        )
    return tuple(lines)
