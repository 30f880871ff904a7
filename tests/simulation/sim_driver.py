"""One clone's process: a real store on a home of its own, which does as it is told over a pipe, a JSON line a command.

Started as a program, with its settings as JSON in the first argument. Before a write it says what it is about to do, so
that it is known what may have happened when it is killed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sim_text import chosen, edited, tokens

from adaptive_llm_gateway.core import AlgError
from adaptive_llm_gateway.core._faults import arm
from adaptive_llm_gateway.memory import (
    AppendSession,
    Author,
    DeleteMemory,
    EmbedderConfig,
    Filters,
    Link,
    MemoryStore,
    RestoreMemory,
    StoreSettings,
    SyncOutcome,
    SyncStatus,
    WriteMemory,
    WriteResult,
    import_memories,
)
from adaptive_llm_gateway.memory._values import Record

Said = dict[str, Any]
_WAIT = 300.0
_MERGE_DRIVER = (sys.executable, "-P", "-m", "adaptive_llm_gateway.server", "merge-driver")
_UNPICKED = ("session", "handoff")  # they have rules of their own for what may change


class Driver:
    """The store and what it is told."""

    def __init__(self, settings: Said) -> None:
        home = Path(settings["home"])
        ahead = timedelta(seconds=settings["clock"])
        self._me = Author(settings["name"], host=settings["name"])
        self._branch = "refs/remotes/origin/main"
        self._store = MemoryStore(
            StoreSettings(
                repo=home / "memory",
                index=home / "index.db",
                host=settings["name"],
                commit_wait=settings["commit_wait"],
                watch=settings["watch"],
                remote=settings["remote"],
                push_after_write=settings["pushes"],
                push_delay=0.02,
                sync_timeout=settings["timeout"],
                merge_driver=_MERGE_DRIVER if settings["merges"] else (),
                embedder=EmbedderConfig(kind="none"),
                clock=lambda: datetime.now(UTC) + ahead,
            )
        )
        if not self._store.wait_ready(_WAIT):
            raise TimeoutError("the store was not ready in time")

    def answer(self, told: Said) -> Said:
        """Do one thing."""
        do: Callable[[Said], Said] = getattr(self, f"do_{told['op']}")
        try:
            done = do(told)
        except AlgError as error:
            kind = error.details.get("kind")
            done = {"failed": error.code, "kind": kind, "message": str(error), "git": error.details.get("git")}
        return done | {"sample": self._sample()}

    def _sample(self) -> Said:
        """Where things stand, and whether nothing moved while that was looked at."""
        before = self._ends()
        status = self._store.sync_status()
        # A remote that was never asked under its present address is not known, whatever git keeps of it.
        counted = self._counted(before[0], before[1] if status.checked else None)
        return {
            "head": before[0],
            "tracked": before[1],
            "sync": _plain(status),
            "counted": counted if self._ends() == before else None,
        }

    def _ends(self) -> tuple[str | None, str | None]:
        references = self._store.repo.thread_repo.references
        head, tracked = (references.get(name) for name in ("refs/heads/main", self._branch))
        return str(head.target) if head else None, str(tracked.target) if tracked else None

    def _counted(self, head: str | None, tracked: str | None) -> list[int]:
        if head is None or head == tracked:
            return [0, 0]
        if tracked is None:
            return [int(self._git("rev-list", "--count", head)), 0]
        ours, theirs = (set(self._git("rev-list", end).split()) for end in (head, tracked))
        return [len(ours - theirs), len(theirs - ours)]  # git's own count may err where clocks differ

    def _git(self, *arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=self._store.repo.path, capture_output=True, check=True, encoding="utf-8"
        )
        return done.stdout

    # --- what there is --------------------------------------------------------------------------------

    def do_status(self, told: Said) -> Said:
        """Nothing but the sample."""
        return {}

    def do_arm(self, told: Said) -> Said:
        """Be killed at a point."""
        arm(told["point"], told["count"])
        return {}

    def do_dump(self, told: Said) -> Said:
        """What the index has."""
        assert self._store.flush(_WAIT)
        return {
            "records": {
                record.path: [record.id, record.version, sorted(tokens(record.body))]
                for record in self._store.records()
            },
            "skipped": {skipped.path: skipped.problem for skipped in self._store.skipped},
            "notices": list(self._store.status().notices),
        }

    def do_search(self, told: Said) -> Said:
        """Which memories a search for each of the texts finds, by path."""
        return {
            "found": {
                text: [hit.record.path for hit in self._store.search(f'"{text}"', limit=20).hits]
                for text in told["texts"]
            }
        }

    # --- writes ---------------------------------------------------------------------------------------

    def do_write(self, told: Said) -> Said:
        """A new memory."""
        body = told["body"]
        self._intend([], "", body)
        request = WriteMemory(
            self._me,
            type=told["type"],
            title=told["title"],
            body=body,
            tags=tuple(told["tags"]),
            project=told.get("project"),
            fields=told.get("fields") or {},
        )
        return self._done(self._store.write(request), "", body)

    def do_update(self, told: Said) -> Said:
        """An edit of one that is there, with what was read as the version where that is asked."""
        record = self._pick(told["pick"])
        if record is None:
            return {"nothing": True}
        read = self._store.read(record.id).record
        body = edited(read.body, told["edits"]) if told["edits"] else None
        after = read.body if body is None else body
        self._intend([record.id], read.body, after)
        links: tuple[Link, ...] | None = None
        if told.get("link") is not None:
            other = self._pick(told["link"])
            if other is not None and other.id != record.id:
                links = (*read.links, Link("relates_to", other.id))
        fields: Said = {}
        if told.get("status"):
            choices = {"task": ("open", "in_progress", "blocked", "done"), "decision": ("proposed", "accepted")}
            if record.type in choices:
                fields = {"status": choices[record.type][told["status"] % len(choices[record.type])]}
        tags = None
        if told.get("tag"):
            tags = tuple(sorted({*read.tags, told["tag"]}))[-6:]
        request = WriteMemory(
            self._me,
            id=record.id,
            title=told.get("title"),
            body=body,
            tags=tags,
            links=links,
            fields=fields,
            if_version=read.version if told["checked"] else None,
        )
        return self._done(self._store.write(request), read.body, after)

    def do_delete(self, told: Said) -> Said:
        """A memory goes."""
        record = self._pick(told["pick"])
        if record is None:
            return {"nothing": True}
        read = self._store.read(record.id).record
        self._intend([record.id], read.body, "")
        request = DeleteMemory(self._me, record.id, if_version=read.version)
        return self._done(self._store.write(request), read.body, "")

    def do_restore(self, told: Said) -> Said:
        """One that was deleted comes back."""
        stones = [stone for stone in self._store.deleted(limit=500) if stone.type not in _UNPICKED]
        stones.sort(key=lambda stone: (stone.title, stone.id))
        if not stones:
            return {"nothing": True}
        place: int = told["pick"]
        stone = stones[place % len(stones)]
        self._intend([stone.id], "", "")
        result = self._store.write(RestoreMemory(self._me, stone.id))
        return self._done(result, "", self._store.read(stone.id).record.body)

    def do_append(self, told: Said) -> Said:
        """An entry of a session, of a new one or one that is there."""
        records = list(self._store.records(filters=Filters(("session",))))
        session = None if told["new"] else chosen(((tokens(each.body), each.id) for each in records), told["pick"])
        self._intend([each.id for each in records] if session else [], "", told["text"])
        request = AppendSession(self._me, told["text"], session_id=session, title=None if session else told["title"])
        return self._done(self._store.write(request), "", told["text"])

    def do_import(self, told: Said) -> Said:
        """Import a folder, as another clone may as well."""
        before = {record.id: record.version for record in self._store.records()}
        import_memories(self._store, Path(told["folder"]), author=self._me)
        changed = [record for record in self._store.records() if before.get(record.id) != record.version]
        return {
            "imported": {record.id: [record.path, record.version] for record in changed},
            "added": sorted({number for record in changed for number in tokens(record.body)}),
        }

    def _pick(self, wanted: int) -> Record | None:
        found = {record.id: record for record in self._store.records() if record.type not in _UNPICKED}
        name = chosen(((tokens(record.body), record.id) for record in found.values()), wanted)
        return found[name] if name else None

    def _intend(self, ids: list[str], before: str, after: str) -> None:
        _say({"intends": {"ids": ids, "before": sorted(tokens(before)), "after": sorted(tokens(after))}})

    def _done(self, result: WriteResult, before: str, after: str) -> Said:
        return {
            "id": result.id,
            "path": result.path,
            "version": result.version,
            "state": result.standing.state,
            "commit": result.standing.commit,
            "commit_error": result.standing.error,
            "unchanged": result.unchanged,
            "sync": _plain(result.standing.sync),
            "before": sorted(tokens(before)),
            "after": sorted(tokens(after)),
        }

    # --- sync -----------------------------------------------------------------------------------------

    def do_pull(self, told: Said) -> Said:
        """Fetch and merge."""
        return self._synced(self._store.pull().result(_WAIT))

    def do_push(self, told: Said) -> Said:
        """Push what waits."""
        return self._synced(self._store.push().result(_WAIT))

    @staticmethod
    def _synced(outcome: SyncOutcome) -> Said:
        return {
            "sync": _plain(outcome.status),
            "changed": outcome.changed,
            "pushed": outcome.pushed,
            "conflicts": list(outcome.conflicts),
            "decisions": len(outcome.decisions),
        }

    def do_close(self, told: Said) -> Said:
        """End as a hub does."""
        sample = self._sample()
        self._store.close()
        _say({"n": told["n"], "closed": True, "sample": sample})
        raise SystemExit(0)


def _plain(status: SyncStatus) -> Said:
    return {
        "state": status.state,
        "ahead": status.ahead,
        "behind": status.behind,
        "kind": status.kind,
        "error": status.error,
        "problems": [problem.kind for problem in status.problems],
        "last_success": status.last_success.isoformat() if status.last_success else None,
    }


def _say(what: Said) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Open, say so, and answer until there is nothing more to answer."""
    driver = Driver(json.loads(sys.argv[1]))
    _say({"ready": True})
    for text in sys.stdin:
        told: Said = json.loads(text)
        _say({"n": told["n"], **driver.answer(told)})


if __name__ == "__main__":
    main()
