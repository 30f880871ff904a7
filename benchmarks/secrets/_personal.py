"""Personal data planted in Markdown, all of it generated, and what only looks like it."""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import _ordinary
import phonenumbers
from _measure import Row, milliseconds, row
from _measures import Amount
from _ordinary import Text
from _planting import Planted, plant
from stdnum import iban, luhn
from stdnum.br import cpf
from stdnum.ch import ssn as ahv
from stdnum.de import idnr
from stdnum.es import dni
from stdnum.fi import hetu
from stdnum.fr import nir
from stdnum.in_ import aadhaar
from stdnum.it import codicefiscale
from stdnum.nl import bsn
from stdnum.pl import pesel
from stdnum.se import personnummer
from stdnum.us import ssn

from adaptive_llm_gateway.core import PersonalScanner

_Make = Callable[[random.Random], str]
_FIRST = (
    *("anna", "ben", "carla", "david", "eva", "felix", "greta", "hugo", "ida", "jonas"),
    *("katja", "leon", "maria", "nils", "olga", "paul", "rosa", "sven", "tina", "ugo"),
)
_LAST = (
    *("abel", "brandt", "costa", "dubois", "egger", "fischer", "garcia", "hansen"),
    *("ivanov", "jansen", "keller", "lopez", "meyer", "novak", "olsen", "peeters"),
)
_DOMAINS = (
    *("gmx.de", "proton.me", "outlook.com", "uni-bonn.de", "orange.fr"),
    *("bbc.co.uk", "kth.se", "acme.io", "nasa.gov"),
)
_PHONES = ("US", "GB", "DE", "FR", "ES", "IT", "NL", "PL", "SE", "BR", "IN", "JP", "AU", "CH", "ZA")
_ACCOUNTS = {  # the number's form behind the digits of check: a digit for `#`, a letter for `A`
    "DE": "#" * 18,
    "FR": "#" * 23,
    "ES": "#" * 20,
    "NL": "INGB" + "#" * 10,
    "BE": "#" * 12,
    "AT": "#" * 16,
    "CH": "#" * 17,
    "GB": "NWBK" + "#" * 14,
    "PL": "#" * 24,
    "SE": "#" * 20,
    "DK": "#" * 14,
    "PT": "#" * 21,
}
_CARDS = (  # an issuer's prefix, and how long its numbers are
    *(("4", 16), ("51", 16), ("55", 16), ("2221", 16), ("34", 15), ("37", 15)),
    *(("6011", 16), ("3528", 16), ("36", 14)),
)
_MOST_TRIES = 200_000

_SENTENCES = (
    "Ask ${it} before you change the index.",
    "- owner: ${it}",
    "He can be reached under ${it}, also on Sundays.",
    "| name | what |\n|---|---|\n| the customer | ${it} |",
    "> ${it} is what they left with us.",
    "# Contact\n\n${it}\n",
    'It was noted as "${it}" in the ticket.',
    "contact = '${it}'",
    "Two things: the build is green, and (${it}) has not answered.",
    "**Who:** ${it}.",
)


def _digits(rng: random.Random, count: int) -> str:
    return "".join(rng.choices(string.digits, k=count))


def _until(valid: Callable[[str], bool], make: Callable[[], str]) -> str:
    for _ in range(_MOST_TRIES):
        number = make()
        if valid(number):
            return number
    raise ValueError(f"no valid number in {_MOST_TRIES:,} tries")


def _email(rng: random.Random) -> str:
    first, last = rng.choice(_FIRST), rng.choice(_LAST)
    name = rng.choice((f"{first}.{last}", f"{first[0]}{last}", f"{first}{rng.randint(1, 99)}", f"{last}_{first}"))
    return f"{name}@{rng.choice(_DOMAINS)}"


def _phone(form: int) -> _Make:
    def make(rng: random.Random) -> str:
        region = rng.choice(_PHONES)
        example = phonenumbers.example_number_for_type(region, phonenumbers.PhoneNumberType.MOBILE)
        assert example is not None
        base = str(example.national_number)

        def another() -> str:
            return f"+{example.country_code}{base[:-4]}{_digits(rng, 4)}"

        number = _until(lambda one: phonenumbers.is_valid_number(phonenumbers.parse(one)), another)
        return str(phonenumbers.format_number(phonenumbers.parse(number), form))

    return make


def _account(rng: random.Random) -> str:
    country = rng.choice(list(_ACCOUNTS))

    def another() -> str:
        rest = "".join(_digits(rng, 1) if c == "#" else c for c in _ACCOUNTS[country])
        return f"{country}{iban.calc_check_digits(f'{country}00{rest}')}{rest}"

    number = _until(iban.is_valid, another)
    return str(iban.format(number)) if rng.random() < 0.5 else number


def _card(rng: random.Random) -> str:
    prefix, size = rng.choice(_CARDS)
    number = prefix + _digits(rng, size - len(prefix) - 1)
    number += luhn.calc_check_digit(number)
    if rng.random() < 0.5:
        return number
    cuts = (4, 8, 12) if size == 16 else (4, 10)
    return " ".join(number[start:end] for start, end in zip((0, *cuts), (*cuts, size), strict=True))


def _tried(module: Any, form: str, *, letters: str = string.ascii_uppercase) -> _Make:
    """A number of this form that the module's check passes: a digit for `#`, a month for `m`, a day for `d`."""
    fill: dict[str, Callable[[random.Random], str]] = {
        "#": lambda rng: _digits(rng, 1),
        "m": lambda rng: f"{rng.randint(1, 12):02}",
        "d": lambda rng: f"{rng.randint(1, 28):02}",
        "A": lambda rng: rng.choice(letters),
    }

    def make(rng: random.Random) -> str:
        return _until(module.is_valid, lambda: "".join(fill[c](rng) if c in fill else c for c in form))

    return make


_PEOPLE: dict[str, tuple[str, _Make]] = {
    "us ssn": ("SSN", _tried(ssn, "###-##-####")),
    "de steuer-id": ("Steuer-ID", _tried(idnr, "###########")),
    "fr nir": ("numéro de sécurité sociale", _tried(nir, "1##m75########")),
    "es dni": ("DNI", _tried(dni, "########A")),
    "it codice fiscale": ("codice fiscale", _tried(codicefiscale, "RSSMRA##A1#H501A")),
    "nl bsn": ("BSN", _tried(bsn, "#########")),
    "pl pesel": ("PESEL", _tried(pesel, "8#md#####")),
    "se personnummer": ("personnummer", _tried(personnummer, "7#md-####")),
    "fi hetu": ("henkilötunnus", _tried(hetu, "dm8#-###A")),
    "br cpf": ("CPF", _tried(cpf, "###.###.###-##")),
    "in aadhaar": ("Aadhaar", _tried(aadhaar, "2### #### ####")),
    "ch ahv": ("AHV-Nummer", _tried(ahv, "756.####.####.##")),
}

_KINDS: dict[str, tuple[str, _Make]] = {
    "email": ("", _email),
    "phone, international": ("", _phone(phonenumbers.PhoneNumberFormat.INTERNATIONAL)),
    "phone, E.164": ("", _phone(phonenumbers.PhoneNumberFormat.E164)),
    "phone, national": ("phone", _phone(phonenumbers.PhoneNumberFormat.NATIONAL)),
    "iban": ("", _account),
    "card": ("", _card),
    **_PEOPLE,
}


def personal(seed: int) -> list[Planted]:
    """Every kind in every sentence; national numbers with the word that announces them."""
    rng = random.Random(f"personal {seed}")
    planted: list[Planted] = []
    for kind, (word, make) in _KINDS.items():
        for number, sentence in enumerate(_SENTENCES):
            said = sentence.replace("${it}", f"{word} ${{it}}" if word else "${it}")
            planted.append(plant(kind, f"sentence {number + 1}", said, lambda _, make=make: make(rng)))
    return planted


def alike(seed: int) -> list[Text]:
    """What looks like it and is none: documentation's names, logins, versions, times, ids, checks that fail."""
    rng = random.Random(f"alike {seed}")

    def number(count: int) -> str:
        return _digits(rng, count)

    def failing(good: str) -> str:
        return good[:-1] + str((int(good[-1]) + rng.randint(1, 9)) % 10)

    def wrong_card() -> str:
        body = "4" + number(14)
        return failing(body + luhn.calc_check_digit(body))

    made: dict[str, Callable[[], str]] = {
        "documentation": lambda: f"mail {rng.choice(_FIRST)}@example.{rng.choice(('com', 'org', 'net'))} about it",
        "role": lambda: f"from {rng.choice(('noreply', 'support', 'postmaster', 'info'))}@{rng.choice(_DOMAINS)}",
        "login": lambda: f"git clone git@github.com:{rng.choice(_LAST)}/repo-{number(3)}.git",
        "url": lambda: f"ssh://{rng.choice(_FIRST)}@host-{number(2)}.acme.io:22/srv",
        "package": lambda: f"npm install {rng.choice(_LAST)}@{number(1)}.{number(2)}.{number(1)}",
        "version": lambda: f"from {number(1)}.{number(2)}.{number(4)} to {number(4)}.{number(2)}.{number(3)}",
        "time": lambda: f"2026-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}T{rng.randint(10, 23)}:41:07.{number(6)}",
        "epoch": lambda: f"expires {rng.randint(1_700_000_000_000, 1_800_000_000_000)}",
        "card that fails": lambda: f"the number {wrong_card()} was refused",
        "iban that fails": lambda: f"paid to DE{failing('1' + number(1))}{number(18)}x",
        "id": lambda: f"order {number(12)} of request id={number(16)}",
        "sum": lambda: f"+{number(3)},{number(3)} rows, {number(7)} bytes in {number(3)}.{number(3)} ms",
        "uuid": lambda: f"trace {rng.getrandbits(128):032x}",
        "address": lambda: f"listening on 10.{rng.randint(0, 255)}.{rng.randint(0, 255)}.7:{rng.randint(1024, 65535)}",
        "nine digits": lambda: f"sensor {number(9)} read {number(11)}",
    }
    return [Text(name, make()) for name, make in made.items() for _ in range(40)]


def measured(amount: Amount) -> tuple[list[Row], list[dict[str, Any]]]:
    """The share found, the share of findings that are right, false alarms, and the time for a memory of 2 kB."""
    scanner = PersonalScanner()
    shares, right = list[float](), list[float]()
    missed: dict[str, list[int]] = {}
    for seed in range(1, amount.seeds + 1):
        hits = wrong = 0
        corpus = personal(seed)
        for planted in corpus:
            spans = scanner.spans(planted.text)
            ((start, end),) = planted.spans
            touching = [span for span in spans if span.start < end and start < span.end]
            hits += bool(touching)
            wrong += len(spans) - len(touching)
            count = missed.setdefault(planted.group, [0, 0])
            count[0] += 1
            count[1] += not touching
        wrong += sum(len(scanner.spans(text.text)) for text in alike(seed))
        shares.append(100 * hits / len(corpus))
        right.append(100 * hits / (hits + wrong))
    least = ", ".join(f"{kind} ({100 - 100 * lost / of:.0f} %)" for kind, (of, lost) in missed.items() if lost)
    note = f"{len(_KINDS)} kinds, {len(_PEOPLE)} of them numbers of persons, in {len(_SENTENCES)} sentences"
    note += f"; found least: {least}" if least else "; none is missed"
    rows = [
        row("personal data in Markdown", "% found", shares, note=note),
        row("findings that are planted ones", "%", right, note="beside 600 lines a seed of what only looks like it"),
    ]
    documentation = _ordinary.documentation(amount.documentation)
    kinds = {
        "documentation: personal data": documentation,
        "lock files: personal data": _ordinary.lock_files(),
        "lists of UUIDs and hashes: personal data": _ordinary.hashes(1),
        "chat turns: personal data": _ordinary.chat_turns(1, amount.turns),
    }
    flagged: list[dict[str, Any]] = []
    for name, texts in kinds.items():
        found = [(text.name, finding) for text in texts for finding in scanner.scan(text.text)]
        flagged += [{"in": name, "text": where, "line": each.line, "kind": each.kind} for where, each in found]
        lines = sum(text.text.count("\n") + 1 for text in texts)
        kept = sorted({each.kind for _, each in found})
        said = f"{len(found):,} in {lines:,} lines" + (f": {', '.join(kept)}" if kept else "")
        rows.append(replace(row(name, "found in 1,000 lines", [1_000 * len(found) / lines], note=said), n=lines))
    groups = [{"group": kind, "n": of, "missed": lost} for kind, (of, lost) in missed.items()]
    return [*rows, *_speed(documentation, amount)], [*groups, *flagged]


def _speed(documentation: Sequence[Text], amount: Amount) -> list[Row]:
    whole = "\n".join(text.text for text in documentation)[: 2_048 * (amount.memories + 1)]
    memories = [whole[at : at + 2_048] for at in range(0, len(whole) - 2_048, 2_048)]
    scanner = PersonalScanner()
    scanner.load()
    spans = list[float]()
    for memory in memories:
        with milliseconds(spans):
            scanner.spans(memory)
    note = "with its libraries loaded"
    return [row("personal data in a memory of 2 kB, seen for the first time", "ms", spans, target=0.5, note=note)]
