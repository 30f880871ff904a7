"""Options that several functions share: grouped to the functions, flat to whoever calls them."""

from __future__ import annotations

import asyncio
import inspect
from dataclasses import dataclass
from typing import Annotated, Any

import pytest

from adaptive_llm_gateway.server._flat import as_arguments, flattened


@dataclass(frozen=True)
class Limits:
    budget: Annotated[int | None, "cents"] = None
    deadline: float = 300.0


@dataclass(frozen=True)
class Form:
    json: bool = False


def asked(
    prompt: str, model: str = "auto", *, limits: Limits, system: str | None = None, form: Form
) -> tuple[Any, ...]:
    """What was asked."""
    return prompt, model, limits, system, form


def test_the_fields_stand_where_their_groups_do_with_their_annotations_and_defaults() -> None:
    flat = flattened(asked)
    signature = inspect.signature(flat)
    assert list(signature.parameters) == ["prompt", "model", "budget", "deadline", "system", "json"]
    assert signature.parameters["budget"].annotation == Annotated[int | None, "cents"]
    assert signature.parameters["prompt"].annotation is str
    assert [each.default for each in signature.parameters.values()][1:] == ["auto", None, 300.0, None, False]
    assert inspect.get_annotations(flat)["deadline"] is float
    assert (flat.__name__, flat.__doc__) == ("asked", "What was asked.")


def test_the_function_gets_its_groups_with_what_was_given_and_the_defaults_of_the_rest() -> None:
    flat = flattened(asked)
    assert flat("hello") == ("hello", "auto", Limits(), None, Form())
    assert flat("hello", "m", budget=3, json=True, system="s") == ("hello", "m", Limits(3), "s", Form(json=True))
    with pytest.raises(TypeError, match="colour"):
        flat("hello", colour="red")


def test_what_has_to_be_awaited_is_seen_to_be_also_when_it_is_a_method() -> None:
    class Tools:
        @flattened
        async def ask(self, prompt: str, *, limits: Limits) -> tuple[str, Limits]:
            return prompt, limits

    ask = Tools().ask
    assert inspect.iscoroutinefunction(ask)
    assert not inspect.iscoroutinefunction(flattened(asked))
    assert list(inspect.signature(ask).parameters) == ["prompt", "budget", "deadline"]
    assert asyncio.run(ask("hello", deadline=1.0)) == ("hello", Limits(deadline=1.0))


def test_groups_become_arguments_again() -> None:
    assert as_arguments(Limits(budget=3), Form()) == {"budget": 3, "deadline": 300.0, "json": False}
