"""Tokens of an issuer elsewhere: real keys, a real issuer on the loopback, and what a forger would try."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from adaptive_llm_gateway.core import (
    ConfigError,
    Home,
    OAuthSettings,
    RateLimited,
    Trust,
    Unauthenticated,
    load_settings,
)
from adaptive_llm_gateway.server import _jwt_keys
from adaptive_llm_gateway.server._authentication import Admitted, Authentication, Refused
from adaptive_llm_gateway.server._clients import Clients
from adaptive_llm_gateway.server._jwt import OAuthTokens
from adaptive_llm_gateway.server._jwt_keys import IssuerKeys, NoKeys, fetch_json, metadata_urls
from adaptive_llm_gateway.server._rates import Buckets

RESOURCE = "https://hub.example.org/mcp"
KEYS: dict[str, tuple[str, Any]] = {
    "rsa": ("RS256", rsa.generate_private_key(public_exponent=65537, key_size=2048)),
    "ec": ("ES256", ec.generate_private_key(ec.SECP256R1())),
    "ed": ("EdDSA", ed25519.Ed25519PrivateKey.generate()),
}
STRANGER = rsa.generate_private_key(public_exponent=65537, key_size=2048)
SHORT = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 - to be refused


def jwk(name: str, key: Any, algorithm: str, **more: Any) -> dict[str, Any]:
    made: dict[str, Any] = jwt.get_algorithm_by_name(algorithm).to_jwk(key.public_key(), as_dict=True)
    return {**{part: value for part, value in made.items() if part != "key_ops"}, "kid": name, **more}


class Issuer:
    """An issuer on the loopback that counts what it is asked."""

    def __init__(self, serve: Callable[..., Any]) -> None:
        self.keys = [jwk(name, key, algorithm) for name, (algorithm, key) in KEYS.items()]
        self.asked: list[str] = []
        self.status = 200
        self.metadata: dict[str, Any] = {}
        self.lock = threading.Lock()
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                with issuer.lock:
                    issuer.asked.append(self.path)
                document: Any = {"keys": issuer.keys} if self.path == "/keys" else issuer.metadata
                data = json.dumps(document).encode()
                self.send_response(issuer.status)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                """Keep quiet."""

        self.url = f"http://127.0.0.1:{serve(Handler).server_port}"
        self.metadata = {"issuer": self.url, "jwks_uri": f"{self.url}/keys"}

    def settings(self, **more: Any) -> OAuthSettings:
        return OAuthSettings.model_validate({"issuer": self.url, "resource": RESOURCE, **more})

    def claims(self, **more: Any) -> dict[str, Any]:
        now = datetime.now(UTC)
        made = {
            "iss": self.url, "aud": RESOURCE, "sub": "someone", "client_id": "ci",
            "scope": "memory:read handoff openid", "iat": now, "exp": now + timedelta(minutes=5), **more,
        }  # fmt: skip
        return {name: value for name, value in made.items() if value is not None}

    def token(self, with_key: str = "rsa", *, headers: dict[str, Any] | None = None, **more: Any) -> str:
        algorithm, key = KEYS[with_key]
        return jwt.encode(self.claims(**more), key, algorithm, headers={"kid": with_key, **(headers or {})})


@pytest.fixture
def issuer(serve: Callable[..., Any]) -> Issuer:
    return Issuer(serve)


class Seconds:
    def __init__(self) -> None:
        self.at = 1_000.0

    def __call__(self) -> float:
        return self.at


def run(work: Callable[[], Awaitable[Any]]) -> Any:
    async def bounded() -> Any:
        async with asyncio.timeout(60):
            return await work()

    return asyncio.run(bounded())


def admitted(tokens: OAuthTokens, token: str) -> Admitted:
    return run(lambda: tokens.verified(token))


def refused(tokens: OAuthTokens, token: str) -> str:
    with pytest.raises(Refused) as told:
        run(lambda: tokens.verified(token))
    return told.value.why


def unsigned(header: dict[str, Any], claims: dict[str, Any], signature: bytes = b"") -> str:
    def part(value: Any) -> str:
        data = value if isinstance(value, bytes) else json.dumps(value, default=datetime.timestamp).encode()
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    return ".".join(map(part, (header, claims, signature)))


# --- What is taken --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("with_key", KEYS)
def test_a_token_of_the_issuer_allows_what_it_says(issuer: Issuer, with_key: str) -> None:
    tokens = OAuthTokens(issuer.settings())
    access = admitted(tokens, issuer.token(with_key))
    assert (access.client, access.scopes, access.projects) == ("ci@127.0.0.1", {"memory:read", "handoff"}, None)
    assert (access.max_trust, access.rate, access.issued) == (Trust.INTERNAL, 600, True)
    assert issuer.asked == ["/.well-known/oauth-authorization-server", "/keys"]


def test_what_a_token_does_not_say_is_as_the_settings_have_it(issuer: Issuer) -> None:
    tokens = OAuthTokens(issuer.settings(scopes=["gateway"], projects=["acme-*"], max_trust="public", rate=None))
    access = admitted(tokens, issuer.token(scope=None, client_id=None))
    assert (access.client, access.scopes, access.projects) == ("someone@127.0.0.1", {"gateway"}, ("acme-*",))
    assert (access.max_trust, access.rate) == (Trust.PUBLIC, None)
    assert admitted(OAuthTokens(issuer.settings()), issuer.token(scope=None)).scopes == frozenset()


def test_projects_and_trust_come_from_the_claims_that_are_named_and_trust_never_above_the_settings(
    issuer: Issuer,
) -> None:
    tokens = OAuthTokens(issuer.settings(project_claim="groups", trust_claim="level", max_trust="confidential"))
    assert admitted(tokens, issuer.token(groups=["a", "b*"], level="public")).projects == ("a", "b*")
    assert admitted(tokens, issuer.token(level="public")).max_trust is Trust.PUBLIC
    assert admitted(tokens, issuer.token(level="secret")).max_trust is Trust.CONFIDENTIAL
    nothing = admitted(tokens, issuer.token(groups=[]))
    assert not nothing.has_project("a")
    assert not nothing.has_project(None)
    claims: list[dict[str, Any]] = [{"groups": 5}, {"groups": [5]}, {"level": "top"}, {"level": 5}, {"scope": {"a": 1}}]
    for wrong in claims:
        refused(tokens, issuer.token(**wrong))


@pytest.mark.parametrize("with_key", KEYS)
def test_times_at_the_edge_of_the_calendar_are_times(issuer: Issuer, with_key: str) -> None:
    tokens = OAuthTokens(issuer.settings())
    token = issuer.token(with_key, exp=253402300799, nbf=-62135596800, iat=-62135596800)
    access = admitted(tokens, token)
    assert access.until is not None
    assert access.until.year == 9999
    assert tokens.known(token) == access


def test_those_who_use_one_program_are_told_apart_and_not_named(issuer: Issuer) -> None:
    tokens = OAuthTokens(issuer.settings())
    jane, joe, again = [admitted(tokens, issuer.token(sub=sub)) for sub in ("jane@acme.example", "joe", "joe")]
    nobody = admitted(tokens, issuer.token(sub=None))
    assert len({jane.owner, joe.owner, nobody.owner}) == 3
    assert joe.owner == again.owner
    assert jane.client == joe.client == nobody.client == "ci@127.0.0.1"  # how it is called, and what bounds it, is one
    assert jane.identity == joe.identity
    assert "jane" not in str(jane.owner)
    # A person of the program's name is not the program.
    person = admitted(tokens, issuer.token(client_id=None, sub="ci"))
    assert person.owner not in (nobody.owner, joe.owner)


def test_scopes_are_parted_by_spaces_and_by_nothing_else(issuer: Issuer) -> None:
    tokens = OAuthTokens(issuer.settings())
    for odd in (",", ";", "\t", "\n", "\N{NO-BREAK SPACE}", "\N{EM SPACE}", "\x1f", "+", "%20"):
        assert admitted(tokens, issuer.token(scope=f"memory:read{odd}admin")).scopes == frozenset()
    assert admitted(tokens, issuer.token(scope="  memory:read   handoff ")).scopes == {"memory:read", "handoff"}


# --- What is not ----------------------------------------------------------------------------------------------------

CLAIMS: dict[str, dict[str, Any]] = {
    "expired": {"exp": datetime(2020, 1, 1, tzinfo=UTC)},
    "without an end": {"exp": None},
    "an end that is none": {"exp": "tomorrow"},
    "an end beyond all years": {"exp": 10**30},
    "an end that is no number": {"exp": float("nan")},
    "an end before all years": {"exp": -62135596800},
    "not before the last moment": {"nbf": 253402300799},
    "not yet": {"nbf": datetime(2100, 1, 1, tzinfo=UTC)},
    "made tomorrow": {"iat": datetime(2100, 1, 1, tzinfo=UTC)},
    "for somebody else": {"aud": "https://other.example.org/mcp"},
    "for several others": {"aud": ["https://a.example.org", "https://b.example.org"]},
    "for nobody": {"aud": None},
    "of another issuer": {"iss": "https://evil.example.org"},
    "of no issuer": {"iss": None},
    "of no client": {"client_id": None, "sub": None},
    "a name with a line": {"client_id": "a\nb"},
    "a name that is a list": {"client_id": ["ci"]},
    "a name without end": {"client_id": "a" * 500},
    "a name like one of ours": {"client_id": "laptop@elsewhere"},
}


@pytest.mark.parametrize("what", CLAIMS)
def test_a_token_whose_claims_do_not_hold_is_refused(issuer: Issuer, what: str) -> None:
    refused(OAuthTokens(issuer.settings()), issuer.token(**CLAIMS[what]))


@pytest.mark.parametrize(
    "header",
    [
        {"jku": "https://evil.example.org/keys"},
        {"x5u": "https://evil.example.org/cert"},
        {"jwk": {"kty": "RSA"}},
        {"x5c": ["AAAA"]},
        {"crit": ["exp"]},
        {"zip": "DEF"},
        {"typ": "id_token+jwt"},
        {"kid": "a" * 1_000},
        {"kid": "nobody"},
        {"kid": "ec"},
    ],
    ids=str,
)
def test_what_a_header_asks_for_beside_the_issuers_keys_is_refused(issuer: Issuer, header: dict[str, Any]) -> None:
    refused(OAuthTokens(issuer.settings()), issuer.token(headers=header))
    assert all(path.startswith(("/.well-known", "/keys")) for path in issuer.asked)


def test_no_signature_and_a_public_key_as_a_shared_one_are_refused(issuer: Issuer) -> None:
    import hashlib
    import hmac

    tokens = OAuthTokens(issuer.settings())
    for name in ("none", "None", "NONE", ""):
        assert "not allowed" in refused(tokens, unsigned({"alg": name, "kid": "rsa"}, issuer.claims()))
    public = KEYS["rsa"][1].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for algorithm in ("HS256", "HS512"):
        start = unsigned({"alg": algorithm, "kid": "rsa"}, issuer.claims()).rstrip(".")
        signed = hmac.new(public, start.encode(), getattr(hashlib, f"sha{algorithm[2:]}")).digest()
        forged = f"{start}.{base64.urlsafe_b64encode(signed).rstrip(b'=').decode()}"
        assert "not allowed" in refused(tokens, forged)
    assert issuer.asked == []


def test_a_key_serves_the_algorithm_alone_that_it_is_made_for(issuer: Issuer) -> None:
    tokens = OAuthTokens(issuer.settings())
    assert "does not publish" in refused(
        tokens, jwt.encode(issuer.claims(), KEYS["ec"][1], "ES256", headers={"kid": "rsa"})
    )
    issuer.keys = [jwk("rsa", KEYS["rsa"][1], "RS256", alg="PS256")]
    assert "does not publish" in refused(OAuthTokens(issuer.settings()), issuer.token())
    issuer.keys = [jwk("rsa", KEYS["rsa"][1], "RS256", use="enc")]
    assert "does not publish" in refused(OAuthTokens(issuer.settings()), issuer.token())


def test_a_key_that_is_not_the_issuers_or_too_short_signs_nothing(issuer: Issuer) -> None:
    forged = jwt.encode(issuer.claims(), STRANGER, "RS256", headers={"kid": "rsa"})
    assert "InvalidSignature" in refused(OAuthTokens(issuer.settings()), forged)
    issuer.keys = [jwk("short", SHORT, "RS256")]
    start = unsigned({"alg": "RS256", "kid": "short"}, issuer.claims()).rstrip(".")
    assert "too short" in refused(OAuthTokens(issuer.settings()), f"{start}.{'A' * 171}")


@pytest.mark.parametrize(
    "token",
    [
        "a.b.c",
        "eyJ.eyJ.x",
        "..",
        "a.b",
        "a.b.c.d",
        "e30.e30.e30",
        "W10.e30.e30",
        "eyJhbGciOiJSUzI1NiJ9.e30.",
        "\x00.\x00.\x00",
    ],
)
def test_what_is_no_token_is_refused_without_asking_anybody(issuer: Issuer, token: str) -> None:
    refused(OAuthTokens(issuer.settings(jwks_url=f"{issuer.url}/keys")), token)
    assert issuer.asked in ([], ["/keys"])


# --- The issuer's keys ----------------------------------------------------------------------------------------------


def test_ten_thousand_invented_names_of_keys_have_the_keys_fetched_twice(issuer: Issuer) -> None:
    clock = Seconds()
    keys = IssuerKeys(issuer.url, f"{issuer.url}/keys", clock=clock)

    async def work() -> None:
        for number in range(10_000):
            assert await keys.fitting(f"key-{number}", lambda _: True) is None
            clock.at += 0.005

    run(work)
    assert issuer.asked == ["/keys"] * 2


def test_a_new_key_of_the_issuer_counts_and_a_withdrawn_one_no_more(issuer: Issuer) -> None:
    clock = Seconds()
    keys = IssuerKeys(issuer.url, None, clock=clock)
    tokens = OAuthTokens(issuer.settings(), keys=keys)
    old = issuer.token("rsa")
    assert admitted(tokens, old).client == "ci@127.0.0.1"
    assert tokens.known(old) is not None
    issuer.keys = [jwk("ec", KEYS["ec"][1], "ES256")]
    clock.at += 31
    assert admitted(tokens, issuer.token("ec")).client == "ci@127.0.0.1"  # known before: nothing is fetched
    assert "does not publish" in refused(tokens, issuer.token("rsa", headers={"kid": "newer"}))
    assert tokens.known(old) is None
    assert "does not publish" in refused(tokens, old)


def test_an_issuer_that_is_away_is_asked_now_and_then_and_its_keys_serve_for_a_day(issuer: Issuer) -> None:
    clock = Seconds()
    keys = IssuerKeys(issuer.url, f"{issuer.url}/keys", clock=clock)

    async def asked() -> Any:
        return await keys.fitting("rsa", lambda _: True)

    assert run(asked) is not None
    issuer.status = 500
    clock.at += 3_601
    assert run(asked) is not None
    assert len(issuer.asked) == 2
    assert run(asked) is not None
    assert len(issuer.asked) == 2
    clock.at += 24 * 3_600
    with pytest.raises(NoKeys, match="answered 500"):
        run(asked)


def test_an_issuer_that_answers_without_end_keeps_nobody_waiting_and_is_not_asked_beside_that(
    issuer: Issuer, serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, over, asked = Seconds(), threading.Event(), list[str]()

    class Dripping(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            data = json.dumps({"keys": issuer.keys}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(data)))
            if len(asked) > 1:
                self.flush_headers()
                while not over.wait(0.05):  # each line of its headers gains time
                    self.wfile.write(b"x: y\r\n")
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            """Keep quiet."""

    keys = IssuerKeys(issuer.url, f"http://127.0.0.1:{serve(Dripping).server_port}/keys", clock=clock)
    monkeypatch.setattr(_jwt_keys, "_PATIENCE_SECONDS", 0.5)

    async def work() -> None:
        assert await keys.fitting("rsa", lambda _: True) is not None
        try:
            for _ in range(3):
                clock.at += 3_601
                # What was published last serves on, and who invents a name is told that there is none.
                assert await keys.fitting("rsa", lambda _: True) is not None
                assert await keys.fitting("invented", lambda _: True) is None
            assert len(asked) == 2
        finally:
            over.set()

    run(work)


def test_metadata_of_another_issuer_and_keys_at_an_open_address_are_not_taken(issuer: Issuer) -> None:
    cases: list[Any] = [
        {"issuer": "https://evil.example.org", "jwks_uri": f"{issuer.url}/keys"},
        {"issuer": issuer.url, "jwks_uri": "http://evil.example.org/keys"},
        {"issuer": issuer.url, "jwks_uri": "file:///etc/passwd"},
        {"issuer": issuer.url},
        [],
    ]
    for metadata in cases:
        issuer.metadata = metadata
        assert "cannot be had" in refused(OAuthTokens(issuer.settings()), issuer.token())
    assert "/keys" not in issuer.asked


def test_the_places_of_metadata_are_those_of_both_specifications() -> None:
    assert metadata_urls("https://login.example.org/realms/team") == (
        "https://login.example.org/.well-known/oauth-authorization-server/realms/team",
        "https://login.example.org/realms/team/.well-known/openid-configuration",
    )


def test_an_answer_without_end_a_redirect_and_what_is_no_json_are_not_taken(serve: Callable[..., Any]) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/redirect":
                self.send_response(302)
                self.send_header("location", "/json")
                self.end_headers()
                return
            self.send_response(200)
            self.end_headers()
            try:
                while self.path == "/endless":
                    self.wfile.write(b" " * 65_536)
                self.wfile.write(b"no json")
            except OSError:
                pass

        def log_message(self, format: str, *args: Any) -> None:
            """Keep quiet."""

    url = f"http://127.0.0.1:{serve(Handler).server_port}"
    for path, why in (("/redirect", "answered 302"), ("/endless", "more than"), ("/text", "not JSON")):
        with pytest.raises(NoKeys, match=why):
            fetch_json(f"{url}{path}")


def test_offline_nobody_elsewhere_is_asked_for_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    from adaptive_llm_gateway.server import _jwt_keys

    monkeypatch.setattr(_jwt_keys, "is_offline", lambda: True)  # the whole process would stay so
    with pytest.raises(NoKeys, match="offline"):
        fetch_json("https://login.example.org/keys")


# --- At the door ----------------------------------------------------------------------------------------------------


def test_at_the_door_the_answer_names_the_metadata_and_a_wrong_token_gets_no_other_answer_than_ours(
    issuer: Issuer, tmp_path: Path
) -> None:
    authentication = Authentication(Clients(tmp_path / "clients.json"), issuer=OAuthTokens(issuer.settings()))

    async def ask(token: str | None) -> Admitted:
        headers = [(b"authorization", f"Bearer {token}".encode())] if token else []
        return await authentication.authenticate(headers, address="192.0.2.1")

    assert run(lambda: ask(issuer.token())).client == "ci@127.0.0.1"
    place = 'resource_metadata="https://hub.example.org/.well-known/oauth-protected-resource/mcp"'
    answers: set[str] = set()
    for token in (issuer.token(exp=datetime(2020, 1, 1, tzinfo=UTC)), issuer.token(aud="x"), "nonsense"):
        with pytest.raises(Unauthenticated) as told:
            run(lambda token=token: ask(token))
        answers.add(str(told.value.as_dict()))
    assert len(answers) == 1
    assert place in answers.pop()
    with pytest.raises(Unauthenticated) as told:
        run(lambda: ask(None))
    assert told.value.details["challenge"] == f'Bearer realm="adaptive-llm-gateway", {place}'


def test_who_gave_too_many_wrong_ones_has_no_signature_looked_at_but_what_is_known_goes_on(
    issuer: Issuer, tmp_path: Path
) -> None:
    wrong = Buckets(clock=Seconds())
    authentication = Authentication(
        Clients(tmp_path / "clients.json"), issuer=OAuthTokens(issuer.settings()), wrong=wrong
    )
    known, fresh = issuer.token(), issuer.token("ec")

    async def work() -> None:
        async def ask(token: str) -> Admitted:
            return await authentication.authenticate([(b"authorization", b"Bearer " + token.encode())], address="::1")

        first = await ask(known)
        for _ in range(20):
            with pytest.raises(Unauthenticated):
                await ask(issuer.token(aud="x"))
        with pytest.raises(RateLimited):
            await ask(fresh)
        assert await ask(known) == first
        assert authentication.gone(first) is None

    run(work)


@pytest.mark.parametrize(
    "text",
    [
        "oauth: {issuer: 'https://login.example.org'}",
        "oauth: {issuer: 'http://login.example.org', resource: 'https://hub.example.org/mcp'}",
        "oauth: {issuer: 'https://user:pass@login.example.org', resource: 'https://hub.example.org/mcp'}",
        "oauth: {issuer: 'https://login.example.org', resource: 'hub'}",
        "oauth: {issuer: 'https://login.example.org', resource: 'https://a.example.org/\"', rate: 1}",
        "oauth: {algorithms: [HS256]}",
        "oauth: {algorithms: [none]}",
        "oauth: {algorithms: []}",
        "oauth: {scopes: [everything]}",
    ],
)
def test_settings_that_would_let_too_many_in_are_refused(isolated: Path, text: str) -> None:
    isolated.mkdir(exist_ok=True)
    (isolated / "config.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError):
        load_settings(Home(isolated))


def test_a_hub_takes_the_issuers_tokens_and_tells_whose_they_are(server: Any, issuer: Issuer) -> None:
    server.home.mkdir(exist_ok=True)
    server.configure(f"oauth:\n  issuer: {issuer.url}\n  resource: {RESOURCE}\n")
    web = server.web()
    for path in ("", "/mcp"):
        answer = web.request("GET", f"/.well-known/oauth-protected-resource{path}")
        assert answer.status == 200
        assert answer.json()["resource"] == RESOURCE
        assert answer.json()["authorization_servers"] == [issuer.url]
    assert web.request("GET", "/api/v1/status", token=issuer.token()).status == 200
    assert web.request("GET", "/api/v1/status", token=issuer.token(scope="handoff")).status == 403
    refused = web.request("GET", "/api/v1/status", token=issuer.token(aud="https://other.example.org"))
    assert refused.status == 401
    assert "resource_metadata=" in refused.headers["www-authenticate"]


def test_without_an_issuer_there_is_no_such_document(server: Any) -> None:
    assert server.web().request("GET", "/.well-known/oauth-protected-resource").status == 404
