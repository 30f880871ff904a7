"""The tree of commands for typer: what each takes and says about itself; the work is done elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from adaptive_llm_gateway.server._cli_allowances import allow, list_allowances, revoke
from adaptive_llm_gateway.server._cli_audit import audit_app
from adaptive_llm_gateway.server._cli_clients import clients_app
from adaptive_llm_gateway.server._cli_gateway import (
    ModeName,
    chat_command,
    complete_command,
    embed_command,
    gateway_app,
)
from adaptive_llm_gateway.server._cli_handoff import handoff_app
from adaptive_llm_gateway.server._cli_memory import JsonOption, context_command, memory_app, summarize_command
from adaptive_llm_gateway.server._cli_output import emit, print_json, talk
from adaptive_llm_gateway.server._cli_records import consent_app, policy_app, receipts_app, runs_app
from adaptive_llm_gateway.server._cli_values import convert_plain_values

PathName = Literal["home", "config", "memory", "index", "log", "socket", "alg"]
_GROUP: dict[str, Any] = {"no_args_is_help": True, "rich_markup_mode": None}

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, **_GROUP)
hub_app = typer.Typer(help="Start, stop and look at the hub.", **_GROUP)
secrets_app = typer.Typer(help="Look for credentials in files, and allow what is none.", **_GROUP)


def build_command(words: list[str] | None = None) -> Any:
    """The command that carries everything out; `words` are the arguments it is going to get."""
    command = typer.main.get_command(app)
    convert_plain_values(command, words or [])
    return command


def root_of(context: typer.Context) -> str:
    """The home's path."""
    root: str = context.find_root().obj
    return root


@app.callback()
def alg(
    home: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="The home; may stand anywhere. Default: $ADAPTIVE_LLM_GATEWAY_HOME, else ~/.adaptive-llm-gateway.",
        ),
    ] = None,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """One hub for every AI client on this machine: typed memory in git, found by search, and models by trust level."""
    del home  # taken before typer sees it, so that it may stand anywhere
    if version:
        from importlib.metadata import version as installed  # noqa: PLC0415

        print(f"alg {installed('adaptive-llm-gateway')}")
        raise typer.Exit


# --- the home ----------------------------------------------------------------------------------------------


@app.command()
def init(
    context: typer.Context,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    remote: Annotated[
        str | None,
        typer.Option(metavar="URL", help="The git remote of the memory repo: a path, or an ssh or https URL."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Make the home, start the hub, print how to register it.

    Makes the folder, `config.yaml` with every default as a comment, and the memory repo. What is there already is
    left alone; with --remote the address is set in the configuration, and the file as it was is kept beside it.
    """
    from adaptive_llm_gateway.server import _cli_setup  # noqa: PLC0415

    done = _cli_setup.init(root_of(context), remote=remote, yes=yes)
    if not json:
        _cli_setup.talk_about_init(done)
    emit(done, as_json=json, text=lambda _: "\n".join(done["register"].values()))


@app.command()
def doctor(context: typer.Context, json: JsonOption = False) -> None:
    """Check everything that has to be right.

    Says what to do about what is not; exit code 1 when something fails. Starts nothing: the hub is asked if it runs.
    """
    from adaptive_llm_gateway.server import _cli_doctor  # noqa: PLC0415

    checks = _cli_doctor.examine(root_of(context))
    report = _cli_doctor.as_json(checks)
    emit(report, as_json=json, text=lambda paint: _cli_doctor.as_text(checks, paint))
    if not report["ok"]:
        raise typer.Exit(1)


@app.command()
def serve(
    context: typer.Context,
    standalone: Annotated[
        bool, typer.Option("--standalone", help="Serve in this one process, without a hub: for containers and tests.")
    ] = False,
) -> None:
    """Serve MCP on stdin and stdout. This is what a client program runs; it starts the hub if none runs."""
    from adaptive_llm_gateway.core import Home, load_settings  # noqa: PLC0415

    root = root_of(context)
    if not standalone:
        from adaptive_llm_gateway.server._shim import run  # noqa: PLC0415

        raise typer.Exit(run(root))
    from adaptive_llm_gateway.server._standalone import run_standalone  # noqa: PLC0415

    home = Home(root)
    run_standalone(home, load_settings(home))


@app.command()
def mode(
    context: typer.Context,
    mode: Annotated[ModeName | None, typer.Argument(help="The mode from now on; without it, say which it is.")] = None,
    json: JsonOption = False,
) -> None:
    """Say or change what the hub may connect to.

    normal: what policy and consents allow. local: of models, those on this machine alone. offline: the hub connects to
    nothing but this machine, not for models, nor git remotes, nor databases. That is proved: the hub really tries to
    leave in every way, and exit code 1 says that it could.
    """
    from adaptive_llm_gateway.server import _cli_mode  # noqa: PLC0415

    found = _cli_mode.change(root_of(context), mode) if mode else _cli_mode.look(root_of(context))
    emit(found, as_json=json, text=lambda paint: _cli_mode.as_text(found, paint))
    if found["problem"] and not json:
        talk(f"error: {found['problem']}")
    if found["problem"]:
        raise typer.Exit(1)


# --- hub -------------------------------------------------------------------------------------------------


@hub_app.command("start")
def hub_start(context: typer.Context, json: JsonOption = False) -> None:
    """Start the hub unless it runs. Clients start it by themselves: this is for looking at it."""
    from adaptive_llm_gateway.server import _cli_hub  # noqa: PLC0415

    status = _cli_hub.start(root_of(context))
    emit(status, as_json=json, text=lambda paint: _cli_hub.status_text(status, paint))


@hub_app.command("stop")
def hub_stop(context: typer.Context, json: JsonOption = False) -> None:
    """Stop the hub and wait until it is gone. The next client that needs it starts another."""
    from adaptive_llm_gateway.server import _cli_hub  # noqa: PLC0415

    done = _cli_hub.stop(root_of(context))
    emit(done, as_json=json, text=lambda _: f"stopped, was pid {done['pid']}" if done["stopped"] else "not running")


@hub_app.command("restart")
def hub_restart(context: typer.Context, json: JsonOption = False) -> None:
    """Stop the hub and start another, for a new configuration or version. No client loses a request."""
    from adaptive_llm_gateway.server import _cli_hub  # noqa: PLC0415

    status = _cli_hub.restart(root_of(context))
    emit(status, as_json=json, text=lambda paint: _cli_hub.status_text(status, paint))


@hub_app.command("install")
def hub_install(
    context: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be written, and do nothing.")] = False,
    uninstall: Annotated[bool, typer.Option("--uninstall", help="Stop the service and remove it.")] = False,
    json: JsonOption = False,
) -> None:
    """Have systemd (Linux) or launchd (macOS) keep the hub running for this user.

    Shows what it writes. Where the service manager is not reachable, it says what to run.
    """
    from adaptive_llm_gateway.server import _cli_service  # noqa: PLC0415

    done = _cli_service.install(
        root_of(context), dry_run=dry_run, uninstall=uninstall, show=None if json else _cli_service.show
    )
    emit(done, as_json=json, text=lambda paint: _cli_service.installed_text(done, paint))


@hub_app.command("status")
def hub_status(context: typer.Context, json: JsonOption = False) -> None:
    """Say whether the hub runs, since when, and how many clients of this machine are connected. Starts nothing."""
    from adaptive_llm_gateway.server import _cli_hub  # noqa: PLC0415

    status = _cli_hub.status(root_of(context))
    emit(status, as_json=json, text=lambda paint: _cli_hub.status_text(status, paint))


@hub_app.command("logs")
def hub_logs(
    context: typer.Context,
    lines: Annotated[int, typer.Option("-n", "--lines", min=0, help="How many lines of the end.")] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is added, until Ctrl-C.")] = False,
    json: JsonOption = False,
) -> None:
    """Print the end of the hub's log."""
    from adaptive_llm_gateway.core import Home  # noqa: PLC0415
    from adaptive_llm_gateway.server import _cli_hub  # noqa: PLC0415

    if follow and json:
        raise typer.BadParameter("a log that goes on is not one document", param_hint="'--json'")
    _cli_hub.logs(Home(root_of(context)), lines, follow=follow, as_json=json)


@hub_app.command("run")
def hub_run(
    context: typer.Context,
    ready_fd: Annotated[int | None, typer.Option(min=0, help="File descriptor to tell `ready` or the failure.")] = None,
    service: Annotated[
        bool, typer.Option("--service", help="Run by a service manager or as a container: do not end when idle.")
    ] = False,
) -> None:
    """Be the hub, in the foreground, until stopped."""
    from adaptive_llm_gateway.server import _cli_hub  # noqa: PLC0415

    raise typer.Exit(_cli_hub.run(root_of(context), ready_fd, service=service))


# --- paths and registration --------------------------------------------------------------------------------


@app.command("path")
def path(
    context: typer.Context,
    name: Annotated[PathName | None, typer.Argument(help="Print this one alone.")] = None,
    json: JsonOption = False,
) -> None:
    """Print where things lie."""
    from adaptive_llm_gateway.server._cli_setup import paths  # noqa: PLC0415
    from adaptive_llm_gateway.server._registration import registration  # noqa: PLC0415

    root = root_of(context)
    found = paths(root)
    if json:
        print_json({name: found[name]} if name else {**found, "register": dict(registration(root))})
    elif name:
        print(found[name])
    else:
        print("\n".join(f"{key:<8}{value}" for key, value in found.items()))


@app.command()
def register(context: typer.Context, json: JsonOption = False) -> None:
    """Print the line that registers the hub, for each client."""
    from adaptive_llm_gateway.server._registration import registration  # noqa: PLC0415

    lines = registration(root_of(context))
    emit(dict(lines), as_json=json, text=lambda _: "\n".join(lines.values()))


# --- tokens ------------------------------------------------------------------------------------------------


@app.command()
def tokens(
    files: Annotated[list[str], typer.Argument(metavar="FILE", help="Files; - is stdin.")],
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="A model, or an encoding. Default: o200k_base, OpenAI's newest.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Count the tokens of files, offline.

    Exact for OpenAI's models. For others the number is an estimate from above, and that is said.
    """
    from adaptive_llm_gateway.server import _cli_tokens  # noqa: PLC0415

    counted = _cli_tokens.count_files(files, model)
    emit(counted, as_json=json, text=lambda paint: _cli_tokens.as_text(counted, paint))
    if not json:
        _cli_tokens.talk_about(counted)


# --- secrets -----------------------------------------------------------------------------------------------


@secrets_app.callback()
def secrets() -> None:
    """Look for credentials in files, and allow what is none."""


@secrets_app.command("scan")
def secrets_scan(
    context: typer.Context,
    paths: Annotated[list[Path] | None, typer.Argument(metavar="PATH", help="Files and folders; git repos.")] = None,
    staged: Annotated[bool, typer.Option("--staged", help="Scan what is staged in the git repo around here.")] = False,
    personal: Annotated[
        bool, typer.Option("--personal", help="List personal data, too, which changes no exit code.")
    ] = False,
    history: Annotated[
        bool, typer.Option("--history", help="Scan all that git repos ever had; by default, the memory repos.")
    ] = False,
    message: Annotated[
        Path | None, typer.Option("--message", metavar="FILE", help="Scan a commit's message, as git's hook does.")
    ] = None,
    second: Annotated[
        bool, typer.Option("--second-opinion", help="Ask kingfisher, too, where it is installed; takes seconds.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Report what looks like a credential.

    Each with path, line, kind, a masked preview and its fingerprint; exit code 5 when there is one.
    False positives are allowed by fingerprint (`alg secrets allow`) in `secrets-allowed.yaml`: the nearest one above a
    path counts, else that of the memory repo.

    With --history every object in the store of a git repo is looked at, also those that no branch leads to: files,
    names, the messages of commits and tags, and git's logs of references. What is found is followed by steps to
    consider. Nothing is changed.
    """
    from adaptive_llm_gateway.server import _cli_secrets  # noqa: PLC0415

    others = staged or message is not None
    if history and others:
        raise typer.BadParameter("it goes with neither --staged nor --message", param_hint="'--history'")
    for given, option in ((personal, "--personal"), (second, "--second-opinion")):
        if given and (history or others):
            raise typer.BadParameter("it goes with files and folders alone", param_hint=f"'{option}'")
    if history:
        from adaptive_llm_gateway.server import _cli_secrets_history  # noqa: PLC0415

        raise typer.Exit(_cli_secrets_history.run(root_of(context), paths or [], as_json=json))
    if [staged, bool(paths), message is not None].count(True) != 1:
        raise typer.BadParameter(
            "name files or folders, or give one of --staged, --history and --message", param_hint="'PATH'"
        )
    if message is not None:
        raise typer.Exit(_cli_secrets.run_message(str(message), as_json=json))
    if staged:
        raise typer.Exit(_cli_secrets.run_staged(as_json=json))
    from adaptive_llm_gateway.server import _cli_personal, _second_opinion  # noqa: PLC0415
    from adaptive_llm_gateway.server._cli_setup import memory_repo  # noqa: PLC0415

    root = root_of(context)
    data = _cli_personal.PersonalData(_cli_personal.personal_scanner(root)) if personal else None
    opinion = _second_opinion.second_opinion(paths or []) if second else None
    scan = _cli_secrets.scan_paths(paths or [], repo=memory_repo(root), personal=data, second=opinion)
    emit(scan.as_dict(), as_json=json, text=lambda paint: _cli_secrets.scan_text(scan, paint))
    if not json:
        _cli_secrets.talk_about(scan)
    if scan.findings:
        raise typer.Exit(5)


@secrets_app.command("plugin")
def secrets_plugin(json: JsonOption = False) -> None:
    """Print the path of the scanner as a plugin of detect-secrets.

    For those who have detect-secrets look at other repos: `detect-secrets scan -p PATH`.
    """
    from importlib.util import find_spec  # noqa: PLC0415

    found = find_spec("adaptive_llm_gateway.core._detect_secrets_plugin")
    assert found is not None  # noqa: S101 - a module of ours
    where = str(found.origin)
    emit({"path": where}, as_json=json, text=lambda _: where)


secrets_app.command("allow")(allow)
secrets_app.command("list")(list_allowances)
secrets_app.command("revoke")(revoke)

app.command("context")(context_command)
app.command("summarize")(summarize_command)
app.command("complete")(complete_command)
app.command("chat")(chat_command)
app.command("embed")(embed_command)
app.add_typer(hub_app, name="hub")
app.add_typer(clients_app, name="clients")
app.add_typer(secrets_app, name="secrets")
app.add_typer(memory_app, name="memory")
app.add_typer(handoff_app, name="handoff")
app.add_typer(gateway_app, name="gateway")
app.add_typer(consent_app, name="consent")
app.add_typer(receipts_app, name="receipts")
app.add_typer(runs_app, name="runs")
app.add_typer(policy_app, name="policy")
app.add_typer(audit_app, name="audit")
