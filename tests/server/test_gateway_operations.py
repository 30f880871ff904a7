"""The gateway's operations in process: what a home's files say counts, and what is kept of requests."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from adaptive_llm_gateway.core import AlgError, ConfigError, Home, InvalidInput, Settings, StorageError, Trust
from adaptive_llm_gateway.memory import Author
from adaptive_llm_gateway.memory.testing import temporary_store
from adaptive_llm_gateway.server._gateway_json import expiry
from adaptive_llm_gateway.server._gateway_operations import GatewayOperations
from adaptive_llm_gateway.server._gateway_setup import gateway_config
from adaptive_llm_gateway.server._operations import Operations

ME = Author("test-client")
TRIAL: dict[str, Any] = {"gateway": {"discover": False}, "providers": {"trial": {"kind": "built_in"}}}
HOST = "testing"
Work = Callable[[GatewayOperations, Operations], Awaitable[Any]]


def run(tmp_path: Path, work: Work, *, settings: dict[str, Any] | None = None, upkeep: float = 3600.0) -> Any:
    """Carry something out with the operations of a home; closed and opened again, it is the same home."""
    with contextlib.ExitStack() as stack:

        async def main() -> Any:
            memory = Operations(lambda: stack.enter_context(temporary_store(tmp_path / "store")), commit_wait=30.0)
            chosen = Settings(**(TRIAL if settings is None else settings))
            gateway = GatewayOperations(Home(tmp_path / "home"), chosen, memory, host=HOST, upkeep=upkeep)
            (tmp_path / "home").mkdir(exist_ok=True)
            try:
                return json.loads(json.dumps(await asyncio.wait_for(work(gateway, memory), 90), allow_nan=False))
            finally:
                await gateway.settle()
                await memory.close()
                await gateway.close()

        return asyncio.run(main())


async def refused(work: Awaitable[Any]) -> dict[str, Any]:
    with pytest.raises(AlgError) as caught:
        await work
    return caught.value.as_dict()


# --- Made when it is needed -----------------------------------------------------------------------------------------


def test_a_hub_loads_nothing_of_the_gateway_before_its_first_request(tmp_path: Path) -> None:
    code = f"""
import asyncio, sys
from pathlib import Path
from adaptive_llm_gateway.core import Home, Settings
from adaptive_llm_gateway.server._hub import Hub
settings = Settings(providers={{"trial": {{"kind": "built_in"}}}}, gateway={{"discover": False}})
def gateway():
    return sorted(name for name in sys.modules if name.startswith("adaptive_llm_gateway.gateway"))
def heavy():
    names = {{name.split(".")[0] for name in sys.modules}}
    return sorted({{"any_llm", "openai", "anthropic", "genai_prices", "phonenumbers", "stdnum", "keyring"}} & names)
async def main():
    hub = Hub(Home({str(tmp_path / "home")!r}), settings, ready=lambda: None)
    (Path({str(tmp_path / "home")!r})).mkdir()
    task = asyncio.create_task(hub.run())
    while hub.operations.store_state[0] == "opening":
        await asyncio.sleep(0.01)
    assert hub.operations.store_state[0] == "open", hub.operations.store_state
    assert not gateway(), gateway()
    assert not heavy(), heavy()
    answer = await hub.gateway.gateway_complete("hello")
    assert answer["provider"] == "trial", answer
    assert gateway()
    assert not {{"any_llm", "openai"}} & set(heavy()), heavy()
    hub.stop()
    await task
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("kind", "sdk"), [("openai_compatible", False), ("anthropic", True)])
def test_a_hub_with_a_provider_loads_ahead_what_the_first_request_needs_and_asks_nobody(
    tmp_path: Path, kind: str, sdk: bool
) -> None:
    code = f"""
import asyncio, socket, sys
from pathlib import Path
from adaptive_llm_gateway.core import Home, Settings
from adaptive_llm_gateway.server._hub import Hub
peer = socket.create_server(("127.0.0.1", 0))
peer.setblocking(False)
url = f"http://127.0.0.1:{{peer.getsockname()[1]}}/v1"
work = {{"kind": {kind!r}, "url": url}}
settings = Settings(providers={{"work": work}}, gateway={{"discover": False}})
async def main():
    hub = Hub(Home({str(tmp_path / "home")!r}), settings, ready=lambda: None)
    (Path({str(tmp_path / "home")!r})).mkdir()
    task = asyncio.create_task(hub.run())
    while hub.operations.store_state[0] == "opening":
        assert not needed()
        await asyncio.sleep(0.01)
    async with asyncio.timeout(60):
        while not needed():
            await asyncio.sleep(0.05)
    hub.stop()
    await task
def needed():
    return "adaptive_llm_gateway.gateway._http_provider" in sys.modules and ("any_llm" in sys.modules) == {sdk}
asyncio.run(main())
assert needed(), "the SDK was loaded for nobody"
try:
    peer.accept()
except BlockingIOError:
    pass
else:
    sys.exit("somebody was asked")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_the_configuration_becomes_the_gateways_values() -> None:
    given: dict[str, Any] = {
        "gateway": {
            "default_trust": "confidential",
            "personal_data": "secret",
            "personal_allowed": ["@example.org"],
            "deadline_seconds": 7,
            "budget_micro_cents": 5,
            "discover": False,
            "retention_days": 3,
            "retention_mb": 2,
        },
        "providers": {
            "work": {
                "kind": "openai_compatible",
                "url": "http://127.0.0.1:9/v1",
                "key_env": "WORK_KEY",
                "enabled": False,
                "order": -3,
                "concurrency": 2,
                "per_minute": 60,
                "timeout": 9,
                "models": [{"name": "big", "chat": True, "json": False, "context": 1000}],
            }
        },
        "routes": {"fast": ["work/big", "other"]},
    }
    config = gateway_config(Settings(**given))
    assert (config.default_trust, config.deadline, config.budget) == (Trust.CONFIDENTIAL, 7.0, 5)
    assert (config.discover, config.retention_days, config.retention_bytes) == (False, 3, 2 * 1024 * 1024)
    assert config.personal["email"] is Trust.SECRET
    assert "ip-address" not in config.personal
    assert config.personal_allowed == ("@example.org",)
    work = config.providers[0]
    assert (work.name, work.kind, work.url, work.key_env) == (
        "work",
        "openai_compatible",
        "http://127.0.0.1:9/v1",
        "WORK_KEY",
    )
    assert (work.enabled, work.order, work.concurrency, work.per_minute, work.timeout) == (False, -3, 2, 60, 9.0)
    model = work.models[0]
    assert (model.name, model.chat, model.embed, model.json, model.context) == ("big", True, None, False, 1000)
    assert (config.routes[0].name, config.routes[0].models) == ("fast", ("work/big", "other"))


def test_a_route_that_is_configured_is_used_by_its_name(tmp_path: Path) -> None:
    async def work(gateway: GatewayOperations, _: Operations) -> Any:
        return await gateway.gateway_complete("x", model="quick"), await gateway.gateway_models()

    answer, models = run(tmp_path, work, settings={**TRIAL, "routes": {"quick": ["trial/built-in"]}})
    assert (answer["provider"], answer["model"], answer["where"]) == ("trial", "built-in", "local")
    assert models["routes"] == [{"name": "quick", "models": ["trial/built-in"]}]
    assert [each["model"] for each in models["models"]] == ["built-in", "built-in-embed"]


# --- The files of a home --------------------------------------------------------------------------------------------


def test_a_price_table_that_does_not_hold_refuses_requests_until_it_is_mended(tmp_path: Path) -> None:
    async def work(gateway: GatewayOperations, _: Operations) -> Any:
        prices = tmp_path / "home" / "prices.yaml"
        prices.write_text("version: a\nprices: {trial: {built-in: {input: lots}}}\n", encoding="utf-8")
        first = await refused(gateway.gateway_complete("x"))
        prices.write_text('version: "mine"\nprices: {trial: {built-in: {input: 1.00}}}\n', encoding="utf-8")
        preview = await gateway.gateway_route_preview("x")
        return first, preview, (await gateway.records.receipts_show(first["details"]["receipt"]))["receipt"]

    first, preview, receipt = run(tmp_path, work)
    assert (first["code"], first["details"]["line"]) == ("config", 2)
    assert preview["prices"].startswith("mine")
    assert (receipt["outcome"], receipt["level"]["level"]) == ("refused", "secret")
    assert receipt["request"]["messages"] == [{"role": "user", "text": "x"}]


@pytest.mark.parametrize("name", ["policy.yaml", "prices.yaml"])
def test_a_pipe_in_place_of_a_file_is_refused_and_not_waited_for(tmp_path: Path, name: str) -> None:
    async def work(gateway: GatewayOperations, _: Operations) -> Any:
        os.mkfifo(tmp_path / "home" / name)
        first = await refused(gateway.gateway_complete("x"))
        (tmp_path / "home" / name).unlink()
        return first, await gateway.gateway_complete("x")

    error, answer = run(tmp_path, work)
    assert error["message"].endswith("it is no regular file")
    assert answer["provider"] == "trial"


def test_a_refusal_whose_receipt_cannot_be_stored_is_told_with_both_reasons(tmp_path: Path) -> None:
    async def work(gateway: GatewayOperations, _: Operations) -> Any:
        (tmp_path / "home" / "policy.yaml").write_text("version: 7\n", encoding="utf-8")
        day = datetime.now(UTC)
        for each in (day, day + timedelta(days=1)):  # it may be midnight
            (tmp_path / "home" / "gateway" / "receipts" / f"{each:%Y-%m-%d}-01.jsonl").mkdir(parents=True)
        return await refused(gateway.gateway_complete("x"))

    error = run(tmp_path, work)
    assert error["code"] == "config"
    assert error["details"]["receipt_not_stored"].startswith("could not store a receipt")


def test_a_finding_that_the_repo_allows_does_not_raise_the_level(tmp_path: Path) -> None:
    from adaptive_llm_gateway.core import SecretScanner

    token = "gh" + "p_16C7e42F292c6912E7710c838347Ae178B4a"
    text = f"use {token} there"
    fingerprint = SecretScanner().scan(text)[0].fingerprint

    async def work(gateway: GatewayOperations, _: Operations) -> Any:
        before = await gateway.gateway_route_preview(text)
        repo = tmp_path / "home" / "memory"
        repo.mkdir()
        allowed = repo / "secrets-allowed.yaml"
        allowed.write_text(f"- fingerprint: {fingerprint}\n  reason: it is of a book\n", encoding="utf-8")
        between = await gateway.gateway_route_preview(text)
        allowed.write_text("nonsense: [\n", encoding="utf-8")
        return [each["trust"] for each in (before, between, await gateway.gateway_route_preview(text))]

    assert run(tmp_path, work) == ["secret", "internal", "secret"]


# --- Requests -------------------------------------------------------------------------------------------------------


def test_pieces_of_an_answer_make_up_its_text(tmp_path: Path) -> None:
    async def work(gateway: GatewayOperations, _: Operations) -> Any:
        pieces: list[str] = []

        async def keep(piece: str) -> None:
            pieces.append(piece)

        answer = await gateway.gateway_complete("count for me", on_piece=keep)
        return pieces, answer

    pieces, answer = run(tmp_path, work)
    assert len(pieces) > 3
    assert "".join(pieces) == answer["text"]


def test_whoever_goes_away_while_a_model_answers_leaves_a_receipt_that_says_so(tmp_path: Path) -> None:
    async def work(gateway: GatewayOperations, _: Operations) -> Any:
        async def hang_up(_: str) -> None:
            raise ConnectionResetError

        with pytest.raises(ConnectionResetError):
            await gateway.gateway_complete("count for me", on_piece=hang_up)
        return (await gateway.records.receipts_list())["receipts"]

    assert [each["outcome"] for each in run(tmp_path, work)] == ["cancelled"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"trust": "top"}, ["'top'", "confidential"]),
        ({"max_tokens": 0}, ["max_tokens"]),
        ({"temperature": 9}, ["temperature"]),
        ({"stop": [""]}, ["stop"]),
        ({"budget": -1}, ["budget"]),
        ({"deadline": -1}, ["deadline"]),
        ({"purpose": "a\nb"}, ["purpose"]),
    ],
)
def test_a_wrong_argument_is_named(tmp_path: Path, given: dict[str, Any], words: list[str]) -> None:
    async def work(gateway: GatewayOperations, _: Operations) -> Any:
        return await refused(gateway.gateway_complete("x", **given))

    error = run(tmp_path, work)
    for word in words:
        assert word in f"{error['message']} {error['hint']}"


@pytest.mark.parametrize(
    ("what_if", "word"),
    [
        ({"modes": "local"}, "'modes'"),
        ({"mode": "quiet"}, "'quiet'"),
        ({"trust": "top"}, "'top'"),
        ({"down": 5}, "down"),
    ],
)
def test_a_wrong_assumption_of_a_preview_is_named(tmp_path: Path, what_if: dict[str, Any], word: str) -> None:
    async def work(gateway: GatewayOperations, _: Operations) -> Any:
        return await refused(gateway.gateway_route_preview("x", what_if=what_if))

    assert word in run(tmp_path, work)["message"]


def test_a_context_that_knows_nothing_adds_nothing(tmp_path: Path) -> None:
    async def work(gateway: GatewayOperations, _: Operations) -> Any:
        answer = await gateway.gateway_chat([{"role": "user", "content": "hello"}], context={})
        return answer, (await gateway.records.receipts_show(answer["receipt"]))["receipt"]

    answer, receipt = run(tmp_path, work)
    assert answer["context"]["sources"] == []
    assert answer["trust"] == "internal"
    assert receipt["context"] == []


def test_a_context_that_cannot_be_had_refuses_the_request_and_leaves_a_receipt(tmp_path: Path) -> None:
    async def work(gateway: GatewayOperations, _: Operations) -> Any:
        asked = [{"role": "user", "content": "hello " + "x" * 20_000}]
        found: list[Any] = []
        for context in (
            {"budget": 1},
            {"budget": "many"},
            {"budget": True},
            {"query": ["a"]},
            {"project": 5},
            {"nothing": 1},
            {"session_id": "01M80P374CE5CG0AZWXATF3YZ5"},
        ):
            error = await refused(gateway.gateway_chat(asked, context=context))
            found.append((error, (await gateway.records.receipts_show(error["details"]["receipt"]))["receipt"]))
        return found

    for error, receipt in run(tmp_path, work):
        assert error["code"] in ("invalid_input", "not_found")
        assert (receipt["outcome"], receipt["why"]) == ("refused", error["message"])
        assert len(receipt["request"]["messages"][0]["text"]) == 16_000


def test_a_session_is_context_of_its_own_level(tmp_path: Path) -> None:
    async def work(gateway: GatewayOperations, memory: Operations) -> Any:
        begun = await memory.append_session("Bo asked for ten connections.", author=ME, project="atlas")
        await memory.write(author=ME, id=begun["id"], trust="secret")
        context = {"query": "connections", "session_id": begun["session_id"], "budget": 600}
        return await gateway.gateway_chat([{"role": "user", "content": "how many?"}], context=context)

    answer = run(tmp_path, work)
    assert (answer["trust"], answer["context"]["trust"]) == ("secret", "secret")


# --- Consents, receipts, runs ---------------------------------------------------------------------------------------


def test_a_consent_is_granted_listed_revoked_and_verified(tmp_path: Path) -> None:
    async def work(gateway: GatewayOperations, _: Operations) -> Any:
        granted = await gateway.consents.consent_grant("trial", trust="confidential", expires="30d", reason="to try it")
        listed = await gateway.consents.consent_list()
        revoked = await gateway.consents.consent_revoke(granted["id"][-8:].lower(), reason="tried")
        return {
            "granted": granted,
            "listed": listed,
            "revoked": revoked,
            "after": await gateway.consents.consent_list(),
            "all": await gateway.consents.consent_list(all=True),
            "check": await gateway.consents.consent_verify(),
            "unknown": await refused(gateway.consents.consent_grant("nobody")),
            "none": await refused(gateway.consents.consent_revoke("ZZZZ")),
            "past": await refused(gateway.consents.consent_grant("trial", expires="2020-01-01")),
            "aside": await refused(gateway.consents.consent_set_aside()),
        }

    found = run(tmp_path, work)
    granted = found["granted"]
    assert (granted["provider"], granted["trust"], granted["state"]) == ("trial", "confidential", "active")
    ends = datetime.fromisoformat(granted["expires"]) - datetime.fromisoformat(granted["granted"])
    assert ends == timedelta(days=30)
    assert [each["id"] for each in found["listed"]["consents"]] == [granted["id"]]
    assert (found["revoked"]["state"], found["revoked"]["revoked"]["reason"]) == ("revoked", "tried")
    assert found["after"]["consents"] == []
    assert len(found["all"]["consents"]) == 1
    assert (found["check"]["holds"], found["check"]["entries"]) == (True, 2)
    assert "trial" in found["unknown"]["hint"]
    assert found["none"]["code"] == "not_found"
    assert found["past"]["code"] == found["aside"]["code"] == "invalid_input"


def test_a_broken_ledger_is_told_and_can_be_set_aside(tmp_path: Path) -> None:
    async def work(gateway: GatewayOperations, _: Operations) -> Any:
        await gateway.consents.consent_grant("trial")
        ledger = tmp_path / "home" / "gateway" / "consents.jsonl"
        ledger.write_bytes(ledger.read_bytes().replace(b'"internal"', b'"secret"'))
        before = await gateway.consents.consent_list(), await gateway.consents.consent_verify()
        await gateway.consents.consent_set_aside()
        return before, await gateway.consents.consent_verify()

    (listed, check), after = run(tmp_path, work)
    assert listed["consents"] == []
    assert listed["broken"]["line"] == check["broken"]["line"] == 1
    assert check["holds"] is False
    assert (after["holds"], after["entries"]) == (True, 0)


def test_receipts_are_listed_shown_by_the_end_of_their_id_and_verified(tmp_path: Path) -> None:
    async def work(gateway: GatewayOperations, _: Operations) -> Any:
        answer = await gateway.gateway_complete("hello", project="atlas", client="codex")
        await refused(gateway.gateway_complete("hello", model="nothing"))
        preview = await gateway.gateway_route_preview("hello")
        return {
            "answer": answer,
            "preview": preview,
            "list": (await gateway.records.receipts_list())["receipts"],
            "one": (await gateway.records.receipts_list(limit=1))["receipts"],
            "refused": (await gateway.records.receipts_list(outcome="refused"))["receipts"],
            "shown": await gateway.records.receipts_show(answer["receipt"][-10:]),
            "check": await gateway.records.receipts_verify(),
            "replay": await gateway.records.runs_replay(answer["receipt"]),
            "wrong": await refused(gateway.records.receipts_list(outcome="good")),
            "limit": await refused(gateway.records.receipts_list(limit=0)),
            "none": await refused(gateway.records.receipts_show("ZZZZ")),
            "every": await refused(gateway.records.receipts_show(answer["receipt"][:4])),
        }

    found = run(tmp_path, work)
    assert [each["outcome"] for each in found["list"]] == ["simulated", "refused", "answered"]
    assert [each["id"] for each in found["one"]] == [found["preview"]["receipt"]]
    assert [each["model"] for each in found["refused"]] == ["nothing"]
    last = found["list"][-1]
    assert (last["provider"], last["answered_by"], last["where"]) == ("trial", "built-in", "local")
    assert (last["project"], last["client"], last["micro_cents"]) == ("atlas", "codex", 0)
    shown = found["shown"]
    assert json.loads((Path(shown["run"]) / "receipt.json").read_text(encoding="utf-8")) == shown["receipt"]
    assert (found["check"]["holds"], found["check"]["files"][0]["receipts"]) == (True, 3)
    assert (found["replay"]["reproduces"], found["replay"]["differences"]) == (True, [])
    assert "answered" in found["wrong"]["hint"]
    assert found["none"]["code"] == "not_found"
    assert found["limit"]["code"] == "invalid_input"


def test_a_request_goes_another_way_when_the_policy_is_another(tmp_path: Path) -> None:
    async def work(gateway: GatewayOperations, _: Operations) -> Any:
        answer = await gateway.gateway_complete("hello")
        rules = "version: 1\nrules:\n" + "".join(f"  {level}: {{local: deny, hosted: deny}}\n" for level in Trust)
        (tmp_path / "home" / "policy.yaml").write_text(rules, encoding="utf-8")
        return await gateway.records.runs_replay(answer["receipt"])

    replay = run(tmp_path, work)
    assert replay["reproduces"] is True
    assert "the policy is another one" in replay["differences"]
    assert [step["model"] for step in replay["then"]["steps"]] == ["built-in"]
    assert replay["now"]["steps"] == []


def test_old_receipts_go_by_age_and_size(tmp_path: Path) -> None:
    async def work(gateway: GatewayOperations, _: Operations) -> Any:
        await gateway.gateway_complete("hello")
        old = tmp_path / "home" / "gateway" / "receipts" / "2020-01-01-01.jsonl"
        old.write_bytes(b"")
        kept = await gateway.records.receipts_prune(days=36_500)
        by_age = await gateway.records.receipts_prune()
        return kept, by_age, old.exists(), await refused(gateway.records.receipts_prune(days=-1))

    kept, by_age, exists, wrong = run(tmp_path, work)
    assert kept["files"] == []
    assert by_age["files"] == ["2020-01-01-01.jsonl"]
    assert exists is False
    assert wrong["code"] == "invalid_input"


@pytest.mark.parametrize(
    ("text", "after"),
    [
        ("12h", timedelta(hours=12)),
        ("30d", timedelta(days=30)),
        ("2 W", timedelta(weeks=2)),
        ("45min", timedelta(minutes=45)),
    ],
)
def test_an_expiry_may_be_how_long_from_now(text: str, after: timedelta) -> None:
    now = datetime(2026, 11, 22, 12, tzinfo=UTC)
    assert expiry(text, now) == now + after


def test_an_expiry_may_be_a_day_and_then_ends_with_it() -> None:
    now = datetime(2026, 11, 22, 12, tzinfo=UTC)
    assert expiry("2027-01-01T10:00Z", now) == datetime(2027, 1, 1, 10, tzinfo=UTC)
    assert expiry("2027-01-01", now) > datetime(2027, 1, 1, 12, tzinfo=UTC)
    with pytest.raises(InvalidInput, match="expires"):
        expiry("soon enough", now)
    with pytest.raises(InvalidInput, match="beyond all years"):
        expiry("99999y", now)


@pytest.mark.parametrize("beyond", [{"days": -1}, {"mb": -1}, {"days": 10**10}, {"mb": 10**10}])
def test_receipts_are_pruned_to_what_can_be(tmp_path: Path, beyond: dict[str, int]) -> None:
    error = run(tmp_path, lambda gateway, _: refused(gateway.records.receipts_prune(**beyond)))
    assert error["code"] == "invalid_input"
    assert repr(next(iter(beyond.values()))) in error["message"]


# --- How models fare ------------------------------------------------------------------------------------------------


def routes(answer: Any) -> dict[tuple[str, str], Any]:
    return {(each["fields"]["model"], each["fields"]["purpose"]): each for each in answer["memories"]}


def test_how_models_fare_is_one_memory_for_each_model_and_purpose(tmp_path: Path) -> None:
    secret = "the-prompt-of-nobody-else"

    async def first(gateway: GatewayOperations, memory: Operations) -> Any:
        for _ in range(3):
            await gateway.gateway_complete(f"hello {secret}")
        await gateway.gateway_complete("hello", purpose="summaries")
        await gateway.gateway_route_preview("hello")
        await gateway.gateway_embed(["hello"])
        before = await memory.list(type="route")
        await gateway.settle()
        return before, await memory.list(type="route")

    before, after = run(tmp_path, first)
    assert before["memories"] == []
    found = routes(after)
    assert set(found) == {("built-in", "complete"), ("built-in", "summaries"), ("built-in-embed", "embed")}
    complete = found["built-in", "complete"]
    assert (complete["fields"]["calls"], complete["fields"]["answered"], complete["fields"]["micro_cents"]) == (3, 3, 0)
    assert complete["fields"]["provider"] == "trial"
    assert complete["trust"] == "internal"
    assert complete["author"]["client"] == "gateway"
    assert secret not in "".join(path.read_text("utf-8") for path in (tmp_path / "store").rglob("*.md"))

    async def second(gateway: GatewayOperations, memory: Operations) -> Any:
        await gateway.gateway_complete("hello again")
        await gateway.settle()
        return await memory.list(type="route"), (await memory.status())["by_type"]

    again, counts = run(tmp_path, second)
    assert counts["route"] == 3
    assert routes(again)["built-in", "complete"]["fields"]["calls"] == 4
    assert routes(again)["built-in", "complete"]["id"] == complete["id"]


def test_when_nothing_else_is_done_old_receipts_go_and_how_models_fare_is_remembered(tmp_path: Path) -> None:
    async def work(gateway: GatewayOperations, memory: Operations) -> Any:
        await gateway.gateway_complete("hello")
        old = tmp_path / "home" / "gateway" / "receipts" / "2020-01-01-01.jsonl"
        old.write_bytes(b"")
        async with asyncio.timeout(60):
            while old.exists() or not (found := await memory.list(type="route"))["memories"]:
                await asyncio.sleep(0.02)
        return found["total"], (await memory.history(found["memories"][0]["id"]))["revisions"]

    total, revisions = run(tmp_path, work, upkeep=0.05)
    assert total == 1
    assert len(revisions) == 1  # not once for each look


def test_failed_calls_count_and_cancelled_ones_do_not(tmp_path: Path) -> None:
    from adaptive_llm_gateway.gateway import Attempt, Receipt, ReceiptLevel, ReceiptRequest
    from adaptive_llm_gateway.server._gateway_routes import Tally, tallies_of

    receipt = Receipt(
        "01M80P374CE5CG0AZWXATF3YZ5",
        datetime(2026, 11, 22, tzinfo=UTC),
        "answered",
        "it was",
        ReceiptRequest("chat", "chat", None, None, "auto"),
        ReceiptLevel(Trust.INTERNAL),
        attempts=(
            Attempt("one", "m", "server", 0, 5_000),
            Attempt("one", "m", "ok", 0, 7_000_000),
            Attempt("two", "m", "cancelled", 0, 9_000_000),
        ),
    )
    assert tallies_of(receipt) == {("one", "m", "chat"): Tally(2, 1, 7_000, 0)}


def test_a_memory_that_cannot_take_them_keeps_nobody_from_an_answer(tmp_path: Path) -> None:
    async def work(gateway: GatewayOperations, memory: Operations) -> Any:
        answer = await gateway.gateway_complete("hello")
        real = memory.write

        async def full(**_: Any) -> Any:
            raise ConfigError("the disk is full")

        memory.write = full  # the one way to have it fail while the rest works
        await gateway.settle()
        memory.write = real
        return answer["text"]

    assert run(tmp_path, work).endswith("to: hello")


PAIR: dict[str, Any] = {
    "gateway": {"discover": False},
    "providers": {
        "a": {"kind": "built_in"},
        "b": {"kind": "built_in"},
        "cloud": {
            "kind": "openai_compatible",
            "url": "http://192.0.2.1/v1",
            "models": [{"name": "built-in", "chat": True, "stream": True}],
        },
    },
}


async def told(memory: Operations, provider: str, **numbers: int) -> str:
    """A memory of a route as another machine's sync, or a person, may leave it; its id."""
    fields = {"provider": provider, "model": "built-in", "purpose": "complete", **numbers}
    written = await memory.write(
        author=Author("gateway"), type="route", title=f"{provider} said by somebody", fields=fields
    )
    return written["id"]


async def first_of(gateway: GatewayOperations, trust: str) -> list[str]:
    preview = await gateway.gateway_route_preview("hello", trust=trust, model="built-in")
    return [step["provider"] for step in preview["steps"]]


def test_no_memory_leads_a_request_where_it_may_not_go_and_wrong_numbers_are_ignored(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(gateway: GatewayOperations, memory: Operations) -> Any:
        await told(memory, "a", recent_calls=50, recent_answered=0)
        await told(memory, "b", recent_calls=20, recent_answered=400, recent_ms=1)
        await told(memory, "cloud", recent_calls=10**12, recent_answered=10**12, recent_ms=1)
        found = [await first_of(gateway, trust) for trust in ("public", "internal", "secret")]
        answer = await gateway.gateway_complete("hello", model="built-in", trust="internal")
        return found, answer["provider"]

    found, provider = run(tmp_path, work, settings=PAIR)
    assert found == [["b", "a", "cloud"], ["b", "a"], ["b", "a"]]
    assert provider == "b"
    assert [record.getMessage().count("numbers that cannot be") for record in caplog.records].count(1) == 1


def test_what_somebody_changes_in_a_memory_counts_soon(tmp_path: Path) -> None:
    async def work(gateway: GatewayOperations, memory: Operations) -> Any:
        id = await told(memory, "a", recent_calls=50, recent_answered=0)
        before = await first_of(gateway, "internal")
        await memory.delete(id, author=ME)
        async with asyncio.timeout(60):
            while (after := await first_of(gateway, "internal")) == before:
                await asyncio.sleep(0.02)
        return before, after

    assert run(tmp_path, work, settings=PAIR, upkeep=0.05) == [["b", "a"], ["a", "b"]]


def test_what_could_not_be_written_counts_all_the_same_and_is_written_later(tmp_path: Path) -> None:
    async def work(gateway: GatewayOperations, memory: Operations) -> Any:
        from adaptive_llm_gateway.server._gateway_routes import RouteNotes

        for _ in range(3):
            await gateway.gateway_complete("hello")
        notes: RouteNotes = gateway._notes  # pyright: ignore[reportPrivateUsage]
        real = memory.write

        async def full(**_: Any) -> Any:
            raise StorageError("the disk is full")

        memory.write = full  # the one way to have it fail while the rest works
        with pytest.raises(StorageError):
            await notes.remember(memory)
        memory.write = real
        kept = [(each.calls, each.answered) for each in notes.experience()]
        await notes.remember(memory)
        written = [(each.calls, each.answered) for each in notes.experience()]
        (record,) = (await memory.list(type="route"))["memories"]
        return kept, written, record["fields"]

    kept, written, fields = run(tmp_path, work)
    assert kept == written == [[3, 3]]
    assert (fields["calls"], fields["recent_calls"], fields["recent_answered"]) == (3, 3, 3)


def test_a_gateway_that_is_not_to_learn_notes_and_knows_nothing(tmp_path: Path) -> None:
    async def work(gateway: GatewayOperations, memory: Operations) -> Any:
        await told(memory, "a", recent_calls=50, recent_answered=0)
        first = await first_of(gateway, "internal")
        await gateway.gateway_complete("hello", purpose="summaries")
        await gateway.settle()
        return first, (await memory.status())["by_type"]["route"]

    assert run(tmp_path, work, settings={**PAIR, "gateway": {"discover": False, "learn": False}}) == [["a", "b"], 1]
