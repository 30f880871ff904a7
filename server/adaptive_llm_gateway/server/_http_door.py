"""Where it is decided whom a request by HTTP comes from: the seam between the server and its clients' tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from adaptive_llm_gateway.server._access import Access

Headers = Sequence[tuple[bytes, bytes]]
"""A request's headers as they came, names in lower case."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not let in: the answer's status (401 or 429) and headers. Nothing else is said.

    Attributes:
        why: for the audit log alone.
        client: whose token it was, where that is known; for the audit log alone, too.
    """

    status: int
    headers: tuple[tuple[bytes, bytes], ...] = ()
    why: str = ""
    client: str | None = None


class Door(Protocol):
    """Knows the clients' tokens."""

    def anyone(self) -> bool:
        """Whether there is a client that it would let in."""
        ...

    async def authenticate(self, headers: Headers, address: str) -> Access | Refusal:
        """What the caller may do, by the token in its headers.

        Args:
            address: the IP address that it comes from.
        """
        ...

    def counts(self, access: Access) -> bool:
        """Whether what it gave for a token holds still: neither revoked, nor expired, nor changed."""
        ...

    def challenge(self, error: str, *, scope: str | None = None) -> bytes:
        """`WWW-Authenticate` for who was let in, and is not for this: see `challenge`."""
        ...

    async def changed(self, *, within: float) -> object:
        """Wait until something of the clients changes, at most so many seconds."""
        ...


TOKEN_PROTOCOL: Final = b"alg.token."
"""A page can give a WebSocket no header but its subprotocols: what is behind this in one of them is the token."""


def with_token_of_protocols(headers: Headers) -> Headers:
    """The headers of a request for a WebSocket, with the token among its subprotocols as its authorization.

    One that has an `Authorization` keeps that; several tokens are as many authorizations, which is one too many.
    """
    if any(name == b"authorization" for name, _ in headers):
        return headers
    offered = [
        part.strip() for name, value in headers if name == b"sec-websocket-protocol" for part in value.split(b",")
    ]
    tokens = [part.removeprefix(TOKEN_PROTOCOL) for part in offered if part.startswith(TOKEN_PROTOCOL)]
    return [*headers, *((b"authorization", b"Bearer " + token) for token in tokens)]


REALM: Final = "adaptive-llm-gateway"


def challenge(
    *, error: str | None = None, says: str | None = None, scope: str | None = None, metadata: str | None = None
) -> str:
    """`WWW-Authenticate` of RFC 6750 (section 3), which has a parameter at least.

    Args:
        error: `invalid_request`, `invalid_token` or `insufficient_scope`; None where no token was given.
        says: of it, for people; ours, never the caller's words.
        scope: what a token would need.
        metadata: where it is told who issues tokens (RFC 9728). Without it no client is led to look for an issuer.
    """
    given = (("error", error), ("error_description", says), ("scope", scope), ("resource_metadata", metadata))
    return f'Bearer realm="{REALM}"' + "".join(f', {name}="{value}"' for name, value in given if value)


NO_TOKEN: Final = Refusal(401, ((b"www-authenticate", challenge().encode("ascii")),))
