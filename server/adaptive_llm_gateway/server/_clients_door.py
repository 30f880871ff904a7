"""The door of a hub with clients: what `Authentication` says, as the server by HTTP takes it."""

from __future__ import annotations

from collections.abc import Callable

from adaptive_llm_gateway.core import RateLimited, Unauthenticated
from adaptive_llm_gateway.server._access import Access
from adaptive_llm_gateway.server._authentication import Authentication
from adaptive_llm_gateway.server._clients import Clients
from adaptive_llm_gateway.server._http_door import Headers, Refusal


class ClientsDoor:
    """Lets those in whose tokens count.

    Args:
        clients: of the home.
        authentication: what looks at their tokens.
        came: told of each request that is let in, by whose it is.
    """

    def __init__(self, clients: Clients, authentication: Authentication, *, came: Callable[[str], object]) -> None:
        self._clients = clients
        self._came = came
        self.authentication = authentication

    def anyone(self) -> bool:
        """Whether there is a client that it would let in."""
        return self.authentication.takes_others or self._clients.anyone()

    async def authenticate(self, headers: Headers, address: str) -> Access | Refusal:
        """What the caller may do, by the token in its headers."""
        try:
            admitted = await self.authentication.authenticate(headers, address=address)
        except Unauthenticated as error:
            challenge = str(error.details["challenge"]).encode("ascii")
            return Refusal(401, ((b"www-authenticate", challenge),), error.why, error.client)
        except RateLimited as error:
            return Refusal(429, ((b"retry-after", str(error.details["retry_after"]).encode("ascii")),), error.message)
        self._came(admitted.identity)
        return admitted

    def counts(self, access: Access) -> bool:
        """Whether what it gave for a token holds still: neither revoked, nor expired, nor changed."""
        return self.authentication.gone(access) is None

    def challenge(self, error: str, *, scope: str | None = None) -> bytes:
        """`WWW-Authenticate` for who was let in, and is not for this."""
        return self.authentication.challenge(error=error, scope=scope).encode("ascii")

    async def changed(self, *, within: float) -> bool:
        """Wait until something of the clients changes, at most so many seconds."""
        return await self._clients.changed(within=within)
