"""The benchmark of packages reads its sets as it says, compares what it says, and runs; its results are its own."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from adaptive_llm_gateway.compression import Candidate, counter_for

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "benchmarks" / "compression"
BUDGETS = (60, 200, 1_000)
# Speaks as the peer's process does; crushing keeps the last lines, so that what is kept can be told.
STAND_IN = """
import json, sys
text = ""
for line in sys.stdin:
    asked = json.loads(line)
    said = {"rss_mb": 1.0}
    if asked.get("question") == "crash":
        sys.exit(3)
    text = asked.get("text", text)
    if "ratio" in asked:
        lines = text.split("\\n")
        kept = lines[-max(1, round(len(lines) * asked["ratio"])):]
        said = {"text": "\\n".join(kept), "ms": 0.5, "rss_mb": 2.0}
    print(json.dumps(said), flush=True)
"""


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [FOLDER, FOLDER.parent / "retrieval", FOLDER.parent]
    monkeypatch.setattr(sys, "path", [*map(str, folders), *sys.path])


@pytest.fixture
def packing() -> ModuleType:
    return importlib.import_module("_packing")


@pytest.fixture
def answers() -> ModuleType:
    return importlib.import_module("_answers")


@pytest.fixture
def figures() -> ModuleType:
    return importlib.import_module("_figures")


@pytest.fixture
def crusher(tmp_path: Path) -> Iterator[Any]:
    script = tmp_path / "stand_in.py"
    script.write_text(STAND_IN, "utf-8")
    headroom = importlib.import_module("_headroom")
    with headroom.TextCrusher([sys.executable, str(script)], folder=tmp_path, package="stand-in 1") as running:
        yield running


class Words:
    """An embedder: a vector has a place for each word, by its hash."""

    id = "words"
    dimensions = 64

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        vectors = np.full((len(texts), self.dimensions), 0.01, np.float32)
        for row, text in enumerate(texts):
            for word in text.lower().split():
                vectors[row, hashlib.sha256(word.encode()).digest()[0] % self.dimensions] += 1
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def asked_of(sessions: int, turns: int, *, as_turns: bool) -> Any:
    """A question about the kettle, which is told of once, and everything in the order that a search gives."""
    sets, units = importlib.import_module("_sets"), importlib.import_module("_units")
    made: list[Any] = []
    for session in range(sessions):
        start = datetime(2026, 1, 1, 9, tzinfo=UTC) + timedelta(days=session)
        said = [
            (
                "Ann" if place % 2 else "Ben",
                f"On trip {session} number {place} we walked along river {place}. It rained.",
            )
            for place in range(turns)
        ]
        if session == 1:
            said[2] = ("Ann", "I found a blue kettle. The kettle is old. It leaks when it is full of very hot water!")
        if as_turns:
            made += [
                units.Unit(f"U{session}-{place}", who, start + timedelta(minutes=place), text, source=f"S{session}")
                for place, (who, text) in enumerate(said)
            ]
        else:
            made.append(units.Unit(f"U{session}", "chat", start, turns=tuple(said)))
    best_first = sorted(made, key=lambda unit: "kettle" not in unit.body)
    candidates = tuple(
        Candidate(
            id=unit.key,
            type=unit.type,
            title="",
            body=unit.body,
            path=f"{unit.key}.md",
            version="0" * 40,
            updated=unit.time,
            author=unit.author,
            score=10.0 - rank,
        )
        for rank, unit in enumerate(best_first)
    )
    question = units.Question("What is the colour of the kettle?", frozenset({best_first[0].key}), "single", "tune")
    return sets.Asked(0, question, candidates, tuple(made), ("I found a blue kettle.",), "blue")


def prepared_of(*, as_turns: bool = True, sessions: int = 12, turns: int = 10) -> Any:
    packing, cache = importlib.import_module("_packing"), importlib.import_module("_cache")
    asked = asked_of(sessions, turns, as_turns=as_turns)
    return packing.Prepared(asked, counter_for(), cache.CachedModel(Words(), None))


def run(script: str, *arguments: str, ok: bool = True) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(str(ROOT / name) for name in ("core", "memory", "compression", "server"))
    done = subprocess.run(
        [sys.executable, str(FOLDER / script), *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=170,
        check=False,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert (done.returncode == 0) == ok, done.stderr
    return done


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Made-up data in the form of each file."""
    folder = tmp_path / "data"
    folder.mkdir()
    said = [("Ann", "I bought a red bicycle in the market."), ("Ben", "Nice! And I found a blue kettle at home.")]
    turns = [{"speaker": who, "dia_id": f"D1:{place}", "text": text} for place, (who, text) in enumerate(said, 1)]
    talk = {"session_1": turns, "session_1_date_time": "1:56 pm on 8 May, 2023"}
    asked = [
        {"question": "What did Ann buy?", "answer": "red bicycle", "evidence": ["D1:1"], "category": 4},
        {"question": "What did Ben lose?", "answer": "", "evidence": ["D1:2"], "category": 5},
    ]
    (folder / "locomo-dev.json").write_text(json.dumps([{"conversation": talk, "qa": asked}]), "utf-8")
    session = [
        {"role": "user", "content": "I moved to Lisbon. It is warm.", "has_answer": True},
        {"role": "assistant", "content": "Enjoy it."},
    ]
    item: dict[str, Any] = {
        "question_id": "q1",
        "question_type": "single-session-user",
        "question": "Where did I move?",
        "answer": "Lisbon",
        "question_date": "2023/05/30 (Tue) 23:40",
        "answer_session_ids": ["s1"],
        "haystack_session_ids": ["s1"],
        "haystack_dates": ["2023/05/20 (Sat) 02:21"],
        "haystack_sessions": [session],
    }
    lines = [{**item, "question_id": "q0_abs"}, item]
    with gzip.open(folder / "longmemeval-s-dev.jsonl.gz", "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
    return folder


# --- The ways -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("as_turns", [True, False], ids=["turns", "sessions"])
def test_every_way_stays_in_the_budget(packing: ModuleType, crusher: Any, as_turns: bool) -> None:
    prepared = prepared_of(as_turns=as_turns)
    compared = packing.ways(crusher)
    assert len(compared) == 7
    for budget in BUDGETS:
        for name, way in compared.items():
            assert prepared.counter.count(way(prepared, budget)) <= budget, (name, budget)


def test_a_text_too_long_for_a_budget_fills_most_of_it(packing: ModuleType, crusher: Any) -> None:
    prepared = prepared_of()
    for name, way in packing.ways(crusher).items():
        assert prepared.counter.count(way(prepared, 400)) > 340, name


def test_best_hits_are_whole_and_begin_with_the_best(packing: ModuleType) -> None:
    prepared = prepared_of()
    first, *others = packing.ways(None)[packing.HITS](prepared, 200).splitlines()
    assert first.startswith("[S1] 2026-01-02 Ann: I found a blue kettle.")
    assert first.endswith("very hot water!")
    assert all(line.endswith("It rained.") for line in others)


def test_whole_sessions_begin_with_that_of_the_best_hit_and_the_last_is_cut(packing: ModuleType) -> None:
    way = packing.ways(None)[packing.SESSIONS]
    text = way(prepared_of(), 300)
    assert text.startswith("2026-01-02\nBen: On trip 1 number 0")
    assert "Ann: I found a blue kettle." in text
    assert "On trip 0 number 1" in text
    assert "On trip 0 number 9" not in text
    assert way(prepared_of(as_turns=False), 300).startswith("[S1] 2026-01-02 chat: Ben: On trip 1 number 0")


def test_newest_first_begins_with_the_newest(packing: ModuleType) -> None:
    text = packing.ways(None)[packing.NEWEST](prepared_of(), 100)
    assert text.startswith("[2026-01-12] Ann: On trip 11 number 9")
    assert "kettle" not in text


def test_the_turns_of_sessions_are_ranked_by_their_words(packing: ModuleType) -> None:
    prepared = prepared_of(as_turns=False)
    assert prepared.turns[0].head == "2026-01-02 Ann"
    assert prepared.turns[0].text.startswith("I found a blue kettle.")
    assert len(prepared.turns) == 120


def test_of_long_turns_the_sentences_with_the_questions_words_are_kept(packing: ModuleType) -> None:
    prepared = prepared_of()
    turns = importlib.import_module("_turns")
    road = "The road was long and the sun was low. " * 30
    prepared.turns = [
        turns.Turn("2026-01-02 Ann", f"{road}The kettle has a colour. {road}"),
        turns.Turn("2026-01-02 Ben", f"{road.strip()}"),
        turns.Turn("2026-01-02 Ben", "The sun. It was low."),
    ]
    assert packing.ways(None)[packing.SENTENCES](prepared, 200).splitlines() == [
        "[S1] 2026-01-02 Ann: … The kettle has a colour. …",
        "[S2] 2026-01-02 Ben: The road was long and the sun was low. …",
        "[S3] 2026-01-02 Ben: The sun. It was low.",
    ]


# --- TextCrusher --------------------------------------------------------------------------------------------------


def test_what_is_crushed_is_as_long_as_the_budget_allows(packing: ModuleType, crusher: Any) -> None:
    prepared = prepared_of()
    text = packing.crushed(prepared, 300, crusher)
    assert 240 < prepared.counter.count(text) <= 300
    assert text.splitlines()[-1] == prepared.plain[0]  # the best stands last


def test_hits_that_fit_are_not_crushed(packing: ModuleType, crusher: Any) -> None:
    prepared = prepared_of(sessions=2, turns=4)
    assert packing.crushed(prepared, 1_000, crusher).splitlines() == prepared.plain[::-1]


def test_a_peer_that_ends_is_an_error_that_says_so(crusher: Any) -> None:
    client = importlib.import_module("_client")
    with pytest.raises(client.Failed, match="exit code 3"):
        crusher.load("text", "crash")


def test_the_peers_process_calls_the_library_with_question_and_ratio(tmp_path: Path) -> None:
    package = tmp_path / "headroom" / "transforms"
    package.mkdir(parents=True)
    (package / "text_crusher.py").write_text(
        "class TextCrusher:\n"
        "    def compress(self, content, context='', target_ratio=None):\n"
        "        made = type('Result', (), {})()\n"
        "        made.compressed = f'{content}|{context}|{target_ratio}'\n"
        "        return made\n",
        "utf-8",
    )
    child = FOLDER / "_headroom_child.py"
    code = (
        f"import runpy, sys; sys.path.insert(0, {str(tmp_path)!r}); runpy.run_path({str(child)!r}, run_name='__main__')"
    )
    headroom = importlib.import_module("_headroom")
    with headroom.TextCrusher([sys.executable, "-I", "-c", code], folder=tmp_path) as running:
        running.load("some text", "a question?")
        found = running.crush(0.25)
    assert found.text == "some text|a question?|0.25"
    assert found.ms >= 0


def test_the_peer_is_pinned_with_hashes() -> None:
    text = (FOLDER / "headroom-requirements.txt").read_text("utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert [line for line in lines if "==" in line]
    assert all("==" in line or line.strip().startswith("--hash=sha256:") for line in lines)
    assert "://" not in text


# --- What is measured ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "text", "found"),
    [
        ("7 May 2023", "[S1] 2023-05-07 Ann: I went.", True),
        ("7 May 2023", "[S1] 2023-05-17 Ann: I went.", False),
        ("The hikes", "We were hiking.", True),
        ("three", "She has 3 cats.", True),
        ("$1,200", "It was 1200 dollars.", True),
        ("red bicycle", "A bicycle.", False),
        ("the 14th", "on 14 July", True),
        ("Yes", "No.", None),
        ("", "Anything.", None),
    ],
)
def test_an_answer_is_there_when_all_its_content_words_are(
    answers: ModuleType, answer: str, text: str, found: bool | None
) -> None:
    assert answers.answered(answer, text) is found


def gives(text: str) -> Callable[[Any, int], str]:
    """A way that gives a text, whatever is asked."""

    def way(prepared: Any, budget: int) -> str:
        return text

    return way


def test_evidence_is_measured_by_turns_and_by_tokens(figures: ModuleType) -> None:
    prepared = prepared_of()
    whole = figures.Evidence(prepared).measured(gives("Ann:   I found\na blue kettle."), 50)
    assert (whole["whole"], whole["tokens"], whole["answered"]) == (1, 1, 1)
    assert whole["used"] == counter_for().count("Ann:   I found\na blue kettle.")
    two = ("I found a blue kettle. The kettle is old.", "It rained.")
    prepared.asked = dataclasses.replace(prepared.asked, evidence=two)
    half = figures.Evidence(prepared).measured(gives("The kettle is old … It rained. The kettle is old."), 50)
    tokens = [counter_for().count(text) for text in ("I found a blue kettle.", "The kettle is old.", "It rained.")]
    assert half["whole"] == 0.5
    assert half["tokens"] == (tokens[1] + tokens[2]) / sum(tokens)
    assert half["answered"] == 0


def test_a_text_over_its_budget_ends_the_run(figures: ModuleType) -> None:
    with pytest.raises(AssertionError, match="of 3 tokens"):
        figures.Evidence(prepared_of()).measured(gives("one two three four five"), 3)


def test_the_interval_lies_around_the_mean_and_is_the_same_each_time(figures: ModuleType) -> None:
    values = [0.0, 1.0] * 50
    low, high = figures.interval(values)
    assert 0.38 < low < 0.5 < high < 0.62
    assert figures.interval(values) == (low, high)
    assert figures.interval([1.0] * 9) == (1.0, 1.0)
    assert figures.interval([]) == (0.0, 0.0)


# --- The runs -----------------------------------------------------------------------------------------------------


@pytest.mark.timeout(175)
def test_all_evidence_of_a_set_that_fits_is_found_in_our_packages(data: Path, tmp_path: Path) -> None:
    run("run.py", str(data), "--json", str(tmp_path / "out.json"))
    report = json.loads((tmp_path / "out.json").read_text("utf-8"))
    sets = report["sets"]
    assert {name: part["questions"] for name, part in sets.items()} == {"locomo": 1, "longmemeval": 1}
    for part in sets.values():
        lines = part["lines"]
        assert [line["budget"] for line in lines if line["way"] == "our package"] == [500, 1_000, 2_000, 4_000]
        for line in lines:
            assert line["whole"] == line["tokens"] == line["answered"] == part["possible"] == 1
            assert 0 < line["used"] <= line["budget"]
    assert os.fspath(tmp_path) not in json.dumps(report)


def installed_peer(cache: Path, script: str) -> None:
    """An executable where the peer's interpreter would be."""
    headroom = importlib.import_module("_headroom")
    lines = (FOLDER / "headroom-requirements.txt").read_text("utf-8").splitlines()
    pinned = next(line.split()[0] for line in lines if line.startswith(headroom.PACKAGE))
    python = cache / "peers" / pinned.replace("==", "-") / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\n{script}\n", "utf-8")
    python.chmod(0o755)


@pytest.mark.timeout(175)
@pytest.mark.skipif(os.name == "nt", reason="the stand-in is a shell script")
def test_a_peer_is_measured_in_the_same_run(data: Path, tmp_path: Path) -> None:
    (tmp_path / "stand_in.py").write_text(STAND_IN, "utf-8")
    child = f"exec '{sys.executable}' '{tmp_path / 'stand_in.py'}'"
    installed_peer(tmp_path / "cache", f'case "$1" in -c) echo 9.9;; *) {child};; esac')
    out = tmp_path / "out.json"
    run("run.py", str(data), "--peers", "--cache", str(tmp_path / "cache"), "--json", str(out))
    report = json.loads(out.read_text("utf-8"))
    assert report["peers"] == {"TextCrusher": {"package": "headroom-ai 9.9", "failed": ""}}
    for part in report["sets"].values():
        lines = [line for line in part["lines"] if line["way"] == "TextCrusher"]
        assert [line["whole"] for line in lines] == [1, 1, 1, 1]
        assert all(0 < line["used"] <= line["budget"] for line in lines)


@pytest.mark.timeout(175)
@pytest.mark.skipif(os.name == "nt", reason="the stand-in is a shell script")
def test_a_peer_that_does_not_run_is_left_out_and_the_page_says_why(data: Path, tmp_path: Path) -> None:
    installed_peer(tmp_path / "cache", "echo it cannot work here >&2; exit 1")
    out = tmp_path / "out.json"
    options = ("--sets", "locomo", "--peers", "--cache", str(tmp_path / "cache"), "--json", str(out))
    done = run("run.py", str(data), *options, ok=False)
    assert "TextCrusher: not measured." in done.stdout
    assert "it cannot work here" in done.stdout
    assert {line["way"] for line in json.loads(out.read_text("utf-8"))["sets"]["locomo"]["lines"]} == {
        "our package",
        "best hits whole",
        "whole sessions",
        "newest first",
    }


@pytest.mark.timeout(175)
def test_a_run_goes_on_where_an_earlier_one_was_interrupted(data: Path, tmp_path: Path) -> None:
    details, first, again = tmp_path / "details.jsonl", tmp_path / "first.json", tmp_path / "again.json"
    run("run.py", str(data), "--details", str(details), "--json", str(first))
    whole = details.read_text("utf-8")
    details.write_text(whole[: len(whole) - 40], "utf-8")  # cut in its last line
    run("run.py", str(data), "--details", str(details), "--json", str(again), "--resume")
    lines = [json.loads(line) for line in details.read_text("utf-8").splitlines()]
    assert [line["set"] for line in lines[1:]] == ["locomo", "longmemeval"]
    assert lines[1] == json.loads(whole.splitlines()[1])  # not measured again
    reports = [json.loads(path.read_text("utf-8"))["sets"] for path in (first, again)]
    assert reports[0]["locomo"] == reports[1]["locomo"]
    assert reports[1]["longmemeval"]["questions"] == 1
    details.write_text(json.dumps({**lines[0], "commit": "0" * 12}) + "\n", "utf-8")
    done = run("run.py", str(data), "--details", str(details), "--resume", ok=False)
    assert "is of another run" in done.stderr


def test_the_pages_are_written_from_whole_runs_only(data: Path) -> None:
    assert "whole run" in run("run.py", str(data), "--every", "2", "--write-docs", ok=False).stderr
    assert "whole run" in run("speed.py", "--quick", "--write-docs", ok=False).stderr


def test_the_tables_show_every_way_and_why_a_peer_is_missing(figures: ModuleType, packing: ModuleType) -> None:
    pages = importlib.import_module("_pages")
    evidence = figures.Evidence(prepared_of())
    compared = packing.ways(None)
    line = {
        "part": "tune",
        "possible": True,
        "ways": {name: {"2000": evidence.measured(way, 2_000)} for name, way in compared.items()},
    }
    report: dict[str, Any] = {
        "command": "python benchmarks/compression/run.py DATA",
        "date": "2026-11-22",
        "counter": "o200k_base",
        "machine": {
            "cpu": "a processor",
            "cores": 2,
            "memory_gb": 1.0,
            "system": "Linux",
            "python": "CPython 3.11",
            "packages": {"numpy": "2"},
            "commit": "0" * 12,
        },
        "load_average": {"before": [0.0, 0.0, 0.0], "after": [0.0, 0.0, 0.0]},
        "peers": {"TextCrusher": {"package": None, "failed": "uv is not installed"}},
        "sets": {"locomo": figures.summary([line], list(compared), [2_000])},
    }
    page = pages.as_markdown(report)
    assert "- TextCrusher: not measured. uv is not installed" in page
    assert "| **our package** | 100.0 (100.0-100.0), of 92.0 ✓ |" in page
    for name in compared:
        assert f"| {name} |" in page or f"| **{name}** |" in page


@pytest.mark.timeout(175)
def test_speed_is_measured_beside_floors(tmp_path: Path) -> None:
    out = tmp_path / "speed.json"
    run("speed.py", "--quick", "--cache", str(tmp_path / "cache"), "--json", str(out))
    report = json.loads(out.read_text("utf-8"))
    assert list(report["parts"]) == ["package", "tool", "compaction", "memory"]
    for name, part in report["parts"].items():
        assert {row["of"] for row in part["rows"]} == {"ours", "floor"}, name
        for row in part["rows"]:
            assert row["min"] <= row["median"] <= row["max"]
    assert os.fspath(tmp_path) not in json.dumps(report)
