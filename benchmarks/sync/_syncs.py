"""How long syncs take, and writes while they run."""

from __future__ import annotations

import contextlib
import functools
import itertools
import random
import statistics
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from typing import Any

from _corpus import SEED
from _measure import Row, milliseconds, row
from _places import Maker, Place, git

from adaptive_llm_gateway.core import AlgError, SyncError
from adaptive_llm_gateway.memory import Author, MemoryStore, SyncOutcome, WriteMemory
from adaptive_llm_gateway.memory._embed import EmbedderConfig
from adaptive_llm_gateway.memory._frontmatter import Document

_ME = Author("bench")
_WAIT = 300.0
_WARM_UP = 3
_NO_OP_MS, _INCOMING_MS, _EDITS_MS = 150.0, 5_000.0, 10_000.0
_UNCHANGED = 110.0  # per cent
_POLL_SECONDS = 0.02
_OTHERS = 200  # memories that others change in turn


def quick(maker: Maker) -> list[Row]:
    """Nothing to carry, one commit that waits here, one that waits there."""
    place, amount = maker.place(), maker.amount
    times: dict[str, list[float]] = {}
    with place.store() as store:
        _done(store.pull())
        clone = place.clone("clone")
        dice = random.Random(SEED)
        paths = place.paths()
        for number in range(-_WARM_UP, amount.rounds):
            into = times if number >= 0 else {}
            path = dice.choice(paths)

            def timed(name: str, run: Callable[[], object], into: dict[str, list[float]] = into) -> None:
                with milliseconds(into.setdefault(name, [])):
                    run()

            timed("nothing", lambda: _done(store.sync()))
            timed("git nothing", lambda: (git(clone, "fetch", "--quiet"), git(clone, "push", "--quiet")))
            timed("pull nothing", lambda: _done(store.pull()))
            timed("push nothing", lambda: _done(store.push()))
            place.others_push({path: _edited(place.read(path), f"incoming {number}")})
            timed("git in", lambda: git(clone, "pull", "--quiet", "--ff-only"))
            timed("in", lambda: _brought_in(store, 1))
            _written(store, number)
            timed("out", lambda: _done(store.push()))
            git(clone, "pull", "--quiet", "--ff-only")
            (clone / path).write_bytes(_edited(Document.parse((clone / path).read_bytes()), f"outgoing {number}"))
            git(clone, "commit", "--quiet", "--all", "--message", "One")
            timed("git out", lambda: git(clone, "push", "--quiet"))
            place.others_push({path: _edited(place.read(path), f"again {number}")})
            decide = functools.partial(_write, number)
            timed("published", lambda decide=decide: store.publish(decide, timeout=_WAIT).result(_WAIT))
            git(clone, "pull", "--quiet", "--ff-only")
    nothing = row("`git fetch` and `git push`, nothing to carry", "ms", times["git nothing"], of="floor")
    pulled = row("`git pull` of a commit", "ms", times["git in"], of="floor")
    pushed = row("`git push` of a commit", "ms", times["git out"], of="floor")
    return [
        row("sync (pull and push), nothing to carry", "ms", times["nothing"], target=_NO_OP_MS, against=nothing),
        row("pull, nothing to carry", "ms", times["pull nothing"]),
        row("push, nothing to carry", "ms", times["push nothing"]),
        nothing,
        row("pull of a memory that was changed, until it is in files and index", "ms", times["in"], against=pulled),
        pulled,
        row("push of a write", "ms", times["out"], against=pushed),
        pushed,
        row(
            "write that counts when the remote has taken it, after a commit that others pushed",
            "ms",
            times["published"],
            against=nothing,
        ),
    ]


def incoming(maker: Maker) -> list[Row]:
    """Many changed memories: asked for, merged, indexed and found."""
    place, amount = maker.place(), maker.amount
    dice = random.Random(SEED)
    times: dict[str, list[float]] = {}
    clone = place.clone("clone")

    def others_change(mark: str) -> None:
        chosen = dice.sample(place.paths(), amount.changed)
        place.others_push({path: _edited(place.read(path), mark) for path in chosen}, pack=True)

    def taken(store: MemoryStore, name: str, mark: str) -> None:
        with milliseconds(times.setdefault(name, [])):
            _brought_in(store, amount.changed)
            if not store.search(mark).hits:
                raise RuntimeError("what was pulled is not found")

    with place.store() as store:
        _done(store.pull())
        for number in range(amount.few):
            others_change(f"quokka{number}")
            with milliseconds(times.setdefault("git", [])):
                git(clone, "pull", "--quiet", "--ff-only")
            taken(store, "caught up", f"quokka{number}")
            _written(store, number)
            others_change(f"wombat{number}")
            taken(store, "merged", f"wombat{number}")
            _done(store.push())
            git(clone, "pull", "--quiet", "--ff-only")
    with place.store(embedder=EmbedderConfig()) as store:
        _until(lambda: store.status().search == "hybrid")
        others_change("numbat")
        with milliseconds(times.setdefault("vectors", [])):
            taken(store, "beside an embedder", "numbat")
            _until(lambda: _has_all_vectors(store))
    many = f"{amount.changed:,} changed memories"
    pulled = row(f"`git pull` of {many}", "ms", times["git"], of="floor")
    note = "merged, indexed, and one of them found by a word that it has since"
    return [
        row(f"{many} come in", "ms", times["caught up"], target=_INCOMING_MS, against=pulled, note=note),
        row(f"{many} come in while a commit waits here", "ms", times["merged"], target=_INCOMING_MS, against=pulled),
        pulled,
        row(f"{many} come in, with an embedder", "ms", times["beside an embedder"], target=_INCOMING_MS),
        row(f"{many} come in, until each has its vectors, too", "ms", times["vectors"]),
    ]


def edits(maker: Maker) -> list[Row]:
    """The same memories edited on both sides, some in the same line."""
    amount = maker.amount
    dice = random.Random(SEED)
    ours: list[float] = []
    alone: list[float] = []
    for _ in range(amount.few):
        place = maker.place()
        chosen = dice.sample(place.paths(), amount.changed)
        with place.store() as store:
            _done(store.pull())
            documents = {path: place.read(path) for path in chosen}
            done = store.write_many(
                [
                    WriteMemory(_ME, id=str(document.fields["id"]), body=_at_the_top(document.body, "here"))
                    for document in documents.values()
                ]
            )
            assert not [error for error in done if isinstance(error, AlgError)]
            assert store.flush(_WAIT)
            clashing = set(chosen[: amount.clashing])
            place.others_push(
                {
                    path: _edited(document, "there", body=_at_the_top(document.body, "there"))
                    if path in clashing
                    else _edited(document, "there")
                    for path, document in documents.items()
                },
                pack=True,
            )
            clone = place.clone("clone")
            git(clone, "fetch", "--quiet", str(place.root / "memory"), "main")
            git(clone, "checkout", "--quiet", "-B", "ours", "FETCH_HEAD")
            with milliseconds(alone):
                git(clone, "merge", "--quiet", "--message", "Merge", "origin/main", check=False)
            with milliseconds(ours):
                outcome = _done(store.pull())
            if len(outcome.conflicts) != amount.clashing or outcome.changed < amount.changed:
                raise RuntimeError(f"{len(outcome.conflicts)} conflicts, {outcome.changed} changed")
    many = f"{amount.changed:,} memories edited on both sides"
    merged = row(f"`git merge` of {many}", "ms", alone, of="floor", note="it leaves conflict markers in files")
    note = f"{amount.clashing:,} of them in the same line; fetched, merged, indexed"
    return [row(f"{many}", "ms", ours, target=_EDITS_MS, against=merged, note=note), merged]


def writes(maker: Maker) -> list[Row]:
    """Writes one after the other; in every other block, syncs that bring something in run one after the other."""
    place, amount = maker.place(), maker.amount
    dice = random.Random(SEED)
    quiet: list[float] = []
    beside: list[float] = []
    shares: list[float] = []
    syncs: list[float] = []
    given_up: list[SyncError] = []
    numbers = iter(range(1_000_000))
    with place.store() as store:
        _done(store.pull())
        chosen = dice.sample(place.paths(), min(_OTHERS, amount.memories))
        # Made before, so that writes do not wait for what only this benchmark does.
        others = itertools.cycle([(path, _edited(place.read(path), "incoming")) for path in chosen])
        for _ in range(_WARM_UP * 5):
            _written(store, next(numbers))

        def block() -> list[float]:
            taken: list[float] = []
            for _ in range(amount.block):
                with milliseconds(taken):
                    _written(store, next(numbers))
            return taken

        for _ in range(amount.blocks):
            without = block()
            with _syncing(place, store, others, syncs, given_up):
                during = block()
            quiet += without
            beside += during
            shares.append(100.0 * statistics.median(during) / statistics.median(without))
    alone = row("durable write, answered with its commit, no sync", "ms", quiet, of="floor")
    return [
        row("durable write, answered with its commit, while syncs run", "ms", beside, against=alone),
        alone,
        row(
            "median of a block of writes while syncs run, of that of the block before without",
            "%",
            shares,
            target=_UNCHANGED,
            note=f"{len(syncs)} syncs, each of which brings a memory in and pushes what was written; "
            f"{len(given_up)} more gave up because the branch kept moving",
        ),
        row("sync beside the writes", "ms", syncs),
    ]


def clone(maker: Maker) -> list[Row]:
    """An empty home takes in everything that the remote has."""
    place, amount = maker.place(), maker.amount
    ours: list[float] = []
    alone: list[float] = []
    for number in range(amount.clones):
        with milliseconds(alone):
            place.clone(f"clone{number}")
        with place.store(place.root / f"empty{number}") as store, milliseconds(ours):
            outcome = _done(store.pull())
            if store.status().memories != amount.memories or not store.search("the").hits:
                raise RuntimeError(f"{outcome.changed} of {amount.memories} came in")
    cloned = row(f"`git clone` of {amount.memories:,} memories", "ms", alone, of="floor")
    note = "merged, indexed and found by words"
    return [row(f"first pull of {amount.memories:,} memories", "ms", ours, against=cloned, note=note), cloned]


# -- parts of it ---------------------------------------------------------------------------------------------------


def _done(asked: Future[SyncOutcome]) -> SyncOutcome:
    return asked.result(_WAIT)


def _brought_in(store: MemoryStore, least: int) -> None:
    outcome = _done(store.pull())
    if outcome.changed < least:
        raise RuntimeError(f"{outcome.changed} of {least} memories came in")


def _write(number: int) -> WriteMemory:
    return WriteMemory(_ME, title=f"Written {number}", body=f"This is what was written as {number}.\n")


def _written(store: MemoryStore, number: int) -> None:
    done = store.write(_write(number))
    if done.standing.error:
        raise RuntimeError(done.standing.error)


def _edited(document: Document, text: str, *, body: str | None = None) -> bytes:
    """A memory with a line more, and a later time."""
    fields: dict[str, Any] = {"updated": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    return document.with_fields(fields).with_body(f"{body or document.body.rstrip()}\n\n{text}\n").render()


def _at_the_top(body: str, text: str) -> str:
    first, _, rest = body.partition("\n")
    return f"{first} Changed {text}.\n{rest}"


def _until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + _WAIT
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"waited {_WAIT:.0f} s in vain")
        time.sleep(_POLL_SECONDS)


def _has_all_vectors(store: MemoryStore) -> bool:
    have, total = store.status().vectors
    return have == total


@contextlib.contextmanager
def _syncing(
    place: Place,
    store: MemoryStore,
    others: Iterator[tuple[str, bytes]],
    times: list[float],
    given_up: list[SyncError],
) -> Generator[None]:
    """Syncs one after the other, each with a memory that somebody else changed; the first one is over at the start."""
    begun, stop = threading.Event(), threading.Event()
    failed: list[BaseException] = []

    def run() -> None:
        try:
            while not stop.is_set():
                path, data = next(others)
                place.others_push({path: data + f"{len(times) + len(given_up)}\n".encode()})
                try:
                    with milliseconds(times):
                        _done(store.sync())
                except SyncError as error:
                    if error.details.get("kind") != "busy":
                        raise
                    given_up.append(error)
                begun.set()
        except BaseException as error:  # noqa: BLE001 - told by whoever waits for the thread
            failed.append(error)
            begun.set()

    runner = threading.Thread(target=run)
    runner.start()
    try:
        begun.wait(_WAIT)
        yield
    finally:
        stop.set()
        runner.join(_WAIT)
    if failed:
        raise failed[0]
