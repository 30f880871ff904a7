"""What `alg memory` does around the hub's operations: arguments, bodies, the editor, progress, a sync's outcome."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Literal

from adaptive_llm_gateway.core import (
    Home,
    InvalidFile,
    InvalidInput,
    NotFound,
    StorageError,
    SyncError,
    TooLarge,
    Unavailable,
)
from adaptive_llm_gateway.server._cli_hub import open_hub
from adaptive_llm_gateway.server._cli_output import HubRefused, Json, print_json, talk

MAX_BODY = 64 * 1024 * 1024  # the hub's own limit is lower and answers by name; this keeps the line within its bounds
_EDITORS = ("vi", "nano")

Step = Callable[[int, int], None]


def call(
    root: str,
    name: str,
    /,
    *,
    on_progress: Step | None = None,
    on_piece: Callable[[str], None] | None = None,
    on_step: Callable[[Json], None] | None = None,
    **arguments: Any,
) -> Any:
    """Carry out an operation in the hub, which is started if need be.

    Args:
        on_piece: gets the text of an answer as it comes, where the operation streams.

    Raises:
        InvalidInput: an argument is not UTF-8.
        HubRefused: the hub's error, or why there is none.
    """
    _check_text(arguments)
    with open_hub(root) as hub:
        return hub.call(name, on_progress=on_progress, on_piece=on_piece, on_step=on_step, **arguments)


def _check_text(value: object) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise InvalidInput("an argument is not valid UTF-8", hint="Write it in UTF-8.") from None


# --- Arguments ------------------------------------------------------------------------------------------------


def parse_fields(given: Sequence[str]) -> dict[str, Any]:
    """Fields from `name=text` and `name:=json`.

    Raises:
        InvalidInput: one is neither.
    """
    fields: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        raw = name.endswith(":")
        name = name.removesuffix(":").strip()
        if not equals or not name:
            raise InvalidInput(
                f"the field {text!r} is neither NAME=TEXT nor NAME:=JSON", hint="For example: status=done"
            )
        try:
            fields[name] = json.loads(value) if raw else value
        except (ValueError, RecursionError):
            raise InvalidInput(
                f"the field {name!r} has {value!r}, which is not JSON", hint=f"For text, write {name}=TEXT."
            ) from None
    return fields


def parse_links(given: Sequence[str]) -> list[dict[str, str]]:
    """Links from `rel:id`.

    Raises:
        InvalidInput: one is none.
    """
    links: list[dict[str, str]] = []
    for text in given:
        rel, colon, identifier = text.rpartition(":")
        if not colon or not rel.strip() or not identifier.strip():
            raise InvalidInput(
                f"the link {text!r} is not REL:ID", hint="For example: supersedes:01K9ZQ3V5T8B6M2N4P7R1S0W3X"
            )
        links.append({"rel": rel.strip(), "id": identifier.strip()})
    return links


def read_body(body: str | None, file: Path | None) -> str | None:
    """The body from the argument, stdin (`-`) or a file; None when none is given.

    Raises:
        InvalidInput: both are given.
        NotFound, StorageError: the file cannot be read.
        InvalidFile, TooLarge: it is not UTF-8, or beyond all limits.
    """
    if body is not None and file is not None:
        raise InvalidInput("BODY and --file are both given", hint="Give one of them.")
    if file is not None:
        try:
            with file.open("rb") as opened:
                return _decoded(opened.read(MAX_BODY + 1), repr(str(file)))
        except FileNotFoundError:
            raise NotFound(f"there is no file {str(file)!r}", path=str(file)) from None
        except OSError as error:
            raise StorageError(f"cannot read {str(file)!r}: {error.strerror}", path=str(file)) from None
    if body == "-":
        return read_stdin()
    return body


def read_stdin() -> str:
    """All of stdin; nothing where the process was started without one.

    Raises:
        InvalidFile, TooLarge: it is not UTF-8, or beyond all limits.
    """
    if sys.stdin is None:  # pyright: ignore[reportUnnecessaryComparison]
        return ""
    return _decoded(sys.stdin.buffer.read(MAX_BODY + 1), "stdin")


def _decoded(data: bytes, what: str) -> str:
    if len(data) > MAX_BODY:
        raise TooLarge(
            f"{what} has more than {MAX_BODY:,} bytes", hint="Split it, or keep it as a file and link to it."
        )
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidFile(f"{what} is not UTF-8: byte {error.start}", hint="Convert it to UTF-8 first.") from None


# --- The editor -------------------------------------------------------------------------------------------------


def edit_memory(root: str, identifier: str, reason: str | None, *, as_json: bool) -> Json | None:
    """Let the user edit a memory's file; None when nothing was changed.

    The copy lies in the home, outside the repo, readable by this user alone. It is kept whenever the hub does not
    take it, and the error says where.

    Raises:
        HubRefused: the memory is not there, has changed meanwhile, or the hub does not take the text.
        InvalidFile, InvalidInput, StorageError: no editor, or it failed, or what it left is not UTF-8.
    """
    with open_hub(root) as hub:
        memory = hub.call("read", id=identifier)
    before: bytes = memory["text"].encode("utf-8")
    copy = _make_copy(Home(root).root / "edits", f"{memory['id'].lower()}-", before)
    _run_editor(copy, to_stderr=as_json)
    try:
        after = copy.read_bytes()
    except OSError as error:
        raise StorageError(f"the edited copy {str(copy)!r} cannot be read: {error.strerror}") from None
    if after == before:
        _remove(copy)
        talk("nothing was changed")
        if as_json:
            print_json({"id": memory["id"], "version": memory["version"], "unchanged": True})
        return None
    try:
        text = after.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidFile(
            f"the edited text is not UTF-8: byte {error.start}", hint=_kept(copy), kept=str(copy)
        ) from None
    try:
        with open_hub(root) as hub:
            done = hub.call("replace_text", id=memory["id"], text=text, if_version=memory["version"], reason=reason)
    except HubRefused as refused:
        error = dict(refused.error)
        error["hint"] = " ".join(filter(None, [error.get("hint"), _kept(copy)]))
        error["details"] = {**(error.get("details") or {}), "kept": str(copy)}
        raise HubRefused(error) from None
    except BaseException:
        talk(f"note: {_kept(copy)}")
        raise
    _remove(copy)
    return done


def _kept(copy: Path) -> str:
    return f"Your edited copy is kept in {str(copy)!r}."


def _make_copy(folder: Path, prefix: str, data: bytes) -> Path:
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        handle, name = tempfile.mkstemp(suffix=".md", prefix=prefix, dir=folder)  # mode 0600
        with os.fdopen(handle, "wb") as file:
            file.write(data)
    except OSError as error:
        raise StorageError(f"cannot write a copy to edit in {str(folder)!r}: {error.strerror}") from None
    return Path(name)


def _remove(copy: Path) -> None:
    with contextlib.suppress(OSError):
        copy.unlink()
        copy.parent.rmdir()  # unless others are being edited


def _ignore(_number: int, _frame: FrameType | None) -> None:
    pass


def _run_editor(copy: Path, *, to_stderr: bool) -> None:
    wanted = os.environ.get("VISUAL") or os.environ.get("EDITOR")
    hint = "Set VISUAL or EDITOR to your editor's command, for example: export EDITOR=nano"
    try:
        editors = [shlex.split(wanted)] if wanted else [[name] for name in _EDITORS]
    except ValueError as error:
        _remove(copy)
        raise InvalidInput(f"the editor's command {wanted!r} cannot be read: {error}", hint=hint) from None
    # Ctrl-C is the editor's while it runs; a handler, unlike an ignored signal, is not handed down to it.
    before = signal.signal(signal.SIGINT, _ignore)
    try:
        for editor in editors:
            try:
                status = subprocess.call([*editor, str(copy)], stdout=sys.stderr if to_stderr else None)
            except OSError:
                continue
            break
        else:
            _remove(copy)
            raise InvalidInput(f"there is no editor {wanted or ' or '.join(_EDITORS)!r}", hint=hint)
    finally:
        signal.signal(signal.SIGINT, before)
    if status != 0:
        raise StorageError(
            f"the editor ended with status {status}, so nothing was saved", hint=_kept(copy), kept=str(copy)
        )


# --- Progress and sync ----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def progress(label: str) -> Generator[Step | None]:
    """A progress bar on stderr, where that is a terminal; yields what tells it (done, in all)."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console  # noqa: PLC0415 - 50 ms
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=None)

        def step(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield step


SyncName = Literal["pull", "push", "sync"]
_HOW_IT_ENDS = "`alg memory status` says how it ends."


def sync(
    root: str, name: SyncName, *, repo: str | None = None, project: str | None = None, wait: bool | None = None
) -> Json:
    """Pull or push or both, and return how the repo stands; anything short of success is raised.

    Args:
        repo, project: of several memory repos this one, or that of this project; default: all.
        wait: wait until it has ended; None: on a terminal.

    Raises:
        SyncError: the remote does not have everything after a push, or could not be merged after a pull.
        Unavailable: it takes long and goes on in the hub, also after Ctrl-C.
        HubRefused: the hub's own error.
    """
    from adaptive_llm_gateway.server._render import sync_answer_text  # noqa: PLC0415
    from adaptive_llm_gateway.server._render_sync import progress_text, standing_line, sync_text  # noqa: PLC0415

    chosen = {key: value for key, value in (("repo", repo), ("project", project)) if value}
    try:
        done = run_sync(root, name, wait=sys.stderr.isatty() if wait is None else wait, **chosen)
    except KeyboardInterrupt:
        raise Unavailable(f"the {name} goes on in the hub", hint=_HOW_IT_ENDS) from None
    facts = {key: value for key, value in done.items() if key != "hint"}
    if "repos" in done and (done["running"] or not all(_is_done(each, name) for each in done["repos"])):
        kind = Unavailable if done["running"] else SyncError
        raise kind(
            f"the {name} did not succeed for every repo:\n{sync_answer_text(done, name)}",
            hint="`alg memory status` says how each stands, `alg doctor` looks for the cause.",
            **facts,
        )
    if done["running"]:
        at = f" ({progress_text(done['progress'])})" if done["progress"] else ""
        raise Unavailable(
            f"the {name} takes long and goes on in the hub{at}; so far: {sync_text(done)}",
            hint=_HOW_IT_ENDS,
            **facts,
        )
    if "repos" not in done and not _is_done(done, name):
        hint = (
            "`alg init --remote URL` names one."
            if done["state"] == "no_remote"
            else done["hint"] or "`alg doctor` looks for the cause."
        )
        raise SyncError(f"the {name} did not succeed: {standing_line(done)}", hint=hint, **facts)
    return done


_LONGEST_WAIT = 24 * 3600.0


def run_sync(root: str, name: SyncName, *, wait: bool, **chosen: Any) -> Json:
    """Have the hub pull or push, and show how far it is where stderr is a terminal; the hub's answer."""
    seconds = _LONGEST_WAIT if wait else None
    with _sync_progress() as show:
        return call(root, name, on_step=show, wait=seconds, steps=show is not None, **chosen)


@contextlib.contextmanager
def _sync_progress() -> Generator[Callable[[Json], None] | None]:
    """A line on stderr, where that is a terminal, that says how far a pull or push is."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console  # noqa: PLC0415 - 50 ms
    from rich.text import Text  # noqa: PLC0415

    from adaptive_llm_gateway.server._render_sync import progress_text  # noqa: PLC0415

    with Console(stderr=True).status("") as line:

        def show(step: Json) -> None:
            line.update(Text(progress_text(step)))

        yield show


def _is_done(standing: Json, name: SyncName) -> bool:
    """Whether that is what a pull or push is to lead to."""
    unfinished = ("failed", "diverged", "no_remote", "behind", *(("pending",) if name != "pull" else ()))
    return not isinstance(standing.get("error"), dict) and standing["state"] not in unfinished
