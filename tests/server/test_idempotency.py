"""What becomes of a request that comes twice with one `Idempotency-Key`: at the same time, later, and after a crash."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from rest_made import ALL, RestServer, rest_server

from adaptive_llm_gateway.core import StorageError, Trust
from adaptive_llm_gateway.server import _idempotency
from adaptive_llm_gateway.server._authentication import Admitted
from adaptive_llm_gateway.server._idempotency import (
    KEPT_SECONDS,
    Begun,
    Idempotency,
    Kept,
    KeyInUse,
    KeyReused,
    OutcomeUnknown,
)

ONE, OTHER = b"1" * 32, b"2" * 32
DONE = Kept(201, {"etag": '"v"'}, b'{"id": "x"}')


@pytest.fixture
def rest(tmp_path: Path) -> Iterator[RestServer]:
    with rest_server(tmp_path) as server:
        yield server


def key(text: str) -> dict[str, str]:
    return {"idempotency-key": text}


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json().get("code")


# --- Over HTTP ------------------------------------------------------------------------------------------------------


def test_a_write_that_comes_again_is_answered_again_and_not_carried_out_again(rest: RestServer) -> None:
    client = rest.client()
    first = client.post("/memories", json={"title": "once"}, headers=key("a"))
    again = client.post("/memories", json={"title": "once"}, headers=key('"a"'))  # quotes are not part of it
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    for name in ("etag", "location", "content-type"):
        assert again.headers[name] == first.headers[name]
    assert (again.status_code, again.content) == (201, first.content)
    assert client.get("/memories").json()["total"] == 1
    one = first.headers["location"].removeprefix("/api/v1")
    for send in (
        lambda: client.patch(one, json={"body": "b"}, headers=key("b") | {"if-match": first.headers["etag"]}),
        lambda: client.delete(one, headers=key("c")),
        lambda: client.post(f"{one}/restore", json={}, headers=key("d")),
        lambda: client.post("/sessions", json={"text": "t"}, headers=key("e")),
        lambda: client.post("/handoffs", json={"objective": "o"}, headers=key("f")),
        lambda: client.post("/handoffs/claim", json={}, headers=key("g")),
    ):
        before, after = send(), send()
        assert before.status_code in (200, 201), before.text
        assert (after.status_code, after.content) == (before.status_code, before.content)
        assert after.headers["idempotency-replayed"] == "true"
    assert client.get(f"{one}/history").json()["revisions"][0]["subject"].startswith("Restore")
    assert client.get("/handoffs").json()["total"] == 1


def test_a_key_stands_for_one_request_of_one_client_with_its_rights(rest: RestServer) -> None:
    client = rest.client()
    made = client.post("/memories", json={"title": "once"}, headers=key("a"))
    one = made.headers["location"].removeprefix("/api/v1")
    assert code(client.post("/memories", json={"title": "twice"}, headers=key("a"))) == (422, "key_reused")
    assert code(client.patch(one, json={"title": "once"}, headers=key("a"))) == (422, "key_reused")
    assert code(client.post("/memories", json={"title": "once"}, headers=key("a") | {"alg-agent": "x"}))[0] == 422
    rest.callers["other"] = replace(ALL, client="other")
    theirs = rest.client("other").post("/memories", json={"title": "once"}, headers=key("a"))
    assert (theirs.status_code, theirs.json()["id"] != made.json()["id"]) == (201, True)
    # Nor does another one of the same name get what the first was answered.
    rest.callers["new"] = Admitted("same", identity="01JC4Q8M3V9Z2K7W5T1R6XHB0D")
    rest.callers["old"] = Admitted("same", identity="01JC4Q8M3V9Z2K7W5T1R6XHB0E")
    named = [rest.client(each).post("/memories", json={"title": "x"}, headers=key("b")) for each in ("old", "new")]
    assert len({each.json()["id"] for each in named}) == 2
    # What was answered may be more than it is to see now.
    rest.callers["narrowed"] = replace(ALL, max_trust=Trust.PUBLIC)
    narrowed = rest.client("narrowed").post("/memories", json={"title": "once"}, headers=key("a"))
    assert code(narrowed) == (422, "key_reused")
    rest.callers["barred"] = replace(ALL, scopes=frozenset({"memory:read"}))
    barred = rest.client("barred").post("/memories", json={"title": "once"}, headers=key("a"))
    assert code(barred) == (403, "access_denied")


def test_a_client_with_the_name_of_one_that_was_there_before_has_none_of_its_answers(rest: RestServer) -> None:
    for identity in ("before", "after"):
        rest.callers[identity] = Admitted(client="laptop", identity=identity)
    before, after = rest.client("before"), rest.client("after")
    theirs = before.post("/memories", json={"title": "once"}, headers=key("a"))
    mine = after.post("/memories", json={"title": "once"}, headers=key("a"))
    assert (mine.status_code, "idempotency-replayed" in mine.headers) == (201, False)
    assert mine.json()["id"] != theirs.json()["id"]
    assert after.post("/memories", json={"title": "other"}, headers=key("b")).status_code == 201
    assert before.post("/memories", json={"title": "another"}, headers=key("b")).status_code == 201


def test_what_was_refused_may_be_asked_again_with_its_key(rest: RestServer) -> None:
    client = rest.client()
    assert client.post("/memories", json={}, headers=key("a")).status_code == 422
    assert client.post("/memories", json={"titel": "x"}, headers=key("a")).status_code == 400
    assert client.post("/memories", json={"title": "x"}, headers=key("a")).status_code == 201


@pytest.mark.parametrize("wrong", ["", "x" * 256, "a b", '"', '""', '"a'])
def test_a_header_that_is_no_key_is_refused(rest: RestServer, wrong: str) -> None:
    assert code(rest.client().post("/memories", json={"title": "x"}, headers=key(wrong))) == (400, "invalid_request")


def test_a_route_whose_answers_are_not_kept_says_so(rest: RestServer) -> None:
    client = rest.client()
    for path, body in (("/search", {}), ("/gateway/complete", {"prompt": "x"}), ("/context", {"query": "x"})):
        assert code(client.post(path, json=body, headers=key("a"))) == (400, "invalid_request")
    two = client.post("/memories", json={"title": "x"}, headers=[("idempotency-key", "a"), ("idempotency-key", "b")])
    assert code(two) == (400, "invalid_request")
    assert client.get("/memories", headers=key("a")).status_code == 200


def test_one_that_comes_while_the_first_is_carried_out_waits_for_its_answer(rest: RestServer) -> None:
    client = rest.client()

    def ask(_number: int) -> httpx.Response:
        return client.post("/memories", json={"title": "together"}, headers=key("a"))

    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(ask, range(16)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert sum("idempotency-replayed" not in answer.headers for answer in answers) == 1
    assert client.get("/memories").json()["total"] == 1


def test_the_file_is_the_persons_alone_and_has_neither_key_nor_client_nor_text(
    rest: RestServer, tmp_path: Path
) -> None:
    client = rest.client()
    client.post(
        "/memories", json={"title": "a title", "body": "what-the-body-says", "reason": "why-so"}, headers=key("the-key")
    )
    folder = tmp_path / "home"
    files = sorted(folder.glob("idempotency.db*"))
    assert files
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    data = b"".join(path.read_bytes() for path in files)
    for text in (b"the-key", b"tester", b"what-the-body-says", b"why-so"):
        assert text not in data


# --- In process -----------------------------------------------------------------------------------------------------


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def run(path: Path, work: Any, *, clock: Any = None) -> Any:
    """Something with the keys of a file; each time as another process would."""

    async def main() -> Any:
        keys = Idempotency(path, **({"clock": clock} if clock else {}))
        try:
            return await work(keys)
        finally:
            keys.close()

    return asyncio.run(main())


def begins(request: bytes, *, safe: bool = False) -> Callable[[Idempotency], Awaitable[Begun | Kept]]:
    return lambda keys: keys.begin("c", "k", request, safe=safe)


def test_answers_outlive_the_process_for_a_day(tmp_path: Path) -> None:
    path, clock = tmp_path / "keys.db", Clock()

    async def ask(keys: Idempotency) -> None:
        begun = await keys.begin("c", "k", ONE)
        assert isinstance(begun, Begun)
        await keys.keep(begun, DONE)

    run(path, ask, clock=clock)
    clock.now += KEPT_SECONDS - 1
    assert run(path, begins(ONE), clock=clock) == DONE
    clock.now += 2
    assert isinstance(run(path, begins(ONE), clock=clock), Begun)


def test_of_a_request_that_a_process_died_over_nobody_says_that_it_was_not_carried_out(tmp_path: Path) -> None:
    path = tmp_path / "keys.db"
    first = run(path, begins(ONE))
    with pytest.raises(OutcomeUnknown):
        run(path, begins(ONE))
    with pytest.raises(KeyReused):
        run(path, begins(OTHER))
    again = run(path, begins(ONE, safe=True))
    assert again.again
    assert again.new_id == first.new_id


def test_a_request_that_takes_too_long_keeps_others_with_its_key_waiting_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_idempotency, "_WAIT_SECONDS", 0.05)  # the wait is what is looked at

    async def work(keys: Idempotency) -> None:
        begun = await keys.begin("c", "k", ONE)
        assert isinstance(begun, Begun)
        with pytest.raises(KeyInUse):
            await keys.begin("c", "k", ONE)
        with pytest.raises(KeyReused):
            await keys.begin("c", "k", OTHER)
        await keys.drop(begun)
        assert isinstance(await keys.begin("c", "k", OTHER), Begun)

    run(tmp_path / "keys.db", work)


def test_an_answer_that_is_too_long_is_not_kept_but_that_it_was_given_is(rest: RestServer, tmp_path: Path) -> None:
    async def work(keys: Idempotency) -> Any:
        begun = await keys.begin("c", "k", ONE)
        assert isinstance(begun, Begun)
        await keys.keep(begun, replace(DONE, body=b"x" * (_idempotency.MOST_BYTES + 1)))
        return await keys.begin("c", "k", ONE)

    kept = run(tmp_path / "keys.db", work)
    assert (kept.status, kept.body) == (201, None)


def test_a_client_has_so_many_keys_and_the_oldest_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_idempotency, "MOST_OF_A_CLIENT", 20)
    monkeypatch.setattr(_idempotency, "_PRUNE_EVERY", 10)
    clock = Clock()

    async def work(keys: Idempotency) -> None:
        for number in range(100):
            clock.now += 1
            begun = await keys.begin("c", str(number), ONE)
            assert isinstance(begun, Begun)
            await keys.keep(begun, DONE)
        other = await keys.begin("other", "k", ONE)
        assert isinstance(other, Begun)
        assert isinstance(await keys.begin("c", "99", ONE), Kept)

    run(tmp_path / "keys.db", work, clock=clock)
    with sqlite3.connect(tmp_path / "keys.db") as database:
        (count,) = database.execute("SELECT count(*) FROM requests").fetchone()
    database.close()
    assert count <= 31


def test_a_file_that_cannot_be_used_has_the_request_refused_and_nothing_done(tmp_path: Path) -> None:
    path = tmp_path / "keys.db"
    path.write_bytes(b"no database, whatever its name says\n" * 200)
    for _ in range(2):
        with pytest.raises(StorageError, match=r"keys\.db"):
            run(path, begins(ONE))
    with rest_server(tmp_path) as rest:
        (tmp_path / "home" / "idempotency.db").write_bytes(b"no database\n" * 1000)
        client = rest.client()
        assert code(client.post("/memories", json={"title": "x"}, headers=key("a"))) == (500, "storage")
        assert client.get("/memories").json()["total"] == 0
        assert client.post("/memories", json={"title": "x"}).status_code == 201


def _refuse_to(change: str, folder: Path) -> None:
    """Have the file of keys refuse one kind of change from now on, as one whose disk is full does."""
    database = sqlite3.connect(folder / "home" / "idempotency.db")
    database.execute(f"CREATE TRIGGER full BEFORE {change} ON requests BEGIN SELECT RAISE(FAIL, 'full'); END")
    database.commit()
    database.close()


def test_what_was_done_is_told_also_where_its_answer_cannot_be_kept(rest: RestServer) -> None:
    client = rest.client()
    assert client.post("/memories", json={"title": "x"}, headers=key("a")).status_code == 201
    _refuse_to("UPDATE", rest.folder)
    first = client.post("/memories", json={"title": "y"}, headers=key("b"))
    assert first.status_code == 201, first.text
    again = client.post("/memories", json={"title": "y"}, headers=key("b"))
    assert (again.status_code, again.json()["id"]) == (201, first.json()["id"])
    assert client.get("/memories").json()["total"] == 2
    changed = client.patch(f"/memories/{first.json()['id']}", json={"body": "z"}, headers=key("c"))
    assert changed.status_code == 200, changed.text
    assert code(client.patch(f"/memories/{first.json()['id']}", json={"body": "z"}, headers=key("c"))) == (
        409,
        "outcome_unknown",
    )


def test_what_was_refused_is_told_also_where_its_key_cannot_be_forgotten(rest: RestServer) -> None:
    client = rest.client()
    assert client.post("/memories", json={"title": "x"}, headers=key("a")).status_code == 201
    _refuse_to("DELETE", rest.folder)
    missing = "01JC4Q8M3V9Z2K7W5T1R6XHB0D"
    assert code(client.patch(f"/memories/{missing}", json={"body": "z"}, headers=key("b"))) == (404, "not_found")


# --- After a crash --------------------------------------------------------------------------------------------------

SERVE = """
import sys, threading
from pathlib import Path
sys.path.insert(0, {tests!r})
from rest_made import rest_server
with rest_server(Path(sys.argv[1])) as server:
    print(server.url, flush=True)
    threading.Event().wait()
"""


class Process:
    """The API in a process of its own, which dies where `ALG_FAULT` says."""

    def __init__(self, folder: Path, fault: str = "") -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVE.format(tests=str(Path(__file__).parent)), str(folder)],
            stdout=subprocess.PIPE,
            env={**os.environ, "ALG_FAULT": fault},
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().decode().strip()
        assert self.url
        self.client = httpx.Client(
            base_url=f"{self.url}/api/v1", headers={"authorization": "Bearer test"}, timeout=60, trust_env=False
        )

    def killed_by(self, *request: Any, **options: Any) -> None:
        """A request over which it dies."""
        with pytest.raises(httpx.RemoteProtocolError):
            self.client.request(*request, **options)
        assert self.process.wait(60) == -9
        self.end()

    def end(self) -> None:
        self.client.close()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(60)
        assert self.process.stdout is not None
        self.process.stdout.close()


FAULTS = ("idempotency.begun", "write.validated", "write.renamed", "write.acknowledged", "idempotency.answered")
NEW: list[tuple[str, dict[str, str], str]] = [
    *(("/memories", {"title": "x"}, fault) for fault in FAULTS),
    ("/sessions", {"text": "x"}, "write.acknowledged"),
    ("/handoffs", {"objective": "x"}, "write.acknowledged"),
]


@pytest.mark.parametrize(("path", "body", "fault"), NEW)
def test_what_creates_is_created_once_wherever_the_process_dies(
    tmp_path: Path, path: str, body: dict[str, str], fault: str
) -> None:
    Process(tmp_path, fault).killed_by("POST", path, json=body, headers=key("a"))
    process = Process(tmp_path)
    try:
        first = process.client.post(path, json=body, headers=key("a"))
        assert first.status_code == 201, first.text
        assert process.client.post(path, json=body, headers=key("a")).content == first.content
        listed = process.client.get("/memories").json()["memories"]
        assert [item["id"] for item in listed] == [first.json()["id"]]
    finally:
        process.end()


@pytest.mark.parametrize("fault", ["idempotency.begun", "write.acknowledged"])
def test_what_cannot_be_told_after_a_crash_is_not_claimed(tmp_path: Path, fault: str) -> None:
    process = Process(tmp_path)
    session = process.client.post("/sessions", json={"text": "first"}).json()["session_id"]
    made = process.client.post("/memories", json={"title": "x"})
    one, version = made.headers["location"].removeprefix("/api/v1"), made.headers["etag"]
    process.end()
    entries = f"/sessions/{session}/entries"
    Process(tmp_path, fault).killed_by("POST", entries, json={"text": "second"}, headers=key("a"))
    changed = key("b") | {"if-match": version}
    Process(tmp_path, fault).killed_by("PATCH", one, json={"body": "new"}, headers=changed)
    done = fault == "write.acknowledged"
    process = Process(tmp_path)
    try:
        again = process.client.post(entries, json={"text": "second"}, headers=key("a"))
        assert code(again) == (409, "outcome_unknown")
        assert process.client.get(f"/sessions/{session}").json()["total"] == 1 + done
        # One that names a version cannot be carried out twice, so it is tried.
        again = process.client.patch(one, json={"body": "new"}, headers=changed)
        assert again.status_code == (412 if done else 200)
        assert ("earlier request with this key" in json.dumps(again.json())) == done
        assert process.client.get(one).json()["body"].strip() == "new"
    finally:
        process.end()


def test_nothing_is_left_running() -> None:
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("idempotency")]
