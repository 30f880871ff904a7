"""The words of servers that cannot run here, and of programs that differ by version, told apart.

Most are from where it says: a server's source or documentation, or what people have reported of it; the others are
variants of these.
"""

from __future__ import annotations

import pytest

from adaptive_llm_gateway.memory._git import GitFailed
from adaptive_llm_gateway.memory._sync_errors import cause, clean_words, from_git

REJECTED = "! refs/heads/main:refs/heads/main\t[remote rejected] "
DECLINED = f"{REJECTED}(pre-receive hook declined)"
OVER_SSH = "fatal: Could not read from remote repository.\n\nPlease make sure you have the correct access rights"


def over_http(status: int, words: str = "") -> str:
    return f"{words}\nfatal: unable to access 'https://host/a/b.git/': The requested URL returned error: {status}"


def in_a_frame(words: str) -> str:
    """As GitLab tells it over ssh."""
    return f"remote: \nremote: {'=' * 72}\nremote: \nremote: {words}\nremote: \nremote: {'=' * 72}\n{OVER_SSH}"


GITHUB = [
    # reported in SageMathOER-CCC/sage-discrete-math#84 and many others
    (
        "remote: error: GH006: Protected branch update failed for refs/heads/main.        \n"
        "remote: error: Changes must be made through a pull request.        \n"
        f"{REJECTED}(protected branch hook declined)",
        "protected_branch",
    ),
    # reported in henne49/dbus-opendtu#235
    (
        "remote: error: GH013: Repository rule violations found for refs/heads/main.\n"
        f"{REJECTED}(push declined due to repository rule violations)",
        "protected_branch",
    ),
    # reported in palxiao/poster-design#140
    (
        "remote: error: GH013: Repository rule violations found for refs/heads/main.\n"
        "remote: - GITHUB PUSH PROTECTION\nremote:     - Push cannot contain secrets\n"
        f"{REJECTED}(push declined due to repository rule violations)",
        "hook_rejected",
    ),
    # desktop/dugite, lib/errors.ts; docs.github.com, "Blocking command line pushes that expose your personal email"
    (
        "remote: error: GH007: Your push would publish a private email address.\n"
        f"{REJECTED}(push declined due to email privacy restrictions)",
        "identity_rejected",
    ),
    # reported in git-lfs/git-lfs#6330
    (
        "remote: error: File a.zip is 301.74 MB; this exceeds GitHub's file size limit of 100.00 MB\n"
        f"remote: error: GH001: Large files detected.\n{DECLINED}",
        "too_large",
    ),
    # docs.github.com, "Cloning error messages"
    ("remote: Repository not found.\nfatal: repository 'https://github.com/a/b.git/' not found", "remote_missing"),
    (f"ERROR: Repository not found.\n{OVER_SSH}", "remote_missing"),
    # docs.github.com, "Error: Permission to user/repo denied to other-user"
    (f"ERROR: Permission to a/b.git denied to c.\n{OVER_SSH}", "access_denied"),
    (over_http(403, "remote: Permission to a/b.git denied to c."), "access_denied"),
    # docs.github.com, "Error: The key is marked as read only" of deploy keys
    (f"ERROR: The key you are authenticating with has been marked as read only.\n{OVER_SSH}", "access_denied"),
    # reported of apps and fine-grained tokens
    (over_http(403, "remote: Write access to repository not granted."), "access_denied"),
    # reported in nextcloud/docker-ci#859
    (f"ERROR: This repository was archived so it is read-only.\n{OVER_SSH}", "remote_read_only"),
    (over_http(403, "remote: This repository was archived so it is read-only."), "remote_read_only"),
    (
        "remote: Support for password authentication was removed on August 13, 2021.\n"
        "fatal: Authentication failed for 'https://github.com/a/b.git/'",
        "auth",
    ),
    # reported in NOAA-FIMS/FIMS#598 and desktop/desktop#9055
    (
        over_http(403, "remote: The 'o' organization has enabled or enforced SAML SSO. To access this repository"),
        "auth",
    ),
    # reported in JGCRI/gcamdata#489: what is only a warning is no reason
    (
        "remote: warning: GH001: Large files detected. You may want to try Git Large File Storage.\n"
        "remote: warning: File a.csv is 57.81 MB; this is larger than GitHub's recommended maximum file size\n"
        "remote: error: GH006: Protected branch update failed for refs/heads/main.\n"
        f"{REJECTED}(protected branch hook declined)",
        "protected_branch",
    ),
    # reported in vercel/sandbox#169
    (
        "remote: error: GH013: Repository rule violations found for refs/heads/main.\n"
        "remote: - Commits must have verified signatures.\nremote:   Found 1 violation:\n"
        f"{REJECTED}(push declined due to repository rule violations)",
        "protected_branch",
    ),
    # reported in desktop/desktop#16398, microsoft/vscode#182679: GitHub is down
    (f"remote: fatal error in commit_refs\n{REJECTED}(failure)", "server_error"),
    # reported in gitextensions/gitextensions#3339 and github/site-policy#1258
    (
        f"ERROR: Your account is suspended. Please check with your installation administrator.\n{OVER_SSH}",
        "access_denied",
    ),
    (
        over_http(
            403, "remote: Your account is suspended. Please visit https://support.github.com for more information."
        ),
        "access_denied",
    ),
    # reported by many, e.g. probcomp/InverseGraphics
    (
        "ERROR: You're using an RSA key with SHA-1, which is no longer allowed. Please use a newer client or a "
        f"different key type.\n{OVER_SSH}",
        "auth",
    ),
    # reported of organizations whose repositories are open to some addresses only
    (
        over_http(
            403,
            "remote: The repository owner has an IP allow list enabled, and 192.0.2.1 is not permitted to "
            "access this repository.",
        ),
        "access_denied",
    ),
    (
        f"ERROR: The repository owner has an IP allow list enabled, and 192.0.2.1 is not permitted\n{OVER_SSH}",
        "access_denied",
    ),
    # reported in ROCm/TheRock#6431
    (
        over_http(
            429, "remote: This request was rate-limited due to too many requests. Reduce the frequency of your requests"
        ),
        "rate_limited",
    ),
    # what git says where nobody may be asked for the name: also of a repository that is not there
    ("fatal: could not read Username for 'https://github.com': terminal prompts disabled", "auth"),
]

GITLAB = [
    # gitlabhq, lib/gitlab/checks/branch_check.rb, as reported in gitlabhq/gitlabhq#10405
    (
        f"remote: GitLab: You are not allowed to push code to protected branches on this project.\n{DECLINED}",
        "protected_branch",
    ),
    (
        f"remote: GitLab: You are not allowed to force push code to a protected branch on this project.\n{DECLINED}",
        "protected_branch",
    ),
    # gitlabhq, lib/gitlab/git_access.rb
    (over_http(403, "remote: You are not allowed to push code to this project."), "access_denied"),
    (
        "remote: ERROR: The project you were looking for could not be found or you don't have permission to view it.\n"
        + OVER_SSH,
        "remote_missing",
    ),
    ("remote: HTTP Basic: Access denied.\nfatal: Authentication failed for 'https://gitlab.com/a/b.git/'", "auth"),
    # docs.gitlab.com, "Push rules"; the last of them reported in semantic-release/semantic-release#2383
    (f"remote: GitLab: Committer's email 'a@b' does not follow the pattern '@c$'\n{DECLINED}", "identity_rejected"),
    (f"remote: GitLab: Author 'a@b' is not a member of team\n{DECLINED}", "identity_rejected"),
    (
        "remote: GitLab: You cannot push commits for 'a@b'. You can only push commits that were committed with one "
        f"of your own verified emails.\n{DECLINED}",
        "identity_rejected",
    ),
    (f"remote: GitLab: Commit message does not follow the pattern 'X-\\d+'\n{DECLINED}", "hook_rejected"),
    (over_http(403, "remote: You can't push code to a read-only GitLab instance."), "remote_read_only"),
    # gitlabhq, lib/gitlab/git_access.rb; in a frame over ssh, as reported in desktop/desktop#13668
    (in_a_frame("ERROR: The repository is temporarily read-only. Please try again later."), "remote_read_only"),
    (in_a_frame("ERROR: You can't push code to an archived project."), "remote_read_only"),
    (in_a_frame("This deploy key does not have write access to this project."), "access_denied"),
    (in_a_frame("ERROR: You are not allowed to download code from this project."), "access_denied"),
    (over_http(403, "remote: Pushing over HTTP is not allowed."), "access_denied"),
    (in_a_frame("ERROR: Git access over SSH is not allowed"), "access_denied"),
    (in_a_frame("ERROR: Your SSH key has expired."), "auth"),
    (in_a_frame("Cannot find valid SSO session. Please login via your group's SSO at https://host/saml/sso"), "auth"),
    (in_a_frame("ERROR: This endpoint has been requested too many times. Try again later."), "rate_limited"),
    (in_a_frame("ERROR: Internal server error"), "server_error"),
    (in_a_frame("ERROR: Something that is new"), "access_denied"),
    # what is only told beside: gitlabhq, lib/gitlab/auth/key_status_checker.rb
    (f"remote: INFO: Your SSH key is expiring soon. Please generate a new key.\n{OVER_SSH}", "unreachable"),
    # reported in DumprX/DumprX#25
    (
        "remote: GitLab: You are attempting to check in one or more blobs which exceed the 100.0MiB limit:\n"
        f"remote: - 733315aecd6ac3eaf5dce93eed8e20dd4df9edc8 (105.13 MiB)\n{DECLINED}",
        "too_large",
    ),
    # gitlabhq, lib/gitlab/repository_size_error_message.rb
    (
        "remote: GitLab: Your push has been rejected, because this repository has exceeded its size limit of 10 GB by "
        f"45 MB. Please contact your GitLab administrator for more information.\n{DECLINED}",
        "remote_full",
    ),
    (
        "remote: GitLab: Your push to this repository would cause it to exceed the size limit of 10 GB so it has been "
        f"rejected.\n{DECLINED}",
        "remote_full",
    ),
]

OTHERS = [
    # go-gitea/gitea, routers/private/hook_pre_receive.go
    (f"remote: Gitea: Not allowed to push to protected branch main\n{DECLINED}", "protected_branch"),
    # go-gitea/gitea#31525
    (f"remote: Gitea: User permission denied for writing.\n{DECLINED}", "access_denied"),
    # go-gitea/gitea, cmd/serv.go
    (f"Gitea: Cannot find repository: a/b\n{OVER_SSH}", "remote_missing"),
    # go-gitea/gitea, routers/web/repo/githttp.go and routers/private/serv.go; reported in go-gitea/gitea#7111, #19489
    (
        over_http(403, "remote: This repo is archived. You can view files and clone it, but cannot push"),
        "remote_read_only",
    ),
    (over_http(403, "remote: mirror repository is read-only"), "remote_read_only"),
    (f"Gitea: Repo: a/b is archived.\n{OVER_SSH}", "remote_read_only"),
    (f"Gitea: Mirror Repository a/b is read-only\n{OVER_SSH}", "remote_read_only"),
    (f"Gitea: Unauthorized\n{OVER_SSH}", "access_denied"),
    (f"Gitea: User: 2:c with Key: 6:c@d is not authorized to write to a/b.\n{OVER_SSH}", "access_denied"),
    (f"Gitea: Internal Server Error\n{OVER_SSH}", "server_error"),
    (over_http(403, "remote: Push to create is not enabled for users."), "access_denied"),
    # gitolite, t/ and src/; reported by many
    (f"FATAL: W any a c DENIED by fallthru\n(or you mis-spelled the reponame)\n{OVER_SSH}", "access_denied"),
    # markruler.github.io and others, of Bitbucket Server
    (
        "remote: Branch refs/heads/main can only be modified through pull requests.\n"
        f"remote: Check your branch permissions configuration with the project administrator.\n{DECLINED}",
        "protected_branch",
    ),
    # support.atlassian.com, Bitbucket Cloud
    (
        "remote: [ALERT] Your push failed because the account 'a' has exceeded its user limit and this repository is "
        f"restricted to read-only access.\n{DECLINED}",
        "remote_read_only",
    ),
    (over_http(403, "remote: To access this repository, an admin must whitelist your IP."), "access_denied"),
    # reported in go-gitea/gitea#19285, isomorphic-git/isomorphic-git#2364
    (over_http(410, "remote: App passwords are deprecated and must be replaced with API tokens."), "auth"),
    (over_http(410), "remote_missing"),
    # community.atlassian.com, Bitbucket Cloud
    (f"remote: Permission denied to update branch main.\n{DECLINED}", "protected_branch"),
    (f"conq: repository does not exist.\n{OVER_SSH}", "remote_missing"),
    # reported in mathieudutour/git-sketch-plugin#146
    (f"remote: repository is in read only mode (over 2 GB size limit).\n{DECLINED}", "remote_full"),
    # learn.microsoft.com, Azure DevOps; reported in microsoft/vsts-wikiTools#7
    (
        "remote: TF402455: Pushes to this branch are not permitted; you must use a pull request to update this "
        f"branch.\n{DECLINED}",
        "protected_branch",
    ),
    (
        "remote: TF401027: You need the Git 'GenericContribute' permission to perform this action.\n" + over_http(403),
        "access_denied",
    ),
    (
        "error: remote unpack failed: error The object will increase this repository size by 7772458 bytes (the "
        f"limit is 4194304 bytes).\n{REJECTED}(unpacker error)",
        "remote_full",
    ),
    # reported in libgit2/libgit2sharp#2105, dotnet/arcade#2264
    (
        "error: remote unpack failed: error VS403654: The push was rejected because it contains secrets.\n"
        f"{REJECTED}(VS403654: The push was rejected because it contains secrets.)",
        "hook_rejected",
    ),
    # reported in microsoft/devops-project-samples#202
    (
        f"{REJECTED}(VS403702: The push was rejected because one or more commits contain author email 'a@b' which does "
        "not match the policy-specified patterns.)",
        "identity_rejected",
    ),
    # reported in python-semantic-release/python-semantic-release#948
    (
        "remote: TF401019: The Git repository with name or identifier a.git does not exist or you do not have "
        "permissions for the operation you are attempting.\n"
        "fatal: repository 'https://dev.azure.com/o/p/_git/a/' not found",
        "remote_missing",
    ),
    # learn.microsoft.com, Azure DevOps
    (
        "remote: Authentication failed: your SSH key has expired. To restore access, visit https://aka.ms/x\n"
        f"remote: Public key authentication failed.\n{OVER_SSH}",
        "auth",
    ),
    # mohamicorp/yet-another-commit-checker#134, gitblit-org/gitblit#1395
    (
        f"remote: refs/heads/main: 1234567: expected committer email 'a@b' but found 'c@d'\n{DECLINED}",
        "identity_rejected",
    ),
    (
        f"{REJECTED}(Sorry, the account a does not have an email address set for committer verification!)",
        "identity_rejected",
    ),
    # gerrit.googlesource.com, Documentation/error-prohibited-by-gerrit.txt and error-not-registered-in-account.txt
    (f"{REJECTED}(prohibited by Gerrit: not permitted: update)", "protected_branch"),
    (
        "remote: ERROR: commit 1234567: email address a@b is not registered in your account, and you lack 'forge "
        f"committer' permission.\n{REJECTED}(invalid committer)",
        "identity_rejected",
    ),
    # reported in OpenNeuroOrg/openneuro#3509 and nfs-ganesha/nfs-ganesha#1293
    (
        "remote: fatal: write error: No space left on device\nerror: remote unpack failed: index-pack abnormal exit\n"
        f"{REJECTED}(unpacker error)",
        "remote_full",
    ),
    (
        f"error: remote unpack failed: error No space left on device\n{REJECTED}(n/a (unpacker error))",
        "remote_full",
    ),
    # reported in gitbucket/gitbucket#2515
    (
        "error: remote unpack failed: error Object too large (2,577,619,487 bytes), rejecting the pack.\n"
        f"{REJECTED}(unpacker error)",
        "too_large",
    ),
    # nodester/nodester#94
    (
        "remote: error: insufficient permission for adding an object to repository database ./objects\n"
        f"{REJECTED}(unpacker error)",
        "remote_read_only",
    ),
]

GIT_AND_CURL = [
    # git 2.30 to 2.47: transport.c, builtin/push.c
    ("! refs/heads/main:refs/heads/main\t[rejected] (fetch first)", "non_fast_forward"),
    ("! refs/heads/main:refs/heads/main\t[rejected] (non-fast-forward)", "non_fast_forward"),
    (f"{REJECTED}(failed to update ref)", "ref_race"),
    ("error: cannot lock ref 'refs/heads/main': is at 1234abc but expected 5678def", "ref_race"),
    ("error: cannot lock ref 'refs/remotes/origin/main': Unable to create '/x/main.lock': File exists.", "ref_locked"),
    ("fatal: write error: No space left on device\nfatal: fetch-pack: invalid index-pack output", "disk_full"),
    ("fatal: unable to write new_index file: Disk quota exceeded", "disk_full"),
    ("fatal: detected dubious ownership in repository at '/x'", "ownership"),
    ("fatal: transport 'ext' not allowed", "transport_refused"),
    ("fatal: couldn't find remote ref refs/heads/main", "missing_branch"),
    ("fatal: unable to update url base from redirection:\n  asked for: https://a\n   redirect: https://b",
     "remote_moved"),
    ("fatal: https://host/a/info/refs not valid: is this a git repository?", "remote_missing"),
    # libcurl with OpenSSL, GnuTLS, Secure Transport, Schannel
    ("fatal: unable to access 'https://h/': SSL certificate problem: certificate has expired", "certificate"),
    ("fatal: unable to access 'https://h/': SSL certificate problem: self-signed certificate", "certificate"),
    ("fatal: unable to access 'https://h/': server certificate verification failed. CAfile: none", "certificate"),
    ("fatal: unable to access 'https://h/': gnutls_handshake() failed: Handshake failed", "certificate"),
    ("fatal: unable to access 'https://h/': OpenSSL SSL_read: Connection was reset, errno 10054", "unreachable"),
    ("fatal: unable to access 'https://h/': GnuTLS recv error (-110): The TLS connection was non-properly terminated",
     "unreachable"),
    ("fatal: unable to access 'https://h/': Could not resolve host: h", "unreachable"),
    ("fatal: unable to access 'https://h/': Failed to connect to h port 443: Host is down", "unreachable"),
    ("fatal: unable to access 'https://h/': Could not resolve proxy: p", "proxy"),
    ("fatal: unable to access 'https://h/': CONNECT tunnel failed, response 407", "proxy"),
    ("fatal: unable to access 'https://h/': Received HTTP code 502 from proxy after CONNECT", "proxy"),
    ("error: RPC failed; HTTP 413 curl 22 The requested URL returned error: 413", "too_large"),
    ("error: RPC failed; HTTP 500 curl 22 The requested URL returned error: 500", "server_error"),
    ("error: RPC failed; curl 18 transfer closed with outstanding read data remaining\nfatal: early EOF",
     "unreachable"),
    (over_http(429), "rate_limited"),
    (over_http(403), "access_denied"),
    (over_http(401), "auth"),
    (over_http(404), "remote_missing"),
    (over_http(503), "server_error"),
    # OpenSSH
    (f"ssh: Could not resolve hostname h: Name or service not known\n{OVER_SSH}", "unreachable"),
    (f"ssh: connect to host h port 22: Network is unreachable\n{OVER_SSH}", "unreachable"),
    (f"@@@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @@@\n{OVER_SSH}", "host_key"),
    # a hook that names files of ours, whatever they are called
    (f"remote: notes/2026/11/rate-limit-of-the-api-7k2m9x4q.md: no front matter\n{DECLINED}", "hook_rejected"),
    (f"remote: notes/access-denied-9d3kq1vz.md: a tag which is no longer allowed\n{DECLINED}", "hook_rejected"),
    ("something new", "other"),
    ("", "other"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "kind"), [*GITHUB, *GITLAB, *OTHERS, *GIT_AND_CURL])
def test_what_servers_and_git_say_is_told_apart(words: str, kind: str) -> None:
    assert cause(words) == kind


def test_the_telling_words_come_first_and_what_is_only_noise_not_at_all() -> None:
    said = (
        "To https://host/a/b.git\n"
        "Enumerating objects: 5, done.\n"
        "remote: Resolving deltas: 100% (1/1)\r\n"
        "remote: \n"
        "remote: =====================\n"
        "remote:   \u2014\u2014\u2014\u2014\n"
        "remote: no \x1b[31mFridays\x1b[0m\u202e\u200b        \n"
        "! refs/heads/main\t[remote rejected] (pre-receive hook declined)\n"
        "error: failed to push some refs to 'https://host/a/b.git'\n"
        "hint: Updates were rejected\n"
    )
    assert clean_words(said) == ("remote: no Fridays\n! refs/heads/main\t[remote rejected] (pre-receive hook declined)")


@pytest.mark.parametrize(
    ("said", "first"),
    [
        # reported in git-lfs/git-lfs#6330
        (
            "remote: Resolving deltas: 100% (22/22), completed with 13 local objects.\n"
            "remote: error: Trace: 654c8d72f32f9965c4734092a2fb75d32fe2a39f6d10881c1465db48addc3ea4\n"
            "remote: error: See https://gh.io/lfs for more information.\n"
            "remote: error: File a.zip is 301.74 MB; this exceeds GitHub's file size limit of 100.00 MB\n"
            f"remote: error: GH001: Large files detected.\n{DECLINED}",
            "remote: error: File a.zip is 301.74 MB; this exceeds GitHub's file size limit of 100.00 MB",
        ),
        # reported in JGCRI/gcamdata#489
        (
            "remote: warning: GH001: Large files detected.\n"
            "remote: error: GH006: Protected branch update failed for refs/heads/main.\n"
            f"{REJECTED}(protected branch hook declined)",
            "remote: error: GH006: Protected branch update failed for refs/heads/main.",
        ),
        # reported in libgit2/libgit2sharp#2105
        (
            "remote: Analyzing objects... (3/3) (27 ms)\nremote: Validating commits... (1/1) done (0 ms)\n"
            "remote: Checking for credentials and other secrets...  done (59 ms)\n"
            "error: remote unpack failed: error VS403654: The push was rejected because it contains secrets.\n"
            f"{REJECTED}(VS403654: The push was rejected because it contains secrets.)",
            "error: remote unpack failed: error VS403654: The push was rejected because it contains secrets.",
        ),
        (in_a_frame("ERROR: Your SSH key has expired."), "remote: ERROR: Your SSH key has expired."),
    ],
)
def test_what_a_host_says_beside_the_reason_does_not_come_first(said: str, first: str) -> None:
    assert clean_words(said).splitlines()[0] == first


def test_words_that_are_only_noise_are_better_than_none() -> None:
    assert clean_words("hint: look\n\n") == "hint: look"
    assert clean_words("") == ""


def test_words_are_bounded_by_lines_and_by_length() -> None:
    assert len(clean_words("\n".join(f"line {number}" for number in range(1000))).splitlines()) == 20
    assert len(clean_words("x" * 100_000)) == 2_000


def test_what_happened_is_said_where_gits_words_do_not_say_it_plainly() -> None:
    error = GitFailed("git fetch failed", git="fatal: unable to access 'https://h/': Could not resolve host: h")
    told = from_git(error, operation="fetching from", remote="https://h/")
    assert told.message == "fetching from 'https://h/' failed (unreachable): the name of its host cannot be resolved"
    assert told.details["git"] == "fatal: unable to access 'https://h/': Could not resolve host: h"


def test_of_what_ssh_and_git_say_the_telling_line_comes_first() -> None:
    for telling in ("git@host: Permission denied (publickey).", "Host key verification failed."):
        error = from_git(GitFailed("git fetch failed", git=f"{telling}\n{OVER_SSH}"), operation="asking", remote="h")
        assert error.message.endswith(f"): {telling}")
        assert clean_words(f"{telling}\n{OVER_SSH}").splitlines()[0] == telling
    assert clean_words(OVER_SSH) == "fatal: Could not read from remote repository."


def test_what_git_says_below_a_colon_is_one_line() -> None:
    moved = "fatal: unable to update url base from redirection:\n  asked for: https://a\n   redirect: https://b\n"
    assert clean_words(moved + "error: later") == (
        "fatal: unable to update url base from redirection: asked for: https://a redirect: https://b\nerror: later"
    )
    daemon = "fatal: unable to connect to h:\nh[0: 192.0.2.1]: errno=Connection refused"
    assert clean_words(daemon).endswith("connect to h: h[0: 192.0.2.1]: errno=Connection refused")


def test_where_a_refused_push_was_to_go_is_told_without_the_commit() -> None:
    refused = "!\tc34f6b42102df4b215085b1fe04a377b8eb94fe9:refs/heads/main\t[remote rejected] (deny updating)"
    assert clean_words(refused) == "! refs/heads/main [remote rejected] (deny updating)"


def test_a_message_has_no_more_than_a_few_lines_of_what_git_says() -> None:
    error = from_git(GitFailed("git push failed", git="remote: " + "no " * 600), operation="pushing to", remote="h")
    assert len(error.message) < 400
    assert error.message.endswith(" ...")
    assert len(str(error.details["git"])) > 1_000
