"""Session compaction: from a log's entries to goal, decisions, changes, open questions, next steps and facts.

By extraction: every statement is a sentence of the log with the number of its entry. The same entries and budget give
the same text.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from adaptive_llm_gateway.compression._cues import LEAST, Scored, changes, scored
from adaptive_llm_gateway.compression._sentences import NO_NAMES, Names, Sentence, names_of, sentences_of, words_of
from adaptive_llm_gateway.compression._session import KINDS, Compaction, Entry, Kind, Mention, Statement, Summariser
from adaptive_llm_gateway.compression._support import check
from adaptive_llm_gateway.compression._values import DEFAULT_BUDGET, TokenCounter
from adaptive_llm_gateway.core import InvalidInput

_HEADINGS: Final[Mapping[Kind, str]] = {
    "goal": "Goal",
    "decision": "Decisions",
    "change": "What changed",
    "question": "Open questions",
    "next": "Next step",
    "fact": "Key facts",
}
# The share of the budget that each kind may take before the others had theirs, and how many make sense at all.
_SHARES: Final[Mapping[Kind, tuple[float, int]]] = {
    "goal": (0.10, 3),
    "decision": (0.25, 60),
    "change": (0.22, 80),
    "question": (0.12, 30),
    "next": (0.13, 8),
    "fact": (0.18, 120),
}
_LATE: Final[Mapping[Kind, float]] = {
    "goal": 0.3,  # how much the end of the log counts more than its beginning
    "decision": 0.3,
    "change": 0.5,
    "question": 1.2,
    "next": 2.0,
    "fact": 0.2,
}
_ALIKE: Final = 0.75
_DEALT_WITH: Final = 0.6
_SHOWN_ENTRIES: Final = 5
_SHOWN_NAMES: Final = 40


@dataclass(frozen=True, slots=True)
class _Candidate:
    statement: Statement
    words: frozenset[str]
    score: float
    place: tuple[int, int]


def compact(
    entries: Sequence[Entry],
    *,
    counter: TokenCounter,
    budget: int = DEFAULT_BUDGET,
    session: str = "",
    summariser: Summariser | None = None,
) -> Compaction:
    """What matters of a session's log, in at most `budget` tokens of Markdown.

    Args:
        entries: in order, numbered by the caller; each number once.
        session: the session's id, which the text names.
        summariser: says it in its own words first; what the entries do not support is dropped and counted, and
            a kind that it leaves out is extracted all the same.

    Raises:
        InvalidInput: there is no entry with text, or the budget is smaller than the least that works.
    """
    known = {entry.number: entry for entry in entries}
    if len(known) != len(entries) or any(number < 1 for number in known):
        raise InvalidInput("the entries are not numbered from 1 up, each number once")
    if not any(entry.text.strip() for entry in entries):
        raise InvalidInput("the session has no entries", hint="Append to it with memory_append_session first.")
    log_tokens = count_log(entries, counter)
    head = _head(entries, session, log_tokens, counter)
    least = counter.count(head)
    if budget < least:
        raise InvalidInput(
            f"the budget of {budget:,} tokens is too small", hint=f"The least that works here is {least:,}."
        )
    candidates, names = _read(entries)
    dropped: tuple[tuple[str, int], ...] = ()
    if summariser is not None:
        checked = check(summariser.summarise(entries, budget=budget), known)
        dropped = tuple(sorted(checked.dropped.items()))
        candidates = _with_model(checked.kept, candidates)
    chosen = _choose(candidates, budget - least, counter)
    mentions = [_mentions(kind) for kind in names]
    kept = sorted(chosen, key=lambda candidate: (KINDS.index(candidate.statement.kind), candidate.place))
    total = sum(map(len, candidates.values()))
    shown = [mention[:_SHOWN_NAMES] for mention in mentions]
    while True:
        text = _render(head, [candidate.statement for candidate in kept], shown)
        used = counter.count(text)
        if used <= budget:
            break
        if any(shown):  # names are the cheapest to look up: they go first
            longest = max(shown, key=len)
            del longest[len(longest) - max(1, len(longest) // 4) :]
        elif kept:
            kept.remove(min(kept, key=lambda candidate: (candidate.score, candidate.place)))
        else:  # the head alone was counted to fit
            text, used = head, least
            break
    return Compaction(
        text,
        counter.name,
        budget,
        used,
        len(entries),
        log_tokens,
        tuple(candidate.statement for candidate in kept),
        *(tuple(mention) for mention in shown),
        left_out=total - len(kept),
        dropped=dropped,
    )


def count_log(entries: Iterable[Entry], counter: TokenCounter) -> int:
    """The tokens of what a log's entries say."""
    return sum(counter.count(_printable(entry.text)) for entry in entries)


# --- From entries to candidates ------------------------------------------------------------------------------------


def _read(entries: Sequence[Entry]) -> tuple[dict[Kind, list[_Candidate]], tuple[dict[str, list[int]], ...]]:
    """The candidates of each kind, best first, and the files, commits and versions with their entries."""
    names: tuple[dict[str, list[int]], ...] = ({}, {}, {})
    found: list[Scored] = []
    first: Sentence | None = None
    last: Sentence | None = None
    documents: Counter[str] = Counter()
    words: dict[tuple[int, int], frozenset[str]] = {}
    order = {entry.number: place for place, entry in enumerate(entries)}
    for entry in entries:
        seen: set[str] = set()
        for sentence in sentences_of(entry.text, entry.number):
            first, last = first or sentence, sentence
            named = names_of(sentence.text)
            said = frozenset(words_of(sentence.text))
            seen |= said
            hit = scored(sentence, named)
            if named is not NO_NAMES and (hit is None or hit.kind != "question"):
                told = replace(named, files=named.files if changes(sentence) else ())
                _collect(names, told, entry.number)
            if hit is not None:
                found.append(hit)
                words[sentence.entry, sentence.place] = said
        documents.update(seen)
    count = len(entries)
    by_kind: dict[Kind, list[_Candidate]] = {kind: [] for kind in KINDS}
    for hit in found:
        sentence = hit.sentence
        said = words[sentence.entry, sentence.place]
        lateness = (order[sentence.entry] + 1) / count
        place = (order[sentence.entry], sentence.place)
        score = hit.score + _weight(said, documents, count) + _LATE[hit.kind] * lateness
        if hit.kind == "goal" and order[sentence.entry] == 0:
            score += 1.0  # what a session is for is said when it begins
        statement = Statement(hit.kind, sentence.text, (sentence.entry,))
        by_kind[hit.kind].append(_Candidate(statement, said, score, place))
    _fill(by_kind, "goal", first, order)
    folded: dict[Kind, list[_Candidate]] = {kind: _folded(found) for kind, found in by_kind.items()}
    said_later = [*folded["decision"], *folded["change"], *folded["fact"]]
    folded["question"] = _still_open(folded["question"], said_later, strictly=False)
    folded["next"] = _still_open(folded["next"], folded["change"], strictly=True)
    _fill(folded, "next", last, order)
    best: dict[Kind, list[_Candidate]] = {
        kind: sorted(found, key=lambda candidate: (-candidate.score, candidate.place))[: _SHARES[kind][1]]
        for kind, found in folded.items()
    }
    return best, names


def _collect(names: tuple[dict[str, list[int]], ...], named: Names, entry: int) -> None:
    for kind, given in zip(names, (named.files, named.commits, named.versions), strict=True):
        for name in given:
            places = kind.setdefault(name, [])
            if not places or places[-1] != entry:
                places.append(entry)


def _weight(words: frozenset[str], documents: Counter[str], count: int) -> float:
    """How much of what the session is about stands in a sentence: words that recur, but not everywhere; 0 to 1."""
    if not words or count < 2:
        return 0.0
    top = math.log(count + 1) ** 2 / 4  # the largest that one word can have
    values = sorted(
        (math.log(documents[word] + 1) * math.log((count + 1) / documents[word]) for word in words), reverse=True
    )
    return sum(values[:6]) / (6 * top)


def _fill(kinds: dict[Kind, list[_Candidate]], kind: Kind, sentence: Sentence | None, order: Mapping[int, int]) -> None:
    """Take `sentence` for a kind of which nothing was found: where a log begins and where it ends is never idle."""
    if kinds[kind] or sentence is None:
        return
    place = (order[sentence.entry], sentence.place)
    if any(candidate.place == place for found in kinds.values() for candidate in found):
        return
    if scored(replace(sentence, label=kind), NO_NAMES) is None:
        return
    statement = Statement(kind, sentence.text, (sentence.entry,))
    kinds[kind].append(_Candidate(statement, frozenset(words_of(sentence.text)), LEAST, place))


def _folded(candidates: Sequence[_Candidate]) -> list[_Candidate]:
    """One candidate for those that say the same: the newest wording, with the entries of all."""
    kept: list[_Candidate] = []
    having: dict[str, list[int]] = defaultdict(list)
    exact: dict[frozenset[str], int] = {}
    for candidate in sorted(candidates, key=lambda candidate: candidate.place, reverse=True):
        same = exact.get(candidate.words)
        if same is None:
            same = exact[candidate.words] = _alike(candidate.words, kept, having)
        if same < 0:
            exact[candidate.words] = len(kept)
            for word in candidate.words:
                if len(having[word]) < 200:  # a word that many have tells nothing apart
                    having[word].append(len(kept))
            kept.append(candidate)
            continue
        newest = kept[same]
        first = candidate.statement.entries[0]
        if first == newest.statement.entries[0]:
            continue
        numbers = (first, *newest.statement.entries)  # they come from the last entry to the first
        kept[same] = replace(
            newest,
            statement=replace(newest.statement, entries=numbers),
            score=max(newest.score, candidate.score) + 0.1,
        )
    return kept


def _alike(words: frozenset[str], kept: Sequence[_Candidate], having: Mapping[str, list[int]]) -> int:
    """The place of the kept candidate with almost the same words; -1 when there is none."""
    shared: Counter[int] = Counter()
    for word in words:
        shared.update(having.get(word, ()))
    for place, count in shared.items():
        if count >= _ALIKE * (len(words) + len(kept[place].words) - count):
            return place
    return -1


def _still_open(asked: Sequence[_Candidate], said: Iterable[_Candidate], *, strictly: bool) -> list[_Candidate]:
    """Those that nothing said later deals with, as told by the words they share."""
    having: dict[str, list[_Candidate]] = defaultdict(list)
    for candidate in said:
        for word in candidate.words:
            having[word].append(candidate)
    still: list[_Candidate] = []
    for candidate in asked:
        shared: Counter[tuple[int, int]] = Counter(
            answer.place for word in candidate.words for answer in having[word] if answer.place > candidate.place
        )
        needed = max(2, math.ceil((0.8 if strictly else _DEALT_WITH) * len(candidate.words)))
        if max(shared.values(), default=0) < needed:
            still.append(candidate)
    return still


def _with_model(
    statements: Sequence[Statement], extracted: Mapping[Kind, list[_Candidate]]
) -> dict[Kind, list[_Candidate]]:
    by_kind: dict[Kind, list[_Candidate]] = {kind: [] for kind in KINDS}
    for place, statement in enumerate(statements):
        candidate = _Candidate(
            statement, frozenset(words_of(statement.text)), 10.0 - place / 1000, (statement.entries[0], place)
        )
        by_kind[statement.kind].append(candidate)
    return {kind: found or extracted[kind] for kind, found in by_kind.items()}


def _mentions(found: Mapping[str, list[int]]) -> list[Mention]:
    """Names with their entries, those named last first."""
    return [
        Mention(name, tuple(places))
        for name, places in sorted(found.items(), key=lambda item: (-item[1][-1], -len(item[1]), item[0]))
    ]


# --- To a budget ---------------------------------------------------------------------------------------------------


def _choose(candidates: Mapping[Kind, list[_Candidate]], budget: int, counter: TokenCounter) -> list[_Candidate]:
    """Each kind's best up to its share of the budget, then the best of what is left of all kinds."""
    every = [candidate for kind in KINDS for candidate in candidates[kind]]
    costs = {id(candidate): counter.count(_line(candidate.statement)) + 1 for candidate in every}
    headings = {kind: counter.count(f"\n## {_HEADINGS[kind]}\n\n") for kind in KINDS}
    left = budget
    chosen: list[_Candidate] = []
    waiting: list[_Candidate] = []
    begun: set[Kind] = set()
    for kind in KINDS:
        share = _SHARES[kind][0] * budget
        for candidate in candidates[kind]:
            cost = costs[id(candidate)] + (0 if kind in begun else headings[kind])
            # The first of each kind may take what is there: a session without its goal or next step is no use.
            if cost <= left and (cost <= share or kind not in begun):
                chosen.append(candidate)
                begun.add(kind)
                left -= cost
                share -= cost
            else:
                waiting.append(candidate)
    # A tenth stays for files, commits and versions; what they do not use is not worth a second look.
    left -= budget // 10
    for candidate in sorted(waiting, key=lambda candidate: (-candidate.score, candidate.place)):
        kind = candidate.statement.kind
        cost = costs[id(candidate)] + (0 if kind in begun else headings[kind])
        if cost <= left:
            chosen.append(candidate)
            begun.add(kind)
            left -= cost
    return chosen


# --- As Markdown ---------------------------------------------------------------------------------------------------


def _printable(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


def _head(entries: Sequence[Entry], session: str, log_tokens: int, counter: TokenCounter) -> str:
    first, last = entries[0], entries[-1]
    days = sorted({f"{min(first.time, last.time):%Y-%m-%d}", f"{max(first.time, last.time):%Y-%m-%d}"})
    which = f" [{session}](memory://{session})" if session else ""
    count = f"entry {first.number}" if len(entries) == 1 else f"entries {first.number}-{last.number}"
    measure = "tokens" if counter.exact else "tokens (estimated)"
    return (
        f"Summary of the log of session{which}: {count}, {' to '.join(days)}, {log_tokens:,} {measure}. "
        "The numbers in brackets are its entries; what stands before them is quoted data.\n"
    )


def _render(head: str, statements: Sequence[Statement], mentions: Sequence[Sequence[Mention]]) -> str:
    parts = [head]
    for kind in KINDS:
        lines = [_line(statement) for statement in statements if statement.kind == kind]
        if kind == "change":
            lines += [
                f"- {what}: " + "; ".join(f"{mention.name} {_numbers(mention.entries)}" for mention in found)
                for what, found in zip(("Files", "Commits", "Versions"), mentions, strict=True)
                if found
            ]
        if lines:
            parts.append(f"\n## {_HEADINGS[kind]}\n\n" + "\n".join(lines) + "\n")
    return "".join(parts)


def _line(statement: Statement) -> str:
    text = statement.text
    # What would begin a block of HTML, a fence, a heading or another item, and so hide or move what follows.
    if text.startswith(("<", "#", ">", "|", "+", "- ", "* ", "=", "~", "```")):
        text = "\\" + text
    return f"- {text} {_numbers(statement.entries)}"


def _numbers(entries: Sequence[int]) -> str:
    shown = [*entries[: _SHOWN_ENTRIES - 1], entries[-1]] if len(entries) > _SHOWN_ENTRIES else entries
    return f"[{', '.join(map(str, shown))}]"
