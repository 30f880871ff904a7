"""The operations in process: arguments as people give them, answers as JSON, and a store that is not there yet."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from adaptive_llm_gateway.core import AlgError, InvalidInput, LockHeld, NotFound, StorageError, VersionConflict
from adaptive_llm_gateway.memory import Author, MemoryStore
from adaptive_llm_gateway.memory.testing import temporary_store
from adaptive_llm_gateway.server._operations import Operations, iso, moment

ME = Author("test-client")
Run = Callable[[Callable[[Operations], Awaitable[Any]]], Any]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Runs a coroutine with operations over one store."""
    with contextlib.ExitStack() as stack:

        def open_store() -> MemoryStore:
            return stack.enter_context(temporary_store(tmp_path / "store"))

        def carry_out(work: Callable[[Operations], Awaitable[Any]]) -> Any:
            async def main() -> Any:
                operations = Operations(open_store, commit_wait=30.0)
                try:
                    result = await work(operations)
                    json.dumps(result, allow_nan=False)
                    return result
                finally:
                    await operations.close()

            return asyncio.run(main())

        yield carry_out


# --- arguments -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "end", "expected"),
    [
        ("2026-11-01", False, datetime(2026, 11, 1, tzinfo=UTC)),
        ("2026-11-01", True, datetime(2026, 11, 2, tzinfo=UTC)),
        (" 2026-11-01 ", True, datetime(2026, 11, 2, tzinfo=UTC)),
        ("20261101", True, datetime(2026, 11, 2, tzinfo=UTC)),
        ("2026-W45-1", True, datetime(2026, 11, 3, tzinfo=UTC)),
        ("2026-11-01T10:00", True, datetime(2026, 11, 1, 10, tzinfo=UTC)),
        ("2026-11", False, datetime(2026, 11, 1, tzinfo=UTC)),
        ("2026-11", True, datetime(2026, 12, 1, tzinfo=UTC)),
        ("March 2026", True, datetime(2026, 4, 1, tzinfo=UTC)),
        ("2026-11-01T10:00Z", False, datetime(2026, 11, 1, 10, tzinfo=UTC)),
        ("2026-11-01T10:00+02:00", False, datetime(2026, 11, 1, 8, tzinfo=UTC)),
    ],
)
def test_a_time_is_understood_as_people_write_it(text: str, end: bool, expected: datetime) -> None:
    assert moment(text, "since", end=end) == expected


@pytest.mark.parametrize(("text", "hours"), [("12h", 12), ("7d", 168), ("2 W", 336), ("1m", 720), ("1y", 8760)])
def test_an_age_is_counted_back_from_now(text: str, hours: int) -> None:
    before = datetime.now(UTC)
    found = moment(text, "since")
    assert before <= found + timedelta(hours=hours) <= datetime.now(UTC)


def test_a_day_may_be_named() -> None:
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    assert moment("today", "since") in (midnight, midnight + timedelta(days=1))
    assert moment("Yesterday", "until", end=True) - moment("yesterday", "since") == timedelta(days=1)


@pytest.mark.parametrize("text", ["", "soon", "99999y", "7", "d", "-3d", "2026-13-01", "0001-01-01T00:00+23:59"])
def test_what_is_no_time_is_named_with_its_argument(text: str) -> None:
    with pytest.raises(InvalidInput, match="'until'") as caught:
        moment(text, "until")
    assert caught.value.hint is not None
    assert "7d" in caught.value.hint


def test_a_time_is_told_in_utc_to_the_second() -> None:
    assert iso(datetime.fromisoformat("2026-11-01T10:00:00.999+02:00")) == "2026-11-01T08:00:00Z"
    assert iso(None) is None


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"type": "bogus"}, "decision"),
        ({"type": ["note", "bogus"]}, "bogus"),
        ({"limit": 0}, "1 to 100"),
        ({"limit": 101}, "1 to 100"),
        ({"since": "soon"}, "since"),
        ({"until": "soon"}, "until"),
        ({"max_trust": "top"}, "confidential"),
    ],
)
def test_a_wrong_filter_is_named_with_what_is_allowed(run: Run, given: dict[str, Any], word: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        run(lambda operations: operations.search("x", **given))
    assert word in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize(
    "links",
    [
        [{"rel": "r"}],
        [{"rel": "r", "id": 5}],
        [{}],
        [{"rel": "r", "id": "x", "more": "y"}],
        [{"rel": "r", "id": "../x"}],
    ],
)
def test_a_wrong_link_is_refused(run: Run, links: Any) -> None:
    with pytest.raises(InvalidInput):
        run(lambda operations: operations.write(author=ME, title="x", links=links))


def test_a_text_with_half_a_surrogate_pair_is_refused_by_name(run: Run) -> None:
    async def work(operations: Operations) -> Any:
        made = await operations.write(author=ME, title="x")
        with pytest.raises(InvalidInput, match="position 5"):
            await operations.replace_text(made["id"], "half \ud800 a pair", author=ME)
        return made

    run(work)


# --- what is answered ----------------------------------------------------------------------------------


def test_a_write_answers_what_it_did_and_where_it_stands(run: Run) -> None:
    done = run(lambda operations: operations.write(author=ME, title="Walrus", tags="sea, cold,,", trust="public"))
    assert done["operation"] == "write"
    assert done["state"] == "committed"
    assert done["commit"]
    assert done["commit_error"] is None
    assert done["unchanged"] is False
    assert done["sync"]["state"] == "no_remote"


def test_types_and_tags_may_be_a_list_or_separated_by_commas(run: Run) -> None:
    async def work(operations: Operations) -> Any:
        await operations.write(author=ME, title="one", tags="a, b")
        await operations.write(author=ME, title="two", type="fact", tags=["a"])
        await operations.write(author=ME, title="three", type="task")
        found = [
            await operations.list(type="note, fact", order="title"),
            await operations.list(type=["note", "task"], order="title"),
            await operations.list(tags=["a", "b"]),
            await operations.search("", tags="a"),
        ]
        return [sorted(row["title"] for row in answer.get("memories") or answer["hits"]) for answer in found]

    assert run(work) == [["one", "two"], ["one", "three"], ["one"], ["one", "two"]]


def test_a_stale_version_says_which_one_is_current(run: Run) -> None:
    async def work(operations: Operations) -> Any:
        made = await operations.write(author=ME, title="x", body="1\n")
        second = await operations.write(author=ME, id=made["id"], body="2\n", if_version=made["version"])
        with pytest.raises(VersionConflict) as caught:
            await operations.write(author=ME, id=made["id"], body="3\n", if_version=made["version"])
        assert caught.value.details["current_version"] == second["version"]
        return await operations.read(made["id"])

    assert run(work)["body"] == "2\n"


def test_a_memory_lives_through_delete_list_history_and_restore(run: Run) -> None:
    async def work(operations: Operations) -> Any:
        made = await operations.write(author=ME, title="x", body="1\n", reason="first")
        gone = await operations.delete(made["id"], author=ME, reason="by mistake")
        assert gone["version"] is None
        listed = await operations.list(deleted=True)
        assert [(row["id"], row["reason"]) for row in listed["memories"]] == [(made["id"], "by mistake")]
        history = await operations.history(made["id"])
        assert history["deleted"]
        assert [revision["reasons"] for revision in history["revisions"]] == [("by mistake",), ("first",)]
        with pytest.raises(NotFound):
            await operations.read(made["id"])
        back = await operations.restore(made["id"], author=ME)
        assert back["version"] == made["version"]
        return await operations.read(made["id"], at=made["version"])

    assert run(work)["body"] == "1\n"


def test_a_session_answers_its_id_also_from_its_second_file(run: Run) -> None:
    async def work(operations: Operations) -> Any:
        first = await operations.append_session("began", author=ME)
        second = await operations.append_session("more", author=ME, session_id=first["session_id"])
        assert first["session_id"] == second["session_id"] == first["id"]
        return await operations.status()

    status = run(work)
    assert status["by_type"] == {"session": 1}
    assert "note" in status["types"]


def test_a_pull_without_a_remote_says_so(run: Run) -> None:
    with pytest.raises(AlgError) as caught:
        run(lambda operations: operations.pull())
    assert caught.value.details["kind"] == "no_remote"


# --- a store that is not there yet -----------------------------------------------------------------------


def test_a_call_waits_for_a_store_that_is_opening(tmp_path: Path) -> None:
    gate = threading.Event()

    async def main(stack: contextlib.ExitStack) -> None:
        def open_store() -> MemoryStore:
            assert gate.wait(30)
            return stack.enter_context(temporary_store(tmp_path))

        operations = Operations(open_store, commit_wait=30.0)
        operations.open()
        waiting = asyncio.create_task(operations.write(author=ME, title="early"))
        assert operations.store_state == ("opening", None)
        gate.set()
        assert (await asyncio.wait_for(waiting, 60))["state"] == "committed"
        assert operations.store_state == ("open", None)
        await operations.close()

    with contextlib.ExitStack() as stack:
        asyncio.run(main(stack))


def test_a_store_that_cannot_be_opened_is_told_to_each_call(tmp_path: Path) -> None:
    async def main() -> None:
        def open_store() -> MemoryStore:
            raise LockHeld("held by process 1", owner={"pid": 1})

        operations = Operations(open_store, commit_wait=1.0)
        for _ in range(2):
            with pytest.raises(LockHeld, match="process 1"):
                await operations.search("x")
        assert operations.store_state[0] == "failed"
        await operations.close()

    asyncio.run(main())


def test_many_calls_at_once_are_all_answered(run: Run) -> None:
    async def work(operations: Operations) -> Any:
        writes = [operations.write(author=Author(f"c{n}"), title=f"Number {n}") for n in range(50)]
        done = await asyncio.gather(*writes, *(operations.search("number") for _ in range(20)))
        assert all(answer["state"] == "committed" for answer in done[:50])
        return await operations.list(limit=1)

    assert run(work)["total"] == 50


def test_after_the_end_a_write_is_refused_and_does_not_hang(tmp_path: Path) -> None:
    async def main(stack: contextlib.ExitStack) -> None:
        operations = Operations(lambda: stack.enter_context(temporary_store(tmp_path)), commit_wait=1.0)
        await operations.write(author=ME, title="before")
        await operations.close()
        with pytest.raises((AlgError, StorageError)):
            await asyncio.wait_for(operations.write(author=ME, title="after"), 30)

    with contextlib.ExitStack() as stack:
        asyncio.run(main(stack))
