"""Notices edits by hand: events from the system where they work, polling where they do not."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from watchdog.events import FileSystemEvent, FileSystemEventHandler
    from watchdog.observers.api import BaseObserver

_log = logging.getLogger(__name__)
_QUIET_SECONDS = 0.15  # an editor's save is several events
_LONGEST_SECONDS = 2.0  # but a folder that never rests is looked at all the same
_MOST_FILES = 1_000  # below new folders, before everything is looked at
_POLL_SECONDS = 2.0


class Watcher:
    """Calls `on_change` with the POSIX paths below `root` that changed, a moment after they did.

    Args:
        mode: `events`, `poll`, or `auto`: events, and polling where the system refuses (`state` says so and why).
        on_change: called from the watcher's thread with a non-empty set; an empty string in it means
            "look at everything".
    """

    def __init__(
        self, root: Path, *, mode: Literal["auto", "events", "poll", "off"], on_change: Callable[[set[str]], None]
    ) -> None:
        self._root = root.resolve()
        self._mode = mode
        self._on_change = on_change
        self._observer: BaseObserver | None = None
        self._handler: FileSystemEventHandler
        self._wake = threading.Condition()
        self._changed: set[str] = set()
        self._last = 0.0
        self._first = 0.0
        self._stopping = False
        self._thread = threading.Thread(target=self._deliver, name="memory-watcher", daemon=True)
        self.state = "off"

    def start(self) -> None:
        """Begin to watch; never raises: `state` tells what came of it."""
        if self._mode == "off":
            return
        self._thread.start()
        if self._mode in ("auto", "events"):
            try:
                self._observe(polling=False)
            except OSError as error:
                reason = error.strerror or str(error)
                _log.warning("file events are not available (%s); polling instead", reason)
                self._poll(f"polling (the system gives no more file events: {reason})")
            else:
                self.state = "events"
        else:
            self._poll("polling")

    def _poll(self, state: str) -> None:
        try:
            self._observe(polling=True)
        except OSError as error:
            self.state = f"off ({error.strerror or error}); edits by hand are found at the next start"
            _log.warning("edits by hand are not noticed: %s", error)
        else:
            self.state = state

    def _observe(self, *, polling: bool) -> None:
        from watchdog.events import FileSystemEventHandler  # noqa: PLC0415 - not at import
        from watchdog.observers import Observer  # noqa: PLC0415
        from watchdog.observers.polling import PollingObserver  # noqa: PLC0415

        watcher = self

        class Handler(FileSystemEventHandler):
            def on_any_event(self, event: FileSystemEvent) -> None:
                watcher.take(event)

        observer = PollingObserver(timeout=_POLL_SECONDS) if polling else Observer()
        self._handler = Handler()
        # Not one recursive watch: git's own folder changes with every commit and is nobody's memory.
        observer.schedule(self._handler, str(self._root), recursive=False)
        for folder in self._root.iterdir():
            if _is_watched(folder):
                observer.schedule(self._handler, str(folder), recursive=True)
        observer.daemon = True
        observer.start()
        self._observer = observer

    def _follow(self, folder: Path) -> None:
        """Watch a folder that appeared at the top."""
        if self._observer is None or not _is_watched(folder):
            return
        try:
            self._observer.schedule(self._handler, str(folder), recursive=True)
        except OSError as error:
            _log.warning("%s cannot be watched: %s", folder.name, error)

    def take(self, event: FileSystemEvent) -> None:
        """Take in one event."""
        if event.event_type in ("opened", "closed_no_write"):
            return
        names = [Path(os.fsdecode(name)) for name in (event.src_path, event.dest_path) if name]
        if event.is_directory and event.event_type in ("created", "moved"):
            for name in names:
                if name.parent == self._root:
                    self._follow(name)
        paths = {self._relative(name) for name in names}
        # A folder that was moved in or out brings its files along without an event for each of them. One that is new
        # is looked at by itself, for every first claim of a handoff makes one.
        if event.is_directory and event.event_type == "created":
            paths = {f"{path}/" for path in paths if path is not None}
        elif event.is_directory:
            paths = {"" for path in paths if path is not None and event.event_type != "modified"}
        wanted = {path for path in paths if path is not None}
        if not wanted:
            return
        with self._wake:
            now = time.monotonic()
            self._first = self._first if self._changed else now
            self._last = now
            self._changed |= wanted
            self._wake.notify()

    def _relative(self, name: Path) -> str | None:
        try:
            path = name.relative_to(self._root).as_posix()
        except ValueError:
            return None
        return None if path == "." or path.startswith(".git") else path

    def _deliver(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._stopping or bool(self._changed))
                while not self._stopping:
                    now = time.monotonic()
                    left = min(self._last + _QUIET_SECONDS, self._first + _LONGEST_SECONDS) - now
                    if left <= 0:
                        break
                    self._wake.wait(left)
                if self._stopping:
                    return
                changed, self._changed = self._changed, set()
            if changed := self._with_files(changed):
                self._on_change(changed)

    def _with_files(self, changed: set[str]) -> set[str]:
        """The files below new folders instead of the folders, which are watched by now; "" where there are many."""
        folders = {path for path in changed if path.endswith("/")}
        found = changed - folders
        for folder in folders:
            for parent, _, names in os.walk(self._root / folder):
                found |= {path for name in names if (path := self._relative(Path(parent, name))) is not None}
                if len(found) > _MOST_FILES:
                    return {""}
        return found

    def stop(self) -> None:
        """Stop watching; changes not yet delivered are left for the next start to find."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._observer is not None:
            self._observer.stop()
            self._observer.join(timeout=5)
        if self._thread.is_alive():
            self._thread.join(timeout=5)


def _is_watched(folder: Path) -> bool:
    return not folder.name.startswith(".") and folder.is_dir() and not folder.is_symlink()
