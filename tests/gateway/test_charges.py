"""Tokens are charged as providers tell them, what was learnt is kept for a replay, and older receipts stay the same."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from gateway_made import HELLO, PRICED, Made, Told, run

from adaptive_llm_gateway.core import (
    Trust,
)
from adaptive_llm_gateway.gateway import (
    Ask,
    Experience,
    ModelAnswer,
    ModelRequest,
    Price,
    PriceTable,
    TokenKind,
    Usage,
)


class Caching(Told):
    """Tells what its cache had."""

    def __init__(self, name: str, usage: Usage) -> None:
        super().__init__(name)
        self.usage = usage

    async def chat(self, request: ModelRequest, *, timeout: float) -> ModelAnswer:
        return replace(await super().chat(request, timeout=timeout), usage=self.usage)


def test_what_a_cache_had_is_charged_by_its_price_and_is_in_the_receipt(tmp_path: Path) -> None:
    async def work() -> None:
        prices: dict[TokenKind, int] = {
            "input": 10**8,
            "cached_input": 10**7,
            "written_input": 125 * 10**6,
            "output": 5 * 10**8,
        }
        table = PriceTable("1", (Price("cloud", "built-in", prices),))
        made = Made(tmp_path, Caching("cloud", Usage(100, 10, 60, 20)), prices=table)
        answered = await made.gateway.answer(Ask("chat", HELLO, trust=Trust.PUBLIC))
        assert answered.cost.micro_cents == 20 * 100 + 60 * 10 + 20 * 125 + 10 * 500
        receipt = made.gateway.receipts.show(answered.receipt).receipt
        assert (receipt.tokens.input, receipt.tokens.cached, receipt.tokens.written) == (100, 60, 20)
        assert receipt.cost.micro_cents == answered.cost.micro_cents
        assert "at most" not in receipt.cost.why

    run(work)


def test_embeddings_cost_what_their_tokens_do_and_nothing_else(tmp_path: Path) -> None:
    async def work() -> None:
        table = PriceTable("1", (Price("cloud", "built-in-embed", {"input": 10**8}),))
        made = Made(tmp_path, Told("cloud"), prices=table)
        answered = await made.gateway.answer(Ask("embed", texts=("one two", "three"), trust=Trust.PUBLIC))
        assert answered.usage.input_tokens == 3
        assert answered.cost.micro_cents == 300
        receipt = made.gateway.receipts.show(answered.receipt).receipt
        assert (receipt.tokens.input, receipt.cost.micro_cents) == (3, 300)

    run(work)


def test_a_receipt_of_before_is_planned_again_as_it_was(tmp_path: Path) -> None:
    async def work() -> None:
        made = Made(tmp_path, Told("cloud"), prices=PRICED)
        (tmp_path / "receipts").mkdir()
        before = Path(__file__).with_name("receipts_of_before.jsonl").read_bytes()
        (tmp_path / "receipts" / "2026-11-21-01.jsonl").write_bytes(before)
        found = made.gateway.receipts.list()
        assert len(found) == 3
        for filed in found:
            assert (await made.gateway.replay(filed.receipt.id)).reproduces

    run(work)


def test_what_was_learnt_is_in_the_receipt_and_a_replay_plans_with_it(tmp_path: Path) -> None:
    async def work() -> None:
        known: list[tuple[Experience, ...]] = [
            (Experience("one", "built-in", "chat", 30, 3, 900), Experience("other", "x", "chat", 30, 3, 900))
        ]
        same = {"one": {"order": 0}, "two": {"order": 0}}
        made = Made(tmp_path, Told("one"), Told("two"), configs=same, experience=lambda: known[0])
        answered = await made.gateway.answer(Ask("chat", HELLO))
        assert answered.provider == "two"
        filed = made.gateway.receipts.show(answered.receipt)
        assert json.loads(json.dumps(filed.inputs))["experience"] == [
            {"provider": "one", "model": "built-in", "purpose": "chat", "calls": 30, "answered": 3, "milliseconds": 900}
        ]
        (second,) = [step for step in filed.receipt.route if step.provider == "one" and step.taken]
        assert "lately 3 of 30 calls were answered, in 300 ms on average" in second.reason
        known[0] = ()  # it is forgotten: what was planned then is still planned so
        replay = await made.gateway.replay(answered.receipt)
        assert replay.reproduces
        assert [step.provider for step in replay.then.steps] == ["two", "one"]
        assert [step.provider for step in replay.now.steps] == ["one", "two"]
        assert replay.differences == (
            "the order was two/built-in, one/built-in and would be one/built-in, two/built-in",
        )
        assert (await made.gateway.answer(Ask("chat", HELLO))).provider == "one"

    run(work)
