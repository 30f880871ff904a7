"""Clients of a hub's events: server-sent events and WebSockets, read in a thread of their own."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import queue
import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import Any, Self
from urllib.parse import quote

WAIT = 60.0
STREAM = "/api/v1/events"
EVENTS = ("created", "updated", "deleted", "restored", "moved", "handoff")


class Listener:
    """What is told, in order. `last_id` is where whoever comes back goes on."""

    def __init__(self) -> None:
        self.last_id: str | None = None
        self.code: int | None = None
        self._told: queue.Queue[dict[str, Any] | None] = queue.Queue()

    def next(self, *, wait: float = WAIT) -> dict[str, Any] | None:
        """The next message; None at the end."""
        return self._told.get(timeout=wait)

    def events(self, count: int, *, wait: float = WAIT) -> list[dict[str, Any]]:
        """The next so many changes."""
        found: list[dict[str, Any]] = []
        deadline = time.monotonic() + wait
        while len(found) < count:
            told = self.next(wait=max(0.01, deadline - time.monotonic()))
            assert told is not None, f"it ended after {found}"
            assert told["kind"] not in ("reset", "end"), told
            if told["kind"] in EVENTS:
                found.append(told)
        return found

    def kind(self, *kinds: str) -> dict[str, Any]:
        """The next message of such a kind."""
        while (told := self.next()) is not None:
            if told["kind"] in kinds:
                return told
        raise AssertionError(f"it ended without {kinds}")

    def ended(self) -> dict[str, Any] | None:
        """The last message before the end, whatever it was."""
        last = None
        while (told := self.next()) is not None:
            last = told
        return last


class Stream(Listener):
    """A client of server-sent events, parsed as the standard says."""

    def __init__(self, web: Any, token: str, query: str = "", *, last_id: str | None = None, **headers: str) -> None:
        super().__init__()
        self._connection = http.client.HTTPConnection(web.host, web.port, timeout=WAIT)
        more = {"Last-Event-ID": last_id} if last_id else {}
        self._connection.request("GET", STREAM + query, headers={"Authorization": f"Bearer {token}", **more, **headers})
        self._socket: socket.socket = self._connection.sock
        self.response = self._connection.getresponse()
        if self.response.status != 200:
            body = self.response.read()
            self._connection.close()
            raise AssertionError(f"{self.response.status}: {body!r}")
        assert self.response.headers["content-type"].startswith("text/event-stream")
        self.names: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        assert (self.next() or {})["kind"] == "ready"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._reader.join(WAIT)
        self.response.close()
        self._connection.close()

    def _read(self) -> None:
        name, data = "", ""
        try:
            for line in self._lines():
                if not line:
                    if data:
                        self.names.append(name)
                        self._told.put(json.loads(data))
                    name, data = "", ""
                    continue
                field, _, value = line.partition(": ")
                if field == "id":
                    self.last_id = value
                elif field == "event":
                    name = value
                elif field == "data":
                    data = value
        except (OSError, http.client.HTTPException, ValueError, AttributeError):
            pass
        self._told.put(None)

    def _lines(self) -> Iterator[str]:
        while line := self.response.readline():
            yield line.decode("utf-8").rstrip("\n")


class Socket(Listener):
    """A WebSocket (RFC 6455) by hand, so that a test can send what no library would."""

    def __init__(
        self, web: Any, token: str | None, query: str = "", *, protocols: str | None = None, **headers: str
    ) -> None:
        super().__init__()
        self._reader: threading.Thread | None = None
        self._socket = web.connect()
        said = {
            "Host": f"{web.host}:{web.port}",
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
            **({"Authorization": f"Bearer {token}"} if token else {}),
            **({"Sec-WebSocket-Protocol": protocols} if protocols else {}),
            **headers,
        }
        head = "".join(f"{name}: {value}\r\n" for name, value in said.items())
        self._socket.sendall(f"GET {STREAM}/ws{query} HTTP/1.1\r\n{head}\r\n".encode())
        self._file = self._socket.makefile("rb")
        self.status = int(self._file.readline().split()[1])
        self.headers: dict[str, str] = {}
        while line := self._file.readline().strip():
            name, _, value = line.decode().partition(": ")
            self.headers[name.lower()] = value
        self.body = b""
        if self.status != 101:
            self.body = self._file.read(int(self.headers.get("content-length", "0")))
            self._told.put(None)
            self.close()
            return
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        if self._reader is not None:
            self._reader.join(WAIT)
        self._file.close()
        self._socket.close()

    def send(self, data: bytes, *, opcode: int = 1) -> None:
        mask = os.urandom(4)
        size = len(data)
        length = bytes([0x80 | size]) if size < 126 else struct.pack("!BQ", 0x80 | 127, size)
        masked = bytes(byte ^ mask[place % 4] for place, byte in enumerate(data))
        self._socket.sendall(bytes([0x80 | opcode]) + length + mask + masked)

    def _read(self) -> None:
        try:
            while True:
                first, second = self._exactly(2)
                size = second & 0x7F
                if size == 126:
                    (size,) = struct.unpack("!H", self._exactly(2))
                elif size == 127:
                    (size,) = struct.unpack("!Q", self._exactly(8))
                data = self._exactly(size)
                match first & 0x0F:
                    case 1:
                        told = json.loads(data)
                        self.last_id = told.get("id", self.last_id)
                        self._told.put(told)
                    case 8:
                        self.code = struct.unpack("!H", data[:2])[0] if data else None
                        break
                    case 9:
                        self.send(data, opcode=10)
                    case _:
                        pass
        except (OSError, ValueError, EOFError):
            pass
        self._told.put(None)

    def _exactly(self, size: int) -> bytes:
        data = self._file.read(size)
        if len(data) < size:
            raise EOFError
        return data


def since(id: str | None) -> str:
    """The query that goes on behind an event."""
    return f"?since_id={quote(id or '')}"
