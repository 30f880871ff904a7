"""`alg chat` on a terminal: a conversation, turn by turn."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from adaptive_llm_gateway.core import AlgError
from adaptive_llm_gateway.server._cli_ask import ask
from adaptive_llm_gateway.server._cli_output import HubRefused, print_error, talk

TRUST_LEVELS = ("public", "internal", "confidential", "secret")
_PROMPT = "> "
_HELP = """/model NAME     ask this model from now on (auto: the best that may)
/trust LEVEL    public, internal, confidential or secret, from now on
/context QUERY  take what the memories know about QUERY along from now on; without QUERY none
/new            forget the conversation so far
/quit           end, as Ctrl-D does; Ctrl-C stops an answer
A text that begins with a slash goes behind a space."""


@dataclass
class Conversation:
    """What was said so far, and how the next turn is asked.

    Attributes:
        asked: arguments of the operation besides messages and context.
    """

    asked: dict[str, Any]
    system: str | None = None
    query: str | None = None
    budget: int = 2_000
    turns: list[dict[str, str]] = field(default_factory=list[dict[str, str]])

    def messages(self, text: str) -> list[dict[str, str]]:
        """All of it, with what is said now."""
        before = [{"role": "system", "content": self.system}] if self.system else []
        return [*before, *self.turns, {"role": "user", "content": text}]

    def context(self) -> Mapping[str, Any] | None:
        """Which memories go along."""
        return {"query": self.query, "budget": self.budget} if self.query else None

    def say(self, root: str, text: str, *, stream: bool) -> None:
        """Have `text` answered, and keep both. What is not answered whole is not kept.

        Raises:
            HubRefused, BrokenPipeError, KeyboardInterrupt: see `ask`.
        """
        messages = self.messages(text)
        answer = ask(root, "gateway_chat", stream=stream, messages=messages, context=self.context(), **self.asked)
        self.turns += [{"role": "user", "content": text}, {"role": "assistant", "content": answer["text"]}]


def converse(root: str, talked: Conversation, *, stream: bool) -> None:
    """Ask and answer until the person ends it."""
    with contextlib.suppress(ImportError):  # not everywhere; a line can be typed without it
        import readline  # noqa: F401, PLC0415  # pyright: ignore[reportUnusedImport]
    talk("/help lists the commands; Ctrl-D ends")
    while True:
        try:
            text = _line()
        except EOFError:
            talk("")
            return
        except KeyboardInterrupt:  # the line is given up, as in a shell
            talk("")
            continue
        if not text.strip():
            continue
        if text.startswith("/"):
            if _command(talked, text):
                return
            continue
        try:
            talked.say(root, text, stream=stream)
        except KeyboardInterrupt:
            talk("stopped; neither the question nor the answer is kept")
        except HubRefused as error:
            print_error(error.error, as_json=False)
        except AlgError as error:
            print_error(error.as_dict(), as_json=False)


def _line() -> str:
    if sys.stdout.isatty():
        return input(_PROMPT)  # by readline, where there is one
    sys.stderr.write(_PROMPT)  # stdout is somewhere else, and has the answers alone
    sys.stderr.flush()
    return input()


def _command(talked: Conversation, line: str) -> bool:
    """Carry out a command; whether it ends the conversation."""
    name, _, value = line[1:].strip().partition(" ")
    value = value.strip()
    match name:
        case "quit" | "exit":
            return True
        case "help":
            talk(_HELP)
        case "new":
            talked.turns.clear()
            talk("a new conversation")
        case "model":
            talked.asked["model"] = value or talked.asked.get("model") or "auto"
            talk(f"model: {talked.asked['model']}")
        case "trust" if value in ("", *TRUST_LEVELS):
            talked.asked["trust"] = value or talked.asked.get("trust")
            talk(f"trust: {talked.asked['trust'] or 'as configured'}")
        case "trust":
            talk(f"error: there is no trust level {value!r}\nhint: {', '.join(TRUST_LEVELS)}")
        case "context":
            talked.query = value or None
            talk(f"context: {value}" if value else "context: none")
        case _:
            talk(f"error: there is no command {'/' + name!r}\nhint: /help lists them; a text goes behind a space.")
    return False
