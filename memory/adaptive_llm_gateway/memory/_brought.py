"""What a few commits bring, told in process: `git rev-list --objects` takes longer to start than to answer."""

from __future__ import annotations

from itertools import islice
from typing import Final

import pygit2
from pygit2.enums import FileMode, SortMode

from adaptive_llm_gateway.memory._tree_diff import FOLDER, TreeFiles, diff_trees

_FEW: Final = 4  # of more, git tells sooner, and meanwhile this process does something else


def brought(git: pygit2.Repository, commit: str, without: str | None) -> list[tuple[str, str]] | None:
    """Each commit, and each file that `commit` leads to and `without` does not: object and path, "" for a commit.

    Of files there may be more: one that has come to another place is named, though `without` has it at the old one.
    Whatever is in a commit's tree is there in a parent's at the same path, or is named for this commit.

    Returns:
        None for many commits, and for trees of which only git tells everything.

    Raises:
        KeyError, ValueError, pygit2.GitError: an object is missing or damaged.
    """
    walk = git.walk(commit, SortMode.TOPOLOGICAL)
    if without is not None:
        walk.hide(without)
    commits = list(islice(walk, _FEW + 1))
    if len(commits) > _FEW:
        return None
    found: list[tuple[str, str]] = []
    for each in commits:
        found.append((str(each.id), ""))
        first, *others = [parent.tree for parent in each.parents] or [None]
        elsewhere = [TreeFiles(tree) for tree in others if tree is not None]
        for path, (_, new) in diff_trees(first, each.tree).items():
            if new is None or any(tree(path) == new for tree in elsewhere):
                continue
            if new.mode in (FOLDER, FileMode.COMMIT):
                return None
            found.append((new.blob, path))
    return found
