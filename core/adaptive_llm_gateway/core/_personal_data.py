"""Personal data in text: addresses, numbers of telephones, accounts, cards and persons.

Whether a number is one is decided by libphonenumber's metadata and by python-stdnum's checks; here is only where in a
text it is worth asking them, and where it is not: most long numbers in what people send to a model are times, versions,
hashes and ids. One pass finds places (an `@`, a `+`, six digits); what is tried there reads a bounded stretch, so the
work per byte is bounded on any input.
"""

from __future__ import annotations

import hashlib
import importlib
import ipaddress
import re
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, get_args

from adaptive_llm_gateway.core._personal_emails import email
from adaptive_llm_gateway.core._personal_ids import ANNOUNCING, WINDOW, announced, is_lettered_id, national_id
from adaptive_llm_gateway.core._trust import Trust

PersonalKind = Literal["email", "phone", "iban", "card", "national-id", "ip-address"]
PERSONAL_KINDS: Final[tuple[PersonalKind, ...]] = get_args(PersonalKind)
PERSONAL_LEVELS: Final[Mapping[PersonalKind, Trust | None]] = MappingProxyType(
    {kind: None if kind == "ip-address" else Trust.CONFIDENTIAL for kind in PERSONAL_KINDS}
)
"""The level of a text that has one; None does not look for it. Addresses of machines stand in every log."""

_SPACES: Final = " \u00a0\u2009\u202f"
_SPACES_AND_DASHES: Final = frozenset(_SPACES + "\u2011-")
_ENDS: Final = frozenset("_+-")
_SIGNS: Final = _SPACES + "\u2011."
_MOST_CHECKS: Final = 4_000
"""Numbers that are checked in one text, 50 us each; of those after them their form alone decides."""
_CACHED_TEXTS: Final = 4096
_CACHED_SPANS: Final = 64


@dataclass(frozen=True, slots=True)
class PersonalSpan:
    """Where in a text something personal is: characters `start` up to `end`."""

    kind: PersonalKind
    start: int
    end: int

    def preview(self, text: str) -> str:
        """It, masked, so that somebody who may see the text knows which it is: `j…@….org`, `DE…00`, `…71`."""
        value = text[self.start : self.end]
        if self.kind == "email":
            return f"{value[0]}…@….{value.rpartition('.')[2]}"
        return f"{value[:2] if self.kind == 'iban' else ''}…{_plain(value)[-2:]}"

    def same(self, text: str) -> str:
        """What two places have in common that have the same: the value itself, not to be shown nor kept."""
        value = text[self.start : self.end]
        return value.casefold() if self.kind == "email" else _plain(value)


def _plain(value: str) -> str:
    return "".join(c for c in value if c.isalnum()).upper() or value


@dataclass(frozen=True, slots=True)
class PersonalFinding:
    """Something personal that was found, without the thing itself: safe to log, to show and to store.

    Attributes:
        line: from 1; CR LF, LF and CR each end a line.
        preview: as `PersonalSpan.preview` has it.
    """

    kind: PersonalKind
    line: int
    preview: str


class PersonalScanner:
    """Finds personal data. Immutable and safe to share between threads; keeps places of what it saw, never values.

    Args:
        levels: of the kinds that are not as `PERSONAL_LEVELS` has them.
        allowed: addresses that raise no level, such as one's own: `me@example.org`, or `@example.org` for a domain's.
    """

    def __init__(
        self, *, levels: Mapping[PersonalKind, Trust | None] | None = None, allowed: Iterable[str] = ()
    ) -> None:
        self.levels: Mapping[PersonalKind, Trust | None] = MappingProxyType({**PERSONAL_LEVELS, **(levels or {})})
        self._allowed = frozenset(address.strip().casefold() for address in allowed)
        self._lock = threading.Lock()
        self._kept: OrderedDict[bytes, tuple[PersonalSpan, ...]] = OrderedDict()

    def spans(self, text: str) -> tuple[PersonalSpan, ...]:
        """Everything personal in `text`, in order and without overlap."""
        key = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None:
                self._kept.move_to_end(key)
                return kept
        found = self._find(text)
        if len(found) <= _CACHED_SPANS:
            with self._lock:
                self._kept[key] = found
                if len(self._kept) > _CACHED_TEXTS:
                    self._kept.popitem(last=False)
        return found

    def scan(self, text: str) -> tuple[PersonalFinding, ...]:
        """Everything personal in `text`, in order, by kind, line and masked preview."""
        found: list[PersonalFinding] = []
        line, at = 1, 0
        for span in self.spans(text):
            crlf = text.count("\r\n", at, span.start)
            line += text.count("\n", at, span.start) + text.count("\r", at, span.start) - crlf
            at = span.start
            found.append(PersonalFinding(span.kind, line, span.preview(text)))
        return tuple(found)

    def load(self) -> None:
        """Import the libraries now, 0.3 s, which else the first text with a number to check waits for."""
        for library in ("phonenumbers", "stdnum.iban", "stdnum.luhn"):
            importlib.import_module(library)

    def _find(self, text: str) -> tuple[PersonalSpan, ...]:
        search = _Search(text)
        if self.levels["email"] is not None:
            search.emails(self._allowed)
        if self.levels["phone"] is not None:
            search.international_phones()
        search.numbers()
        search.lettered()
        if self.levels["ip-address"] is not None:
            search.ip_addresses()
        return tuple(span for span in search.found() if self.levels[span.kind] is not None)


# --- Numbers ------------------------------------------------------------------------------------------------------

_NUMBER: Final = re.compile(rf"[0-9](?:[{_SIGNS}/()-]{{0,2}}[0-9]){{5,255}}")
_PLUS: Final = re.compile(rf"\+(?:\([1-9][0-9]{{0,2}}\)|[1-9])(?:[{_SIGNS}/()-]{{0,3}}[0-9]){{6,14}}(?![0-9])")
_NO_TELEPHONE: Final = re.compile(rf"\+[0-9]+\.[0-9]{{1,7}}$|[{_SPACES}]-[0-9]")  # a decimal, a row of numbers
_LONGEST_CARD: Final = 20
_CARD: Final = re.compile(
    rf"[2-6][0-9]{{3}}(?:([{_SPACES}\u2011-])[0-9]{{4}}\1[0-9]{{4}}\1[0-9]{{4}}"
    rf"|([{_SPACES}\u2011-])[0-9]{{6}}\2[0-9]{{4,5}}|[0-9]{{10,12}})(?![0-9])"
)
_LETTERED: Final = (b"AAAAAA00A00A000A", b"AAAAA0000A")
_SHAPES: Final = bytes(
    0x30 if 48 <= code <= 57 else 0x41 if 65 <= code <= 90 else 0x61 if 97 <= code <= 122 else 0x20
    for code in range(256)
)
_LETTERS: Final = bytes(code if 97 <= code <= 122 else 32 for code in range(256))
_ACCOUNT_REST: Final = re.compile(rf"(?:[{_SPACES}\u2011-]?[A-Za-z0-9]){{11,30}}")
_GROUPS_BEFORE: Final = re.compile(rf"(?<![0-9])(?:[0-9]{{4}}[{_SPACES}\u2011-]){{2}}$")
_GROUPS_BEHIND: Final = re.compile(rf"(?:[{_SPACES}\u2011-][0-9]{{4}}){{2}}(?![0-9/])")
_COUNTED: Final = re.compile(  # what a long number without signs is, where its name says so
    r"(?:ids?|uid|uuid|guid|sha|hash|offset|seq|seed|nonce|time|timestamp|ts|size|bytes|count|addr|address|ptr|version|rev"
    r"|isbn|ean|gtin|sku|tracking|order|invoice|snowflake|number)[\"'`\])]{0,2}[ \t]*[:=#]{0,2}[ \t]*[\"'`(]?$",
    re.IGNORECASE,
)
_DATE: Final = re.compile(
    r"(?:19|20)[0-9]{2}[-./](?:0?[1-9]|1[0-2])[-./][0-3]?[0-9]|[0-3]?[0-9][-./][01]?[0-9][-./][12]"
)
_REGION_NAMES: Final = (
    "US GB DE FR ES IT NL BE CH AT PL PT SE NO DK FI IE CZ HU RO GR TR UA AU NZ IN BR MX AR ZA JP KR CN SG IL"
)
_REGIONS: Final = tuple(_REGION_NAMES.split())
_IP: Final = re.compile(
    r"(?<![\w.:])(?:[0-9]{1,3}(?:\.[0-9]{1,3}){3}|[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7})(?![\w.:])"
)


class _Search:
    """One pass over one text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._ascii = text.encode("ascii", "replace")  # one byte for one character, so places agree
        self._shapes = self._ascii.translate(_SHAPES)
        self._spans: list[PersonalSpan] = []
        self._checks = _MOST_CHECKS
        self._known: dict[str, bool] = {}
        self._card_end = -2

    def found(self) -> list[PersonalSpan]:
        """In order; of two that overlap the one found first stays."""
        kept: list[PersonalSpan] = []
        taken = sorted(enumerate(self._spans), key=lambda pair: (pair[1].start, pair[0]))
        for _, span in taken:
            if not kept or span.start >= kept[-1].end:
                kept.append(span)
            elif span.end > kept[-1].end:
                kept[-1] = PersonalSpan(kept[-1].kind, kept[-1].start, span.end)
        return kept

    def emails(self, allowed: frozenset[str]) -> None:
        """Mailboxes of persons."""
        text = self._text
        at = text.find("@")
        while at >= 0:
            span = email(text, at, allowed) if text[at - 1 : at].isalnum() or text[at - 1 : at] in _ENDS else None
            if span is not None:
                self._spans.append(PersonalSpan("email", *span))
            at = text.find("@", at + 1)

    def international_phones(self) -> None:
        """Numbers that begin with a plus."""
        text = self._text
        at = text.find("+")
        while at >= 0:
            after = at + 1
            found = (
                _PLUS.match(text, at) if at == 0 or not (text[at - 1].isalnum() or text[at - 1] in "_+.)]") else None
            )
            if found is not None:
                end = self._phone_end(at, found.end())
                if end:
                    self._spans.append(PersonalSpan("phone", at, end))
                    after = end
            at = text.find("+", after)

    def _phone_end(self, start: int, end: int) -> int:
        """Where the number ends that may have others behind it; 0 where it is none."""
        for _ in range(3):
            number = self._text[start:end]
            digits = sum(c.isdigit() for c in number)
            if digits < 9 or (digits == 9 and number[1:].isdigit()) or _NO_TELEPHONE.search(number) is not None:
                return 0
            if self._checked(number, None):
                return end
            shorter = max(number.rfind(sign) for sign in _SPACES)
            if shorter < 0:
                return 0
            end = start + len(number[:shorter].rstrip(_SIGNS + "/()-"))
        return 0

    def numbers(self) -> None:
        """Accounts, cards, numbers of persons, and telephones without a plus where the words say so."""
        text = self._text
        words = self._ascii.lower().translate(_LETTERS)
        for found in _NUMBER.finditer(text):
            start, end = found.span()
            before = text[max(0, start - 2) : start]
            if before[-1:].isdigit():
                continue
            if (before[-1:].isalnum() or before[-1:] in _SPACES_AND_DASHES) and self._account(start):
                continue
            if end - start >= 14 and self._cards(start, end):
                continue
            window = max(0, start - WINDOW)
            if ANNOUNCING.isdisjoint(words[window:start].split()) and text[window:start].isascii():
                continue
            rows, telephone = announced(text[window:start].rpartition("\n\n")[2])
            place = national_id(text, start, rows) if rows else None
            if place is not None:
                self._spans.append(PersonalSpan("national-id", *place))
            elif telephone:
                self._national_phone(start, end)

    def lettered(self) -> None:
        """Numbers of persons that begin with letters: the Italian code, and the Indian one where it is announced."""
        text = self._text
        shapes = self._shapes
        for shape in _LETTERED:
            at = shapes.find(shape)
            while at >= 0:
                end = at + len(shape)
                if _stands_alone(text, at, end) and is_lettered_id(text[at:end], text[max(0, at - 64) : at]):
                    self._spans.append(PersonalSpan("national-id", at, end))
                at = shapes.find(shape, at + 1)

    def _account(self, start: int) -> bool:
        """An IBAN that has a digit at `start`."""
        text = self._text
        low = max(0, start - 16)
        first = max(self._shapes.find(shape, low, start + 2) for shape in (b"AA00", b"aa00"))
        if first < 0 or (first > 0 and text[first - 1].isalnum()):
            return False
        rest = _ACCOUNT_REST.match(text, first + 4)
        if rest is None:
            return False
        # What comes behind may be the next word: every end between two groups is tried, the longest first.
        end, least = rest.end(), first + 15
        while end >= least:
            if not text[end : end + 1].isalnum() and text[end - 1].isalnum():
                number = "".join(c for c in text[first:end] if c.isalnum()).upper()
                if 15 <= len(number) <= 34 and self._is_account(number):
                    self._spans.append(PersonalSpan("iban", first, end))
                    return True
            end -= 1
        return False

    def _is_account(self, number: str) -> bool:
        if not number[4:].isascii() or int("".join(str(int(c, 36)) for c in number[4:] + number[:4])) % 97 != 1:
            return False
        if self._spent():
            return True
        from stdnum import iban  # noqa: PLC0415 - 70 ms that only texts with such a number pay

        return iban.is_valid(number)

    def _cards(self, start: int, end: int) -> bool:
        text = self._text
        some = False
        last = self._card_end
        at, stop = max(start, last), min(end + _LONGEST_CARD, len(text))  # the last one may go on behind the run
        while (found := _CARD.search(text, at, stop)) is not None and found.start() < end:
            at = found.start() + 1
            if not self._is_card(found):
                continue
            if found.start() != last + 1 and _GROUPS_BEFORE.search(text, max(0, at - 12), at - 1) is not None:
                continue  # in a row of a table
            if _GROUPS_BEHIND.match(text, found.end()) is not None:
                another = _CARD.match(text, found.end() + 1)
                if another is None or not self._is_card(another):
                    continue
            self._spans.append(PersonalSpan("card", *found.span()))
            some, at = True, found.end()
            last = self._card_end = at
        return some

    def _is_card(self, found: re.Match[str]) -> bool:
        text = self._text
        digits = "".join(c for c in found.group() if c.isdigit())
        if not _stands_alone(text, found.start(), found.end()) or not _is_card_number(digits):
            return False
        plain = len(found.group()) == len(digits)
        return not plain or _COUNTED.search(text[max(0, found.start() - 32) : found.start()]) is None

    def _national_phone(self, start: int, end: int) -> None:
        text = self._text
        if start and text[start - 1] == "(":
            start -= 1
        if start and (text[start - 1].isalnum() or text[start - 1] in "_.+-/"):
            return
        if _DATE.match(text, start, end) is not None or text[end : end + 1].isalpha():
            return
        for _ in range(3):
            number = text[start:end]
            digits = "".join(c for c in number if c.isdigit())
            if len(digits) < 8 or (len(digits) < 9 and digits == number):
                return
            if len(digits) <= 15 and self._is_national(number, digits):
                self._spans.append(PersonalSpan("phone", start, end))
                return
            shorter = max(number.rfind(sign) for sign in _SPACES)
            if shorter < 0:
                return
            end = start + len(number[:shorter].rstrip(_SIGNS + "/(-"))

    def _is_national(self, number: str, digits: str) -> bool:
        if digits.startswith("00"):
            return self._checked("+" + digits[2:], None)
        return any(self._checked(number, region) for region in _REGIONS)

    def _checked(self, number: str, region: str | None) -> bool:
        """Whether libphonenumber takes it for one, in this region where it has no plus."""
        key = f"{region}{number}"
        known = self._known.get(key)
        if known is not None:
            return known
        if self._spent():
            return True
        import phonenumbers  # noqa: PLC0415 - 100 ms that only texts with such a number pay

        try:
            parsed = phonenumbers.parse(number, region)
        except phonenumbers.NumberParseException:
            answer = False
        else:
            answer = phonenumbers.is_valid_number(parsed) or (
                # Written as a number of a telephone, it is one: also where nobody has it (555).
                region is None
                and sum(c in _SIGNS + "()-" for c in number) >= 2
                and sum(c.isdigit() for c in number) >= 10
                and phonenumbers.is_possible_number_with_reason(parsed) == phonenumbers.ValidationResult.IS_POSSIBLE
            )
        self._known[key] = answer
        return answer

    def _spent(self) -> bool:
        self._checks -= 1
        return self._checks < 0

    def ip_addresses(self) -> None:
        """Addresses that are routed on the internet."""
        for found in _IP.finditer(self._text):
            try:
                address = ipaddress.ip_address(found.group())
            except ValueError:
                continue
            if address.is_global:
                self._spans.append(PersonalSpan("ip-address", found.start(), found.end()))


def _stands_alone(text: str, start: int, end: int) -> bool:
    """Neither a part of a word, of a decimal, of a path nor of a UUID."""
    before, behind = text[max(0, start - 2) : start], text[end : end + 2]
    if before and (before[-1].isalnum() or before[-1] in "_./" or (before[-1] in "-," and before[:-1].isalnum())):
        return False
    return not (behind and (behind[0].isalnum() or behind[0] in "_" or (behind[0] in "-.,/" and behind[1:2].isalnum())))


def _is_card_number(digits: str) -> bool:
    """An issuer's prefix and length, and the digit of check (ISO/IEC 7812-1)."""
    size, two, three, four = len(digits), int(digits[:2]), int(digits[:3]), int(digits[:4])
    if size == 16:
        issued = (
            digits[0] == "4"
            or 51 <= two <= 55
            or 2221 <= four <= 2720
            or two in (62, 65)
            or four == 6011
            or 644 <= three <= 649
            or 3528 <= four <= 3589
        )
    elif size == 15:
        issued = two in (34, 37)
    else:
        issued = size == 14 and (300 <= three <= 305 or two in (36, 38, 39))
    if not issued:
        return False
    from stdnum import luhn  # noqa: PLC0415 - as above

    return luhn.is_valid(digits)
