"""The merge planner: what comes out does not depend on who merges."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from merge_made import Blobs, Tree, changes, merge_trees

from adaptive_llm_gateway.core import is_ulid
from adaptive_llm_gateway.memory._frontmatter import Document
from adaptive_llm_gateway.memory._line_merge import merge_lines
from adaptive_llm_gateway.memory._merge import Entry, MergePlan, plan_merge
from adaptive_llm_gateway.memory._merge_files import beside, merge_files
from adaptive_llm_gateway.memory._repo import MemoryRepo

ID = "01JD0000000000000000000001"
OTHER_ID = "01JD0000000000000000000002"


def memory(
    body: str = "one\ntwo\nthree\n", *, updated: str = "2026-11-20T10:00:00Z", id: str = ID, **fields: object
) -> bytes:
    base: dict[str, object] = {"id": id, "type": "note", "title": "T", "created": "2026-11-01T00:00:00Z"}
    return Document.new({**base, "updated": updated, **fields}, body).render()


LATER, LATEST = "2026-11-20T11:00:00Z", "2026-11-20T12:00:00Z"


def merged(base: bytes | None, ours: bytes, theirs: bytes) -> Document:
    both = merge_files(base, ours, theirs)
    assert both is not None
    other = merge_files(base, theirs, ours)
    assert other == both
    return Document.parse(both.data)


# --- lines ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "first", "second", "result"),
    [
        ("a\nb\nc\n", "A\nb\nc\n", "a\nb\nC\n", "A\nb\nC\n"),
        ("a\nb\n", "a\n", "a\nb\nc\n", None),
        ("a\nb\nc\n", "a\nc\n", "a\nb\nc\nd\n", "a\nc\nd\n"),
        ("a\n", "a\nb\n", "a\nc\n", "a\nb\nc\n"),
        ("a", "a\nb", "a\nc", "a\nb\nc"),
        ("a\n", "a\nb\nc\n", "a\nc\n", "a\nb\nc\n"),
        ("a\n", "a\n\n## Log\nx\n", "a\n\n## Log\ny\n", "a\n\n## Log\nx\ny\n"),
        ("a\r\nb\r\n", "a\r\nb\r\nc\r\n", "x\r\nb\r\n", "x\r\nb\r\nc\r\n"),
        ("a\n", "b\n", "c\n", None),
        ("", "b\n", "c\n", None),
        ("", "b\n", "b\n", "b\n"),
        ("a\n", "a", "a\n", "a"),
        ("a\nb", "a\nb\n", "A\nb", "A\nb\n"),
        ("a\r\n", "a\r\nb", "a\r\n\r\n", "a\r\nb\r\n\r\n"),
        ("a\nb\n", "a\nb\nc", "a\nb\n\n", "a\nb\nc\n\n"),
        ("a\nb\n\n\nc\n", "A\nb\n\n\n", "a\nb\n\n\nc", "A\nb\n\n\n"),
        ("a\rb\r", "a\rb", "A\rb\r", "A\rb"),
    ],
)
def test_lines_merge_where_they_do_not_clash(base: str, first: str, second: str, result: str | None) -> None:
    assert merge_lines(base, first, second) == result


texts = st.lists(st.sampled_from(["a\n", "b\n", "c\n", "\n"]), max_size=8).map("".join)


@given(texts, texts, texts)
def test_no_line_that_a_side_added_is_missing_from_a_merge(base: str, first: str, second: str) -> None:
    result = merge_lines(base, first, second)
    if result is None:
        return
    for side in (first, second):
        added = set(side.splitlines()) - set(base.splitlines())
        assert added <= set(result.splitlines())


@given(texts, texts)
def test_merging_with_an_unchanged_or_equal_side_gives_the_other(base: str, side: str) -> None:
    assert merge_lines(base, side, base) == side
    assert merge_lines(base, base, side) == side
    assert merge_lines(base, side, side) == side


def test_texts_that_differ_too_much_are_given_up_in_bounded_time() -> None:
    base = "".join(f"{number}\n" for number in range(20_000))
    other = "".join(f"x{number}\n" for number in range(20_000))
    assert merge_lines(base, other, base.replace("7", "8")) is None


# --- one file -------------------------------------------------------------------------------------------


def test_fields_and_body_changed_on_different_sides_are_joined() -> None:
    result = merged(
        memory(tags=["x"]),
        memory(tags=["x", "mine"], updated=LATER),
        memory("one\ntwo\nthree\nfour\n", tags=["x", "theirs"], updated=LATEST),
    )
    assert result.body == "one\ntwo\nthree\nfour\n"
    assert set(result.fields["tags"]) == {"x", "mine", "theirs"}
    assert result.fields["updated"] == LATEST


def test_a_scalar_that_both_changed_goes_to_the_newer() -> None:
    result = merged(memory(), memory(title="Mine", updated=LATEST), memory(title="Theirs", updated=LATER))
    assert result.fields["title"] == "Mine"
    assert merged(memory(), memory(title="Mine"), memory(title="Theirs")).fields["title"] in ("Mine", "Theirs")


def test_times_are_compared_as_times_not_as_text() -> None:
    early, late = "2026-11-20T23:00:00+12:00", "2026-11-20T12:00:00Z"
    result = merged(memory(), memory(title="Early", updated=early), memory(title="Late", updated=late))
    assert result.fields["title"] == "Late"


def test_an_item_that_one_side_took_away_stays_away() -> None:
    result = merged(memory(tags=["a", "b"]), memory(tags=["b"], updated=LATER), memory(tags=["a", "b", "c"]))
    assert result.fields["tags"] == ["b", "c"]


def test_unknown_fields_and_comments_survive() -> None:
    base = memory().replace(b"title: T\n", b"title: T # keep me\nmine: {a: 1}\n")
    result = merge_files(base, base.replace(b"one", b"ONE"), base.replace(b"three", b"THREE").replace(b"a: 1", b"a: 2"))
    assert result is not None
    assert b"# keep me" in result.data
    assert Document.parse(result.data).fields["mine"] == {"a": 2}


def test_bodies_that_clash_are_both_kept_and_linked() -> None:
    result = merge_files(
        memory(), memory("one\nMINE\nthree\n", updated=LATER), memory("one\nTHEIRS\nthree\n", updated=LATEST)
    )
    assert result is not None
    assert result.kept is not None
    winner, loser = Document.parse(result.data), Document.parse(result.kept)
    assert (winner.body, loser.body) == ("one\nTHEIRS\nthree\n", "one\nMINE\nthree\n")
    assert winner.fields["id"] == ID
    assert is_ulid(loser.fields["id"])
    assert loser.fields["id"] == result.kept_id != ID
    assert loser.fields["links"] == [{"rel": "conflicts_with", "id": ID}]
    assert winner.fields["links"] == [{"rel": "conflicts_with", "id": result.kept_id}]
    for data in (result.data, result.kept):
        assert b"<<<<" not in data
        assert b">>>>" not in data


def test_two_machines_that_merge_the_same_clash_make_the_same_files() -> None:
    sides = memory("mine\n", updated=LATER), memory("theirs\n", updated=LATEST)
    assert merge_files(memory(), *sides) == merge_files(memory(), *reversed(sides))


def test_files_that_are_no_memories_merge_by_lines_or_not_at_all() -> None:
    result = merge_files(b"a\nb\nc\n", b"A\nb\nc\n", b"a\nb\nC\n")
    assert result is not None
    assert result.data == b"A\nb\nC\n"
    assert merge_files(b"a\n", b"b\n", b"c\n") is None
    assert merge_files(b"\0a", b"\0b", b"\0c") is None
    assert merge_files(None, b"b\n", b"c\n") is None
    assert merge_files(b"\xff", b"\xfe", b"\xfd") is None


@pytest.mark.parametrize(
    "odd",
    [
        b"---\nid: [\n---\n",
        b"---\n<<<<<<< HEAD\n---\nx",
        b"",
        b"---\na: &a [*a]\n---\n",
    ],
)
def test_a_file_that_is_no_memory_any_more_loses_nothing(odd: bytes) -> None:
    plan, store = planned(memory(), odd, memory("one\nchanged\nthree\n", updated=LATER))
    held = {store[content.blob] if isinstance(content, Entry) else content for content in contents(plan, store, odd)}
    assert any(b"changed" in data for data in held if data)
    assert odd in held


def test_no_side_can_take_away_what_makes_a_memory_or_win_with_an_impossible_time() -> None:
    odd = b"---\ntitle: Mine\nupdated: 99999-01-01\n---\none\ntwo\nthree\n"
    result = merged(memory(), odd, memory("one\nTWO\nthree\n", updated=LATER))
    assert dict(result.fields) == dict(Document.parse(memory(title="Mine", updated=LATER)).fields)
    assert result.body == "one\nTWO\nthree\n"


# --- trees ----------------------------------------------------------------------------------------------

PATH = "notes/2026/11/t-00000001.md"


def both_ways(base: Tree, ours: Tree, theirs: Tree) -> Tree:
    result, _ = merge_trees(base, ours, theirs)
    assert merge_trees(base, theirs, ours)[0] == result
    return result


def planned(base: bytes, ours: bytes, theirs: bytes) -> tuple[MergePlan, Blobs]:
    store = Blobs()
    return (
        plan_merge(
            changes(store, {PATH: base}, {PATH: ours}), changes(store, {PATH: base}, {PATH: theirs}), store.__getitem__
        ),
        store,
    )


def contents(plan: MergePlan, store: Blobs, ours: bytes) -> list[Entry | bytes | None]:
    return [*plan.writes.values(), *([] if PATH in plan.writes else [ours])]


def test_changes_to_different_files_are_all_there() -> None:
    base = {"a.md": b"1", "b.md": b"1", "c.md": b"1"}
    ours = {"a.md": b"2", "b.md": b"1", "c.md": b"1", "mine.md": b"m"}
    theirs = {"a.md": b"1", "c.md": b"3", "theirs.md": b"t"}
    assert both_ways(base, ours, theirs) == {"a.md": b"2", "c.md": b"3", "mine.md": b"m", "theirs.md": b"t"}


def test_an_edit_beats_a_deletion_and_says_so() -> None:
    edited = memory("edited\n", updated=LATER)
    assert both_ways({PATH: memory()}, {}, {PATH: edited}) == {PATH: edited}
    _, plan = merge_trees({PATH: memory()}, {}, {PATH: edited})
    assert any("deleted" in decision for decision in plan.decisions)


def test_a_file_both_deleted_is_gone() -> None:
    assert both_ways({PATH: memory()}, {}, {}) == {}


def test_a_move_on_one_side_and_an_edit_on_the_other_meet_in_one_file() -> None:
    new = "notes/2026/11/other-title-00000001.md"
    edited = memory("one\ntwo\nthree\nfour\n", updated=LATER)
    assert both_ways({PATH: memory()}, {new: memory()}, {PATH: edited}) == {new: edited}
    renamed = memory(title="Other", updated=LATEST)
    result = both_ways({PATH: memory()}, {new: renamed}, {PATH: edited})
    assert list(result) == [new]
    assert b"four" in result[new]
    assert b"title: Other" in result[new]


def test_a_move_beats_a_deletion() -> None:
    assert both_ways({PATH: memory()}, {"notes/x.md": memory()}, {}) == {"notes/x.md": memory()}


def test_two_moves_of_one_memory_end_in_the_newer_place() -> None:
    ours, theirs = memory(title="A", updated=LATER), memory(title="B", updated=LATEST)
    result = both_ways({PATH: memory()}, {"notes/a.md": ours}, {"notes/b.md": theirs})
    assert list(result) == ["notes/b.md"]


def test_a_memory_created_twice_by_an_import_becomes_one() -> None:
    ours, theirs = memory(tags=["a"]), memory(tags=["b"], updated=LATER)
    result = both_ways({}, {"notes/2026/10/x.md": ours}, {"notes/2026/11/x.md": theirs})
    assert list(result) == ["notes/2026/11/x.md"]
    assert Document.parse(result["notes/2026/11/x.md"]).fields["tags"] == ["b", "a"]


def test_two_different_memories_at_one_path_are_both_kept() -> None:
    ours, theirs = memory("mine\n"), memory("theirs\n", id=OTHER_ID, updated=LATER)
    result = both_ways({}, {"notes/t.md": ours}, {"notes/t.md": theirs})
    assert result == {"notes/t.md": theirs, "notes/t-00000001.md": ours}


def test_other_files_that_clash_are_both_kept() -> None:
    result = both_ways({"x.bin": b"\0"}, {"x.bin": b"\0a"}, {"x.bin": b"\0b"})
    assert sorted(result.values()) == [b"\0a", b"\0b"]


def test_a_name_beside_another_keeps_its_slug_and_suffix() -> None:
    assert beside("notes/2026/11/a-title-0abc1234.md", "zz") == "notes/2026/11/a-title-zz.md"
    assert beside("notes/a.md", "zz") == "notes/a-zz.md"
    assert beside("types/x.yaml", "zz") == "types/x-zz.yaml"


MODES = [0o100644, 0o100755, 0o120000]


@pytest.mark.parametrize("data", [(b"1", b"1", b"1"), (b"1", b"2", b"1"), (b"1\n2\n3\n", b"0\n2\n3\n", b"1\n2\n4\n")])
@pytest.mark.parametrize("modes", list(itertools.product(MODES, repeat=3)))
def test_modes_and_symbolic_links_merge_the_same_from_either_side(
    data: tuple[bytes, bytes, bytes], modes: tuple[int, int, int]
) -> None:
    store = Blobs()
    base, ours, theirs = (Entry(mode, store.put(each).blob) for mode, each in zip(modes, data, strict=True))

    def planned_tree(mine: Entry, other: Entry) -> dict[str, Entry]:
        one, two = ({"x": (base, side)} if side != base else {} for side in (mine, other))
        plan = plan_merge(one, two, store.__getitem__, files={"x": mine.blob})
        result: dict[str, Entry | bytes | None] = {"x": mine, **plan.writes}
        return {
            path: found if isinstance(found, Entry) else store.put(found) for path, found in result.items() if found
        }

    found = planned_tree(ours, theirs)
    assert found == planned_tree(theirs, ours)
    if theirs in (ours, base):
        assert found == {"x": ours}
    elif ours == base:
        assert found == {"x": theirs}
    if MODES[2] in (ours.mode, theirs.mode) and base not in (ours, theirs) and ours != theirs:
        assert set(found.values()) == {ours, theirs}


def test_a_name_beside_another_is_never_too_long() -> None:
    name = beside(f"notes/{'ü' * 125}a.md", "0abc1234")
    assert len(name.removeprefix("notes/").encode()) <= 255
    assert name.endswith("ü-0abc1234.md")


@pytest.mark.parametrize("content", [b"", b"---\nid: [\n---\n"])
def test_every_place_beside_a_file_may_be_taken(content: bytes) -> None:
    ours, theirs = memory("mine\n"), memory("theirs\n", id=OTHER_ID, updated=LATER)
    blob = MemoryRepo.blob_id(ours)
    taken = {f"notes/t-{mark}.md": content for mark in ("00000001", blob[:8], blob[:16], blob)}
    base = dict(taken)
    result = both_ways(base, {**base, "notes/t.md": ours}, {**base, "notes/t.md": theirs})
    assert result == {**base, "notes/t.md": theirs, f"notes/t-{blob}-2.md": ours}


def test_a_memory_whose_own_name_is_taken_is_not_dropped() -> None:
    path = "notes/t-00000001.md"
    ours, theirs = memory("mine\n"), memory("theirs\n", id=OTHER_ID, updated=LATER)
    result = both_ways({}, {path: ours}, {path: theirs})
    assert sorted(result.values()) == sorted([ours, theirs])


def test_what_is_kept_goes_beside_though_one_side_deleted_an_earlier_one() -> None:
    base, ours, theirs = memory("a\n"), memory("x\n", updated=LATER), memory("y\n")
    first = both_ways({PATH: base}, {PATH: ours}, {PATH: theirs})
    (kept,) = first.keys() - {PATH}
    # One side threw away what was kept, the other brings the same text again.
    result = both_ways({PATH: base, kept: first[kept]}, {PATH: ours}, {PATH: theirs, kept: first[kept]})
    assert set(result) == {PATH, kept}
    assert Document.parse(result[kept]).body == "y\n"


def random_edit(chance: random.Random, tree: dict[str, bytes], clock: int) -> dict[str, bytes]:
    result = dict(tree)
    for _ in range(chance.randrange(1, 4)):
        clock += 1
        stamp = f"2026-11-20T{chance.randrange(24):02d}:{chance.randrange(60):02d}:{clock % 60:02d}Z"
        path = chance.choice([*result, "new"])
        word = f"{chance.randrange(10**6)}\n"
        if path == "new":
            id = f"01JD{chance.randrange(10**6):022d}"
            result[f"notes/{id[-8:].lower()}.md"] = memory(word * 3, id=id, updated=stamp)
            continue
        document = Document.parse(result[path])
        lines = document.body.splitlines(keepends=True)
        match chance.randrange(5):
            case 0:
                del result[path]
                continue
            case 1:
                lines.append(word)
            case 2:
                lines[chance.randrange(len(lines) or 1) : len(lines)] = [word]
            case 3:
                document = document.with_fields({"tags": [word.strip()], "title": f"T{word.strip()}"})
            case _:
                result[path.replace(".md", f"-{word.strip()}.md")] = result.pop(path)
                continue
        result[path] = document.with_fields({"updated": stamp}).with_body("".join(lines)).render()
    return result


@pytest.mark.parametrize("seed", range(150))
def test_a_merge_is_the_same_from_either_side_and_loses_no_new_line(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311
    base: dict[str, bytes] = {}
    for _ in range(3):
        base = random_edit(chance, base, 0)
    ours, theirs = random_edit(chance, base, 10), random_edit(chance, base, 30)
    result = both_ways(base, ours, theirs)
    text = b"".join(result.values())
    known = set(b"".join(base.values()).splitlines())
    for tree in (ours, theirs):
        for data in tree.values():
            for line in Document.parse(data).body.encode().splitlines():
                assert line in known or line in text
    ids = [Document.parse(data).fields["id"] for data in result.values()]
    assert len(ids) == len(set(ids))
    assert b"<<<<<<<" not in text
