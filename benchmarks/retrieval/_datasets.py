"""The data sets as units and questions. Every id is replaced by a fresh ULID before anything is indexed."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import Any

from _units import Haystack, Part, Question, Unit

from adaptive_llm_gateway.core import new_ulid

LOCOMO, CORRECTIONS = "locomo-dev.json", "locomo-dev-corrections.json"
LONGMEMEVAL, BEAM = "longmemeval-s-dev.jsonl.gz", "beam-100k-dev.json.gz"
_TUNED_CONVERSATIONS = 2
_TUNED_SHARE = 0.3
_SESSION_AUTHOR = "chat"
_CATEGORIES = {1: "multi-hop", 2: "temporal", 3: "open-domain", 4: "single-hop", 5: "adversarial"}


@dataclass(frozen=True, slots=True)
class Dataset:
    """One set as it is measured.

    Attributes:
        name: as on the command line.
        title: as in the tables.
        file: what it is read from.
        load: gives the haystacks, from the folder with the files.
        shown: the measures that its tables show, the first being the one it is judged by.
    """

    name: str
    title: str
    file: str
    load: Callable[[Path], Iterator[Haystack]]
    shown: tuple[str, ...]


def locomo_turns(folder: Path) -> Iterator[Haystack]:
    """Each conversation one haystack, each turn one memory; category 5 apart."""
    for number, talk, questions in _locomo(folder):
        keys: dict[str, str] = {}
        units: list[Unit] = []
        for _, start, turns in _sessions(talk):
            source = new_ulid()
            for place, turn in enumerate(turns):
                key = keys[turn["dia_id"]] = new_ulid()
                units.append(Unit(key, turn["speaker"], start + timedelta(minutes=place), _said(turn), source=source))
        asked = [_locomo_question(number, qa, cited, keys, apart=5) for qa, cited in questions]
        yield Haystack(tuple(units), tuple(filter(None, asked)))


def locomo_sessions(folder: Path) -> Iterator[Haystack]:
    """Each conversation one haystack, each session one memory; questions of all categories."""
    for number, talk, questions in _locomo(folder):
        units, keys = _session_units(talk)
        asked = [_locomo_question(number, qa, cited, keys) for qa, cited in questions]
        yield Haystack(tuple(units), tuple(filter(None, asked)))


def locomo_pooled(folder: Path) -> Iterator[Haystack]:
    """The sessions of all conversations in one haystack."""
    haystacks = list(locomo_sessions(folder))
    yield Haystack(
        tuple(chain.from_iterable(haystack.units for haystack in haystacks)),
        tuple(chain.from_iterable(haystack.questions for haystack in haystacks)),
    )


def longmemeval(folder: Path) -> Iterator[Haystack]:
    """Each question with its own haystack of about 50 sessions; those without an answer (`_abs`) left out."""
    with gzip.open(folder / LONGMEMEVAL, "rt", encoding="utf-8") as file:
        for line in file:
            item = json.loads(line)
            if item["question_id"].endswith("_abs"):
                continue
            keys: dict[str, str] = {}
            units: list[Unit] = []
            given = zip(item["haystack_session_ids"], item["haystack_dates"], item["haystack_sessions"], strict=True)
            for session, date, turns in given:
                key = keys[session] = new_ulid()
                spoken = tuple((turn["role"], turn["content"]) for turn in turns)
                units.append(Unit(key, _SESSION_AUTHOR, _longmemeval_time(date), turns=spoken))
            evidence = frozenset(keys[session] for session in item["answer_session_ids"] if session in keys)
            if evidence:
                question = Question(
                    item["question"],
                    evidence,
                    item["question_type"],
                    _by_hash(item["question_id"]),
                    now=_longmemeval_time(item["question_date"]),
                )
                yield Haystack(tuple(units), (question,))


def beam(folder: Path) -> Iterator[Haystack]:
    """Each chat one haystack, each message one memory."""
    with gzip.open(folder / BEAM, "rt", encoding="utf-8") as file:
        chats = json.load(file)
    for number, chat in enumerate(chats):
        keys: dict[str, str] = {}
        units: list[Unit] = []
        day = datetime(2024, 1, 1, tzinfo=UTC)
        for batch in chat["chat"]:
            source = new_ulid()
            for turn in chain.from_iterable(batch["turns"]):
                if anchor := turn.get("time_anchor"):
                    day = datetime.strptime(anchor, "%B-%d-%Y").replace(tzinfo=UTC)
                text = re.sub(r"\s*->->.*$", "", turn["content"], flags=re.DOTALL)
                key = keys[str(turn["id"])] = new_ulid()
                units.append(Unit(key, turn["role"], day + timedelta(seconds=len(units)), text, source=source))
        part: Part = "held out" if number % 2 else "tune"
        questions: list[Question] = []
        for kind, asked in chat["probing_questions"].items():
            for question in asked:
                named = map(str, _numbers(question.get("source_chat_ids")))
                evidence = frozenset(keys[message] for message in named if message in keys)
                if evidence:
                    questions.append(Question(question["question"], evidence, kind.replace("_", " "), part))
        yield Haystack(tuple(units), tuple(questions))


DATASETS = {
    dataset.name: dataset
    for dataset in (
        Dataset(
            "locomo-turns",
            "LoCoMo, turns, categories 1-4",
            LOCOMO,
            locomo_turns,
            ("recall@10", "recall@5", "recall@20", "any@10", "ndcg@10", "mrr"),
        ),
        Dataset(
            "locomo-sessions",
            "LoCoMo, sessions of one conversation, all questions",
            LOCOMO,
            locomo_sessions,
            ("recall@10", "recall@5", "mrr"),
        ),
        Dataset(
            "locomo-pooled",
            "LoCoMo, sessions of all conversations together, all questions",
            LOCOMO,
            locomo_pooled,
            ("recall@5", "recall@10", "mrr"),
        ),
        Dataset(
            "longmemeval",
            "LongMemEval-S, sessions",
            LONGMEMEVAL,
            longmemeval,
            ("recall@5", "recall@10", "any@5", "any@10", "ndcg@10"),
        ),
        Dataset("beam", "BEAM-100K, messages", BEAM, beam, ("recall@10", "recall@5", "ndcg@10")),
    )
}


def _locomo(folder: Path) -> Iterator[tuple[int, dict[str, Any], list[tuple[dict[str, Any], list[Any]]]]]:
    """(number, conversation, [(question, its corrected evidence)])."""
    corrected: dict[str, list[str]] = {}
    if (folder / CORRECTIONS).exists():
        rows = json.loads((folder / CORRECTIONS).read_text("utf-8"))
        corrected = {row["question_id"]: row["correct_evidence"] for row in rows if row.get("correct_evidence")}
    for number, item in enumerate(json.loads((folder / LOCOMO).read_text("utf-8"))):
        questions = [
            (qa, corrected.get(f"locomo_{number}_qa{place}", qa.get("evidence") or []))
            for place, qa in enumerate(item["qa"])
        ]
        yield number, item["conversation"], questions


def _locomo_question(
    number: int, qa: dict[str, Any], cited: list[Any], keys: dict[str, str], *, apart: int | None = None
) -> Question | None:
    """The question, unless nothing that exists is its evidence.

    Args:
        keys: unit by turn id (`D1:3`) or by session (`D1`).
        apart: the category that is left out of the total.
    """
    evidence = _cited(cited, keys)
    if not evidence:
        return None
    return Question(
        qa["question"],
        evidence,
        _CATEGORIES[qa["category"]],
        "tune" if number < _TUNED_CONVERSATIONS else "held out",
        published=_cited(qa.get("evidence") or [], keys),
        apart=qa["category"] == apart,
    )


def _cited(cited: list[Any], keys: dict[str, str]) -> frozenset[str]:
    turns = re.findall(r"D\d+:\d+", " ".join(map(str, cited)))
    return frozenset(keys[name] for turn in turns for name in (turn, turn.partition(":")[0]) if name in keys)


def _sessions(talk: dict[str, Any]) -> Iterator[tuple[int, datetime, list[dict[str, Any]]]]:
    numbers = sorted(int(name[8:]) for name in talk if re.fullmatch(r"session_\d+", name))
    for number in numbers:
        start = datetime.strptime(talk[f"session_{number}_date_time"], "%I:%M %p on %d %B, %Y").replace(tzinfo=UTC)
        yield number, start, talk[f"session_{number}"]


def _session_units(talk: dict[str, Any]) -> tuple[list[Unit], dict[str, str]]:
    keys: dict[str, str] = {}
    units: list[Unit] = []
    for number, start, turns in _sessions(talk):
        key = keys[f"D{number}"] = new_ulid()
        units.append(Unit(key, _SESSION_AUTHOR, start, turns=tuple((turn["speaker"], _said(turn)) for turn in turns)))
    return units, keys


def _said(turn: dict[str, Any]) -> str:
    caption = turn.get("blip_caption")
    return f"{turn['text']} [shares a photo: {caption}]" if caption else turn["text"]


def _longmemeval_time(text: str) -> datetime:
    return datetime.strptime(re.sub(r"\(\w+\) ", "", text), "%Y/%m/%d %H:%M").replace(tzinfo=UTC)


def _by_hash(question: str) -> Part:
    place = int.from_bytes(hashlib.sha256(question.encode()).digest()[:4], "big") / 2**32
    return "tune" if place < _TUNED_SHARE else "held out"


def _numbers(value: Any) -> Iterator[int]:
    """The message numbers in evidence that is a list, or lists by name, at any depth."""
    if isinstance(value, dict):
        value = list(value.values())  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if isinstance(value, list):
        for item in value:  # pyright: ignore[reportUnknownVariableType]
            yield from _numbers(item)
    elif isinstance(value, int):
        yield value
