"""The configuration's section on OAuth: whose tokens are taken by HTTP beside our own, and what they allow."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from adaptive_llm_gateway.core._settings_gateway import Section

_Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
_Scope = Literal["memory:read", "memory:write", "handoff", "gateway", "admin"]
_TrustLevel = Literal["public", "internal", "confidential", "secret"]


def _one_or_more(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _url(value: str | None) -> str | None:
    """An address that nobody on the way can answer for: https, or of this machine."""
    if value is None:
        return None
    found = urlsplit(value)
    host = found.hostname or ""
    try:
        here = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        here = False
    if found.scheme not in (("http", "https") if here else ("https",)) or not host:
        raise ValueError("an address that begins with https:// is needed (http:// for the loopback alone)")
    if (
        found.username
        or found.query
        or found.fragment
        or not value.isascii()
        or any(each in value for each in ' "\\<>')
    ):
        raise ValueError("an address without user, query and fragment is needed")
    return value


_Url = Annotated[Annotated[str, Field(max_length=500)] | None, AfterValidator(_url)]
_Claim = Annotated[str, Field(min_length=1, max_length=200)] | None


class OAuthSettings(Section):
    """Clients by HTTP with tokens (JWT) of an issuer that you have, beside those of `alg clients`."""

    issuer: _Url = Field(
        None, description="Who issues the tokens, exactly as they say it (`iss`); none are taken without."
    )
    resource: _Url = Field(
        None,
        description="This hub's own address as clients know it, such as `https://hub.example.org/mcp`. Needed with an "
        "issuer.",
    )
    audience: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=500)], ...],
        BeforeValidator(_one_or_more),
    ] = Field(
        (),
        description="For whom tokens must be (`aud`), one of these; default: `resource`. In the environment a list.",
    )
    jwks_url: _Url = Field(None, description="Where its keys are (JWKS); default: where its metadata says.")
    algorithms: tuple[_Algorithm, ...] = Field(
        ("RS256", "PS256", "ES256", "EdDSA"),
        min_length=1,
        description="How tokens may be signed; none that have a shared key. In the environment a JSON list.",
    )
    leeway_seconds: int = Field(30, ge=0, le=300, description="How far the issuer's clock may differ.")
    client_claim: _Claim = Field(
        "client_id", description="The claim that names the client; where a token has none, `azp`, then `sub`."
    )
    scope_claim: _Claim = Field("scope", description="The claim that has its scopes, a list or words with spaces.")
    project_claim: _Claim = Field(None, description="The claim that has its projects, a list or words with spaces.")
    trust_claim: _Claim = Field(None, description="The claim that has its highest trust level.")
    scopes: tuple[_Scope, ...] = Field(
        (), description="Scopes of a token without that claim. In the environment a JSON list."
    )
    projects: tuple[Annotated[str, Field(min_length=1, max_length=200)], ...] = Field(
        (), description="Projects of a token without that claim; none: all. In the environment a JSON list."
    )
    max_trust: _TrustLevel = Field(
        "internal", description="The highest trust level of any token, and that of one without that claim."
    )
    rate: int | None = Field(600, ge=1, le=10**9, description="Requests a minute of each client.")
    tokens_per_day: int | None = Field(
        None, ge=1, le=10**15, description="Tokens of models of each client, in a day of UTC."
    )
    cost_micro_cents_per_day: int | None = Field(
        None, ge=1, le=10**15, description="What models may cost each client in a day of UTC, in millionths of a cent."
    )

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.issuer is not None and self.resource is None:
            raise ValueError("with 'issuer', 'resource' is needed: the address of this hub")
        return self
