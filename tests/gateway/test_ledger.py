"""The consent ledger: what holds, what was taken back, and what happens to it in a crash and under somebody's hands."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from adaptive_llm_gateway.core import FormatTooNew, InvalidInput, NotFound, SecretRefused, SecretScanner, Trust
from adaptive_llm_gateway.gateway._canonical import canonical, digest
from adaptive_llm_gateway.gateway._chain import ChainBroken
from adaptive_llm_gateway.gateway._ledger import Consent, ConsentLedger

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
POINTS = ("append.part_written", "append.written", "append.synced", "append.acknowledged")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gateway" / "consents.jsonl"


@pytest.fixture
def ledger(path: Path) -> ConsentLedger:
    return again(path)


def again(path: Path) -> ConsentLedger:
    """The ledger as another process finds it."""
    return ConsentLedger(path, scanner=SecretScanner())


def grant(ledger: ConsentLedger, provider: str = "openai", **more: object) -> Consent:
    return ledger.grant(provider=provider, level=Trust.INTERNAL, now=NOW, by="Ada", **more)  # type: ignore[arg-type]


def test_what_is_granted_holds_until_it_expires_or_is_revoked(ledger: ConsentLedger, path: Path) -> None:
    forever, short = grant(ledger), grant(ledger, "groq", expires=NOW + HOUR, reason="a trial")
    assert ledger.consents(NOW) == again(path).consents(NOW) == (forever, short)
    assert ledger.consents(NOW + HOUR) == (forever,)
    ledger.revoke(forever.id, now=NOW, by="Ada", reason="over")
    assert ledger.consents(NOW) == again(path).consents(NOW) == (short,)
    assert [record.state(NOW + HOUR) for record in ledger.records()] == ["revoked", "expired"]


def test_revoking_appends_and_leaves_every_line_as_it_was(ledger: ConsentLedger, path: Path) -> None:
    consent = grant(ledger)
    before = path.read_bytes()
    ledger.revoke(consent.id, now=NOW, by="Ada")
    assert path.read_bytes().startswith(before)
    assert path.read_bytes().count(b"\n") == 2


def test_each_line_has_the_hash_of_the_one_before_over_its_canonical_json(ledger: ConsentLedger, path: Path) -> None:
    for name in ("a", "b", "c"):
        grant(ledger, name)
    previous = "0" * 64
    for line in path.read_bytes().splitlines():
        value = json.loads(line)
        assert canonical(value) == line
        said = value.pop("hash")
        assert value["previous"] == previous
        assert digest(value) == said
        previous = said
    check = ledger.verify()
    assert (check.entries, check.last, check.broken, check.torn) == (3, previous, None, 0)


@pytest.mark.parametrize(
    ("asked", "covered"),
    [
        ({}, True),
        ({"level": Trust.PUBLIC}, True),
        ({"level": Trust.CONFIDENTIAL}, False),
        ({"provider": "groq"}, False),
        ({"purpose": "summarise"}, False),
        ({"project": "other"}, False),
        ({"project": None}, False),
    ],
)
def test_a_consent_covers_its_scope_and_nothing_else(
    ledger: ConsentLedger, asked: dict[str, object], covered: bool
) -> None:
    consent = grant(ledger, purpose="chat", project="atlas")
    scope: dict[str, object] = {"provider": "openai", "level": Trust.INTERNAL, "purpose": "chat", "project": "atlas"}
    assert consent.covers(**{**scope, **asked}) is covered  # type: ignore[arg-type]
    assert grant(ledger).covers(provider="openai", level=Trust.INTERNAL, purpose="any", project="any")


def tampered(data: bytes) -> dict[str, tuple[bytes, int]]:
    """What somebody may do to five lines, and the line that must be named."""
    lines = data.splitlines(keepends=True)
    forged = json.loads(lines[4])
    forged.pop("hash")
    forged["provider"] = "evil"
    forged = canonical({**forged, "hash": digest(forged)}) + b"\n"
    return {
        "a byte": (data.replace(b'"provider":"p2"', b'"provider":"px"'), 3),
        "a level": (data.replace(b'"internal"', b'"public"', 1), 1),
        "spaces": (data.replace(b'"provider":"p1"', b'"provider": "p1"'), 2),
        "removed inside": (b"".join(lines[:1] + lines[2:]), 2),
        "removed first": (b"".join(lines[1:]), 1),
        "swapped": (b"".join([lines[0], lines[2], lines[1], *lines[3:]]), 2),
        "doubled": (b"".join([*lines[:2], lines[1], *lines[2:]]), 3),
        "cut at the end": (b"".join(lines[:4]), 5),
        "cut within the last": (data[:-10], 5),
        "all gone": (b"", 1),
        "forged with a right hash": (b"".join([*lines[:4], forged]), 5),
        "an empty line": (b"".join([*lines[:2], b"\n", *lines[2:]]), 3),
        "not UTF-8": (b"\xff" + data, 1),
    }


@pytest.mark.parametrize("how", sorted(tampered(b'{"hash":"","provider":""}\n' * 5)))
def test_tampering_is_reported_with_its_line_and_blocks_every_consent(
    ledger: ConsentLedger, path: Path, how: str
) -> None:
    for number in range(5):
        grant(ledger, f"p{number}")
    data, line = tampered(path.read_bytes())[how]
    path.write_bytes(data)
    for seen in (ledger, again(path)):
        broken = seen.verify().broken
        assert broken is not None
        assert broken.line == line
        with pytest.raises(ChainBroken, match=f"line {line} of") as caught:
            seen.consents(NOW)
        assert caught.value.details["line"] == line
        assert caught.value.hint
        with pytest.raises(ChainBroken):
            grant(seen, "more")
    assert path.read_bytes() == data


def test_a_ledger_that_was_deleted_or_lost_its_head_is_broken_and_not_a_new_one(
    ledger: ConsentLedger, path: Path
) -> None:
    for name in ("a", "b"):
        grant(ledger, name)
    head = path.with_name(f"{path.name}.head")
    kept = head.read_bytes()
    head.unlink()
    assert again(path).verify().broken is not None
    head.write_bytes(b"{}")
    assert again(path).verify().broken is not None
    head.write_bytes(kept)
    assert again(path).verify().broken is None
    path.unlink()
    with pytest.raises(ChainBroken, match="2 entries were acknowledged, 0 are there"):
        again(path).consents(NOW)


def test_a_broken_ledger_can_be_set_aside_and_a_sound_one_cannot(ledger: ConsentLedger, path: Path) -> None:
    grant(ledger)
    with pytest.raises(InvalidInput, match="holds"):
        ledger.set_aside(NOW)
    data = path.read_bytes().replace(b"openai", b"openia")
    path.write_bytes(data)
    aside = ledger.set_aside(NOW)
    assert aside.read_bytes() == data
    assert ledger.consents(NOW) == ()
    assert ledger.consents(NOW) == again(path).consents(NOW)
    assert [grant(ledger, "new")] == list(again(path).consents(NOW))


def test_an_entry_of_a_newer_version_is_left_alone(ledger: ConsentLedger, path: Path) -> None:
    grant(ledger)
    data = path.read_bytes().replace(b'"v":1', b'"v":2')
    path.write_bytes(data)
    with pytest.raises(FormatTooNew):
        again(path).consents(NOW)
    assert path.read_bytes() == data


def test_a_chain_of_right_hashes_with_something_else_in_it_gives_no_consent(path: Path) -> None:
    from adaptive_llm_gateway.gateway._chain import Chain

    Chain(path, keeps_head=True).append({"kind": "grant", "id": "x"})
    with pytest.raises(ChainBroken, match="line 1"):
        again(path).consents(NOW)
    broken = again(path).verify().broken
    assert broken is not None
    assert broken.line == 1


KEY = "sk-proj-" + "CI5CFKlFNXfsfYQc87OMjaGd" + "lpbCB0GNEPCr990RtoreVy0x"


@pytest.mark.parametrize("field", ["provider", "by", "purpose", "project", "reason"])
def test_a_credential_is_refused_in_every_field_and_nothing_is_written(
    ledger: ConsentLedger, path: Path, field: str
) -> None:
    fields: dict[str, object] = {"provider": "openai", "by": "Ada", field: f"key {KEY}"}
    with pytest.raises(SecretRefused) as caught:
        ledger.grant(level=Trust.PUBLIC, now=NOW, **fields)  # type: ignore[arg-type]
    assert KEY not in str(caught.value.as_dict())
    assert not path.exists()


def test_what_makes_no_sense_is_refused(ledger: ConsentLedger) -> None:
    consent = grant(ledger)
    with pytest.raises(InvalidInput, match="has passed"):
        grant(ledger, expires=NOW)
    with pytest.raises(InvalidInput, match="time zone"):
        grant(ledger, expires=datetime(2027, 1, 1))  # noqa: DTZ001 - that is the point
    with pytest.raises(InvalidInput, match="provider is empty"):
        grant(ledger, " ")
    with pytest.raises(InvalidInput, match="do not show"):
        grant(ledger, "open\nai")
    with pytest.raises(InvalidInput, match="characters"):
        grant(ledger, "x" * 201)
    with pytest.raises(NotFound):
        ledger.revoke("01M80H07WZ27YYF6WCAJP97E2R", now=NOW, by="Ada")
    ledger.revoke(consent.id, now=NOW, by="Ada")
    with pytest.raises(InvalidInput, match="was revoked"):
        ledger.revoke(consent.id, now=NOW, by="Ada")
    assert ledger.verify().entries == 2


def test_only_its_owner_may_read_it(ledger: ConsentLedger, path: Path) -> None:
    grant(ledger)
    assert {file.stat().st_mode & 0o077 for file in path.parent.iterdir()} == {0}
    assert path.parent.stat().st_mode & 0o077 == 0


def test_a_symbolic_link_in_its_place_is_not_followed(ledger: ConsentLedger, path: Path, tmp_path: Path) -> None:
    from adaptive_llm_gateway.core import StorageError

    path.parent.mkdir(parents=True)
    other = tmp_path / "other"
    other.write_text("mine\n", encoding="utf-8")
    path.symlink_to(other)
    with pytest.raises(StorageError):
        grant(ledger)
    assert other.read_text(encoding="utf-8") == "mine\n"


# --- Crashes and other processes ------------------------------------------------------------------------------------

_GRANTER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from adaptive_llm_gateway.core import SecretScanner, Trust
from adaptive_llm_gateway.gateway._ledger import ConsentLedger
ledger = ConsentLedger(Path(sys.argv[1]), scanner=SecretScanner())
for number in range(int(sys.argv[3])):
    consent = ledger.grant(provider=f"{sys.argv[2]}-{number}", level=Trust.INTERNAL, now=datetime.now(UTC), by="Ada")
    print(consent.id, flush=True)
"""


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("which", [1, 2, 3])
def test_killed_at_any_step_it_loses_nothing_acknowledged_and_goes_on(path: Path, point: str, which: int) -> None:
    died = subprocess.run(
        [sys.executable, "-c", _GRANTER, str(path), "one", "5"],
        env={**os.environ, "ALG_FAULT": f"{point}:{which}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert died.returncode == -signal.SIGKILL, died.stderr
    acknowledged = died.stdout.split()
    assert len(acknowledged) == which - 1
    ledger = again(path)
    check = ledger.verify()
    assert check.broken is None
    assert (check.torn > 0) is (point == "append.part_written")
    held = [consent.id for consent in ledger.consents(datetime.now(UTC))]
    assert held[: which - 1] == acknowledged
    assert len(held) == which - (point == "append.part_written")
    more = grant(ledger, "more")
    assert [consent.id for consent in again(path).consents(datetime.now(UTC))] == [*held, more.id]
    after = again(path).verify()
    assert (after.broken, after.torn, after.entries) == (None, 0, len(held) + 1)


@pytest.mark.parametrize("cut", ["all", "half", "end"])
def test_any_part_of_a_torn_line_is_mended(ledger: ConsentLedger, path: Path, cut: str) -> None:
    kept = grant(ledger)
    whole, head = path.read_bytes(), path.with_name(f"{path.name}.head").read_bytes()
    grant(ledger, "torn")
    line = path.read_bytes()[len(whole) :]
    # As if killed before the head said so.
    path.with_name(f"{path.name}.head").write_bytes(head)
    path.write_bytes(whole + {"all": b"", "half": line[: len(line) // 2], "end": line[:-1]}[cut])
    seen = again(path)
    assert seen.verify().broken is None
    grant(seen, "next")
    providers = [consent.provider for consent in again(path).consents(NOW)]
    assert providers == (["openai", "torn", "next"] if cut == "end" else ["openai", "next"])
    assert again(path).consents(NOW)[0] == kept
    assert path.read_bytes().endswith(b"}\n")


def test_a_missing_line_end_of_an_acknowledged_entry_loses_nothing(ledger: ConsentLedger, path: Path) -> None:
    first = grant(ledger)
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    assert again(path).consents(NOW) == (first,)
    second = grant(again(path), "next")
    assert again(path).consents(NOW) == (first, second)


def test_processes_that_grant_at_once_make_one_chain(path: Path) -> None:
    running = [
        subprocess.Popen(
            [sys.executable, "-c", _GRANTER, str(path), name, "8"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in ("one", "two", "three")
    ]
    said: list[str] = []
    for process in running:
        out, error = process.communicate(timeout=60)
        assert process.returncode == 0, error
        said += out.split()
    ledger = again(path)
    assert ledger.verify().broken is None
    assert sorted(consent.id for consent in ledger.consents(datetime.now(UTC))) == sorted(said)
    assert len(said) == 24


def test_who_reads_while_others_grant_never_takes_the_ledger_for_broken(ledger: ConsentLedger, path: Path) -> None:
    grant(ledger)
    writer = subprocess.Popen([sys.executable, "-c", _GRANTER, str(path), "one", "40"], stdout=subprocess.DEVNULL)
    try:
        seen = 0
        while writer.poll() is None:
            seen = len(again(path).consents(datetime.now(UTC)))
            assert seen >= 1
    finally:
        writer.wait(60)
    assert writer.returncode == 0
    assert len(again(path).consents(datetime.now(UTC))) == 41


@pytest.mark.skipif(sys.platform == "win32", reason="there are no limits of a process's files")
def test_a_disk_that_takes_half_a_line_leaves_the_ledger_as_it_was(ledger: ConsentLedger, path: Path) -> None:
    consent = grant(ledger)
    before = path.read_bytes()
    limited = (
        "import resource, sys\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({len(before) + 300}, {len(before) + 300}))\n" + _GRANTER
    )
    done = subprocess.run(
        [sys.executable, "-c", limited, str(path), "x", "1"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "StorageError" in done.stderr
    assert done.stdout == ""
    assert path.read_bytes() == before
    assert again(path).consents(NOW) == (consent,)


def test_two_that_revoke_the_same_at_once_leave_a_chain_that_holds(ledger: ConsentLedger, path: Path) -> None:
    from adaptive_llm_gateway.gateway._chain import Chain

    consent = grant(ledger)
    ledger.revoke(consent.id, now=NOW, by="Ada", reason="first")
    again_by = {"kind": "revoke", "id": consent.id, "at": "2026-11-22T12:00:00.000000Z", "by": "Bob", "reason": ""}
    Chain(path, keeps_head=True).append(again_by)  # what the other wrote that had read before the first did
    (record,) = again(path).records()
    assert record.revoked is not None
    assert record.revoked.by == "Ada"
