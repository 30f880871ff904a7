"""What clients may use of models in a day: counted on the disk, held before a call, and shared by all of a client's."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from adaptive_llm_gateway.core import AlgError, Home, Settings, StorageError
from adaptive_llm_gateway.gateway import OverBudget
from adaptive_llm_gateway.memory.testing import temporary_store
from adaptive_llm_gateway.server._access import ACCESS, EVERYTHING, Scope, acting_for
from adaptive_llm_gateway.server._authentication import Admitted
from adaptive_llm_gateway.server._gateway_operations import GatewayOperations
from adaptive_llm_gateway.server._operations import Operations
from adaptive_llm_gateway.server._quotas import ClientPurse, Quotas, Used

GATEWAY: frozenset[Scope] = frozenset({"gateway"})
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


def client(
    identity: str = "one", *, tokens: int | None = None, cost: int | None = None, name: str = "laptop"
) -> Admitted:
    return Admitted(client=name, scopes=GATEWAY, identity=identity, tokens_per_day=tokens, cost_per_day=cost)


def purse(quotas: Quotas, access: Admitted) -> ClientPurse:
    found = quotas.purse(access)
    assert found is not None
    return found


def run(path: Path, work: Callable[[Quotas], Awaitable[Any]], *, now: datetime = NOON) -> Any:
    """Carry something out with the numbers of a file; with the same file again, as after a restart."""

    async def main() -> Any:
        quotas = Quotas(path, now=lambda: now)
        try:
            return await asyncio.wait_for(work(quotas), 60)
        finally:
            await quotas.close()

    return asyncio.run(main())


async def used(quotas: Quotas) -> tuple[int, int, int]:
    found = await quotas.today("one")
    assert (found.held_tokens, found.held_micro_cents) == (0, 0)
    return found.calls, found.tokens, found.micro_cents


def test_what_was_used_is_known_after_a_restart_and_forgotten_with_the_day(tmp_path: Path) -> None:
    path = tmp_path / "use.db"

    async def use(quotas: Quotas) -> None:
        held = await purse(quotas, client(tokens=100)).take(60, 5)
        held.settle(40, 3)
        held.settle(40, 3)  # once is enough

    run(path, use)
    run(path, use)
    assert run(path, used) == (2, 80, 6)

    async def again(quotas: Quotas) -> int | None:
        here = purse(quotas, client(tokens=100))
        await here.ready()
        with pytest.raises(OverBudget, match="20 left of its 100 of today"):
            await here.take(21, 0)
        (await here.take(20, 0)).settle(0, 0)
        return here.tokens

    assert run(path, again) == 20
    assert run(path, used, now=NOON + timedelta(hours=12)) == (0, 0, 0)
    assert run(path, used) == (2, 80, 6)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_a_killed_process_had_under_way_counts_as_it_was_held(tmp_path: Path) -> None:
    path = tmp_path / "use.db"
    code = (
        "import asyncio, os, signal, sys; from pathlib import Path\n"
        "from adaptive_llm_gateway.server._authentication import Admitted\n"
        "from adaptive_llm_gateway.server._quotas import Quotas\n"
        "async def main():\n"
        "    purse = Quotas(Path(sys.argv[1])).purse(Admitted(client='laptop', identity='one', tokens_per_day=100))\n"
        "    await purse.take(70, 7)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], env=os.environ, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    now = datetime.now(UTC)
    found = run(path, lambda quotas: quotas.today("one"), now=now)
    yesterday = run(path, lambda quotas: quotas.today("one"), now=now - timedelta(days=1))
    assert Used(1, 70, 7) in (found, yesterday)  # midnight may have come in between
    assert run(path, lambda quotas: quotas.today("one"), now=now) == found


def test_calls_side_by_side_never_hold_more_than_is_left(tmp_path: Path) -> None:
    async def work(quotas: Quotas) -> None:
        here = purse(quotas, client(tokens=1_000, cost=1_000))
        done = await asyncio.gather(*(here.take(300, 200) for _ in range(20)), return_exceptions=True)
        held = [each for each in done if not isinstance(each, BaseException)]
        assert len(held) == 3
        assert all(isinstance(each, OverBudget) for each in done if isinstance(each, BaseException))
        assert (here.tokens, here.micro_cents) == (100, 400)
        held[0].settle(10, 1)
        held[1].keep()
        assert (here.tokens, here.micro_cents) == (1_000 - 10 - 300 - 300, 1_000 - 1 - 200 - 200)
        held[2].settle(500, 900)  # more than was held: it counts, and nothing is left below 0
        assert (here.tokens, here.micro_cents) == (190, 0)
        # Another client has its own.
        assert purse(quotas, client("two", tokens=1_000)).tokens == 1_000

    run(tmp_path / "use.db", work)


def test_a_bound_of_money_takes_nothing_whose_price_nobody_knows(tmp_path: Path) -> None:
    async def work(quotas: Quotas) -> None:
        with pytest.raises(OverBudget, match="nobody knows what it may cost"):
            await purse(quotas, client(cost=10**9)).take(1, None)
        (await purse(quotas, client(tokens=10)).take(1, None)).settle(1, 0)

    run(tmp_path / "use.db", work)


def test_who_has_no_bound_is_counted_and_the_person_at_the_machine_is_not(tmp_path: Path) -> None:
    async def work(quotas: Quotas) -> None:
        assert quotas.purse(EVERYTHING) is None
        here = purse(quotas, client())
        assert (here.bounded, here.tokens, here.micro_cents) == (False, None, None)
        (await here.take(10**9, None)).settle(7, 8)

    run(tmp_path / "use.db", work)
    assert run(tmp_path / "use.db", used) == (1, 7, 8)


def test_without_numbers_a_client_with_a_bound_is_refused_and_one_without_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "use.db"
    path.write_bytes(b"this is no database, and long enough to be told so" * 20)

    async def work(quotas: Quotas) -> None:
        with pytest.raises(StorageError, match="cannot be used"):
            await purse(quotas, client(tokens=10)).take(1, 0)
        (await purse(quotas, client()).take(1, 0)).settle(1, 0)
        quotas.note("one")
        with pytest.raises(StorageError):
            await quotas.today("one")

    run(path, work)
    assert path.read_bytes().startswith(b"this is no database")


def test_when_a_client_last_came_is_kept_to_ten_minutes(tmp_path: Path) -> None:
    path = tmp_path / "use.db"

    async def come(quotas: Quotas) -> None:
        for _ in range(1_000):
            quotas.note("one")

    async def seen(quotas: Quotas) -> datetime | None:
        return await quotas.last_seen("one")

    run(path, come)
    assert run(path, seen) == NOON

    async def later(quotas: Quotas) -> None:
        await quotas.ready()
        quotas.note("one")

    run(path, later, now=NOON + timedelta(minutes=9))
    assert run(path, seen) == NOON
    run(path, later, now=NOON + timedelta(minutes=10))
    assert run(path, seen) == NOON + timedelta(minutes=10)


def test_numbers_older_than_two_months_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "use.db"

    async def use(quotas: Quotas) -> None:
        (await purse(quotas, client(tokens=100)).take(60, 5)).keep()

    run(path, use)
    run(path, used, now=NOON + timedelta(days=63))
    assert run(path, used) == (0, 0, 0)


# --- Through the gateway's operations -------------------------------------------------------------------------------


async def refused(work: Awaitable[Any]) -> dict[str, Any]:
    with pytest.raises(AlgError) as caught:
        await work
    return caught.value.as_dict()


def through(tmp_path: Path, work: Callable[[GatewayOperations, Quotas], Awaitable[None]]) -> None:
    home = Home(tmp_path / "home")
    home.root.mkdir(exist_ok=True)
    settings = Settings(
        **{"gateway": {"discover": False}, "providers": {"trial": {"kind": "built_in"}}}  # pyright: ignore[reportArgumentType]
    )
    with contextlib.ExitStack() as stack:

        async def main() -> None:
            memory = Operations(lambda: stack.enter_context(temporary_store(tmp_path / "store")), commit_wait=30.0)
            quotas = Quotas(home.clients_use, now=lambda: NOON)
            gateway = GatewayOperations(
                home, settings, memory, host="testing", purse=lambda: quotas.purse(ACCESS.get())
            )
            try:
                await asyncio.wait_for(work(gateway, quotas), 90)
            finally:
                await gateway.settle()
                await memory.close()
                await gateway.close()
                await quotas.close()

        asyncio.run(main())


def test_a_client_over_its_tokens_of_a_day_is_refused_before_anything_is_sent_with_code_and_receipt(
    tmp_path: Path,
) -> None:
    async def work(gateway: GatewayOperations, quotas: Quotas) -> None:
        with acting_for(client(tokens=60)):
            first = await gateway.gateway_complete("say something", max_tokens=20)
            taken = first["tokens"]["input"] + first["tokens"]["output"]
            assert await used(quotas) == (1, taken, 0)
            error = await refused(gateway.gateway_complete("say something", max_tokens=60))
            assert error["code"] == "over_budget"
            assert f"'laptop' has left of today, until midnight UTC: {60 - taken} of 60 tokens" in error["hint"]
            shown = await gateway.records.receipts_show(error["details"]["receipt"])
            assert shown["receipt"]["outcome"] == "refused"
            preview = await gateway.gateway_route_preview("say something", max_tokens=60)
            assert preview["error"]["code"] == "over_budget"
            embed = await refused(gateway.gateway_embed(["word " * 100]))
            assert embed["code"] == "over_budget"
            assert await used(quotas) == (1, taken, 0)
        # The person at the machine, and other clients, go on.
        assert (await gateway.gateway_complete("say something", max_tokens=60))["text"]
        with acting_for(client("two", tokens=1_000)):
            assert (await gateway.gateway_complete("say something", max_tokens=60))["text"]
        assert await used(quotas) == (1, taken, 0)

    through(tmp_path, work)


def test_a_stream_counts_as_a_whole_answer_does(tmp_path: Path) -> None:
    async def work(gateway: GatewayOperations, quotas: Quotas) -> None:
        pieces: list[str] = []

        async def piece(text: str) -> None:
            pieces.append(text)

        with acting_for(client(tokens=1_000)):
            done = await gateway.gateway_complete("say something", max_tokens=20, on_piece=piece)
        assert "".join(pieces) == done["text"]
        assert await used(quotas) == (1, done["tokens"]["input"] + done["tokens"]["output"], 0)

    through(tmp_path, work)


def test_many_requests_of_a_client_at_once_stay_within_its_tokens(tmp_path: Path) -> None:
    async def work(gateway: GatewayOperations, quotas: Quotas) -> None:
        async def one() -> None:
            with acting_for(client(tokens=200)):
                await gateway.gateway_complete("say something", max_tokens=40)

        done = await asyncio.gather(*(one() for _ in range(12)), return_exceptions=True)
        passed = sum(each is None for each in done)
        assert {each.code for each in done if isinstance(each, AlgError)} == {"over_budget"}
        calls, tokens, _ = await used(quotas)
        assert calls == passed
        assert 1 <= passed < 12
        assert tokens <= 200

    through(tmp_path, work)


# --- By HTTP ----------------------------------------------------------------------------------------------------------


def test_by_http_a_day_is_one_for_rest_and_mcp_and_is_told_by_show(server: Any) -> None:
    server.configure("gateway: {discover: false}\nproviders: {trial: {kind: built_in}}\n")
    web = server.web()
    token = server.json("clients", "add", "ci", "--scope", "gateway", "--tokens-per-day", "150")["token"]

    def by_rest(**given: Any) -> Any:
        body = json.dumps({"prompt": "say something", **given}).encode()
        head = {"content-type": "application/json"}
        return web.request("POST", "/api/v1/gateway/complete", body, token=token, headers=head)

    def by_mcp(**given: Any) -> Any:
        meta = {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {},
        }
        arguments = {"prompt": "say something", **given}
        asked = {"name": "gateway_complete", "arguments": arguments, "_meta": meta}
        head = {
            "content-type": "application/json",
            "accept": "application/json, text/event-stream",
            "mcp-protocol-version": "2026-07-28",
            "mcp-method": "tools/call",
            "mcp-name": "gateway_complete",
        }
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": asked}
        answer = web.request("POST", "/mcp", json.dumps(body).encode(), token=token, headers=head)
        assert answer.status == 200
        lines = answer.body.decode("utf-8").splitlines()
        whole = [line.removeprefix("data: ") for line in lines if line.startswith(("data: {", "{"))]
        return json.loads(whole[-1])["result"]

    assert by_rest(max_tokens=20).status == 200
    assert not by_mcp(max_tokens=20).get("isError")
    today = server.json("clients", "show", "ci")["today"]
    assert today["calls"] == 2
    assert 0 < today["tokens"] <= 150
    assert (today["held_tokens"], today["micro_cents"]) == (0, 0)
    refused = by_rest(max_tokens=150)
    assert refused.status >= 400
    assert refused.json()["code"] == "over_budget"
    told = by_mcp(max_tokens=150)
    assert told["isError"]
    assert "left of today" in server.text_of(told)
    server.alg("hub", "stop")
    assert server.json("clients", "show", "ci")["today"]["tokens"] == today["tokens"]
