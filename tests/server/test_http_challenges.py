"""What a client is told of how to get in: by RFC 6750, and by RFC 9728 where there is somewhere to be sent to."""

from __future__ import annotations

import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from http_stand import Stand

from adaptive_llm_gateway.server._authentication import Authentication
from adaptive_llm_gateway.server._http_door import NO_TOKEN, challenge

Begin = Callable[..., Stand]
DOCUMENT = "https://hub.example.org/.well-known/oauth-protected-resource/mcp"


def parameters(header: str) -> dict[str, str]:
    """The parameters of a challenge; the scheme has to be followed by one at least."""
    found = re.fullmatch(r'Bearer ((?:\w+="[^"\\]*"(?:, )?)+)', header)
    assert found, header
    return dict(re.findall(r'(\w+)="([^"]*)"', found[1]))


@pytest.mark.parametrize("path", ["/mcp", "/api/v1/memories", "/metrics"])
def test_who_has_no_token_is_told_the_realm_and_of_no_error(stand: Begin, path: str) -> None:
    given = stand().ask(f"GET {path} HTTP/1.1")
    assert given.status == 401
    assert parameters(given.headers["www-authenticate"]) == {"realm": "adaptive-llm-gateway"}


def test_who_lacks_the_scope_is_told_which(stand: Begin) -> None:
    one = stand()
    token = one.client("reader", "memory:read")
    given = one.ask(f"GET /metrics HTTP/1.1\nAuthorization: Bearer {token}")
    assert given.status == 403
    told = parameters(given.headers["www-authenticate"])
    assert told == {"realm": "adaptive-llm-gateway", "error": "insufficient_scope", "scope": "admin"}


@pytest.mark.parametrize(
    ("error", "says"), [(None, None), ("invalid_token", "the token does not count"), ("invalid_request", "two tokens")]
)
def test_only_a_hub_with_an_issuer_says_where_to_be_sent_to_one(error: str | None, says: str | None) -> None:
    nothing: Any = SimpleNamespace()
    issuer: Any = SimpleNamespace(metadata_url=DOCUMENT)
    without = parameters(Authentication(nothing).challenge(error=error, says=says))
    having = parameters(Authentication(nothing, issuer=issuer).challenge(error=error, says=says))
    assert "resource_metadata" not in without
    assert having == {**without, "resource_metadata": DOCUMENT}
    assert without.get("error") == error


def test_a_hub_without_an_issuer_has_nothing_that_a_client_could_begin_oauth_with(server: Any) -> None:
    web = server.web()
    token = server.json("clients", "add", "reader", "--scope", "memory:read")["token"]
    for given in (None, token[:-1], token):
        for name in ("oauth-protected-resource", "oauth-authorization-server", "openid-configuration"):
            for path in (f"/.well-known/{name}", f"/.well-known/{name}/mcp", f"/mcp/.well-known/{name}"):
                assert web.request("GET", path, token=given).status == 404, path
        for path in ("/register", "/authorize", "/token"):
            assert web.request("POST", path, b"{}", token=given).status == 404, path
    for given in (None, token[:-1]):
        answer = web.request("POST", "/mcp", b"{}", token=given)
        assert "resource_metadata" not in parameters(answer.headers["www-authenticate"])


def test_the_door_that_knows_nobody_says_the_same() -> None:
    assert dict(NO_TOKEN.headers) == {b"www-authenticate": challenge().encode()}
