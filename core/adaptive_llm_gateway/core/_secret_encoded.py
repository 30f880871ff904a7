"""Credentials that were changed on their way into a text: encoded, escaped, split, in other case, in other letters.

A cheap look over the text finds the places where one could be; there the text is read back into what it was
(`_secret_views`), and the reading is scanned like any text. Readings of readings end at a depth, and each reading of a
text is about as long as what it was read from, so the work stays a bounded multiple of the text. A reading is gone
when it has been scanned.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import merge

from adaptive_llm_gateway.core._secret_formats import base62_crc32, formats, prefixes, tree
from adaptive_llm_gateway.core._secret_values import CONTEXT, FORMAT, PLACE, Match, is_random
from adaptive_llm_gateway.core._secret_views import (
    HYPHENS,
    INVISIBLE,
    MATHEMATICAL,
    WIDE,
    View,
    decoded,
    goes_on,
    has_control,
    is_seam,
    maybe_base64,
    maybe_hex,
    read,
)

Scan = Callable[[str, int], list[Match]]
"""Scans a text that is a reading of this depth."""

DEPTH = 2  # of readings: base64 in a URL is one of two

_RUN = b"a" * 16
_CLASS = bytes(0x61 if (chr(c).isalnum() and c < 128) or chr(c) in "_-" else 0x20 for c in range(256))
_TOLD = re.compile(r"[0-9]|[a-z][A-Z]{1,2}[a-z][A-Z]")  # random text of some length has one of these, few names do
_BEFORE = 400  # characters before an escape that may belong to the same value
_PLAIN = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_./+:@#!,;?-=&~"
_SHORT = "akia"  # half of such an id is no run
_NUMBER = re.compile("[0-9a-fA-F-]+")


@functools.cache
def changed() -> Changed:
    """What finds them: built on first use, for its expressions take some milliseconds."""
    return Changed()


class Changed:
    """Finds changed credentials."""

    def __init__(self) -> None:
        self._written = {prefix.lower(): prefix for prefix in prefixes()}
        names = tree([prefix for prefix in self._written.values() if len(prefix) > 2 or prefix == "SK"])
        self._prefix = re.compile(names)
        self._token = re.compile(names + r"[\w+/=.~%-]{12}")
        names = tree([prefix for prefix in self._written if len(prefix) > 2 or prefix == "sk"])
        self._worth = re.compile(
            rf"{names}[\w+/=.~%-]{{12}}|://[^\s/@]{{1,200}}@|-----begin|q~"
            r"|(?:pass|pwd|secret|token|key|credential|bearer|basic|sig)[^\s=:]{0,20}[=: ][\"' ]{0,3}[^\s]{6}"
        )
        for start in ("eyJhbGciOi", "eyJ0eXAiOi"):  # `{"alg":` and `{"typ":`, of any JWT
            self._written[start.lower()] = start
        telling = [prefix for prefix in self._written if _tells(prefix)]
        self._within = re.compile(tree(telling))
        self._unsigned = re.compile(tree([prefix for prefix in telling if prefix.isalnum()]))

    def find(self, text: str, raw: bytes, low: str, plain: Sequence[Match], scan: Scan, depth: int) -> list[Match]:
        """What is found beside the `plain` matches.

        Args:
            raw: the text in ASCII, one byte for each character.
            low: the same in lower case.
            scan: finds what there is to see in a reading.
            depth: that this text is a reading of.
        """
        look = _Look(text, low, plain, scan, depth, [])
        mask = raw.translate(_CLASS)
        done = 0  # up to here seams were looked for
        head = after = 0  # where the unbroken text begins that was last asked for, and a place within it
        start = mask.find(_RUN)
        while start >= 0:
            end = mask.find(b" ", start + 16)
            end = len(mask) if end < 0 else end
            if _TOLD.search(text, start, end) is not None:
                encoded = False
                # A number in hex or a UUID holds nothing, unless it is long and its bytes are text.
                if end - start >= 20 and _NUMBER.fullmatch(text, start, end) is None:
                    self._add_within(look, start, end)
                    encoded = maybe_base64(text, start, end)
                if encoded or (end - start >= 36 and maybe_hex(text, start, end)):
                    encoded = True
                    for view in decoded(text, start, end):
                        self._add_read(look, view)
                if text[start - 1 : start] in _IN_TOKEN:
                    # Of a long line of base64 each run would read back over what those before it have read.
                    on = start - after < _BEFORE and not text[after:start].strip(_PLAIN)
                    first = head = max(head, start - _BEFORE) if on and after else _head(text, start, 0)
                    after = end
                else:
                    first = start
                if start >= done and (encoded or _has_seam(text, first, end)):
                    done = self._add_joined(look, start, end, done, encoded=encoded)
            start = mask.find(_RUN, end)
        at = low.find(_SHORT)
        while at >= 0:
            end = mask.find(b" ", at)
            if 0 < end < at + len(_RUN):
                self._add_joined(look, at, end, at, encoded=False)
            at = low.find(_SHORT, at + 1)
        done = 0
        for at in _escapes(text):
            if at >= done:
                reading = read(text, _head(text, at, done), lines=False)
                if reading is not None:
                    view, done = reading
                    self._add_read(look, view)
        return look.found

    def _add_read(self, look: _Look, view: View) -> None:
        """What is found in a reading of a stretch of text."""
        if self._worth.search(view.text.lower()) is None and not _has_encoded(view, look.depth + 1):
            return
        # Among bytes that are no text, words such as `pw` come by chance.
        rank = CONTEXT if view.text.isascii() and not has_control(view.text) else FORMAT
        for match in look.scan(view.text, look.depth + 1):
            if match.rank > rank:
                continue
            start, end = view.place(match.start, match.end)
            look.found.append(Match(match.kind, start, end, match.secret, match.rank))

    # --- Split ------------------------------------------------------------------------------------------

    def _add_joined(self, look: _Look, start: int, end: int, done: int, *, encoded: bool) -> int:
        """What is found over the seams beside the run `text[start:end]`, and from where to look for the next ones."""
        text = look.text
        head = _head(text, start, done)
        begin = _before_seams(text, head, done)
        # What was split begins before the seam, if the seam is not within its prefix.
        if begin < head and (encoded or head < begin + 16 or self._prefix.search(text, begin, end) is not None):
            done = self._add_reading(look, begin, done)
        if goes_on(text, end) and (encoded or self._prefix.search(text, head, end) is not None):
            done = self._add_reading(look, head, done)
        return done

    def _add_reading(self, look: _Look, begin: int, done: int) -> int:
        reading = read(look.text, begin, lines=True)
        if reading is None:
            return done
        view, after = reading
        encoded = _has_encoded(view, look.depth + 1)
        if not encoded and self._token.search(view.text) is None and "://" not in view.text:
            return after
        rank = FORMAT if view.lines else PLACE
        for match in look.scan(view.text, look.depth + 1 if encoded else DEPTH):
            if match.rank <= rank and view.is_changed(match.start, match.end) and self._is_whole(look, view, match):
                place = view.place(match.start, match.end)
                look.found.append(Match(match.kind, *place, match.secret, match.rank))
        return after

    def _is_whole(self, look: _Look, view: View, match: Match) -> bool:
        """Whether all of it is one token: what was whole before a seam goes on behind it only if that is as random."""
        ends = {plain.end for plain in look.plain if plain.rank == FORMAT}
        return all(
            left.end not in ends
            or not look.text[left.end : right.start].strip(INVISIBLE)
            or (len(right.text) >= 12 and is_random(right.text) and not self._prefix.match(right.text))
            for left, right in view.joints(match.start, match.end)
        )

    # --- Within other letters, or in another case ---------------------------------------------------------------

    def _add_within(self, look: _Look, start: int, end: int) -> None:
        """Tokens in the run `text[start:end]` that do not begin where it does, or are not in the case they have."""
        text, low = look.text, look.low
        after = max(0, start - 8) if low.startswith(".", start - 1) else start  # a prefix may have a dot within
        signed = after < start or low.find("-", start, end) >= 0 or low.find("_", start, end) >= 0
        for prefix in _overlapping(self._within if signed else self._unsigned, low, after, end):
            at = prefix.start()
            written = self._written[prefix.group()]
            bounded = at == 0 or not low[at - 1].isalnum()
            same = text.startswith(written, at)
            if at < after or (same and bounded) or not (same or _one_case(text[at : prefix.end()])):
                continue
            rest = _REST.match(text, prefix.end())
            if rest is None or len(set(rest.group()[:24])) < 8:
                continue
            for token in _tokens(written, rest.group(), same=same):
                match = next(iter(formats(token, 0, len(token))), None)
                if match is None or match.start > 0:
                    continue
                room = end - start - match.end
                if _is_evident(written, match.secret, text[max(0, at - 24) : at], bounded=bounded, room=room):
                    after = at + match.end
                    look.found.append(Match(match.kind, at, after, match.secret, match.rank))
                    break


@dataclass(frozen=True, slots=True)
class _Look:
    """A text that is looked through, and what is found."""

    text: str
    low: str
    plain: Sequence[Match]
    scan: Scan
    depth: int
    found: list[Match]


def _overlapping(form: re.Pattern[str], text: str, start: int, end: int) -> Iterator[re.Match[str]]:
    """Every match, also within one before it: `gsk_` is in `stagingsk_live_`, where it is not the prefix."""
    found = form.search(text, start, end)
    while found is not None:
        yield found
        found = form.search(text, found.start() + 1, end)


_REST = re.compile(r"[\w.+/=~%-]{16,300}", re.ASCII)
_ENOUGH = 36  # bits: by chance once in 64 GB of random letters


def _one_case(prefix: str) -> bool:
    letters = prefix.strip("_-.")
    return letters.islower() or letters.isupper() or (letters[1:].islower() and letters[:1].isupper())


def _tells(prefix: str) -> bool:
    """Whether a prefix is worth a look within other letters, where `sk-` and `test_` end many words."""
    if prefix in ("hf_", "r8_", "sg."):
        return True
    return len(prefix) >= 4 and "/" not in prefix and prefix not in _WORDS


_WORDS = (
    *("key-", "sess-", "acca", "live_", "test_", "sandbox_", "api_", "api-", "sdk-", "pat.", "sat.", "act.", "ser."),
    *("secret_", "flp-", "flp_", "rnd_", "ext_", "crt_", "eaaa"),
)


def _tokens(written: str, rest: str, *, same: bool) -> Iterator[str]:
    """What the token could be: in either case, and where other letters follow it first by its known length."""
    length = _KNOWN.get(written)
    rests = [rest]
    if length is not None and len(written) + len(rest) > length:
        known = rest[: length - len(written)]
        rests = [known, rest] if length != _CHECKED or has_checksum(written + known) else [rest]
    for one in rests:
        yield written + one
        if not same and one != one.swapcase() and one in (one.lower(), one.upper()):
            yield written + one.swapcase()


_CHECKED = 40
_KNOWN = {
    **dict.fromkeys(("AKIA", "ASIA", "ABIA"), 20),
    **dict.fromkeys(("dapi", "dose"), 36),
    **dict.fromkeys(("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "npm_"), _CHECKED),
}
_LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def has_checksum(token: str) -> bool:
    """GitHub's and npm's form: a prefix of four, 30 characters, and their CRC32 in six digits of base 62."""
    return len(token) == _CHECKED and token[-6:] == base62_crc32(token[4:-6])


def _bits(written: str, token: str) -> float:
    """How improbable it is that random base64url has this token at a given place, in bits."""
    if has_checksum(token):
        return 56
    rest = token[len(written) :]
    plain = rest.translate(_NO_SIGNS)
    each = next((bits for alphabet, bits in _ALPHABETS if plain.strip(alphabet) == ""), 0.0)
    return sum(12 if sign == "." else 6 for sign in written) + each * len(plain) + 12 * rest.count(".")


_ALPHABETS = (
    ("0123456789", 2.67),
    ("0123456789abcdef", 2.0),
    ("0123456789ABCDEF", 2.0),
    ("0123456789abcdefghijklmnopqrstuvwxyz", 0.83),
    ("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", 0.83),
    (_LETTERS, 0.04),
)
_NO_SIGNS = str.maketrans("", "", "_-.")
_NAME = re.compile(r"(?<![A-Za-z0-9])(?:[A-Z]?[a-z]+|[A-Z]+)$|\\[nrtbf]$")


def _is_evident(written: str, token: str, before: str, *, bounded: bool, room: int) -> bool:
    """Whether a token in the midst of other letters, or in another case, is no chance."""
    bits = _bits(written, token)
    if bounded:  # in another case
        return bits >= _ENOUGH - 4 and is_random(token[len(written) :])
    if bits >= _ENOUGH:
        return True
    signed = not written[-1].isalnum()
    name = _NAME.search(before)
    if name is not None and (name.group().startswith("\\") or len(name.group()) >= (3 if signed else 5)):
        return True
    # Random base64url of such a length is an id, and few ids have a vendor's prefix within.
    return signed and len(written) >= 4 and room <= 40


# --- Places worth a look ------------------------------------------------------------------------------------

_BACK = 96  # characters before a run in which the one before the seam is looked for
_SEAM_SIGNS = " \t\r\n\"'`+.&\\<>|#*;=~${}" + INVISIBLE
_SEAMS = frozenset("\r\n\"'`\\=*~<$ \t" + INVISIBLE)
_IN_TOKEN = frozenset("/.:+")


def _head(text: str, at: int, low: int) -> int:
    """Where the unbroken text begins that goes on at `at`."""
    before = text[max(low, at - _BEFORE) : at]
    return at - len(before) + len(before.rstrip(_PLAIN))


def _has_seam(text: str, head: int, end: int) -> bool:
    """Whether there may be a seam before or after the run up to `end`; quick, because it is asked of every run.

    Args:
        head: where the unbroken text begins that the run is of.
    """
    if text[end : end + 1] in _SEAMS and goes_on(text, end):
        return True
    sign, before = text[head - 1 : head], text[head - 2 : head - 1]
    if sign not in _SEAM_SIGNS or head < 2:
        return False
    # Most runs stand behind a blank, or behind a mark behind a blank.
    if sign in " `":
        return before in "\n\r\t >|#*+\"'\\"
    return before != " " or sign in "\"'"


def _before_seams(text: str, start: int, low: int) -> int:
    """Where that begins which was split and goes on at `start`."""
    for _ in range(8):
        if start <= low or text[start - 1] not in _SEAM_SIGNS:
            break
        if text[start - 1] == " " and text[start - 2 : start - 1].isalnum():
            break
        window = text[max(low, start - _BACK) : start]
        head = window.rstrip(_SEAM_SIGNS)
        while head and window[len(head) : len(head) + 1] == ">":  # the tag before it is of the seam
            tag = window.rfind("<", max(0, len(head) - 40), len(head))
            if tag < 0:
                break
            head = window[:tag].rstrip(_SEAM_SIGNS)
        if not head or not is_seam(window[len(head) :]):
            break
        before = head.rstrip(_PLAIN)
        if not any(sign.isalnum() for sign in head[len(before) :]):
            break
        start -= len(window) - len(before)
    return start


def _has_encoded(view: View, depth: int) -> bool:
    """Whether there is something to read in a reading."""
    if depth >= DEPTH:
        return False
    return _AGAIN.search(view.text) is not None or next(decoded(view.text, 0, len(view.text)), None) is not None


_ESCAPED = {
    "%": re.compile("%[0-9A-Fa-f]{2}"),
    "\\": re.compile(
        r"\\(?:(?<=[A-Za-z0-9_+/=-].)\r?\n|x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|u\{|U[0-9A-Fa-f]{8}|[_.~/-](?<=\w..)(?=\w)|/)"
    ),
    "&": re.compile("&(?:#[0-9xX]|(?:lowbar|UnderBar|period|sol|colon|commat|equals|plus|shy|zwn?j|hyphen|dash);)"),
}
_AGAIN = re.compile(r"%[0-9A-Fa-f]{2}|\\[ux][0-9A-Fa-f]{2}|&#")
_BESIDE = re.compile(r"(?<=[A-Za-z0-9_.-]).{1,8}(?<=[A-Za-z0-9_.-])")
_SIGNS = {sign: sign.encode() for sign in INVISIBLE + HYPHENS}
_ASCII = bytes(range(128))
_FORM_STARTS = (b"\xef\xbc", b"\xef\xbd", b"\xf0\x9d")
_FORMS = re.compile(f"[{WIDE}{MATHEMATICAL}]")


def _escapes(text: str) -> Iterable[int]:
    """Where an escape begins, or a character that stands for another or for none."""
    places = [_places(text, sign, form) for sign, form in _ESCAPED.items() if sign in text]
    if not text.isascii():
        others = text.encode("utf-8", "surrogatepass").translate(None, _ASCII)
        places += [_places(text, sign, _BESIDE) for sign, coded in _SIGNS.items() if coded in others]
        if any(start in others for start in _FORM_STARTS):
            places.append(found.start() for found in _FORMS.finditer(text))
    return merge(*places) if places else ()


def _places(text: str, sign: str, form: re.Pattern[str]) -> Iterator[int]:
    at = text.find(sign)
    while at >= 0:
        if form.match(text, at):
            yield at
        at = text.find(sign, at + 1)
