"""One clone as it is seen from outside: its process, the person who uses it, and the files in its work tree."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sim_servers import PASSWORD, USER
from sim_text import files_of

Said = dict[str, Any]
_DRIVER = Path(__file__).with_name("sim_driver.py")
_WAIT = 360.0
_TRIES = 40

_SETTINGS = f"""[user]
\tname = {{name}}
\temail = {{name}}@example.org
[init]
\tdefaultBranch = main
[pull]
\trebase = false
[credential]
\thelper = "!f() {{{{ test \\"$1\\" = get && echo username={USER} && echo password={PASSWORD}; }}}}; f"
"""


class Died(Exception):
    """The process is no more, and did not answer."""


class Clone:
    """A home with a memory repo, a process that has it open, and a person with an editor and git.

    Attributes:
        clock: seconds that its clock is ahead.
        pushes: whether it pushes by itself after a write.
        broken: files that were broken by hand, and what they were before.
        merges: whether plain git merges with the hub's merge driver.
        hurt: whether what git had started was killed, too, so that lock files may lie about.
    """

    def __init__(self, name: str, folder: Path, url: str) -> None:
        self.name = name
        self.home = folder / name
        self.tree = self.home / "memory"
        self.url = url
        self.clock = 0
        self.pushes = False
        self.watch = "off"
        self.broken: dict[str, bytes] = {}
        self.hurt = False
        self.merges = False
        self.kills = 0
        self._process: subprocess.Popen[str] | None = None
        self._answers: queue.SimpleQueue[Said | None] = queue.SimpleQueue()
        self._listener: threading.Thread | None = None
        self._number = 0
        self.intends: Said | None = None
        self._log = self.home / "driver.log"
        user = self.home / "user"
        user.mkdir(parents=True)
        (user / ".gitconfig").write_text(_SETTINGS.format(name=name), encoding="utf-8")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "ALG_", "XDG_"))}
        self._env = kept | {
            "HOME": str(user),
            "GIT_CONFIG_GLOBAL": str(user / ".gitconfig"),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "LC_ALL": "C.UTF-8",
        }

    # --- the process ----------------------------------------------------------------------------------

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    def start(self, *, timeout: float) -> None:
        """Start the process and wait until its store is ready."""
        settings = {
            "home": str(self.home),
            "name": self.name,
            "clock": self.clock,
            "remote": self.url,
            "watch": self.watch,
            "pushes": self.pushes,
            "timeout": timeout,
            "commit_wait": 30.0,
            "merges": self.merges,
        }
        self._answers = queue.SimpleQueue()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, str(_DRIVER), json.dumps(settings)],
                env=self._env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                encoding="utf-8",
            )
        self._listener = threading.Thread(target=self._listen, args=(self._process, self._answers), daemon=True)
        self._listener.start()
        first = self._next()
        if not first.get("ready"):
            raise AssertionError(f"{self.name} said {first} rather than that it is ready")

    @staticmethod
    def _listen(process: subprocess.Popen[str], answers: queue.SimpleQueue[Said | None]) -> None:
        assert process.stdout is not None
        assert process.stdin is not None
        with process.stdout:
            for text in process.stdout:
                with contextlib.suppress(ValueError):  # the last line of one that was killed
                    answers.put(json.loads(text))
        process.wait()
        with contextlib.suppress(OSError):
            process.stdin.close()
        answers.put(None)

    def _next(self) -> Said:
        try:
            found = self._answers.get(timeout=_WAIT)
        except queue.Empty:
            raise AssertionError(f"{self.name} did not answer within {_WAIT:.0f} s") from None
        if found is None:
            raise Died(self.name)
        return found

    def send(self, told: Said) -> int:
        """Tell it to do something."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._number += 1
        self.intends = None
        with contextlib.suppress(OSError, ValueError):  # it is dead: the wait for its answer will tell
            self._process.stdin.write(json.dumps({**told, "n": self._number}) + "\n")
            self._process.stdin.flush()
        return self._number

    def wait(self, number: int) -> Said:
        """Its answer; raises `Died` when there will be none."""
        while True:
            found = self._next()
            if "intends" in found:
                self.intends = found["intends"]
            elif found.get("n") == number:
                return found

    def ask(self, **told: Any) -> Said:
        """Tell it something and wait for the answer."""
        return self.wait(self.send(told))

    def kill(self, *, whole: bool = False) -> None:
        """SIGKILL; with `whole` also what it had started, as when the machine goes down."""
        if self._process is None:
            return
        others = _descendants(self._process.pid) if whole else []
        self._process.kill()
        self._process.wait(_WAIT)
        for pid in others:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def end(self) -> None:
        """Kill it and all that it started, and leave nothing open."""
        self.kill(whole=True)
        if self._listener is not None:
            self._listener.join(_WAIT)

    def died(self, *, expected: bool) -> None:
        """Take note that it is dead, which it may be by a SIGKILL alone."""
        assert self._process is not None
        status = self._process.wait(_WAIT)
        if status != -signal.SIGKILL or not expected:
            raise AssertionError(f"{self.name} ended with status {status}: {self.log()}")
        self.kills += 1

    def gone_within(self, seconds: float) -> None:
        """Give it time to die."""
        assert self._process is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)

    def close(self) -> None:
        """End it as a hub ends."""
        if self.alive:
            self.wait(self.send({"op": "close"}))
            assert self._process is not None
            self._process.wait(_WAIT)

    def log(self) -> str:
        """The end of what it wrote to standard error."""
        return self._log.read_text("utf-8", errors="replace")[-3_000:] if self._log.exists() else ""

    # --- the person -----------------------------------------------------------------------------------

    def git(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Plain git in the work tree, at the clone's own time."""
        now = (datetime.now(UTC) + timedelta(seconds=self.clock)).strftime("%Y-%m-%dT%H:%M:%S+0000")
        done = subprocess.run(
            ["git", *arguments],
            cwd=self.tree,
            env=self._env | {"GIT_AUTHOR_DATE": now, "GIT_COMMITTER_DATE": now},
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
            timeout=120,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"git {arguments} at {self.name}: {done.stderr}")
        return done

    def patient_git(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """As `git`, again while another program holds the index."""
        for _ in range(_TRIES):
            done = self.git(*arguments, check=False)
            if "index.lock" not in done.stderr:
                return done
            time.sleep(0.05)
        return self.git(*arguments, check=False)

    def settle(self) -> None:
        """Wait until git's index has followed the last commit, as it does when commits pause."""
        for _ in range(_TRIES * 3):
            if self.git("diff-index", "--cached", "--quiet", "HEAD", check=False).returncode == 0:
                return
            time.sleep(0.05)

    def head(self) -> str:
        """Its commit."""
        return self.git("rev-parse", "HEAD").stdout.strip()

    def contains(self, commit: str) -> bool:
        """Whether its branch has a commit."""
        return self.git("merge-base", "--is-ancestor", commit, "HEAD", check=False).returncode == 0

    def files(self) -> dict[str, bytes]:
        """Its work tree."""
        return files_of(self.tree)

    def save(self, path: str, data: bytes, old: bytes | None) -> bool:
        """Save a file as an editor does, unless it is not what the person saw any more; whether it was saved."""
        target = self.tree / path
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = target.with_name(f".{target.name}.swp")
        beside.write_bytes(data)
        if (target.read_bytes() if target.exists() else None) != old:
            beside.unlink()
            return False
        beside.replace(target)
        return True


def _descendants(pid: int) -> list[int]:
    found: list[int] = []
    for folder in Path(f"/proc/{pid}/task").glob("*"):
        with contextlib.suppress(OSError, ValueError):
            for child in (folder / "children").read_text("utf-8").split():
                found += [int(child), *_descendants(int(child))]
    return found
