"""A race: many clients of two hubs, on two clones of one remote, claim the same handoffs, and hubs are killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from _client import INITIALIZE, Client, Failed
from _verdict import Answer, Told, violations

from adaptive_llm_gateway.core import LockHeld, ProcessLock

_WAIT = 120.0
_TRIES = 60  # of one client for one handoff, while hubs die
_PAUSE = 0.05
_KILL_SECONDS = 20.0
_INTERRUPTED = "The hub stopped while this call was running"


@dataclass(frozen=True, slots=True)
class Race:
    """How many race for how much.

    Attributes:
        kills: SIGKILLs of a hub, half of them of either. No more than four of one in half a minute: then its shims
            take it for broken.
        seed: of the order in which clients ask, which hubs are killed, and after which answers.
    """

    clients: int = 16
    handoffs: int = 100
    kills: int = 4
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a race went.

    Attributes:
        seconds: from the first claim that was asked for to the last answer.
        killed: the hubs that were killed, by the places of their homes.
        told: all answers, those of one client in their order.
        violations: what is not as it must be.
    """

    race: Race
    seconds: float
    killed: tuple[int, ...]
    told: tuple[Told, ...]
    violations: tuple[str, ...]

    def count(self, answer: Answer) -> int:
        """How many of the answers were of a kind."""
        return sum(one.answer == answer for one in self.told)


class _Racer:
    """A client that goes through all handoffs and claims each, until it has an answer for each.

    Attributes:
        told: all answers.
        error: what ended it before its time.
    """

    def __init__(self, command: list[str], env: Mapping[str, str], name: str, hub: int, cwd: Path) -> None:
        self.name, self.hub = name, hub
        self.told: list[Told] = []
        self.error: BaseException | None = None
        self._client = Client(command, env=env, handshake=False, cwd=cwd, wait=_WAIT)
        self._client.request("initialize", {**INITIALIZE, "clientInfo": {"name": name, "version": "1"}})
        self._client.notify("notifications/initialized")

    def call(self, tool: str, **arguments: object) -> str:
        """As of the client, also while the hub is started anew."""
        for _ in range(_TRIES):
            try:
                return self._client.call(tool, **arguments)
            except Failed as failed:
                if "retryable" not in str(failed):
                    raise
                time.sleep(_PAUSE)
        raise Failed(f"{tool}: no hub after {_TRIES} tries")

    def run(self, handoffs: list[str], ready: threading.Barrier, answered: threading.Semaphore) -> None:
        """Race; what goes wrong is in `error`."""
        try:
            ready.wait(_WAIT)
            for id in handoffs:
                for _ in range(_TRIES):
                    one = self._ask(id)
                    self.told.append(one)
                    answered.release()
                    if one.answer in ("yours", "taken"):
                        break
                    time.sleep(_PAUSE)
        except BaseException as error:  # noqa: BLE001 - told by whoever joins the thread
            self.error = error

    def _ask(self, id: str) -> Told:
        start = time.perf_counter()
        answer: Answer
        try:
            text = self._client.call("handoff_claim", id=id, budget_tokens=200)
            answer = "yours" if f"Handoff {id} is yours" in text else "failed"
        except Failed as failed:
            text = str(failed)
            answer = "taken" if " is taken: " in text else "lost" if _INTERRUPTED in text else "failed"
        return Told(self.name, self.hub, id, answer, text[:400], (time.perf_counter() - start) * 1_000)

    def close(self) -> None:
        """End it."""
        self._client.close()


def run(race: Race, root: Path, alg: Path, env: Mapping[str, str]) -> Outcome:
    """Run a race in an empty folder.

    Args:
        alg: the command.
        env: the whole environment of everything that is started.
    """
    dice = random.Random(race.seed)
    remote, work = root / "remote.git", root / "work"
    work.mkdir()
    subprocess.run(
        ["git", "init", "--quiet", "--bare", "--initial-branch=main", str(remote)], check=True, env=dict(env)
    )
    homes = [root / f"home{place}" for place in range(2)]
    for home in homes:
        home.mkdir(mode=0o700)
        settings = f"sync:\n  remote: {remote}\nhub:\n  idle_minutes: 5\nembedder:\n  kind: none\n"
        (home / "config.yaml").write_text(settings, "utf-8")
    racers: list[_Racer] = []
    try:
        for number in range(race.clients):
            home = homes[number % 2]
            command = [str(alg), "serve", "--home", str(home)]
            racers.append(_Racer(command, env, f"client-{number}", number % 2, work))
        ids = _offered(race, racers)
        seconds, killed = _raced(race, dice, racers, ids, homes)
        for place in (0, 1, 0):
            for tool in ("memory_pull", "memory_push"):
                racers[place].call(tool)
    finally:
        for racer in racers:
            racer.close()
        for home in homes:
            _stop(alg, home, env)
    told = tuple(one for racer in racers for one in racer.told)
    found = violations([home / "memory" for home in homes], remote, ids, told, env)
    found += [f"{racer.name} ended with {racer.error!r}" for racer in racers if racer.error is not None]
    return Outcome(race, seconds, tuple(killed), told, tuple(found))


def _offered(race: Race, racers: list[_Racer]) -> list[str]:
    """Offer the work, half of it at each hub; the ids, known to both."""

    def offer(place: int) -> list[str]:
        texts = [
            racers[place].call("handoff_create", objective=f"Part {number} of the work")
            for number in range(place, race.handoffs, len(racers))
        ]
        return [text.split(" id ", 1)[1][:26] for text in texts]

    with ThreadPoolExecutor(len(racers)) as pool:
        ids = sorted(id for offered in pool.map(offer, range(len(racers))) for id in offered)
    for racer in racers[:2]:
        racer.call("memory_push")
    for racer in racers[:2]:
        racer.call("memory_pull")
    return ids


def _raced(
    race: Race, dice: random.Random, racers: list[_Racer], ids: list[str], homes: list[Path]
) -> tuple[float, list[int]]:
    """Claim all, and kill hubs meanwhile: (seconds, which were killed)."""
    ready = threading.Barrier(len(racers) + 1)
    answered = threading.Semaphore(0)
    moments = sorted(dice.sample(range(1, int(race.clients * race.handoffs * 0.9)), race.kills))
    places = [number % 2 for number in range(race.kills)]
    dice.shuffle(places)
    plans = [(moment, place, dice.uniform(0.0, 0.15)) for moment, place in zip(moments, places, strict=True)]
    threads: list[threading.Thread] = []
    for number, racer in enumerate(racers):
        # Most go through the same order, so that they meet; some have one of their own.
        order = list(ids)
        if number % 4 == 3:
            dice.shuffle(order)
        threads.append(threading.Thread(target=racer.run, args=(order, ready, answered), daemon=True))
    for thread in threads:
        thread.start()
    ready.wait(_WAIT)
    start = time.perf_counter()
    killed: list[int] = []
    seen = 0
    for moment, place, pause in plans:
        while seen < moment and any(thread.is_alive() for thread in threads):
            seen += answered.acquire(timeout=0.2)
        time.sleep(pause)
        if _kill(homes[place]):
            killed.append(place)
    for thread in threads:
        thread.join(_WAIT * 20)
        if thread.is_alive():
            raise RuntimeError("a client did not come to an end")
    return time.perf_counter() - start, killed


def _kill(home: Path) -> bool:
    """SIGKILL the hub, which is waited for while it starts; whether one ran. What it started goes on."""
    deadline = time.monotonic() + _KILL_SECONDS
    while (pid := _pid(home)) is None:
        if time.monotonic() > deadline:
            return False
        time.sleep(_PAUSE)
    os.kill(pid, signal.SIGKILL)
    return True


def _pid(home: Path) -> int | None:
    """Of the hub, if one runs."""
    try:
        with ProcessLock(home / "hub.lock"):
            return None
    except LockHeld as held:
        owner = held.details["owner"]
        return owner["pid"] if owner and owner["pid"] != os.getpid() else None


def _stop(alg: Path, home: Path, env: Mapping[str, str]) -> None:
    command = [str(alg), "--home", str(home), "hub", "stop"]
    subprocess.run(command, env=dict(env), capture_output=True, timeout=_WAIT, check=False)
