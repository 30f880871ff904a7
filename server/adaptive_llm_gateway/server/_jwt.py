"""Tokens of an issuer elsewhere: JWTs, by the advice of RFC 8725 and RFC 9068. We issue none.

Only algorithms with a public key count, each with the kind of key that it is made for, and only keys that the issuer
publishes: nothing that a token says of its own key is followed.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections import OrderedDict
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast
from urllib.parse import urlsplit

from adaptive_llm_gateway.core import OAuthSettings, Trust
from adaptive_llm_gateway.server._access import SCOPES, Scope
from adaptive_llm_gateway.server._authentication import Admitted, Refused
from adaptive_llm_gateway.server._clients import Clock, utc_now
from adaptive_llm_gateway.server._jwt_keys import IssuerKeys, Jwk, NoKeys

_log = logging.getLogger(__name__)

METADATA_PATH: Final = "/.well-known/oauth-protected-resource"
_MOST_KNOWN: Final = 4_096
_MOST_PROJECTS: Final = 100
_LONGEST_NAME: Final = 128
_LONGEST_KEY_NAME: Final = 256
_LEAST_RSA_BITS: Final = 2048
_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._:|-]{{0,{_LONGEST_NAME - 1}}}", re.ASCII)
_TYPES: Final = frozenset({"jwt", "at+jwt", "application/at+jwt"})
_NOT_FOLLOWED: Final = frozenset({"crit", "jku", "jwk", "x5u", "x5c", "b64", "zip", "enc"})
_LATEST: Final = datetime.max.replace(tzinfo=UTC)
_CURVES: Final = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}


class OAuthTokens:
    """Looks at the tokens of the issuer that is configured.

    Args:
        settings: with an issuer and a resource.
        keys: of the issuer.
        now: with its time zone.
    """

    def __init__(self, settings: OAuthSettings, *, keys: IssuerKeys | None = None, now: Clock = utc_now) -> None:
        assert settings.issuer is not None  # noqa: S101 - or there is nobody whose tokens these are
        assert settings.resource is not None  # noqa: S101 - the settings see to it
        self._issuer = settings.issuer
        self._resource = settings.resource
        self._settings = settings
        self._host = urlsplit(settings.issuer).hostname or ""
        self._keys = keys or IssuerKeys(settings.issuer, settings.jwks_url)
        self._now = now
        self._known: OrderedDict[str, Admitted] = OrderedDict()
        self._changes = 0

    @property
    def metadata_url(self) -> str:
        """Where `metadata` is told (RFC 9728, section 3.1)."""
        parts = urlsplit(self._resource)
        return f"{parts.scheme}://{parts.netloc}{METADATA_PATH}{parts.path.rstrip('/')}"

    def metadata(self) -> bytes:
        """The document of RFC 9728 (section 2)."""
        told = {
            "resource": self._resource,
            "authorization_servers": [self._issuer],
            "scopes_supported": list(SCOPES),
            "bearer_methods_supported": ["header"],
            "resource_name": "Adaptive LLM Gateway",
        }
        return json.dumps(told).encode()

    def known(self, token: str) -> Admitted | None:
        """A token that was looked at before and still counts."""
        key = _hash(token)
        found = self._known.get(key)
        if found is None:
            return None
        if self._changes != self._keys.changes or found.until is None or found.until <= self._now():
            del self._known[key]
            return None
        self._known.move_to_end(key)
        return found

    async def verified(self, token: str) -> Admitted:
        """What a token allows.

        Raises:
            Refused: it counts for nothing.
        """
        header = _header_of(token)
        algorithm: str = header["alg"]
        if algorithm not in self._settings.algorithms:
            raise Refused("signed in a way that is not allowed")
        name: str | None = header.get("kid")
        try:
            key = await self._keys.fitting(name, lambda each: _fits(each, algorithm))
        except NoKeys as error:
            raise Refused(f"the issuer's keys cannot be had: {error}") from error
        if key is None:
            raise Refused("signed with a key that the issuer does not publish")
        admitted = self._admitted(self._claims(token, key, algorithm), _hash(token))
        if self._changes != self._keys.changes:
            self._known.clear()
            self._changes = self._keys.changes
        self._known[admitted.token] = admitted
        while len(self._known) > _MOST_KNOWN:
            self._known.popitem(last=False)
        return admitted

    def _claims(self, token: str, key: Jwk, algorithm: str) -> Mapping[str, Any]:
        import jwt  # noqa: PLC0415 - where an issuer is configured

        settings = self._settings
        try:
            public = jwt.PyJWK(dict(key), algorithm)
            if algorithm[:2] in ("RS", "PS") and getattr(public.key, "key_size", 0) < _LEAST_RSA_BITS:
                raise Refused("signed with a key that is too short")
            # Times are looked at below, by one clock.
            return jwt.decode(
                token,
                public,
                algorithms=[algorithm],
                audience=list(settings.audience or (self._resource,)),
                issuer=self._issuer,
                options={
                    "require": ["exp", "iss", "aud"],
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
        except jwt.PyJWTError as error:
            raise Refused(f"not accepted: {type(error).__name__}") from error
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
            raise Refused(f"damaged: {type(error).__name__}") from error

    def _admitted(self, claims: Mapping[str, Any], hash_: str) -> Admitted:
        settings, now = self._settings, self._now()
        leeway = timedelta(seconds=settings.leeway_seconds)
        until = _time(claims, "exp")
        assert until is not None  # noqa: S101 - it is required
        if until <= now - leeway:
            raise Refused("expired", self._name(claims))
        for claim in ("nbf", "iat"):
            begins = _time(claims, claim)
            if begins is not None and begins > now + leeway:
                raise Refused("of a time to come", self._name(claims))
        name = self._name(claims)
        level = Trust(settings.max_trust)
        if settings.trust_claim is not None and settings.trust_claim in claims:
            level = _level(claims[settings.trust_claim], level)
        return Admitted(
            client=name,
            scopes=_scopes(_words(claims, settings.scope_claim), settings.scopes),
            projects=_projects(_words(claims, settings.project_claim), settings.projects),
            max_trust=level,
            identity=f"{self._issuer} {name}",
            subject=_subject(claims),
            token=hash_,
            until=min(until, _LATEST - leeway) + leeway,
            rate=settings.rate,
            tokens_per_day=settings.tokens_per_day,
            cost_per_day=settings.cost_micro_cents_per_day,
            issued=True,
        )

    def _name(self, claims: Mapping[str, Any]) -> str:
        """The client's name: with the issuer's behind it, so that it is never that of a client of ours."""
        for claim in (self._settings.client_claim, "azp", "sub"):
            value = claims.get(claim) if claim is not None else None
            if value is None:
                continue
            if not isinstance(value, str) or not _NAME.fullmatch(value):
                raise Refused("it names its client in no usable way")
            return f"{value}@{self._host}"
        raise Refused("it names no client")


def _subject(claims: Mapping[str, Any]) -> str:
    """Whom the token is for, told apart and not named: one program (`client_id`) may serve many people."""
    said = claims.get("sub")
    return "" if said is None else _hash(str(said))[:32]


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _header_of(token: str) -> Mapping[str, Any]:
    """The header, which says how to look at the rest, and nothing more."""
    import jwt  # noqa: PLC0415 - as above

    if token.count(".") != 2:
        raise Refused("unknown")
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
        raise Refused("damaged: its header") from error
    kind, name = header.get("typ"), header.get("kid")
    if _NOT_FOLLOWED & header.keys():
        raise Refused("its header asks for what is not done")
    if not isinstance(header.get("alg"), str):
        raise Refused("damaged: its header")
    if kind is not None and (not isinstance(kind, str) or kind.lower() not in _TYPES):
        raise Refused("of another kind than tokens of access")
    if name is not None and (not isinstance(name, str) or len(name) > _LONGEST_KEY_NAME):
        raise Refused("damaged: its header")
    return header


def _fits(key: Jwk, algorithm: str) -> bool:
    """Whether a key is made for an algorithm: a token must not choose another for it (RFC 8725, section 3.1)."""
    if key.get("alg") not in (None, algorithm) or key.get("use") not in (None, "sig"):
        return False
    operations = key.get("key_ops")
    if operations is not None and not (isinstance(operations, list) and "verify" in operations):
        return False
    kind, curve = key.get("kty"), key.get("crv")
    if algorithm in _CURVES:
        return kind == "EC" and curve == _CURVES[algorithm]
    if algorithm == "EdDSA":
        return kind == "OKP" and curve in ("Ed25519", "Ed448")
    return kind == "RSA"


def _time(claims: Mapping[str, Any], name: str) -> datetime | None:
    """A time among the claims."""
    value = claims.get(name)
    if value is None and name != "exp":
        return None
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise Refused(f"damaged: {name}")
    try:
        return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        raise Refused(f"damaged: {name}") from None


def _words(claims: Mapping[str, Any], name: str | None) -> tuple[str, ...] | None:
    """A claim that is a list, or words with spaces; None where it is not there."""
    if name is None or name not in claims:
        return None
    value = claims[name]
    if isinstance(value, str):
        return tuple(filter(None, value.split(" ")))  # no other white space parts scopes (RFC 6749, section 3.3)
    if isinstance(value, list) and all(isinstance(each, str) for each in cast("list[object]", value)):
        return tuple(cast("list[str]", value))
    raise Refused(f"damaged: {name!r}")


def _scopes(said: tuple[str, ...] | None, default: tuple[Scope, ...]) -> frozenset[Scope]:
    if said is None:
        return frozenset(default)
    return frozenset(scope for scope in SCOPES if scope in said)


def _projects(said: tuple[str, ...] | None, default: tuple[str, ...]) -> tuple[str, ...] | None:
    """A token that names none, though it has the claim, sees none."""
    if said is None:
        return default or None
    if len(said) > _MOST_PROJECTS:
        raise Refused("it names too many projects")
    return said


def _level(said: object, highest: Trust) -> Trust:
    try:
        level = Trust(cast("str", said))
    except ValueError:
        raise Refused("it names no trust level") from None
    return level if highest.allows(level) else highest
