"""What a client's session was about, read from outside: what its hook passes, and the transcript that it names.

The transcripts are the clients' own, in forms that no one promises: what is not known is passed over, and a file that
is damaged, cut off, huge or hostile yields what can be read of it in bounded time.
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal, cast

from adaptive_llm_gateway.core import InvalidInput, NotFound, StorageError
from adaptive_llm_gateway.handoff._transcript_lines import Reading, clean, kept_of, read_claude_line, read_codex_line

TranscriptClient = Literal["claude-code", "codex"]
Author = Literal["user", "agent", "summary"]

MOST_HOOK_BYTES: Final = 1024 * 1024
MOST_ENTRIES: Final = 2_000
MOST_FILES: Final = 500
MOST_PATH: Final = 4_096
"""Characters that are kept of a path."""
_HEAD_BYTES: Final = 256 * 1024
_MOST_LOOKED: Final = 2_000

_SESSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,199}")
_CODEX_LINES: Final = frozenset({"session_meta", "turn_context", "response_item", "event_msg", "compacted"})


@dataclass(frozen=True, slots=True)
class HookInput:
    """What a client passed to the hook that it ran; None for what it did not say, or said in a way that cannot be.

    Attributes:
        client: which program it is, as far as its words tell.
        event: `PreCompact`, `SessionEnd`, `Stop`, `SessionStart`, ...; `agent-turn-complete` from Codex's `notify`.
        problem: why nothing could be read; None when something was, or there was nothing.
    """

    client: TranscriptClient | None = None
    session_id: str | None = None
    transcript_path: Path | None = None
    cwd: Path | None = None
    event: str | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class TranscriptEntry:
    """Something that was said in a session.

    Attributes:
        author: `user` for a real request, `agent` for what it answered, `summary` for what a compaction left.
    """

    time: datetime | None
    author: Author
    text: str


@dataclass(frozen=True, slots=True)
class Todo:
    """One item of the agent's own list."""

    text: str
    state: Literal["open", "doing", "done"]


@dataclass(frozen=True, slots=True)
class Transcript:
    """What could be read of a session.

    Attributes:
        session: the client's id of it.
        cwd: where it worked last.
        project: a guess: the name of that folder.
        entries: in order; at most the last 2,000.
        files: what its edit tools changed, each once, the last changed last; absolute, or as the client names them.
        todos: the list as it stood at the end.
        cut: there is more before what was read.
    """

    client: TranscriptClient | None
    session: str | None = None
    cwd: str | None = None
    project: str | None = None
    entries: tuple[TranscriptEntry, ...] = ()
    files: tuple[str, ...] = ()
    todos: tuple[Todo, ...] = ()
    cut: bool = False


def read_hook(data: bytes) -> HookInput:
    """What a client passes to its hook on stdin, or to Codex's `notify` program as its argument. It never raises.

    Of Claude Code and Codex, which name things alike in hooks: `session_id`, `transcript_path`, `cwd` and
    `hook_event_name`.
    """
    if not data.strip():
        return HookInput()
    if len(data) > MOST_HOOK_BYTES:
        return HookInput(problem=f"what the hook passed has more than {MOST_HOOK_BYTES:,} bytes")
    found = parse_object(data)
    if found is None:
        return HookInput(problem="what the hook passed is no JSON object")
    if found.get("type") == "agent-turn-complete" or "thread-id" in found:
        return HookInput(
            client="codex",
            session_id=_session(found.get("thread-id")),
            cwd=_path(found.get("cwd")),
            event=_word(found.get("type")),
        )
    path = _path(found.get("transcript_path"))
    return HookInput(
        client=_client(found, path),
        session_id=_session(found.get("session_id")),
        transcript_path=path,
        cwd=_path(found.get("cwd")),
        event=_word(found.get("hook_event_name")),
    )


def _client(found: dict[str, Any], path: Path | None) -> TranscriptClient | None:
    if path is not None:
        known: TranscriptClient = "codex" if path.name.startswith("rollout-") else "claude-code"
        return known if path.suffix == ".jsonl" else None
    if "turn_id" in found:
        return "codex"
    return "claude-code" if _word(found.get("hook_event_name")) else None


def _word(value: object) -> str | None:
    return value if isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9_-]{1,100}", value) else None


def _session(value: object) -> str | None:
    return value if isinstance(value, str) and _SESSION.fullmatch(value) else None


def _path(value: object) -> Path | None:
    if not isinstance(value, str) or not 0 < len(value) <= 4096 or "\0" in value:
        return None
    path = Path(value)
    return path if path.is_absolute() else None


def parse_object(data: bytes) -> dict[str, Any] | None:
    """The JSON object in `data`; None when it holds anything else."""
    try:
        found: object = json.loads(data.decode("utf-8", "replace"))
    except (ValueError, RecursionError, MemoryError):
        return None
    return cast("dict[str, Any]", found) if isinstance(found, dict) else None


def find_rollout(home: str | Path, session_id: str, *, until: float = math.inf) -> Path | None:
    """Codex's transcript of a session in its home, newest days first; None where there is none.

    Codex's `notify` names a session, and not its file.

    Args:
        until: when to give up, by the monotonic clock. No more than 2,000 entries are looked at in any case.
    """
    if not _SESSION.fullmatch(session_id):
        return None
    looked = 0

    def newest(folder: Path | str) -> Iterator[str]:
        nonlocal looked
        for path in _newest(folder, until):
            looked += 1
            if looked > _MOST_LOOKED or time.monotonic() >= until:
                return
            yield path

    years = newest(Path(home, "sessions"))
    files = (Path(file) for year in years for month in newest(year) for day in newest(month) for file in newest(day))
    ending = f"-{session_id}.jsonl"
    return next((file for file in files if file.name.startswith("rollout-") and file.name.endswith(ending)), None)


def _newest(folder: Path | str, until: float) -> list[str]:
    """The paths in a folder, the last by name first; none where they cannot be had in time."""
    paths: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if time.monotonic() >= until:
                    return []
                paths.append(entry.path)
    except OSError:
        return []
    return sorted(paths, reverse=True)


def read_transcript(path: Path, *, most_bytes: int = 4 * 1024 * 1024) -> Transcript:
    """What a client wrote down of a session: Claude Code's `<session>.jsonl` or Codex's `rollout-*.jsonl`.

    Args:
        path: absolute path of a regular file; no link is followed.
        most_bytes: read from its end; what is before is left out.

    Raises:
        NotFound: there is no such file.
        InvalidInput: it is no regular file, or `path` is not absolute.
        StorageError: it cannot be read.
    """
    head, tail, cut = _read_ends(path, most_bytes)
    reading = Reading()
    kind: TranscriptClient | None = None
    for data, whole in ((head, False), (tail, True)):
        for line in data.split(b"\n"):
            found = parse_object(line) if line.startswith(b"{") else None
            if found is None:
                continue
            said = str(found.get("type"))[:40]
            if said in _CODEX_LINES and "payload" in found:
                kind = kind or "codex"
                if kind == "codex" and (whole or said == "session_meta"):
                    read_codex_line(reading, found)
            elif whole and ("sessionId" in found or "uuid" in found or "leafUuid" in found):
                kind = kind or "claude-code"
                if kind == "claude-code":
                    read_claude_line(reading, found)
    reading.finish()
    entries = [
        TranscriptEntry(_moment(said), cast("Author", author), text)
        for said, author, text in reading.said()[-MOST_ENTRIES:]
    ]
    cwd = clean(reading.cwd)[:MOST_PATH] if reading.cwd else None
    return Transcript(
        client=kind,
        session=_session(reading.session),
        cwd=cwd,
        project=_project(cwd),
        entries=tuple(entries),
        files=tuple(clean(file)[:MOST_PATH] for file in list(reading.files)[-MOST_FILES:]),
        todos=tuple(_todos(reading.todos.values())),
        cut=cut or len(reading.said()) > MOST_ENTRIES,
    )


def _todos(items: Iterable[tuple[str, str]]) -> Iterable[Todo]:
    for text, status in list(items)[:200]:
        state = "done" if status in ("completed", "done") else "doing" if status == "in_progress" else "open"
        if shown := kept_of(" ".join(clean(text).split())):
            yield Todo(shown, state)


def _read_ends(path: Path, most_bytes: int) -> tuple[bytes, bytes, bool]:
    """The beginning (empty when the end holds it), the last `most_bytes`, and whether something lies before those."""
    if not path.is_absolute() or "\0" in str(path):
        raise InvalidInput(f"{str(path)!r} is no absolute path", hint="Give the transcript's path from the root on.")
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise InvalidInput(f"{str(path)!r} is no regular file", hint="Give the file that the client writes.")
        with os.fdopen(os.open(path, flags | getattr(os, "O_CLOEXEC", 0)), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):  # it was one a moment ago
                raise InvalidInput(f"{str(path)!r} is no regular file", hint="Give the file that the client writes.")
            begin = max(status.st_size - most_bytes, 0)
            head = file.read(min(_HEAD_BYTES, begin))
            file.seek(begin)
            tail = file.read(most_bytes)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound(f"There is no transcript {str(path)!r}", hint="Give the file that the client writes.") from error
    except OSError as error:
        raise StorageError(f"The transcript {str(path)!r} cannot be read: {error.strerror}") from error
    return head, tail, begin > 0


def _moment(said: object) -> datetime | None:
    if not isinstance(said, str) or len(said) > 40:
        return None
    try:
        moment = datetime.fromisoformat(said)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None


def _project(cwd: str | None) -> str | None:
    parts = [part for part in re.split(r"[/\\]", cwd or "") if part and not part.endswith(":")]
    if parts[:1] in (["home"], ["Users"]):
        parts = parts[2:]  # somebody's home is no project
    return parts[-1] if parts and parts != ["root"] and len(parts[-1]) <= 100 else None
