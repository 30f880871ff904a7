"""Routes that take their query alone are answered past FastAPI, as it would answer them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from rest_made import RestServer, rest_server

from adaptive_llm_gateway.server._access import Access

_QUERIES = (
    "",
    "query=orca",
    "query=orca&limit=1",
    "query=&type=note",
    "query=orca&type=note&type=fact",
    "query=orca&tags=sea&tags=cold",
    "query=orca&facets=true&explain=true",
    "query=orca&since=2026-01-01&max_trust=internal",
    "query=%F0%9F%90%8B&project=",
    "limit=0",
    "limit=101",
    "limit=ten&facets=perhaps&max_trust=top",
    "limit=1&limit=2",
    "query=a&query=b",
    "nope=1",
    "query=orca&cursor=nonsense",
    "since=whenever",
    "facets=1",
    "limit=%D9%A1",
    "limit=",
    "order=size",
)


@pytest.fixture(scope="module")
def rest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RestServer]:
    folder: Path = tmp_path_factory.mktemp("rest")
    with rest_server(folder) as server:
        client = server.client()
        for number in range(3):
            made = {"title": f"Orca {number}", "body": f"An orca, number {number}.", "tags": ["sea", "cold"]}
            assert client.post("/memories", json=made).status_code == 201
        yield server


def _told(answer: httpx.Response) -> tuple[int, str | None, Any]:
    said = answer.json()
    for name in ("instance", "request_id"):
        said.pop(name, None)
    return answer.status_code, answer.headers.get("link"), said


def _without_what_time_changes(value: Any) -> Any:
    if isinstance(value, dict):
        changing = ("score", "signals", "next_cursor")
        named = cast("dict[str, Any]", value)
        return {name: _without_what_time_changes(one) for name, one in named.items() if name not in changing}
    if isinstance(value, list):
        return [_without_what_time_changes(one) for one in cast("list[Any]", value)]
    return value


@pytest.mark.parametrize("path", ["/search", "/memories"])
def test_a_query_is_answered_and_refused_past_fastapi_as_by_it(
    rest: RestServer, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    client = rest.client()
    assert ("GET", f"/api/v1{path}") in rest.api._straight  # pyright: ignore[reportPrivateUsage]
    first = {query: _told(client.get(f"{path}?{query}")) for query in _QUERIES}
    monkeypatch.setattr(rest.api, "_straight", {})
    for query, (status, link, said) in first.items():
        other, its_link, its_words = _told(client.get(f"{path}?{query}"))
        assert (status, link is None) == (other, its_link is None), query
        assert _without_what_time_changes(said) == _without_what_time_changes(its_words), query
    assert {200, 400} <= {status for status, _, _ in first.values()}


def test_a_token_without_the_scope_is_refused_past_fastapi(rest: RestServer) -> None:
    rest.callers["narrow"] = Access(client="narrow", scopes=frozenset({"gateway"}))
    assert rest.client("narrow").get("/search?query=orca").status_code == 403
    assert rest.client(None).get("/search?query=orca").status_code == 401
