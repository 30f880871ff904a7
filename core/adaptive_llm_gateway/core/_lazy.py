"""A component's public names, each loaded when it is first used: who imports the component pays for what it calls."""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # as in this component's `__init__`: the shim loads this

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def on_first_use(package: str, modules: Mapping[str, tuple[str, ...]]) -> Callable[[str], object]:
    """The `__getattr__` of a package.

    Args:
        modules: of the package, each with the names that it has.
    """
    module_of = {name: module for module, names in modules.items() for name in names}

    def load(name: str) -> object:
        module = module_of.get(name)
        if module is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        import importlib  # noqa: PLC0415 - keeps the shim's start lean

        value = getattr(importlib.import_module(f"{package}.{module}"), name)
        setattr(sys.modules[package], name, value)  # so it is asked for once
        return value

    return load
