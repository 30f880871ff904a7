"""Options that several commands or tools share: a dataclass to the function that gets them, a flat list to its callers.

@flattened
def ask(prompt: str, *, limits: Limits) -> None: ...

ask("hello", budget=3)  # as --help and a tool's schema have it; `ask` gets Limits(budget=3)
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from typing import TYPE_CHECKING, Any, get_type_hints

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def flattened(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, which takes the fields of its dataclasses instead of them, in the order it is written in.

    The dataclasses are keyword-only arguments of it, and their fields have defaults and annotations of their own.
    """
    hints = get_type_hints(function, include_extras=True)
    groups: dict[str, type[DataclassInstance]] = {}
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(function).parameters.values():
        kind = hints.get(parameter.name, parameter.annotation)
        if not is_dataclass(kind):
            parameters.append(parameter.replace(annotation=kind))
            continue
        assert isinstance(kind, type)  # noqa: S101 - a class, for it is an annotation
        groups[parameter.name] = kind
        of_fields = get_type_hints(kind, include_extras=True)
        for field in fields(kind):
            assert field.default is not MISSING, field.name  # noqa: S101
            parameters.append(
                inspect.Parameter(field.name, parameter.kind, default=field.default, annotation=of_fields[field.name])
            )
    names = {group: [field.name for field in fields(kind)] for group, kind in groups.items()}

    def grouped(given: dict[str, Any]) -> dict[str, Any]:
        made = {
            group: kind(**{name: given.pop(name) for name in names[group] if name in given})
            for group, kind in groups.items()
        }
        return given | made

    @functools.wraps(function)
    def called(*positional: Any, **given: Any) -> Any:
        return function(*positional, **grouped(given))

    @functools.wraps(function)
    async def awaited(*positional: Any, **given: Any) -> Any:
        return await function(*positional, **grouped(given))

    flat: Callable[..., Any] = awaited if inspect.iscoroutinefunction(function) else called
    returned = hints.get("return", inspect.Signature.empty)
    flat.__signature__ = inspect.Signature(parameters, return_annotation=returned)  # type: ignore[attr-defined]
    flat.__annotations__ = {
        **{each.name: each.annotation for each in parameters if each.annotation is not inspect.Parameter.empty},
        "return": returned,
    }
    return flat


def as_arguments(*groups: DataclassInstance) -> dict[str, Any]:
    """The fields of them all, by name."""
    return {field.name: getattr(group, field.name) for group in groups for field in fields(group)}
