"""A hub that goes: what it has begun is answered first, and what it has not begun is the next hub's.

To a peer that says so in its first line (`"resends": true`) a hub shows itself before it reads anything of it
(`GREETING`), and says farewell (`farewell`) as its last line, with the requests that it began and did not answer. Hence
a peer that knows both knows of each of its requests whether it was begun, and brings to the next hub what was not:

- no greeting: the hub took nothing from this connection, however it ended;
- a farewell: what has no answer and is not named in it was never begun;
- a greeting and no farewell: the hub was killed, and nobody knows.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Final

START_AGAIN: Final = 75
"""Exit code (EX_TEMPFAIL) of a hub that a service manager runs, when another is to follow."""
GREETING: Final = b'{"alg":1,"kind":"hub"}\n'


def farewell(unanswered: list[int | str]) -> bytes:
    """The last line on a connection; `unanswered` are the ids of requests that were begun and have no answer."""
    return json.dumps({"alg": 1, "going": True, "unanswered": unanswered}, ensure_ascii=False).encode() + b"\n"


class Going:
    """Whether a hub is going, and until when what it began may take. Of one event loop."""

    def __init__(self) -> None:
        self._begun = asyncio.Event()
        self._over = asyncio.Event()

    @property
    def begun(self) -> bool:
        """Whether it is: nothing more is to be begun."""
        return self._begun.is_set()

    def begin(self, seconds: float) -> None:
        """Begin nothing more, and cut off after so many seconds what has not ended by itself."""
        self._begun.set()
        asyncio.get_running_loop().call_later(seconds, self._over.set)

    async def wait(self) -> None:
        """Wait until it is going."""
        await self._begun.wait()

    async def over(self) -> None:
        """Wait until what was begun is to be cut off."""
        await self._over.wait()


class Intake:
    """The requests of one connection that were begun and not answered."""

    def __init__(self, going: Going) -> None:
        self._going = going
        self._unanswered: Counter[int | str] = Counter()
        self._changed = asyncio.Event()

    def begins(self, identifier: int | str) -> bool:
        """Whether this request is to be begun; False once the hub is going, which leaves it to the next."""
        if self._going.begun:
            return False
        self._unanswered[identifier] += 1
        return True

    def ended(self, identifier: int | str | None) -> None:
        """That request was answered, or cancelled by whoever asked."""
        if identifier is None or identifier not in self._unanswered:
            return
        self._unanswered[identifier] -= 1
        if not self._unanswered[identifier]:
            del self._unanswered[identifier]
        self._changed.set()

    async def left(self) -> list[int | str]:
        """Wait until the hub is going and all is answered, or the time for that is over; what is not answered then."""
        await self._going.wait()
        over = asyncio.create_task(self._going.over())
        try:
            while self._unanswered and not over.done():
                self._changed.clear()
                changed = asyncio.create_task(self._changed.wait())
                await asyncio.wait({over, changed}, return_when=asyncio.FIRST_COMPLETED)
                changed.cancel()
        finally:
            over.cancel()
        return list(self._unanswered)
