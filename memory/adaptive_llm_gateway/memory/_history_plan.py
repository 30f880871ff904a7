"""What to consider when a repo's history has secrets: steps, from what a scan of it found. Nothing is carried out.

No step has a secret, and none is a command that could be run as it stands: what it would take away is for a person to
name.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from adaptive_llm_gateway.memory._history_scan import HistoryReport, HistorySecret
from adaptive_llm_gateway.memory._rotation import rotation_of


@dataclass(frozen=True, slots=True)
class PlanStep:
    """One step to consider: its title, then its points in order."""

    title: str
    points: tuple[str, ...]


def plan_history(report: HistoryReport) -> tuple[PlanStep, ...]:
    """The steps to consider; none where nothing was found."""
    secrets = report.secrets
    if not secrets:
        return ()
    steps = [_rotate(secrets)]
    if not any(secret.stands != "loose" for secret in secrets):
        steps.append(_forget_loose(report))
    else:
        if not any(secret.at_remote for secret in secrets):
            steps.append(_not_pushed(report))
        steps += _rewrite(report)
    return (*steps, _verify(report), _allow(secrets))


def _rotate(secrets: Sequence[HistorySecret]) -> PlanStep:
    points = [
        "Do this first, whatever follows: whoever could read the repo, a clone, a backup or a remote may have them, "
        "and no rewriting takes them back. Once they are worthless, the rest is tidying and can be left."
    ]
    ways: dict[str, list[str]] = {}
    for secret in secrets:
        way = rotation_of(secret.kind)
        text = way.how + (f" {way.page}" if way.page else "")
        ways.setdefault(text, []).append(f"{secret.kind} {secret.preview} ({secret.fingerprint})")
    points += [f"{', '.join(named[:5])}{_more(named, 5)}: {text}" for text, named in ways.items()]
    return PlanStep("Make them worthless", tuple(points))


def _forget_loose(report: HistoryReport) -> PlanStep:
    return PlanStep(
        "Have git forget what nothing leads to",
        (
            "No branch, tag or other reference leads to them: they were staged once, or are left from a commit that "
            "was replaced. git drops such objects by itself when its logs of references no longer name them.",
            f"At once: in {_shown(report.path)}, `git reflog expire` for what is older than <when>, then `git gc` with "
            "`--prune=<when>`. Whatever else only the logs lead to is gone with it, so make a copy before "
            "(`git clone --mirror`).",
        ),
    )


def _not_pushed(report: HistoryReport) -> PlanStep:
    known = (
        "As far as this repo was told, no remote has them."
        if report.remotes
        else "This repo has no remote, so only its copies have them."
    )
    return PlanStep(
        "If they were never pushed",
        (
            f"{known} Then only this clone has to be rewritten; nobody else has anything to do.",
            "Where they are in the last commits alone, the simplest way is `git rebase --interactive <commit before "
            "the first one>`: mark the commits to `edit`, take the secret out of the files, and go on. In a memory "
            "repo stop the hub before, and start it after.",
        ),
    )


def _rewrite(report: HistoryReport) -> list[PlanStep]:
    repo = _shown(report.path)
    oldest = min(
        (secret.first for secret in report.secrets if secret.first is not None),
        key=lambda note: note.date,
        default=None,
    )
    since = f" from {oldest.id[:12]} ({oldest.date}) on" if oldest is not None else ""
    in_files = any(secret.stands == "files" for secret in report.secrets)
    before = [
        f"Every commit{since} gets another id. So: agree on a time with everybody who has a clone, have each push what "
        "waits, and end open handoffs: they name commits that will be gone.",
        "Stop the hub on every machine that has a clone (`alg hub stop`), and let no client start it until the end.",
        f"Keep a copy: `git bundle create <file> --all` in {repo}, or `git clone --mirror {repo} <folder>`. It has the "
        "secrets: keep it where nobody else comes, and delete it when all is well.",
    ]
    if in_files:
        before.insert(
            0,
            "Take them out of the files first, as any edit, and commit that: the newest commit of a branch still has "
            "one or more of them.",
        )
    rewrite = [
        "git-filter-repo does it (https://github.com/newren/git-filter-repo; `pip install git-filter-repo`). Work in a "
        "fresh clone of its own (`git clone --no-local <repo> <new folder>`), as it demands; fetch into it every "
        "branch and tag that has to stay. It takes the remote out of the clone's settings, so that nothing is pushed "
        "by mistake: name it again with `git remote add`.",
        "It needs a file of replacements, which has the secrets in it. Make it with an editor, outside of every repo "
        "and of synced folders, for you alone (`umask 077` before): an editor leaves nothing in the shell's history, "
        "`echo` would. One line for each: the secret, `==>`, and what is to stand in its place.",
        "Files: `git filter-repo --replace-text <replacements>`. Messages of commits and tags: the same with "
        "`--replace-message <replacements>`; both can be given at once.",
    ]
    if any(path.endswith("(its name)") for secret in report.secrets for path in secret.paths):
        rewrite.append("Names of files or folders: `--path-rename <old>:<new>`, once for each.")
    rewrite += [
        "Only text is replaced. A secret in UTF-16, in an archive or in another binary file stays: take such a file "
        "out of the whole history with `--invert-paths --path <path>`.",
        "Delete the file of replacements at once when you are done.",
    ]
    spread = [
        "Scan the rewritten clone (`alg secrets scan --history <new folder>`) before anything is pushed.",
        "The remote takes rewritten branches only by force. For each branch, with its id as the remote has it now: "
        "`git push --force-with-lease=<branch>:<id at the remote> <remote> <branch>`; tags likewise. Have whoever "
        "manages the remote allow it for that moment where branches are protected, and forbid it again.",
        "What else keeps the old commits: forks, pull and merge requests, caches and backups of the remote. The "
        "service has to drop them: GitHub's way is described at "
        "https://docs.github.com/en/authentication/keeping-your-account-and-data-secure/removing-sensitive-data-from-a-repository.",
        "Every other clone is made anew: move the old folder away, clone again, delete the old one. A clone that "
        "merely pulls merges the old commits with the new ones and pushes all of it back. For a memory repo: with the "
        "hub stopped, clone the remote to where the repo was; the hub reads everything again when it starts.",
        "A clone that has to stay in place keeps the old commits in its logs and packs: `git reflog expire` and "
        "`git gc` with `--prune=<when>` there, once its branches are at the new commits.",
    ]
    return [
        PlanStep("Before rewriting", tuple(before)),
        PlanStep("Rewrite", tuple(rewrite)),
        PlanStep("Bring it to the remote and to every clone", tuple(spread)),
    ]


def _verify(report: HistoryReport) -> PlanStep:
    return PlanStep(
        "Look again",
        (
            f"`alg secrets scan --history {_shown(report.path)}` ends with exit code 0 and finds nothing, in this "
            "clone and in every other one; `alg doctor` no longer tells of any.",
        ),
    )


def _allow(secrets: Sequence[HistorySecret]) -> PlanStep:
    named = [secret.fingerprint for secret in secrets]
    return PlanStep(
        "If one is no secret",
        (
            f'Allow it by its fingerprint, with a reason: `alg secrets allow {named[0]} --reason "<why it is none>"`. '
            "It is not told of any more. The same may be done with one that is worthless by now and may stay.",
        ),
    )


def _more(named: Sequence[str], shown: int) -> str:
    return f" and {len(named) - shown} more" if len(named) > shown else ""


def _shown(path: str) -> str:
    return shlex.quote(path)
