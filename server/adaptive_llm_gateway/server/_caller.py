"""Who is at the other end of a connection to the hub: which process of the client, and where it works."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

from adaptive_llm_gateway.server._process import state_and_start


@dataclass(frozen=True, slots=True)
class Caller:
    """What a connection says of itself.

    Attributes:
        instance: a name that the client's process keeps for as long as it lives, whichever hub it talks to: its number,
            when it was started where that can be known, and something random, with dashes in between.
        directory: absolute path of where it works.
    """

    instance: str | None = None
    directory: str | None = None


NOBODY: Final = Caller()
CALLER: ContextVar[Caller] = ContextVar("CALLER", default=NOBODY)
"""The caller of what the current task works on."""


def is_alive(instance: str) -> bool:
    """Whether the process of that name lives on this machine: it may have lost its hub, and not asked for the next."""
    number, dash, rest = instance.partition("-")
    if not dash or not number.isascii() or not number.isdigit() or len(number) > 10 or int(number) < 1:
        return False
    try:
        os.kill(int(number), 0)
    except (OSError, OverflowError):  # it is gone, or another user's by now: clients are this user's
        return False
    found = state_and_start(number)
    if found is None:
        return True
    # One that has ended and that its parent has not buried yet lives no more; nor does one whose number another has.
    started, dash, _ = rest.partition("-")
    return found[0] != "Z" and (not dash or started == found[1])


def caller_of(hello: Mapping[str, Any]) -> Caller:
    """The caller as the first line of its connection names it; what cannot be is left out."""
    instance, directory = hello.get("instance"), hello.get("directory")
    named = isinstance(instance, str) and re.fullmatch(r"[0-9A-Za-z_-]{1,64}", instance) is not None
    placed = isinstance(directory, str) and os.path.isabs(directory) and "\0" not in directory  # noqa: PTH117
    return Caller(str(instance) if named else None, str(directory) if placed else None)
