"""Exact and near duplicates."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from adaptive_llm_gateway.compression._duplicates import Group, find_duplicates

TEXT = (
    "We keep the records of the customers in the old database until the migration of the winter is over and done, and "
    "after that everybody who needs them asks the team that looks after the new one, which answers within a day."
)
DAY = datetime(2024, 1, 1, tzinfo=UTC)


def days(count: int) -> list[datetime]:
    return [DAY + timedelta(days=number) for number in range(count)]


def test_the_newest_of_the_same_text_is_kept_and_the_others_are_named_newest_first() -> None:
    texts = ["something else entirely", "a short text", "A  short\ntext!", "a short text"]
    assert find_duplicates(texts, days(4)) == (Group(3, (2, 1)),)


def test_a_text_with_a_word_changed_is_a_duplicate_and_one_with_another_number_or_a_negation_is_none() -> None:
    assert find_duplicates([TEXT, TEXT.replace("is over", "seems over")], days(2)) == (Group(1, (0,)),)
    assert find_duplicates([TEXT + " Port 80.", TEXT + " Port 81."], days(2)) == ()
    assert find_duplicates([TEXT, TEXT.replace("We keep", "We do not keep")], days(2)) == ()


def test_a_number_that_is_elsewhere_in_both_texts_still_tells_them_apart() -> None:
    rest = " ".join(f"Step {number} of the release is done by whoever is on call." for number in range(20))
    assert find_duplicates([f"Pool 3 is empty. {rest}", f"Pool 5 is empty. {rest}"], days(2)) == ()


def test_near_duplicates_are_confirmed_by_the_caller_and_exact_ones_are_not_asked_for() -> None:
    asked: list[tuple[int, int]] = []

    def never(left: int, right: int) -> bool:
        asked.append((left, right))
        return False

    changed = TEXT.replace("is over", "seems over")
    assert find_duplicates([TEXT, changed, TEXT], days(3), alike=never) == (Group(2, (0,)),)
    assert asked == [(0, 1)]
    assert find_duplicates([TEXT, changed], days(2), alike=lambda left, right: True) == (Group(1, (0,)),)


def test_where_the_caller_does_not_know_as_many_words_must_agree_as_without_it() -> None:
    changed = TEXT.replace("is over", "seems over")
    half = changed.replace("within a day", "with great care").replace("of the winter", "to the coast")
    for texts in ([TEXT, changed], [TEXT, half]):
        assert find_duplicates(texts, days(2), alike=lambda left, right: None) == find_duplicates(texts, days(2))
    assert find_duplicates([TEXT, half], days(2)) == ()
    assert find_duplicates([TEXT, half], days(2), alike=lambda left, right: True) == (Group(1, (0,)),)


def test_words_are_the_same_in_a_text_of_ascii_and_in_one_with_other_letters() -> None:
    assert find_duplicates([TEXT + " é", TEXT.replace(", ", "; ") + " (é)"], days(2)) == (Group(1, (0,)),)
    assert find_duplicates([TEXT, "\u200b" + TEXT.replace(", ", ";\x1f")], days(2)) == (Group(1, (0,)),)


def test_ten_thousand_of_the_same_text_and_as_many_that_differ_in_a_number_are_bounded_work() -> None:
    calls = 0

    def counted(left: int, right: int) -> bool:
        nonlocal calls
        calls += 1
        return False

    assert find_duplicates([TEXT] * 10_000, days(10_000)) == (Group(9_999, tuple(range(9_998, -1, -1))),)
    words = [
        f"w{chr(97 + number % 26)}{chr(97 + number // 26 % 26)}{chr(97 + number // 676)}" for number in range(10_000)
    ]
    assert find_duplicates([f"{TEXT} {TEXT} {word}" for word in words], days(10_000), alike=counted) == ()
    assert calls <= 10_000 * 8 * 16


def test_texts_without_words_are_the_same_only_when_they_are() -> None:
    assert find_duplicates(["", "!!", "??", "\ud800", "!!"], days(5)) == (Group(4, (1,)),)


def test_long_texts_that_differ_far_behind_their_beginning_are_no_duplicates() -> None:
    long = f"{TEXT} " * 200
    assert find_duplicates([long + "Here.", long + "There it ends."], days(2)) == ()
    assert find_duplicates([long, long], days(2)) == (Group(1, (0,)),)


def test_texts_that_differ_in_a_sign_that_tells_something_are_no_duplicates() -> None:
    for one, other in (
        ("We write it in C", "We write it in C++"),
        ("The limit is -5", "The limit is 5"),
        ("if a < b stop", "if a > b stop"),
        ("if a == b stop", "if a != b stop"),
        ("It costs $10", "It costs €10"),
        ("Login works ✅", "Login works ❌"),
        (f"{TEXT} In C#.", f"{TEXT} In C."),
    ):
        assert find_duplicates([one, other], days(2)) == ()
        assert find_duplicates([one, other, other], days(3)) == (Group(2, (1,)),)
    assert find_duplicates(["- *We* keep `SQLite`.", "We keep SQLite!", "> We keep “SQLite”"], days(3)) == (
        Group(2, (1, 0)),
    )


def test_numbers_in_another_order_and_all_words_that_deny_tell_texts_apart() -> None:
    assert find_duplicates([f"{TEXT} From 10 to 20.", f"{TEXT} From 20 to 10."], days(2)) == ()
    assert find_duplicates([f"{TEXT} You should deploy.", f"{TEXT} You shouldn't deploy."], days(2)) == ()
