"""What two commits have in common, also where there are several best common ancestors.

Clones that merge each other at the same time cross: then each of two commits is a common ancestor that neither of the
others descends from. Taking one of them would undo, in some clones, what was decided in the other one, and clones
would never agree. So the ancestors are merged with each other first, by the rules of every merge, as git's own merge
does (its strategies `recursive` and `ort`); what comes out is in no history.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import pygit2
from pygit2.enums import FileMode

from adaptive_llm_gateway.memory._commit_message import SYNC_AGENT
from adaptive_llm_gateway.memory._git import run_git
from adaptive_llm_gateway.memory._merge import Content, Entry, MergePlan, plan_merge
from adaptive_llm_gateway.memory._repo import MemoryRepo
from adaptive_llm_gateway.memory._tree_diff import diff_trees, list_files
from adaptive_llm_gateway.memory._tree_write import Placed, write_tree

TreeT = TypeVar("TreeT")


def merged_base(
    first: str,
    others: Sequence[str],
    *,
    bases: Callable[[str, Sequence[str]], Sequence[str]],
    tree: Callable[[str], TreeT],
    merge: Callable[[TreeT | None, TreeT, TreeT], TreeT],
    known: dict[tuple[str, ...], TreeT | None] | None = None,
) -> TreeT | None:
    """The tree that a commit and a merge of some others have in common; None without a common ancestor.

    Args:
        bases: the best common ancestors of a commit and a merge of others, as `git merge-base --all` gives them.
        merge: base, one and other to the merged tree; the same with one and other in the other order.
    """
    known = {} if known is None else known
    key = (first, *others)
    if key not in known:
        found = sorted(bases(first, others))
        result = tree(found[0]) if found else None
        for number, commit in enumerate(found):
            if number and result is not None:
                before = merged_base(commit, found[:number], bases=bases, tree=tree, merge=merge, known=known)
                result = merge(before, result, tree(commit))
        known[key] = result
    return known[key]


def common_tree(repo: MemoryRepo, ours: str, theirs: str) -> pygit2.Tree | None:
    """The tree that two commits come from; in a thread of its own, for it writes objects where ancestors cross."""
    git = repo.thread_repo

    def bases(first: str, others: Sequence[str]) -> Sequence[str]:
        listed = run_git(["merge-base", "--all", first, *others], cwd=repo.path, reading=True, check=False)
        return listed.text.split() if listed.status == 0 else []

    def merge(base: pygit2.Tree | None, one: pygit2.Tree, two: pygit2.Tree) -> pygit2.Tree:
        files: dict[str, str] = {}
        list_files(one, "", files)
        plan = plan_merge(diff_trees(base, one), diff_trees(base, two), repo.read_blob, files=files)
        return git[write_tree(git, one, _placed(git, plan), set())].peel(pygit2.Tree)

    return merged_base(ours, [theirs], bases=bases, tree=lambda commit: git[commit].peel(pygit2.Tree), merge=merge)


def only_merged(repo: MemoryRepo, ours: str, theirs: str) -> bool:
    """Whether two commits have all the same edits and differ in nothing but how clones merged them, by these rules.

    Merging in different orders may come to different files, each with everything in it. Which of the two is taken is
    of no account, but all clones must take the same, also when they keep merging each other at the same time.
    """
    apart = f"{ours}...{theirs}"
    edits = run_git(["rev-list", "--max-parents=1", "--max-count=1", apart], cwd=repo.path, reading=True)
    if edits.text.strip():
        return False
    agent = "%(trailers:key=Agent,valueonly,separator=%x2C)"
    merges = run_git(["log", f"--format={agent}", apart], cwd=repo.path, reading=True)
    return all(line == SYNC_AGENT for line in merges.text.splitlines())


def plan_choice(repo: MemoryRepo, ours: str, theirs: str) -> MergePlan:
    """Of two commits that only merged the same edits, the files of the one whose tree has the greater id."""
    git = repo.thread_repo
    one, two = git[ours].peel(pygit2.Tree), git[theirs].peel(pygit2.Tree)
    if one.id == two.id:
        return MergePlan()
    taken = theirs if str(two.id) > str(one.id) else ours
    writes: dict[str, Content] = {path: new for path, (_, new) in diff_trees(one, two).items()}
    return MergePlan(
        writes if taken == theirs else {},
        decisions=[f"took the files of {taken[:12]}: both sides had merged the same edits"],
    )


def _placed(git: pygit2.Repository, plan: MergePlan) -> dict[str, Placed]:
    placed: dict[str, Placed] = {}
    for path, content in plan.writes.items():
        if isinstance(content, Entry):
            placed[path] = (content.blob, FileMode(content.mode))
        else:
            placed[path] = None if content is None else (str(git.create_blob(content)), FileMode.BLOB)
    return placed
