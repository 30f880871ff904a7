"""Context packages in a token budget: counting, budgets, duplicates, packages, compaction. May import `core` only.

Pure: no clock, no configuration, and no file but the ranks of the tokenizers, which lie in the package. Every name is
loaded on first use, so that what needs one value pays for no tokenizer.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from adaptive_llm_gateway.compression._budget import (
        DEFAULT_SHARES,
        Share,
        hits_for,
        split,
    )
    from adaptive_llm_gateway.compression._compact import (
        compact,
        count_log,
    )
    from adaptive_llm_gateway.compression._package import (
        build_package,
    )
    from adaptive_llm_gateway.compression._session import (
        Compaction,
        DecisionCandidate,
        Entry,
        Mention,
        Statement,
        Summariser,
    )
    from adaptive_llm_gateway.compression._tokens import (
        counter_for,
    )
    from adaptive_llm_gateway.compression._values import (
        DEFAULT_BUDGET,
        PARTS,
        Candidate,
        Detail,
        LeftOut,
        Level,
        Package,
        Part,
        Source,
        TokenCounter,
    )

_MODULES = {
    "_budget": ("DEFAULT_SHARES", "Share", "hits_for", "split"),
    "_package": ("build_package",),
    "_tokens": ("counter_for",),
    "_values": (
        "DEFAULT_BUDGET",
        "PARTS",
        "Candidate",
        "Detail",
        "LeftOut",
        "Level",
        "Package",
        "Part",
        "Source",
        "TokenCounter",
    ),
    "_compact": ("compact", "count_log"),
    "_session": ("Compaction", "DecisionCandidate", "Entry", "Mention", "Statement", "Summariser"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "DEFAULT_BUDGET",
    "DEFAULT_SHARES",
    "PARTS",
    "Candidate",
    "Compaction",
    "DecisionCandidate",
    "Detail",
    "Entry",
    "LeftOut",
    "Level",
    "Mention",
    "Package",
    "Part",
    "Share",
    "Source",
    "Statement",
    "Summariser",
    "TokenCounter",
    "build_package",
    "compact",
    "count_log",
    "counter_for",
    "hits_for",
    "split",
]


def __getattr__(name: str) -> object:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    return value
