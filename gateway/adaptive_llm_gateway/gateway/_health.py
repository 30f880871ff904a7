"""What answers at an address: told by what only that server says, never by its port; and which models it offers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from adaptive_llm_gateway.gateway._locality import is_remote_model
from adaptive_llm_gateway.gateway._values import ModelInfo

Server = Literal["ollama", "lmstudio", "llamacpp", "vllm", "openai"]  # "openai": any that speaks its API
MOST_MODELS = 2_000
_LONGEST_NAME = 200


@dataclass(frozen=True, slots=True)
class Sign:
    """Where a local server usually listens, and the path whose answer tells it from the others."""

    server: Server
    port: int
    path: str


SIGNS = (
    Sign("ollama", 11434, "/api/tags"),
    Sign("lmstudio", 1234, "/api/v1/models"),
    Sign("llamacpp", 8080, "/props"),
    Sign("vllm", 8000, "/v1/models"),
)
ANY_SERVER = Sign("openai", 0, "/v1/models")


def has_sign(server: Server, document: object) -> bool:
    """Whether the JSON at a sign's path is that server's."""
    match server:
        case "ollama":
            models = _list(document, "models")
            return models is not None and all(
                "name" in model and ("digest" in model or "model" in model) for model in models
            )
        case "lmstudio":
            models = _list(document, "models")
            return bool(models) and all("key" in model and "architecture" in model for model in models)
        case "llamacpp":
            return isinstance(document, dict) and "default_generation_settings" in document
        case "vllm":
            models = _list(document, "data")
            return bool(models) and all(model.get("owned_by") == "vllm" for model in models)
        case "openai":
            models = _list(document, "data")
            return models is not None and all(isinstance(model.get("id"), str) for model in models)


def models_of(server: Server, document: object) -> list[ModelInfo]:
    """The models that a server's list names, by name; entries without one are passed over.

    Args:
        document: of `/api/tags` for Ollama, `/api/v1/models` for LM Studio, else of `/v1/models`.
    """
    entries = _list(document, "data" if server in ("llamacpp", "vllm", "openai") else "models") or []
    found: dict[str, ModelInfo] = {}
    for entry in entries[:MOST_MODELS]:
        name = entry.get("key") if server == "lmstudio" else entry.get("id") or entry.get("name")
        if isinstance(name, str) and 0 < len(name) <= _LONGEST_NAME and name.isprintable():
            found.setdefault(name, _info(server, name, entry))
    return [found[name] for name in sorted(found)]


def _info(server: Server, name: str, entry: Mapping[str, Any]) -> ModelInfo:
    match server:
        case "ollama":
            return ollama_info(name, entry)
        case "lmstudio":
            kind = entry.get("type")
            told = kind in ("llm", "vlm", "embedding", "embeddings")
            chat = kind in ("llm", "vlm") if told else None
            able = _dict(entry.get("capabilities"))
            tools = able.get("trained_for_tool_use")
            return ModelInfo(
                name,
                chat=chat,
                embed=not chat if told else None,
                stream=chat,
                tools=tools if isinstance(tools, bool) else None,
                json=chat,
                context=_count(entry.get("max_context_length")),
            )
        case "llamacpp" | "vllm" | "openai":
            # OpenRouter has `supported_parameters`, Mistral `capabilities`; vLLM and others only the length.
            parameters = entry.get("supported_parameters")
            able = _dict(entry.get("capabilities"))
            chat = able.get("completion_chat")
            tools = able.get("function_calling")
            json: bool | None = None
            if isinstance(parameters, list):
                chat, tools = True, "tools" in parameters
                json = "response_format" in parameters
            return ModelInfo(
                name,
                chat=chat if isinstance(chat, bool) else None,
                stream=chat if isinstance(chat, bool) else None,
                tools=tools if isinstance(tools, bool) else None,
                json=json,
                context=next(
                    (
                        count
                        for count in (
                            _count(entry.get("max_model_len")),
                            _count(entry.get("context_length")),
                            _count(entry.get("max_context_length")),
                            _count(entry.get("context_window")),
                            _count(_dict(entry.get("meta")).get("n_ctx")),
                        )
                        if count is not None
                    ),
                    None,
                ),
            )


def ollama_info(name: str, entry: Mapping[str, Any], shown: object = None) -> ModelInfo:
    """One of Ollama's models.

    Args:
        entry: the list's (`/api/tags`).
        shown: what `/api/show` says of it, with what it can do and its context's length.
    """
    more = _dict(shown)
    able = more.get("capabilities", entry.get("capabilities"))
    told = isinstance(able, list)
    can = cast("list[object]", able) if told else []
    lengths = [_count(value) for key, value in _dict(more.get("model_info")).items() if key.endswith(".context_length")]
    return ModelInfo(
        name,
        chat="completion" in can if told else None,
        embed="embedding" in can if told else None,
        stream="completion" in can if told else None,
        tools="tools" in can if told else None,
        json="completion" in can if told else None,
        context=next((length for length in lengths if length is not None), None),
        remote=is_remote_model(name, entry) or is_remote_model(name, more),
    )


def version_of(document: object) -> str | None:
    """A server's version where its document has one: bounded and printable."""
    found = _dict(document)
    for key in ("version", "build_info"):
        version = found.get(key)
        if isinstance(version, str) and version.isprintable():
            return version[:80]
    return None


def _list(document: object, key: str) -> list[dict[str, Any]] | None:
    """The list of objects under a key, `None` where it is no such list."""
    found = _dict(document).get(key)
    if not isinstance(found, Sequence) or isinstance(found, str):
        return None
    entries = cast("Sequence[object]", found)
    return [_dict(entry) for entry in entries] if all(isinstance(entry, dict) for entry in entries) else None


def _dict(value: object) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
