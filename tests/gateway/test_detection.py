"""Detection: what is found and what is not, the level that it gives, and the texts without it.

Credentials are put together here at run time, and numbers of persons are drawn until their check passes, so that this
file has none.
"""

from __future__ import annotations

import datetime
import importlib
import random
import re
import string
import subprocess
import sys
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import phonenumbers
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stdnum import luhn

from adaptive_llm_gateway.core import PERSONAL_KINDS, Allowance, PersonalScanner, SecretScanner, Trust
from adaptive_llm_gateway.gateway import NOTHING_FOUND, Detection, Part, detect, level_of

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "gh" + "p_" + "x8Kd02LmQz71RtVb64NcYw93HsPfJe5UaTgi"
PASSWORD = "Kd02" + "!mQz71"
EMAIL = "jane.doe" + "@" + "acme.com"
PHONE = "+1 415 555 " + "2671"
IBAN = "DE89 3704 0044 0532 " + "0130 00"
CARD = "4111 1111 1111 " + "1111"

_SCANNER = SecretScanner()
_PERSONAL = PersonalScanner()


def found(*texts: str, personal: PersonalScanner = _PERSONAL) -> Detection:
    parts = [Part(text, f"message {number}") for number, text in enumerate(texts, 1)]
    return detect(parts, scanner=_SCANNER, personal=personal)


def redacted(text: str) -> str:
    detection = found(text)
    return text if detection.redacted is None else detection.redacted[0]


# --- What is found ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        f"Write to «email:{EMAIL}» today",
        f"<«email:{EMAIL}»>, «email:o.brien+news@sub.mail.co.uk»",
        f"mailto:«email:{EMAIL}»?subject=x",
        f'{{"email": "«email:{EMAIL}»"}}',
        rf"first\n«email:{EMAIL}»\nlast",
        "Her address is «email:müller@bücher.de».",
        f"邮箱是 «email:{EMAIL}»吧",
        f"https://shop.org/?to=«email:{EMAIL}»",
        "«email:joe@corp.de».Thanks",
        f"call «phone:{PHONE}» now",
        "«phone:+1 (415) 555-2671», «phone:+49 (0)30 1234567», «phone:+442079460958»",
        "«phone:+33 6 12 34 56 78» 2024",
        "«phone:+49\u00a030\u00a01234567»",
        "my phone number is «phone:0151 23456789», ok",
        "Tel.: «phone:030/1234567»",
        '"phone": "«phone:(415) 555-2671»"',
        "You can reach me at «phone:020 7946 0958».",
        "手机 «phone:138 0013 8000»",
        f"to «iban:{IBAN}» AND more",
        "«iban:GB29NWBK60161331926819», «iban:FR14 2004 1010 0505 0001 3M02 606».",
        "«iban:RO49 AAAA 1B31 0075 9384 0000» and «iban:MT84MALT011000012345MTLCAST001S»",
        f"card «card:{CARD}» exp 12/27 cvv 123",
        "«card:4111111111111111» «card:3782 822463 10005» «card:5555-5555-5555-4444»",
        "«card:4111 1111 1111 1111» «card:5555 5555 5555 4444» «card:4242 4242 4242 4242»",
    ],
)
def test_personal_data_is_found_whole_and_nothing_beside_it(text: str) -> None:
    plain = re.sub(r"«[a-z]+:([^»]*)»", r"\1", text)
    expected = re.sub(r"«([a-z]+):[^»]*»", r"[redacted:\1]", text)
    assert re.sub(r"#\d+\]", "]", redacted(plain)) == expected


_PERSONS = [  # the words, how the number is made (`d` a digit, `?` a capital), and who checks it
    ("My SSN is", "ddd-dd-dddd", "us.ssn"),
    ("social security number:", "ddddddddd", "us.ssn"),
    ('"ssn":', "ddd dd dddd", "us.ssn"),
    ("user_ssn =", "ddd-dd-dddd", "us.ssn"),
    ("ITIN", "9dd-7d-dddd", "us.itin"),
    ("NHS number", "ddd ddd dddd", "gb.nhs"),
    ("Steuer-ID", "dd ddd ddd ddd", "de.idnr"),
    ("numéro de sécurité sociale :", "1 85 03 75 ddd ddd dd", "fr.nir"),
    ("DNI", "dddddddd?", "es.dni"),
    ("NIE", "Xddddddd?", "es.nie"),
    ("BSN", "ddddddddd", "nl.bsn"),
    ("rijksregisternummer", "85.03.12-ddd.dd", "be.nn"),
    ("PESEL:", "850312ddddd", "pl.pesel"),
    ("personnummer", "850312-dddd", "se.personnummer"),
    ("fødselsnummer", "120385ddddd", "no.fodselsnummer"),
    ("CPR", "120385-dddd", "dk.cpr"),
    ("hetu", "120385-ddd?", "fi.hetu"),
    ("CPF", "ddd.ddd.ddd-dd", "br.cpf"),
    ("Aadhaar", "dddd dddd dddd", "in_.aadhaar"),
    ("PAN", "???P?dddd?", "in_.pan"),
    ("身份证号", "11010519850312dddd", "cn.ric"),
    ("주민등록번호", "850312-ddddddd", "kr.rrn"),
    ("マイナンバー", "dddd dddd dddd", "jp.in_"),
    ("SIN", "ddd-ddd-ddd", "ca.sin"),
    ("tax file number", "ddd ddd ddd", "au.tfn"),
    ("AHV", "756.dddd.dddd.dd", "ch.ssn"),
    ("SVNR", "dddd120385", "at.vnr"),
    ("NIF", "ddddddddd", "pt.nif"),
    ("cartão de cidadão", "ddddddddd ??d", "pt.cc"),
    ("rodné číslo", "850312/dddd", "cz.rc"),
    ("CNP", "1850312dddddd", "ro.cnp"),
    ("TC kimlik no", "ddddddddddd", "tr.tckimlik"),
    ("identity number", "850312ddddddd", "za.idnr"),
    ("CURP:", "HEGG850312MVZRRLdd", "mx.curp"),
    ("PPS number", "ddddddd?", "ie.pps"),
    ("CUIL", "20-dddddddd-d", "ar.cuit"),
    ("RUT", "dd.ddd.ddd-d", "cl.rut"),
    ("AMKA", "120385ddddd", "gr.amka"),
    ("ЕГН", "850312dddd", "bg.egn"),
    ("OIB", "ddddddddddd", "hr.oib"),
    ("isikukood", "3850312dddd", "ee.ik"),
    ("asmens kodas", "3850312dddd", "lt.asmens"),
    ("teudat zehut", "ddddddddd", "il.idnr"),
    ("เลขประจำตัวประชาชน", "d-dddd-ddddd-dd-d", "th.pin"),
    ("EMŠO", "1203985dddddd", "si.emso"),
    ("РНОКПП", "dddddddddd", "ua.rntrc"),
]


def _made(shape: str, checker: str) -> str:
    draw, is_valid = random.Random(shape + checker), importlib.import_module(f"stdnum.{checker}").is_valid  # noqa: S311
    for _ in range(200_000):
        number = "".join(
            draw.choice(string.digits if c == "d" else string.ascii_uppercase) if c in "d?" else c for c in shape
        )
        if is_valid(number) or is_valid(re.sub(r"\W", "", number)):
            return number
    raise AssertionError(f"no {checker} of the form {shape}")


@pytest.mark.parametrize(("words", "shape", "checker"), _PERSONS, ids=str)
def test_a_persons_number_is_found_where_the_words_say_so_and_its_check_passes(
    words: str, shape: str, checker: str
) -> None:
    number = _made(shape, checker)
    assert redacted(f"{words} {number}, as of today") == f"{words} [redacted:national-id#1], as of today"


def test_words_that_are_also_common_ones_have_to_stand_in_capitals() -> None:
    number = _made("ddd-ddd-ddd", "ca.sin")
    assert redacted(f"SIN {number}") == "SIN [redacted:national-id#1]"
    assert redacted(f"without sin {number}") == f"without sin {number}"


def test_a_national_insurance_number_is_found_by_its_form() -> None:
    assert redacted("national insurance number AB 12 34 56 C.") == "national insurance number [redacted:national-id#1]."


def test_an_italian_code_needs_no_words() -> None:
    for _ in range(3):
        code = _made("RSSMRA85CddHddd?", "it.codicefiscale")
        assert redacted(f"for {code} only") == "for [redacted:national-id#1] only"


def test_the_telephones_of_the_world_are_found_in_international_form() -> None:
    missed: list[str] = []
    checked = 0
    for region in sorted(phonenumbers.SUPPORTED_REGIONS):
        for kind in (phonenumbers.PhoneNumberType.MOBILE, phonenumbers.PhoneNumberType.FIXED_LINE):
            number = phonenumbers.example_number_for_type(region, kind)
            if number is None:
                continue
            for form in (phonenumbers.PhoneNumberFormat.E164, phonenumbers.PhoneNumberFormat.INTERNATIONAL):
                written = phonenumbers.format_number(number, form)
                if sum(c.isdigit() for c in written) >= 10:  # of fewer, sums and differences have as many
                    checked += 1
                    if redacted(f"Call {written}, please.") != "Call [redacted:phone#1], please.":
                        missed.append(written)
    assert checked > 850
    assert missed == []


# --- What is not --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "git clone git@github.com:someone/thing.git",
        "ssh://git@host.org/x https://me@dev.azure.com/x git+ssh://me@host.org/y",
        "scp report.pdf jane@web1.corp.com:/srv/www",
        "ssh jane@web1.corp.com -p 22",
        "noreply@corp.com, no-reply@corp.com, support@corp.com, security@corp.org",
        "jane@example.com, jane@mail.example.org, jane@corp.test, me@localhost, node@host.internal",
        "12345+jane@users.noreply.github.com",
        "some-users@googlegroups.com, dev@lists.corp.org, team@corp.com, example@corp.com",
        "react@18.2.0 @types/node@20.1.0 lodash@4.17.21.tgz actions/checkout@v4.1.2",
        "icon@2x.png getty@tty1.service a@np.array @app.route('/x') libc.so.6@GLIBC_2.2.5",
        "follow @jane@mastodon.social",
        "Message-ID: <20240102.abc@mail.gmail.com>",
        "550e8400-e29b-41d4-a716-446655440000 4111-1111-1111-111111111111",
        "1700000000000 1748503543012 2026-11-22 03:17:06.123456+01:00",
        "ISBN 978-3-16-148410-0, 4006381333931",
        "0.4532015112830366 1e-4532015112830366",
        "version 1.2.3.4, $1,234,567.89, port 11434, pid 1234567",
        "user_id=4532015112830366 and orderId: 4532015112830366",
        "/photos/4532015112830366/view",
        "phone build 20240102, mobile since 2024-01-02, cell 12345678",
        "ssn: 000-12-3456, ssn: 123-45, my ssn is secret",
        "the number 123-45-6789 stands alone",
        "10.0.0.1:8080 -> 192.168.1.20, 8.8.8.8, ::1, 2001:4860:4860::8888",
        "+5.1578 +2.9471 -6.9761 +5.5182 and +690320243 or +1700000000",
        "DE89 3704 0044 0532 0130 01 has a wrong check",
        "4111 1111 1111 1112 has a wrong check",
        "6732 4931 4753 4136 6127 3766 6748 3174 2284 6080 1686 7726",
        "[redacted:email#1] and [redacted:phone#2] and [redacted:password]",
        "",
        "\0\ud800\n",
    ],
)
def test_what_only_looks_like_personal_data_is_left_alone(text: str) -> None:
    assert found(text) is NOTHING_FOUND


def _hexadecimal(draw: random.Random, size: int) -> str:
    return f"{draw.getrandbits(4 * size):0{size}x}"


_NOISE: dict[str, Callable[[random.Random], str]] = {
    "uuid": lambda draw: str(uuid.UUID(int=draw.getrandbits(128))),
    "hash": lambda draw: _hexadecimal(draw, draw.choice((7, 12, 40, 64))),
    "time": lambda draw: datetime.datetime.fromtimestamp(draw.randrange(2**31), datetime.UTC).isoformat(),
    "epoch": lambda draw: str(draw.randrange(10**9, 2 * 10**9) * 10 ** draw.choice((0, 3, 6, 9))),
    "snowflake": lambda draw: str(draw.randrange(10**16, 10**19)),
    "float": lambda draw: repr(draw.uniform(-1000, 1000)),
    "version": lambda draw: f"pkg@{draw.randrange(30)}.{draw.randrange(99)}.{draw.randrange(99)}",
    "named": lambda draw: f"id={draw.randrange(10**15, 10**16)}",
    "price": lambda draw: f"€{draw.randrange(10**3, 10**10):,}.{draw.randrange(100):02}",
    "coordinates": lambda draw: f"{draw.uniform(-90, 90):+.6f}, {draw.uniform(-180, 180):+.6f}",
    "matrix": lambda draw: " ".join(f"{draw.uniform(-9, 9):+.4f}" for _ in range(8)),
    "difference": lambda draw: f"\n+{draw.randrange(10**9)}\n-{draw.randrange(10**9)}",
    "dump": lambda draw: " ".join(_hexadecimal(draw, 4) for _ in range(16)),
    "log": lambda draw: (
        f"[{draw.randrange(99999)}] {draw.randrange(256)}.{draw.randrange(256)}.0.1:{draw.randrange(65536)}"
        f" took {draw.randrange(900)}ms seq {draw.randrange(10**15)}"
    ),
}


@pytest.mark.parametrize("name", _NOISE)
def test_numbers_of_machines_raise_no_level(name: str) -> None:
    draw = random.Random(name)  # noqa: S311 - the same in every run
    texts = [f"{draw.choice(('', 'at ', 'x = ', '('))}{_NOISE[name](draw)} ok" for _ in range(2000)]
    assert [text for text in texts if _PERSONAL.spans(text)] == []


def test_the_pages_and_sources_of_this_project_raise_no_level() -> None:
    files = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    for component in ("core", "memory", "compression", "gateway", "server"):
        files += (ROOT / component).rglob("*.py")
    assert len(files) > 150
    raised = {str(file.relative_to(ROOT)) for file in files if _PERSONAL.spans(file.read_text(encoding="utf-8"))}
    assert raised == set()


# --- Levels, reasons, placeholders ----------------------------------------------------------------------------------


def test_a_credential_makes_it_secret_and_personal_data_confidential() -> None:
    assert found("nothing here").level == Trust.PUBLIC
    assert found(f"write to {EMAIL}").level == Trust.CONFIDENTIAL
    assert found("nothing here", f"write to {EMAIL}", f"the token {TOKEN}").level == Trust.SECRET


def test_reasons_say_kind_place_and_a_masked_preview_and_never_the_value() -> None:
    detection = found(f"a\r\nb {EMAIL}\nc {EMAIL}", f"the token {TOKEN}\n{IBAN}, {CARD} and {PHONE}")
    (fingerprint,) = {finding.fingerprint for finding in _SCANNER.scan(f"the token {TOKEN}")}
    assert [reason.why for reason in detection.reasons] == [
        "2 of kind 'email' in message 1, the first in line 2 (j…@….com)",
        f"github-token in message 2, line 1 ({TOKEN[:4]}…{TOKEN[-2:]}), fingerprint {fingerprint}",
        "iban in message 2, line 2 (DE…00)",
        "card in message 2, line 2 (…11)",
        "phone in message 2, line 2 (…71)",
    ]
    assert [reason.level for reason in detection.reasons] == [
        Trust.CONFIDENTIAL,
        Trust.SECRET,
        *[Trust.CONFIDENTIAL] * 3,
    ]
    assert {reason.source for reason in detection.reasons} == {"detected"}
    assert [(item.kind, item.where, item.count) for item in detection.items][:2] == [
        ("email", "message 1", 2),
        ("github-token", "message 2", 1),
    ]
    for value in (EMAIL, TOKEN, IBAN, CARD, PHONE):
        assert value not in repr(detection)


def test_the_same_thing_has_the_same_placeholder_in_all_of_the_request() -> None:
    other = "max@" + "acme.com"
    detection = found(f"{EMAIL} asks {other}", f"{EMAIL.upper()} and {IBAN} or {IBAN.replace(' ', '')}", "nothing")
    assert detection.redacted == (
        "[redacted:email#1] asks [redacted:email#2]",
        "[redacted:email#1] and [redacted:iban#1] or [redacted:iban#1]",
        "nothing",
    )


def test_what_stands_in_a_credential_goes_with_it() -> None:
    detection = found(f"postgres://shop:{PASSWORD}@db.corp.com/shop, ask {EMAIL}")
    assert detection.redacted is not None
    assert PASSWORD not in detection.redacted[0]
    assert detection.redacted[0].endswith("ask [redacted:email#1]")
    assert [each.kind for each in detection.found].count("email") == 1


def test_an_address_in_a_credential_is_no_address() -> None:
    detection = found(f"password: {PASSWORD}jane@acme.com")
    assert [each.kind for each in detection.found] == ["password"]
    assert detection.redacted == ("password: [redacted:password#1]",)


def test_lines_are_those_of_the_text_as_it_was() -> None:
    key = "-----BEGIN RSA PRIVATE KEY-----\n" + "Ab1cD2ef" * 8 + "\n-----END RSA PRIVATE KEY-----\n"
    detection = found(f"first\n{key}{EMAIL}")
    assert [(each.kind, each.line) for each in detection.found] == [("private-key", 2), ("email", 5)]


def test_what_comes_to_light_when_something_goes_is_taken_out_as_well() -> None:
    assert redacted("phone 0151 23456789 030 1234567") == "phone [redacted:phone#1] [redacted:phone#2]"


def test_an_allowed_credential_raises_nothing() -> None:
    (finding,) = _SCANNER.scan(TOKEN)
    allowing = SecretScanner(allowed=[Allowance(finding.fingerprint, "a sample")])
    assert detect([Part(TOKEN, "message 1")], scanner=allowing, personal=_PERSONAL) is NOTHING_FOUND


def test_kinds_have_the_level_that_is_configured_or_are_not_looked_for() -> None:
    text = f"{EMAIL} {IBAN} 8.8.8.8 10.0.0.1 2001:4860:4860::8888"
    personal = PersonalScanner(levels={"email": Trust.INTERNAL, "iban": None, "ip-address": Trust.SECRET})
    detection = found(text, personal=personal)
    assert detection.redacted == (
        f"[redacted:email#1] {IBAN} [redacted:ip-address#1] 10.0.0.1 [redacted:ip-address#2]",
    )
    assert [each.level for each in detection.found] == [Trust.INTERNAL, Trust.SECRET]
    nothing = PersonalScanner(levels=dict.fromkeys(PERSONAL_KINDS))
    assert found(f"{text} {PHONE} {CARD}", personal=nothing) is NOTHING_FOUND


def test_addresses_that_are_allowed_raise_nothing() -> None:
    personal = PersonalScanner(allowed=["Me@Corp.org", "@acme.com"])
    assert found(f"me@corp.org and {EMAIL}", personal=personal) is NOTHING_FOUND
    assert found("you2@corp.org", personal=personal).level == Trust.CONFIDENTIAL


@pytest.mark.parametrize("declared", [None, *Trust])
@pytest.mark.parametrize("detected", list(Trust))
@pytest.mark.parametrize("carried", [None, *Trust])
def test_the_level_is_the_highest_of_what_is_declared_detected_and_carried(
    declared: Trust | None, detected: Trust, carried: Trust | None
) -> None:
    along = [] if carried is None else [(Trust.PUBLIC, "01A"), (carried, "01B")]
    decision = level_of(declared, Trust.INTERNAL, Detection(detected, found(EMAIL).found), along)
    own = Trust.INTERNAL if declared is None else declared
    assert decision.without_detected.rank == max(own.rank, carried.rank if carried else 0)
    assert decision.level == max((reason.level for reason in decision.reasons), key=lambda level: level.rank)
    assert decision.level.rank >= decision.without_detected.rank
    sources = ["default" if declared is None else "declared", "detected"] + ["context"] * len(along)
    assert [reason.source for reason in decision.reasons] == sources


def test_an_unlabelled_request_takes_the_default_and_a_declared_level_below_it_counts() -> None:
    assert level_of(None, Trust.INTERNAL, NOTHING_FOUND).level == Trust.INTERNAL
    assert level_of(Trust.PUBLIC, Trust.INTERNAL, NOTHING_FOUND).level == Trust.PUBLIC
    decision = level_of(Trust.PUBLIC, Trust.INTERNAL, found(EMAIL), [(Trust.INTERNAL, "01A")])
    assert (decision.level, decision.without_detected) == (Trust.CONFIDENTIAL, Trust.INTERNAL)
    assert [reason.why for reason in decision.reasons] == [
        "declared as public",
        "email in message 1, line 1 (j…@….com)",
        "memory 01A is internal",
    ]


# --- Any text ---------------------------------------------------------------------------------------------------------

_PIECES = st.lists(
    st.sampled_from(
        [
            EMAIL,
            PHONE,
            IBAN,
            CARD,
            TOKEN,
            f"password: {PASSWORD}",
            "ssn 123-45-6789",
            "tel 030 1234567",
            *"@+.-: \n\\1a",
        ]
    )
    | st.text(max_size=6),
    max_size=12,
)


@settings(deadline=None)
@given(_PIECES, _PIECES)
def test_nothing_is_found_in_what_was_redacted_and_nothing_else_is_changed(left: list[str], right: list[str]) -> None:
    texts = ["".join(left), "".join(right)]
    detection = found(*texts)
    if detection.redacted is None:
        assert detection == NOTHING_FOUND
        return
    assert found(*detection.redacted) is NOTHING_FOUND
    for text, without in zip(texts, detection.redacted, strict=True):
        at = 0
        for kept in re.split(r"\[redacted:[a-z-]+(?:#\d+)?\]", without):
            at = text.find(kept, at) + len(kept)
            assert at >= len(kept)


_HOSTILE: dict[str, Callable[[int], str]] = {
    "at signs": lambda n: "@" * n,
    "addresses": lambda n: "".join(f"a{i}@b{i}.com " for i in range(n // 14)),
    "long names": lambda n: ("a." * 30 + "@") * (n // 61),
    "long domains": lambda n: ("a@" + "b." * 200) * (n // 402),
    "pluses": lambda n: "+1 " * (n // 3),
    "telephones": lambda n: "".join(f"+1 415 {i % 800 + 200} {i % 9000 + 1000} " for i in range(n // 16)),
    "no telephones": lambda n: "".join(f"+99 9{i % 90 + 10} {i % 900 + 100} 1234 " for i in range(n // 17)),
    "announced": lambda n: "".join(f"tel 0{i % 900 + 100} {i % 9000000 + 1000000}, " for i in range(n // 18)),
    "digits": lambda n: "1" * n,
    "spaced digits": lambda n: "1 " * (n // 2),
    "cards": lambda n: f"{CARD} " * (n // 20),
    "no cards": lambda n: "4111111111111112 " * (n // 17),
    "accounts": lambda n: f"{IBAN} " * (n // 28),
    "no accounts": lambda n: "AA00 " * (n // 5),
    "words": lambda n: "ssn itin DNI NIE SIN 123-45-678 " * (n // 32),
    "persons": lambda n: "ssn 123456780 " * (n // 14),
    "capitals": lambda n: "A" * n,
    "scripts": lambda n: "身份证123456789 电话 " * (n // 16),
    "brackets": lambda n: "1()" * (n // 3),
    "colons": lambda n: "a:" * (n // 2),
    "placeholders": lambda n: "[redacted:email#1]" * (n // 18),
}


@pytest.mark.parametrize("name", _HOSTILE)
def test_hostile_text_is_searched_and_redacted_in_bounded_time(name: str) -> None:
    # Linear work is a second or two of these 100,000 characters; anything quadratic would be hours.
    personal = PersonalScanner(levels={"ip-address": Trust.INTERNAL})
    detection = found(_HOSTILE[name](100_000), personal=personal)
    assert detection.redacted is None or found(*detection.redacted, personal=personal) is NOTHING_FOUND


def test_every_card_of_a_long_list_is_found() -> None:
    draw = random.Random(1)  # noqa: S311
    cards = [f"4{draw.randrange(10**14):014}" for _ in range(500)]
    cards = [card + luhn.calc_check_digit(card) for card in cards]
    listed = " ".join(f"{card[:4]} {card[4:8]} {card[8:12]} {card[12:]}" for card in cards)
    assert found(listed).found[0].count == 500


# --- Libraries, threads -------------------------------------------------------------------------------------------


def test_the_libraries_are_imported_by_the_first_number_that_needs_them_and_nothing_is_fetched() -> None:
    code = f"""
import socket, sys
def refused(*args, **kwargs): raise AssertionError("a connection was tried")
socket.socket.connect = socket.getaddrinfo = refused
from adaptive_llm_gateway.core import PersonalScanner, SecretScanner
from adaptive_llm_gateway.gateway import Part, detect
personal, scanner = PersonalScanner(), SecretScanner()
loaded = lambda: {{"phonenumbers", "stdnum"}} & sys.modules.keys()
assert detect([Part("at 2026-11-22, {EMAIL}", "m")], scanner=scanner, personal=personal).found and not loaded()
assert detect([Part("{PHONE} {IBAN} {CARD}", "m")], scanner=scanner, personal=personal).found[2:]
assert loaded() == {{"phonenumbers", "stdnum"}}
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)


def test_loading_before_the_first_text_imports_both() -> None:
    code = (
        "import sys\nfrom adaptive_llm_gateway.core import PersonalScanner\nPersonalScanner().load()\n"
        "assert {'phonenumbers', 'stdnum.iban', 'stdnum.luhn'} <= sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)


def test_a_scanner_keeps_places_and_no_values_and_serves_many_threads() -> None:
    personal = PersonalScanner()
    texts = [f"{number} {EMAIL} {'x' * (number % 7)}" for number in range(200)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(personal.spans, texts * 5))
    assert answers == [PersonalScanner().spans(text) for text in texts] * 5
    assert EMAIL not in repr({name: getattr(personal, name, None) for name in ("_kept", "_allowed", "levels")})
