"""The parts of a store, for what looks into one or several of them."""

from __future__ import annotations

from dataclasses import dataclass

from adaptive_llm_gateway.core import SecretScanner
from adaptive_llm_gateway.memory._memory_index import ReadableIndex
from adaptive_llm_gateway.memory._past import Past, Shown, whole_past
from adaptive_llm_gateway.memory._repo import MemoryRepo
from adaptive_llm_gateway.memory._reranking import Reranking
from adaptive_llm_gateway.memory._types import TypeRegistry
from adaptive_llm_gateway.memory._vectorizer import Vectorizer


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a store that search.

    Attributes:
        settled: what was pulled, or left by the last end, is all in the index.
        shown: what there is to see of an index of the past.
    """

    index: ReadableIndex
    repo: MemoryRepo
    vectorizer: Vectorizer
    past: Past
    reranking: Reranking
    types: TypeRegistry
    scanner: SecretScanner
    settled: bool
    shown: Shown = whole_past
