"""The operations over handoffs in process: what cannot be brought about from outside of the hub."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from adaptive_llm_gateway import handoff
from adaptive_llm_gateway.core import HandoffSettings, InvalidInput, NotHolder, Trust, Unavailable
from adaptive_llm_gateway.memory import AppendSession, Author, MemoryStore, WriteMemory
from adaptive_llm_gateway.memory.testing import temporary_store
from adaptive_llm_gateway.server._handoff_json import MOST_DAMAGE
from adaptive_llm_gateway.server._handoff_operations import HandoffOperations
from adaptive_llm_gateway.server._operations import Operations
from adaptive_llm_gateway.server._render_handoff import claimed_text

ME, CODEX = Author("claude-code"), Author("codex")


class Run(Protocol):
    """Runs a coroutine with the operations over one store, configured as told."""

    def __call__(self, work: Callable[[HandoffOperations], Awaitable[Any]], **settings: Any) -> Any: ...


@pytest.fixture
def store(tmp_path: Path) -> Iterator[MemoryStore]:
    with contextlib.ExitStack() as stack:
        yield stack.enter_context(temporary_store(tmp_path / "store"))


@pytest.fixture
def run(store: MemoryStore) -> Run:
    def carry_out(work: Callable[[HandoffOperations], Awaitable[Any]], **settings: Any) -> Any:
        async def main() -> Any:
            configured = HandoffSettings.model_validate(settings)
            memory = Operations(lambda: store, commit_wait=30.0)
            operations = HandoffOperations(memory, configured, is_connected=lambda _: False)
            try:
                result = await work(operations)
                json.dumps(result, allow_nan=False)
                return result
            finally:
                operations.close()

        return asyncio.run(main())

    return carry_out


def test_a_claim_whose_package_fails_is_told_with_what_the_handoff_itself_says(
    run: Run, store: MemoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write(WriteMemory(ME, type="note", title="Quotes", body="Quotes nest in the parser.\n"))
    service = handoff.Handoffs(store)
    offer = handoff.NewOffer("Have quotes nest in the parser", next_action="Write a test", patch="--- a\n+++ b\n")
    id_ = service.create(offer, handoff.Party("claude-code")).handoff.offer.id

    def fails(*_: object, **__: object) -> Any:
        raise Unavailable("the vectors are not there")

    def breaks(*_: object, **__: object) -> Any:
        raise KeyError("oid")

    monkeypatch.setattr(MemoryStore, "ask", fails)
    monkeypatch.setattr(handoff, "would_apply", breaks)
    done = run(lambda operations: operations.claim(id_, author=CODEX, directory=str(tmp_path)))
    assert (done["state"], done["holder"]["client"]) == ("claimed", "codex")
    text = claimed_text(done)
    for part in (f"Handoff {id_} is yours", "Have quotes nest", "Write a test", "not tried: KeyError"):
        assert part in text
    assert "note: without recalled memories, which could not be looked up: the vectors are not there" in text
    assert done["patch"]["applies"] is None
    monkeypatch.undo()
    whole = run(lambda operations: operations.claim(id_, author=CODEX, directory=str(tmp_path)))
    assert "Quotes nest in the parser." in whole["text"]
    assert not any("recalled" in note for note in whole["notes"])


@pytest.mark.parametrize(
    ("configured", "asked", "log", "trust"),
    [
        ({}, None, Trust.PUBLIC, "internal"),
        ({"checkpoint_trust": "confidential"}, None, Trust.INTERNAL, "confidential"),
        ({"checkpoint_trust": "confidential"}, "public", Trust.PUBLIC, "public"),
        ({}, "confidential", Trust.INTERNAL, "confidential"),
        ({}, "public", Trust.SECRET, "secret"),
    ],
)
def test_a_checkpoint_has_the_trust_that_is_asked_for_or_configured_and_never_less_than_its_log(
    run: Run, store: MemoryStore, configured: dict[str, str], asked: str | None, log: Trust, trust: str
) -> None:
    session = store.write(AppendSession(ME, "Goal: have quotes nest.", title="Parser")).id
    store.write(WriteMemory(ME, id=session, trust=log))
    done = run(lambda operations: operations.checkpoint(author=ME, session_id=session, trust=asked), **configured)
    assert (done["trust"], done["checkpoint"]) == (trust, True)
    with pytest.raises(InvalidInput, match="'trust' is 'top'"):
        run(lambda operations: operations.checkpoint(author=ME, session_id=session, trust="top"))


def test_a_session_that_was_begun_by_a_command_leaves_a_checkpoint_too(run: Run, tmp_path: Path) -> None:
    transcript = tmp_path / "5f1c.jsonl"
    message = {"role": "assistant", "content": [{"type": "text", "text": "The quotes nest now."}]}
    transcript.write_text(json.dumps({"type": "assistant", "sessionId": "5f1c", "message": message}) + "\n", "utf-8")
    done = run(lambda operations: operations.checkpoint(author=ME, transcript=str(transcript)))
    assert done["objective"] == "Go on with session 5f1c"
    told = run(lambda operations: operations.show(done["id"]))
    assert "The quotes nest now." in told["body"]


def test_a_checkpoint_by_hand_takes_the_place_of_the_hooks(run: Run, tmp_path: Path) -> None:
    transcript = tmp_path / "5f1c.jsonl"
    asked = {"type": "user", "sessionId": "5f1c", "message": {"role": "user", "content": "Nest quotes"}}
    transcript.write_text(json.dumps(asked) + "\n", "utf-8")
    path = str(transcript)
    hooks = run(lambda operations: operations.checkpoint(author=ME, transcript=path, client="codex"))
    by_hand = run(lambda operations: operations.checkpoint(author=ME, transcript=path))
    assert (by_hand["id"], by_hand["replaced"]) == (hooks["id"], True)


def test_of_a_handoff_with_many_damaged_files_some_are_named_and_all_are_counted(run: Run, store: MemoryStore) -> None:
    made = run(lambda operations: operations.create("Have quotes nest", author=ME))
    folder = (store.repo.path / made["path"]).parent / made["id"][-8:].lower()
    folder.mkdir()
    for number in range(MOST_DAMAGE + 5):
        (folder / f"{number}.md").write_text("no front matter\n", "utf-8")
    store.reindex()
    told = run(lambda operations: operations.show(made["id"]))
    assert (told["state"], told["damage_count"], len(told["damage"])) == ("damaged", MOST_DAMAGE + 5, MOST_DAMAGE)


@pytest.mark.parametrize("length", ["30m", "1y", "36H", "0d", "99999d"])
def test_a_length_that_is_none_says_what_one_is(run: Run, length: str) -> None:
    with pytest.raises(InvalidInput, match="'expires'") as caught:
        run(lambda operations: operations.create("Have quotes nest", author=ME, expires=length))
    assert "hours, days or weeks" in str(caught.value.hint)


def test_a_file_that_is_no_transcript_is_said_to_be_none(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "hostname"
    file.write_text("laptop\n", "utf-8")
    with pytest.raises(InvalidInput, match="says nothing of a session"):
        run(lambda operations: operations.checkpoint(author=ME, transcript=str(file)))


def test_an_error_that_comes_of_a_loss_tells_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    made = run(lambda operations: operations.create("Have quotes nest", author=ME))

    def lost(*_: object) -> list[str]:
        return ["the provisional claim lost to cursor"]

    monkeypatch.setattr(handoff.Handoffs, "lost", lost)
    with pytest.raises(NotHolder, match=r"nobody holds it.*; the provisional claim lost to cursor"):
        run(lambda operations: operations.update(made["id"], "half of it", author=ME))


def test_how_many_secrets_were_replaced_is_said(run: Run) -> None:
    secret = "ghp_" + "x7Kq2Lm9Pz4Rt6Wv8Yb1Nc3Df5Gh0Js2Ka4Q"
    made = run(lambda operations: operations.create(f"Use {secret}", state=f"{secret} works", author=ME, redact=True))
    assert made["notes"][-1].startswith("placeholders stand for 2 secrets")
    run(lambda operations: operations.claim(made["id"], author=ME))
    told = run(lambda operations: operations.update(made["id"], f"{secret} does not", author=ME, redact=True))
    assert told["notes"][-1].startswith("placeholders stand for 1 secret:")
    assert run(lambda operations: operations.update(made["id"], "nothing", author=ME, redact=True))["notes"] == []
