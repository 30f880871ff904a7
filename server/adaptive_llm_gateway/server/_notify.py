"""Telling a service manager how a service stands, as sd_notify(3) does it."""

from __future__ import annotations

import contextlib
import os
import socket

_VARIABLE = "NOTIFY_SOCKET"


class Notifier:
    """Says `READY=1` and the like to whoever started this process and asked for it; to nobody else.

    The address is taken out of the environment: what this process starts is not the service.
    """

    def __init__(self) -> None:
        address = os.environ.pop(_VARIABLE, "")
        self._address = f"\0{address[1:]}" if address.startswith("@") else address

    def __call__(self, state: str) -> None:
        """Say it. That nobody listens is no failure of the service."""
        if not self._address:
            return
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as asked:
            asked.sendto(state.encode(), self._address)
