"""Receipts: one for each request, whatever became of it; whole after a crash, and without a key in any file."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args
from urllib.parse import quote

import jsonschema
import pytest

from adaptive_llm_gateway.core import (
    InvalidInput,
    LockHeld,
    NotFound,
    ProcessLock,
    SecretScanner,
    StorageError,
    Trust,
    derived_ulid,
)
from adaptive_llm_gateway.gateway import _chain, _notes, _receipts, _runs
from adaptive_llm_gateway.gateway._canonical import canonical, digest
from adaptive_llm_gateway.gateway._plain import plain
from adaptive_llm_gateway.gateway._receipt_values import (
    Attempt,
    BlockedItem,
    ConsentUse,
    ContextRef,
    LevelReason,
    Outcome,
    Receipt,
    ReceiptAnswer,
    ReceiptCost,
    ReceiptLevel,
    ReceiptMessage,
    ReceiptRequest,
    ReceiptTimings,
    ReceiptTokens,
    RedactedItem,
    RouteStep,
)
from adaptive_llm_gateway.gateway._receipts import FiledReceipt, Receipts, receipt_from, receipt_schema

ROOT = Path(__file__).resolve().parent.parent.parent
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
DAY = timedelta(days=1)
POINTS = ("append.part_written", "append.written", "append.synced", "append.acknowledged")


def receipt(key: str = "one", *, at: datetime = NOW, outcome: Outcome = "answered", text: str = "hello") -> Receipt:
    """A receipt with something in every field."""
    return Receipt(
        id=derived_ulid(key, milliseconds=int(at.timestamp() * 1000)),
        at=at,
        outcome=outcome,
        why="it went as planned",
        request=ReceiptRequest(
            "chat", "chat", "atlas", "codex", "big", (ReceiptMessage("user", text),), (), 100, 0.7, True, ("END",)
        ),
        level=ReceiptLevel(Trust.INTERNAL, (LevelReason("default", Trust.INTERNAL, "nothing was declared"),)),
        context=(ContextRef("01M80H07WZ27YYF6WCAJP97E2R", "9" * 40, Trust.PUBLIC),),
        blocked=(BlockedItem("memory 01M80H07WZ27YYF6WCAJP97E2S", "it is secret"),),
        redacted=(RedactedItem("github-token", "message 1", 2),),
        route=(
            RouteStep("openai", "big", "hosted", False, "no consent"),
            RouteStep("ollama", "big", "local", True, "the policy allows it"),
        ),
        attempts=(Attempt("ollama", "big", "rate_limited", 12, 3_400, 429, 1_000_000, "too many"),),
        tokens=ReceiptTokens(8_000, 1_900, 2_000, 40, 1_500, 200),
        cost=ReceiptCost(512_500, "by the price table '2026-11-22'", "2026-11-22", "a" * 64),
        timings=ReceiptTimings(5_000, 120, 900),
        consents=(ConsentUse("01M80H07WZ27YYF6WCAJP97E2T", "b" * 64),),
        answer=ReceiptAnswer(12, "c" * 64, "stop", "big"),
    )


def again(tmp_path: Path) -> Receipts:
    """The receipts as another process finds them."""
    return Receipts(tmp_path / "gateway", scanner=SecretScanner())


@pytest.fixture
def receipts(tmp_path: Path) -> Receipts:
    return again(tmp_path)


def chain(tmp_path: Path) -> Path:
    (path,) = (tmp_path / "gateway" / "receipts").glob("*.jsonl")
    return path


def test_receipts_of_before_are_read_verified_and_their_folders_are_made_from_their_lines(tmp_path: Path) -> None:
    """As they were before receipts told of caches: the file is that program's own."""
    folder = tmp_path / "gateway" / "receipts"
    folder.mkdir(parents=True)
    before = Path(__file__).with_name("receipts_of_before.jsonl").read_bytes()
    (folder / "2026-11-21-01.jsonl").write_bytes(before)
    receipts = again(tmp_path)
    found = receipts.list()
    assert [filed.receipt.outcome for filed in found] == ["refused", "answered", "answered"]
    assert all((filed.receipt.tokens.cached, filed.receipt.tokens.written) == (None, None) for filed in found)
    assert len(receipts.verify().runs) == 3  # their folders are missing
    for filed in found:
        receipts.rebuild_run(filed.receipt.id)
    check = receipts.verify()
    assert (check.holds, check.runs, check.files[0].receipts) == (True, (), 3)
    receipts.file(receipt())
    assert again(tmp_path).verify().holds
    assert (folder / "2026-11-21-01.jsonl").read_bytes().startswith(before)
    schema = json.loads((ROOT / "docs/schemas/receipt.schema.json").read_text(encoding="utf-8"))
    checker: Any = jsonschema.Draft202012Validator(schema)
    for line in before.splitlines():
        checker.validate(json.loads(line)["receipt"])


@pytest.mark.parametrize("outcome", get_args(Outcome))
def test_a_receipt_comes_back_as_it_was_whatever_the_outcome(
    receipts: Receipts, tmp_path: Path, outcome: Outcome
) -> None:
    filed = receipts.file(receipt(outcome=outcome), inputs={"policy": ["a"]})
    assert filed.receipt == replace(receipt(outcome=outcome), inputs=digest({"policy": ["a"]}))
    assert again(tmp_path).show(filed.receipt.id) == filed
    assert again(tmp_path).list(outcome=outcome) == (filed,)
    check = again(tmp_path).verify()
    assert check.holds
    assert (check.runs, check.unfinished, check.files[0].receipts, check.files[0].last) == ((), (), 1, filed.hash)


def test_a_receipt_fits_the_schema_in_the_docs_and_a_wrong_one_does_not() -> None:
    schema = json.loads((ROOT / "docs/schemas/receipt.schema.json").read_text(encoding="utf-8"))
    assert schema == receipt_schema(), "write it anew with scripts/receipt_schema.py"
    jsonschema.Draft202012Validator.check_schema(schema)
    checker: Any = jsonschema.Draft202012Validator(schema)
    value: Any = plain(receipt())
    checker.validate(value)
    assert receipt_from(json.loads(canonical(value))) == receipt()
    for name, wrong in (("outcome", "fine"), ("level", {"level": "top"}), ("cost", {"micro_cents": 0.5, "why": ""})):
        with pytest.raises(jsonschema.ValidationError):
            checker.validate({**value, name: wrong})


def test_the_newest_come_first_and_only_those_asked_for(receipts: Receipts) -> None:
    filed = [receipts.file(receipt(str(n), at=NOW + n * timedelta(minutes=1))) for n in range(4)]
    refused = receipts.file(receipt("r", at=NOW + timedelta(hours=1), outcome="refused"))
    assert receipts.list(limit=2) == (refused, filed[3])
    assert receipts.list(since=NOW + timedelta(minutes=3)) == (refused, filed[3])
    assert receipts.list(outcome="refused") == (refused,)
    with pytest.raises(NotFound):
        receipts.show(receipt("other").id)
    with pytest.raises(InvalidInput):
        receipts.show("../../etc/passwd")


def test_a_run_folder_holds_the_receipt_and_what_the_plan_was_made_from_and_is_made_again(
    receipts: Receipts, tmp_path: Path
) -> None:
    filed = receipts.file(receipt(), inputs={"policy": "p", "states": []})
    folder = tmp_path / "gateway" / "runs" / "2026-11-22" / filed.receipt.id
    receipts.settle()
    assert json.loads((folder / "inputs.json").read_bytes()) == {"policy": "p", "states": []}
    kept = (folder / "receipt.json").read_bytes()
    assert receipt_from(json.loads(kept)) == filed.receipt
    (folder / "receipt.json").write_bytes(kept.replace(b"answered", b"refused"))
    assert receipts.verify().runs == (filed.receipt.id,)
    assert receipts.rebuild_run(filed.receipt.id) == folder
    assert (folder / "receipt.json").read_bytes() == kept
    (folder / "inputs.json").unlink()
    assert receipts.verify().runs == (filed.receipt.id,)
    receipts.rebuild_run(filed.receipt.id)
    assert receipts.verify().runs == ()


def test_a_file_a_day_each_continuing_the_one_before_also_when_the_clock_goes_back(
    receipts: Receipts, tmp_path: Path
) -> None:
    for n, at in enumerate((NOW, NOW + DAY, NOW, NOW + 2 * DAY)):
        again(tmp_path).file(receipt(str(n), at=at))
    check = receipts.verify()
    assert check.holds
    assert [(file.file, file.receipts) for file in check.files] == [
        ("2026-11-22-01.jsonl", 1), ("2026-11-23-01.jsonl", 2), ("2026-11-24-01.jsonl", 1),
    ]  # fmt: skip
    (tmp_path / "gateway" / "receipts" / "2026-11-23-01.jsonl").unlink()
    broken = [file.broken for file in again(tmp_path).verify().files]
    assert broken[0] is None
    assert broken[1] is not None
    assert "file before" in broken[1].why


def test_every_run_folder_that_is_missing_or_differs_is_made_anew(receipts: Receipts, tmp_path: Path) -> None:
    filed = [receipts.file(receipt(str(n), at=NOW + n * DAY), inputs={"n": n}) for n in range(3)]
    receipts.settle()
    runs = tmp_path / "gateway" / "runs"
    before = {path: path.read_bytes() for path in runs.rglob("*.json")}
    shutil.rmtree(runs / "2026-11-22")
    next((runs / "2026-11-23").rglob("inputs.json")).write_text("{}", encoding="utf-8")
    wanted = tuple(each.receipt.id for each in filed[:2])
    assert receipts.verify().runs == wanted
    assert receipts.rebuild_runs() == wanted
    assert receipts.verify().runs == ()
    assert {path: path.read_bytes() for path in runs.rglob("*.json")} == before
    assert receipts.rebuild_runs() == ()


@pytest.mark.parametrize(
    "entry", [{"receipt": {"id": "../../x"}, "inputs": None}, {"receipt": None, "inputs": None}, {"receipt": {"id": 5}}]
)
def test_a_line_that_is_no_receipt_is_named_though_its_hashes_were_computed_anew(
    receipts: Receipts, tmp_path: Path, entry: dict[str, Any]
) -> None:
    _chain.Chain(tmp_path / "gateway" / "receipts" / "2026-11-21-01.jsonl").append(entry)
    (check,) = receipts.verify().files
    assert check.broken is not None
    assert (check.broken.line, check.broken.why) == (1, "it is no receipt")
    assert receipts.rebuild_runs() == ()
    assert receipts.list() == ()


def test_notes_that_are_none_of_ours_keep_no_request_waiting(receipts: Receipts, tmp_path: Path) -> None:
    folder = tmp_path / "gateway" / "open"
    folder.mkdir(parents=True)
    (folder / "a.jsonl").write_text('{"id":"../../x","note":{"id":1}}\n[]\n9\n', encoding="utf-8")
    (folder / "b.jsonl").mkdir()
    assert receipts.recover() == ()
    receipts.file(receipt())
    assert receipts.verify().holds


def test_a_disk_that_took_half_of_a_note_spoils_no_note_behind_it(receipts: Receipts, tmp_path: Path) -> None:
    receipts.begin(receipt("one"))
    (notes,) = (tmp_path / "gateway" / "open").glob("*.jsonl")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (notes.stat().st_size + 100, hard))
    try:
        with pytest.raises(StorageError):
            receipts.begin(receipt("two"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    receipts.begin(receipt("three"))
    receipts.close()
    assert [filed.receipt.id for filed in again(tmp_path).recover()] == [receipt("one").id, receipt("three").id]


def test_a_full_file_is_continued_by_another(receipts: Receipts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_receipts, "_LARGEST_FILE", 5_000)  # 4 MB would take thousands of receipts
    for n in range(6):
        receipts.file(receipt(str(n)))
    check = receipts.verify()
    assert check.holds
    assert len(check.files) > 1
    assert sum(file.receipts for file in check.files) == 6
    assert len(receipts.list()) == 6


def test_a_changed_line_is_named_and_the_next_receipt_is_stored_all_the_same(
    receipts: Receipts, tmp_path: Path
) -> None:
    for n in range(3):
        receipts.file(receipt(str(n)))
    path = chain(tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    changed = b"".join([lines[0], lines[1].replace(b"512500", b"1"), lines[2]])
    path.write_bytes(changed)
    check = again(tmp_path).verify()
    assert not check.holds
    assert check.files[0].broken is not None
    assert check.files[0].broken.line == 2
    for seen, key in ((receipts, "a"), (again(tmp_path), "b")):
        seen.file(receipt(key))
    assert path.read_bytes() == changed
    check = again(tmp_path).verify()
    assert [(file.file, file.broken is None) for file in check.files] == [
        ("2026-11-22-01.jsonl", False), ("2026-11-22-02.jsonl", True),
    ]  # fmt: skip
    assert receipts.show(receipt("b").id).receipt.id == receipt("b").id


# --- Nothing secret in any file -----------------------------------------------------------------------------------

CANARY = "canary/Key+with no shape=42"
SHAPED = "ghp_" + "a1B2c3D4e5F6g7H8i9J0" + "k1L2m3N4o5P6q7R8"


def test_a_key_is_in_no_file_that_a_request_leaves_behind(receipts: Receipts, tmp_path: Path) -> None:
    said = f"use {CANARY} and {SHAPED}, or {quote(CANARY, safe='')}"
    full = replace(
        receipt(text=said),
        why=said,
        blocked=(BlockedItem(said, said),),
        route=(RouteStep(said, said, "hosted", False, said),),
        attempts=(Attempt("p", "m", "auth", 1, 1, 401, None, f"401: {said}"),),
    )
    receipts.begin(full, keys=[CANARY])
    begun = list((tmp_path / "gateway" / "open").iterdir())
    assert len(begun) == 1
    everything = begun[0].read_bytes()
    filed = receipts.file(full, inputs={said: [said, {"key": CANARY, "password": "hunter2hunter2"}]}, keys=[CANARY])
    for path in (tmp_path / "gateway").rglob("*"):
        everything += path.read_bytes() if path.is_file() else b""
    everything += repr(filed).encode()
    for secret in (CANARY, quote(CANARY, safe=""), SHAPED, "hunter2hunter2"):
        assert secret.encode() not in everything
        assert json.dumps(secret)[1:-1].encode() not in everything
    assert b"[redacted:key]" in everything
    assert b"[redacted:github" in everything
    assert receipts.verify().holds
    assert receipts.verify().runs == ()
    assert receipts.show(full.id) == filed


def test_a_receipt_without_secrets_is_not_touched(receipts: Receipts) -> None:
    given = {"hashes": ["d" * 64, digest("x")], "policy": digest("policy"), "table_hash": digest("table")}
    filed = receipts.file(replace(receipt(), cost=ReceiptCost(1, "ok", "v", digest("prices"))), inputs=given)
    assert filed.inputs == given
    assert filed.receipt.cost.table_hash == digest("prices")


def test_half_of_a_pair_of_surrogates_does_not_keep_a_request_from_its_receipt(receipts: Receipts) -> None:
    filed = receipts.file(receipt(text="a\ud800b 😀 \udc00"))
    assert receipts.show(filed.receipt.id).receipt.request.messages[0].text == "a\ufffdb 😀 \ufffd"


def test_only_their_owner_may_read_them(receipts: Receipts, tmp_path: Path) -> None:
    receipts.begin(receipt("open"))
    receipts.file(receipt(), inputs=1)
    receipts.settle()
    found = [tmp_path / "gateway", *(tmp_path / "gateway").rglob("*")]
    assert len(found) > 8
    assert {path.stat().st_mode & 0o077 for path in found} == {0}


# --- Crashes and other processes ------------------------------------------------------------------------------------

_WORKER = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_receipts import receipt
from adaptive_llm_gateway.core import SecretScanner
from adaptive_llm_gateway.gateway._receipts import Receipts
receipts = Receipts(Path(sys.argv[1]), scanner=SecretScanner())
for number in range(int(sys.argv[3])):
    made = receipt(f"{{sys.argv[2]}}-{{number}}")
    receipts.begin(made)
    print("sent", made.id, flush=True)
    receipts.file(made, inputs={{"n": number}})
    print("filed", made.id, flush=True)
"""


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("which", [1, 3])
def test_killed_at_any_step_every_request_that_was_sent_has_one_receipt(tmp_path: Path, point: str, which: int) -> None:
    died = subprocess.run(
        [sys.executable, "-c", _WORKER, str(tmp_path / "gateway"), "w", "5"],
        env={**os.environ, "ALG_FAULT": f"{point}:{which}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert died.returncode == -signal.SIGKILL, died.stderr
    said = [line.split() for line in died.stdout.splitlines()]
    sent = [name for what, name in said if what == "sent"]
    filed = [name for what, name in said if what == "filed"]
    assert (len(sent), len(filed)) == (which, which - 1)
    receipts = again(tmp_path)
    lost = point == "append.part_written"
    check = receipts.verify()
    assert check.holds
    assert check.unfinished == ((sent[-1],) if lost else ())
    assert check.runs == ()  # what is missing is noted
    recovered = receipts.recover()
    assert [(one.receipt.id, one.receipt.outcome) for one in recovered] == ([(sent[-1], "interrupted")] if lost else [])
    listed = receipts.list()
    assert sorted(one.receipt.id for one in listed) == sorted(sent)
    assert [one.receipt.outcome for one in listed].count("interrupted") == lost
    receipts.settle()
    check = again(tmp_path).verify()
    assert check.holds
    assert (check.unfinished, check.runs) == ((), ())
    for name in sent:  # killed behind its line: the line has it all
        assert (tmp_path / "gateway" / "runs" / "2026-11-22" / name / "receipt.json").is_file()
    assert receipts.recover() == ()
    receipts.close()
    assert not [*(tmp_path / "gateway" / "open").iterdir()]


def test_a_request_that_was_killed_while_it_was_noted_was_not_sent_and_leaves_nothing(
    receipts: Receipts, tmp_path: Path
) -> None:
    receipts.begin(receipt())
    (noted,) = (tmp_path / "gateway" / "open").iterdir()
    noted.write_bytes(noted.read_bytes()[:50])
    assert again(tmp_path).recover() == ()
    assert again(tmp_path).verify().unfinished == ()
    assert not noted.exists()


def test_the_first_line_of_a_day_torn_by_a_kill_is_replaced_by_one_that_continues_the_day_before(
    receipts: Receipts, tmp_path: Path
) -> None:
    receipts.file(receipt())
    (tmp_path / "gateway" / "receipts" / "2026-11-23-01.jsonl").write_bytes(b'{"hash":"12')
    assert again(tmp_path).verify().holds
    again(tmp_path).file(receipt("next", at=NOW + DAY))
    check = again(tmp_path).verify()
    assert check.holds
    assert [file.receipts for file in check.files] == [1, 1]


def test_processes_that_store_at_once_make_one_chain(tmp_path: Path) -> None:
    running = [
        subprocess.Popen(
            [sys.executable, "-c", _WORKER, str(tmp_path / "gateway"), name, "10"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for name in ("one", "two", "three")
    ]  # fmt: skip
    filed: list[str] = []
    for process in running:
        out, error = process.communicate(timeout=60)
        assert process.returncode == 0, error
        filed += [line.split()[1] for line in out.splitlines() if line.startswith("filed")]
    check = again(tmp_path).verify()
    assert check.holds
    assert (check.runs, check.unfinished) == ((), ())
    assert sorted(one.receipt.id for one in again(tmp_path).list(limit=100)) == sorted(filed)
    assert len(filed) == 30


def held(folder: Path) -> ProcessLock:
    """The lock of the receipts, as another process has it."""
    (folder / "receipts").mkdir(parents=True, exist_ok=True)
    return ProcessLock(folder / "receipts" / "receipts.lock")


def test_receipts_that_come_at_once_share_a_sync_and_each_is_stored_once(
    receipts: Receipts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(_chain, "sync_data", synced.append)  # the disk's part is not what is counted
    made = [receipt(str(n), text=f"question {n}") for n in range(100)]

    async def store_all() -> list[FiledReceipt]:
        for one in made:
            receipts.begin(one)
        with held(tmp_path / "gateway"):  # the first waits for another process, and the others come meanwhile
            storing = [asyncio.create_task(receipts.file_async(one, inputs={"n": one.id})) for one in made]
            await asyncio.sleep(0)
        return [await each for each in storing]

    filed = asyncio.run(asyncio.wait_for(store_all(), 60))
    assert [one.receipt.id for one in filed] == [one.id for one in made]
    assert len(synced) <= 3
    check = again(tmp_path).verify()
    assert check.holds
    assert (check.runs, check.unfinished, check.files[0].receipts) == ((), (), 100)
    assert again(tmp_path).show(made[42].id) == filed[42]


def test_threads_that_store_at_once_make_one_chain(receipts: Receipts, tmp_path: Path) -> None:
    made = [receipt(str(n)) for n in range(60)]
    with ThreadPoolExecutor(6) as threads:
        filed = [*threads.map(receipts.file, made)]
    assert [one.receipt.id for one in filed] == [one.id for one in made]
    assert sorted(one.line for one in filed) == list(range(1, 61))
    assert again(tmp_path).verify().holds


def test_receipts_of_two_days_that_come_at_once_go_into_two_files(receipts: Receipts) -> None:
    async def store_all() -> list[FiledReceipt]:
        made = [receipt(str(n), at=NOW + n // 5 * DAY) for n in range(10)]
        return await asyncio.gather(*map(receipts.file_async, made))

    filed = asyncio.run(asyncio.wait_for(store_all(), 60))
    assert [one.file for one in filed] == ["2026-11-22-01.jsonl"] * 5 + ["2026-11-23-01.jsonl"] * 5
    assert receipts.verify().holds


def test_a_receipt_is_stored_though_nobody_waits_for_it_any_more(receipts: Receipts, tmp_path: Path) -> None:
    async def leave() -> None:
        with held(tmp_path / "gateway"):
            storing = asyncio.create_task(receipts.file_async(receipt()))
            await asyncio.sleep(0)  # it waits for the other process
            storing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await storing

    asyncio.run(asyncio.wait_for(leave(), 60))
    receipts.close()
    assert [one.receipt.id for one in again(tmp_path).list()] == [receipt().id]
    assert again(tmp_path).verify().runs == ()


def test_what_keeps_a_receipt_from_being_stored_is_told_to_each_that_waits(
    receipts: Receipts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_receipts, "LOCK_SECONDS", 0.05)  # 10 s

    async def store_all() -> list[FiledReceipt | BaseException]:
        made = [receipt(str(n)) for n in range(3)]
        return await asyncio.gather(*map(receipts.file_async, made), return_exceptions=True)

    with held(tmp_path / "gateway"):
        said = asyncio.run(asyncio.wait_for(store_all(), 60))
        assert [type(each) for each in said] == [LockHeld] * 3
        assert len({id(each) for each in said}) == 3  # one that is raised twice has two tracebacks
        with pytest.raises(LockHeld) as caught:
            receipts.file(receipt("sync"))
        assert caught.value.details["owner"]["pid"] == os.getpid()
    assert receipts.file(receipt("sync")).line == 1


def test_a_text_that_was_cleaned_when_it_was_noted_is_not_cleaned_again_but_of_new_keys(tmp_path: Path) -> None:
    scanned: list[str] = []

    class Watching(SecretScanner):
        def scan(self, text: str, **more: Any) -> Any:
            scanned.append(text)
            return super().scan(text, **more)

    receipts = Receipts(tmp_path / "gateway", scanner=Watching())
    begun = receipt(text=f"use {CANARY} and {SHAPED}")
    receipts.begin(begun)
    assert any(SHAPED in text for text in scanned)
    scanned.clear()
    filed = receipts.file(replace(begun, outcome="failed"), keys=[CANARY])
    assert not any("use" in text for text in scanned)
    assert filed.receipt.request.messages[0].text.startswith("use [redacted:key] and [redacted:")
    assert again(tmp_path).show(begun.id) == filed
    other = replace(begun, request=replace(begun.request, model=SHAPED), id=receipt("two").id)
    receipts.begin(begun)
    assert SHAPED not in str(receipts.file(other).receipt)  # another request's text is not taken for this one's


def test_a_run_folder_that_is_still_to_be_written_is_not_missing_for_another_process(
    receipts: Receipts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go = threading.Event(), threading.Event()
    write = _runs.RunFolders.write

    def slow(self: _runs.RunFolders, receipt_id: str, files: Any) -> Path:
        begun.set()
        assert go.wait(30)
        return write(self, receipt_id, files)

    monkeypatch.setattr(_runs.RunFolders, "write", slow)  # a disk that takes its time
    for name in ("noted", "not noted"):
        if name == "noted":
            receipts.begin(receipt(name))
        receipts.file(receipt(name))
    assert begun.wait(30)
    check = again(tmp_path).verify()
    assert check.files[0].receipts == 2
    assert (check.runs, check.unfinished) == ((), ())
    go.set()
    receipts.settle()
    assert (tmp_path / "gateway" / "runs" / "2026-11-22" / receipt("not noted").id / "receipt.json").is_file()
    assert again(tmp_path).verify().runs == ()


def test_many_requests_under_way_use_few_files_that_go_with_them(
    receipts: Receipts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_notes, "_LARGEST", 5_000)  # 1 MB would take hundreds of requests
    made = [receipt(str(n)) for n in range(12)]
    for one in made:
        receipts.begin(one)
    assert again(tmp_path).verify().unfinished == tuple(one.id for one in made)
    assert 2 < len([*(tmp_path / "gateway" / "open").iterdir()]) < 12
    for one in made:
        receipts.file(one)
    receipts.settle()
    assert again(tmp_path).verify().unfinished == ()
    assert len([*(tmp_path / "gateway" / "open").iterdir()]) == 1
    receipts.begin(receipt("more"))
    receipts.close()
    assert again(tmp_path).verify().unfinished == (receipt("more").id,)


# --- Retention --------------------------------------------------------------------------------------------------------


def test_old_receipts_go_with_their_runs_and_the_rest_still_verifies(receipts: Receipts, tmp_path: Path) -> None:
    for n in range(5):
        receipts.file(receipt(str(n), at=NOW + n * DAY), inputs=n)
    pruned = receipts.prune(NOW + 4 * DAY, max_age=DAY)
    # 22 and 23 ended longer than a day before noon of the 26th; 24 ended at midnight before the 25th: 36 hours.
    assert pruned.files == ("2026-11-22-01.jsonl", "2026-11-23-01.jsonl", "2026-11-24-01.jsonl")
    assert pruned.receipts == 3
    assert sorted(path.name for path in (tmp_path / "gateway" / "runs").iterdir()) == ["2026-11-25", "2026-11-26"]
    check = again(tmp_path).verify()
    assert check.holds
    assert sum(file.receipts for file in check.files) == 2
    assert receipts.prune(NOW + 4 * DAY, max_age=DAY).files == ()
    again(tmp_path).file(receipt("later", at=NOW + 5 * DAY))
    assert again(tmp_path).verify().holds


def test_receipts_are_stored_while_old_ones_are_looked_through_and_removed(tmp_path: Path) -> None:
    stored: list[bool] = []

    class Busy(Receipts):
        """Which has a receipt to store each time that the runs of a file are looked for."""

        def _runs_of(self, path: Path) -> list[Path]:
            late = threading.Thread(
                target=self.file, args=[receipt(f"late {len(stored)}", at=NOW + 4 * DAY)], daemon=True
            )
            late.start()
            late.join(10)
            stored.append(not late.is_alive())
            return super()._runs_of(path)

    receipts = Busy(tmp_path / "gateway", scanner=SecretScanner())
    for n in range(4):
        receipts.file(receipt(str(n), at=NOW + n * DAY))
    assert receipts.prune(NOW + 4 * DAY, max_age=DAY).receipts == 3
    assert stored == [True] * 7  # 4 files for their size, 3 to be removed
    check = receipts.verify()
    assert check.holds
    assert sum(file.receipts for file in check.files) == 1 + 7


def test_a_file_that_went_without_being_pruned_is_noticed(receipts: Receipts, tmp_path: Path) -> None:
    for n in range(3):
        receipts.file(receipt(str(n), at=NOW + n * DAY))
    (tmp_path / "gateway" / "receipts" / "2026-11-22-01.jsonl").unlink()
    check = again(tmp_path).verify()
    assert not check.holds
    assert check.files[0].broken is not None
    assert "not pruned" in check.files[0].broken.why


def test_by_size_the_oldest_go_until_it_fits_and_the_newest_stays(receipts: Receipts) -> None:
    for n in range(4):
        receipts.file(receipt(str(n), at=NOW + n * DAY), inputs="x" * 10_000)
    pruned = receipts.prune(NOW + 3 * DAY, max_bytes=60_000)
    assert pruned.files == ("2026-11-22-01.jsonl", "2026-11-23-01.jsonl")
    assert pruned.bytes > 40_000
    assert receipts.prune(NOW + 3 * DAY, max_bytes=0).files == ("2026-11-24-01.jsonl",)
    assert [one.receipt.at for one in receipts.list()] == [NOW + 3 * DAY]
    assert receipts.verify().holds
