"""The benchmark of packages reads its sets as it says and runs."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "benchmarks" / "compression"


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


def test_all_evidence_of_a_set_that_fits_is_found_in_our_packages(data: Path, tmp_path: Path) -> None:
    path = os.pathsep.join(str(ROOT / name) for name in ("core", "memory", "compression", "server"))
    done = subprocess.run(
        [sys.executable, str(FOLDER / "run.py"), str(data), "--json", str(tmp_path / "out.json")],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=150,
        check=False,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr
    sets = json.loads((tmp_path / "out.json").read_text("utf-8"))["sets"]
    assert {name: lines[0]["questions"] for name, lines in sets.items()} == {"locomo": 1, "longmemeval": 1}
    for lines in sets.values():
        assert [line["budget"] for line in lines if line["way"] == "our package"] == [500, 1_000, 2_000, 4_000]
        for line in lines:
            assert line["whole"] == line["tokens"] == line["answered"] == 1
            assert 0 < line["used"] <= line["budget"]
