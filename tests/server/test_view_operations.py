"""What a client with a token may do with the hub's operations: files, handoffs, sessions, models, syncing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
from collections.abc import Awaitable, Callable
from dataclasses import fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from adaptive_llm_gateway.core import (
    AccessDenied,
    AlgError,
    HandoffSettings,
    Home,
    InvalidInput,
    NotFound,
    PersonalScanner,
    Settings,
    SyncError,
    Trust,
    new_ulid,
)
from adaptive_llm_gateway.handoff import Handoffs, NewOffer, Party
from adaptive_llm_gateway.memory import (
    AppendEvent,
    AppendSession,
    Author,
    MemoryStore,
    WriteMemory,
    summary_id,
)
from adaptive_llm_gateway.memory.testing import temporary_store
from adaptive_llm_gateway.server._access import EVERYTHING, SCOPES, Access, acting_for
from adaptive_llm_gateway.server._authentication import Admitted
from adaptive_llm_gateway.server._gateway_operations import GatewayOperations
from adaptive_llm_gateway.server._handoff_operations import HandoffOperations
from adaptive_llm_gateway.server._operations import Operations

ME, THEM = Author("person"), Author("ci", "agent")
EMAIL = "jane.doe" + "@" + "acme.com"
ALPHA = Access("ci", frozenset(SCOPES) - {"admin"}, ("alpha",), Trust.INTERNAL)
ADMIN = Access("ci", frozenset(SCOPES), ("alpha",), Trust.INTERNAL)
EVERY_MEMORY = Access("ci", frozenset(SCOPES) - {"admin"})
TRIAL: dict[str, Any] = {"gateway": {"discover": False}, "providers": {"trial": {"kind": "built_in"}}}
Json = dict[str, Any]


class Bench:
    """A store, and the operations over it, for one loop."""

    def __init__(self, store: MemoryStore, home: Path, *, upkeep: float = 3600.0, **more: Any) -> None:
        self.store = store
        self.memory = Operations(lambda: store, commit_wait=30.0, **more)
        self.handoffs = HandoffOperations(self.memory, HandoffSettings.model_validate({}), is_connected=lambda _: False)
        home.mkdir()
        self.gateway = GatewayOperations(Home(home), Settings(**TRIAL), self.memory, host="testing", upkeep=upkeep)

    async def close(self) -> None:
        self.handoffs.close()
        await self.gateway.settle()
        await self.gateway.close()


Run = Callable[..., Any]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def carry_out(work: Callable[[Bench], Awaitable[Any]], *, settings: Json | None = None, **more: Any) -> Any:
        async def main() -> Any:
            with contextlib.ExitStack() as stack:
                given = {"personal": PersonalScanner(), **(settings or {})}
                bench = Bench(
                    stack.enter_context(temporary_store(tmp_path / "store", **given)), tmp_path / "home", **more
                )
                try:
                    return await asyncio.wait_for(work(bench), 120)
                finally:
                    await bench.close()

        return asyncio.run(main())

    return carry_out


# --- Files of the hub's machine -------------------------------------------------------------------------------------


def test_files_of_the_hubs_machine_are_read_for_a_token_only_where_it_says_admin(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "file.md"
    file.write_text("# Orca\n", encoding="utf-8")
    where = str(tmp_path)

    async def work(bench: Bench) -> None:
        id_ = (await bench.handoffs.create("Go on", author=ME, project="alpha"))["id"]
        calls: list[Callable[[], Awaitable[Any]]] = [
            lambda: bench.memory.summarize_path(str(file)),
            lambda: bench.handoffs.create("Go on", author=THEM, project="alpha", directory=where),
            lambda: bench.handoffs.create("Go on", author=THEM, project="alpha", patch=True),
            lambda: bench.handoffs.claim(id_, author=THEM, directory=where),
            lambda: bench.handoffs.checkpoint(author=THEM, project="alpha", transcript=str(file)),
            lambda: bench.handoffs.checkpoint(author=THEM, project="alpha", directory=where),
            lambda: bench.handoffs.release(id_, author=THEM, outcome="withdrawn", anyway=True),
        ]
        for access in (ALPHA, EVERY_MEMORY):
            for call in calls:
                with acting_for(access), pytest.raises(AccessDenied) as refused:
                    await call()
                assert refused.value.details["scope"] == "admin"
        with acting_for(ADMIN):
            for call in calls:
                with contextlib.suppress(AlgError) as _:
                    await call()
            with pytest.raises(AlgError) as other:  # it may, and there is no folder that the person allows
                await bench.memory.summarize_path(str(file))
            assert not isinstance(other.value, AccessDenied)

    run(work)


def test_a_checkpoint_by_a_token_is_by_the_tokens_client(run: Run) -> None:
    async def work(bench: Bench) -> Json:
        with acting_for(ALPHA):
            begun = await bench.memory.append_session("Goal: go on.", author=THEM, project="alpha")
            return await bench.handoffs.checkpoint(
                author=THEM, session_id=begun["session_id"], client="claude-code", project="alpha"
            )

    assert run(work)["by"]["client"] == "ci"


# --- Handoffs -------------------------------------------------------------------------------------------------------


def _offer(store: MemoryStore, objective: str, **given: Any) -> str:
    return Handoffs(store).create(NewOffer(objective, **given), Party("person")).handoff.offer.id


def test_a_claim_without_an_id_passes_over_what_is_not_seen(run: Run) -> None:
    async def work(bench: Bench) -> None:
        _offer(bench.store, "Hidden by its project", project="beta", priority="urgent")
        _offer(bench.store, "Hidden by its level", project="alpha", trust=Trust.SECRET, priority="urgent")
        shown = _offer(bench.store, "Shown", project="alpha", priority="low")
        with acting_for(ALPHA):
            assert (await bench.handoffs.claim(author=THEM))["id"] == shown
            await bench.handoffs.complete(shown, author=THEM)
            with pytest.raises(NotFound) as none:
                await bench.handoffs.claim(author=THEM)
            assert none.value.message == "no handoff is open for 'ci'"
        assert (await bench.handoffs.list(state="offered"))["total"] == 2

    run(work)


def test_the_package_of_a_claim_has_what_is_seen_of_the_memory(run: Run) -> None:
    async def work(bench: Bench) -> None:
        for project, trust, title in [
            ("alpha", Trust.INTERNAL, "Shown walrus"),
            ("alpha", Trust.SECRET, "Hidden walrus"),
            ("beta", Trust.PUBLIC, "Other walrus"),
            (None, Trust.PUBLIC, "Nobody's walrus"),
        ]:
            bench.store.write(
                WriteMemory(ME, type="preference", title=title, body="walrus\n", project=project, trust=trust)
            )
        secret = bench.store.write(WriteMemory(ME, title="Decided orca", project="alpha", trust=Trust.SECRET)).id
        id_ = _offer(bench.store, "Feed the walrus", project="alpha", decisions=(secret,))
        with acting_for(ALPHA):
            done = await bench.handoffs.claim(id_, author=THEM, budget_tokens=4000)
        told = json.dumps(done)
        assert "Shown walrus" in told
        for hidden in ("Hidden walrus", "Other walrus", "Nobody's walrus", "Decided orca"):
            assert hidden not in told

    run(work)


def test_what_memories_say_reaches_a_token_by_no_other_tool_when_it_may_not_read_them(run: Run) -> None:
    blind = Access("ci", frozenset({"handoff", "gateway", "memory:write"}), ("alpha",), Trust.INTERNAL)

    async def work(bench: Bench) -> None:
        bench.store.write(WriteMemory(ME, type="preference", title="Feed orcas", body="walrus\n", project="alpha"))
        decided = bench.store.write(WriteMemory(ME, title="Decided orca", project="alpha")).id
        session = bench.store.write(AppendSession(ME, "Goal: hide the orca.", project="alpha")).id
        id_ = _offer(bench.store, "Feed the walrus", project="alpha", decisions=(decided,))
        with acting_for(blind):
            done = await bench.handoffs.claim(id_, author=THEM, budget_tokens=4000)
            assert "Feed the walrus" in done["text"]
            assert "orca" not in json.dumps(done)
            calls: list[Callable[[], Awaitable[Any]]] = [
                lambda: bench.memory.compact_session(session, author=THEM),
                lambda: bench.handoffs.create(author=THEM, session_id=session),
                lambda: bench.handoffs.checkpoint(author=THEM, session_id=session),
                lambda: bench.gateway.gateway_chat([{"role": "user", "content": "x"}], context={"query": "x"}),
                lambda: bench.gateway.gateway_route_preview("x", context={"query": "x"}),
            ]
            for call in calls:
                with pytest.raises(AccessDenied) as refused:
                    await call()
                assert refused.value.details["scope"] == "memory:read"
                assert "orca" not in json.dumps(refused.value.as_dict(), default=str)

    run(work)


def test_how_a_handoff_stands_is_told_and_what_hidden_events_say_is_not(run: Run) -> None:
    async def work(bench: Bench) -> None:
        id_ = _offer(bench.store, "Go on", project="alpha")
        await bench.handoffs.claim(id_, author=ME)
        await bench.handoffs.update(id_, f"Called jane, {EMAIL}", author=ME)  # raised to confidential
        await bench.handoffs.complete(id_, f"Done by {EMAIL}", author=ME)
        with acting_for(ALPHA):
            shown = await bench.handoffs.show(id_)
            (row,) = (await bench.handoffs.list(all=True))["handoffs"]
        assert shown["state"] == row["state"] == "done"
        assert shown["ended"]["by"]["client"] == "person"
        assert shown["ended"]["text"] == row["ended"]["text"] == ""
        assert [step["event"] for step in shown["steps"]] == ["claim", "progress", "done"]
        assert [step["text"] for step in shown["steps"]] == ["", "", ""]
        assert EMAIL not in json.dumps([shown, row])
        assert "Called jane" in json.dumps(await bench.handoffs.show(id_))

    run(work)


def test_what_came_to_nothing_is_told_of_handoffs_that_are_seen(run: Run) -> None:
    async def work(bench: Bench) -> None:
        ids = {project: _offer(bench.store, f"Work of {project}", project=project) for project in ("alpha", "beta")}
        service = Handoffs(bench.store)
        losses = service._remote.losses  # pyright: ignore[reportPrivateUsage]
        for id_ in ids.values():
            for client in ("first", "ci"):
                now = service.one(id_)
                bench.store.write(
                    AppendEvent(
                        Author(client), id_, (event := new_ulid()), "claim", 1, datetime.now(UTC), "Claimed",
                        fields={"term": 1, "lease_until": "2099-01-01T00:00:00Z", "provisional": client == "ci"},
                    )
                )  # fmt: skip
                losses.made(event)
                assert now.offer.id == id_
            losses.look(service.one(id_), lambda _: True, datetime.now(UTC))
        whole = service.lost()
        with acting_for(ALPHA):
            seen = service.within(await bench.memory.store())  # pyright: ignore[reportArgumentType]
        assert [text for text in whole if "Work of alpha" in text] == seen.lost()
        assert not any("Work of beta" in text for text in seen.lost(Party("ci")))

    run(work)


# --- Sessions -------------------------------------------------------------------------------------------------------


def test_an_entry_that_personal_data_hides_from_its_writer_is_answered_and_raises_the_summary(run: Run) -> None:
    async def work(bench: Bench) -> None:
        with acting_for(ALPHA):
            begun = await bench.memory.append_session("Goal: go on.", author=THEM, project="alpha")
            session = begun["session_id"]
            await bench.memory.compact_session(session, author=THEM)
            done = await bench.memory.append_session(f"Called {EMAIL}.", author=THEM, session_id=session)
            assert done["session_id"] == session
            assert any("can neither read nor change it" in note for note in done["notes"])
            with pytest.raises(NotFound):
                await bench.memory.read(session)
        for id_ in (session, summary_id(session)):
            assert bench.store.read(id_).record.trust is Trust.CONFIDENTIAL

    run(work)


def test_the_hub_summarises_a_whole_session_whoever_appended_last(run: Run) -> None:
    async def work(bench: Bench) -> None:
        begun = bench.store.write(AppendSession(ME, "Goal: feed the walrus.", project="alpha"))
        bench.store.write(WriteMemory(ME, id=begun.id, body="x" * (1024 * 1024)))
        second = bench.store.write(AppendSession(ME, "Goal: hide the orca.", begun.id))
        bench.store.write(WriteMemory(ME, id=second.id, trust=Trust.SECRET))
        with acting_for(ALPHA):
            done = await bench.memory.append_session("Next: sleep. " * 40, author=THEM, session_id=begun.id)
            while not bench.memory.idle:
                await asyncio.sleep(0.01)
            again = await bench.memory.append_session("More.", author=THEM, session_id=begun.id)
            assert not any("tokens" in note for note in [*done["notes"], *again["notes"]])
            with pytest.raises(NotFound):
                await bench.memory.read(summary_id(begun.id))
        summary = bench.store.read(summary_id(begun.id)).record
        assert summary.trust is Trust.SECRET
        assert "orca" in summary.body

    run(work, compact_sessions_at=50)


# --- Models ---------------------------------------------------------------------------------------------------------


def test_the_context_of_a_request_to_a_model_has_what_is_seen_and_so_have_its_receipts(run: Run) -> None:
    async def work(bench: Bench) -> None:
        for project, trust in [("alpha", Trust.PUBLIC), ("alpha", Trust.SECRET), ("beta", Trust.PUBLIC)]:
            title = f"Walrus of {project}, {trust}"
            bench.store.write(WriteMemory(ME, title=title, body="walrus\n", project=project, trust=trust))
        shown = next(record.id for record in bench.store.records() if record.title == "Walrus of alpha, public")
        asked: Json = {"messages": [{"role": "user", "content": "walrus"}], "context": {"query": "walrus"}}
        theirs = await bench.gateway.gateway_chat(**asked, client="person")
        assert len(theirs["context"]["sources"]) == 3
        with acting_for(ALPHA):
            mine = await bench.gateway.gateway_chat(**asked, client="ci")
            assert [source["id"] for source in mine["context"]["sources"]] == [shown]
            preview = await bench.gateway.gateway_route_preview("walrus", context={"query": "walrus"}, client="ci")
            assert not any(record.id in json.dumps(preview) for record in bench.store.records() if record.id != shown)
            listed = await bench.gateway.records.receipts_list()
            assert mine["receipt"] in json.dumps(listed)
            assert theirs["receipt"] not in json.dumps(listed)
            assert (await bench.gateway.records.receipts_show(mine["receipt"]))["receipt"]["id"] == mine["receipt"]
            for name in (theirs["receipt"], theirs["receipt"][-6:]):
                with pytest.raises(NotFound):
                    await bench.gateway.records.receipts_show(name)
        bench.store.write(WriteMemory(ME, id=shown, trust=Trust.SECRET))
        with acting_for(ALPHA), pytest.raises(NotFound):  # what was its context is hidden now
            await bench.gateway.records.receipts_show(mine["receipt"])
        assert (await bench.gateway.records.receipts_list())["receipts"]

    run(work)


@pytest.mark.parametrize("access", [ALPHA, EVERY_MEMORY])
def test_handoffs_and_routes_are_written_as_memories_only_with_the_scope_admin(run: Run, access: Access) -> None:
    given: dict[str, Json] = {
        "handoff": {"objective": "x", "next_action": "y"},
        "route": {"provider": "p", "model": "m", "purpose": "chat", "recent_calls": 50, "recent_answered": 50},
    }

    async def work(bench: Bench) -> None:
        memory = bench.memory
        note = (await memory.write(author=ME, title="A note", project="alpha"))["id"]
        for kind, fields_ in given.items():
            made, gone, edited = [
                (await memory.write(author=ME, type=kind, title=title, project="alpha", fields=fields_))["id"]
                for title in ("Count walruses", "Gone", "Edited")
            ]
            await memory.delete(gone, author=ME)
            text = (await memory.read(edited))["text"]
            before = (await memory.read(edited))["version"]
            # As an editor may, which changes the type, too.
            await memory.replace_text(edited, text.replace(f"type: {kind}", "type: note"), author=ME)
            attempts: list[Callable[[], Awaitable[Json]]] = [
                lambda kind=kind, given=fields_: memory.write(
                    author=THEM, type=kind, title="x", project="alpha", fields=given
                ),
                lambda made=made: memory.write(author=THEM, id=made, title="Mine"),
                lambda made=made: memory.write(author=THEM, id=made[-8:], title="Mine"),
                lambda made=made: memory.replace_text(made, "---\n---\n", author=THEM),
                lambda made=made: memory.delete(made, author=THEM),
                lambda gone=gone: memory.restore(gone, author=THEM),
                lambda edited=edited, before=before: memory.restore(edited, author=THEM, at=before),
            ]
            for rights in (access, replace(access, scopes=frozenset({"memory:read", "memory:write"}))):
                with acting_for(rights):
                    for attempt in attempts:
                        with pytest.raises(AccessDenied) as refused:
                            await attempt()
                        assert refused.value.details["scope"] == "admin"
            with acting_for(replace(access, scopes=frozenset(SCOPES))):
                assert (await memory.write(author=THEM, id=made, title="With the scope"))["id"] == made
        with acting_for(access):
            with pytest.raises(NotFound):
                await memory.delete(new_ulid(), author=THEM)
            with pytest.raises(InvalidInput, match="a type does not change"):
                await memory.write(author=THEM, id=note, type="route")
            assert (await memory.write(author=THEM, id=note, title="Theirs"))["id"] == note

    run(work)


@pytest.mark.parametrize("access", [ALPHA, EVERY_MEMORY])
def test_a_name_alone_makes_no_receipt_of_another_ones_own(run: Run, access: Access) -> None:
    def of(identity: str) -> Access:
        given = {each.name: getattr(access, each.name) for each in fields(Access)}
        return Admitted(**given, identity=identity)

    async def work(bench: Bench) -> None:
        records = bench.gateway.records
        here = await bench.gateway.gateway_complete("what I alone know", trust="secret", client="ci")
        with acting_for(of("01JC4Q8M3V9Z2K7W5T1R6XHB0D")):
            before = await bench.gateway.gateway_complete("of who had the name", client="ci")
        with acting_for(of("01JC4Q8M3V9Z2K7W5T1R6XHB0E")):
            mine = await bench.gateway.gateway_complete("mine", client="ci")
            listed = await records.receipts_list(own=True)
            assert [each["id"] for each in listed["receipts"]] == [mine["receipt"]]
            assert (await records.receipts_show(mine["receipt"], own=True))["receipt"]["id"] == mine["receipt"]
            for other in (here["receipt"], before["receipt"]):
                for name in (other, other[-8:]):
                    with pytest.raises(NotFound):
                        await records.receipts_show(name, own=True)
        assert len((await records.receipts_list())["receipts"]) == 3

    run(work)


def test_what_goes_on_behind_a_request_goes_on_as_the_hub_whoever_asked_first(run: Run) -> None:
    async def work(bench: Bench) -> None:
        with acting_for(ALPHA):
            await bench.gateway.gateway_complete("hello", client="ci")
            end = asyncio.get_running_loop().time() + 60
            while not (routes := [record for record in bench.store.records() if record.type == "route"]):
                assert asyncio.get_running_loop().time() < end, "how the model fared was not remembered"
                await asyncio.sleep(0.02)
        assert [record.project for record in routes] == [None]  # in no project: the client could not have written it

    run(work, upkeep=0.05)


def test_what_looks_like_a_secret_is_allowed_for_a_token_only_where_it_says_admin(run: Run) -> None:
    from adaptive_llm_gateway.server._allowance_operations import AllowanceOperations

    async def work(bench: Bench) -> None:
        allowances = AllowanceOperations(bench.memory)
        with acting_for(EVERY_MEMORY), pytest.raises(AccessDenied):
            await allowances.secrets_list()
        with acting_for(ADMIN):
            assert (await allowances.secrets_list())["allowances"] == []

    run(work)


# --- Syncing --------------------------------------------------------------------------------------------------------


def test_syncing_tells_a_client_how_it_ended_and_nothing_of_what_it_does_not_see(run: Run, tmp_path: Path) -> None:
    remote = tmp_path / "remote.git"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(remote)], check=True, timeout=60)

    async def work(bench: Bench) -> None:
        bench.store.write(WriteMemory(ME, title="Hidden orca", project="beta"))
        with acting_for(ALPHA):
            done = await bench.memory.sync(wait=60)
            assert done["state"] == "pushed"
            written = await bench.memory.write(author=THEM, title="Mine", project="alpha")
            told = json.dumps([done, written, await bench.memory.status()])
            assert "orca" not in told
            assert str(remote) not in told
            remote.rename(tmp_path / "away.git")
            with pytest.raises(SyncError) as failed:
                await bench.memory.pull(wait=60)
            assert str(tmp_path) not in json.dumps(failed.value.as_dict())
            status = await bench.memory.status()
            assert status["sync"]["state"] == "failed"
            assert str(tmp_path) not in json.dumps(status)
        with pytest.raises(SyncError) as whole:
            await bench.memory.pull(wait=60)
        assert str(tmp_path) in json.dumps(whole.value.as_dict())

    run(work, settings={"remote": str(remote)})


# --- The person at the socket ---------------------------------------------------------------------------------------


def test_who_sees_everything_is_handed_the_store_itself(run: Run) -> None:
    async def work(bench: Bench) -> None:
        for access in (EVERYTHING, EVERY_MEMORY):
            with acting_for(access):
                assert await bench.memory.store() is bench.store
        with acting_for(ALPHA):
            assert await bench.memory.store() is not bench.store
            assert await bench.memory.whole() is bench.store
            with pytest.raises(InvalidInput):
                await bench.memory.write(author=THEM, title="T")

    run(work)
