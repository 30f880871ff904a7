"""How far two commits are apart, exactly: git and libgit2 trust the times of commits, and clocks differ."""

from __future__ import annotations

import pygit2
from pygit2.enums import SortMode


def commits_beyond(git: pygit2.Repository, commit: str, other: str) -> int:
    """How many commits lead to `commit` and not to `other`.

    A walk that leaves out what leads to `other` may stop to do so too early, where a commit is older than what it is
    made on. So what it finds is looked at again; a commit on one that does not lead to `other` does not either, which
    leaves few to look at.
    """
    walk = git.walk(commit, SortMode.TOPOLOGICAL | SortMode.REVERSE)
    walk.hide(other)
    beyond: set[pygit2.Oid] = set()
    for found in walk:
        onto = any(parent in beyond for parent in found.parent_ids)
        if onto or (found.id != pygit2.Oid(hex=other) and not git.descendant_of(other, found.id)):
            beyond.add(found.id)
    return len(beyond)
