from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_llm_gateway.memory._chunks import LIMIT, OVERLAP, TARGET, embedding_text, split

_PIECES = st.sampled_from(
    (
        *("# A\n", "## B\n", "```py\n", "```\n", "~~~\n", "\n", "- item one\n", "A sentence. Another one! "),
        *(
            "x" * 400,
            "word " * 90,
            "\r\n",
            "日本語の文章です。" * 40,
            "| a | b |\n",
            "\t",
            "é" * 50 + "\n",
            "no end",
            "   \n",
        ),
    )
)


@given(st.lists(_PIECES, max_size=60).map("".join))
def test_chunks_cover_the_whole_body_in_order(body: str) -> None:
    chunks = split(body)

    assert chunks[0].start == 0
    assert chunks[-1].end == len(body)
    for before, after in pairwise(chunks):
        assert before.start < after.start <= before.end < after.end
        assert before.end - after.start <= OVERLAP


@given(st.text(max_size=5_000))
def test_any_text_at_all_is_covered(body: str) -> None:
    chunks = split(body)

    covered = chunks[0].start == 0 and chunks[-1].end == len(body)
    assert covered
    assert all(after.start <= before.end for before, after in pairwise(chunks))


@given(st.lists(_PIECES, max_size=60).map("".join))
def test_lines_are_those_that_the_chunk_touches(body: str) -> None:
    for chunk in split(body):
        assert chunk.first_line == body.count("\n", 0, chunk.start) + 1
        assert chunk.last_line == max(chunk.first_line, body.count("\n", 0, max(0, chunk.end - 1)) + 1)


@given(st.lists(_PIECES, max_size=60).map("".join))
def test_no_chunk_exceeds_the_limit(body: str) -> None:
    assert all(chunk.end - chunk.start <= LIMIT + OVERLAP for chunk in split(body))


def test_an_empty_body_is_one_empty_chunk() -> None:
    [chunk] = split("")

    assert (chunk.start, chunk.end, chunk.first_line, chunk.last_line) == (0, 0, 1, 1)


def test_a_short_body_is_one_chunk() -> None:
    assert len(split("# Title\n\nA line.\n\n## Part\n\nMore.\n")) == 1


def test_fenced_code_stays_whole() -> None:
    code = "```python\n" + "\n\n".join(f"def f{n}():\n    return {n}" for n in range(30)) + "\n```\n"
    body = "Before. " * 80 + "\n\n" + code + "\n" + "After. " * 80

    assert any(code.strip() in body[chunk.start : chunk.end] for chunk in split(body))


def test_a_fence_that_never_closes_loses_nothing() -> None:
    body = "```\n" + "line\n" * 2_000

    assert split(body)[-1].end == len(body)


def test_a_long_section_starts_at_its_heading_and_knows_the_headings_above() -> None:
    body = (
        "# Guide\n\n"
        + "Intro text. " * 40
        + "\n\n## Install\n\n"
        + "Run it now. " * 60
        + "\n\n## Use\n\n"
        + "Do so. " * 60
    )

    chunks = split(body)

    install = next(chunk for chunk in chunks if body[chunk.start :].startswith("## Install"))
    assert install.heading == "Guide > Install"


def test_a_giant_single_line_is_split_at_a_bounded_size() -> None:
    chunks = split("x" * 100_000)

    assert len(chunks) >= 100_000 // LIMIT
    assert all(chunk.first_line == chunk.last_line == 1 for chunk in chunks)


def test_five_megabytes_become_thousands_of_chunks() -> None:
    body = "A sentence of some words to be found again. " * 120_000

    chunks = split(body)

    assert len(body) // LIMIT <= len(chunks) <= 2 * len(body) // TARGET + 1


def test_scripts_without_spaces_get_smaller_chunks() -> None:
    body = "今日は天気がとても良いので散歩に行きました。" * 60

    assert max(chunk.end - chunk.start for chunk in split(body)) < LIMIT // 2


def test_a_chunk_begins_with_the_sentence_before_it() -> None:
    body = "".join(f"Sentence number {n} says something about the matter. " for n in range(60))

    first, second, *_ = split(body)

    assert second.start < first.end
    assert body[second.start : first.end].startswith("Sentence number")


@pytest.mark.parametrize(("project", "about"), [(None, "codex"), ("atlas", "codex, atlas")])
def test_what_is_embedded_says_when_who_where_and_what(project: str | None, about: str) -> None:
    text = embedding_text("Body.", day="2026-01-02", title="Title", author="codex", project=project, heading="Part")

    assert text == f"[2026-01-02] {about}: Title\nPart\nBody."
