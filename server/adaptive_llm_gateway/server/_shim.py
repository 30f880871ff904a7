"""The shim: the thin stdio process that a client starts. Standard library only, 10 MB, a few milliseconds.

It relays JSON-RPC lines between its stdin/stdout and the hub's socket. When the hub goes, what it had not begun is
brought to the next one, so that a restart costs no request. When it dies, the shim starts another, replays the client's
`initialize`, answers the tool calls that were in flight with a retryable error, and sends the other requests, which
change nothing, again. How it tells these apart is in `_going`. It ends on stdin EOF and when its parent dies.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import threading
import time

from adaptive_llm_gateway.server._connect import StartFailed, connect
from adaptive_llm_gateway.server._process import state_and_start

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_REPLAY_ID = "alg:replayed-initialize"
_READ_BYTES = 1 << 16
_RESTARTS = 5  # in _RESTART_WINDOW seconds; then the hub is taken for broken and every request is told so
_RESTART_WINDOW = 30.0
_PARENT_CHECK_SECONDS = 2.0
_LAST_ANSWERS_SECONDS = 30.0  # after stdin ended; a closed stdout ends the wait at once
_INTERRUPTED = (
    "The hub stopped while this call was running; the next call finds another one. Nothing acknowledged is lost, but "
    "this call may or may not have been carried out: check (memory_search or memory_read), then try again."
)


class _Request:
    """What the client waits for an answer to.

    `sent` is written under the lock of sending: once a hub is lost, a line that did not go out whole was not begun.
    """

    __slots__ = ("line", "message", "sent")

    def __init__(self, line: bytes, message: dict[str, Any]) -> None:
        self.line = line
        self.message = message
        self.sent = False


class Shim:
    """One client's relay; `run` serves it until stdin ends.

    Args:
        root: the home.
        source, sink: file descriptors of the client's two ends.
        on_orphaned: called when the parent died or the client closed our output; by default the process ends.
    """

    def __init__(
        self, root: str, *, source: int = 0, sink: int = 1, on_orphaned: Callable[[], object] | None = None
    ) -> None:
        self._root = root
        self._source = source
        self._sink = sink
        self._alone = on_orphaned is None  # otherwise others in this process wait for their children
        self._orphaned = on_orphaned or (lambda: os._exit(0))
        self._out = threading.Lock()
        self._sending = threading.Lock()
        self._state = threading.RLock()  # guards everything below
        self._hub: socket.socket | None = None
        self._pending: dict[str, _Request] = {}
        self._initialize: bytes | None = None
        self._initialized: bytes | None = None
        self._restarts: list[float] = []
        self._closing = False
        self._over = False
        self._reached = True
        # The same to every hub that this client meets: a claim is its process's, and outlives a hub.
        hello = {"alg": 1, "kind": "mcp", "resends": True, "instance": _instance(), "directory": _directory()}
        self._hello = _line(hello)

    def run(self) -> int:
        """Relay until stdin ends; 0, or 6 when no hub was ever reached."""
        threading.Thread(target=self._watch_parent, daemon=True).start()
        buffer = bytearray()
        while True:
            try:
                part = os.read(self._source, _READ_BYTES)
            except OSError:
                break
            if not part:
                break
            buffer += part
            if b"\n" not in part:
                continue
            *lines, rest = bytes(buffer).split(b"\n")
            buffer = bytearray(rest)
            for line in lines:
                if line.strip():
                    self._from_client(line + b"\n")
        if buffer.strip():
            self._from_client(bytes(buffer) + b"\n")
        self._close()
        return 0 if self._reached else 6

    def _from_client(self, line: bytes) -> None:
        message = _parse(line)
        request: _Request | None = None
        with self._state:
            if message is not None:
                method = message.get("method")
                if method == "initialize":
                    self._initialize = line
                elif method == "notifications/initialized":
                    self._initialized = line
                elif method == "notifications/cancelled":  # it will not be answered
                    self._pending.pop(_key((_mapping(message.get("params")) or {}).get("requestId")), None)
                if method is not None and message.get("id") is not None:
                    request = self._pending[_key(message["id"])] = _Request(line, message)
            try:
                hub = self._hub or self._open()
            except (StartFailed, OSError) as error:
                self._reached = bool(self._restarts)
                self._refuse_pending(str(error))
                return
        # It went: whoever reads from it hears what it still said, and only then is known what it had not begun.
        with contextlib.suppress(OSError), self._sending:
            hub.sendall(line)
            if request is not None:
                request.sent = True

    def _open(self) -> socket.socket:
        """Connect; a hub that has not seen this client's handshake is shown it first."""
        while True:
            if self._over:
                raise StartFailed("the hub stopped")
            now = time.monotonic()
            self._restarts = [moment for moment in self._restarts if now - moment < _RESTART_WINDOW]
            if len(self._restarts) >= _RESTARTS:
                raise StartFailed(
                    f"the hub stopped {_RESTARTS} times within {_RESTART_WINDOW:.0f} s; see `alg hub logs`"
                )
            hub = connect(self._root)
            self._restarts.append(now)
            self._reached = True
            try:
                hub.sendall(self._hello)
                handshake = _parse(self._initialize) if self._initialize else None
                if handshake is not None and _key(handshake.get("id")) not in self._pending:
                    hub.sendall(_line({**handshake, "id": _REPLAY_ID}))
                    if self._initialized is not None:
                        hub.sendall(self._initialized)
            except OSError:  # it was going, and took nothing
                hub.close()
                continue
            self._hub = hub
            threading.Thread(target=self._from_hub, args=(hub,), daemon=True).start()
            return hub

    def _from_hub(self, hub: socket.socket) -> None:
        buffer = bytearray()
        begun: set[str] | None = set()  # requests it may have begun and did not answer; None: any
        going = False
        while not going:
            try:
                part = hub.recv(_READ_BYTES)
            except OSError:
                part = b""
            if not part:
                break
            buffer += part
            if b"\n" not in part:
                continue
            *lines, rest = bytes(buffer).split(b"\n")
            buffer = bytearray(rest)
            ready = bytearray()
            for line in lines:
                message = _parse(line)
                if message is not None and "alg" in message:  # the hub itself: its greeting, or its farewell
                    going = message.get("going") is True
                    begun = {_key(each) for each in message.get("unanswered", ())} if going else None
                    continue
                if message is not None and "method" not in message and "id" in message:
                    if message["id"] == _REPLAY_ID:
                        continue
                    with self._state:
                        self._pending.pop(_key(message["id"]), None)
                ready += line + b"\n"
            self._to_client(bytes(ready))
        with self._state:
            if going and self._restarts:
                self._restarts.pop()  # it went on purpose
            self._lost(hub, begun)

    def _lost(self, hub: socket.socket, begun: set[str] | None) -> None:
        """The connection to `hub` is gone: answer the calls that it may have begun, bring the other requests to the
        next hub.

        With nothing in flight the next hub is opened by the client's next line, so that a hub that was stopped on
        purpose stays stopped until somebody needs it.
        """
        if self._hub is not hub:
            return
        self._hub = None
        with contextlib.suppress(OSError):
            hub.shutdown(socket.SHUT_RDWR)  # ends a send that waits for it to read
        with contextlib.suppress(OSError), self._sending:  # nobody sends to a number that may soon be another's
            hub.close()
        again: list[_Request] = []
        for key, request in list(self._pending.items()):
            if request.message.get("method") == "tools/call" and (request.sent if begun is None else key in begun):
                del self._pending[key]
                self._to_client(_interrupted(request.message))
            else:
                request.sent = False
                again.append(request)
        if not self._alone:  # the hub was this process
            self._over = True
        if self._over or (self._closing and begun is None):
            self._refuse_pending("the hub stopped")
            return
        if not again:
            return
        try:
            following = self._open()
        except (StartFailed, OSError) as error:
            self._refuse_pending(str(error))
            return
        with contextlib.suppress(OSError), self._sending:  # it is heard of where it is read from
            for request in again:
                following.sendall(request.line)
                request.sent = True

    def _refuse_pending(self, reason: str) -> None:
        print(f"error: {reason}", file=sys.stderr, flush=True)
        for key, request in list(self._pending.items()):
            del self._pending[key]
            self._to_client(_answer(request.message, error=reason))

    def _to_client(self, data: bytes) -> None:
        with self._out:
            view = memoryview(data)
            try:
                while view:
                    view = view[os.write(self._sink, view) :]
            except OSError:
                self._orphaned()

    def _close(self) -> None:
        """Stdin ended: pass on the answers to what was asked, then go."""
        with self._state:
            self._closing = True
            hub = self._hub
        deadline = time.monotonic() + _LAST_ANSWERS_SECONDS
        while self._pending and time.monotonic() < deadline:
            time.sleep(0.005)
        if hub is not None:
            with contextlib.suppress(OSError):
                hub.close()

    def _watch_parent(self) -> None:
        parent = os.getppid()
        while parent > 1:
            time.sleep(_PARENT_CHECK_SECONDS)
            if self._alone:  # a hub that we started and that ended is our child to bury
                with contextlib.suppress(OSError):
                    os.waitpid(-1, os.WNOHANG)
            if os.getppid() != parent:
                self._orphaned()
                return


def _instance() -> str:
    """A name of this process alone."""
    found = state_and_start()
    return "-".join([str(os.getpid()), *([found[1]] if found else []), os.urandom(6).hex()])


def _directory() -> str | None:
    """Where the client works, as far as it can be told."""
    try:
        return os.getcwd()
    except OSError:
        return None


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        message: Any = json.loads(line)
    except (ValueError, RecursionError):
        return None  # the hub answers malformed lines itself
    return _mapping(message)


def _mapping(value: Any) -> dict[str, Any] | None:
    return value if isinstance(value, dict) else None  # pyright: ignore[reportUnknownVariableType]


def _key(identifier: object) -> str:
    return json.dumps(identifier)


def _interrupted(message: dict[str, Any]) -> bytes:
    result: dict[str, Any] = {"content": [{"type": "text", "text": _INTERRUPTED}], "isError": True}
    meta = _mapping((_mapping(message.get("params")) or {}).get("_meta")) or {}
    if "io.modelcontextprotocol/protocolVersion" in meta:
        result["resultType"] = "complete"
    return _line({"jsonrpc": "2.0", "id": message["id"], "result": result})


def _answer(message: dict[str, Any], *, error: str) -> bytes:
    body = {"code": -32000, "message": error, "data": {"retryable": True}}
    return _line({"jsonrpc": "2.0", "id": message["id"], "error": body})


def _line(message: dict[str, Any]) -> bytes:
    return json.dumps(message, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


def run(root: str) -> int:
    """Serve this process's stdin and stdout for the home at `root`; returns the exit code."""
    return Shim(root).run()
