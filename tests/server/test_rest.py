"""The REST API over a real store and real HTTP: memories, search, what is asked of a version, and who may do what."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from rest_made import RestServer, rest_server

from adaptive_llm_gateway.core import Trust
from adaptive_llm_gateway.server._access import ROUTE_SCOPES, SCOPES, Access
from adaptive_llm_gateway.server._rest_events import SOCKET, STREAM

JSON = {"content-type": "application/json"}


@pytest.fixture
def rest(tmp_path: Path) -> Iterator[RestServer]:
    with rest_server(tmp_path) as server:
        yield server


def new(client: httpx.Client, title: str = "A kestrel", **more: Any) -> httpx.Response:
    answer = client.post("/memories", json={"title": title, **more})
    assert answer.status_code == 201, answer.text
    return answer


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The problem that an answer is."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    told = answer.json()
    assert (told["status"], told["code"], told["type"]) == (status, code, f"/api/v1/problems/{code}"), told
    assert told["title"]
    assert told["detail"]
    return told


def a_token() -> str:
    """What the secret scanner takes for a credential; made here, so that it is nobody's."""
    return "glpat-" + base64.urlsafe_b64encode(os.urandom(15)).decode()


# --- Memories -------------------------------------------------------------------------------------------------------


def test_a_memory_is_created_read_changed_replaced_deleted_and_restored(rest: RestServer) -> None:
    client = rest.client()
    made = new(client, body="It nests in rack 4.", tags=["infra"], links=[], fields={})
    place = made.headers["location"]
    assert place == f"/api/v1/memories/{made.json()['id']}"
    one = place.removeprefix("/api/v1")
    read = client.get(one)
    assert (read.json()["body"], read.json()["author"]["client"]) == ("It nests in rack 4.", "tester")
    assert read.headers["etag"] == made.headers["etag"] == f'"{read.json()["version"]}"'
    changed = client.patch(one, json={"project": "acme", "reason": "it belongs there"})
    assert (changed.status_code, changed.json()["operation"]) == (200, "update")
    text = client.get(one).json()["text"].replace("rack 4", "rack 5")
    replaced = client.put(one, json={"text": text}, headers={"if-match": changed.headers["etag"]})
    assert replaced.status_code == 200, replaced.text
    now = client.get(one).json()
    assert (now["body"], now["project"], now["tags"]) == ("It nests in rack 5.", "acme", ["infra"])
    gone = client.delete(one, params={"reason": "it flew away"})
    assert (gone.status_code, gone.json()["version"], "etag" in gone.headers) == (200, None, False)
    problem(client.get(one), 404, "not_found")
    assert [item["id"] for item in client.get("/memories?deleted=true").json()["memories"]] == [now["id"]]
    back = client.post(f"{one}/restore", json={})
    assert back.headers["etag"] == f'"{now["version"]}"'
    before = client.get(one, params={"at": made.json()["version"]}).json()
    assert (before["body"], before["project"]) == ("It nests in rack 4.", None)
    history = client.get(f"{one}/history").json()["revisions"]
    assert [row["subject"].partition(" ")[0] for row in history] == ["Restore", "Delete", "Edit", "Update", "Write"]
    assert history[3]["reasons"] == ["it belongs there"]


def test_in_a_patch_what_is_not_named_stays_and_null_takes_away(rest: RestServer) -> None:
    client = rest.client()
    one = new(
        client, type="fact", body="b", project="p", source="s", tags=["x"], fields={"confidence": 0.5}
    ).headers["location"].removeprefix("/api/v1")  # fmt: skip
    merge = {"content-type": "application/merge-patch+json"}
    patch = '{"project": null, "tags": null, "fields": {"valid_from": "2026-11-01"}}'
    assert client.patch(one, content=patch, headers=merge).status_code == 200
    now = client.get(one).json()
    assert (now["project"], now["tags"], now["source"], now["body"]) == (None, [], "s", "b")
    assert now["fields"]["confidence"] == 0.5
    client.patch(one, json={"fields": {"valid_from": None}, "source": None})
    now = client.get(one).json()
    assert ("valid_from" in now["fields"], now["source"]) == (False, None)
    same = client.patch(one, json={})
    assert (same.json()["unchanged"], same.headers["etag"]) == (True, f'"{now["version"]}"')
    problem(client.patch(one, json={"title": None}), 400, "invalid_request")


def test_who_writes_is_the_tokens_client_and_the_name_that_it_gives_itself(rest: RestServer) -> None:
    rest.callers["other"] = Access(client="build-server")
    client = rest.client("other", **{"alg-agent": "release   bot"})
    author = client.get(new(client).headers["location"].removeprefix("/api/v1")).json()["author"]
    assert (author["client"], author["agent"]) == ("build-server", "release bot")
    problem(client.post("/memories", json={"title": "x"}, headers={"alg-agent": "x" * 201}), 400, "invalid_request")


def test_pages_follow_by_their_link(rest: RestServer) -> None:
    client = rest.client()
    titles = {f"number {number}" for number in range(5)}
    for title in titles:
        new(client, title, project="acme & sons")
    for path in ("/memories?limit=2&project=acme%20%26%20sons", "/search?limit=2&project=acme+%26+sons"):
        found: list[str] = []
        answer = client.get(path)
        while True:
            told = answer.json()
            found += [item["title"] for item in told.get("memories") or told.get("hits")]
            link = answer.links.get("next")
            assert (link is None) == (told["next_cursor"] is None)
            if link is None:
                break
            answer = client.get(link["url"].removeprefix("/api/v1"))
            assert answer.status_code == 200, answer.text
        assert (len(found), set(found)) == (5, titles)


def test_a_cursor_goes_on_for_the_same_question_and_for_who_sees_the_same(rest: RestServer) -> None:
    rest.callers["narrow"] = Access(client="tester", max_trust=Trust.INTERNAL)
    client, narrow = rest.client(), rest.client("narrow")
    for number in range(3):
        new(client, f"owl {number}", project="acme")
    session = client.post("/sessions", json={"text": "one"}).json()["session_id"]
    client.post(f"/sessions/{session}/entries", json={"text": "two"})
    for path in ("/memories?limit=1&since=7d", "/search?limit=1&since=7d&query=owl", f"/sessions/{session}?limit=1"):
        cursor = client.get(path).json()["next_cursor"]
        assert client.get(f"{path}&cursor={cursor}").status_code == 200
        problem(narrow.get(f"{path}&cursor={cursor}"), 422, "invalid_input")
        for wrong in (f"A{cursor}", cursor[:-4], "1", "", "%00", "W10", "x" * 4000):
            told = client.get(f"{path}&cursor={wrong}")
            assert told.status_code == (200 if "search" in path and not wrong else 422), (path, wrong)
    cursor = client.get("/memories?limit=1").json()["next_cursor"]
    for other in ("order=title", "project=acme", "since=7d"):
        problem(client.get(f"/memories?limit=1&{other}&cursor={cursor}"), 422, "invalid_input")


def test_search_and_context_answer_as_the_operations_do(rest: RestServer) -> None:
    client = rest.client()
    id = new(client, body="The kestrel hovers.", type="fact", fields={"confidence": 0.25}).json()["id"]
    new(client, "Another kestrel", type="fact", fields={"confidence": 0.75})
    hit = client.get("/search", params={"query": "kestrel hovers", "explain": "true"}).json()["hits"][0]
    assert (hit["id"], hit["fields"]["confidence"]) == (id, 0.25)
    narrowed = client.post("/search", json={"query": "kestrel", "fields": {"confidence": 0.25}, "type": ["fact"]})
    assert [hit["id"] for hit in narrowed.json()["hits"]] == [id]
    package = client.post("/context", json={"query": "what does the kestrel do", "budget_tokens": 500}).json()
    assert "hovers" in package["text"]
    assert package["used"] <= 500
    assert client.get("/status").json()["by_type"] == {"fact": 2}
    types = {each["name"]: each for each in client.get("/types").json()["types"]}
    assert "confidence" in types["fact"]["fields"]


# --- Versions -------------------------------------------------------------------------------------------------------


def test_a_write_that_names_a_version_changes_no_other_and_says_which_is_current(rest: RestServer) -> None:
    client = rest.client()
    made = new(client)
    one, first = made.headers["location"].removeprefix("/api/v1"), made.headers["etag"]
    second = client.patch(one, json={"body": "2"}, headers={"if-match": first}).headers["etag"]
    text = client.get(one).json()["text"]
    for method, body in (("PATCH", {"body": "3"}), ("PUT", {"text": text}), ("DELETE", None)):
        for stale in (first, f"W/{second}", f'{first}, "{"0" * 40}"', '""', "nonsense", ""):
            answer = client.request(method, one, json=body, headers={"if-match": stale})
            told = problem(answer, 412, "version_conflict")
            assert answer.headers["etag"] == second == f'"{told["details"]["current_version"]}"', stale
    assert client.get(one).headers["etag"] == second
    third = client.patch(one, json={"body": "3"}, headers={"if-match": f"{first}, {second}"})
    assert third.status_code == 200
    assert client.delete(one, headers={"if-match": "*"}).status_code == 200
    problem(client.delete(one, headers={"if-match": "*"}), 404, "not_found")


def test_a_whole_file_is_replaced_only_by_who_names_the_version(rest: RestServer) -> None:
    client = rest.client()
    one = new(client).headers["location"].removeprefix("/api/v1")
    told = problem(client.put(one, json={"text": client.get(one).json()["text"]}), 428, "precondition_required")
    assert "ETag" in told["hint"]


def test_who_has_the_version_gets_no_body_again(rest: RestServer) -> None:
    client = rest.client()
    made = new(client)
    one, tag = made.headers["location"].removeprefix("/api/v1"), made.headers["etag"]
    for known in (tag, f"W/{tag}", f'"x", {tag}', "*"):
        answer = client.get(one, headers={"if-none-match": known})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", tag)
    assert client.get(one, headers={"if-none-match": '"other"'}).status_code == 200
    client.patch(one, json={"body": "new"})
    assert client.get(one, headers={"if-none-match": tag}).status_code == 200


# --- What is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"text"',
        b"null",
        b'{"title": "a", "title": "b"}',
        b'{"title": "a", "fields": {"x": 1, "x": 1}}',
        b'{"fields": {"x": NaN}}',
        b'{"fields": {"x": -Infinity}}',
        b'{"fields": {"x": 1e999}}',
        b'{"fields": {"x": 99999999999999999999}}',
        b'{"fields": {"x": ' + b"9" * 5000 + b"}}",
        b'{"title": "\\ud800"}',
        b'{"\\udc00": "x"}',
        b'{"title": "\xff"}',
        b'\xef\xbb\xbf{"title": "a"}',
        b'{"title": "a"} {}',
        b'{"fields": ' + b'{"x":' * 100 + b"1" + b"}" * 100 + b"}",
        b"[" * 100_000,
        b'{"x":' * 100_000,
    ],
)
def test_a_body_that_readers_could_take_for_different_things_is_refused(rest: RestServer, body: bytes) -> None:
    client = rest.client()
    answer = client.post("/memories", content=body, headers=JSON)
    assert answer.status_code in (400, 413), answer.text
    assert answer.json()["code"] in ("unreadable_json", "invalid_request", "too_large")
    assert client.get("/memories").json()["total"] == 0


@pytest.mark.parametrize(
    "kind", [None, "", "text/plain", "application/jsonx", "application/json; charset=latin-1",
             "application/merge-patch+json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]
)  # fmt: skip
def test_a_body_of_another_type_is_not_read(rest: RestServer, kind: str | None) -> None:
    headers = {} if kind is None else {"content-type": kind}
    answer = rest.client().post("/memories", content=b'{"title": "x"}', headers=headers)
    problem(answer, 415, "unsupported_media_type")
    assert answer.headers["accept"] == "application/json"


def test_what_is_not_described_is_refused_with_its_place_and_without_its_value(rest: RestServer) -> None:
    client = rest.client()
    one = new(client).headers["location"].removeprefix("/api/v1")
    told = problem(client.post("/memories", json={"titel": "x"}), 400, "invalid_request")
    assert told["errors"] == [{"in": "body", "name": "/titel", "detail": "Extra inputs are not permitted"}]
    told = problem(client.post("/memories", json={"links": [{"rel": 5, "id": "x/y"}]}), 400, "invalid_request")
    assert told["errors"][0]["name"] == "/links/0/rel"
    told = problem(client.post("/memories", json={"title": 739_201, "redact": "yes"}), 400, "invalid_request")
    assert [each["name"] for each in told["errors"]] == ["/title", "/redact"]
    assert "739" not in str(told)
    for query in ("nope=1", "limit=1&limit=2", "limit=ten", "limit=0", "limit=1001", "limit=1e2", "limit=%D9%A1",
                  "deleted=1", "deleted=yes", "order=size", "max_trust=top", "Limit=1", "limit="):  # fmt: skip
        problem(client.get(f"/memories?{query}"), 400, "invalid_request")
    problem(client.get(f"{one}?limit=3"), 400, "invalid_request")
    problem(client.get("/status?x=1"), 400, "invalid_request")
    problem(client.request("GET", one, json={}), 400, "invalid_request")
    problem(client.request("DELETE", one, json={}), 400, "invalid_request")
    problem(client.post("/memories?x=1", json={"title": "x"}), 400, "invalid_request")


def test_what_is_described_and_wrong_is_refused_for_what_it_says(rest: RestServer) -> None:
    client = rest.client()
    problem(client.post("/memories", json={}), 422, "invalid_input")
    problem(client.post("/memories", json={"title": "x", "type": "nope"}), 422, "unknown_type")
    problem(client.post("/memories", json={"title": "x", "fields": {"nope": 1}}), 422, "unknown_field")
    problem(client.get("/memories?since=whenever"), 422, "invalid_input")
    problem(client.get("/memories/%2E%2E"), 422, "unsafe_path")
    problem(client.get("/memories/..%2Fstatus"), 404, "not_found")
    problem(client.get("/memories/ILOUILOUILOUILOUILOUILOUIL"), 404, "not_found")
    for id in ("nope", "%00", "..%5C", "a" * 3000, "%F0%9F%A6%85", "a%0A"):
        problem(client.get(f"/memories/{id}"), 422, "unsafe_path")


def test_paths_and_methods_that_are_not_there_are_told_as_problems(rest: RestServer) -> None:
    client = rest.client()
    for path in ("", "/", "/nope", "/memories/", "/memories/a/b", "//memories", "/Memories", "/docs", "/redoc"):
        problem(client.get(path), 404, "not_found")
    answer = client.patch("/memories", json={})
    problem(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "GET, HEAD, POST"
    for method in ("POST", "OPTIONS", "TRACE"):
        answer = client.request(method, "/memories/x")
        assert (answer.status_code, answer.headers["allow"]) == (405, "DELETE, GET, HEAD, PATCH, PUT"), method


def test_what_looks_like_a_secret_is_refused_in_every_text_and_shown_in_none(rest: RestServer) -> None:
    client = rest.client()
    one = new(client).headers["location"].removeprefix("/api/v1")
    secret = a_token()
    answers = [
        client.post("/memories", json={"title": "x", "reason": secret}),
        client.post("/memories", json={"title": "x", "body": f"a {secret} b"}),
        client.post("/memories", json={"title": "x", secret: 1}),
        client.post("/memories", json={"title": "x"}, headers={"alg-agent": secret}),
        client.patch(one, json={"fields": {"x": secret}}),
        client.delete(one, params={"reason": secret}),
        client.get("/memories", params={"cursor": secret}),
        client.get(f"/memories/{secret}"),
    ]
    for answer in answers:
        assert answer.status_code == 422, answer.text
        assert answer.json()["code"] == "secret_refused", answer.text
        assert secret not in answer.text
    assert "redact" in answers[0].json()["detail"]
    asked = client.get("/search", params={"query": f"where is {secret}"})
    assert asked.status_code == 200
    assert secret not in asked.text
    asked = client.post("/context", json={"query": f"where is {secret}"})
    assert (asked.status_code, secret in asked.text) == (200, False)
    for answer in (
        client.get("/memories", params={secret: "x"}),
        client.get(f"/{secret}"),
        client.get("/memories", params={"since": secret}),
    ):
        assert answer.status_code >= 400
        assert secret not in answer.text
    kept = client.post("/memories", json={"title": "x", "body": f"a {secret} b", "redact": True})
    assert kept.status_code == 201
    assert re.search(r"\[redacted:[^\]]+\]", client.get(f"/memories/{kept.json()['id']}").json()["body"])


# --- Who may do what ------------------------------------------------------------------------------------------------


def test_every_route_answers_only_a_token_with_its_scope(rest: RestServer) -> None:
    api = rest.api.routes
    streams = {("GET", STREAM), ("WEBSOCKET", SOCKET)}  # events_made.py asks those
    assert {key for key in ROUTE_SCOPES if key[1].startswith("/api/v1/")} == {*api} | streams
    for scope in SCOPES:
        rest.callers[scope] = Access(client="c", scopes=frozenset({scope}))
    rest.callers["none"] = Access(client="c", scopes=frozenset())
    nobody = rest.client(None)
    for (method, path), needed in ROUTE_SCOPES.items():
        if (method, path) not in api:
            continue
        place = re.sub(r"\{\w+\}", "01JC4Q8M3V9Z2K7W5T1R6XHB0D", path).removeprefix("/api/v1")
        problem(nobody.request(method, place), 401, "unauthenticated")
        for token in (*SCOPES, "none"):
            answer = rest.client(token).request(method, place)
            if needed in (token, "token"):
                assert answer.status_code not in (401, 403), (method, path, token, answer.text)
            else:
                told = problem(answer, 403, "access_denied")
                assert told["details"]["scope"] == needed


def test_without_a_token_nothing_is_told_of_paths_that_are_there(rest: RestServer) -> None:
    nobody = rest.client(None)
    assert nobody.get("/memories").headers["www-authenticate"] == 'Bearer realm="adaptive-llm-gateway"'
    assert "scope" not in nobody.get("/status").text


def test_an_unusual_access_writes_in_its_own_name(rest: RestServer) -> None:
    rest.callers["narrow"] = Access(client="narrow", max_trust=Trust.SECRET)
    client = rest.client("narrow")
    assert client.get(new(client).headers["location"].removeprefix("/api/v1")).json()["author"]["client"] == "narrow"
