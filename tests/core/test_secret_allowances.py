"""Entries of `secrets-allowed.yaml`: what they say, until when they count, and what a pull may not change."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from adaptive_llm_gateway.core import (
    WAITING_FILE,
    Allowance,
    ConfigError,
    SecretRefused,
    SecretScanner,
    agreed_to,
    arriving,
    load_agreed,
    load_allowances,
    load_waiting,
    parse_allowances,
    parse_until,
    standing,
    waiting_bytes,
)

# In two pieces, so that no scanner takes this file for a leak.
TOKEN = "ghp_" + "16C7e42F292c6912E7710c838347Ae178B4a"
ONE, TWO = "0123456789abcdef", "fedcba9876543210"
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


def fingerprint() -> str:
    return SecretScanner().scan(TOKEN)[0].fingerprint


def test_an_entry_says_why_who_when_until_when_and_what_for() -> None:
    text = (
        f"- fingerprint: {ONE}\n  reason: a sample\n  by: Ada <ada@example.org>\n"
        "  added: 2026-11-22T12:00:00Z\n  until: 2027-11-22\n  kind: github-token\n"
    )
    (entry,) = parse_allowances(text)
    assert entry == Allowance(
        ONE, "a sample", "Ada <ada@example.org>", "2026-11-22T12:00:00Z", "2027-11-22", "github-token"
    )
    assert entry.line == 1
    assert entry.ends == datetime(2027, 11, 23, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("2027-02-28", datetime(2027, 3, 1, tzinfo=UTC)),
        ("2027-02-28T12:00:00Z", datetime(2027, 2, 28, 12, tzinfo=UTC)),
        ("2027-02-28t12:00:00+02:00", datetime(2027, 2, 28, 10, tzinfo=UTC)),
        ("9999-12-31", datetime(9999, 12, 31, tzinfo=UTC)),
    ],
)
def test_a_date_counts_to_its_end_and_a_time_to_the_second(text: str, ends: datetime) -> None:
    assert parse_until(text) == ends


@pytest.mark.parametrize(
    "text", ["2027", "2027-02-30", "tomorrow", "2027-02-28T12:00:00", "2027-02-28 12:00", "0001-01-01T00:00:00+14:00"]
)
def test_what_is_no_date_and_no_time_with_a_zone_is_an_error_with_its_line(text: str, tmp_path: Path) -> None:
    file = tmp_path / "secrets-allowed.yaml"
    file.write_text(f"- fingerprint: {ONE}\n  reason: a sample\n  until: {text}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="line 3") as caught:
        load_allowances(file)
    assert caught.value.details == {"path": str(file), "line": 3}


def test_an_entry_that_has_ended_allows_nothing_while_the_scanner_lives_on() -> None:
    clock = Clock()
    scanner = SecretScanner(allowed=[Allowance(fingerprint(), "a sample", until="2026-11-22")], clock=clock)
    assert scanner.scan(TOKEN) == ()
    before = scanner.allowed
    clock.now = datetime(2026, 11, 22, 23, 59, 59, tzinfo=UTC)
    assert scanner.scan(TOKEN) == ()
    assert scanner.allowed is before
    clock.now = datetime(2026, 11, 23, tzinfo=UTC)
    assert len(scanner.scan(TOKEN)) == 1
    assert scanner.allowed is not before
    with pytest.raises(SecretRefused) as caught:
        scanner.check(TOKEN, where="the body")
    assert "It was allowed until 2026-11-23T00:00:00Z" in (caught.value.hint or "")


def test_of_two_entries_for_one_fingerprint_the_one_that_ends_first_counts() -> None:
    entries = [Allowance(fingerprint(), "one", until="2026-11-21"), Allowance(fingerprint(), "other")]
    for allowed in (entries, entries[::-1]):
        assert len(SecretScanner(allowed=allowed, clock=Clock()).scan(TOKEN)) == 1


def test_an_entry_with_a_key_of_a_newer_version_allows_nothing_and_hinders_no_other() -> None:
    text = f"- fingerprint: {fingerprint()}\n  reason: a sample\n  paths: [docs/*]\n- fingerprint: {ONE}\n  reason: b\n"
    newer, other = parse_allowances(text)
    assert newer.unknown == (("paths", "[docs/*]"),)
    assert other.unknown == ()
    assert len(SecretScanner(allowed=[newer, other]).scan(TOKEN)) == 1
    assert [item.state for item in standing([newer, other], {}, NOW)] == ["unknown_keys", "in_force"]


def test_a_refusal_says_when_the_list_cannot_be_read() -> None:
    with pytest.raises(SecretRefused) as caught:
        SecretScanner(trouble="'secrets-allowed.yaml', line 3: the file is not a list").check(TOKEN, where="the body")
    assert "Nothing is allowed: 'secrets-allowed.yaml', line 3" in (caught.value.hint or "")


def test_the_scanner_tells_what_it_took_a_fingerprint_for() -> None:
    scanner = SecretScanner()
    scanner.scan(TOKEN)
    assert scanner.with_allowed([]).kind_of(fingerprint()) == "github-token"
    assert scanner.kind_of(ONE) is None


@pytest.mark.parametrize(
    ("until", "agreed", "state", "counts_until"),
    [
        ("", "", "in_force", None),
        ("2027-11-22", "", "in_force", None),
        ("2026-12-01", "", "ending", None),
        ("2026-11-21", "", "ended", None),
        ("", None, "waiting", None),
        ("2026-11-21", None, "ended", None),
        ("2028-01-01", "2027-11-22", "in_force", "2027-11-22"),
        ("", "2026-12-01", "ending", "2026-12-01"),
        ("2028-01-01", "2026-11-21", "waiting", "2026-11-21"),
    ],
)
def test_the_standing_of_an_entry(until: str, agreed: str | None, state: str, counts_until: str | None) -> None:
    (found,) = standing([Allowance(ONE, "a sample", until=until)], {ONE: agreed}, NOW)
    assert (found.state, found.counts_until) == (state, counts_until)


# --- what a pull brings -------------------------------------------------------------------------------


def test_what_a_pull_adds_waits_and_what_it_takes_away_is_gone() -> None:
    before, after = [Allowance(ONE, "mine")], [Allowance(ONE, "mine"), Allowance(TWO, "theirs")]
    waiting = arriving(before, {}, after)
    assert waiting == {TWO: None}
    assert agreed_to(after, waiting) == (Allowance(ONE, "mine"),)
    assert arriving(after, waiting, [Allowance(TWO, "theirs")]) == {TWO: None}
    assert arriving(after, {}, [Allowance(ONE, "mine")]) == {}


@pytest.mark.parametrize(
    ("mine", "theirs", "counts"),
    [
        ("2027-01-01", "2036-01-01", "2027-01-01"),
        ("2027-01-01", "", "2027-01-01"),
        ("2027-01-01", "2026-12-01", "2026-12-01"),
        ("", "2027-01-01", "2027-01-01"),
        ("", "", ""),
    ],
)
def test_a_pull_may_have_an_entry_end_earlier_but_not_later(mine: str, theirs: str, counts: str) -> None:
    before, after = [Allowance(ONE, "mine", until=mine)], [Allowance(ONE, "theirs", until=theirs)]
    waiting = arriving(before, {}, after)
    assert [item.until for item in agreed_to(after, waiting)] == [counts]
    assert [item.until for item in agreed_to(after, arriving(after, waiting, after))] == [counts]


def test_a_pull_that_takes_an_unknown_key_away_does_not_have_the_entry_count() -> None:
    restricted = Allowance(ONE, "a sample", unknown=(("paths", "docs"),))
    assert arriving([restricted], {}, [Allowance(ONE, "a sample")]) == {ONE: None}


def test_an_entry_given_twice_is_agreed_to_as_far_as_both_are() -> None:
    before = [Allowance(ONE, "one", until="2027-01-01"), Allowance(ONE, "other")]
    assert arriving(before, {}, [Allowance(ONE, "one")]) == {ONE: "2027-01-01"}


def test_what_waits_is_kept_in_the_git_folder_and_without_a_readable_one_nothing_counts(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    file, waiting = tmp_path / "secrets-allowed.yaml", tmp_path / ".git" / WAITING_FILE
    file.write_text(f"- fingerprint: {ONE}\n  reason: a\n- fingerprint: {TWO}\n  reason: b\n", encoding="utf-8")
    assert [item.fingerprint for item in load_agreed(file)] == [ONE, TWO]
    waiting.write_bytes(waiting_bytes({ONE: None, TWO: "2027-01-01"}))
    assert load_waiting(tmp_path / ".git") == {ONE: None, TWO: "2027-01-01"}
    assert load_agreed(file) == (Allowance(TWO, "b", until="2027-01-01"),)
    for broken in ("", "{}", "[]", "[" * 100_000, '{"waiting": []}', json.dumps({"waiting": {ONE: "soon"}})):
        waiting.write_text(broken, encoding="utf-8")
        with pytest.raises(ConfigError, match=WAITING_FILE):
            load_agreed(file)


def test_a_work_tree_beside_another_one_has_the_same_git_folder(tmp_path: Path) -> None:
    main, beside = tmp_path / "main" / ".git", tmp_path / "beside"
    (main / "worktrees" / "beside").mkdir(parents=True)
    beside.mkdir()
    (beside / ".git").write_text(f"gitdir: {main / 'worktrees' / 'beside'}\n", encoding="utf-8")
    (main / "worktrees" / "beside" / "commondir").write_text("../..\n", encoding="utf-8")
    (main / WAITING_FILE).write_bytes(waiting_bytes({ONE: None}))
    (beside / "secrets-allowed.yaml").write_text(f"- fingerprint: {ONE}\n  reason: a\n", encoding="utf-8")
    assert load_agreed(beside / "secrets-allowed.yaml") == ()


def test_an_end_that_a_hundred_years_pass_before_is_no_trouble() -> None:
    clock = Clock()
    scanner = SecretScanner(allowed=[Allowance(fingerprint(), "a", until="9999-12-31")], clock=clock)
    clock.now += timedelta(days=36500)
    assert scanner.scan(TOKEN) == ()
