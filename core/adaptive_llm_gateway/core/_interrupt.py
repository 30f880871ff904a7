"""Ctrl-C while a program is being started: kept back until somebody is there to end that program."""

from __future__ import annotations

import signal
import threading
from types import FrameType


class DeferredInterrupt:
    """Keeps Ctrl-C back from `with` to `end`, or to the end of the block.

    A program that starts in a session of its own does not hear Ctrl-C. An interrupt within the call that starts it
    would leave it running, with nobody who knows of it:

        with DeferredInterrupt() as interrupt:
            process = subprocess.Popen(...)
            try:
                interrupt.end()
                ...
            finally:
                ...  # end the process

    Elsewhere than on the main thread, and where Ctrl-C does something else than to raise `KeyboardInterrupt`, it does
    nothing: nothing is raised there.
    """

    def __init__(self) -> None:
        self._held = self._came = False

    def __enter__(self) -> DeferredInterrupt:
        if (
            threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        ):
            signal.signal(signal.SIGINT, self._note)
            self._held = True
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Let Ctrl-C through again. It may be called more than once.

        Raises:
            KeyboardInterrupt: Ctrl-C came meanwhile.
        """
        if self._held:
            self._held = False
            signal.signal(signal.SIGINT, signal.default_int_handler)
            if self._came:
                raise KeyboardInterrupt

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self._came = True
