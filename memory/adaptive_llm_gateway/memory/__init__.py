"""Typed memory: Markdown files in git, a derived index, search and sync. May import `core` only.

Every name is loaded on first use, so that what needs one value does not pay for git, SQLite and the model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptive_llm_gateway.core import on_first_use

if TYPE_CHECKING:
    from adaptive_llm_gateway.memory._allowing import (
        Allow,
        Allowed,
        one_of,
    )
    from adaptive_llm_gateway.memory._asking import (
        Answer,
        Plan,
        SearchRequest,
    )
    from adaptive_llm_gateway.memory._changes import (
        ChangeKind,
        ChangePlace,
        ChangeReader,
        Changes,
        ChangesLost,
        MemoryChange,
    )
    from adaptive_llm_gateway.memory._embed import (
        Embedder,
        EmbedderConfig,
        EmbedderUnavailable,
        HashEmbedder,
        create_embedder,
    )
    from adaptive_llm_gateway.memory._export import (
        ExportReport,
    )
    from adaptive_llm_gateway.memory._git import end_git
    from adaptive_llm_gateway.memory._history_places import Stands
    from adaptive_llm_gateway.memory._history_plan import PlanStep, plan_history
    from adaptive_llm_gateway.memory._history_scan import (
        CommitNote,
        HistoryReport,
        HistorySecret,
        scan_history,
    )
    from adaptive_llm_gateway.memory._import import (
        IMPORT_KINDS,
        ImportKind,
        ImportReport,
    )
    from adaptive_llm_gateway.memory._index import (
        CorruptIndex,
        Page,
        Tombstone,
    )
    from adaptive_llm_gateway.memory._merge_driver import run_merge_driver
    from adaptive_llm_gateway.memory._merge_driver_setup import (
        install_merge_driver,
        look_at_merge_driver,
        uninstall_merge_driver,
    )
    from adaptive_llm_gateway.memory._object_watch import (
        ObjectFinding,
        ObjectsSeen,
        ObjectWatch,
        look_at_objects,
        objects_folder,
        store_signature,
    )
    from adaptive_llm_gateway.memory._offline import (
        protocol_here,
        try_to_leave_with_git,
    )
    from adaptive_llm_gateway.memory._opening import look_at_postgres, look_at_qdrant
    from adaptive_llm_gateway.memory._plans import Planned
    from adaptive_llm_gateway.memory._quarantine import Held, InHistory, Quarantine
    from adaptive_llm_gateway.memory._raising import (
        Raised,
    )
    from adaptive_llm_gateway.memory._requests import (
        PERSONAL,
        AppendEvent,
        AppendSession,
        DeleteMemory,
        History,
        ImportMemory,
        Memory,
        PostgresConfig,
        QdrantConfig,
        ReindexReport,
        ReplaceText,
        RepoStatus,
        Request,
        RestoreMemory,
        Skipped,
        Standing,
        StoreSettings,
        StoreStatus,
        WriteMemory,
        WriteResult,
        WriteSummary,
    )
    from adaptive_llm_gateway.memory._rerank import (
        Reranker,
        RerankerConfig,
        RerankerUnavailable,
        create_reranker,
    )
    from adaptive_llm_gateway.memory._sessions import (
        SUMMARISES,
        SessionEntry,
        SessionLog,
        page_of_log,
        summary_id,
    )
    from adaptive_llm_gateway.memory._sight import (
        Sight,
    )
    from adaptive_llm_gateway.memory._store import (
        MemoryStore,
    )
    from adaptive_llm_gateway.memory._stores import (
        Memories,
        MemoryStores,
        RepoPlace,
    )
    from adaptive_llm_gateway.memory._sync_look import (
        ask_remote,
        look_at_sync,
    )
    from adaptive_llm_gateway.memory._sync_progress import (
        SyncProgress,
    )
    from adaptive_llm_gateway.memory._syncing import (
        SyncOutcome,
    )
    from adaptive_llm_gateway.memory._time_words import (
        read_time,
    )
    from adaptive_llm_gateway.memory._transfer import (
        ExportFormat,
        export_memories,
        import_memories,
    )
    from adaptive_llm_gateway.memory._types import (
        TypeRegistry,
    )
    from adaptive_llm_gateway.memory._values import (
        WORST_FIRST,
        Author,
        Change,
        Exclusions,
        Facets,
        Filters,
        Hit,
        Link,
        Operation,
        Record,
        Revision,
        SearchMode,
        SyncKind,
        SyncProblem,
        SyncStatus,
        TimeRange,
    )
    from adaptive_llm_gateway.memory._view import (
        MemoryView,
        seen_error,
    )
    from adaptive_llm_gateway.memory._views import (
        MemoryViews,
        SeenMemories,
        view_of,
    )
    from adaptive_llm_gateway.memory._writer import (
        Ticket,
    )

_MODULES = {
    "_allowing": (
        "Allow",
        "Allowed",
        "one_of",
    ),
    "_asking": (
        "Answer",
        "Plan",
        "SearchRequest",
    ),
    "_changes": (
        "ChangeKind",
        "ChangePlace",
        "ChangeReader",
        "Changes",
        "ChangesLost",
        "MemoryChange",
    ),
    "_embed": (
        "Embedder",
        "EmbedderConfig",
        "EmbedderUnavailable",
        "HashEmbedder",
        "create_embedder",
    ),
    "_git": ("end_git",),
    "_history_places": ("Stands",),
    "_history_plan": ("PlanStep", "plan_history"),
    "_history_scan": ("CommitNote", "HistoryReport", "HistorySecret", "scan_history"),
    "_index": (
        "CorruptIndex",
        "Page",
        "Tombstone",
    ),
    "_merge_driver": ("run_merge_driver",),
    "_merge_driver_setup": (
        "install_merge_driver",
        "look_at_merge_driver",
        "uninstall_merge_driver",
    ),
    "_opening": ("look_at_postgres", "look_at_qdrant"),
    "_object_watch": (
        "ObjectFinding",
        "ObjectsSeen",
        "ObjectWatch",
        "look_at_objects",
        "objects_folder",
        "store_signature",
    ),
    "_offline": (
        "protocol_here",
        "try_to_leave_with_git",
    ),
    "_raising": ("Raised",),
    "_requests": (
        "PERSONAL",
        "AppendEvent",
        "AppendSession",
        "DeleteMemory",
        "History",
        "ImportMemory",
        "Memory",
        "PostgresConfig",
        "QdrantConfig",
        "ReindexReport",
        "ReplaceText",
        "RepoStatus",
        "Request",
        "RestoreMemory",
        "Skipped",
        "Standing",
        "StoreSettings",
        "StoreStatus",
        "WriteMemory",
        "WriteResult",
        "WriteSummary",
    ),
    "_plans": ("Planned",),
    "_quarantine": ("Held", "InHistory", "Quarantine"),
    "_rerank": (
        "Reranker",
        "RerankerConfig",
        "RerankerUnavailable",
        "create_reranker",
    ),
    "_sessions": ("SUMMARISES", "SessionEntry", "SessionLog", "page_of_log", "summary_id"),
    "_store": ("MemoryStore",),
    "_sight": ("Sight",),
    "_stores": ("Memories", "MemoryStores", "RepoPlace"),
    "_sync_look": ("ask_remote", "look_at_sync"),
    "_sync_progress": ("SyncProgress",),
    "_syncing": ("SyncOutcome",),
    "_time_words": ("read_time",),
    "_transfer": (
        "ExportFormat",
        "export_memories",
        "import_memories",
    ),
    "_import": (
        "IMPORT_KINDS",
        "ImportKind",
        "ImportReport",
    ),
    "_export": ("ExportReport",),
    "_types": ("TypeRegistry",),
    "_values": (
        "WORST_FIRST",
        "Author",
        "Change",
        "Exclusions",
        "Facets",
        "Filters",
        "Hit",
        "Link",
        "Operation",
        "Record",
        "Revision",
        "SearchMode",
        "SyncKind",
        "SyncProblem",
        "SyncStatus",
        "TimeRange",
    ),
    "_view": ("MemoryView", "seen_error"),
    "_views": ("MemoryViews", "SeenMemories", "view_of"),
    "_writer": ("Ticket",),
}

__all__ = [
    "IMPORT_KINDS",
    "PERSONAL",
    "SUMMARISES",
    "WORST_FIRST",
    "Allow",
    "Allowed",
    "Answer",
    "AppendEvent",
    "AppendSession",
    "Author",
    "Change",
    "ChangeKind",
    "ChangePlace",
    "ChangeReader",
    "Changes",
    "ChangesLost",
    "CommitNote",
    "CorruptIndex",
    "DeleteMemory",
    "Embedder",
    "EmbedderConfig",
    "EmbedderUnavailable",
    "Exclusions",
    "ExportFormat",
    "ExportReport",
    "Facets",
    "Filters",
    "HashEmbedder",
    "Held",
    "History",
    "HistoryReport",
    "HistorySecret",
    "Hit",
    "ImportKind",
    "ImportMemory",
    "ImportReport",
    "InHistory",
    "Link",
    "Memories",
    "Memory",
    "MemoryChange",
    "MemoryStore",
    "MemoryStores",
    "MemoryView",
    "MemoryViews",
    "ObjectFinding",
    "ObjectWatch",
    "ObjectsSeen",
    "Operation",
    "Page",
    "Plan",
    "PlanStep",
    "Planned",
    "PostgresConfig",
    "QdrantConfig",
    "Quarantine",
    "Raised",
    "Record",
    "ReindexReport",
    "ReplaceText",
    "RepoPlace",
    "RepoStatus",
    "Request",
    "Reranker",
    "RerankerConfig",
    "RerankerUnavailable",
    "RestoreMemory",
    "Revision",
    "SearchMode",
    "SearchRequest",
    "SeenMemories",
    "SessionEntry",
    "SessionLog",
    "Sight",
    "Skipped",
    "Standing",
    "Stands",
    "StoreSettings",
    "StoreStatus",
    "SyncKind",
    "SyncOutcome",
    "SyncProblem",
    "SyncProgress",
    "SyncStatus",
    "Ticket",
    "TimeRange",
    "Tombstone",
    "TypeRegistry",
    "WriteMemory",
    "WriteResult",
    "WriteSummary",
    "ask_remote",
    "create_embedder",
    "create_reranker",
    "end_git",
    "export_memories",
    "import_memories",
    "install_merge_driver",
    "look_at_merge_driver",
    "look_at_objects",
    "look_at_postgres",
    "look_at_qdrant",
    "look_at_sync",
    "objects_folder",
    "one_of",
    "page_of_log",
    "plan_history",
    "protocol_here",
    "read_time",
    "run_merge_driver",
    "scan_history",
    "seen_error",
    "store_signature",
    "summary_id",
    "try_to_leave_with_git",
    "uninstall_merge_driver",
    "view_of",
]

__getattr__ = on_first_use(__name__, _MODULES)
