"""How much is being done, for who must not begin, or end, in the middle of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Generator


class Underway:
    """Counts what has begun and not ended. Of one event loop."""

    def __init__(self) -> None:
        self._count = 0
        self._none = asyncio.Event()
        self._none.set()

    def __len__(self) -> int:
        return self._count

    def __bool__(self) -> bool:
        return self._count > 0

    @contextlib.contextmanager
    def one(self) -> Generator[None]:
        """One more, until the context ends."""
        self._count += 1
        self._none.clear()
        try:
            yield
        finally:
            self._count -= 1
            if not self._count:
                self._none.set()

    async def ended(self, seconds: float) -> None:
        """Wait until there is none, that long at most."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._none.wait(), seconds)
