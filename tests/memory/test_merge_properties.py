"""What is true of every merge, tried on random trees, and of any number of clones that merge in any order.

A seed that fails is the test's parameter: running that test alone replays it.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from merge_made import Tree, merge_trees

from adaptive_llm_gateway.memory._frontmatter import Document
from adaptive_llm_gateway.memory._merge_base import merged_base
from adaptive_llm_gateway.memory._merge_files import parsed
from adaptive_llm_gateway.memory._merge_places import folded

TOKEN = re.compile(rb"w\d+x")
"""What lines, tags and texts are made of; each is written once."""
TIMES = [f"2026-11-20T{hour:02d}:00:00Z" for hour in range(8, 20)]
ODD_TIMES = [None, "", "yesterday", 5, "99999-01-01", "2026-11-20T12:00:00+02:00", "2026-11-20"]
NAMES = ["notes/same.md", "notes/Same.md", "notes/same.md/inner.md", "notes/caf\u00e9.md", "notes/cafe\u0301.md"]
FILES = ["README.md", "readme.md", "data", "data/x.bin", "types/log.yaml", "data/x.bin/deep.txt"]


def memory_id(number: int) -> str:
    return f"01JD{number:022d}"


def unwritable(tree: Tree) -> list[str]:
    """Paths that are a file and a folder."""
    return sorted(path for path in tree if any(other.startswith(path + "/") for other in tree))


def confusable(tree: Tree) -> set[tuple[str, str]]:
    """Pairs of paths that some file systems take for one."""
    names: dict[str, list[str]] = {}
    for path in tree:
        names.setdefault(folded(path), []).append(path)
    return {(one, two) for group in names.values() for one in group for two in group if one < two}


def tokens(tree: Tree) -> dict[bytes, int]:
    counts: dict[bytes, int] = {}
    for data in tree.values():
        for token in TOKEN.findall(data):
            counts[token] = counts.get(token, 0) + 1
    return counts


# --- edits ----------------------------------------------------------------------------------------------


class Editor:
    """Makes random edits.

    Attributes:
        removed: tokens that an edit took away from some file.
        written: all tokens.
    """

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)  # noqa: S311 - so that a seed replays
        self.removed: set[bytes] = set()
        self.written: set[bytes] = set()
        self._count = 0

    def edit(self, tree: Tree) -> Tree:
        result = dict(tree)
        for _ in range(self.chance.randrange(1, 4)):
            self._edit_once(result)
        before, after = tokens(tree), tokens(result)
        self.removed |= {token for token, count in before.items() if after.get(token, 0) < count}
        self.written |= after.keys()
        return result

    def _word(self) -> str:
        self._count += 1
        return f"w{self._count}x"

    def _line(self, end: str = "\n") -> str:
        return f"{self._word()} {self.chance.choice(['plain', 'ümlaut 漢', '- item', '# head', '---', ''])}{end}"

    def _edit_once(self, tree: Tree) -> None:
        chance = self.chance
        paths = sorted(tree)
        kind = chance.randrange(20)
        if not paths or kind < 4:
            self._add(tree)
            return
        path = chance.choice(paths)
        match kind:
            case 4:
                del tree[path]
            case 5:
                self._move(tree, path, f"{path.removesuffix('.md')}-{self._word()}.md")
            case 6 if len(paths) > 1:
                other = chance.choice([name for name in paths if name != path])
                tree[path], tree[other] = tree[other], tree[path]
            case 7:
                self._put(tree, f"notes/copy-{self._word()}.md", tree[path])
            case 8:
                self._move(tree, path, chance.choice(NAMES))
            case _:
                tree[path] = self._changed(tree[path])

    def _put(self, tree: Tree, path: str, data: bytes) -> None:
        if path in tree or unwritable({**tree, path: data}) != unwritable(tree):
            return
        tree[path] = data

    def _move(self, tree: Tree, path: str, target: str) -> None:
        data = tree.pop(path)
        self._put(tree, target, data)
        if target not in tree or tree[target] != data:
            tree[path] = data

    def _add(self, tree: Tree) -> None:
        chance = self.chance
        match chance.randrange(7):
            case 0:
                data = f"{self._line()}{self._line()}".encode()
                self._put(tree, chance.choice(FILES), data if chance.random() < 0.7 else b"\0\xff" + data)
            case 1:  # an import: the same memory, on each machine elsewhere
                number = chance.randrange(3)
                self._put(tree, f"facts/{chance.randrange(3)}-{number:08d}.md", self._memory(number))
            case 2:
                self._put(tree, chance.choice(NAMES), self._memory(chance.randrange(10**6, 10**7)))
            case 3:
                event = {"type": "handoff", "event": "claim", "step": chance.randrange(9), "handoff": memory_id(7)}
                number = chance.randrange(20, 22)
                self._put(tree, f"handoffs/2026/11/00000007/{number}.md", self._memory(number, **event))
            case _:
                number = chance.randrange(10**6, 10**7)
                self._put(tree, f"notes/2026/11/t-{number:08d}.md", self._memory(number))

    def _memory(self, number: int, **fields: object) -> bytes:
        chance = self.chance
        common: dict[str, object] = {
            "id": memory_id(number),
            "type": chance.choice(["note", "task", "decision"]),
            "title": "T",
            "created": chance.choice(TIMES),
            "updated": chance.choice(TIMES),
            "tags": [self._word()],
        }
        end = chance.choice(["\n", "\n", "\r\n"])
        body = "".join(self._line(end) for _ in range(chance.randrange(4)))
        return self._ended(Document.new({**common, **fields}, body).render())

    def _ended(self, data: bytes) -> bytes:
        return data.rstrip(b"\r\n") if self.chance.random() < 0.15 and data.count(b"---\n") < 3 else data

    def _changed(self, data: bytes) -> bytes:
        chance = self.chance
        document = parsed(data)
        if document is None:
            return data + (b"" if data.endswith(b"\n") else b"\n") + self._line().encode()
        fields: dict[str, object] = {"updated": chance.choice(ODD_TIMES if chance.random() < 0.15 else TIMES)}
        removed = ["updated"] if fields["updated"] is None else []
        lines = document.body.splitlines(keepends=True)
        match chance.randrange(11):
            case 0:
                lines = []
            case 1 | 2:
                lines.append(self._line())
            case 3:
                lines.insert(0, self._line())
            case 4:
                place = chance.randrange(len(lines) + 1)
                lines[place : place + chance.randrange(3)] = [self._line() for _ in range(chance.randrange(1, 3))]
            case 5:
                fields |= {"tags": [*chance.sample(tags := list(document.fields.get("tags") or []), len(tags))][1:]}
            case 6:
                fields |= {"tags": [*(document.fields.get("tags") or []), self._word()], "title": self._word()[1:]}
            case 7:
                fields |= {"status": chance.choice(["open", "in_progress", "done", "accepted", "superseded", "odd"])}
            case 8:
                fields |= {
                    "mine": {chance.choice("ab"): chance.randrange(9)},
                    "trust": chance.choice(["public", "secret"]),
                }
            case 9:
                fields |= {"rationale": f"{self._line()}{self._line()}"}
            case _:
                data = document.with_fields({}, removed=["id"]).render()
                return data if chance.random() < 0.3 else data.replace(b"title: T", b"title: [")
        changed = document.with_fields(
            {key: value for key, value in fields.items() if value is not None}, removed=removed
        )
        return self._ended(changed.with_body("".join(lines)).render())


# --- clones ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Commit:
    tree: Tree
    parents: tuple[str, ...]
    ancestors: frozenset[str]


@dataclass(slots=True)
class History:
    """Commits of all clones. Merge bases are found as git finds them."""

    commits: dict[str, Commit] = field(default_factory=dict[str, Commit])
    bases: dict[tuple[str, ...], Tree | None] = field(default_factory=dict[tuple[str, ...], "Tree | None"])
    removed: set[bytes] = field(default_factory=set[bytes])

    def commit(self, tree: Tree, *parents: str) -> str:
        name = f"c{len(self.commits):05d}"
        ancestors = frozenset({name}).union(*(self.commits[parent].ancestors for parent in parents))
        self.commits[name] = Commit(tree, parents, ancestors)
        return name

    def merge_bases(self, first: str, others: Sequence[str]) -> list[str]:
        found = self.commits[first].ancestors & frozenset().union(*(self.commits[each].ancestors for each in others))
        return sorted(each for each in found if not any(each in self.commits[o].ancestors for o in found - {each}))

    def merge(self, ours: str, theirs: str) -> str:
        """What a clone is at after it merged another commit."""
        one, two = self.commits[ours], self.commits[theirs]
        if theirs in one.ancestors:
            return ours
        if ours in two.ancestors:
            return theirs
        if all(len(self.commits[each].parents) > 1 for each in one.ancestors ^ two.ancestors):
            return self.commit(max(one.tree, two.tree, key=lambda tree: sorted(tree.items())), ours, theirs)
        base = merged_base(
            ours,
            [theirs],
            bases=self.merge_bases,
            tree=lambda name: self.commits[name].tree,
            merge=lambda base, ours, theirs: merge_trees(base or {}, ours, theirs, keep=False)[0],
            known=self.bases,
        )
        return self.commit(checked_merge(base or {}, one.tree, two.tree, removed=self.removed), ours, theirs)


def checked_merge(base: Tree, ours: Tree, theirs: Tree, *, removed: set[bytes] | None = None) -> Tree:
    """A merge of which everything that must always be true is checked.

    Args:
        removed: tokens that an edit took away, of a memory that two clones made alike, of which the base knows nothing.
    """
    result, plan = merge_trees(base, ours, theirs)
    other, mirrored = merge_trees(base, theirs, ours)
    assert other == result, "a merge depends on whose side is whose"
    assert sorted(mirrored.decisions) == sorted(plan.decisions)
    assert not unwritable(result), "a path is a file and a folder"
    assert confusable(result) <= confusable(ours) | confusable(theirs) | confusable(base), "paths cannot be told apart"
    assert merge_trees(ours, result, ours)[0] == result
    assert merge_trees(ours, result, ours)[1].writes == {}
    assert merge_trees(theirs, result, result)[1].writes == {}
    for data in result.values():
        assert b"<<<<<<<" not in data
        assert b">>>>>>>" not in data
    known = tokens(base)
    for side in (ours, theirs):
        lost = {token for token in tokens(side) if token not in known} - tokens(result).keys() - (removed or set())
        assert not lost, f"lines that a side added are gone: {sorted(lost)}"
    return result


# --- what is true ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(150))
def test_a_merge_of_two_trees_loses_nothing_and_does_not_depend_on_the_side(seed: int) -> None:
    editor = Editor(seed)
    base: Tree = {}
    for _ in range(4):
        base = editor.edit(base)
    ours, theirs = base, base
    for _ in range(editor.chance.randrange(1, 3)):
        ours, theirs = editor.edit(ours), editor.edit(theirs)
    checked_merge(base, ours, theirs)
    checked_merge({}, ours, theirs)


def run_clones(seed: int, *, clones: int, rounds: int) -> tuple[Editor, History, list[str]]:
    """Clones that edit and merge each other in any order; their commits at the end."""
    editor = Editor(seed)
    history = History(removed=editor.removed)
    tree: Tree = {}
    for _ in range(3):
        tree = editor.edit(tree)
    heads = [history.commit(tree)] * clones
    for _ in range(rounds):
        for number in range(clones):
            if editor.chance.random() < 0.6:
                head = heads[number]
                heads[number] = history.commit(editor.edit(history.commits[head].tree), head)
        before = list(heads)
        for _ in range(editor.chance.randrange(clones + 1)):
            one, two = editor.chance.sample(range(clones), 2)
            # Half of the time what the other was at before this round, so that merges cross.
            heads[one] = history.merge(heads[one], editor.chance.choice([before[two], heads[two]]))
    return editor, history, heads


def trees(history: History, heads: Sequence[str]) -> list[Tree]:
    return [history.commits[head].tree for head in heads]


# Those at the end were found by trying thousands: what was kept before is kept again, with other fields or by another
# file's edit; one id in several files; a binary file that became two memories; ancestors that cross and clash.
@pytest.mark.parametrize(
    ("seed", "clones"),
    [*itertools.product(range(15), range(2, 6)), (2412, 5), (2909, 5), (5904, 4), (9687, 5)],
)
def test_clones_that_merge_in_any_order_end_with_the_same_files_and_every_line(seed: int, clones: int) -> None:
    editor, history, heads = run_clones(seed * 10 + clones, clones=clones, rounds=4)
    for _ in range(10 * clones):
        one, two = editor.chance.sample(range(clones), 2)
        heads[one] = history.merge(heads[one], heads[two])
        if len(set(heads)) == 1:
            break
    for number in [*range(1, clones), *range(1, clones)]:
        heads[0] = history.merge(heads[0], heads[number])
        heads[number] = history.merge(heads[number], heads[0])
    assert len(set(heads)) == 1
    first, *others = trees(history, heads)
    assert all(other == first for other in others)
    missing = editor.written - editor.removed - tokens(first).keys()
    assert not missing


@pytest.mark.parametrize("clones", [2, 3, 4])
@pytest.mark.parametrize("seed", range(10))
def test_clones_that_all_merge_at_the_same_time_agree_after_a_few_rounds(seed: int, clones: int) -> None:
    editor, history, heads = run_clones(seed * 10 + clones, clones=clones, rounds=3)
    sizes: list[int] = []
    for _ in range(2 * clones + 2):
        heads = [history.merge(head, heads[(number + 1) % clones]) for number, head in enumerate(heads)]
        found = trees(history, heads)
        sizes.append(max(len(tree) for tree in found))
        if all(tree == found[0] for tree in found):
            break
    first, *others = trees(history, heads)
    assert all(other == first for other in others), sizes
    assert not editor.written - editor.removed - tokens(first).keys()


@pytest.mark.parametrize("first", [True, False])
def test_where_merges_crossed_a_later_change_back_is_not_undone(*, first: bool) -> None:
    history = History()

    def task(title: str, hour: int) -> Tree:
        fields = {"id": memory_id(1), "type": "task", "title": title, "updated": TIMES[hour]}
        return {"tasks/t-00000001.md": Document.new(fields, "").render()}

    readme = {"README": b"w1x"}
    start = history.commit(task("old", 0))
    sides = [task("new", 1), {**task("old", 0), **readme}]
    one, two = (history.commit(side, start) for side in (sides if first else reversed(sides)))
    crossed = history.merge(one, two)
    back = history.commit({**task("old", 2), **readme}, history.commit(history.commits[crossed].tree, two, one))
    assert history.merge_bases(crossed, [back]) == [one, two]
    for ours, theirs in ((crossed, back), (back, crossed)):
        assert history.commits[history.merge(ours, theirs)].tree == history.commits[back].tree
