"""Counting tokens: exactly by the tokenizers inside the package, or from above for models that have another."""

from __future__ import annotations

import re
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING

from adaptive_llm_gateway.compression._ranks import SPECS, Core, EncodingName, core, make
from adaptive_llm_gateway.compression._token_models import DEFAULT_ENCODING, Bound, tokenizer_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adaptive_llm_gateway.compression._values import TokenCounter

# White space as the patterns mean it (Unicode's White_Space, which is less than `str.isspace`).
_SPACES = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
_SPACE_RUN = re.compile(f"[{_SPACES}]*")
_NEWLINES = re.compile(r"[\r\n]*")
# tiktoken's regular expressions give up on a million characters of white space. Runs from here on are taken out.
LONG_RUN = 100_000

_joining: dict[EncodingName, Core] = {}
_joining_lock = Lock()


@dataclass(frozen=True, slots=True)
class ExactCounter:
    """Counts as tiktoken does; the ranks are loaded by the first count, which must not be made on an event loop."""

    name: EncodingName

    @property
    def exact(self) -> bool:
        """True."""
        return True

    def count(self, text: str) -> int:
        """The tokens of a text. Special tokens in it are text; a lone surrogate is counted as U+FFFD.

        Raises:
            StorageError: the file of the ranks is missing or damaged.
        """
        return count_tokens(text, self.name)


@dataclass(frozen=True, slots=True)
class BoundCounter:
    """Counts by a measured upper bound over o200k_base, for a tokenizer that is not in the package."""

    model: str
    bound: Bound

    @property
    def name(self) -> str:
        """`estimate:` and the model as it was given."""
        return f"estimate:{self.model}"

    @property
    def exact(self) -> bool:
        """False."""
        return False

    def count(self, text: str) -> int:
        """No fewer tokens than the model's tokenizer made of any text that was measured of this kind.

        Raises:
            StorageError: the file of the ranks is missing or damaged.
        """
        tokens = count_tokens(text, DEFAULT_ENCODING)  # of no text too: the ranks are then there
        return self.bound.total(tokens, text) if text else 0


def counter_for(model: str | None = None) -> TokenCounter:
    """What counts the tokens of a model. Loads nothing: the first count does (`count("")` is enough), for half a second
    of processor time and 50 MB, so let it be made in a thread where there is an event loop.

    Args:
        model: a model's name, also with its provider before it (`openai/gpt-4o`), or an encoding's. Without one the
            tokens are those of o200k_base.

    Returns:
        An exact counter for OpenAI's models; for all others one that counts from above and says so in its name.
    """
    if model is None:
        return ExactCounter(DEFAULT_ENCODING)
    found = tokenizer_of(model)
    return BoundCounter(model, found) if isinstance(found, Bound) else ExactCounter(found)


def count_tokens(text: str, name: EncodingName, *, long_run: int = LONG_RUN) -> int:
    """The tokens of a text in an encoding, exactly.

    Args:
        long_run: how many characters of white space on end are counted beside the regular expression, which cannot take
            a million; at least 2. What comes out is the same for any number.

    Raises:
        StorageError: the file of the ranks is missing or damaged.
    """
    encoder = core(name)
    total = at = 0
    for start, end in _long_runs(text, long_run):
        run_start = start + _newlines_taken(text, at, start, end, name)
        run = text[run_start:end]
        if not run.strip("\r\n"):
            continue  # newlines alone are no trouble, and a slash behind them may belong to the same piece
        newline = max(run.rfind("\n"), run.rfind("\r")) + 1
        # The last blank before a word may be the word's, so it is counted with what follows.
        after = end if end == len(text) or newline == len(run) else end - 1
        if end == len(text) and SPECS[name].end_is_one:
            newline = 0
        pieces = (run[:newline], text[run_start + newline : after])
        total += _ordinary(encoder, text[at:run_start])
        total += sum(len(encoder.encode_single_piece(piece.encode())) for piece in pieces if piece)
        at = after
    return total + _ordinary(encoder, text[at:] if at else text)


def _ordinary(encoder: Core, text: str) -> int:
    try:
        return len(encoder.encode_ordinary(text))
    except UnicodeEncodeError:  # surrogates: pairs become their character, lone ones U+FFFD, as tiktoken has it
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return len(encoder.encode_ordinary(text))


def _long_runs(text: str, length: int) -> Iterator[tuple[int, int]]:
    """Start and end of each run of white space of at least `length` characters, found by looking at one in `length`."""
    known = 0
    for probe in range(length - 1, len(text), length):
        if probe < known or text[probe] not in _SPACES:
            continue
        before = text[max(known, probe - length) : probe]  # the probe before this one was no white space, or known
        start = probe - len(before) + len(before.rstrip(_SPACES))
        match = _SPACE_RUN.match(text, probe)
        known = match.end() if match else probe + 1
        if known - start >= length:
            yield start, known


def _newlines_taken(text: str, at: int, start: int, end: int, name: EncodingName) -> int:
    """How many of the newlines that a run of white space begins with belong to the piece before it.

    Punctuation takes them, words do not, and which of the two a combining mark is part of depends on what is before it.
    So the encoding's own pattern is asked, with ranks in which a newline joins whatever stands before it.
    """
    match = _NEWLINES.match(text, start, end)
    newlines = match.end() - start if match else 0
    if not newlines or start == at:
        return 0
    with _joining_lock:
        joining = _joining.get(name)
        if joining is None:
            ranks = {bytes([byte]): byte for byte in range(256)}
            for byte in range(256):
                ranks |= {bytes([byte, 10]): 256 + byte, bytes([byte, 13]): 512 + byte}
            joining = _joining[name] = make(SPECS[name].pattern, ranks, {})
    asked = text[at : start + 1].encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return newlines if joining.encode_ordinary(asked)[-1] >= 256 else 0
