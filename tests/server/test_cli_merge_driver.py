"""`alg memory install-merge-driver`, and the hub, which installs it in its own memory repo."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

MEMORY = """---
id: 01JD0000000000000000000001
type: task
title: T
created: 2026-11-01T00:00:00Z
updated: {updated}
status: {status}
---
{body}
"""


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True, encoding="utf-8", timeout=60
    )
    return done.stdout


def commit(folder: Path, **fields: str) -> None:
    (folder / "task.md").write_text(MEMORY.format(**fields), encoding="utf-8")
    git(folder, "add", "task.md")
    git(folder, "commit", "-qm", "change")


def test_a_clone_with_the_merge_driver_merges_memories_and_without_it_no_more(server: Any, tmp_path: Path) -> None:
    clone = tmp_path / "my clone"
    clone.mkdir()
    git(clone, "init", "-q", "-b", "main")
    done = server.json("memory", "install-merge-driver", "--repo", str(clone))
    assert done == {"state": "installed", "repo": str(clone)}
    assert server.json("memory", "install-merge-driver", "--repo", str(clone))["state"] == "unchanged"
    commit(clone, updated="2026-11-20T10:00:00Z", status="open", body="one\n\ntwo")
    git(clone, "checkout", "-q", "-b", "side")
    commit(clone, updated="2026-11-20T11:00:00Z", status="done", body="ONE\n\ntwo")
    git(clone, "checkout", "-q", "main")
    commit(clone, updated="2026-11-20T12:00:00Z", status="in_progress", body="one\n\nTWO")
    git(clone, "merge", "-q", "--no-edit", "side")
    merged = MEMORY.format(updated="2026-11-20T12:00:00Z", status="done", body="ONE\n\nTWO")
    assert (clone / "task.md").read_text(encoding="utf-8") == merged
    assert server.alg("memory", "install-merge-driver", "--repo", str(clone), "--uninstall").stdout == (
        f"removed: the merge driver of {clone}\n"
    )
    assert "alg-memory" not in git(clone, "config", "--local", "--list")
    assert server.hub_pid() is None


def test_the_hub_installs_the_merge_driver_in_its_own_memory_repo(server: Any) -> None:
    server.json("memory", "write", "A body.", "--title", "T")
    assert server.json("memory", "install-merge-driver")["state"] == "unchanged"
    assert "merge: alg-memory" in server.git("check-attr", "merge", "notes/x.md")


def test_a_folder_that_is_no_clone_is_refused_and_told(server: Any, tmp_path: Path) -> None:
    done = server.alg("memory", "install-merge-driver", "--repo", str(tmp_path), "--json", check=False)
    error = json.loads(done.stdout)["error"]
    assert (done.returncode, error["code"]) == (2, "invalid_input")
    assert "not in the work tree of a git repository" in error["message"]
    assert error["hint"]
