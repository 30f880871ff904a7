"""The retrieval benchmark reads its data sets as it says, measures as it says, and runs; its results are its own."""

from __future__ import annotations

import gzip
import importlib
import json
import math
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

FOLDER = Path(__file__).parent.parent / "benchmarks" / "retrieval"
ULID_LENGTH = 26


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(FOLDER), str(FOLDER.parent), *sys.path])


@pytest.fixture
def datasets() -> ModuleType:
    return importlib.import_module("_datasets")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Made-up data in the form of each file."""
    folder = tmp_path / "data"
    folder.mkdir()
    conversations: list[dict[str, Any]] = [
        {
            "sample_id": f"conv-{number}",
            "conversation": {
                "speaker_a": "Ada",
                "speaker_b": "Ben",
                "session_1_date_time": "1:56 pm on 8 May, 2023",
                "session_1": [
                    {"speaker": "Ada", "dia_id": "D1:1", "text": f"I planted lupins behind house {number}."},
                    {"speaker": "Ben", "dia_id": "D1:2", "text": "Look!", "blip_caption": "a red kite over a lake"},
                ],
                "session_2_date_time": "10:05 am on 9 June, 2023",
                "session_2": [
                    {"speaker": "Ada", "dia_id": "D2:1", "text": f"The lupins died in the frost of {number}."}
                ],
                "session_3_date_time": "10:05 am on 10 June, 2023",
            },
            "qa": [
                {"question": "What did Ada plant?", "answer": "lupins", "evidence": ["D1:1"], "category": 4},
                {"question": "What became of it?", "answer": "died", "evidence": ["D1:2; D2:1"], "category": 1},
                {"question": "What did Ben plant?", "evidence": ["D1:1"], "category": 5, "adversarial_answer": "?"},
                {"question": "Who is Cleo?", "answer": "nobody", "evidence": [], "category": 3},
                {"question": "Who else?", "answer": "nobody", "evidence": ["D", "D9:9"], "category": 3},
            ],
        }
        for number in range(3)
    ]
    (folder / "locomo-dev.json").write_text(json.dumps(conversations), "utf-8")
    corrections: list[dict[str, Any]] = [
        {"question_id": "locomo_0_qa1", "correct_evidence": ["D2:1"]},
        {"question_id": "locomo_1_qa1", "correct_evidence": []},
    ]
    (folder / "locomo-dev-corrections.json").write_text(json.dumps(corrections), "utf-8")
    questions = [
        {
            "question_id": name,
            "question_type": "temporal-reasoning",
            "question": "When did I buy the kettle?",
            "question_date": "2023/06/25 (Sun) 13:22",
            "answer": "in May",
            "answer_session_ids": ["answer_77_1"],
            "haystack_dates": ["2023/05/01 (Mon) 08:57", "2023/05/02 (Tue) 09:36"],
            "haystack_session_ids": ["answer_77_1", "ultrachat_5"],
            "haystack_sessions": [
                [
                    {"role": "user", "content": "I bought a kettle.", "has_answer": True},
                    {"role": "assistant", "content": "Enjoy your tea.", "has_answer": False},
                ],
                [{"role": "user", "content": "Tell me about trains."}],
            ],
        }
        for name in ("q1", "q2_abs")
    ]
    with gzip.open(folder / "longmemeval-s-dev.jsonl.gz", "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(question) + "\n" for question in questions)
    chat = [
        {
            "batch_number": 1,
            "time_anchor": "March-15-2024",
            "turns": [
                [
                    {"role": "user", "id": 0, "time_anchor": "March-15-2024", "content": "Use Flask 2.3. ->-> 1,2"},
                    {"role": "assistant", "id": 1, "time_anchor": None, "content": "Then pin Flask."},
                ]
            ],
        },
        {"batch_number": 2, "turns": [[{"role": "user", "id": 2, "content": "Now Flask 3.0."}]]},
    ]
    probing = {
        "knowledge_update": [
            {"question": "Which Flask?", "source_chat_ids": {"original_info": [0], "updated_info": [[2]]}}
        ],
        "abstention": [{"question": "Which Django?"}],
        "summarization": [{"question": "What was said of Flask?", "source_chat_ids": [0, 1, 2, 99]}],
    }
    chats = [{"chat_id": str(number), "chat": chat, "probing_questions": probing} for number in range(2)]
    with gzip.open(folder / "beam-100k-dev.json.gz", "wt", encoding="utf-8") as file:
        json.dump(chats, file)
    return folder


def bodies(haystack: Any, keys: frozenset[str]) -> set[str]:
    return {unit.body for unit in haystack.units if unit.key in keys}


def test_a_turn_becomes_a_memory_with_its_speaker_minute_photo_and_session(data: Path, datasets: ModuleType) -> None:
    first, second, third = next(datasets.locomo_turns(data)).units
    assert (first.author, first.body) == ("Ada", "I planted lupins behind house 0.")
    assert first.time == datetime(2023, 5, 8, 13, 56, tzinfo=UTC)
    assert (second.body, second.time.minute) == ("Look! [shares a photo: a red kite over a lake]", 57)
    assert first.source == second.source != third.source
    assert {unit.type for unit in (first, second, third)} == {"note"}


def test_corrected_evidence_counts_and_the_published_is_kept(data: Path, datasets: ModuleType) -> None:
    corrected, published, _ = datasets.locomo_turns(data)
    question = corrected.questions[1]
    assert bodies(corrected, question.evidence) == {"The lupins died in the frost of 0."}
    assert len(question.published) == 2
    untouched = published.questions[1]
    assert untouched.evidence == untouched.published
    assert len(untouched.evidence) == 2


def test_adversarial_questions_stand_apart_for_turns_only_and_those_without_evidence_fall_out(
    data: Path, datasets: ModuleType
) -> None:
    turns, sessions = next(datasets.locomo_turns(data)), next(datasets.locomo_sessions(data))
    assert [(question.group, question.apart) for question in turns.questions] == [
        ("single-hop", False),
        ("multi-hop", False),
        ("adversarial", True),
    ]
    assert not any(question.apart for question in sessions.questions)
    assert len(sessions.questions) == 3


def test_a_session_is_one_memory_with_a_paragraph_a_turn(data: Path, datasets: ModuleType) -> None:
    haystack = next(datasets.locomo_sessions(data))
    assert [unit.type for unit in haystack.units] == ["session", "session"]
    assert haystack.units[0].body == (
        "Ada: I planted lupins behind house 0.\n\nBen: Look! [shares a photo: a red kite over a lake]"
    )
    assert bodies(haystack, haystack.questions[0].evidence) == {haystack.units[0].body}


def test_pooled_sessions_are_those_of_all_conversations(data: Path, datasets: ModuleType) -> None:
    (pooled,) = datasets.locomo_pooled(data)
    assert len(pooled.units) == len({unit.key for unit in pooled.units}) == 6
    assert len(pooled.questions) == 9
    house = next(question for question in pooled.questions[6:])
    assert "house 2" in bodies(pooled, house.evidence).pop()


def test_nothing_of_the_answer_key_is_in_what_is_indexed(data: Path, datasets: ModuleType) -> None:
    (haystack,) = datasets.longmemeval(data)  # `_abs` is left out
    record = importlib.import_module("_ways").record
    for unit in haystack.units:
        indexed = repr(record(unit))
        assert "answer" not in indexed
        assert "ultrachat" not in indexed
        assert len(unit.key) == ULID_LENGTH
    (question,) = haystack.questions
    assert bodies(haystack, question.evidence) == {"user: I bought a kettle.\n\nassistant: Enjoy your tea."}
    assert question.now == datetime(2023, 6, 25, 13, 22, tzinfo=UTC)


def test_beam_tails_are_stripped_and_evidence_is_found_at_any_depth(data: Path, datasets: ModuleType) -> None:
    haystack = next(datasets.beam(data))
    assert [unit.body for unit in haystack.units] == ["Use Flask 2.3.", "Then pin Flask.", "Now Flask 3.0."]
    assert [unit.time for unit in haystack.units] == [
        datetime(2024, 3, 15, 0, 0, second, tzinfo=UTC) for second in range(3)
    ]
    assert [unit.source == haystack.units[0].source for unit in haystack.units] == [True, True, False]
    update, summary = haystack.questions
    assert bodies(haystack, update.evidence) == {"Use Flask 2.3.", "Now Flask 3.0."}
    assert len(summary.evidence) == 3


def test_the_split_depends_on_conversation_chat_and_question_alone(data: Path, datasets: ModuleType) -> None:
    def parts(load: Any) -> list[set[str]]:
        return [{question.part for question in haystack.questions} for haystack in load(data)]

    assert parts(datasets.locomo_turns) == [{"tune"}, {"tune"}, {"held out"}]
    assert parts(datasets.beam) == [{"tune"}, {"held out"}]
    assert parts(datasets.longmemeval) == parts(datasets.longmemeval)


def test_ids_are_fresh_at_every_load(data: Path, datasets: ModuleType) -> None:
    first, second = (next(datasets.beam(data)) for _ in range(2))
    assert {unit.key for unit in first.units}.isdisjoint(unit.key for unit in second.units)


def test_measures_agree_with_those_worked_out_by_hand() -> None:
    measure = importlib.import_module("_metrics").measure
    found = ["x", "a", "y", "z", "w", "b", *(f"n{number}" for number in range(10)), "c"]
    measured = measure(found, frozenset("abcd"))
    assert measured["recall@5"] == 0.25
    assert measured["recall@10"] == 0.5
    assert measured["recall@20"] == 0.75
    assert measured["any@5"] == 1.0
    assert measured["mrr"] == 0.5
    gained = 1 / math.log2(3) + 1 / math.log2(7)
    ideal = 1 + 1 / math.log2(3) + 1 / 2 + 1 / math.log2(5)
    assert measured["ndcg@10"] == pytest.approx(gained / ideal)
    assert set(measure(["x"], frozenset("a")).values()) == {0.0}
    assert set(measure(["a"], frozenset("a")).values()) == {1.0}


def test_a_key_found_twice_counts_once_and_what_lies_beyond_twenty_does_not() -> None:
    measure = importlib.import_module("_metrics").measure
    assert measure(["x", "x", "x", "x", "x", "a"], frozenset("a"))["recall@5"] == 1.0
    assert measure([*(f"n{number}" for number in range(20)), "a"], frozenset("a"))["mrr"] == 0.0


class CountingModel:
    id = "counting"
    dimensions = 2

    def __init__(self) -> None:
        self.seen: list[str] = []

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.seen += texts
        return np.array([[len(text), 1.0] for text in texts], np.float32)


def test_vectors_are_computed_once_and_read_afterwards(tmp_path: Path) -> None:
    cached = importlib.import_module("_cache").CachedModel
    model = CountingModel()
    first = cached(model, tmp_path / "cache")
    assert first.embed(["ab", "abc", "ab"]).tolist() == [[2.0, 1.0], [3.0, 1.0], [2.0, 1.0]]
    first.close()
    assert sorted(model.seen) == ["ab", "abc"]
    second = cached(model, tmp_path / "cache")
    assert second.embed(["abc", "abcd"]).tolist() == [[3.0, 1.0], [4.0, 1.0]]
    second.close()
    assert second.computed == 1
    assert sorted(model.seen) == ["ab", "abc", "abcd"]


def test_details_tell_where_each_piece_of_evidence_stands(data: Path, datasets: ModuleType) -> None:
    outcome = importlib.import_module("_ways").outcome
    details = importlib.import_module("_summary").details
    haystack = next(datasets.beam(data))
    update = haystack.questions[0]
    found = [unit.key for unit in haystack.units[1:]]
    (told,) = details("beam", {"way": [outcome(update, found, 1.0)]})
    assert (told["set"], told["group"], told["question"]) == ("beam", "knowledge update", "Which Flask?")
    assert set(told["ranks"]["way"]) == {None, 2}


def test_the_ablation_turns_each_signal_off_alone() -> None:
    ablations = importlib.import_module("_ways").ablations()
    weights = importlib.import_module("adaptive_llm_gateway.memory._ranking").Weights
    whole = weights()
    assert len(ablations) >= 2
    for name, ablated in ablations.items():
        signal = name.removeprefix("without ")
        changed = [field for field in weights.__slots__ if getattr(ablated, field) != getattr(whole, field)]
        assert changed == [signal]
        assert getattr(ablated, signal) == 0


class PerfectServer:
    """A server that finds the evidence second, after what it was told first."""

    version, note, modes = "1", "made up.", ("hybrid",)

    def __init__(self, folder: Path, cache: Path | None) -> None:
        del folder, cache
        self.per_second = 10.0

    def load(self, haystack: Any, folder: Path) -> PerfectServer:
        del folder
        self.first = haystack.units[0].key
        return self

    def ask(self, question: Any, mode: str) -> list[str]:
        assert mode == "hybrid"
        return [self.first, *sorted(question.evidence - {self.first})]

    def memory(self) -> float:
        return 12.5

    def commands(self) -> dict[str, Any]:
        return {}

    def close(self) -> None:
        pass


def test_a_server_is_measured_on_each_set_and_shown(
    data: Path, datasets: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    servers = importlib.import_module("_servers")
    monkeypatch.setitem(servers.SERVERS, "made-up", PerfectServer)
    sets = {"beam": list(datasets.beam(data)), "longmemeval": list(datasets.longmemeval(data))}
    told = servers.nothing()
    measured = [
        set(told["sets"])
        for _ in servers.measure_all("made-up", sets, told, tmp_path / "stores", None, sample=1, quick=True)
    ]
    assert told["failed"] is None
    assert measured == [{"beam"}, {"beam", "longmemeval"}]
    beam = told["sets"]["beam"]
    assert (beam["haystacks"], beam["questions"], beam["held out"], beam["memory_mb"]) == (1, 2, 2, 12.5)
    assert beam["modes"]["hybrid"]["all"]["recall@10"] == 1.0
    assert beam["per_second"] == 10.0
    tables = "\n".join(importlib.import_module("_report")._servers({"made-up": told}))
    assert "| made-up, hybrid | 100.0 |" in tables
    assert "made-up 1: made up." in tables


def test_a_server_that_fails_is_told_and_does_not_end_the_run(
    data: Path, datasets: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    servers = importlib.import_module("_servers")

    def refuse(folder: Path, cache: Path | None) -> Any:
        raise OSError("no such program")

    monkeypatch.setitem(servers.SERVERS, "made-up", refuse)
    sets = {"beam": list(datasets.beam(data))}
    told = servers.nothing()
    assert not list(servers.measure_all("made-up", sets, told, tmp_path / "stores", None, sample=1, quick=True))
    assert told["failed"] == "OSError: no such program"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(FOLDER / "run.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=170)


@pytest.mark.timeout(175)
def test_a_quick_run_on_all_sets_gives_numbers_and_tables(data: Path, tmp_path: Path) -> None:
    written = tmp_path / "numbers.json"
    done = run(str(data), "--quick", "--ablation", "--cache", str(tmp_path / "cache"), "--json", str(written))
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(written.read_text("utf-8"))
    assert report["command"] == "python benchmarks/retrieval/run.py DATA --ablation --quick"
    assert set(report["sets"]) == {"locomo-turns", "locomo-sessions", "locomo-pooled", "longmemeval", "beam"}
    for part in report["sets"].values():
        ways = part["ways"]
        assert {"plain FTS5", "ours, lexical", "MiniLM alone", "ours, hybrid"} < set(ways)
        for numbers in ways.values():
            assert 0 <= numbers["all"]["recall@5"] <= numbers["all"]["recall@10"] <= 1
    assert report["sets"]["longmemeval"]["ways"]["ours, hybrid"]["all"]["any@5"] == 1.0
    assert report["sets"]["locomo-turns"]["apart"] == ["adversarial"]
    assert "LongMemEval-S, sessions" in done.stdout
    assert "without" in done.stdout
    assert str(tmp_path) not in json.dumps(report) + done.stdout


@pytest.mark.timeout(175)
def test_our_server_is_driven_through_mcp(data: Path, tmp_path: Path) -> None:
    written = tmp_path / "numbers.json"
    done = run(
        str(data), "--quick", "--lexical", "--sets", "locomo-pooled", "--servers", "ours", "--json", str(written)
    )
    assert done.returncode == 0, done.stderr
    ours: dict[str, Any] = json.loads(written.read_text("utf-8"))["servers"]["ours"]
    measured = ours["sets"]["locomo-pooled"]
    assert measured["modes"]["hybrid"]["all"]["recall@10"] > 0.5  # what is too far from a question is no hit
    assert measured["memory_mb"] > 0
    assert measured["per_second"] > 0
    assert set(ours["starts"]) == {"hub running", "no hub running"}


def test_a_folder_without_data_is_refused_by_name(tmp_path: Path) -> None:
    done = run(str(tmp_path))
    assert done.returncode == 2
    assert "locomo-dev.json" in done.stderr


def test_the_documentation_is_written_from_whole_runs_only(tmp_path: Path) -> None:
    done = run(str(tmp_path), "--quick", "--write-docs")
    assert done.returncode == 2
    assert "whole run" in done.stderr


def test_tables_replace_what_stands_between_the_marks_and_nothing_else(tmp_path: Path, data: Path) -> None:
    report = importlib.import_module("_report")
    page = tmp_path / "page.md"
    page.write_text(f"before\n\n{report._BEGIN}\n\nold\n{report._END}\n\nafter\n", "utf-8")
    written = tmp_path / "numbers.json"
    assert run(str(data), "--quick", "--lexical", "--sets", "beam", "--json", str(written)).returncode == 0
    report.write_docs(page, json.loads(written.read_text("utf-8")))
    text = page.read_text("utf-8")
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    assert "| plain FTS5 |" in text
    with pytest.raises(ValueError, match="no marks"):
        report.write_docs(data / "locomo-dev.json", json.loads(written.read_text("utf-8")))
