"""Tells those who subscribe what changes in the memory repos: from their commits, whoever made them.

A subscriber has a place in each repo's history, and is told what came after it. Nothing is kept for it but that place:
who reads slowly reads later, from git, and whoever comes back with the id of the last event goes on there. Where nobody
subscribes, nothing is done.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter, OrderedDict
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from adaptive_llm_gateway.core import AlgError, InvalidInput, NotFound, RateLimited, Unavailable
from adaptive_llm_gateway.memory import PERSONAL
from adaptive_llm_gateway.server._access import EVERYTHING, Access, acting_for
from adaptive_llm_gateway.server._change_events import ChangeEvent, Wanted, event_of
from adaptive_llm_gateway.server._event_ids import EventIds

if TYPE_CHECKING:
    from adaptive_llm_gateway.memory import ChangePlace, ChangeReader, Changes, ChangesLost, Memories, MemoryStore
    from adaptive_llm_gateway.server._handoff_operations import HandoffOperations
    from adaptive_llm_gateway.server._operations import Operations

_log = logging.getLogger(__name__)

Json = dict[str, Any]
WhyEnded = Literal["stopping", "token", "failed", "left", "unexpected"]

BEAT_SECONDS: Final = 15.0
PAGE: Final = 100
"""Files that are looked at at once."""
_LOOK_SECONDS: Final = 1.0
"""Between two looks at the branches: a commit of plain git tells nobody of itself."""
_GATHER_SECONDS: Final = 0.03  # between two looks, so that what comes in a burst is read together
_BEGIN_SECONDS: Final = 20.0
_AGAIN_SECONDS: Final = 10
_PAGES_KEPT: Final = 16  # that subscribers at the same place share
_STATES_KEPT: Final = 256
_MOST_LOOKED_AT: Final = 20_000  # files for one page of a poll, of which a caller may see none


@dataclass(frozen=True, slots=True)
class Told:
    """One message to a subscriber, as JSON.

    Attributes:
        name: `memory`, `handoff`, `ready`, `reset`, `beat` or `end`.
        why: of the last one, after which nothing comes.
    """

    name: str
    json: Json
    why: WhyEnded | None = None

    @property
    def id(self) -> str | None:
        """Whoever comes back with it is told what comes after this."""
        return self.json.get("id")


@dataclass(slots=True)
class _Feed:
    """One repo.

    Attributes:
        now: how far everybody may be told: what is committed, and in the index.
    """

    store: MemoryStore
    reader: ChangeReader
    now: ChangePlace | None = None


class ChangeFeed:
    """The changes of one hub. Used from the event loop's thread.

    Args:
        key: of the home's marks; ids of events are sealed with one that is derived from it.
        counts: whether what was begun with an access may go on.
        most: subscribers at once, in total and of one client.
    """

    def __init__(
        self,
        operations: Operations,
        handoffs: HandoffOperations,
        *,
        key: bytes | None,
        counts: Callable[[Access], bool] = lambda _: True,
        most: int = 2_000,
        most_of_client: int = 100,
    ) -> None:
        self._operations = operations
        self._handoffs = handoffs
        self._ids = EventIds(key)
        self._counts = counts
        self._most, self._most_of_client = most, most_of_client
        self._feeds: dict[str, _Feed] = {}
        self._names: tuple[str, ...] = ()
        self._several = False
        self._subscribers: set[Subscription] = set()
        self._of_client: Counter[str | None] = Counter()
        self._pages: OrderedDict[tuple[str, ChangePlace, ChangePlace], asyncio.Future[Changes | ChangesLost]] = (
            OrderedDict()
        )
        self._states: OrderedDict[tuple[Access, str, ChangePlace], str | None] = OrderedDict()
        self._thread: ThreadPoolExecutor | None = None
        self._looking = asyncio.Lock()
        self._stir = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    @property
    def subscribers(self) -> int:
        """How many subscribe now."""
        return len(self._subscribers)

    # -- subscribing -------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def subscribed(self, access: Access, wanted: Wanted, since: str | None) -> AsyncGenerator[Subscription]:
        """Tell somebody of changes, for as long as the block lasts.

        Args:
            since: the id of the last event that they were told of; None: they want to know what comes from now on.

        Raises:
            RateLimited: there are as many as may be, or as many of this client.
            Unavailable: the hub is stopping, or the memories are not ready.
        """
        self._check_room(access)
        self._of_client[access.owner] += 1
        try:
            subscriber = await self._begun(access, wanted, since)
            self._subscribers.add(subscriber)
            self._keep()
            try:
                yield subscriber
            finally:
                self._subscribers.discard(subscriber)
        finally:
            self._of_client[access.owner] -= 1
            if not self._of_client[access.owner]:
                del self._of_client[access.owner]

    def _check_room(self, access: Access) -> None:
        if self._closed:
            raise Unavailable("the hub is stopping", hint="Try again in a moment.")
        if self._of_client.total() >= self._most:
            raise _too_many(f"there are {self._most} subscribers to changes already")
        if self._of_client[access.owner] >= self._most_of_client:
            raise _too_many(f"this client has {self._most_of_client} subscriptions to changes already")

    async def page(self, access: Access, wanted: Wanted, since: str | None, limit: int) -> Json:
        """What changed since the event with an id, or nothing without one, and the id to ask with next time.

        Args:
            limit: events, at most.

        Raises:
            Unavailable: see `subscribed`.
        """
        if self._closed:
            raise Unavailable("the hub is stopping", hint="Try again in a moment.")
        subscriber = await self._begun(access, wanted, since)
        events: list[Json] = []
        looked_at = 0
        while len(events) < limit and looked_at < _MOST_LOOKED_AT:
            found = await subscriber.more(limit - len(events))
            looked_at += PAGE
            if found is None:
                break
            events += [told.json for told in found]
            if any(told.name == "reset" for told in found):
                break
        return {"events": events, "next_id": subscriber.id, "more": not subscriber.up_to_date}

    async def _begun(self, access: Access, wanted: Wanted, since: str | None) -> Subscription:
        await self._look()
        if not self._feeds or any(feed.now is None for feed in self._feeds.values()):
            await self._first_look()
        now = self.now()
        if since is None:
            return Subscription(self, access, wanted, now)
        places = self._ids.places(since, self._names)
        subscriber = Subscription(self, access, wanted, places or now)
        if places is None:
            subscriber.lost = "unknown"
        return subscriber

    def now(self) -> dict[str, ChangePlace]:
        """How far everybody may be told."""
        return {name: feed.now for name, feed in self._feeds.items() if feed.now is not None}

    @property
    def feeds(self) -> dict[str, _Feed]:
        """The repos that are there."""
        return self._feeds

    def id_of(self, places: dict[str, ChangePlace]) -> str:
        """An id for these places."""
        return self._ids.of(places)

    def shown(self, name: str) -> str | None:
        """A repo's name as events have it: where there are several."""
        return name if self._several else None

    def counts(self, access: Access) -> bool:
        """Whether somebody may be told more."""
        return self._counts(access)

    @property
    def is_closed(self) -> bool:
        """Whether the hub goes."""
        return self._closed

    async def close(self) -> None:
        """Tell everybody that the hub stops, and no more than that."""
        self._closed = True
        for subscriber in list(self._subscribers):
            subscriber.end("stopping")
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait({self._keeper})
        if self._thread is not None:
            await asyncio.to_thread(self._thread.shutdown)

    # -- looking -----------------------------------------------------------------------------------------------

    def _keep(self) -> None:
        if self._keeper is None or self._keeper.done():
            with acting_for(EVERYTHING):  # not for whoever came first
                self._keeper = asyncio.create_task(self._keeping())

    async def _keeping(self) -> None:
        """Look for changes while anybody wants to know of them, and look after the subscribers."""
        checked = time.monotonic()
        while self._subscribers:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stir.wait(), _LOOK_SECONDS)
            self._stir.clear()
            await self._look()
            now = time.monotonic()
            if now - checked >= _LOOK_SECONDS:
                checked = now
                self._look_after(now)
            await asyncio.sleep(_GATHER_SECONDS)

    def _look_after(self, now: float) -> None:
        allowed: dict[Access, bool] = {}
        for subscriber in list(self._subscribers):
            access = subscriber.access
            if access not in allowed:
                allowed[access] = self._counts(access)
            if not allowed[access]:
                subscriber.end("token")
            elif now - subscriber.told_at >= BEAT_SECONDS:
                subscriber.wake()

    async def _first_look(self) -> None:
        deadline = time.monotonic() + _BEGIN_SECONDS
        while True:
            await self._look()
            if self._feeds and all(feed.now is not None for feed in self._feeds.values()):
                return
            if time.monotonic() > deadline:
                raise Unavailable(
                    "the index is still being built, and changes are told from when it is complete",
                    hint="Try again in a moment.",
                )
            await asyncio.sleep(0.1)

    async def _look(self) -> None:
        """Find out how far everybody may be told, and wake them where that is further than before."""
        async with self._looking:
            store = await self._operations.whole()
            self._loop = asyncio.get_running_loop()
            if self._thread is None:
                self._thread = ThreadPoolExecutor(1, thread_name_prefix="changes")
            if await self._loop.run_in_executor(self._thread, self._look_at, store):
                for subscriber in list(self._subscribers):
                    subscriber.wake()

    def _look_at(self, store: Memories) -> bool:
        from adaptive_llm_gateway.memory import ChangeReader, MemoryStore  # noqa: PLC0415 - the store is open

        if isinstance(store, MemoryStore):
            stores, self._names = {PERSONAL: store}, (PERSONAL,)
        else:
            stores, self._names, self._several = store.stores, store.names, True
        feeds: dict[str, _Feed] = {}
        moved = False
        for name, each in stores.items():
            feed = self._feeds.get(name)
            if feed is None or feed.store is not each:
                feed = _Feed(each, ChangeReader(lambda each=each: each.parts))
                each.on_committed(self._stirred)
                each.on_synced(self._stirred)
            feeds[name] = feed
            try:
                now = feed.reader.here()
                if each.parts.settled and now != feed.now:
                    feed.now = now
                    moved = True
            except AlgError as error:
                _log.warning("changes of the repo %r cannot be looked for: %s", name, error)
        self._feeds = feeds
        return moved

    def _stirred(self) -> None:
        """From another thread: something was committed."""
        if self._loop is not None and self._keeper is not None and not self._keeper.done():
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._stir.set)

    # -- reading -----------------------------------------------------------------------------------------------

    async def read(self, name: str, place: ChangePlace, until: ChangePlace) -> Changes | ChangesLost:
        """The next page of a repo's changes; those who ask for the same one share it."""
        key = (name, place, until)
        page = self._pages.get(key)
        if page is None:
            assert self._thread is not None  # noqa: S101 - made by the first look
            reader = self._feeds[name].reader
            page = asyncio.get_running_loop().run_in_executor(
                self._thread, lambda: reader.read(place, until=until, limit=PAGE)
            )
            self._pages[key] = page
            page.add_done_callback(lambda done: self._forget_failed(key, done))
            while len(self._pages) > _PAGES_KEPT:
                self._pages.popitem(last=False)
        else:
            self._pages.move_to_end(key)
        return await asyncio.shield(page)

    def _forget_failed(
        self, key: tuple[str, ChangePlace, ChangePlace], done: asyncio.Future[Changes | ChangesLost]
    ) -> None:
        if done.cancelled() or done.exception() is not None:
            self._pages.pop(key, None)

    async def state_of(self, handoff: str, access: Access, until: ChangePlace) -> str | None:
        """How a handoff stands for a caller; None where there is none for it.

        Args:
            until: how far its repo was read, so that what is known of it is not asked for again.
        """
        key = (access, handoff, until)
        if key not in self._states:
            try:
                with acting_for(access):
                    self._states[key] = await self._handoffs.state(handoff)
            except (NotFound, InvalidInput):
                self._states[key] = None
            while len(self._states) > _STATES_KEPT:
                self._states.popitem(last=False)
        return self._states.get(key)


class Subscription:
    """Somebody who is told of changes.

    Attributes:
        lost: why they have to read everything anew, which they are told first.
        told_at: when they were told something last (`time.monotonic`).
    """

    def __init__(self, feed: ChangeFeed, access: Access, wanted: Wanted, places: dict[str, ChangePlace]) -> None:
        self.access = access
        self.told_at = time.monotonic()
        self.lost: str | None = None
        self._feed = feed
        self._wanted = wanted
        self._places = dict(places)
        self._begun = False
        self._ended: WhyEnded | None = None
        self._awake = asyncio.Event()

    @property
    def id(self) -> str:
        """Whoever comes back with it goes on here."""
        return self._feed.id_of(self._places)

    @property
    def up_to_date(self) -> bool:
        """Whether there is nothing more to tell by now."""
        return self.lost is None and all(self._places.get(name) == place for name, place in self._feed.now().items())

    def wake(self) -> None:
        """There may be something to tell."""
        self._awake.set()

    def end(self, why: WhyEnded) -> None:
        """Tell them no more."""
        self._ended = self._ended or why
        self._awake.set()

    @property
    def why_cut_off(self) -> WhyEnded:
        """Why somebody ends this who does not say."""
        return "stopping" if self._feed.is_closed else "token"

    @staticmethod
    def farewell(why: WhyEnded) -> Told:
        """The last message."""
        return Told("end", {"kind": "end", "why": why}, why)

    async def next(self) -> list[Told]:
        """What they are to be told now, which may take long to come; `end` is the last."""
        if not self._begun:
            self._begun = True
            return [Told("ready", {"kind": "ready", "id": self.id})]
        while True:
            self._awake.clear()
            if self._ended is None and not self._feed.counts(self.access):
                self._ended = "token"
            if self._ended is not None:
                return [self.farewell(self._ended)]
            try:
                found = await self.more(PAGE)
            except AlgError as error:
                _log.warning("changes cannot be read: %s", error)
                self._ended = "failed"
                continue
            if found:
                self.told_at = time.monotonic()
                return found
            if found is not None:
                await asyncio.sleep(0)  # others want to be told of what this one may not see
                continue
            if time.monotonic() - self.told_at >= BEAT_SECONDS:
                self.told_at = time.monotonic()
                return [Told("beat", {"kind": "beat", "id": self.id})]
            await self._awake.wait()

    async def more(self, limit: int) -> list[Told] | None:
        """At most `limit` events that come next; an empty list where one page had none for them, None at the end."""
        if self.lost is not None:
            return self._reset(self.lost)
        for name, until in self._feed.now().items():
            place = self._places.get(name)
            if place is None:
                return self._reset("new_repo")
            if place != until:
                return await self._more_of(name, place, until, limit)
        return None

    async def _more_of(self, name: str, place: ChangePlace, until: ChangePlace, limit: int) -> list[Told]:
        from adaptive_llm_gateway.memory import ChangesLost  # noqa: PLC0415 - the store is open, so it is loaded

        page = await self._feed.read(name, place, until)
        if isinstance(page, ChangesLost):
            return self._reset(page.why)
        told: list[Told] = []
        for change in page.changes:
            event = event_of(change, self.access, self._wanted, self._feed.shown(name))
            if event is None or (json := await self._whole(event, until)) is None:
                continue
            if len(told) == limit:
                return told
            self._places[name] = event.place
            told.append(Told(event.name, {"id": self.id, **json}))
        self._places[name] = page.place
        return told

    async def _whole(self, event: ChangeEvent, until: ChangePlace) -> Json | None:
        if event.handoff is None:
            return event.told
        state = await self._feed.state_of(event.handoff, self.access, until)
        return None if state is None else {**event.told, "state": state}

    def _reset(self, why: str) -> list[Told]:
        self.lost = None
        self._places = self._feed.now()
        return [Told("reset", {"id": self.id, "kind": "reset", "why": why})]


def _too_many(what: str) -> RateLimited:
    return RateLimited(what, hint="Close one of them, or try again later.", retry_after=_AGAIN_SECONDS)
