"""The audit log, looked through: by the command line, straight from its files, and by REST."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from adaptive_llm_gateway.core import InvalidInput
from adaptive_llm_gateway.server._audit_entry import time_text
from adaptive_llm_gateway.server._audit_files import AuditCheck, AuditFiles
from adaptive_llm_gateway.server._times import LOCAL, moment

Json = dict[str, Any]
MOST = 10_000


@dataclass(frozen=True, slots=True)
class AuditQuery:
    """Which entries are wanted.

    Attributes:
        client: of this client; `-`: of none.
        since, until: ISO 8601 in UTC with milliseconds; `until` is not in it.
        action: a name, with `*`, `?` and `[...]`.
        outcome: how it ended, or the code of why.
    """

    client: str | None = None
    since: str | None = None
    until: str | None = None
    action: str | None = None
    outcome: str | None = None

    def has(self, entry: Json) -> bool:
        """Whether an entry is wanted."""
        at = str(entry.get("at", ""))
        return (
            (self.client is None or entry.get("client", "-") == self.client)
            and (self.since is None or at >= self.since)
            and (self.until is None or at < self.until)
            and (self.action is None or fnmatch.fnmatchcase(str(entry.get("action")), self.action))
            and (self.outcome is None or self.outcome in (entry.get("outcome"), entry.get("code")))
        )


def audit_query(
    *,
    client: str | None = None,
    since: str | None = None,
    until: str | None = None,
    action: str | None = None,
    outcome: str | None = None,
) -> AuditQuery:
    """A query as people and programs write it: times as elsewhere (`2026-11-01`, `7d`, `today`).

    Raises:
        InvalidInput: a time is none.
    """
    return AuditQuery(
        client=client,
        since=_text(moment(since, "since", zone=LOCAL)) if since else None,
        until=_text(moment(until, "until", end=True, zone=LOCAL)) if until else None,
        action=action,
        outcome=outcome,
    )


def newest(files: AuditFiles, query: AuditQuery, *, limit: int) -> list[Json]:
    """The newest entries that are wanted, the newest first.

    Raises:
        InvalidInput: `limit` is out of its range.
    """
    if not 1 <= limit <= MOST:
        raise InvalidInput(f"'limit' is {limit!r}", hint=f"Allowed: 1 to {MOST:,}.")
    return list(_first(files.newest_first(), query, limit))


def _first(entries: Iterable[Json], query: AuditQuery, limit: int) -> Iterator[Json]:
    for entry in entries:
        if query.since is not None and _is_older(entry, query.since):
            return
        if query.has(entry):
            yield entry
            limit -= 1
            if not limit:
                return


def _is_older(entry: Json, since: str) -> bool:
    """Whether everything before this entry is older, too: an entry has the time when its call began, and is written
    when it has ended."""
    written = str(entry.get("at", ""))
    micros = entry.get("micros") or 0
    ended = datetime.fromisoformat(written).timestamp() + micros / 1_000_000 if written else 0.0
    return time_text(ended + 60) < since


def check_json(check: AuditCheck) -> Json:
    """Whether the log holds."""
    return {
        "holds": check.holds,
        "last": check.last,
        "contained": check.known,
        "files": [
            {
                "file": each.file,
                "entries": each.entries,
                "torn": each.torn,
                "broken": None if each.broken is None else {"line": each.broken.line, "why": each.broken.why},
            }
            for each in check.files
        ],
    }


def _text(when: datetime) -> str:
    return time_text(when.timestamp())
