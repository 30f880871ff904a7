"""What the secret gate does about a file that somebody edits by hand."""

from __future__ import annotations

from typing import Any


def test_a_secret_in_an_edit_by_hand_goes_nowhere_and_the_file_stays(server: Any) -> None:
    token = "ghp_" + "a1B2c3D4e5F6g7H8i9J0" + "k1L2m3N4o5P6q7R8"
    client = server.client()
    kept = client.write("How to log in", body="ask Kim\n")
    server.settled()
    before = server.git("rev-parse", "HEAD")
    (path,) = server.files()
    text = path.read_text(encoding="utf-8").replace("ask Kim", f"the token is {token}")
    path.write_text(text, encoding="utf-8")
    server.wait_until(
        lambda: [item for item in server.json("memory", "status")["skipped"] if path.name in item["path"]],
        what="the file to be named",
    )
    status = server.settled()
    assert token not in str(status)
    assert token not in client.call("memory_search", query="token")
    assert token not in client.call("memory_search", query="log in")
    assert server.git("rev-parse", "HEAD") == before
    assert path.read_text(encoding="utf-8") == text

    path.write_text(text.replace(token, "with Kim"), encoding="utf-8")
    server.wait_until(lambda: "with Kim" in client.call("memory_read", id=kept), what="the mended file")
    server.wait_until(lambda: server.git("rev-parse", "HEAD") != before, what="its commit")
    assert not server.settled()["skipped"]
