"""The audit log: what is in it, that it holds, and what becomes of it on a crash, a full disk and in many years."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from adaptive_llm_gateway.core import DiskFull, InvalidInput, Unavailable
from adaptive_llm_gateway.server._audit import AuditLog
from adaptive_llm_gateway.server._audit_entry import AuditEntry, Gathering
from adaptive_llm_gateway.server._audit_files import AuditFiles, note_now
from adaptive_llm_gateway.server._audit_read import audit_query, newest

NOW = 1_800_000_000.0


def entry(action: str = "memory_search", **fields: Any) -> AuditEntry:
    return AuditEntry(fields.pop("at", NOW), action, transport="http", **fields)


def actions(folder: Path) -> list[str]:
    return [each["action"] for each in AuditFiles(folder).newest_first()][::-1]


# --- the files ----------------------------------------------------------------------------------------------------


def test_entries_are_a_chain_over_files_that_are_turned_over_by_size(tmp_path: Path) -> None:
    files = AuditFiles(tmp_path / "audit", file_bytes=1000)
    for number in range(40):
        files.append([entry(f"a{number}").as_json()])
    check = files.verify()
    assert check.holds
    assert len(check.files) > 5
    assert sum(each.entries for each in check.files) == 40
    assert actions(tmp_path / "audit") == [f"a{number}" for number in range(40)]


def test_nobody_else_may_read_it(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        note_now(tmp_path / "audit", entry().as_json())
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "audit").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "audit/000001.jsonl").stat().st_mode) == 0o600


@pytest.mark.parametrize("how", ["change", "remove", "swap", "add", "cut a file's end", "remove a file"])
def test_whatever_is_changed_afterwards_breaks_the_chain(how: str, tmp_path: Path) -> None:
    files = AuditFiles(tmp_path, file_bytes=1000)
    for number in range(20):
        files.append([entry(f"a{number}", client="one").as_json()])
    first = tmp_path / "000001.jsonl"
    lines = first.read_bytes().splitlines(keepends=True)
    assert len(lines) > 2
    match how:
        case "change":
            first.write_bytes(b"".join(lines).replace(b'"one"', b'"two"', 1))
        case "remove":
            first.write_bytes(b"".join(lines[:1] + lines[2:]))
        case "swap":
            first.write_bytes(b"".join([lines[1], lines[0], *lines[2:]]))
        case "add":
            first.write_bytes(b"".join([*lines, lines[-1]]))
        case "cut a file's end":
            first.write_bytes(b"".join(lines[:-1]))
        case _:
            first.unlink()
    assert not files.verify().holds


def test_what_was_cut_from_the_very_end_shows_by_a_hash_that_was_noted(tmp_path: Path) -> None:
    files = AuditFiles(tmp_path)
    for number in range(3):
        files.append([entry(f"a{number}").as_json()])
    noted = files.verify().last
    files.append([entry("later").as_json()])
    assert files.verify(contains=noted).holds
    path = tmp_path / "000001.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:2]))
    assert files.verify().holds  # the file by itself cannot tell
    assert not files.verify(contains=noted).holds


def test_old_files_go_by_age_and_by_size_and_the_log_says_so_and_holds(tmp_path: Path) -> None:
    files = AuditFiles(tmp_path, file_bytes=1000)
    for number in range(40):
        files.append([entry(f"a{number}").as_json()])
    paths = files.paths()
    os.utime(paths[0], (NOW - 40 * 86_400, NOW - 40 * 86_400))
    for path in paths[1:]:
        os.utime(path, (NOW, NOW))
    assert files.remove_old(NOW, days=30, most_bytes=1 << 30) == ("000001.jsonl",)
    most = sum(path.stat().st_size for path in files.paths()[-2:])
    gone = files.remove_old(NOW, days=30, most_bytes=most)
    assert gone[0] == "000002.jsonl"
    check = files.verify()
    assert check.holds
    told = [each for each in files.newest_first() if each["action"] == "audit.remove"]
    assert {each["file"] for each in told} >= set(gone[-1:])


def test_a_file_that_somebody_else_removed_is_missing(tmp_path: Path) -> None:
    files = AuditFiles(tmp_path, file_bytes=1000)
    for number in range(40):
        files.append([entry(f"a{number}").as_json()])
    first, second, *_ = files.paths()
    os.utime(first, (0, 0))
    files.remove_old(NOW, days=100_000, most_bytes=1 << 30)
    assert files.verify().holds
    second.unlink()
    assert not files.verify().holds


def test_a_broken_file_stays_as_it_is_and_the_log_goes_on_in_another(tmp_path: Path) -> None:
    files = AuditFiles(tmp_path)
    files.append([entry("a").as_json()])
    files.append([entry("b").as_json()])
    path = tmp_path / "000001.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"b"', b'"c"'))
    broken = path.read_bytes()
    AuditFiles(tmp_path).append([entry("d").as_json()])
    assert path.read_bytes() == broken
    assert actions(tmp_path)[-1] == "d"
    assert [each.file for each in files.verify().files if each.broken] == ["000001.jsonl"]


def test_two_processes_may_write_at_once(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from adaptive_llm_gateway.server._audit_files import AuditFiles\n"
        "files = AuditFiles(Path(sys.argv[1]), file_bytes=5000)\n"
        "for number in range(60):\n"
        "    files.append([{'at': '2027-01-15T08:00:00.000Z', 'action': sys.argv[2], 'outcome': 'ok'}])\n"
    )
    both = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), name]) for name in ("one", "two")]
    assert [each.wait(timeout=120) for each in both] == [0, 0]
    found = actions(tmp_path)
    assert (found.count("one"), found.count("two")) == (60, 60)
    assert AuditFiles(tmp_path).verify().holds


def test_it_is_looked_through_by_client_time_action_and_outcome(tmp_path: Path) -> None:
    files = AuditFiles(tmp_path)
    files.append(
        [
            entry("memory_read", client="a", at=NOW).as_json(),
            entry("memory_write", client="a", at=NOW + 10, outcome="refused", code="access_denied").as_json(),
            entry("memory_read", client="b", at=NOW + 20, outcome="failed", code="not_found").as_json(),
            entry("http.start", at=NOW + 30).as_json(),
        ]
    )

    def found(**given: Any) -> list[str]:
        return [each["action"] for each in newest(files, audit_query(**given), limit=10)]

    assert found(client="a") == ["memory_write", "memory_read"]
    assert found(client="-") == ["http.start"]
    assert found(action="memory_*") == ["memory_read", "memory_write", "memory_read"]
    assert found(outcome="refused") == found(outcome="access_denied") == ["memory_write"]
    assert found(since="2027-01-15T08:00:15Z") == ["http.start", "memory_read"]
    assert found(until="2027-01-15T08:00:15Z") == ["memory_write", "memory_read"]
    assert len(newest(files, audit_query(), limit=2)) == 2
    with pytest.raises(InvalidInput):
        newest(files, audit_query(), limit=0)


# --- the queue ----------------------------------------------------------------------------------------------------


def test_entries_of_many_threads_are_all_there_once(tmp_path: Path) -> None:
    log = AuditLog(tmp_path, file_bytes=20_000)

    def add(name: int) -> None:
        for each in range(500):
            log.add(entry(f"{name}-{each}"))

    threads = [threading.Thread(target=add, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    log.close()
    assert sorted(actions(tmp_path)) == sorted(f"{name}-{each}" for name in range(4) for each in range(500))
    assert AuditFiles(tmp_path).verify().holds
    assert log.state.written == 2000
    assert (log.state.waiting, log.state.lost) == (0, 0)


def test_what_is_waited_for_is_on_the_disk(tmp_path: Path) -> None:
    log = AuditLog(tmp_path)
    assert asyncio.run(log.add_now(entry("clients_add"))) is None
    assert actions(tmp_path) == ["clients_add"]
    log.close()


def test_ten_thousand_refusals_of_one_are_two_entries_a_minute(tmp_path: Path) -> None:
    now = [NOW]
    log = AuditLog(tmp_path, clock=lambda: now[0])
    for _ in range(10_000):
        log.gather(entry("POST /mcp", outcome="refused", code="unauthenticated", address="192.0.2.7", at=now[0]))
    log.gather(entry("POST /mcp", outcome="refused", code="unauthenticated", address="192.0.2.8", at=now[0]))
    log.close()
    found = [(each["address"], each.get("count")) for each in AuditFiles(tmp_path).newest_first()][::-1]
    assert found == [("192.0.2.7", None), ("192.0.2.8", None), ("192.0.2.7", 9_999)]


def test_refusals_from_everywhere_at_once_do_not_grow_without_end() -> None:
    gathering = Gathering()
    told = [gathering.add(entry(code="unauthenticated", address=f"2001:db8::{number:x}")) for number in range(5_000)]
    assert sum(each is not None for each in told) == 1_001
    assert len(gathering) == 1_001
    (late,) = gathering.due(NOW + 61)
    assert (late.address, late.count) == (None, 3_999)
    assert not len(gathering)


def test_while_the_disk_is_full_entries_wait_and_then_the_gap_is_told(tmp_path: Path, server: Any) -> None:
    log = AuditLog(tmp_path / "audit", most_waiting=50)
    full = FullDisk(log)
    first = asyncio.run(log.add_now(entry("first")))
    assert isinstance(first, DiskFull)
    for number in range(100):
        log.add(entry(f"a{number}"))
    state = log.state
    assert state.error
    assert state.lost > 0
    log.check()  # by default it goes on
    full.ends()
    server.wait_until(lambda: not log.state.waiting, what="the disk")
    assert asyncio.run(log.add_now(entry("last"))) is None
    log.close()
    found = list(AuditFiles(tmp_path / "audit").newest_first())[::-1]
    (gap,) = [each for each in found if each["action"] == "audit.gap"]
    assert (gap["count"], gap["code"]) == (state.lost, "disk_full")
    kept = [each["action"] for each in found if each["action"] != "audit.gap"]
    assert kept[0] == "first"
    assert kept[-1] == "last"
    assert len(kept) + gap["count"] == 102
    assert AuditFiles(tmp_path / "audit").verify().holds


def test_where_nothing_may_go_on_without_it_nothing_does(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit", must_hold=True)
    log.check()
    full = FullDisk(log)
    asyncio.run(log.add_now(entry("first")))
    with pytest.raises(Unavailable):
        log.check()
    full.ends()
    assert asyncio.run(log.add_now(entry("again"))) is None
    log.check()
    log.close()


class FullDisk:
    """A disk that takes nothing until it `ends`. A real one cannot be had without being root."""

    def __init__(self, log: AuditLog) -> None:
        self._files = log._files  # pyright: ignore[reportPrivateUsage]
        self._append = self._files.append
        self._files.append = self._refuse  # pyright: ignore[reportAttributeAccessIssue]

    def _refuse(self, _entries: object) -> None:
        raise DiskFull("no space left to write the audit log")

    def ends(self) -> None:
        self._files.append = self._append  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("point", ["append.part_written", "append.written", "append.synced", "append.acknowledged"])
def test_killed_at_any_step_what_was_waited_for_is_there_and_the_chain_holds(point: str, tmp_path: Path) -> None:
    code = (
        "import asyncio, sys, time\nfrom pathlib import Path\n"
        "from adaptive_llm_gateway.core import _faults\n"
        "from adaptive_llm_gateway.server._audit import AuditLog\n"
        "from adaptive_llm_gateway.server._audit_entry import AuditEntry\n"
        "log = AuditLog(Path(sys.argv[1]))\n"
        "for number in range(20):\n"
        "    if number == 10: _faults.arm(sys.argv[2])\n"
        "    asyncio.run(log.add_now(AuditEntry(time.time(), f'a{number}')))\n"
        "    print(number, flush=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), point], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    acknowledged = [f"a{number}" for number in done.stdout.split()]
    files = AuditFiles(tmp_path)
    assert actions(tmp_path)[: len(acknowledged)] == acknowledged
    assert files.verify().holds
    files.append([entry("after").as_json()])
    assert actions(tmp_path)[-1] == "after"
    assert files.verify().holds


# --- the command line -----------------------------------------------------------------------------------------------


def test_the_command_line_lists_it_without_a_hub(server: Any) -> None:
    assert "nothing is in the audit log" in server.alg("audit", "list").stderr
    note_now(server.home / "audit", entry("memory_read", client="ci", target="0" * 26, micros=1500).as_json())
    note_now(server.home / "audit", entry("memory_write", outcome="refused", code="access_denied").as_json())
    assert [each["action"] for each in server.json("audit", "list")["entries"]] == ["memory_read", "memory_write"]
    lines = server.alg("audit", "list", "--client", "ci").stdout.splitlines()
    assert len(lines) == 1
    assert "memory_read" in lines[0]
    assert "1.5 ms" in lines[0]
    assert server.hub_pid() is None


def test_the_command_line_verifies_it_and_ends_with_7_where_it_does_not_hold(server: Any) -> None:
    for number in range(3):
        note_now(server.home / "audit", entry(f"a{number}").as_json())
    found = server.json("audit", "verify")
    assert found["holds"]
    assert server.alg("audit", "verify", "--contains", found["last"]).returncode == 0
    assert server.alg("audit", "verify", "--contains", "0" * 64, check=False).returncode == 7
    path = server.home / "audit/000001.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"a1"', b'"b1"'))
    done = server.alg("audit", "verify", check=False)
    assert done.returncode == 7
    assert "line 2" in done.stdout


def test_the_command_line_follows_what_is_added_also_to_the_next_file(server: Any) -> None:
    folder = server.home / "audit"
    note_now(folder, entry("before").as_json())
    process = subprocess.Popen(
        [Path(sys.executable).with_name("alg"), "--home", server.home, "audit", "list", "--follow", "--json"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["action"] == "before"
        files = AuditFiles(folder, file_bytes=1)
        for name in ("one", "two", "three"):  # each in a file of its own
            files.append([entry(name).as_json()])
        assert [json.loads(process.stdout.readline())["action"] for _ in range(3)] == ["one", "two", "three"]
    finally:
        process.kill()
        process.wait(timeout=60)
        assert process.stdout is not None
        process.stdout.close()


def test_text_in_a_file_that_was_changed_cannot_steer_a_terminal(server: Any) -> None:
    note_now(server.home / "audit", {"at": "2027-01-15T08:00:00.000Z", "action": "a\x1b[2Jb", "outcome": "ok"})
    assert "\x1b" not in server.alg("audit", "list").stdout
