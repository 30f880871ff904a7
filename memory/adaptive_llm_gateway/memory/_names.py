"""Names of memory files: slugs and paths within the memory repo, and the check that a path stays inside it."""

from __future__ import annotations

import os
import re
import stat
import unicodedata
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from adaptive_llm_gateway.core import UnsafePath

MAX_SLUG_CHARACTERS: Final = 60
MAX_SLUG_BYTES: Final = 120
_MAX_NAME_BYTES: Final = 255

# Latin letters that Unicode does not decompose.
_LATIN = str.maketrans(
    {"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "đ": "d", "ð": "d", "ł": "l", "þ": "th", "ħ": "h", "ı": "i"}
)
# Code points that HFS+ ignores in names (git's own list, `is_hfs_dotgit` in utf8.c).
_IGNORED_BY_HFS = re.compile("[\u200c-\u200f\u202a-\u202e\u206a-\u206f\ufeff]")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")
_DRIVE = re.compile(r"[A-Za-z]:")
_DEVICE = re.compile(r"CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(?:COM|LPT)[1-9¹²³]")
_SHORT_NAME = re.compile(r"git(?:mod|att|ign)~[0-9]+|gi[0-9a-f]{4}~[0-9]+")
_REPARSE_POINT = getattr(stat, "FILE_ATTRIBUTE_REPARSE_POINT", 0x400)


def slug(title: str) -> str:
    """A title as part of a file name: lower-case letters and digits of any script, joined by `-`.

    Latin letters lose their accents; other scripts stay as they are (NFC). At most `MAX_SLUG_CHARACTERS` characters
    and `MAX_SLUG_BYTES` bytes of UTF-8, cut between words where possible; `untitled` where nothing is left.
    """
    words: list[str] = []
    word: list[str] = []
    text = unicodedata.normalize("NFKC", title[:1000]).lower().translate(_LATIN)
    for char in text:
        base = unicodedata.normalize("NFD", char)[0]
        if base.isascii():
            char = base  # noqa: PLW2901 - é is e here
        mark = unicodedata.category(char)[0] == "M"
        if char.isalnum() or (mark and word and not word[-1].isascii()):
            word.append(char)
        elif word and not mark and char not in "'’":
            words.append("".join(word))
            word = []
    if word:
        words.append("".join(word))
    result = ""
    for part in words:
        longer = unicodedata.normalize("NFC", f"{result}-{part}" if result else part)
        if not _fits(longer):
            break
        result = longer
    if not result and words:  # a first word that is too long by itself, as in scripts without spaces
        result = unicodedata.normalize("NFC", words[0])[:MAX_SLUG_CHARACTERS]
        while not _fits(result):
            result = result[:-1]
    return result or "untitled"


def _fits(text: str) -> bool:
    return len(text) <= MAX_SLUG_CHARACTERS and len(text.encode("utf-8", "surrogatepass")) <= MAX_SLUG_BYTES


def memory_path(folder: str, created: datetime, title: str, id: str) -> str:
    """Where a new memory goes: `<folder>/<yyyy>/<mm>/<slug>-<id tail>.md`, POSIX, within the memory repo.

    Args:
        folder: the type's folder.
        created: timezone-aware; year and month are taken in UTC.
        title: any text.
        id: its ULID; the last eight characters, lower-case, keep names apart.
    """
    moment = created.astimezone(UTC)
    return f"{folder}/{moment.year:04d}/{moment.month:02d}/{slug(title)}-{id[-8:].lower()}.md"


def check_repo_path(root: Path, relative: str) -> Path:
    """The absolute path of `relative`, proved to be inside the memory repo.

    Every component below `root` that exists is looked at without following it. The file itself need not exist.

    Args:
        root: the memory repo; may itself be reached through a link.
        relative: POSIX path such as `notes/2026/11/a-title-ab12cd34.md`.

    Raises:
        UnsafePath: absolute, empty or not normalised (`..`, `.`, `//`), a backslash, control character or drive, a
            name longer than 255 bytes, anything that a file system could take for `.git`, or a symbolic link (on
            Windows any reparse point) on the way or at the end.
    """
    problem = _problem(relative)
    if problem:
        raise _unsafe(relative, problem)
    current = root
    for part in relative.split("/"):
        current /= part
        try:
            found = os.lstat(current)
        except (FileNotFoundError, NotADirectoryError):
            break
        except (OSError, ValueError) as error:
            raise _unsafe(relative, f"it cannot be looked at ({error})") from None
        if stat.S_ISLNK(found.st_mode) or getattr(found, "st_file_attributes", 0) & _REPARSE_POINT:
            raise _unsafe(relative, f"{part!r} is a symbolic link")
    return root / relative


def _unsafe(relative: str, problem: str) -> UnsafePath:
    return UnsafePath(
        f"{relative[:300]!r} is not a safe path in the memory repo: {problem}",
        hint="Use a relative path such as 'notes/2026/11/a-title.md', without '..' and links.",
        path=relative[:300],
    )


def _problem(relative: str) -> str:
    if not relative:
        return "it is empty"
    if _CONTROLS.search(relative):
        return "it holds a control character"
    if "\\" in relative:
        return "it holds a backslash"
    if relative.startswith("/") or _DRIVE.match(relative):
        return "it is absolute"
    for part in relative.split("/"):
        if part in ("", ".", ".."):
            return "it holds an empty, '.' or '..' component"
        try:
            size = len(part.encode())
        except UnicodeEncodeError:
            return "it is not valid Unicode"
        if size > _MAX_NAME_BYTES:
            return f"a name has {size} bytes, more than {_MAX_NAME_BYTES}"
        if is_git_name(part):
            return f"{part!r} is reserved for git"
    return ""


def plain_name(name: str) -> str:
    """A name as the most careless file system takes it: without case, HFS+'s ignored characters, NTFS's streams, and
    trailing dots and spaces.
    """
    return _IGNORED_BY_HFS.sub("", unicodedata.normalize("NFKC", name)).split(":", 1)[0].rstrip(". ").casefold()


def is_git_name(name: str) -> bool:
    """Whether a file system could take `name` for `.git`: any case, HFS+'s ignored characters, NTFS's short names,
    trailing dots and spaces, and streams (`.git::$INDEX_ALLOCATION`).
    """
    plain = plain_name(name)
    return plain == ".git" or re.fullmatch(r"git~[0-9]+", plain) is not None


def is_portable_name(name: str) -> bool:
    """Whether Windows can have a file of this name, too: no device's (`CON`, `NUL.md`), no stream, and no short name
    that it gives to git's own files.
    """
    plain = _IGNORED_BY_HFS.sub("", name)
    device = plain.split(".", 1)[0].rstrip(" ").upper()
    return not (
        _DEVICE.fullmatch(device) or name[-1:] in (".", " ") or ":" in name or _SHORT_NAME.fullmatch(plain.casefold())
    )
