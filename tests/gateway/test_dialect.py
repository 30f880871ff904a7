"""The OpenAI dialect: bodies, answers and streams of events, in every form that servers give them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_llm_gateway.gateway import Embedded, Message, ModelRequest, Usage
from adaptive_llm_gateway.gateway._dialect import (
    ErrorEvent,
    Said,
    answer_of,
    body_of,
    event_of,
    events,
    usage_of,
    vectors_of,
)


def read(*blocks: bytes) -> list[str]:
    async def given_blocks() -> AsyncIterator[bytes]:
        for block in blocks:
            yield block

    async def run() -> list[str]:
        return [event async for event in events(given_blocks())]

    return asyncio.run(run())


def asked(**settings: Any) -> dict[str, Any]:
    request = ModelRequest((Message("user", "Grüße \u2028 \U0001f600"),), "m", **settings)
    return json.loads(body_of(request, limit="both"))


# --- events -------------------------------------------------------------------------------------------------------

LINES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), min_size=1, max_size=20)


@given(data=st.data(), texts=st.lists(LINES, max_size=5))
def test_events_are_the_same_however_they_are_cut_and_lines_end(data: st.DataObject, texts: list[str]) -> None:
    end = data.draw(st.sampled_from(["\n", "\r\n", "\r"]))
    noise = data.draw(st.sampled_from(["", ": ping", "event: message", "id: 7", "data"]))
    sent = "".join(f"{noise}{end}data: {text}{end}{end}" for text in texts).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=8)))
    blocks = [sent[a:b] for a, b in zip([0, *cuts], [*cuts, len(sent)], strict=True)]
    end_at = next((at for at, text in enumerate(texts) if text.startswith("[DONE]")), len(texts))
    assert read(*blocks) == texts[:end_at]


def test_what_splits_lines_elsewhere_splits_no_event() -> None:
    text = json.dumps({"x": "a\u2028b\u2029c\x85d"}, ensure_ascii=False)
    assert read(f"data: {text}\n\n".encode()) == [text]


def test_the_lines_of_an_event_are_one_text() -> None:
    assert read(b"data: {\ndata:  1\ndata:}\n\n") == ["{\n 1\n}"]


def test_nothing_behind_the_end_is_an_event_and_all_of_it_is_read() -> None:
    seen: list[int] = []

    async def run() -> list[str]:
        async def blocks() -> AsyncIterator[bytes]:
            for at, block in enumerate((b"data: 1\n\n", b"data: [DONE]\n\n", b"data: 2\n\n")):
                seen.append(at)
                yield block

        return [event async for event in events(blocks())]

    assert asyncio.run(run()) == ["1"]
    assert seen == [0, 1, 2]


def test_an_event_without_its_end_is_none() -> None:
    assert read(b"data: 1\n\ndata: 2\n") == ["1"]


def test_an_event_that_is_no_utf8_is_refused() -> None:
    with pytest.raises(UnicodeDecodeError):
        read(b"data: \xff\n\n")


# --- what they say ------------------------------------------------------------------------------------------------


def test_an_event_has_its_text_its_end_and_its_usage() -> None:
    choice: dict[str, Any] = {"delta": {"content": "Hi"}, "finish_reason": None}
    assert event_of({"choices": [choice], "model": "m"}) == Said("Hi", model="m")
    ends: list[dict[str, Any]] = [{"delta": {}, "finish_reason": "stop"}, {"finish_reason": "stop"}]
    for end in ends:
        assert event_of({"choices": [end]}) == Said("", "stop")
    none: list[dict[str, Any]] = [{"choices": []}, {"choices": None}, {}]
    for choices in none:
        assert event_of({**choices, "usage": {"prompt_tokens": 3, "completion_tokens": 5}}) == Said(usage=Usage(3, 5))


@pytest.mark.parametrize(
    "event",
    [
        None,
        [],
        7,
        {"choices": 3},
        {"choices": "x"},
        {"choices": [3]},
        {"choices": [{"delta": "x"}]},
        {"choices": [{"delta": {"content": 3}}]},
        {"choices": [{"delta": {"content": {"text": "x"}}}]},
        {"choices": [{"delta": {"content": ["x"]}}]},
        {"choices": [{"delta": {"content": [{"type": "text", "text": 3}]}}]},
    ],
)
def test_an_event_of_another_form_is_refused(event: Any) -> None:
    with pytest.raises(ValueError, match=r".+"):
        event_of(event)


def test_an_error_is_no_event() -> None:
    errors: list[dict[str, Any]] = [{"error": {"message": "no"}}, {"error": "no", "choices": []}]
    for error in errors:
        for read_one in (event_of, answer_of):
            with pytest.raises(ErrorEvent) as caught:
                read_one(error)
            assert json.loads(caught.value.said) == {"error": error["error"]}
    assert event_of({"error": None, "choices": [{"delta": {"content": "Hi"}}]}).text == "Hi"


def test_an_answer_in_parts_is_their_text_without_what_the_model_thought() -> None:
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}
    message = {"content": [thought, {"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]}
    found = answer_of({"choices": [{"message": message, "finish_reason": "stop"}]})
    assert found == Said("Hello", "stop")


@pytest.mark.parametrize("answer", [None, [], 7, {}, {"choices": []}, {"choices": [3]}, {"choices": [{"message": 3}]}])
def test_an_answer_of_another_form_has_no_choice(answer: Any) -> None:
    assert answer_of(answer) is None


def test_text_that_is_none_is_told() -> None:
    assert answer_of({"choices": [{"message": {"content": 3}, "finish_reason": "stop"}]}) == Said(None, "stop")


@pytest.mark.parametrize("count", [-1, True, 1.5, "3", None, [3]])
def test_a_count_that_is_none_is_not_known(count: Any) -> None:
    assert usage_of({"usage": {"prompt_tokens": count, "completion_tokens": 5}}) == Usage(None, 5)
    assert usage_of({"usage": count}) is None


def embeddings(*entries: Any, **more: Any) -> dict[str, Any]:
    return {"data": list(entries), **more}


def vector(index: Any, *numbers: Any) -> dict[str, Any]:
    return {"index": index, "embedding": list(numbers)}


def test_vectors_come_in_the_order_of_their_texts_with_their_usage() -> None:
    answer = embeddings(vector(1, 2, 3.5), vector(0, -1, 0), usage={"prompt_tokens": 4})
    assert vectors_of(answer, 2) == Embedded([[-1.0, 0.0], [2.0, 3.5]], Usage(4, None))
    assert vectors_of(embeddings(vector(0, 1)), 1) == Embedded([[1.0]], Usage(None, None))


@pytest.mark.parametrize(
    "answer",
    [
        None,
        [],
        {},
        {"data": None},
        {"data": 3},
        {"data": {"index": 0}},
        embeddings(),
        embeddings(3),
        embeddings({"index": 0}),
        embeddings({"embedding": [1.0]}),
        embeddings({"index": [], "embedding": [1.0]}),
        embeddings({"index": 0, "embedding": "AACAPw=="}),
        embeddings({"index": 0, "embedding": {"0": 1.0}}),
        embeddings(vector("0", 1.0)),
        embeddings(vector(1, 1.0)),
        embeddings(vector(0)),
        embeddings(vector(0, float("nan"))),
        embeddings(vector(0, float("inf"))),
        embeddings(vector(0, 10**400)),
        embeddings(vector(0, True)),
        embeddings(vector(0, "1")),
        embeddings(vector(0, None)),
        embeddings(vector(0, [1.0])),
        embeddings(vector(0, 1.0), vector(0, 1.0)),
        embeddings(vector(0, 1.0), vector(1, 1.0)),
    ],
)
def test_vectors_of_another_form_are_none(answer: Any) -> None:
    assert vectors_of(answer, 1) is None


def test_vectors_of_several_lengths_are_none() -> None:
    assert vectors_of(embeddings(vector(0, 1.0), vector(1, 1.0, 2.0)), 2) is None


@pytest.mark.parametrize(
    ("details", "cached", "written"),
    [
        ({"cached_tokens": 6, "audio_tokens": 0}, 6, None),
        ({"cached_tokens": 0}, 0, None),
        ({"cached_tokens": 6, "cache_write_tokens": 4}, 6, 4),
        ({"cache_write_tokens": 10}, None, 10),
        ({"cached_tokens": 6, "cache_write_tokens": 5}, None, None),  # more than it read
        ({"cached_tokens": 11}, None, None),
        ({"cached_tokens": -1, "cache_write_tokens": "4"}, None, None),
        ({"cached_tokens": True}, None, None),
        ({}, None, None),
        (None, None, None),
        ([6], None, None),
    ],
)
def test_tokens_that_a_cache_had_are_a_part_of_those_that_were_read(
    details: Any, cached: int | None, written: int | None
) -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": details}
    assert usage_of({"usage": usage}) == Usage(10, 5, cached, written)
    assert usage_of({"usage": {**usage, "prompt_tokens": None}}) == Usage(None, 5)


# --- bodies -------------------------------------------------------------------------------------------------------


def test_a_body_has_what_was_asked_for_and_nothing_else() -> None:
    messages = [{"role": "user", "content": "Grüße \u2028 \U0001f600"}]
    assert asked() == {"model": "m", "messages": messages}
    full = asked(max_tokens=7, temperature=0.0, json=True, stop=("END",))
    assert full == {
        "model": "m",
        "messages": messages,
        "max_tokens": 7,
        "max_completion_tokens": 7,
        "temperature": 0.0,
        "response_format": {"type": "json_object"},
        "stop": ["END"],
    }


def test_half_of_a_pair_of_surrogates_is_not_sent_as_something_else() -> None:
    with pytest.raises(UnicodeEncodeError):
        body_of(ModelRequest((Message("user", "\ud800"),), "m"), limit="both")
