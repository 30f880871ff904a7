"""The hub's second look for secrets: through the git objects of its memory repos, while nobody asks for anything.

Another process does the work, with the least priority, a slice of a quarter of a second at a time and three times as
long a rest after each; it is told to go on only while nothing is asked of the hub. So no request waits for it, and
nothing that an object does to it harms the hub. `memory`'s `ObjectWatch` says what it remembers.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from adaptive_llm_gateway.core import AlgError
from adaptive_llm_gateway.server._objects_seen import NEXT_STEP, seen_json, seen_text, state_of
from adaptive_llm_gateway.server._registration import this_installation

if TYPE_CHECKING:  # git and SQLite would come along before the hub can answer
    from adaptive_llm_gateway.memory import ObjectsSeen
    from adaptive_llm_gateway.server._repos import RepoInfo

_log = logging.getLogger(__name__)
Json = dict[str, Any]

_SLICE_SECONDS: Final = 0.25
_RESTS: Final = 3.0  # as long as the slice took
_ANSWER_SECONDS: Final = 300.0  # for the largest object, on a busy machine
_LOOK_SECONDS: Final = 15.0
_SOON_SECONDS: Final = 2.0
_PATIENCE_SECONDS: Final = 3600.0  # then a short moment of quiet is enough to begin
_KEPT_WAITING_SECONDS: Final = 120.0  # then the process ends, and its memory is free
_RARELY: Final = 20.0  # times as long as a pass took, until the next one
_AFTER_FAILURE_SECONDS: Final = 600.0


@dataclass(slots=True)
class _Turn:
    """When a repo may be looked through again."""

    repo: RepoInfo
    objects: Path | None = None
    not_before: float = 0.0
    wanted_since: float | None = None
    secrets: int = 0
    told: set[str] = field(default_factory=set[str])


class ObjectScan:
    """Looks through the repos' objects, one repo after the other.

    Args:
        home: where the other process works.
        quiet: for how many seconds nobody has asked for anything.
        after: how many of these there must be.
    """

    def __init__(self, repos: Sequence[RepoInfo], home: Path, *, quiet: Callable[[], float], after: float) -> None:
        self._turns = [_Turn(repo) for repo in repos]
        self._home, self._quiet, self._after = home, quiet, after

    def told(self) -> list[Json]:
        """What is known of each repo's objects; a few milliseconds."""
        return [seen for turn in self._turns if (seen := seen_json(turn.repo)) is not None]

    async def run(self) -> None:
        """Look for what is new now and then, until cancelled."""
        while True:
            for turn in self._turns:
                try:
                    await self._look_at(turn)
                except (OSError, ValueError, AlgError) as error:
                    _log.warning("the objects of %s could not be looked through: %s", turn.repo.path, error)
                    turn.not_before = time.monotonic() + _AFTER_FAILURE_SECONDS
            await asyncio.sleep(min(_LOOK_SECONDS, max(0.2, self._after)))

    async def _look_at(self, turn: _Turn) -> None:
        now = time.monotonic()
        if now < turn.not_before or self._quiet() < min(self._after, _SOON_SECONDS):
            return
        if not await asyncio.to_thread(self._has_new, turn):
            turn.wanted_since = None
            return
        turn.wanted_since = turn.wanted_since or now
        patient = now - turn.wanted_since < _PATIENCE_SECONDS
        if patient and self._quiet() < self._after:
            return
        began = time.monotonic()
        if await self._pass(turn):
            turn.wanted_since = None
        turn.not_before = time.monotonic() + max(self._after, _RARELY * (time.monotonic() - began) / (1 + _RESTS))
        await asyncio.to_thread(self._tell, turn)

    def _has_new(self, turn: _Turn) -> bool:
        from adaptive_llm_gateway.memory import look_at_objects, objects_folder, store_signature  # noqa: PLC0415

        if turn.objects is None:
            turn.objects = objects_folder(turn.repo.path)
        if turn.objects is None:
            return False
        seen: ObjectsSeen | None = look_at_objects(state_of(turn.repo), turn.repo.path)
        return seen is None or not seen.complete or seen.signature != store_signature(turn.objects)

    async def _pass(self, turn: _Turn) -> bool:
        """Have the other process look through it; whether it came to the end."""
        state = state_of(turn.repo)
        state.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        process = await asyncio.create_subprocess_exec(
            *this_installation(),
            *("hub", "look-at-objects", str(turn.repo.path), str(state)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            cwd=self._home,
            start_new_session=True,
        )
        assert process.stdin is not None  # noqa: S101 - pipes were asked for
        assert process.stdout is not None  # noqa: S101
        try:
            while await self._is_quiet():
                began = time.monotonic()
                process.stdin.write(f"{_SLICE_SECONDS}\n".encode())
                await process.stdin.drain()
                try:
                    answer = await asyncio.wait_for(process.stdout.readline(), _ANSWER_SECONDS)
                except TimeoutError as error:
                    raise OSError("one of them takes too long") from error
                done: Json = json.loads(answer or b'{"error": "the process that looks at them has ended"}')
                if "error" in done:
                    raise OSError(str(done["error"]))
                if done["findings"] != turn.secrets:
                    turn.secrets = done["findings"]
                    await asyncio.to_thread(self._tell, turn)
                if not done["left"]:
                    return True
                await asyncio.sleep(_RESTS * (time.monotonic() - began))
            return False
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _is_quiet(self) -> bool:
        """Wait until nobody has asked for anything for a moment; whether that came soon enough."""
        wanted = min(self._after, _SOON_SECONDS)
        until = time.monotonic() + _KEPT_WAITING_SECONDS
        while self._quiet() < wanted:
            if time.monotonic() > until:
                return False
            await asyncio.sleep(0.1)
        return True

    def _tell(self, turn: _Turn) -> None:
        """A line in the log for what was not told before."""
        seen = seen_json(turn.repo)
        if seen is None:
            return
        new = {str(found["fingerprint"]) for found in seen["findings"]} - turn.told
        if new:
            turn.told |= new
            _log.warning("%s; %s", seen_text(seen), NEXT_STEP)
