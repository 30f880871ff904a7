"""What every component needs: errors, ids, trust levels, paths, locks, settings, the secret scanner.

Imports none of the other components. Every name is loaded on first use, so that the shim, which imports from here,
pays for nothing but what it calls.
"""

from __future__ import annotations

from adaptive_llm_gateway.core._lazy import on_first_use

TYPE_CHECKING = False  # type checkers take the name as true; `typing` itself costs the shim 5 ms

if TYPE_CHECKING:
    from adaptive_llm_gateway.core._counted import (
        counted,
    )
    from adaptive_llm_gateway.core._disk import (
        fsync_path,
    )
    from adaptive_llm_gateway.core._egress import (
        Attempt,
        Offline,
        cut_connections,
        is_here,
        is_loopback,
        is_offline,
        set_offline,
        try_to_leave,
        when_offline,
    )
    from adaptive_llm_gateway.core._errors import (
        AlgError,
        ConfigError,
        DiskFull,
        FormatTooNew,
        HandoffClosed,
        HandoffTaken,
        HubUnavailable,
        InvalidFile,
        InvalidInput,
        LockHeld,
        NotFound,
        NotHolder,
        Quarantined,
        ReadOnly,
        RepoBusy,
        RepoReadOnly,
        SecretRefused,
        StorageError,
        SyncError,
        TooLarge,
        TrustRefused,
        Unavailable,
        UnknownField,
        UnknownType,
        UnsafePath,
        VersionConflict,
    )
    from adaptive_llm_gateway.core._faults import (
        POINTS,
        reach,
    )
    from adaptive_llm_gateway.core._ids import (
        derived_ulid,
        is_ulid,
        new_ulid,
        ulid_milliseconds,
    )
    from adaptive_llm_gateway.core._locks import (
        ProcessLock,
    )
    from adaptive_llm_gateway.core._paths import (
        HOME_VARIABLE,
        Home,
        home_root,
        socket_address,
    )
    from adaptive_llm_gateway.core._provider_kinds import (
        ProviderKind,
    )
    from adaptive_llm_gateway.core._secrets import (
        Allowance,
        Finding,
        FindingSpan,
        SecretScanner,
        load_allowances,
    )
    from adaptive_llm_gateway.core._settings import (
        HandoffSettings,
        RepoSettings,
        Settings,
        load_settings,
    )
    from adaptive_llm_gateway.core._signs import (
        signs_of,
    )
    from adaptive_llm_gateway.core._trust import (
        Trust,
    )

_MODULES = {
    "_counted": ("counted",),
    "_disk": ("fsync_path",),
    "_egress": (
        "Attempt",
        "Offline",
        "cut_connections",
        "is_here",
        "is_loopback",
        "is_offline",
        "set_offline",
        "try_to_leave",
        "when_offline",
    ),
    "_errors": (
        "AlgError",
        "ConfigError",
        "DiskFull",
        "FormatTooNew",
        "HandoffClosed",
        "HandoffTaken",
        "HubUnavailable",
        "InvalidFile",
        "InvalidInput",
        "LockHeld",
        "NotFound",
        "NotHolder",
        "Quarantined",
        "ReadOnly",
        "RepoBusy",
        "RepoReadOnly",
        "SecretRefused",
        "StorageError",
        "SyncError",
        "TooLarge",
        "TrustRefused",
        "Unavailable",
        "UnknownField",
        "UnknownType",
        "UnsafePath",
        "VersionConflict",
    ),
    "_faults": (
        "POINTS",
        "reach",
    ),
    "_ids": (
        "derived_ulid",
        "is_ulid",
        "new_ulid",
        "ulid_milliseconds",
    ),
    "_locks": ("ProcessLock",),
    "_paths": (
        "HOME_VARIABLE",
        "Home",
        "home_root",
        "socket_address",
    ),
    "_provider_kinds": ("ProviderKind",),
    "_secrets": (
        "Allowance",
        "Finding",
        "FindingSpan",
        "SecretScanner",
        "load_allowances",
    ),
    "_settings": (
        "HandoffSettings",
        "RepoSettings",
        "Settings",
        "load_settings",
    ),
    "_signs": ("signs_of",),
    "_trust": ("Trust",),
}

__all__ = [
    "HOME_VARIABLE",
    "POINTS",
    "AlgError",
    "Allowance",
    "Attempt",
    "ConfigError",
    "DiskFull",
    "Finding",
    "FindingSpan",
    "FormatTooNew",
    "HandoffClosed",
    "HandoffSettings",
    "HandoffTaken",
    "Home",
    "HubUnavailable",
    "InvalidFile",
    "InvalidInput",
    "LockHeld",
    "NotFound",
    "NotHolder",
    "Offline",
    "ProcessLock",
    "ProviderKind",
    "Quarantined",
    "ReadOnly",
    "RepoBusy",
    "RepoReadOnly",
    "RepoSettings",
    "SecretRefused",
    "SecretScanner",
    "Settings",
    "StorageError",
    "SyncError",
    "TooLarge",
    "Trust",
    "TrustRefused",
    "Unavailable",
    "UnknownField",
    "UnknownType",
    "UnsafePath",
    "VersionConflict",
    "counted",
    "cut_connections",
    "derived_ulid",
    "fsync_path",
    "home_root",
    "is_here",
    "is_loopback",
    "is_offline",
    "is_ulid",
    "load_allowances",
    "load_settings",
    "new_ulid",
    "on_first_use",
    "reach",
    "set_offline",
    "signs_of",
    "socket_address",
    "try_to_leave",
    "ulid_milliseconds",
    "when_offline",
]

__getattr__ = on_first_use(__name__, _MODULES)
