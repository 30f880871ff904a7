"""What Linux says of a process. Standard library only and next to nothing to load: the shim uses this."""

from __future__ import annotations


def state_and_start(number: int | str = "self") -> tuple[str, str] | None:
    """The state of a process, one letter, and when it was started, in ticks since the machine's start.

    A number is given to another process once the first is buried; the number and the start together are one process's
    alone for as long as the machine runs.

    Returns:
        None where that cannot be read: no such process, or another system.
    """
    try:
        with open(f"/proc/{number}/stat", "rb") as file:  # noqa: PTH123 - see proc_pid_stat(5)
            words = file.read().rpartition(b")")[2].split()
        return words[0].decode("ascii"), str(int(words[19]))
    except (OSError, ValueError, IndexError):
        return None
