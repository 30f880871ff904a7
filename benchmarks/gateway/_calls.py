"""Whole answers and streams, one at a time and many at once: the ways take turns, so that all have the same machine."""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import _home
from _asking import Provider, RawHttp, Sdk, Streamed, Way, Whole, streamed
from _endpoint import endpoint, pieces
from _measure import Row, row

from adaptive_llm_gateway.gateway import Ask, Gateway, Message, Role

ADDED_MS = 2.0
"""What the gateway may add to the same call by raw HTTP, at the median."""
TIMES_SDK = 2.0
_WARM = 20
_TEXT = "What has to be done so that the build is green again, and which test tells that it is? "


@dataclass(frozen=True, slots=True)
class Amount:
    """How much is measured; `quick` is for trying out, its numbers mean nothing."""

    receipts: int = 10_000
    calls: int = 300
    other_calls: int = 150
    streams: int = 200
    rounds: int = 5
    calls_of_a_round: int = 200
    at_once: int = 100
    pieces: int = 200
    starts: int = 10
    hub_calls: int = 200


QUICK = Amount(
    receipts=50,
    calls=4,
    other_calls=2,
    streams=3,
    rounds=2,
    calls_of_a_round=5,
    at_once=5,
    pieces=20,
    starts=2,
    hub_calls=4,
)


def prompt(size: int, number: int) -> str:
    """A prompt of so many characters, unlike the others."""
    return f"{number:06} {_TEXT * (size // len(_TEXT) + 1)}"[:size]


class Conversation(Whole):
    """The gateway, asked with a conversation of 20 messages of which the prompt is all the text."""

    def _ask(self, prompt: str, tokens: int) -> Ask:
        return Ask("chat", _turns(prompt), model=self._model, max_tokens=tokens, client="benchmark")


class RawConversation(RawHttp):
    """The same conversation by raw HTTP."""

    def _messages(self, prompt: str) -> list[dict[str, str]]:
        return [{"role": turn.role, "content": turn.text} for turn in _turns(prompt)]


class SdkConversation(Sdk):
    """The same conversation by the SDK."""

    def _messages(self, prompt: str) -> list[dict[str, str]]:
        return [{"role": turn.role, "content": turn.text} for turn in _turns(prompt)]


def _turns(prompt: str) -> tuple[Message, ...]:
    size = len(prompt) // 20
    texts = [prompt[at * size : (at + 1) * size] for at in range(19)]
    roles: list[Role] = ["user", "assistant"]
    turns = [Message(roles[at % 2], text) for at, text in enumerate([*texts[1:], prompt])]
    return (Message("system", texts[0]), *turns)


async def _took(way: Way, text: str, tokens: int) -> float:
    began = time.perf_counter()
    answer = await way.whole(text, tokens)
    took = time.perf_counter() - began
    if answer != "".join(pieces(text, tokens)):
        raise RuntimeError(f"{way.name} gave another answer than the endpoint")
    return took * 1_000


async def _in_turns(
    ways: Sequence[Way], count: int, measure: Callable[[Way, int], Awaitable[float]], floor: Callable[[], None]
) -> tuple[dict[str, list[float]], list[float]]:
    """Samples of each way in milliseconds, the n-th of all from the same moment, and those of the floor."""
    samples: dict[str, list[float]] = {way.name: [] for way in ways}
    floors: list[float] = []
    for number in range(-_WARM, count):
        first = number % len(ways)
        for way in [*ways[first:], *ways[:first]]:  # whoever comes after the gateway changes
            took = await measure(way, number + _WARM)
            if number >= 0:
                samples[way.name].append(took)
        began = time.perf_counter()
        floor()
        if number >= 0:
            floors.append((time.perf_counter() - began) * 1_000)
    return samples, floors


def _compared(samples: dict[str, list[float]], what: str, *, target: bool) -> list[Row]:
    """A row a way, and what the gateway adds pair by pair."""
    raw, *_, ours = samples
    floor = row(f"{raw}, {what}", "ms", samples[raw], of="floor")
    rows = [floor]
    for name in list(samples)[1:]:
        of = "floor" if name.startswith("any-llm") else "ours"
        rows.append(row(f"{name}, {what}", "ms", samples[name], of=of, against=floor))
    added = [mine - theirs for mine, theirs in zip(samples[ours], samples[raw], strict=True)]
    rows.append(row(f"{ours}, {what}: added to {raw}", "ms", added, target=ADDED_MS if target else None))
    sdk = next((name for name in samples if name.startswith("any-llm")), None)
    if sdk is not None:
        times = [mine / theirs for mine, theirs in zip(samples[ours], samples[sdk], strict=True)]
        rows.append(row(f"{ours}, {what}: times the {sdk}", "×", times, target=TIMES_SDK if target else None))
    return rows


async def calls(root: str, folder: Path, amount: Amount) -> list[Row]:
    """Whole answers: the usual request by all ways, then other requests by raw HTTP and by the gateway."""
    rows: list[Row] = []
    async with AsyncExitStack() as stack:
        made = await _opened(stack, root, folder)
        raw, sdk, whole = RawHttp(root, "desk"), Sdk(root, "desk"), Whole(made, "desk")
        usual: list[Way] = [raw, sdk, Provider(root, "desk"), whole]
        for way in usual[:3]:
            stack.push_async_callback(way.close)
        handle = os.open(folder / "floor", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        stack.callback(os.close, handle)
        line = b"x" * 3_000

        def append() -> None:
            os.write(handle, line)
            getattr(os, "fdatasync", os.fsync)(handle)

        async def of_size(ways: Sequence[Way], size: int, count: int) -> dict[str, list[float]]:
            async def measure(way: Way, number: int) -> float:
                return await _took(way, prompt(size, number), 64)

            samples, floors = await _in_turns(ways, count, measure, append)
            if size == 2_000 and len(ways) == len(usual):
                rows.append(row("3 kB appended to a file, fdatasync", "ms", floors, of="floor"))
            return samples

        rows += _compared(await of_size(usual, 2_000, amount.calls), "2 kB prompt", target=True)
        for size, told in ((100, "100 B prompt"), (20_000, "20 kB prompt")):
            rows += _compared(await of_size([raw, whole], size, amount.other_calls), told, target=False)
        others: list[tuple[str, Sequence[Way]]] = [
            ("model `auto`", [raw, Whole(made, None)]),
            ("hosted, by consent", [raw, Whole(made, "cloud")]),
            ("20 messages", [RawConversation(root, "desk"), SdkConversation(root, "desk"), Conversation(made, "desk")]),
        ]
        stack.push_async_callback(others[-1][1][0].close)
        stack.push_async_callback(others[-1][1][1].close)
        for told, ways in others:
            rows += _compared(await of_size(ways, 2_000, amount.other_calls), f"2 kB, {told}", target=False)
        rows += await _rates(usual, amount, made)
    return rows


async def _rates(ways: Sequence[Way], amount: Amount, made: Gateway) -> list[Row]:
    """Calls a second, one after the other, until everything is written that a call leaves to be written."""
    rates: dict[str, list[float]] = {way.name: [] for way in ways}
    for turn in range(amount.rounds):
        for way in ways:
            began = time.perf_counter()
            for number in range(amount.calls_of_a_round):
                await _took(way, prompt(2_000, turn * amount.calls_of_a_round + number), 64)
            if isinstance(way, Whole):
                await _settled(made)
            rates[way.name].append(amount.calls_of_a_round / (time.perf_counter() - began))
    floor = row(f"{ways[0].name}: calls a second, one after the other", "/s", rates[ways[0].name], of="floor")
    rows = [floor]
    for way in ways[1:]:
        of = "floor" if way.name.startswith("any-llm") else "ours"
        rows.append(
            row(f"{way.name}: calls a second, one after the other", "/s", rates[way.name], of=of, against=floor)
        )
    return rows


async def _settled(made: Gateway) -> None:
    """Wait for what a receipt leaves to be written behind it, where it leaves anything."""
    settle = getattr(made.receipts, "settle", None)
    if settle is not None:
        await asyncio.to_thread(settle)


async def streams(root: str, folder: Path, amount: Amount) -> list[Row]:
    """One stream of 64 pieces at a time: until its first piece, and to its end."""
    async with AsyncExitStack() as stack:
        made = await _opened(stack, root, folder)
        ways: list[Way] = [RawHttp(root, "desk"), Sdk(root, "desk"), Provider(root, "desk"), Whole(made, "desk")]
        for way in ways[:3]:
            stack.push_async_callback(way.close)
        first: dict[str, list[float]] = {way.name: [] for way in ways}

        async def measure(way: Way, number: int) -> float:
            text = prompt(2_000, number)
            came = await streamed(way, text, 64)
            if came.pieces != pieces(text, 64):
                raise RuntimeError(f"{way.name} gave another stream than the endpoint")
            first[way.name].append(came.first * 1_000)
            return came.total * 1_000

        samples, _ = await _in_turns(ways, amount.streams, measure, lambda: None)
    begun = {name: taken[_WARM:] for name, taken in first.items()}
    return [
        *_compared(begun, "to the first piece", target=False),
        *_compared(samples, "stream of 64 pieces", target=False),
    ]


async def at_once(folder: Path, amount: Amount) -> list[Row]:
    """Many streams at the same time, as fast as they come and as a model writes them."""
    rows: list[Row] = []
    for pause, told in ((0.0, "as fast as it goes"), (0.02, "50 pieces a second each")):
        with endpoint(pause=pause) as root:
            rows += await _at_once(root, folder, amount, told, paced=pause > 0)
    return rows


async def _at_once(root: str, folder: Path, amount: Amount, told: str, *, paced: bool) -> list[Row]:
    rows: list[Row] = []
    async with AsyncExitStack() as stack:
        made = await _opened(stack, root, folder)
        ways: list[Way] = [RawHttp(root, "desk"), Sdk(root, "desk"), Whole(made, "desk")]
        for way in ways[:2]:
            stack.push_async_callback(way.close)
        rates: dict[str, list[float]] = {way.name: [] for way in ways}
        stalls: dict[str, list[float]] = {way.name: [] for way in ways}
        firsts: dict[str, list[float]] = {way.name: [] for way in ways}
        expected = complete = receipts = 0
        for turn in range(-1, amount.rounds if not paced else 1):
            for way in ways:
                before = len(made.receipts.list(limit=1_000_000)) if isinstance(way, Whole) else 0
                texts = [prompt(500, number) for number in range(amount.at_once)]
                began = time.perf_counter()
                came, stall = await _with_stall(asyncio.gather(*(streamed(way, text, amount.pieces) for text in texts)))
                took = time.perf_counter() - began
                whole = sum(one.pieces == pieces(text, amount.pieces) for one, text in zip(came, texts, strict=True))
                if not isinstance(way, Whole) and whole != len(texts):
                    raise RuntimeError(f"{way.name} lost pieces: {len(texts) - whole} of {len(texts)} streams")
                if isinstance(way, Whole):
                    expected, complete = expected + len(texts), complete + whole
                    receipts += len(made.receipts.list(limit=1_000_000)) - before
                if turn >= 0:
                    rates[way.name].append(len(texts) * amount.pieces / took)
                    stalls[way.name].append(stall * 1_000)
                    firsts[way.name].append(statistics.median(one.first for one in came) * 1_000)
        holds = (await asyncio.to_thread(made.receipts.verify)).holds
    what = f"{amount.at_once} streams of {amount.pieces} pieces, {told}"
    rows += [
        row(
            f"{what}: whole and in order",
            "%",
            [100 * complete / expected],
            note=f"{complete:,} of {expected:,} streams; {receipts:,} receipts, "
            f"their chain {'holds' if holds else 'is BROKEN'}",
        )
    ]
    for kind, unit, samples in (("pieces a second", "/s", rates), ("median to the first piece", "ms", firsts)):
        floor = row(f"{what}: {kind}, {ways[0].name}", unit, samples[ways[0].name], of="floor")
        sdk = row(f"{what}: {kind}, {ways[1].name}", unit, samples[ways[1].name], of="floor", against=floor)
        rows += [floor, sdk, row(f"{what}: {kind}, {ways[2].name}", unit, samples[ways[2].name], against=sdk)]
    floor = row(f"{what}: longest the event loop stood still, {ways[1].name}", "ms", stalls[ways[1].name], of="floor")
    rows += [
        floor,
        row(f"{what}: longest the event loop stood still, {ways[2].name}", "ms", stalls[ways[2].name], against=floor),
    ]
    if complete != expected or receipts != expected or not holds:
        raise RuntimeError(f"of {expected} streams {complete} were whole, with {receipts} receipts; holds: {holds}")
    return rows


async def _with_stall(work: Awaitable[list[Streamed]]) -> tuple[list[Streamed], float]:
    """The work's result, and the longest that nothing else could run beside it, in seconds."""
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0.001)
            longest = max(longest, time.perf_counter() - began - 0.001)

    watching = asyncio.create_task(watch())
    try:
        return await work, longest
    finally:
        watching.cancel()


async def _opened(stack: AsyncExitStack, root: str, folder: Path) -> Gateway:
    made = _home.gateway(root, folder)
    await made.open()
    stack.push_async_callback(made.close)
    return made
