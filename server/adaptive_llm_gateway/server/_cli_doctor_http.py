"""Of `alg doctor`: the files that HTTP adds to the home, as they lie there."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from adaptive_llm_gateway.core import AlgError, Home, counted

Finding = tuple[str, Literal["ok", "warn", "fail"], str, str | None]
"""The name of a check, how it is, what there is to say, and what to do."""

_ANEW = "Move it away while the hub is stopped; the next hub begins another."


def look_at_files(home: Home) -> Iterator[Finding]:
    """What there is of them, and what is wrong with it. Changes nothing."""
    if os.path.lexists(home.idempotency) or os.path.lexists(home.clients_use):
        yield from _databases(home)
    if os.path.lexists(home.audit):
        yield _audit(home.audit)


def _databases(home: Home) -> Iterator[Finding]:
    from adaptive_llm_gateway.server._home_db import look_at_home_db  # noqa: PLC0415 - SQLite, where there are any
    from adaptive_llm_gateway.server._idempotency import VERSION as KEYS  # noqa: PLC0415 - as above
    from adaptive_llm_gateway.server._quotas import VERSION as USE  # noqa: PLC0415 - as above

    for name, path, version, lost in (
        ("idempotency", home.idempotency, KEYS, "Keys of the last day are not known any more then."),
        ("clients-use", home.clients_use, USE, "What clients used today is not known any more then."),
    ):
        if not os.path.lexists(path):
            continue
        problem = look_at_home_db(path, version=version)
        if problem is None:
            yield name, "ok", str(path), None
        elif problem.startswith("is open to others"):
            yield name, "warn", f"{str(path)!r} {problem}", f"chmod 600 {path}"
        else:
            yield name, "fail", f"{str(path)!r} {problem}", f"{_ANEW} {lost}"


def _audit(folder: Path) -> Finding:
    from adaptive_llm_gateway.gateway import read_chain  # noqa: PLC0415 - where there is a log
    from adaptive_llm_gateway.server._audit_files import AuditFiles  # noqa: PLC0415 - as above

    whole = "`alg audit verify` looks at all of it. "
    try:
        status = folder.stat()
        if not stat.S_ISDIR(status.st_mode):
            return "audit", "fail", f"{str(folder)!r} is no folder, and nothing is entered", _ANEW
        paths = AuditFiles(folder).paths()
        broken = read_chain(paths[-1].read_bytes(), path=str(paths[-1])).broken if paths else None
    except AlgError as error:
        return "audit", "fail", error.message, error.hint or whole
    except OSError as error:
        name = error.filename or str(folder)
        return "audit", "fail", f"{str(name)!r} cannot be read: {error.strerror or error}", _ANEW
    if broken is not None:
        told = f"{str(paths[-1])!r} does not hold at line {broken.line}: {broken.why}"
        return "audit", "fail", told, f"{whole}It stays as it is; the hub goes on in another file."
    if os.name == "posix" and status.st_mode & 0o077:
        mode = stat.S_IMODE(status.st_mode)
        return "audit", "warn", f"{str(folder)!r} is open to others (mode {mode:04o})", f"chmod 700 {folder}"
    return "audit", "ok", f"{counted(len(paths), 'file')}; the newest holds", None
