"""What a client with a token sees: nothing above its level, nothing outside of its projects, whatever it asks for.

Each version of each memory has words that are nowhere else, so that an answer which holds one tells where it is from.
"""

from __future__ import annotations

import asyncio
import contextlib
import fnmatch
import json
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from view_made import CANARY, LEVELS, Made, World, populate

from adaptive_llm_gateway.core import AlgError, HandoffSettings, Trust
from adaptive_llm_gateway.handoff import Handoffs, SeveralHandoffs
from adaptive_llm_gateway.memory import (
    Author,
    EmbedderConfig,
    HashEmbedder,
    MemoryStores,
    PostgresConfig,
    RepoPlace,
    StoreSettings,
)
from adaptive_llm_gateway.memory.testing import temporary_store
from adaptive_llm_gateway.server._access import SCOPES, Access, acting_for
from adaptive_llm_gateway.server._handoff_operations import HandoffOperations
from adaptive_llm_gateway.server._operations import Operations

ME = Author("token-client", "some-agent")
NOWHERE = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
Json = dict[str, Any]


class Hub:
    """The operations over a world, called from a test's thread."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.memory = Operations(lambda: world.store, commit_wait=30.0)
        self.handoffs = HandoffOperations(self.memory, HandoffSettings.model_validate({}), is_connected=lambda _: False)

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(120)

    def ask(self, access: Access, work: Callable[[], Awaitable[Any]]) -> Any:
        """What a call answers to whom."""

        async def call() -> Any:
            with acting_for(access):
                return await work()

        return self._run(call())

    def told(self, access: Access, work: Callable[[], Awaitable[Any]]) -> str:
        """All that a call tells: its answer, or its error."""
        try:
            return json.dumps(self.ask(access, work), default=str)
        except AlgError as error:
            return json.dumps(error.as_dict(), default=str)

    def close(self) -> None:
        self.handoffs.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


class Seen:
    """What of a world an access sees, worked out from how the world was made."""

    def __init__(self, world: World, access: Access) -> None:
        self.access = access
        self.world = world
        made = world.made.values()
        self.now = {one.id for one in made if not one.deleted and self.is_seen(one)}
        self.deleted = {one.id for one in made if one.deleted and self.is_seen(one)}
        self.words = {
            word
            for one in made
            if self.is_seen(one)
            for version in one.versions
            if self.shows(version.trust, version.project)
            for word in version.words
        } | {word for one in made if self.is_seen(one) for word in one.said_at_end}

    def shows(self, trust: Trust, project: str | None) -> bool:
        projects = self.access.projects
        fits = projects is None or any(project is not None and fnmatch.fnmatchcase(project, each) for each in projects)
        return trust.rank <= self.access.max_trust.rank and fits

    def is_seen(self, one: Made) -> bool:
        offer = self.world.made[one.offer] if one.offer is not None else None
        return self.shows(one.now.trust, one.now.project) and (offer is None or self.is_seen(offer))

    def holds(self, told: str, *, asked: str = "") -> None:
        """Nothing else is in what was told, and in an error no id of another memory than the one asked for."""
        found = set(CANARY.findall(told.lower())) - self.words
        assert not found, (found, [one.id for one in self.world.made.values() if found & one.now.words], told[:4000])
        if '"code"' in told:
            named = {id_ for id_ in self.world.made.keys() - self.now - self.deleted if id_ in told}
            assert named <= {asked}, told


def _places(folder: Path) -> list[RepoPlace]:
    def place(name: str, *projects: str) -> RepoPlace:
        configured = StoreSettings(
            repo=folder / name,
            index=folder / "indexes" / name / "index.db",
            host="testing",
            commit_wait=30.0,
            watch="off",
            push_after_write=False,
            embedder=EmbedderConfig(kind="none"),
            name=name,
        )
        return RepoPlace(name, configured, projects)

    return [place("personal"), place("team", "alpha", "alpha-*")]


@pytest.fixture(scope="module", params=["sqlite", "hybrid", "postgres", "several"])
def hub(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """Operations over memories in SQLite, with vectors too, in PostgreSQL, and in several repos."""
    folder = tmp_path_factory.mktemp(request.param)
    with contextlib.ExitStack() as stack:
        if request.param == "several":
            store: Any = MemoryStores(_places(folder))
            stack.callback(store.close)
            assert store.wait_ready(60)
            handoffs: Any = SeveralHandoffs(store)
        else:
            more: Json = {}
            if request.param == "hybrid":
                more["embedder"] = HashEmbedder()
            if request.param == "postgres":
                more["postgres"] = PostgresConfig(request.getfixturevalue("postgres").url(), f"view_{folder.name[-6:]}")
            store = stack.enter_context(temporary_store(folder, **more))
            handoffs = Handoffs(store)
        found = Hub(populate(World(store, handoffs)))
        stack.callback(found.close)
        yield found


ACCESSES = st.builds(
    Access,
    client=st.just("ci"),
    scopes=st.just(frozenset(SCOPES)),
    projects=st.sampled_from(
        [None, ("alpha",), ("alpha*",), ("beta",), ("[Bb]eta",), ("?lpha", "Beta"), ("alpha-?eb",), ("nothing",), ()]
    ),
    max_trust=st.sampled_from(LEVELS),
)
ASKED = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@ASKED
@given(access=ACCESSES)
def test_lists_searches_and_counts_have_all_that_is_seen_and_nothing_else(hub: Hub, access: Access) -> None:
    seen, memory = Seen(hub.world, access), hub.memory
    listed = hub.ask(access, lambda: memory.list(limit=1000))
    events = {one.id for one in hub.world.made.values() if one.offer is not None}
    assert {row["id"] for row in listed["memories"]} == seen.now - events
    assert listed["total"] == len(seen.now - events)
    seen.holds(json.dumps(listed, default=str))

    gone = hub.ask(access, lambda: memory.list(limit=1000, deleted=True))
    assert {row["id"] for row in gone["memories"]} == seen.deleted
    seen.holds(json.dumps(gone, default=str))

    everything = hub.ask(access, lambda: memory.search("walrus", limit=100, facets=True, explain=True))
    seen.holds(json.dumps(everything, default=str))
    found = {hit["id"] for hit in everything["hits"]} | {id for hit in everything["hits"] for id in hit["duplicates"]}
    assert found <= seen.now
    assert everything["facets"]["total"] == len(seen.now)
    assert everything["plan"]["candidates"] <= len(seen.now)
    recent = hub.ask(access, lambda: memory.search("", limit=100))
    assert {hit["id"] for hit in recent["hits"]} <= seen.now

    status = hub.ask(access, memory.status)
    assert status["memories"] == len(seen.now)
    assert sum(status["by_type"].values()) == len(seen.now)
    for pair in status["clashes"]["pairs"]:
        assert set(pair) <= seen.now
    for call in (
        memory.status,
        memory.quarantine,
        lambda: memory.context("walrus", budget_tokens=20_000),
        lambda: memory.context("walrus", budget_tokens=20_000, project="alpha"),
        lambda: memory.list(limit=1000, project="beta"),
        lambda: memory.list(limit=1000, max_trust="secret", order="title"),
        lambda: memory.pull(wait=30),
        lambda: memory.push(wait=30),
        lambda: memory.sync(wait=30),
        lambda: hub.handoffs.list(all=True, checkpoints=True, limit=1000),
    ):
        seen.holds(hub.told(access, call))
    handoffs = hub.ask(access, lambda: hub.handoffs.list(all=True, limit=1000))
    assert {row["id"] for row in handoffs["handoffs"]} == seen.now & set(hub.world.handoff_ids)


@ASKED
@given(access=ACCESSES, data=st.data())
def test_a_search_pages_through_all_that_is_seen(hub: Hub, access: Access, data: st.DataObject) -> None:
    seen = Seen(hub.world, access)
    query = data.draw(st.sampled_from(["walrus", ""]))
    found: list[str] = []
    cursor: str | None = None
    while True:
        page = hub.ask(access, lambda at=cursor: hub.memory.search(query, limit=30, cursor=at))
        found += [id for hit in page["hits"] for id in (hit["id"], *hit["duplicates"])]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    events = {one.id for one in hub.world.made.values() if one.offer is not None}
    assert set(found) == (seen.now if query else seen.now - events) or (query and seen.now - events <= set(found))
    assert set(found) <= seen.now


def _reading(hub: Hub, id: str, version: str) -> dict[str, Callable[[], Awaitable[Any]]]:
    """Every way to ask for one memory, by whatever names it."""
    memory, handoffs = hub.memory, hub.handoffs
    return {
        "read": lambda: memory.read(id),
        "read by its end": lambda: memory.read(id[-8:]),
        "read by its beginning": lambda: memory.read(id[:10]),
        "read at a version": lambda: memory.read(id, at=version),
        "read at HEAD": lambda: memory.read(id, at="HEAD"),
        "read at the time": lambda: memory.read(id, at="2100-01-01"),
        "session": lambda: memory.session(id),
        "history": lambda: memory.history(id, limit=1000),
        "history of few": lambda: memory.history(id, limit=1),
        "search similar": lambda: memory.search(similar_to=id, explain=True, facets=True),
        "search by id": lambda: memory.search(f"id:{id[-8:]}"),
        "search as of": lambda: memory.search("walrus", as_of="HEAD", limit=100, facets=True),
        "search similar as of": lambda: memory.search(similar_to=id, as_of="HEAD"),
        "search as of before": lambda: memory.search("walrus", as_of="HEAD~40", limit=100, facets=True),
        "context with": lambda: memory.context("walrus", expand=[id], budget_tokens=5000),
        "context of a session": lambda: memory.context("walrus", session_id=id, budget_tokens=5000),
        "list by a field": lambda: memory.list(fields={"session_id": id}),
        "list events": lambda: memory.list(fields={"handoff": id}),
        "show": lambda: handoffs.show(id),
        "state": lambda: handoffs.state(id),
    }


def _writing(hub: Hub, id: str, version: str) -> dict[str, Callable[[], Awaitable[Any]]]:
    """Every way to change one memory."""
    memory, handoffs = hub.memory, hub.handoffs
    text = f"---\nid: {id}\ntype: note\ntitle: t\n---\n\nb\n"
    return {
        "write": lambda: memory.write(author=ME, id=id, title="Changed", reason="why"),
        "lower": lambda: memory.write(author=ME, id=id, trust="public", project="alpha"),
        "write a version": lambda: memory.write(author=ME, id=id, body="b", if_version=version),
        "write another's version": lambda: memory.write(author=ME, id=id, body="b", if_version="0" * 40),
        "replace": lambda: memory.replace_text(id, text, author=ME),
        "append": lambda: memory.append_session("more", author=ME, session_id=id),
        "compact": lambda: memory.compact_session(id, author=ME),
        "delete": lambda: memory.delete(id, author=ME),
        "delete by its end": lambda: memory.delete(id[-8:], author=ME),
        "restore": lambda: memory.restore(id, author=ME),
        "restore a version": lambda: memory.restore(id, author=ME, at=version),
        "claim": lambda: handoffs.claim(id, author=ME, anyway=True),
        "update": lambda: handoffs.update(id, "so far", author=ME),
        "complete": lambda: handoffs.complete(id, "done", author=ME),
        "release": lambda: handoffs.release(id, "no", author=ME),
        "withdraw": lambda: handoffs.release(id, "no", author=ME, outcome="withdrawn", anyway=True),
        "decline": lambda: handoffs.release(id, "no", author=ME, outcome="declined"),
        "offer with its decision": lambda: handoffs.create("x", author=ME, decisions=[id], project="alpha"),
        "offer of its session": lambda: handoffs.create("x", author=ME, session_id=id, project="alpha"),
        "checkpoint": lambda: handoffs.checkpoint(author=ME, session_id=id, project="alpha"),
    }


def _without(told: str, *ids: str) -> str:
    """What was told, whichever memory it was asked of."""
    for id_ in ids:
        for part in (id_, id_[-8:], id_[:10], id_.lower(), id_[-8:].lower()):
            told = told.replace(part, "ID")
    return told


@ASKED
@given(access=ACCESSES, data=st.data())
def test_what_is_not_seen_is_answered_as_what_is_not_there(hub: Hub, access: Access, data: st.DataObject) -> None:
    seen = Seen(hub.world, access)
    hidden = sorted(hub.world.made.keys() - seen.now - seen.deleted)
    if not hidden:
        return
    one = hub.world.made[data.draw(st.sampled_from(hidden))]
    version = one.versions[data.draw(st.integers(0, len(one.versions) - 1))].version
    before = {id_: record.version for id_ in hub.world.made if (record := hub.world.store.record(id_)) is not None}
    missing = "0" * 40
    for calls in (_reading, _writing):
        asked, control = calls(hub, one.id, version), calls(hub, NOWHERE, missing)
        for name, call in asked.items():
            told = hub.told(access, call)
            seen.holds(told, asked=one.id)
            if name in ("read by its beginning", "checkpoint"):  # others begin so; a checkpoint needs no session here
                continue
            if name.startswith(("search", "list", "context", "offer")) and '"code"' not in told:
                continue
            wanted = hub.told(access, control[name])
            assert _without(told, one.id, version) == _without(wanted, NOWHERE, missing), name
    after = {id_: record.version for id_ in hub.world.made if (record := hub.world.store.record(id_)) is not None}
    assert after == before


@ASKED
@given(access=ACCESSES, data=st.data())
def test_what_is_seen_is_read_whole_and_its_past_where_that_is_seen(
    hub: Hub, access: Access, data: st.DataObject
) -> None:
    seen = Seen(hub.world, access)
    visible = sorted(seen.now | seen.deleted)
    if not visible:
        return
    one = hub.world.made[data.draw(st.sampled_from(visible))]
    for name, call in _reading(hub, one.id, one.now.version).items():
        told = hub.told(access, call)
        seen.holds(told, asked=one.id)
        if name == "read" and not one.deleted:
            assert json.loads(told)["id"] == one.id, told
        if name == "read by its end" and not one.deleted and sum(id.endswith(one.id[-8:]) for id in seen.now) == 1:
            assert json.loads(told)["id"] == one.id, told
    shown = [version for version in one.versions if seen.shows(version.trust, version.project)]
    told = hub.ask(access, lambda: hub.memory.history(one.id, limit=1000))
    versions = {revision["version"] for revision in told["revisions"]} - {None}
    assert versions == {version.version for version in shown}
    for version in one.versions:
        told = hub.told(access, lambda at=version.version: hub.memory.read(one.id, at=at))
        seen.holds(told)
        assert ("not_found" in told) == (version.version not in versions), told
    for version in one.versions:
        if version.commit is not None and not isinstance(hub.world.store, MemoryStores):
            past = hub.told(access, lambda at=version.commit: hub.memory.search("walrus", as_of=at, limit=100))
            seen.holds(past, asked=one.id)
    for word in sorted(one.now.words):
        told = hub.ask(access, lambda word=word: hub.memory.search(word, limit=100))
        found = {id for hit in told["hits"] for id in (hit["id"], *hit["duplicates"])}
        assert found <= seen.now
