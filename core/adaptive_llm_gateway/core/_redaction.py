"""Marks: what stands in a text for a credential that was taken out of it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from adaptive_llm_gateway.core._secret_values import MARK, Match

MARK_KEY_BYTES: Final = 32
"""How long the key of the marks is."""

_HASH_DIGITS = 4
_LONGEST_QUOTING = 4096  # characters before a credential in which its line begins, if it may be one of a patch
_LINE_END = re.compile(r"(\r\n|\n|\r)")
_QUOTING = re.compile(r"[ \t>|*#]*[\"'`]?")
_CLOSING = re.compile(r"[\"'`][ \t+,;.&\\]*$")
_NO_KEY_TEXT = re.compile(r"[^A-Za-z0-9/]+")


@dataclass(frozen=True, slots=True)
class Redaction:
    """A credential that was taken out of a text, without the credential: safe to log, to show and to store.

    Attributes:
        kind: what it is, such as `github-token` or `password`.
        line: 1-based, in the text as it was and as it is: a redaction leaves every line where it was.
        mark: what stands there now, `[redacted:github-token#ab12]`.
        where: in which of several texts: `body`, `title`, a field's name.
    """

    kind: str
    line: int
    mark: str
    where: str = ""

    def __str__(self) -> str:
        place = f"{self.where}, line {self.line}" if self.where else f"line {self.line}"
        return f"{self.kind} in {place}: {self.mark}"


def mark_of(kind: str, secret: str, key: bytes | None) -> str:
    """`[redacted:<kind>#<four hex digits>]`, of equal secrets the same with one key; without a key no digits.

    The digits are of a BLAKE2b hash with the key (RFC 7693, section 2.9), of the secret alone, so that they are equal
    also where a secret was taken for another kind.
    """
    if key is None:
        mark = f"[redacted:{kind}]"
    else:
        # What quotes the lines of a private key, as in a patch, is no part of it.
        own = _NO_KEY_TEXT.sub("", secret) if kind == "private-key" else secret
        digest = hashlib.blake2b(own.encode("utf-8", "surrogatepass"), key=key, digest_size=16, person=b"alg-redaction")
        mark = f"[redacted:{kind}#{digest.hexdigest()[:_HASH_DIGITS]}]"
    return mark if MARK.fullmatch(mark) else mark_of("secret", secret, key)


def with_marks(text: str, matches: Sequence[Match], key: bytes | None) -> tuple[str, tuple[Redaction, ...]]:
    """The text with a mark for each of the matches, which are in order; of two that overlap the first one's."""
    parts: list[str] = []
    done: list[Redaction] = []
    at, line = 0, 1
    for match in matches:
        mark = mark_of(match.kind, match.secret, key)
        if match.start >= at:
            line += line_ends(text, at, match.start)
            done.append(Redaction(match.kind, line, mark))
            parts += (text[at : match.start], _in_place(text, match, mark))
            line += line_ends(text, match.start, match.end)
            at = match.end
        else:
            done.append(Redaction(match.kind, done[-1].line, mark))
    return "".join([*parts, text[at:]]), tuple(done)


def marks_in(text: str, *, where: str = "") -> tuple[Redaction, ...]:
    """The marks that stand in a text, in order; also those without a hash."""
    found: list[Redaction] = []
    at, line = 0, 1
    for mark in MARK.finditer(text):
        line += line_ends(text, at, mark.start())
        at = mark.start()
        kind = mark.group().strip("[]").partition(":")[2].partition("#")[0]
        found.append(Redaction(kind or "secret", line, mark.group(), where))
    return tuple(found)


def line_ends(text: str, start: int, end: int) -> int:
    """How many lines end within; CR LF, LF and CR each end one."""
    crlf = text.count("\r\n", start, end)
    return text.count("\n", start, end) + text.count("\r", start, end) - crlf


def _in_place(text: str, match: Match, mark: str) -> str:
    """The mark, and of a credential of several lines their ends and what quotes them.

    A hunk of a patch keeps its number of lines, a YAML block its indentation, a text in a program its quotes.
    """
    first, *more = _LINE_END.split(text[match.start : match.end])
    if not more:
        return mark
    low = max(0, match.start - _LONGEST_QUOTING)
    begin = max(text.rfind(end, low, match.start) for end in "\n\r") + 1
    patch = (begin > 0 or low == 0) and text[begin : begin + 1] in ("+", "-", " ")
    head = _quoting(first, patch=patch) if begin == match.start else ""
    parts = [head, mark, _closing(first[len(head) :])]
    for number in range(0, len(more), 2):
        end, line = more[number : number + 2]
        quoting = _quoting(line, patch=patch)
        closing = _closing(line[len(quoting) :])
        if not closing and number + 2 < len(more):  # a quote that nothing closes would run on
            quoting = quoting.rstrip("\"'`")
        following = more[number + 2] if number + 2 < len(more) else text[match.end : match.end + 1]
        if end == "\r" and following == "\n" and not quoting + closing:
            closing = " "  # the two would be one line end
        parts += (end, quoting, closing)
    return "".join(parts)


def _quoting(line: str, *, patch: bool) -> str:
    """What stands before the first character of a line of a credential."""
    sign = line[:1] if patch and line[:1] in ("+", "-") else ""
    if line.startswith("-----") and not line.startswith("------"):  # `-----END`, which no line taken out begins with
        sign = ""
    found = _QUOTING.match(line, len(sign))
    return sign + (found.group() if found is not None else "")


def _closing(line: str) -> str:
    """The quote that closes a line, and what joins it to the next."""
    found = _CLOSING.search(line)
    return found.group() if found is not None else ""
