"""What was written, on the disk."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def fsync_path(path: Path) -> None:
    """Make a file durable, or what was created, renamed or removed in a folder, as far as that goes here."""
    with contextlib.suppress(OSError):  # gone meanwhile, or a folder on a system that cannot sync one
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
