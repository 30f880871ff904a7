"""The gateway's scanner, whose allowances change while it runs."""

from __future__ import annotations

from pathlib import Path

from adaptive_llm_gateway.core import MARK_KEY_BYTES, SecretScanner
from adaptive_llm_gateway.server._gateway_live import LiveScanner

ONE = "ghp_" + "x8Kd02LmQz71RtVb64" + "NcYw93HsPfJe5UaTgi"
OTHER = "ghp_" + "7Kq2Lm9Pz4Rt6Wv8Yb" + "1Nc3Df5Gh0Js2Ka4Qz"
KEY = bytes(range(MARK_KEY_BYTES))


def test_marks_are_the_homes_and_what_is_allowed_has_neither_mark_nor_place(tmp_path: Path) -> None:
    text = f"{ONE} and {OTHER}"
    (first, _) = SecretScanner().scan(text)
    scanner = LiveScanner(mark_key=KEY)
    assert scanner.redact(text) == SecretScanner(mark_key=KEY).redact(text)
    path = tmp_path / "secrets-allowed.yaml"
    path.write_text(f"- fingerprint: {first.fingerprint}\n  reason: a sample\n", encoding="utf-8")
    scanner.use(path)
    assert [text[span.start : span.end] for span in scanner.spans(text)] == [OTHER]
    assert scanner.redact(text)[0] == f"{ONE} and {SecretScanner(mark_key=KEY).redact(OTHER)[0]}"
