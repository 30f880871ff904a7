"""A purse that several requests share: what is held before each call, and what is put right after it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from gateway_made import HELLO, PRICED, Made, Told, failing, run

from adaptive_llm_gateway.core import AlgError, StorageError, Trust
from adaptive_llm_gateway.gateway import Answered, Ask, Gateway, Message, OverBudget
from adaptive_llm_gateway.server._authentication import Admitted
from adaptive_llm_gateway.server._quotas import Quotas


@dataclass
class Out:
    """What one call has taken out."""

    purse: Shared
    tokens: int
    micro_cents: int

    def settle(self, tokens: int, micro_cents: int) -> None:
        self.purse.held.remove(self)
        self.purse.used.append((tokens, micro_cents))

    def keep(self) -> None:
        self.settle(self.tokens, self.micro_cents)


@dataclass
class Shared:
    """A purse with so many tokens and so much money."""

    tokens: int | None = None
    money: int | None = None
    held: list[Out] = field(default_factory=list["Out"])
    used: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    broken: bool = False

    @property
    def bounds_tokens(self) -> bool:
        return self.tokens is not None

    @property
    def micro_cents(self) -> int | None:
        return None

    async def take(self, tokens: int, micro_cents: int | None) -> Out:
        await asyncio.sleep(0)
        if self.broken:
            raise StorageError("it cannot be noted")
        why = self.short(tokens, micro_cents)
        if why is not None:
            raise OverBudget(why)
        self.held.append(Out(self, tokens, micro_cents or 0))
        return self.held[-1]

    def short(self, tokens: int, micro_cents: int | None) -> str | None:
        out = [(each.tokens, each.micro_cents) for each in self.held] + self.used
        if self.tokens is not None and tokens > self.tokens - sum(each[0] for each in out):
            return "too many tokens"
        if self.money is not None and (micro_cents is None or micro_cents > self.money - sum(each[1] for each in out)):
            return "too dear"
        return None


ASK = Ask("chat", HELLO, trust=Trust.PUBLIC, max_tokens=10)
"""It may take 16 tokens, and cost 1,600 micro-cents."""


async def by_pieces(gateway: Gateway, ask: Ask, purse: Shared) -> Answered:
    found = [piece async for piece in gateway.stream(ask, purse=purse)][-1]
    assert isinstance(found, Answered)
    return found


@pytest.mark.parametrize("stream", [False, True])
def test_what_was_held_is_put_right_by_what_the_provider_says(tmp_path: Path, stream: bool) -> None:
    async def work() -> None:
        purse = Shared(tokens=1_000, money=100_000)
        made = Made(tmp_path, Told("cloud"), prices=PRICED)
        answered = await (by_pieces(made.gateway, ASK, purse) if stream else made.gateway.answer(ASK, purse=purse))
        usage = answered.usage
        assert usage.input_tokens is not None
        assert usage.output_tokens is not None
        assert purse.held == []
        assert purse.used == [(usage.input_tokens + usage.output_tokens, answered.cost.micro_cents)]

    run(work)


@pytest.mark.parametrize("bound", [{"tokens": 15}, {"money": 1_599}])
def test_what_is_more_than_is_left_is_refused_before_anybody_is_called_and_has_a_receipt(
    tmp_path: Path, bound: dict[str, Any]
) -> None:
    async def work() -> None:
        cloud, purse = Told("cloud"), Shared(**bound)
        made = Made(tmp_path, cloud, prices=PRICED)
        with pytest.raises(OverBudget) as caught:
            await made.gateway.answer(ASK, purse=purse)
        assert not cloud.asked
        filed = made.gateway.receipts.show(caught.value.details["receipt"])
        assert (filed.receipt.outcome, filed.receipt.cost.micro_cents) == ("refused", 0)
        assert (purse.held, purse.used) == ([], [])
        preview = await made.gateway.preview(ASK, purse=purse)
        assert isinstance(preview.error, OverBudget)
        enough = Shared(**{name: value + 1 for name, value in bound.items()})
        assert (await made.gateway.preview(ASK, purse=enough)).error is None
        assert enough.held == []
        assert (await made.gateway.answer(ASK, purse=enough)).text

    run(work)


def test_requests_side_by_side_do_not_take_the_same_money_twice(tmp_path: Path) -> None:
    async def work() -> None:
        cloud, purse = Told("cloud"), Shared(money=5 * 1_600 + 1_599)
        made = Made(tmp_path, cloud, prices=PRICED)
        cloud.hangs = True
        tasks = [asyncio.create_task(made.gateway.answer(ASK, purse=purse)) for _ in range(20)]
        while sum(task.done() for task in tasks) < 15 or len(cloud.asked) < 5:
            await asyncio.sleep(0)
        assert len(cloud.asked) == len(purse.held) == 5
        for task in tasks:
            task.cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert sum(isinstance(each, OverBudget) for each in done) == 15
        assert sum(isinstance(each, asyncio.CancelledError) for each in done) == 5
        # What was cancelled may have cost all that was held for it.
        assert purse.held == []
        assert purse.used == [(16, 1_600)] * 5

    run(work)


def test_a_call_that_could_not_cost_anything_gives_back_what_was_held(tmp_path: Path) -> None:
    async def work() -> None:
        purse = Shared(tokens=1_000)
        made = Made(tmp_path, Told("cloud", failures=[failing("refused")]), Told("cloud-two"), prices=PRICED)
        answered = await made.gateway.answer(ASK, purse=purse)
        assert answered.attempts == 2
        assert purse.used[0] == (0, 0)
        assert purse.used[1][0] > 0

    run(work)


def test_a_call_that_may_have_cost_something_counts_as_it_was_held(tmp_path: Path) -> None:
    async def work() -> None:
        purse = Shared(tokens=1_000, money=100_000)
        made = Made(tmp_path, Told("cloud", failures=[failing("incomplete")] * 9), prices=PRICED)
        with pytest.raises(AlgError):
            await made.gateway.answer(ASK, purse=purse)
        assert purse.held == []
        assert purse.used
        assert set(purse.used) == {(16, 1_600)}

    run(work)


def test_a_stream_that_somebody_leaves_counts_as_it_was_held(tmp_path: Path) -> None:
    async def work() -> None:
        purse = Shared(tokens=1_000)
        stream = Made(tmp_path, Told("cloud"), prices=PRICED).gateway.stream(ASK, purse=purse)
        await anext(stream)
        assert len(purse.held) == 1
        await stream.aclose()
        assert (purse.held, purse.used) == ([], [(16, 1_600)])

    run(work)


def test_what_the_first_of_the_plan_may_take_and_is_not_left_does_not_keep_the_next_from_it(tmp_path: Path) -> None:
    async def work() -> None:
        cloud, here = Told("cloud"), Told("here")
        made = Made(tmp_path, cloud, here, prices=PRICED, routes=())
        ask = Ask("chat", HELLO, trust=Trust.PUBLIC, max_tokens=10)
        answered = await made.gateway.answer(ask, purse=Shared(money=0))
        assert answered.provider == "here"
        assert not cloud.asked

    run(work)


def test_where_tokens_are_bounded_no_answer_is_without_an_end(tmp_path: Path) -> None:
    async def work() -> None:
        here = Told("here")
        made = Made(tmp_path, here)
        await made.gateway.answer(Ask("chat", HELLO), purse=Shared(tokens=10_000))
        await made.gateway.answer(Ask("chat", HELLO), purse=Shared())
        assert [asked.max_tokens for asked in here.asked if not isinstance(asked, list)] == [1_024, None]

    run(work)


def test_what_cannot_be_noted_is_not_sent(tmp_path: Path) -> None:
    async def work() -> None:
        here = Told("here")
        made = Made(tmp_path, here)
        with pytest.raises(StorageError) as caught:
            await made.gateway.answer(Ask("chat", HELLO), purse=Shared(broken=True))
        assert not here.asked
        assert made.gateway.receipts.show(caught.value.details["receipt"]).receipt.outcome == "refused"

    run(work)


def test_vectors_take_the_tokens_of_what_is_embedded(tmp_path: Path) -> None:
    async def work() -> None:
        purse = Shared(tokens=100)
        made = Made(tmp_path, Told("here"))
        answered = await made.gateway.answer(Ask("embed", texts=("a b c", "d")), purse=purse)
        assert purse.used == [(answered.usage.input_tokens, 0)]
        with pytest.raises(OverBudget):
            await made.gateway.answer(Ask("embed", texts=("a " * 200,)), purse=purse)

    run(work)


def test_a_long_message_is_counted_before_it_is_sent(tmp_path: Path) -> None:
    async def work() -> None:
        here = Told("here")
        made = Made(tmp_path, here)
        long = Ask("chat", (Message("user", "word " * 500),), max_tokens=1)
        with pytest.raises(OverBudget):
            await made.gateway.answer(long, purse=Shared(tokens=500))
        assert not here.asked

    run(work)


def test_the_money_of_a_clients_day_is_never_overdrawn_by_requests_at_once(tmp_path: Path) -> None:
    async def work() -> None:
        cloud, quotas = Told("cloud"), Quotas(tmp_path / "use.db")
        purse = quotas.purse(Admitted(client="laptop", identity="one", cost_per_day=4_000))
        assert purse is not None
        made = Made(tmp_path / "gateway", cloud, prices=PRICED)
        done = await asyncio.gather(*(made.gateway.answer(ASK, purse=purse) for _ in range(10)), return_exceptions=True)
        answered = [each for each in done if isinstance(each, Answered)]
        assert 1 <= len(answered) == len(cloud.asked) < 10
        assert all(isinstance(each, Answered | OverBudget) for each in done)
        cost = sum(each.cost.micro_cents or 0 for each in answered)
        assert 0 < cost <= 4_000
        assert purse.micro_cents == 4_000 - cost
        await quotas.close()

    run(work)
