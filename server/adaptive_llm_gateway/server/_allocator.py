"""Gives memory that was freed back to the system. The C library keeps what lies between pieces that are in use, of each
of its threads' own, so that a hub under load grows although nothing of it is held.
"""

from __future__ import annotations


def give_back() -> bool:
    """Have the C library give back what is free, where it can: glibc. Takes some ms, with Python's lock released.

    Returns:
        Whether there was any.
    """
    import ctypes  # noqa: PLC0415 - a minute after the start is early enough

    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library, or another system
        return False
    trim.argtypes = [ctypes.c_size_t]
    return bool(trim(0))
