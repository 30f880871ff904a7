"""The REST API over a real store: sessions, handoffs, sync, models and their receipts."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from rest_made import ALL, TESTER, RestServer, rest_server

WAIT = 60.0


@pytest.fixture
def rest(tmp_path: Path) -> Iterator[RestServer]:
    with rest_server(tmp_path) as server:
        yield server


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json().get("code")


def events(text: str) -> list[tuple[str, Any]]:
    """Server-sent events: their names and their data."""
    found: list[tuple[str, Any]] = []
    for block in text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if lines:
            found.append((lines["event"], json.loads(lines["data"])))
    return found


# --- Sessions -------------------------------------------------------------------------------------------------------


def test_a_session_is_begun_appended_to_read_in_pages_and_summarised(rest: RestServer) -> None:
    client = rest.client()
    begun = client.post("/sessions", json={"text": "Goal: find the kestrel.", "title": "Watch", "project": "acme"})
    id = begun.json()["session_id"]
    assert (begun.status_code, begun.headers["location"]) == (201, f"/api/v1/sessions/{id}")
    for number in range(4):
        assert client.post(f"/sessions/{id}/entries", json={"text": f"Entry {number}"}).status_code == 201
    texts: list[str] = []
    page = client.get(f"/sessions/{id}?limit=2")
    while True:
        texts += [entry["text"] for entry in page.json()["entries"]]
        if "next" not in page.links:
            break
        page = client.get(page.links["next"]["url"].removeprefix("/api/v1"))
    assert texts == ["Goal: find the kestrel.", *(f"Entry {number}" for number in range(4))]
    assert (page.json()["total"], page.json()["title"], page.json()["project"]) == (5, "Watch", "acme")
    done = client.post(f"/sessions/{id}/compact", json={"budget_tokens": 500}).json()
    assert client.get(f"/sessions/{id}").json()["summary"] == done["id"]
    assert "kestrel" in client.get(f"/memories/{done['id']}").json()["body"]


def test_a_session_that_is_none_is_not_begun_by_an_append(rest: RestServer) -> None:
    client = rest.client()
    absent = "01JC4Q8M3V9Z2K7W5T1R6XHB0D"
    assert code(client.post(f"/sessions/{absent}/entries", json={"text": "x"})) == (404, "not_found")
    assert code(client.get(f"/sessions/{absent}")) == (404, "not_found")
    note = client.post("/memories", json={"title": "no session"}).json()["id"]
    assert code(client.get(f"/sessions/{note}")) == (422, "invalid_input")
    assert code(client.get(f"/sessions/{note}?cursor=-1")) == (422, "invalid_input")
    assert client.get("/memories").json()["total"] == 1


# --- Handoffs -------------------------------------------------------------------------------------------------------


def test_work_goes_from_one_client_to_another_and_one_alone_holds_it(rest: RestServer) -> None:
    rest.callers["codex"] = replace(ALL, client="codex")
    mine, theirs = rest.client(), rest.client("codex")
    made = mine.post(
        "/handoffs", json={"objective": "The importer takes CSV", "to": "codex", "project": "acme", "tags": ["csv"]}
    )
    id = made.json()["id"]
    one = f"/handoffs/{id}"
    assert (made.status_code, made.headers["location"]) == (201, f"/api/v1{one}")
    assert [each["id"] for each in theirs.get("/handoffs?to=codex").json()["handoffs"]] == [id]
    claimed = theirs.post("/handoffs/claim", json={"project": "acme", "budget_tokens": 1000}).json()
    assert (claimed["id"], claimed["holder"]["client"]) == (id, "codex")
    assert "The importer takes CSV" in claimed["text"]
    taken = mine.post(f"{one}/claim", json={"anyway": True})
    assert code(taken) == (409, "handoff_taken")
    assert taken.json()["details"]["holder"]
    assert code(mine.post(f"{one}/update", json={"text": "x"})) == (409, "not_holder")
    assert theirs.post(f"{one}/update", json={"text": "Half of it", "lease_minutes": 30}).status_code == 200
    assert theirs.post(f"{one}/release", json={"reason": "out of time"}).json()["state"] == "offered"
    theirs.post(f"{one}/claim", json={})
    assert theirs.post(f"{one}/complete", json={"result": "It does"}).json()["state"] == "done"
    assert code(mine.post(f"{one}/claim", json={"anyway": True})) == (409, "handoff_closed")
    whole = mine.get(one).json()
    assert [step["event"] for step in whole["steps"]][-1] == "done"
    assert mine.get("/handoffs").json()["total"] == 0
    assert mine.get("/handoffs?all=true").json()["total"] == 1
    assert code(mine.post("/handoffs/claim", json={})) == (404, "not_found")


def test_a_claim_is_asked_for_and_not_read(rest: RestServer) -> None:
    answer = rest.client().get("/handoffs/claim")
    assert code(answer) == (405, "method_not_allowed")
    assert answer.headers["allow"] == "POST"


def test_files_of_the_hubs_machine_are_nobodys_by_http(rest: RestServer, tmp_path: Path) -> None:
    client = rest.client()
    for more in ({"directory": str(tmp_path)}, {"patch": True}):
        assert code(client.post("/handoffs", json={"objective": "o", **more})) == (400, "invalid_request")
        assert code(client.post("/handoffs/claim", json=more)) == (400, "invalid_request")


# --- Sync -----------------------------------------------------------------------------------------------------------


def test_memories_are_pulled_and_pushed_and_what_cannot_be_is_said(tmp_path: Path) -> None:
    with rest_server(tmp_path / "alone") as alone:
        assert code(alone.client().post("/sync", json={})) == (409, "sync")
    remote = tmp_path / "remote.git"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(remote)], check=True)
    with rest_server(tmp_path / "here", store={"remote": str(remote)}) as server:
        client = server.client()
        client.post("/memories", json={"title": "to be pushed"})
        pushed = client.post("/sync/push", json={"wait": 60})
        assert (pushed.status_code, pushed.json()["state"]) == (200, "pushed"), pushed.text
        assert client.get("/sync").json()["sync"]["state"] == "pushed"
        assert client.post("/sync/pull", json={"wait": 60}).json()["changed"] == 0
        assert client.post("/sync", json={"wait": 60}).status_code == 200
        assert code(client.post("/sync", json={"repo": "nope"})) == (422, "invalid_input")
        assert code(client.post("/sync", json={"wait": 61})) == (400, "invalid_request")
        later = client.post("/sync", json={"wait": 0})
        assert later.status_code == (202 if later.json()["running"] else 200)
        remote.rename(tmp_path / "gone.git")
        failed = client.post("/sync", json={"wait": 60})
        assert code(failed) == (502, "sync")
        assert failed.json()["details"]["git"]


# --- Models ---------------------------------------------------------------------------------------------------------


def test_a_model_answers_whole_or_in_pieces_and_both_leave_a_receipt(rest: RestServer) -> None:
    client = rest.client()
    whole = client.post("/gateway/complete", json={"prompt": "hello there", "model": "trial/built-in"}).json()
    assert whole["text"].endswith("to: hello there")
    streamed = client.post("/gateway/complete", json={"prompt": "hello there", "stream": True})
    assert streamed.headers["content-type"].partition(";")[0] == "text/event-stream"
    told = events(streamed.text)
    assert [name for name, _ in told] == [*["piece"] * (len(told) - 1), "answer"]
    assert "".join(data["text"] for name, data in told if name == "piece") == told[-1][1]["text"]
    receipts = client.get("/receipts").json()["receipts"]
    assert [each["id"] for each in receipts] == [told[-1][1]["receipt"], whole["receipt"]]
    assert {each["client"] for each in receipts} == {"tester"}
    chat = {"messages": [{"role": "user", "content": [{"type": "text", "text": "hello"}]}], "json": False}
    assert client.post("/gateway/chat", json=chat).status_code == 200
    vectors = client.post("/gateway/embed", json={"texts": ["a", "b"]}).json()["vectors"]
    assert len(vectors) == 2
    preview = client.post("/gateway/route_preview", json={"prompt": "x", "what_if": {"down": ["trial"]}}).json()
    assert (preview["steps"], bool(preview["error"])) == ([], True)
    assert client.get("/gateway/health?probe=true").json()["providers"][0]["name"] == "trial"
    assert client.get("/gateway/models").json()["models"]


def test_what_is_refused_before_the_first_piece_is_a_problem_like_any_other(rest: RestServer) -> None:
    client = rest.client()
    for stream in (False, True):
        answer = client.post("/gateway/complete", json={"prompt": "x", "model": "nope", "stream": stream})
        assert code(answer) == (404, "not_found")
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["details"]["receipt"]
    wrong = {"messages": [{"role": "tool", "content": "x"}]}
    assert code(client.post("/gateway/chat", json=wrong)) == (400, "invalid_request")
    assert code(client.post("/gateway/chat", json={"messages": []})) == (422, "invalid_input")


def test_the_memory_goes_along_where_a_request_asks_for_it(rest: RestServer) -> None:
    client = rest.client()
    client.post("/memories", json={"title": "Kestrels", "body": "A kestrel hovers.", "trust": "confidential"})
    asked = {"messages": [{"role": "user", "content": "what does a kestrel do"}], "context": {"budget": 300}}
    answer = client.post("/gateway/chat", json=asked).json()
    assert [source["title"] for source in answer["context"]["sources"]] == ["Kestrels"]
    assert answer["trust"] == "confidential"


def slow(tmp_path: Path, url: str) -> Any:
    """The API, with a provider whose answers a test holds back."""
    provider = {"kind": "openai_compatible", "url": url, "models": [{"name": "m"}]}
    return rest_server(tmp_path, gateway={"discover": False}, providers={"slow": provider})


def test_an_answer_that_breaks_off_ends_with_a_problem(peer: Callable[..., Any], tmp_path: Path) -> None:
    with slow(tmp_path, peer("one ", "two ", "three", cut=2).url) as server:
        told = events(server.client().post("/gateway/complete", json={"prompt": "x", "stream": True}).text)
    assert [name for name, _ in told] == ["piece", "piece", "problem"]
    assert told[-1][1]["code"] == "provider_failed"


@pytest.mark.parametrize("stream", [True, False])
def test_who_goes_away_has_the_call_cancelled_at_the_provider(
    peer: Callable[..., Any], tmp_path: Path, stream: bool
) -> None:
    begun = peer("one ", "two ", "three")
    begun.go_on.clear()
    with slow(tmp_path, begun.url) as server:
        asked = {"prompt": "x", "stream": stream}
        if stream:
            with server.client().stream("POST", "/gateway/complete", json=asked) as answer:
                assert next(answer.iter_text()).startswith("event: piece")
        else:
            with pytest.raises(httpx.ReadTimeout):
                server.client().post("/gateway/complete", json=asked, timeout=2)
        client = server.client()
        receipts: list[dict[str, Any]] = []
        for _ in range(600):
            receipts = client.get("/receipts").json()["receipts"]
            if receipts:
                break
            threading.Event().wait(0.05)
        assert [each["outcome"] for each in receipts] == ["cancelled"]


# --- Receipts -------------------------------------------------------------------------------------------------------


def test_a_caller_sees_the_receipts_of_its_own_requests_and_an_admin_all(rest: RestServer) -> None:
    rest.callers["one"] = replace(ALL, client="one", scopes=frozenset({"gateway"}))
    rest.callers["two"] = replace(ALL, client="two", scopes=frozenset({"gateway"}))
    ids = {
        name: rest.client(name).post("/gateway/complete", json={"prompt": "x"}).json()["receipt"]
        for name in ("one", "two", TESTER)
    }
    for name in ("one", "two"):
        client = rest.client(name)
        assert [each["id"] for each in client.get("/receipts").json()["receipts"]] == [ids[name]]
        shown = client.get(f"/receipts/{ids[name]}").json()
        assert shown["receipt"]["id"] == ids[name]
        assert str(rest.folder) not in json.dumps(shown)
        other = ids["two" if name == "one" else "one"]
        absent = "01JC4Q8M3V9Z2K7W5T1R6XHB0D"
        hidden, missing = client.get(f"/receipts/{other}"), client.get(f"/receipts/{absent}")
        assert code(hidden) == code(missing) == (404, "not_found")
        assert hidden.json()["detail"].replace(other, absent) == missing.json()["detail"]
        assert code(client.get(f"/receipts/{other[-8:]}")) == (404, "not_found")
        assert code(client.get("/receipts/verify")) == (403, "access_denied")
    everybody = rest.client()
    assert {each["id"] for each in everybody.get("/receipts").json()["receipts"]} == {*ids.values()}
    assert everybody.get(f"/receipts/{ids['one'][-8:]}").json()["receipt"]["id"] == ids["one"]
    assert everybody.get("/receipts/verify").json()["holds"] is True
    assert everybody.get("/receipts?outcome=refused").json()["receipts"] == []
