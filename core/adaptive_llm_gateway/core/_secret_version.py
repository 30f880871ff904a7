"""Which secret scanner this is: what an earlier one found nothing in may have something for another."""

from __future__ import annotations

import functools
import hashlib
from importlib import metadata
from pathlib import Path


@functools.cache
def scanner_version() -> str:
    """16 hex digits that differ between scanners, from the modules that make them up and detect-secrets' version."""
    digest = hashlib.sha256()
    here = Path(__file__).parent
    modules = [*here.glob("_secret*.py"), here / "_detect_secrets_plugin.py", here / "_wide_text.py"]
    for module in sorted(module for module in modules if "allowances" not in module.name):
        digest.update(module.name.encode() + b"\0" + module.read_bytes() + b"\0")
    for distribution in ("adaptive-llm-gateway", "detect-secrets"):
        try:
            digest.update(metadata.version(distribution).encode() + b"\0")
        except metadata.PackageNotFoundError:
            digest.update(b"?\0")
    return digest.hexdigest()[:16]
