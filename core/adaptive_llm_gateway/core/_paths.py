"""Where things lie: the home and what is in it.

`home_root` and `socket_address` use `os` alone, because the shim calls them and starts in milliseconds.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

HOME_VARIABLE = "ADAPTIVE_LLM_GATEWAY_HOME"
_SOCKET_PATH_LIMIT = 100  # bytes; sun_path holds 104 on macOS, 108 on Linux


def home_root(explicit: str | os.PathLike[str] | None = None) -> str:
    """The home's absolute path: `explicit`, else `$ADAPTIVE_LLM_GATEWAY_HOME`, else `~/.adaptive-llm-gateway`."""
    chosen = explicit or os.environ.get(HOME_VARIABLE) or "~/.adaptive-llm-gateway"
    return os.path.abspath(os.path.expanduser(chosen))  # noqa: PTH100, PTH111 - no pathlib on the shim's path


def socket_address(root: str) -> str:
    """The hub's Unix socket for the home at `root`.

    In the home, unless that path is longer than a socket address may be; then in a folder of the user's own
    (mode 0700, made by the hub) under the temporary directory, named by the home's hash.
    """
    inside = os.path.join(root, "hub.sock")  # noqa: PTH118
    if len(os.fsencode(inside)) <= _SOCKET_PATH_LIMIT:
        return inside
    import hashlib  # noqa: PLC0415 - rarely needed

    digest = hashlib.sha256(os.fsencode(root)).hexdigest()[:16]
    user = os.getuid() if hasattr(os, "getuid") else 0
    return f"/tmp/alg-{user}-{digest}/hub.sock"  # noqa: S108 - the hub makes the folder and checks its owner


class Home:
    """The home folder's layout; nothing here touches the disk.

    Args:
        root: the home; see `home_root` for the default.
    """

    __slots__ = ("root",)

    def __init__(self, root: str | os.PathLike[str] | None = None) -> None:
        from pathlib import Path  # noqa: PLC0415 - the shim has no use for it

        self.root: Path = Path(home_root(root))

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

    def further_repo(self, name: str) -> Path:
        """A memory repo beside the personal one, unless the configuration names another place."""
        return self.root / "repos" / name

    def further_index(self, name: str) -> Path:
        """The derived SQLite index of such a repo."""
        return self.root / "indexes" / name / "index.db"

    @property
    def hub_log(self) -> Path:
        """The hub's current log."""
        return self.root / "logs" / "hub.log"

    @property
    def requests_log(self) -> Path:
        """The current log of requests by HTTP."""
        return self.root / "logs" / "requests.log"

    @property
    def audit(self) -> Path:
        """The folder of the audit log."""
        return self.root / "audit"

    @property
    def mode(self) -> Path:
        """The mode, in one word; without the file it is `normal`."""
        return self.root / "gateway" / "mode"

    @property
    def mark_key(self) -> Path:
        """The key of the marks that redaction leaves; a lock and a new key that is being made lie beside it."""
        return self.root / "redaction.key"

    @property
    def clients(self) -> Path:
        """Who may come by HTTP, and the hashes of their tokens; a lock and a new file being made lie beside it."""
        return self.root / "clients.json"

    @property
    def idempotency(self) -> Path:
        """What became of requests by HTTP with a key, for a day."""
        return self.root / "idempotency.db"

    @property
    def clients_use(self) -> Path:
        """What those who come by HTTP used of models each day, and when they last came; SQLite."""
        return self.root / "clients-use.db"

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
        """The hub's Unix socket; see `socket_address`."""
        return type(self.root)(socket_address(str(self.root)))

    def __repr__(self) -> str:
        return f"Home({str(self.root)!r})"
