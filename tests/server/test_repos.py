"""A hub with several memory repos, through its tools and the command line: two homes, two remotes, real processes."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adaptive_llm_gateway.core import ProcessLock

WORDS = "nobody else may read this"


@pytest.fixture
def remotes(tmp_path: Path) -> tuple[Path, Path]:
    """A remote of one person's and one of the team's."""
    made = (tmp_path / "mine.git", tmp_path / "team.git")
    for path in made:
        subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(path)], check=True, timeout=60)
    return made


def configured(remotes: tuple[Path, Path], *, personal: bool = True, team: str = "") -> str:
    mine = f"  remote: {remotes[0]}\n" if personal else ""
    return (
        f"embedder: {{kind: none}}\nsync:\n  push_after_write: false\n{mine}"
        f"repos:\n  team:\n    remote: {remotes[1]}\n    projects: [acme, 'acme-*']\n{team}"
    )


@pytest.fixture
def homes(server: Any, tmp_path: Path, remotes: tuple[Path, Path]) -> Iterator[tuple[Any, Any]]:
    """Two homes of two people: each has memories of their own, and both the team's."""
    made = tuple(type(server)(tmp_path / name) for name in ("one", "two"))
    made[0].configure(configured(remotes))
    made[1].configure(configured(remotes, personal=False))
    yield made[0], made[1]
    for each in made:
        each.close()


def at(remote: Path) -> str:
    """All that a remote's objects say."""
    listed = subprocess.run(
        ["git", "-C", str(remote), "rev-list", "--objects", "--all"], capture_output=True, text=True, check=True
    ).stdout
    shown = [
        subprocess.run(["git", "-C", str(remote), "cat-file", "-p", line.split()[0]], capture_output=True, check=True)
        for line in listed.splitlines()
    ]
    return "".join(done.stdout.decode("utf-8", "replace") for done in shown)


def failed(home: Any, *words: str) -> tuple[int, dict[str, Any]]:
    done = home.alg(*words, "--json", check=False)
    return done.returncode, json.loads(done.stdout)["error"]


def looked_at(home: Any) -> dict[str, dict[str, Any]]:
    """What `alg doctor` says, by name."""
    report = json.loads(home.alg("doctor", "--json", check=False).stdout)
    return {check["name"]: check for check in report["checks"]}


def test_what_is_of_a_project_goes_to_the_team_and_nothing_else_does(
    homes: tuple[Any, Any], remotes: tuple[Path, Path]
) -> None:
    client = homes[0].client("claude-code")
    answer = client.call("memory_write", title="We use PostgreSQL", body="for all data\n", project="acme")
    assert "in the repo 'team'" in answer
    ours = homes[0].id_of(answer)
    mine = client.write("My garden", body="tomatoes, for data on soil\n")
    found = client.call("memory_search", query="data")
    assert f"id {ours}" in found
    assert "repo team" in found
    assert "repo personal" in found
    assert "in the repo 'team'" in client.call("memory_read", id=ours)
    pushed = client.call("memory_push")
    assert "personal: Pushed." in pushed
    assert "team: Pushed." in pushed
    assert "tomatoes" not in at(remotes[1])
    assert "PostgreSQL" not in at(remotes[0])

    other = homes[1].client("codex")
    assert "team: " in other.call("memory_pull")
    assert ours in other.call("memory_search", query="PostgreSQL")
    assert mine not in other.call("memory_search", query="tomatoes")
    other.call("memory_write", id=ours, tags=["db"])
    assert other.call("memory_push", project="acme-web").startswith("Pushed")
    assert "1 file changed here" in client.call("memory_pull", repo="team")
    assert "db" in client.call("memory_read", id=ours)
    assert "there is no memory repo 'nope'" in client.refused("memory_pull", repo="nope")


def test_the_command_line_lists_searches_pushes_and_tells_of_all_repos(homes: tuple[Any, Any]) -> None:
    home, _ = homes
    ours = home.json("memory", "write", "postgres", "--title", "Ours", "--project", "acme")
    mine = home.json("memory", "write", "postgres", "--title", "Mine")
    assert (ours["repo"], mine["repo"]) == ("team", "personal")
    listed = home.json("memory", "list", "--limit", "1")
    more = home.json("memory", "list", "--limit", "1", "--cursor", listed["next_cursor"])
    assert [row["repo"] for row in (*listed["memories"], *more["memories"])] == ["personal", "team"]
    assert {hit["repo"] for hit in home.json("memory", "search", "postgres")["hits"]} == {"personal", "team"}
    status = home.settled()
    assert [(repo["name"], repo["memories"], repo["trust"]) for repo in status["repos"]] == [
        ("personal", 1, "secret"),
        ("team", 1, "internal"),
    ]
    assert status["sync"]["state"] == "pending"
    home.alg("memory", "push", "--repo", "team")
    assert [repo["sync"]["state"] for repo in home.json("memory", "status")["repos"]] == ["pending", "pushed"]
    told = home.alg("memory", "status").stdout
    assert "repo personal: 1 memory" in told
    assert "sync: not yet pushed" in told
    home.alg("memory", "push")
    assert [repo["sync"]["state"] for repo in home.json("memory", "status")["repos"]] == ["pushed", "pushed"]
    assert home.json("memory", "history", ours["id"])["repo"] == "team"
    home.alg("memory", "delete", ours["id"])
    assert [row["repo"] for row in home.json("memory", "list", "--deleted")["memories"]] == ["team"]
    checks = looked_at(home)
    assert checks["repo personal"]["state"] == "ok"
    assert "1 memory" in checks["repo personal"]["message"]
    assert "remote" not in checks
    assert checks["hook team"]["state"] == "ok"
    assert [repo["name"] for repo in home.json("hub", "status")["repos"]] == ["personal", "team"]
    home.alg("hub", "stop")
    checks = looked_at(home)
    assert "reached" in checks["remote team"]["message"]


def test_doctor_names_the_repo_that_has_no_remote_and_has_nothing_to_say_of_one_that_is_well(
    homes: tuple[Any, Any],
) -> None:
    _, home = homes
    home.alg("memory", "write", "b", "--title", "Mine")
    home.alg("memory", "pull", "--repo", "team")
    checks = looked_at(home)
    assert (checks["remote personal"]["state"], checks["remote personal"]["message"]) == ("ok", "none")
    assert (checks["remote team"]["state"], checks["remote team"]["hint"]) == ("ok", None)
    assert "remote" not in checks


def test_one_failing_remote_does_not_hide_another_nor_pass_for_success(
    homes: tuple[Any, Any], remotes: tuple[Path, Path]
) -> None:
    home, _ = homes
    home.alg("memory", "write", "a", "--title", "Ours", "--project", "acme")
    home.alg("memory", "write", "b", "--title", "Mine")
    remotes[1].rename(remotes[1].with_name("gone.git"))
    code, error = failed(home, "memory", "push")
    assert code == 8
    assert "personal: Pushed." in error["message"]
    assert "team: failed" in error["message"]
    status = home.json("memory", "status")
    assert status["sync"]["state"] == "failed"
    assert [repo["sync"]["state"] for repo in status["repos"]] == ["pushed", "failed"]
    answer = home.client().call("memory_push")
    assert "team: failed" in answer
    assert "personal: Pushed." in answer


def test_when_no_remote_answers_each_repo_is_told_of_and_the_client_stays(
    homes: tuple[Any, Any], remotes: tuple[Path, Path]
) -> None:
    home, _ = homes
    client = home.client()
    client.call("memory_push")
    for remote in remotes:
        remote.rename(remote.with_name(f"gone-{remote.name}"))
    for operation in ("pull", "push", "sync"):
        code, error = failed(home, "memory", operation)
        assert (code, error["code"]) == (8, "sync")
        told = error["details"]["repos"]
        assert set(told) == {"personal", "team"}
        for name, remote in zip(("personal", "team"), remotes, strict=True):
            assert remote.name in told[name]["message"]
            assert "; " not in told[name]["message"]
            assert f"{name}: {told[name]['message']}" in error["message"]
    assert "team: " in client.refused("memory_pull")
    assert "failed: remote_missing" in client.call("memory_status")


def test_a_confidential_memory_is_refused_for_the_team_and_its_hint_helps(
    homes: tuple[Any, Any], remotes: tuple[Path, Path]
) -> None:
    client = homes[0].client("claude-code")
    told = client.refused("memory_write", title="Salaries", body=WORDS, project="acme", trust="confidential")
    assert "takes no memory above `internal`" in told
    assert "nothing was written" in told
    client.call("memory_write", title="Salaries", body=WORDS, trust="confidential")
    session = client.call("memory_append_session", text="we began", project="acme")
    named = homes[0].id_of(session)
    assert "takes no memory above" in client.refused("memory_write", id=named, trust="confidential")
    told = client.refused(
        "handoff_create", objective="Salaries", state=WORDS, project="acme", trust="confidential", next_action="x"
    )
    assert "takes no memory above" in told
    client.call("memory_push")
    assert WORDS in at(remotes[0])
    assert WORDS not in at(remotes[1])


def test_a_handoff_of_a_confidential_session_does_not_get_to_the_team(
    homes: tuple[Any, Any], remotes: tuple[Path, Path]
) -> None:
    client = homes[0].client("claude-code")
    session = homes[0].id_of(client.call("memory_append_session", text=f"Goal: {WORDS}"))
    client.call("memory_write", id=session, trust="confidential")
    told = client.refused("handoff_create", session_id=session, objective="Go on", next_action="x", project="acme")
    assert "takes no memory above `internal`" in told
    client.call("memory_push")
    assert WORDS not in at(remotes[1])


def test_a_push_that_would_carry_what_is_above_the_level_is_refused_with_the_list(
    homes: tuple[Any, Any], remotes: tuple[Path, Path]
) -> None:
    home, _ = homes
    done = home.json("memory", "write", "harmless", "--title", "Plan", "--project", "acme")
    home.settled()
    home.alg("hub", "stop")
    team = home.home / "repos" / "team"
    path = team / done["path"]
    path.write_text(
        path.read_text(encoding="utf-8").replace("trust: internal", "trust: secret") + WORDS, encoding="utf-8"
    )
    for words in (["add", "-A"], ["commit", "-qm", "By hand"]):
        subprocess.run(["git", "-C", str(team), *words], check=True, timeout=60)
    code, error = failed(home, "memory", "push", "--repo", "team")
    assert code == 8
    assert error["details"]["kind"] == "trust_outgoing"
    assert [memory["id"] for memory in error["details"]["memories"]] == [done["id"]]
    assert WORDS not in at(remotes[1])
    stands = next(repo for repo in home.json("memory", "status")["repos"] if repo["name"] == "team")
    assert (stands["sync"]["state"], stands["sync"]["kind"]) == ("failed", "trust_outgoing")
    assert "above `internal`" in looked_at(home)["remote team"]["message"]


def test_a_repo_that_is_only_read_is_pulled_and_refuses_writes(
    homes: tuple[Any, Any], remotes: tuple[Path, Path]
) -> None:
    writer, reader = homes
    written = writer.client("claude-code").write("Handbook", body="how we work\n", project="acme")
    writer.alg("memory", "push")
    reader.configure(configured(remotes, personal=False, team="    read_only: true\n"))
    client = reader.client("codex")
    assert "team: Pulled; the remote is only read." in client.call("memory_pull") or "pulled" in client.call(
        "memory_status"
    )
    assert "how we work" in client.call("memory_read", id=written)
    for tool, arguments in (
        ("memory_write", {"title": "New", "project": "acme"}),
        ("memory_write", {"id": written, "tags": ["x"]}),
        ("memory_append_session", {"text": "x", "project": "acme"}),
        ("handoff_create", {"objective": "x", "next_action": "y", "project": "acme"}),
        ("memory_delete", {"id": written}),
    ):
        assert "is only read" in client.refused(tool, **arguments)
    assert client.write("Mine")
    file = reader.home / "repos" / "team" / reader.json("memory", "read", written)["path"]
    file.write_text(file.read_text(encoding="utf-8").replace("how we work", "how I work"), encoding="utf-8")
    stands = reader.wait_until(
        lambda: next(
            (
                repo["sync"]
                for repo in reader.json("memory", "status")["repos"]
                if repo["name"] == "team" and repo["sync"]["state"] == "local"
            ),
            None,
        ),
        what="the edit by hand",
    )
    assert stands["ahead"] == 1
    assert "1 commit stays here: the remote is only read" in client.call("memory_status")
    code, error = failed(reader, "memory", "push", "--repo", "team")
    assert (code, error["details"]["kind"]) == (8, "pull_only")
    assert "how I work" not in at(remotes[1])


def test_a_repo_that_is_away_is_told_of_and_nothing_of_it_goes_elsewhere(homes: tuple[Any, Any]) -> None:
    home, _ = homes
    ours = home.json("memory", "write", "postgres", "--title", "Ours", "--project", "acme")["id"]
    home.settled()
    home.alg("hub", "stop")
    team = home.home / "repos" / "team"
    with ProcessLock(team / ".git" / "alg-store.lock"):
        client = home.client("claude-code")
        assert client.write("Mine", body="postgres")
        assert "'team' is not there" in client.refused("memory_write", title="Would be ours", project="acme")
        assert "'team'" in client.refused("memory_delete", id=ours)
        assert "'team' is not there" in client.call("memory_search", query="postgres")
        assert "repo team: not there" in client.call("memory_status")
        assert next(repo for repo in home.json("hub", "status")["repos"] if repo["name"] == "team")["error"]
        checks = {
            check["name"]: check["state"]
            for check in json.loads(home.alg("doctor", "--json", check=False).stdout)["checks"]
        }
        assert (checks["repo team"], checks["repo personal"]) == ("fail", "ok")
    home.wait_until(
        lambda: not next(repo for repo in home.json("memory", "status")["repos"] if repo["name"] == "team")["problem"],
        what="the repo that came back",
    )
    assert home.json("memory", "read", ours)["repo"] == "team"
    client.close()
    home.alg("hub", "stop")
    shutil.move(team, team.with_name("unplugged"))
    assert "not at" in home.alg("memory", "write", "x", "--project", "acme", check=False).stderr
    assert not team.exists()
    home.alg("hub", "stop")
    checks = looked_at(home)
    assert "is gone" in checks["repo team"]["message"]


def test_work_of_a_project_is_handed_over_through_the_teams_remote(
    homes: tuple[Any, Any], remotes: tuple[Path, Path]
) -> None:
    one, two = homes
    offered = one.json("handoff", "create", "Have quotes nest", "--no-directory", "--project", "acme")
    mine = one.json("handoff", "create", "Water the tomatoes", "--no-directory")
    assert (offered["repo"], mine["repo"]) == ("team", "personal")
    assert {row["repo"] for row in one.json("handoff", "list")["handoffs"]} == {"team", "personal"}
    assert [row["id"] for row in two.json("handoff", "list")["handoffs"]] == [offered["id"]]
    claimed = two.json("handoff", "claim", offered["id"])
    assert claimed["claim"]["provisional"] is False
    code, error = failed(one, "handoff", "claim", offered["id"])
    assert (code, error["code"]) == (4, "handoff_taken")
    assert one.json("handoff", "claim")["id"] == mine["id"]  # the best one that is open, of all repos
    two.json("handoff", "update", offered["id"], "quotes nest now")
    assert "quotes nest now" in one.alg("handoff", "show", offered["id"]).stdout
    two.json("handoff", "complete", offered["id"], "done")
    assert one.json("handoff", "show", offered["id"])["state"] == "done"
    assert "tomatoes" not in at(remotes[1])


def test_a_handoff_that_is_only_at_the_remote_is_found_there(homes: tuple[Any, Any]) -> None:
    one, two = homes
    two.alg("memory", "status")
    offered = one.json("handoff", "create", "Have quotes nest", "--no-directory", "--project", "acme")
    assert two.json("handoff", "claim", offered["id"])["repo"] == "team"


def test_a_new_home_fetches_its_repos_by_itself(homes: tuple[Any, Any]) -> None:
    one, two = homes
    written = one.json("memory", "write", "for all of us", "--title", "Ours", "--project", "acme")["id"]
    one.alg("memory", "push")
    two.wait_until(
        lambda: written in [row["id"] for row in two.json("memory", "list")["memories"]], what="the first fetch"
    )


def test_a_first_pull_tells_of_the_remote_it_was_about(
    homes: tuple[Any, Any], remotes: tuple[Path, Path], tmp_path: Path
) -> None:
    home, _ = homes
    home.alg("memory", "push")
    gone = tmp_path / "gone.git"
    done = home.json("init", "--yes", "--remote", str(gone))["sync"]
    assert (done["remote"], done["state"], done["kind"]) == (str(gone), "failed", "remote_missing")
    done = home.json("init", "--yes", "--remote", str(remotes[0]))["sync"]
    assert (done["remote"], done["state"]) == (str(remotes[0]), "pushed")
    before = (home.home / "config.yaml").read_text(encoding="utf-8")
    code, error = failed(home, "init", "--yes", "--remote", "ext::sh -c ls")
    assert (code, "runs a program" in error["message"]) == (2, True)
    assert (home.home / "config.yaml").read_text(encoding="utf-8") == before


def test_import_puts_each_memory_into_the_repo_of_its_project(homes: tuple[Any, Any], tmp_path: Path) -> None:
    home, _ = homes
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "a.md").write_text("# A\n\ntext\n", encoding="utf-8")
    home.alg("memory", "import", str(notes), "--project", "acme")
    assert [row["repo"] for row in home.json("memory", "list")["memories"]] == ["team"]
    home.alg("memory", "export", str(tmp_path / "out"))
    assert len(list((tmp_path / "out").rglob("*.md"))) == 1
    again = home.json("memory", "import", str(notes), "--project", "acme")
    assert not again["failed"]
    assert home.json("memory", "list")["total"] == 1


def test_with_one_repo_no_answer_speaks_of_repos(server: Any) -> None:
    server.configure("embedder: {kind: none}\n")
    done = server.json("memory", "write", "text", "--title", "One")
    answers = [
        done,
        server.json("memory", "status"),
        server.json("memory", "search", "text"),
        server.json("memory", "list"),
        server.json("memory", "read", done["id"]),
        server.json("memory", "history", done["id"]),
        server.json("hub", "status"),
        server.json("handoff", "create", "Work", "--no-directory"),
        server.json("handoff", "list"),
    ]
    for answer in answers:
        assert '"repos"' not in json.dumps(answer)
        assert '"read_only"' not in json.dumps(answer)
    assert "repo" not in done
    assert "repo" not in answers[2]["hits"][0]
    assert not (server.home / "repos").exists()
    assert not (server.home / "indexes").exists()
    assert "There is one, 'personal'" in server.alg("memory", "pull", "--repo", "team", check=False).stderr


@pytest.mark.parametrize(
    ("repos", "told"),
    [
        ("{a: {path: memory}}", "not an absolute path"),
        ("{personal: {}}", "'personal' is the repo of `memory.path`"),
        ("{'../x': {}}", "begins with a letter"),
        ("{A: {}}", "begins with a letter"),
        ("{a/b: {}}", "begins with a letter"),
        ("{a: {trust: top}}", "allowed are 'public'"),
        ("{a: {unknown: 1}}", "is not a setting"),
    ],
)
def test_a_wrong_entry_is_named_by_its_path(server: Any, repos: str, told: str) -> None:
    server.configure(f"embedder: {{kind: none}}\nrepos: {repos}\n")
    done = server.alg("memory", "status", check=False)
    assert done.returncode != 0
    assert told in done.stderr


@pytest.mark.parametrize(
    ("repos", "told"),
    [
        ("{a: {path: HOME/memory}}", "have the same path"),
        ("{a: {path: HOME/memory/inner}}", "lies within the repo 'personal'"),
        ("{a: {path: HOME/outer}, b: {path: HOME/outer/x/y}}", "lies within the repo 'a'"),
        ("{a: {path: HOME/link}}", "have the same path"),
        ("{a: {remote: 'ssh://git@example.org/t/m.git'}, b: {remote: 'git@example.org:t/m'}}", "have the same remote"),
        ("{a: {remote: HOME/r.git}, b: {remote: 'file://HOME/r.git/'}}", "have the same remote"),
    ],
)
def test_repos_that_would_share_files_or_a_remote_are_refused_before_anything_is_made(
    server: Any, repos: str, told: str
) -> None:
    server.home.mkdir()
    (server.home / "memory").mkdir()
    (server.home / "link").symlink_to(server.home / "memory")
    server.configure(f"embedder: {{kind: none}}\nrepos: {repos.replace('HOME', str(server.home))}\n")
    done = server.alg("memory", "status", check=False)
    assert done.returncode != 0
    assert told in done.stderr
    assert not list((server.home / "memory").iterdir())
    assert told in server.alg("doctor", check=False).stdout


def test_a_repo_that_nothing_is_written_to_is_told_by_doctor(server: Any) -> None:
    server.configure("embedder: {kind: none}\nrepos: {all: {projects: '*'}, late: {projects: [x]}}\n")
    told = server.alg("doctor", check=False).stdout
    assert "nothing is written to 'late', for 'all' before it has every project" in told
    assert server.json("memory", "write", "x", "--project", "x")["repo"] == "all"
    assert server.json("memory", "write", "y")["repo"] == "personal"


def test_one_secret_has_one_mark_in_all_repos_of_a_home_and_another_in_another_home(homes: tuple[Any, Any]) -> None:
    token = "ghp_" + "x8Kd02LmQz71RtVb64" + "NcYw93HsPfJe5UaTgi"
    marks: list[set[str]] = []
    for home in homes:
        made = [
            home.json("memory", "write", f"the token {token}", "--redact", *project)
            for project in ((), ("--project", "acme"))
        ]
        assert [done.get("repo") for done in made] == ["personal", "team"]
        marks.append({done["redacted"][0]["mark"] for done in made})
    assert [len(each) for each in marks] == [1, 1]
    assert marks[0] != marks[1]
