"""The mode: what the hub may connect to. It is kept in a file of the home and holds for the whole process.

`normal`: what the policy allows. `local`: of models, those on this machine alone. `offline`: the process connects to
nothing but the loopback and Unix sockets.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import stat
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from adaptive_llm_gateway.core import AlgError, Attempt, InvalidInput, StorageError, fsync_path, set_offline

if TYPE_CHECKING:
    from adaptive_llm_gateway.gateway import Mode

_log = logging.getLogger(__name__)
Json = dict[str, Any]

MODES: Final[tuple[Mode, ...]] = ("normal", "local", "offline")
_MOST_BYTES = 64


def checked_mode(text: str) -> Mode:
    """The mode of that name.

    Raises:
        InvalidInput: there is none.
    """
    if text not in MODES:
        raise InvalidInput(f"there is no mode {text!r}", hint=f"Modes: {', '.join(MODES)}.")
    return text


def read_mode(path: Path) -> tuple[Mode, str | None]:
    """(The mode in a file, what is wrong with the file). Without a file it is `normal`; one that cannot be understood
    counts as `offline`, the strictest: a hub that did not start would remember nothing.
    """
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0))
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise OSError(errno.EINVAL, "it is no file")
            data = os.read(handle, _MOST_BYTES)
        finally:
            os.close(handle)
    except FileNotFoundError:
        return "normal", None
    except OSError as error:
        return "offline", _unclear(path, f"cannot be read ({error.strerror})")
    word = data.decode("utf-8", "replace").strip()
    return (word, None) if word in MODES else ("offline", _unclear(path, f"says {word!r}"))


def _unclear(path: Path, what: str) -> str:
    return f"{str(path)!r} {what}, so the strictest mode holds; `alg mode` with one of {', '.join(MODES)} mends it"


def write_mode(path: Path, mode: Mode) -> None:
    """Keep the mode, for this user's eyes: whole or not at all, and durable.

    Raises:
        StorageError: it cannot be kept; what was kept before holds.
    """
    temp = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0)
        with os.fdopen(os.open(temp, flags, 0o600), "wb") as file:
            file.write(f"{mode}\n".encode())
            file.flush()
            os.fsync(file.fileno())
        temp.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temp.unlink(missing_ok=True)
        raise StorageError(
            f"the mode {mode!r} could not be kept in {str(path)!r}: {error.strerror}", path=str(path)
        ) from error
    fsync_path(path.parent)


class ModeSwitch:
    """The mode of this process. Used from the event loop's thread.

    Args:
        path: the file that keeps it; None: nothing does.

    Attributes:
        listeners: called with the mode when it begins and whenever it changes.
        problem: what a person has to know of the mode: its file is not understood, or it is not proved.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self.mode: Mode = "normal"
        self.problem: str | None = None
        self.listeners: list[Callable[[Mode], object]] = []
        self._file_problem: str | None = None
        self._changing = asyncio.Lock()

    def begin(self) -> None:
        """Take on the mode that the file names."""
        if self._path is not None:
            mode, self._file_problem = read_mode(self._path)
            self.problem = self._file_problem
            if self.problem:
                _log.error("%s", self.problem)
            self._apply(mode)

    async def look(self) -> Json:
        """The mode as JSON: `mode`, `problem`, and of offline mode the `proof`, made anew, and whether it is `proved`.

        The proof is a list of `what`, `blocked` and `how`.
        """
        async with self._changing:
            return await self._described(())

    async def change(self, mode: str) -> Json:
        """Change the mode and keep it; see `look`, and `cut` has the places to which connections were open.

        Raises:
            InvalidInput: there is no such mode.
            StorageError: it could not be kept. A stricter mode holds until the hub ends all the same.
        """
        wanted = checked_mode(mode)
        async with self._changing:
            cut: tuple[str, ...] = ()
            if wanted == "offline":  # what is stricter comes first, whatever the disk says
                cut = await asyncio.to_thread(set_offline, True)
            if self._path is not None:
                try:
                    await asyncio.to_thread(write_mode, self._path, wanted)
                except StorageError as error:
                    if MODES.index(wanted) > MODES.index(self.mode):
                        self._apply(wanted)
                        error.hint = f"The mode {wanted!r} holds until the hub ends, and then {self._kept()!r} again."
                    raise
            self._file_problem = None
            self._apply(wanted)
            return await self._described(cut)

    def _kept(self) -> str:
        return read_mode(self._path)[0] if self._path is not None else "normal"

    def _apply(self, mode: Mode) -> None:
        cut = set_offline(mode == "offline")
        if mode != self.mode:
            _log.info("the mode is %s%s", mode, f"; cut: {', '.join(cut)}" if cut else "")
        self.mode = mode
        for listener in self.listeners:
            listener(mode)

    async def _described(self, cut: tuple[str, ...]) -> Json:
        proof = await asyncio.to_thread(_prove) if self.mode == "offline" else None
        proved = all(tried.blocked for tried in proof) if proof is not None else None
        self.problem = self._file_problem
        if proved is False:
            out = "; ".join(f"{tried.what}: {tried.how}" for tried in proof or () if not tried.blocked)
            self.problem = f"offline mode is not proved: {out}"
            _log.error("%s", self.problem)
        return {
            "mode": self.mode,
            "problem": self.problem,
            "proved": proved,
            "proof": [asdict(tried) for tried in proof] if proof is not None else None,
            "cut": list(cut),
        }


def _prove() -> tuple[Attempt, ...]:
    from adaptive_llm_gateway.core import try_to_leave  # noqa: PLC0415
    from adaptive_llm_gateway.memory import try_to_leave_with_git  # noqa: PLC0415 - after the hub listens

    tried: list[Attempt] = []
    for attempts in (try_to_leave, try_to_leave_with_git):
        try:
            tried += attempts()
        except (AlgError, OSError) as error:
            tried.append(Attempt(attempts.__name__, blocked=False, how=f"it could not be tried: {error}"))
    return tuple(tried)
