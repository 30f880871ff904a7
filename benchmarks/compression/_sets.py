"""The sets as candidates and evidence: what search finds for a question, and the texts that a package should have."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator, Sequence
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

FOUND = 400  # memories that search gives for a question, the most that a package is made from
_BATCH = 512
Wanted = Callable[[int], bool]


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, what search found for it, and what answers it.

    Attributes:
        place: which of the set's questions it is, from 0, also when others are left out.
        candidates: the best first.
        units: all there is, in order of time.
        evidence: the texts that answer, whole.
        answer: as the set has it; empty where it has none.
    """

    place: int
    question: Question
    candidates: tuple[Candidate, ...]
    units: tuple[Unit, ...]
    evidence: tuple[str, ...]
    answer: str


def locomo(
    folder: Path, model: CachedModel, work: Path, first: int | None, wanted: Wanted = lambda _: True
) -> Iterator[Asked]:
    """Each turn a memory; categories 1 to 4.

    Args:
        first: haystacks; None: all.
        wanted: says of a question's place whether it is asked.
    """
    answers = _locomo_answers(folder)
    place = 0
    for number, haystack in enumerate(islice(locomo_turns(folder), first)):
        units = {unit.key: unit for unit in haystack.units}
        questions = [question for question in haystack.questions if not question.apart]
        chosen = {here: question for here, question in enumerate(questions, place) if wanted(here)}
        place += len(questions)
        some = Haystack(haystack.units, tuple(chosen.values()))
        searched = _searched(some, model, work / f"locomo-{number}.db")
        for here, (question, candidates) in zip(chosen, searched, strict=True):
            evidence = tuple(units[key].said for key in sorted(question.evidence))
            yield Asked(here, question, candidates, haystack.units, evidence, answers[number].get(question.text, ""))


def longmemeval_sessions(
    folder: Path, model: CachedModel, work: Path, first: int | None, wanted: Wanted = lambda _: True
) -> Iterator[Asked]:
    """Each session a memory; the evidence are the turns marked as having the answer. See `locomo`."""
    found = zip(_marked(folder), longmemeval(folder), strict=False)
    for place, ((turns, answer), haystack) in enumerate(islice(found, first)):
        if turns and wanted(place):
            for question, candidates in _searched(haystack, model, work / f"longmemeval-{place}.db"):
                yield Asked(place, question, candidates, haystack.units, turns, answer)


def _locomo_answers(folder: Path) -> list[dict[str, str]]:
    """The published answers of each conversation by their questions: corrected ones have remarks among their words."""
    conversations = json.loads((folder / LOCOMO).read_text("utf-8"))
    return [
        {qa["question"]: "" if qa.get("answer") is None else str(qa["answer"]) for qa in item["qa"]}
        for item in conversations
    ]


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
    if not haystack.questions:
        return
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
