"""Numbers that are somebody's since the words before them say so: national identity numbers, and telephones.

The checks are python-stdnum's. Most numbers of persons are nine to thirteen digits with one of check, so that one in
ten of any digits passes: without the words none is taken for one.
"""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Protocol, cast

# Module of stdnum, shortest and longest without signs, the words: those in capitals have to stand in capitals.
_NUMBERS: Final = (
    ("us.ssn", 9, 9, "ssn; social security"),
    ("us.itin", 9, 9, "itin"),
    ("gb.nhs", 10, 10, "NHS"),
    ("de.idnr", 11, 11, "steuer-id; steuer-idnr; steueridentifikationsnummer; steuerliche identifikationsnummer; idnr"),
    ("fr.nir", 15, 15, "sécurité sociale; numéro de sécu; NIR"),
    ("es.dni", 9, 9, "dni; nif"),
    ("es.nie", 9, 9, "NIE; nif"),
    ("nl.bsn", 9, 9, "bsn; burgerservicenummer; sofinummer"),
    ("be.nn", 11, 11, "rijksregisternummer; registre national; numéro national; NISS; INSZ"),
    ("pl.pesel", 11, 11, "pesel"),
    ("se.personnummer", 10, 12, "personnummer"),
    ("no.fodselsnummer", 11, 11, "fødselsnummer; personnummer"),
    ("dk.cpr", 10, 10, "CPR; cpr-nummer; personnummer"),
    ("fi.hetu", 10, 10, "henkilötunnus; hetu; personbeteckning"),
    ("br.cpf", 11, 11, "cpf"),
    ("in_.aadhaar", 12, 12, "aadhaar; aadhar"),
    ("in_.pan", 10, 10, "PAN"),
    ("cn.ric", 18, 18, "身份证; 身份證; resident identity"),
    ("kr.rrn", 13, 13, "주민등록번호; 주민번호; resident registration"),
    ("jp.in_", 12, 12, "マイナンバー; 個人番号"),
    ("ca.sin", 9, 9, "SIN; social insurance"),
    ("au.tfn", 8, 9, "tfn; tax file number"),
    ("ch.ssn", 13, 13, "AHV; AVS; OASI"),
    ("at.vnr", 10, 10, "svnr; sozialversicherungsnummer"),
    ("pt.nif", 9, 9, "nif; contribuinte"),
    ("pt.cc", 12, 12, "cartão de cidadão"),
    ("cz.rc", 9, 10, "rodné číslo"),
    ("ro.cnp", 13, 13, "cnp; cod numeric personal"),
    ("tr.tckimlik", 11, 11, "kimlik; tckn"),
    ("za.idnr", 13, 13, "identity number"),
    ("mx.curp", 18, 18, "curp"),
    ("ie.pps", 8, 9, "PPS; ppsn"),
    ("ar.cuit", 11, 11, "cuil; cuit"),
    ("cl.rut", 8, 9, "RUT"),
    ("gr.amka", 11, 11, "amka; αμκα"),
    ("bg.egn", 10, 10, "egn; егн"),
    ("hr.oib", 11, 11, "oib"),
    ("ee.ik", 11, 11, "isikukood"),
    ("lt.asmens", 11, 11, "asmens kodas"),
    ("il.idnr", 9, 9, "teudat zehut; תעודת זהות"),
    ("th.pin", 13, 13, "เลขประจำตัวประชาชน; เลขบัตรประชาชน"),
    ("si.emso", 13, 13, "emšo; emso"),
    ("ua.rntrc", 10, 10, "рнокпп"),
    ("", 9, 9, "national insurance; nino"),
)
# The one here that stdnum does not know has no digit of check: two letters, six digits, a letter.
_NATIONAL_INSURANCE: Final = re.compile(r"(?!BG|GB|KN|NK|NT|TN|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z][0-9]{6}[A-D]")

_TELEPHONE: Final = (
    "phone; telephone; cellphone; tel; mobile; mob; cell; fax; whatsapp; handy; handynummer; mobil; telefon"
    "; telefonnummer; téléphone; tél; telefono; teléfono; móvil; movil; celular; telefone; telemóvel; cellulare; tlf"
    "; gsm; natel; телефон; call me; call us; call him; call her; call them; text me; text him; text her; reach me"
    "; reach us; reach him; reach her; reach them; ring me; 电话; 手机; 電話; 携帯; 전화"
)
_TELEPHONE_ROW: Final = -1
_WORD: Final = re.compile(r"[^\W\d_]+")
_UNPARTED: Final = "\u0590"
WINDOW: Final = 48
"""Characters between the words and the number, at most."""
_LEAD: Final = 10
_REACH: Final = 48
_TOKEN: Final = re.compile(r"[A-Za-z0-9]+")
_BETWEEN: Final = frozenset(" .-/+\u00a0\u2009\u202f\u2011")


class _Module(Protocol):
    def is_valid(self, number: str) -> bool: ...


@functools.cache
def _module(name: str) -> _Module:
    return cast(_Module, importlib.import_module(f"stdnum.{name}"))


def _is_valid(name: str, raw: str, compact: str) -> bool:
    if not name:
        return _NATIONAL_INSURANCE.fullmatch(compact.upper()) is not None
    module = _module(name)
    return module.is_valid(compact) or module.is_valid(raw)  # a few need their signs


@dataclass(frozen=True, slots=True)
class _Phrase:
    words: frozenset[str]  # besides the first
    capitals: bool
    rows: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Phrases:
    by_word: Mapping[str, tuple[_Phrase, ...]]  # their first
    unparted: Mapping[str, tuple[int, ...]]  # in scripts that do not part words


@functools.cache
def _phrases() -> _Phrases:
    rows: dict[str, tuple[int, ...]] = {}
    for number, (_, _, _, phrases) in enumerate(_NUMBERS):
        for phrase in phrases.split("; "):
            rows[phrase] = (*rows.get(phrase, ()), number)
    rows |= dict.fromkeys(_TELEPHONE.split("; "), (_TELEPHONE_ROW,))
    by_word: dict[str, tuple[_Phrase, ...]] = {}
    for phrase, numbers in rows.items():
        if phrase < _UNPARTED:
            first, *others = _WORD.findall(phrase.lower())
            entry = _Phrase(frozenset(others), phrase.isascii() and phrase.isupper(), numbers)
            for form in (first, first + "s"):
                by_word[form] = (*by_word.get(form, ()), entry)
    return _Phrases(by_word, {phrase: numbers for phrase, numbers in rows.items() if phrase >= _UNPARTED})


ANNOUNCING: Final = frozenset(word.encode() for word in _phrases().by_word)
"""Words, in small letters; where none of them is before a number and all of it is ASCII, nothing is announced."""


def announced(before: str) -> tuple[tuple[int, ...], bool]:
    """What the words at the end of `before` announce: kinds of national numbers, and whether a telephone."""
    known = _phrases()
    window = before[-WINDOW:]
    low = _WORD.findall(window.lower())
    found: set[int] = set()
    if not known.by_word.keys().isdisjoint(low):
        capitals = frozenset(word.lower() for word in _WORD.findall(window) if word[:2].isupper())
        for word in low:
            for phrase in known.by_word.get(word, ()):
                if phrase.words.issubset(low) and (word in capitals or not phrase.capitals):
                    found.update(phrase.rows)
    if not window.isascii():
        for phrase, rows in known.unparted.items():
            if phrase in window:
                found.update(rows)
    return tuple(sorted(found - {_TELEPHONE_ROW})), _TELEPHONE_ROW in found


def is_lettered_id(number: str, before: str) -> bool:
    """Whether one that begins with letters is a person's: the Italian code by its digit of check alone."""
    if len(number) == 16:
        return _module("it.codicefiscale").is_valid(number)
    return any(_NUMBERS[row][0] == "in_.pan" for row in announced(before)[0]) and _module("in_.pan").is_valid(number)


def national_id(text: str, start: int, rows: tuple[int, ...]) -> tuple[int, int] | None:
    """Where the number of one of these kinds is that has a digit at `start`; None where there is none."""
    begin = start
    while begin > max(0, start - _LEAD) and (text[begin - 1].isalnum() or text[begin - 1] == "_"):
        begin -= 1
    if begin >= 3 and text[begin - 1] in _BETWEEN and text[begin - 3 : begin - 1].isupper():
        begin -= 3  # `QQ 12 34 56 C`
    tokens = [(match.start(), match.end()) for match in _TOKEN.finditer(text, begin, start + _REACH)]
    for row in rows:
        name, shortest, longest, _ = _NUMBERS[row]
        for first, last in _joined(text, tokens[:4], tokens, shortest, longest):
            raw = text[first:last]
            compact = "".join(c for c in raw if c.isalnum())
            if _is_valid(name, raw, compact):
                return first, last
    return None


def _joined(
    text: str, starts: list[tuple[int, int]], tokens: list[tuple[int, int]], shortest: int, longest: int
) -> Iterator[tuple[int, int]]:
    """Every run of neighbouring tokens that is as long as asked, signs not counted."""
    for index, (first, _) in enumerate(starts):
        if first > 0 and (text[first - 1].isalnum() or text[first - 1] == "_"):
            continue
        size, before = 0, first
        for begin, end in tokens[index:]:
            if begin - before > 2 or not _BETWEEN.issuperset(text[before:begin]):
                break
            size, before = size + end - begin, end
            if size > longest:
                break
            if size >= shortest and not text[end : end + 1].isalnum():
                yield first, end
