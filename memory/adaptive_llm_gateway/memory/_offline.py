"""Offline mode where no socket of this process is used: what git and PostgreSQL's driver reach by themselves."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from adaptive_llm_gateway.core import AlgError, Attempt, is_here
from adaptive_llm_gateway.memory._git import GitMissing, run_git

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9+.-]*::")

_TRY_SECONDS = 5.0

# Also for models, so it is no command that they could just carry out.
BACK = "Whoever chose offline mode can end it with `alg mode`."


def protocol_here(url: str) -> str | None:
    """git's name of the transport for a remote's address, where it stays on this machine; None where it does not.

    A path and `file://` do, and http(s) to the loopback. Where ssh goes is up to its own configuration, so
    `ssh://localhost` does not.
    """
    if _HELPER.match(url):
        return None
    scheme = _SCHEME.match(url)
    if scheme is None:
        drive = os.name == "nt" and re.match(r"[A-Za-z]:[\\/]", url)
        remote = ":" in url.partition("/")[0]  # scp's way to write it
        return None if (remote and not drive) or url.startswith("\\\\") else "file"
    name = scheme[1].lower()
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return None
    if name == "file":
        return "file" if host in ("", "localhost") else None
    # With a `=` in it, no setting could be made for this address alone.
    return name if name in ("http", "https") and is_here(host) and "=" not in url else None


def git_settings_here(remote: str, urls: tuple[str, ...]) -> tuple[str, ...]:
    """git's settings, `key=value`, that keep it on this machine: no proxy, no redirect, no program on the way."""
    settings = [
        f"remote.{remote}.proxy=",
        f"remote.{remote}.uploadpack=git-upload-pack",
        f"remote.{remote}.receivepack=git-receive-pack",
    ]
    for url in urls:
        if url.startswith("http"):
            settings += [f"http.{url}.proxy=", f"http.{url}.followRedirects=false"]
    return tuple(settings)


def try_to_leave_with_git() -> tuple[Attempt, ...]:
    """Really have git ask an address that is nobody's; in offline mode it says at once that it may not."""
    return tuple(_tried(url) for url in ("https://192.0.2.1/x", "ssh://192.0.2.1/x"))


def _tried(url: str) -> Attempt:
    what = f"git over {url.partition(':')[0]}"
    try:
        with tempfile.TemporaryDirectory(prefix="alg-") as folder:
            done = run_git(["ls-remote", url], cwd=Path(folder), timeout=_TRY_SECONDS, check=False, network=True)
    except GitMissing:
        return Attempt(what, blocked=True, how="there is no git")
    except AlgError as error:
        return Attempt(what, blocked=False, how=f"it was let out, and then: {error}")
    words = done.stderr.partition("\n")[0]
    if done.status != 0 and "not allowed" in words:
        return Attempt(what, blocked=True, how=f"refused, {words.removeprefix('fatal: ')}")
    return Attempt(what, blocked=False, how=f"it was let out, and then: {words or 'it answered'}")


def database_is_here(parts: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> bool:
    """Whether every server that libpq may try is on this machine.

    Args:
        parts: of the connection's URL, under libpq's names.
        environment: where libpq takes what they leave out; default: this process's.
    """
    known = os.environ if environment is None else environment
    if parts.get("service") or known.get("PGSERVICE"):  # its file may name any host
        return False
    hosts = str(parts.get("host") or known.get("PGHOST") or "")
    addresses = str(parts.get("hostaddr") or known.get("PGHOSTADDR") or "")
    places = [place.strip() for place in (*hosts.split(","), *addresses.split(",")) if place.strip()]
    return all(place.startswith(("/", "@")) or is_here(place) for place in places)
