"""Has the C library keep less of what was freed: each of its arenas keeps what lies between pieces that are in use, so
that a hub under load grows although nothing of it is held.
"""

from __future__ import annotations

import os
from typing import Final

_ARENA_MAX: Final = -8  # glibc's number of this setting
_ARENAS: Final = 2


def few_arenas() -> bool:
    """Have threads share two arenas, where the C library has them and nobody has chosen: glibc makes eight a core, and
    each grows to the most that was ever in use in it. To be called before there are threads.

    Returns:
        Whether that could be set.
    """
    import ctypes  # noqa: PLC0415 - the hub listens first

    if "MALLOC_ARENA_MAX" in os.environ:
        return False
    try:
        return bool(ctypes.CDLL(None).mallopt(_ARENA_MAX, _ARENAS))
    except (AttributeError, OSError, TypeError):  # another C library, or another system
        return False


def give_back() -> bool:
    """Have the C library give back what is free, where it can: glibc. Takes some ms, with Python's lock released.

    Returns:
        Whether there was any.
    """
    import ctypes  # noqa: PLC0415 - a minute after the start is early enough

    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return False
    trim.argtypes = [ctypes.c_size_t]
    return bool(trim(0))
