"""A patch in git's own form: made file by file, kept within a limit, and put into a Markdown fence and taken out again.

Composed here and not by libgit2's printer, so that nothing is read but what the caller has read: each side of a file is
a mode and its bytes.
"""

from __future__ import annotations

import base64
import hashlib
import re
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

REGULAR: Final = 0o100644
EXECUTABLE: Final = 0o100755
LINK: Final = 0o120000
SUBMODULE: Final = 0o160000
_ZERO: Final = b"0" * 40

_ESCAPES: Final = {7: b"a", 8: b"b", 9: b"t", 10: b"n", 11: b"v", 12: b"f", 13: b"r", 34: b'"', 92: b"\\"}
_MEANT: Final = {letter: byte for byte, letter in _ESCAPES.items()}
_OPENING = re.compile(r"^(`{3,})diff( without-newline)?\n", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a changed file: its git mode, and its bytes as git stores them (of a link: where it points)."""

    mode: int
    data: bytes

    @property
    def is_link(self) -> bool:
        """Whether it is a symbolic link."""
        return self.mode == LINK

    @property
    def is_text(self) -> bool:
        """Whether it can stand in a patch as lines of UTF-8."""
        if b"\0" in self.data:
            return False
        try:
            self.data.decode("utf-8")
        except UnicodeDecodeError:
            return False
        return True


def blob_id(data: bytes) -> str:
    """The git blob id of `data`: 40 hex digits."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def quote(path: bytes, prefix: bytes = b"") -> bytes:
    """`prefix` and `path` as they stand in a patch: in quotes and escaped when a plain name would be misread."""
    try:
        text = path.decode("utf-8")
    except UnicodeDecodeError:
        text = "\0"
    if text.isprintable() and not {'"', "\\"} & set(text):
        return prefix + path
    escaped = b"".join(
        b"\\" + _ESCAPES[byte]
        if byte in _ESCAPES
        else b"\\%03o" % byte
        if byte < 32 or byte > 126  # what git escapes, too
        else bytes((byte,))
        for byte in path
    )
    return b'"' + prefix + escaped + b'"'


def unquote(said: bytes) -> bytes:
    """What stands between the quotes that `said` begins with."""

    def plain(escape: re.Match[bytes]) -> bytes:
        code = escape[1]
        return bytes((int(code, 8) & 255,)) if len(code) == 3 else bytes((_MEANT[code],))

    inner = re.match(rb'"((?:[^"\\]|\\.)*)"', said, re.DOTALL)
    return re.sub(rb"\\([0-7]{3}|[abtnvfr\"\\])", plain, inner[1]) if inner else said


def section(
    path: bytes, old: Side | None, new: Side | None, *, old_path: bytes | None = None, likeness: int = 0
) -> bytes:
    """What a patch says of one file; empty when nothing of it has changed.

    Args:
        path: where it lies, or lay when it is gone.
        old: as it was committed; None: not at all.
        new: as it is; None: deleted.
        old_path: where it lay before it was moved.
        likeness: percent of it that stayed when it was moved.
    """
    moved = old_path is not None and old_path != path
    if old == new and not moved:
        return b""
    if old is not None and new is not None and old.is_link != new.is_link:
        # git itself says that a file has become a link by its end and its beginning.
        return section(old_path or path, old, None) + section(path, None, new)
    before = old_path if old_path is not None else path
    out = [b"diff --git " + quote(before, b"a/") + b" " + quote(path, b"b/")]
    if old is None and new is not None:
        out.append(b"new file mode %o" % new.mode)
    elif new is None and old is not None:
        out.append(b"deleted file mode %o" % old.mode)
    elif old is not None and new is not None:
        if old.mode != new.mode:
            out += [b"old mode %o" % old.mode, b"new mode %o" % new.mode]
        if moved:
            same = 100 if old.data == new.data else min(likeness, 99)
            out += [b"similarity index %d%%" % same, b"rename from " + quote(before), b"rename to " + quote(path)]
    if old is not None and new is not None and old.data == new.data:
        return b"\n".join(out) + b"\n"
    ids = [_ZERO if side is None else blob_id(side.data).encode() for side in (old, new)]
    kept = b" %o" % new.mode if old is not None and new is not None and old.mode == new.mode else b""
    out.append(b"index " + b"..".join(ids) + kept)
    was, now = (b"" if side is None else side.data for side in (old, new))
    if (old is None or old.is_text) and (new is None or new.is_text):
        if hunks := _hunks(was, now):
            out.append(b"--- " + (b"/dev/null" if old is None else _named(before, b"a/")))
            out.append(b"+++ " + (b"/dev/null" if new is None else _named(path, b"b/")))
            out.append(hunks.removesuffix(b"\n"))
        return b"\n".join(out) + b"\n"
    return b"\n".join((*out, b"GIT binary patch", _literal(now), _literal(was))) + b"\n"


def _named(path: bytes, prefix: bytes) -> bytes:
    name = quote(path, prefix)
    return name + b"\t" if b" " in name and not name.startswith(b'"') else name  # where the name ends


def _hunks(old: bytes, new: bytes) -> bytes:
    import pygit2  # noqa: PLC0415 - loaded by those who make patches
    from pygit2.enums import DiffOption  # noqa: PLC0415 - as above

    made = pygit2.Patch.create_from(old, new, flag=DiffOption.FORCE_TEXT).data
    begin = made.find(b"\n@@ ")
    return made[begin + 1 :] if begin >= 0 else b""


def _literal(data: bytes) -> bytes:
    packed = zlib.compress(data)
    lines = [b"literal %d" % len(data)]
    for begin in range(0, len(packed), 52):
        piece = packed[begin : begin + 52]
        letter = len(piece) + (64 if len(piece) <= 26 else 70)  # A to Z, then a to z
        lines.append(bytes((letter,)) + base64.b85encode(piece, pad=True))
    return b"\n".join(lines) + b"\n"


def fit(sections: Mapping[bytes, bytes], limit: int) -> tuple[bytes, tuple[tuple[bytes, int], ...]]:
    """The patch of all `sections` that has at most `limit` bytes, and what had to be left out, with its size.

    Left out is from the largest on. What needs each other stays together: where a file has made way for a folder of the
    same name, one without the other would not apply.
    """
    groups: dict[bytes, list[bytes]] = {}
    for path in sorted(sections):
        parts = path.split(b"/")
        above = (b"/".join(parts[:depth]) for depth in range(1, len(parts)))
        groups.setdefault(next((up for up in above if up in sections), path), []).append(path)
    sizes = {key: sum(len(sections[path]) for path in paths) for key, paths in groups.items()}
    total, left_out = sum(sizes.values()), list[tuple[bytes, int]]()
    for key in sorted(sizes, key=lambda key: (-sizes[key], key)):
        if total <= limit:
            break
        total -= sizes[key]
        left_out += [(path, len(sections[path])) for path in groups.pop(key)]
    kept = sorted(path for paths in groups.values() for path in paths)
    return b"".join(sections[path] for path in kept), tuple(left_out)


def list_names(paths: Iterable[bytes], most: int = 5) -> str:
    """`paths` for a sentence: the first few, and how many more."""
    names = sorted(path.decode("utf-8", "backslashreplace") for path in paths)
    shown = ", ".join(repr(name if len(name) <= 200 else name[:200] + "...") for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most:,} more"


def fence(patch: str) -> str:
    """`patch` in a Markdown fence that is longer than any run of backticks in it. `unfence` gives it back whole."""
    longest = max((len(run) for run in re.findall(r"`+", patch)), default=0)
    ticks = "`" * max(3, longest + 1)
    if not patch or patch.endswith("\n"):
        return f"{ticks}diff\n{patch}{ticks}\n"
    return f"{ticks}diff without-newline\n{patch}\n{ticks}\n"


def unfence(body: str) -> str | None:
    """The patch in the first fence of `body` that `fence` made, every character as it was; None where there is none."""
    for opening in _OPENING.finditer(body):
        begin = opening.end()
        closing = re.compile(rf"^{opening[1]}[ \t\r]*$", re.MULTILINE).search(body, begin)
        if closing is None:
            continue
        patch = body[begin : closing.start()]
        return patch.removesuffix("\n") if opening[2] else patch
    return None
