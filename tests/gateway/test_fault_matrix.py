"""Every fault of a provider, whole and streamed, at each level, with and without a hosted one to fall back on.

Real servers fail: aimock where it can, stdlib servers where it takes malice. The hosted one is a second aimock; its
journal has all that ever reached it. Waiting is told to the test and not done.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

import pytest

from adaptive_llm_gateway.core import AlgError, SecretScanner, Trust
from adaptive_llm_gateway.gateway import (
    Answered,
    Ask,
    Gateway,
    GatewayConfig,
    HttpProvider,
    Locality,
    Message,
    ModelConfig,
    Piece,
    ProviderConfig,
    ProviderPort,
    ProviderSpec,
    Receipt,
    Route,
    address_of,
    locality_of,
)

if TYPE_CHECKING:
    from aimock import AIMock, AIMocks
    from conftest import Asked, Handler, Peer, Peers

Result = TypeVar("Result")
Way = Literal["unary", "stream"]
Cloud = Literal["alone", "cloud", "cloud-consented"]
WAYS: Final[tuple[Way, ...]] = ("unary", "stream")
NEAR, FAR = "Near: hello, wide world.", "Far: another answer."
LONGEST_WAIT = 60.0  # what the gateway waits at most because somebody asks for it
MOST_BYTES = 500_000  # of an answer, where the fault is that it has more
ROUTE = "cell"
FAR_SCRIPT: Final = (
    {"match": {"model": "m"}, "response": {"content": FAR}},
    {"match": {"model": "e"}, "response": {"embedding": [0.5, -0.25, 0.125]}},
    {"match": {"model": "500"}, "response": {"content": FAR}, "chaos": {"dropRate": 1}},
)


# --- the faults -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    """A way of a provider to fail.

    Attributes:
        kinds: what the failure may be called, of a whole answer and of a stream.
        again: the same provider is asked again, as often as the rules say.
        started: a stream gives pieces before it fails.
        play: of a stdlib server; without it, aimock plays it for the model of that name.
        hint: seconds that it asks to wait, from and to.
    """

    name: str
    kinds: dict[Way, set[str]]
    again: bool = True
    started: bool = False
    play: Callable[[Handler, Asked, Peers], None] | None = None
    hint: tuple[float, float] | None = None
    timeout: float = 30.0
    nobody: bool = False
    small: bool = False
    script: dict[str, Any] = field(default_factory=dict[str, Any])

    def seconds(self, way: Way) -> float:
        """How long the gateway waits for it; longer where pieces have to come first, also on a busy machine."""
        return 2.0 if self.timeout < 1 and self.started and way == "stream" else self.timeout

    def attempts(self, way: Way) -> int:
        """Calls of the provider until the request goes elsewhere, or is given up."""
        return 3 if self.again and not (self.started and way == "stream") else 1


def both(*kinds: str) -> dict[Way, set[str]]:
    return {"unary": set(kinds), "stream": set(kinds)}


def limited(name: str, header: object, low: float | None = None, high: float | None = None) -> Fault:
    """HTTP 429 by aimock, with that in `Retry-After`."""
    error = {"message": "slow down", "type": "rate_limit_error"}
    hint = None if low is None else (low, high if high is not None else low)
    return Fault(
        f"429-{name}",
        both("rate_limited"),
        again=low is None or low <= LONGEST_WAIT,
        hint=hint,
        script={"response": {"error": error, "status": 429, "retryAfter": header}},
    )


def soon(handler: Handler, asked: Asked, peers: Peers) -> None:
    """HTTP 429 with a date half a minute ahead."""
    date = datetime.now(UTC) + timedelta(seconds=30)
    handler.give({}, 429, retry_after=format_datetime(date, usegmt=True))


def hang(handler: Handler, asked: Asked, peers: Peers) -> None:
    handler.hang()


def cut(handler: Handler, asked: Asked, peers: Peers) -> None:
    """Promises more than it sends."""
    handler.send_response(200)
    handler.send_header("content-type", "application/json")
    handler.send_header("content-length", "99999")
    handler.end_headers()
    handler.wfile.write(b'{"choices": [{"message": {"content": "' + NEAR.encode())
    handler.close_connection = True


def stall(handler: Handler, asked: Asked, peers: Peers) -> None:
    """Begins to answer, and then says nothing."""
    handler.begin_stream()
    if asked.json.get("stream"):
        handler.event(peers.chunk("Near: "))
        handler.event(peers.chunk("hello"))
    else:
        handler.wfile.write(b'{"choices": [')
        handler.wfile.flush()
    handler.hang()


def malformed(handler: Handler, asked: Asked, peers: Peers) -> None:
    """A line that is no JSON, and then goes on as if nothing were."""
    if not asked.json.get("stream"):
        handler.give(b'{"choices": [{"message": {"content": "Near')
        return
    handler.begin_stream()
    handler.event(peers.chunk("Near: "))
    handler.event('{"choices": [{"delta": {"content": "hel')
    handler.event(peers.chunk("wide world."))
    handler.event(peers.chunk(finish="stop"))
    handler.event("[DONE]")


def unfinished(handler: Handler, asked: Asked, peers: Peers) -> None:
    """Ends as if all were well, without saying why it ended."""
    if not asked.json.get("stream"):
        handler.give(peers.completion(NEAR, finish=None))
        return
    handler.begin_stream()
    handler.event(peers.chunk(NEAR))
    handler.event("[DONE]")


def oversized(handler: Handler, asked: Asked, peers: Peers) -> None:
    handler.begin_stream()
    while True:
        handler.event(peers.chunk("Near " * 10_000)) if asked.json.get("stream") else handler.wfile.write(b" " * 65_536)


FAULTS: Final = (
    limited("0", 0, 0.0),
    limited("1", 1, 1.0),
    limited("59", 59, 59.0),
    limited("61", 61, 61.0),
    limited("86401", 86401, 86401.0),
    limited("far-date", "Fri, 01 Jan 2100 00:00:00 GMT", 7 * 86_400.0),
    limited("past-date", "Thu, 01 Jan 2015 00:00:00 GMT", 0.0),
    limited("garbage", "in a while"),
    Fault("429-date", both("rate_limited"), play=soon, hint=(20.0, 30.0)),
    Fault("500", both("server"), script={"chaos": {"dropRate": 1}}),
    Fault("refused", both("refused"), again=False, nobody=True),
    Fault("hang", both("timeout"), again=False, play=hang, timeout=0.3),
    Fault("disconnect", both("broken"), script={"chaos": {"disconnectRate": 1}}),
    # aimock writes so fast that all would be lost with the connection, without the pause. Its first piece has no text.
    Fault(
        "cut-after-1",
        {"unary": set(), "stream": {"broken", "incomplete"}},
        script={"truncateAfterChunks": 1, "latency": 15},
    ),
    Fault(
        "cut-after-3",
        {"unary": set(), "stream": {"incomplete"}},
        started=True,
        script={"truncateAfterChunks": 3, "latency": 15},
    ),
    Fault("cut-body", {"unary": {"broken"}, "stream": set()}, play=cut),
    Fault("stall", both("timeout"), again=False, started=True, play=stall, timeout=0.3),
    Fault("malformed-body", both("broken"), script={"chaos": {"malformedRate": 1}}),
    Fault("malformed-line", both("broken", "incomplete"), started=True, play=malformed),
    Fault("no-finish", both("broken", "incomplete"), started=True, play=unfinished),
    Fault("307", both("redirect"), again=False),
    Fault("oversized", both("broken"), started=True, play=oversized, small=True),
)


@dataclass(frozen=True)
class Cell:
    """One of the matrix."""

    fault: Fault
    way: Way
    trust: Trust
    cloud: Cloud

    @property
    def prompt(self) -> str:
        return f"What is a lease? I ask for {self}."

    @property
    def may_leave(self) -> bool:
        """Whether the hosted provider may see the prompt at all."""
        allowed = self.trust is Trust.PUBLIC or (self.trust is Trust.INTERNAL and self.cloud == "cloud-consented")
        return allowed and self.cloud != "alone"

    @property
    def leaves(self) -> bool:
        """Whether it is to answer: not where a part of the other's answer was given already."""
        return self.may_leave and not (self.way == "stream" and self.fault.started)

    def __str__(self) -> str:
        return f"{self.fault.name}-{self.way}-{self.trust.value}-{self.cloud}"


def cells() -> Iterator[Cell]:
    for fault, way, trust in itertools.product(FAULTS, WAYS, Trust):
        if fault.kinds[way]:
            yield Cell(fault, way, trust, "alone")
            yield Cell(fault, way, trust, "cloud")
            if trust is not Trust.PUBLIC:  # a consent, and what it cannot change
                yield Cell(fault, way, trust, "cloud-consented")


# --- the servers ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def near(aimocks: AIMocks) -> AIMock:
    """A local provider that fails by the name of the model."""
    script = [{"match": {"model": fault.name}, "response": {"content": NEAR}, **fault.script} for fault in FAULTS]
    error = {"message": "slow down", "type": "rate_limit_error"}
    for way, seconds in itertools.product(WAYS, (7, 86_401)):  # the first time, and then it answers
        model = {"model": f"once-{seconds}-{way}"}
        first = {"error": error, "status": 429, "retryAfter": seconds}
        script += [{"match": {**model, "sequenceIndex": 0}, "response": first}]
        script += [{"match": model, "response": {"content": NEAR}}]
    return aimocks.start(script)


@pytest.fixture(scope="module")
def far(aimocks: AIMocks) -> Iterator[AIMock]:
    """The hosted one. In the end its journal is read once more, whole."""
    mock = aimocks.start(FAR_SCRIPT)
    yield mock
    heard = [entry["body"] for entry in mock.journal() if entry["method"] == "POST"]
    kept = ["-confidential-", "-secret-", "-internal-alone.", "-internal-cloud."]
    assert not [body for body in heard if any(sign in str(body) for sign in kept)]


@pytest.fixture(scope="module")
def elsewhere(aimocks: AIMocks, other_address: str) -> AIMock:
    """A server that is not on the loopback."""
    return aimocks.start(FAR_SCRIPT, host=other_address)


class Time:
    """A clock that waiting moves, and that keeps what was waited for."""

    def __init__(self) -> None:
        self.waits: list[float] = []
        self._more = 0.0

    def clock(self) -> float:
        return time.monotonic() + self._more

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self._more += seconds
        await asyncio.sleep(0)


@dataclass
class Outcome:
    """What came of a request."""

    pieces: list[str] = field(default_factory=list[str])
    answered: Answered | None = None
    error: AlgError | None = None

    @property
    def receipt(self) -> str:
        if self.answered is not None:
            return self.answered.receipt
        assert self.error is not None
        return str(self.error.details["receipt"])


async def locate(config: ProviderConfig) -> Locality:
    """Where a provider is: as proved, but that the one named `far` counts as somewhere else."""
    if config.name == "far":
        return Locality(False, "in these tests it plays a hosted one")
    assert config.url is not None
    return await locality_of(address_of(config.url))


def provider(name: str, base: str, model: str, *, timeout: float = 30.0) -> ProviderConfig:
    known = ModelConfig(model, chat=True, stream=True)
    return ProviderConfig(name, "openai_compatible", url=base, timeout=timeout, models=(known,))


async def asked(gateway: Gateway, ask: Ask, way: Way) -> Outcome:
    """Ask, whichever way; errors are a part of the outcome."""
    outcome = Outcome()
    try:
        if way == "unary":
            outcome.answered = await gateway.answer(ask)
        else:
            async for part in gateway.stream(ask):
                assert outcome.answered is None, "nothing comes behind the end"
                if isinstance(part, Piece):
                    outcome.pieces.append(part.text)
                else:
                    outcome.answered = part
    except AlgError as error:
        outcome.error = error
    return outcome


def using(
    folder: Path,
    providers: tuple[ProviderConfig, ...],
    work: Callable[[Gateway], Awaitable[Result]],
    *,
    route: tuple[str, ...],
    times: Time,
    ports: dict[str, ProviderPort] | None = None,
) -> Result:
    async def run() -> Result:
        gateway = Gateway(
            GatewayConfig(providers=providers, routes=(Route(ROUTE, route),), discover=False),
            folder,
            scanner=SecretScanner(),
            ports=ports,
            locate=locate,
            count=lambda text: len(text) // 4,
            clock=times.clock,
            sleep=times.sleep,
            jitter=lambda: 0.5,
        )
        await gateway.open()
        try:
            return await work(gateway)
        finally:
            await gateway.close()
            for port in (ports or {}).values():
                await port.close()

    return asyncio.run(run())


def question(prompt: str, trust: Trust, **more: Any) -> Ask:
    return Ask("chat", (Message("user", prompt),), model=ROUTE, trust=trust, **more)


def heard_by(mock: AIMock, since: int, prompt: str) -> list[Any]:
    """The requests to aimock that have the prompt."""
    return [entry for entry in mock.journal(since) if prompt in str(entry["body"])]


@dataclass
class Near:
    """The failing provider of a cell: where it is, the model that fails, and how often it was asked."""

    base: str
    model: str
    calls: Callable[[], int]


def failing(cell: Cell, near: AIMock, peers: Peers) -> Near:
    fault = cell.fault
    if fault.nobody:
        peer = peers.start()
        peers.stop()
        peers.__init__()
        return Near(peer.base, "m", lambda: len(peer.asked))
    if fault.name == "307":
        stranger = peers.start()

        def redirect(handler: Handler, asked: Asked, peers: Peers) -> None:
            handler.give({}, 307, location=f"{stranger.base}/chat/completions")

        fault = Fault(fault.name, fault.kinds, play=redirect)
        peer = peer_of(fault, peers)
        return Near(peer.base, "m", lambda: calls_of(peer) + 100 * len(stranger.asked))
    if fault.play is not None:
        peer = peer_of(fault, peers)
        return Near(peer.base, "m", lambda: calls_of(peer))
    since = near.mark()
    return Near(near.base, fault.name, lambda: len(heard_by(near, since, cell.prompt)))


def peer_of(fault: Fault, peers: Peers) -> Peer:
    """A server that lists its models well, and fails in a chat."""

    def play(handler: Handler, asked: Asked) -> None:
        if asked.path.endswith("/chat/completions"):
            assert fault.play is not None
            fault.play(handler, asked, peers)
        else:
            peers.well(handler, asked)

    return peers.start(play)


def calls_of(peer: Peer) -> int:
    return sum(asked.path.endswith("/chat/completions") for asked in peer.asked)


# --- the matrix -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", [pytest.param(cell, id=str(cell)) for cell in cells()])
def test_a_fault_ends_as_it_must_and_nothing_leaves_that_may_not(
    cell: Cell, near: AIMock, far: AIMock, peers: Peers, tmp_path: Path
) -> None:
    fault, times = cell.fault, Time()
    bad = failing(cell, near, peers)
    providers = [provider("near", bad.base, bad.model, timeout=fault.seconds(cell.way))]
    route = [f"near/{bad.model}"]
    if cell.cloud != "alone":
        providers.append(provider("far", far.base, "m"))
        route.append("far/m")
    ports: dict[str, ProviderPort] = {}
    if fault.small:
        spec = ProviderSpec("near", address_of(bad.base), loopback_only=True)
        ports["near"] = HttpProvider(spec, most_bytes=MOST_BYTES)
    since = far.mark()

    async def work(gateway: Gateway) -> tuple[Outcome, float]:
        if cell.cloud == "cloud-consented":
            gateway.ledger.grant(provider="far", level=cell.trust, now=datetime.now(UTC), by="the test")
        outcome = await asked(gateway, question(cell.prompt, cell.trust), cell.way)
        held = {state.name: state.limited_for for state in await gateway.models()}
        filed = gateway.receipts.list()
        assert [each.receipt.id for each in filed] == [outcome.receipt]
        check = gateway.receipts.verify()
        assert check.holds
        assert not check.unfinished
        assert_receipt(filed[0].receipt, cell, outcome)
        return outcome, held["near"]

    outcome, held = using(tmp_path, tuple(providers), work, route=tuple(route), times=times, ports=ports)

    heard = heard_by(far, since, cell.prompt)
    assert len(heard) == (1 if cell.leaves else 0)
    assert bad.calls() == (0 if fault.nobody else fault.attempts(cell.way))
    assert_answer(cell, outcome)
    assert_waits(cell, times.waits, held)


def assert_answer(cell: Cell, outcome: Outcome) -> None:
    text = "".join(outcome.pieces)
    if cell.leaves:
        assert outcome.error is None
        assert outcome.answered is not None
        assert (outcome.answered.text, outcome.answered.provider) == (FAR, "far")
        assert outcome.answered.provider_class == "hosted"
        assert text == (FAR if cell.way == "stream" else "")
        return
    assert outcome.answered is None, "a part was returned as whole"
    assert outcome.error is not None
    assert outcome.error.details["kind"] in cell.fault.kinds[cell.way]
    if cell.way == "stream" and cell.fault.started:
        assert text.startswith("Near")
        assert "Far" not in text
    else:
        assert not text


def assert_waits(cell: Cell, waits: list[float], held: float) -> None:
    """What was asked for is waited for, within the window; more than that is left alone, for that long."""
    fault = cell.fault
    assert len(waits) == fault.attempts(cell.way) - 1
    assert all(0 < wait <= LONGEST_WAIT for wait in waits)
    if fault.hint is None:
        assert held == 0
        return
    low, high = fault.hint
    assert all(wait >= low for wait in waits)
    if low > LONGEST_WAIT:
        assert low - 60 < held <= high
    else:
        assert max(low - 10, 0) <= held <= high


def assert_receipt(receipt: Receipt, cell: Cell, outcome: Outcome) -> None:
    fault = cell.fault
    calls = [(attempt.provider, attempt.outcome) for attempt in receipt.attempts]
    count = fault.attempts(cell.way)
    assert {name for name, _ in calls[:count]} == {"near"}
    assert {kind for _, kind in calls[:count]} <= fault.kinds[cell.way]
    assert calls[count:] == ([("far", "ok")] if cell.leaves else [])
    assert receipt.level.level is cell.trust
    assert receipt.request.messages[0].text == cell.prompt
    if cell.leaves:
        assert receipt.outcome == "answered"
    else:
        assert receipt.outcome == ("incomplete" if outcome.pieces else "failed")
    places = {step.provider: step for step in receipt.route}
    assert places["near"].where == "local"
    if cell.cloud == "alone":
        assert set(places) == {"near"}
    else:
        assert places["far"].where == "hosted"
        assert places["far"].taken is cell.may_leave
        assert bool(receipt.consents) is (cell.leaves and cell.cloud == "cloud-consented")


# --- what one cell does not show ------------------------------------------------------------------------------------


def both_providers(near: AIMock, far: AIMock, model: str) -> tuple[ProviderConfig, ProviderConfig]:
    return provider("near", near.base, model), provider("far", far.base, "m")


@pytest.mark.parametrize("way", WAYS)
def test_a_provider_that_asks_for_a_moment_is_given_it_and_asked_again(
    near: AIMock, far: AIMock, way: Way, tmp_path: Path
) -> None:
    model, times, since = f"once-7-{way}", Time(), far.mark()
    outcome = using(
        tmp_path,
        both_providers(near, far, model),
        lambda gateway: asked(gateway, question(f"A moment, {way}.", Trust.PUBLIC), way),
        route=(f"near/{model}", "far/m"),
        times=times,
    )
    assert outcome.answered is not None
    assert (outcome.answered.text, outcome.answered.provider, outcome.answered.attempts) == (NEAR, "near", 2)
    assert len(times.waits) == 1
    assert 7 <= times.waits[0] < 9
    assert not heard_by(far, since, "A moment")


@pytest.mark.parametrize("way", WAYS)
def test_a_provider_that_asks_for_a_day_is_left_alone_for_it(
    near: AIMock, far: AIMock, way: Way, tmp_path: Path
) -> None:
    model, times, since = f"once-86401-{way}", Time(), near.mark()

    async def work(gateway: Gateway) -> None:
        first = await asked(gateway, question(f"A day, {way}.", Trust.PUBLIC), way)
        assert first.answered is not None
        assert first.answered.provider == "far"
        second = await asked(gateway, question(f"A day, {way}.", Trust.PUBLIC), way)
        assert second.answered is not None
        assert (second.answered.provider, second.answered.attempts) == ("far", 1)
        third = await asked(gateway, question(f"A day, {way}.", Trust.SECRET), way)
        assert third.error is not None
        assert 86_000 < third.error.details["retry_in"] <= 86_401
        assert len(heard_by(near, since, "A day")) == 1
        await times.sleep(86_402)
        fourth = await asked(gateway, question(f"A day, {way}.", Trust.SECRET), way)
        assert fourth.answered is not None
        assert fourth.answered.provider == "near"
        outcomes = [filed.receipt.outcome for filed in gateway.receipts.list()]
        assert outcomes == ["answered", "refused", "answered", "answered"]

    using(tmp_path, both_providers(near, far, model), work, route=(f"near/{model}", "far/m"), times=times)
    assert times.waits == [86_402]  # the test's own
    assert len(heard_by(near, since, "A day")) == 2


@pytest.mark.parametrize("way", WAYS)
def test_a_wait_that_outlasts_the_deadline_is_not_begun(near: AIMock, far: AIMock, way: Way, tmp_path: Path) -> None:
    times = Time()
    outcome = using(
        tmp_path,
        both_providers(near, far, "429-59"),
        lambda gateway: asked(gateway, question("In half a minute.", Trust.PUBLIC, deadline=30.0), way),
        route=("near/429-59", "far/m"),
        times=times,
    )
    assert outcome.answered is not None
    assert outcome.answered.provider == "far"
    assert not times.waits


@pytest.mark.parametrize("way", WAYS)
def test_without_fallback_nobody_else_is_asked(near: AIMock, far: AIMock, way: Way, tmp_path: Path) -> None:
    since = far.mark()
    outcome = using(
        tmp_path,
        both_providers(near, far, "500"),
        lambda gateway: asked(gateway, question("To you alone.", Trust.PUBLIC, fallback=False), way),
        route=("near/500", "far/m"),
        times=Time(),
    )
    assert outcome.error is not None
    assert outcome.error.details["kind"] == "server"
    assert not heard_by(far, since, "To you alone")


@pytest.mark.parametrize("way", WAYS)
def test_where_all_fail_the_error_and_the_one_receipt_name_each(
    near: AIMock, far: AIMock, way: Way, tmp_path: Path
) -> None:
    async def work(gateway: Gateway) -> tuple[Outcome, list[Receipt]]:
        outcome = await asked(gateway, question("Anybody?", Trust.PUBLIC), way)
        return outcome, [filed.receipt for filed in gateway.receipts.list()]

    providers = (provider("near", near.base, "500"), provider("far", far.base, "500"))
    outcome, receipts = using(tmp_path, providers, work, route=("near/500", "far/500"), times=Time())
    assert outcome.error is not None
    assert "near" in outcome.error.message
    assert "far" in outcome.error.message
    assert [receipt.id for receipt in receipts] == [outcome.receipt]
    assert [attempt.provider for attempt in receipts[0].attempts] == ["near"] * 3 + ["far"] * 3
    assert receipts[0].outcome == "failed"


@pytest.mark.parametrize("trust", list(Trust))
def test_texts_to_be_embedded_leave_no_more_than_others_do(
    trust: Trust, near: AIMock, far: AIMock, peers: Peers, tmp_path: Path
) -> None:
    bad = peers.start(lambda handler, asked: handler.give({}, 500))
    known = ModelConfig("e", chat=False, embed=True)
    providers = tuple(
        ProviderConfig(name, "openai_compatible", url=base, models=(known,))
        for name, base in (("near", bad.base), ("far", far.base))
    )
    since, text = far.mark(), f"Embed this, it is {trust.value}."
    outcome = using(
        tmp_path,
        providers,
        lambda gateway: asked(gateway, Ask("embed", texts=(text, text), model=ROUTE, trust=trust), "unary"),
        route=("near/e", "far/e"),
        times=Time(),
    )
    assert sum(asked.path.endswith("/embeddings") for asked in bad.asked) == 3
    if trust is Trust.PUBLIC:
        assert outcome.answered is not None
        assert outcome.answered.vectors == ((0.5, -0.25, 0.125),) * 2
        assert len(heard_by(far, since, text)) == 1
    else:
        assert outcome.error is not None
        assert not heard_by(far, since, text)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("trust", list(Trust))
def test_a_server_at_another_address_of_this_machine_counts_as_hosted_by_that_alone(
    trust: Trust, way: Way, near: AIMock, elsewhere: AIMock, tmp_path: Path
) -> None:
    since = elsewhere.mark()

    async def work(gateway: Gateway) -> Outcome:
        classes = {state.name: state.provider_class for state in await gateway.models()}
        assert classes == {"near": "local", "other": "hosted"}
        return await asked(gateway, question(f"Elsewhere, {trust.value}, {way}.", trust), way)

    providers = (provider("near", near.base, "500"), provider("other", elsewhere.base, "m"))
    outcome = using(tmp_path, providers, work, route=("near/500", "other/m"), times=Time())
    if trust is Trust.PUBLIC:
        assert outcome.answered is not None
        assert (outcome.answered.provider, outcome.answered.provider_class) == ("other", "hosted")
        assert len(heard_by(elsewhere, since, "Elsewhere")) == 1
    else:
        assert outcome.error is not None
        assert not heard_by(elsewhere, since, "Elsewhere")
