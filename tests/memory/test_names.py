"""Slugs, paths of memories, and paths that must not leave the memory repo."""

from __future__ import annotations

import os
import unicodedata
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive_llm_gateway.core import UnsafePath
from adaptive_llm_gateway.memory._names import check_repo_path, is_git_name, memory_path, slug

ID = "01JD8XYZABCDEFGHJKMNPQRSTV"


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("Use LDAP for login", "use-ldap-for-login"),
        ("Don't panic: é à Straße!", "dont-panic-e-a-strasse"),
        ("Über-Łódź v2.4.7-hotfix", "uber-lodz-v2-4-7-hotfix"),
        ("İstanbul", "istanbul"),
        ("日本語のタイトル", "日本語のタイトル"),
        ("हिन्दी में", "हिन्दी-में"),
        ("Привет, Мир", "привет-мир"),
        ("e\u0301te\u0301", "ete"),
        ("../../etc/passwd", "etc-passwd"),
        ("a\0b\nc", "a-b-c"),
        ("😀", "untitled"),
        ("", "untitled"),
        ("---", "untitled"),
        ("x" * 200, "x" * 60),
        ("ж" * 200, "ж" * 60),
        ("語" * 200, "語" * 40),
        ("one " + "two" * 30, "one"),
    ],
)
def test_a_slug_is_short_lower_case_and_keeps_other_scripts(title: str, expected: str) -> None:
    assert slug(title) == unicodedata.normalize("NFC", expected)


@settings(max_examples=300, deadline=None)
@given(st.text())
def test_every_title_gives_a_name_that_is_safe_everywhere(title: str) -> None:
    result = slug(title)

    assert 1 <= len(result) <= 60
    assert len(result.encode("utf-8", "surrogatepass")) <= 120
    assert result == unicodedata.normalize("NFC", result)
    assert not set(result) & set('<>:"/\\|?*. \0\n\r\t')
    assert result.strip("-") == result


def test_a_memory_s_path_has_folder_month_slug_and_the_end_of_its_id() -> None:
    created = datetime(2026, 12, 1, 0, 30, tzinfo=timezone(timedelta(hours=2)))

    assert memory_path("notes", created, "Some title", ID) == "notes/2026/11/some-title-mnpqrstv.md"
    assert memory_path("notes", datetime(5, 1, 1, tzinfo=UTC), "con", ID) == "notes/0005/01/con-mnpqrstv.md"


def test_an_ordinary_path_is_accepted_whether_or_not_it_exists(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.md").touch()

    assert check_repo_path(tmp_path, "notes/a.md") == tmp_path / "notes" / "a.md"
    assert check_repo_path(tmp_path, "notes/2026/11/ö: x.md") == tmp_path / "notes/2026/11/ö: x.md"
    assert check_repo_path(tmp_path, "notes/a.md/below") == tmp_path / "notes/a.md/below"
    assert check_repo_path(tmp_path, ".gitignore").name == ".gitignore"


@pytest.mark.parametrize(
    "relative",
    [
        "",
        ".",
        "..",
        "../x.md",
        "notes/../../x.md",
        "notes/..",
        "notes/./x.md",
        "notes//x.md",
        "notes/",
        "/etc/passwd",
        "//server/share",
        "\\\\server\\share",
        "notes\\..\\..\\x.md",
        "C:/x.md",
        "c:x.md",
        "notes/a\0b.md",
        "notes/a\nb.md",
        "notes/\x1b.md",
        "notes/\ud800.md",
        "notes/" + "x" * 256,
        "notes/" + "é" * 130,
        ".git/config",
        ".GIT/config",
        "notes/.Git/hooks/x",
        ".g\u200cit/config",
        ".git\ufeff/config",
        "．git/config",
        ".git./config",
        ".git /config",
        ".git . ./config",
        ".git::$INDEX_ALLOCATION/config",
        ".git:x",
        "git~1/config",
        "GIT~2/config",
    ],
)
def test_paths_that_lead_out_or_into_git_are_refused(tmp_path: Path, relative: str) -> None:
    with pytest.raises(UnsafePath) as caught:
        check_repo_path(tmp_path, relative)
    assert caught.value.hint is not None


def test_links_on_the_way_or_at_the_end_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "repo"
    outside = tmp_path / "outside"
    outside.mkdir()
    (root / "notes").mkdir(parents=True)
    (root / "out").symlink_to(outside)
    (root / "in").symlink_to(root / "notes")
    (root / "notes" / "x.md").symlink_to(outside / "x.md")

    for relative in ("out/x.md", "out/missing/x.md", "in/x.md", "notes/x.md", "out"):
        with pytest.raises(UnsafePath, match="symbolic link"):
            check_repo_path(root, relative)


def test_the_repo_itself_may_be_reached_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")

    assert check_repo_path(tmp_path / "link", "notes/x.md") == tmp_path / "link" / "notes" / "x.md"


@pytest.mark.skipif(os.geteuid() == 0 if hasattr(os, "geteuid") else True, reason="root may look everywhere")
def test_a_folder_that_cannot_be_looked_into_is_refused(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    closed.chmod(0)
    try:
        with pytest.raises(UnsafePath):
            check_repo_path(tmp_path, "closed/x.md")
    finally:
        closed.chmod(0o700)


@pytest.mark.parametrize("name", ["git", ".gitignore", ".github", "digit~1", ".gitx", "git~a", ".git-old"])
def test_names_that_only_look_like_git_s_are_free(name: str) -> None:
    assert not is_git_name(name)
