"""Scores from an endpoint with the common form of reranking (`POST {url}/rerank`).

Question `{"model", "query", "documents"}`, answer `{"results": [{"index", "relevance_score"}]}`: so have it Jina,
Cohere, llama.cpp's server (https://github.com/ggml-org/llama.cpp/pull/9510), vLLM, OpenVINO's
(https://docs.openvino.ai/2025/model-server/ovms_docs_rest_api_rerank.html) and others. Text Embeddings Inference calls
the documents `texts` and answers a bare list of `{"index", "score"}`
(https://huggingface.github.io/text-embeddings-inference/).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Self, cast

from adaptive_llm_gateway.core import ConfigError
from adaptive_llm_gateway.memory._endpoint import BadAnswerError, Endpoint, Refusal, parsed, sendable
from adaptive_llm_gateway.memory._rerank import RerankerConfig, RerankerUnavailable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_LOAD_TIMEOUT = 30.0  # a server may load its model with the first request
_MISUNDERSTOOD = (400, 422)  # what a server says that misses a field
_MAX_SCORE = 1e30  # what lies beyond is no judgement, and overflows where it is rounded

_Form = Literal["documents", "texts"]


class HttpReranker:
    """An endpoint for reranking; see `Endpoint` for what becomes of the key.

    The answer is checked (size, count, numbering, finite numbers) before a number of it is used. A question is asked
    once: a search can do without.

    Args:
        url: base URL, without user, query or fragment.
        model: the model's name at the endpoint.
        api_key_env: environment variable with the key; without it, no key is sent.
        timeout: seconds to connect, to wait for each part of the answer, and for the answer's body altogether.

    Raises:
        ConfigError: the URL is not one that can be used.
    """

    def __init__(self, url: str, model: str, *, api_key_env: str | None = None, timeout: float = 2.0) -> None:
        self._endpoint = Endpoint(
            "reranker",
            url,
            path="/rerank",
            noun="reranking",
            api_key_env=api_key_env,
            timeout=timeout,
            error=RerankerUnavailable,
            meanwhile="Until it answers, hits stay in the order of the search.",
        )
        self._model = model
        self._timeout = timeout
        self._form: _Form | None = None  # found out with the first answer

    @classmethod
    def from_config(cls, config: RerankerConfig) -> Self:
        """The endpoint as configured; see `create_reranker`."""
        for name, value in (("url", config.url), ("model", config.model)):
            if not value:
                raise ConfigError(
                    f"reranker.kind is 'http', but reranker.{name} is not set",
                    hint=f"Set reranker.{name}; for example url 'http://127.0.0.1:8080/v1', model 'bge-reranker-base'.",
                    key=f"reranker.{name}",
                )
        return cls(config.url or "", config.model or "", api_key_env=config.api_key_env, timeout=config.timeout)

    @property
    def id(self) -> str:
        """`http:<url>:<model>`."""
        return f"http:{self._endpoint.base}:{self._model}"

    @property
    def local(self) -> bool:
        """Whether the URL's host is this machine's loopback."""
        return self._endpoint.local

    def load(self) -> None:
        """Ask for one score, to know that the endpoint answers and how it wants to be asked."""
        if self._form is None:
            self._ask("ready", ["ready"], max(self._timeout, _LOAD_TIMEOUT))

    def score(self, query: str, texts: Sequence[str]) -> NDArray[np.float32]:
        """Scores of shape (len(texts),), in one request; see `Reranker.score`."""
        import numpy as np  # noqa: PLC0415 - keeps this module light

        return np.array(self._ask(query, texts, self._timeout) if texts else [], dtype=np.float32)

    def close(self) -> None:
        """Close the connections."""
        self._endpoint.close()

    def _ask(self, query: str, texts: Sequence[str], timeout: float) -> list[float]:
        forms: tuple[_Form, ...] = ("documents", "texts") if self._form is None else (self._form,)
        first: RerankerUnavailable | None = None
        for form in forms:
            answer = self._post(form, query, texts, timeout)
            if not isinstance(answer, Refusal):
                try:
                    scores = _scores(answer, len(texts))
                except BadAnswerError as error:
                    raise self._endpoint.failure("answer", str(error)) from None
                self._form = form
                return scores
            first = first or answer.error
            if answer.error.details.get("status") not in _MISUNDERSTOOD:
                break
        assert first is not None  # noqa: S101 - there is at least one form
        raise first

    def _post(
        self, form: _Form, query: str, texts: Sequence[str], timeout: float
    ) -> bytes | Refusal[RerankerUnavailable]:
        body: dict[str, Any] = {"query": sendable(query), form: [sendable(text) for text in texts]}
        if form == "documents":
            body["model"] = self._model
        # Some send the documents back, where a character may take twelve bytes (two escapes).
        limit = 65_536 + sum(12 * len(text) for text in body[form])
        return self._endpoint.post(body, limit=limit, timeout=timeout)


def _scores(answer: bytes, count: int) -> list[float]:
    """The scores in the order of the texts."""
    body = parsed(answer)
    found = cast("dict[str, object]", body).get("results") if isinstance(body, dict) else body
    if not isinstance(found, list):
        raise BadAnswerError("answered without a list 'results'")
    items = cast("list[object]", found)
    if len(items) != count:
        raise BadAnswerError(f"answered {len(items)!r} scores for {count!r} texts")
    scores: dict[int, float] = {}
    for item in items:
        entry = cast("dict[str, object]", item) if isinstance(item, dict) else {}
        index, score = entry.get("index"), entry.get("relevance_score", entry.get("score"))
        if isinstance(index, bool) or not isinstance(index, int):
            raise BadAnswerError("answered an entry without an 'index'")
        if isinstance(score, bool) or not isinstance(score, int | float):
            raise BadAnswerError("answered an entry whose 'relevance_score' is no number")
        if not abs(score) <= _MAX_SCORE:  # so written that NaN is none either
            raise BadAnswerError("answered a score that is not finite")
        scores[index] = float(score)
    if set(scores) != set(range(count)):
        raise BadAnswerError("answered entries whose 'index' does not number the texts")
    return [scores[position] for position in range(count)]
