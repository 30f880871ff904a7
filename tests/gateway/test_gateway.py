"""Requests from end to end: level, plan, calls and receipt, with providers that fail as told and one clock for all."""

from __future__ import annotations

import asyncio
import json
import tempfile
import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from gateway_made import HELLO, NOW, PRICED, Made, Times, Told, failing, run, words
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive_llm_gateway.core import (
    AlgError,
    InvalidInput,
    NotFound,
    SecretScanner,
    StorageError,
    TooLarge,
    Trust,
    Unavailable,
)
from adaptive_llm_gateway.gateway import (
    Answered,
    Ask,
    ConsentNeeded,
    ContextGiven,
    ContextRef,
    Experience,
    FailureKind,
    FoundServer,
    Gateway,
    GatewayConfig,
    Health,
    Locality,
    Message,
    ModelAnswer,
    ModelConfig,
    ModelInfo,
    ModelRequest,
    NotPermitted,
    OverBudget,
    Piece,
    ProviderConfig,
    ProviderFailure,
    ProviderPort,
    Route,
    WhatIf,
    address_of,
    parse_policy,
)

if TYPE_CHECKING:
    from conftest import Peers

REDACTING = """\
version: 1
rules:
  public: {local: allow, hosted: allow}
  internal: {local: allow, hosted: allow}
  confidential: {local: allow, hosted: redact}
  secret: {local: allow, hosted: redact}
"""


async def streamed(gateway: Gateway, ask: Ask) -> tuple[str, Answered]:
    text, answered = "", None
    async for piece in gateway.stream(ask):
        if isinstance(piece, Answered):
            answered = piece
        else:
            assert answered is None
            text += piece.text
    assert answered is not None
    return text, answered


Way = Callable[[Gateway, Ask], Awaitable[Answered]]


async def whole(gateway: Gateway, ask: Ask) -> Answered:
    return await gateway.answer(ask)


async def by_pieces(gateway: Gateway, ask: Ask) -> Answered:
    text, answered = await streamed(gateway, ask)
    assert text == answered.text
    return answered


WAYS = pytest.mark.parametrize("way", [whole, by_pieces])


@WAYS
def test_an_answer_names_who_gave_it_and_its_receipt_says_the_same(tmp_path: Path, way: Way) -> None:
    async def work() -> None:
        made = Made(tmp_path, Told("here"))
        answered = await way(made.gateway, Ask("complete", HELLO, client="a test", project="mine"))
        assert answered.text.endswith("to: hello there")
        assert (answered.provider, answered.model, answered.provider_class) == ("here", "built-in", "local")
        receipt = made.only().receipt
        assert receipt.id == answered.receipt
        assert receipt.outcome == "answered"
        assert receipt.request.messages[0].text == "hello there"
        assert (receipt.request.client, receipt.request.project) == ("a test", "mine")
        assert receipt.level.level is Trust.INTERNAL
        assert [each.outcome for each in receipt.attempts] == ["ok"]
        assert receipt.tokens.output == answered.usage.output_tokens
        assert receipt.cost.micro_cents == 0
        assert receipt.answer is not None
        assert receipt.answer.characters == len(answered.text)
        assert receipt.route[0].taken
        assert not made.gateway.receipts.verify().unfinished

    run(work)


@WAYS
def test_when_the_first_of_the_plan_fails_the_next_answers(tmp_path: Path, way: Way) -> None:
    async def work() -> None:
        made = Made(tmp_path, Told("one", failures=[failing("refused")]), Told("two"))
        answered = await way(made.gateway, Ask("chat", HELLO))
        assert answered.provider == "two"
        assert answered.attempts == 2
        assert [(each.provider, each.outcome) for each in made.only().receipt.attempts] == [
            ("one", "refused"),
            ("two", "ok"),
        ]

    run(work)


@WAYS
def test_without_fallback_the_second_is_never_called(tmp_path: Path, way: Way) -> None:
    async def work() -> None:
        second = Told("two")
        made = Made(tmp_path, Told("one", failures=[failing("refused")]), second)
        with pytest.raises(ProviderFailure) as caught:
            await way(made.gateway, Ask("chat", HELLO, fallback=False))
        assert caught.value.kind == "refused"
        assert not second.asked
        assert made.only().receipt.outcome == "failed"
        assert made.only().receipt.id == caught.value.details["receipt"]

    run(work)


@WAYS
def test_a_rate_limit_is_waited_for_as_asked_and_the_same_provider_answers(tmp_path: Path, way: Way) -> None:
    async def work() -> None:
        made = Made(tmp_path, Told("one", failures=[failing("rate_limited", retry_after=7.0)]), Told("two"))
        answered = await way(made.gateway, Ask("chat", HELLO))
        assert answered.provider == "one"
        assert made.times.slept == [7.25]  # what was asked, and half of the first wait of our own
        assert made.only().receipt.attempts[0].waited_for == 7_000_000

    run(work)


def test_a_provider_that_asks_for_a_day_is_left_alone_by_later_requests(tmp_path: Path) -> None:
    async def work() -> None:
        first = Told("one", failures=[failing("rate_limited", retry_after=86_401.0)])
        made = Made(tmp_path, first, Told("two"))
        for _ in range(2):
            assert (await made.gateway.answer(Ask("chat", HELLO))).provider == "two"
        assert len(first.asked) == 1
        assert made.times.slept == []
        later = made.gateway.receipts.list(limit=1)[0].receipt
        assert any(
            step.provider == "one" and "its rate limit holds for 86401.0 s" in step.reason for step in later.route
        )

    run(work)


def test_a_provider_that_keeps_failing_is_left_alone_for_a_while(tmp_path: Path) -> None:
    async def work() -> None:
        first = Told("one", failures=[failing("refused")] * 20)
        made = Made(tmp_path, first, Told("two"))
        for _ in range(8):
            assert (await made.gateway.answer(Ask("chat", HELLO))).provider == "two"
        assert len(first.asked) == 5  # then its circuit is open
        made.times.at += 16
        first._failures.clear()  # pyright: ignore[reportPrivateUsage]
        assert (await made.gateway.answer(Ask("chat", HELLO))).provider == "two"  # one that failed comes last
        made.times.at += 300
        states = {state.name: state for state in await made.gateway.models()}
        assert states["one"].circuit == "half_open"

    run(work)


def test_when_nobody_answers_each_failure_is_told(tmp_path: Path) -> None:
    async def work() -> None:
        made = Made(tmp_path, Told("one", failures=[failing("auth")]), Told("two", failures=[failing("refused")]))
        error, filed = await made.refused(Ask("chat", HELLO))
        assert isinstance(error, ProviderFailure)
        assert "one/built-in: it auth" in error.message
        assert "two/built-in: it refused" in error.message
        assert filed.receipt.outcome == "failed"
        assert filed.receipt.cost.micro_cents == 0

    run(work)


# --- streams ----------------------------------------------------------------------------------------------------------


def test_a_stream_that_broke_after_its_first_piece_is_neither_continued_nor_whole(tmp_path: Path) -> None:
    async def work() -> None:
        second = Told("two")
        made = Made(tmp_path, Told("one", cut_after=2), second)
        pieces: list[str] = []

        async def read() -> None:
            async for piece in made.gateway.stream(Ask("chat", HELLO)):
                assert isinstance(piece, Piece)
                pieces.append(piece.text)

        with pytest.raises(ProviderFailure) as caught:
            await read()
        assert len(pieces) == 2
        assert caught.value.kind == "incomplete"
        assert not second.asked
        receipt = made.only().receipt
        assert receipt.outcome == "incomplete"
        assert receipt.answer is not None
        assert receipt.answer.finish is None
        assert receipt.answer.characters == len("".join(pieces))

    run(work)


def test_a_stream_that_somebody_leaves_is_cancelled_and_has_a_receipt(tmp_path: Path) -> None:
    async def work() -> None:
        made = Made(tmp_path, Told("one"))
        stream = made.gateway.stream(Ask("chat", HELLO))
        assert isinstance(await anext(stream), Piece)
        await stream.aclose()
        assert made.only().receipt.outcome == "cancelled"
        assert [each.outcome for each in made.only().receipt.attempts] == ["cancelled"]
        (state,) = await made.gateway.models()
        assert state.running == 0

    run(work)


@WAYS
def test_an_answer_whose_receipt_cannot_be_stored_is_told_of_and_not_taken_for_a_whole_request(
    tmp_path: Path, way: Way
) -> None:
    async def work() -> None:
        made = Made(tmp_path, Told("one"))
        (tmp_path / "receipts" / "2026-11-22-01.jsonl").mkdir(parents=True)  # a disk that refuses
        with pytest.raises(StorageError) as caught:
            await way(made.gateway, Ask("chat", HELLO))
        assert caught.value.message.startswith("one/built-in answered, but the receipt could not be stored")
        assert caught.value.details["answered"] is True
        assert caught.value.details["receipt_not_stored"] in caught.value.message
        (tmp_path / "receipts" / "2026-11-22-01.jsonl").rmdir()
        await made.gateway.close()
        (filed,) = Made(tmp_path).gateway.receipts.recover()
        assert filed.receipt.id == caught.value.details["receipt"]
        assert filed.receipt.outcome == "interrupted"

    run(work)


def test_a_refusal_whose_receipt_cannot_be_stored_says_that_it_is_not_there(tmp_path: Path) -> None:
    async def work() -> None:
        made = Made(tmp_path, Told("one"))
        (tmp_path / "receipts" / "2026-11-22-01.jsonl").mkdir(parents=True)
        with pytest.raises(NotFound) as caught:
            await made.gateway.answer(Ask("chat", HELLO, model="nobody"))
        assert caught.value.details["receipt_not_stored"].startswith("could not store a receipt")
        (tmp_path / "receipts" / "2026-11-22-01.jsonl").rmdir()
        error, _ = await made.refused(Ask("chat", HELLO, model="nobody"))
        assert "receipt_not_stored" not in error.details

    run(work)


def test_a_request_that_is_cancelled_stops_the_call_and_has_a_receipt(tmp_path: Path) -> None:
    async def work() -> None:
        provider = Told("one", hangs=True)
        made = Made(tmp_path, provider)
        task = asyncio.create_task(made.gateway.answer(Ask("chat", HELLO)))
        await provider.began.wait()
        assert made.gateway.receipts.verify().unfinished  # noted before it was sent
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert made.only().receipt.outcome == "cancelled"
        assert not made.gateway.receipts.verify().unfinished
        (state,) = await made.gateway.models()
        assert state.running == 0

    run(work)


def test_many_streams_side_by_side_lose_no_piece(tmp_path: Path) -> None:
    async def work() -> None:
        made = Made(tmp_path, Told("one"))
        asks = [Ask("chat", (Message("user", f"number {number} of many"),)) for number in range(100)]
        for ask, (text, answered) in zip(
            asks, await asyncio.gather(*(streamed(made.gateway, ask) for ask in asks)), strict=True
        ):
            assert text == answered.text
            assert text.endswith(f"to: {ask.messages[0].text}")
        check = made.gateway.receipts.verify()
        assert check.holds
        assert sum(file.receipts for file in check.files) == 100

    run(work)


# --- trust ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", Trust)
def test_what_is_confidential_or_secret_never_reaches_a_hosted_provider(tmp_path: Path, level: Trust) -> None:
    async def work() -> None:
        cloud = Told("cloud")
        made = Made(tmp_path, cloud)
        made.consent("cloud", Trust.SECRET)
        ask = Ask("chat", HELLO, trust=level)
        if level in (Trust.PUBLIC, Trust.INTERNAL):
            assert (await made.gateway.answer(ask)).provider == "cloud"
            return
        error, filed = await made.refused(ask)
        assert isinstance(error, NotPermitted)
        assert not cloud.asked
        assert filed.receipt.outcome == "refused"
        assert filed.receipt.level.level is level
        assert filed.receipt.blocked[0].what == "cloud/built-in"

    run(work)


def test_internal_text_needs_consent_and_the_receipt_names_the_entry(tmp_path: Path) -> None:
    async def work() -> None:
        cloud = Told("cloud")
        made = Made(tmp_path, cloud)
        error, _ = await made.refused(Ask("chat", HELLO))
        assert isinstance(error, ConsentNeeded)
        assert not cloud.asked
        made.consent("cloud")
        answered = await made.gateway.answer(Ask("chat", HELLO))
        (consent,) = made.gateway.ledger.consents(NOW)
        (used,) = made.gateway.receipts.show(answered.receipt).receipt.consents
        assert (used.id, used.entry) == (consent.id, consent.entry)
        made.gateway.ledger.revoke(consent.id, now=NOW, by="a person")
        assert isinstance((await made.refused(Ask("chat", HELLO)))[0], ConsentNeeded)
        assert len(cloud.asked) == 1

    run(work)


@WAYS
@pytest.mark.parametrize("change", ["revoked", "local", "offline"])
def test_what_was_taken_back_while_a_request_waited_holds_for_its_next_attempt(
    tmp_path: Path, way: Way, change: str
) -> None:
    class Slow(Times):
        async def sleep(self, seconds: float) -> None:
            if change == "revoked":
                (consent,) = made.gateway.ledger.consents(NOW)
                made.gateway.ledger.revoke(consent.id, now=NOW, by="a person")
            else:
                await made.gateway.set_mode("local" if change == "local" else "offline")
            await super().sleep(seconds)

    cloud = Told("cloud", failures=[failing("rate_limited", retry_after=30.0)])
    made = Made(tmp_path, cloud, times=Slow())

    async def work() -> None:
        made.consent("cloud")
        with pytest.raises(ProviderFailure) as caught:
            await way(made.gateway, Ask("chat", HELLO))
        assert len(cloud.asked) == 1
        why = {"revoked": "the consent to it was revoked or ran out", "local": "the mode is 'local' now"}
        assert why.get(change, "the mode is 'offline' now") in caught.value.message
        receipt = made.gateway.receipts.show(caught.value.details["receipt"]).receipt
        assert [attempt.outcome for attempt in receipt.attempts] == ["rate_limited"]
        assert receipt.blocked[-1].what == "cloud/built-in"

    run(work)


def test_a_broken_ledger_keeps_everything_that_needs_consent(tmp_path: Path) -> None:
    async def work() -> None:
        cloud = Told("cloud")
        made = Made(tmp_path, cloud)
        made.consent("cloud")
        path = tmp_path / "consents.jsonl"
        path.write_text(path.read_text(encoding="utf-8").replace('"internal"', '"secret"'), encoding="utf-8")
        error, filed = await made.refused(Ask("chat", HELLO))
        assert "the consent ledger is broken" in error.message
        assert "ledger_broken" in filed.receipt.route[0].reason
        assert not cloud.asked
        assert (await made.gateway.answer(Ask("chat", HELLO, trust=Trust.PUBLIC))).provider == "cloud"

    run(work)


def test_a_credential_in_a_prompt_makes_it_secret_and_stays_here(tmp_path: Path) -> None:
    key = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"

    async def work() -> None:
        cloud, here = Told("cloud"), Told("here")
        made = Made(tmp_path, cloud, here)
        answered = await made.gateway.answer(Ask("chat", (Message("user", f"use {key} for it"),), trust=Trust.PUBLIC))
        assert answered.provider == "here"
        assert answered.trust is Trust.SECRET
        assert not cloud.asked
        left = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
        assert key.encode() not in left
        assert made.only().receipt.level.reasons[-1].source == "detected"

    run(work)


@WAYS
def test_a_policy_that_redacts_sends_the_text_without_what_was_found(tmp_path: Path, way: Way) -> None:
    async def work() -> None:
        cloud = Told("cloud")
        made = Made(tmp_path, cloud, policy=parse_policy(REDACTING))
        text = "write to joe.smith@gmail.com and to joe.smith@gmail.com again"
        answered = await way(made.gateway, Ask("chat", (Message("user", text),)))
        assert answered.redacted == 2
        assert answered.trust is Trust.INTERNAL
        assert "joe.smith" not in cloud.texts
        assert cloud.texts.count("[redacted:email#1]") == 2
        receipt = made.only().receipt
        assert [(item.kind, item.count) for item in receipt.redacted] == [("email", 2)]
        assert receipt.level.level is Trust.CONFIDENTIAL

    run(work)


def test_what_is_to_be_embedded_is_redacted_as_well(tmp_path: Path) -> None:
    async def work() -> None:
        cloud = Told("cloud")
        made = Made(tmp_path, cloud, policy=parse_policy(REDACTING))
        answered = await made.gateway.answer(Ask("embed", texts=("plain", "joe.smith@gmail.com")))
        assert len(answered.vectors) == 2
        assert "joe.smith" not in cloud.texts
        assert '"plain"' in cloud.texts

    run(work)


def test_memories_in_the_context_raise_the_level_and_no_redaction_lowers_it(tmp_path: Path) -> None:
    async def work() -> None:
        cloud, here = Told("cloud"), Told("here")
        made = Made(tmp_path, cloud, here, policy=parse_policy(REDACTING.replace("hosted: redact", "hosted: deny")))
        context = ContextGiven("[S1] what we know", (ContextRef("01A", "v1", Trust.CONFIDENTIAL),), 40, 900)
        answered = await made.gateway.answer(Ask("chat", HELLO, trust=Trust.PUBLIC, context=context))
        assert answered.provider == "here"
        assert not cloud.asked
        request = here.asked[0]
        assert isinstance(request, ModelRequest)
        assert [message.text for message in request.messages] == ["[S1] what we know", "hello there"]
        receipt = made.only().receipt
        assert receipt.level.level is Trust.CONFIDENTIAL
        assert receipt.context == context.refs
        assert (receipt.tokens.context_from, receipt.tokens.context) == (900, 40)

    run(work)


def test_a_redacting_policy_does_not_let_confidential_memories_out(tmp_path: Path) -> None:
    async def work() -> None:
        cloud = Told("cloud")
        strict = REDACTING.replace("internal: {local: allow, hosted: allow}", "internal: {local: allow, hosted: ask}")
        made = Made(tmp_path, cloud, policy=parse_policy(strict))
        text = (Message("user", "about joe.smith@gmail.com"),)
        error, _ = await made.refused(Ask("chat", text))
        assert isinstance(error, ConsentNeeded)  # redacted it is internal, and that needs consent
        assert not cloud.asked

    run(work)


def test_offline_and_local_mode_call_nobody_elsewhere(tmp_path: Path) -> None:
    async def work() -> None:
        cloud = Told("cloud")
        made = Made(tmp_path, cloud)
        for mode in ("offline", "local"):
            await made.gateway.set_mode(mode)
            error, filed = await made.refused(Ask("chat", HELLO, trust=Trust.PUBLIC))
            assert isinstance(error, NotPermitted)
            assert f"the mode is '{mode}'" in filed.receipt.blocked[0].why
        assert not cloud.asked
        await made.gateway.set_mode("normal")
        assert (await made.gateway.answer(Ask("chat", HELLO, trust=Trust.PUBLIC))).provider == "cloud"

    run(work)


# --- bounds -----------------------------------------------------------------------------------------------------------


def test_a_budget_holds_for_all_attempts_together(tmp_path: Path) -> None:
    async def work() -> None:
        cloud = Told("cloud", failures=[failing("incomplete")] * 3)
        made = Made(tmp_path, cloud, prices=PRICED)
        ask = Ask("chat", HELLO, trust=Trust.PUBLIC, max_tokens=10, budget=2_500)  # an attempt: 1,600
        error, filed = await made.refused(ask)
        assert len(cloud.asked) == 1
        assert "it may cost 1600 micro-cents, and of 2500 failed attempts may have taken 1600" in error.message
        assert filed.receipt.cost.micro_cents is None

    run(work)


def test_too_small_a_budget_is_refused_before_anybody_is_called(tmp_path: Path) -> None:
    async def work() -> None:
        cloud = Told("cloud")
        made = Made(tmp_path, cloud, prices=PRICED, budget=100)
        error, filed = await made.refused(Ask("chat", HELLO, trust=Trust.PUBLIC, max_tokens=10))
        assert isinstance(error, OverBudget)
        assert not cloud.asked
        assert filed.receipt.outcome == "refused"
        answered = await made.gateway.answer(Ask("chat", HELLO, trust=Trust.PUBLIC, max_tokens=10, budget=10_000))
        usage = answered.usage
        assert usage.input_tokens is not None
        assert usage.output_tokens is not None
        assert answered.cost.micro_cents == (usage.input_tokens + usage.output_tokens) * 100

    run(work)


def test_the_deadline_bounds_all_attempts_together(tmp_path: Path) -> None:
    async def work() -> None:
        made = Made(tmp_path, Told("one", failures=[failing("overloaded", retry_after=5.0)] * 3), deadline=8.0)
        error, _ = await made.refused(Ask("chat", HELLO))
        assert isinstance(error, ProviderFailure)
        assert made.times.slept == [5.25]  # a second wait would end behind the deadline

    run(work)


def test_no_more_requests_run_at_a_provider_than_it_may_have(tmp_path: Path) -> None:
    async def work() -> None:
        provider = Told("one")
        made = Made(tmp_path, provider, configs={"one": {"concurrency": 3}})
        await asyncio.gather(*(made.gateway.answer(Ask("chat", HELLO)) for _ in range(20)))
        assert provider.most == 3

    run(work)


def test_no_more_requests_begin_in_a_minute_than_a_provider_may_have(tmp_path: Path) -> None:
    async def work() -> None:
        provider = Told("one")
        made = Made(tmp_path, provider, configs={"one": {"per_minute": 2}})
        for _ in range(2):
            await made.gateway.answer(Ask("chat", HELLO))
        error, _ = await made.refused(Ask("chat", HELLO))
        assert isinstance(error, Unavailable)
        assert error.details["retry_in"] == 60.0
        made.times.at += 61
        await made.gateway.answer(Ask("chat", HELLO))
        assert len(provider.asked) == 3

    run(work)


def test_a_prompt_beyond_the_context_says_by_how_much_and_offers_a_budget(tmp_path: Path) -> None:
    async def work() -> None:
        provider = Told("one")
        made = Made(tmp_path, provider)
        error, _ = await made.refused(Ask("chat", (Message("user", "word " * 9_000),)))
        assert isinstance(error, TooLarge)
        assert "813 more than its context of 8192" in error.message
        assert "context: {query, budget}" in (error.hint or "")
        assert not provider.asked

    run(work)


@pytest.mark.parametrize(
    "wrong",
    [
        Ask("chat"),
        Ask("chat", (Message("system", "only a system's text"),)),
        Ask("chat", (Message("user", "   "),)),
        Ask("chat", (Message("user", "\ud800"),)),
        Ask("embed"),
        Ask("embed", texts=("a", "")),
        Ask("chat", HELLO, model="a\nb"),
        Ask("chat", HELLO, model="a" * 300),
        Ask("chat", HELLO, max_tokens=0),
        Ask("chat", HELLO, max_tokens=10**30),
        Ask("chat", HELLO, temperature=float("nan")),
        Ask("chat", HELLO, budget=-1),
        Ask("chat", HELLO, deadline=0),
        Ask("chat", HELLO, deadline=float("inf")),
        Ask("chat", HELLO, stop=("",)),
        Ask("chat", HELLO, purpose=""),
        Ask("chat", (Message("user", "x" * 9_000_000),)),
        Ask("chat", HELLO * 3_000),
    ],
)
def test_what_is_no_request_is_refused_with_a_receipt_and_nobody_is_called(tmp_path: Path, wrong: Ask) -> None:
    async def work() -> None:
        provider = Told("one")
        made = Made(tmp_path, provider)
        error, filed = await made.refused(wrong)
        assert isinstance(error, InvalidInput)
        assert error.hint
        assert not provider.asked
        assert filed.receipt.outcome == "refused"
        assert made.gateway.receipts.verify().holds

    run(work)


def test_without_a_provider_it_says_what_was_looked_for(tmp_path: Path) -> None:
    async def work() -> None:
        made = Made(tmp_path)
        error, _ = await made.refused(Ask("chat", HELLO))
        assert isinstance(error, Unavailable)
        assert "no provider is configured" in error.message
        assert "config.yaml" in (error.hint or "")

    run(work)


def test_models_of_a_hosted_provider_are_taken_by_name_alone(tmp_path: Path) -> None:
    async def work() -> None:
        cloud = Told("cloud")
        made = Made(tmp_path, cloud, configs={"cloud": {}})
        made.gateway = Gateway(
            GatewayConfig((ProviderConfig("cloud", "built_in"),), discover=False),
            tmp_path,
            scanner=SecretScanner(),
            ports={"cloud": cloud},
            locate=Made.locate,
            count=words,
        )
        error, _ = await made.refused(Ask("chat", HELLO, trust=Trust.PUBLIC))
        assert isinstance(error, NotFound)
        assert "Name one, such as cloud/built-in" in (error.hint or "")
        for name in ("built-in", "cloud/built-in"):
            answered = await made.gateway.answer(Ask("chat", HELLO, model=name, trust=Trust.PUBLIC))
            assert answered.model == "built-in"

    run(work)


def test_an_answer_that_should_be_json_and_is_none_goes_to_the_next(tmp_path: Path) -> None:
    class Chatty(Told):
        async def chat(self, request: ModelRequest, *, timeout: float) -> ModelAnswer:
            return await super().chat(replace(request, json=False), timeout=timeout)

    async def work() -> None:
        one = Chatty("one")
        made = Made(tmp_path, one, Told("two"))
        answered = await made.gateway.answer(Ask("chat", HELLO, json=True))
        assert answered.provider == "two"
        assert json.loads(answered.text)["asked"] == "hello there"
        # That a model cannot do that keeps nobody from its provider's others.
        await made.gateway.answer(Ask("chat", HELLO, json=True))
        assert len(one.asked) == 6
        assert {state.circuit for state in await made.gateway.models()} == {"closed"}

    run(work)


# --- previews and replays ---------------------------------------------------------------------------------------------


def test_a_preview_sends_nothing_and_tells_what_would_be_called_if(tmp_path: Path) -> None:
    async def work() -> None:
        cloud, here = Told("cloud"), Told("here")
        made = Made(tmp_path, cloud, here)
        ask = Ask("route_preview", HELLO)

        async def order(what_if: WhatIf) -> list[str]:
            return [step.provider for step in (await made.gateway.preview(ask, what_if)).plan.steps]

        assert await order(WhatIf()) == ["here"]
        assert await order(WhatIf(consent=("cloud",))) == ["here", "cloud"]
        assert await order(WhatIf(trust=Trust.PUBLIC)) == ["here", "cloud"]
        assert await order(WhatIf(trust=Trust.PUBLIC, down=("here",))) == ["cloud"]
        assert await order(WhatIf(trust=Trust.PUBLIC, mode="offline")) == ["here"]
        refused = await made.gateway.preview(ask, WhatIf(down=("here",)))
        assert isinstance(refused.error, ConsentNeeded)
        with pytest.raises(InvalidInput, match="nobody"):
            await order(WhatIf(down=("nobody",)))
        assert not cloud.asked
        assert not here.asked
        receipts = made.gateway.receipts.list()
        assert {filed.receipt.outcome for filed in receipts} == {"simulated", "refused"}
        assert not made.gateway.ledger.records()

    run(work)


def test_a_replay_makes_the_same_plan_and_says_what_is_otherwise_now(tmp_path: Path) -> None:
    async def work() -> None:
        cloud = Told("cloud")
        made = Made(
            tmp_path, cloud, Told("here"), prices=PRICED, routes=(Route("both", ("cloud/built-in", "here/built-in")),)
        )
        made.consent("cloud")
        answered = await made.gateway.answer(Ask("chat", HELLO, model="both"))
        assert answered.provider == "cloud"
        same = await made.gateway.replay(answered.receipt)
        assert (same.reproduces, same.differences) == (True, ())
        (consent,) = made.gateway.ledger.consents(NOW)
        made.gateway.ledger.revoke(consent.id, now=NOW, by="a person")
        other = await made.gateway.replay(answered.receipt)
        assert other.reproduces
        assert len(other.differences) == 1
        assert other.differences[0].startswith("cloud/built-in would be called no more: nobody consented")
        assert len(cloud.asked) == 1
        with pytest.raises(NotFound):
            await made.gateway.replay("01ARZ3NDEKTSV4RRFFQ69G5FAV")

    run(work)


def test_a_replay_reproduces_what_was_asked_of_one_provider_of_several(tmp_path: Path) -> None:
    async def work() -> None:
        made = Made(tmp_path, Told("one"), Told("two"))
        for model in ("two/built-in", "nobody/nothing", "built-in"):
            preview = await made.gateway.preview(Ask("route_preview", HELLO, model=model))
            replayed = await made.gateway.replay(preview.receipt)
            assert replayed.reproduces, model
            assert replayed.differences == ()

    run(work)


def test_a_replay_of_changed_inputs_does_not_reproduce(tmp_path: Path) -> None:
    async def work() -> None:
        made = Made(tmp_path, Told("here"))
        answered = await made.gateway.answer(Ask("chat", HELLO))
        (path,) = (tmp_path / "receipts").glob("*.jsonl")
        path.write_text(path.read_text(encoding="utf-8").replace('"mode":"normal"', '"mode":"offline"'), "utf-8")
        replayed = await Made(tmp_path, Told("here")).gateway.replay(answered.receipt)
        assert not replayed.reproduces
        assert "the mode was 'offline' and is 'normal'" in replayed.differences

    run(work)


def test_a_process_that_died_leaves_a_receipt_at_the_next_start(tmp_path: Path) -> None:
    async def work() -> None:
        provider = Told("one", hangs=True)
        made = Made(tmp_path, provider)
        task = asyncio.create_task(made.gateway.answer(Ask("chat", HELLO)))
        await provider.began.wait()
        other = Made(tmp_path, Told("one"))  # as after a kill: the note is there, and no receipt
        await other.gateway.open()
        assert other.only().receipt.outcome == "interrupted"
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run(work)


def test_health_tells_of_each_provider_and_a_probe_has_it_answer(tmp_path: Path) -> None:
    async def work() -> None:
        sick = Told("sick", failures=[failing("server")])
        made = Made(tmp_path, sick, Told("well"), Told("cloud"), configs={"well": {"enabled": True}})
        health = {each.name: each for each in await made.gateway.health(probe=True)}
        assert health["well"].health == Health("up", "built-in", None, 2, "built-in answers")
        assert health["sick"].health.state == "other"
        assert "it server" in health["sick"].health.said
        assert health["cloud"].provider_class == "hosted"
        assert "answers by itself" in health["cloud"].health.said  # nothing is sent there
        assert isinstance(made.ports["cloud"], Told)
        assert not made.ports["cloud"].asked

    run(work)


# --- preview and execution are one ------------------------------------------------------------------------------------

KINDS: list[FailureKind] = ["refused", "timeout", "auth", "bad_request", "too_long", "redirect", "server", "incomplete"]
LONG = "a text that is longer than the context"  # a short name: what is drawn is printed
TEXTS = [
    "hello there",
    "write to joe.smith@gmail.com",
    LONG,
    "the key is ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8",
]
POLICIES = [None, REDACTING]


@st.composite
def situations(draw: st.DrawFn) -> dict[str, Any]:
    names = draw(st.lists(st.sampled_from(["here", "there", "cloud", "cloud-two"]), min_size=1, unique=True))
    return {
        "providers": [(name, draw(st.lists(st.none() | st.sampled_from(KINDS), max_size=2))) for name in names],
        "consents": draw(st.lists(st.sampled_from(names), unique=True)),
        "policy": draw(st.sampled_from(POLICIES)),
        "mode": draw(st.sampled_from(["normal", "normal", "local", "offline"])),
        "order": draw(st.sampled_from([None, 0])),
        "experience": tuple(
            Experience(name, "built-in", "chat", 40, draw(st.sampled_from([0, 20, 39])), draw(st.integers(0, 10**5)))
            for name in draw(st.lists(st.sampled_from(names), unique=True))
        ),
        "ask": Ask(
            "chat",
            (Message("user", draw(st.sampled_from(TEXTS))),),
            model=draw(st.sampled_from(["auto", "auto", "built-in", "cloud/built-in", "both", "none such"])),
            trust=draw(st.none() | st.sampled_from(Trust)),
            max_tokens=draw(st.none() | st.just(5)),
            json=draw(st.booleans()),
            fallback=draw(st.booleans()),
            budget=draw(st.sampled_from([None, None, 10**9, 0])),
        ),
        "stream": draw(st.booleans()),
    }


@settings(max_examples=60, deadline=None)
@given(situations())
def test_what_a_preview_says_is_what_is_done(situation: dict[str, Any]) -> None:
    async def work() -> None:
        with tempfile.TemporaryDirectory() as folder:
            ports = [
                Told(name, failures=[failing(kind) if kind else None for kind in kinds])
                for name, kinds in situation["providers"]
            ]
            policy = parse_policy(situation["policy"]) if situation["policy"] else None
            routes = (Route("both", ("cloud/built-in", "built-in")),)
            configs = {} if situation["order"] is None else {port.name: {"order": situation["order"]} for port in ports}
            made = Made(
                Path(folder),
                *ports,
                configs=configs,
                policy=policy,
                mode=situation["mode"],
                routes=routes,
                prices=PRICED,
                experience=lambda: situation["experience"],
            )
            for name in situation["consents"]:
                made.consent(name)
            ask: Ask = situation["ask"]
            if ask.messages[0].text == LONG:
                ask = replace(ask, messages=(Message("user", "word " * 9_000),))
            await made.gateway.health()  # else what is learnt of a provider between the two may be the difference
            preview = await made.gateway.preview(ask, stream=situation["stream"])
            assert not any(port.asked for port in ports)
            error: AlgError | None = None
            try:
                await (by_pieces if situation["stream"] else whole)(made.gateway, ask)
            except AlgError as caught:
                error = caught
            await made.gateway.close()  # run folders are written behind the answer
            done, simulated = made.gateway.receipts.list()
            assert simulated.receipt.outcome == "simulated"
            assert done.receipt.route == simulated.receipt.route
            assert done.receipt.level == simulated.receipt.level
            assert done.receipt.blocked[: len(simulated.receipt.blocked)] == simulated.receipt.blocked
            if preview.error is not None:
                assert error is not None
                assert (type(error), error.message) == (type(preview.error), preview.error.message)
                assert not any(port.asked for port in ports)
                return
            called = [(each.provider, each.model) for each in done.receipt.attempts]
            steps = [(step.provider, step.model) for step in preview.plan.steps]
            assert called[0] == steps[0]
            assert list(dict.fromkeys(called)) == [step for step in steps if step in called]
            for port in ports:
                step = next((step for step in preview.plan.steps if step.provider == port.name), None)
                assert step is not None or not port.asked
                if step is not None and port.asked and step.redact:
                    assert "joe.smith" not in port.texts

    run(work)


# --- what is known of providers ---------------------------------------------------------------------------------------


class Slow(Told):
    """Takes until it is let go to say what it offers."""

    def __init__(self, name: str, **more: Any) -> None:
        super().__init__(name, **more)
        self.go = asyncio.Event()
        self.lists = 0

    async def models(self, *, timeout: float) -> list[ModelInfo]:
        self.lists += 1
        await self.go.wait()
        return await super().models(timeout=timeout)


def test_nobody_waits_for_what_a_hosted_provider_lists(tmp_path: Path) -> None:
    async def work() -> None:
        cloud = Slow("cloud")
        made = Made(tmp_path, cloud, Told("here"))
        assert (await made.gateway.answer(Ask("chat", HELLO))).provider == "here"
        cloud.go.set()
        await made.gateway.close()

    run(work)


def test_a_name_that_only_a_hosted_list_may_have_waits_for_it(tmp_path: Path) -> None:
    async def work() -> None:
        cloud = Slow("cloud")
        config = GatewayConfig((ProviderConfig("cloud", "built_in"),), discover=False)
        ports: dict[str, ProviderPort] = {"cloud": cloud}
        scanner = SecretScanner()
        gateway = Gateway(config, tmp_path, scanner=scanner, ports=ports, locate=Made.locate, count=words)
        task = asyncio.create_task(gateway.answer(Ask("chat", HELLO, model="built-in", trust=Trust.PUBLIC)))
        while not cloud.lists:
            await asyncio.sleep(0)
        cloud.go.set()
        assert (await task).provider == "cloud"
        assert cloud.lists == 1
        await gateway.close()

    run(work)


@pytest.mark.parametrize("where", ["local", "hosted"])
def test_a_stream_that_the_new_mode_allows_goes_on_and_another_ends(tmp_path: Path, peers: Peers, where: str) -> None:
    go_on = threading.Event()

    def play(handler: Any, asked: Any) -> None:
        if not asked.path.endswith("/chat/completions"):
            return peers.well(handler, asked)
        handler.begin_stream()
        handler.event(peers.chunk("Hello"))
        go_on.wait(20)
        handler.event(peers.chunk(", world"))
        handler.event(peers.chunk(finish="stop"))
        return handler.event("[DONE]")

    async def locate(_: ProviderConfig) -> Locality:
        return Locality(where == "local", "the test says so")

    async def work() -> None:
        config = GatewayConfig(
            providers=(ProviderConfig("one", "openai_compatible", url=peer.base, models=(ModelConfig("m"),)),),
            discover=False,
        )
        gateway = Gateway(config, tmp_path, scanner=SecretScanner(), locate=locate, count=words)
        stream = gateway.stream(Ask("chat", HELLO, trust=Trust.PUBLIC))
        assert await anext(stream) == Piece("Hello")
        await gateway.set_mode("local")
        if where == "local":
            go_on.set()
            *_, answered = [piece async for piece in stream]
            assert isinstance(answered, Answered)
            assert answered.text == "Hello, world"
        else:
            with pytest.raises(AlgError) as caught:
                await anext(stream)
            assert gateway.receipts.show(caught.value.details["receipt"]).receipt.outcome == "incomplete"
        await gateway.close()

    peer = peers.start(play)
    try:
        run(work)
    finally:
        go_on.set()


def test_a_local_server_that_was_just_started_is_found_by_the_next_request(tmp_path: Path, peers: Peers) -> None:
    found: list[FoundServer] = []

    async def search() -> list[FoundServer]:
        return found

    async def work(url: str) -> None:
        gateway = Gateway(GatewayConfig(), tmp_path, scanner=SecretScanner(), search=search, count=words, clock=times)
        with pytest.raises(Unavailable) as caught:
            await gateway.answer(Ask("chat", HELLO))
        assert "looked for local servers at their usual ports" in caught.value.message
        found.append(FoundServer("openai", address_of(url)))
        times.at += 2
        answered = await gateway.answer(Ask("chat", HELLO))
        assert answered.text == "Hello, wide world."
        assert answered.provider.startswith("local-")
        await gateway.close()

    times = Times()
    url = peers.start().base
    run(lambda: work(url))
