"""A client whose program has no option for headers: a proxy on the loopback that adds the `Authorization` header.

Everything else passes as it is, byte by byte and as it comes: heads, bodies, streams, and their ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
from typing import Final, Self

_CHUNK: Final = 1 << 16
_HEAD_BYTES: Final = 1 << 18
_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
_CHUNKED: Final = re.compile(rb"\r\ntransfer-encoding:[^\r]*\bchunked", re.IGNORECASE)


class Authorizing:
    """Listens on a port of its own while it is entered; `lead_to` says where to.

    Attributes:
        port: its own.
        seen: how many requests went through.
    """

    def __init__(self) -> None:
        self._to = 0
        self._header = b""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._under_way: set[asyncio.Task[None]] = set()
        self.seen = 0
        self.port = 0

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def lead_to(self, port: int, token: str) -> None:
        """Pass everything on to a server at 127.0.0.1, with this after `Bearer`."""
        self._to = port
        self._header = f"\r\nAuthorization: Bearer {token}".encode()

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=_HEAD_BYTES)

    async def _end(self) -> None:
        self._server.close()
        for task in self._under_way:
            task.cancel()
        if self._under_way:
            await asyncio.wait(self._under_way)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._under_way.add(task)
        try:
            behind, to_server = await asyncio.open_connection("127.0.0.1", self._to, limit=_HEAD_BYTES)
            answers = asyncio.create_task(_copy(behind, writer))
            try:
                await self._requests(reader, to_server)
                await answers  # what was asked for is still answered
            finally:
                answers.cancel()
                to_server.close()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # one of both has gone
        finally:
            self._under_way.discard(task)
            writer.close()

    async def _requests(self, reader: asyncio.StreamReader, to_server: asyncio.StreamWriter) -> None:
        """Hand on one request after the other, each with the header behind its first line."""
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError as error:
                if not error.partial:
                    to_server.write_eof()
                    return
                raise
            first, found, rest = head.partition(b"\r\n")
            self.seen += 1
            to_server.write(first + self._header + found + rest)
            length = _LENGTH.search(head)
            if _CHUNKED.search(head):
                await _chunks(reader, to_server)
            elif length is not None:
                await _bytes(reader, to_server, int(length[1]))
            await to_server.drain()


async def _bytes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, count: int) -> None:
    while count:
        part = await reader.read(min(count, _CHUNK))
        if not part:
            raise asyncio.IncompleteReadError(b"", count)
        count -= len(part)
        writer.write(part)
        await writer.drain()


async def _chunks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        line = await reader.readuntil(b"\r\n")
        writer.write(line)
        size = int(line.partition(b";")[0], 16)
        if not size:
            break
        await _bytes(reader, writer, size + 2)
    while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
        writer.write(line)
    writer.write(line)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """All that comes, at once, and its end."""
    with contextlib.suppress(OSError):
        while part := await reader.read(_CHUNK):
            writer.write(part)
            await writer.drain()
        writer.close()
