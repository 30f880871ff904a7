"""What the hub can do with handoffs, as JSON in and JSON out: the MCP tools and the command line both call these."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar, get_args

from adaptive_llm_gateway.compression import DEFAULT_BUDGET
from adaptive_llm_gateway.core import AlgError, InvalidInput, NotHolder, Trust, Unavailable
from adaptive_llm_gateway.server._access import ACCESS
from adaptive_llm_gateway.server._caller import CALLER
from adaptive_llm_gateway.server._compaction import checked_budget, exact_counter
from adaptive_llm_gateway.server._handoff_json import (
    handoff_json,
    looked_json,
    marks_of,
    patch_json,
    step_json,
    written_json,
)
from adaptive_llm_gateway.server._handoff_payload import is_session, of_session, of_transcript
from adaptive_llm_gateway.server._memory_json import repo_of, sync_json
from adaptive_llm_gateway.server._operations import Operations
from adaptive_llm_gateway.server._render import redacted_text
from adaptive_llm_gateway.server._times import LOCAL, moment
from adaptive_llm_gateway.server._underway import Underway

if TYPE_CHECKING:
    from adaptive_llm_gateway.core import HandoffSettings
    from adaptive_llm_gateway.handoff import Handoffs, NewOffer, Party, SeveralHandoffs, Written
    from adaptive_llm_gateway.memory import Author, Memories, SeenMemories

    Service = Handoffs | SeveralHandoffs

Json = dict[str, Any]
_T = TypeVar("_T")

_THREADS: Final = 8
_WAITING: Final = 32
"""Claims wait for the remote, so that more of them are under way at once than there are processors."""
_OPEN: Final = ("offered", "claimed", "damaged")
_PUSH_SECONDS: Final = 3.0


class HandoffOperations:
    """The operations over one store's handoffs.

    Args:
        memory: where they are kept.
        is_connected: whether a process of a client, by its instance, is connected to this hub now.
    """

    def __init__(self, memory: Operations, settings: HandoffSettings, *, is_connected: Callable[[str], bool]) -> None:
        self._memory = memory
        self._settings = settings
        self._is_connected = is_connected
        self._handoffs: Service | None = None
        self._making = asyncio.Lock()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="handoff")
        # What waits for the remote keeps no thread from those who report or offer.
        self._waiting = ThreadPoolExecutor(_WAITING, thread_name_prefix="handoff-remote")
        self._underway = Underway()
        self._closed = False

    def close(self) -> None:
        """Let the threads go; what waits for the remote is not waited for."""
        self._closed = True
        for threads in (self._threads, self._waiting):
            threads.shutdown(wait=False, cancel_futures=True)

    async def _service(self) -> Service:
        """The handoffs, as far as the caller sees them."""
        whole = await self._memory.whole()
        async with self._making:
            if self._handoffs is None:
                self._handoffs = await asyncio.to_thread(self._make, whole)
        return _within(self._handoffs, await self._memory.store())

    def _make(self, store: Memories) -> Service:
        from adaptive_llm_gateway.handoff import (  # noqa: PLC0415 - after the hub listens
            HandoffRules,
            Handoffs,
            LeaseClock,
            SeveralHandoffs,
        )
        from adaptive_llm_gateway.memory import MemoryStore  # noqa: PLC0415 - as above

        settings = self._settings
        rules = HandoffRules(lease=timedelta(minutes=settings.lease_minutes), remote_wait=settings.remote_seconds)
        clock = LeaseClock(tolerance=timedelta(seconds=settings.tolerance_seconds))
        if not isinstance(store, MemoryStore):
            return SeveralHandoffs(store, rules, clock=clock, is_there=self._is_there)
        return Handoffs(store, rules, clock=clock, is_there=self._is_there)

    def _is_there(self, party: Party) -> bool:
        return party.instance is not None and self._is_connected(party.instance)

    async def _do(self, work: Callable[[Service], _T], *, waits: bool = False) -> _T:
        """Work in a thread; `waits`: it asks the remote."""
        with self._underway.one():
            service = await self._service()
            if self._closed:
                raise Unavailable("the hub is stopping", hint="Try again in a moment.")
            threads = self._waiting if waits else self._threads
            return await asyncio.get_running_loop().run_in_executor(threads, lambda: work(service))

    async def _do_as(self, by: Party, work: Callable[[Service], _T], *, waits: bool = False) -> _T:
        """`_do`; whoever is refused because of what they lost is told so."""

        def told(service: Service) -> _T:
            try:
                return work(service)
            except NotHolder as error:
                error.message = "; ".join([error.message, *service.lost(by)])
                raise

        return await self._do(told, waits=waits)

    # -- offering ----------------------------------------------------------------------------------------------

    async def create(
        self,
        objective: str | None = None,
        *,
        author: Author,
        next_action: str | None = None,
        state: str | None = None,
        open_questions: Sequence[str] | str | None = None,
        constraints: Sequence[str] | str | None = None,
        decisions: Sequence[str] | str | None = None,
        to: str | None = None,
        priority: str = "normal",
        expires: str | None = None,
        project: str | None = None,
        tags: Sequence[str] | str | None = None,
        trust: str | None = None,
        session_id: str | None = None,
        directory: str | None = None,
        patch: bool = False,
        title: str | None = None,
        redact: bool = False,
        reason: str | None = None,
        new_id: str | None = None,
    ) -> Json:
        """Offer work; with `session_id` what is not given comes from that session's log. `new_id` is the id that the
        offer is to have, and has it offered once."""
        by = self._party(author)
        ends = self._expiry(expires, self._settings.expire_days)
        given = replace(
            _offer(objective, next_action, state, open_questions, constraints, decisions, tags, project, trust),
            title=title or None,
            to=to or None,
            priority=_priority(priority),
            expires=ends,
            redact=redact,
            reason=reason,
            new_id=new_id,
        )
        if directory or patch:
            ACCESS.get().needs_for_files("looking at a directory of the hub's machine")
        if session_id:
            ACCESS.get().needs("memory:read", "a handoff that says what a session's log says")
        place = directory or _own_directory()

        def work(service: Service) -> Json:
            new = given
            if session_id:
                new = of_session(service.store, new, session_id, author=author, counter=exact_counter())
            new, notes = self._with_work(new, place, patch, asked=bool(directory))
            return self._written(service, service.create(new, by), notes, by, redact=redact)

        return await self._pushed(await self._do(work))

    def _with_work(
        self, new: NewOffer, directory: str | None, patch: bool, *, asked: bool
    ) -> tuple[NewOffer, Sequence[str]]:
        """The offer with how the work in a directory stands; `asked`: somebody named the directory."""
        from adaptive_llm_gateway.handoff import look_at  # noqa: PLC0415 - after the hub listens

        if not directory:
            if patch:
                raise InvalidInput("a patch needs the directory of the work", hint="Give `directory`.")
            return new, ()
        try:
            seen = look_at(Path(directory), patch=patch, max_patch_bytes=self._settings.patch_bytes)
        except AlgError:
            if asked or patch:
                raise
            return new, ()
        if not asked and seen.state.branch is None and seen.state.commit is None:
            return new, ()  # the client was started in no repository
        return replace(new, work=seen.state, patch=seen.patch), seen.notes if asked or patch else ()

    async def checkpoint(
        self,
        *,
        author: Author,
        session_id: str | None = None,
        directory: str | None = None,
        transcript: str | None = None,
        client: str | None = None,
        project: str | None = None,
        trust: str | None = None,
        patch: bool = False,
        end: bool = False,
    ) -> Json:
        """Keep how a session stands, from outside of it; the next one of the same session takes its place."""
        from adaptive_llm_gateway.memory import Author as Named  # noqa: PLC0415 - after the hub listens

        access = ACCESS.get()
        if directory or transcript or patch:
            access.needs_for_files("reading files of the hub's machine")
        if session_id:
            access.needs("memory:read", "a handoff that says what a session's log says")
        # Who has a token is who the token says.
        author = Named(client, author.agent, author.host) if client and access.client is None else author
        by = self._party(author)
        ends = self._expiry(None, self._settings.checkpoint_days)
        given = _offer(project=project, trust=trust or self._settings.checkpoint_trust)

        def work(service: Service) -> Json:
            new, session = given, session_id
            if transcript:
                new, session = of_transcript(new, Path(transcript), session_id, service.store.scanner)
            if session_id and is_session(service.store, session_id):
                new = of_session(service.store, new, session_id, author=author, counter=exact_counter())
            if not new.objective and new.state:  # it was begun by a command or a prompt of the client
                new = replace(new, objective=f"Go on with session {session}" if session else "Go on with this session")
            if not new.objective and transcript:
                raise InvalidInput(
                    f"there is nothing to keep: the transcript {transcript!r} says nothing of a session",
                    hint="It has to be Claude Code's or Codex's own record of one, a file of JSON lines.",
                )
            if not new.objective:
                raise InvalidInput(
                    "there is nothing to keep: neither a session of the memory nor a transcript was given",
                    hint="Give `--session`, `--transcript`, or both.",
                )
            new, notes = self._with_work(new, directory, patch, asked=bool(directory))
            new = replace(
                new,
                expires=ends,
                session_id=session,
                reason="the session ended" if end else "checkpoint",
                # Nobody is there to be asked: what looks like a secret is replaced, and the rest is kept.
                redact=True,
            )
            return self._written(service, service.checkpoint(new, by), notes, redact=True)

        return await self._pushed(await self._do(work, waits=True))

    # -- looking -----------------------------------------------------------------------------------------------

    async def list(
        self,
        *,
        state: Sequence[str] | str | None = None,
        project: str | None = None,
        to: str | None = None,
        checkpoints: bool = False,
        limit: int = 50,
        all: bool = False,
    ) -> Json:
        """Handoffs, the open ones unless told otherwise: by priority, then the oldest first."""
        from adaptive_llm_gateway.handoff import PRIORITIES, STATES, Party, is_for  # noqa: PLC0415 - after the hub listens

        wanted = _texts(state) or (STATES if all else _OPEN)
        for name in wanted:
            if name not in STATES:
                raise InvalidInput(f"'state' is {name!r}", hint=f"Allowed: {', '.join(STATES)}.")
        if not 1 <= limit <= 1000:
            raise InvalidInput(f"'limit' is {limit!r}", hint="Allowed: 1 to 1000.")

        def work(service: Service) -> Json:
            looked = service.look()
            found = [
                handoff
                for handoff in service.every()
                if handoff.state in wanted
                and (project is None or (handoff.offer.project or "").casefold() == project.casefold())
                and (to is None or is_for(handoff.offer, Party(to)))
                and (checkpoints or all or not handoff.offer.checkpoint)
            ]
            found.sort(key=lambda one: (one.offer.checkpoint, -PRIORITIES.index(one.offer.priority), one.offer.created))
            notices = service.lost()
            if jumped := service.clock.jumped:
                notices.append(f"this machine's clock was set by {jumped:+.0f} s while the hub ran; leases go by both")
            return {
                "handoffs": [
                    {**handoff_json(handoff), **repo_of(service.repo_of(handoff))} for handoff in found[:limit]
                ],
                "total": len(found),
                "filtered": bool(state or project or to),
                "remote": looked_json(looked),
                "notices": notices,
            }

        return await self._do(work, waits=True)

    async def show(self, id: str) -> Json:
        """One handoff whole, with all that happened to it."""

        def work(service: Service) -> Json:
            looked = service.look()
            found = service.one(id)
            return {
                **handoff_json(found),
                **repo_of(service.repo_of(found)),
                "remote": looked_json(looked),
                "body": found.offer.state,
                "steps": [step_json(step) for step in found.steps],
            }

        return await self._do(work, waits=True)

    async def state(self, id: str) -> str:
        """How a handoff stands, as far as is known here: nothing is asked of the remote."""
        return await self._do(lambda service: service.one(id).state)

    # -- holding -----------------------------------------------------------------------------------------------

    async def claim(
        self,
        id: str | None = None,
        *,
        author: Author,
        project: str | None = None,
        budget_tokens: int = DEFAULT_BUDGET,
        provisional: bool = False,
        anyway: bool = False,
        lease_minutes: float | None = None,
        directory: str | None = None,
    ) -> Json:
        """Claim a handoff, or the best open one, and get everything that it needs in a budget of tokens."""
        budget = checked_budget(budget_tokens)
        by = self._party(author)
        if directory:
            ACCESS.get().needs_for_files("looking at a directory of the hub's machine")
        here = directory or _own_directory()
        recalls = ACCESS.get().reads_memories

        def work(service: Service) -> Json:
            from adaptive_llm_gateway.server._handoff_package import Recall, check_budget, package  # noqa: PLC0415

            counter = exact_counter()
            check_budget(budget)  # before anything is claimed
            known = service.store if recalls else _nothing_of(service.store)
            with Recall(known, budget, counter=counter, now=datetime.now(UTC)) as recall:
                done = service.claim(
                    id or None,
                    by,
                    project=project,
                    lease=_lease(lease_minutes),
                    provisional=provisional,
                    anyway=anyway,
                    chosen=recall.start,
                )
                carried = patch_json(service, done.handoff, Path(here) if here else None)
                built = package(done.handoff, carried, recall)
            return {**built, **self._written(service, done, built["notes"], by), "patch": carried}

        return await self._do(work, waits=True)

    async def update(
        self, id: str, text: str, *, author: Author, lease_minutes: float | None = None, redact: bool = False
    ) -> Json:
        """Report progress; the lease runs anew. `NotHolder` also when the push of it brought another holder in."""
        by = self._party(author)
        lease = _lease(lease_minutes)

        def work(service: Service) -> tuple[Json, str]:
            done = service.update(id, text, by, lease=lease, redact=redact)
            return self._written(service, done, [], by, redact=redact), done.result.id

        answer, report = await self._do_as(by, work)
        told = await self._pushed(answer)
        now = await self._do_as(by, lambda service: service.still_held(answer["id"], by, report))
        if told["standing"]["sync"]["state"] not in ("no_remote", "pushed"):
            told["notes"].append(
                "the remote does not have this yet: until then others go by the lease that they know, and may claim it"
            )
        return {**told, **handoff_json(now)}

    async def complete(self, id: str, result: str = "", *, author: Author, redact: bool = False) -> Json:
        """Finish a handoff."""
        by = self._party(author)
        return await self._do_as(
            by,
            lambda service: self._written(
                service, service.complete(id, result, by, redact=redact), [], by, redact=redact
            ),
            waits=True,
        )

    async def release(
        self,
        id: str,
        reason: str = "",
        *,
        author: Author,
        outcome: str = "released",
        redact: bool = False,
        anyway: bool = False,
    ) -> Json:
        """Give a handoff back, refuse it, or take an offer back; with `anyway` also one of another client."""
        from adaptive_llm_gateway.handoff import Outcome  # noqa: PLC0415 - after the hub listens

        wanted = next((name for name in get_args(Outcome) if name == outcome), None)
        if wanted is None:
            raise InvalidInput(f"'outcome' is {outcome!r}", hint=f"Allowed: {', '.join(get_args(Outcome))}.")
        if anyway and (access := ACCESS.get()).client is not None:
            access.needs("admin", "taking back what another client offered")
        by = self._party(author)
        return await self._do_as(
            by,
            lambda service: self._written(
                service,
                service.release(id, reason, by, outcome=wanted, redact=redact, anyway=anyway),
                [],
                by,
                redact=redact,
            ),
            waits=True,
        )

    # -- parts of it -------------------------------------------------------------------------------------------

    def _party(self, author: Author) -> Party:
        from adaptive_llm_gateway.handoff import LONGEST_NAME, Party  # noqa: PLC0415 - after the hub listens

        owner = ACCESS.get().owner
        if owner is not None and len(owner) > LONGEST_NAME:  # an issuer's, which is not to be cut to another's
            owner = hashlib.sha256(owner.encode()).hexdigest()
        return Party(author.client, author.agent, None, None, CALLER.get().instance, owner)

    def _expiry(self, given: str | None, days: float) -> datetime | None:
        if given:
            return _future(given)
        return datetime.now(UTC) + timedelta(days=days) if days else None

    def _written(
        self, service: Service, done: Written, notes: Sequence[str], by: Party | None = None, *, redact: bool = False
    ) -> Json:
        """`by`: who reads the answer, and is told what they lost."""
        lost = service.lost(by) if by is not None else ()
        patch = service.patch_of(done.handoff)
        told = [*notes, *done.notes, *lost]
        marks = marks_of(done, patch) if redact else []
        if marks:
            told.append(redacted_text([asdict(mark) for mark in marks]))
        return written_json(done, told, patch=patch, redacted=marks)

    async def _pushed(self, answer: Json) -> Json:
        """The answer, after a moment in which the remote may take what it speaks of."""
        standing: Json = answer["standing"]
        if standing["sync"]["state"] in ("no_remote", "pushed") or standing["sync"]["offline"]:
            return answer
        from adaptive_llm_gateway.memory import MemoryStore, MemoryView  # noqa: PLC0415 - after the hub listens

        seen = await self._memory.store()
        if not isinstance(seen, MemoryStore | MemoryView):
            seen = seen.stores[answer["repo"]]
        store = seen if isinstance(seen, MemoryStore) else seen.whole
        with contextlib.suppress(TimeoutError, AlgError):  # the status tells
            async with asyncio.timeout(_PUSH_SECONDS):
                await asyncio.shield(asyncio.wrap_future(store.push()))
        return {**answer, "standing": {**standing, "sync": sync_json(seen.sync_status())}}


def _within(service: Service, store: SeenMemories) -> Service:
    """A service as somebody has it who sees this of the store."""
    from adaptive_llm_gateway.handoff import Handoffs  # noqa: PLC0415 - after the hub listens
    from adaptive_llm_gateway.memory import MemoryView, MemoryViews  # noqa: PLC0415 - as above

    if isinstance(service, Handoffs):
        return service.within(store) if isinstance(store, MemoryView) else service
    return service.within(store) if isinstance(store, MemoryViews) else service


def _offer(
    objective: str | None = None,
    next_action: str | None = None,
    state: str | None = None,
    open_questions: Sequence[str] | str | None = None,
    constraints: Sequence[str] | str | None = None,
    decisions: Sequence[str] | str | None = None,
    tags: Sequence[str] | str | None = None,
    project: str | None = None,
    trust: str | None = None,
) -> NewOffer:
    """The offer, as far as the caller says it."""
    from adaptive_llm_gateway.handoff import NewOffer  # noqa: PLC0415 - after the hub listens

    try:
        level = Trust(trust) if trust else None
    except ValueError:
        raise InvalidInput(f"'trust' is {trust!r}", hint=f"Allowed: {', '.join(Trust)}.") from None
    return NewOffer(
        objective=(objective or "").strip(),
        next_action=(next_action or "").strip() or None,
        state=state or "",
        open_questions=_lines(open_questions),
        constraints=_lines(constraints),
        decisions=_texts(decisions),
        tags=_texts(tags),
        project=project or None,
        trust=level,
    )


def _nothing_of(store: SeenMemories) -> SeenMemories:
    """What somebody sees of a store who reads no memories."""
    from adaptive_llm_gateway.memory import MemoryView, MemoryViews, Sight, view_of  # noqa: PLC0415 - the store is open

    whole = store.whole if isinstance(store, MemoryView | MemoryViews) else store
    return view_of(whole, Sight(projects=()))


def _own_directory() -> str | None:
    """Where the caller works, if it is a process of this machine."""
    return CALLER.get().directory if ACCESS.get().client is None else None


def _texts(value: Sequence[str] | str | None) -> tuple[str, ...]:
    parts = value.split(",") if isinstance(value, str) else value or ()
    return tuple(part.strip() for part in parts if part.strip())


def _lines(value: Sequence[str] | str | None) -> tuple[str, ...]:
    parts = [value] if isinstance(value, str) else value or ()
    return tuple(part.strip() for part in parts if part.strip())


def _priority(text: str) -> Any:
    from adaptive_llm_gateway.handoff import PRIORITIES  # noqa: PLC0415 - after the hub listens

    if text not in PRIORITIES:
        raise InvalidInput(f"'priority' is {text!r}", hint=f"Allowed: {', '.join(PRIORITIES)}.")
    return text


def _lease(minutes: float | None) -> timedelta | None:
    if minutes is None:
        return None
    if not 1 <= minutes <= 1440:
        raise InvalidInput(f"'lease_minutes' is {minutes!r}", hint="Allowed: 1 to 1440.")
    return timedelta(minutes=minutes)


def _future(text: str) -> datetime:
    """A time to come: ISO, or how long from now (`7d`, `12h`)."""
    now = datetime.now(UTC)
    amount, unit = text.strip()[:-1], text.strip()[-1:]
    hours = {"h": 1, "d": 24, "w": 168}.get(unit)
    if amount.isascii() and amount.isdigit() and unit.isalpha():
        if hours is None or not 0 < int(amount[:5]) < 10_000:
            raise InvalidInput(
                f"'expires' is {text!r}", hint="A length is 1 to 9999 hours, days or weeks: 12h, 7d, 2w."
            )
        return now + timedelta(hours=hours * int(amount))
    found = moment(text, "expires", end=True, zone=LOCAL)
    if found <= now:
        raise InvalidInput(f"'expires' is {text!r}, which is past", hint="Give a time to come, or a length such as 7d.")
    return found
