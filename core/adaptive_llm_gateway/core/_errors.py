"""The one error tree: children are grouped by what the caller can do about them."""

from __future__ import annotations

from typing import Any, ClassVar


class AlgError(Exception):
    """Base of every error this project raises on purpose.

    Args:
        message: what happened (values as `!r`) and why, one or two sentences.
        hint: what to do next; printed as a `hint:` line and appended for models.
        details: the objects concerned, JSON-serialisable (`current_version`, `path`, `findings`, ...).

    `code` is stable and part of the interface: programs match on it, never on the text.
    """

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = details

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.message, self.hint, self.details))

    def as_dict(self) -> dict[str, Any]:
        """The error as JSON: `code`, `message`, `hint` and `details`."""
        return {"code": self.code, "message": self.message, "hint": self.hint, "details": self.details}


def _rebuild(kind: type[AlgError], message: str, hint: str | None, details: dict[str, Any]) -> AlgError:
    return kind(message, hint=hint, **details)


# --- Change what you asked for -------------------------------------------------------------------


class InvalidInput(AlgError):
    """An argument, a field or a file is not acceptable; the same call will fail again."""

    code = "invalid_input"
    exit_code = 2


class HandoffClosed(InvalidInput):
    """The handoff is over, damaged or for somebody else; `details` has the `handoff`."""

    code = "handoff_closed"
    exit_code = 4


class UnknownType(InvalidInput):
    """A memory type that is neither built in nor declared in `types/`."""

    code = "unknown_type"


class UnknownField(InvalidInput):
    """A field that the memory's type does not declare."""

    code = "unknown_field"


class InvalidFile(InvalidInput):
    """A memory file that cannot be read as one: not UTF-8, broken or hostile front matter, NUL bytes."""

    code = "invalid_file"


class TooLarge(InvalidInput):
    """Something exceeds a stated limit."""

    code = "too_large"


class UnsafePath(InvalidInput):
    """A path or id that leads out of where it may lie, or through a symbolic link."""

    code = "unsafe_path"


class ConfigError(InvalidInput):
    """A wrong key or value in the configuration file or the environment."""

    code = "config"


class SecretRefused(InvalidInput):
    """The text carries what the secret scanner takes for a credential; `details["findings"]` says where."""

    code = "secret_refused"
    exit_code = 5


class RepoReadOnly(InvalidInput):
    """What belongs to a memory repo whose remote is only read; `details["repo"]` names it."""

    code = "repo_read_only"
    exit_code = 5


class TrustRefused(InvalidInput):
    """A memory above the highest trust level that its memory repo may hold; `details` has `trust` and `allowed`."""

    code = "trust_refused"
    exit_code = 5


class NotFound(AlgError):
    """No such memory, version, file or commit."""

    code = "not_found"
    exit_code = 3


# --- Read again, then try again --------------------------------------------------------------------


class VersionConflict(AlgError):
    """`if_version` is stale; `details["current_version"]` has the version that is current."""

    code = "version_conflict"
    exit_code = 4


class Quarantined(AlgError):
    """A newer version from the remote is held back, so that a write would undo a text that nobody here has seen.

    `details` has the `id`, the `path`, the `commit` that brought it, and `why` it is held back.
    """

    code = "quarantined"
    exit_code = 4


class HandoffTaken(VersionConflict):
    """Somebody else holds the handoff; `details` has the `holder`, and `claimed` and `lease_until` as times."""

    code = "handoff_taken"


class NotHolder(VersionConflict):
    """Only who holds the handoff may do this; `details["state"]` says where it stands."""

    code = "not_holder"


class AccessDenied(AlgError):
    """The caller's token does not allow this; `details["scope"]` names what it lacks, where that is all."""

    code = "access_denied"
    exit_code = 10


class Unauthenticated(AlgError):
    """Whoever asks by HTTP has no token that counts; `details["challenge"]` is the answer's `WWW-Authenticate`.

    Attributes:
        why: for the audit log alone: an answer tells nobody whether a token is unknown, expired or revoked.
        client: the name of the token's client, where the token is known; for the audit log alone, too.
    """

    code = "unauthenticated"
    exit_code = 10

    def __init__(self, message: str, *, hint: str | None = None, **details: Any) -> None:
        super().__init__(message, hint=hint, **details)
        self.why = "unknown"
        self.client: str | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return (*super().__reduce__(), {"why": self.why, "client": self.client})


# --- Try again later ---------------------------------------------------------------------------------


class Unavailable(AlgError):
    """Something needed is not there just now."""

    code = "unavailable"
    exit_code = 6


class RateLimited(Unavailable):
    """The caller asks more often than it may; `details["retry_after"]` has the seconds until it may again."""

    code = "rate_limited"


class LockHeld(Unavailable):
    """Another live process holds the lock; `details["owner"]` names it."""

    code = "lock_held"


class HubUnavailable(Unavailable):
    """No hub answers and none could be started."""

    code = "hub_unavailable"


# --- A person has to look -----------------------------------------------------------------------------


class StorageError(AlgError):
    """The disk, the home or the memory repo does not let us work; nothing was changed."""

    code = "storage"
    exit_code = 7


class DiskFull(StorageError):
    """No space (or no inode, or quota) left."""

    code = "disk_full"


class ReadOnly(StorageError):
    """The home or the memory repo cannot be written."""

    code = "read_only"


class RepoBusy(StorageError):
    """The memory repo is in the middle of a rebase, merge, cherry-pick or bisect of somebody's."""

    code = "repo_busy"


class FormatTooNew(StorageError):
    """The index or the memory repo was written by a newer version than this one; it is left untouched."""

    code = "format_too_new"


class SyncError(AlgError):
    """A pull or push did not succeed; `details["kind"]` names why and `details["git"]` has git's words."""

    code = "sync"
    exit_code = 8
