"""Values of options and arguments without pydantic.

typer 0.29 has pydantic convert every value, also one that was not given, and importing that takes longer than most
commands. What is plain to see is converted here; everything else, wrong values among them, is left to typer, and so is
all of it where a typer has no such place.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any


def convert_plain_values(command: Any, words: list[str]) -> None:
    """Put our conversion before typer's, in `command` and in those below it that `words` name."""
    for parameter in command.get_params(command.context_class(command)):  # with `--help`, which it makes and keeps
        if hasattr(parameter, "type_descriptor") and getattr(parameter, "_runtime_param", 0) is None:
            parameter._runtime_param = _Plain(parameter)
    children: dict[str, Any] = getattr(command, "commands", {})
    for at, word in enumerate(words):
        if word in children:
            convert_plain_values(children[word], words[at + 1 :])
            return


class _Plain:
    """Stands where typer keeps what converts a parameter's values."""

    def __init__(self, parameter: Any) -> None:
        self._parameter = parameter

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """The value as the function wants it.

        Raises:
            typer.BadParameter: typer's own, for what is not acceptable.
        """
        several = param.multiple or param.nargs == -1
        if value is None:
            return () if several else None
        wanted = param.type_descriptor
        if wanted.choices is not None and not several:
            if isinstance(value, str) and value in wanted.choices:
                return value
        elif wanted.annotation is str and isinstance(value, str):
            return value
        elif wanted.annotation is Path and isinstance(value, str):
            return Path(value)
        elif wanted.annotation is int and isinstance(value, int) and not isinstance(value, bool):
            return value  # a default
        elif wanted.annotation is int and not wanted.is_ranged and re.fullmatch(r"-?[0-9]{1,15}", str(value)):
            return int(value)
        elif wanted.annotation is float and re.fullmatch(r"-?[0-9]{1,15}(\.[0-9]{1,15})?", str(value)):
            return float(value)
        elif wanted.annotation == list[str] and isinstance(value, (list, tuple)):
            return list(value)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
        self._parameter._runtime_param = None
        return self._parameter.get_runtime_param().coerce(value, param=param, ctx=ctx)
