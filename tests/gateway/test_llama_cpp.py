"""A real engine: llama.cpp with a tiny random model, behind the gateway as a local provider.

Its package compiles for a quarter of an hour, so these tests run where somebody says that it is there:
`ALG_LLAMA_CPP=/path/to/python` of an environment with `llama-cpp-python[server]`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from adaptive_llm_gateway.core import AlgError, SecretScanner, Trust
from adaptive_llm_gateway.gateway import (
    Answered,
    Ask,
    Gateway,
    GatewayConfig,
    Message,
    ModelConfig,
    Piece,
    ProviderConfig,
)

if TYPE_CHECKING:
    from conftest import Program

Result = TypeVar("Result")
PYTHON = os.environ.get("ALG_LLAMA_CPP", "")
SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "tiny_gguf.py"
CONTEXT = 512
START_SECONDS = 120
_RUNNING = re.compile(r"running on (http://127\.0\.0\.1:\d+)")

pytestmark = pytest.mark.skipif(
    not PYTHON, reason="ALG_LLAMA_CPP does not name a Python that has llama-cpp-python[server]"
)


@contextlib.contextmanager
def engine(begin: type[Program], folder: Path, *, pooled: bool) -> Generator[str]:
    """A running server; gives the base of its API."""
    model = folder / "tiny.gguf"
    subprocess.run([sys.executable, SCRIPT, model, *["--pooled"] * pooled], check=True, timeout=60, capture_output=True)
    arguments = ["--model", model, "--model_alias", "tiny", "--embedding", "true", "--n_ctx", str(CONTEXT)]
    command = [PYTHON, "-m", "llama_cpp.server", *arguments, "--host", "127.0.0.1", "--port", "0"]
    server = begin(command, folder, _RUNNING, seconds=START_SECONDS)
    try:
        yield f"{server.said[1]}/v1"
    finally:
        server.stop()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, program: type[Program]) -> Iterator[str]:
    """The model as it is: it answers, and has a vector for each token."""
    with engine(program, tmp_path_factory.mktemp("plain"), pooled=False) as url:
        yield url


@pytest.fixture(scope="module")
def pooled(tmp_path_factory: pytest.TempPathFactory, program: type[Program]) -> Iterator[str]:
    """The same with one vector a text."""
    with engine(program, tmp_path_factory.mktemp("pooled"), pooled=True) as url:
        yield url


def using(
    folder: Path,
    url: str,
    work: Callable[[Gateway], Awaitable[Result]],
    *,
    known: tuple[ModelConfig, ...] = (),
    concurrency: int | None = None,
) -> Result:
    async def run() -> Result:
        config = ProviderConfig("engine", "llamacpp", url=url, models=known, concurrency=concurrency)
        gateway = Gateway(GatewayConfig(providers=(config,), discover=False), folder, scanner=SecretScanner())
        await gateway.open()
        try:
            return await work(gateway)
        finally:
            await gateway.close()

    return asyncio.run(run())


def question(text: str = "What is a lease?", **more: Any) -> Ask:
    settings: dict[str, Any] = {"max_tokens": 12, "temperature": 0.0, **more}
    return Ask("chat", (Message("user", text),), **settings)


async def streamed(gateway: Gateway, ask: Ask) -> tuple[list[str], Answered]:
    pieces: list[str] = []
    async with contextlib.aclosing(gateway.stream(ask)) as parts:
        async for part in parts:
            if isinstance(part, Answered):
                return pieces, part
            pieces.append(part.text)
    raise AssertionError("the stream ended without its answer")


def test_a_secret_question_is_answered_on_this_machine_and_has_its_receipt(base: str, tmp_path: Path) -> None:
    async def work(gateway: Gateway) -> None:
        answered = await gateway.answer(question(trust=Trust.SECRET))
        assert answered.text
        assert (answered.provider, answered.model, answered.provider_class) == ("engine", "tiny", "local")
        assert (answered.finish, answered.usage.output_tokens) == ("length", 12)
        assert answered.cost.micro_cents == 0
        filed = gateway.receipts.show(answered.receipt)
        assert (filed.receipt.outcome, filed.receipt.tokens.output) == ("answered", 12)

    using(tmp_path, base, work)


@pytest.mark.parametrize("most", [1, 5, 40])
def test_the_engine_heeds_the_limit_of_the_answer_whole_and_streamed(base: str, most: int, tmp_path: Path) -> None:
    async def work(gateway: Gateway) -> None:
        whole = await gateway.answer(question(max_tokens=most))
        assert (whole.finish, whole.usage.output_tokens) == ("length", most)
        pieces, answered = await streamed(gateway, question(max_tokens=most))
        assert answered.finish == "length"
        assert 1 <= len([piece for piece in pieces if piece]) <= most

    using(tmp_path, base, work)


def test_a_stream_gives_the_same_text_piece_by_piece(base: str, tmp_path: Path) -> None:
    async def work(gateway: Gateway) -> None:
        whole = await gateway.answer(question())
        pieces, answered = await streamed(gateway, question())
        assert "".join(pieces) == answered.text == whole.text
        assert len(pieces) > 1
        assert (await gateway.answer(question("And what is a token?"))).text != whole.text

    using(tmp_path, base, work)


def test_an_answer_ends_at_a_stop_and_says_so(base: str, tmp_path: Path) -> None:
    async def work(gateway: Gateway) -> None:
        whole = await gateway.answer(question())
        stop = whole.text[3:5]
        cut = await gateway.answer(question(stop=(stop,)))
        assert (cut.text, cut.finish) == (whole.text.partition(stop)[0], "stop")

    using(tmp_path, base, work)


@pytest.mark.parametrize("text", ["What is a lease?", "Hi", "Give me all the things that there are."])
def test_json_is_json(base: str, text: str, tmp_path: Path) -> None:
    async def work(gateway: Gateway) -> None:
        answered = await gateway.answer(question(text, json=True, max_tokens=100))
        assert answered.finish == "stop"
        assert isinstance(json.loads(answered.text), dict)

    using(tmp_path, base, work)


def test_a_stream_that_is_left_leaves_the_engine_free_for_the_next(base: str, tmp_path: Path) -> None:
    async def work(gateway: Gateway) -> None:
        async with contextlib.aclosing(gateway.stream(question(max_tokens=300))) as parts:
            async for part in parts:
                assert isinstance(part, Piece)
                break
        assert (await gateway.answer(question())).text
        assert sorted(filed.receipt.outcome for filed in gateway.receipts.list()) == ["answered", "cancelled"]

    using(tmp_path, base, work)


def test_streams_that_take_turns_are_all_whole(base: str, tmp_path: Path) -> None:
    async def work(gateway: Gateway) -> None:
        alone = await gateway.answer(question())
        found = await asyncio.gather(*(streamed(gateway, question()) for _ in range(8)))
        assert {answered.text for _, answered in found} == {alone.text}

    using(tmp_path, base, work, concurrency=1)


def test_a_stream_that_the_engine_drops_for_another_is_never_returned_as_whole(base: str, tmp_path: Path) -> None:
    # This server ends a stream, with all the signs of a whole one but its finish, when the next request comes.
    async def work(gateway: Gateway) -> None:
        alone = await gateway.answer(question(max_tokens=100))
        asked = [streamed(gateway, question(max_tokens=100)) for _ in range(6)]
        found = await asyncio.gather(*asked, return_exceptions=True)
        whole = [part[1].text for part in found if isinstance(part, tuple)]
        broken = [error for error in found if isinstance(error, AlgError)]
        assert len(whole) + len(broken) == 6
        assert set(whole) <= {alone.text}
        assert all(error.details["kind"] in ("incomplete", "broken") for error in broken)

    using(tmp_path, base, work)


def test_a_prompt_that_the_engine_finds_too_long_is_told_so(base: str, tmp_path: Path) -> None:
    async def work(gateway: Gateway) -> None:
        with pytest.raises(AlgError) as caught:
            await gateway.answer(question("lease " * CONTEXT))
        assert caught.value.details["kind"] == "too_long"

    using(tmp_path, base, work)


def test_with_a_known_context_such_a_prompt_is_not_even_sent(base: str, tmp_path: Path) -> None:
    async def work(gateway: Gateway) -> None:
        with pytest.raises(AlgError, match="too long"):
            await gateway.answer(question("lease " * CONTEXT))
        assert [filed.receipt.outcome for filed in gateway.receipts.list()] == ["refused"]

    using(tmp_path, base, work, known=(ModelConfig("tiny", context=CONTEXT),))


def test_texts_get_a_vector_each(pooled: str, tmp_path: Path) -> None:
    async def work(gateway: Gateway) -> None:
        texts = ("a lease", "a token", "a lease")
        answered = await gateway.answer(Ask("embed", texts=texts, model="tiny", trust=Trust.CONFIDENTIAL))
        assert [len(vector) for vector in answered.vectors] == [64, 64, 64]
        assert answered.vectors[0] == pytest.approx(answered.vectors[2], abs=1e-4)
        assert answered.vectors[0] != pytest.approx(answered.vectors[1], abs=1e-2)

    using(tmp_path, pooled, work)


def test_vectors_of_single_tokens_are_refused_and_the_reason_is_given(base: str, tmp_path: Path) -> None:
    async def work(gateway: Gateway) -> None:
        with pytest.raises(AlgError, match="embeddings") as caught:
            await gateway.answer(Ask("embed", texts=("a lease",), model="tiny"))
        assert "pooled" in str(caught.value.hint)

    using(tmp_path, base, work)


def test_its_health_is_that_it_answers(base: str, tmp_path: Path) -> None:
    async def work(gateway: Gateway) -> None:
        (found,) = await gateway.health(probe=True)
        assert (found.health.state, found.provider_class) == ("up", "local")
        assert found.health.said == "tiny answers"
        assert [model.name for model in found.models] == ["tiny"]

    using(tmp_path, base, work, known=(ModelConfig("tiny", chat=True),))
