"""The sets as candidates and evidence: what search finds for a question, and the texts that a package should have."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import _ways
from _cache import CachedModel
from _datasets import LOCOMO, LONGMEMEVAL, locomo_turns, longmemeval
from _units import Haystack, Question, Unit

from adaptive_llm_gateway.compression import Candidate
from adaptive_llm_gateway.memory._asking import operator_values
from adaptive_llm_gateway.memory._index import Index
from adaptive_llm_gateway.memory._models import BUILT_IN
from adaptive_llm_gateway.memory._search_syntax import read_query

FOUND = 200  # memories that search gives for a question
_BATCH = 512
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, what search found for it, and what answers it.

    Attributes:
        candidates: the best first.
        units: all there is, in order of time.
        evidence: the texts that answer, whole.
        answer: as the set has it; empty where it has none.
    """

    question: Question
    candidates: tuple[Candidate, ...]
    units: tuple[Unit, ...]
    evidence: tuple[str, ...]
    answer: str


def locomo(folder: Path, model: CachedModel, work: Path, first: int | None) -> Iterator[Asked]:
    """Each turn a memory; categories 1 to 4."""
    raw = json.loads((folder / LOCOMO).read_text("utf-8"))
    answers = [{qa["question"]: str(qa.get("answer", "")) for qa in item["qa"]} for item in raw]
    for place, haystack in enumerate(islice(locomo_turns(folder), first)):
        units = {unit.key: unit for unit in haystack.units}
        for question, candidates in _searched(haystack, model, work / f"locomo-{place}.db"):
            if not question.apart:
                evidence = tuple(units[key].said for key in sorted(question.evidence))
                answer = answers[place].get(question.text, "")
                yield Asked(question, candidates, haystack.units, evidence, answer)


def longmemeval_sessions(folder: Path, model: CachedModel, work: Path, first: int | None) -> Iterator[Asked]:
    """Each session a memory; the evidence are the turns marked as having the answer."""
    found = zip(_marked(folder), longmemeval(folder), strict=False)
    for place, ((turns, answer), haystack) in enumerate(islice(found, first)):
        for question, candidates in _searched(haystack, model, work / f"longmemeval-{place}.db"):
            if turns:
                yield Asked(question, candidates, haystack.units, turns, answer)


def answered(answer: str, text: str) -> bool | None:
    """Whether a text has all words of an answer that are numbers or of four letters and more; None: it has none."""
    words = {word for word in _WORD.findall(answer.lower()) if len(word) > 3 or word.isdigit()}
    return words <= set(_WORD.findall(text.lower())) if words else None


def _marked(folder: Path) -> Iterator[tuple[tuple[str, ...], str]]:
    """(the turns that have the answer, the answer) of each question that `longmemeval` gives."""
    with gzip.open(folder / LONGMEMEVAL, "rt", encoding="utf-8") as file:
        for line in file:
            item: dict[str, Any] = json.loads(line)
            there = set(item["haystack_session_ids"])
            if item["question_id"].endswith("_abs") or not there.intersection(item["answer_session_ids"]):
                continue
            turns = [
                turn["content"] for session in item["haystack_sessions"] for turn in session if turn.get("has_answer")
            ]
            yield tuple(turns), str(item["answer"])


def _searched(haystack: Haystack, model: CachedModel, path: Path) -> Iterator[tuple[Question, tuple[Candidate, ...]]]:
    index = Index(path)
    try:
        index.apply([_ways.record(unit) for unit in haystack.units])
        index.set_embedder(model.id, model.dimensions)
        while backlog := index.backlog(_BATCH):
            vectors = model.embed([text for _, text in backlog])
            index.store_vectors([(chunk, vector) for (chunk, _), vector in zip(backlog, vectors, strict=True)])
        for question in haystack.questions:
            yield question, _candidates(index, question, model)
    finally:
        index.close()


def _candidates(index: Index, question: Question, model: CachedModel) -> tuple[Candidate, ...]:
    now = question.now or datetime.now(UTC)
    reading = read_query(question.text, now=now, zone=UTC, types=BUILT_IN, values=operator_values())
    (vector,) = model.embed([reading.text])
    answer = index.search(
        reading.text, vector=vector, filters=reading.filters, limit=FOUND, preferred=reading.preferred
    )
    return tuple(
        Candidate(
            id=hit.record.id,
            type=hit.record.type,
            title=hit.record.title,
            body=hit.record.body,
            path=hit.record.path,
            version=hit.record.version,
            updated=hit.record.updated,
            author=hit.record.author.client,
            score=hit.score,
            passages=(hit.lines,),
        )
        for hit in answer.hits
    )


def newest_first(units: Sequence[Unit]) -> list[Unit]:
    """Units, the newest first."""
    return sorted(units, key=lambda unit: unit.time, reverse=True)
