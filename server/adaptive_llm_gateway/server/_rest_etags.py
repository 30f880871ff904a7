"""ETags: a memory's version, and what conditional requests (RFC 9110, section 13) ask of it. Pure.

A header in which there is no ETag names no version: with `If-Match` nothing is done then.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Final

from adaptive_llm_gateway.core import VersionConflict

_TAG: Final = re.compile(r'(W/)?"([!#-~]{1,128})"')


def etag(version: str) -> str:
    """The ETag of a version. It is strong: a version is the hash of the memory's file."""
    return f'"{version}"'


def is_known(if_none_match: str | None, version: str) -> bool:
    """Whether a caller has this version already."""
    if if_none_match is None:
        return False
    return if_none_match.strip() == "*" or any(tag == version for _, tag in _TAG.findall(if_none_match))


async def expected(if_match: str | None, current: Callable[[], Awaitable[str]]) -> str | None:
    """The version that a write must find; None where any will do.

    Args:
        current: reads the version that is current.

    Raises:
        VersionConflict: none of those that are named can be current.
    """
    if if_match is None:
        return None
    if if_match.strip() == "*":  # whatever is there, as long as something is
        return await current()
    strong = [tag for weak, tag in _TAG.findall(if_match) if not weak]
    if len(strong) == 1:
        return strong[0]
    version = await current()
    if version not in strong:
        raise VersionConflict(
            f"the memory's version is {version!r}, and none of those of `If-Match`",
            hint="Read it again, and send its ETag.",
            current_version=version,
        )
    return version
