"""Summaries of files: what may be read, read safely, without secrets, in a budget of tokens."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptive_llm_gateway.server._allowed_files import Found, Limits, Unread, Walk, files_at, place_of

if TYPE_CHECKING:
    from adaptive_llm_gateway.compression import Outline, Summary, SummaryFile, TokenCounter
    from adaptive_llm_gateway.core import Redaction, SecretScanner

Json = dict[str, Any]

_CACHE_BYTES = 32 * 1024 * 1024  # of what is known of files, about
_LISTED = 200  # of what was not read, and of what was left out, in the answer's JSON
_BROKEN = 0.05  # of a text's characters, how many may be no UTF-8
_LOOKED = 8_192  # bytes in which a binary file has a NUL
_MARGIN = 2  # tokens that two texts may have more together than apart
_UNNAMED = "(a name that looks like a secret)"


@dataclass(frozen=True, slots=True)
class PathRequest:
    """What a summary is asked for.

    Attributes:
        path: absolute; of a file or a folder.
        query: may be empty.
        budget: tokens, all of the answer.
    """

    path: str
    query: str
    budget: int


@dataclass(frozen=True, slots=True)
class _Facts:
    """What is known of a content; of one that may not be given out, why.

    Attributes:
        grammar: false when there would be an outline if the grammar were installed.
    """

    reason: str | None = None
    text: str = ""
    lines: int = 0
    length: int = 0
    outline: Outline | None = None
    names: frozenset[str] = frozenset()
    secrets: int = 0
    grammar: bool = True

    @property
    def size(self) -> int:
        """Bytes in memory, about."""
        definitions = len(self.outline.definitions) if self.outline is not None else 0
        return 500 + 2 * len(self.text) + 600 * definitions + 60 * len(self.names)


class Summaries:
    """Makes summaries of what lies below the roots, and keeps what it learnt of each content. Safe between threads.

    Args:
        roots: nothing but these and what lies below them is read.
        private: folders that are not read, whatever the roots are.
        mark_key: with which the marks in the place of secrets are made.
    """

    def __init__(
        self,
        roots: Sequence[Path] = (),
        *,
        private: Sequence[Path] = (),
        limits: Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
        mark_key: bytes | None = None,
    ) -> None:
        self._mark_key = mark_key
        self._roots = tuple(roots)
        self._private = tuple(private)
        self._limits = limits or Limits()
        self._clock = clock
        self._known = _Cache(_CACHE_BYTES)

    def build(self, request: PathRequest, *, counter: TokenCounter) -> Json:
        """The summary of a path, as JSON; `text` is the whole answer, and no longer than the budget.

        Raises:
            ConfigError: no folder may be read.
            InvalidInput, UnsafePath: the path may not be read, or the budget holds no summary.
            NotFound, StorageError: it is not there, or cannot be read.
        """
        from adaptive_llm_gateway.compression import Skipped, summarise_files  # noqa: PLC0415 - brings numpy along

        place = place_of(request.path, self._roots)
        walk = Walk()
        self._known.begin()
        files: list[SummaryFile] = []
        skipped: list[Skipped] = []
        secrets = 0
        without: set[str] = set()
        held = 0
        reading = files_at(place, walk, limits=self._limits, clock=self._clock, private=self._private)
        with contextlib.closing(reading):
            for found in reading:
                path = found.path if not self._scanner.scan(found.path) else _UNNAMED
                if isinstance(found, Unread) or path == _UNNAMED:
                    skipped.append(Skipped(path, found.reason if isinstance(found, Unread) else "not given out"))
                    continue
                language, data = _kind_of(path, folder=walk.folder)
                facts = self._facts(found, language, data=data)
                if facts.reason is not None:
                    skipped.append(Skipped(path, facts.reason))
                    continue
                secrets += facts.secrets
                if not facts.grammar and language:
                    without.add(language)
                files.append(_file(path, facts, language, data=data))
                held += facts.size
                if held > self._limits.held:
                    walk.stopped = f"more than {self._limits.held:,} bytes of outlines and text"
                    break
        notices = _notices(walk, secrets, without)
        told = "".join(f"\nnotice: {notice}" for notice in notices)
        room = counter.count(told) + _MARGIN if told else 0
        if room * 8 > request.budget:  # what the files say comes before what is said of them
            told, room = "", 0
        summary = summarise_files(
            request.query,
            files,
            request.budget - room,
            counter=counter,
            root=self._shown(place.path),
            skipped=skipped,
            handle=lambda path: f"memory_summarize_path({self._inner(place.path, path, folder=walk.folder)!r})",
        )
        text, used = summary.text, summary.used
        if told and (together := counter.count(text + told)) <= request.budget:
            text, used = text + told, together
        return {
            "path": place.path,
            "query": request.query,
            "text": text,
            **_summary_json(replace(summary, budget=request.budget, used=used)),
            "hidden": walk.hidden,
            "ignored": walk.ignored,
            "secrets": secrets,
            "stopped": walk.stopped,
            "notices": notices,
        }

    @cached_property
    def _scanner(self) -> SecretScanner:
        from adaptive_llm_gateway.core import SecretScanner  # noqa: PLC0415 - after the hub listens

        return SecretScanner(mark_key=self._mark_key)

    def _shown(self, path: str) -> str:
        return path if not self._scanner.scan(path) else _UNNAMED

    def _inner(self, place: str, path: str, *, folder: bool) -> str:
        return os.path.join(place, path) if folder else place  # noqa: PTH118 - names may be no valid Unicode

    def _facts(self, found: Found, language: str | None, *, data: bool) -> _Facts:
        from adaptive_llm_gateway.compression import OUTLINE_FORMAT, has_grammar  # noqa: PLC0415 - as above

        grammar = language is None or has_grammar(language)
        kind = f"{OUTLINE_FORMAT} {language} {data} {grammar}\0".encode()
        key = hashlib.sha256(kind + found.data).digest()
        facts = self._known.get(key)
        if facts is None:
            facts = self._read(found.data, language if grammar else None, data=data)
            if not grammar and facts.reason is None:
                facts = replace(facts, grammar=False)
            self._known.put(key, facts)
        return facts

    def _read(self, content: bytes, language: str | None, *, data: bool) -> _Facts:
        """What a content says, with marks for the secrets in it, which leave every line where it is."""
        from adaptive_llm_gateway.compression import (  # noqa: PLC0415 - as above
            LONGEST_SOURCE,
            READ,
            cleaned,
            names_of_text,
            outline_of,
        )

        if b"\0" in content[:_LOOKED]:
            return _Facts("binary")
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = content.decode("utf-8", "replace")
            if text.count("\ufffd") > _BROKEN * len(text):
                return _Facts("no UTF-8 text")
        text = cleaned(text)
        lines = text.count("\n") + (not text.endswith("\n") and bool(text))
        if data:
            return _Facts(lines=lines, length=len(text))
        done: tuple[Redaction, ...] = ()
        if self._scanner.scan(text):
            text, done = self._scanner.redact(text)
        if language is not None and len(text.encode("utf-8", "replace")) <= LONGEST_SOURCE:
            outline = outline_of(text, language)
            return _Facts(None, "", lines, len(text), outline, outline.names, len(done))
        return _Facts(None, text[: READ + 1], lines, len(text), None, names_of_text(text), len(done))


def _kind_of(path: str, *, folder: bool) -> tuple[str | None, bool]:
    """(language, whether it is data that is only named); a file that was asked for is always read."""
    from adaptive_llm_gateway.compression import is_data, language_of  # noqa: PLC0415 - as above

    data = folder and is_data(path)
    return None if data else language_of(path), data


def _file(path: str, facts: _Facts, language: str | None, *, data: bool) -> SummaryFile:
    from adaptive_llm_gateway.compression import SummaryFile  # noqa: PLC0415 - as above

    return SummaryFile(path, facts.text, facts.lines, facts.length, facts.outline, facts.names, language, data)


def _notices(walk: Walk, secrets: int, without: set[str]) -> list[str]:
    notices: list[str] = []
    if walk.stopped:
        notices.append(f"not all was read: {walk.stopped}; ask for a folder in it")
    if secrets:
        notices.append(f"{secrets:,} {'secret was' if secrets == 1 else 'secrets were'} replaced by marks")
    if without:
        names = ", ".join(sorted(without))
        notices.append(f"extracts instead of outlines of {names}: adaptive-llm-gateway[code] is not installed")
    return notices


def _summary_json(summary: Summary) -> Json:
    return {
        "budget": summary.budget,
        "used": summary.used,
        "counter": summary.counter,
        "exact": summary.exact,
        "files": summary.files,
        "file_tokens": summary.file_tokens,
        "stats": summary.stats,
        "sources": [asdict(source) for source in summary.sources],
        "left_out": [asdict(item) for item in summary.left_out[:_LISTED]],
        "not_read": [asdict(item) for item in summary.skipped[:_LISTED]],
        "not_read_count": len(summary.skipped),
    }


class _Cache:
    """What is known of contents, by their hash. What was used longest ago goes first, but nothing that was used since
    `begin`: a folder that is too large for the cache must not push itself out, file by file.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._size = 0
        self._round = 0
        self._kept: OrderedDict[bytes, tuple[int, _Facts]] = OrderedDict()
        self._lock = threading.Lock()

    def begin(self) -> None:
        """A summary begins."""
        with self._lock:
            self._round += 1

    def get(self, key: bytes) -> _Facts | None:
        with self._lock:
            found = self._kept.pop(key, None)
            if found is None:
                return None
            self._kept[key] = (self._round, found[1])
            return found[1]

    def put(self, key: bytes, facts: _Facts) -> None:
        with self._lock:
            while self._size + facts.size > self._most and self._kept:
                oldest = next(iter(self._kept))
                if self._kept[oldest][0] == self._round:
                    return
                self._size -= self._kept.pop(oldest)[1].size
            if key not in self._kept and self._size + facts.size <= self._most:
                self._kept[key] = (self._round, facts)
                self._size += facts.size
