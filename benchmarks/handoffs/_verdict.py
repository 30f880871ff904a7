"""Whether a race went as it must: judged by the files of both clones and by what every client was told."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from adaptive_llm_gateway.handoff import Handoff, fold, gather
from adaptive_llm_gateway.memory import Record, TypeRegistry
from adaptive_llm_gateway.memory._frontmatter import Document
from adaptive_llm_gateway.memory._repo import MemoryRepo

Answer = Literal["yours", "taken", "lost", "failed"]
"""`lost`: the hub died while it was asked. `failed`: anything else that is no answer."""
_WAIT = 120.0
_ID_AND_NAME = re.compile(r"handoff '(?P<id>[0-9A-Z]{26})' is taken: '?(?P<name>[\w-]+)")


@dataclass(frozen=True, slots=True)
class Told:
    """What one client was told when it asked for a handoff.

    Attributes:
        client: its name, which no other client of the race has.
        hub: the place of its home among the homes.
        ms: how long it waited.
    """

    client: str
    hub: int
    handoff: str
    answer: Answer
    text: str
    ms: float


def violations(
    repos: Sequence[Path], remote: Path, handoffs: Iterable[str], told: Iterable[Told], env: Mapping[str, str]
) -> list[str]:
    """What is not as it must be; empty when all is well. No hub runs, and both clones have been synchronised.

    Args:
        repos: the clones.
        remote: bare.
        handoffs: the ids of all that were raced for.
        env: of git.
    """
    wrong: list[str] = []
    expected = set(handoffs)
    folded = [_folded(repo) for repo in repos]
    wrong += _of_git([*repos, remote], env)
    for place, found in enumerate(folded):
        if found.keys() != expected:
            wrong.append(f"clone {place} has {len(found)} handoffs instead of {len(expected)}")
        for id in sorted(expected & found.keys()):
            wrong += [f"clone {place}: {problem}" for problem in _of_handoff(found[id])]
    first = folded[0]
    for place, found in enumerate(folded[1:], 1):
        wrong += [
            f"handoff {id} folds otherwise in clone {place} than in clone 0"
            for id in sorted(expected)
            if found.get(id) != first.get(id)
        ]
    return wrong + _of_answers(first, told)


def _of_git(repos: Sequence[Path], env: Mapping[str, str]) -> list[str]:
    wrong: list[str] = []
    trees: set[str] = set()
    for repo in repos:
        code, out = _git(repo, env, "fsck", "--full", "--no-dangling", "--no-progress")
        if code or out.strip():
            wrong.append(f"git fsck of {repo.name}: exit code {code}: {out.strip()[:500]}")
        trees.add(_git(repo, env, "rev-parse", "HEAD^{tree}")[1].strip())
        if repo.suffix == ".git":
            continue
        _, out = _git(repo, env, "status", "--porcelain")
        if out.strip():
            wrong.append(f"git status of {repo.parent.name}: {out.strip()[:500]}")
        if left := [name for name in ("MERGE_HEAD", "index.lock", "HEAD.lock") if (repo / ".git" / name).exists()]:
            wrong.append(f"{', '.join(left)} left in {repo.parent.name}")
    if len(trees) != 1:
        wrong.append(f"the clones and the remote have {len(trees)} different trees")
    return wrong


def _of_handoff(handoff: Handoff) -> list[str]:
    id = handoff.offer.id
    wrong = [f"handoff {id} is damaged: {item.path}: {item.problem}" for item in handoff.damage]
    if handoff.state != "claimed" or handoff.holder is None:
        wrong.append(f"handoff {id} is {handoff.state} and held by {handoff.holder}")
    # A claim that the remote did not take is in nobody's history, so that there is no more than one file of a claim.
    claims = [step for step in handoff.steps if step.event.kind == "claim"]
    if len(claims) != 1:
        wrong.append(f"handoff {id} has {len(claims)} claims: {[(c.event.by.client, c.standing) for c in claims]}")
    wrong += [f"a claim of handoff {id} is {c.standing}: {c.note}" for c in claims if c.standing != "counts"]
    wrong += [f"a claim of handoff {id} is provisional" for c in claims if c.event.provisional]
    return wrong


def _of_answers(found: Mapping[str, Handoff], told: Iterable[Told]) -> list[str]:
    """What was told, held against who holds it in the end."""
    wrong: list[str] = []
    last: dict[tuple[str, str], Told] = {}
    for one in told:
        last[one.client, one.handoff] = one
        handoff = found.get(one.handoff)
        holder = handoff.holder.client if handoff is not None and handoff.holder is not None else None
        if one.answer == "yours" and one.client != holder:
            wrong.append(f"{one.client} was told that handoff {one.handoff} is its own, and {holder} holds it")
        if one.answer == "taken":
            if one.client == holder:
                wrong.append(f"{one.client} holds handoff {one.handoff} and was told otherwise: {one.text}")
            named = _ID_AND_NAME.search(one.text)
            if named is None or (named["id"], named["name"]) != (one.handoff, holder):
                wrong.append(f"{one.client} was told another holder of {one.handoff} than {holder}: {one.text}")
    wrong += [
        f"{one.client} never got an answer for handoff {one.handoff}: {one.answer}: {one.text}"
        for one in last.values()
        if one.answer not in ("yours", "taken")
    ]
    holders = {one.handoff: one.client for one in told if one.answer == "yours"}
    wrong += [f"nobody was told to hold handoff {id}" for id in sorted(found.keys() - holders.keys())]
    return wrong


def _folded(repo: Path) -> dict[str, Handoff]:
    """The handoffs of the files that lie in the working tree, by id."""
    now = datetime.now(UTC)
    files, strays = gather(_records(repo))
    if strays:
        raise RuntimeError(f"files of no handoff in {repo}: {strays}")
    return {
        each.offer.id: fold(each.offer, each.events, each.damage, now=now, lease_over=lambda _: False) for each in files
    }


def _records(repo: Path) -> list[Record]:
    types, _ = TypeRegistry.load(repo / "types")
    found: list[Record] = []
    for parent, _, names in os.walk(repo / "handoffs"):
        for name in sorted(names):
            path = Path(parent, name)
            where, data = path.relative_to(repo).as_posix(), path.read_bytes()
            if path.suffix != ".md" or name.startswith("."):
                raise RuntimeError(f"{where} lies among the handoffs")
            found.append(
                types.to_record(
                    Document.parse(data, where=where),
                    path=where,
                    version=MemoryRepo.blob_id(data),
                    mtime_ns=0,
                    size=len(data),
                )
            )
    return found


def _git(repo: Path, env: Mapping[str, str], *arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        ["git", "-C", str(repo), *arguments],
        env=dict(env),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=_WAIT,
        check=False,
    )
    return done.returncode, done.stdout
