"""The command line's side of its way to the hub; see `_control` for what is said. Standard library only."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Callable
from typing import Any

from adaptive_llm_gateway.server._connect import StartFailed, connect

HELLO = b'{"alg":1,"kind":"control","resends":true}\n'

_HUBS = 5


class HubClient:
    """The command line's end.

    Args:
        root: the home.
        start: start a hub when there is none.

    Raises:
        StartFailed: there is none, or it did not start.
    """

    def __init__(self, root: str, *, start: bool = True) -> None:
        self._root = root
        self._start = start
        self._open()

    def _open(self) -> None:
        self._socket: socket.socket = connect(self._root, start=self._start)
        self._file = self._socket.makefile("rb")
        self._greeted = False
        with contextlib.suppress(OSError):  # it went: that it says nothing tells so
            self._socket.sendall(HELLO)

    def call(
        self,
        name: str,
        /,
        *,
        on_progress: Callable[[int, int], None] | None = None,
        on_piece: Callable[[str], None] | None = None,
        on_step: Callable[[dict[str, Any]], None] | None = None,
        **arguments: Any,
    ) -> Any:
        """Carry out an operation in the hub and return its JSON.

        Args:
            on_progress: given how much is done, of how much.
            on_piece: given an answer's text as it comes, where `stream=True` is among the arguments.
            on_step: given how far a pull or push is, where `steps=True` is among the arguments.

        Raises:
            HubError: what the hub answered instead.
            StartFailed: the hub went away.
        """
        line = json.dumps({"do": name, "with": arguments}, ensure_ascii=False).encode("utf-8", "surrogateescape")
        for _ in range(_HUBS):
            try:
                return self._ask(line, on_progress, on_piece, on_step)
            except _NotBegun:  # the next one has it all, see `_going`
                self.close()
                self._open()
        raise StartFailed(f"{_HUBS} hubs went away one after the other; see `alg hub logs`")

    def _ask(
        self,
        line: bytes,
        on_progress: Callable[[int, int], None] | None,
        on_piece: Callable[[str], None] | None,
        on_step: Callable[[dict[str, Any]], None] | None,
    ) -> Any:
        broken: OSError | None = None
        try:
            with contextlib.suppress(OSError):  # what it still said tells whether it went
                self._socket.sendall(line + b"\n")
            while answer := self._file.readline():
                message = json.loads(answer)
                if "alg" in message:
                    if message.get("going"):
                        raise _NotBegun
                    self._greeted = True
                elif "progress" in message:
                    if on_progress is not None:
                        on_progress(*message["progress"])
                elif "step" in message:
                    if on_step is not None:
                        on_step(message["step"])
                elif "piece" in message:
                    if on_piece is not None:
                        on_piece(message["piece"])
                elif "error" in message:
                    raise HubError(message["error"])
                else:
                    return message["result"]
        except OSError as error:
            broken = error
        if not self._greeted:
            raise _NotBegun
        if broken is not None:
            raise StartFailed(f"the connection to the hub broke: {broken}") from broken
        raise StartFailed("the hub went away before it answered; nothing acknowledged is lost. Try again.")

    def close(self) -> None:
        """Hang up."""
        self._file.close()
        self._socket.close()

    def __enter__(self) -> HubClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _NotBegun(Exception):
    """The hub went before it began this request."""


class HubError(Exception):
    """An error that the hub answered; `error` is its JSON (`code`, `message`, `hint`, `details`)."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error["message"])
        self.error = error
