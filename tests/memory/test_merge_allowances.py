"""`secrets-allowed.yaml` is merged by entry: additions are all kept, what was revoked stays so."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from merge_made import merge_trees

from adaptive_llm_gateway.core import Allowance, parse_allowances, render_allowances
from adaptive_llm_gateway.memory import install_merge_driver
from adaptive_llm_gateway.memory._merge_allowances import merge_allowances

NAME = "secrets-allowed.yaml"
A, B, C, D = (f"{number:015d}{letter}" for number, letter in enumerate("abcd"))
COMMAND = (sys.executable, "-P", "-m", "adaptive_llm_gateway.server", "merge-driver")


def entry(fingerprint: str, reason: str = "a sample", *, by: str = "", added: str = "", until: str = "") -> str:
    return render_allowances([Allowance(fingerprint, reason, by=by, added=added, until=until)])


def merged(base: str | None, one: str | None, other: str | None) -> str:
    """The same from either side."""
    trees = [{NAME: text.encode()} if text is not None else {} for text in (base, one, other)]
    found, plan = merge_trees(*trees)
    swapped, _ = merge_trees(trees[0], trees[2], trees[1])
    assert found == swapped
    assert plan.conflicts == []
    assert found.keys() <= {NAME}
    return found.get(NAME, b"").decode()


def fingerprints(text: str) -> list[str]:
    return [item.fingerprint for item in parse_allowances(text)]


def test_two_people_add_an_entry_each_and_both_are_there() -> None:
    base = f"# shared\n{entry(A)}"
    who = [base + entry(B, by="Ada", added="2026-11-22"), base + entry(C, by="Bo", added="2026-11-22")]
    assert sorted(fingerprints(merged(base, *who))) == [A, B, C]
    assert merged(base, *who).startswith("# shared\n")


def test_files_that_began_apart_become_one_with_what_each_says_above_its_entries() -> None:
    found = merged(None, f"# Ada's\n{entry(A)}", f"# Bo's\n{entry(B)}")
    assert sorted(fingerprints(found)) == [A, B]
    assert "# Ada's" in found
    assert "# Bo's" in found


def test_the_same_entry_added_on_both_sides_is_there_once() -> None:
    assert fingerprints(merged("", entry(A, "mine"), entry(A, "theirs"))) == [A]


def test_what_one_side_revoked_is_gone_though_the_other_renewed_it() -> None:
    base = entry(A, until="2027-01-01") + entry(B)
    renewed = entry(A, "still a sample", until="2028-01-01") + entry(B)
    assert fingerprints(merged(base, entry(B), renewed)) == [B]


def test_a_file_that_one_side_removed_revokes_all_but_what_the_other_added() -> None:
    base = entry(A) + entry(B)
    assert fingerprints(merged(base, None, entry(A, "edited") + entry(B) + entry(C))) == [C]
    assert merged(base, None, base) == ""


def test_where_both_renewed_the_earlier_end_counts() -> None:
    base = entry(A, until="2027-01-01")
    one, other = (
        entry(A, why, added=added, until=until)
        for why, added, until in (("one", "2026-11-22T10:00:00Z", "2030-01-01"), ("other", "2026-11-22T11:00:00Z", ""))
    )
    (found,) = parse_allowances(merged(base, one, other))
    assert (found.reason, found.until) == ("other", "2030-01-01")


def test_keys_of_a_newer_version_are_kept() -> None:
    base = f"- fingerprint: {A}\n  reason: a\n  paths: [docs]\n"
    (found, other) = parse_allowances(merged(base, base.replace("docs", "docs, more"), base + entry(B)))
    assert (found.unknown, other.fingerprint) == ((("paths", "[docs, more]"),), B)


def test_a_list_that_cannot_be_read_is_merged_as_any_file_and_never_allows_more() -> None:
    base = entry(A)
    trees = [{NAME: text.encode()} for text in (base, "broken: [\n", base + entry(B))]
    found, _ = merge_trees(*trees)
    assert {data for path, data in found.items() if path != NAME} <= {trees[1][NAME], trees[2][NAME]}
    assert set(trees[0][NAME].split()) <= set(b" ".join(found.values()).split())
    assert merge_allowances(*(tree[NAME] for tree in trees)) is None


ENTRIES = st.builds(
    Allowance,
    st.sampled_from([A, B, C, D]),
    st.sampled_from(["a sample", "of the manual"]),
    until=st.sampled_from(["", "2027-01-01", "2028-01-01"]),
    added=st.sampled_from(["", "2026-11-22T10:00:00Z"]),
)
FILES = st.lists(ENTRIES, max_size=4, unique_by=lambda item: item.fingerprint).map(render_allowances)


@settings(max_examples=200, deadline=None)
@given(FILES, FILES, FILES)
def test_no_addition_is_lost_and_nothing_counts_longer_than_a_side_said(base: str, one: str, other: str) -> None:
    found = {item.fingerprint: item for item in parse_allowances(merged(base, one, other))}
    before, mine, theirs = ({item.fingerprint: item for item in parse_allowances(text)} for text in (base, one, other))
    assert (mine.keys() | theirs.keys()) - before.keys() <= found.keys()
    assert found.keys() - (mine.keys() & theirs.keys()) <= (mine.keys() ^ theirs.keys()) - before.keys()
    for fingerprint, item in found.items():
        said = {side[fingerprint].until for side in (mine, theirs) if fingerprint in side}
        assert item.until in said


def git(cwd: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=cwd, capture_output=True, text=True, check=True, encoding="utf-8", timeout=120
    ).stdout


@pytest.mark.parametrize("strategy", ["merge", "rebase"])
def test_plain_git_with_the_merge_driver_keeps_both_additions(tmp_path: Path, strategy: str) -> None:
    git(tmp_path, "init", "-q", "--bare", "-b", "main", "remote.git")
    clones = [tmp_path / name for name in ("ada", "bo")]
    for number, clone in enumerate(clones):
        git(tmp_path, "clone", "-q", str(tmp_path / "remote.git"), clone.name)
        git(clone, "checkout", "-q", "-B", "main")
        if number == 0:
            (clone / NAME).write_text(entry(A), encoding="utf-8")
            git(clone, "add", NAME)
            git(clone, "commit", "-qm", "begin")
            git(clone, "push", "-q", "origin", "main")
        install_merge_driver(clone, COMMAND)
    for clone, fingerprint in zip(clones, (B, C), strict=True):
        git(clone, "pull", "-q", "--ff-only", "origin", "main") if clone == clones[1] else None
        (clone / NAME).write_text(entry(A) + entry(fingerprint, by=clone.name), encoding="utf-8")
        git(clone, "commit", "-qam", f"allow {fingerprint}")
    git(clones[0], "push", "-q", "origin", "main")
    git(clones[1], "pull", "-q", "--rebase" if strategy == "rebase" else "--no-rebase", "--no-edit", "origin", "main")
    text = (clones[1] / NAME).read_text(encoding="utf-8")
    assert sorted(fingerprints(text)) == [A, B, C]
    assert git(clones[1], "status", "--porcelain") == ""
