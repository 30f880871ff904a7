"""Carries out a schedule with three clones and a remote, and judges every answer and, after each heal, everything."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sim_clone import Clone, Died
from sim_oracle import MARKER, Oracle, kinds_allowed, told_truly
from sim_schedule import CLONES, Round, Step
from sim_servers import Network, Transport
from sim_text import blob_id, chosen, edited, memory_id, token, tokens

Said = dict[str, Any]

_FRONT = re.compile(rb"---\r?\n.*?\r?\n---\r?\n", re.DOTALL)
_ID = re.compile(rb"(?m)^id: .*\r?\n")
_FOLDERS = ("notes/", "facts/", "preferences/", "decisions/", "tasks/", "routes/")
_LATE = frozenset({"commit.recorded", "commit.git_index_updated", "write.acknowledged", "commit.ref_updated"})
_PARTITIONS = frozenset({"refuse", "hang", "cut_answer", "cut_request", "mute", "gone"})
_REJECTED = frozenset({"hook_rejected", "protected_branch", "ref_locked", "ref_race", "non_fast_forward"})
_PLURAL = {"pull": "pulls", "push": "pushes"}
_HEAL_TURNS = 6
_TIMEOUT = 12.0  # of the clones' git: a server that hangs costs so much
_SEARCHED = {False: 30, True: 200}  # tokens in a heal and a deep one; all of them in the last
_HAPPENED = 60


class Wrong(AssertionError):
    """Something is not as it must be."""


@dataclass(slots=True)
class Report:
    """How a run went: counts by name, seconds, and what was wrong."""

    seed: int
    transport: str
    rounds: int = 0
    seconds: float = 0.0
    counts: Counter[str] = field(default_factory=Counter[str])
    wrong: str | None = None

    def lines(self) -> list[str]:
        """For people."""
        counts = ", ".join(f"{count} {name}" for name, count in sorted(self.counts.items()))
        end = f"WRONG: {self.wrong}" if self.wrong else "all as it must be"
        return [f"seed {self.seed}, {self.transport}: {self.rounds} rounds in {self.seconds:.0f} s: {end}", counts]

    def as_dict(self) -> Said:
        """For machines."""
        return {
            "seed": self.seed,
            "transport": self.transport,
            "rounds": self.rounds,
            "seconds": round(self.seconds, 1),
            "counts": dict(sorted(self.counts.items())),
            "wrong": self.wrong,
        }


class Simulation:
    """One run in an empty folder.

    Args:
        seed: for the report alone; the schedule has been made.
    """

    def __init__(self, folder: Path, transport: Transport, *, seed: int = 0) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.report = Report(seed, transport)
        self._network = Network(folder, transport, CLONES)
        self._clones = {name: Clone(name, folder, self._network.urls[name]) for name in CLONES}
        self._clones[CLONES[-1]].merges = True
        self._oracle = Oracle()
        self._heads: list[str] = []
        self._ids: dict[str, str] = {}
        self._now = 0
        self._happened: list[str] = []
        self._log = (folder / "happened.jsonl").open("w", encoding="utf-8")

    def run(self, rounds: list[Round]) -> Report:
        """Carry out rounds until one is wrong; the report says so."""
        start = time.monotonic()
        try:
            for number, steps in enumerate(rounds):
                self._now = number
                for step in steps:
                    self._step(step)
                self.report.rounds = number
        except (Wrong, AssertionError, Died, KeyError, OSError) as error:
            self.report.wrong = f"round {self._now}: {type(error).__name__}: {error}"
        finally:
            self.report.seconds = time.monotonic() - start
            self._end()
        return self.report

    def happened(self) -> list[str]:
        """The last of what happened."""
        return self._happened[-_HAPPENED:]

    def _end(self) -> None:
        for clone in self._clones.values():
            self.report.counts["kills"] += clone.kills
            clone.end()
        self._network.close()
        self._log.close()

    def _note(self, what: str, **more: Any) -> None:
        text = json.dumps({"round": self._now, "what": what, **more}, ensure_ascii=False, default=str)
        self._log.write(text + "\n")
        self._log.flush()
        self._happened.append(text if len(text) < 700 else text[:700] + "...")
        del self._happened[:-_HAPPENED]

    def _wrong(self, what: str, **more: Any) -> Wrong:
        self._note("WRONG", said=what, **more)
        return Wrong(f"{what}{f' {more}' if more else ''}"[:3_000])

    # --- steps ----------------------------------------------------------------------------------------

    def _step(self, step: Step) -> None:
        match step["do"]:
            case "store":
                self._end_store(step, self._begin_store(step))
            case "together":
                begun = [(one, self._begin_store(one)) for one in step["steps"]]
                for one, how in begun:
                    self._end_store(one, how, racing=True)
            case "hand":
                self._by_hand(self._clones[step["clone"]], step)
            case "person":
                self._by_git(self._clones[step["clone"]], step)
            case "fault":
                self._note("fault", clone=step["clone"], fault=step["fault"], limit=step["limit"])
                self._network.harm(step["clone"], step["fault"], step["limit"])
                self.report.counts["faults"] += 1
                self.report.counts[f"faults: {step['fault']}"] += 1
                self.report.counts["partitions"] += step["fault"] in _PARTITIONS
            case "mend":
                self._note("mend")
                self._network.mend()
            case "clocks":
                for name, seconds in step["seconds"].items():
                    self._clones[name].clock = seconds
            case "restart":
                clone = self._clones[step["clone"]]
                clone.close()
                clone.watch, clone.pushes = step["watch"], step["pushes"]
                self._start(clone)
            case "heal":
                self._heal(deep=step["deep"], last=step.get("last", False))
            case other:
                raise self._wrong(f"there is no step {other!r}")

    def _start(self, clone: Clone) -> None:
        try:
            clone.start(timeout=_TIMEOUT)
        except (Died, AssertionError) as error:
            raise self._wrong(f"{clone.name} does not start: {error}", log=clone.log()) from error
        self.report.counts["starts"] += 1

    def _begin_store(self, step: Step) -> Said:
        clone, told, kill = self._clones[step["clone"]], dict(step["told"]), step.get("kill")
        if not clone.alive:
            self._start(clone)
        if told["op"] == "import":
            told["folder"] = str(self._source(told))
        context: Said = {"remote": self._remote_head(), "heads": clone.head()}
        try:
            if kill and "point" in kill:
                clone.ask(op="arm", point=kill["point"], count=kill["count"])
            context["number"] = clone.send(told)
        except Died:
            context["number"] = -1
        if kill and "after" in kill:
            timer = threading.Timer(kill["after"], clone.kill, kwargs={"whole": kill["whole"]})
            timer.start()
            context["timer"] = timer
        return context

    def _source(self, told: Said) -> Path:
        folder = self.folder / "sources" / f"source-{told['source']}"
        for name, body in told["files"].items():
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(body, encoding="utf-8", newline="")
        return folder

    def _end_store(self, step: Step, context: Said, *, racing: bool = False) -> None:
        clone, told, kill = self._clones[step["clone"]], step["told"], step.get("kill")
        answer: Said | None = None
        try:
            if context["number"] < 0:
                raise Died(clone.name)
            answer = clone.wait(context["number"])
        except Died:
            self._note("died", clone=clone.name, told=told, kill=kill, intends=clone.intends)
        timer = context.get("timer")
        if timer is not None:
            timer.cancel()
            timer.join()
        if answer is not None:
            self._note("done", clone=clone.name, told=told, answer=answer)
            self._judge(clone, told, answer, context, racing=racing)
            if kill and "point" in kill:
                self._disarm(clone, kill["point"])
        if not clone.alive:
            if answer is None and clone.intends is not None:
                self._oracle.maybe(clone.name, clone.intends)
            # How far an import came is not known.
            self._oracle.loose |= answer is None and told["op"] == "import"
            clone.died(expected=kill is not None)
            if kill and kill["whole"]:
                clone.hurt = True
            self._start(clone)

    def _disarm(self, clone: Clone, point: str) -> None:
        if point in _LATE:
            clone.gone_within(0.5)
        with contextlib.suppress(Died):
            clone.ask(op="arm", point="", count=1)

    # --- judging answers ------------------------------------------------------------------------------

    def _judge(self, clone: Clone, told: Said, answer: Said, context: Said, *, racing: bool) -> None:
        racing = racing or any(other.pushes for other in self._clones.values() if other is not clone)
        self._judge_sample(clone, answer["sample"])
        operation = told["op"]
        if operation in ("pull", "push"):
            self._judge_sync(clone, operation, answer, context, racing=racing)
        elif "failed" in answer:
            self.report.counts["writes refused"] += 1
            if answer["failed"] not in ("version_conflict", "not_found", "invalid_file", "invalid_input"):
                raise self._wrong(f"{clone.name}: {operation} was refused", answer=answer)
        elif operation == "import":
            self._oracle.changed(clone.name, (), answer["added"], f"import by {clone.name} in round {self._now}")
            for memory, (path, version) in answer["imported"].items():
                self._oracle.touch(clone.name, memory, path, version)
            self.report.counts["acknowledged writes"] += len(answer["imported"])
        elif "nothing" not in answer:
            self._judge_write(clone, operation, answer)

    def _judge_sample(self, clone: Clone, sample: Said) -> None:
        problem = told_truly(sample)
        if problem:
            raise self._wrong(f"{clone.name}: {problem}", sample=sample)
        if sample["sync"]["state"] == "pushed" and not (sample["head"] and self._network.remote.has(sample["head"])):
            raise self._wrong(f"{clone.name} says 'pushed', and the remote lacks {sample['head']}", sample=sample)
        self.report.counts["statuses judged"] += 1

    def _judge_sync(self, clone: Clone, operation: str, answer: Said, context: Said, *, racing: bool) -> None:
        counts = self.report.counts
        if "failed" in answer:
            counts[f"{_PLURAL[operation]} failed"] += 1
            counts[f"{_PLURAL[operation]} failed: {answer['kind'] or answer['failed']}"] += 1
            counts["rejected pushes"] += answer["kind"] in _REJECTED
            faults = self._network.of(clone.name)
            allowed = kinds_allowed(operation, faults, self.report.transport, racing=racing, hurt=clone.hurt)
            if clone.broken:
                allowed.add("dirty")
            if answer["kind"] not in allowed:
                raise self._wrong(
                    f"{clone.name}: {operation} failed with {answer['kind']!r} ({answer['failed']}), while "
                    f"{sorted(faults) or 'nothing'} is wrong, which is {sorted(allowed)}",
                    message=answer["message"],
                    git=answer["git"],
                )
            sync = answer["sample"]["sync"]
            if not clone.pushes and (sync["state"] != "failed" or answer["kind"] not in sync["problems"]):
                raise self._wrong(f"{clone.name}: {operation} failed, and the status is {sync}", answer=answer)
            return
        counts[_PLURAL[operation]] += 1
        counts["clashes kept"] += len(answer["conflicts"])
        counts["merge decisions"] += answer["decisions"]
        if operation == "push":
            head = context["heads"]
            if not self._network.remote.has(head):
                raise self._wrong(f"{clone.name}: push succeeded, and the remote lacks {head}", answer=answer)
            if answer["sync"]["state"] == "pushed" and not self._network.remote.has(answer["sample"]["head"]):
                raise self._wrong(f"{clone.name}: push says 'pushed', and the remote lacks the HEAD", answer=answer)
        if operation == "pull" and context["remote"] and not clone.contains(context["remote"]):
            raise self._wrong(f"{clone.name}: pull succeeded, and {context['remote']} is not in its branch")
        self._remote_head()

    def _judge_write(self, clone: Clone, operation: str, answer: Said) -> None:
        path, version, commit = answer["path"], answer["version"], answer["commit"]
        if answer["commit_error"]:
            raise self._wrong(f"{clone.name}: {operation} is not committed", answer=answer)
        what = f"{operation} by {clone.name} in round {self._now} at {path}"
        self._oracle.changed(clone.name, answer["before"], answer["after"], what)
        self._oracle.touch(clone.name, answer["id"], path, version)
        self.report.counts["acknowledged writes"] += 1
        if answer["state"] == "committed":
            if not clone.contains(commit):
                raise self._wrong(f"{clone.name}: {operation} says it is in commit {commit}, which HEAD lacks")
            self._oracle.commits.add(commit)
            found = clone.git("rev-parse", "--verify", "--quiet", f"{commit}:{path}", check=False).stdout.strip()
            if found != (version or ""):
                raise self._wrong(f"{clone.name}: {operation} says {version} is in {commit}, which has {found!r}")
        if answer["sync"]["state"] == "pushed" and not self._network.remote.has(commit):
            raise self._wrong(f"{clone.name}: {operation} says 'pushed', and the remote lacks {commit}", answer=answer)
        if not clone.pushes:
            file = clone.tree / path
            there = blob_id(file.read_bytes()) if file.exists() else None
            if there != version:
                raise self._wrong(f"{clone.name}: {operation} says that {path} is {version}, and it is {there}")

    def _remote_head(self) -> str | None:
        head = self._network.remote.head()
        if head is not None and (not self._heads or self._heads[-1] != head):
            if self._heads and not self._network.remote.has(self._heads[-1]):
                raise self._wrong(f"the remote's history was rewritten: {self._heads[-1]} is gone from {head}")
            self._heads.append(head)
        return head

    # --- a person with an editor ----------------------------------------------------------------------

    def _memories(self, clone: Clone) -> dict[str, bytes]:
        return {
            path: data
            for path, data in clone.files().items()
            if path.startswith(_FOLDERS) and path.endswith(".md") and path not in clone.broken and "/." not in path
        }

    def _by_hand(self, clone: Clone, step: Step) -> None:
        what, found = step["what"], self._memories(clone)
        path = chosen(((tokens(data), path) for path, data in found.items()), step["pick"])
        if what == "new":
            path = step["path"]
            if (clone.tree / path).exists():
                return
            self._save(clone, path, step["body"].encode(), None, what)
            return
        if path is None:
            return
        data = found[path]
        front = _FRONT.match(data)
        head = front[0] if front else b""
        body = data[len(head) :].decode("utf-8")
        if not (clone.tree / path).exists() or (clone.tree / path).read_bytes() != data:
            return  # a pull has just changed it, and the person sees that
        match what:
            case "edit":
                self._save(clone, path, head + edited(body, step["edits"]).encode(), data, what)
            case "crlf":
                self._save(clone, path, data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"), data, what)
            case "move":
                target = f"{path.split('/')[0]}/{step['folder']}/{path.rsplit('/', 1)[-1]}"
                if target != path and not (clone.tree / target).exists():
                    self._note("moved", clone=clone.name, path=path, target=target)
                    (clone.tree / target).parent.mkdir(parents=True, exist_ok=True)
                    (clone.tree / path).rename(clone.tree / target)
                    self._oracle.touch(clone.name, memory_id(data), target, blob_id(data))
                    self.report.counts["edits by hand"] += 1
            case "delete":
                self._note("deleted", clone=clone.name, path=path)
                (clone.tree / path).unlink()
                self._oracle.changed(clone.name, tokens(data), (), f"delete by hand of {path}")
                self._oracle.touch(clone.name, memory_id(data), path, None)
                self.report.counts["edits by hand"] += 1
            case "break":
                if front and not clone.pushes:
                    self._note("broken", clone=clone.name, path=path)
                    broken = b"---\nid: [\n---\n" + data[len(head) :] + f"\n{step['line']}\n".encode()
                    if clone.save(path, broken, data):
                        clone.broken[path] = data
            case other:
                raise self._wrong(f"nobody knows how to {other!r} by hand")

    def _save(
        self, clone: Clone, path: str, data: bytes, old: bytes | None, what: str, *, searchable: bool = True
    ) -> None:
        """Save a file that was `old` when the person saw it; from then on it counts."""
        if old == data or not clone.save(path, data, old):
            return
        before = tokens(old or b"")
        self._note("saved", clone=clone.name, path=path, how=what, lines=sorted(tokens(data) - before))
        said = f"{what} by hand at {clone.name} in round {self._now} of {path}"
        self._oracle.changed(clone.name, before, tokens(data), said, searchable=searchable)
        self._oracle.touch(clone.name, memory_id(data), path, blob_id(data))
        self.report.counts["edits by hand"] += 1

    # --- a person with git ----------------------------------------------------------------------------

    def _by_git(self, clone: Clone, step: Step) -> None:
        if clone.broken:
            return
        clone.settle()  # within the moment that its index lags behind, git takes what was deleted for an edit
        match step["what"]:
            case "commit":
                self._by_hand(clone, {**step, "what": "edit"})
                self._commit(clone)
            case "file":
                target = clone.tree / step["path"]
                old = target.read_bytes() if target.exists() else None
                new = (b"\0\1\n" if step["binary"] else b"") + step["body"].encode()
                data = new if step["whole"] else (old or b"") + new
                self._save(clone, step["path"], data, old, "plain file", searchable=False)
                self._commit(clone)
            case "pull":
                # Git itself waits for ever; and nobody uses it in a clone whose hub merges at the same moment.
                if "hang" in self._network.of(clone.name) or clone.pushes:
                    return
                self._commit(clone)  # as git wants it: `merge --abort` may take what is not committed along
                before = clone.head()
                done = clone.patient_git("pull", "--quiet", "--no-edit", "origin", "main")
                if (clone.tree / ".git" / "MERGE_HEAD").exists():
                    clone.patient_git("status")  # `merge --abort` takes what git has not looked at for an edit
                    ended = clone.patient_git("merge", "--abort")
                    self.report.counts["plain pulls given up"] += 1
                    if (clone.tree / ".git" / "MERGE_HEAD").exists():
                        raise self._wrong(f"{clone.name}: a plain pull cannot be aborted: {ended.stderr}")
                parents = clone.git("rev-list", "--parents", "-n", "1", "HEAD").stdout.split()
                self._note("plain pull", clone=clone.name, status=done.returncode, said=done.stderr, head=parents[0])
                if done.returncode == 0:
                    self.report.counts["plain pulls"] += 1
                    self._oracle.loose |= parents[0] != before and len(parents) > 2
            case "lose":  # what must be seen; no schedule of a seed has it
                for path in self._memories(clone):
                    (clone.tree / path).unlink()
                self._commit(clone)
            case other:
                raise self._wrong(f"nobody knows how to {other!r} with git")

    def _commit(self, clone: Clone) -> None:
        done = clone.patient_git("add", "--all")
        for _ in range(3):
            clone.patient_git("add", "--all")
            done = clone.patient_git("commit", "--quiet", "--message", "By hand")
            if done.returncode == 0:
                self.report.counts["plain commits"] += 1
            if not clone.git("status", "--porcelain", "--", "papers").stdout.strip():
                break
        self._note("plain commit", clone=clone.name, status=done.returncode, said=done.stdout + done.stderr)

    # --- heals ----------------------------------------------------------------------------------------

    def _heal(self, *, deep: bool, last: bool) -> None:
        self._note("heal", deep=deep)
        self._network.mend()
        for clone in self._clones.values():
            for path, data in clone.broken.items():
                extra = tokens(data)
                clone.broken = {one: kept for one, kept in clone.broken.items() if one != path}
                now = (clone.tree / path).read_bytes()
                body = _FRONT.sub(b"", now, count=1)
                front = _FRONT.match(data)
                assert front is not None
                mended = front[0] + body
                clone.save(path, mended, now)
                self._note("mended", clone=clone.name, path=path)
                self._oracle.changed(clone.name, extra, tokens(mended), f"mended by hand at {clone.name}: {path}")
                self._oracle.touch(clone.name, memory_id(mended), path, blob_id(mended))
            if not clone.alive:
                self._start(clone)
        turn = 0
        while True:
            turn += 1
            for clone in self._clones.values():
                self._sync(clone, "push")
            for clone in self._clones.values():
                self._sync(clone, "pull")
            heads = {clone.head() for clone in self._clones.values()} | {self._remote_head()}
            if len(heads) == 1 and not self._mend_copies():
                break
            if turn == _HEAL_TURNS:
                raise self._wrong(f"after {turn} turns the clones and the remote are at {heads}")
        self.report.counts["heals"] += 1
        self.report.counts["most turns of a heal"] = max(self.report.counts["most turns of a heal"], turn)
        self._judge_all(deep=deep, last=last)

    def _mend_copies(self) -> bool:
        """What the status says: where git's own merge left one memory at two paths, the copy becomes one of its own.

        Git asks no merge driver of a file that only one side has, so that both sides may bring back what was deleted,
        each at another place.
        """
        if not self.report.counts["plain pulls"]:
            return False
        clone = next(iter(self._clones.values()))
        copies = [path for path, problem in clone.ask(op="dump")["skipped"].items() if "has the same id as" in problem]
        for path in copies:
            data = (clone.tree / path).read_bytes()
            mended = _ID.sub(b"", data, count=1)
            self._oracle.unsure |= {str(memory_id(data))}
            clone.save(path, mended, data)
            self._note("made its own", clone=clone.name, path=path)
            self.report.counts["copies that a plain pull left"] += 1
        return bool(copies)

    def _sync(self, clone: Clone, operation: str) -> None:
        """A pull or push that has to succeed, but for what a program that was killed left behind."""
        for attempt in range(5):
            context: Said = {"remote": self._remote_head(), "heads": clone.head()}
            try:
                answer = clone.ask(op=operation)
            except Died:
                raise self._wrong(f"{clone.name} died", log=clone.log()) from None
            self._note("healing", clone=clone.name, op=operation, answer=answer)
            kind = answer.get("kind")
            if "failed" in answer and attempt < 4:
                if clone.hurt and kind in ("index_lock", "index_lock_stale", "ref_locked"):
                    self._unlock(clone)
                    continue
                if kind in ("non_fast_forward", "ref_race"):  # a git that outlived its killed hub
                    self.report.counts["heals that met a git left over"] += 1
                    time.sleep(0.2)
                    continue
            self._judge(clone, {"op": operation}, answer, context, racing=False)
            return

    def _unlock(self, clone: Clone) -> None:
        """What the hint says: look that no git runs, and remove the lock file."""
        for lock in (clone.tree / ".git").rglob("*.lock"):
            if lock.name not in {"alg-store.lock", "alg-sync.lock"}:
                lock.unlink(missing_ok=True)
                self.report.counts["lock files left by a kill"] += 1

    def _judge_all(self, *, deep: bool, last: bool) -> None:
        dumps: dict[str, Said] = {}
        for clone in self._clones.values():
            dump = dumps[clone.name] = clone.ask(op="dump")
            self._judge_sample(clone, dump["sample"])
            if dump["sample"]["sync"]["state"] != "pushed":
                raise self._wrong(f"{clone.name} is healed, and says {dump['sample']['sync']}")
        first, *others = self._clones.values()
        files = first.files()
        blobs = {path: blob_id(data) for path, data in files.items()}
        for clone in others:
            if clone.files() != files:
                theirs = {path: blob_id(data) for path, data in clone.files().items()}
                differ = sorted(path for path in blobs.keys() | theirs.keys() if blobs.get(path) != theirs.get(path))
                raise self._wrong(f"{first.name} and {clone.name} differ in {differ[:10]}")
        self._judge_trees(blobs, dumps)
        self._judge_texts(files, dumps, most=None if last else _SEARCHED[deep])
        if deep:
            self._judge_objects()
        self._oracle.heal(blobs)

    def _judge_trees(self, blobs: dict[str, str], dumps: dict[str, Said]) -> None:
        for clone in self._clones.values():
            listed = clone.git("ls-tree", "-r", "-z", "HEAD").stdout.split("\0")
            tree = {text.split("\t", 1)[1]: text.split()[2] for text in listed if text}
            if tree != blobs:
                differ = sorted(path for path in blobs.keys() | tree.keys() if blobs.get(path) != tree.get(path))
                raise self._wrong(f"{clone.name}: files and HEAD differ in {differ[:10]}")
            status = clone.patient_git("status", "--porcelain").stdout
            deadline = time.monotonic() + 20
            while status and time.monotonic() < deadline:  # the git index follows when commits pause
                time.sleep(0.05)
                status = clone.patient_git("status", "--porcelain").stdout
            if status:
                raise self._wrong(f"{clone.name}: git status says {status[:500]!r}")
            dump = dumps[clone.name]
            memories = {
                path: blob
                for path, blob in blobs.items()
                if path.split("/")[0] in {f"{kind}s" for kind in _KINDS} and path.endswith(".md") and "/" in path
            }
            indexed = {path: version for path, (_, version, _) in dump["records"].items()}
            if dump["skipped"] or indexed != memories:
                differ = sorted(
                    path for path in indexed.keys() | memories.keys() if indexed.get(path) != memories.get(path)
                )
                raise self._wrong(f"{clone.name}: files and index differ in {differ[:10]}", skipped=dump["skipped"])
            if (clone.tree / ".git" / "alg-sync-journal.json").exists():
                raise self._wrong(f"{clone.name}: a journal of sync is left")
        ids = {path: memory for path, (memory, _, _) in dumps[CLONES[0]]["records"].items()}
        surprises = self._oracle.surprises(blobs, self._ids, ids)
        if surprises:
            raise self._wrong("; ".join(surprises[:5]))
        self._ids = ids
        history = set(self._network.remote.git("rev-list", "main").split())
        lost = (self._oracle.commits | set(self._heads)) - history
        if lost:
            raise self._wrong(f"commits that were acknowledged or were the remote's are not in its history: {lost}")

    def _judge_texts(self, files: dict[str, bytes], dumps: dict[str, Said], *, most: int | None) -> None:
        marked = [path for path, data in files.items() if MARKER.search(data)]
        if marked:
            raise self._wrong(f"conflict markers are in {marked}")
        places: dict[int, list[str]] = {}
        for path, data in files.items():
            for number in tokens(data):
                places.setdefault(number, []).append(path)
        due = self._oracle.due()
        missing = sorted(due - places.keys())
        if missing:
            raise self._wrong(
                f"{len(missing)} acknowledged lines are lost: "
                + "; ".join(f"{token(number)}: {self._oracle.wanted[number][1]}" for number in missing[:5])
            )
        wanted = sorted(number for number in due if self._oracle.wanted[number][0])
        for clone in self._clones.values():
            indexed = {number for _, _, held in dumps[clone.name]["records"].values() for number in held}
            if not indexed.issuperset(wanted):
                raise self._wrong(f"{clone.name}: the index lacks {sorted(set(wanted) - indexed)[:10]}")
            asked = wanted if most is None else wanted[-most // 2 :] + wanted[:: max(1, 2 * len(wanted) // most)]
            found = clone.ask(op="search", texts=[token(number) for number in asked])["found"]
            for number in asked:
                if not set(found[token(number)]) & set(places[number]):
                    raise self._wrong(
                        f"{clone.name}: a search for {token(number)} finds {found[token(number)]}, "
                        f"and it is in {places[number]}"
                    )
            self.report.counts["searches"] += len(asked)
        self.report.counts["lines that had to be there"] = len(due)
        self.report.counts["merges"] = int(self._network.remote.git("rev-list", "--merges", "--count", "main"))
        self.report.counts["memories"] = len(dumps[CLONES[0]]["records"])

    def _judge_objects(self) -> None:
        for clone in self._clones.values():
            done = clone.git("fsck", "--strict", "--no-dangling", check=False)
            if done.returncode:
                raise self._wrong(f"{clone.name}: git fsck: {done.stdout}{done.stderr}")
        self._network.remote.git("fsck", "--strict", "--no-dangling")
        self.report.counts["git fsck"] += 1


_KINDS = ("note", "fact", "preference", "decision", "task", "session", "handoff", "route")


def simulate(folder: Path, transport: Transport, rounds: list[Round], *, seed: int) -> tuple[Report, list[str]]:
    """Run a schedule in a folder, which is emptied before: how it went, and the last of what happened."""
    shutil.rmtree(folder, ignore_errors=True)
    simulation = Simulation(folder, transport, seed=seed)
    return simulation.run(rounds), simulation.happened()
