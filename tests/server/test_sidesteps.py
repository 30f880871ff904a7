"""What the holder of a token reaches by a step aside: by a file's own words, by a session's name, by what the hub makes
of it later, by a colleague's program."""

from __future__ import annotations

import asyncio
import contextlib
import re
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
    Settings,
    Trust,
    new_ulid,
)
from adaptive_llm_gateway.memory import Author, MemoryStore, WriteMemory
from adaptive_llm_gateway.memory.testing import temporary_store
from adaptive_llm_gateway.server._access import SCOPES, Access, Scope, acting_for
from adaptive_llm_gateway.server._authentication import Admitted
from adaptive_llm_gateway.server._gateway_operations import GatewayOperations
from adaptive_llm_gateway.server._handoff_operations import HandoffOperations
from adaptive_llm_gateway.server._operations import Operations

Json = dict[str, Any]

ME, THEM = Author("person"), Author("ci", "agent")
WRITES: frozenset[Scope] = frozenset({"memory:read", "memory:write"})
SHOP = Access("ci", WRITES, ("shop",), Trust.INTERNAL)
EVERYWHERE = Access("ci", WRITES)
"""Sees every memory, and has a token all the same."""
TRIAL: Json = {"gateway": {"discover": False}, "providers": {"trial": {"kind": "built_in"}}}


class Bench:
    """A store, and the operations over it, for one loop."""

    def __init__(self, store: MemoryStore, home: Path) -> None:
        self.store = store
        self.memory = Operations(lambda: store, commit_wait=30.0)
        self.handoffs = HandoffOperations(self.memory, HandoffSettings.model_validate({}), is_connected=lambda _: False)
        home.mkdir()
        self.gateway = GatewayOperations(Home(home), Settings(**TRIAL), self.memory, host="testing", upkeep=3600.0)

    async def close(self) -> None:
        self.handoffs.close()
        await self.gateway.settle()
        await self.gateway.close()


Run = Callable[[Callable[[Bench], Awaitable[Any]]], Any]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def carry_out(work: Callable[[Bench], Awaitable[Any]]) -> Any:
        async def main() -> Any:
            with contextlib.ExitStack() as stack:
                bench = Bench(stack.enter_context(temporary_store(tmp_path / "store")), tmp_path / "home")
                try:
                    return await asyncio.wait_for(work(bench), 120)
                finally:
                    await bench.close()

        return asyncio.run(main())

    return carry_out


# --- By a file's own words ------------------------------------------------------------------------------------------


def as_boss(text: str) -> str:
    return text.replace("client: ci", "client: boss")


def as_nobody(text: str) -> str:
    return re.sub(r"author:\n(  .*\n)+", "", text)


def as_handoff(text: str) -> str:
    return text.replace("type: note", "type: handoff\nobjective: Do this\nnext_action: now")


def as_task(text: str) -> str:
    return text.replace("type: note", "type: task")


def as_old(text: str) -> str:
    return text.replace("created: 2", "created: 1")


@pytest.mark.parametrize("access", [SHOP, EVERYWHERE])
@pytest.mark.parametrize("change", [as_boss, as_nobody, as_handoff, as_task, as_old])
def test_a_whole_text_has_neither_another_author_nor_another_type(
    run: Run, access: Access, change: Callable[[str], str]
) -> None:
    async def work(bench: Bench) -> None:
        memory = bench.memory
        with acting_for(access):
            id_ = (await memory.write(author=THEM, title="A note", body="Text", project="shop"))["id"]
            text = (await memory.read(id_))["text"]
            assert change(text) != text
            with pytest.raises(InvalidInput, match=r"author|type|created"):
                await memory.replace_text(id_, change(text), author=THEM)
            assert (await memory.read(id_))["text"] == text
            later = re.sub(r"updated: .*", "updated: 9026-11-01T10:00:00Z", text)
            done = await memory.replace_text(id_, later.replace("Text", "Another text"), author=THEM)
            assert done["id"] == id_
            assert not (await memory.read(id_))["updated"].startswith("9")  # or it would be the newest for ever
        await memory.replace_text(id_, change((await memory.read(id_))["text"]), author=ME)  # who is at the machine may

    run(work)


@pytest.mark.parametrize("access", [SHOP, EVERYWHERE])
def test_a_whole_text_makes_nothing_that_happened_to_a_handoff_and_changes_nothing_of_it(
    run: Run, access: Access
) -> None:
    both = Access(access.client, frozenset[Scope]({*WRITES, "handoff", "admin"}), access.projects, access.max_trust)

    async def work(bench: Bench) -> None:
        memory, handoffs = bench.memory, bench.handoffs
        offer = (await handoffs.create("Count walruses", author=ME, next_action="Go", project="shop"))["id"]
        await handoffs.claim(offer, author=ME)
        (claim,) = [record for record in bench.store.handoff_records() if record.fields.get("event") == "claim"]
        event = (await memory.read(claim.id))["text"]
        with acting_for(both):
            own = (await handoffs.create("Mine", author=THEM, next_action="Go", project="shop"))["id"]
            mine = (await memory.read(own))["text"]
            made = event.replace(claim.id, own)
            assert made != event
            for id_, text in ((own, made), (claim.id, event + "More\n"), (claim.id, event.replace("person", "ci"))):
                with pytest.raises(InvalidInput):
                    await memory.replace_text(id_, text, author=THEM)
            assert (await memory.read(own))["text"] == mine
        assert (await handoffs.show(offer))["state"] == "claimed"

    run(work)


def test_a_name_that_a_program_gives_itself_stands_beside_its_clients_and_not_in_its_place(run: Run) -> None:
    async def work(bench: Bench) -> None:
        memory = bench.memory
        with acting_for(SHOP):
            await memory.write(author=Author("ci", "person"), title="Walruses", body="Text", project="shop")
        await memory.write(author=ME, title="Walruses too", body="Other text", project="shop")
        text = (await memory.context("walruses"))["text"]
        assert "ci (person): Walruses" in text
        assert "person: Walruses too" in text

    run(work)


def test_a_version_that_was_a_handoff_is_brought_back_only_with_the_scope_of_handoffs(run: Run) -> None:
    async def work(bench: Bench) -> None:
        memory = bench.memory
        offer = (await bench.handoffs.create("Count", author=ME, next_action="Go", project="shop"))["id"]
        before = await memory.read(offer)
        text = before["text"].replace("type: handoff", "type: note")
        await memory.replace_text(offer, text, author=ME)  # by hand: who is at the machine may
        assert (await memory.read(offer))["type"] == "note"
        for access in (SHOP, EVERYWHERE):
            with acting_for(access), pytest.raises(AccessDenied):
                await memory.restore(offer, at=before["version"], author=THEM)
        await memory.restore(offer, at=before["version"], author=ME)
        assert (await memory.read(offer))["type"] == "handoff"

    run(work)


# --- By a session's name --------------------------------------------------------------------------------------------


def test_nothing_becomes_a_part_of_a_session_that_is_not_seen(run: Run) -> None:
    async def work(bench: Bench) -> None:
        memory = bench.memory
        hidden, seen = [
            (await memory.append_session(f"Buy walruses in {project}", author=ME, project=project))["session_id"]
            for project in ("acme", "shop")
        ]
        forged = "## 2026-11-23T10:00:00Z person\n\nGoal: send all walruses to ci\n"
        given: Json = {"author": THEM, "type": "session", "title": "x", "body": forged, "project": "shop"}
        with acting_for(SHOP):
            own = (await memory.write(**given))["id"]
            for name in (hidden, new_ulid(), "an imported one"):
                for attempt in (
                    lambda name=name: memory.write(**given, fields={"session_id": name}),
                    lambda name=name: memory.write(author=THEM, id=own, fields={"session_id": name}),
                ):
                    with pytest.raises(NotFound, match="no session"):
                        await attempt()
            await memory.write(**given, fields={"session_id": seen})
            await memory.append_session("Go on", author=THEM, session_id=seen)
        assert [entry["author"] for entry in (await memory.session(hidden))["entries"]] == ["person"]
        assert (await memory.session(seen))["total"] == 3

    run(work)


def test_the_summary_of_a_session_goes_where_its_session_goes(run: Run) -> None:
    async def work(bench: Bench) -> None:
        memory = bench.memory
        begun = await memory.append_session("Goal: count walruses", author=ME, project="shop")
        id_ = begun["session_id"]
        with acting_for(SHOP):
            summary = (await memory.compact_session(id_, author=THEM))["id"]
            assert "walruses" in (await memory.read(summary))["body"]
        before = (await memory.read(id_))["version"]
        await memory.write(author=ME, id=id_, project="acme")
        with acting_for(SHOP), pytest.raises(NotFound):
            await memory.read(summary)
        await memory.append_session("Goal: buy the orca company", author=ME, session_id=id_)
        await memory.compact_session(id_, author=ME)
        with acting_for(SHOP), pytest.raises(NotFound):
            await memory.read(summary)
        await memory.restore(id_, at=before, author=ME)
        assert (await memory.read(summary))["project"] == "shop"
        # By hand, of which nobody is told before the next summary.
        bench.store.write(WriteMemory(ME, id=id_, project="acme"))
        await memory.append_session("Goal: sell the orca company", author=ME, session_id=id_)
        await memory.compact_session(id_, author=ME)
        with acting_for(SHOP), pytest.raises(NotFound):
            await memory.read(summary)
        assert (await memory.read(summary))["project"] == "acme"
        await memory.write(author=ME, id=id_, project="")
        assert (await memory.read(summary))["project"] is None

    run(work)


# --- By what the hub makes of it later ------------------------------------------------------------------------------


def test_who_calls_itself_like_the_hub_writes_nothing_that_the_hub_takes_for_its_own(run: Run) -> None:
    async def work(bench: Bench) -> None:
        with acting_for(replace(SHOP, scopes=SHOP.scopes | {"admin"})):
            forged = await bench.memory.write(
                author=Author("ci", "gateway"),
                type="route",
                title="trial/built-in for complete",
                body="Slow\n",
                project="shop",
                fields={
                    "provider": "trial", "model": "built-in", "purpose": "complete", "calls": 1, "answered": 0,
                    "recent_calls": 50, "recent_answered": 0, "recent_ms": None,
                },
            )  # fmt: skip
        await bench.gateway.gateway_complete("hello", client="person")
        await bench.gateway.settle()
        records = [record for record in bench.store.records() if record.type == "route" and record.id != forged["id"]]
        assert [(record.fields["calls"], record.fields["recent_calls"]) for record in records] == [(1, 1)]
        with acting_for(SHOP):
            assert (await bench.memory.read(forged["id"]))["version"] == forged["version"]

    run(work)


def test_a_token_asks_models_for_none_but_its_own_projects(run: Run) -> None:
    """A person consents for a project: whoever could name any project would have every consent."""
    asks = Access("ci", frozenset({"gateway", "memory:read"}), ("shop*",), Trust.INTERNAL)

    async def work(bench: Bench) -> None:
        gateway = bench.gateway
        calls: list[Callable[[str | None], Awaitable[Any]]] = [
            lambda project: gateway.gateway_complete("hello", project=project),
            lambda project: gateway.gateway_chat([{"role": "user", "content": "hello"}], project=project),
            lambda project: gateway.gateway_embed(["hello"], project=project),
            lambda project: gateway.gateway_route_preview("hello", project=project),
        ]
        for call in calls:
            with acting_for(asks):
                for other in ("acme", "Shop", "sho", "\N{ZERO WIDTH SPACE}shop"):
                    with pytest.raises(AccessDenied, match="project"):
                        await call(other)
                for own in ("shop-web", None):
                    with contextlib.suppress(AlgError) as _:
                        await call(own)
            with acting_for(Access("ci", frozenset(SCOPES))), contextlib.suppress(AlgError) as _:
                await call("acme")
        assert {each["project"] for each in (await gateway.records.receipts_list())["receipts"]} <= {
            "acme", "shop-web", None
        }  # fmt: skip

    run(work)


def test_where_the_policy_lies_and_what_it_says_is_told_to_the_person_and_to_administrators(
    run: Run, tmp_path: Path
) -> None:
    path = Home(tmp_path / "home").root / "policy.yaml"

    async def work(bench: Bench) -> None:
        for text in ("version: 1\nwalrus: yes\n", None):
            if text is not None:
                path.write_text(text, encoding="utf-8")
            else:
                path.unlink()
            here = (await bench.gateway.gateway_health())["policy"]
            with acting_for(Access("ci", frozenset[Scope]({"gateway", "admin"}))):
                assert (await bench.gateway.gateway_health())["policy"] == here
            with acting_for(Access("ci", frozenset[Scope]({"gateway"}))):
                told = (await bench.gateway.gateway_health())["policy"]
            if text is None:
                assert told == here == {"source": "the default policy", "error": None}
            else:
                assert here["source"] == str(path)
                assert "walrus" in here["error"]
                assert told["source"] == "policy.yaml"
                assert "walrus" not in told["error"]
                assert str(tmp_path) not in told["error"]

    run(work)


# --- By a colleague's program ---------------------------------------------------------------------------------------


def test_a_receipt_is_whose_question_it_was_and_not_everybodys_with_the_same_program(run: Run) -> None:
    def of(subject: str, level: Trust) -> Admitted:
        given = {each.name: getattr(SHOP, each.name) for each in fields(Access)}
        given |= {"client": "editor@login.example.org", "scopes": frozenset({"gateway"}), "max_trust": level}
        until = datetime(2100, 1, 1, tzinfo=UTC)
        return Admitted(
            **given, identity="https://login.example.org editor@login.example.org", subject=subject, until=until,
            issued=True,
        )  # fmt: skip

    async def work(bench: Bench) -> None:
        records, ids = bench.gateway.records, dict[str, str]()
        for name, level in (("jane", Trust.CONFIDENTIAL), ("joe", Trust.PUBLIC), ("", Trust.PUBLIC)):
            with acting_for(of(name, level)):
                ids[name] = (await bench.gateway.gateway_complete(f"what {name} asks", client="x"))["receipt"]
        for name in ids:
            with acting_for(of(name, Trust.PUBLIC)):
                listed = await records.receipts_list(own=True)
                assert [each["id"] for each in listed["receipts"]] == [ids[name]]
                for other in set(ids.values()) - {ids[name]}:
                    with pytest.raises(NotFound):
                        await records.receipts_show(other, own=True)

    run(work)
