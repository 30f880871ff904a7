"""A look at a memory repo and its remote from outside, for `alg doctor`: changes nothing, also beside a running hub."""

from __future__ import annotations

from pathlib import Path

from adaptive_llm_gateway.core import AlgError
from adaptive_llm_gateway.memory._remote import Remote
from adaptive_llm_gateway.memory._repo import MemoryRepo
from adaptive_llm_gateway.memory._sync_model import problem_of
from adaptive_llm_gateway.memory._sync_state import SyncState
from adaptive_llm_gateway.memory._values import SyncProblem, SyncStatus


def look_at_sync(path: Path, *, read_only: bool = False) -> SyncStatus:
    """Where the memory repo at `path` stands, as known there, or why it cannot be opened; no network.

    Args:
        read_only: nothing is ever pushed from there.
    """
    try:
        repo = MemoryRepo(path)  # not `open`, which would mend what a crash left
    except AlgError as error:
        problem = problem_of(error)
        words = problem.git or problem.message
        return SyncStatus(
            "no_remote", kind=problem.kind, error=words, hint=problem.hint, writes="refused", problems=(problem,)
        )
    return SyncState(repo, Remote(repo, read_only=read_only), watching=True).status()


def ask_remote(path: Path, *, timeout: float) -> SyncProblem | None:
    """What keeps the remote of the memory repo at `path` from answering; None: it answers."""
    try:
        repo = MemoryRepo(path)
        Remote(repo, timeout=timeout).branches()
    except AlgError as error:
        return problem_of(error)
    return None
