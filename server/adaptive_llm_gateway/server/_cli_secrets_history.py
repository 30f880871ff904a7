"""`alg secrets scan --history`: secrets in all that git repos ever had, and the steps to consider."""

from __future__ import annotations

import contextlib
import os
import sys
import textwrap
from collections.abc import Callable, Generator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from adaptive_llm_gateway.core import (
    ALLOWANCES_FILE,
    ConfigError,
    Home,
    InvalidInput,
    NotFound,
    SecretScanner,
    counted,
    load_agreed,
    load_settings,
)
from adaptive_llm_gateway.server._cli_output import Json, Paint, emit, harmless, in_a_line, paint_for, talk
from adaptive_llm_gateway.server._cli_secrets import find_allowances
from adaptive_llm_gateway.server._cli_setup import memory_repo
from adaptive_llm_gateway.server._repos import configured_repos

if TYPE_CHECKING:
    from adaptive_llm_gateway.memory import CommitNote, HistoryReport, HistorySecret

_EXIT_FOUND = 5
_WIDTH = 110
_PATHS_SHOWN = 4


def run(root: str, paths: Sequence[Path], *, as_json: bool) -> int:
    """Scan the histories of these repos, by default of the memory repos, and say what to consider.

    Returns:
        The exit code: 5 when something is found.

    Raises:
        NotFound: one of the paths does not exist.
        InvalidInput: a path is in no git repo, or there is no memory repo.
        ConfigError: a file of allowances is not valid.
        StorageError: git failed.
    """
    from adaptive_llm_gateway.memory import scan_history  # noqa: PLC0415 - git

    plain = SecretScanner()
    reports: list[HistoryReport] = []
    for path in paths or _memory_repos(root):
        if not os.path.lexists(path):
            raise NotFound(f"there is no {str(path)!r}", hint="Name a git repo, or a folder in one.", path=str(path))
        allowances = find_allowances(path) or memory_repo(root) / ALLOWANCES_FILE
        scanner = plain.with_allowed(load_agreed(allowances))
        with _progress(path) as show:
            reports.append(scan_history(path, scanner, on_progress=show))
    emit(_as_json(reports), as_json=as_json, text=lambda paint: _as_text(reports, paint))
    if not as_json:
        _talk_about(reports)
    return _EXIT_FOUND if any(report.secrets for report in reports) else 0


def _memory_repos(root: str) -> list[Path]:
    home = Home(root)
    try:
        configured = [repo.path for repo in configured_repos(home, load_settings(home))]
    except ConfigError:
        configured = [home.memory]
    there = [path for path in configured if (path / ".git").exists()]
    if not there:
        raise InvalidInput(
            f"there is no memory repo at {str(configured[0])!r} yet", hint="Name a git repo, or run `alg init`."
        )
    return there


# --- Reports ----------------------------------------------------------------------------------------------------


def _as_json(reports: Sequence[HistoryReport]) -> Json:
    from adaptive_llm_gateway.memory import plan_history  # noqa: PLC0415

    return {
        "repos": [
            {
                "path": report.path,
                "remotes": list(report.remotes),
                "findings": [_finding_json(secret) for secret in report.secrets],
                "more_findings": report.more_secrets,
                "objects": report.objects,
                "commits": report.commits,
                "bytes": report.read_bytes,
                "skipped": [{"path": what, "problem": why} for what, why in report.skipped],
                "more_skipped": report.more_skipped,
                "plan": [{"title": step.title, "points": list(step.points)} for step in plan_history(report)],
            }
            for report in reports
        ]
    }


def _finding_json(secret: HistorySecret) -> Json:
    return {
        **{key: value for key, value in asdict(secret).items() if key not in ("paths", "branches")},
        "paths": list(secret.paths),
        "branches": list(secret.branches),
    }


def _as_text(reports: Sequence[HistoryReport], paint: Paint) -> str:
    from adaptive_llm_gateway.memory import plan_history  # noqa: PLC0415

    lines: list[str] = []
    for report in reports:
        if len(reports) > 1 and report.secrets:
            lines += [paint(f"In {in_a_line(report.path)}:", "bold"), ""]
        for secret in report.secrets:
            lines += [*_secret_lines(secret, paint), ""]
        steps = plan_history(report)
        if steps:
            lines.append(paint("Steps to consider", "bold") + " (nothing of this is done by itself)")
        for number, step in enumerate(steps, start=1):
            lines += ["", paint(f"{number}. {step.title}", "bold")]
            for point in step.points:
                lines += textwrap.wrap(
                    in_a_line(point),
                    _WIDTH,
                    initial_indent="   - ",
                    subsequent_indent="     ",
                    break_long_words=False,
                    break_on_hyphens=False,
                )
        if steps:
            lines.append("")
    return "\n".join(lines).rstrip("\n")


def _secret_lines(secret: HistorySecret, paint: Paint) -> list[str]:
    match secret.stands:
        case "files":
            stands = f"in the newest commit of {', '.join(secret.branches) or 'HEAD'}"
        case "history":
            stands = "in the history alone"
        case "loose":
            stands = "in the object store alone; no branch or tag leads to it"
    remote = "; at a remote, too" if secret.at_remote else ""
    lines = [
        f"{paint(secret.kind, 'red')} {secret.preview}  {paint(f'fingerprint {secret.fingerprint}', 'dim')}",
        f"  stands  {in_a_line(stands)}{remote}",
    ]
    for name, note in (("first", secret.first), ("last", secret.last)):
        if note is not None:
            lines.append(f"  {name:<7} {_note(note)}")
    more = f" and {len(secret.paths) - _PATHS_SHOWN} more" if len(secret.paths) > _PATHS_SHOWN else ""
    lines.append(f"  where   {', '.join(in_a_line(path) for path in secret.paths[:_PATHS_SHOWN])}{more}")
    return lines


def _note(note: CommitNote) -> str:
    return f"{note.id[:12]}  {note.date}  {in_a_line(note.author)}"


def _talk_about(reports: Sequence[HistoryReport]) -> None:
    for report in reports:
        for what, why in report.skipped:
            talk(f"note: not read: {harmless(what)}: {why}")
        if report.more_skipped:
            talk(f"note: not read: {counted(report.more_skipped, 'more object')}")
        if report.more_secrets:
            talk(f"note: {counted(report.more_secrets, 'more finding')} beyond these secrets")
        read = f"{counted(report.objects, 'object')}, {counted(report.commits, 'commit')}"
        found = f"{counted(len(report.secrets), 'secret')} found" if report.secrets else "nothing found"
        talk(f"{in_a_line(report.path)}: {read}, {report.read_bytes / 1e6:,.1f} MB scanned, {found}")


@contextlib.contextmanager
def _progress(path: Path) -> Generator[Callable[[int, int], None] | None]:
    """A line on stderr, where that is a terminal, that says how far it is."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console  # noqa: PLC0415 - 50 ms
    from rich.text import Text  # noqa: PLC0415

    with Console(stderr=True, no_color=not paint_for(sys.stderr).on).status("") as line:
        shown = in_a_line(str(path))

        def show(done: int, total: int) -> None:
            line.update(Text(f"{shown}: {done:,} of {total:,} objects"))

        yield show
