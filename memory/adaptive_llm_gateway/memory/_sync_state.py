"""Where the memory repo stands against its remote: what is known without the network, how the last attempts ended."""

from __future__ import annotations

import contextlib
import json
import threading
from datetime import UTC, datetime
from typing import Any, Literal, cast

from adaptive_llm_gateway.core import AlgError, is_offline
from adaptive_llm_gateway.memory._git import mask_credentials
from adaptive_llm_gateway.memory._remote import Remote
from adaptive_llm_gateway.memory._repo import MemoryRepo
from adaptive_llm_gateway.memory._sync_apply import write_atomically
from adaptive_llm_gateway.memory._values import SyncStatus

_STATE_FILE = "alg-sync.json"

# Failures that only a merge mends; having reached the remote does not.
_NOT_MERGED = frozenset(
    {"secret_incoming", "unsafe_incoming", "format_too_new", "unrelated_histories", "shallow_clone", "dirty"}
    | {"index_lock", "index_lock_stale", "busy", "repo_busy"}
)

Operation = Literal["fetch", "pull", "push"]


class SyncState:
    """Tells where the memory repo stands. Any thread may ask, also while a pull or push runs."""

    def __init__(self, repo: MemoryRepo, remote: Remote) -> None:
        self._repo, self._remote = repo, remote
        self._lock = threading.Lock()
        self._counted: tuple[str | None, str | None, tuple[int, int]] | None = None

    def status(self) -> SyncStatus:
        """Where the memory repo stands, from what is known here: no network, a millisecond or so."""
        with self._lock:
            return self._status(self._read_state())

    def _status(self, state: dict[str, Any]) -> SyncStatus:
        url = self._remote.url()
        if url is None:
            return SyncStatus("no_remote")
        ahead, behind = self.count()
        failures = cast("dict[str, dict[str, Any]]", state.get("failures") or {})
        failure = max(failures.values(), key=lambda found: str(found.get("at")), default=None)
        name: Literal["pushed", "pending", "behind", "diverged", "failed"]
        if failure is not None:
            name = "failed"
        elif ahead:
            name = "diverged" if behind else "pending"
        else:
            name = "behind" if behind else "pushed"
        if name == "pushed" and self._remote.tracked() is None:
            name = "pending"
        if state.get("state") != name:
            state |= {"state": name, "since": _now()}
            self._write_state(state)
        return SyncStatus(
            name,
            ahead=ahead,
            behind=behind,
            since=_time(state.get("since")),
            last_success=_time(state.get("last_success")),
            remote=mask_credentials(url),
            kind=failure.get("kind") if failure else None,
            error=failure.get("error") if failure else None,
            offline=is_offline() and not self._remote.is_here(url),
        )

    def count(self) -> tuple[int, int]:
        """Commits ahead and behind, against the remote as last seen."""
        head, tracked = self._repo.head(), self._remote.tracked()
        if self._counted is not None and self._counted[:2] == (head, tracked):
            return self._counted[2]
        git = self._repo.thread_repo
        if head is None:
            counts = (0, 0)
        elif tracked is None:
            counts = (sum(1 for _ in git.walk(head)), 0)
        else:
            counts = git.ahead_behind(head, tracked)
        self._counted = (head, tracked, counts)
        return counts

    def _read_state(self) -> dict[str, Any]:
        try:
            state: Any = json.loads((self._repo.git_dir / _STATE_FILE).read_bytes())
        except (OSError, ValueError):
            return {}
        return cast("dict[str, Any]", state) if isinstance(state, dict) else {}

    def _write_state(self, state: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):  # a full disk must not hide what happened
            write_atomically(self._repo.git_dir / _STATE_FILE, json.dumps(state, indent=1).encode())

    def record(self, operation: Operation, error: AlgError | None) -> SyncStatus:
        """Note how an attempt ended, and tell where the memory repo stands."""
        with self._lock:
            state = self._read_state()
            failures: dict[str, Any] = dict(state.get("failures") or {})
            if error is not None:
                failures[operation] = {
                    "kind": error.details.get("kind") or error.code,
                    "error": str(error.details.get("git") or error.message),
                    "at": _now(),
                }
            elif operation == "fetch":
                if failures.get("pull", {}).get("kind") not in _NOT_MERGED:
                    failures.pop("pull", None)
            else:
                failures.pop(operation, None)
                ahead, _ = self.count()
                if operation == "push":
                    failures.clear()
                elif not ahead:
                    failures.pop("push", None)
            if error is None and self.count() == (0, 0) and self._remote.tracked() is not None:
                state["last_success"] = _now()
            state["failures"] = failures
            self._write_state(state)
            return self._status(state)

    def forget(self) -> None:
        """Drop what is known of attempts: the remote is another one now."""
        with self._lock:
            self._write_state({})


def _now() -> str:
    return datetime.now(UTC).isoformat()


def _time(text: object) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text)) if text else None
    except ValueError:
        return None
