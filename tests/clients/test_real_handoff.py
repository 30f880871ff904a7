"""The handoff, with the programs people use: Claude Code leaves work on one machine, Codex takes it up on another.

Each machine has its own home, hub, memory repo and clone of the work; the memories' bare remote is all that the hubs
share. Both are the real command-line programs; only the models behind them are scripted (`fake_models.py`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Person
    from fake_models import Arguments, FakeModels, Turn

    People = tuple[Person, Person]

LOG = (
    "Goal: ship the quokka build every second Tuesday.\n\n"
    "Decision: the calendar is in train.py, because the build server reads nothing else.\n\n"
    "Next step: write tests/test_train.py."
)
BEFORE = "print('quokka')\n"
AFTER = "print('quokka')\nprint('every second Tuesday')\n"
ULID = re.compile(r"\b[0-7][0-9A-HJKMNP-TV-Z]{25}\b")
TOOLS = {f"mcp__alg__handoff_{verb}" for verb in ("create", "list", "claim", "update", "complete", "release")}


def claude(person: Person, models: FakeModels, prompt: str, turn: Turn, *, wait: bool = False) -> Turn:
    """One run of Claude Code, to its scripted end."""
    answer = person.claude(models, prompt, turn, wait=wait)
    assert answer["result"] == turn.closing, answer
    return turn


def codex(person: Person, models: FakeModels, prompt: str, turn: Turn) -> Turn:
    """One run of Codex, to its scripted end."""
    told = person.codex(models, prompt, turn)
    assert turn.closing in told, told
    return turn


def id_in(text: str, before: str = "") -> str:
    """The first id in a text that stands behind `before`."""
    found = re.search(f"{before}({ULID.pattern})", text)
    if found is None:
        raise LookupError(f"no id behind {before!r} in {text!r}")
    return found[1]


def shown(person: Person, id: str) -> dict[str, Any]:
    return person.alg("handoff", "show", id)


@pytest.fixture(scope="module")
def people(two_people: People, tmp_path_factory: pytest.TempPathFactory) -> People:
    """Somebody with Claude Code, who has changed the work, and somebody with Codex."""
    remotes = tmp_path_factory.mktemp("remotes")
    memory, work = remotes / "memory.git", remotes / "work.git"
    for person, client in zip(two_people, ("claude-code", "codex"), strict=True):
        home = person.home / ".adaptive-llm-gateway"
        home.mkdir(mode=0o700)
        (home / "config.yaml").write_text(f"sync:\n  remote: {memory}\n", encoding="utf-8")
        if not work.exists():
            for bare in (memory, work):
                person.git("init", "--quiet", "--bare", "--initial-branch=main", bare)
        person.git("clone", "--quiet", work, ".")
        if client == "claude-code":
            (person.work / "train.py").write_text(BEFORE, encoding="utf-8")
            person.git("add", "train.py")
            person.git("commit", "--quiet", "--message=Begin")
            person.git("push", "--quiet", "origin", "HEAD:main")
        person.shell(person.alg("path")["register"][client])
    (two_people[0].work / "train.py").write_text(AFTER, encoding="utf-8")
    return two_people


@pytest.fixture(scope="module")
def offered(people: People, models: FakeModels, fake_models_module: Any) -> Turn:
    """Claude Code kept a log of what it did, and left the rest in one short call."""

    def hand_over(results: Sequence[str]) -> dict[str, Any]:
        return {"session_id": id_in(results[0], "session_id "), "patch": True, "to": "codex"}

    log = {"text": LOG, "title": "Release train"}
    turn = fake_models_module.Turn(
        "alg", "memory_append_session", log, "Handed over.", then=[("handoff_create", hand_over)]
    )
    return claude(people[0], models, "Begin, and leave the rest to somebody else.", turn)


@pytest.fixture(scope="module")
def handoff_id(offered: Turn) -> str:
    return id_in(offered.results[1], "id ")


@pytest.fixture(scope="module")
def claimed(people: People, offered: Turn, models: FakeModels, fake_models_module: Any) -> Turn:
    """Codex looked for work, took it, read its patch and reported."""
    assert offered.results

    def the_patch(results: Sequence[str]) -> dict[str, Any]:
        return {"id": id_in(results[1], "memory_read ")}

    def report(results: Sequence[str]) -> dict[str, Any]:
        return {"id": id_in(results[1], "Handoff "), "text": "tests/test_train.py is begun."}

    then: Sequence[tuple[str, Arguments]] = [
        ("handoff_claim", {}),
        ("memory_read", the_patch),
        ("handoff_update", report),
    ]
    turn = fake_models_module.Turn("alg", "handoff_list", {}, "I am on it.", then=then)
    return codex(people[1], models, "Is there something to go on with?", turn)


@pytest.fixture(scope="module")
def refused(people: People, claimed: Turn, handoff_id: str, models: FakeModels, fake_models_module: Any) -> Turn:
    """Claude Code wanted it back while Codex held it."""
    assert claimed.results
    turn = fake_models_module.Turn("alg", "handoff_claim", {"id": handoff_id, "anyway": True}, "It is taken.")
    return claude(people[0], models, "Take it back.", turn)


@pytest.fixture(scope="module")
def finished(people: People, refused: Turn, models: FakeModels, fake_models_module: Any) -> Turn:
    """Codex, started anew, went on with what it held and finished it."""
    assert refused.results

    def result(results: Sequence[str]) -> dict[str, Any]:
        return {"id": id_in(results[0], "Handoff "), "result": "All tests pass, and train.py ships on Tuesdays."}

    turn = fake_models_module.Turn("alg", "handoff_claim", {}, "It is done.", then=[("handoff_complete", result)])
    return codex(people[1], models, "Go on.", turn)


def test_both_clients_offer_their_model_the_tools_of_handoffs(offered: Turn, claimed: Turn) -> None:
    assert offered.offered >= TOOLS
    assert claimed.offered >= TOOLS


def test_claude_code_hands_its_session_over_in_one_call(people: People, offered: Turn, handoff_id: str) -> None:
    _, told = offered.results
    assert told.startswith("Offered handoff "), told
    assert "pushed" in told
    offer = shown(people[0], handoff_id)
    assert offer["session_id"] == id_in(offered.results[0], "session_id ")
    assert "every second Tuesday" in offer["objective"]
    assert "tests/test_train.py" in offer["next_action"]
    assert offer["work"]["directory"] == str(people[0].work)
    assert offer["work"]["commit"] == people[0].git("rev-parse", "HEAD").strip()
    assert offer["work"]["dirty"] == ["M train.py"]


def test_codex_on_the_other_machine_finds_it_and_claims_it_without_an_id(claimed: Turn, handoff_id: str) -> None:
    listed, package, *_ = claimed.results
    assert handoff_id in listed
    assert f"Handoff {handoff_id} is yours" in package


def test_the_package_says_what_is_to_be_done_and_how_the_work_stands(claimed: Turn, people: People) -> None:
    package = claimed.results[1]
    sections = dict(re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", package, re.MULTILINE | re.DOTALL))
    assert "every second Tuesday" in sections["Objective"]
    assert "tests/test_train.py" in sections["Next action"]
    assert people[0].git("rev-parse", "HEAD").strip() in sections["Work"]
    assert "M train.py" in sections["Work"]
    assert "because the build server reads nothing else" in package
    assert "come as a patch of" in package
    assert "applies" in sections["Patch"]


def test_the_patch_that_codex_reads_brings_the_change_that_was_never_committed(claimed: Turn, people: People) -> None:
    fenced = re.search(r"^```diff\n(.*?)^```$", claimed.results[2], re.MULTILINE | re.DOTALL)
    assert fenced is not None, claimed.results[2]
    patch = people[1].home / "work.patch"
    patch.write_text(fenced[1], encoding="utf-8")
    file = people[1].work / "train.py"
    assert file.read_text(encoding="utf-8") == BEFORE
    people[1].git("apply", patch)
    assert file.read_text(encoding="utf-8") == AFTER


def test_while_codex_holds_it_claude_code_is_refused_by_name_and_time(
    refused: Turn, people: People, handoff_id: str
) -> None:
    (told,) = refused.results
    claim = next(step for step in shown(people[0], handoff_id)["steps"] if step["event"] == "claim")
    assert "codex" in told
    assert claim["time"] in told


def test_codex_started_anew_goes_on_with_what_it_held(finished: Turn, handoff_id: str) -> None:
    package, told = finished.results
    assert f"Handoff {handoff_id} is yours" in package
    assert "tests/test_train.py is begun." in package
    assert "Finished handoff " in told


def test_both_machines_say_that_codex_finished_it(finished: Turn, people: People, handoff_id: str) -> None:
    assert finished.results
    first, second = (shown(person, handoff_id) for person in people)
    assert first["steps"] == second["steps"]
    assert first["by"]["hub"] != first["ended"]["by"]["hub"]
    for handoff in (first, second):
        assert handoff["state"] == "done"
        assert handoff["by"]["client"] == "claude-code"
        assert handoff["ended"]["by"]["client"].startswith("codex")
        assert handoff["ended"]["text"].strip() == "All tests pass, and train.py ships on Tuesdays."
        assert handoff["claim"]["term"] == 1
        assert handoff["damage"] == []
        assert {step["standing"] for step in handoff["steps"]} == {"counts"}


def test_nobody_can_claim_what_is_done(
    finished: Turn, people: People, handoff_id: str, models: FakeModels, fake_models_module: Any
) -> None:
    assert finished.results
    turn = fake_models_module.Turn("alg", "handoff_claim", {"id": handoff_id}, "It is done already.")
    (told,) = claude(people[0], models, "Take it up.", turn).results
    assert "codex" in told
    assert shown(people[0], handoff_id)["ended"]["time"] in told


def test_git_log_tells_the_story_on_both_machines(finished: Turn, people: People, handoff_id: str) -> None:
    assert finished.results
    handoff = shown(people[0], handoff_id)
    told = ["handoff", *(step["event"] for step in handoff["steps"])]
    by = [handoff["by"], *(step["by"] for step in handoff["steps"])]
    for person in people:
        repo = person.alg("path")["memory"]
        log = person.git("-C", repo, "log", "--reverse", "--format=%an%n%s", "--", "handoffs").splitlines()
        assert log[::2] == [party["client"] for party in by]
        assert all("ship the quokka" in subject for subject in log[1::2])
        assert [word for word, subject in zip(told, log[1::2], strict=True) if word not in subject] == []


def test_claude_codes_command_of_the_prompt_resume_claims_and_hands_over_the_package(
    finished: Turn, people: People, models: FakeModels, fake_models_module: Any
) -> None:
    assert finished.results
    mine = people[1].alg("handoff", "create", "Write the notes of the release", "--next", "Read CHANGELOG.md")["id"]
    result = {"id": mine, "result": "They are written."}
    turn = fake_models_module.Turn("alg", "handoff_complete", result, "They are written.")
    assert people[0].alg("hub", "status")["pid"]
    claude(people[0], models, "/mcp__alg__resume", turn, wait=True)
    assert f"Handoff {mine} is yours" in turn.told
    assert "Write the notes of the release" in turn.told
    assert "Read CHANGELOG.md" in turn.told
    for person in people:
        done = shown(person, mine)
        assert (done["state"], done["ended"]["by"]["client"]) == ("done", "claude-code")
