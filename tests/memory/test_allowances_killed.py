"""A hub that is killed while allowances come in, or are given: what nobody here agreed to never counts after it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from adaptive_llm_gateway.core import SecretRefused, SecretScanner
from adaptive_llm_gateway.memory import Allow, Author

ME = Author("command-line")
# In two pieces, so that no scanner takes this file for a leak.
TOKEN = "ghp_" + "a1B2c3D4e5F6g7H8i9J0" + "k1L2m3N4o5P6q7R8"
FINGERPRINT = SecretScanner().scan(TOKEN)[0].fingerprint
WAIT = 60

_VICTIM = """
import sys
from pathlib import Path
from adaptive_llm_gateway.memory import Allow, Author
from adaptive_llm_gateway.memory.testing import temporary_store
with temporary_store(Path(sys.argv[1]), remote=sys.argv[2] or None, host="box-two") as store:
    store.wait_ready(60)
    if sys.argv[3] == "pull":
        store.pull().result(60)
    else:
        store.allow(Allow(sys.argv[3], "a sample"), Author("command-line"))
"""


def killed(folder: Path, remote: Path | str, what: str, point: str) -> None:
    died = subprocess.run(
        [sys.executable, "-c", _VICTIM, str(folder), str(remote), what],
        env={**os.environ, "ALG_FAULT": point},
        check=False,
        timeout=120,
    )
    assert died.returncode == -9


@pytest.mark.parametrize(
    "point", ["sync.rescued", "sync.journal_written", "sync.file_written", "sync.tree_updated", "sync.ref_moved"]
)
def test_an_allowance_that_a_killed_pull_brought_waits_for_a_person(bench: Any, remote: Path, point: str) -> None:
    one = bench.open("one", remote=str(remote), host="box-one")
    bench.write(one, "Alpha", body="walrus\n")
    one.push().result(WAIT)
    with_two = bench.open("two", remote=str(remote), host="box-two")
    with_two.pull().result(WAIT)
    with_two.close()
    one.allow(Allow(FINGERPRINT, "a sample"), ME)
    bench.write(one, "Sample", body=f"otter {TOKEN}\n")
    one.push().result(WAIT)
    killed(bench.folder / "two", remote, "pull", point)
    two = bench.open("two", remote=str(remote), host="box-two")
    assert two.wait_ready(WAIT)
    for _ in range(2):
        with pytest.raises(SecretRefused):
            bench.write(two, "Mine", body=f"mine {TOKEN}\n")
        assert not two.search("otter").hits
        two.pull().result(WAIT)
    assert [item.state for item in two.allowances()] == ["waiting"]
    assert len(two.quarantine().held) == 1


@pytest.mark.parametrize(
    "point", ["write.temp_synced", "write.renamed", "commit.blobs_written", "commit.commit_written"]
)
def test_what_a_person_allowed_when_the_hub_was_killed_is_there_whole_or_not_at_all(bench: Any, point: str) -> None:
    killed(bench.folder / "one", "", FINGERPRINT, point)
    store = bench.open("one")
    assert store.wait_ready(WAIT)
    counts = bool(store.allowances())
    assert counts == (point != "write.temp_synced")
    assert bench.git(store, "status", "--porcelain", "--", "secrets-allowed.yaml") == ""
    assert ("secrets-allowed.yaml" in bench.git(store, "ls-tree", "--name-only", "HEAD")) == counts
    bench.tidy(store)
