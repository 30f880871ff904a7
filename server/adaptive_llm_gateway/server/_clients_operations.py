"""Clients in the hub: made, listed, changed, given new tokens and revoked. For the person at the socket alone.

There is no tool and no route for this: whoever came in with a token must not be able to make another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from adaptive_llm_gateway.server._clients import (
    Clients,
    changed_client,
    client_named,
    grace_of,
    new_client,
    revoked_client,
    rotated_client,
    with_added,
    with_replaced,
)
from adaptive_llm_gateway.server._http_hosts import is_loopback
from adaptive_llm_gateway.server._registration import http_registration_lines
from adaptive_llm_gateway.server._times import iso

if TYPE_CHECKING:
    from datetime import datetime

    from adaptive_llm_gateway.core import Settings
    from adaptive_llm_gateway.server._clients_file import Client
    from adaptive_llm_gateway.server._quotas import Quotas

Json = dict[str, Any]


class ClientOperations:
    """What the command line asks the hub for.

    Args:
        quotas: what they used.
        address: where MCP is served by HTTP now; None where it is not.
    """

    def __init__(self, clients: Clients, quotas: Quotas, *, address: Callable[[], str | None]) -> None:
        self._clients = clients
        self._quotas = quotas
        self._address = address

    async def clients_add(self, name: str, **given: Any) -> Json:
        """Make a client; see `new_client` for what may be given. Its token is told here and never again."""

        def plan(clients: tuple[Client, ...]) -> tuple[tuple[Client, ...], tuple[Client, str]]:
            made = new_client(name, self._clients.now(), **given)
            return with_added(clients, made[0]), made

        return self._with_token(*await asyncio.to_thread(self._clients.change, plan))

    async def clients_list(self) -> Json:
        """Every client, the oldest first."""
        now = self._clients.now()
        found = await asyncio.to_thread(self._clients.all)
        return {"clients": [client_json(client, now) for client in found], "url": self._address()}

    async def clients_show(self, name: str) -> Json:
        """One client, when it last came, and what it used of models today."""
        found = client_named(await asyncio.to_thread(self._clients.all), name)
        told = {**client_json(found, self._clients.now()), "url": self._address()}
        used = await self._quotas.today(found.id)
        return {
            **told,
            "last_seen": iso(await self._quotas.last_seen(found.id)),
            "today": {
                "day": self._quotas.day(),
                "calls": used.calls,
                "tokens": used.tokens,
                "micro_cents": used.micro_cents,
                "held_tokens": used.held_tokens,
                "held_micro_cents": used.held_micro_cents,
            },
        }

    async def clients_set(self, name: str, changes: Json) -> Json:
        """Change a client's rights and bounds. What it has open ends, and has to begin again with these."""
        now = self._clients.now()
        return client_json(await self._change(name, lambda client: changed_client(client, changes, now)), now)

    async def clients_rotate(self, name: str, *, grace: str = "0") -> Json:
        """Give a client a new token; those before count for `grace` more."""
        now, beside = self._clients.now(), grace_of(grace)

        def plan(clients: tuple[Client, ...]) -> tuple[tuple[Client, ...], tuple[Client, str]]:
            rotated = rotated_client(client_named(clients, name), now, beside)
            return with_replaced(clients, rotated[0]), rotated

        return self._with_token(*await asyncio.to_thread(self._clients.change, plan))

    async def clients_revoke(self, name: str) -> Json:
        """Let a client in no more, and end what it has open."""
        now = self._clients.now()
        return client_json(await self._change(name, lambda client: revoked_client(client, now)), now)

    async def _change(self, name: str, become: Callable[[Client], Client]) -> Client:
        def plan(clients: tuple[Client, ...]) -> tuple[tuple[Client, ...], Client]:
            client = become(client_named(clients, name))
            return with_replaced(clients, client), client

        return await asyncio.to_thread(self._clients.change, plan)

    def _with_token(self, client: Client, token: str) -> Json:
        url = self._address()
        register = dict(http_registration_lines(url)) if url is not None else {}
        return {**client_json(client, self._clients.now()), "token": token, "url": url, "register": register}


def mcp_address(settings: Settings, listens: str | None = None) -> str | None:
    """Where clients reach MCP by HTTP, as far as it is known.

    Args:
        listens: where the hub does, which has the port where the configuration leaves it open.
    """
    http = settings.http
    port = http.port or (urlsplit(listens).port if listens is not None else None)
    if not http.enabled or not port:
        return None
    here = http.host == "localhost" or is_loopback(http.host)
    if http.trusted_proxies and http.allowed_hosts and http.tls_certificate is None and not here:
        return f"https://{http.allowed_hosts[0]}/mcp"  # nobody but the proxy, which speaks TLS, may ask the hub itself
    host = http.host if http.host not in ("0.0.0.0", "::") else next(iter(http.allowed_hosts), "127.0.0.1")  # noqa: S104
    scheme = "https" if http.tls_certificate is not None else "http"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}/mcp"


def client_json(client: Client, now: datetime) -> Json:
    """A client, without anything of its tokens but their times; money in micro-cents."""
    return {
        "name": client.name,
        "id": client.id,
        "state": client.state(now),
        "scopes": sorted(client.scopes),
        "projects": None if client.projects is None else list(client.projects),
        "max_trust": client.max_trust.value,
        "created": iso(client.created),
        "expires": iso(client.expires),
        "revoked": iso(client.revoked),
        "rate": client.rate,
        "tokens_per_day": client.tokens_per_day,
        "cost_per_day": client.cost_per_day,
        "tokens": [
            {"created": iso(each.created), "until": iso(each.until)} for each in client.tokens if each.counts(now)
        ],
    }
