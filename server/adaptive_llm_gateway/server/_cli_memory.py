"""`alg memory`, also `memory`: search, read, write and look after the memories, all through the hub."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from adaptive_llm_gateway.core import counted
from adaptive_llm_gateway.server._cli_output import Json, emit, harmless, talk

ImportKind = Literal["markdown", "obsidian", "claude-code", "mcp-memory", "basic-memory"]
ExportFormat = Literal["markdown", "jsonl", "mcp-memory"]
TrustLevel = Literal["public", "internal", "confidential", "secret"]
Order = Literal["updated", "created", "title"]

memory_app = typer.Typer(
    help="Search, read and write memories. `memory` is short for `alg memory`.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document, for failures too.")]
Identifier = Annotated[str, typer.Argument(metavar="ID", help="The memory's id.")]
Types = Annotated[
    list[str] | None,
    typer.Option("--type", metavar="TYPE", help="Of this type; several times: of any of them."),
]
Tags = Annotated[list[str] | None, typer.Option("--tag", metavar="TAG", help="With this tag; several times: all.")]
Project = Annotated[str | None, typer.Option(metavar="NAME", help="Of this project.")]
Since = Annotated[
    str | None,
    typer.Option(metavar="WHEN", help="Updated at or after: 2026-11-01, 2026-11-01T10:00Z, 7d, 12h, today."),
]
Until = Annotated[str | None, typer.Option(metavar="WHEN", help="Updated before the end of it; as for --since.")]
AuthorName = Annotated[str | None, typer.Option("--author", metavar="CLIENT", help="Written by this client.")]
MaxTrust = Annotated[TrustLevel | None, typer.Option(help="Nothing above this trust level.")]
FieldFilters = Annotated[
    list[str] | None, typer.Option("--field", metavar="NAME=VALUE", help="With this field, such as status=open.")
]
Reason = Annotated[str | None, typer.Option(metavar="TEXT", help="Why; it goes to `git log`.")]
IfVersion = Annotated[str | None, typer.Option(metavar="VERSION", help="Refuse unless this is the current version.")]
RepoName = Annotated[str | None, typer.Option("--repo", metavar="NAME", help="Only this memory repo, of several.")]
ItsProject = Annotated[
    str | None, typer.Option("--project", metavar="NAME", help="Only the memory repo of this project.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is in the way.")]


def _call(context: typer.Context, name: str, /, **arguments: Any) -> Any:
    from adaptive_llm_gateway.server._cli_work import call  # noqa: PLC0415

    return call(context.find_root().obj, name, **arguments)


def _filters(
    types: list[str] | None,
    tags: list[str] | None,
    project: str | None,
    since: str | None,
    until: str | None,
    author: str | None,
    max_trust: str | None,
    fields: list[str] | None,
) -> dict[str, Any]:
    from adaptive_llm_gateway.server._cli_work import parse_fields  # noqa: PLC0415

    given: dict[str, Any] = {
        "type": types,
        "tags": tags,
        "project": project,
        "since": since,
        "until": until,
        "author": author,
        "max_trust": max_trust,
        "fields": parse_fields(fields or []),
    }
    return {name: value for name, value in given.items() if value}


# --- Reading ----------------------------------------------------------------------------------------------


@memory_app.command()
def search(
    context: typer.Context,
    query: Annotated[
        str, typer.Argument(metavar="QUERY", help="What to look for: words, a question, operators; empty: the latest.")
    ] = "",
    limit: Annotated[int, typer.Option(metavar="N", help="At most this many, 1 to 100.")] = 10,
    type: Types = None,
    tag: Tags = None,
    project: Project = None,
    since: Since = None,
    until: Until = None,
    author: AuthorName = None,
    max_trust: MaxTrust = None,
    field: FieldFilters = None,
    similar_to: Annotated[
        str | None, typer.Option(metavar="ID", help="Memories like this one, which is left out.")
    ] = None,
    as_of: Annotated[
        str | None, typer.Option(metavar="WHEN", help="As the memories were: a commit, HEAD~2, 2026-11-01, 7d.")
    ] = None,
    cursor: Annotated[str | None, typer.Option(metavar="CURSOR", help="Go on where an earlier search ended.")] = None,
    facets: Annotated[
        bool, typer.Option("--facets", help="Count all that match the filters, by type, project, tag, author, month.")
    ] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Show how it was read, and every signal's share.")] = False,
    json: JsonOption = False,
) -> None:
    """Find memories by words and by meaning, best first.

    Operators in QUERY: type: tag: project: author: id: status: since: until: before: after:, "a phrase", -word.
    A QUERY that begins with a dash goes behind `--`.
    """
    from adaptive_llm_gateway.server._cli_text import search_text, talk_about_search  # noqa: PLC0415

    narrowed = _filters(type, tag, project, since, until, author, max_trust, field)
    asked = {"similar_to": similar_to, "as_of": as_of, "cursor": cursor, "facets": facets, "explain": explain}
    given = {name: value for name, value in asked.items() if value}
    found = _call(context, "search", query=query, limit=limit, **narrowed, **given)
    emit(found, as_json=json, text=lambda paint: search_text(found, paint))
    if not json:
        talk_about_search(found)


@memory_app.command()
def read(
    context: typer.Context,
    id: Identifier,
    at: Annotated[str | None, typer.Option(metavar="VERSION", help="As of this version or commit.")] = None,
    json: JsonOption = False,
) -> None:
    """Print one memory, as its file has it."""
    from adaptive_llm_gateway.server._cli_text import print_memory  # noqa: PLC0415

    memory = _call(context, "read", id=id, at=at)
    if json:
        emit(memory, as_json=True, text=lambda _: "")
    else:
        print_memory(memory)


@memory_app.command("list")
def list_memories(
    context: typer.Context,
    type: Types = None,
    tag: Tags = None,
    project: Project = None,
    since: Since = None,
    until: Until = None,
    author: AuthorName = None,
    max_trust: MaxTrust = None,
    field: FieldFilters = None,
    limit: Annotated[int, typer.Option(metavar="N", help="At most this many, 1 to 1000.")] = 50,
    cursor: Annotated[str | None, typer.Option(metavar="CURSOR", help="Go on where an earlier list ended.")] = None,
    order: Annotated[Order, typer.Option(help="By what; times: latest first.")] = "updated",
    deleted: Annotated[bool, typer.Option("--deleted", help="The deleted ones; no other filter applies.")] = False,
    json: JsonOption = False,
) -> None:
    """List memories, a line each."""
    from adaptive_llm_gateway.server._cli_text import list_text  # noqa: PLC0415

    narrowed = _filters(type, tag, project, since, until, author, max_trust, field)
    if deleted and (narrowed or cursor):
        raise typer.BadParameter("takes no filter and no cursor", param_hint="'--deleted'")
    page = _call(context, "list", limit=limit, cursor=cursor, order=order, deleted=deleted, **narrowed)
    emit(page, as_json=json, text=lambda paint: list_text(page, paint))
    if not json:
        talk(f"{len(page['memories'])} of {page['total']}")
        if page["next_cursor"]:
            talk(f"hint: the next ones: --cursor {harmless(page['next_cursor'])}")


def context_command(
    context: typer.Context,
    query: Annotated[str, typer.Argument(metavar="QUERY", help="What you want to know.")],
    budget: Annotated[int, typer.Option(metavar="N", help="At most this many tokens.")] = 2_000,
    detail: Annotated[
        Literal["index", "auto", "full"], typer.Option(help="A line of each, as it fits, or whole texts only.")
    ] = "auto",
    expand: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="A memory to have whole, before all others; repeatable.")
    ] = None,
    pinned: Annotated[
        bool, typer.Option("--pinned/--no-pinned", help="With preferences, open tasks and recent decisions.")
    ] = True,
    session: Annotated[
        str | None, typer.Option(metavar="ID", help="With this session's summary and last entries.")
    ] = None,
    model: Annotated[str | None, typer.Option(metavar="NAME", help="The model whose tokens count.")] = None,
    type: Types = None,
    tag: Tags = None,
    project: Project = None,
    since: Since = None,
    until: Until = None,
    author: AuthorName = None,
    max_trust: MaxTrust = None,
    field: FieldFilters = None,
    json: JsonOption = False,
) -> None:
    """Print what the memories know about a question, in a budget of tokens."""
    narrowed = _filters(type, tag, project, since, until, author, max_trust, field)
    asked = {"expand": expand, "model": model, "session_id": session}
    given = {name: value for name, value in asked.items() if value}
    found = _call(
        context, "context", query=query, budget_tokens=budget, detail=detail, pinned=pinned, **narrowed, **given
    )
    _emit_in_budget(found, as_json=json)


def summarize_command(
    context: typer.Context,
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A file or a folder.")],
    query: Annotated[str, typer.Option(metavar="Q", help="What you want to know.")] = "",
    budget: Annotated[int, typer.Option(metavar="N", help="At most this many tokens.")] = 2_000,
    model: Annotated[str | None, typer.Option(metavar="NAME", help="The model whose tokens count.")] = None,
    json: JsonOption = False,
) -> None:
    """Print what files say, in a budget of tokens.

    Code as an outline of its definitions, text as extracts. PATH has to lie below a folder that `summaries.roots` in
    the configuration names.
    """
    # Not made any plainer here: the hub follows the links, and decides.
    full = os.path.join(os.getcwd(), os.path.expanduser(path))  # noqa: PTH109, PTH111, PTH118
    given = {"model": model} if model else {}
    found = _call(context, "summarize_path", path=full, query=query, budget_tokens=budget, **given)
    _emit_in_budget(found, as_json=json)


def _emit_in_budget(found: Any, *, as_json: bool) -> None:
    """What fits a budget of tokens, and beside it how much of what there was that is."""
    emit(found, as_json=as_json, text=lambda _: harmless(found["text"]))
    if not as_json:
        talk(found["stats"] if found["exact"] else f"{found['stats']} ({found['counter']})")


@memory_app.command()
def history(
    context: typer.Context,
    id: Identifier,
    limit: Annotated[int, typer.Option(metavar="N", help="At most this many, 1 to 1000.")] = 20,
    json: JsonOption = False,
) -> None:
    """List a memory's commits: when, who, what and why. The newest comes first."""
    from adaptive_llm_gateway.server._cli_text import history_text  # noqa: PLC0415

    found = _call(context, "history", id=id, limit=limit)
    emit(found, as_json=json, text=lambda paint: history_text(found, paint))
    if not json and found["deleted"]:
        talk(f"hint: it is deleted; `alg memory restore {found['id']}` brings it back.")


@memory_app.command()
def status(context: typer.Context, json: JsonOption = False) -> None:
    """Say how memories, index, commits and sync stand."""
    from adaptive_llm_gateway.server._render import status_text  # noqa: PLC0415

    found = _call(context, "status")
    emit(found, as_json=json, text=lambda _: harmless(status_text(found)))


# --- Writing ----------------------------------------------------------------------------------------------


def _done(done: Json, *, as_json: bool) -> None:
    from adaptive_llm_gateway.server._cli_text import write_text  # noqa: PLC0415
    from adaptive_llm_gateway.server._render import redacted_text  # noqa: PLC0415

    emit(done, as_json=as_json, text=lambda paint: write_text(done, paint))
    if not as_json:
        for note in [*([redacted_text(done["redacted"])] if done["redacted"] else []), *done["notes"]]:
            talk(f"note: {harmless(note)}")


@memory_app.command()
def write(
    context: typer.Context,
    body: Annotated[str | None, typer.Argument(metavar="BODY", help="The text, or - for stdin.")] = None,
    file: Annotated[Path | None, typer.Option(metavar="F", help="Take the text from this file.")] = None,
    title: Annotated[str | None, typer.Option(metavar="TEXT", help="One line that says what it is about.")] = None,
    type: Annotated[str | None, typer.Option(metavar="TYPE", help="Default: note.")] = None,
    tag: Annotated[list[str] | None, typer.Option(metavar="TAG", help="A tag; repeatable.")] = None,
    project: Annotated[str | None, typer.Option(metavar="NAME", help="What it belongs to.")] = None,
    trust: Annotated[TrustLevel | None, typer.Option(help="Who may see it. Default: internal.")] = None,
    link: Annotated[
        list[str] | None,
        typer.Option(metavar="REL:ID", help="A link, such as supersedes:ID; repeatable."),
    ] = None,
    field: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="A field of the type, such as status=done; NAME:=JSON for anything but text; repeatable.",
        ),
    ] = None,
    source: Annotated[str | None, typer.Option(metavar="TEXT", help="Where it comes from: a URL, a file.")] = None,
    reason: Reason = None,
    id: Annotated[str | None, typer.Option(metavar="ID", help="Update this memory instead of a new one.")] = None,
    if_version: IfVersion = None,
    redact: Annotated[bool, typer.Option("--redact", help="Store marks for secrets, rather than refuse.")] = False,
    json: JsonOption = False,
) -> None:
    """Write a memory. With --id update one, leaving alone what is not given."""
    from adaptive_llm_gateway.server._cli_work import parse_fields, parse_links, read_body  # noqa: PLC0415

    done = _call(
        context,
        "write",
        type=type,
        title=title,
        body=read_body(body, file),
        id=id,
        if_version=if_version,
        tags=tag,
        project=project,
        trust=trust,
        links=parse_links(link) if link else None,
        source=source,
        fields=parse_fields(field or []),
        reason=reason,
        redact=redact,
    )
    _done(done, as_json=json)


@memory_app.command()
def edit(context: typer.Context, id: Identifier, reason: Reason = None, json: JsonOption = False) -> None:
    """Open a memory in an editor and save the changes.

    The editor is $VISUAL, else $EDITOR. When somebody else changed the memory meanwhile, or the text is refused,
    nothing is saved and your copy is kept.
    """
    from adaptive_llm_gateway.server._cli_work import edit_memory  # noqa: PLC0415

    done = edit_memory(context.find_root().obj, id, reason, as_json=json)
    if done is not None:
        _done(done, as_json=json)


@memory_app.command()
def delete(
    context: typer.Context,
    id: Identifier,
    reason: Reason = None,
    if_version: IfVersion = None,
    json: JsonOption = False,
) -> None:
    """Delete a memory. Its history stays, and `restore` brings it back."""
    _done(_call(context, "delete", id=id, reason=reason, if_version=if_version), as_json=json)


@memory_app.command()
def restore(
    context: typer.Context,
    id: Identifier,
    at: Annotated[str | None, typer.Option(metavar="VERSION", help="As of this version or commit.")] = None,
    reason: Reason = None,
    json: JsonOption = False,
) -> None:
    """Bring back a deleted memory or an earlier version."""
    _done(_call(context, "restore", id=id, at=at, reason=reason), as_json=json)


@memory_app.command()
def compact(
    context: typer.Context,
    session: Annotated[str, typer.Argument(metavar="SESSION", help="The session's id.")],
    budget: Annotated[int, typer.Option(metavar="N", help="At most this many tokens.")] = 2_000,
    json: JsonOption = False,
) -> None:
    """Summarise a session's log, and keep the summary as a memory.

    Goal, decisions, changes, open questions, next step and key facts, each with the numbers of its entries in the
    log, which stays. There is one summary for each session: compacting again replaces it.
    """
    from adaptive_llm_gateway.server._render import compaction_line, standing_text  # noqa: PLC0415

    done = _call(context, "compact_session", session=session, budget_tokens=budget)
    found = done["compaction"]
    emit(done, as_json=json, text=lambda _: harmless(found["text"].rstrip()))
    if not json:
        talk(compaction_line(found))
        talk(f"{'unchanged' if done['unchanged'] else 'kept'} as {done['id']}; {harmless(standing_text(done))}")


# --- Moving in and out --------------------------------------------------------------------------------------


@memory_app.command("import")
def import_memories(
    context: typer.Context,
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A folder or file.")],
    kind: Annotated[ImportKind | None, typer.Option(help="What it is; default: told by its looks.")] = None,
    project: Annotated[str | None, typer.Option(metavar="NAME", help="The project of what has none.")] = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="The source's identity, where the folder's name is not unique.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would happen.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Let the source win over changes made here.")] = False,
    redact: Annotated[bool, typer.Option("--redact", help="Store marks for secrets, rather than refuse.")] = False,
    json: JsonOption = False,
) -> None:
    """Import a folder, a vault or another tool's memories.

    Markdown, an Obsidian vault, or what Claude Code, the official memory server or basic-memory keep.
    Importing again changes only what has changed at the source. Exit code 1 when something was refused.
    """
    from adaptive_llm_gateway.server._cli_work import call, progress  # noqa: PLC0415

    with progress("importing") as step:
        report = call(
            context.find_root().obj,
            "import",
            on_progress=step,
            path=str(path.absolute()),
            kind=kind,
            project=project,
            dry_run=dry_run,
            overwrite=overwrite,
            redact=redact,
            name=name,
        )
    emit(_without_text(report), as_json=json, text=lambda _: harmless(report["text"].rstrip()))
    if report["failed"]:
        raise typer.Exit(1)


@memory_app.command()
def export(
    context: typer.Context,
    destination: Annotated[Path, typer.Argument(metavar="DEST", help="A folder, or a file for the JSON formats.")],
    format: Annotated[ExportFormat, typer.Option(help="Files as they are, or JSON lines.")] = "markdown",
    type: Annotated[str | None, typer.Option(metavar="TYPE", help="Of this type.")] = None,
    tag: Tags = None,
    project: Project = None,
    overwrite: Overwrite = False,
    json: JsonOption = False,
) -> None:
    """Write memories to files outside of the memory repo."""
    from adaptive_llm_gateway.server._cli_work import call, progress  # noqa: PLC0415

    with progress("exporting") as step:
        report = call(
            context.find_root().obj,
            "export",
            on_progress=step,
            destination=str(destination.absolute()),
            format=format,
            overwrite=overwrite,
            type=type,
            project=project,
            tags=tag,
        )
    emit(_without_text(report), as_json=json, text=lambda _: harmless(report["text"].rstrip()))


def _without_text(report: Json) -> Json:
    return {name: value for name, value in report.items() if name != "text"}


@memory_app.command()
def reindex(
    context: typer.Context,
    accept_loss: Annotated[
        bool, typer.Option("--accept-loss", help="Take files that vanished all at once for deletions.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Build the index anew from the files. Says which files were left out and why."""
    report = _call(context, "reindex", accept_loss=accept_loss)
    text = f"{counted(report['indexed'], 'memory', 'memories')} indexed in {report['seconds']:.1f} s"
    emit(report, as_json=json, text=lambda _: text)
    if not json:
        for item in report["skipped"]:
            talk(f"note: left out {harmless(item['path'])}: {harmless(item['problem'])}")


# --- Sync ---------------------------------------------------------------------------------------------------


Wait = Annotated[
    bool | None,
    typer.Option("--wait/--no-wait", help="Wait for its end, rather than 20 seconds at most. Default: on a terminal."),
]


@memory_app.command()
def pull(
    context: typer.Context,
    repo: RepoName = None,
    project: ItsProject = None,
    wait: Wait = None,
    json: JsonOption = False,
) -> None:
    """Fetch from the remote and merge. It goes on in the hub when nobody waits any more.

    With several memory repos, all of them are pulled unless told otherwise.
    """
    _sync(context, "pull", repo, project, wait, as_json=json)


@memory_app.command()
def push(
    context: typer.Context,
    repo: RepoName = None,
    project: ItsProject = None,
    wait: Wait = None,
    json: JsonOption = False,
) -> None:
    """Push to the remote. Exit code 8 when it does not have everything afterwards.

    With several memory repos, all of them are pushed unless told otherwise, but for those that are only read.
    """
    _sync(context, "push", repo, project, wait, as_json=json)


@memory_app.command("install-merge-driver")
def merge_driver(
    context: typer.Context,
    repo: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A clone of a memory repo. Default: the hub's own.")
    ] = None,
    uninstall: Annotated[bool, typer.Option("--uninstall", help="Take it away again.")] = False,
    json: JsonOption = False,
) -> None:
    """Have plain git merge a memory repo's files as the hub does.

    For `git pull`, `merge`, `rebase`, `cherry-pick` and `stash pop` in this clone. Of texts that clash the older one is
    left beside the file, to be committed with the next commit. What one side edited and the other deleted git does not
    ask about: it stops, the edited file is there, and `git add` keeps it. The hub's own memory repo has the driver.
    """
    from adaptive_llm_gateway.server import _cli_setup  # noqa: PLC0415

    done = _cli_setup.merge_driver(context.find_root().obj, repo, uninstall=uninstall)
    emit(done, as_json=json, text=lambda _: harmless(f"{done['state']}: the merge driver of {done['repo']}"))


@memory_app.command()
def sync(
    context: typer.Context,
    repo: RepoName = None,
    project: ItsProject = None,
    wait: Wait = None,
    json: JsonOption = False,
) -> None:
    """Pull, then push. Exit code 8 when the two sides do not agree afterwards.

    With several memory repos, all of them unless told otherwise; those that are only read are pulled.
    """
    _sync(context, "sync", repo, project, wait, as_json=json)


def _sync(
    context: typer.Context,
    name: Literal["pull", "push", "sync"],
    repo: str | None,
    project: str | None,
    wait: bool | None,
    *,
    as_json: bool,
) -> None:
    from adaptive_llm_gateway.server._cli_work import sync as carry_out  # noqa: PLC0415
    from adaptive_llm_gateway.server._render import sync_answer_text  # noqa: PLC0415

    done = carry_out(context.find_root().obj, name, repo=repo, project=project, wait=wait)
    emit(done, as_json=as_json, text=lambda _: harmless(sync_answer_text(done, name)))


# --- What is held back --------------------------------------------------------------------------------------


quarantine_app = typer.Typer(
    help="List what the remote has and is held back here, or give it up.",
    invoke_without_command=True,
    rich_markup_mode=None,
)
memory_app.add_typer(quarantine_app, name="quarantine")


@quarantine_app.callback()
def quarantine(context: typer.Context, json: JsonOption = False) -> None:
    """List what the remote has and is held back here: files that must not come in, and why.

    Such a file is neither written nor indexed nor found; an earlier version of it stays. It comes in by itself when the
    remote has a version that passes, or when what was found is allowed.
    """
    if context.invoked_subcommand is not None:
        return
    from adaptive_llm_gateway.server._cli_text import quarantine_text  # noqa: PLC0415

    found = _call(context, "quarantine")
    emit(found, as_json=json, text=lambda _: harmless(quarantine_text(found)))


@quarantine_app.command("drop")
def drop_quarantined(
    context: typer.Context,
    path: Annotated[list[str], typer.Argument(metavar="PATH", help="As the list shows it.")],
    json: JsonOption = False,
) -> None:
    """Give it up: a commit puts the last good version there.

    Where there is none, the file goes. What the remote has stays in its history.
    """
    done = _call(context, "drop_quarantined", paths=path)
    emit(done, as_json=json, text=lambda _: harmless("\n".join(f"given up: {item}" for item in done["dropped"])))
    if not json and done["history"]:
        from adaptive_llm_gateway.server._cli_text import quarantine_text  # noqa: PLC0415

        talk(f"note: {harmless(quarantine_text({'held': [], 'history': done['history']}))}")
