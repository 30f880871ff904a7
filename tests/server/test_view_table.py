"""Everything that can be done has a place in a table that says how it is kept from those who do not see everything."""

from __future__ import annotations

from typing import Any

import pytest

from adaptive_llm_gateway.handoff import Handoffs, SeveralHandoffs
from adaptive_llm_gateway.memory import MemoryStore, MemoryStores, MemoryView, MemoryViews
from adaptive_llm_gateway.server._gateway_operations import GatewayOperations
from adaptive_llm_gateway.server._gateway_records import RecordOperations
from adaptive_llm_gateway.server._handoff_operations import HandoffOperations
from adaptive_llm_gateway.server._operations import Operations

_HANDOFFS_BY_VIEW = frozenset(
    [
        "checkpoint",
        "claim",
        "complete",
        "create",
        "every",
        "lost",
        "look",
        "one",
        "patch_of",
        "release",
        "repo_of",
        "still_held",
        "store",
        "update",
    ]
)
TABLE: dict[type, dict[str, frozenset[str]]] = {
    Operations: {
        # Asked through `store()`, which hands out a view; tests/server/test_view.py asks each of them.
        "by view": frozenset(
            [
                "search",
                "session",
                "context",
                "list",
                "read",
                "history",
                "status",
                "write",
                "replace_text",
                "append_session",
                "compact_session",
                "delete",
                "restore",
                "pull",
                "push",
                "sync",
                "quarantine",
                "drop_quarantined",
                "store",
            ]
        ),
        # Reads files of the hub's machine, and no memory: for a token only with the scope `admin`.
        "admin": frozenset({"summarize_path"}),
        # The hub's own, or what says nothing of a memory.
        "of the hub": frozenset(
            [
                "whole",
                "open",
                "close",
                "idle",
                "waiting",
                "underway",
                "store_state",
                "scanners",
                "absent",
                "mode",
                "set_mode",
            ]
        ),
    },
    HandoffOperations: {
        "by view": frozenset(
            ["create", "checkpoint", "list", "show", "state", "claim", "update", "complete", "release"]
        ),
        "of the hub": frozenset({"close"}),
    },
    GatewayOperations: {
        "by view": frozenset(["gateway_chat", "gateway_route_preview"]),  # their context, by Operations.context
        "without memories": frozenset(["gateway_complete", "gateway_embed", "gateway_health", "gateway_models"]),
        "of the hub": frozenset(["idle", "load_ahead", "settle", "close"]),
    },
    RecordOperations: {
        "own only": frozenset(["receipts_list", "receipts_show", "runs_replay"]),
        "of the hub": frozenset(["receipts_verify", "receipts_prune", "runs_rebuild", "too_much"]),
    },
    MemoryStore: {
        "by view": frozenset(
            [
                "ask",
                "commit_of",
                "commit_wait",
                "deleted",
                "drop_quarantined",
                "file_of",
                "handoff_records",
                "history",
                "host",
                "hub_name",
                "knows_deleted",
                "likeness",
                "list",
                "parts",
                "publish",
                "quarantine",
                "read",
                "record",
                "records",
                "result",
                "scanner",
                "search",
                "search_notices",
                "session",
                "skipped",
                "status",
                "submit",
                "sync_progress",
                "sync_status",
                "types",
                "was_deleted",
            ]
        ),
        "of the hub": frozenset(
            [
                "allow",
                "allowances",
                "close",
                "flush",
                "folders",
                "index",
                "on_committed",
                "on_synced",
                "pull",
                "push",
                "reindex",
                "revoke_allowance",
                "sync",
                "wait_ready",
                "write",
                "write_many",
            ]
        ),
    },
    MemoryStores: {
        "by view": frozenset(
            [
                "absent",
                "ask",
                "commit_wait",
                "deleted",
                "drop_quarantined",
                "file_of",
                "for_request",
                "history",
                "host",
                "hub_name",
                "likeness",
                "list",
                "locate",
                "names",
                "quarantine",
                "read",
                "record",
                "records",
                "repo_of",
                "scanner",
                "search",
                "search_notices",
                "session",
                "status",
                "store_named",
                "store_of",
                "stores",
                "sync_progress",
                "sync_status",
                "to_sync",
                "types",
                "was_deleted",
            ]
        ),
        "of the hub": frozenset(
            ["close", "flush", "folders", "places", "reindex", "wait_ready", "write", "write_many"]
        ),
    },
    Handoffs: {
        "by view": _HANDOFFS_BY_VIEW,
        "of the hub": frozenset(["clock", "has_remote", "party_here", "settle", "within"]),
    },
    SeveralHandoffs: {
        "by view": _HANDOFFS_BY_VIEW,
        "of the hub": frozenset(["clock", "settle", "within"]),
    },
}
ABOUT_THE_VIEW = {"whole", "sight", "sees", "told", "why", "conflicts_of"}


def public(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


@pytest.mark.parametrize("kind", TABLE, ids=lambda kind: kind.__name__)
def test_whatever_can_be_done_is_in_the_table_of_what_is_narrowed(kind: type) -> None:
    known = [name for names in TABLE[kind].values() for name in names]
    assert len(known) == len(set(known))
    assert public(kind) == set(known), "say in the table how this is kept from those who do not see everything"


@pytest.mark.parametrize(("whole", "view"), [(MemoryStore, MemoryView), (MemoryStores, MemoryViews)])
def test_a_view_has_what_the_table_says_and_nothing_of_the_hubs(whole: type, view: Any) -> None:
    assert public(view) - ABOUT_THE_VIEW == TABLE[whole]["by view"]
