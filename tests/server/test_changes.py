"""Who subscribes to changes is told all that it may see, in order and once, and can go on where it was."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import Awaitable, Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from adaptive_llm_gateway.core import HandoffSettings, RateLimited, Trust, Unavailable
from adaptive_llm_gateway.memory import (
    Author,
    DeleteMemory,
    MemoryStore,
    MemoryStores,
    RepoPlace,
    WriteMemory,
    _sync_apply,
)
from adaptive_llm_gateway.memory.testing import temporary_store
from adaptive_llm_gateway.server import _changes
from adaptive_llm_gateway.server._access import EVERYTHING, Access
from adaptive_llm_gateway.server._change_events import Wanted
from adaptive_llm_gateway.server._changes import ChangeFeed, Subscription, Told
from adaptive_llm_gateway.server._handoff_operations import HandoffOperations
from adaptive_llm_gateway.server._operations import Operations

ME = Author("test-client")
KEY = bytes(range(32))
WAIT = 30.0
ALL = Wanted()


@dataclass
class Bench:
    """A store and what tells of its changes."""

    store: Any
    feed: ChangeFeed
    handoffs: HandoffOperations

    async def write(self, title: str, **given: Any) -> str:
        done = await asyncio.to_thread(self.store.write, WriteMemory(ME, title=title, **given))
        return str(done.id)

    async def update(self, id: str, **given: Any) -> None:
        await asyncio.to_thread(self.store.write, WriteMemory(ME, id=id, **given))

    async def delete(self, id: str) -> None:
        await asyncio.to_thread(self.store.write, DeleteMemory(ME, id))

    async def page(
        self, since: str | None = None, *, access: Access = EVERYTHING, wanted: Wanted = ALL, limit: int = 1000
    ) -> Any:
        return await self.feed.page(access, wanted, since, limit)


Work = Callable[[Bench], Awaitable[None]]


def serve(store: MemoryStore | MemoryStores, work: Work, **given: Any) -> None:
    async def main() -> None:
        operations = Operations(lambda: store, commit_wait=30.0)
        handoffs = HandoffOperations(operations, HandoffSettings.model_validate({}), is_connected=lambda _: False)
        feed = ChangeFeed(operations, handoffs, key=KEY, **given)
        try:
            async with asyncio.timeout(WAIT * 2):
                await work(Bench(store, feed, handoffs))
        finally:
            await feed.close()
            handoffs.close()

    asyncio.run(main())


@pytest.fixture
def store(tmp_path: Path) -> Iterator[MemoryStore]:
    with contextlib.ExitStack() as stack:
        yield stack.enter_context(temporary_store(tmp_path / "store"))


async def told(subscriber: Subscription, count: int) -> list[Told]:
    """The next so many events; what is no event is left out."""
    found: list[Told] = []
    async with asyncio.timeout(WAIT):
        while len(found) < count:
            found += [each for each in await subscriber.next() if each.name not in ("ready", "beat")]
    return found


def titles(found: list[Told]) -> list[tuple[str, str]]:
    return [(each.json["kind"], each.json["title"]) for each in found]


def test_a_subscriber_is_told_of_what_is_written_while_it_listens(store: MemoryStore) -> None:
    async def work(bench: Bench) -> None:
        await bench.write("Before")
        async with bench.feed.subscribed(EVERYTHING, ALL, None) as subscriber:
            (ready,) = await subscriber.next()
            assert ready.name == "ready"
            one = await bench.write("One")
            assert titles(await told(subscriber, 1)) == [("created", "One")]
            await bench.update(one, body="more")
            await bench.delete(one)
            found = await told(subscriber, 1)
            if found[0].json["kind"] == "updated":
                found = await told(subscriber, 1)
            assert titles(found) == [("deleted", "One")]

    serve(store, work)


def test_a_commit_of_plain_git_is_told_though_nobody_says_that_it_was_made(store: MemoryStore) -> None:
    async def work(bench: Bench) -> None:
        id = await bench.write("One", body="text\n")
        record = store.record(id)
        assert record is not None
        async with bench.feed.subscribed(EVERYTHING, ALL, None) as subscriber:
            await subscriber.next()
            git = store.repo.thread_repo
            file = store.repo.path / record.path
            file.write_text(file.read_text(encoding="utf-8") + "more\n", encoding="utf-8")
            blob = git.create_blob(file.read_bytes())
            head = git[git.head.target]
            import pygit2

            from adaptive_llm_gateway.memory._tree_write import write_tree

            assert isinstance(head, pygit2.Commit)
            tree = write_tree(git, head.tree, {record.path: (str(blob), pygit2.enums.FileMode.BLOB)}, set())
            who = pygit2.Signature("Ann", "ann@example.org")
            git.create_commit("HEAD", who, who, "by hand", tree, [head.id])
            (event,) = await told(subscriber, 1)
            assert (event.json["kind"], event.json["by"], event.json["reason"]) == ("updated", "Ann", "by hand")

    serve(store, work)


def test_whoever_comes_back_with_an_id_goes_on_behind_it_also_at_another_hub(store: MemoryStore) -> None:
    ids: list[str] = []

    async def first(bench: Bench) -> None:
        async with bench.feed.subscribed(EVERYTHING, ALL, None) as subscriber:
            await subscriber.next()
            for number in range(3):
                await bench.write(f"Memory {number}")
            ids.extend(str(each.id) for each in await told(subscriber, 3))
        await bench.write("While nobody listened")

    async def second(bench: Bench) -> None:
        async with bench.feed.subscribed(EVERYTHING, ALL, ids[0]) as subscriber:
            found = await told(subscriber, 3)
            assert [each.json["title"] for each in found] == ["Memory 1", "Memory 2", "While nobody listened"]
            await bench.write("Later")
            assert titles(await told(subscriber, 1)) == [("created", "Later")]

    serve(store, first)
    serve(store, second)


@pytest.mark.parametrize("since", ["", "x", "AAAA" * 30, "\0", "é", "-" * 40_000, "1' or '1'='1"])
def test_an_id_that_nobody_gave_resets_and_goes_on_from_now(store: MemoryStore, since: str) -> None:
    async def work(bench: Bench) -> None:
        await bench.write("Before")
        page = await bench.page(since)
        (reset,) = page["events"]
        assert (reset["kind"], reset["why"], page["more"]) == ("reset", "unknown", False)
        async with bench.feed.subscribed(EVERYTHING, ALL, since) as subscriber:
            (event,) = await told(subscriber, 1)
            assert event.json["kind"] == "reset"
            await bench.write("After")
            assert titles(await told(subscriber, 1)) == [("created", "After")]
        assert (await bench.page(reset["id"]))["events"][0]["title"] == "After"

    serve(store, work)


def test_a_history_that_was_rewritten_resets(store: MemoryStore) -> None:
    async def work(bench: Bench) -> None:
        before = str(store.repo.head())
        await bench.write("One")
        async with bench.feed.subscribed(EVERYTHING, ALL, None) as subscriber:
            await subscriber.next()
            store.repo.thread_repo.set_head(store.repo.thread_repo.head.name)
            store.repo.thread_repo.references[store.repo.thread_repo.head.name].set_target(before)
            (event,) = await told(subscriber, 1)
            assert (event.json["kind"], event.json["why"]) == ("reset", "rewritten")

    serve(store, work)


def test_each_of_many_subscribers_is_told_exactly_what_it_may_see(store: MemoryStore) -> None:
    """Fifty of them, of all levels and projects; some listen, some come back, some look now and then."""
    levels, projects = list(Trust), ["alpha", "beta", None]

    def seen(access: Access, wanted: Wanted, level: Trust, project: str | None) -> bool:
        return (
            level.rank <= access.max_trust.rank
            and (access.projects is None or (project is not None and project in access.projects))
            and (not wanted.projects or project in wanted.projects)
        )

    accesses = [
        (Access(client=f"c{number}", projects=named, max_trust=level), Wanted(projects=only))
        for number, (level, named, only) in enumerate(
            (level, named, only)
            for level in levels
            for named in (None, ("alpha",), ("beta",), ("alpha", "beta"))
            for only in ((), ("alpha",), ("beta",))
        )
    ]
    assert len(accesses) == 48

    async def work(bench: Bench) -> None:
        begin = (await bench.page())["next_id"]
        async with contextlib.AsyncExitStack() as stack:
            listening = [
                await stack.enter_async_context(bench.feed.subscribed(access, wanted, None))
                for access, wanted in accesses
            ]
            made: dict[str, tuple[Trust, str | None]] = {}
            for level in levels:
                for project in projects:
                    given = {} if project is None else {"project": project}
                    id = await bench.write(f"A {level} one of {project}", trust=level, **given)
                    made[id] = (level, project)
            for (access, wanted), subscriber in zip(accesses, listening, strict=True):
                expected = [id for id, about in made.items() if seen(access, wanted, *about)]
                found = await told(subscriber, len(expected)) if expected else []
                assert [each.json["memory"] for each in found] == expected
                later = await bench.page(begin, access=access, wanted=wanted)
                assert [each["memory"] for each in later["events"]] == expected
                assert subscriber.up_to_date or not expected or await subscriber.more(100) in ([], None)

    serve(store, work)


def test_what_comes_into_somebodys_sight_is_created_and_what_leaves_it_deleted(store: MemoryStore) -> None:
    low = Access(client="low", max_trust=Trust.INTERNAL)

    async def work(bench: Bench) -> None:
        id = await bench.write("Walrus", trust=Trust.SECRET)
        async with bench.feed.subscribed(low, ALL, None) as subscriber:
            await subscriber.next()
            await bench.update(id, trust=Trust.PUBLIC)
            (event,) = await told(subscriber, 1)
            assert (event.json["kind"], event.json["memory"]) == ("created", id)
            await bench.update(id, trust=Trust.SECRET, title="Otter")
            (event,) = await told(subscriber, 1)
            assert event.json.keys() == {"id", "kind", "time", "memory", "type"}
            assert (event.json["kind"], event.json["memory"]) == ("deleted", id)

    serve(store, work)


def test_what_was_hidden_since_is_not_told_to_who_comes_late(store: MemoryStore) -> None:
    low = Access(client="low", max_trust=Trust.INTERNAL)

    async def work(bench: Bench) -> None:
        begin = (await bench.page(access=low))["next_id"]
        first, second = await bench.write("First"), await bench.write("Second")
        page = await bench.page(begin, access=low, limit=1)
        assert [each["memory"] for each in page["events"]] == [first]
        assert page["more"]
        await bench.update(second, trust=Trust.SECRET)
        rest = await bench.page(page["next_id"], access=low)
        assert "Second" not in str(rest)
        assert [each["kind"] for each in rest["events"]] in ([], ["deleted"])

    serve(store, work)


def test_pages_go_on_where_the_one_before_ended(store: MemoryStore) -> None:
    async def work(bench: Bench) -> None:
        begin = since = (await bench.page())["next_id"]
        tickets = [store.submit(WriteMemory(ME, title=f"Memory {number:03}")) for number in range(250)]
        assert all(ticket.committed.result(WAIT) for ticket in tickets)
        found: list[str] = []
        more = True
        while more:
            page = await bench.page(since, limit=7)
            assert len(page["events"]) <= 7
            since, more = page["next_id"], page["more"]
            found += [each["title"] for each in page["events"]]
        assert found == [each["title"] for each in (await bench.page(begin))["events"]]
        assert sorted(found) == [f"Memory {number:03}" for number in range(250)]
        assert (await bench.page(since))["events"] == []

    serve(store, work)


def test_a_subscriber_that_reads_slowly_misses_nothing_and_nothing_is_kept_for_it(store: MemoryStore) -> None:
    async def work(bench: Bench) -> None:
        async with bench.feed.subscribed(EVERYTHING, ALL, None) as subscriber:
            await subscriber.next()
            for burst in range(6):
                tickets = [store.submit(WriteMemory(ME, title=f"{burst} {number:03}")) for number in range(100)]
                assert all(ticket.committed.result(WAIT) for ticket in tickets)
                await bench.page()  # others look meanwhile
            found = await told(subscriber, 600)
            assert sorted(each.json["title"] for each in found) == sorted(
                f"{burst} {number:03}" for burst in range(6) for number in range(100)
            )
            assert len(bench.feed._pages) <= 16  # pyright: ignore[reportPrivateUsage]

    serve(store, work)


def test_as_many_may_subscribe_as_is_set_in_total_and_of_one_client(store: MemoryStore) -> None:
    async def work(bench: Bench) -> None:
        async with contextlib.AsyncExitStack() as stack:
            for name in ("a", "a", "b"):
                await stack.enter_async_context(bench.feed.subscribed(Access(client=name), ALL, None))
            for name in ("a", "c"):
                if name == "c":
                    await stack.enter_async_context(bench.feed.subscribed(Access(client="c"), ALL, None))
                with pytest.raises(RateLimited):
                    await stack.enter_async_context(bench.feed.subscribed(Access(client=name), ALL, None))
        async with bench.feed.subscribed(Access(client="a"), ALL, None):
            pass

    serve(store, work, most=4, most_of_client=2)


def test_who_may_not_go_on_is_told_so_and_nothing_else(store: MemoryStore) -> None:
    gone: set[str | None] = set()

    async def work(bench: Bench) -> None:
        async with (
            bench.feed.subscribed(Access(client="a"), ALL, None) as one,
            bench.feed.subscribed(Access(client="b"), ALL, None) as other,
        ):
            await one.next()
            await other.next()
            waiting = asyncio.create_task(one.next())
            gone.add("a")
            async with asyncio.timeout(WAIT):
                (end,) = await waiting
            assert (end.name, end.why) == ("end", "token")
            await bench.write("Walrus")
            assert [each.name for each in await one.next()] == ["end"]
            assert titles(await told(other, 1)) == [("created", "Walrus")]

    def counts(access: Access) -> bool:
        return access.client not in gone

    serve(store, work, counts=counts)


def test_a_hub_that_stops_tells_its_subscribers_and_takes_no_more(store: MemoryStore) -> None:
    async def work(bench: Bench) -> None:
        async with bench.feed.subscribed(EVERYTHING, ALL, None) as subscriber:
            await subscriber.next()
            waiting = asyncio.create_task(subscriber.next())
            await asyncio.sleep(0)
            await bench.feed.close()
            (end,) = await waiting
            assert (end.name, end.why) == ("end", "stopping")
        with pytest.raises(Unavailable):
            await bench.page()
        with pytest.raises(Unavailable):
            async with bench.feed.subscribed(EVERYTHING, ALL, None):
                pass

    serve(store, work)


def test_who_has_nothing_to_hear_is_told_now_and_then_where_to_go_on(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_changes, "BEAT_SECONDS", 0.05)  # a test does not wait for a quarter of a minute
    low = Access(client="low", max_trust=Trust.PUBLIC)

    async def work(bench: Bench) -> None:
        async with bench.feed.subscribed(low, ALL, None) as subscriber:
            await subscriber.next()
            (first,) = await subscriber.next()
            await bench.write("Hidden", trust=Trust.SECRET)
            async with asyncio.timeout(WAIT):
                while not subscriber.up_to_date:
                    (beat,) = await subscriber.next()
            (beat,) = await subscriber.next()
            assert first.name == beat.name == "beat"
            assert first.id is not None
            assert beat.id is not None
            assert len(first.id) == len(beat.id)
            assert (await bench.page(beat.id, access=low))["events"] == []

    serve(store, work)


def test_nothing_is_looked_at_when_nobody_subscribes(store: MemoryStore) -> None:
    async def work(bench: Bench) -> None:
        async with bench.feed.subscribed(EVERYTHING, ALL, None):
            keeper = bench.feed._keeper  # pyright: ignore[reportPrivateUsage]
            assert keeper is not None
        async with asyncio.timeout(WAIT):
            await keeper
        await bench.write("One")

    serve(store, work)


def test_handoffs_are_told_with_how_they_stand(store: MemoryStore) -> None:
    async def work(bench: Bench) -> None:
        begin = (await bench.page())["next_id"]
        offered = await bench.handoffs.create("Finish the walrus", next_action="Begin", author=ME)
        await bench.handoffs.claim(offered["id"], author=Author("codex"))
        events = (await bench.page(begin))["events"]
        assert [(each["kind"], each["event"], each["state"]) for each in events] == [
            ("handoff", "offer", "claimed"),
            ("handoff", "claim", "claimed"),
        ]
        assert {each["handoff"] for each in events} == {offered["id"]}
        await bench.handoffs.complete(offered["id"], "done", author=Author("codex"))
        (event,) = (await bench.page(events[-1]["id"]))["events"]
        assert (event["event"], event["state"]) == ("done", "done")
        nobody = Access(client="c", scopes=frozenset({"memory:read"}))
        seen = (await bench.page(begin, access=nobody))["events"]
        assert [(each["kind"], each["memory"]) for each in seen] == [("created", offered["id"])]

    serve(store, work)


@contextlib.contextmanager
def two_stores(folder: Path) -> Generator[tuple[MemoryStore, MemoryStore]]:
    """Two with one remote, which have the same."""
    remote = folder / "remote.git"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(remote)], check=True, timeout=WAIT)
    with (
        temporary_store(folder / "here", remote=str(remote)) as here,
        temporary_store(folder / "there", remote=str(remote)) as there,
    ):
        here.push().result(WAIT)
        there.pull().result(WAIT)
        yield here, there


def test_what_is_pulled_is_told_once_whoever_hears_of_it_finds_it(tmp_path: Path) -> None:
    with two_stores(tmp_path) as (here, there):
        tickets = [there.submit(WriteMemory(ME, title=f"Memory {number:02}")) for number in range(60)]
        assert all(ticket.committed.result(WAIT) for ticket in tickets)
        there.push().result(WAIT)

        async def work(bench: Bench) -> None:
            since = (await bench.page())["next_id"]
            pulling = asyncio.create_task(asyncio.to_thread(here.pull().result, WAIT))
            found = 0
            while found < 60:  # without a pause, so that it looks while the index follows
                page = await bench.page(since)
                since = page["next_id"]
                found += len(page["events"])
                for each in page["events"]:
                    record = here.record(each["memory"])
                    assert record is not None
                    assert record.version == each["version"]
            await pulling

        serve(here, work)


def test_nobody_is_told_of_a_commit_that_a_pull_has_just_moved_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with two_stores(tmp_path) as (here, there):
        there.write(WriteMemory(ME, title="From there"))
        there.push().result(WAIT)
        before = here.repo.head()
        seen: list[bool] = []

        def look(point: str) -> None:
            if here.repo.head() != before:
                seen.append(here.parts.settled)

        monkeypatch.setattr(_sync_apply, "reach", look)
        here.pull().result(WAIT)
        assert seen[0] is False
        assert here.parts.settled


def test_several_repos_are_one_stream_and_one_id(tmp_path: Path) -> None:
    def place(name: str, *projects: str) -> RepoPlace:
        from dataclasses import replace

        from adaptive_llm_gateway.memory import StoreSettings
        from adaptive_llm_gateway.memory._embed import EmbedderConfig

        folder = tmp_path / name
        settings = StoreSettings(
            repo=folder / "memory",
            index=folder / "index.db",
            host="testing",
            commit_wait=30.0,
            watch="off",
            push_after_write=False,
            embedder=EmbedderConfig(kind="none"),
        )
        return RepoPlace(name, replace(settings, name=name), projects)

    stores = MemoryStores([place("personal"), place("team", "walrus")])
    try:
        assert stores.wait_ready(WAIT)

        async def work(bench: Bench) -> None:
            async with bench.feed.subscribed(EVERYTHING, ALL, None) as subscriber:
                await subscriber.next()
                await bench.write("Mine")
                await bench.write("Ours", project="walrus")
                found = await told(subscriber, 2)
                assert sorted((each.json["repo"], each.json["title"]) for each in found) == [
                    ("personal", "Mine"),
                    ("team", "Ours"),
                ]
            await bench.write("Ours too", project="walrus")
            await bench.write("Mine too")
            later = [each["title"] for each in (await bench.page(found[-1].id))["events"]]
            assert sorted(later) == ["Mine too", "Ours too"]

        serve(stores, work)
    finally:
        stores.close()
