"""Run folders: what a request was planned from and its receipt, in files. Made from the receipt's line, behind it.

runs/2026-11-22/<id>/    receipt.json, inputs.json
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from adaptive_llm_gateway.core import ulid_milliseconds
from adaptive_llm_gateway.gateway._files import make_folder, write_file

_MOST_WAITING: Final = 1000  # then whoever adds one writes, too


class RunFolders:
    """The run folders under a root. Safe to share between threads."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock = threading.Condition()
        self._waiting: deque[tuple[str, Mapping[str, bytes], Callable[[str], None]]] = deque()
        self._busy = False
        self._writing = 0
        self._thread: ThreadPoolExecutor | None = None

    def folder(self, receipt_id: str) -> Path:
        """Where the run of a receipt is."""
        day = datetime.fromtimestamp(ulid_milliseconds(receipt_id) / 1000, UTC).strftime("%Y-%m-%d")
        return self._root / day / receipt_id

    def write(self, receipt_id: str, files: Mapping[str, bytes]) -> Path:
        """Write a run's files; returns its folder. Raises OSError."""
        folder = self.folder(receipt_id)
        make_folder(folder)
        for name, data in files.items():
            write_file(folder / name, data)
        return folder

    def write_later(self, receipt_id: str, files: Mapping[str, bytes], then: Callable[[str], None]) -> None:
        """Write a run's files soon, in a thread, and call `then` with the receipt's id, also when the disk refused
        them: they can be made again. The interpreter waits for them when it ends."""
        with self._lock:
            self._waiting.append((receipt_id, files, then))
            crowded = len(self._waiting) > _MOST_WAITING
            if self._busy and not crowded:
                return
            self._busy = True
            thread = self._thread = self._thread or ThreadPoolExecutor(1, "runs")
        try:
            if crowded:
                self._work()
            else:
                thread.submit(self._work)
        except RuntimeError:  # the interpreter is ending
            self._work()

    def settle(self) -> None:
        """Wait until nothing waits to be written, at most a minute."""
        with self._lock:
            self._lock.wait_for(lambda: not self._waiting and not self._writing, timeout=60)

    def close(self) -> None:
        """Write what waits, and end the thread."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.shutdown(wait=True)

    def holds(self, receipt_id: str, files: Mapping[str, bytes]) -> bool:
        """Whether a run's files are these."""
        folder = self.folder(receipt_id)
        try:
            return all((folder / name).read_bytes() == data for name, data in files.items())
        except OSError:
            return False

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._busy = False
                    return
                receipt_id, files, then = self._waiting.popleft()
                self._writing += 1
            try:
                with contextlib.suppress(OSError):
                    self.write(receipt_id, files)
                then(receipt_id)
            finally:
                with self._lock:
                    self._writing -= 1
                    self._lock.notify_all()
