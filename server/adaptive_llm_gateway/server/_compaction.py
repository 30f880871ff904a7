"""Session compaction over a store: the summary of a log, and when one is due by itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from adaptive_llm_gateway.compression import DEFAULT_BUDGET
from adaptive_llm_gateway.core import InvalidInput
from adaptive_llm_gateway.server._times import iso

if TYPE_CHECKING:
    from adaptive_llm_gateway.compression import Compaction, Entry, TokenCounter
    from adaptive_llm_gateway.memory import Author, SeenMemories, SessionLog, WriteSummary

Json = dict[str, Any]

GROWTH: Final = 1.5
"""A session that has a summary gets the next one by itself when its log is this many times as long as it was then."""
_TOKENS: Final = "session_tokens"
_SESSIONS_KNOWN: Final = 1_000


def exact_counter() -> TokenCounter:
    """What tokens are counted with unless somebody says otherwise; loads nothing yet."""
    from adaptive_llm_gateway.compression import counter_for  # noqa: PLC0415 - after the hub listens

    return counter_for()


@dataclass(frozen=True, slots=True)
class Summarised:
    """A session's log, what it compacts to, and the write that keeps it."""

    log: SessionLog
    compaction: Compaction
    request: WriteSummary


def summarise(store: SeenMemories, id: str, budget: int, *, author: Author, counter: TokenCounter) -> Summarised:
    """Compact a session's log; nothing is written yet.

    Raises:
        NotFound, InvalidInput: no such memory, no session, a session without entries, or a budget too small.
    """
    log = store.session(id)
    return _summarised(log, entries_of(log), budget, author=author, counter=counter, reason="asked for")


def summarise_if_grown(
    store: SeenMemories, id: str, growth: Growth, *, author: Author, counter: TokenCounter
) -> Summarised | None:
    """Compact a session's log if it is due; what was counted goes to `growth`."""
    from adaptive_llm_gateway.compression import count_log  # noqa: PLC0415 - after the hub listens
    from adaptive_llm_gateway.memory import summary_id  # noqa: PLC0415

    log = store.session(id)
    if log.summary is None and store.was_deleted(summary_id(log.id)):
        growth.counted(id, 0, math.inf)  # whoever deleted it does not want it back with the next entry
        return None
    entries = entries_of(log)
    tokens = count_log(entries, counter)
    known = log.summary.fields.get(_TOKENS) if log.summary else None
    due = max(growth.at, known * GROWTH if isinstance(known, int) else 0)
    if tokens < due:
        growth.counted(id, tokens, due)
        return None
    growth.counted(id, tokens, max(growth.at, tokens * GROWTH))
    reason = f"the session has {tokens:,} tokens"
    return _summarised(log, entries, DEFAULT_BUDGET, author=author, counter=counter, reason=reason)


def _summarised(
    log: SessionLog, entries: list[Entry], budget: int, *, author: Author, counter: TokenCounter, reason: str
) -> Summarised:
    from adaptive_llm_gateway.compression import compact  # noqa: PLC0415 - after the hub listens
    from adaptive_llm_gateway.memory import WriteSummary  # noqa: PLC0415

    done = compact(entries, counter=counter, budget=budget, session=log.id)
    facts = {"session_entries": done.entries, _TOKENS: done.log_tokens}
    return Summarised(log, done, WriteSummary(author, log.id, done.text, log.trust, facts, f"compacted: {reason}"))


def entries_of(log: SessionLog) -> list[Entry]:
    """The log's entries as compaction takes them: numbered from 1."""
    from adaptive_llm_gateway.compression import Entry  # noqa: PLC0415 - after the hub listens

    return [Entry(number, entry.time, entry.author, entry.text) for number, entry in enumerate(log.entries, 1)]


def checked_budget(budget: int) -> int:
    """A budget of at least one token.

    Raises:
        InvalidInput: it is smaller, or larger than any model's.
    """
    if not 1 <= budget <= 10_000_000:
        raise InvalidInput(f"'budget_tokens' is {budget!r}", hint="Allowed: 1 to 10,000,000; the default is 2,000.")
    return budget


def compaction_json(found: Summarised) -> Json:
    """What a session was compacted to."""
    done, log = found.compaction, found.log
    cited = sorted({number for statement in done.statements for number in statement.entries})
    return {
        "session_id": log.id,
        "budget": done.budget,
        "used": done.used,
        "counter": done.counter,
        "entries": done.entries,
        "log_tokens": done.log_tokens,
        "left_out": done.left_out,
        "dropped": dict(done.dropped),
        "statements": [asdict(statement) for statement in done.statements],
        "decisions": [asdict(decision) for decision in done.decisions],
        "files": [asdict(mention) for mention in done.files],
        "commits": [asdict(mention) for mention in done.commits],
        "versions": [asdict(mention) for mention in done.versions],
        "cited": [
            {"number": number, "time": iso(entry.time), "author": entry.author, "id": entry.file}
            for number, entry in ((number, log.entries[number - 1]) for number in cited)
        ],
        "text": done.text,
    }


@dataclass(slots=True)
class _Known:
    """What was counted of a session: tokens then, bytes since, and from how many tokens on a summary is due."""

    tokens: int
    since: int
    due: float


class Growth:
    """Which sessions may have grown past the size from which they are summarised by themselves.

    A token has at least one byte, so that most appends need no count: a log is counted when its last count and the
    bytes since then reach the mark.

    Args:
        at: tokens from which on a session gets a summary; 0: none does by itself.
    """

    def __init__(self, at: int) -> None:
        self.at = at
        self._known: dict[str, _Known] = {}
        self._running: set[str] = set()
        self._told: dict[str, list[str]] = {}

    def begun(self, session: str) -> None:
        """A session that has nothing in it yet."""
        self.counted(session, 0, self.at)

    def appended(self, session: str, text: str) -> bool:
        """Take in an entry; whether the log is to be counted now. Then `ended` follows."""
        if not self.at or session in self._running:
            if known := self._known.get(session):
                known.since += len(text.encode("utf-8", "replace")) + 1
            return False
        known = self._known.get(session)
        if known is not None:
            known.since += len(text.encode("utf-8", "replace")) + 1
            if known.tokens + known.since < known.due:
                return False
        self._running.add(session)
        return True

    def counted(self, session: str, tokens: int, due: float) -> None:
        """What a count found, and from how many tokens on the next summary is due."""
        self._known.pop(session, None)
        self._known[session] = _Known(tokens, 0, due)
        if len(self._known) > _SESSIONS_KNOWN:
            del self._known[next(iter(self._known))]

    def ended(self, session: str, *notes: str) -> None:
        """A count is over; `notes` go to whoever appends next."""
        self._running.discard(session)
        if notes:
            self._told.pop(session, None)
            self._told[session] = list(notes)
            if len(self._told) > _SESSIONS_KNOWN:  # to some nobody comes back
                del self._told[next(iter(self._told))]

    def told(self, session: str) -> list[str]:
        """What the answer of an append has to say, once."""
        return self._told.pop(session, [])


CounterMaker = Callable[[], "TokenCounter"]
