"""`alg audit`: who did what when, allowed or refused. Read from the files, so it needs no hub."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from adaptive_llm_gateway.server._cli_memory import JsonOption
from adaptive_llm_gateway.server._cli_output import Paint, emit, harmless, talk

Json = dict[str, Any]

audit_app = typer.Typer(
    help="Who did what when, allowed or refused; needs no hub.", no_args_is_help=True, rich_markup_mode=None
)
_FOLLOW_SECONDS = 0.2
_COLOURS = {"ok": "green", "refused": "yellow", "failed": "red"}
When = Annotated[str | None, typer.Option(metavar="WHEN", help="2026-11-01, 2026-11-01T10:00Z, 7d, 12h, today.")]


@audit_app.command("list")
def list_audit(
    context: typer.Context,
    client: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of this client alone; `-`: of those without a token.")
    ] = None,
    since: When = None,
    until: When = None,
    action: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of this tool or route alone, with `*` and `?` as in a shell.")
    ] = None,
    outcome: Annotated[
        str | None, typer.Option(metavar="NAME", help="ok, refused, failed, or the code of an error.")
    ] = None,
    limit: Annotated[int, typer.Option(metavar="N", help="At most this many, the newest.")] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is added, until Ctrl-C.")] = False,
    json: JsonOption = False,
) -> None:
    """List what was asked of the hub, the newest last, a line each.

    With --follow and --json there is one document on each line.
    """
    from adaptive_llm_gateway.core import Home  # noqa: PLC0415
    from adaptive_llm_gateway.server._audit_files import AuditFiles  # noqa: PLC0415
    from adaptive_llm_gateway.server._audit_read import audit_query, newest  # noqa: PLC0415

    files = AuditFiles(Home(context.find_root().obj).audit)
    query = audit_query(client=client, since=since, until=until, action=action, outcome=outcome)
    added = files.follow(lambda: time.sleep(_FOLLOW_SECONDS)) if follow else None
    found = newest(files, query, limit=limit)[::-1]
    if added is not None:
        _follow(found, (entry for entry in added if query.has(entry) and entry not in found), as_json=json)
        return
    emit({"entries": found}, as_json=json, text=lambda paint: "\n".join(_line(entry, paint) for entry in found))
    if not found and not json:
        nothing = "nothing is in the audit log; it is kept while the hub serves HTTP (`audit.keep`)"
        talk("no such entries" if files.paths() else nothing)


@audit_app.command("verify")
def verify_audit(
    context: typer.Context,
    contains: Annotated[
        str | None,
        typer.Option(metavar="HASH", help="Also check that the entry with this hash, noted earlier, is still there."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Check that entries are as they were written, and none is missing. Exit code 7 when not.

    Entries cut from the very end cannot be noticed by the file alone: note the hash that this prints somewhere else,
    and give it the next time with --contains.
    """
    from adaptive_llm_gateway.core import Home  # noqa: PLC0415
    from adaptive_llm_gateway.server._audit_files import AuditFiles  # noqa: PLC0415
    from adaptive_llm_gateway.server._audit_read import check_json  # noqa: PLC0415

    found = check_json(AuditFiles(Home(context.find_root().obj).audit).verify(contains=contains))
    emit(found, as_json=json, text=lambda paint: _check_text(found, paint))
    if not found["holds"]:
        raise typer.Exit(7)


def _follow(found: list[Json], added: Iterator[Json], *, as_json: bool) -> None:
    import sys  # noqa: PLC0415
    from json import dumps  # noqa: PLC0415

    from adaptive_llm_gateway.server._cli_output import paint_for  # noqa: PLC0415

    paint = paint_for(sys.stdout)
    for some in (found, added):
        for entry in some:
            if as_json:
                print(dumps(entry, ensure_ascii=True))
            else:
                print(_line(entry, paint))
            sys.stdout.flush()


def _line(entry: Json, paint: Paint) -> str:
    entry = {name: harmless(value) if isinstance(value, str) else value for name, value in entry.items()}
    outcome = str(entry.get("outcome"))
    parts = [
        str(entry.get("at")),
        paint(f"{outcome:<7}", _COLOURS.get(outcome, "red")),
        f"{entry.get('client') or '-'}",
        str(entry.get("action")),
    ]
    if entry.get("code"):
        parts.append(str(entry["code"]))
    if entry.get("why"):
        parts.append(f"({entry['why']})")
    if entry.get("count"):
        parts.append(f"{entry['count']:,} times")
    if entry.get("target"):
        parts.append(str(entry["target"]))
    told = {"agent": entry.get("agent"), "from": entry.get("address"), "request": entry.get("request")}
    parts += [f"{name}={value}" for name, value in told.items() if value]
    if entry.get("micros") is not None:
        parts.append(f"{entry['micros'] / 1000:.1f} ms")
    return "  ".join(parts)


def _check_text(found: Json, paint: Paint) -> str:
    lines = [
        f"{each['file']}  {each['entries']:,} entries  "
        + (
            paint("holds", "green")
            if each["broken"] is None
            else f"{paint('broken', 'red')} at line {each['broken']['line']}: {harmless(each['broken']['why'])}"
        )
        + (f", {each['torn']} bytes of one that was not finished" if each["torn"] else "")
        for each in found["files"]
    ]
    if found["contained"] is False:
        lines.append(paint("the entry with that hash is not there", "red"))
    if found["last"]:
        lines.append(f"last hash  {found['last']}")
    return "\n".join(lines) if lines else "nothing is in the audit log"
