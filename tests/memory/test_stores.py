"""Several memory repos as one memory: where things are written, that all is found, and what is so when one is away."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pytest

from adaptive_llm_gateway.core import InvalidInput, NotFound, ProcessLock, Trust, TrustRefused, Unavailable
from adaptive_llm_gateway.memory import (
    AppendSession,
    Author,
    DeleteMemory,
    EmbedderConfig,
    Filters,
    HashEmbedder,
    MemoryStores,
    ReplaceText,
    RepoPlace,
    RestoreMemory,
    SearchRequest,
    StoreSettings,
    WriteMemory,
    WriteSummary,
    export_memories,
)
from adaptive_llm_gateway.memory.testing import temporary_store

ME = Author("test-client")
Opener = Callable[..., MemoryStores]


def place(folder: Path, name: str, *projects: str, **settings: Any) -> RepoPlace:
    plain: dict[str, Any] = {
        "repo": folder / name,
        "index": folder / "indexes" / name / "index.db",
        "host": "testing",
        "commit_wait": 30.0,
        "watch": "off",
        "push_after_write": False,
        "embedder": EmbedderConfig(kind="none"),
        "name": name,
    }
    return RepoPlace(name, StoreSettings(**{**plain, **settings}), projects)


@pytest.fixture
def several(tmp_path: Path) -> Iterator[Opener]:
    """Opens `personal`, and `team` for the projects `acme` and `acme-*`, each time in the same folders."""
    opened: list[MemoryStores] = []

    def open_all(*, team: dict[str, Any] | None = None, more: tuple[RepoPlace, ...] = (), **settings: Any) -> Any:
        stores = MemoryStores(
            [
                place(tmp_path, "personal", **settings),
                place(tmp_path, "team", "acme", "acme-*", **{"trust": Trust.INTERNAL, **settings, **(team or {})}),
                *more,
            ]
        )
        opened.append(stores)
        assert stores.wait_ready(60)
        return stores

    yield open_all
    for stores in opened:
        stores.close()


def write(stores: MemoryStores, title: str, **given: Any) -> str:
    return stores.write(WriteMemory(ME, title=title, **given)).id


# --- Where things are written ---------------------------------------------------------------------------------------


def test_a_memory_is_written_to_the_repo_of_its_project(several: Opener) -> None:
    stores = several()
    for project, repo in [(None, "personal"), ("home", "personal"), ("acme", "team"), ("acme-web", "team")]:
        done = stores.write(WriteMemory(ME, title="T", project=project))
        assert done.repo == repo
        assert stores.stores[repo].record(done.id) is not None
        assert stores.record(done.id).repo == repo  # pyright: ignore[reportOptionalMemberAccess]
    assert stores.write(WriteMemory(ME, title="T", project="Acme")).repo == "personal"  # names as they are given


def test_the_first_repo_that_has_a_project_counts(several: Opener, tmp_path: Path) -> None:
    stores = several(more=(place(tmp_path, "everything", "*"), place(tmp_path, "late", "late")))
    assert [stores.repo_of(project) for project in ("acme", "late", "x", None, "")] == [
        "team",
        "everything",
        "everything",
        "personal",
        "personal",
    ]


def test_changes_go_to_the_repo_that_has_the_memory(several: Opener) -> None:
    stores = several()
    id = write(stores, "Decision", body="postgres\n", project="acme")
    assert stores.write(WriteMemory(ME, id=id[-8:], tags=("db",))).repo == "team"
    text = stores.read(id).text.replace("postgres", "sqlite")
    assert stores.write(ReplaceText(ME, id, text.encode())).repo == "team"
    assert stores.write(DeleteMemory(ME, id)).repo == "team"
    assert [stone.repo for stone in stores.deleted()] == ["team"]
    assert stores.history(id).repo == "team"
    assert stores.write(RestoreMemory(ME, id)).repo == "team"
    assert stores.read(id).record.body == "sqlite\n"
    assert stores.stores["personal"].record(id) is None


def test_a_session_stays_in_the_repo_in_which_it_began_and_so_does_its_summary(several: Opener) -> None:
    stores = several()
    began = stores.write(AppendSession(ME, "began", project="acme")).id
    assert stores.write(AppendSession(ME, "went on", session_id=began, project="other")).repo == "team"
    summary = stores.write(WriteSummary(ME, began, "what happened", Trust.INTERNAL))
    assert summary.repo == "team"
    log = stores.session(began)
    assert [entry.text for entry in log.entries] == ["began", "went on"]
    assert log.summary is not None
    with pytest.raises(TrustRefused):
        stores.write(WriteSummary(ME, began, "what happened", Trust.CONFIDENTIAL))


def test_a_memory_does_not_change_its_repo_with_its_project(several: Opener) -> None:
    stores = several()
    mine, ours = write(stores, "Mine", project="home"), write(stores, "Ours", project="acme")
    for id, project in ((mine, "acme"), (ours, "home"), (ours, "")):
        with pytest.raises(InvalidInput, match="does not change its repo") as caught:
            stores.write(WriteMemory(ME, id=id, project=project))
        assert "anew" in str(caught.value.hint)
    for fields in ({"project": "home"}, {"project": None}, {"project": ""}):
        with pytest.raises(InvalidInput, match="does not change its repo"):
            stores.write(WriteMemory(ME, id=ours, fields=fields))
    text = stores.read(ours).text.replace("project: acme", "project: home")
    with pytest.raises(InvalidInput, match="does not change its repo"):
        stores.write(ReplaceText(ME, ours, text.encode()))
    assert stores.write(WriteMemory(ME, id=ours, project="acme-web")).repo == "team"
    assert stores.write(WriteMemory(ME, id=mine, project="")).repo == "personal"


def test_memories_of_a_project_from_before_it_had_a_repo_are_found_and_changed_where_they_are(
    several: Opener, tmp_path: Path
) -> None:
    with temporary_store(tmp_path, repo=tmp_path / "personal", index=tmp_path / "indexes/personal/index.db") as store:
        old = store.write(WriteMemory(ME, title="From before", body="postgres\n", project="acme")).id
    stores = several()
    new = write(stores, "New", body="postgres too\n", project="acme")
    found = stores.search("postgres", filters=Filters(project="acme")).hits
    assert {hit.record.id: hit.record.repo for hit in found} == {old: "personal", new: "team"}
    assert {record.id for record in stores.list(filters=Filters(project="acme")).records} == {old, new}
    assert stores.write(WriteMemory(ME, id=old, project="acme", tags=("kept",))).repo == "personal"


def test_a_file_moved_by_hand_to_another_repo_is_found_there_under_its_id(several: Opener) -> None:
    stores = several()
    id = write(stores, "Goes to the team", body="by hand\n", project="home")
    source, target = stores.stores["personal"], stores.stores["team"]
    path = stores.read(id).record.path
    (target.repo.path / path).parent.mkdir(parents=True)
    shutil.move(source.repo.path / path, target.repo.path / path)
    for store in (source, target):
        store.reindex()
        assert store.flush(30)
    assert stores.read(id).record.repo == "team"
    assert path in target.repo.tree_files()
    assert stores.history(id).repo == "team"
    assert [stone.id for stone in stores.deleted()] == []


def test_a_file_above_the_level_moved_by_hand_is_not_taken(several: Opener) -> None:
    stores = several()
    id = write(stores, "Salaries", body="hush\n", trust=Trust.CONFIDENTIAL)
    path = stores.read(id).record.path
    team = stores.stores["team"]
    (team.repo.path / path).parent.mkdir(parents=True)
    shutil.copy(stores.stores["personal"].repo.path / path, team.repo.path / path)
    team.reindex()
    assert stores.read(id).record.repo == "personal"
    assert path not in team.repo.tree_files()
    assert [item.path for item in stores.status().skipped] == [f"team: {path}"]


def test_the_same_id_in_two_repos_is_asked_about_and_may_be_named_with_its_repo(several: Opener) -> None:
    stores = several()
    id = write(stores, "Twice", body="here\n", project="acme")
    path = stores.read(id).record.path
    personal = stores.stores["personal"]
    (personal.repo.path / path).parent.mkdir(parents=True)
    text = (stores.stores["team"].repo.path / path).read_text(encoding="utf-8")
    (personal.repo.path / path).write_text(text.replace("here", "there"), encoding="utf-8")
    personal.reindex()
    for attempt in (lambda: stores.read(id), lambda: stores.write(DeleteMemory(ME, id)), lambda: stores.history(id)):
        with pytest.raises(InvalidInput, match="is in 2 repos: 'personal', 'team'") as caught:
            attempt()
        assert f"`team/{id}`" in str(caught.value.hint)
    assert stores.read(f"personal/{id}").record.body == "there\n"
    assert stores.read(f"team/{id[-8:]}").record.body == "here\n"
    found = stores.search("twice").hits
    assert [hit.record.id for hit in found] == [id]
    assert stores.write(DeleteMemory(ME, f"personal/{id}")).repo == "personal"
    assert stores.read(id).record.repo == "team"


def test_an_id_of_no_memory_is_told_as_ever(several: Opener) -> None:
    stores = several()
    with pytest.raises(NotFound):
        stores.read("01JD0000000000000000000000")
    with pytest.raises(InvalidInput):
        stores.read("../../etc/passwd")
    with pytest.raises(InvalidInput):
        stores.read("team/../personal/x")


# --- That all is found ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["updated", "created", "title"])
@pytest.mark.parametrize("limit", [1, 3, 7, 50])
def test_a_list_pages_through_all_repos_in_order_and_misses_nothing(
    several: Opener, order: Literal["updated", "created", "title"], limit: int
) -> None:
    stores = several()
    titles = ["b", "A", "Z", "c", "ä", "0", "zz", "Aa", "m", "q", "x", "y"]
    made = [write(stores, title, project="acme" if place % 3 else None) for place, title in enumerate(titles)]
    seen: list[Any] = []
    cursor: str | None = None
    while True:
        page = stores.list(limit=limit, cursor=cursor, order=order)
        assert page.total == len(made)
        assert len(page.records) <= limit
        seen += page.records
        cursor = page.next_cursor
        if cursor is None:
            break
    assert sorted(record.id for record in seen) == sorted(made)
    keys = [record.title.lower() if order == "title" else getattr(record, order) for record in seen]
    assert keys == sorted(keys, reverse=order != "title")
    with pytest.raises(InvalidInput):
        stores.list(cursor="bm9uc2Vuc2U", order=order)
    first = stores.list(limit=1, order=order).next_cursor
    with pytest.raises(InvalidInput):
        stores.list(cursor=first, order="created" if order == "title" else "title")


@pytest.mark.parametrize("order", ["updated", "created", "title"])
def test_a_list_shows_a_memory_that_two_repos_have_once_of_each(
    several: Opener, order: Literal["updated", "created", "title"]
) -> None:
    stores = several()
    made = [write(stores, f"Twice {number}", project="acme") for number in range(3)]
    team, personal = stores.stores["team"].repo.path, stores.stores["personal"]
    for id in made:
        path = stores.stores["team"].read(id).record.path
        (personal.repo.path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(team / path, personal.repo.path / path)
    personal.reindex()
    seen: list[tuple[str | None, str]] = []
    cursor: str | None = None
    for _ in range(7):
        page = stores.list(limit=1, cursor=cursor, order=order)
        seen += [(record.repo, record.id) for record in page.records]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert sorted(seen) == sorted((repo, id) for repo in ("personal", "team") for id in made)


def test_a_search_pages_through_all_repos_and_no_hit_comes_twice(several: Opener) -> None:
    stores = several(embedder=HashEmbedder())
    made = {
        write(stores, f"Note {number}", body=f"postgres number {number}\n", project="acme" if number % 2 else None)
        for number in range(12)
    }
    seen: list[str] = []
    cursor: str | None = None
    while True:
        answer = stores.ask(SearchRequest("postgres", limit=5, cursor=cursor))
        seen += [hit.record.id for hit in answer.hits]
        assert all(hit.record.repo in ("personal", "team") for hit in answer.hits)
        cursor = answer.next_cursor
        if cursor is None:
            break
    assert len(seen) == len(set(seen))
    assert set(seen) == made


def test_words_that_hardly_occur_in_a_repo_do_not_lift_its_memories(several: Opener) -> None:
    stores = several()
    best = write(stores, "Backups of postgres", body="postgres postgres backups of postgres\n", project="acme")
    for number in range(8):
        write(stores, f"Mail {number}", body=f"long mail about gardens {number} " * 40 + "postgres\n")
    assert stores.search("postgres backups").hits[0].record.id == best


def test_the_same_text_in_two_repos_is_one_hit_that_names_the_other(several: Opener) -> None:
    stores = several()
    one, other = (write(stores, "Same", body="the very same\n", project=project) for project in (None, "acme"))
    (hit,) = stores.search("very same").hits
    assert {hit.record.id, *hit.duplicates} == {one, other}


def test_memories_like_one_are_found_in_other_repos(several: Opener) -> None:
    stores = several(embedder=HashEmbedder())
    mine = write(stores, "Connection pools", body="pgbouncer pools connections of postgres\n")
    ours = write(stores, "Pooling", body="connections to postgres are pooled by pgbouncer\n", project="acme")
    write(stores, "Garden", body="tomatoes want sun\n", project="acme")
    found = stores.ask(SearchRequest(similar_to=mine)).hits
    assert found[0].record.id == ours
    assert mine not in [hit.record.id for hit in found]


def test_all_repos_are_searched_as_they_were(several: Opener) -> None:
    stores = several()
    mine = write(stores, "Mine", body="postgres 14\n")
    ours = write(stores, "Ours", body="postgres 15\n", project="acme")
    team, commit = stores.stores["team"], stores.stores["team"].repo.head()
    stores.write(WriteMemory(ME, id=mine, body="sqlite\n"))
    stores.write(WriteMemory(ME, id=ours, body="sqlite\n"))
    (hit,) = stores.ask(SearchRequest("postgres", as_of=commit)).hits  # a commit is in one repo
    assert (hit.record.id, hit.record.repo) == (ours, "team")
    later = datetime.now(UTC).isoformat()
    both = stores.ask(SearchRequest("sqlite", as_of=later, limit=1))
    more = stores.ask(SearchRequest("sqlite", as_of=later, limit=1, cursor=both.next_cursor))
    assert {hit.record.id for hit in (*both.hits, *more.hits)} == {mine, ours}
    now = stores.ask(SearchRequest("sqlite", as_of=team.repo.head()))
    assert any("the repo 'team' as of" in notice for notice in now.notices)
    with pytest.raises(NotFound):
        stores.ask(SearchRequest("sqlite", as_of="0123456789abcdef0123456789abcdef01234567"))


def test_counts_and_types_are_of_all_repos(several: Opener, tmp_path: Path) -> None:
    types = tmp_path / "team" / "types"
    types.mkdir(parents=True)
    (types / "recipe.yaml").write_text("name: recipe\nfolder: recipes\ndescription: A dish\n", encoding="utf-8")
    stores = several()
    write(stores, "Soup", type="recipe", project="acme")
    write(stores, "Mine", tags=("x",))
    assert "recipe" in stores.types.names
    facets = stores.ask(SearchRequest(facets=True)).facets
    assert facets is not None
    assert facets.total == 2
    assert dict(facets.types) == {"recipe": 1, "note": 1}
    status = stores.status()
    assert (status.memories, status.by_type) == (2, {"recipe": 1, "note": 1})
    assert [(repo.name, repo.memories) for repo in status.repos] == [("personal", 1), ("team", 1)]


def test_what_is_exported_comes_from_all_repos(several: Opener, tmp_path: Path) -> None:
    stores = several()
    write(stores, "Mine")
    write(stores, "Ours", project="acme")
    export_memories(stores, tmp_path / "out")
    names = {path.name.rsplit("-", 1)[0] for path in (tmp_path / "out").rglob("*.md")}
    assert names == {"mine", "ours"}
    with pytest.raises(InvalidInput, match="lies in the memory repo"):
        export_memories(stores, tmp_path / "team" / "out")


def test_what_is_held_back_is_named_with_its_repo_and_given_up_there(several: Opener, tmp_path: Path) -> None:
    remote, clone = tmp_path / "remote.git", tmp_path / "clone"
    git = ["git", "-c", "core.hooksPath=/dev/null"]
    subprocess.run([*git, "init", "-q", "--bare", "-b", "main", str(remote)], check=True, timeout=60)
    stores = several(team={"remote": str(remote)})
    write(stores, "Ours", project="acme")
    team = stores.stores["team"]
    team.push().result(60)
    subprocess.run([*git, "clone", "-q", str(remote), str(clone)], check=True, timeout=60)
    (clone / "notes" / "bad.md").symlink_to("/etc/passwd")
    subprocess.run([*git, "-C", str(clone), "add", "-A"], check=True, timeout=60)
    subprocess.run([*git, "-C", str(clone), "commit", "-qm", "Hostile"], check=True, timeout=60)
    subprocess.run([*git, "-C", str(clone), "push", "-q"], check=True, timeout=60)
    team.pull().result(60)
    assert list(stores.quarantine().held) == ["team/notes/bad.md"]
    with pytest.raises(NotFound):
        stores.drop_quarantined(["notes/bad.md"], ME)
    assert [item.shown for item in stores.drop_quarantined(["team/notes/bad.md"], ME)] == ["team/notes/bad.md"]
    assert not stores.quarantine().held


# --- A repo that is away -------------------------------------------------------------------------------------------


def test_a_repo_that_another_process_has_keeps_the_others_from_nothing_and_comes_back(
    several: Opener, tmp_path: Path
) -> None:
    stores = several()
    id = write(stores, "Ours", project="acme")
    stores.close()
    lock = ProcessLock(tmp_path / "team" / ".git" / "alg-store.lock").acquire()
    stores = several()
    assert list(stores.absent) == ["team"]
    assert write(stores, "Mine")
    with pytest.raises(Unavailable, match="'team' is not there"):
        write(stores, "Would be ours", project="acme")
    with pytest.raises(Unavailable, match="'team' is not"):
        stores.write(WriteMemory(ME, id=id, tags=("x",)))
    with pytest.raises(Unavailable):
        stores.read(id)
    assert stores.stores["personal"].search("ours").hits == ()
    assert any("'team' is not there" in notice for notice in stores.search_notices())
    away = next(repo for repo in stores.status().repos if repo.name == "team")
    assert away.problem is not None
    lock.release()
    wait = threading.Event()
    for _ in range(600):
        if stores.stores.keys() >= {"team"}:
            break
        wait.wait(0.05)
    assert stores.read(id).record.repo == "team"
    assert stores.write(WriteMemory(ME, title="Ours too", project="acme")).repo == "team"
    assert list(stores.stores) == ["personal", "team"]


def test_a_repo_whose_folder_is_gone_is_not_made_anew(several: Opener, tmp_path: Path) -> None:
    stores = several()
    id = write(stores, "Ours", project="acme")
    stores.close()
    (tmp_path / "team").rename(tmp_path / "unplugged")
    stores = several()
    assert "not at" in str(stores.absent["team"])
    assert not (tmp_path / "team").exists()
    with pytest.raises(Unavailable):
        write(stores, "Would be ours", project="acme")
    stores.close()
    (tmp_path / "unplugged").rename(tmp_path / "team")
    assert several().read(id).record.repo == "team"


def test_the_personal_repo_may_be_the_one_that_is_away(several: Opener, tmp_path: Path) -> None:
    several().close()
    lock = ProcessLock(tmp_path / "personal" / ".git" / "alg-store.lock").acquire()
    stores = several()
    assert stores.write(WriteMemory(ME, title="Ours", project="acme")).repo == "team"
    with pytest.raises(Unavailable, match="'personal' is not there"):
        write(stores, "Mine")
    stores.close()
    other = ProcessLock(tmp_path / "team" / ".git" / "alg-store.lock").acquire()
    with pytest.raises(Unavailable):
        several()
    for held in (lock, other):
        held.release()


def test_a_repo_is_made_on_its_branch_and_one_on_another_is_not_touched(several: Opener, tmp_path: Path) -> None:
    stores = several(team={"branch": "memory"})
    assert stores.stores["team"].repo.branch == "memory"
    stores.close()
    stores = several(team={"branch": "other"})  # nothing was written yet
    assert stores.stores["team"].repo.branch == "other"
    write(stores, "Ours", project="acme")
    stores.close()
    stores = several(team={"branch": "memory"})
    assert "on the branch 'other'" in str(stores.absent["team"])


def test_one_model_serves_all_repos_and_is_closed_once(several: Opener) -> None:
    stores = several(embedder=EmbedderConfig(kind="onnx"))
    assert len({id(store.parts.vectorizer) for store in stores.stores.values()}) == 2
    write(stores, "Mine", body="postgres\n")
    write(stores, "Ours", body="postgres\n", project="acme")
    wait = threading.Event()
    for _ in range(1200):
        if stores.status().vectors == (2, 2):
            break
        wait.wait(0.05)
    answer = stores.search("a database")
    assert answer.mode == "hybrid"
    stores.close()
    stores.close()
