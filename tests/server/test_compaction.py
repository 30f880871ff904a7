"""Session compaction through the operations, the tool and the command line."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from adaptive_llm_gateway.core import InvalidInput, SecretRefused
from adaptive_llm_gateway.memory import Author
from adaptive_llm_gateway.memory.testing import temporary_store
from adaptive_llm_gateway.server._compaction import GROWTH, Growth
from adaptive_llm_gateway.server._operations import Operations

ME = Author("test-client")
AT = 300
ENTRY = "We decided to keep SQLite, entry {}, as it needs no server.\n\n" + "Looked at the code for a while. " * 10


class Estimate:
    """A token for every four characters."""

    name = "estimate:test"
    exact = False

    def count(self, text: str) -> int:
        return (len(text) + 3) // 4


def run(tmp_path: Path, work: Callable[[Operations], Awaitable[Any]], *, at: int = 0, counter: Any = Estimate) -> Any:
    with contextlib.ExitStack() as stack:

        async def main() -> Any:
            operations = Operations(
                lambda: stack.enter_context(temporary_store(tmp_path / "store")),
                commit_wait=30.0,
                compact_sessions_at=at,
                counter=counter,
            )
            try:
                return json.loads(json.dumps(await asyncio.wait_for(work(operations), 60), allow_nan=False))
            finally:
                await operations.close()

        return asyncio.run(main())


async def until(condition: Callable[[], Awaitable[Any]]) -> Any:
    while not (value := await condition()):  # `run` bounds it
        await asyncio.sleep(0.01)
    return value


# --- The operation -------------------------------------------------------------------------------------------------


def test_compacting_again_replaces_the_summary_and_an_unchanged_log_leaves_it(tmp_path: Path) -> None:
    async def work(operations: Operations) -> Any:
        session = (await operations.append_session(ENTRY.format(1), author=ME))["session_id"]
        first = await operations.compact_session(session, author=ME)
        again = await operations.compact_session(session[-8:], author=ME)
        await operations.append_session("Fixed `a.py`.", author=ME, session_id=session)
        second = await operations.compact_session(session, author=ME)
        return session, first, again, second, await operations.read(second["id"]), await operations.status()

    session, first, again, second, memory, status = run(tmp_path, work)
    assert first["id"] == again["id"] == second["id"]
    assert (first["unchanged"], again["unchanged"], second["unchanged"]) == (False, True, False)
    assert first["version"] == again["version"] != second["version"]
    assert memory["body"] == second["compaction"]["text"]
    assert memory["links"] == [{"rel": "summarises", "id": session}]
    assert second["compaction"]["files"] == [{"name": "a.py", "entries": [2]}]
    assert [item["number"] for item in second["compaction"]["cited"]] == [1, 2]
    assert second["compaction"]["used"] <= second["compaction"]["budget"] == 2_000
    assert status["by_type"] == {"note": 1, "session": 1}


@pytest.mark.parametrize("budget", [0, -1, 10_000_001, 10**30])
def test_a_budget_outside_the_bounds_is_refused(tmp_path: Path, budget: int) -> None:
    async def work(operations: Operations) -> Any:
        session = (await operations.append_session("began", author=ME))["session_id"]
        with pytest.raises(InvalidInput, match="budget_tokens"):
            await operations.compact_session(session, author=ME, budget_tokens=budget)

    run(tmp_path, work)


def test_a_session_with_a_secret_that_came_in_by_another_way_gives_no_summary_with_it(tmp_path: Path) -> None:
    token = "ghp_" + "16C7e42F292c6912E7710c838347Ae178B4a"

    async def work(operations: Operations) -> Any:
        done = await operations.append_session("The goal is a release.", author=ME)
        file = tmp_path / "store" / "memory" / done["path"]
        with file.open("a", encoding="utf-8") as log:
            log.write(f"\nWe decided to use {token} for it.\n")
        with pytest.raises(SecretRefused):
            await operations.compact_session(done["session_id"], author=ME)
        return await operations.read(done["id"])

    assert run(tmp_path, work)["summary"] is None


# --- By itself -----------------------------------------------------------------------------------------------------


def test_a_session_that_grows_past_the_size_is_summarised_by_itself_and_the_next_answer_says_so(tmp_path: Path) -> None:
    async def work(operations: Operations) -> Any:
        first = await operations.append_session(ENTRY.format(0), author=ME)
        session = first["session_id"]
        answers = [first]
        for number in range(1, 4):
            answers.append(await operations.append_session(ENTRY.format(number), author=ME, session_id=session))

        async def summary() -> Any:
            return (await operations.read(session))["summary"]

        identifier = await until(summary)

        async def said() -> Any:
            answers.append(await operations.append_session("ok", author=ME, session_id=session))
            return any(answer["notes"] for answer in answers)

        await until(said)
        last = await operations.append_session("ok", author=ME, session_id=session)
        return (
            identifier,
            [note for answer in answers for note in answer["notes"]],
            last,
            await operations.read(identifier),
        )

    identifier, notes, last, memory = run(tmp_path, work, at=AT)
    (note,) = notes
    tokens = memory["fields"]["session_tokens"]
    assert note.startswith(f"the session has {tokens:,} tokens: its summary {identifier} was written")
    assert tokens >= AT
    assert last["notes"] == []
    assert memory["author"]["client"] == "test-client"


def test_an_append_does_not_wait_for_the_summary_that_it_leads_to(tmp_path: Path) -> None:
    allowed = threading.Event()

    class Slow(Estimate):
        def count(self, text: str) -> int:
            assert allowed.wait(60)
            return super().count(text)

    async def work(operations: Operations) -> Any:
        session = (await operations.append_session(ENTRY.format(0) * 5, author=ME))["session_id"]
        await operations.append_session("more", author=ME, session_id=session)
        before = (await operations.read(session))["summary"]
        allowed.set()

        async def summary() -> Any:
            return (await operations.read(session))["summary"]

        return before, await until(summary)

    before, after = run(tmp_path, work, at=AT, counter=Slow)
    assert before is None
    assert after


def test_the_next_summary_comes_by_itself_only_after_the_stated_growth(tmp_path: Path) -> None:
    async def work(operations: Operations) -> Any:
        session = (await operations.append_session(ENTRY.format(0) * 5, author=ME))["session_id"]
        seen: list[int] = []
        for number in range(1, 30):
            await operations.append_session(ENTRY.format(number), author=ME, session_id=session)
            await until(lambda: quiet(operations))
            identifier = (await operations.read(session))["summary"]
            tokens = (await operations.read(identifier))["fields"]["session_tokens"]
            if tokens not in seen:
                seen.append(tokens)
        return seen

    async def quiet(operations: Operations) -> bool:
        return operations.idle

    seen = run(tmp_path, work, at=AT)
    assert len(seen) >= 3
    assert all(GROWTH <= later / earlier < GROWTH + 0.6 for earlier, later in itertools.pairwise(seen))


def test_what_is_to_be_said_of_sessions_to_which_nobody_comes_back_is_kept_for_the_last_thousand() -> None:
    growth = Growth(AT)
    for number in range(3_000):
        growth.ended(f"session-{number}", "It was summarised.")
    kept = [number for number in range(3_000) if growth.told(f"session-{number}")]
    assert kept == list(range(2_000, 3_000))


def test_no_session_is_summarised_by_itself_where_the_setting_is_nought(tmp_path: Path) -> None:
    async def work(operations: Operations) -> Any:
        session = (await operations.append_session(ENTRY.format(0) * 50, author=ME))["session_id"]
        await operations.append_session("more", author=ME, session_id=session)
        assert operations.idle
        return await operations.read(session)

    assert run(tmp_path, work)["summary"] is None


def test_a_summary_that_somebody_deleted_does_not_come_back_by_itself(tmp_path: Path) -> None:
    async def work(operations: Operations) -> Any:
        session = (await operations.append_session("began", author=ME))["session_id"]
        made = await operations.compact_session(session, author=ME)
        await operations.delete(made["id"], author=ME)
        for number in range(4):
            await operations.append_session(ENTRY.format(number), author=ME, session_id=session)

        async def quiet() -> bool:
            return operations.idle

        await until(quiet)
        return await operations.read(session)

    assert run(tmp_path, work, at=AT)["summary"] is None


# --- Through clients -----------------------------------------------------------------------------------------------


def test_a_client_compacts_its_session_and_finds_the_summary(server: Any) -> None:
    client = server.client("claude-code")
    session = client.call(
        "memory_append_session", text="The goal is a faster build.\n\nWe decided to cache wheels, because CI is slow."
    ).split("session_id ")[1][:26]
    client.call("memory_append_session", text="Changed ci/build.py. Next: measure it.", session_id=session)
    answer = client.call("memory_compact_session", session=session, budget_tokens=500)
    assert "tokens (o200k_base), 2 entries" in answer
    assert "- We decided to cache wheels, because CI is slow. [1]" in answer
    assert "memory_record_decision" in answer
    assert "not instructions" in answer
    summary = server.id_of(answer)
    assert f"its summary: {summary}" in client.call("memory_read", id=session)
    assert "[1]" in client.call("memory_read", id=summary)
    assert "Nothing to change" in client.call("memory_compact_session", session=session, budget_tokens=500)
    assert "faster build" in client.call("memory_read", id=session)  # the log stays


def test_what_cannot_be_compacted_is_refused_with_what_to_do(server: Any) -> None:
    client = server.client()
    note = client.write("A note")
    assert "is a note, not a session" in client.refused("memory_compact_session", session=note)
    assert "no memory" in client.refused("memory_compact_session", session="01ARZ3NDEKTSV4RRFFQ69G5FAV")
    assert "not a memory id" in client.refused("memory_compact_session", session="../x")
    empty = client.write("Empty", type="session")
    assert "no entries" in client.refused("memory_compact_session", session=empty)
    session = client.call("memory_append_session", text="began").split("session_id ")[1][:26]
    assert "The least that works here is" in client.refused("memory_compact_session", session=session, budget_tokens=3)
    assert "Wrong arguments" in client.refused("memory_compact_session", session=session, budget_tokens="many")
    assert client.refused("memory_compact_session", session=session, budget_tokens=0)


def test_the_command_line_compacts_a_session(server: Any) -> None:
    session = (
        server.client()
        .call("memory_append_session", text="We decided to cache wheels, because CI is slow.")
        .split("session_id ")[1][:26]
    )
    done = server.alg("memory", "compact", session, "--budget", "300")
    assert done.stdout.startswith("Summary of the log of session")
    assert "of 300 tokens (o200k_base), 1 entries" in done.stderr
    again = server.json("memory", "compact", session, "--budget", "300")
    assert again["unchanged"]
    assert again["compaction"]["text"].strip() == done.stdout.strip()
    assert again["compaction"]["decisions"][0]["rationale"] == "CI is slow."
    refused = server.alg("memory", "compact", "01ARZ3NDEKTSV4RRFFQ69G5FAV", check=False)
    assert refused.returncode != 0
    assert "no memory" in refused.stderr
