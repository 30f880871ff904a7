"""Who asks by HTTP, and whether it still may: from the header `Authorization` alone.

A token in an address ends up in logs and histories, so there it is never looked for. What a refusal says is the same
for a token that nobody has, that has expired and that was revoked; why it was refused is for the audit log
(`Unauthenticated.why`).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from adaptive_llm_gateway.core import ALG_TOKEN_PREFIX, RateLimited, Unauthenticated
from adaptive_llm_gateway.server._access import Access
from adaptive_llm_gateway.server._clients import Clients
from adaptive_llm_gateway.server._clients_file import Client, Token
from adaptive_llm_gateway.server._http_door import challenge
from adaptive_llm_gateway.server._rates import Buckets, whole_seconds
from adaptive_llm_gateway.server._tokens import is_token, token_hash

_LONGEST: Final = 16 * 1024
"""Bytes of the header; an issuer's tokens have a few thousand."""
_FORM = re.compile(rb"[Bb][Ee][Aa][Rr][Ee][Rr] +([A-Za-z0-9._~+/-]+=*) *")
_WRONG_A_MINUTE: Final = 20.0
_WRONG_AT_ONCE: Final = 20.0


@dataclass(frozen=True, slots=True)
class Admitted(Access):
    """What a token's client may do and see, and by which token it came.

    Attributes:
        identity: who it is, for as long as it exists: the id of a client, or the issuer's word for whoever has a JWT.
        subject: for whom of those who use that client a JWT was issued; empty: that is not said.
        token: the hash of the token.
        until: when the token counts no more; None: nothing says so yet.
        rate: requests a minute; None: no bound.
        tokens_per_day, cost_per_day: as a client's.
        issued: somebody else issued the token: it is in no file of ours, and counts until it ends.
    """

    identity: str = ""
    subject: str = ""
    token: str = ""
    until: datetime | None = None
    rate: int | None = None
    tokens_per_day: int | None = None
    cost_per_day: int | None = None
    issued: bool = False

    @property
    def owner(self) -> str | None:
        """Its identity and whom it serves: programs on this machine, and a client that had the name before, can be
        called like it, and many people may use one program."""
        return " ".join(filter(None, (self.identity or self.client, self.subject)))


class Verifier(Protocol):
    """Looks at tokens of an issuer elsewhere; see `_jwt`."""

    @property
    def metadata_url(self) -> str:
        """Where it is told which issuer that is (RFC 9728)."""
        ...

    def known(self, token: str) -> Admitted | None:
        """A token that was looked at before and still counts: no work."""
        ...

    async def verified(self, token: str) -> Admitted:
        """What the token allows.

        Raises:
            Refused: it counts for nothing.
        """
        ...


class Refused(Exception):
    """A token that counts for nothing; `why` is for the audit log, `client` whose it would be."""

    def __init__(self, why: str, client: str | None = None) -> None:
        super().__init__(why)
        self.why = why
        self.client = client


class Authentication:
    """Tells who asks. Used from the event loop's thread.

    Args:
        issuer: of tokens that are not ours, where one is configured.
        wrong: how many wrong tokens an address may still give.
        asked: how many requests a client may still make.
    """

    def __init__(
        self,
        clients: Clients,
        *,
        issuer: Verifier | None = None,
        wrong: Buckets | None = None,
        asked: Buckets | None = None,
    ) -> None:
        self._clients = clients
        self._issuer = issuer
        self._wrong = wrong if wrong is not None else Buckets()
        self._asked = asked if asked is not None else Buckets()

    @property
    def takes_others(self) -> bool:
        """Whether tokens of an issuer elsewhere are looked at."""
        return self._issuer is not None

    async def authenticate(self, headers: Iterable[tuple[bytes, bytes]], *, address: str) -> Admitted:
        """What whoever sent these headers may do and see.

        Args:
            headers: names and values as they came, all of them.
            address: the IP address that the request came from.

        Raises:
            Unauthenticated: there is no token, or none that counts.
            RateLimited: the client asks too often; or the token does not count, and too many from there did not before.
        """
        admitted = await self._admitted(headers, address)
        if admitted.rate is not None:
            wait = self._asked.take(admitted.identity, a_minute=admitted.rate, at_once=at_once(admitted.rate))
            if wait:
                raise _too_often(
                    f"the client {admitted.client!r} may make {admitted.rate:,} requests a minute", whole_seconds(wait)
                )
        return admitted

    def gone(self, access: Access) -> str | None:
        """Why what was begun with this access must not go on; None where it may.

        For what stays open: it is asked before each thing that is done or told there.
        """
        if not isinstance(access, Admitted):
            return None
        now = self._clients.now()
        if self._clients.problem is not None:
            return "the file of clients does not hold"
        if access.until is not None and access.until <= now:
            return "the token has expired"
        if access.issued:
            return None
        found = self._clients.with_token(access.token)
        if found is None:
            return "the token was replaced"
        client, token = found
        if (why := _why_not(client, token, now)) is not None:
            return why
        return None if admitted_by(client, token) == access else "the client's rights were changed"

    def challenge(self, *, error: str | None = None, says: str | None = None, scope: str | None = None) -> str:
        """`WWW-Authenticate`, with the place of RFC 9728 where an issuer is configured; see `_http_door.challenge`."""
        metadata = self._issuer.metadata_url if self._issuer is not None else None
        return challenge(error=error, says=says, scope=scope, metadata=metadata)

    # -- one after the other -----------------------------------------------------------------------------------

    async def _admitted(self, headers: Iterable[tuple[bytes, bytes]], address: str) -> Admitted:
        given = [value for name, value in headers if name.lower() == b"authorization"]
        if not given:
            raise self._refusal("a token is needed", "no token", None)
        found = _FORM.fullmatch(given[0]) if len(given) == 1 and len(given[0]) <= _LONGEST else None
        if found is None:
            why = "several Authorization headers" if len(given) > 1 else "no bearer token in the Authorization header"
            raise self._refusal("the header Authorization is not one bearer token", why, "invalid_request")
        token = found[1].decode("ascii")
        try:
            return await self._looked_up(token, address)
        except Refused as refused:
            wait = self._wrong.take(place_of(address), a_minute=_WRONG_A_MINUTE, at_once=_WRONG_AT_ONCE)
            if wait:
                raise _too_many_wrong(wait) from None
            says = "the token does not count"
            if token.startswith(ALG_TOKEN_PREFIX) and not is_token(token):
                says = "the token is mistyped or cut off"
            error = self._refusal(says, refused.why, "invalid_token")
            error.client = refused.client
            raise error from None

    async def _looked_up(self, token: str, address: str) -> Admitted:
        ours = token.startswith(ALG_TOKEN_PREFIX)
        # Looked up first: each look at the file lets go of the interpreter, and who is let in waits for one only.
        found = self._clients.with_token(token_hash(token)) if ours and is_token(token) else None
        if found is not None:
            client, kept = found
            if (why := _why_not(client, kept, self._clients.now())) is not None:
                raise Refused(why, client.name)
            return admitted_by(client, kept)
        if self._clients.problem is not None:
            raise Refused("the file of clients does not hold")
        if ours:
            raise Refused("unknown" if is_token(token) else "mistyped")
        if self._issuer is None:
            raise Refused("unknown")
        if (admitted := self._issuer.known(token)) is not None:
            return admitted
        # A signature takes a thousand times as long as a hash: whoever gave too many wrong ones waits before that.
        wait = self._wrong.wait(place_of(address), a_minute=_WRONG_A_MINUTE, at_once=_WRONG_AT_ONCE)
        if wait:
            raise _too_many_wrong(wait)
        return await self._issuer.verified(token)

    def _refusal(self, says: str, why: str, error: str | None) -> Unauthenticated:
        refused = Unauthenticated(
            says,
            hint="`alg clients add` makes a token; it is sent as `Authorization: Bearer TOKEN`.",
            challenge=self.challenge(error=error, says=says if error else None),
        )
        refused.why = why
        return refused


def admitted_by(client: Client, token: Token) -> Admitted:
    """What a client's token allows."""
    ends = [end for end in (client.expires, token.until) if end is not None]
    return Admitted(
        client=client.name,
        scopes=client.scopes,
        projects=client.projects,
        max_trust=client.max_trust,
        identity=client.id,
        token=token.hash,
        until=min(ends) if ends else None,
        rate=client.rate,
        tokens_per_day=client.tokens_per_day,
        cost_per_day=client.cost_per_day,
    )


def _why_not(client: Client, token: Token, now: datetime) -> str | None:
    """Why a token does not count."""
    state = client.state(now)
    if state != "valid":
        return state
    return None if token.counts(now) else "rotated"


def at_once(rate: int) -> float:
    """Requests that a client may make at once: those of ten seconds, ten at least, and never more than of a minute."""
    return float(min(rate, max(10, rate // 6)))


def place_of(address: str) -> str:
    """What wrong tokens are counted for: an IPv4 address, or the network of an IPv6 address that one place has."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    if isinstance(found, ipaddress.IPv6Address):
        mapped = found.ipv4_mapped
        if mapped is not None:
            return str(mapped)
        return str(ipaddress.ip_network((int(found) >> 64 << 64, 64)))
    return str(found)


def _too_often(what: str, wait: int) -> RateLimited:
    return RateLimited(what, hint=f"Try again in {wait} s.", retry_after=wait)


def _too_many_wrong(wait: float) -> RateLimited:
    return _too_often("too many tokens from here did not count", whole_seconds(wait))
