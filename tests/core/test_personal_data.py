"""The one finder of personal data: what its findings say. What it finds is tested with the gateway's detection."""

from __future__ import annotations

from adaptive_llm_gateway.core import PersonalFinding, PersonalScanner, PersonalSpan

EMAIL = "jane.doe" + "@" + "acme.com"
PHONE = "+1 415 555 " + "2671"
IBAN = "DE89 3704 0044 0532 " + "0130 00"
CARD = "4111 1111 1111 " + "1111"


def test_a_finding_says_kind_line_and_a_masked_preview_and_never_the_value() -> None:
    text = f"# Who\r\nmail {EMAIL}\n\rcall {PHONE}, pay to {IBAN}\r\nor {CARD}"
    found = PersonalScanner().scan(text)
    assert found == (
        PersonalFinding("email", 2, "j…@….com"),
        PersonalFinding("phone", 4, "…71"),
        PersonalFinding("iban", 4, "DE…00"),
        PersonalFinding("card", 5, "…11"),
    )
    shown = repr(found)
    assert not any(value in shown for value in (EMAIL, "jane", "acme", PHONE, IBAN, CARD, "555", "3704"))


def test_two_ways_to_write_one_thing_are_the_same_thing() -> None:
    scanner = PersonalScanner()
    text = f"{EMAIL} or {EMAIL.upper()}; {IBAN} or {IBAN.replace(' ', '')}"
    assert len({span.same(text) for span in scanner.spans(text)}) == 2


def test_a_place_keeps_nothing_of_the_text() -> None:
    (span,) = PersonalScanner().spans(f"mail {EMAIL} today")
    assert span == PersonalSpan("email", 5, 5 + len(EMAIL))
    assert EMAIL not in repr(span)


def test_nothing_is_found_in_an_empty_text() -> None:
    assert PersonalScanner().scan("") == ()
