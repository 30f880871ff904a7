"""The package that comes with a claim: what the handoff says and what the memory knows, in a budget of tokens."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from adaptive_llm_gateway.core import AlgError, InvalidInput, NotFound
from adaptive_llm_gateway.memory import Exclusions, Filters
from adaptive_llm_gateway.server._context import ContextRequest
from adaptive_llm_gateway.server._context import build as build_context
from adaptive_llm_gateway.server._handoff_payload import is_session
from adaptive_llm_gateway.server._render import fence
from adaptive_llm_gateway.server._times import iso

if TYPE_CHECKING:
    from adaptive_llm_gateway.compression import TokenCounter
    from adaptive_llm_gateway.handoff import Handoff
    from adaptive_llm_gateway.memory import SeenMemories

Json = dict[str, Any]

_log = logging.getLogger(__name__)

LEAST_BUDGET: Final = 200
_LEAST_PACKAGE: Final = 200  # tokens; below that recalled memories say nothing
_SHARE: Final = 0.6  # of the budget, for what the handoff says; the rest is what the memory knows, if it has so much
_MARGIN: Final = 4
_FILES: Final = 30
_QUERY: Final = 2_000  # characters
_TOKENS_EACH: Final = 25
"""A claim is waited for. To search for a memory for every 25 tokens, and to choose among the first of them that have
twice the budget, takes half as long as with a hundred and more."""
_STANDING: Final = {"counts": "", "late": " (after it was over)", "void": " (who did not hold it)"}
_WORTH_CUTTING: Final = 40  # characters that a part has at least when it is cut, but for the first
_NOTE: Final = 500  # characters of what is said of a patch, where the budget has four times as many tokens
_HEAD: Final = 80  # tokens of the lines before what the handoff says, about
_PATCH: Final = 150  # tokens that a patch adds to it, about


def check_budget(budget: int) -> None:
    """Refuse a budget in which a handoff cannot be told.

    Raises:
        InvalidInput: it is too small.
    """
    if budget < LEAST_BUDGET:
        raise InvalidInput(
            f"'budget_tokens' is {budget!r}, too small for a handoff",
            hint=f"At least {LEAST_BUDGET}; the default is 2,000.",
        )


class Recall:
    """What the memory knows for a handoff, looked up while the claim is written.

    Leaving it as a context manager waits for what was begun, for the store may be closed then; an exception does not.
    """

    def __init__(self, store: SeenMemories, budget: int, *, counter: TokenCounter, now: datetime) -> None:
        self.budget, self.counter = budget, counter
        self._store, self._now = store, now
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="handoff-recall")
        self._door = Lock()
        self._closed = False
        self._begun: dict[str, Future[Json | None]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with self._door:
            self._closed = True
        self._threads.shutdown(wait=error is None, cancel_futures=True)

    def start(self, handoff: Handoff) -> None:
        """Begin with a handoff, unless that was done; what was not begun yet of others is given up.

        Does nothing once this was left: a claim that nobody waits for any more may still be tried.
        """
        id_ = handoff.offer.id
        with self._door:
            if self._closed or id_ in self._begun:
                return
            self._begun = {other: begun for other, begun in self._begun.items() if not begun.cancel()}
            self._begun[id_] = self._threads.submit(self._look, handoff)

    def parts(self, handoff: Handoff, patch: Json | None = None) -> list[tuple[str, str]]:
        """What the handoff says, the most needed first: heading and text."""
        note = _cut(patch["note"], min(_NOTE, self.budget // 4)) if patch else ""
        return _parts(self._store, handoff, note)

    def result(self, handoff: Handoff, most: int) -> Json | None:
        """What was found, as JSON; None when there is nothing, or no room for it.

        Args:
            most: tokens of all that the handoff itself says.

        Raises:
            Exception: whatever went wrong.
        """
        with self._door:
            begun = self._begun.get(handoff.offer.id)
        if begun is not None:
            with suppress(CancelledError):
                found = begun.result()
                # It was looked up before all that the handoff says was known, and that comes first.
                if found is None or found["used"] <= self._left(most):
                    return found
        return self._look(handoff, most)

    def _left(self, most: int) -> int:
        """How many tokens memories may have beside a handoff of `most`."""
        return self.budget - min(most + _MARGIN, max(int(self.budget * _SHARE), LEAST_BUDGET))

    def _look(self, handoff: Handoff, most: int | None = None) -> Json | None:
        if most is None:
            most = self.counter.count(_text([], self.parts(handoff))) + _HEAD
            most += _PATCH if any(step.event.kind == "patch" for step in handoff.steps) else 0
        left = self._left(most)
        if left < _LEAST_PACKAGE:
            return None
        return _recalled(self._store, handoff, left, counter=self.counter, now=self._now)


def package(handoff: Handoff, patch: Json | None, recall: Recall) -> Json:
    """`text`, at most the budget of `recall`, and how many tokens it has; `notes` say what of the memory could not be
    looked up.

    Args:
        patch: as `patch_json` gives it.
    """
    notes: list[str] = []
    budget, counter = recall.budget, recall.counter
    head, parts = _head(handoff, patch), recall.parts(handoff, patch)
    recalled: Json | None = None
    try:
        recalled = recall.result(handoff, counter.count(_text(head, parts)))
    except Exception as error:  # noqa: BLE001 - the claim stands, and its holder has to know
        _log.exception("what the memory knows of handoff %s cannot be looked up", handoff.offer.id)
        why = error.message if isinstance(error, AlgError) else type(error).__name__
        notes.append(f"without recalled memories, which could not be looked up: {why}")
    used = recalled["used"] + _MARGIN if recalled else 0
    text = _fitted(head, parts, budget - used, counter)
    if recalled:
        text = f"{text}\n\n{recalled['text']}"
    return {
        "text": text,
        "budget": budget,
        "used": counter.count(text),
        "sources": recalled["sources"] if recalled else [],
        "notes": notes,
    }


def _recalled(
    store: SeenMemories, handoff: Handoff, budget: int, *, counter: TokenCounter, now: datetime
) -> Json | None:
    offer = handoff.offer
    query = "\n".join(filter(None, [offer.objective, offer.next_action]))[:_QUERY]
    without = Exclusions(types=("handoff",))  # what others are to do is nothing that is known of this
    filters = Filters(project=offer.project, or_no_project=bool(offer.project), without=without)
    session = offer.session_id if offer.session_id and is_session(store, offer.session_id) else None
    there = tuple(id_ for id_ in offer.decisions if store.record(id_) is not None)
    hits = budget // _TOKENS_EACH
    # What was decided comes whole where there is room; the search finds the rest of it.
    for expand, log in ((there, session), ((), session), ((), None)):
        request = ContextRequest(query, budget, filters, "auto", expand, True, log, hits)
        try:
            found = build_context(store, request, counter=counter, now=now)
        except (InvalidInput, NotFound):
            continue
        return found if found["sources"] else None
    return None


def _head(handoff: Handoff, patch: Json | None) -> list[str]:
    """The hub's own words: nothing that anybody wrote, for they stand outside of the fence."""
    offer, claim = handoff.offer, handoff.claim
    until = f" until {iso(claim.lease_until)}" if claim else ""
    lines = [
        f"Handoff {offer.id} is yours{until}"
        + (" (provisional: the next sync settles it)" if claim and claim.provisional else "")
        + ". handoff_update reports progress and renews that; end with handoff_complete or handoff_release."
    ]
    if patch is not None:
        lines.append(f"Uncommitted changes come as a patch of {patch['bytes']:,} bytes: memory_read {patch['id']}.")
    return lines


def _parts(store: SeenMemories, handoff: Handoff, note: str) -> list[tuple[str, str]]:
    from adaptive_llm_gateway.handoff import party_name  # noqa: PLC0415 - after the hub listens

    offer, work = handoff.offer, handoff.offer.work
    told: list[tuple[str, str]] = [("Objective", offer.objective)]
    told.append(("Next action", offer.next_action or ""))
    told.append(("Constraints", _items(offer.constraints)))
    told.append(("Open questions", _items(offer.open_questions)))
    titles = [(id_, store.record(id_)) for id_ in offer.decisions]
    told.append(("Decisions", _items([f"{record.title} (id {id_})" for id_, record in titles if record])))
    place = [
        ("repository", work.remote),
        ("branch", work.branch),
        ("commit", work.commit),
        ("directory", f"{work.directory} on {offer.by.host or 'an unknown machine'}" if work.directory else None),
    ]
    lines = [f"{name}: {value}" for name, value in place if value]
    if work.dirty:
        more = work.dirty_count - min(len(work.dirty), _FILES)
        lines += ["not committed there:", *work.dirty[:_FILES], *([f"and {more} more"] if more > 0 else [])]
    told.append(("Work", "\n".join(lines)))
    told.append(("Patch", f"in your copy of the work: {note}" if note else ""))
    progress = [
        f"{iso(step.event.time)} {party_name(step.event.by)}{_STANDING[step.standing]}: {step.event.text.strip()}"
        for step in handoff.steps
        if step.event.kind in ("progress", "release", "decline", "done") and step.event.text.strip()
    ]
    told.append(("Reported before", "\n".join(reversed(progress))))
    told.append(("State", offer.state.strip()))
    return [(heading, text) for heading, text in told if text]


def _cut(note: str, most: int) -> str:
    note = " ".join(note.split())
    return note if len(note) <= most else note[: most - 1].rstrip() + "…"


def _items(texts: Sequence[str]) -> str:
    return "\n".join(f"- {text}" for text in texts)


def _text(head: Sequence[str], parts: Sequence[tuple[str, str]]) -> str:
    body = "\n\n".join(f"## {heading}\n{text}" for heading, text in parts)
    return "\n".join([*head, fence(body)])


def _fitted(head: list[str], parts: list[tuple[str, str]], budget: int, counter: TokenCounter) -> str:
    """The text in a budget: parts give lines from their end, the last parts first; what was left out is said."""
    text = _text(head, parts)
    if counter.count(text) <= budget:
        return text
    told = [head[0], "Cut to the budget; whole: memory_read of this id.", *head[1:]]
    # Parts are taken whole while they fit; the first that does not is cut, by halves of its characters.
    kept: list[tuple[str, str]] = []
    for part in parts:
        if counter.count(_text(told, [*kept, part])) <= budget:
            kept.append(part)
            continue
        low, high = 0, len(part[1])
        while low < high:
            middle = (low + high + 1) // 2
            fits = counter.count(_text(told, [*kept, (part[0], part[1][:middle] + " …")])) <= budget
            low, high = (middle, high) if fits else (low, middle - 1)
        if low > (0 if not kept else _WORTH_CUTTING):
            kept.append((part[0], part[1][:low] + " …"))
    return _text(told, kept)
