"""Where things lie: the home and what is in it. Standard library only; the shim imports this."""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

HOME_VARIABLE = "ADAPTIVE_LLM_GATEWAY_HOME"
_SOCKET_PATH_LIMIT = 100  # bytes; sun_path holds 104 on macOS, 108 on Linux


@dataclass(frozen=True, slots=True)
class Home:
    """The home folder's layout. Nothing here touches the disk but `socket`'s choice of folder."""

    root: Path

    @property
    def config(self) -> Path:
        """The configuration file."""
        return self.root / "config.yaml"

    @property
    def memory(self) -> Path:
        """The memory repo, unless the configuration names another place."""
        return self.root / "memory"

    @property
    def index(self) -> Path:
        """The derived SQLite index."""
        return self.root / "index.db"

    @property
    def logs(self) -> Path:
        """Folder of the hub's logs."""
        return self.root / "logs"

    @property
    def hub_log(self) -> Path:
        """The hub's current log."""
        return self.logs / "hub.log"

    @property
    def hub_lock(self) -> Path:
        """Held by the one hub of this home while it lives."""
        return self.root / "hub.lock"

    @property
    def start_lock(self) -> Path:
        """Held by the process that is starting a hub."""
        return self.root / "hub-start.lock"

    @property
    def socket(self) -> Path:
        """The hub's Unix socket.

        In the home, unless that path is longer than a socket address may be; then in a folder of the user's own
        (mode 0700) under the temporary directory, named by the home's hash.
        """
        inside = self.root / "hub.sock"
        if len(os.fsencode(inside)) <= _SOCKET_PATH_LIMIT:
            return inside
        digest = hashlib.sha256(os.fsencode(self.root)).hexdigest()[:16]
        user = os.getuid() if hasattr(os, "getuid") else 0
        return Path(tempfile.gettempdir()) / f"alg-{user}-{digest}" / "hub.sock"


def find_home(explicit: str | os.PathLike[str] | None = None) -> Home:
    """The home: `explicit`, else `$ADAPTIVE_LLM_GATEWAY_HOME`, else `~/.adaptive-llm-gateway`; made absolute."""
    chosen = explicit or os.environ.get(HOME_VARIABLE) or Path.home() / ".adaptive-llm-gateway"
    return Home(Path(os.path.abspath(os.path.expanduser(chosen))))  # noqa: PTH100, PTH111 - keeps links as given
