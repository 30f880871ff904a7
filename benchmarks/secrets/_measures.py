"""Shares found, false alarms and speed, of our scanner and of detect-secrets on the same texts."""

from __future__ import annotations

import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import _ordinary
from _contexts import MUTATIONS
from _measure import Role, Row, milliseconds, row
from _ordinary import Text
from _planting import Planted
from _scanners import PEER, Peer, flagged_by_ours, flagged_in, found_by_ours

from adaptive_llm_gateway.core import SecretScanner

_SHOWN = 12  # groups that a note names


@dataclass(frozen=True, slots=True)
class Amount:
    """How much of it: seeds of each corpus, bytes of documentation, chat turns, passes over a text."""

    seeds: int = 5
    documentation: int = 4_000_000
    minified: int = 600_000
    turns: int = 4_000
    memories: int = 400
    passes: int = 5
    peer_bytes: int = 150_000


QUICK = Amount(seeds=1, documentation=150_000, minified=60_000, turns=60, memories=10, passes=1, peer_bytes=10_000)


class _Tally:
    """How many of each group were found, and in which contexts the others stood."""

    def __init__(self) -> None:
        self.of: Counter[str] = Counter()
        self.found: Counter[str] = Counter()
        self.missed: defaultdict[str, Counter[str]] = defaultdict(Counter)

    def add(self, planted: Planted, found: Iterable[bool]) -> None:
        for one in found:
            self.of[planted.group] += 1
            self.found[planted.group] += one
            if not one:
                self.missed[planted.group][planted.context] += 1

    def share(self, group: str | None = None) -> float:
        if group is not None:
            return 100 * self.found[group] / self.of[group]
        return 100 * self.found.total() / self.of.total()


def found(
    corpus: Callable[[int], Sequence[Planted]], what: str, target: float, amount: Amount, peer: Peer
) -> tuple[list[Row], list[dict[str, Any]]]:
    """The share of planted credentials that is found, seed by seed, and every group with what is missed of it."""
    scanner = SecretScanner()
    ours, theirs = _Tally(), _Tally()
    shares: tuple[list[float], list[float]] = ([], [])
    for seed in range(1, amount.seeds + 1):
        here, there = _Tally(), _Tally()
        with peer.ready():
            for planted in corpus(seed):
                by_us, by_them = found_by_ours(scanner, planted), peer.found(planted)
                for tally, seen in ((here, by_us), (ours, by_us), (there, by_them), (theirs, by_them)):
                    tally.add(planted, seen)
        shares[0].append(here.share())
        shares[1].append(there.share())
    count = ours.of.total() // amount.seeds
    note = f"{count:,} in {len(ours.of)} groups with each of {amount.seeds} seeds; {_least(ours)}"
    groups = [
        {
            "group": group,
            "n": ours.of[group],
            "found": round(ours.share(group), 1),
            "found by detect-secrets": round(theirs.share(group), 1),
            "missed": dict(ours.missed[group].most_common()),
        }
        for group in sorted(ours.of, key=lambda group: (ours.share(group), group))
    ]
    whole = 100 * sum(ours.found[group] == ours.of[group] for group in ours.of) / len(ours.of)
    rows = [
        row(what, "% found", shares[0], target=target, note=note),
        row(f"{PEER}: {what}", "% found", shares[1], of="peer"),
        row("groups of which all is found", "%", [whole]),
    ]
    return rows, groups


def mutations(
    corpus: Callable[[int], Sequence[Planted]], amount: Amount, peer: Peer
) -> tuple[list[Row], list[dict[str, Any]]]:
    """The share found of credentials that were changed, by the way."""
    rows, groups = found(corpus, "changed in any way", 0, amount, peer)
    by_way = {group["group"]: group for group in groups}
    ways = [
        replace(
            row(way, "% found", [by_way[way]["found"]]),
            n=by_way[way]["n"],
            note=f"{PEER} {by_way[way]['found by detect-secrets']:g} %",
        )
        for way in MUTATIONS
    ]
    return [*ways, replace(rows[0], target=None, note=""), rows[1]], groups


def _least(tally: _Tally) -> str:
    missing = sorted((tally.share(group), group) for group in tally.of if tally.share(group) < 100)
    if not missing:
        return "none is missed"
    named = ", ".join(f"{group} ({share:.0f} %)" for share, group in missing[:_SHOWN])
    return f"found least: {named}" + (f", and {len(missing) - _SHOWN} more groups" if len(missing) > _SHOWN else "")


def alarms(amount: Amount, peer: Peer) -> tuple[list[Row], list[dict[str, Any]]]:
    """Flagged lines of text in which there is no credential, and what they were taken for."""
    kinds: dict[str, tuple[list[Text], float | None]] = {
        "documentation": (_ordinary.documentation(amount.documentation), 0.1),
        "source code": (_ordinary.source(amount.documentation), 0.1),
        "configuration files with placeholders": (_ordinary.unfilled(), None),
        "lock files": (_ordinary.lock_files(), None),
        "minified JavaScript": (_ordinary.minified(amount.minified), None),
        "lists of UUIDs and hashes": (_ordinary.hashes(1), None),
        "images in base64": (_ordinary.images(1), None),
    }
    rows: list[Row] = []
    flagged: list[dict[str, Any]] = []
    for name, (texts, target) in kinds.items():
        lines = sum(text.text.count("\n") + 1 for text in texts)
        ours, theirs = _flags(name, texts, flagged, peer)
        sides: tuple[tuple[str, int, Role, float | None], ...]
        sides = ((name, ours, "ours", target), (f"{PEER}: {name}", theirs, "peer", None))
        for what, count, of, goal in sides:
            rate = 1_000 * count / lines
            note = f"{count:,} flagged lines of {lines:,} in {len(texts):,} texts"
            measured = row(what, "flagged of 1,000 lines", [rate], of=of, target=goal, note=note)
            rows.append(replace(measured, n=lines))
    turns = _ordinary.chat_turns(1, amount.turns)
    ours, theirs = _flags("chat turns", turns, flagged, peer)
    mine = row("chat turns", "flagged lines", [ours], target=0, note="generated; many talk of keys and passwords")
    rows += [replace(mine, n=len(turns))]
    rows += [replace(row(f"{PEER}: chat turns", "flagged lines", [theirs], of="peer"), n=len(turns))]
    return rows, flagged


def _flags(kind: str, texts: Sequence[Text], into: list[dict[str, Any]], peer: Peer) -> tuple[int, int]:
    """Lines that are flagged by each; what ours are is added."""
    scanner = SecretScanner()
    ours = theirs = 0
    with peer.ready():
        for text in texts:
            ours += len(flagged_by_ours(scanner, text.text))
            into += [
                {"in": kind, "text": text.name, "line": finding.line, "kind": finding.kind}
                for finding in scanner.scan(text.text)
            ]
            theirs += len(peer.flagged(text.text, text.file))
    return ours, theirs


def speed(corpora: Callable[[], Iterable[Planted]], amount: Amount, peer: Peer) -> list[Row]:
    """Megabytes in a second over text of these kinds, and the time for a memory of 2 kB."""
    documentation = _ordinary.documentation(amount.documentation)
    kinds = {
        "documentation": documentation,
        "chat turns": _ordinary.chat_turns(2, amount.turns),
        "lock files": _ordinary.lock_files(),
        "minified JavaScript": _ordinary.minified(amount.minified),
        "files full of credentials": [Text(planted.group, planted.text) for planted in corpora()],
    }
    rows: list[Row] = []
    for name, texts in kinds.items():
        theirs = row(f"{PEER}: {name}", "MB/s", [_peer_rate(_some(texts, amount.peer_bytes), peer)], of="peer")
        rates = [_rate(texts) for _ in range(amount.passes)]
        rows += [row(name, "MB/s", rates, target=5, against=theirs), theirs]
    return rows + _memories(documentation, amount, peer)


def _rate(texts: Sequence[Text]) -> float:
    scanner = SecretScanner()
    size = sum(len(text.text.encode()) for text in texts)
    start = time.perf_counter()
    for text in texts:
        scanner.scan(text.text)
    return size / 1e6 / (time.perf_counter() - start)


def _peer_rate(texts: Sequence[Text], peer: Peer) -> float:
    paths = [peer.place(text.text, f"{number}.md") for number, text in enumerate(texts)]
    size = sum(path.stat().st_size for path in paths)
    with peer.ready():
        flagged_in(paths[0])  # it imports its plugins now
        start = time.perf_counter()
        for path in paths:
            flagged_in(path)
        return size / 1e6 / (time.perf_counter() - start)


def _some(texts: Sequence[Text], size: int) -> list[Text]:
    """Texts of about so many characters, of all of them."""
    shuffled = random.Random("some").sample(texts, len(texts))
    some: list[Text] = []
    for text in shuffled:
        some.append(Text(text.name, text.text[:size]))
        size -= len(text.text)
        if size <= 0:
            break
    return some


def _memories(documentation: Sequence[Text], amount: Amount, peer: Peer) -> list[Row]:
    whole = "\n".join(text.text for text in _some(documentation, 4_000 * amount.memories))
    memories = [whole[at : at + 2_048] for at in range(0, len(whole) - 2_048, 2_048)][: amount.memories]
    scanner = SecretScanner()
    SecretScanner().scan(whole)  # what is compiled on first use
    cold, warm, theirs = list[float](), list[float](), list[float]()
    for memory in memories:
        with milliseconds(cold):
            scanner.scan(memory)
    for memory in memories:
        with milliseconds(warm):
            scanner.scan(memory)
    with peer.ready():
        for memory in memories[: max(1, len(memories) // 4)]:
            path = peer.place(memory, "text.md")
            with milliseconds(theirs):
                flagged_in(path)
    floor = row(f"{PEER}: a memory of 2 kB", "ms", theirs, of="peer", note="a file each, which is read in that time")
    return [
        row("a memory of 2 kB, seen for the first time", "ms", cold, target=0.5, against=floor),
        row("a memory of 2 kB, seen before", "ms", warm, target=0.5, against=floor),
        floor,
    ]
