"""Keeps credentials out of what is said: of a client's calls, of errors, and of the log.

What is stored is looked at where it is stored. This is about all the other texts that a client gives, which come back
in an error, go into a line of the log, or to an embedding service elsewhere as a question.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Container, Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

from adaptive_llm_gateway.core import LEAVE_TO_PERSON, Finding, SecretScanner

if TYPE_CHECKING:
    from adaptive_llm_gateway.server._operations import Operations

# Texts that whoever stores or sends them looks at as a whole, and that no answer repeats.
_CONTENT = frozenset(
    {"body", "messages", "objective", "prompt", "rationale"} | {"result", "state", "system", "text", "texts"}
)
# With `redact=true` a mark is stored in these.
_REDACTED = frozenset(
    {"alternatives", "constraints", "fields", "next_action", "open_questions"}
    | {"project", "reason", "source", "tags", "title"}
)
# What is looked for is not stored: it is asked with a mark rather than not at all.
_QUESTIONS = frozenset({"context", "query"})
_LONG = 1_000_000  # characters; whoever is to store or send such a text refuses it, or looks at it
_SLOW = 20_000  # characters that are looked at in a thread
_SHORT = 12  # characters of an argument of a line of the log in which no credential fits


class SecretGate:
    """Looks at what clients ask for, before anything is done with it."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    async def arguments(
        self, tool: str, given: Mapping[str, Any], *, known: Container[str] = ()
    ) -> dict[str, Any] | str:
        """The arguments of a call as it may be made, or why it is not.

        Args:
            known: names that an argument of this tool may have: they are ours, and not looked at.
        """
        redact = given.get("redact") is True
        looked_at = {
            name: value for name, value in given.items() if name not in _CONTENT and not (redact and name in _REDACTED)
        }
        if sum(map(len, texts_of(looked_at))) > _SLOW:
            found = await asyncio.to_thread(self._look, tool, looked_at, known)
        else:
            found = self._look(tool, looked_at, known)
        return found if isinstance(found, str) else {**given, **found}

    def _look(self, tool: str, given: Mapping[str, Any], known: Container[str]) -> dict[str, Any] | str:
        """What is to be asked otherwise; or why nothing is done."""
        questions: dict[str, Any] = {}
        for name, value in given.items():
            in_name = () if name in known else self._found(name)
            found = in_name or self._found(value)
            if not found:
                continue
            if name in _QUESTIONS:
                questions[name] = self._cleaned(value)
                continue
            where = f"the name of an argument of {tool}" if in_name else f"the argument {name!r} of {tool}"
            how = ", or pass redact=true to store a mark in its place" if name in _REDACTED else ""
            return (
                f"{where} carries what looks like a secret: {_shown(found)}. Nothing was done. Remove it and try "
                f"again{how}. {LEAVE_TO_PERSON}, by its fingerprint ({found[0].fingerprint})."
            )
        return questions

    def questions(self, given: dict[str, Any]) -> dict[str, Any]:
        """What the command line asks, with a mark for each credential in a question."""
        asked = {name: given[name] for name in _QUESTIONS & given.keys() if self._found(given[name])}
        return {**given, **{name: self._cleaned(value) for name, value in asked.items()}}

    def request(self, method: str, params: object) -> str | None:
        """Why a request other than a tool's call is not answered; None when it may be."""
        # A name before a text may be `progressToken`, which tells nothing of it.
        found = self._found((method, *texts_of(params, named=False)))
        return f"the request carries what looks like a secret: {_shown(found)}" if found else None

    def said(self, text: str) -> str:
        """A text for a client, without credentials."""
        return self._scanners()[0].redact(text)[0] if self._found(text) else text

    def _cleaned(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.said(value)
        if isinstance(value, dict):
            return {self._cleaned(key): self._cleaned(one) for key, one in cast("dict[Any, Any]", value).items()}
        if isinstance(value, list):
            return [self._cleaned(one) for one in cast("list[Any]", value)]
        return value

    def _found(self, value: object) -> tuple[Finding, ...]:
        """What any text of it has that no memory repo allows."""
        first, *others = self._scanners()
        for text in texts_of(value):
            if len(text) > _LONG:
                continue
            found = first.scan(text)
            if found and others:
                kept = [{finding.fingerprint for finding in scanner.scan(text)} for scanner in others]
                found = tuple(finding for finding in found if all(finding.fingerprint in one for one in kept))
            if found:
                return found
        return ()

    def _scanners(self) -> tuple[SecretScanner, ...]:
        return self._operations.scanners or (_plain,)


def texts_of(value: object, *, named: bool = True) -> Iterator[str]:
    """Every text in a JSON value.

    Args:
        named: one that an object has under a name has that name before it, which may tell what it is.
    """
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, one in cast("Mapping[object, object]", value).items():
            if named and isinstance(one, str):
                yield f"{key}: {one}"
            else:
                yield str(key)
                yield from texts_of(one, named=named)
    elif isinstance(value, list | tuple):
        for one in cast("list[object]", value):
            yield from texts_of(one, named=named)


def _shown(found: tuple[Finding, ...]) -> str:
    return ", ".join(f"{finding.kind} ({finding.preview})" for finding in found[:5])


def without_secrets(value: Any) -> Any:
    """A JSON value with a mark for each credential in its texts: for errors, whatever they quote."""
    if isinstance(value, str):
        return _plain.redact(value)[0]
    if isinstance(value, dict):
        return {without_secrets(key): without_secrets(one) for key, one in cast("dict[Any, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [without_secrets(one) for one in cast("list[Any]", value)]
    return value


class CleanFormatter(logging.Formatter):
    """Lines of the log with a mark for each credential, also in what an exception quotes."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, and the lines of the exception below it."""
        return str(self.cleaned(record, super().format(record)))

    def cleaned(self, record: logging.LogRecord, made: Any) -> Any:
        """What was made of a record, with a mark for each credential in its texts."""
        return made if _is_plain(record) else without_secrets(made)


def _is_plain(record: logging.LogRecord) -> bool:
    """Whether nothing but a text of the program's source can be in it; it spares the hub's start the scanner."""
    given: object = record.args
    if record.exc_info or not isinstance(given, tuple) or not given:
        return False
    return all(isinstance(one, int | float) or (isinstance(one, str) and len(one) < _SHORT) for one in given)


_plain = SecretScanner()


def use_mark_key(key: bytes | None) -> None:
    """From here on, errors and the log of this process have the marks of a home."""
    global _plain  # noqa: PLW0603 - the log is set up before its home's key is known
    _plain = SecretScanner(mark_key=key)
