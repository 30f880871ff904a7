"""What every component needs: errors, ids, trust levels, paths, locks, settings, the secret scanner.

Imports none of the other components. What needs third-party libraries is loaded on first use, so that the shim,
which imports from here, stays on the standard library alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adaptive_llm_gateway.core._errors import (
    AlgError,
    ConfigError,
    DiskFull,
    FormatTooNew,
    HubUnavailable,
    InvalidFile,
    InvalidInput,
    LockHeld,
    NotFound,
    ReadOnly,
    RepoBusy,
    SecretRefused,
    StorageError,
    SyncError,
    TooLarge,
    Unavailable,
    UnknownField,
    UnknownType,
    UnsafePath,
    VersionConflict,
)
from adaptive_llm_gateway.core._faults import POINTS, reach
from adaptive_llm_gateway.core._ids import derived_ulid, is_ulid, new_ulid, ulid_milliseconds
from adaptive_llm_gateway.core._locks import ProcessLock
from adaptive_llm_gateway.core._paths import HOME_VARIABLE, Home, find_home
from adaptive_llm_gateway.core._trust import Trust

if TYPE_CHECKING:
    from adaptive_llm_gateway.core._secrets import Allowance, Finding, SecretScanner, load_allowances
    from adaptive_llm_gateway.core._settings import Settings, load_settings

__all__ = [
    "HOME_VARIABLE",
    "POINTS",
    "AlgError",
    "Allowance",
    "ConfigError",
    "DiskFull",
    "Finding",
    "FormatTooNew",
    "Home",
    "HubUnavailable",
    "InvalidFile",
    "InvalidInput",
    "LockHeld",
    "NotFound",
    "ProcessLock",
    "ReadOnly",
    "RepoBusy",
    "SecretRefused",
    "SecretScanner",
    "Settings",
    "StorageError",
    "SyncError",
    "TooLarge",
    "Trust",
    "Unavailable",
    "UnknownField",
    "UnknownType",
    "UnsafePath",
    "VersionConflict",
    "derived_ulid",
    "find_home",
    "is_ulid",
    "load_allowances",
    "load_settings",
    "new_ulid",
    "reach",
    "ulid_milliseconds",
]

_LAZY = {
    "Allowance": "_secrets",
    "Finding": "_secrets",
    "SecretScanner": "_secrets",
    "load_allowances": "_secrets",
    "Settings": "_settings",
    "load_settings": "_settings",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib  # noqa: PLC0415

    return getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
