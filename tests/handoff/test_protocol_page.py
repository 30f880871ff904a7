"""The page of the protocol is true: its examples are what is read, and its commands claim with plain git."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from handoff_made import BERT, CARL, NOON, Story, at, front_of
from jsonschema import Draft202012Validator

from adaptive_llm_gateway.handoff import (
    EVENT_KINDS,
    STATES,
    Claim,
    Event,
    Handoff,
    Offer,
    event_fields,
    fold,
    gather,
    handoff_schema,
    read_record,
    title_of,
)
from adaptive_llm_gateway.memory import Author, Record, TypeRegistry
from adaptive_llm_gateway.memory._frontmatter import Document

PAGE = (Path(__file__).resolve().parents[2] / "docs/handoff-protocol.md").read_text(encoding="utf-8")
EXAMPLES: dict[str, str] = dict(
    re.findall(r"^`(handoffs/\S+\.md)`[^\n]*\n\n```markdown\n(.*?)^```$", PAGE, re.M | re.S)
)
COMMANDS = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.M | re.S)
WAIT = 60
TYPES = TypeRegistry()
SCHEMA: Any = Draft202012Validator(handoff_schema())


def record(path: str, data: bytes) -> Record:
    document = Document.parse(data)
    return TYPES.to_record(document, path=path, version="0" * 40, mtime_ns=0, size=len(data))


def told(files: dict[str, bytes], now: datetime) -> Handoff:
    def over(claim: Claim) -> bool:
        return now > claim.lease_until

    (found,), strays = gather(record(path, data) for path, data in files.items())
    assert not strays
    return fold(found.offer, found.events, found.damage, now=now, lease_over=over)


# --- examples -----------------------------------------------------------------------------------------------------


def test_the_examples_are_read_as_the_page_says_and_the_schema_allows_them() -> None:
    paths = list(EXAMPLES)
    assert len(paths) == 4
    for path, text in EXAMPLES.items():
        SCHEMA.validate(dict(Document.parse(text.encode()).fields))
        assert isinstance(read_record(record(path, text.encode())), Event if "/w9fjkfvc/" in path else Offer)
    files = {path: text.encode() for path, text in EXAMPLES.items()}
    states = [told({path: files[path] for path in paths[:count]}, at(95)).state for count in range(1, 5)]
    assert states == ["offered", "offered", "claimed", "done"]  # at 13:35, when the lease of 12:30 is over
    last = told(files, at(95))
    assert (last.step, last.term, last.offer.to) == (3, 1, "codex")
    assert [step.standing for step in last.steps] == ["counts"] * 3


@pytest.mark.parametrize("path", EXAMPLES)
def test_the_example_of_a_file_is_what_a_hub_writes(path: str) -> None:
    shown = Document.parse(EXAMPLES[path].encode())
    found = read_record(record(path, EXAMPLES[path].encode()))
    if isinstance(found, Event):
        assert {name: shown.fields[name] for name in event_fields(found)} == event_fields(found)
        assert shown.fields["title"] == title_of(found.kind, "Mend the parser", found.by)
        assert path.endswith(f"/{found.step:04d}-{found.kind}-{found.id[-8:].lower()}.md")


def test_the_page_names_every_state_and_every_event() -> None:
    for section, names in (("## 2. States", STATES), ("## 3. Events", EVENT_KINDS)):
        table = PAGE.split(section)[1].split("\n\n")[1]
        assert set(re.findall(r"^\| `(\w+)` \|", table, re.M)) == set(names)


# --- plain git ----------------------------------------------------------------------------------------------------


class Clone:
    """Somebody with a clone of the remote, git, and nothing else."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def git(self, *words: str) -> str:
        done = subprocess.run(
            ["git", *words], cwd=self.folder, capture_output=True, encoding="utf-8", timeout=WAIT, check=True
        )
        return done.stdout

    def shell(self, script: str, **given: str) -> subprocess.CompletedProcess[str]:
        lines = "".join(f"{name}='{value}'\n" for name, value in given.items())
        return subprocess.run(
            ["/bin/sh", "-c", f"set -e\n{lines}{script}"],
            cwd=self.folder,
            capture_output=True,
            encoding="utf-8",
            timeout=WAIT,
            check=False,
        )

    def files(self) -> dict[str, bytes]:
        paths = self.git("ls-files", "handoffs").splitlines()
        return {path: (self.folder / path).read_bytes() for path in paths}

    def put(self, *events: Event) -> None:
        for event in events:
            file = self.folder / event.path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(text_of(event))
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "events")


def text_of(event: Event) -> bytes:
    return Document.new(front_of(event), event.text).render()


@pytest.fixture
def story() -> Story:
    return Story(to="codex")


@pytest.fixture
def clones(tmp_path: Path, story: Story) -> Sequence[Clone]:
    """Two clones of a remote that has the offer."""
    remote = tmp_path / "remote.git"
    subprocess.run(["git", "init", "-q", "--bare", remote], check=True, timeout=WAIT)
    found = [Clone(tmp_path / name) for name in ("one", "two")]
    for clone in found:
        subprocess.run(["git", "clone", "-q", remote, clone.folder], check=True, capture_output=True, timeout=WAIT)
    front = TYPES.from_call(
        type="handoff",
        title=story.offer.title,
        body="",
        id=story.offer.id,
        created=NOON,
        updated=NOON,
        author=Author("claude-code"),
        fields={"objective": "It parses.", "to": "codex"},
    )
    first = found[0]
    file = first.folder / story.offer.path
    file.parent.mkdir(parents=True)
    file.write_bytes(Document.new(front, "").render())
    first.git("add", "-A")
    first.git("commit", "-q", "-m", "offer")
    first.git("push", "-q", "origin", "main")
    found[1].git("pull", "-q", "origin", "main")
    return found


def test_of_two_who_claim_with_the_commands_of_the_page_one_holds_it_and_the_others_claim_is_nowhere(
    clones: Sequence[Clone], story: Story, tmp_path: Path
) -> None:
    (script,) = COMMANDS
    look, claim = re.split(r"^# Look .*\n", script, flags=re.M)
    bert, carl = story.claim(BERT, 1), story.claim(CARL, 2, term=1, step=1)
    for clone in clones:
        assert clone.shell(look).returncode == 0
    results: list[subprocess.CompletedProcess[str]] = []
    for clone, event in zip(clones, (carl, bert), strict=True):
        file = tmp_path / f"{event.id}.md"
        file.write_bytes(text_of(event))
        results.append(clone.shell(claim, claim=str(file), path=event.path))
    won, lost = results
    assert (won.returncode, lost.returncode) == (0, 1)
    assert "rejected" in lost.stderr
    for clone in clones:
        assert clone.shell(look).returncode == 0
        assert told(clone.files(), at(30)).holder == CARL
        assert bert.path not in clone.git("log", "--all", "--name-only")
        assert not clone.git("status", "--porcelain")
    assert clones[0].files() == clones[1].files()


def test_events_of_two_clones_merge_without_a_conflict_and_both_see_the_same(
    clones: Sequence[Clone], story: Story
) -> None:
    one, two = clones
    guess = story.claim(BERT, 1, provisional=True)
    one.put(guess, story.write("progress", BERT, 5, claim=guess.id, lease=60, text="begun"))
    other = story.claim(CARL, 3, term=1, step=1, provisional=True)
    two.put(other, story.write("done", CARL, 9, step=2, claim=other.id, text="finished"))
    one.git("push", "-q", "origin", "main")
    two.git("pull", "-q", "--no-rebase", "--no-edit", "origin", "main")
    two.git("push", "-q", "origin", "main")
    one.git("pull", "-q", "--ff-only", "origin", "main")
    assert one.files() == two.files()
    seen = [told(clone.files(), at(30)) for clone in clones]
    assert seen[0] == seen[1]
    assert (seen[0].state, seen[0].holder) == ("claimed", BERT)
    assert [step.standing for step in seen[0].steps] == ["counts", "void", "counts", "void"]


def test_unknown_fields_are_kept_in_the_file_and_ignored_by_the_fold(clones: Sequence[Clone], story: Story) -> None:
    claim = story.claim(BERT, 1)
    document = Document.parse(text_of(claim)).with_fields({"mood": {"of": ["a", 1]}})
    file = clones[0].folder / claim.path
    file.parent.mkdir(parents=True)
    file.write_bytes(document.render())
    clones[0].git("add", "-A")
    seen = told(clones[0].files(), at(30))
    assert seen.holder == BERT
    assert seen.claim is not None
    found = read_record(record(claim.path, document.render()))
    assert isinstance(found, Event)
    assert replace(found, version=claim.version) == claim
    assert b"mood" in file.read_bytes()
