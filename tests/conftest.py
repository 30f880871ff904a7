"""What every test gets: a home, a configuration and a git identity of its own, under `tmp_path`."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

# A shell that runs the tests in the background has them ignore Ctrl-C, and what they start would ignore it too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Move HOME, the gateway's home and git's identity into `tmp_path`; returns the gateway's home."""
    user = tmp_path / "user"
    user.mkdir()
    home = tmp_path / "home"
    for name in ("XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(user))
    monkeypatch.setenv("ADAPTIVE_LLM_GATEWAY_HOME", str(home))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(user / ".gitconfig"))
    (user / ".gitconfig").write_text(
        "[user]\n\tname = Test Person\n\temail = person@example.org\n[init]\n\tdefaultBranch = main\n", encoding="utf-8"
    )
    return home
