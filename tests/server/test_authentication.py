"""Who asks by HTTP: what lets a request in, what a refusal says, and that wrong tokens are slowed down."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from adaptive_llm_gateway.core import AlgError, RateLimited, Trust, Unauthenticated
from adaptive_llm_gateway.server._access import EVERYTHING
from adaptive_llm_gateway.server._authentication import Admitted, Authentication, at_once, place_of
from adaptive_llm_gateway.server._clients import (
    Clients,
    changed_client,
    new_client,
    revoked_client,
    rotated_client,
    with_added,
    with_replaced,
)
from adaptive_llm_gateway.server._clients_file import Client
from adaptive_llm_gateway.server._rates import Buckets
from adaptive_llm_gateway.server._tokens import new_token


class Door:
    """Clients, those who ask, and a clock that a test moves."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.at = datetime(2026, 11, 23, 12, tzinfo=UTC)
        self.clients = Clients(folder / "clients.json", now=lambda: self.at)
        self.wrong, self.asked = Buckets(most=100, clock=self.seconds), Buckets(clock=self.seconds)
        self.authentication = Authentication(self.clients, wrong=self.wrong, asked=self.asked)

    def seconds(self) -> float:
        return self.at.timestamp()

    def add(self, name: str = "laptop", **given: Any) -> str:
        given = {"scopes": ["memory:read"], **given}
        client, token = new_client(name, self.at, **given)
        self.clients.change(lambda all_: (with_added(all_, client), None))
        return token

    def become(self, change: Callable[[Client], Client], name: str = "laptop") -> None:
        self.clients.change(
            lambda all_: (
                with_replaced(all_, change(next(each for each in all_ if each.name == name))),
                None,
            )
        )

    def ask(self, *values: str | bytes, address: str = "192.0.2.1") -> Admitted:
        raw = [value.encode() if isinstance(value, str) else value for value in values]
        headers = [(b"host", b"localhost"), *((b"authorization", value) for value in raw)]
        return asyncio.run(self.authentication.authenticate(headers, address=address))

    def refused(self, *values: str | bytes, address: str = "192.0.2.1") -> Unauthenticated:
        with pytest.raises(Unauthenticated) as told:
            self.ask(*values, address=address)
        return told.value


@pytest.fixture
def door(tmp_path: Path) -> Door:
    return Door(tmp_path)


def said(error: AlgError) -> str:
    return str(error.as_dict())


def test_a_token_lets_its_client_in_with_its_rights(door: Door) -> None:
    token = door.add(scopes=["handoff,gateway"], projects=["acme*"], max_trust="public", expires="12h", rate=60)
    access = door.ask(f"Bearer {token}")
    assert (access.client, access.scopes) == ("laptop", {"handoff", "gateway"})
    assert (access.projects, access.max_trust) == (("acme*",), Trust.PUBLIC)
    assert access.until == door.at + timedelta(hours=12)
    assert door.ask(f"bearer   {token} ") == access
    assert not access.sees_all


def test_without_a_token_the_answer_asks_for_one_and_says_no_more(door: Door) -> None:
    door.add()
    error = door.refused()
    assert error.details == {"challenge": 'Bearer realm="adaptive-llm-gateway"'}
    assert error.why == "no token"


def test_unknown_expired_revoked_and_rotated_tokens_get_the_same_answer_and_the_audit_log_the_reason(
    door: Door,
) -> None:
    found: dict[str, Unauthenticated] = {"unknown": door.refused(f"Bearer {new_token()}")}
    rotated = door.add("rotated")
    door.become(lambda client: rotated_client(client, door.at, timedelta(hours=1))[0], "rotated")
    expired = door.add("expired", expires="1h")
    revoked = door.add("revoked")
    door.become(lambda client: revoked_client(client, door.at), "revoked")
    assert door.ask(f"Bearer {rotated}").client == "rotated"
    door.at += timedelta(hours=1)
    for name, token in (("rotated", rotated), ("expired", expired), ("revoked", revoked)):
        found[name] = door.refused(f"Bearer {token}")
    assert len({said(error) for error in found.values()}) == 1
    assert {name: error.why for name, error in found.items()} == {name: name for name in found}
    assert {name: error.client for name, error in found.items()} == {
        "unknown": None, "rotated": "rotated", "expired": "expired", "revoked": "revoked",
    }  # fmt: skip
    assert 'error="invalid_token"' in found["unknown"].details["challenge"]


def test_a_mistyped_token_is_told_so_whether_or_not_the_right_one_exists(door: Door) -> None:
    real, other = door.add(), new_token()
    answers = {said(door.refused(f"Bearer {token[:-1]}{'0' if token[-1] != '0' else '1'}")) for token in (real, other)}
    assert len(answers) == 1
    assert "mistyped" in answers.pop()


HOSTILE = [
    b"",
    b"Bearer",
    b"Bearer ",
    b"Basic dXNlcjpwYXNz",
    b"Bearer a b",
    b"Bearer a,b",
    b"Bearer \xff\xfe",
    b"Bearer a\r\nX-Other: 1",
    b"Bearer a\0",
    b"Bearer \xc3\xa4",
    b"Bearer =",
    b"Bearer " + b"a" * 20_000,
    b"\tBearer abc",
    b"Token abc",
]


@pytest.mark.parametrize("value", HOSTILE)
def test_a_header_that_is_not_one_bearer_token_is_refused_and_nothing_of_it_comes_back(
    door: Door, value: bytes
) -> None:
    door.add()
    error = door.refused(value)
    assert re.fullmatch(r'Bearer realm="[a-z-]+", error="invalid_request", error_description="[A-Za-z ]+"',
                        error.details["challenge"])  # fmt: skip
    assert "dXNl" not in said(error)


def test_two_headers_are_refused_even_where_both_have_the_right_token(door: Door) -> None:
    token = door.add()
    assert door.refused(f"Bearer {token}", f"Bearer {token}").why == "several Authorization headers"
    assert door.refused(f"Bearer {token}, Bearer {token}").why.startswith("no bearer token")


def test_a_token_is_looked_for_in_no_other_header(door: Door) -> None:
    token = door.add().encode()
    headers = [(b"cookie", b"token=" + token), (b"x-api-key", token), (b"x-authorization", b"Bearer " + token)]
    with pytest.raises(Unauthenticated):
        asyncio.run(door.authentication.authenticate(headers, address="192.0.2.1"))


def test_no_refusal_and_no_line_of_the_log_has_anything_of_a_token(
    door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    for token in (new_token(), door.add(expires="1h")):
        door.at += timedelta(hours=2)
        error = door.refused(f"Bearer {token}")
        assert token[5:20] not in said(error) + error.why + repr(error) + caplog.text


def test_ten_thousand_wrong_tokens_are_slowed_down_and_the_right_one_from_there_still_counts(door: Door) -> None:
    token = door.add()
    told: list[AlgError] = []

    async def ask() -> None:
        for _ in range(10_000):
            with pytest.raises(AlgError) as error:
                await door.authentication.authenticate(
                    [(b"authorization", f"Bearer {new_token()}".encode())], address="192.0.2.1"
                )
            told.append(error.value)

    asyncio.run(ask())
    assert sum(isinstance(error, Unauthenticated) for error in told) == 20
    assert all(isinstance(error, RateLimited) for error in told[20:])
    assert told[-1].details == {"retry_after": 3}
    assert door.ask(f"Bearer {token}").client == "laptop"
    assert isinstance(door.refused(f"Bearer {new_token()}", address="192.0.2.2"), Unauthenticated)
    door.at += timedelta(seconds=told[-1].details["retry_after"])
    assert isinstance(door.refused(f"Bearer {new_token()}"), Unauthenticated)
    with pytest.raises(RateLimited):
        door.ask(f"Bearer {new_token()}")


def test_wrong_tokens_from_many_addresses_take_bounded_memory(door: Door) -> None:
    for number in range(1_000):
        door.refused(f"Bearer {new_token()}", address=f"10.0.{number // 256}.{number % 256}")
    assert len(door.wrong) == 100


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
    ],
)
def test_the_addresses_of_one_network_count_as_one_place(one: str, other: str, same: bool) -> None:
    assert (place_of(one) == place_of(other)) is same


def test_a_client_that_asks_too_often_is_told_when_it_may_again_and_others_go_on(door: Door) -> None:
    fast, slow = door.add("fast", rate=None), door.add("slow", rate=60)
    for _ in range(10):
        door.ask(f"Bearer {slow}")
    with pytest.raises(RateLimited) as told:
        door.ask(f"Bearer {slow}")
    assert told.value.details == {"retry_after": 1}
    assert "'slow'" in told.value.message
    for _ in range(2_000):
        door.ask(f"Bearer {fast}")
    door.at += timedelta(seconds=1)
    door.ask(f"Bearer {slow}")
    with pytest.raises(RateLimited):
        door.ask(f"Bearer {slow}")


def test_a_rate_lets_through_what_it_says_in_the_long_run(door: Door) -> None:
    token, passed = door.add(rate=30), 0
    for _ in range(600):
        door.at += timedelta(seconds=1)
        try:
            door.ask(f"Bearer {token}")
            passed += 1
        except RateLimited:
            pass
    assert 300 <= passed <= 300 + at_once(30)


def test_a_new_token_of_a_client_has_no_rate_of_its_own(door: Door) -> None:
    old = door.add(rate=1)
    new: list[str] = []

    def rotate(client: Client) -> Client:
        rotated, token = rotated_client(client, door.at, timedelta(hours=1))
        new.append(token)
        return rotated

    door.ask(f"Bearer {old}")
    door.become(rotate)
    with pytest.raises(RateLimited):
        door.ask(f"Bearer {new[0]}")


def test_a_damaged_file_lets_nobody_in_with_the_same_answer_as_for_an_unknown_token(door: Door, tmp_path: Path) -> None:
    token = door.add()
    unknown = said(door.refused(f"Bearer {new_token()}"))
    (tmp_path / "clients.json").write_text("{}", encoding="utf-8")
    error = door.refused(f"Bearer {token}")
    assert said(error) == unknown
    assert error.why == "the file of clients does not hold"


def damage(door: Door) -> None:
    (door.folder / "clients.json").write_text("{}", encoding="utf-8")


CHANGES: dict[str, Callable[[Door], None]] = {
    "revoked": lambda door: door.become(lambda client: revoked_client(client, door.at)),
    "the token was replaced": lambda door: door.become(lambda client: rotated_client(client, door.at, timedelta())[0]),
    "the client's rights were changed": lambda door: door.become(
        lambda client: changed_client(client, {"scopes": ["handoff"]}, door.at)
    ),
    "the file of clients does not hold": damage,
}


@pytest.mark.parametrize("why", CHANGES)
def test_what_is_open_ends_at_once_when_its_token_counts_no_more(door: Door, why: str) -> None:
    token = door.add(rate=None)

    async def scenario() -> str:
        headers = [(b"authorization", f"Bearer {token}".encode())]
        access = await door.authentication.authenticate(headers, address="192.0.2.1")
        assert door.authentication.gone(access) is None
        waiting = asyncio.create_task(door.clients.changed(within=60))
        await asyncio.sleep(0)
        assert not waiting.done()
        await asyncio.to_thread(CHANGES[why], door)
        door.clients.problem  # noqa: B018 - the next request looks at the file, and tells those that wait
        assert await asyncio.wait_for(waiting, 30), "who holds it open was not woken"
        found = door.authentication.gone(access)
        assert found is not None
        return found

    assert asyncio.run(scenario()) == why


def test_what_is_open_ends_when_its_token_expires(door: Door) -> None:
    access = door.ask(f"Bearer {door.add(expires='1h')}")
    door.at += timedelta(minutes=59)
    assert door.authentication.gone(access) is None
    door.at += timedelta(minutes=1)
    assert door.authentication.gone(access) == "the token has expired"


def test_the_person_at_the_machine_is_never_gone(door: Door) -> None:
    assert door.authentication.gone(EVERYTHING) is None
