"""What is read from a client's hook and from its transcript, and what it comes to in a few lines.

The lines have the forms that Claude Code 2.1.330 and Codex 0.169 write; what they say was made up.
"""

from __future__ import annotations

import json
import os
import random
import re
import time
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive_llm_gateway.core import InvalidInput, NotFound, SecretScanner
from adaptive_llm_gateway.handoff._transcript import (
    HookInput,
    Todo,
    Transcript,
    TranscriptEntry,
    find_rollout,
    read_hook,
    read_transcript,
)
from adaptive_llm_gateway.handoff._transcript_lines import request_of
from adaptive_llm_gateway.handoff._transcript_summary import TranscriptSummary
from adaptive_llm_gateway.handoff._transcript_summary import summary_of as summary_with

POSIX = os.name == "posix"
SESSION = "35cf49ef-608f-494d-ac78-21fabfac32e0"
THREAD = "01a202df-b894-7be0-b2ed-610b032a02f0"
WORK = "/home/ada/parser"
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def redact(text: str) -> str:
    return SecretScanner().redact(text)[0]


def summary_of(transcript: Transcript) -> TranscriptSummary:
    return summary_with(transcript, redact)


def hook(**fields: object) -> bytes:
    return json.dumps(fields).encode("utf-8")


def stamp(minute: int) -> str:
    return f"2026-11-22T12:{minute % 60:02}:00.000Z"


def claude(kind: str, content: object, minute: int = 0, **more: Any) -> dict[str, Any]:
    message: dict[str, Any] = {"role": kind, "content": content}
    return {
        "parentUuid": None,
        "isSidechain": False,
        "type": kind,
        "message": message,
        "uuid": f"{minute:08}",
        "timestamp": stamp(minute),
        "cwd": WORK,
        "sessionId": SESSION,
        "version": "2.1.330",
        **more,
    }


def text(said: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": said}]


def tool(call: str, name: str, given: dict[str, object]) -> dict[str, Any]:
    return claude("assistant", [{"type": "tool_use", "id": call, "name": name, "input": given}])


def result(call: str, said: object, *, failed: bool = False, **more: Any) -> dict[str, Any]:
    block: dict[str, object] = {"type": "tool_result", "tool_use_id": call, "content": said}
    return claude("user", [{**block, "is_error": True} if failed else block], **more)


def codex(kind: str, minute: int = 0, **payload: Any) -> dict[str, Any]:
    return {"timestamp": stamp(minute), "ordinal": minute, "type": kind, "payload": payload}


def codex_message(role: str, said: str, minute: int = 0, kind: str | None = None) -> dict[str, Any]:
    block = {"type": "output_text" if role == "assistant" else "input_text", "text": said}
    more: dict[str, object] = {}
    if kind is not None:
        more["internal_chat_message_metadata_passthrough"] = {"content_item_kinds": [kind]}
    return codex("response_item", minute, type="message", role=role, content=[block], **more)


META = codex("session_meta", session_id=THREAD, id=THREAD, cwd=WORK, originator="codex_exec", cli_version="0.169.0")


def write(path: Path, lines: Iterable[object]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def said_in(transcript: Transcript) -> list[tuple[str, str]]:
    return [(entry.author, entry.text) for entry in transcript.entries]


# --- What a hook passes -------------------------------------------------------------------------------------------


def test_the_hooks_of_claude_code_are_understood() -> None:
    path = f"/home/ada/.claude/projects/-home-ada-parser/{SESSION}.jsonl"
    common = {"session_id": SESSION, "transcript_path": path, "cwd": WORK}
    known = HookInput("claude-code", SESSION, Path(path), Path(WORK))
    assert read_hook(
        hook(**common, prompt_id="x", hook_event_name="PreCompact", trigger="auto", custom_instructions=None)
    ) == replace(known, event="PreCompact")
    assert read_hook(hook(**common, hook_event_name="SessionEnd", reason="other")) == replace(known, event="SessionEnd")
    started = hook(**common, hook_event_name="SessionStart", source="compact")
    assert read_hook(started) == replace(known, event="SessionStart")
    assert read_hook(
        hook(**common, hook_event_name="Stop", stop_hook_active=False, last_assistant_message="Done.\r\nAll.")
    ) == replace(known, event="Stop")


def test_the_hooks_and_the_notify_program_of_codex_are_understood() -> None:
    path = f"/home/ada/.codex/sessions/2026/11/22/rollout-2026-11-22T12-00-00-{THREAD}.jsonl"
    assert read_hook(
        hook(
            session_id=THREAD,
            turn_id="t",
            transcript_path=path,
            cwd=WORK,
            hook_event_name="PreCompact",
            model="m",
            trigger="manual",
        )
    ) == HookInput("codex", THREAD, Path(path), Path(WORK), "PreCompact")
    assert (
        read_hook(hook(session_id=THREAD, turn_id="t", transcript_path=None, hook_event_name="Stop")).client == "codex"
    )
    notified = {
        "type": "agent-turn-complete",
        "thread-id": THREAD,
        "turn-id": "t",
        "cwd": WORK,
        "client": "codex-tui",
        "input-messages": ["Write it.", 7, "Now test it."],
        "last-assistant-message": "It is written.",
    }
    assert read_hook(hook(**notified)) == HookInput(
        client="codex",
        session_id=THREAD,
        cwd=Path(WORK),
        event="agent-turn-complete",
    )


def test_a_hook_of_another_program_is_taken_for_neither() -> None:
    assert read_hook(hook(transcript_path="/x/chats/session.json", hook_event_name="SessionEnd")).client is None
    assert read_hook(hook(anything=1)) == HookInput()


@pytest.mark.parametrize("data", [b"", b"  \n", b"{}"])
def test_a_hook_that_passes_nothing_is_no_problem(data: bytes) -> None:
    assert read_hook(data) == HookInput()


@pytest.mark.parametrize(
    "data",
    [
        b"hello",
        b"[1]",
        b"\xff\xfe",
        b"{" * 500_000,
        b"[" * 500_000,
        b"{" + b" " * 1_100_000 + b"}",
        b"9" * 9_000,
        b"null",
    ],
)
def test_what_is_no_json_object_is_told_and_never_raised(data: bytes) -> None:
    found = read_hook(data)
    assert found.problem
    assert found == HookInput(problem=found.problem)


@given(
    fields=st.dictionaries(
        st.sampled_from(
            [
                *("session_id", "transcript_path", "cwd", "hook_event_name", "trigger", "reason", "source", "type"),
                *("thread-id", "input-messages", "last-assistant-message", "last_assistant_message", "turn_id"),
            ]
        ),
        st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3)),
    )
)
def test_values_of_any_type_are_survived(fields: dict[str, object]) -> None:
    found = read_hook(hook(**fields))
    for path in (found.transcript_path, found.cwd):
        assert path is None or path.is_absolute()
    assert found.session_id is None or "/" not in found.session_id


def test_paths_and_names_that_cannot_be_are_not_passed_on() -> None:
    wrong = read_hook(hook(session_id="../../x", transcript_path="rel.jsonl", cwd="/a\0b", hook_event_name="a b\x1b"))
    assert (wrong.session_id, wrong.transcript_path, wrong.cwd, wrong.event) == (None, None, None, None)


# --- Claude Code --------------------------------------------------------------------------------------------------


def test_a_session_of_claude_code_is_read(tmp_path: Path) -> None:
    lines = [
        {"type": "queue-operation", "operation": "enqueue", "sessionId": SESSION, "content": "Write the parser."},
        claude("user", "Write the parser.", 1),
        {**claude("user", ""), "type": "attachment", "attachment": {"type": "date"}},
        claude("assistant", [{"type": "thinking", "thinking": "hm"}, *text("I begin.")], 2),
        tool("c1", "TaskCreate", {"subject": "Write the parser", "description": "d"}),
        result("c1", "Task #1 created successfully: Write the parser", toolUseResult={"task": {"id": "1"}}),
        tool("c2", "TaskCreate", {"subject": "Write its tests", "description": "d"}),
        result("c2", text("Task #2 created successfully: Write its tests")),
        tool("c3", "TaskCreate", {"subject": "Not wanted", "description": "d"}),
        result("c3", "Task #3 created successfully: Not wanted"),
        tool("c4", "TaskUpdate", {"taskId": "3", "status": "deleted"}),
        tool("c5", "TaskUpdate", {"taskId": "1", "status": "completed"}),
        tool("c6", "TaskUpdate", {"taskId": "2", "status": "in_progress", "subject": "Write the tests"}),
        tool("c7", "Write", {"file_path": f"{WORK}/parser.py", "content": "x"}),
        result("c7", "File created"),
        tool("c8", "Edit", {"file_path": f"{WORK}/other.py", "old_string": "a", "new_string": "b"}),
        result("c8", "no such text", failed=True),
        tool("c9", "NotebookEdit", {"notebook_path": f"{WORK}/n.ipynb"}),
        result("c9", "ok"),
        tool("c10", "Edit", {"file_path": f"{WORK}/parser.py"}),
        result("c10", "no such text", failed=True),
        tool("c11", "TodoWrite", {"todos": [{"content": "never taken", "status": "pending"}]}),
        result("c11", "No such tool available: TodoWrite", failed=True),
        claude("user", "Now the tests.", 3),
        claude("user", "a subagent was asked", isSidechain=True),
        claude("user", "from the program", isMeta=True),
        claude("user", "<command-name>/compact</command-name>\n<command-args></command-args>"),
        claude("user", "<local-command-stdout>done</local-command-stdout>"),
        claude("user", [{"type": "text", "text": "[Request interrupted by user]"}]),
        claude("assistant", text("API Error: 500"), isApiErrorMessage=True),
        {"type": "system", "subtype": "compact_boundary", "content": "Conversation compacted", "sessionId": SESSION},
        claude("assistant", text("The parser is done."), 4),
        {"type": "summary", "summary": "of another session", "leafUuid": "x"},
        {"type": "last-prompt", "lastPrompt": "Now the tests.", "sessionId": SESSION},
    ]
    found = read_transcript(write(tmp_path / "s.jsonl", lines))
    assert (found.client, found.session, found.cwd, found.project) == ("claude-code", SESSION, WORK, "parser")
    assert said_in(found) == [
        ("user", "Write the parser."),
        ("agent", "I begin."),
        ("user", "Now the tests."),
        ("agent", "The parser is done."),
    ]
    assert found.entries[0].time == datetime(2026, 11, 22, 12, 1, tzinfo=UTC)
    assert found.files == (f"{WORK}/parser.py", f"{WORK}/n.ipynb")
    assert found.todos == (Todo("Write the parser", "done"), Todo("Write the tests", "doing"))
    assert not found.cut


def test_the_summary_of_a_compaction_is_kept_without_what_it_tells_the_model_to_do(tmp_path: Path) -> None:
    summary = (
        "This session is being continued from a previous conversation that ran out of context. It is below.\n\n"
        "<system-reminder>tools</system-reminder>\n1. The parser reads numbers.\n2. Names are missing.\n\n"
        "If you need specific details from before compaction, read the file.\nContinue the conversation from where it"
        " left off without asking the user any further questions."
    )
    path = write(tmp_path / "s.jsonl", [claude("user", summary, 1, isCompactSummary=True)])
    found = read_transcript(path)
    assert said_in(found) == [("summary", "1. The parser reads numbers.\n2. Names are missing.")]
    told = summary_of(found)
    assert told.objective is None
    assert told.next_action is None
    assert told.state == "## Summary at the last compaction\n\n> 1. The parser reads numbers.\n> 2. Names are missing."


def test_the_older_list_of_things_to_do_is_read(tmp_path: Path) -> None:
    lines = [
        tool("c1", "TodoWrite", {"todos": [{"content": "old", "status": "pending"}]}),
        result("c1", "ok"),
        tool(
            "c2",
            "TodoWrite",
            {"todos": [{"content": "Parse", "status": "completed"}, {"content": "Test", "status": "pending"}, "odd"]},
        ),
    ]
    assert read_transcript(write(tmp_path / "s.jsonl", lines)).todos == (Todo("Parse", "done"), Todo("Test", "open"))


@pytest.mark.parametrize(
    ("said", "request_text"),
    [
        ("Write it.", "Write it."),
        ("<ide_opened_file>The user opened a.py</ide_opened_file>\nMend it.", "Mend it."),
        ("Mend it.\n<system-reminder>be brief</system-reminder>", "Mend it."),
        ("<system-reminder>only this</system-reminder>", None),
        ("<system-reminder>left open", None),
        ("<div> is not closed in page.html", "<div> is not closed in page.html"),
        ("/compact", None),
        ("/review the last change", None),
        ("/etc/hosts is wrong", "/etc/hosts is wrong"),
        ("<bash-input>ls</bash-input>", None),
        ("<environment_context>\n  <cwd>/x</cwd>", None),
        ("# AGENTS.md instructions for /x\n\n<INSTRUCTIONS>", None),
        ("   ", None),
    ],
)
def test_only_what_the_user_wrote_is_a_request(said: str, request_text: str | None) -> None:
    assert request_of(said) == request_text


# --- Codex --------------------------------------------------------------------------------------------------------


def test_a_session_of_codex_is_read(tmp_path: Path) -> None:
    patch = "*** Begin Patch\n*** Add File: parser.py\n+x\n*** Update File: a b.py\n*** Move to: c.py\n*** End Patch\n"
    plan = {"plan": [{"step": "Parse", "status": "completed"}, {"step": "Test", "status": "in_progress"}]}
    script = 'await tools.apply_patch("*** Begin Patch\\n*** Delete File: old.py\\n*** End Patch")'
    changed: dict[str, Any] = {
        "type": "FileChange",
        "id": "call_5",
        "status": "completed",
        "changes": {f"{WORK}/new.py": {}},
    }
    lines = [
        META,
        codex("event_msg", type="task_started"),
        codex_message("developer", "<permissions instructions> ..."),
        codex_message("user", "<environment_context>\n</environment_context>", kind="environments.environment_context"),
        codex("turn_context", cwd=f"{WORK}/sub", model="m"),
        codex_message("user", "Write the parser.", 1, kind="user.text"),
        codex("event_msg", type="item_completed", item={"type": "UserMessage", "content": [{"text": "Write it."}]}),
        codex("response_item", type="function_call", name="update_plan", arguments=json.dumps(plan), call_id="call_0"),
        codex("response_item", type="function_call_output", call_id="call_0", output="Plan updated"),
        codex("response_item", type="custom_tool_call", name="apply_patch", input=patch, call_id="call_1"),
        codex("response_item", type="custom_tool_call_output", call_id="call_1", output="Success."),
        codex(
            "response_item",
            type="custom_tool_call",
            name="apply_patch",
            input="*** Begin Patch\n*** Add File: never.py\n*** End Patch",
            call_id="call_2",
        ),
        codex("response_item", type="custom_tool_call_output", call_id="call_2", output="unsupported custom tool call"),
        codex("response_item", type="custom_tool_call", name="exec", input=script, call_id="call_3"),
        codex("response_item", type="custom_tool_call_output", call_id="call_3", output=[{"text": "ok"}]),
        codex("event_msg", type="item_completed", item=changed),
        codex("response_item", type="reasoning", summary=[], encrypted_content="x"),
        codex_message("assistant", "The parser is done.", 2),
        codex("event_msg", type="agent_message", message="The parser is done."),
        codex("event_msg", type="task_complete", last_agent_message="The parser is done."),
        codex("token_usage_record", thread_id=THREAD),
    ]
    found = read_transcript(write(tmp_path / "rollout-x.jsonl", lines))
    assert (found.client, found.session, found.cwd) == ("codex", THREAD, f"{WORK}/sub")
    assert said_in(found) == [("user", "Write the parser."), ("agent", "The parser is done.")]
    assert found.files == ("parser.py", "a b.py", "c.py", "old.py", f"{WORK}/new.py")
    assert found.todos == (Todo("Parse", "done"), Todo("Test", "doing"))


def test_what_an_older_codex_only_showed_is_read(tmp_path: Path) -> None:
    lines = [
        META,
        codex("event_msg", 1, type="user_message", message="Write the parser."),
        codex("event_msg", 2, type="agent_message", message="It is written."),
    ]
    found = read_transcript(write(tmp_path / "rollout-x.jsonl", lines))
    assert said_in(found) == [("user", "Write the parser."), ("agent", "It is written.")]


def test_the_rollout_of_a_session_is_found_by_its_id(tmp_path: Path) -> None:
    for day, thread in (("2026/11/21", THREAD), ("2026/11/22", SESSION)):
        (tmp_path / "sessions" / day).mkdir(parents=True)
        write(tmp_path / "sessions" / day / f"rollout-2026-11-22T12-00-00-{thread}.jsonl", [META])
    found = find_rollout(tmp_path, THREAD)
    assert found is not None
    assert found.parent.name == "21"
    assert read_transcript(found).session == THREAD
    assert find_rollout(tmp_path, "other") is None
    assert find_rollout(tmp_path, "../x") is None
    assert find_rollout(tmp_path / "missing", THREAD) is None


def test_a_rollout_is_looked_for_among_the_newest_and_not_after_the_time(tmp_path: Path) -> None:
    day = tmp_path / "sessions/2026/11/22"
    day.mkdir(parents=True)
    oldest = write(day / f"rollout-2026-11-22T00-00-00-{THREAD}.jsonl", [META])
    for number in range(1_996):
        (day / f"rollout-2026-11-22T12-{number:04}-{SESSION}.jsonl").touch()
    assert find_rollout(tmp_path, THREAD) == oldest  # the last of 2,000, with the folders
    assert find_rollout(tmp_path, THREAD, until=time.monotonic()) is None
    assert find_rollout(tmp_path, THREAD, until=time.monotonic() + 600) == oldest
    (day / "rollout-2026-11-22T12-newer.jsonl").touch()
    assert find_rollout(tmp_path, THREAD) is None


# --- Files of every kind ------------------------------------------------------------------------------------------


def test_a_large_file_is_read_from_its_end_with_the_session_from_its_beginning(tmp_path: Path) -> None:
    lines = [META, *(codex_message("user", f"request {number} " + "x" * 1_000, number) for number in range(1_000))]
    found = read_transcript(write(tmp_path / "rollout-x.jsonl", lines), most_bytes=20_000)
    assert found.session == THREAD
    assert found.cut
    assert 10 < len(found.entries) < 20
    assert found.entries[-1].text.startswith("request 999 ")


def test_damaged_lines_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    good = json.dumps(claude("user", "First.", 1)).encode()
    last = json.dumps(claude("user", "Last.", 2)).encode()
    strange = json.dumps(claude("user", "Half \ud800 of it,\x1b[31m red", 3)).encode()
    invalid = good.replace(b"First.", b"caf\xe9 \xff")
    deep = b'{"type": "user", "message": ' + b"[" * 200_000 + b"\n"
    path.write_bytes(
        b"\n".join([good, b"not json", b"[]", b'{"type": ["user"], "uuid": {}}', deep, invalid, strange, last[:-20]])
    )
    assert said_in(read_transcript(path)) == [
        ("user", "First."),
        ("user", "caf\ufffd \ufffd"),
        ("user", "Half \ufffd of it,[31m red"),
    ]


def test_a_line_without_end_holds_nothing_up(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    with path.open("wb") as file:
        file.write(json.dumps(claude("user", "First.")).encode() + b"\n")
        file.truncate(3 * 1024 * 1024 * 1024)  # no disk has it
    found = read_transcript(path)
    assert found.cut
    assert found.entries == ()
    many = "<system-reminder>" * 200_000
    assert len(read_transcript(write(path, [claude("user", many)])).entries) == 0


@pytest.mark.skipif(not POSIX, reason="no links and pipes")
def test_only_a_regular_file_is_read(tmp_path: Path) -> None:
    real = write(tmp_path / "real.jsonl", [claude("user", "First.")])
    (tmp_path / "link.jsonl").symlink_to(real)
    os.mkfifo(tmp_path / "pipe.jsonl")
    for wrong in (tmp_path / "link.jsonl", tmp_path / "pipe.jsonl", tmp_path, Path("/dev/zero"), Path("real.jsonl")):
        with pytest.raises(InvalidInput):
            read_transcript(wrong)
    for missing in (tmp_path / "missing.jsonl", real / "below"):
        with pytest.raises(NotFound):
            read_transcript(missing)


@pytest.mark.parametrize("content", [b"", b"\n\n\n", b"\0" * 1_000, b"plain text\n", b"{}\n", b'{"type":"user"}\n'])
def test_a_file_that_is_no_transcript_is_read_as_an_empty_one(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "s.jsonl"
    path.write_bytes(content)
    found = read_transcript(path)
    assert (found.client, found.entries, found.files, found.todos) == (None, (), (), ())
    assert summary_of(found).state == ""


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_lines_with_any_value_in_any_place_are_survived(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    whole = [
        claude("user", "First."),
        tool("c1", "TaskCreate", {"subject": "s"}),
        result("c1", text("Task #1 created"), toolUseResult={"task": {"id": "1"}}),
        tool("c2", "TodoWrite", {"todos": [{"content": "c", "status": "pending"}]}),
        tool("c3", "Edit", {"file_path": "a"}),
        META,
        codex("turn_context", cwd=WORK),
        codex_message("user", "First.", kind="user.text"),
        codex("response_item", type="function_call", name="update_plan", arguments='{"plan": [{}]}', call_id="c"),
        codex("response_item", type="function_call_output", call_id="c", output="{}"),
        codex("event_msg", type="item_completed", item={"type": "FileChange", "changes": [{"path": "a"}]}),
        codex("compacted", message="m"),
    ]
    kind = data.draw(st.sampled_from(["claude", "codex"]))
    chosen = whole[:5] if kind == "claude" else whole[5:]

    def spoil(value: Any) -> Any:
        if data.draw(st.integers(0, 9)) == 0:
            return data.draw(JSON)
        if isinstance(value, dict):
            return {key: spoil(inner) for key, inner in cast("dict[str, Any]", value).items()}
        if isinstance(value, list):
            return [spoil(inner) for inner in cast("list[Any]", value)]
        return value

    path = tmp_path_factory.mktemp("t") / "s.jsonl"
    summary = summary_of(read_transcript(write(path, [spoil(line) for line in chosen])))
    summary.state.encode("utf-8")
    assert len(summary.state) <= 8_000


# --- In a few lines -----------------------------------------------------------------------------------------------


def entry(author: Any, said: str) -> TranscriptEntry:
    return TranscriptEntry(NOON, author, said)


def test_a_session_comes_to_what_was_asked_said_changed_and_left_open() -> None:
    transcript = Transcript(
        "claude-code",
        SESSION,
        WORK,
        "parser",
        entries=(
            entry("user", "Write the parser,\nand its tests."),
            entry("agent", "I begin."),
            entry("user", "Names may have dashes."),
            entry("agent", "# Done\n\nThe parser reads names.\n```\nx\n```"),
            entry("user", "ok, go on"),
        ),
        files=(f"{WORK}/parser.py", "/etc/elsewhere", "rela`tive.py"),
        todos=(Todo("Parse", "done"), Todo("Test", "open"), Todo("Document", "doing")),
    )
    found = summary_of(transcript)
    assert found.objective == "Names may have dashes."
    assert found.next_action == "Document"
    assert found.state == (
        "## Asked for\n\n1. Write the parser, and its tests.\n2. Names may have dashes.\n3. ok, go on\n\n"
        "## Said last\n\n> # Done\n>\n> The parser reads names.\n> ```\n> x\n> ```\n\n"
        "## Files changed\n\n- `parser.py`\n- `/etc/elsewhere`\n- `rela'tive.py`\n\n"
        "## The agent's own list\n\n- [ ] Test\n- [ ] Document (begun)\n- [x] Parse"
    )
    assert summary_of(transcript) == found


def test_without_a_list_the_next_action_is_to_go_on() -> None:
    found = summary_of(Transcript("codex", entries=(entry("user", "Write the parser."),), todos=(Todo("x", "done"),)))
    assert found.next_action == "Go on with: Write the parser."


def test_everything_is_bounded() -> None:
    rng = random.Random(7)  # noqa: S311 - words, no secret
    long = " ".join("x" * rng.randint(1, 12) for _ in range(5_000))
    transcript = Transcript(
        "codex",
        entries=tuple(
            entry(author, f"{author} {number} {long}")
            for number in range(200)
            for author in ("user", "summary", "agent")
        ),
        files=tuple(f"/srv/{number}/" + "y" * 300 for number in range(400)),
        todos=tuple(Todo(f"{number} {long}"[:500], "open") for number in range(200)),
    )
    found = summary_of(transcript)
    assert found.objective is not None
    assert found.next_action is not None
    assert len(found.objective) <= 500
    assert len(found.next_action) <= 500
    assert len(found.state) <= 8_000
    for heading in (
        "Asked for",
        "Summary at the last compaction",
        "Said last",
        "Files changed",
        "The agent's own list",
    ):
        assert f"## {heading}\n" in found.state
    assert "\n1. user 0 x" in found.state
    assert "\n200. user 199 x" in found.state
    assert "more)" in found.state
    one_line = summary_of(Transcript("codex", entries=(entry("user", "z" * 9_000), entry("agent", "z" * 9_000))))
    assert len(one_line.objective or "") == 500
    assert len(one_line.state) < 3_000


# --- Secrets ------------------------------------------------------------------------------------------------------


def drawn(alphabet: str, length: int) -> str:
    rng = random.Random(alphabet + str(length))  # noqa: S311 - the same at each run
    return "".join(rng.choices(alphabet, k=length))


LETTERS = "abcdefghijkmnpqrstuvwxyz"
MIXED = LETTERS + LETTERS.upper() + "23456789"
SIGNED = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"
KEY_LINES = [drawn(MIXED + "+/", 64), drawn(MIXED, 32)]
SECRETS = {
    "a password in an address": ("postgresql://ada:{}@db.example.org/shop", drawn(MIXED, 30) + "!7"),
    "a token of GitLab": ("glpat-{}", drawn(MIXED, 26)),
    "a token of GitHub": ("github_pat_{}", drawn(MIXED, 82)),
    "a password that is told": ('password: "{}"', drawn(MIXED, 18) + "!7$"),
    "a signed token": (SIGNED + ".{}", drawn(MIXED, 80) + "." + drawn(MIXED, 43)),
    "a private key": ("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----", "\n".join(KEY_LINES)),
}


def at(place: int, told: str, filler: str = "some words ") -> str:
    """`told` at this place of a long text."""
    before = (filler * (place // len(filler) + 1))[:place]
    return f"{before[:-1]} {told} and more" if place else f"{told} and more"


def leaked(found: TranscriptSummary, secret: str) -> list[str]:
    """What is told of a secret, in pieces of nine characters."""
    result = "\n".join(filter(None, (found.objective, found.state, found.next_action)))
    flat = re.sub(r"\s|> ", "", result)
    secret = re.sub(r"\s", "", secret)
    return [secret[begin : begin + 9] for begin in range(len(secret) - 8) if secret[begin : begin + 9] in flat]


@pytest.mark.parametrize("kind", SECRETS)
def test_nothing_of_a_secret_is_left_wherever_a_text_is_cut(kind: str) -> None:
    form, secret = SECRETS[kind]
    told = form.format(secret)
    assert redact(told) != told
    for cut in (200, 250, 300, 488, 500, 1_700, 2_500):
        for place in range(max(cut - len(told) - 12, 0), cut + 3):
            said = at(place, told)
            transcript = Transcript(
                "codex",
                cwd=WORK,
                entries=(entry("user", said), entry("summary", said), entry("agent", said)),
                files=(f"{WORK}/{at(place, told, 'folder/')}", at(place, told, "folder/")),
                todos=(Todo(said, "open"),),
            )
            assert leaked(summary_of(transcript), secret) == [], place
            if cut in (488, 500):
                assert leaked(summary_of(Transcript("codex", entries=(entry("user", said),))), secret) == [], place


@pytest.mark.parametrize("kind", SECRETS)
def test_nothing_of_a_secret_is_left_where_the_reading_was_cut(kind: str, tmp_path: Path) -> None:
    """Other secrets before it are replaced by so few characters that the end of what was read comes into sight."""
    form, secret = SECRETS[kind]
    told = form.format(secret)
    block = "-----BEGIN PRIVATE KEY-----\n" + "\n".join([drawn(MIXED, 64)] * 290) + "\n-----END PRIVATE KEY-----\n"
    for place in range(20_000 - len(told) - 2, 20_001, 3):
        said = block + at(place - len(block), told)
        lines = [
            claude("user", said),
            claude("assistant", text(said)),
            claude("user", said, isCompactSummary=True),
            tool("c", "TodoWrite", {"todos": [{"content": said, "status": "pending"}]}),
        ]
        found = read_transcript(write(tmp_path / "s.jsonl", lines))
        assert leaked(summary_of(found), secret) == [], place


def test_a_thing_to_do_is_not_cut_before_its_secrets_are_known(tmp_path: Path) -> None:
    form, secret = SECRETS["a token of GitHub"]
    for place in range(380, 500, 7):
        todos = [{"content": at(place, form.format(secret)), "status": "pending"}]
        found = read_transcript(write(tmp_path / "s.jsonl", [tool("c", "TodoWrite", {"todos": todos})]))
        assert leaked(summary_of(found), secret) == []


def test_a_text_that_was_cut_where_it_was_read_is_told_up_to_there() -> None:
    said = "word " * 4_000
    assert len(said) == 20_000
    found = summary_of(Transcript("codex", entries=(entry("user", said), entry("agent", "z" * 20_000))))
    assert len(found.objective or "") > 490
    assert "zzz" in found.state


def test_a_secret_in_the_path_of_the_work_is_in_no_name_of_a_file() -> None:
    hidden = drawn(MIXED, 26)
    top = f"/srv/glpat-{hidden}"
    found = summary_of(Transcript("codex", cwd=top, files=(f"{top}/a.py", f"{top}-b/c.py")))
    assert leaked(found, hidden) == []
    assert "a.py" in found.state
