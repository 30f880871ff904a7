"""`alg consent`, `receipts`, `runs` and `policy`: what may leave, what did, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from adaptive_llm_gateway.server._cli_memory import JsonOption, TrustLevel
from adaptive_llm_gateway.server._cli_output import emit, harmless, talk

OutcomeName = Literal["answered", "refused", "failed", "cancelled", "incomplete", "simulated", "interrupted"]
_GROUP: dict[str, Any] = {"no_args_is_help": True, "rich_markup_mode": None}

consent_app = typer.Typer(help="What you agree to send to providers that are not on this machine.", **_GROUP)
receipts_app = typer.Typer(help="What every request used, where it went, what it cost and why.", **_GROUP)
runs_app = typer.Typer(help="Requests, planned again.", **_GROUP)
policy_app = typer.Typer(help="What may go where, by trust level; needs no hub.", **_GROUP)

ReceiptId = Annotated[str, typer.Argument(metavar="ID", help="Its id, or the end of it.")]
Reason = Annotated[str | None, typer.Option(metavar="TEXT", help="Why; the ledger keeps it.")]


def _call(context: typer.Context, name: str, /, **arguments: Any) -> Any:
    from adaptive_llm_gateway.server._cli_work import call  # noqa: PLC0415

    given = {key: value for key, value in arguments.items() if value is not None}
    return call(context.find_root().obj, name, **given)


# --- alg consent --------------------------------------------------------------------------------------------------


@consent_app.command()
def grant(
    context: typer.Context,
    provider: Annotated[str, typer.Argument(metavar="PROVIDER", help="As it is called in the configuration.")],
    trust: Annotated[TrustLevel, typer.Option(help="It may be sent what is of this level, and what is below.")],
    purpose: Annotated[str | None, typer.Option(metavar="NAME", help="For this purpose alone.")] = None,
    project: Annotated[str | None, typer.Option(metavar="NAME", help="For this project alone.")] = None,
    expires: Annotated[
        str | None, typer.Option(metavar="WHEN", help="12h, 30d, 1y, 2027-03-01. Default: until it is revoked.")
    ] = None,
    reason: Reason = None,
    json: JsonOption = False,
) -> None:
    """Agree that a provider is sent what the policy asks consent for.

    The policy comes first: what it denies, no consent allows.
    """
    from adaptive_llm_gateway.server._cli_records_text import consent_text  # noqa: PLC0415

    done = _call(
        context,
        "consent_grant",
        provider=provider,
        trust=trust,
        purpose=purpose,
        project=project,
        expires=expires,
        reason=reason,
    )
    emit(done, as_json=json, text=lambda paint: consent_text(done, paint))


@consent_app.command()
def revoke(
    context: typer.Context,
    id: Annotated[str, typer.Argument(metavar="ID", help="The consent's id, or the end of it.")],
    reason: Reason = None,
    json: JsonOption = False,
) -> None:
    """Take a consent back, for every request from now on. The ledger keeps both."""
    from adaptive_llm_gateway.server._cli_records_text import consent_text  # noqa: PLC0415

    done = _call(context, "consent_revoke", id=id, reason=reason)
    emit(done, as_json=json, text=lambda paint: consent_text(done, paint))


@consent_app.command("list")
def list_consents(
    context: typer.Context,
    all: Annotated[bool, typer.Option("--all", help="With those that were revoked or have expired.")] = False,
    json: JsonOption = False,
) -> None:
    """List the consents that hold."""
    from adaptive_llm_gateway.server._cli_records_text import consents_text  # noqa: PLC0415

    found = _call(context, "consent_list", all=all)
    emit(found, as_json=json, text=lambda paint: consents_text(found, paint))
    if json:
        return
    if found["broken"]:
        broken = found["broken"]
        talk(f"note: the ledger is broken at line {broken['line']}: {harmless(broken['why'])}; no consent holds")
        talk("hint: `alg consent verify` tells more.")
    elif not found["consents"]:
        talk("no consents" if all else "no consents that hold")


@consent_app.command("verify")
def verify_consents(context: typer.Context, json: JsonOption = False) -> None:
    """Check that the ledger's entries are as they were written, and none is missing. Exit code 7 when not."""
    from adaptive_llm_gateway.server._cli_records_text import ledger_text  # noqa: PLC0415

    found = _call(context, "consent_verify")
    emit(found, as_json=json, text=lambda paint: ledger_text(found, paint))
    if not found["holds"]:
        if not json:
            talk("hint: no consent holds until `alg consent set-aside` begins a new ledger; grant anew what you meant.")
        raise typer.Exit(7)


@consent_app.command("set-aside")
def set_aside(
    context: typer.Context,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: JsonOption = False,
) -> None:
    """Put a broken ledger aside and begin a new one, without any consent. The old file is kept."""
    if not yes:
        _confirm("Put the broken ledger aside? Every consent must be given anew.")
    done = _call(context, "consent_set_aside")
    emit(done, as_json=json, text=lambda _: harmless(done["path"]))
    if not json:
        talk("the broken ledger is kept there; a new one begins with the next consent")


def _confirm(question: str) -> None:
    import sys  # noqa: PLC0415

    from adaptive_llm_gateway.core import AlgError, InvalidInput  # noqa: PLC0415

    if sys.stdin is None or not sys.stdin.isatty():  # pyright: ignore[reportUnnecessaryComparison]
        raise InvalidInput("there is nobody to ask", hint="Give --yes to do it without being asked.")
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise AlgError("nothing was changed")


# --- alg receipts, alg runs ---------------------------------------------------------------------------------------


@receipts_app.command("list")
def list_receipts(
    context: typer.Context,
    limit: Annotated[int, typer.Option(metavar="N", help="At most this many.")] = 20,
    outcome: Annotated[OutcomeName | None, typer.Option(help="Only those that ended so.")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="WHEN", help="At or after: 2026-11-01, 2026-11-01T10:00Z, 7d, 12h, today.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """List receipts, the newest first, a line each."""
    from adaptive_llm_gateway.server._cli_records_text import receipts_text  # noqa: PLC0415

    found = _call(context, "receipts_list", limit=limit, outcome=outcome, since=since)
    emit(found, as_json=json, text=lambda paint: receipts_text(found, paint))
    if not json and not found["receipts"]:
        talk("no receipts")


@receipts_app.command("show")
def show_receipt(context: typer.Context, id: ReceiptId, json: JsonOption = False) -> None:
    """Print a receipt: what was asked and sent, to whom, why, and what it cost. Credentials are not in it."""
    from adaptive_llm_gateway.server._cli_records_text import receipt_text  # noqa: PLC0415

    found = _call(context, "receipts_show", id=id)
    emit(found, as_json=json, text=lambda paint: receipt_text(found, paint))


@receipts_app.command("verify")
def verify_receipts(context: typer.Context, json: JsonOption = False) -> None:
    """Check that receipts and run folders are as they were written, and none is missing. Exit code 7 when not."""
    from adaptive_llm_gateway.server._cli_records_text import check_text  # noqa: PLC0415

    found = _call(context, "receipts_verify")
    emit(found, as_json=json, text=lambda paint: check_text(found, paint))
    if found["runs"] and not json:
        talk("hint: `alg runs rebuild` makes run folders anew from their receipts")
    if not found["holds"] or found["runs"]:
        raise typer.Exit(7)


@receipts_app.command("prune")
def prune_receipts(
    context: typer.Context,
    days: Annotated[int | None, typer.Option(metavar="N", help="Older than this go. Default: as configured.")] = None,
    mb: Annotated[
        int | None, typer.Option(metavar="N", help="The oldest beyond this many megabytes go. Default: as configured.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Delete receipts and runs by age and size, whole files of them, the oldest first."""
    done = _call(context, "receipts_prune", days=days, mb=mb)
    text = f"{done['receipts']} receipts deleted, {done['bytes']:,} bytes"
    emit(done, as_json=json, text=lambda _: text)


@runs_app.command()
def rebuild(context: typer.Context, json: JsonOption = False) -> None:
    """Make run folders anew that are missing or differ from their receipts, as `alg receipts verify` tells."""
    done = _call(context, "runs_rebuild")
    emit(done, as_json=json, text=lambda _: "\n".join(map(harmless, done["rebuilt"])))
    if not json:
        talk(f"made anew: {len(done['rebuilt'])}")


@runs_app.command()
def replay(context: typer.Context, run: ReceiptId, json: JsonOption = False) -> None:
    """Plan a request again, from what its plan was made from, and say what is otherwise now.

    Nothing is sent. Exit code 0 when it would go the same way, 1 when not.
    """
    from adaptive_llm_gateway.server._cli_records_text import replay_text  # noqa: PLC0415

    found = _call(context, "runs_replay", id=run)
    emit(found, as_json=json, text=lambda paint: replay_text(found, paint))
    if found["differences"] or found.get("reproduces") is False:
        raise typer.Exit(1)


# --- alg policy ---------------------------------------------------------------------------------------------------


@policy_app.command("show")
def show_policy(context: typer.Context, json: JsonOption = False) -> None:
    """Print the policy: the home's `policy.yaml`, else the default one."""
    from adaptive_llm_gateway.server import _cli_policy  # noqa: PLC0415

    found = _cli_policy.show(context.find_root().obj)
    emit(found, as_json=json, text=lambda _: harmless(found["text"].rstrip("\n")))
    if not json:
        talk(f"{harmless(found['source'])}, digest {found['digest'][:12]}")


@policy_app.command("test")
def try_policy(
    context: typer.Context,
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="A policy to try. Default: the one that holds.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Run the tests in a policy and those of `policy-tests.yaml` beside it.

    Exit code 1 when one fails, 2 when the policy cannot be used: the error names the line.
    """
    from adaptive_llm_gateway.server import _cli_policy  # noqa: PLC0415

    report = _cli_policy.test(context.find_root().obj, file)
    emit(report, as_json=json, text=lambda paint: _cli_policy.test_text(report, paint))
    if not json:
        talk(f"{report['passed']} passed, {report['failed']} failed; {harmless(report['source'])}")
    if report["failed"]:
        raise typer.Exit(1)


@policy_app.command("path")
def path(context: typer.Context, json: JsonOption = False) -> None:
    """Print where the policy lies, or would: without the file the default one holds."""
    from adaptive_llm_gateway.server import _cli_policy  # noqa: PLC0415

    found = _cli_policy.policy_path(context.find_root().obj)
    emit({"path": str(found), "exists": found.exists()}, as_json=json, text=lambda _: str(found))
