"""What a memory repo takes and what leaves it: up to a trust level, in every commit that waits, or nothing at all."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from adaptive_llm_gateway.core import RepoReadOnly, SyncError, Trust, TrustRefused, new_ulid
from adaptive_llm_gateway.memory import AppendSession, Author, ImportMemory, ReplaceText, WriteMemory
from adaptive_llm_gateway.memory._repo_rules import level_of
from adaptive_llm_gateway.memory.testing import temporary_store

ME = Author("test-client")
WORDS = "nobody else may read this\n"


def opened(bench: Any, name: str, **settings: Any) -> Any:
    """A store that is one of several, by that name."""
    bench.open(name).close()
    settings["name"] = name
    return bench._stack.enter_context(temporary_store(bench.folder / name, **settings))


def settled(bench: Any, store: Any) -> None:
    """git's own index is up to date, as people need it who use git there."""
    bench.poll(lambda: not bench.git(store, "status", "--porcelain"), "git's own index")


def refused_push(store: Any) -> SyncError:
    with pytest.raises(SyncError) as caught:
        store.push().result(60)
    return caught.value


def everything_at(bench: Any, remote: Path) -> str:
    """All that the remote's objects say."""
    listed = bench.git(remote, "rev-list", "--objects", "--all")
    return "".join(bench.git(remote, "cat-file", "-p", line.split()[0]) for line in listed.splitlines())


def raise_by_hand(bench: Any, store: Any, id: str, *, body: str = WORDS) -> Path:
    """Edit a memory's file as an editor does: confidential, with other words."""
    settled(bench, store)
    path = bench.file(store, id)
    head, _, _ = path.read_text(encoding="utf-8").partition("\n---\n")
    assert "trust: internal" in head
    head = head.replace("trust: internal", "trust: confidential")
    path.write_text(f"{head}\n---\n{body}", encoding="utf-8")
    return path


# --- The level of a file ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("---\nid: x\ntrust: confidential\n---\nBody\n", Trust.CONFIDENTIAL),
        ("---\nid: x\n---\nBody\n", Trust.INTERNAL),
        ("no front matter at all\n", Trust.INTERNAL),
        ("---\nid: x\ntrust: top secret\n---\nBody\n", Trust.SECRET),
        ("---\nid: [\ntrust: confidential\nnever closed\n", Trust.CONFIDENTIAL),
        ("---\nid: x\ntrust: internal\ntrust: confidential\n---\nBody\n", Trust.CONFIDENTIAL),
        ('---\nid: [\ntrust: "Secret"\nnever closed\n', Trust.SECRET),
        ("\ufeff---\ntrust: secret\n---\n", Trust.SECRET),
        ("---\r\ntrust: secret\r\n---\r\n", Trust.SECRET),
    ],
)
def test_the_level_of_a_file_is_what_it_says_and_what_cannot_be_read_counts_as_high(text: str, level: Trust) -> None:
    assert level_of("notes/2026/11/a.md", text.encode())[1] is level


def test_a_file_that_is_no_memory_and_names_no_level_has_none() -> None:
    assert level_of("README.md", b"# Team memory\n")[1] is None
    assert level_of("types/recipe.yaml", b"---\nname: recipe\n")[1] is None
    assert level_of("README.txt", b"---\ntrust: secret\n---\nA memory under another name\n")[1] is Trust.SECRET


# --- Writes -----------------------------------------------------------------------------------------------------


def test_a_memory_above_the_level_is_refused_and_nothing_of_it_is_on_disk(bench: Any) -> None:
    store = opened(bench, "team", trust=Trust.INTERNAL)
    before = store.repo.head()
    with pytest.raises(TrustRefused, match="'team' takes no memory above `internal`") as caught:
        bench.write(store, "Salaries", body=WORDS, trust=Trust.CONFIDENTIAL)
    assert caught.value.details["trust"] == "confidential"
    assert "another repo" in str(caught.value.hint)
    assert store.flush(30)
    assert store.repo.head() == before
    assert not list(store.repo.path.rglob("*salaries*"))
    bench.tidy(store)


def test_no_way_to_write_gets_a_memory_above_the_level(bench: Any) -> None:
    store = bench.open(trust=Trust.INTERNAL)
    known = bench.write(store, "Known", body="harmless\n")
    record = store.record(known.id)
    raised = store.read(known.id).text.replace("trust: internal", "trust: secret")
    now = record.created
    for request in (
        WriteMemory(ME, id=known.id, trust=Trust.CONFIDENTIAL),
        ReplaceText(ME, known.id, raised.encode()),
        ImportMemory(ME, new_ulid(), "note", "Imported", WORDS, now, now, trust=Trust.SECRET),
    ):
        with pytest.raises(TrustRefused):
            store.write(request)
    assert store.record(known.id) == record
    bench.tidy(store)


def test_a_memory_without_a_level_is_internal_and_a_public_repo_does_not_take_it(bench: Any) -> None:
    store = bench.open(trust=Trust.PUBLIC)
    with pytest.raises(TrustRefused):
        bench.write(store, "As usual")
    with pytest.raises(TrustRefused):
        store.write(AppendSession(ME, "What happened"))
    assert bench.write(store, "For all", trust=Trust.PUBLIC).standing.state == "committed"


def test_an_edit_by_hand_above_the_level_is_not_committed_and_the_status_says_why(bench: Any, remote: Path) -> None:
    store = bench.open(trust=Trust.INTERNAL, remote=str(remote))
    done = bench.write(store, "Plan", body="harmless\n")
    path = raise_by_hand(bench, store, done.id)
    bench.noticed(store, path)
    (skipped,) = store.skipped
    assert "confidential" in skipped.problem
    assert "not committed" in skipped.problem
    assert store.push().result(60).status.state == "pushed"
    assert WORDS.strip() not in everything_at(bench, remote)
    with pytest.raises(TrustRefused, match="edited by hand"):
        bench.update(store, done.id, tags=("x",))
    path.write_text(
        path.read_text(encoding="utf-8").replace("trust: confidential", "trust: internal"), encoding="utf-8"
    )
    bench.noticed(store, path)
    assert not store.skipped
    assert store.record(done.id).body == WORDS


# --- Pushes -----------------------------------------------------------------------------------------------------


def test_a_commit_by_hand_above_the_level_is_not_pushed_and_the_refusal_lists_it(bench: Any, remote: Path) -> None:
    store = bench.open(trust=Trust.INTERNAL, remote=str(remote))
    done = bench.write(store, "Plan", body="harmless\n")
    store.push().result(60)
    raise_by_hand(bench, store, done.id)
    bench.git(store, "commit", "-qam", "By hand")
    error = refused_push(store)
    assert error.details["kind"] == "trust_outgoing"
    (listed,) = error.details["memories"]
    assert listed["id"] == done.id
    assert listed["trust"] == "confidential"
    assert listed["path"] in error.message
    assert WORDS.strip() not in error.message
    status = store.sync_status()
    assert (status.state, status.kind) == ("failed", "trust_outgoing")
    assert WORDS.strip() not in everything_at(bench, remote)


def test_lowering_the_level_in_a_later_commit_does_not_let_the_earlier_one_out(bench: Any, remote: Path) -> None:
    store = bench.open(trust=Trust.INTERNAL, remote=str(remote))
    done = bench.write(store, "Plan", body="harmless\n")
    path = raise_by_hand(bench, store, done.id)
    bench.git(store, "commit", "-qam", "By hand")
    path.write_text(
        path.read_text(encoding="utf-8").replace("trust: confidential", "trust: internal").replace(WORDS, "cleaned\n"),
        encoding="utf-8",
    )
    bench.git(store, "commit", "-qam", "Cleaned")
    assert refused_push(store).details["kind"] == "trust_outgoing"
    bench.git(store, "rm", "-q", path.relative_to(store.repo.path).as_posix())
    bench.git(store, "commit", "-qm", "Gone")
    assert refused_push(store).details["kind"] == "trust_outgoing"
    assert not bench.git(remote, "for-each-ref")  # nothing, not even a part of it


def test_a_memory_above_the_level_in_another_place_or_under_another_name_is_not_pushed(
    bench: Any, remote: Path
) -> None:
    store = bench.open(trust=Trust.INTERNAL, remote=str(remote))
    folder = store.repo.path / "attachments"
    folder.mkdir()
    (folder / "plan.txt").write_text(f"---\ntitle: Plan\ntrust: secret\n---\n{WORDS}", encoding="utf-8")
    bench.git(store, "add", "-A")
    bench.git(store, "commit", "-qm", "Under another name")
    assert refused_push(store).details["memories"][0]["path"] == "attachments/plan.txt"


def test_a_file_that_cannot_be_read_is_not_pushed_for_that(bench: Any, remote: Path) -> None:
    store = bench.open(trust=Trust.INTERNAL, remote=str(remote))
    done = bench.write(store, "Plan", body="harmless\n")
    store.push().result(60)
    settled(bench, store)
    path = bench.file(store, done.id)
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("trust: internal\n", "trust: internal\ntrust: confidential\n"), encoding="utf-8")
    bench.git(store, "commit", "-qam", "By hand")
    assert refused_push(store).details["memories"][0]["path"] == done.path


def test_a_level_that_is_lowered_in_the_configuration_holds_for_commits_that_wait(bench: Any, remote: Path) -> None:
    store = bench.open(remote=str(remote))
    bench.write(store, "Salaries", body=WORDS, trust=Trust.CONFIDENTIAL)
    store.close()
    store = bench.open(remote=str(remote), trust=Trust.INTERNAL)
    assert refused_push(store).details["kind"] == "trust_outgoing"
    store.close()
    store = bench.open(remote=str(remote), trust=Trust.CONFIDENTIAL)
    assert store.push().result(60).status.state == "pushed"


def test_what_another_remote_has_is_looked_at_before_it_goes_to_a_new_one(
    bench: Any, remote: Path, tmp_path: Path
) -> None:
    store = bench.open(remote=str(remote))
    bench.write(store, "Salaries", body=WORDS, trust=Trust.CONFIDENTIAL)
    store.push().result(60)
    store.close()
    other = tmp_path / "other.git"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(other)], check=True, timeout=60)
    store = bench.open(remote=str(other), trust=Trust.INTERNAL)
    assert refused_push(store).details["kind"] == "trust_outgoing"
    store.close()
    store = bench.open(remote=str(remote), trust=Trust.INTERNAL)
    store.pull().result(60)
    bench.git(store, "remote", "set-url", "origin", str(other))  # by hand, while it runs
    assert refused_push(store).details["kind"] == "trust_outgoing"
    assert not bench.git(other, "for-each-ref")


def test_a_title_that_looks_like_a_secret_is_masked_in_the_list(bench: Any, remote: Path) -> None:
    token = "ghp_" + "16C7e42F292c6912E7710c838347Ae178B4a"
    store = bench.open(trust=Trust.INTERNAL, remote=str(remote))
    file = store.repo.path / "notes" / "x.md"
    file.parent.mkdir()
    file.write_text(f"---\nid: {new_ulid()}\ntitle: {token}\ntrust: secret\n---\n{WORDS}", encoding="utf-8")
    bench.git(store, "add", "-A")
    bench.git(store, "-c", "core.hooksPath=/dev/null", "commit", "-qm", "By hand")
    store._sync._secrets._scan = lambda path, data: None  # the secret alone would be refused before  # pyright: ignore
    error = refused_push(store)
    assert error.details["kind"] == "trust_outgoing"
    assert token not in str(error.as_dict())


def test_what_the_remote_has_above_the_level_is_taken_found_and_merged_and_is_no_leak(bench: Any, remote: Path) -> None:
    lax = bench.open("lax", remote=str(remote), host="lax")
    done = bench.write(lax, "Plan", body="one\n\ntwo\n\nthree\n")
    lax.push().result(60)
    strict = bench.open("strict", remote=str(remote), host="strict", trust=Trust.INTERNAL)
    strict.pull().result(60)
    bench.update(lax, done.id, trust=Trust.CONFIDENTIAL, body="ONE\n\ntwo\n\nthree\n")
    lax.push().result(60)
    bench.update(strict, done.id, body="one\n\ntwo\n\nTHREE\n")
    outcome = strict.push().result(60)  # merges first
    assert outcome.status.state == "pushed"
    merged = strict.record(done.id)
    assert merged.trust is Trust.CONFIDENTIAL
    assert merged.body == "ONE\n\ntwo\n\nTHREE\n"
    strict.reindex()
    assert strict.record(done.id).trust is Trust.CONFIDENTIAL
    with pytest.raises(TrustRefused):
        bench.update(strict, done.id, body="more of it\n")


@pytest.mark.parametrize("as_high_at_the_remote", [False, True])
def test_text_above_the_level_within_a_merge_by_hand_is_not_pushed(
    bench: Any, remote: Path, *, as_high_at_the_remote: bool
) -> None:
    one = bench.open("one", remote=str(remote), host="one")
    shared = bench.write(one, "Shared", body="harmless\n")
    one.push().result(60)
    two = bench.open("two", remote=str(remote), host="two", trust=Trust.INTERNAL)
    two.pull().result(60)
    bench.write(one, "Other")
    if as_high_at_the_remote:
        bench.update(one, shared.id, trust=Trust.CONFIDENTIAL)
    one.push().result(60)
    bench.write(two, "Mine")
    assert two.flush(30)
    settled(bench, two)
    bench.git(two, "fetch", "-q", "origin")
    bench.git(two, "merge", "-q", "--no-commit", "origin/main")
    path = bench.file(two, shared.id)
    text = path.read_text(encoding="utf-8").replace("trust: internal", "trust: confidential")
    path.write_text(text + WORDS, encoding="utf-8")
    bench.git(two, "commit", "-qam", "An evil merge")
    assert refused_push(two).details["kind"] == "trust_outgoing"


# --- Remotes that are only read ------------------------------------------------------------------------------------


def test_a_remote_that_is_only_read_is_pulled_and_writes_are_refused(bench: Any, remote: Path) -> None:
    writer = bench.open("writer", remote=str(remote), host="writer")
    done = bench.write(writer, "Handbook", body="how we work\n")
    writer.push().result(60)
    reader = opened(bench, "handbook", remote=str(remote), host="reader", read_only=True)
    assert reader.sync_status().state == "behind"
    assert reader.pull().result(60).status.state == "pulled"
    assert reader.record(done.id).body == "how we work\n"
    before = reader.repo.head()
    for request in (WriteMemory(ME, title="New"), WriteMemory(ME, id=done.id, tags=("x",)), AppendSession(ME, "x")):
        with pytest.raises(RepoReadOnly, match="'handbook' is only read"):
            reader.write(request)
    assert reader.repo.head() == before
    assert reader.sync_status().read_only


def test_what_is_only_read_and_empty_is_pulled_with_nothing_in_it(bench: Any, remote: Path) -> None:
    reader = bench.open("reader", remote=str(remote), host="reader", read_only=True)
    assert reader.sync_status().state == "behind"  # nobody has looked
    assert reader.pull().result(60).status.state == "pulled"
    status = reader.sync_status()
    assert (status.state, status.problems) == ("pulled", ())
    writer = bench.open("writer", remote=str(remote), host="writer")
    bench.write(writer, "Handbook")
    writer.push().result(60)
    assert reader.pull().result(60).changed == 1
    assert reader.sync_status().state == "pulled"


def test_edits_by_hand_of_what_is_only_read_stay_here_and_never_pass_for_pushed(bench: Any, remote: Path) -> None:
    writer = bench.open("writer", remote=str(remote), host="writer")
    done = bench.write(writer, "Handbook", body="how we work\n")
    writer.push().result(60)
    reader = bench.open(
        "reader", remote=str(remote), host="reader", read_only=True, push_after_write=True, push_delay=0.0
    )
    reader.pull().result(60)
    tip = bench.git(remote, "rev-parse", "main")
    path = bench.file(reader, done.id)
    path.write_text(path.read_text(encoding="utf-8").replace("how we work", "how I work"), encoding="utf-8")
    bench.noticed(reader, path)
    assert reader.sync_status().state == "local"
    assert reader.sync_status().ahead == 1
    assert refused_push(reader).details["kind"] == "pull_only"
    assert reader.sync_status().state == "local"  # a push that cannot be is no failure of syncing
    bench.write(writer, "More")
    writer.push().result(60)
    assert reader.pull().result(60).changed == 1
    assert reader.sync_status().state == "local"
    assert reader.record(done.id).body == "how I work\n"
    reader.close()
    assert bench.git(remote, "rev-list", "--count", "main").strip() == str(bench.commits(writer))
    assert tip.strip() in bench.git(remote, "rev-list", "main")
