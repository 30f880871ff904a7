"""The file of clients: whole or not at all, and what cannot be understood lets nobody in."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from adaptive_llm_gateway.core import AlgError, FormatTooNew, InvalidInput, NotFound, SecretRefused, StorageError, Trust
from adaptive_llm_gateway.server._clients import (
    Clients,
    changed_client,
    checked_name,
    checked_projects,
    checked_scopes,
    client_named,
    end_of,
    grace_of,
    new_client,
    revoked_client,
    rotated_client,
    with_added,
    with_replaced,
)
from adaptive_llm_gateway.server._clients_file import MOST_TOKENS, Client, read_clients, write_clients
from adaptive_llm_gateway.server._tokens import new_token, token_hash

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def made(name: str = "laptop", **given: Any) -> tuple[Client, str]:
    given = {"scopes": ["memory:read"], **given}
    return new_client(name, NOW, **given)


def added(clients: Clients, name: str = "laptop", **given: Any) -> tuple[Client, str]:
    client = made(name, **given)
    return clients.change(lambda all_: (with_added(all_, client[0]), client))


# --- The file -----------------------------------------------------------------------------------------------------


def test_what_is_written_is_read_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "clients.json"
    one = made(scopes=["memory:read,admin"], projects=["acme", "acme-*"], max_trust="secret", rate=None)[0]
    two = made("other", expires="never", tokens_per_day=5, cost_per_day=7)[0]
    two = replace(rotated_client(two, NOW, timedelta(hours=1))[0], revoked=NOW)
    write_clients(path, (one, two))
    assert read_clients(path) == (one, two)


def test_the_file_is_for_this_user_alone_and_holds_no_token(tmp_path: Path) -> None:
    clients = Clients(tmp_path / "clients.json")
    before = os.umask(0)
    try:
        _, token = added(clients)
    finally:
        os.umask(before)
    path = tmp_path / "clients.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    text = path.read_text(encoding="utf-8")
    assert token not in text
    assert token[5:30] not in text
    assert token_hash(token) in text


def test_a_file_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    clients = Clients(tmp_path / "clients.json")
    _, token = added(clients)
    path = tmp_path / "clients.json"
    path.chmod(0o644)
    assert clients.with_token(token_hash(token)) is not None
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def broken(path: Path) -> list[tuple[str, bytes, type[AlgError]]]:
    whole = json.loads(path.read_text(encoding="utf-8"))
    entry = whole["clients"][0]

    def with_entry(**changed: Any) -> bytes:
        return json.dumps({**whole, "clients": [{**entry, **changed}]}).encode()

    without = {name: value for name, value in entry.items() if name != "expires"}
    return [
        ("cut off", path.read_bytes()[:-40], StorageError),
        ("empty", b"", StorageError),
        ("zeros", bytes(200), StorageError),
        ("a list", b"[]", StorageError),
        ("deep", b"[" * 100_000, StorageError),
        ("newer", json.dumps({**whole, "format": 2}).encode(), FormatTooNew),
        ("no format", json.dumps({"clients": whole["clients"]}).encode(), StorageError),
        ("a bound of a newer version", with_entry(only_on_mondays=True), StorageError),
        ("no end", json.dumps({**whole, "clients": [without]}).encode(), StorageError),
        ("an end without a zone", with_entry(expires="2030-01-01T00:00:00"), StorageError),
        ("no such scope", with_entry(scopes=["everything"]), StorageError),
        ("a scope that is a text", with_entry(scopes="admin"), StorageError),
        ("no such level", with_entry(max_trust="top"), StorageError),
        ("a rate of none", with_entry(rate=0), StorageError),
        ("a rate that is a text", with_entry(rate="600"), StorageError),
        ("a hash that is none", with_entry(tokens=[{**entry["tokens"][0], "hash": "x"}]), StorageError),
        ("twice", json.dumps({**whole, "clients": [entry, entry]}).encode(), StorageError),
        ("a name that is none", with_entry(name="a\nb"), StorageError),
    ]


@pytest.mark.parametrize("number", range(18))
def test_a_file_that_is_not_understood_lets_nobody_in_and_is_left_as_it_is(tmp_path: Path, number: int) -> None:
    path = tmp_path / "clients.json"
    clients = Clients(path)
    _, token = added(clients)
    cases = broken(path)
    assert len(cases) == 18
    what, content, kind = cases[number]
    path.write_bytes(content)
    assert clients.with_token(token_hash(token)) is None, what
    assert type(clients.problem) is kind, what
    with pytest.raises(kind) as told:
        clients.all()
    assert "nobody is let in by HTTP" in told.value.message
    assert token_hash(token)[:16] not in told.value.message
    with pytest.raises(kind):
        added(clients, "another")
    assert path.read_bytes() == content


def test_what_lies_there_and_is_no_file_of_this_user_lets_nobody_in(tmp_path: Path) -> None:
    elsewhere = Clients(tmp_path / "elsewhere.json")
    _, token = added(elsewhere)
    path = tmp_path / "clients.json"
    clients = Clients(path)
    makers: tuple[Callable[[], object], ...] = (
        lambda: path.symlink_to(tmp_path / "elsewhere.json"),
        path.mkdir,
        lambda: os.mkfifo(path),
    )
    for make in makers:
        make()
        assert clients.with_token(token_hash(token)) is None
        assert isinstance(clients.problem, StorageError)
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    assert clients.problem is None
    assert clients.all() == ()


def test_a_change_by_another_process_counts_with_the_next_question(tmp_path: Path) -> None:
    here, there = Clients(tmp_path / "clients.json"), Clients(tmp_path / "clients.json")
    client, token = added(there)
    found = here.with_token(token_hash(token))
    assert found is not None
    assert found[0] == client
    there.change(lambda all_: (with_replaced(all_, revoked_client(all_[0], NOW)), None))
    found = here.with_token(token_hash(token))
    assert found is not None
    assert found[0].state(NOW) == "revoked"
    (tmp_path / "clients.json").unlink()
    assert here.with_token(token_hash(token)) is None


def test_who_waits_for_a_change_is_told_at_once(tmp_path: Path) -> None:
    clients = Clients(tmp_path / "clients.json")
    clients.all()

    async def scenario() -> None:
        waiting = [asyncio.create_task(clients.changed(within=60)) for _ in range(3)]
        await asyncio.sleep(0)
        await asyncio.to_thread(added, clients)
        assert await asyncio.wait_for(asyncio.gather(*waiting), 30) == [True] * 3
        assert await clients.changed(within=0.01) is False

    asyncio.run(scenario())


def test_changes_of_many_at_the_same_time_are_all_kept(tmp_path: Path) -> None:
    path = tmp_path / "clients.json"
    threads = [threading.Thread(target=added, args=(Clients(path), f"client-{at}")) for at in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert {client.name for client in read_clients(path)} == {f"client-{at}" for at in range(12)}


@pytest.mark.parametrize(("point", "there"), [("clients.written", False), ("clients.renamed", True)])
def test_a_process_killed_in_the_middle_of_a_change_leaves_the_file_whole(
    tmp_path: Path, point: str, there: bool
) -> None:
    path = tmp_path / "clients.json"
    _, token = added(Clients(path))
    code = (
        "import sys; from pathlib import Path\n"
        "from adaptive_llm_gateway.server._clients import Clients, new_client, utc_now, with_added\n"
        "made = new_client('second', utc_now(), scopes=['admin'])\n"
        "Clients(Path(sys.argv[1])).change(lambda all_: (with_added(all_, made[0]), None))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], env={**os.environ, "ALG_FAULT": point}, timeout=60, check=False
    )
    assert done.returncode == -signal.SIGKILL
    clients = Clients(path)
    assert [client.name for client in clients.all()] == ["laptop", "second"][: 1 + there]
    assert clients.with_token(token_hash(token)) is not None
    added(clients, "third")
    assert len(clients.all()) == 2 + there
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


# --- What a person gives ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["", " ", "a b", "-a", ".a", "a/b", "a\n", "ä", "a" * 64, "Import", "command-line", "Gateway", "editor", "a\0"],
)
def test_what_is_no_name_of_a_client_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput):
        checked_name(name)


def test_a_credential_in_the_place_of_a_name_or_a_project_is_refused_and_not_repeated() -> None:
    token = new_token()
    checks: tuple[Callable[[str], object], ...] = (
        checked_name,
        lambda text: checked_projects([text]),
        lambda text: end_of(text, NOW),
    )
    for check in checks:
        with pytest.raises(SecretRefused) as told:
            check(token)
        assert token not in str(told.value.as_dict())
    with pytest.raises(NotFound) as missing:
        client_named((), token)
    assert token not in str(missing.value.as_dict())


def test_scopes_are_named_one_by_one_or_with_commas_and_none_is_made_up() -> None:
    assert checked_scopes(["memory:read, handoff", "admin"]) == {"memory:read", "handoff", "admin"}
    for wrong in ([], [","], ["memory"], ["memory:read", "*"], ["ADMIN"]):
        with pytest.raises(InvalidInput):
            checked_scopes(wrong)


def test_a_client_is_bounded_unless_somebody_says_otherwise() -> None:
    client, _ = made()
    assert client.expires == NOW + timedelta(days=90)
    assert (client.max_trust, client.rate, client.scopes) == (Trust.INTERNAL, 600, {"memory:read"})
    assert made(expires="never")[0].expires is None
    assert made(expires="12h")[0].expires == NOW + timedelta(hours=12)
    for wrong in ("yesterday", "2020-01-01", "soon", "", "99999y", "0d"):
        with pytest.raises(InvalidInput):
            made(expires=wrong)
    for bound in ("rate", "tokens_per_day", "cost_per_day"):
        for number in (0, -1, 10**16, True):
            given: dict[str, Any] = {bound: number}
            with pytest.raises(InvalidInput):
                made(**given)


@pytest.mark.parametrize("wrong", ["", "1", "-1h", "31d", "721h", "1y", "9999w", "1m"])
def test_a_grace_is_a_short_while(wrong: str) -> None:
    assert grace_of("0") == timedelta()
    assert grace_of("30d") == timedelta(days=30)
    with pytest.raises(InvalidInput):
        grace_of(wrong)


# --- What becomes of them -----------------------------------------------------------------------------------------


def test_a_name_is_had_by_one_client_until_that_was_revoked() -> None:
    first, _ = made("laptop")
    with pytest.raises(InvalidInput, match="already"):
        with_added((first,), made("Laptop")[0])
    gone = revoked_client(first, NOW)
    second, _ = made("laptop")
    both = with_added((gone,), second)
    assert client_named(both, "LAPTOP") == second
    assert client_named(both, gone.id) == gone
    for change in (lambda: rotated_client(gone, NOW, timedelta()), lambda: changed_client(gone, {"rate": 1}, NOW)):
        with pytest.raises(InvalidInput, match="revoked"):
            change()
    assert revoked_client(gone, NOW + timedelta(1)) == gone


def test_a_rotation_leaves_the_old_token_for_the_grace_and_no_longer() -> None:
    client, old = made()
    at_once, new = rotated_client(client, NOW, timedelta())
    assert [token.hash for token in at_once.tokens] == [token_hash(new)]
    later, newer = rotated_client(client, NOW, timedelta(hours=1))
    kept, current = later.tokens
    assert (kept.hash, current.hash) == (token_hash(old), token_hash(newer))
    assert kept.counts(NOW + timedelta(minutes=59))
    assert not kept.counts(NOW + timedelta(hours=1))
    # A longer grace of a later rotation does not let the oldest live longer.
    last, _ = rotated_client(later, NOW, timedelta(days=1))
    assert last.tokens[0] == kept
    for _ in range(20):
        last, _ = rotated_client(last, NOW, timedelta(days=1))
    assert len(last.tokens) == MOST_TOKENS


def test_what_is_not_named_in_a_change_stays() -> None:
    client, _ = made(projects=["a"], tokens_per_day=5)
    changed = changed_client(client, {"projects": None, "scopes": ["admin"]}, NOW)
    assert changed == replace(client, projects=None, scopes=frozenset({"admin"}))
    nothing: list[dict[str, Any]] = [{}, {"name": "b"}, {"tokens": []}]
    for wrong in nothing:
        with pytest.raises(InvalidInput):
            changed_client(client, wrong, NOW)
