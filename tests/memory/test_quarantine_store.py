"""What is held back, as the store has it: not found, not overwritten, listed, mended and given up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adaptive_llm_gateway.core import InvalidInput, NotFound, Quarantined, SecretRefused
from adaptive_llm_gateway.memory import (
    AppendSession,
    Author,
    DeleteMemory,
    RestoreMemory,
    SearchRequest,
    WriteMemory,
)
from adaptive_llm_gateway.memory._frontmatter import Document
from adaptive_llm_gateway.memory._quarantine import QUARANTINE_FILE, QUARANTINE_REF

ME = Author("test-client")
TOKEN = "ghp_" + "a1B2c3D4e5F6g7H8i9J0" + "k1L2m3N4o5P6q7R8"
WAIT = 60


class Mate:
    """A team mate with plain git."""

    def __init__(self, bench: Any, remote: Path, folder: Path) -> None:
        self.bench, self.folder = bench, folder
        bench.git(remote.parent, "clone", "-q", str(remote), str(folder))

    def push(self, path: str, text: str | None, message: str = "careless") -> str:
        self.bench.git(self.folder, "pull", "-q", "--ff-only")
        file = self.folder / path
        if text is None:
            file.unlink()
        else:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        self.bench.git(self.folder, "add", "-A", "--", path)
        self.bench.git(self.folder, "commit", "-qm", message)
        self.bench.git(self.folder, "push", "-q", "origin", "HEAD:main")
        return str(self.bench.git(self.folder, "rev-parse", "HEAD")).strip()

    def text(self, path: str) -> str:
        return (self.folder / path).read_text(encoding="utf-8")


@pytest.fixture
def store(bench: Any, remote: Path) -> Any:
    found = bench.open("one", remote=str(remote), host="box-one")
    bench.write(found, "Alpha", body="first walrus\n")
    found.push().result(WAIT)
    return found


@pytest.fixture
def mate(bench: Any, store: Any, remote: Path, tmp_path: Path) -> Mate:
    return Mate(bench, remote, tmp_path / "mate")


@pytest.fixture
def alpha(store: Any) -> Any:
    """The memory that all have."""
    (record,) = store.records()
    return record


@pytest.fixture
def bad(store: Any, mate: Mate, alpha: Any) -> str:
    """A newer version of it with a secret in it, held back here."""
    text = mate.text(alpha.path).replace("first walrus", f"second otter {TOKEN}")
    mate.push(alpha.path, text)
    store.pull().result(WAIT)
    return text


def mended(bad: str) -> str:
    return bad.replace(TOKEN, "the token is elsewhere")


def test_a_held_back_version_is_not_found_and_the_good_one_is(bench: Any, store: Any, alpha: Any, bad: str) -> None:
    assert not store.search("otter").hits
    assert not store.search(TOKEN).hits
    assert [hit.record.id for hit in store.search("walrus").hits] == [alpha.id]
    assert store.read(alpha.id).record.body == "first walrus\n"
    assert store.sync_status().state == "pushed"
    (notice,) = store.status().notices
    assert alpha.path in notice
    assert "alg memory quarantine" in notice
    assert TOKEN not in notice
    report = store.reindex()
    assert (report.indexed, report.skipped) == (1, ())
    bench.followed(store)
    assert bench.git(store, "show", f"HEAD:{alpha.path}") == bad


def test_no_question_about_the_past_shows_a_secret_that_is_held_back(store: Any, alpha: Any, bad: str) -> None:
    head = store.repo.head()
    for at in (head, "HEAD", store.quarantine().held[alpha.path].entry.blob):
        with pytest.raises(SecretRefused) as caught:
            store.read(alpha.id, at=at)
        assert TOKEN not in str(caught.value.as_dict())
    with pytest.raises((SecretRefused, Quarantined)):
        store.write(RestoreMemory(ME, alpha.id, head))
    answer = store.ask(SearchRequest("otter", as_of=head))
    assert all(TOKEN not in hit.snippet for hit in answer.hits)
    assert not [hit for hit in answer.hits if "otter" in hit.snippet]
    assert TOKEN not in str(store.history(alpha.id))


def test_a_secret_in_a_commit_message_of_the_remote_is_masked_in_history_and_reasons(
    store: Any, mate: Mate, alpha: Any
) -> None:
    message = f"use {TOKEN}\n\nwrite: {alpha.path}\nAgent: claude {TOKEN}\nReason: because of {TOKEN}\n"
    mate.push(alpha.path, mate.text(alpha.path).replace("walrus", "badger"), message)
    outcome = store.pull().result(WAIT)
    assert [hit.record.id for hit in store.search("badger").hits] == [alpha.id]
    assert TOKEN not in str(store.history(alpha.id))
    assert TOKEN not in str(store.record(alpha.id))
    assert TOKEN not in str(outcome)
    assert "history" in outcome.notices[0]
    assert len(store.quarantine().history) == 1


def test_a_write_to_a_memory_whose_newer_version_is_held_back_is_refused_and_says_what_to_do(
    store: Any, alpha: Any, bad: str
) -> None:
    head = store.repo.head()
    for request in (
        WriteMemory(ME, id=alpha.id, body="mine\n"),
        WriteMemory(ME, id=alpha.id, title="Another"),
        DeleteMemory(ME, alpha.id),
    ):
        with pytest.raises(Quarantined) as caught:
            store.write(request)
        assert caught.value.code == "quarantined"
        assert caught.value.details["path"] == alpha.path
        assert "alg memory quarantine" in str(caught.value.hint)
        assert TOKEN not in str(caught.value.as_dict())
    assert store.repo.head() == head
    assert store.read(alpha.id).record.body == "first walrus\n"


def test_other_writes_go_on_and_are_pushed(bench: Any, store: Any, mate: Mate, alpha: Any, bad: str) -> None:
    made = bench.write(store, "Beta", body="badger\n")
    assert store.push().result(WAIT).status.state == "pushed"
    bench.git(mate.folder, "pull", "-q")
    assert mate.text(made.path)
    assert mate.text(alpha.path) == bad


def test_a_session_goes_on_in_a_new_file_where_a_version_of_its_file_is_held_back(
    bench: Any, store: Any, mate: Mate
) -> None:
    session = store.write(AppendSession(Author("codex"), "began here")).id
    path = store.record(session).path
    store.push().result(WAIT)
    bench.git(mate.folder, "pull", "-q")
    mate.push(path, mate.text(path) + f"\n{TOKEN}\n")
    store.pull().result(WAIT)
    store.write(AppendSession(Author("codex"), "went on", session_id=session))
    log = store.session(session)
    assert [entry.text for entry in log.entries] == ["began here", "went on"]


def test_a_mended_version_comes_in_and_can_be_written_again(
    bench: Any, store: Any, mate: Mate, alpha: Any, bad: str
) -> None:
    mate.push(alpha.path, mended(bad))
    outcome = store.pull().result(WAIT)
    assert outcome.notices == ()
    assert [hit.record.id for hit in store.search("otter").hits] == [alpha.id]
    assert bench.update(store, alpha.id, body="mine\n").standing.state == "committed"
    assert store.status().notices == ()
    bench.tidy(store)


def test_an_allowance_brings_it_in_at_once_and_at_the_next_start(
    bench: Any, store: Any, mate: Mate, alpha: Any, bad: str
) -> None:
    (finding,) = store.scanner.scan(bad)
    allowed = f"- fingerprint: {finding.fingerprint}\n  reason: an example\n"
    (store.repo.path / "secrets-allowed.yaml").write_text(allowed, encoding="utf-8")
    bench.noticed(store, "secrets-allowed.yaml")
    assert not store.quarantine()
    assert [hit.record.id for hit in store.search("otter").hits] == [alpha.id]
    assert (store.repo.path / alpha.path).read_text(encoding="utf-8") == bad


def test_what_is_allowed_while_nothing_runs_comes_in_at_the_start(
    bench: Any, store: Any, remote: Path, alpha: Any, bad: str
) -> None:
    (finding,) = store.scanner.scan(bad)
    store.close()
    allowed = f"- fingerprint: {finding.fingerprint}\n  reason: an example\n"
    (store.repo.path / "secrets-allowed.yaml").write_text(allowed, encoding="utf-8")
    again = bench.open("one", remote=str(remote), host="box-one")
    assert again.wait_ready(WAIT)
    assert not again.quarantine()
    assert [hit.record.id for hit in again.search("otter").hits] == [alpha.id]


def test_a_restart_takes_neither_the_older_file_for_an_edit_nor_the_missing_one_for_a_deletion(
    bench: Any, store: Any, mate: Mate, remote: Path, alpha: Any, bad: str
) -> None:
    mate.push("notes/2026/11/new.md", f"# New\n\n{TOKEN}\n")
    store.pull().result(WAIT)
    head = store.repo.head()
    store.close()
    again = bench.open("one", remote=str(remote), host="box-one")
    assert again.wait_ready(WAIT)
    assert again.flush(WAIT)
    again.reindex()
    again.pull().result(WAIT)
    assert again.repo.head() == head
    assert len(again.quarantine().held) == 2
    bench.followed(again)


def _lose(file: Path) -> None:
    file.unlink()


def _garble(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-40])


def _lose_a_line(file: Path) -> None:
    file.write_text(file.read_text(encoding="utf-8").replace('"kind": "secret"', '"kind": "sekret"'), encoding="utf-8")


@pytest.mark.parametrize("running", [False, True])
@pytest.mark.parametrize("damage", [_lose, _garble, _lose_a_line])
def test_the_older_text_never_undoes_theirs_though_the_list_of_what_is_held_back_is_lost(
    bench: Any, store: Any, remote: Path, alpha: Any, bad: str, damage: Callable[[Path], None], running: bool
) -> None:
    known = store.quarantine()
    assert known.held[alpha.path]
    if not running:
        store.close()
    damage(store.repo.git_dir / QUARANTINE_FILE)
    again = store if running else bench.open("one", remote=str(remote), host="box-one")
    assert again.wait_ready(WAIT)
    assert again.quarantine() == known
    bench.git(again, "gc", "-q", "--prune=now")
    bench.git(again, "commit-graph", "write", "--reachable")
    bench.git(again, "fsck", "--strict")
    bench.write(again, "Beta", body="something else\n")
    again.reindex()
    again.sync().result(WAIT)
    assert bench.git(again, "show", f"HEAD:{alpha.path}") == bad
    assert bench.git(remote, "show", f"main:{alpha.path}") == bad
    assert again.read(alpha.id).record.body == "first walrus\n"
    assert again.quarantine() == known


def test_nothing_of_what_is_held_back_is_left_in_git_once_it_is_over(
    bench: Any, store: Any, mate: Mate, alpha: Any, bad: str
) -> None:
    assert bench.git(store, "for-each-ref", "--format=%(refname)", QUARANTINE_REF).strip() == QUARANTINE_REF
    mate.push(alpha.path, mended(bad))
    store.pull().result(WAIT)
    assert not store.quarantine()
    assert not bench.git(store, "for-each-ref", QUARANTINE_REF)


def test_a_pull_and_push_in_one_tells_what_is_held_back(store: Any, alpha: Any, bad: str) -> None:
    (notice,) = store.sync().result(WAIT).notices
    assert alpha.path in notice


def test_it_can_be_given_up_and_the_last_good_version_goes_to_everybody(
    bench: Any, store: Any, mate: Mate, alpha: Any, bad: str
) -> None:
    mate.push("notes/2026/11/new.md", f"# New\n\n{TOKEN}\n")
    store.pull().result(WAIT)
    with pytest.raises(NotFound):
        store.drop_quarantined(["notes/nothing.md"], ME)
    with pytest.raises(InvalidInput):
        store.drop_quarantined([], ME)
    dropped = store.drop_quarantined([alpha.path, "notes/2026/11/new.md"], ME)
    assert [item.path for item in dropped] == [alpha.path, "notes/2026/11/new.md"]
    assert not store.quarantine().held
    assert {item.where for item in store.quarantine().history} == {alpha.path, "notes/2026/11/new.md"}
    assert "history has 2 secrets that are in no file any more" in store.status().notices[-1]
    assert bench.update(store, alpha.id, body="third\n").standing.state == "committed"
    store.push().result(WAIT)
    bench.git(mate.folder, "pull", "-q")
    assert Document.parse((mate.folder / alpha.path).read_bytes()).body == "third\n"
    assert not (mate.folder / "notes/2026/11/new.md").exists()
    bench.tidy(store)


def test_an_edit_by_hand_of_a_held_back_memory_is_found_and_committed_beside_it(
    bench: Any, store: Any, mate: Mate, alpha: Any, bad: str
) -> None:
    file = bench.file(store, alpha.id)
    for word in ("lynx", "marten"):
        file.write_text(file.read_text(encoding="utf-8").replace("first", f"first {word}"), encoding="utf-8")
        bench.noticed(store, file)
    assert alpha.id in [hit.record.id for hit in store.search("marten").hits]
    others = [record for record in store.records() if record.id != alpha.id]
    assert [record.body for record in others] == ["first marten lynx walrus\n"]
    assert [(link.rel, link.id) for link in others[0].links] == [("conflicts_with", alpha.id)]
    assert bench.git(store, "show", f"HEAD:{alpha.path}") == bad
    bench.followed(store)
    store.push().result(WAIT)
    mate.push(alpha.path, mended(bad))
    store.pull().result(WAIT)
    assert store.read(alpha.id).record.body.startswith("second otter")
    assert store.read(others[0].id).record.body == "first marten lynx walrus\n"
    assert not store.quarantine()
    bench.tidy(store)


def test_a_held_back_memory_that_is_removed_by_hand_stays_in_the_commits(
    bench: Any, store: Any, alpha: Any, bad: str
) -> None:
    bench.file(store, alpha.id).unlink()
    bench.noticed(store, alpha.path)
    assert store.record(alpha.id) is None
    assert bench.git(store, "show", f"HEAD:{alpha.path}") == bad
    assert store.quarantine().held[alpha.path].kept is None
    store.push().result(WAIT)
    bench.followed(store)


def test_a_memory_that_a_team_mate_broke_is_still_found_and_the_status_says_what_is_wrong(
    bench: Any, store: Any, mate: Mate, alpha: Any
) -> None:
    broken = mate.text(alpha.path).replace(
        "title: Alpha", "<<<<<<< HEAD\ntitle: Alpha\n=======\ntitle: Beta\n>>>>>>> x"
    )
    mate.push(alpha.path, broken)
    outcome = store.pull().result(WAIT)
    assert (outcome.status.state, outcome.notices) == ("pushed", ())
    assert [hit.record.id for hit in store.search("walrus").hits] == [alpha.id]
    (skipped,) = store.status().skipped
    assert skipped.path == alpha.path
    assert (store.repo.path / alpha.path).read_text(encoding="utf-8") == broken
    bench.followed(store)


def test_a_memory_of_an_unknown_type_comes_in_and_is_listed_as_skipped(store: Any, mate: Mate, alpha: Any) -> None:
    mate.push(alpha.path, mate.text(alpha.path).replace("type: note", "type: spell"))
    store.pull().result(WAIT)
    assert [item.path for item in store.status().skipped] == [alpha.path]
    assert [hit.record.id for hit in store.search("walrus").hits] == [alpha.id]


def test_a_type_that_is_invalid_is_told_and_nothing_else_suffers(store: Any, mate: Mate, alpha: Any) -> None:
    mate.push("types/recipe.yaml", "name: [recipe\n")
    mate.push(alpha.path, mate.text(alpha.path).replace("walrus", "badger"))
    store.pull().result(WAIT)
    assert [hit.record.id for hit in store.search("badger").hits] == [alpha.id]
    assert any("types/recipe.yaml" in notice for notice in store.status().notices)
