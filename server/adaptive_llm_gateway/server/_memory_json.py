"""Memories, writes and how repos stand, as JSON: what the operations answer, to MCP clients and the command line."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from adaptive_llm_gateway.core import AlgError
from adaptive_llm_gateway.memory import WORST_FIRST
from adaptive_llm_gateway.server._times import iso

if TYPE_CHECKING:  # these would bring git, SQLite and numpy along before the hub can answer
    from adaptive_llm_gateway.memory import (
        Hit,
        Quarantine,
        Raised,
        Record,
        RepoStatus,
        Revision,
        SyncProgress,
        SyncStatus,
        WriteResult,
    )

Json = dict[str, Any]


def record_json(record: Record) -> Json:
    """A record without its body."""
    author = record.author
    return {
        "id": record.id,
        "type": record.type,
        "title": record.title,
        "path": record.path,
        "version": record.version,
        "created": iso(record.created),
        "updated": iso(record.updated),
        # Not by `asdict`, which copies field by field: this is made for every hit of every search.
        "author": {"client": author.client, "agent": author.agent, "host": author.host},
        "project": record.project,
        "tags": list(record.tags),
        "trust": str(record.trust),
        "links": [{"rel": link.rel, "id": link.id} for link in record.links],
        "source": record.source,
        "reason": record.reason,
        "fields": record.fields,
        **repo_of(record.repo),
    }


def repo_of(name: str | None) -> Json:
    """Which memory repo it is, where there are several."""
    return {} if name is None else {"repo": name}


def hit_json(hit: Hit) -> Json:
    """A hit with its memory's record."""
    return {
        **record_json(hit.record),
        "score": round(hit.score, 4),
        "matched": list(hit.matched),
        "signals": {name: round(value, 4) for name, value in hit.signals.items()},
        "snippet": hit.snippet,
        "lines": list(hit.lines),
        "duplicates": list(hit.duplicates),
    }


def revision_json(revision: Revision) -> Json:
    """A commit that touched a memory."""
    return {**asdict(revision), "time": iso(revision.time)}


def sync_json(status: SyncStatus) -> Json:
    """Where the repo stands against its remote."""
    problems = [_dated(asdict(problem)) for problem in status.problems]
    found = {**_dated(asdict(replace(status, problems=()))), "problems": problems}
    if not status.read_only:
        del found["read_only"]
    return found


def progress_json(progress: SyncProgress | None) -> Json | None:
    """A pull or push that runs, and how far it is."""
    return None if progress is None else _dated(asdict(progress))


def _dated(values: Json) -> Json:
    return {name: iso(value) if isinstance(value, datetime) else value for name, value in values.items()}


def quarantine_json(quarantine: Quarantine) -> Json:
    """What is held back, by path, and the secrets of the remote's history; every text of it is harmless to show."""
    return {
        "held": [
            {
                "path": item.shown,
                "kind": item.kind,
                "why": item.why,
                "since": item.since,
                "commit": item.commit,
                "author": item.author,
                "instead": "an earlier version" if item.kept is not None else "nothing",
            }
            for item in sorted(quarantine.held.values(), key=lambda item: item.path)
        ],
        "history": [
            {"commit": item.commit, "path": item.where, "why": item.why, "since": item.since}
            for item in quarantine.history
        ],
    }


def repo_json(repo: RepoStatus) -> Json:
    """One of several memory repos."""
    return {
        **asdict(repo),
        "projects": list(repo.projects),
        "trust": str(repo.trust),
        "sync": sync_json(repo.sync) if repo.sync is not None else None,
    }


def sync_of_all(done: Mapping[str, Json | AlgError]) -> Json:
    """How pulls or pushes of several repos ended: the standing that needs a look most, and each repo's own.

    Raises:
        AlgError: none succeeded; the first one's, with the others' in its details.
    """
    failed = {name: outcome for name, outcome in done.items() if isinstance(outcome, AlgError)}
    ended = {name: outcome for name, outcome in done.items() if not isinstance(outcome, AlgError)}
    if not ended:
        each = {name: error.as_dict() for name, error in failed.items()}
        first = next(iter(failed.values()))
        whole = copy.copy(first)  # others may wait for the same attempt, and get the same error
        if len(failed) > 1:
            whole.message = "; ".join(f"{name}: {error.message}" for name, error in failed.items())
        whole.details = {**first.details, "repos": each}
        raise whole from first
    worst = min(ended.values(), key=lambda each: WORST_FIRST.index(each["state"]))
    answer = {**worst, "running": any(each["running"] for each in ended.values())}
    for key in ("changed", "pushed"):
        answer[key] = sum(each.get(key, 0) for each in ended.values())
    for key in ("conflicts", "decisions", "notices"):
        answer[key] = [f"{name}: {text}" for name, each in ended.items() for text in each.get(key, ())]
    if failed:  # the answer is no better than its worst part
        error = next(iter(failed.values()))
        answer |= {"state": "failed", "kind": error.details.get("kind") or error.code, "error": error.message}
    answer["repos"] = [
        {"name": name, "error": outcome.as_dict()} if isinstance(outcome, AlgError) else {"name": name, **outcome}
        for name, outcome in done.items()
    ]
    return answer


def _raised_json(raised: Raised | None) -> Json:
    """What personal data a write brought, where it did; no value is in it."""
    if raised is None:
        return {}
    return {
        "raised": {
            "from": str(raised.before),
            "to": str(raised.after),
            "wanted": str(raised.wanted),
            "count": raised.count,
            "found": [{"kind": each.kind, "line": each.line, "preview": each.preview} for each in raised.found],
        }
    }


def write_json(result: WriteResult) -> Json:
    """What a write did and where it stands."""
    return {
        "id": result.id,
        "type": result.type,
        "title": result.title,
        "path": result.path,
        **repo_of(result.repo),
        "operation": result.operation,
        "version": result.version,
        "unchanged": result.unchanged,
        "notes": list(result.notes),
        **_raised_json(result.raised),
        "redacted": [asdict(each) for each in result.redacted],
        "state": result.standing.state,
        "commit": result.standing.commit,
        "commit_error": result.standing.error,
        "sync": sync_json(result.standing.sync),
    }
