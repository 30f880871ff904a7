"""Fault points: named places where a crash test kills the real process.

A point does nothing unless `ALG_FAULT` names it: `ALG_FAULT=write.renamed` kills the process with SIGKILL the
first time that point is reached, `ALG_FAULT=write.renamed:3` the third time. The names are listed in `POINTS`,
so that a test can walk them all.
"""

from __future__ import annotations

import os
import signal

POINTS = (
    "write.validated",
    "write.temp_written",
    "write.temp_synced",
    "write.renamed",
    "write.index_begun",
    "write.indexed",
    "commit.blobs_written",
    "commit.trees_written",
    "commit.commit_written",
    "commit.index_locked",
    "commit.ref_updated",
    "commit.git_index_written",
    "commit.git_index_updated",
    "commit.recorded",
    "write.acknowledged",
    "sync.fetched",
    "sync.planned",
    "sync.objects_written",
    "sync.staged",
    "sync.index_held",
    "sync.rescued",
    "sync.journal_written",
    "sync.file_written",
    "sync.tree_updated",
    "sync.quarantine_written",
    "sync.ref_moved",
    "sync.index_updated",
    "sync.indexed",
    "sync.state_noted",
    "sync.remote_set",
    "sync.publish_committed",
    "sync.pushed",
    "append.part_written",
    "append.written",
    "append.synced",
    "append.acknowledged",
    "key.written",
    "key.renamed",
    "clients.written",
    "clients.renamed",
    "objects.trying",
    "objects.seen",
    "idempotency.begun",
    "idempotency.answered",
)

_wanted, _, _count = os.environ.get("ALG_FAULT", "").partition(":")
_left = int(_count or 1)


def arm(point: str, count: int = 1) -> None:
    """From here on, as if the environment had named this point; an empty one disarms."""
    global _wanted, _left
    _wanted, _left = point, count


def reach(point: str) -> None:
    """Die here by SIGKILL when the environment asks for it; otherwise return at once."""
    global _left  # noqa: PLW0603 - counts down across calls
    if not _wanted or point != _wanted:
        return
    _left -= 1
    if _left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
