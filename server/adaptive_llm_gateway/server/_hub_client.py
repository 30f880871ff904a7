"""The command line's side of its way to the hub; see `_control` for what is said. Standard library only."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import Any

from adaptive_llm_gateway.server._connect import StartFailed, connect

HELLO = b'{"alg":1,"kind":"control"}\n'


class HubClient:
    """The command line's end.

    Args:
        root: the home.
        start: start a hub when there is none.

    Raises:
        StartFailed: there is none, or it did not start.
    """

    def __init__(self, root: str, *, start: bool = True) -> None:
        self._socket: socket.socket = connect(root, start=start)
        self._file = self._socket.makefile("rb")
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
        try:
            self._socket.sendall(line + b"\n")
            while answer := self._file.readline():
                message = json.loads(answer)
                if "progress" in message:
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
            raise StartFailed(f"the connection to the hub broke: {error}") from error
        raise StartFailed("the hub went away before it answered; nothing acknowledged is lost. Try again.")

    def close(self) -> None:
        """Hang up."""
        self._file.close()
        self._socket.close()

    def __enter__(self) -> HubClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class HubError(Exception):
    """An error that the hub answered; `error` is its JSON (`code`, `message`, `hint`, `details`)."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error["message"])
        self.error = error
