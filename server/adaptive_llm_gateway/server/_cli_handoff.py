"""`alg handoff`: offer work, see what is offered, claim it, report on it, finish it or give it back."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from adaptive_llm_gateway.server._cli_memory import JsonOption, Project, TrustLevel
from adaptive_llm_gateway.server._cli_output import Json, emit, harmless, talk
from adaptive_llm_gateway.server._flat import flattened

PriorityName = Literal["low", "normal", "high", "urgent"]
STATES = ("offered", "claimed", "done", "declined", "withdrawn", "expired", "damaged")

handoff_app = typer.Typer(
    help="Hand work over: offer it, claim it, report on it, finish it.", no_args_is_help=True, rich_markup_mode=None
)

HandoffId = Annotated[str, typer.Argument(metavar="ID", help="The handoff's id.")]
Agent = Annotated[
    str | None, typer.Option("--as", metavar="NAME", help="As this agent; without it, as the command line.")
]
Redact = Annotated[bool, typer.Option("--redact", help="Store marks for secrets, rather than refuse.")]
Lease = Annotated[
    int | None, typer.Option(metavar="MINUTES", help="Hold it for this long from now. Default: as configured.")
]
Watching = Annotated[bool, typer.Option("--watch", help="Go on with what changes, until Ctrl-C.")]
Every = Annotated[float, typer.Option(metavar="SECONDS", help="With --watch: look this often.")]
Patch = Annotated[bool, typer.Option("--patch", help="With the uncommitted changes as a patch.")]


_TYPED = {
    "pass redact=true": "pass --redact",
    "`anyway`": "`--anyway`",
    "Decline it with a reason, if it is for you.": "`--anyway` takes it back all the same.",
    "claim it provisionally;": "claim it with `--provisional`;",
    "Find it with memory_search": "`alg handoff list --all` shows them",
    "A list of them shows those of others.": "`alg handoff list` shows those of others.",
}
"""What hints for tools say, and what is typed instead."""


def _call(context: typer.Context, name: str, /, **arguments: Any) -> Any:
    from adaptive_llm_gateway.server._cli_output import HubRefused  # noqa: PLC0415
    from adaptive_llm_gateway.server._cli_work import call  # noqa: PLC0415

    try:
        return call(context.find_root().obj, name, **_given(arguments))
    except HubRefused as refused:
        if hint := refused.error.get("hint"):
            for said, typed in _TYPED.items():
                hint = hint.replace(said, typed)
            refused.error["hint"] = hint
        raise


def _given(arguments: Json) -> Json:
    """Without what was not given, for which the hub has its defaults."""
    return {name: value for name, value in arguments.items() if value is not None and value is not False}


def absolute(path: Path | None) -> str:
    """A path from the working directory, not made any plainer: the hub follows the links. None is that directory.

    Raises:
        NotFound: it is relative, and the working directory is gone.
    """
    try:
        here = os.getcwd()  # noqa: PTH109
        return os.path.join(here, os.path.expanduser(path)) if path else here  # noqa: PTH111, PTH118
    except FileNotFoundError:
        from adaptive_llm_gateway.core import NotFound  # noqa: PLC0415

        if path and (expanded := path.expanduser()).is_absolute():
            return str(expanded)
        raise NotFound("the working directory is gone", hint="Change to one that is there.") from None


def _text(given: str | None) -> str | None:
    """An argument, or stdin for `-`."""
    from adaptive_llm_gateway.server._cli_work import read_body  # noqa: PLC0415

    return read_body(given, None)


def _wrote(done: Json, verb: str, *, as_json: bool, patch: bool = False) -> None:
    from datetime import UTC, datetime  # noqa: PLC0415

    from adaptive_llm_gateway.server._cli_handoff_text import talk_about, write_text  # noqa: PLC0415

    emit(done, as_json=as_json, text=lambda paint: write_text(done, verb, paint, datetime.now(UTC)))
    if not as_json:
        talk_about(done, patch=patch)


# --- Offering -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Work:
    """How the work stands, and where it lies."""

    next: Annotated[str | None, typer.Option(metavar="TEXT", help="What to do first.")] = None
    state: Annotated[str | None, typer.Option(metavar="TEXT", help="How the work stands; - is stdin.")] = None
    file: Annotated[Path | None, typer.Option(metavar="FILE", help="Take the state from this file.")] = None
    question: Annotated[list[str] | None, typer.Option(metavar="TEXT", help="What is open; repeatable.")] = None
    constraint: Annotated[list[str] | None, typer.Option(metavar="TEXT", help="What must be kept to; repeatable.")] = (
        None
    )
    decision: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="A memory that says what was decided; repeatable.")
    ] = None
    session: Annotated[
        str | None, typer.Option(metavar="ID", help="Fill in what is not given from this session's log.")
    ] = None
    directory: Annotated[Path | None, typer.Option(metavar="DIR", help="Where the work lies. Default: here.")] = None
    no_directory: Annotated[bool, typer.Option("--no-directory", help="It lies in no directory.")] = False
    patch: Patch = False

    def arguments(self) -> Json:
        """As the hub takes them.

        Raises:
            InvalidInput, NotFound, StorageError, InvalidFile, TooLarge: the state cannot be read.
        """
        from adaptive_llm_gateway.server._cli_work import read_body  # noqa: PLC0415

        if self.no_directory and (self.directory or self.patch):
            raise typer.BadParameter("goes with neither --directory nor --patch", param_hint="'--no-directory'")
        if self.state is not None and self.file is not None:
            raise typer.BadParameter("goes without --file", param_hint="'--state'")
        return {
            "next_action": self.next,
            "state": read_body(self.state, self.file),
            "open_questions": self.question,
            "constraints": self.constraint,
            "decisions": self.decision,
            "session_id": self.session,
            "directory": None if self.no_directory else absolute(self.directory),
            "patch": self.patch,
        }


@dataclass(frozen=True, slots=True)
class Addressed:
    """For whom it is, until when, and what it belongs to."""

    to: Annotated[
        str | None, typer.Option(metavar="NAME", help="The client or agent that it is for. Default: anybody.")
    ] = None
    priority: Annotated[PriorityName | None, typer.Option(help="How much it matters. Default: normal.")] = None
    expires: Annotated[
        str | None,
        typer.Option(metavar="WHEN", help="Nobody can claim it after: 12h, 7d, 2027-03-01. Default: as set."),
    ] = None
    project: Annotated[str | None, typer.Option(metavar="NAME", help="What it belongs to.")] = None
    tag: Annotated[list[str] | None, typer.Option(metavar="TAG", help="A tag; repeatable.")] = None
    trust: Annotated[TrustLevel | None, typer.Option(help="Who may see it. Default: internal.")] = None

    def arguments(self) -> Json:
        """As the hub takes them."""
        return {
            "to": self.to,
            "priority": self.priority,
            "expires": self.expires,
            "project": self.project,
            "tags": self.tag,
            "trust": self.trust,
        }


@handoff_app.command()
@flattened
def create(
    context: typer.Context,
    objective: Annotated[
        str | None, typer.Argument(metavar="OBJECTIVE", help="What is to be reached; a session can tell it, too.")
    ] = None,
    *,
    work: Work,
    addressed: Addressed,
    as_: Agent = None,
    redact: Redact = False,
    json: JsonOption = False,
) -> None:
    """Offer work to another agent.

    With the repository, branch, commit and changed files of the directory. OBJECTIVE may be left out with --session.
    """
    if objective is None and work.session is None:
        raise typer.BadParameter("say what is to be reached, or give --session", param_hint="'OBJECTIVE'")
    done = _call(
        context,
        "handoff_create",
        objective=objective,
        **work.arguments(),
        **addressed.arguments(),
        agent=as_,
        redact=redact,
    )
    _wrote(done, "offered", as_json=json, patch=True)


# --- Looking ------------------------------------------------------------------------------------------------------


def _check_every(every: float) -> None:
    if not 0.1 <= every <= 86_400:
        raise typer.BadParameter("from 0.1 to 86400 seconds", param_hint="'--every'")


@handoff_app.command("list")
def list_handoffs(
    context: typer.Context,
    state: Annotated[
        list[str] | None,
        typer.Option(metavar="STATE", help=f"{', '.join(STATES)}; repeatable. Default: offered, claimed, damaged."),
    ] = None,
    project: Project = None,
    to: Annotated[str | None, typer.Option(metavar="NAME", help="For this client or agent.")] = None,
    checkpoints: Annotated[bool, typer.Option("--checkpoints", help="With checkpoints of sessions.")] = False,
    all: Annotated[bool, typer.Option("--all", help="In every state, with checkpoints.")] = False,
    limit: Annotated[int, typer.Option(metavar="N", help="At most this many.")] = 50,
    watch: Watching = False,
    every: Every = 2.0,
    json: JsonOption = False,
) -> None:
    """List handoffs, a line each: state, priority, for whom, age, project, objective.

    With --watch the list is redrawn on a terminal; in a pipe there is a line for each change, with --json a JSON
    document on a line of its own. A hub that is started anew is asked on.
    """
    for each in state or []:
        if each not in STATES:
            raise typer.BadParameter(f"{each!r} is none of {', '.join(STATES)}", param_hint="'--state'")
    if all and state:
        raise typer.BadParameter("takes no --state", param_hint="'--all'")
    asked = _given(
        {"state": state, "project": project, "to": to, "checkpoints": checkpoints, "all": all, "limit": limit}
    )
    if watch:
        from adaptive_llm_gateway.server._cli_handoff_watch import watch_list  # noqa: PLC0415

        _check_every(every)
        watch_list(context.find_root().obj, asked, every=every, as_json=json)
        return
    from datetime import UTC, datetime  # noqa: PLC0415

    from adaptive_llm_gateway.server._cli_handoff_text import list_lines, list_notes  # noqa: PLC0415

    found = _call(context, "handoff_list", **asked)
    now = datetime.now(UTC)
    emit(found, as_json=json, text=lambda paint: "\n".join(list_lines(found, paint, now)))
    if not json:
        for note in list_notes(found, now):
            talk(note)


@handoff_app.command()
def show(
    context: typer.Context, id: HandoffId, watch: Watching = False, every: Every = 2.0, json: JsonOption = False
) -> None:
    """Print a handoff: what is handed over, and who did what when.

    With --watch each step is printed as it comes; with --json a JSON document on a line of its own.
    """
    if watch:
        from adaptive_llm_gateway.server._cli_handoff_watch import watch_one  # noqa: PLC0415

        _check_every(every)
        watch_one(context.find_root().obj, id, every=every, as_json=json)
        return
    from datetime import UTC, datetime  # noqa: PLC0415

    from adaptive_llm_gateway.server._cli_handoff_text import show_text  # noqa: PLC0415

    found = _call(context, "handoff_show", id=id)
    emit(found, as_json=json, text=lambda paint: show_text(found, paint, datetime.now(UTC)))


# --- Working ------------------------------------------------------------------------------------------------------


@handoff_app.command()
def claim(
    context: typer.Context,
    id: Annotated[str | None, typer.Argument(metavar="ID", help="Default: the best one that is open.")] = None,
    project: Project = None,
    budget: Annotated[int | None, typer.Option(metavar="N", help="Tokens of the package. Default: 2000.")] = None,
    provisional: Annotated[
        bool, typer.Option("--provisional", help="Also when the remote is out of reach: the next sync settles it.")
    ] = False,
    anyway: Annotated[bool, typer.Option("--anyway", help="Also when it is for somebody else.")] = False,
    directory: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where a patch would be applied. Default: here.")
    ] = None,
    lease: Lease = None,
    as_: Agent = None,
    json: JsonOption = False,
) -> None:
    """Take a handoff over, and print its package: all that is needed to go on, in a budget of tokens.

    Nobody else can claim it until the lease ends; `update` renews it. Exit code 4 when somebody else holds it, 8 when
    the remote, which has to confirm a claim, is out of reach.
    """
    from datetime import UTC, datetime  # noqa: PLC0415

    from adaptive_llm_gateway.server._cli_handoff_text import talk_about_claim  # noqa: PLC0415

    if anyway and id is None:
        raise typer.BadParameter("needs an ID", param_hint="'--anyway'")
    done = _call(
        context,
        "handoff_claim",
        id=id,
        project=project,
        budget_tokens=budget,
        provisional=provisional,
        anyway=anyway,
        lease_minutes=lease,
        directory=absolute(directory),
        agent=as_,
    )
    emit(done, as_json=json, text=lambda _: harmless(done["text"]))
    if not json:
        talk_about_claim(done, datetime.now(UTC))


@handoff_app.command()
def update(
    context: typer.Context,
    id: HandoffId,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What was done; - is stdin.")],
    lease: Lease = None,
    as_: Agent = None,
    redact: Redact = False,
    json: JsonOption = False,
) -> None:
    """Report progress on what you hold. That renews the lease."""
    done = _call(context, "handoff_update", id=id, text=_text(text), lease_minutes=lease, agent=as_, redact=redact)
    _wrote(done, "reported on", as_json=json)


@handoff_app.command()
def complete(
    context: typer.Context,
    id: HandoffId,
    result: Annotated[str | None, typer.Argument(metavar="RESULT", help="What came of it; - is stdin.")] = None,
    as_: Agent = None,
    redact: Redact = False,
    json: JsonOption = False,
) -> None:
    """Say that what you hold is done."""
    done = _call(context, "handoff_complete", id=id, result=_text(result), agent=as_, redact=redact)
    _wrote(done, "completed", as_json=json)


@handoff_app.command()
def release(
    context: typer.Context,
    id: HandoffId,
    reason: Annotated[str | None, typer.Argument(metavar="REASON", help="Why; - is stdin.")] = None,
    declined: Annotated[bool, typer.Option("--declined", help="Refuse it, claimed or not.")] = False,
    withdraw: Annotated[
        bool, typer.Option("--withdraw", help="Take your own offer back, while nobody holds it.")
    ] = False,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="With --withdraw: also what another client offered.")
    ] = False,
    as_: Agent = None,
    redact: Redact = False,
    json: JsonOption = False,
) -> None:
    """Give back what you hold, so that somebody else can claim it; or decline it, or withdraw your offer."""
    if declined and withdraw:
        raise typer.BadParameter("goes without --declined", param_hint="'--withdraw'")
    if anyway and not withdraw:
        raise typer.BadParameter("goes with --withdraw", param_hint="'--anyway'")
    outcome = "declined" if declined else "withdrawn" if withdraw else "released"
    done = _call(
        context,
        "handoff_release",
        id=id,
        reason=_text(reason),
        outcome=outcome,
        agent=as_,
        redact=redact,
        anyway=anyway,
    )
    _wrote(done, outcome, as_json=json)


# --- From outside -------------------------------------------------------------------------------------------------


@handoff_app.command()
def checkpoint(
    context: typer.Context,
    session: Annotated[str | None, typer.Option(metavar="ID", help="The client's session.")] = None,
    directory: Annotated[Path | None, typer.Option(metavar="DIR", help="Where the work lies. Default: here.")] = None,
    transcript: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The client's own record of the session, to fill it from.")
    ] = None,
    client: Annotated[str | None, typer.Option(metavar="NAME", help="The client whose session it is.")] = None,
    project: Annotated[str | None, typer.Option(metavar="NAME", help="What it belongs to.")] = None,
    trust: Annotated[
        TrustLevel | None, typer.Option(help="Who may see it. Default: as configured, `handoffs.checkpoint_trust`.")
    ] = None,
    patch: Patch = False,
    end: Annotated[bool, typer.Option("--end", help="The session is over.")] = False,
    hook: Annotated[
        bool,
        typer.Option(
            "--hook",
            help="Run by a client: its JSON is on stdin, stdout stays empty, and after a second at most it is over "
            "with exit code 0, whatever happened; what takes longer goes on by itself.",
        ),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Keep how a session stands as a handoff, so that a crash loses at most what came later.

    The session's next checkpoint takes its place. `list --checkpoints` shows them.
    """
    del hook  # carried out before typer is loaded
    done = _call(
        context,
        "handoff_checkpoint",
        session_id=session,
        directory=absolute(directory),
        transcript=absolute(transcript) if transcript else None,
        client=client,
        project=project,
        trust=trust,
        patch=patch,
        end=end,
    )
    _wrote(done, "checkpoint replaced:" if done["replaced"] else "checkpoint made:", as_json=json, patch=True)
