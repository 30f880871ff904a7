"""`alg secrets allow | list | revoke`: what a person lets pass though it looks like a secret."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from adaptive_llm_gateway.core import parse_until
from adaptive_llm_gateway.server._cli_memory import JsonOption
from adaptive_llm_gateway.server._cli_output import Json, Paint, emit, in_a_line, talk

_LONG_ENDED = timedelta(days=30)
_STATES = {
    "in_force": ("allowed", "green"),
    "ending": ("ends soon", "yellow"),
    "ended": ("ended", "dim"),
    "waiting": ("waits for you", "yellow"),
    "unknown_keys": ("of a newer version, allows nothing here", "red"),
}

Fingerprints = Annotated[
    list[str], typer.Argument(metavar="FINGERPRINT", help="16 hex digits, as the refusal or `alg secrets scan` names.")
]
By = Annotated[str | None, typer.Option(metavar="NAME", help="Who says so; default: the person whom git knows.")]


def _call(context: typer.Context, name: str, /, **arguments: Any) -> Any:
    from adaptive_llm_gateway.server._cli_work import call  # noqa: PLC0415

    return call(context.find_root().obj, name, **arguments)


def allow(
    context: typer.Context,
    fingerprint: Fingerprints,
    reason: Annotated[
        str | None,
        typer.Option(metavar="WHY", help="Why it is no secret. May be left out for an entry that is there already."),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(
            metavar="DATE", help="How long: a date, to its end in UTC, a time of RFC 3339, or never. Default: a year."
        ),
    ] = None,
    by: By = None,
    kind: Annotated[
        str | None, typer.Option(metavar="KIND", help="What it was taken for; default: what the scanner said of late.")
    ] = None,
    repo: Annotated[str | None, typer.Option(metavar="NAME", help="The memory repo; default: your own.")] = None,
    json: JsonOption = False,
) -> None:
    """Let pass what looks like a secret and is none.

    It counts at once, is noted in the memory repo with who and why, and syncs with it. Allowing again renews the entry.
    What a remote brought counts here once you have allowed it, too.
    """
    done = _call(
        context, "secrets_allow", fingerprints=fingerprint, reason=reason, until=until, by=by, kind=kind, repo=repo
    )
    emit(done, as_json=json, text=lambda paint: "\n".join(_allowed_line(item, paint) for item in done["allowed"]))


def list_allowances(
    context: typer.Context,
    all: Annotated[bool, typer.Option("--all", help="Also what ended more than 30 days ago.")] = False,
    repo: Annotated[str | None, typer.Option(metavar="NAME", help="One memory repo; default: all.")] = None,
    json: JsonOption = False,
) -> None:
    """List what is allowed, by whom, why and until when."""
    found: Json = _call(context, "secrets_list", repo=repo)
    shown = [item for item in found["allowances"] if all or not _is_long_ended(item)]
    left = len(found["allowances"]) - len(shown)
    emit({**found, "allowances": shown}, as_json=json, text=lambda paint: _list_text(shown, paint))
    if json:
        return
    for problem in found["problems"]:
        talk(f"note: nothing is allowed in {problem['repo']}: {in_a_line(problem['message'])}")
    if not found["allowances"] and not found["problems"]:
        talk("nothing is allowed")
    if left:
        talk(f"note: {left} that ended long ago left out; --all shows them")
    waiting = [item for item in shown if item["state"] == "waiting"]
    if waiting:
        talk("note: what waits came with a pull. It counts once you agree: `alg secrets allow FINGERPRINT`")


def revoke(
    context: typer.Context,
    fingerprint: Annotated[str, typer.Argument(metavar="FINGERPRINT", help="16 hex digits.")],
    by: By = None,
    repo: Annotated[
        str | None, typer.Option(metavar="NAME", help="The memory repo; default: the one that has the entry.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Take an allowance back: what it let pass is refused again.

    What is stored already stays where it is, and `alg secrets scan --history` finds it.
    """
    done = _call(context, "secrets_revoke", fingerprint=fingerprint, by=by, repo=repo)
    emit(done, as_json=json, text=lambda _: f"revoked {done['revoked']} in {done['repo']}")
    if not json:
        talk("note: what it let pass stays where it is; `alg secrets scan --history` finds it")


def _is_long_ended(item: Json) -> bool:
    until = item.get("counts_until") or item["until"]
    return item["state"] == "ended" and until is not None and parse_until(until) < datetime.now(UTC) - _LONG_ENDED


def _allowed_line(item: Json, paint: Paint) -> str:
    verb = {"allowed": "allowed", "renewed": "renewed", "agreed": "agreed to"}[item["outcome"]]
    return f"{verb} {paint(item['fingerprint'], 'bold')} in {item['repo']}, {_until(item)}: {in_a_line(item['reason'])}"


def _until(item: Json) -> str:
    return f"until {item['until']}" if item["until"] else "without end"


def _list_text(items: list[Json], paint: Paint) -> str:
    lines: list[str] = []
    for item in items:
        state, style = _STATES[item["state"]]
        kind = f" ({in_a_line(item['kind'])})" if item["kind"] else ""
        counts = f", here until {item['counts_until']}" if item.get("counts_until") else ""
        lines.append(
            f"{paint(item['fingerprint'], 'bold')}{kind}  {paint(state, style)}, {_until(item)}{counts}  {item['repo']}"
        )
        who = f", {in_a_line(item['by'])}" if item["by"] else ""
        when = f", {item['added']}" if item["added"] else ""
        lines.append(f"  {in_a_line(item['reason'])}{who}{when}")
    return "\n".join(lines)
