"""`alg complete`, `chat`, `embed`, `gateway`, `consent`, `receipts`, `runs` and `policy`: real commands, real hubs, and
servers on the loopback that play providers.
"""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from adaptive_llm_gateway.core import InvalidInput
from adaptive_llm_gateway.server._cli_ask import dollars, micro_cents

if TYPE_CHECKING:
    from conftest import Begin, Peer

ALG = str(Path(sys.executable).with_name("alg"))
WAIT = 60.0
WORDS = ("Hello", ", ", "wide ", "world", ".")
BUILT_IN = "gateway: {discover: false}\nproviders: {trial: {kind: built_in}}\n"
RECEIPT = re.compile(r"receipt ([0-9A-Z]{26})")


def use(server: Any, *peers: Peer, kind: str = "openai_compatible") -> None:
    """Configure peers as providers `p0`, `p1`, ..."""
    models = ", models: [{name: m, chat: true, stream: true, json: true}]" if kind == "openai_compatible" else ""
    entries = [f"  p{at}: {{kind: {kind}, url: '{each.url}', order: {at}{models}}}\n" for at, each in enumerate(peers)]
    server.configure(f"gateway: {{discover: false}}\nproviders:\n{''.join(entries)}")


def run(server: Any, *arguments: str, stdin: str | bytes = "") -> subprocess.CompletedProcess[str]:
    """A command whose stdin is a pipe."""
    text = stdin if isinstance(stdin, str) else stdin.decode("utf-8", "surrogateescape")
    return subprocess.run(
        [ALG, "--home", str(server.home), *arguments],
        input=text, capture_output=True, encoding="utf-8", errors="surrogateescape", timeout=WAIT, check=False,
    )  # fmt: skip


def document(done: subprocess.CompletedProcess[str]) -> Any:
    return json.loads(done.stdout)


def failed(server: Any, *arguments: str, stdin: str = "") -> tuple[int, dict[str, Any]]:
    done = run(server, *arguments, "--json", stdin=stdin)
    assert done.stderr == ""
    return done.returncode, document(done)["error"]


def newest_receipt(server: Any) -> dict[str, Any]:
    (line,) = server.json("receipts", "list", "--limit", "1")["receipts"]
    return server.json("receipts", "show", line["id"])["receipt"]


class Running:
    """A command under way whose stdout is read as it comes."""

    def __init__(self, server: Any, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [ALG, "--home", str(server.home), *arguments],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            # With it, text would come without being flushed.
            env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
        )  # fmt: skip

    def read(self, text: str) -> None:
        """Wait until `text` was printed, and nothing else."""
        assert self.process.stdout is not None
        got = b""
        while len(got) < len(text.encode()):
            assert select.select([self.process.stdout], [], [], WAIT)[0], f"only {got!r} came"
            part = os.read(self.process.stdout.fileno(), 65536)
            assert part, f"it ended after {got!r}"
            got += part
        assert got.decode() == text

    def end(self) -> tuple[int, str, str]:
        """Exit code, what is left of stdout, stderr."""
        out, err = self.process.communicate(timeout=WAIT)
        return self.process.returncode, (out or b"").decode(), err.decode()


class Terminal:
    """A command on a terminal of its own, which is its controlling one."""

    def __init__(self, server: Any, *arguments: str) -> None:
        self._master, slave = pty.openpty()
        code = "import os, sys; os.login_tty(0); os.execv(sys.argv[1], sys.argv[1:])"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, ALG, "--home", str(server.home), *arguments],
            stdin=slave,
            env={**os.environ, "TERM": "dumb"},
        )
        os.close(slave)
        self.seen = ""
        self._at = 0

    def expect(self, text: str) -> None:
        """Wait until the terminal shows `text`, after what was expected before."""
        deadline = time.monotonic() + WAIT
        while (found := self.seen.find(text, self._at)) < 0:
            assert select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))[0], self.seen
            self.seen += os.read(self._master, 65536).decode("utf-8", "replace")
        self._at = found + len(text)

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def interrupt(self, text: str) -> None:
        """Press Ctrl-C until the terminal shows `text`.

        Python loses one that comes between a prompt's being shown and its waiting for a key: a person presses again,
        but not before nothing more is shown. The `^C` that the terminal shows at once is not the answer yet.
        """
        deadline = time.monotonic() + WAIT
        while (found := self.seen.find(text, self._at)) < 0:
            assert time.monotonic() < deadline, self.seen
            self.type("\x03")
            while text not in self.seen[self._at :] and select.select([self._master], [], [], 5)[0]:
                self.seen += os.read(self._master, 65536).decode("utf-8", "replace")
        self._at = found + len(text)

    def end(self) -> int:
        code = self.process.wait(timeout=WAIT)
        while select.select([self._master], [], [], 0)[0]:
            try:
                part = os.read(self._master, 65536)
            except OSError:  # as a terminal ends on Linux
                break
            if not part:
                break
            self.seen += part.decode("utf-8", "replace")
        os.close(self._master)
        return code


# --- alg complete -------------------------------------------------------------------------------------------------


def test_an_answer_is_printed_as_it_comes_and_its_facts_are_on_stderr(server: Any, peer: Begin) -> None:
    model = peer()
    use(server, model)
    model.go_on.clear()
    running = Running(server, "complete", "greet")
    running.read("Hello")  # while the provider has said no more
    model.go_on.set()
    code, rest, words = running.end()
    assert (code, rest) == (0, ", wide world.\n")
    (line,) = words.splitlines()
    receipt = newest_receipt(server)
    assert line == f"p0/m (local); tokens 3 in, 5 out; $0.00; receipt {receipt['id']}"
    assert (receipt["outcome"], receipt["request"]["client"]) == ("answered", "command-line")


def test_stdin_is_joined_below_the_prompt(server: Any, peer: Begin) -> None:
    model = peer()
    use(server, model)
    assert run(server, "complete", "write a message", stdin="+ a line\n").stdout == "Hello, wide world.\n"
    assert model.said() == [("user", "write a message\n\n+ a line\n")]
    run(server, "complete", stdin="only this")
    assert model.said() == [("user", "only this")]
    run(server, "complete", "-", stdin="this too")
    assert model.said() == [("user", "this too")]
    run(server, "complete", "alone", "--no-stdin", stdin="the lines of a loop")
    assert model.said() == [("user", "alone")]
    asked = len(model.asked)
    for arguments, stdin, code in (
        (["complete"], " \n", "invalid_input"),
        (["complete", "x"], b"\xff\xfe", "invalid_file"),
    ):
        done = run(server, *arguments, "--json", stdin=stdin)
        assert (done.returncode, document(done)["error"]["code"]) == (2, code)
    closed = subprocess.run(
        ["sh", "-c", '"$0" --home "$1" complete - <&-', ALG, str(server.home)],
        capture_output=True, encoding="utf-8", timeout=WAIT, check=False,
    )  # fmt: skip
    assert (closed.returncode, closed.stderr.splitlines()[0]) == (2, "error: there is no prompt")
    assert len(model.asked) == asked


def test_a_stdin_that_was_left_open_is_said_to_be_waited_for(server: Any, peer: Begin) -> None:
    model = peer()
    use(server, model)
    process = subprocess.Popen(
        [ALG, "--home", str(server.home), "complete", "ask"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    assert select.select([process.stderr], [], [], WAIT)[0]
    assert b"--no-stdin leaves it alone" in process.stderr.readline()
    out, _ = process.communicate(b"and this", timeout=WAIT)
    assert (process.returncode, out) == (0, b"Hello, wide world.\n")
    assert model.said() == [("user", "ask\n\nand this")]


def test_what_is_given_reaches_the_provider(server: Any, peer: Begin) -> None:
    model = peer('{"a": 1}')
    use(server, model)
    done = run(
        server, "complete", "go", "--model", "p0/m", "--system", "be brief", "--max-tokens", "7",
        "--temperature", "0.5", "--stop", "END", "--stop", "STOP", "--answer-json",
        "--no-stream", "--purpose", "chat", "--project", "alg",
        "--trust", "confidential",
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, '{"a": 1}\n')
    assert model.said() == [("system", "be brief"), ("user", "go")]
    (asked,) = model.asked
    assert (asked["temperature"], asked["stop"], asked["response_format"]) == (
        0.5,
        ["END", "STOP"],
        {"type": "json_object"},
    )
    assert 7 in (asked.get("max_tokens"), asked.get("max_completion_tokens"))
    assert not asked.get("stream")
    request = newest_receipt(server)
    assert request["level"]["level"] == "confidential"
    assert (request["request"]["purpose"], request["request"]["project"]) == ("chat", "alg")


def test_json_is_one_document_for_success_and_failure(server: Any, peer: Begin) -> None:
    good, bad = peer(), peer(status=400)
    use(server, good, bad)
    done = run(server, "complete", "x", "--json")
    answer = document(done)
    assert (done.returncode, done.stderr, answer["text"], answer["finish"]) == (0, "", "Hello, wide world.", "stop")
    assert (answer["provider"], answer["model"], answer["where"]) == ("p0", "m", "local")
    code, error = failed(server, "complete", "x", "--model", "p1/m", "--no-fallback")
    assert (code, error["code"]) == (9, "provider_failed")
    assert error["details"]["receipt"] == newest_receipt(server)["id"]
    code, error = failed(server, "complete", "x", "--model", "p0/mm")
    assert (code, error["code"]) == (3, "not_found")
    assert failed(server, "complete", "x", "--budget", "much")[0] == 2


def test_asking_loads_nothing_of_what_answers(server: Any) -> None:
    server.configure(BUILT_IN)
    code = (
        "import sys\n"
        f"sys.argv = ['alg', '--home', {str(server.home)!r}, 'complete', 'x', '--temperature', '0.5', '--no-stdin']\n"
        "from adaptive_llm_gateway.server.__main__ import main\n"
        "try:\n    main()\nexcept SystemExit as ended:\n    assert not ended.code\n"
        "slow = {'pydantic', 'rich', 'asyncio', 'mcp', 'apsw', 'numpy', 'yaml', 'httpx', 'any_llm', 'tiktoken'}\n"
        "found = {name.split('.')[0] for name in sys.modules} & slow\n"
        "assert not found, found\n"
        "parts = {name.split('.')[1] for name in sys.modules if name.startswith('adaptive_llm_gateway.')}\n"
        "assert parts == {'core', 'server'}, parts\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=WAIT, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Built-in answer ")


def test_a_failure_names_its_receipt_on_stderr(server: Any, peer: Begin) -> None:
    use(server, peer(status=400))
    done = run(server, "complete", "x")
    assert (done.returncode, done.stdout) == (9, "")
    assert done.stderr.startswith("error: ")
    assert done.stderr.splitlines()[-1] == f"receipt {newest_receipt(server)['id']}"


def test_a_stream_that_breaks_off_is_said_not_to_be_whole_and_nobody_else_goes_on(server: Any, peer: Begin) -> None:
    broken, other = peer(cut=2), peer()
    use(server, broken, other)
    done = run(server, "complete", "x")
    assert (done.returncode, done.stdout) == (9, "Hello, \n")
    assert "error: the answer is NOT whole: " in done.stderr
    assert not other.asked
    assert newest_receipt(server)["outcome"] == "incomplete"


def test_an_answer_is_not_whole_either_where_the_hub_died_and_its_receipt_follows(server: Any, peer: Begin) -> None:
    model = peer()
    use(server, model)
    model.go_on.clear()
    running = Running(server, "complete", "x")
    running.read("Hello")
    server.kill_hub()
    code, rest, words = running.end()
    assert (code, rest) == (6, "\n")
    assert "error: the answer is NOT whole: the hub went away" in words
    assert newest_receipt(server)["outcome"] == "interrupted"  # by the hub that was started for it


def test_ctrl_c_cancels_the_providers_call(server: Any, peer: Begin) -> None:
    model = peer()
    use(server, model)
    model.go_on.clear()
    running = Running(server, "complete", "x")
    running.read("Hello")
    running.process.send_signal(signal.SIGINT)
    code, _, words = running.end()
    assert code == 130
    assert "Traceback" not in words
    assert model.left.wait(WAIT)
    server.wait_until(lambda: newest_receipt(server)["outcome"] == "cancelled", what="the receipt")


def test_a_reader_that_goes_away_cancels_the_providers_call(server: Any, peer: Begin) -> None:
    model = peer(*("word " * 50_000).split(" "))
    use(server, model)
    model.go_on.clear()
    running = Running(server, "complete", "x")
    running.read("word")
    assert running.process.stdout is not None
    running.process.stdout.close()
    model.go_on.set()
    assert running.process.stderr is not None
    words = running.process.stderr.read().decode()
    assert (running.process.wait(timeout=WAIT), words) == (141, "")
    running.process.stderr.close()
    assert model.left.wait(WAIT)
    server.wait_until(lambda: newest_receipt(server)["outcome"] == "cancelled", what="the receipt")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="nothing here is a full disk")
@pytest.mark.parametrize("arguments", [("complete", "x"), ("complete", "x", "--json"), ("receipts", "list")])
def test_a_stdout_that_takes_no_more_is_said_and_no_success(
    server: Any, peer: Begin, arguments: tuple[str, ...]
) -> None:
    use(server, peer())
    run(server, "complete", "first")
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [ALG, "--home", str(server.home), *arguments],
            stdin=subprocess.DEVNULL, stdout=full, stderr=subprocess.PIPE, timeout=WAIT, check=False,
        )  # fmt: skip
    assert done.returncode == 7
    assert b"error: stdout takes no more: No space left on device" in done.stderr
    assert b"Traceback" not in done.stderr


def test_an_answer_cannot_steer_the_terminal_and_is_untouched_in_a_pipe(server: Any, peer: Begin) -> None:
    hostile = "a\x1b]0;owned\x07b\x9b2Jc\u202ed"
    use(server, peer(hostile))
    assert run(server, "complete", "x").stdout == f"{hostile}\n"
    terminal = Terminal(server, "complete", "x")
    terminal.expect("receipt ")
    assert terminal.end() == 0
    assert "a\N{REPLACEMENT CHARACTER}]0;owned\N{REPLACEMENT CHARACTER}b" in terminal.seen
    assert not set("\x1b\x07\x9b\u202e") & set(terminal.seen)


def test_credentials_are_taken_out_and_that_is_said(server: Any, peer: Begin) -> None:
    model = peer()
    use(server, model)
    (server.home / "policy.yaml").write_text(
        "rules:\n"
        + "".join(f"  {level}: {{local: redact, hosted: deny}}\n" for level in ("internal", "confidential", "secret"))
        + "  public: {local: allow, hosted: deny}\n",
        encoding="utf-8",
    )
    token = "ghp_" + "16C7e42F292c6912E7710c838347Ae178B4a"
    done = run(server, "complete", f"use {token}")
    assert done.returncode == 0, done.stderr
    assert token not in json.dumps(model.asked)
    assert "note: 1 found in the prompt and taken out before it was sent" in done.stderr
    shown = run(server, "receipts", "show", newest_receipt(server)["id"]).stdout
    assert token not in shown
    assert re.search(r"^redacted +1 x ", shown, re.MULTILINE)


def test_a_provider_that_was_added_while_the_hub_runs_is_said_to_wait_for_its_end(server: Any, peer: Begin) -> None:
    server.configure("gateway: {discover: false}\n")
    told = "config.yaml was changed after the hub began"
    before = run(server, "complete", "x")
    assert (before.returncode, told in before.stderr) == (6, False)
    use(server, peer())
    for arguments in (("complete", "x"), ("complete", "--json", "x"), ("embed", "x"), ("gateway", "preview", "x")):
        refused = run(server, *arguments)
        assert refused.returncode == 6
        assert told in refused.stdout + refused.stderr
    assert told in run(server, "gateway", "health").stderr
    run(server, "hub", "stop")
    assert run(server, "complete", "x").stdout == "Hello, wide world.\n"
    assert told not in run(server, "gateway", "health").stderr


# --- alg chat, alg embed ------------------------------------------------------------------------------------------


def test_a_conversation_goes_on_after_a_stopped_answer_and_ends_with_ctrl_d(server: Any, peer: Begin) -> None:
    model, other = peer(), peer("I am other")
    use(server, model, other)
    terminal = Terminal(server, "chat", "--system", "be kind")
    terminal.expect("> ")
    terminal.type("first\n")
    terminal.expect("Hello, wide world.")
    terminal.expect("receipt ")
    model.go_on.clear()
    terminal.expect("> ")
    terminal.type("second\n")
    terminal.expect("Hello")
    terminal.type("\x03")
    terminal.expect("stopped; neither the question nor the answer is kept")
    assert model.left.wait(WAIT)
    model.go_on.set()
    terminal.expect("> ")
    terminal.type("/nonsense\n")
    terminal.expect("there is no command '/nonsense'")
    terminal.type("/model p1/m\n")
    terminal.expect("model: p1/m")
    terminal.type("third\n")
    terminal.expect("I am other")
    terminal.expect("receipt ")
    assert other.said() == [
        ("system", "be kind"),
        ("user", "first"),
        ("assistant", "Hello, wide world."),
        ("user", "third"),
    ]
    terminal.expect("> ")
    terminal.interrupt("> ")  # at the prompt: the line alone
    terminal.type("\x04")
    assert terminal.end() == 0


def test_a_piped_conversation_is_one_message(server: Any, peer: Begin) -> None:
    model = peer()
    use(server, model)
    done = run(server, "chat", stdin="one\ntwo\n")
    assert (done.returncode, done.stdout) == (0, "Hello, wide world.\n")
    assert model.said() == [("user", "one\ntwo\n")]
    assert document(run(server, "chat", "--json", stdin="x"))["text"] == "Hello, wide world."


def test_memories_go_along_and_raise_the_level(server: Any, peer: Begin) -> None:
    model = peer()
    use(server, model)
    written = server.json(
        "memory", "write", "The wombat budget is 400.", "--title", "Wombats", "--trust", "confidential"
    )
    done = run(server, "chat", "--context", "wombat budget", "--context-budget", "500", stdin="how much?")
    assert done.returncode == 0, done.stderr
    assert "The wombat budget is 400." in json.dumps(model.asked)
    assert model.said()[-1] == ("user", "how much?")
    assert "note: with 1 memory as context, " in done.stderr
    receipt = newest_receipt(server)
    assert receipt["level"]["level"] == "confidential"
    (memory,) = receipt["context"]
    assert (memory["id"], memory["version"]) == (written["id"], written["version"])
    shown = run(server, "receipts", "show", receipt["id"]).stdout
    assert f"context     {written['id']} version {written['version'][:12]}, confidential" in shown


def test_texts_become_vectors(server: Any, peer: Begin) -> None:
    server.configure(BUILT_IN)
    answer = document(run(server, "embed", "a b", "c", "--json"))
    assert [len(vector) for vector in answer["vectors"]] == [64, 64]
    done = run(server, "embed", stdin="one\n\ntwo words\n")
    lines = done.stdout.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["64 dimensions", "64 dimensions"]
    assert [line.split("  ")[-1] for line in lines] == ["one", "two words"]
    assert done.stderr.startswith("trial/built-in-embed (local); ")
    assert failed(server, "embed")[0] == 2


# --- alg gateway --------------------------------------------------------------------------------------------------


def test_health_and_models_say_who_is_there(server: Any, peer: Begin) -> None:
    use(server, peer())
    done = run(server, "gateway", "health", "--probe")
    assert re.search(r"^p0 +openai_compatible +local +up +1 +not needed$", done.stdout, re.MULTILINE)
    assert "m answers" in done.stdout
    assert "the loopback" in done.stdout
    assert done.stderr.startswith("mode normal; the default policy")
    assert server.json("gateway", "health")["providers"][0]["state"] == "up"
    assert re.search(r"^p0/m +local +- +chat, stream, json$", run(server, "gateway", "models").stdout, re.MULTILINE)


def test_without_a_provider_it_says_what_was_looked_for(server: Any) -> None:
    server.configure("gateway: {discover: false}\n")
    done = run(server, "gateway", "health")
    assert (done.returncode, done.stdout) == (0, "")
    assert "no provider" in done.stderr
    assert "hint: start a local server" in done.stderr
    code, error = failed(server, "complete", "x")
    assert (code, error["code"]) == (6, "unavailable")


def test_a_preview_says_who_would_get_it_and_why_nobody_else(server: Any, peer: Begin) -> None:
    model, other = peer(), peer()
    use(server, model, other)
    done = run(server, "gateway", "preview", "hello")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"^ +1  p0/m  local  internal  \$0\.00  .*line 8.*$", done.stdout, re.MULTILINE)
    plan = server.json("gateway", "preview", "hello", "--down", "p0")
    assert [step["provider"] for step in plan["steps"]] == ["p1"]
    done = run(server, "gateway", "preview", "hello", "--down", "p0", "--down", "p1")
    assert done.returncode == 6
    assert "nobody would be asked" in done.stdout
    assert "error: " in done.stderr
    done = run(server, "gateway", "preview", "hello", "--down", "p0", "--down", "p1", "--json")
    assert (done.returncode, done.stderr) == (6, "")
    assert document(done)["error"]["code"] == "unavailable"
    plan = server.json("gateway", "preview", "hello", "--what-if-mode", "offline", "--what-if-trust", "secret")
    assert (plan["mode"], {step["trust"] for step in plan["steps"]}) == ("offline", {"secret"})
    assert server.json("gateway", "preview", "hello", "--operation", "chat")["purpose"] == "chat"
    assert server.json("gateway", "preview", "hello", "--operation", "embed")["purpose"] == "embed"
    assert not model.asked
    assert not other.asked


# --- alg consent --------------------------------------------------------------------------------------------------


def test_the_hint_of_a_refusal_is_the_command_that_lets_it_through(server: Any, peer: Begin) -> None:
    model = peer()
    use(server, model, kind="ollama")  # whose one model says that it runs elsewhere
    refused = run(server, "complete", "x")
    assert refused.returncode == 10
    assert not model.asked
    hinted = re.search(r"alg (consent grant [^.]*)\.", refused.stderr)
    assert hinted, refused.stderr
    granted = run(server, *shlex.split(hinted[1]), "--expires", "30d", "--reason", "a trial", "--json")
    assert granted.returncode == 0, granted.stdout
    consent = document(granted)
    assert (consent["provider"], consent["trust"], consent["reason"], consent["state"]) == (
        "p0",
        "internal",
        "a trial",
        "active",
    )
    done = run(server, "complete", "x")
    assert (done.returncode, done.stdout) == (0, "Hello, wide world.\n")
    assert "p0/m (hosted); " in done.stderr
    assert "cost unknown" in done.stderr
    assert [used["id"] for used in newest_receipt(server)["consents"]] == [consent["id"]]
    code, error = failed(server, "complete", "x", "--budget", "0.02")  # of what has no price
    assert (code, error["code"]) == (10, "over_budget")
    assert run(server, "complete", "x", "--trust", "confidential").returncode == 10
    assert consent["id"] in run(server, "consent", "list").stdout
    revoked = document(run(server, "consent", "revoke", consent["id"][-8:], "--reason", "enough", "--json"))
    assert revoked["revoked"]["reason"] == "enough"
    assert run(server, "complete", "x").returncode == 10
    assert run(server, "consent", "list").stderr == "no consents that hold\n"
    assert " revoked " in run(server, "consent", "list", "--all").stdout
    assert len(model.asked) == 1


def test_a_broken_ledger_is_told_lets_nothing_through_and_is_set_aside(server: Any, peer: Begin) -> None:
    model = peer()
    use(server, model, kind="ollama")
    assert run(server, "consent", "grant", "p0", "--trust", "internal").returncode == 0
    assert run(server, "consent", "verify").stdout.startswith("holds  1 entry  ")
    assert failed(server, "consent", "set-aside", "--yes")[1]["code"] == "invalid_input"
    ledger = server.home / "gateway" / "consents.jsonl"
    ledger.write_text(ledger.read_text(encoding="utf-8").replace('"internal"', '"confidential"'), encoding="utf-8")
    done = run(server, "consent", "verify")
    assert done.returncode == 7
    assert "BROKEN  line 1: " in done.stdout
    assert "alg consent set-aside" in done.stderr
    assert document(run(server, "consent", "verify", "--json"))["broken"]["line"] == 1
    assert "the ledger is broken at line 1" in run(server, "consent", "list").stderr
    assert run(server, "complete", "x").returncode != 0
    assert not model.asked
    assert failed(server, "consent", "grant", "p0", "--trust", "internal")[1]["code"] == "chain_broken"
    code, error = failed(server, "consent", "set-aside")
    assert (code, error["hint"]) == (2, "Give --yes to do it without being asked.")
    aside = Path(document(run(server, "consent", "set-aside", "--yes", "--json"))["path"])
    assert '"confidential"' in aside.read_text(encoding="utf-8")
    assert run(server, "consent", "verify").returncode == 0
    assert server.json("consent", "list", "--all")["consents"] == []


def test_a_ledger_is_set_aside_only_after_a_yes(server: Any) -> None:
    server.configure(BUILT_IN)
    server.alg("consent", "grant", "trial", "--trust", "public")
    ledger = server.home / "gateway" / "consents.jsonl"
    ledger.write_text("nonsense\n", encoding="utf-8")
    for answer, code in (("n\n", 1), ("y\n", 0)):
        terminal = Terminal(server, "consent", "set-aside")
        terminal.expect("[y/N] ")
        terminal.type(answer)
        assert terminal.end() == code
        assert ledger.exists() == (code == 1)


def test_consent_for_a_provider_that_is_not_there_names_those_that_are(server: Any) -> None:
    server.configure(BUILT_IN)
    code, error = failed(server, "consent", "grant", "trail", "--trust", "internal")
    assert (code, error["hint"]) == (3, "There are: trial.")


# --- alg receipts, alg runs ---------------------------------------------------------------------------------------


def test_receipts_are_listed_shown_checked_and_pruned(server: Any, peer: Begin) -> None:
    bad, good = peer(status=503), peer()
    use(server, bad, good)
    assert "note: answered at attempt " in run(server, "complete", "the \x1b[2J question").stderr
    run(server, "gateway", "preview", "x")
    answered, *others = server.json("receipts", "list", "--outcome", "answered")["receipts"]
    assert others == []
    assert [line["outcome"] for line in server.json("receipts", "list", "--since", "1d")["receipts"]] == [
        "simulated",
        "answered",
    ]
    listed = run(server, "receipts", "list").stdout.splitlines()
    assert listed[1].startswith(answered["id"])
    assert listed[1].split("  ")[-1] == "$0.00"
    done = run(server, "receipts", "show", answered["id"][-8:])
    assert done.returncode == 0, done.stderr
    for line in (
        rf"receipt +{answered['id']}",
        r"outcome +answered",
        r"asked +complete, model auto, purpose complete, client command-line",
        r"  user +the \ufffd\[2J question",
        r"level +internal",
        r"route +taken +p0/m \(local\): .*",
        r"attempts +p0/m: \w+ after [\d.]+ s, status 503.*",
        r"answer +18 characters, stop, by m",
        r"tokens +input 3, output 5",
        r"cost +\$0\.00: .*",
        r"hash +[0-9a-f]{64}",
    ):
        assert re.search(f"^{line}$", done.stdout, re.MULTILINE), line
    done = run(server, "receipts", "verify")
    assert (done.returncode, done.stdout.split("  ")[0]) == (0, "holds")
    assert server.json("receipts", "verify")["holds"] is True
    run_folder = Path(server.json("receipts", "show", answered["id"])["run"])
    (run_folder / "receipt.json").unlink()
    done = run(server, "receipts", "verify")
    assert done.returncode == 7
    assert f"DIFFERS the run folder of {answered['id']}" in done.stdout
    assert "alg runs rebuild" in done.stderr
    done = run(server, "runs", "rebuild")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{answered['id']}\n", "made anew: 1\n")
    assert run(server, "receipts", "verify").returncode == 0
    assert server.json("runs", "rebuild") == {"rebuilt": []}
    (file,) = (server.home / "gateway" / "receipts").glob("*.jsonl")
    file.write_text(file.read_text(encoding="utf-8").replace("answered", "refused!"), encoding="utf-8")
    done = run(server, "receipts", "verify")
    assert done.returncode == 7
    assert "BROKEN  " in done.stdout
    assert failed(server, "receipts", "show", "ZZZZZZ")[1]["code"] == "not_found"
    assert run(server, "receipts", "prune", "--days", "30").stdout == "0 receipts deleted, 0 bytes\n"


def test_a_run_is_planned_again_and_what_differs_is_said(server: Any) -> None:
    server.configure(BUILT_IN)
    receipt = document(run(server, "complete", "x", "--json"))["receipt"]
    done = run(server, "runs", "replay", receipt)
    assert (done.returncode, done.stdout) == (0, "it would go the same way\n")
    (server.home / "policy.yaml").write_text(
        "rules:\n"
        + "".join(
            f"  {level}: {{local: deny, hosted: deny}}\n" for level in ("public", "internal", "confidential", "secret")
        ),
        encoding="utf-8",
    )
    done = run(server, "runs", "replay", receipt, "--json")
    assert done.returncode == 1
    assert document(done)["differences"]
    assert run(server, "runs", "replay", receipt).returncode == 1


# --- alg policy ---------------------------------------------------------------------------------------------------

POLICY = """\
rules:
  public: {local: allow, hosted: allow}
  internal: {local: allow, hosted: ask}
  confidential: {local: allow, hosted: deny}
  secret: {local: allow, hosted: deny}
tests:
  - {name: mine, trust: public, provider: hosted, expect: allow}
"""


def test_the_policy_is_shown_and_tested_without_a_hub_or_a_home(server: Any) -> None:
    done = run(server, "policy", "test")
    assert done.returncode == 0
    assert "passed  internal text needs consent" in done.stdout
    assert done.stderr == "4 passed, 0 failed; the default policy\n"
    assert "hosted: ask" in run(server, "policy", "show").stdout
    assert len(document(run(server, "policy", "show", "--json"))["rules"]) == 8
    assert run(server, "policy", "path").stdout == f"{server.home / 'policy.yaml'}\n"
    assert not server.home.exists()


def test_tests_beside_the_policy_count_and_a_failure_is_exit_code_1(server: Any, tmp_path: Path) -> None:
    server.home.mkdir()
    (server.home / "policy.yaml").write_text(POLICY, encoding="utf-8")
    tests = server.home / "policy-tests.yaml"
    tests.write_text("tests:\n  - {trust: internal, provider: hosted, expect: deny}\n", encoding="utf-8")
    done = run(server, "policy", "test")
    assert done.returncode == 1
    assert "passed  mine" in done.stdout
    assert f"FAILED  line 2  {tests} line 2" in done.stdout
    assert "internal, hosted, chat: expected deny, the policy says ask (line 3)" in done.stdout
    report = document(run(server, "policy", "test", "--json"))
    assert (report["passed"], report["failed"], report["tests_source"]) == (1, 1, str(tests))
    other = tmp_path / "draft.yaml"
    other.write_text(POLICY, encoding="utf-8")
    assert run(server, "policy", "test", str(other)).returncode == 0  # its own tests, and none beside it
    assert failed(server, "policy", "test", str(tmp_path / "none.yaml"))[0] == 3
    assert server.hub_pid() is None


def test_a_broken_policy_is_refused_with_its_line(server: Any, tmp_path: Path) -> None:
    draft = tmp_path / "draft.yaml"
    draft.write_text(POLICY.replace("hosted: ask", "hosted: perhaps"), encoding="utf-8")
    code, error = failed(server, "policy", "test", str(draft))
    assert (code, error["code"], error["details"]["line"]) == (2, "config", 3)
    assert f"{draft} line 3 has 'perhaps'" in error["message"]
    server.home.mkdir()
    draft.rename(server.home / "policy.yaml")
    assert run(server, "policy", "show").returncode == 2
    assert server.hub_pid() is None


# --- Money --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("0", 0),
        ("0.02", 2_000_000),
        ("$1", 100_000_000),
        (".5", 50_000_000),
        ("0.00000001", 1),
        ("1.10000000000", 110_000_000),
    ],
)
def test_dollars_are_whole_micro_cents(text: str, amount: int) -> None:
    assert micro_cents(text) == amount


@pytest.mark.parametrize("text", ["", ".", "-1", "1e3", "0.000000001", "much", "1,5", "NaN", "$", "1" * 10])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="budget"):
        micro_cents(text)


def test_micro_cents_are_shown_exactly() -> None:
    shown = [dollars(amount) for amount in (None, 0, 1, 2_000_000, 123_450_000_000)]
    assert shown == ["cost unknown", "$0.00", "$0.00000001", "$0.02", "$1,234.50"]
