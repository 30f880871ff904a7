"""What `alg complete`, `chat` and `embed` do around the hub's operations: prompts, money, and an answer as it comes."""

from __future__ import annotations

import contextlib
import re
import select
import sys
from collections.abc import Sequence
from typing import Any

from adaptive_llm_gateway.core import InvalidInput
from adaptive_llm_gateway.server._cli_output import HubRefused, Json, Paint, harmless, paint_for, talk
from adaptive_llm_gateway.server._cli_work import call, read_stdin
from adaptive_llm_gateway.server._render_gateway import of_cache

_DOLLAR = 100_000_000
_DIGITS = 8  # of a dollar, behind the point: micro-cents
_MONEY = re.compile(r"\$?(?=\.?\d)(\d{0,9})(?:\.(\d*))?")
_SHOWN = 4
"""Numbers of a vector that people are shown."""
_LONGEST_LABEL = 40
_PATIENCE = 2.0
"""Seconds until it is said that stdin is waited for."""


# --- What is asked ------------------------------------------------------------------------------------------------


def micro_cents(text: str | None) -> int | None:
    """Dollars as whole micro-cents, exactly.

    Raises:
        InvalidInput: it is no amount, or finer than a micro-cent.
    """
    if text is None:
        return None
    found = _MONEY.fullmatch(text.strip())
    part = (found[2] or "").rstrip("0") if found else ""
    if found is None or len(part) > _DIGITS:
        raise InvalidInput(
            f"the budget {text!r} is no amount of dollars"
            + (": it is finer than a micro-cent, 0.00000001" if found else ""),
            hint="For example 0.02, which is two cents.",
        )
    return int(found[1] or "0") * _DOLLAR + int(part.ljust(_DIGITS, "0"))


def dollars(amount: int | None) -> str:
    """Micro-cents as dollars, exactly, or `cost unknown`."""
    if amount is None:
        return "cost unknown"
    whole, part = divmod(amount, _DOLLAR)
    return f"${whole:,}.{f'{part:0{_DIGITS}}'.rstrip('0').ljust(2, '0')}"


def read_prompt(given: str | None, *, stdin: bool = True) -> str:
    """The prompt, and below it what comes on stdin where that is no terminal.

    Args:
        given: `-` is stdin alone.
        stdin: read it at all.

    Raises:
        InvalidInput: there is neither.
        InvalidFile, TooLarge: stdin is not UTF-8, or beyond all limits.
    """
    prompt = "" if given in (None, "-") else str(given)
    piped = _piped(patient=not prompt) if stdin and (given == "-" or _is_piped()) else ""
    if not piped.strip():
        if not prompt.strip():
            raise InvalidInput(
                "there is no prompt", hint='For example: git diff | alg complete "write a commit message"'
            )
        return prompt
    return f"{prompt}\n\n{piped}" if prompt.strip() else piped


def _piped(*, patient: bool) -> str:
    """All of stdin. Unless `patient`, it is said what is waited for when nothing comes: it may have been left open."""
    if not patient:
        with contextlib.suppress(OSError, ValueError):  # where a pipe cannot be waited for
            if not select.select([sys.stdin], [], [], _PATIENCE)[0]:
                talk("note: waiting for stdin, which is joined to the prompt; --no-stdin leaves it alone")
    return read_stdin()


def read_texts(given: Sequence[str]) -> list[str]:
    """The texts to embed: the arguments, else the lines of stdin that are not empty.

    Raises:
        InvalidInput: there is none.
        InvalidFile, TooLarge: stdin is not UTF-8, or beyond all limits.
    """
    texts = list(given)
    if not texts and _is_piped():
        texts = [line for line in read_stdin().splitlines() if line.strip()]
    if not texts:
        raise InvalidInput("there is nothing to embed", hint="Give texts, or pipe lines: alg embed < lines.txt")
    return texts


def _is_piped() -> bool:
    # A process may be started without any stdin.
    return sys.stdin is not None and not sys.stdin.isatty()  # pyright: ignore[reportUnnecessaryComparison]


# --- What is answered ---------------------------------------------------------------------------------------------


class _ReaderGone(Exception):
    """Nothing more goes to stdout, and why. No OSError: those stand for the connection to the hub."""

    def __init__(self, why: OSError) -> None:
        super().__init__(str(why))
        self.why = why


class _Pieces:
    """Prints an answer's text as it comes."""

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty()
        self._last = ""

    @property
    def any(self) -> bool:
        """Whether there was text."""
        return bool(self._last)

    def __call__(self, text: str) -> None:
        if not text:
            return
        try:
            sys.stdout.write(harmless(text) if self._terminal else text)
            sys.stdout.flush()
        except OSError as error:
            raise _ReaderGone(error) from error
        self._last = text

    def end(self) -> None:
        """End the line that the text ended in."""
        if self._last and not self._last.endswith("\n"):
            self("\n")


def ask(root: str, operation: str, *, stream: bool, **arguments: Any) -> Json:
    """Have a prompt answered: its text on stdout (as it comes, with `stream`), and its facts on stderr.

    Raises:
        HubRefused: nobody may get it, or nobody answered; where a part was printed, the error says so.
        BrokenPipeError: whoever read stdout went away; the provider's call is cancelled.
        OSError: likewise, where stdout is a file on a disk that refuses.
        KeyboardInterrupt: likewise.
    """
    pieces = _Pieces()
    given = {name: value for name, value in arguments.items() if value is not None}
    try:
        try:
            answer: Json = call(root, operation, on_piece=pieces, stream=stream, **given)
            if not pieces.any:
                pieces(answer["text"])
        finally:
            pieces.end()
    except _ReaderGone as error:
        raise error.why from None
    except HubRefused as error:
        raise (HubRefused(_not_whole(error.error)) if pieces.any else error) from None
    talk_about_answer(answer)
    return answer


def _not_whole(error: Json) -> Json:
    if error.get("details", {}).get("answered"):  # what was printed is whole, and only its receipt is not there
        return error
    return {
        **error,
        "message": f"the answer is NOT whole: {error['message']}",
        "hint": error.get("hint") or "Ask again. What was printed is a part.",
        "details": {**error.get("details", {}), "partial": True},
    }


def talk_about_answer(answer: Json) -> None:
    """On stderr: who answered where, tokens, cost, receipt; and what is to be known of the answer."""
    paint = paint_for(sys.stderr)
    talk(paint(harmless(answer_line(answer)), "dim"))
    for notice in answer_notices(answer):
        talk(f"{paint('note:', 'yellow')} {harmless(notice)}")


def answer_line(answer: Json) -> str:
    """Who answered where, tokens, cost, receipt."""
    tokens = answer["tokens"]
    told = (("input", f"in{of_cache(tokens)}"), ("output", "out"))
    counts = [f"{tokens[name]:,} {word}" for name, word in told if tokens[name] is not None]
    facts = [
        f"{answer['provider']}/{answer['model']} ({answer['where']})",
        f"tokens {', '.join(counts)}" if counts else "tokens not told",
        dollars(answer["cost"]["micro_cents"]),
        f"receipt {answer['receipt']}",
    ]
    return "; ".join(facts)


def answer_notices(answer: Json) -> list[str]:
    """What is to be known of an answer besides."""
    notices: list[str] = []
    if answer.get("finish") == "length":
        notices.append("the answer ends where its tokens did (--max-tokens, or the model's own limit)")
    elif answer.get("finish") == "filter":
        notices.append("the provider's filter ended the answer")
    if answer["redacted"]:
        notices.append(f"{answer['redacted']} found in the prompt and taken out before it was sent")
    if answer["attempts"] > 1:
        notices.append(f"answered at attempt {answer['attempts']}; the receipt tells of the others")
    if answer["cost"]["micro_cents"] is None:
        notices.append(f"the cost is not known: {answer['cost']['why']}")
    context: Json | None = answer.get("context")
    if context is not None:
        count = len(context["sources"])
        notices.append(
            f"with {count} {'memory' if count == 1 else 'memories'} as context, {context['tokens']:,} tokens"
        )
        notices += context.get("notices", [])
    return notices


def vectors_text(answer: Json, texts: Sequence[str], paint: Paint) -> str:
    """A line for each text: how many numbers its vector has, the first of them, the text."""
    lines: list[str] = []
    for text, vector in zip(texts, answer["vectors"], strict=True):
        first = " ".join(f"{number:+.4f}" for number in vector[:_SHOWN])
        more = " ..." if len(vector) > _SHOWN else ""
        label = " ".join(text.split())
        label = label if len(label) <= _LONGEST_LABEL else f"{label[: _LONGEST_LABEL - 3]}..."
        lines.append(f"{paint(f'{len(vector)} dimensions', 'bold')}  {first}{more}  {paint(harmless(label), 'dim')}")
    return "\n".join(lines)
