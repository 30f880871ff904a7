"""A second scanner for `alg secrets scan --second-opinion`: kingfisher, where it is installed.

It runs on files alone and beside our own scanner, never as a gate: it takes seconds. It prints what it finds in the
clear, so its output is read from a pipe, masked at once and written nowhere; it may not ask the network whether a
credential is valid.
"""

from __future__ import annotations

import bisect
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, cast

from adaptive_llm_gateway.core import DeferredInterrupt, Finding, NotFound, SecretScanner, Unavailable

NAME: Final = "kingfisher"
_INSTALL: Final = "pip install 'adaptive-llm-gateway[kingfisher]'"
_SECONDS: Final = 300.0
_MOST_OUTPUT: Final = 64 * 1024 * 1024  # bytes
_ENDED_WELL: Final = (0, 200, 205)  # nothing found, found, found and valid
_FLAGS: Final = (
    *("--no-validate", "--no-update-check", "--quiet"),
    *("--format", "json", "--no-dedup", "--no-ignore"),
    *("--git-history", "none", "--no-extract-archives", "--no-binary"),
)
_KEPT: Final = frozenset({"HOME", "LANG", "LC_ALL", "PATH", "SYSTEMROOT", "XDG_CACHE_HOME", "KF_RULE_CACHE_DIR"})
_NO_KIND: Final = re.compile(r"[^a-z0-9.]+")
_LONGEST_KIND: Final = 60
_LINE_END: Final = re.compile("\n")


@dataclass(frozen=True, slots=True)
class _Told:
    """One finding as it was told: where, what, and the thing itself, which goes no further than `merge`."""

    path: str
    line: int
    column: int
    kind: str
    secret: str


def program() -> str:
    """Where kingfisher is.

    Raises:
        Unavailable: it is not installed.
    """
    beside = shutil.which(NAME, path=str(Path(sys.executable).parent))
    found = beside or shutil.which(NAME)
    if found is None:
        raise Unavailable(
            f"there is no second opinion: {NAME} is not installed",
            hint=f"Install it with `{_INSTALL}`, or scan without --second-opinion.",
        )
    return found


def second_opinion(
    paths: Sequence[Path], *, at: str | None = None, seconds: float = _SECONDS, most: int = _MOST_OUTPUT
) -> SecondOpinion:
    """What kingfisher finds below these paths.

    Args:
        at: where the program is, if not where `program` finds it.
        seconds: it is ended when it takes longer.
        most: bytes of output that are read.

    Raises:
        NotFound: one of the paths does not exist.
        Unavailable: it is not installed, took too long, failed, or said what cannot be read.
    """
    for path in paths:
        if not os.path.lexists(path):
            raise NotFound(f"there is no {str(path)!r}", hint="Name a file or a folder.", path=str(path))
    asked = {os.path.realpath(path): path for path in paths}
    with tempfile.TemporaryDirectory(prefix="alg-kingfisher-", ignore_cleanup_errors=True) as folder:
        command = [at or program(), "scan", *_FLAGS, "--", *asked]
        environment = {name: value for name, value in os.environ.items() if name in _KEPT}
        environment |= {"TMPDIR": folder, "TMP": folder, "TEMP": folder}
        code, output = _run(command, folder, environment, seconds, most)
    if code not in _ENDED_WELL:
        raise Unavailable(
            f"there is no second opinion: {NAME} ended with exit code {code}",
            hint="Scan without --second-opinion, or see whether it runs by itself.",
        )
    return SecondOpinion(asked, tuple(_parsed(output)))


class SecondOpinion:
    """What was found by file, for whoever scans the same files."""

    def __init__(self, asked: Mapping[str, Path], told: Sequence[_Told]) -> None:
        self._by_path: dict[str, list[_Told]] = {}
        for each in told:
            self._by_path.setdefault(_shown(each.path, asked), []).append(each)

    def merge(self, path: str, text: str, scanner: SecretScanner) -> Iterator[tuple[Finding, str | None]]:
        """Findings in order, ours with what the other takes them for, and those that only the other has.

        Args:
            path: as our scan calls the file.
        """
        lines = [0, *(found.end() for found in _LINE_END.finditer(text))]
        others = [(*_place(text, lines, each), each.kind) for each in self._by_path.get(path, ())]
        others.sort(key=lambda each: (each[0], -each[1], each[2]))
        ours = scanner.with_allowed(()).spans(text)  # what is allowed here is not to come back under another name
        starts = [span.start for span in ours]
        also: dict[int, str] = {}
        alone: list[tuple[int, int, str]] = []
        for start, end, kind in others:
            # Ours do not overlap, so that those which this one touches lie side by side.
            at = bisect.bisect_left(starts, end) - 1
            if at < 0 or ours[at].end <= start:
                if not alone or alone[-1][1] <= start:  # else two of its rules name one place
                    alone.append((start, end, kind))
                continue
            while at >= 0 and ours[at].end > start:
                also.setdefault(at, kind)
                at -= 1
        passed = {(span.start, span.finding) for span in scanner.spans(text)}
        found: list[tuple[int, Finding, str | None]] = [
            (span.start, span.finding, also.get(at))
            for at, span in enumerate(ours)
            if (span.start, span.finding) in passed
        ]
        for start, end, kind in alone:
            finding = scanner.told(text, start, end, kind=kind)
            if finding is not None:
                found.append((start, finding, kind))
        for _, finding, other in sorted(found, key=lambda each: each[0]):
            yield finding, other


def _run(command: list[str], folder: str, environment: dict[str, str], seconds: float, most: int) -> tuple[int, bytes]:
    """The exit code and what it printed; nothing of what it says about its work is read."""
    late = threading.Event()

    def end_it() -> None:
        late.set()
        _kill(process)

    timer = threading.Timer(seconds, end_it)
    with DeferredInterrupt() as interrupt:
        try:
            process = subprocess.Popen(
                command,
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # what it starts ends with it
            )
        except OSError as error:
            raise Unavailable(f"there is no second opinion: {NAME} does not start: {error.strerror}") from error
        timer.start()
        try:
            interrupt.end()
            assert process.stdout is not None  # noqa: S101 - a pipe was asked for
            output = _read(process.stdout, most)
            if len(output) > most:
                raise Unavailable(
                    f"there is no second opinion: {NAME} printed more than {most:,} bytes", hint="Name fewer files."
                )
            code = process.wait()
        finally:
            timer.cancel()
            _kill(process)
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
    if late.is_set():
        raise Unavailable(
            f"there is no second opinion: {NAME} took longer than {seconds:g} s", hint="Name fewer files."
        )
    return code, output


def _read(stream: IO[bytes], most: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while size <= most and (part := stream.read(1 << 16)):
        parts.append(part)
        size += len(part)
    return b"".join(parts)


def _kill(process: subprocess.Popen[bytes]) -> None:
    if sys.platform == "win32":
        process.kill()
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _parsed(output: bytes) -> Iterator[_Told]:
    """The findings of its report. An error says nothing of what stands in it.

    Raises:
        Unavailable: it is no report that can be read.
    """
    unreadable = Unavailable(
        f"there is no second opinion: {NAME} printed what is no report that can be read",
        hint="Its version may be another than the one that was tried (2.14).",
    )
    try:
        report: Any = json.loads(output.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        report = None  # the error would have the text in it
    listed: Any = cast("dict[str, Any]", report).get("findings") if isinstance(report, dict) else None
    if not isinstance(listed, list):
        raise unreadable
    for item in cast("list[Any]", listed):
        told = _told(item)
        if told is None:
            raise unreadable
        yield told


def _told(item: Any) -> _Told | None:
    match item:
        case {
            "rule": {"id": str(rule)},
            "finding": {"snippet": str(secret), "path": str(path), "line": int(line)} as finding,
        }:
            column: Any = cast("dict[str, Any]", finding).get("column_start")
            name = _NO_KIND.sub("-", rule.lower().rpartition(".")[2])[:_LONGEST_KIND].strip("-")
            return _Told(path, line, column if isinstance(column, int) else 1, f"{NAME}:{name or 'secret'}", secret)
        case _:
            return None


def _shown(path: str, asked: Mapping[str, Path]) -> str:
    """A path as the scan calls it that was asked for this one, or for a folder above it."""
    real = os.path.realpath(path)
    if real in asked:
        return str(asked[real])
    for above, given in asked.items():
        if real.startswith(above.rstrip(os.sep) + os.sep):
            return str(given / os.path.relpath(real, above))
    return path


def _place(text: str, lines: Sequence[int], told: _Told) -> tuple[int, int]:
    """Where in the text it is: the thing itself from that line on, else (it was decoded) the whole line.

    Args:
        lines: where each line begins.
    """
    number = min(max(told.line, 1), len(lines))
    start = lines[number - 1]
    end = lines[number] - 1 if number < len(lines) else len(text)
    if told.secret:
        last = end + len(told.secret)  # it may go on in the next lines
        near = start + max(0, told.column - 1 - len(told.secret))  # the second of two on a line; columns count bytes
        for begin in (near, start):
            at = text.find(told.secret, begin, last)
            if at >= 0:
                return at, at + len(told.secret)
    whole = text[start:end]
    return start + len(whole) - len(whole.lstrip()), max(end - (len(whole) - len(whole.rstrip())), start)
