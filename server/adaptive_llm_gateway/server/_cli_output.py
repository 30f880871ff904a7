"""How the command line speaks: results to stdout, talk to stderr, JSON for both outcomes, documented exit codes."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from adaptive_llm_gateway.core import LEAVE_TO_PERSON, AlgError, HubUnavailable

Json = dict[str, Any]

EXIT_CODES: Mapping[int, str] = {
    0: "done",
    1: "an error without a number of its own; `alg doctor` found a failure; an import refused some items; "
    "offline mode is not proved; tests of the policy failed; a run would go another way now",
    2: "wrong usage, or input that will be refused again: an argument, a field, a file, the configuration",
    3: "no such memory, handoff, version, file, commit, model, consent, receipt or client",
    4: "`--if-version` is stale: read again, then try again; the handoff is somebody else's, over or damaged",
    5: "something that looks like a secret was found or refused",
    6: "not available just now: no hub, a lock that is held, work that is still running",
    7: "the disk, the home or the memory repo does not let us work, and nothing was changed; "
    "the consent ledger, the receipts or the audit log do not hold",
    8: "a pull or push did not succeed; the remote, which has to confirm a claim, is out of reach",
    9: "the provider of a model failed, or its answer broke off: what came is not whole",
    10: "not sent: the policy or the mode forbids it, a consent is missing, or the budget is not enough",
    75: "of a hub that a service manager runs: start another, for a new version or by `alg hub restart`",
    130: "interrupted",
    141: "whoever read the output went away",
}
"""What the exit codes mean, for the documentation."""

# Codes of errors whose classes live in components that the command line does not load.
_EXIT_OF_CODE = {
    "usage": 2,
    "unconfirmed": 6,
    "corrupt_index": 7,
    "embedder_unavailable": 6,
    "reranker_unavailable": 6,
    "qdrant_unavailable": 6,
    "git_failed": 7,
    "git_timeout": 7,
    "git_missing": 7,
    "chain_broken": 7,
    "provider_failed": 9,
    "not_permitted": 10,
    "consent_needed": 10,
    "over_budget": 10,
}
_REASON = re.compile(r"could not be started: ([a-z_]+): (.*)", re.DOTALL)
# Recalled text must not steer the terminal: C0 without tab and newline, DEL, C1, and what turns the reading direction.
_STEERING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


class Paint:
    """Wraps text in terminal styles, or leaves it alone.

    Args:
        on: whether to style at all.
    """

    _CODES: Mapping[str, str] = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}

    def __init__(self, *, on: bool) -> None:
        self.on = on

    def __call__(self, text: str, style: str) -> str:
        return f"\x1b[{self._CODES[style]}m{text}\x1b[0m" if self.on and text else text


def paint_for(stream: Any) -> Paint:
    """Styles when `stream` is a terminal that has them, and `NO_COLOR` (https://no-color.org) is not set."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return Paint(on=not plain and stream.isatty())


def harmless(text: str) -> str:
    """`text` without characters that steer a terminal."""
    return _STEERING.sub("\N{REPLACEMENT CHARACTER}", text)


def in_a_line(text: str) -> str:
    """`text` where one line is due: what others wrote adds no line that looks like ours."""
    return harmless(" ".join(line.strip() for line in text.splitlines()))


def set_up_streams() -> None:
    """UTF-8 whatever the locale says, and paths that are none come out as they are."""
    for stream, errors in ((sys.stdout, "surrogateescape"), (sys.stderr, "backslashreplace")):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(encoding="utf-8", errors=errors)


def print_json(data: object) -> None:
    """One JSON document on stdout."""
    text = json.dumps(data, ensure_ascii=False, indent=2)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # a path that is not UTF-8: escaped, the document stays valid
        text = json.dumps(data, ensure_ascii=True, indent=2)
    print(text)


def emit(data: object, *, as_json: bool, text: Callable[[Paint], str]) -> None:
    """Print a result: `data` as JSON, or what `text` makes of it for people."""
    if as_json:
        print_json(data)
        return
    made = text(paint_for(sys.stdout))
    if made:
        print(made)


def talk(text: str) -> None:
    """A line for people on stderr, behind what was printed on stdout."""
    sys.stdout.flush()
    print(text, file=sys.stderr)


def wants_json(arguments: list[str]) -> bool:
    """Whether `--json` is among the arguments, also of a command line that cannot be parsed."""
    return "--json" in (arguments[: arguments.index("--")] if "--" in arguments else arguments)


def print_error(error: Json, *, as_json: bool) -> None:
    """An error as one JSON document on stdout, or as `error:`, `hint:` and `receipt` lines on stderr.

    With marks for credentials: an error quotes what was typed, and a terminal's scrollback is read by others.
    """
    from adaptive_llm_gateway.server._gate import without_secrets  # noqa: PLC0415 - the scanner, for errors alone

    error = without_secrets(error)
    if as_json:
        print_json({"error": {"hint": None, "details": {}, **error}})
        return
    paint = paint_for(sys.stderr)
    talk(f"{paint('error:', 'red')} {in_a_line(error['message'])}")
    details: Json = error.get("details") or {}
    hint = hint_for_people(error.get("hint"), details)
    if hint:
        talk(f"{paint('hint:', 'yellow')} {in_a_line(hint)}")
    receipt = details.get("receipt")
    if receipt:
        talk(in_a_line(receipt_named(str(receipt), details)))


def hint_for_people(hint: str | None, details: Json) -> str | None:
    """The hint, with how a person allows what was found where it was a secret: models are not told that."""
    findings: list[Json] = details.get("findings") or []
    fingerprint = findings[0].get("fingerprint") if findings else None
    if not fingerprint:
        return hint
    repo = f" --repo {details['repo']}" if details.get("repo") else ""
    before, _, behind = (hint or "").partition(LEAVE_TO_PERSON)
    kept = behind.partition(". ")[2]  # what a command has added, such as where an edit is kept
    before = before.replace("pass redact=true", "pass --redact")
    told = f"{before.strip()} If it is no secret: `alg secrets allow {fingerprint}{repo} --reason WHY`. {kept}"
    return told.strip()


def receipt_named(receipt: str, details: Json) -> str:
    """The receipt that an error names, and why it is not there where it could not be stored."""
    problem = details.get("receipt_not_stored")
    return f"receipt {receipt}" + (f" is not stored: {problem}" if problem else "")


def exit_code(code: str) -> int:
    """The exit code that belongs to an error's code."""
    found = _EXIT_OF_CODE.get(code)
    if found is not None:
        return found
    return next((kind.exit_code for kind in _kinds(AlgError) if kind.code == code), AlgError.exit_code)


def _kinds(kind: type[AlgError]) -> Iterator[type[AlgError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _kinds(child)


class HubRefused(Exception):
    """The hub answered with an error, or there is none; `error` is its JSON (`code`, `message`, `hint`, `details`)."""

    def __init__(self, error: Json) -> None:
        super().__init__(error["message"])
        self.error = error


def no_hub(text: str, root: str) -> HubRefused:
    """Why no hub answers, as an error; where the hub itself gave the reason, with the reason's code."""
    reason = _REASON.search(text)
    code = reason[1] if reason and any(kind.code == reason[1] for kind in _kinds(AlgError)) else HubUnavailable.code
    hint = "`alg hub logs` shows the hub's log, `alg doctor` looks for the cause."
    return HubRefused({"code": code, "message": text, "hint": hint, "details": {"home": root}})
