"""What a remote brings and must not come in is held back path by path, and the rest comes in. Real git throughout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import sync_made
from sync_made import AUTHOR, PATH, memory

from adaptive_llm_gateway.core import NotFound, SecretRefused, SyncError
from adaptive_llm_gateway.memory._frontmatter import MAX_FILE, Document
from adaptive_llm_gateway.memory._holding import Released, kept_edits
from adaptive_llm_gateway.memory._quarantine import QUARANTINE_FILE, Held, Quarantine, harmless, summary
from adaptive_llm_gateway.memory._repo import MemoryRepo
from adaptive_llm_gateway.memory._sync import MergedPath, PullResult
from adaptive_llm_gateway.memory._sync_checks import MAX_OTHER, find_collisions, risky_attribute

OTHER = "notes/2026/11/other-00000002.md"
SECRET = "hunter2-credential"
FILE, LINK, MODULE, TREE = b"100644", b"120000", b"160000", b"40000"

Node = tuple[bytes, bytes] | Mapping[bytes, "Node"]


def git(cwd: Path, *arguments: str, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=cwd, input=stdin, capture_output=True, check=True, env={**os.environ, **(env or {})}
    )
    return done.stdout.decode("utf-8", "surrogateescape")


class Scan:
    """A scanner that knows one secret, until that is allowed."""

    def __init__(self) -> None:
        self.allowed = False
        self.rules: object = object()

    def __call__(self, path: str, data: bytes) -> None:
        if SECRET.encode() in data and not self.allowed:
            raise SecretRefused(
                "a credential", findings=[{"line": 1, "kind": "test", "preview": "hu…al", "fingerprint": "f1"}]
            )

    def allow(self) -> None:
        self.allowed, self.rules = True, object()


def masked(text: str) -> str:
    return text.replace(SECRET, "***")


class Clone(sync_made.Clone):
    """One whose scanner can be told to allow its secret."""

    def __init__(self, root: Path, remote: Path) -> None:
        self.scan = Scan()
        super().__init__(
            root,
            remote,
            scan=self.scan,
            checks=lambda: self.scan.rules,
            mask=masked,
        )

    def there(self, path: str) -> str | None:
        try:
            return self.text(path)
        except FileNotFoundError:
            return None

    @property
    def held(self) -> dict[str, Held]:
        return dict(self.repo.quarantine.held)

    def committed(self, path: str) -> str:
        return git(self.root, "show", f"HEAD:{path}")


class Hostile:
    """Somebody who may push, and puts into a commit what no git program would."""

    def __init__(self, remote: Path) -> None:
        self.remote = remote

    def blob(self, data: bytes) -> bytes:
        return git(self.remote, "hash-object", "-w", "--stdin", stdin=data).strip().encode()

    def tree(self, nodes: Mapping[bytes, Node], base: str | None = None) -> bytes:
        entries: dict[bytes, tuple[bytes, bytes]] = {}
        if base is not None:
            for line in git(self.remote, "ls-tree", "-z", base).encode("utf-8", "surrogateescape").split(b"\0")[:-1]:
                about, _, name = line.partition(b"\t")
                mode, _, found = about.split(b" ")
                entries[name] = (mode.lstrip(b"0"), found)
        for name, node in nodes.items():
            if isinstance(node, Mapping):
                below = entries[name][1].decode() if name in entries and entries[name][0] == TREE else None
                entries[name] = (TREE, self.tree(node, below))
            elif node[0] == b"":
                entries.pop(name, None)
            else:
                entries[name] = (node[0], node[1] if node[0] in (MODULE, TREE) else self.blob(node[1]))
        ordered = sorted(entries.items(), key=lambda item: item[0] + (b"/" if item[1][0] == TREE else b""))
        data = b"".join(mode + b" " + name + b"\0" + bytes.fromhex(found.decode()) for name, (mode, found) in ordered)
        arguments = ("hash-object", "-t", "tree", "--literally", "-w", "--stdin")
        return git(self.remote, *arguments, stdin=data).strip().encode()

    def push(self, nodes: Mapping[bytes, Node], message: str = "hostile", author: str = "Mallory") -> str:
        tip = git(self.remote, "rev-parse", "main").strip()
        tree = self.tree(nodes, tip).decode()
        who = {"GIT_AUTHOR_NAME": author, "GIT_AUTHOR_EMAIL": "m@example.org"}
        commit = git(self.remote, "commit-tree", "-p", tip, "-m", message, tree, env=who).strip()
        git(self.remote, "update-ref", "refs/heads/main", commit)
        return commit

    def put(self, path: str, data: bytes | str | None, mode: bytes = FILE, message: str = "hostile") -> str:
        raw = data.encode() if isinstance(data, str) else data
        node: Node = (b"", b"") if raw is None else (mode, raw)
        for name in reversed(path.encode("utf-8", "surrogateescape").split(b"/")):
            node = {name: node}
        assert isinstance(node, Mapping)
        return self.push(node, message)


@pytest.fixture
def one(tmp_path: Path, remote: Path) -> Clone:
    return Clone(tmp_path / "one", remote)


@pytest.fixture
def two(tmp_path: Path, remote: Path) -> Clone:
    return Clone(tmp_path / "two", remote)


@pytest.fixture
def shared(one: Clone, two: Clone) -> tuple[Clone, Clone]:
    """Two clones that both have one memory."""
    one.put(PATH, memory("one\ntwo\nthree\n"))
    one.sync.push()
    two.sync.pull()
    return one, two


@pytest.fixture
def mallory(shared: tuple[Clone, Clone], remote: Path) -> Hostile:
    return Hostile(remote)


# --- what fails is held back, and the rest comes in --------------------------------------------------------


HOSTILE = [
    ("notes/2026/11/s-00000009.md", memory(f"the key is {SECRET}\n", number=9).encode(), FILE, "secret"),
    ("notes/link.md", b"/etc/passwd", LINK, "link"),
    (".gitignore", b"/etc/passwd", LINK, "link"),
    ("notes/module.md", b"1" * 40, MODULE, "submodule"),
    (".gitmodules", b'[submodule "x"]\n\tpath = x\n\turl = ext::sh -c evil\n', FILE, "submodules"),
    (".gitattributes", b"*.md filter=evil\n", FILE, "attributes"),
    ("notes/.gitattributes", b"*.md text=auto\n", FILE, "attributes"),
    ("notes/a\\b.md", b"x", FILE, "path"),
    ("notes/git~1/config", b"x", FILE, "path"),
    ("notes/2026/.git/config", b"x", FILE, "path"),
    ("notes/2026/.GIT/hooks/post-checkout", b"x", FILE, "path"),
    ("notes/.g\u200cit/config", b"x", FILE, "path"),
    (".git/hooks/post-checkout", b"x", FILE, "path"),
    ("notes/../../evil.md", b"x", FILE, "path"),
    ("notes/./evil.md", b"x", FILE, "path"),
    ("notes/line\nbreak.md", b"x", FILE, "path"),
    ("notes/not-\udcff-utf8.md", b"x", FILE, "path"),
    ("notes/CON.md", b"x", FILE, "name"),
    ("notes/nul", b"x", FILE, "name"),
    ("notes/dot./x.md", b"x", FILE, "name"),
    ("notes/space /x.md", b"x", FILE, "name"),
    ("notes/stream.md:hidden", b"x", FILE, "name"),
    ("notes/gitmod~1", b"x", FILE, "name"),
    ("notes/" + "x" * 260 + ".md", b"x", FILE, "name"),
    ("notes/" + "/".join(["y" * 200] * 6) + ".md", b"x", FILE, "name"),
    ("/".join(["d"] * 80) + "/x.md", b"x", FILE, "depth"),
    ("notes/2026/11/T-00000001.md", b"case", FILE, "collision"),
    ("NOTES/2026/11/t-00000001.md", b"case", FILE, "collision"),
    ("Notes", b"a file like a folder", FILE, "collision"),
    ("notes/2026/11/big.md", b"x" * (MAX_FILE + 1), FILE, "size"),
    (f"notes/{SECRET}.md", b"x", FILE, "secret"),
]  # fmt: skip


@pytest.mark.parametrize("diverged", [False, True])
@pytest.mark.parametrize(("path", "data", "mode", "kind"), HOSTILE, ids=lambda value: repr(value)[:40])
def test_a_hostile_file_is_held_back_and_the_rest_of_the_pull_comes_in(
    shared: tuple[Clone, Clone], mallory: Hostile, path: str, data: bytes, mode: bytes, kind: str, diverged: bool
) -> None:
    one, two = shared
    mallory.put(OTHER, memory("the rest\n", number=2))
    tip = mallory.put(path, data, mode)
    before = two.files()
    if diverged:
        two.put("notes/mine.md", "mine")
        before = two.files()
    pulled = two.sync.pull()
    assert pulled.status.state in ("pushed", "pending")
    assert two.files() == {**before, OTHER: memory("the rest\n", number=2).encode()}
    assert [item.kind for item in pulled.held] == [kind]
    (item,) = two.held.values()
    assert (item.kind, item.commit, item.author) == (kind, tip, "Mallory")
    assert SECRET not in item.shown + item.why
    assert item.shown.isprintable()
    assert pulled.merged == (MergedPath(None, OTHER),)
    # The commits have it as the remote has it, and so has the remote after our push.
    two.sync.push()
    difference = git(two.root, "diff-tree", "-r", "--name-only", tip, "HEAD")
    assert difference.split() == (["notes/mine.md"] if diverged else [])
    assert two.sync.pull().merged == ()
    one.sync.pull()
    assert one.files() == two.files()
    # What the git index can have it has, so that plain git sees nothing to do.
    if not any(part in ("", ".", "..", ".git", ".GIT") for part in path.split("/")) and kind != "depth":
        assert two.clean()
    git(two.root, "fsck", "--connectivity-only")


def test_a_changed_memory_that_fails_keeps_its_last_good_version(shared: tuple[Clone, Clone], mallory: Hostile) -> None:
    _, two = shared
    bad = memory(f"one {SECRET}\n", updated="2026-11-21T10:00:00Z")
    mallory.put(PATH, bad)
    two.sync.pull()
    assert two.there(PATH) == memory("one\ntwo\nthree\n")
    assert two.committed(PATH) == bad
    assert two.clean()
    assert two.repo.work_files()[PATH] == MemoryRepo.blob_id(memory("one\ntwo\nthree\n").encode())


def test_a_later_version_that_passes_comes_in_and_ends_it(shared: tuple[Clone, Clone], mallory: Hostile) -> None:
    _, two = shared
    mallory.put(PATH, memory(f"one {SECRET}\n"))
    two.sync.pull()
    mallory.put(PATH, memory("mended\n", updated="2026-11-22T10:00:00Z"))
    pulled = two.sync.pull()
    assert two.there(PATH) == memory("mended\n", updated="2026-11-22T10:00:00Z")
    assert pulled.merged == (MergedPath(PATH, PATH),)
    assert two.held == {}
    assert two.clean()
    # The secret is still in the history, and that is said.
    assert len(two.repo.quarantine.history) == 0  # it came by an earlier pull, which told of it
    assert not (two.repo.git_dir / QUARANTINE_FILE).exists()


def test_the_remote_deleting_it_ends_it_too(shared: tuple[Clone, Clone], mallory: Hostile) -> None:
    _, two = shared
    mallory.put(PATH, memory(f"one {SECRET}\n"))
    mallory.put("notes/link.md", b"x", LINK)
    two.sync.pull()
    mallory.put(PATH, None)
    mallory.put("notes/link.md", None)
    two.sync.pull()
    assert (two.there(PATH), two.held) == (None, {})
    assert two.clean()


def test_a_version_that_fails_again_keeps_the_first_good_one_and_says_since_when(
    shared: tuple[Clone, Clone], mallory: Hostile
) -> None:
    _, two = shared
    mallory.put(PATH, memory(f"one {SECRET}\n"))
    two.sync.pull()
    tip = mallory.put(PATH, memory(f"two {SECRET}\n"))
    two.sync.pull()
    assert two.there(PATH) == memory("one\ntwo\nthree\n")
    assert two.held[PATH].commit == tip
    mallory.put(OTHER, memory("another\n", number=2))
    since = two.held[PATH].since
    two.sync.pull()
    assert (two.held[PATH].since, two.held[PATH].commit) == (since, tip)


def test_what_is_allowed_meanwhile_comes_in_with_the_next_pull(shared: tuple[Clone, Clone], mallory: Hostile) -> None:
    _, two = shared
    bad = memory(f"one {SECRET}\n")
    mallory.put(PATH, bad)
    mallory.put("notes/link.md", b"x", LINK)
    two.sync.pull()
    assert two.sync.pull().merged == ()
    two.scan.allow()
    pulled = two.sync.pull()
    assert pulled.merged == (MergedPath(PATH, PATH),)
    assert two.there(PATH) == bad
    assert list(two.held) == ["notes/link.md"]
    assert two.clean()


def test_a_file_in_the_way_of_what_is_allowed_stays_and_nothing_else_waits_for_it(
    shared: tuple[Clone, Clone], mallory: Hostile
) -> None:
    _, two = shared
    mallory.put("notes/x.txt", SECRET)
    two.sync.pull()
    (two.root / "notes/x.txt").write_text("somebody's own", encoding="utf-8")
    two.scan.allow()
    mallory.put(OTHER, memory("the rest\n", number=2))
    two.sync.pull()
    two.sync.pull()
    assert two.there("notes/x.txt") == "somebody's own"
    assert two.there(OTHER) == memory("the rest\n", number=2)
    assert list(two.held) == ["notes/x.txt"]


def test_a_memory_that_moves_to_a_place_that_fails_stays_where_it_was(
    shared: tuple[Clone, Clone], mallory: Hostile
) -> None:
    _, two = shared
    mallory.push(
        {b"notes": {b"2026": {b"11": {b"t-00000001.md": (b"", b""), b"CON.md": (FILE, memory("moved\n").encode())}}}}
    )
    two.sync.pull()
    assert two.there(PATH) == memory("one\ntwo\nthree\n")
    assert {path: item.kind for path, item in two.held.items()} == {"notes/2026/11/CON.md": "name", PATH: "moved"}
    mallory.push(
        {b"notes": {b"2026": {b"11": {b"CON.md": (b"", b""), b"fine.md": (FILE, memory("moved\n").encode())}}}}
    )
    two.sync.pull()
    assert (two.there(PATH), two.there("notes/2026/11/fine.md"), two.held) == (None, memory("moved\n"), {})


# --- our own edits of the same file ---------------------------------------------------------------------------


def test_an_edit_of_ours_goes_beside_what_is_held_back_and_neither_is_lost(
    shared: tuple[Clone, Clone], mallory: Hostile, tmp_path: Path, remote: Path
) -> None:
    one, two = shared
    bad = memory(f"one {SECRET}\n", updated="2026-11-21T10:00:00Z")
    mallory.put(PATH, bad)
    ours = memory("one\ntwo\nours\n", updated="2026-11-21T11:00:00Z")
    two.put(PATH, ours)
    pulled = two.sync.pull()
    (conflict,) = pulled.conflicts
    assert conflict.path == PATH
    assert two.there(PATH) == ours
    assert two.committed(PATH) == bad
    beside = Document.parse((two.root / conflict.kept_path).read_bytes())
    assert beside.body == "one\ntwo\nours\n"
    assert beside.fields["links"] == [{"rel": "conflicts_with", "id": "01JD" + "1".zfill(22)}]
    assert two.clean()
    two.sync.push()
    one.sync.pull()
    third = Clone(tmp_path / "three", remote)
    third.sync.pull()
    assert one.there(PATH) == memory("one\ntwo\nthree\n")
    assert third.there(PATH) is None
    for clone in (one, third):
        assert clone.there(conflict.kept_path) == two.there(conflict.kept_path)
        assert clone.clean()
    mallory.put(PATH, memory("mended\n", updated="2026-11-22T10:00:00Z"))
    for clone in (one, two, third):
        clone.sync.pull()
    assert one.files() == two.files() == third.files()
    assert one.there(PATH) == memory("mended\n", updated="2026-11-22T10:00:00Z")


def test_two_clones_that_put_the_same_text_beside_agree(shared: tuple[Clone, Clone], mallory: Hostile) -> None:
    one, two = shared
    mallory.put(PATH, memory(f"one {SECRET}\n"))
    for clone in (one, two):
        clone.put(PATH, memory("ours\n", updated="2026-11-21T11:00:00Z"))
        clone.sync.pull()
    two.sync.push()
    one.sync.push()
    two.sync.pull()
    assert one.files() == two.files()
    assert len([path for path in one.files() if path.startswith("notes/")]) == 2


def test_a_deletion_of_ours_leaves_what_is_held_back_in_the_commits_alone(
    shared: tuple[Clone, Clone], mallory: Hostile
) -> None:
    _, two = shared
    bad = memory(f"one {SECRET}\n")
    mallory.put(PATH, bad)
    two.put(PATH, None)
    two.sync.pull()
    assert (two.there(PATH), two.committed(PATH)) == (None, bad)
    assert two.clean()


def test_a_mended_version_is_never_merged_with_the_one_that_is_held_back(
    shared: tuple[Clone, Clone], mallory: Hostile, remote: Path
) -> None:
    _, two = shared
    start = git(remote, "rev-parse", "main").strip()
    mallory.put(PATH, memory(f"one\ntwo\nthree\n{SECRET}\n", updated="2026-11-25T10:00:00Z"))
    two.sync.pull()
    git(remote, "update-ref", "refs/heads/main", start)  # its history is rewritten to get the secret out
    mallory.put(PATH, memory("ONE\ntwo\nthree\n", updated="2026-11-22T10:00:00Z"))
    two.sync.pull()
    assert two.there(PATH) == memory("ONE\ntwo\nthree\n", updated="2026-11-22T10:00:00Z")
    assert SECRET not in two.committed(PATH)
    assert two.held == {}


def test_a_link_where_a_folder_of_ours_is_goes_beside_it(shared: tuple[Clone, Clone], mallory: Hostile) -> None:
    _, two = shared
    two.put("notes/2026/11/mine.md", memory("mine\n", number=3))
    mallory.push({b"notes": {b"2026": (LINK, b"/etc")}})
    two.sync.pull()
    assert two.there("notes/2026/11/mine.md") == memory("mine\n", number=3)
    (item,) = two.held.values()
    assert item.kind == "link"
    assert item.path.startswith("notes/2026-")
    assert two.clean()


# --- collisions in three clones -------------------------------------------------------------------------------


def test_a_clone_keeps_what_it_has_of_two_names_that_collide_and_a_new_one_the_first_by_name(
    shared: tuple[Clone, Clone], mallory: Hostile, tmp_path: Path, remote: Path
) -> None:
    one, two = shared
    one.put("notes/caf\u00e9.md", memory("from one\n", number=5))
    one.sync.push()
    two.sync.pull()
    mallory.put("notes/cafe\u0301.md", memory("from mallory\n", number=6))
    one.sync.pull()
    two.put("notes/mine.md", "mine")
    two.sync.push()
    one.sync.pull()
    three = Clone(tmp_path / "three", remote)
    three.sync.pull()
    assert list(one.held) == list(two.held) == ["notes/cafe\u0301.md"]
    assert list(three.held) == [max("notes/cafe\u0301.md", "notes/caf\u00e9.md")]
    assert one.repo.tree_files() == two.repo.tree_files() == three.repo.tree_files()
    assert all(clone.clean() for clone in (one, two, three))
    one.put("notes/caf\u00e9.md", None)
    one.put("notes/coffee.md", memory("from one\n", number=5))
    one.sync.push()
    for clone in (one, two, three):
        clone.sync.pull()
        clone.sync.pull()
        assert clone.held == {}
        assert clone.clean()
    assert one.files() == two.files() == three.files()


def test_collisions_are_found_by_case_by_unicode_and_between_files_and_folders() -> None:
    assert find_collisions(["a/B.md", "a/b.md"], set()).keys() == {"a/b.md"}
    assert find_collisions(["a/b.md"], {"a/B.md"}).keys() == {"a/b.md"}
    assert find_collisions(["A/x"], {"a"}).keys() == {"A/x"}
    assert find_collisions(["A"], {"a/x"}).keys() == {"A"}
    assert find_collisions(["STRASSE", "stra\u00dfe"], set()).keys() == {"stra\u00dfe"}
    assert find_collisions(["a/x", "A/y", "b"], {"a/z"}) == {}


# --- people who use plain git -----------------------------------------------------------------------------------


def test_a_plain_commit_of_everything_keeps_what_is_held_back(shared: tuple[Clone, Clone], mallory: Hostile) -> None:
    _, two = shared
    bad = memory(f"one {SECRET}\n")
    mallory.put(PATH, bad)
    mallory.put("notes/link.md", b"/etc/passwd", LINK)
    mallory.put("notes/a\\b.md", b"x")
    mallory.put("notes/git~1/config", b"x")
    mallory.put("notes/module.md", b"1" * 40, MODULE)
    tip = mallory.put("notes/not-\udcff-utf8.md", b"x")
    two.sync.pull()
    assert len(two.held) == 6
    assert two.clean()
    (two.root / "notes/own.md").write_text("own", encoding="utf-8")
    git(two.root, "add", "-A")
    git(two.root, "commit", "-qam", "by hand")
    assert git(two.root, "diff-tree", "-r", "--name-only", tip, "HEAD").split() == ["notes/own.md"]
    git(two.root, "checkout", "-q", ".")
    git(two.root, "reset", "-q", "--hard")
    assert two.there(PATH) == memory("one\ntwo\nthree\n")
    assert not (two.root / "notes/link.md").is_symlink()
    assert len(two.held) == 6


def test_the_index_is_repaired_after_a_crash_with_what_is_held_back(
    shared: tuple[Clone, Clone], mallory: Hostile
) -> None:
    _, two = shared
    mallory.put(PATH, memory(f"one {SECRET}\n"))
    two.sync.pull()
    (two.repo.git_dir / "alg-index-pending").write_text(
        json.dumps([PATH, two.repo.head()]) + "\n" + json.dumps(["../x", None]) + "\n{\n", encoding="utf-8"
    )
    two.start()
    assert two.clean()
    assert git(two.root, "ls-files", "-v", PATH).startswith("S ")


# --- giving it up -----------------------------------------------------------------------------------------------


def test_what_is_held_back_can_be_given_up_for_the_last_good_version(
    shared: tuple[Clone, Clone], mallory: Hostile
) -> None:
    one, two = shared
    mallory.put(PATH, memory(f"one {SECRET}\n"))
    mallory.put("notes/link.md", b"/etc/passwd", LINK)
    mallory.put("notes/.git/x\n.md", b"y")
    mallory.put("notes/not-\udcff-utf8.md", b"y")
    two.sync.pull()
    shown = [item.shown for item in two.held.values()]
    assert len(two.sync.drop(shown, AUTHOR)) == 4
    assert two.held == {}
    assert two.committed(PATH) == memory("one\ntwo\nthree\n")
    assert two.clean()
    two.sync.push()
    one.sync.pull()
    assert one.files() == two.files()
    assert one.held == {}
    assert git(one.root, "ls-tree", "-r", "--name-only", "HEAD").split() == [".alg/format", ".gitattributes", PATH]


def test_giving_up_the_new_place_of_a_memory_leaves_it_at_its_old_one(
    shared: tuple[Clone, Clone], mallory: Hostile
) -> None:
    _, two = shared
    mallory.push({b"notes": {b"2026": (b"", b""), b"CON.md": (FILE, memory("moved\n").encode())}})
    two.sync.pull()
    two.sync.drop(["notes/CON.md"], AUTHOR)
    assert (two.committed(PATH), two.there(PATH), two.held) == (
        memory("one\ntwo\nthree\n"),
        memory("one\ntwo\nthree\n"),
        {},
    )
    assert two.clean()


def test_a_file_with_a_secret_in_its_name_is_given_up_in_a_commit_that_can_be_pushed(
    shared: tuple[Clone, Clone], mallory: Hostile
) -> None:
    one, two = shared
    mallory.put(f"notes/{SECRET}.md", b"x")
    two.sync.pull()
    two.sync.drop(["notes/***.md"], AUTHOR)
    assert SECRET not in git(two.root, "log", "-1", "--format=%B")
    two.sync.push()
    one.sync.pull()
    assert one.held == two.held == {}


def test_nothing_is_given_up_where_nothing_is_held_back(shared: tuple[Clone, Clone]) -> None:
    with pytest.raises(NotFound):
        shared[1].sync.drop([PATH], AUTHOR)


# --- secrets between the tips -----------------------------------------------------------------------------------


def test_a_secret_that_only_the_history_has_is_told_and_stops_nothing(
    shared: tuple[Clone, Clone], mallory: Hostile
) -> None:
    _, two = shared
    first = mallory.put("notes/s.md", f"x {SECRET}")
    second = mallory.put("notes/s.md", None, message=f"took out {SECRET}")
    two.put("notes/mine.md", "mine")
    two.sync.pull()
    found = {(item.commit, item.where) for item in two.repo.quarantine.history}
    assert found == {(first, "notes/s.md"), (second, "the commit's message")}
    assert SECRET not in (two.repo.git_dir / QUARANTINE_FILE).read_text(encoding="utf-8")
    assert not any(SECRET.encode() in data for data in two.files().values())
    two.sync.push()
    two.put("notes/more.md", "more")
    two.sync.push()
    assert "commits" in summary(two.repo.quarantine)[0]
    two.scan.allow()
    two.sync.pull()
    assert two.repo.quarantine.history == ()


def test_a_secret_of_ours_is_still_not_pushed_while_another_is_held_back(
    shared: tuple[Clone, Clone], mallory: Hostile, remote: Path
) -> None:
    _, two = shared
    tip = mallory.put(PATH, memory(f"one {SECRET}\n"))
    two.sync.pull()
    (two.root / "notes/own.md").write_text(SECRET + " of ours", encoding="utf-8")
    git(two.root, "add", "notes/own.md")
    git(two.root, "commit", "-qm", "by hand")
    with pytest.raises(SyncError) as caught:
        two.sync.push()
    assert (caught.value.details["kind"], caught.value.details["path"]) == ("secret_outgoing", "notes/own.md")
    assert git(remote, "rev-parse", "main").strip() == tip


# --- what is refused as a whole, and what is not -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "refused"),
    [
        ("A <a@b> 9999999999999999 +0000", False),
        ("A <a@b> 0001700000000 +0000", False),
        ("A <a@b> 1700000000 +99999", False),
        ("A <a@b>", False),
        ("<a@b> 1700000000 +0000", False),
        ("A <<a@b>> 1700000000 +0000", False),
        ("A\x1b[31m <a@b> 1700000000 +0000\nencoding x-nobody-knows", False),
        ("A <a@b> 99999999999999999999999999 +0000", True),
        ("A 1700000000 +0000", True),
    ],
)
def test_odd_commits_come_in_and_only_unreadable_ones_are_refused(
    shared: tuple[Clone, Clone], mallory: Hostile, remote: Path, line: str, refused: bool
) -> None:
    _, two = shared
    mallory.put(OTHER, memory("the rest\n", number=2))
    tree = git(remote, "rev-parse", "main^{tree}").strip()
    tip = git(remote, "rev-parse", "main").strip()
    who, _, more = line.partition("\n")
    data = f"tree {tree}\nparent {tip}\nauthor {who}\ncommitter {who}\n{more}{chr(10) if more else ''}\nodd\n".encode()
    commit = git(remote, "hash-object", "-t", "commit", "--literally", "-w", "--stdin", stdin=data).strip()
    git(remote, "update-ref", "refs/heads/main", commit)
    if refused:
        with pytest.raises(SyncError) as caught:
            two.sync.pull()
        assert caught.value.details["kind"] == "corrupt_incoming"
        assert two.there(OTHER) is None
        return
    two.put("notes/mine.md", "mine")
    two.sync.pull()
    assert two.there(OTHER) == memory("the rest\n", number=2)
    two.sync.push()
    assert [revision.path for revision in two.repo.history(OTHER)] == [OTHER]
    assert two.clean()


@pytest.mark.parametrize("damage", ["duplicate", "unsorted", "missing blob", "empty name"])
def test_damaged_objects_are_refused_as_a_whole(
    shared: tuple[Clone, Clone], mallory: Hostile, remote: Path, damage: str
) -> None:
    _, two = shared
    blob = bytes.fromhex(mallory.blob(b"x").decode())
    entries = {
        "duplicate": [(b"a", blob), (b"a", blob)],
        "unsorted": [(b"b", blob), (b"a", blob)],
        "missing blob": [(b"a", b"\x11" * 20)],
        "empty name": [(b"", blob)],
    }[damage]
    data = b"".join(b"100644 " + name + b"\0" + found for name, found in entries)
    tree = git(remote, "hash-object", "-t", "tree", "--literally", "-w", "--stdin", stdin=data).strip()
    head = two.repo.head()
    mallory.push({b"notes": {b"damaged": (TREE, tree.encode())}})
    with pytest.raises(SyncError) as caught:
        two.sync.pull()
    assert caught.value.details["kind"] in ("corrupt_incoming", "remote_missing", "unreachable")
    assert two.repo.head() == head
    assert two.clean()


def test_a_name_with_a_slash_in_it_is_held_back_and_carried_over_unchanged(
    shared: tuple[Clone, Clone], mallory: Hostile
) -> None:
    one, two = shared
    tip = mallory.push({b"notes": {b"zz/evil.md": (FILE, b"x")}})
    two.put("notes/mine.md", "mine")
    two.sync.pull()
    assert [item.kind for item in two.held.values()] == ["path"]
    assert two.there("notes/zz/evil.md") is None
    two.sync.push()
    tree = git(two.root, "rev-parse", "HEAD:notes").strip()
    assert "zz/evil.md" in git(two.root, "ls-tree", "--name-only", tree).splitlines()
    assert git(two.root, "rev-parse", "HEAD:notes/2026") == git(two.root, "rev-parse", f"{tip}:notes/2026")
    one.sync.pull()
    two.sync.drop([item.shown for item in two.held.values()], AUTHOR)
    assert "zz/evil.md" not in git(two.root, "ls-tree", "--name-only", "HEAD:notes").splitlines()


def test_a_newer_format_is_still_refused_as_a_whole_and_an_odd_marker_is_held_back(
    shared: tuple[Clone, Clone], mallory: Hostile
) -> None:
    _, two = shared
    mallory.put(".alg/format", b"/dev/zero", LINK)
    two.sync.pull()
    assert [item.kind for item in two.held.values()] == ["link"]
    two.start()
    assert (two.there(".alg/format"), len(two.held)) == ("1\n", 1)
    mallory.put(".alg/format", b"2\n")
    with pytest.raises(SyncError) as caught:
        two.sync.pull()
    assert caught.value.details["kind"] == "format_too_new"


def test_a_large_other_file_is_held_back_without_being_read(shared: tuple[Clone, Clone], mallory: Hostile) -> None:
    _, two = shared
    mallory.put("notes/big.bin", b"\0" * (MAX_OTHER + 1))
    mallory.put("notes/fits.bin", b"\0" * 100_000)
    two.sync.pull()
    assert [(path, item.kind) for path, item in two.held.items()] == [("notes/big.bin", "size")]
    assert (two.root / "notes/fits.bin").stat().st_size == 100_000


def test_a_tree_with_very_many_files_and_a_hostile_one_comes_in(shared: tuple[Clone, Clone], mallory: Hostile) -> None:
    _, two = shared
    many: dict[bytes, Node] = {b"%d.txt" % number: (FILE, b"x") for number in range(50)}
    blob = mallory.blob(b"x")
    raw = b"".join(b"100644 %06d.txt\0" % number + bytes.fromhex(blob.decode()) for number in range(20_000))
    tree = git(mallory.remote, "hash-object", "-t", "tree", "-w", "--stdin", stdin=raw).strip()
    mallory.push({b"many": (TREE, tree.encode()), b"few": many, b"link": (LINK, b"x")})
    two.sync.pull()
    assert len(list((two.root / "many").iterdir())) == 20_000
    assert list(two.held) == ["link"]


# --- crashes ------------------------------------------------------------------------------------------------------

_PULLER = f"""
import sys
from pathlib import Path
from adaptive_llm_gateway.core import SecretRefused
from adaptive_llm_gateway.memory._repo import MemoryRepo
from adaptive_llm_gateway.memory._sync import Sync
def scan(path, data):
    if {SECRET.encode()!r} in data:
        raise SecretRefused("a credential", findings=[])
repo = MemoryRepo.open(Path(sys.argv[1]))
Sync(repo, scan=scan).pull()
"""

POINTS = (
    "sync.fetched",
    "sync.planned",
    "sync.objects_written",
    "sync.staged",
    "sync.index_held",
    "sync.rescued",
    "sync.journal_written",
    "sync.file_written",
    "sync.file_written:3",
    "sync.tree_updated",
    "sync.quarantine_written",
    "sync.ref_moved",
    "commit.git_index_written",
    "commit.git_index_updated",
    "sync.index_updated",
)


@pytest.mark.parametrize("diverged", [False, True])
@pytest.mark.parametrize("point", POINTS)
def test_a_pull_killed_anywhere_while_something_is_held_back_leaves_files_and_quarantine_that_fit(
    shared: tuple[Clone, Clone], mallory: Hostile, point: str, diverged: bool
) -> None:
    _, two = shared
    mended, worse = "notes/2026/11/m-00000003.md", "notes/2026/11/w-00000004.md"
    mallory.put(mended, memory(f"{SECRET}\n", number=3))
    mallory.put(worse, memory("good\n", number=4))
    mallory.put("notes/gone-link", b"x", LINK)
    two.sync.pull()
    assert sorted(two.held) == ["notes/2026/11/m-00000003.md", "notes/gone-link"]
    mallory.put(mended, memory("mended\n", number=3))
    mallory.put(worse, memory(f"worse {SECRET}\n", number=4))
    mallory.put("notes/gone-link", None)
    mallory.put("notes/link", b"x", LINK)
    mallory.put(OTHER, memory("the rest\n", number=2))
    mallory.put("notes/third.md", "third")
    if diverged:
        two.put("notes/mine.md", "mine")
    died = subprocess.run(
        [sys.executable, "-c", _PULLER, str(two.root)], env={**os.environ, "ALG_FAULT": point}, check=False
    )
    assert died.returncode == -9
    two.start()
    assert two.clean()
    assert two.there(worse) == memory("good\n", number=4)
    for path, blob in two.repo.work_files().items():
        assert MemoryRepo.blob_id((two.root / path).read_bytes()) == blob
    two.sync.pull()
    assert sorted(two.held) == ["notes/2026/11/w-00000004.md", "notes/link"]
    assert two.there(mended) == memory("mended\n", number=3)
    assert two.there("notes/third.md") == "third"
    assert not any(SECRET.encode() in data for data in two.files().values())
    assert two.clean()
    two.sync.push()
    git(two.root, "fsck", "--connectivity-only")


@pytest.mark.parametrize("point", ["sync.journal_written", "sync.tree_updated", "sync.quarantine_written"])
def test_a_pull_that_is_taken_back_after_a_crash_leaves_what_was_held_back_before_it(
    shared: tuple[Clone, Clone], mallory: Hostile, point: str
) -> None:
    _, two = shared
    good, worse = memory("one\ntwo\nthree\n"), memory(f"worse {SECRET}\n", updated="2026-11-20T11:00:00Z")
    mallory.put(PATH, memory(f"bad {SECRET}\n", updated="2026-11-20T11:00:00Z"))
    mallory.put(OTHER, memory("a\nb\nc\n", number=2))
    two.sync.pull()
    before, held = two.repo.head(), two.held
    mallory.put(PATH, worse)
    mallory.put(OTHER, memory("A\nb\nc\n", number=2))
    died = subprocess.run(
        [sys.executable, "-c", _PULLER, str(two.root)], env={**os.environ, "ALG_FAULT": point}, check=False
    )
    assert died.returncode == -9
    edited = memory("a\nb\nC\n", number=2, updated="2026-11-20T12:00:00Z")
    (two.root / OTHER).write_bytes(edited.encode())
    two.start()
    assert (two.repo.head(), two.held) == (before, held)
    assert (two.there(PATH), two.there(OTHER)) == (good, edited)
    two.put(OTHER, edited)
    two.sync.pull()
    assert (two.there(PATH), two.committed(PATH)) == (good, worse)
    merged = two.there(OTHER)
    assert merged is not None
    assert merged.endswith("A\nb\nC\n")


# --- what is kept, and what is shown --------------------------------------------------------------------------------


def test_what_is_kept_survives_being_written_and_read_and_damage_counts_as_nothing(
    shared: tuple[Clone, Clone], mallory: Hostile
) -> None:
    _, two = shared
    mallory.put("notes/not-\udcff-utf8.md", b"x")
    mallory.put("notes/s.md", f"x {SECRET}")
    two.sync.pull()
    found = two.repo.quarantine
    assert Quarantine.parse(found.as_bytes()) == found
    for damaged in (b"", b"[]", b"{", b'{"held": [1, {"path": "x"}], "history": 3}', b'{"held": [{"entry": [1]}]}'):
        assert Quarantine.parse(damaged) == Quarantine()


def test_texts_from_a_remote_are_shown_in_one_bounded_printable_line() -> None:
    assert harmless("a\nb\x1b[31m\u202ec") == "a b\ufffd[31m\ufffdc"
    assert len(harmless("x" * 10_000)) == 200
    assert harmless("see hunter2", mask=lambda text: text.replace("hunter2", "***")) == "see ***"


@pytest.mark.parametrize(
    ("line", "risky"),
    [
        ("* -text", None),
        ("*.png binary", None),
        ("*.md merge=union", None),
        ("# *.md filter=x", None),
        ("*.md !text -crlf", None),
        ("*.md filter=lfs", "filter=lfs"),
        ("*.md text", "text"),
        ("* text=auto", "text=auto"),
        ('"a b.md" eol=crlf', "eol=crlf"),
        ("[attr]x working-tree-encoding=UTF-16", "working-tree-encoding=UTF-16"),
        ("*.md merge=evil", "merge=evil"),
        ("*.md ident", "ident"),
    ],
)
def test_attributes_that_change_what_a_file_holds_are_told_from_others(line: str, risky: str | None) -> None:
    assert risky_attribute(f"* -text\n{line}\n".encode()) == risky


def test_what_somebody_does_while_something_is_brought_in_is_not_undone(
    shared: tuple[Clone, Clone], mallory: Hostile, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In the moment between looking at what passes now and writing it, which nothing but the sync itself knows of.
    one, two = shared
    one.put(OTHER, memory("other\n", number=2))
    one.sync.push()
    two.sync.pull()
    mallory.put(PATH, memory(f"one {SECRET}\n"))
    mallory.put(OTHER, b"/etc/passwd", LINK)
    two.sync.pull()
    assert two.held.keys() == {PATH, OTHER}
    two.scan.allow()
    release = two.sync.release

    def removed_by_hand(ready: Released) -> PullResult | None:
        if two.there(OTHER) is not None:
            (two.root / OTHER).unlink()
            two.repo.set_quarantine(kept_edits(two.repo.quarantine, {OTHER: None}))
        return release(ready)

    monkeypatch.setattr(two.sync, "release", removed_by_hand)
    two.sync.pull()
    assert two.there(OTHER) is None
    assert two.there(PATH) == memory(f"one {SECRET}\n")
    assert [(path, item.kept) for path, item in two.held.items()] == [(OTHER, None)]
    assert two.clean()


def test_what_is_given_up_while_it_is_brought_in_does_not_come_in(
    shared: tuple[Clone, Clone], mallory: Hostile, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, two = shared
    mallory.put(PATH, memory(f"one {SECRET}\n"))
    mallory.put("notes/x.txt", SECRET)
    two.sync.pull()
    two.scan.allow()
    release = two.sync.release

    def given_up(ready: Released) -> PullResult | None:
        if PATH in two.held:
            two.sync.drop([PATH], AUTHOR)
        return release(ready)

    monkeypatch.setattr(two.sync, "release", given_up)
    two.sync.pull()
    assert two.there(PATH) == two.committed(PATH) == memory("one\ntwo\nthree\n")
    assert two.there("notes/x.txt") == SECRET
    assert two.held == {}
    assert two.clean()


def test_after_a_secret_was_given_up_it_is_told_that_the_history_has_it_until_it_is_allowed(
    shared: tuple[Clone, Clone], mallory: Hostile
) -> None:
    _, two = shared
    tip = mallory.put(PATH, memory(f"one {SECRET}\n"))
    mallory.put("notes/link.md", b"/etc/passwd", LINK)
    two.sync.pull()
    two.sync.drop([item.shown for item in two.held.values()], AUTHOR)
    assert [(item.commit, item.where) for item in two.repo.quarantine.history] == [(tip, PATH)]
    two.sync.push()
    two.put("notes/more.md", "more")
    two.start()
    two.sync.push()
    (told,) = summary(two.repo.quarantine)
    assert told.startswith("the remote's history has 1 secret that is in no file any more")
    two.scan.allow()
    two.sync.pull()
    assert two.repo.quarantine.history == ()


def test_a_secret_that_only_the_history_has_is_refused_with_a_step_that_can_be_taken(
    shared: tuple[Clone, Clone], mallory: Hostile, tmp_path: Path
) -> None:
    _, two = shared
    mallory.put(PATH, memory(f"one {SECRET}\n"))
    two.sync.pull()
    git(tmp_path, "init", "-q", "--bare", "-b", "main", "new.git")
    two.sync.set_remote(str(tmp_path / "new.git"))
    hints: list[str | None] = []
    for _ in range(2):  # in the commits and held back, then in the history only
        with pytest.raises(SyncError) as caught:
            two.sync.push()
        assert caught.value.details["kind"] == "secret_outgoing"
        assert two.status.hint == caught.value.hint
        hints.append(caught.value.hint)
        if two.held:
            two.sync.drop([PATH], AUTHOR)
    assert hints[0] == hints[1]
    assert str(hints[0]).startswith("No file here has it, only the history")
    assert str(hints[0]).index("Make it invalid") < str(hints[0]).index("allow its fingerprint (f1)")
    two.scan.allow()
    assert two.sync.push().status.state == "pushed"
    (two.root / "notes/own.md").write_text("x" + SECRET + "x", encoding="utf-8")
    git(two.root, "add", "notes/own.md")
    git(two.root, "commit", "-qm", "by hand")
    two.scan.allowed = False
    with pytest.raises(SyncError) as caught:
        two.sync.push()
    assert str(caught.value.hint).startswith("Remove it from the commits that wait")
