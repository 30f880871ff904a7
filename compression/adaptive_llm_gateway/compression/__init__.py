"""Context packages in a token budget: counting, budgets, duplicates, packages, compaction. May import `core` only.

Pure: no clock, no configuration, and no file but the ranks of the tokenizers, which lie in the package. Every name is
loaded on first use, so that what needs one value pays for no tokenizer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptive_llm_gateway.core import on_first_use

if TYPE_CHECKING:
    from adaptive_llm_gateway.compression._budget import (
        DEFAULT_SHARES,
        FIRST_HITS,
        Share,
        hits_for,
        split,
    )
    from adaptive_llm_gateway.compression._compact import (
        compact,
        count_log,
    )
    from adaptive_llm_gateway.compression._languages import (
        LANGUAGES,
        Language,
        is_data,
        language_of,
    )
    from adaptive_llm_gateway.compression._outline import (
        LONGEST_SOURCE,
        OUTLINE_FORMAT,
        Definition,
        Outline,
        has_grammar,
        names_of_text,
        outline_of,
    )
    from adaptive_llm_gateway.compression._package import (
        build_package,
    )
    from adaptive_llm_gateway.compression._pieces import (
        READ,
        SummaryFile,
        cleaned,
    )
    from adaptive_llm_gateway.compression._session import (
        Compaction,
        DecisionCandidate,
        Entry,
        Mention,
        Statement,
        Summariser,
    )
    from adaptive_llm_gateway.compression._summary import (
        LeftOutPath,
        PathLevel,
        PathSource,
        Skipped,
        Summary,
        summarise_files,
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
    "_budget": ("DEFAULT_SHARES", "FIRST_HITS", "Share", "hits_for", "split"),
    "_languages": ("LANGUAGES", "Language", "is_data", "language_of"),
    "_outline": (
        "LONGEST_SOURCE",
        "OUTLINE_FORMAT",
        "Definition",
        "Outline",
        "has_grammar",
        "names_of_text",
        "outline_of",
    ),
    "_package": ("build_package",),
    "_pieces": ("READ", "SummaryFile", "cleaned"),
    "_summary": ("LeftOutPath", "PathLevel", "PathSource", "Skipped", "Summary", "summarise_files"),
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

__all__ = [
    "DEFAULT_BUDGET",
    "DEFAULT_SHARES",
    "FIRST_HITS",
    "LANGUAGES",
    "LONGEST_SOURCE",
    "OUTLINE_FORMAT",
    "PARTS",
    "READ",
    "Candidate",
    "Compaction",
    "DecisionCandidate",
    "Definition",
    "Detail",
    "Entry",
    "Language",
    "LeftOut",
    "LeftOutPath",
    "Level",
    "Mention",
    "Outline",
    "Package",
    "Part",
    "PathLevel",
    "PathSource",
    "Share",
    "Skipped",
    "Source",
    "Statement",
    "Summariser",
    "Summary",
    "SummaryFile",
    "TokenCounter",
    "build_package",
    "cleaned",
    "compact",
    "count_log",
    "counter_for",
    "has_grammar",
    "hits_for",
    "is_data",
    "language_of",
    "names_of_text",
    "outline_of",
    "split",
    "summarise_files",
]

__getattr__ = on_first_use(__name__, _MODULES)
