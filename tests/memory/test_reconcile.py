"""Edits by hand: nothing is lost, nothing refused gets in, nothing is deleted by mistake."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from adaptive_llm_gateway.core import AlgError, InvalidFile, InvalidInput, NotFound
from adaptive_llm_gateway.memory import Author, DeleteMemory, RestoreMemory, WriteMemory

ME = Author("test-client")
TOKEN = "ghp_" + "a1B2c3D4e5F6g7H8i9J0" + "k1L2m3N4o5P6q7R8"
RECIPE = "name: recipe\nschema: {type: object, properties: {serves: {type: integer}}}\n"


def skipped(store: Any) -> dict[str, str]:
    return {item.path: item.problem for item in store.status().skipped}


# --- new and changed files ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"# A heading\n\nplain text\n",
        b"no end of line",
        b"\r\nwindows\r\n\r\n",
        "\ufeffbyte order mark\n".encode(),
        b"",
        b"\n\n\n",
        b"--\n-----\n***\n",
        "ünï \u2028 \u0085 \t\n".encode(),
    ],
)
def test_a_file_without_front_matter_is_adopted_and_its_body_stays_byte_for_byte(bench: Any, body: bytes) -> None:
    store = bench.open()
    file = store.repo.path / "notes" / "by hand.md"
    file.parent.mkdir()
    file.write_bytes(body)
    bench.noticed(store, file)
    (record,) = store.records()
    assert record.path == "notes/by hand.md"
    assert record.author.client == "editor"
    data = file.read_bytes()
    assert data.removeprefix(b"\xef\xbb\xbf").endswith(body.removeprefix(b"\xef\xbb\xbf"))
    assert data.count(f"id: {record.id}".encode()) == 1
    bench.tidy(store)
    bench.noticed(store, file)
    assert file.read_bytes() == data
    assert [other.id for other in store.records()] == [record.id]


def test_an_edit_by_hand_is_a_version_of_its_own(bench: Any) -> None:
    store = bench.open()
    made = bench.write(store, "A", body="one\n")
    file = bench.file(store, made.id)
    file.write_bytes(file.read_bytes().replace(b"one", b"by hand"))
    bench.noticed(store, file)
    assert store.record(made.id).body == "by hand\n"
    newest = store.history(made.id).revisions[0]
    assert "editor" in newest.author
    bench.tidy(store)


def test_an_edit_nobody_noticed_is_recorded_before_the_next_write(bench: Any) -> None:
    store = bench.open()
    made = bench.write(store, "A", body="one\n")
    file = bench.file(store, made.id)
    file.write_bytes(file.read_bytes().replace(b"one", b"by hand"))
    bench.update(store, made.id, tags=("t",))
    assert store.record(made.id).body == "by hand\n"
    assert len(store.history(made.id).revisions) == 3
    file.write_bytes(file.read_bytes().replace(b"by hand", b"the last word"))
    store.write(DeleteMemory(ME, made.id))
    store.write(RestoreMemory(ME, made.id))
    assert store.record(made.id).body == "the last word\n"
    bench.tidy(store)


def test_a_touched_file_makes_no_commit(bench: Any) -> None:
    store = bench.open()
    made = bench.write(store, "A", body="one\n")
    head = store.repo.head()
    bench.file(store, made.id).touch()
    bench.noticed(store, bench.file(store, made.id))
    bench.noticed(store)
    assert store.repo.head() == head
    bench.tidy(store)


def test_a_deletion_by_hand_is_a_deletion(bench: Any) -> None:
    store = bench.open()
    made = bench.write(store, "A", body="one\n")
    bench.file(store, made.id).unlink()
    bench.noticed(store, made.path)
    assert store.record(made.id) is None
    assert [stone.id for stone in store.deleted()] == [made.id]
    bench.tidy(store)
    store.write(RestoreMemory(ME, made.id))
    bench.tidy(store)


def test_a_file_that_is_broken_by_hand_is_named_kept_and_taken_in_when_repaired(bench: Any) -> None:
    store = bench.open()
    made = bench.write(store, "A", body="one\n")
    file = bench.file(store, made.id)
    good = file.read_bytes()
    file.write_bytes(good.replace(b"title: A", b"title: [A"))
    bench.noticed(store, file)
    assert "line" in skipped(store)[made.path]
    assert store.record(made.id).body == "one\n"
    assert store.repo.tree_files()[made.path] == made.version
    with pytest.raises(InvalidFile):
        store.read(made.id)
    with pytest.raises(AlgError):
        bench.update(store, made.id, body="over it\n")
    assert file.read_bytes() != good
    file.write_bytes(good.replace(b"one", b"repaired"))
    bench.noticed(store, file)
    assert skipped(store) == {}
    assert store.record(made.id).body == "repaired\n"
    bench.tidy(store)


def test_a_secret_edited_in_by_hand_is_named_and_goes_nowhere(bench: Any) -> None:
    store = bench.open()
    made = bench.write(store, "A", body="one\n")
    file = bench.file(store, made.id)
    new = store.repo.path / "notes" / "new.md"
    file.write_bytes(file.read_bytes() + f"{TOKEN}\n".encode())
    new.write_text(f"login: {TOKEN}\n", encoding="utf-8")
    bench.noticed(store)
    assert skipped(store).keys() == {made.path, "notes/new.md"}
    assert all("secret" in problem and TOKEN not in problem for problem in skipped(store).values())
    assert not store.search(TOKEN).hits
    assert TOKEN not in bench.git(store, "log", "-p")
    store.reindex()
    store.flush()
    assert skipped(store).keys() == {made.path, "notes/new.md"}
    assert TOKEN not in bench.git(store, "log", "-p")
    store.close()
    again = bench.open()
    again.flush()
    assert TOKEN not in bench.git(again, "log", "-p")
    for path in (bench.folder / "one").rglob("*"):
        if path.is_file() and path not in (file, new):
            assert TOKEN.encode() not in path.read_bytes(), path


# --- copies and moves --------------------------------------------------------------------------------


def test_a_copy_with_the_same_id_is_skipped_with_the_reason(bench: Any) -> None:
    store = bench.open()
    made = bench.write(store, "A", body="one\n")
    copy = store.repo.path / "notes" / "0 copy.md"
    shutil.copyfile(bench.file(store, made.id), copy)
    for look in (lambda: bench.noticed(store, copy), lambda: bench.noticed(store), store.reindex):
        look()
        assert made.path in skipped(store)["notes/0 copy.md"]
        assert store.record(made.id).path == made.path
    copy.write_bytes(copy.read_bytes().replace(f"id: {made.id}\n".encode(), b""))
    bench.noticed(store, copy)
    assert len(list(store.records())) == 2
    bench.tidy(store)


def test_a_copy_takes_over_when_the_first_file_goes(bench: Any) -> None:
    store = bench.open()
    made = bench.write(store, "A", body="one\n")
    copy = store.repo.path / "notes" / "copy.md"
    shutil.copyfile(bench.file(store, made.id), copy)
    bench.noticed(store, copy)
    bench.file(store, made.id).unlink()
    bench.noticed(store, made.path)
    assert store.record(made.id).path == "notes/copy.md"
    assert skipped(store) == {}
    assert not store.deleted()
    bench.tidy(store)


@pytest.mark.parametrize("seen", ["both", "new first", "old first", "everything"])
def test_a_move_by_hand_keeps_the_identity_and_is_no_deletion(bench: Any, seen: str) -> None:
    store = bench.open()
    made = bench.write(store, "A", body="walrus\n")
    bench.write(store, "B")
    new = store.repo.path / "notes" / "elsewhere" / "moved.md"
    new.parent.mkdir()
    bench.file(store, made.id).rename(new)
    match seen:
        case "both":
            bench.noticed(store, made.path, new)
        case "new first":
            bench.noticed(store, new)
            bench.noticed(store, made.path)
        case "old first":
            bench.noticed(store, made.path)
            bench.noticed(store, new)
        case _:
            bench.noticed(store)
    assert store.record(made.id).path == "notes/elsewhere/moved.md"
    assert not store.deleted()
    assert [hit.record.path for hit in store.search("walrus").hits] == ["notes/elsewhere/moved.md"]
    assert store.read(made.id, at=made.version).record.body == "walrus\n"
    bench.tidy(store)


def test_a_move_that_was_committed_by_hand_keeps_the_memory(bench: Any) -> None:
    store = bench.open()
    made = bench.write(store, "A", body="walrus\n")
    new = store.repo.path / "notes" / "moved.md"
    bench.poll(lambda: not store.repo.index_pending, "git's own index")
    bench.git(store, "mv", made.path, "notes/moved.md")
    bench.git(store, "commit", "-qm", "moved by hand", "--no-verify")
    bench.noticed(store, made.path, new)
    assert store.record(made.id).path == "notes/moved.md"
    assert not store.deleted()
    bench.tidy(store)


def test_a_folder_that_moves_takes_its_memories_along(bench: Any) -> None:
    store = bench.open()
    made = store.write_many([WriteMemory(ME, title=f"n{n}") for n in range(30)])
    store.flush()
    folder = (store.repo.path / made[0].path).parent
    folder.rename(store.repo.path / "notes" / "archive")
    bench.noticed(store)
    assert {record.id for record in store.records()} == {done.id for done in made}
    assert all(record.path.startswith("notes/archive/") for record in store.records())
    assert not store.deleted()
    assert store.status().notices == ()
    bench.tidy(store)


def test_a_move_to_another_types_folder_keeps_the_type_it_names(bench: Any) -> None:
    store = bench.open()
    made = bench.write(store, "A")
    new = store.repo.path / "facts" / "a.md"
    new.parent.mkdir()
    bench.file(store, made.id).rename(new)
    bench.noticed(store, made.path, new)
    assert store.record(made.id).type == "note"
    bench.tidy(store)


def test_a_file_moved_out_of_all_types_folders_is_deleted(bench: Any) -> None:
    store = bench.open()
    made = bench.write(store, "A")
    bench.file(store, made.id).rename(store.repo.path / "README.md")
    bench.noticed(store, made.path, "README.md")
    assert store.record(made.id) is None
    assert [stone.id for stone in store.deleted()] == [made.id]


# --- what is no deletion -----------------------------------------------------------------------------


def test_a_type_whose_declaration_breaks_keeps_its_memories(bench: Any) -> None:
    store = bench.open()
    declaration = store.repo.path / "types" / "recipe.yaml"
    declaration.parent.mkdir()
    declaration.write_text(RECIPE, encoding="utf-8")
    bench.noticed(store, declaration)
    made = bench.write(store, "Soup", type="recipe", fields={"serves": 2})
    declaration.write_text("name: [broken\n", encoding="utf-8")
    bench.noticed(store, declaration)
    assert any("recipe.yaml" in notice for notice in store.status().notices)
    assert made.path in store.repo.tree_files()
    assert made.path in skipped(store)
    assert not store.deleted()
    store.reindex()
    assert store.flush()
    assert made.path in store.repo.tree_files()
    declaration.write_text(RECIPE, encoding="utf-8")
    bench.noticed(store, declaration)
    assert store.record(made.id).fields["serves"] == 2
    assert skipped(store) == {}
    assert store.status().notices == ()


def test_a_memory_that_became_a_link_is_not_followed_and_not_deleted(bench: Any, tmp_path: Path) -> None:
    store = bench.open()
    made = bench.write(store, "A", body="one\n")
    outside = tmp_path / "outside.md"
    outside.write_text("not ours\n", encoding="utf-8")
    file = bench.file(store, made.id)
    file.unlink()
    file.symlink_to(outside)
    bench.noticed(store)
    assert "symbolic link" in skipped(store)[made.path]
    assert store.record(made.id).body == "one\n"
    assert not store.deleted()
    assert not store.search("ours").hits
    assert outside.read_text(encoding="utf-8") == "not ours\n"


@pytest.mark.parametrize("how", ["one by one", "everything", "restart", "reindex"])
def test_most_files_gone_at_once_is_not_believed_until_somebody_says_so(bench: Any, how: str) -> None:
    store = bench.open()
    paths = [done.path for done in store.write_many([WriteMemory(ME, title=f"n{n}") for n in range(25)])]
    store.flush()
    bench.poll(lambda: not store.repo.index_pending, "git's own index")
    head = store.repo.head()
    if how == "restart":
        store.close()
    for path in paths:
        (bench.folder / "one" / "memory" / path).unlink()
    match how:
        case "one by one":
            bench.noticed(store, *paths)
        case "everything":
            bench.noticed(store)
        case "reindex":
            store.reindex()
        case _:
            store = bench.open()
    store.flush()
    assert store.repo.head() == head
    if how == "reindex":  # the index holds what is there, git keeps what was
        assert store.status().memories == 0
    else:
        assert store.status().memories == 25
        assert any("gone at once" in notice for notice in store.status().notices)
    bench.git(store, "restore", ".")
    assert not any("gone at once" in notice for notice in store.status().notices)
    bench.noticed(store)
    assert store.status().memories == 25
    assert store.repo.head() == head
    bench.tidy(store)


def test_most_files_gone_at_once_is_taken_for_deletions_when_somebody_says_so(bench: Any) -> None:
    store = bench.open()
    made = store.write_many([WriteMemory(ME, title=f"n{n}") for n in range(25)])
    store.flush()
    for done in made:
        (store.repo.path / done.path).unlink()
    bench.noticed(store)
    store.reindex(accept_loss=True)
    assert store.status().memories == 0
    assert store.status().notices == ()
    assert len(store.deleted()) == 25
    bench.tidy(store)
    store.write(RestoreMemory(ME, made[3].id))
    bench.tidy(store)


# --- types and allowances ----------------------------------------------------------------------------


def test_a_declared_type_is_known_as_soon_as_its_file_is_there(bench: Any) -> None:
    store = bench.open()
    with pytest.raises(InvalidInput, match="recipe"):
        bench.write(store, "Soup", type="recipe")
    folder = store.repo.path / "recipes"
    folder.mkdir()
    (folder / "waiting.md").write_text("# Waiting\n", encoding="utf-8")
    declaration = store.repo.path / "types" / "recipe.yaml"
    declaration.parent.mkdir()
    declaration.write_text(RECIPE, encoding="utf-8")
    bench.noticed(store, declaration)
    assert "recipe" in store.types.names
    assert [record.title for record in store.records()] == ["Waiting"]
    assert bench.write(store, "Soup", type="recipe", fields={"serves": 1}).path.startswith("recipes/")
    with pytest.raises(InvalidInput, match="serves"):
        bench.write(store, "Air", type="recipe", fields={"serves": "none"})


def test_an_allowed_finding_lets_the_file_in_and_a_broken_list_is_named_once(bench: Any) -> None:
    store = bench.open()
    file = store.repo.path / "notes" / "example.md"
    file.parent.mkdir()
    file.write_text(f"an example: {TOKEN}\n", encoding="utf-8")
    bench.noticed(store, file)
    assert list(skipped(store)) == ["notes/example.md"]
    (finding,) = store.scanner.scan(f"an example: {TOKEN}\n")
    allowed = store.repo.path / "secrets-allowed.yaml"
    allowed.write_text("- fingerprint: [broken\n", encoding="utf-8")
    for _ in range(2):
        bench.noticed(store, allowed)
    assert sum("secrets-allowed.yaml" in notice for notice in store.status().notices) == 1
    allowed.write_text(f"- fingerprint: '{finding.fingerprint}'\n  reason: made up\n", encoding="utf-8")
    bench.noticed(store, allowed)
    assert store.status().notices == ()
    assert skipped(store) == {}
    assert store.status().memories == 1


# --- reindex -----------------------------------------------------------------------------------------


def test_a_reindex_gives_the_same_index_again(bench: Any) -> None:
    store = bench.open()
    store.write_many(
        [WriteMemory(ME, title=f"n{n}", body=f"word{n}\n", type="fact" if n % 2 else "note") for n in range(30)]
    )
    gone = bench.write(store, "Gone")
    store.write(DeleteMemory(ME, gone.id))
    store.flush()
    before = {record.id: (record.path, record.version, record.title, record.body) for record in store.records()}
    head = store.repo.head()
    report = store.reindex()
    assert report.indexed == 30
    assert report.skipped == ()
    after = {record.id: (record.path, record.version, record.title, record.body) for record in store.records()}
    assert after == before
    assert store.repo.head() == head
    assert [stone.id for stone in store.deleted()] == [gone.id]
    assert store.status().index == "ready"
    bench.tidy(store)


def test_a_reindex_says_what_it_skipped_and_why(bench: Any) -> None:
    store = bench.open()
    folder = store.repo.path / "notes"
    folder.mkdir()
    (folder / "latin.md").write_bytes(b"caf\xe9\n")
    (folder / "nul.md").write_bytes(b"a\0b\n")
    (folder / "open.md").write_bytes(b"---\ntitle: x\n")
    (folder / "type.md").write_bytes(b"---\ntype: bogus\n---\n")
    (folder / "good.md").write_bytes(b"good\n")
    (folder / ".hidden.md").write_bytes(b"hidden\n")
    (folder / "text.txt").write_bytes(b"no memory\n")
    (folder / "loop").symlink_to(folder)
    report = store.reindex()
    assert report.indexed == 1
    assert {item.path for item in report.skipped} == {
        "notes/latin.md", "notes/nul.md", "notes/open.md", "notes/type.md", "notes/loop",
    }  # fmt: skip
    assert all(item.problem for item in report.skipped)
    store.flush()
    committed = store.repo.tree_files()
    assert "notes/good.md" in committed
    assert not any(item.path in committed for item in report.skipped)


def test_files_that_come_and_go_meanwhile_stop_no_reindex(bench: Any) -> None:
    store = bench.open()
    bench.write(store, "Stays")
    end = threading.Event()

    def churn() -> None:
        number = 0
        while not end.is_set():
            number += 1
            file = store.repo.path / "notes" / f"c{number % 40}.md"
            file.write_bytes(b"x\n")
            file.unlink(missing_ok=True)

    busy = threading.Thread(target=churn)
    busy.start()
    try:
        for _ in range(20):
            store.reindex()
            store.status()
    finally:
        end.set()
        busy.join(30)
    store.reindex()
    bench.noticed(store)
    assert "Stays" in {record.title for record in store.records()}


def test_an_update_of_a_memory_whose_file_is_gone_says_so(bench: Any) -> None:
    store = bench.open()
    made = bench.write(store, "A")
    bench.file(store, made.id).unlink()
    with pytest.raises(NotFound):
        bench.update(store, made.id, body="x\n")
    with pytest.raises(NotFound):
        store.read(made.id)


def test_what_a_merge_by_hand_leaves_on_the_way_is_not_committed(bench: Any) -> None:
    store = bench.open()
    made = bench.write(store, "A", body="one\n")
    file = bench.file(store, made.id)
    marker = store.repo.git_dir / "MERGE_HEAD"
    marker.write_text(f"{store.repo.head()}\n", encoding="utf-8")
    good = file.read_bytes()
    file.write_bytes(good + b"<<<<<<< HEAD\nmine\n=======\ntheirs\n>>>>>>> other\n")
    store._edited({made.path})
    store._writer.run(lambda: None).result(30)
    indexed = store.record(made.id).body
    marker.unlink()
    file.write_bytes(good + b"both\n")
    store._edited({made.path})
    store.close()
    assert "<<<<<<<" not in indexed
    assert "<<<<<<<" not in bench.git(store.repo.path, "log", "-p")


def test_a_file_that_was_broken_by_hand_can_be_set_back(bench: Any) -> None:
    store = bench.open()
    made = bench.write(store, "A", body="one\n")
    bench.file(store, made.id).write_bytes(b"---\ntitle: [\n---\nx\n")
    bench.noticed(store, made.path)
    store.write(RestoreMemory(ME, made.id, at=made.version))
    assert store.read(made.id).record.body == "one\n"


def test_a_look_beside_the_writer_names_what_differs_and_nothing_else(bench: Any) -> None:
    store = bench.open()
    paths = [bench.file(store, bench.write(store, f"Memory {number}").id) for number in range(4)]
    assert store.flush()

    def look() -> set[str] | None:
        found = store._reconciler.look(store.types)
        return None if found is None else set(found)

    assert look() == set()
    paths[0].write_bytes(paths[0].read_bytes() + b"more\n")
    paths[1].unlink()
    moved = paths[2].with_name("elsewhere.md")
    paths[2].rename(moved)
    named = {path.relative_to(store.repo.path).as_posix() for path in (*paths[:3], moved)}
    assert look() == named
    bench.noticed(store, *paths[:3], moved)
    assert look() == set()
    paths[3].unlink()
    paths[3].symlink_to(moved)
    assert look() is None  # a link is skipped and named, which a look at everything does
    bench.noticed(store)
    assert skipped(store).keys() == {paths[3].relative_to(store.repo.path).as_posix()}


def test_a_link_that_a_sync_finds_is_named_and_forgotten_when_it_goes(bench: Any, tmp_path: Path) -> None:
    remote = tmp_path / "remote.git"
    bench.git(tmp_path, "init", "--quiet", "--bare", str(remote))
    store = bench.open(remote=str(remote))
    bench.write(store, "A")
    link = store.repo.path / "notes" / "link.md"
    link.symlink_to("nowhere.md")
    store.push().result(60)
    assert skipped(store).keys() == {"notes/link.md"}
    link.unlink()
    store.push().result(60)
    assert skipped(store) == {}
