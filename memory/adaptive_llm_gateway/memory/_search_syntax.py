"""Read what a person asks out of the one string of a query: filters, what is not wanted, times, words. Pure.

What is not certainly an operator stays a word to search for: a name before a colon that is not one of ours, a type that
does not exist, a value that is no time, a flag (`-m`, `--all`), code, a path, a URL, an emoticon. Operators are read
from one line of at most `MAX_ASKED` characters; what is longer was pasted, and is words throughout. Nothing here fails.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from types import MappingProxyType
from typing import Any, Literal

from adaptive_llm_gateway.memory._query import STOP_WORDS, phrase_of, words_of
from adaptive_llm_gateway.memory._time_words import both, bounded, find_times, read_time
from adaptive_llm_gateway.memory._values import Exclusions, Filters, TimeRange

Relation = Literal["since", "after", "before", "until"]

MAX_ASKED = 1_000  # characters
_MAX_OPERATORS = 32
_RELATIONS: dict[str, Relation] = {"since": "since", "after": "after", "before": "before", "until": "until"}

_TAIL = r"(?=[\s,;.!?)]|$)"
_IN_QUOTES = r'["“”„«]([^"“”„«»]{1,400})["“”»]'
_OPERATOR = re.compile(rf'(-?)([A-Za-z]{{2,10}}):(?:{_IN_QUOTES}{_TAIL}|([^\s"“”„«»]+)(?!\S))')
_NOT_PHRASE = re.compile(rf"-{_IN_QUOTES}{_TAIL}")
_NOT_WORD = re.compile(rf"-([^\W\d_][\w'’-]*){_TAIL}")
_PHRASE = re.compile(_IN_QUOTES)
_SPECIAL = re.compile(r'[:"“”„«]|(?<!\S)-')
_COMMAS = re.compile(r"[,;]+(?=\s|$)|")
_QUOTES = '"“”„«'
_RUN = re.compile(r'\s+|[^\s"“”„«]+')
_VOWEL = re.compile(r"[aeiouyAEIOUY]|[^\x00-\x7f]")
_ID = re.compile(r"[0-9A-HJKMNP-TV-Z]{6,26}", re.IGNORECASE)
_NAME = re.compile(r"[\w#@.][^,:]*")
_PLAIN = re.compile(r"[\w][\w.,/-]*")

# Programs whose options are words behind one dash (`gcc -shared`): beside one of these names a dash is no negation.
_PROGRAMS = frozenset(
    ["adb", "clang", "ffmpeg", "gcc", "javac", "ld", "ls", "mvn", "openssl", "pwsh", "rm", "rustc", "tar", "xcodebuild"]
)

# An event in a sentence ("before the release"): a few words, up to one that cannot be part of its name.
_EVENT = re.compile(
    r"\b(since|after|before|until)\s+(?:the|our|my|that|this|last|first)\s+((?:[^\W\d_][\w.-]*)(?:\s+[\w.-]+){0,3})",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Event:
    """A time named by what happened then; whoever searches finds the memory of it.

    Attributes:
        binding: an operator asked for it (`before:"the release"`), so it filters; else it is a preference.
    """

    relation: Relation
    text: str
    binding: bool


@dataclass(frozen=True, slots=True)
class Reading:
    """How a query was read.

    Attributes:
        text: what is left to be searched: words and quoted phrases.
        filters: what operators demand, beside what explicit arguments do. Several types, projects or authors: any of
            them; several tags: all.
        id_parts: beginnings or ends of ids, of which a memory must have one (`id:`).
        events: times yet to be found.
        preferred: the time that the sentence speaks of (`last week`); a preference, not a filter.
        operators: each operator as it was written.
        notices: what looked like an operator and was searched as words.
    """

    text: str
    filters: Filters = field(default_factory=Filters)
    id_parts: tuple[str, ...] = ()
    events: tuple[Event, ...] = ()
    preferred: TimeRange | None = None
    operators: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()


@dataclass(slots=True)
class _Names:
    """The names that operators gave, wanted ones or unwanted ones."""

    types: list[str] = field(default_factory=list[str])
    tags: list[str] = field(default_factory=list[str])
    projects: list[str] = field(default_factory=list[str])
    authors: list[str] = field(default_factory=list[str])
    ids: list[str] = field(default_factory=list[str])


class _Reader:
    """Takes one query apart, from left to right."""

    def __init__(
        self, now: datetime, zone: tzinfo, types: Collection[str], values: Mapping[str, Collection[str]]
    ) -> None:
        self._now = now
        self._zone = zone
        self._types = {name.lower(): name for name in types}
        self._values = values
        self._wanted = _Names()
        self._unwanted = _Names()
        self._without: list[str] = []
        self._fields: dict[str, str] = {}
        self._range = TimeRange(None, None)
        self._events: list[Event] = []
        self._operators: list[str] = []
        self._notices: list[str] = []

    def read(self, text: str) -> Reading:
        kept: list[str] = []
        programs = not _PROGRAMS.isdisjoint(words_of(text))
        at = 0
        if not _SPECIAL.search(text):
            kept, at = [text], len(text)
        begins = True  # a word begins here
        while at < len(text):
            asked = begins and len(self._operators) < _MAX_OPERATORS
            end = self._operator(text, at) or self._negation(text, at, programs) if asked else None
            if end is not None:
                self._operators.append(text[at:end])
                commas = _COMMAS.match(text, end)
                at = commas.end() if commas else end
                continue
            if phrase := _PHRASE.match(text, at):
                kept.append(phrase[0])
                at = phrase.end()
                begins = True
            elif text[at] in _QUOTES:  # never closed, so nobody knows where the phrase ends
                kept.append(text[at:])
                break
            else:
                run = _RUN.match(text, at)
                part = run[0] if run else text[at]
                kept.append(part)
                at += len(part)
                begins = part.isspace()
        left = " ".join("".join(kept).split()) if self._operators else "".join(kept)
        preferred, events = self._spoken(left)
        return Reading(
            left,
            Filters(
                types=tuple(dict.fromkeys(self._wanted.types)),
                tags=tuple(dict.fromkeys(self._wanted.tags)),
                project=tuple(dict.fromkeys(self._wanted.projects)) or None,
                author=tuple(dict.fromkeys(self._wanted.authors)) or None,
                since=self._range.since,
                until=self._range.until,
                fields=dict[str, Any](self._fields),
                without=Exclusions(
                    types=tuple(self._unwanted.types),
                    tags=tuple(self._unwanted.tags),
                    projects=tuple(self._unwanted.projects),
                    authors=tuple(self._unwanted.authors),
                    ids=tuple(self._unwanted.ids),
                    words=tuple(self._without),
                ),
            ),
            tuple(self._wanted.ids),
            (*self._events, *events),
            preferred,
            tuple(self._operators),
            tuple(self._notices),
        )

    def _operator(self, text: str, at: int) -> int | None:
        """Take in the operator that begins here; where it ends, or None when there is none."""
        match = _OPERATOR.match(text, at)
        if match is None:
            return None
        minus, name, quoted, plain = match.groups()
        value, end = (quoted or "").strip(), match.end()
        if plain is not None:
            value = plain.rstrip(",;.!?)")
            end -= len(plain) - len(value)
        if not value:
            return None
        names = [value] if plain is None else [part for part in value.split(",") if part]
        problem = self._take(name.lower(), value, names, negative=bool(minus), quoted=plain is None)
        if problem and (plain is None or _PLAIN.fullmatch(value)):
            self._notices.append(f"{text[at:end]!r} was searched as words: {problem}")
        return end if problem == "" else None

    def _take(self, name: str, value: str, names: list[str], *, negative: bool, quoted: bool) -> str | None:
        """Empty when it is an operator; why it is none; None where nobody would take it for one."""
        into = self._unwanted if negative else self._wanted
        match name:
            case "type":
                unknown = [part for part in names if part.lower() not in self._types]
                if unknown:
                    return f"there is no type {unknown[0]!r}; types are {', '.join(self._types.values())}"
                into.types += [self._types[part.lower()] for part in names]
            case "tag" | "tags" | "project" | "author" | "by":
                if not names or not all(_NAME.fullmatch(part) for part in names):
                    return None
                group = {"tag": into.tags, "tags": into.tags, "project": into.projects}.get(name, into.authors)
                group += names
            case "id":
                least = 26 if negative else 6
                if not names or not all(_ID.fullmatch(part) and len(part) >= least for part in names):
                    return None
                into.ids += [part.upper() for part in names]
            case _ if negative:
                return None
            case _ if name in self._values:
                if value.lower() not in self._values[name]:
                    return f"{name} is one of {', '.join(self._values[name])}"
                self._fields[name] = value.lower()
            case "since" | "after" | "before" | "until":
                return self._time(name, value, quoted=quoted)
            case _:
                return None
        return ""

    def _time(self, relation: Relation, value: str, *, quoted: bool) -> str:
        found = read_time(value, self._now, self._zone)
        if found is not None:
            # Two that share nothing let nothing through, as asked.
            bound, known = bounded(relation, found), self._range
            self._range = TimeRange(
                max(filter(None, [known.since, bound.since]), default=None),
                min(filter(None, [known.until, bound.until]), default=None),
            )
        elif quoted:
            self._events.append(Event(relation, value, binding=True))
        else:
            return f"{value!r} is no time; in quotes it names what happened then"
        return ""

    def _negation(self, text: str, at: int, programs: bool) -> int | None:
        """Take in the word or phrase that must not occur; where it ends, or None when there is none."""
        if match := _NOT_PHRASE.match(text, at):
            word = match[1].strip()
        elif (match := _NOT_WORD.match(text, at)) and not programs:
            word = match[1]
            if word.lower() in STOP_WORDS or (word.isascii() and (len(word) < 3 or not _VOWEL.search(word))):
                return None  # `-m`, `-xzf`
        else:
            return None
        if not phrase_of(word):
            return None
        self._without.append(word)
        return match.end()

    def _spoken(self, text: str) -> tuple[TimeRange | None, list[Event]]:
        """The time that a sentence speaks of, or the event; not what is in quotes."""
        text = _PHRASE.sub(lambda match: '"' * len(match[0]), text)
        mentions = find_times(text, self._now, self._zone)
        if not mentions:
            for match in _EVENT.finditer(text):
                words = list(itertools.takewhile(lambda word: word.lower() not in STOP_WORDS, match[2].split()))
                if words:
                    return None, [Event(_RELATIONS[match[1].lower()], " ".join(words).rstrip("."), binding=False)]
            return None, []
        preferred: TimeRange | None = mentions[0].range
        for mention in mentions[1:]:
            preferred = both(preferred, mention.range) if preferred else None
        return preferred, []


def read_query(
    query: str,
    *,
    now: datetime,
    zone: tzinfo,
    types: Collection[str] = (),
    values: Mapping[str, Collection[str]] = MappingProxyType({}),
) -> Reading:
    """Read a query. Never fails.

    Args:
        now: timezone-aware; what `last week` is seen from.
        zone: where days begin.
        types: the names of the memory types.
        values: fields that are operators too, with what they can be (`status`).
    """
    text = query.strip()
    if not text or len(text) > MAX_ASKED or "\n" in text:
        return Reading(query)
    # Half a surrogate pair is no text that a database takes.
    return _Reader(now, zone, types, values).read(text.replace("\0", " ").encode("utf-8", "replace").decode("utf-8"))
