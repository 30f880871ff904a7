"""What the REST API says of itself, and what its problems say of errors."""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import jsonschema
import pytest

import adaptive_llm_gateway.core
import adaptive_llm_gateway.gateway
import adaptive_llm_gateway.handoff
import adaptive_llm_gateway.memory
import adaptive_llm_gateway.server
from adaptive_llm_gateway.core import (
    AlgError,
    Home,
    InvalidInput,
    NotFound,
    TooLarge,
    Unavailable,
    VersionConflict,
)
from adaptive_llm_gateway.server._access import ROUTE_SCOPES
from adaptive_llm_gateway.server._rest import Api, build_api
from adaptive_llm_gateway.server._rest_json import read_json, write_json
from adaptive_llm_gateway.server._rest_problems import STATUS, TITLES, error_classes, problem_of, status_of
from adaptive_llm_gateway.server._services import Services

DOCS = Path(__file__).parents[2] / "docs"
COMPONENTS = (
    adaptive_llm_gateway.core,
    adaptive_llm_gateway.memory,
    adaptive_llm_gateway.handoff,
    adaptive_llm_gateway.gateway,
    adaptive_llm_gateway.server,
)


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    nothing: Any = None
    made = build_api(Services(Home(tmp_path), nothing, nothing, nothing, nothing, nothing))
    yield made
    made.close()


def every_code() -> set[str]:
    """The codes of all errors there are, also of modules that nothing has imported yet."""
    for component in COMPONENTS:
        for module in pkgutil.iter_modules(component.__path__, f"{component.__name__}."):
            if "transformers" not in module.name and "qdrant" not in module.name and "postgres" not in module.name:
                importlib.import_module(module.name)
    return {kind.code for kind in error_classes() if kind.__module__.startswith("adaptive_llm_gateway.")}


def test_every_code_of_an_error_has_a_status_and_no_status_is_for_nothing() -> None:
    codes = every_code()
    assert codes - {*STATUS} == set()
    assert {*STATUS} - codes - {*TITLES} == set()


def test_an_error_of_a_class_without_a_status_has_that_of_the_nearest_above_it() -> None:
    class Odd(NotFound):
        code = "odd"

    class Plain(AlgError):
        code = "plain"

    assert (status_of(Odd("x")), status_of(Plain("x"))) == (404, 500)


def test_a_problem_has_code_message_and_hint_of_its_error_and_no_credential() -> None:
    secret = "glpat-" + "Zx8Kq2Lm9Vb4Nc7Td1Wp"
    answer = problem_of(InvalidInput(f"{secret!r} is wrong", hint=f"Not {secret}.", given=[secret]))
    told = json.loads(bytes(answer.body))
    assert (answer.status_code, told["code"]) == (422, "invalid_input")
    assert set(told) == {"type", "title", "status", "detail", "code", "hint", "details"}
    assert secret not in json.dumps(told)
    assert problem_of(Unavailable("x")).headers["retry-after"] == "2"
    stale = problem_of(VersionConflict("x", current_version="v"), matching=True)
    assert (stale.status_code, stale.headers["etag"]) == (412, '"v"')
    assert problem_of(VersionConflict("x", current_version="v")).status_code == 409


def test_the_description_in_the_docs_is_the_one_that_is_served(api: Api) -> None:
    assert json.loads((DOCS / "openapi.json").read_text(encoding="utf-8")) == api.description()


def test_every_tag_of_the_description_is_described_and_of_use(api: Api) -> None:
    told = api.description()
    used = {tag for path in told["paths"].values() for operation in path.values() for tag in operation["tags"]}
    assert used == {tag["name"] for tag in told["tags"]}
    assert all(tag["description"] for tag in told["tags"])


def test_every_route_is_described_with_its_scope_its_answers_and_its_problems(api: Api) -> None:
    told = api.description()
    assert told["openapi"] == "3.1.0"
    assert told["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    found: set[tuple[str, str]] = set()
    ids: list[str] = []
    for path, methods in told["paths"].items():
        for method, operation in methods.items():
            found.add((method.upper(), path))
            ids.append(operation["operationId"])
            needed = ROUTE_SCOPES[method.upper(), path]
            assert operation["security"] == [{"token": [] if needed == "token" else [needed]}]
            assert operation["summary"]
            assert operation["description"]
            assert not operation["summary"].endswith(".")
            assert {"400", "401", "403", "429", "500", "503"} < set(operation["responses"])
            assert all("$ref" in answer for status, answer in operation["responses"].items() if int(status) >= 400)
            assert all("description" in each for each in operation.get("parameters", ())), (method, path)
    assert found == {*api.routes}
    assert len(ids) == len(set(ids))
    for answer in told["components"]["responses"].values():
        assert list(answer["content"]) == ["application/problem+json"]
    text = json.dumps(told)
    assert "HTTPValidationError" not in text
    assert {ref for ref in _refs(told) if not _resolves(told, ref)} == set()


def test_every_example_of_the_description_is_valid(api: Api) -> None:
    told = api.description()
    count = 0
    for example, schema in _examples(told):
        whole = {**schema, "components": told["components"]}
        jsonschema.validate(example, whole, jsonschema.Draft202012Validator)
        count += 1
    assert count > 20


def test_a_code_of_a_problem_says_what_it_means(api: Api) -> None:
    for code in STATUS:
        assert api.meaning(code)["meaning"]
    assert api.meaning("not_found") == {
        "code": "not_found",
        "status": 404,
        "meaning": "There is no such thing, or none that the token may see",
    }


def test_json_is_read_strictly_and_written_whatever_it_holds() -> None:
    assert read_json(b'{"a": [1, -2.5, "\xf0\x9f\xa6\x85", null, true], "b": 9223372036854775807}') == {
        "a": [1, -2.5, "\U0001f985", None, True],
        "b": 2**63 - 1,
    }
    assert read_json(b'"\\ud83e\\udd85"') == "\U0001f985"
    deep: Any = 1
    for _ in range(32):
        deep = [deep]
    assert read_json(json.dumps(deep).encode()) == deep
    with pytest.raises(TooLarge, match="nested"):
        read_json(json.dumps([deep]).encode())
    assert json.loads(write_json({"a": float("nan"), "b": "x\udce9", "c": "\U0001f985"})) == {
        "a": None,
        "b": "x\ufffd",
        "c": "\U0001f985",
    }


def _every(value: Any) -> Iterator[dict[str, Any]]:
    """Every object in a document."""
    pending: list[Any] = [value]
    while pending:
        one = pending.pop()
        if isinstance(one, dict):
            found = cast("dict[str, Any]", one)
            yield found
            pending += found.values()
        elif isinstance(one, list):
            pending += cast("list[Any]", one)


def _examples(document: dict[str, Any]) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Every example, with the schema that it is one of."""
    for one in _every(document):
        examples: Any = one.get("examples")
        if isinstance(examples, list):
            yield from ((example, one) for example in cast("list[Any]", examples))
        elif isinstance(examples, dict) and "schema" in one:
            for example in cast("dict[str, Any]", examples).values():
                yield example["value"], one["schema"]
        if "example" in one and "schema" in one:
            yield one["example"], one["schema"]


def _refs(document: dict[str, Any]) -> Iterator[str]:
    for one in _every(document):
        if isinstance(one.get("$ref"), str):
            yield one["$ref"]


def _resolves(document: dict[str, Any], ref: str) -> bool:
    found: Any = document
    for part in ref.removeprefix("#/").split("/"):
        if part not in found:
            return False
        found = found[part]
    return True
