"""The watcher: edits by hand are noticed, by events and by polling, and git's own work is not."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from adaptive_llm_gateway.memory import WriteMemory
from adaptive_llm_gateway.memory import _watcher as watcher_module
from adaptive_llm_gateway.memory._watcher import Watcher

# watchdog warns when two of its own ways find a new folder at once; it makes no difference to what is told.
pytestmark = pytest.mark.filterwarnings("ignore:Callback with id:RuntimeWarning")


@pytest.fixture(params=["events", "poll"])
def watching(bench: Any, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A store that watches; polling every two seconds would make the tests wait."""
    monkeypatch.setattr(watcher_module, "_POLL_SECONDS", 0.1)
    store = bench.open(watch=request.param)
    assert store.status().watcher == ("events" if request.param == "events" else "polling")
    return store


def titles(store: Any) -> set[str]:
    return {record.title for record in store.records()}


def test_new_changed_moved_and_removed_files_are_noticed(bench: Any, watching: Any) -> None:
    file = watching.repo.path / "notes" / "new.md"
    file.parent.mkdir()
    file.write_text("# First title\n", encoding="utf-8")
    bench.poll(lambda: titles(watching) == {"First title"}, "the new file")
    file.write_text(file.read_text(encoding="utf-8").replace("First title", "Second title"), encoding="utf-8")
    bench.poll(lambda: titles(watching) == {"Second title"}, "the edit")
    (record,) = watching.records()
    target = watching.repo.path / "facts" / "deep" / "moved.md"
    target.parent.mkdir(parents=True)
    file.rename(target)
    bench.poll(lambda: watching.record(record.id).path == "facts/deep/moved.md", "the move")
    target.unlink()
    bench.poll(lambda: watching.record(record.id) is None, "the removal")
    bench.tidy(watching)


def test_a_save_by_rename_as_editors_do_it_is_an_edit(bench: Any, watching: Any) -> None:
    made = bench.write(watching, "Edited", body="old\n")
    file = bench.file(watching, made.id)
    temporary = file.with_name(".edited.md.swp")
    temporary.write_bytes(file.read_bytes().replace(b"old", b"new"))
    temporary.replace(file)
    bench.poll(lambda: watching.record(made.id).body == "new\n", "the edit")
    assert not watching.deleted()
    bench.tidy(watching)


def test_a_whole_folder_that_comes_or_goes_is_noticed(bench: Any, watching: Any, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    for number in range(5):
        (outside / f"{number}.md").write_text(f"# Number {number}\n", encoding="utf-8")
    (watching.repo.path / "notes").mkdir()
    shutil.copytree(outside, tmp_path / "staging")
    (tmp_path / "staging").rename(watching.repo.path / "notes" / "in")
    bench.poll(lambda: len(titles(watching)) == 5, "the folder's files")
    (watching.repo.path / "notes" / "in").rename(tmp_path / "out")
    bench.poll(lambda: not titles(watching), "the folder's end")
    bench.tidy(watching)


def test_types_and_allowances_are_read_again_when_they_change(bench: Any, watching: Any) -> None:
    folder = watching.repo.path / "types"
    folder.mkdir()
    (folder / "recipe.yaml").write_text("name: recipe\n", encoding="utf-8")
    bench.poll(lambda: "recipe" in watching.types.names, "the new type")
    (folder / "recipe.yaml").unlink()
    bench.poll(lambda: "recipe" not in watching.types.names, "the type's end")
    allowed = watching.repo.path / "secrets-allowed.yaml"
    allowed.write_text("broken: [\n", encoding="utf-8")
    bench.poll(lambda: any("secrets-allowed" in notice for notice in watching.status().notices), "the notice")
    allowed.unlink()
    bench.poll(lambda: not watching.status().notices, "the notice's end")


def test_our_own_writes_make_no_further_commits(bench: Any, watching: Any) -> None:
    watching.write_many([WriteMemory(bench.me, title=f"n{number}") for number in range(20)])
    watching.flush()
    head = watching.repo.head()
    # Whatever the watcher makes of them comes before what it makes of this.
    (watching.repo.path / "notes" / "last.md").write_text("# Last\n", encoding="utf-8")
    bench.poll(lambda: "Last" in titles(watching), "the last file")
    watching.flush()
    assert bench.git(watching, "rev-list", "--count", f"{head}..HEAD").strip() == "1"
    bench.tidy(watching)


# --- the watcher by itself -----------------------------------------------------------------------------


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Callable[..., tuple[Path, list[set[str]], threading.Event]]]:
    """Starts a watcher on a folder; what it tells, and an event that is set then."""
    watchers: list[Watcher] = []

    def start(**given: Any) -> tuple[Path, list[set[str]], threading.Event]:
        root = tmp_path / "root"
        (root / "notes").mkdir(parents=True)
        (root / ".git").mkdir()
        told: list[set[str]] = []
        heard = threading.Event()

        def take(paths: set[str]) -> None:
            told.append(paths)
            heard.set()

        watcher = Watcher(root, on_change=take, mode=given.get("mode", "events"))
        watchers.append(watcher)
        watcher.start()
        return root, told, heard

    yield start
    for watcher in watchers:
        watcher.stop()


def test_what_happens_in_gits_folder_is_nobodys_business(watched: Any) -> None:
    root, told, heard = watched()
    (root / ".git" / "index").write_bytes(b"x")
    (root / ".git" / "refs").mkdir()
    (root / "notes" / "a.md").write_bytes(b"x")
    assert heard.wait(30)
    assert told[0] <= {"notes/a.md"}


def test_a_burst_is_told_at_once_and_paths_are_posix(watched: Any) -> None:
    root, told, heard = watched()
    for number in range(200):
        (root / "notes" / f"{number}.md").write_bytes(b"x")
    assert heard.wait(30)
    assert len(told) <= 3
    assert all(path.startswith("notes/") for paths in told for path in paths)


def test_files_of_a_new_folder_are_told_and_nothing_else(watched: Any, tmp_path: Path) -> None:
    root, told, heard = watched()
    whole = tmp_path / "whole"
    (whole / "deep").mkdir(parents=True)
    for name in ("a.md", "deep/b.md"):
        (whole / name).write_bytes(b"x")
    whole.rename(root / "notes" / "new")
    wanted = {"notes/new/a.md", "notes/new/deep/b.md"}
    deadline = time.monotonic() + 30
    while not wanted <= set().union(*told) and time.monotonic() < deadline:
        heard.wait(1)
        heard.clear()
    assert set().union(*told) == wanted


def test_a_system_without_events_is_polled_and_says_why(watched: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import watchdog.observers

    class Refused(watchdog.observers.Observer):  # pyright: ignore[reportGeneralTypeIssues, reportUntypedBaseClass]
        def start(self) -> None:
            raise OSError(28, "inotify watch limit reached")

    monkeypatch.setattr(watchdog.observers, "Observer", Refused)  # using up the system's limit would hurt others
    monkeypatch.setattr(watcher_module, "_POLL_SECONDS", 0.1)
    root, told, heard = watched(mode="auto")
    (root / "notes" / "a.md").write_bytes(b"x")
    assert heard.wait(30)
    assert any(path in ("", "notes/a.md") for paths in told for path in paths)


def test_a_watcher_that_is_off_watches_nothing_and_stops_harmlessly(tmp_path: Path) -> None:
    watcher = Watcher(tmp_path, mode="off", on_change=lambda _: pytest.fail("called"))
    watcher.start()
    (tmp_path / "a.md").write_bytes(b"x")
    watcher.stop()
    assert watcher.state == "off"
