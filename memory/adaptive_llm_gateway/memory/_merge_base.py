"""What two commits have in common, also where there are several best common ancestors.

Clones that merge each other at the same time cross: then each of two commits is a common ancestor that neither of the
others descends from. Taking one of them would undo, in some clones, what was decided in the other one, and clones
would never agree. So the ancestors are merged with each other first, by the rules of every merge, as git's own merge
does (its strategies `recursive` and `ort`); what comes out is in no history.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import pygit2
from pygit2.enums import FileMode

from adaptive_llm_gateway.memory._git import run_git
from adaptive_llm_gateway.memory._merge import Content, Entry, MergePlan, plan_merge
from adaptive_llm_gateway.memory._repo import MemoryRepo
from adaptive_llm_gateway.memory._repo_checks import is_plain_path
from adaptive_llm_gateway.memory._tree_diff import diff_trees, list_files
from adaptive_llm_gateway.memory._tree_write import Placed, write_tree

_MOST_MERGES: Final = 32
"""Merge commits between two clones that are looked at; where there are more, they count as edits."""

_MOST_STEPS: Final = 256
"""Commits on either side that are followed one by one before git is asked."""

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
        merge: base, one and other to the merged tree, with nothing kept that is in neither; the same with one and
            other in the other order.
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


class Ancestry:
    """What commits of a memory repo come from; in a thread of its own, for it writes objects where merges crossed."""

    def __init__(self, repo: MemoryRepo) -> None:
        self._repo = repo
        self._git = repo.thread_repo
        self._trees: dict[tuple[str, ...], pygit2.Tree | None] = {}

    def common_tree(self, ours: str, theirs: str) -> pygit2.Tree | None:
        """The tree that two commits come from; None where they have nothing in common."""
        return merged_base(
            ours,
            [theirs],
            bases=self._bases,
            tree=self._tree,
            merge=lambda base, one, two: self._merge_trees(base, one, two, keep=False),
            known=self._trees,
        )

    def only_merged(self, ours: str, theirs: str) -> bool:
        """Whether two commits have all the same edits, and differ in nothing but the order of merges.

        Merging in different orders may come to different files, each with everything in it. Which of the two is taken
        is of no account, but all clones must take the same, also when they keep merging each other at the same time.
        A merge commit that has other files than the rules come to, because somebody changed it, counts as an edit.
        """
        if self.meeting(ours, theirs) is not None:
            return ours == theirs
        apart = f"{ours}...{theirs}"
        if self._list("rev-list", "--max-parents=1", "--max-count=1", apart):
            return False
        merges = [
            line.split() for line in self._list("rev-list", "--parents", f"--max-count={_MOST_MERGES + 1}", apart)
        ]
        return len(merges) <= _MOST_MERGES and all(
            len(parents) == 2 and self._tree(commit).id == self._merge(*parents).id for commit, *parents in merges
        )

    def _merge(self, one: str, two: str) -> pygit2.Tree:
        if self.only_merged(one, two):
            return max(self._tree(one), self._tree(two), key=lambda tree: str(tree.id))
        return self._merge_trees(self.common_tree(one, two), self._tree(one), self._tree(two), keep=True)

    def _merge_trees(self, base: pygit2.Tree | None, one: pygit2.Tree, two: pygit2.Tree, *, keep: bool) -> pygit2.Tree:
        files: dict[str, str] = {}
        list_files(one, "", files)
        plan = plan_merge(diff_trees(base, one), diff_trees(base, two), self._repo.read_blob, files=files, keep=keep)
        return self._git[write_tree(self._git, one, _placed(self._git, plan), set())].peel(pygit2.Tree)

    def meeting(self, one: str, two: str) -> str | None:
        """The one best common ancestor of two commits; None where somebody merged since, and git has to tell."""
        tips: list[str | None] = [one, two]
        seen: tuple[set[str], set[str]] = (set(), set())
        for _ in range(_MOST_STEPS):
            for side, tip in enumerate(tips):
                if tip is None:
                    continue
                if tip in seen[1 - side]:
                    return tip
                seen[side].add(tip)
                found: Any = self._git.get(tip)
                parents: list[pygit2.Oid] = found.parent_ids if isinstance(found, pygit2.Commit) else []
                tips[side] = str(parents[0]) if len(parents) == 1 else None
            if tips == [None, None]:
                break
        return None

    def _bases(self, first: str, others: Sequence[str]) -> Sequence[str]:
        meeting = self.meeting(first, others[0]) if len(others) == 1 else None
        if meeting is not None:
            return [meeting]
        return self._list("merge-base", "--all", first, *others, check=False)

    def _tree(self, commit: str) -> pygit2.Tree:
        return self._git[commit].peel(pygit2.Tree)

    def _list(self, *arguments: str, check: bool = True) -> list[str]:
        listed = run_git(arguments, cwd=self._repo.path, reading=True, check=check)
        return listed.text.splitlines() if listed.status == 0 else []


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
        if content is None:
            placed[path] = None
        elif not is_plain_path(path):  # somebody's commit has it all the same; nothing here will
            continue
        elif isinstance(content, Entry):
            placed[path] = (content.blob, FileMode(content.mode))
        else:
            placed[path] = (str(git.create_blob(content)), FileMode.BLOB)
    return placed
