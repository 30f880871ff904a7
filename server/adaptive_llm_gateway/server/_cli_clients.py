"""`alg clients`: who may come by HTTP, with which rights and within which bounds."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from adaptive_llm_gateway.core import InvalidInput
from adaptive_llm_gateway.server._cli_memory import JsonOption, TrustLevel
from adaptive_llm_gateway.server._cli_output import Json, Paint, emit, in_a_line, talk

_GROUP: dict[str, Any] = {"no_args_is_help": True, "rich_markup_mode": None}
_STATES = {"valid": ("valid", "green"), "expired": ("expired", "yellow"), "revoked": ("revoked", "dim")}
_UNLIMITED = "unlimited"

clients_app = typer.Typer(help="Who may come by HTTP: names, rights, bounds and tokens.", **_GROUP)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The client's name, or its id.")]
Scopes = Annotated[
    list[str] | None,
    typer.Option(
        "--scope",
        metavar="SCOPE",
        help="What it may do, with commas between or given several times: memory:read, memory:write, handoff, gateway, "
        "admin.",
    ),
]
Projects = Annotated[
    list[str] | None,
    typer.Option(
        "--project",
        metavar="NAME",
        help="Memories of these projects alone, with *, ? and [...]; can be given several times.",
    ),
]
Expires = Annotated[
    str | None, typer.Option(metavar="WHEN", help="12h, 90d, 1y, 2027-03-01 or never. Default of a new one: 90d.")
]
Rate = Annotated[
    str | None, typer.Option(metavar="N", help="Requests a minute, or unlimited. Default of a new one: 600.")
]
TokensPerDay = Annotated[
    str | None,
    typer.Option(metavar="N", help="Tokens of models in a day of UTC, or unlimited, the default of a new one."),
]
CostPerDay = Annotated[
    str | None,
    typer.Option(
        metavar="DOLLARS", help="What models may cost in a day of UTC, or unlimited, the default of a new one."
    ),
]


def _call(context: typer.Context, name: str, /, **arguments: Any) -> Any:
    from adaptive_llm_gateway.server._cli_work import call  # noqa: PLC0415

    return call(context.find_root().obj, name, **arguments)


@clients_app.callback()
def clients() -> None:
    """Who may come by HTTP: names, rights, bounds and tokens."""


@clients_app.command()
def add(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="It is the author of what the client writes.")],
    scope: Scopes = None,
    project: Projects = None,
    max_trust: Annotated[
        TrustLevel | None, typer.Option(help="The highest level that it sees and writes. Default: internal.")
    ] = None,
    expires: Expires = None,
    rate: Rate = None,
    tokens_per_day: TokensPerDay = None,
    cost_per_day: CostPerDay = None,
    json: JsonOption = False,
) -> None:
    """Let a client in by HTTP, and print its token: once, for only a hash of it is kept.

    Without --project it sees and writes the memories of every project, and those of none. No scope includes another.
    """
    given = _given(scope, project, max_trust, expires, rate, tokens_per_day, cost_per_day)
    done = _call(context, "clients_add", name=name, **{"scopes": [], **given})
    emit(done, as_json=json, text=lambda _: done["token"])
    if not json:
        _talk_about_token(done)


@clients_app.command("list")
def list_clients(
    context: typer.Context,
    all: Annotated[bool, typer.Option("--all", help="Also those that were revoked.")] = False,
    json: JsonOption = False,
) -> None:
    """List the clients, what they may do and until when."""
    found: Json = _call(context, "clients_list")
    shown = [item for item in found["clients"] if all or item["state"] != "revoked"]
    emit({**found, "clients": shown}, as_json=json, text=lambda paint: "\n".join(_lines(item, paint) for item in shown))
    if json:
        return
    left = len(found["clients"]) - len(shown)
    if not shown:
        talk("there are no clients; `alg clients add` lets one in")
    if left:
        talk(f"note: {left} that were revoked left out; --all shows them")
    _talk_about_http(found)


@clients_app.command()
def show(context: typer.Context, name: Name, json: JsonOption = False) -> None:
    """Show a client: what it may do, within which bounds, what it used today, and when it was last seen."""
    found = _call(context, "clients_show", name=name)
    emit(found, as_json=json, text=lambda paint: _shown(found, paint))


@clients_app.command("set")
def set_client(
    context: typer.Context,
    name: Name,
    scope: Scopes = None,
    project: Projects = None,
    all_projects: Annotated[
        bool, typer.Option("--all-projects", help="Memories of every project, and those of none.")
    ] = False,
    max_trust: Annotated[TrustLevel | None, typer.Option(help="The highest level that it sees and writes.")] = None,
    expires: Expires = None,
    rate: Rate = None,
    tokens_per_day: TokensPerDay = None,
    cost_per_day: CostPerDay = None,
    json: JsonOption = False,
) -> None:
    """Change what a client may do; what is not named stays. Its token stays, too, and what it has open ends."""
    if project and all_projects:
        raise typer.BadParameter("it does not go with --all-projects", param_hint="'--project'")
    changes = _given(scope, project, max_trust, expires, rate, tokens_per_day, cost_per_day)
    if all_projects:
        changes["projects"] = None
    done = _call(context, "clients_set", name=name, changes=changes)
    emit(done, as_json=json, text=lambda paint: f"{_lines(done, paint)}\n{_bounds(done)}")


@clients_app.command()
def rotate(
    context: typer.Context,
    name: Name,
    grace: Annotated[
        str,
        typer.Option(metavar="WHILE", help="How long the old token counts beside the new one: 0, 1h, 7d, 30d at most."),
    ] = "0",
    json: JsonOption = False,
) -> None:
    """Give a client a new token, and print it once."""
    done = _call(context, "clients_rotate", name=name, grace=grace)
    emit(done, as_json=json, text=lambda _: done["token"])
    if not json:
        _talk_about_token(done)


@clients_app.command()
def revoke(context: typer.Context, name: Name, json: JsonOption = False) -> None:
    """Let a client in no more, from now on, and end what it has open. That cannot be taken back; its name is free."""
    done = _call(context, "clients_revoke", name=name)
    emit(done, as_json=json, text=lambda _: f"revoked {done['name']}")


def _given(
    scope: list[str] | None,
    project: list[str] | None,
    max_trust: str | None,
    expires: str | None,
    rate: str | None,
    tokens_per_day: str | None,
    cost_per_day: str | None,
) -> Json:
    """What was named, as the hub takes it."""
    from adaptive_llm_gateway.server._cli_ask import micro_cents  # noqa: PLC0415

    found: Json = {}
    for name, value in (("scopes", scope), ("projects", project), ("max_trust", max_trust), ("expires", expires)):
        if value or value == "":  # an empty one is refused, and not taken for the default
            found[name] = value
    for name, value in (("rate", rate), ("tokens_per_day", tokens_per_day)):
        if value is not None:
            found[name] = _number(value, name)
    if cost_per_day is not None:
        found["cost_per_day"] = None if cost_per_day == _UNLIMITED else micro_cents(cost_per_day)
    return found


def _number(text: str, name: str) -> int | None:
    if text == _UNLIMITED:
        return None
    digits = text.replace(",", "").replace("_", "")
    if not digits.isascii() or not digits.isdigit() or len(digits) > 15:
        raise InvalidInput(f"{name!r} is {text!r}", hint=f"A whole number, or `{_UNLIMITED}`.")
    return int(digits)


def _talk_about_token(done: Json) -> None:
    talk("note: this token is shown once; keep it where only its client reads it")
    if done["register"]:
        talk("with it in the variable ALG_TOKEN, these lines register the hub:")
        for line in done["register"].values():
            talk(f"  {line}")
    _talk_about_http(done)


def _talk_about_http(found: Json) -> None:
    if found["url"] is None:
        talk("note: nobody comes in by HTTP as long as `http.enabled` is not set in config.yaml")


def _lines(item: Json, paint: Paint) -> str:
    state, style = _STATES[item["state"]]
    until = f", until {item['expires']}" if item["expires"] and item["state"] == "valid" else ""
    projects = "every project" if item["projects"] is None else f"projects {', '.join(item['projects'])}"
    return (
        f"{paint(item['name'], 'bold')}  {paint(state, style)}{until}\n"
        f"  {', '.join(item['scopes'])}; up to {item['max_trust']}; {in_a_line(projects)}"
    )


def _bounds(item: Json) -> str:
    from adaptive_llm_gateway.server._cli_ask import dollars  # noqa: PLC0415

    def bound(value: Any, what: str) -> str:
        return f"{_UNLIMITED} {what}" if value is None else f"{value:,} {what}"

    cost = f"{_UNLIMITED} costs" if item["cost_per_day"] is None else dollars(item["cost_per_day"])
    return (
        f"  {bound(item['rate'], 'requests a minute')}; {bound(item['tokens_per_day'], 'tokens a day')}; {cost} a day"
    )


def _shown(item: Json, paint: Paint) -> str:
    from adaptive_llm_gateway.server._cli_ask import dollars  # noqa: PLC0415

    lines = [
        _lines(item, paint),
        _bounds(item),
        f"  id {item['id']}, made {item['created']}",
    ]
    today = item["today"]
    lines.append(
        f"  today: {today['calls']:,} calls of models, {today['tokens']:,} tokens, {dollars(today['micro_cents'])}"
    )
    lines.append(f"  last seen {item['last_seen']}, to ten minutes" if item["last_seen"] else "  never seen")
    lines += [
        f"  token of {token['created']}" + (f", counts until {token['until']}" if token["until"] else "")
        for token in item["tokens"]
    ]
    return "\n".join(lines)
