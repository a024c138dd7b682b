from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from tests.support.wire.grants import BOX, BOX_KEYS, OFFER
from wire.session.audit import AuditFileError, AuditOwner, SessionRecord, parse_audit, read_head
from wire.session.log import SessionLog, Unended
from wire.session.table import End, SessionState

OWNER = AuditOwner(End.BOX, "RAP-0001")
RECORD = SessionRecord(1, 2, "run", "transition", OFFER.id.hex(), "offer received", "data center", "offered")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.audit"


def test_a_grant_is_used_once_also_after_a_restart(path: Path) -> None:
    with SessionLog(path, OWNER) as log:
        assert not log.is_used(OFFER.id)
        log.append(RECORD)
        assert log.is_used(OFFER.id)
    with SessionLog(path, OWNER) as log:
        assert log.is_used(OFFER.id)
        assert not log.is_used(bytes(16))


def test_sessions_that_an_earlier_run_has_not_ended_are_listed(path: Path) -> None:
    other, third = (number.to_bytes(16, "big").hex() for number in (2, 3))
    steps = [
        (other, "offered", "0a"),
        (third, "offered", "0b"),
        (other, "authorized", "0c"),
        (third, "ending", ""),
        (third, "ended", ""),
        (OFFER.id.hex(), "offered", "0d"),
    ]
    with SessionLog(path, OWNER) as log:
        for session, state, message in steps:
            log.append(SessionRecord(1, 2, "run", "transition", session, state=state, message=message))
        assert not log.unended
    with SessionLog(path, OWNER) as log:
        assert log.unended == [
            Unended(b"\x0a", SessionState.AUTHORIZED),
            Unended(b"\x0d", SessionState.OFFERED),
        ]


def test_a_refusal_does_not_use_up_a_grant(path: Path) -> None:
    refusal = SessionRecord(1, 2, "run", "refusal", OFFER.id.hex(), cause="not offer_signed")
    with SessionLog(path, OWNER) as log:
        log.append(refusal)
        assert not log.is_used(OFFER.id)
    with SessionLog(path, OWNER) as log:
        assert not log.is_used(OFFER.id)


def test_a_record_is_in_the_file_when_append_returns(path: Path) -> None:
    with SessionLog(path, OWNER) as log:
        log.append(RECORD)
        assert [line.record for line in parse_audit(path.read_bytes()).lines] == [RECORD]


def test_the_chain_continues_after_a_restart(path: Path) -> None:
    for _ in range(3):
        with SessionLog(path, OWNER) as log:
            log.append(RECORD)
    with SessionLog(path, OWNER) as log:
        assert log.head.number == 3
        signed = read_head(log.signed_head(BOX), BOX_KEYS)
        assert (signed.name, signed.head) == ("RAP-0001", log.head)


def test_an_interruption_at_each_byte_loses_only_the_record_that_was_being_written(path: Path) -> None:
    with SessionLog(path, OWNER) as log:
        log.append(RECORD)
        before = path.stat().st_size
        log.append(RECORD)
    content = path.read_bytes()
    for size in range(before, len(content)):
        path.write_bytes(content[:size])
        with SessionLog(path, OWNER) as log:
            assert log.head.number == 1
            log.append(RECORD)
        assert path.read_bytes() == content
    for size in range(path.read_bytes().index(b"\n") + 1):  # the file itself was being created
        path.write_bytes(content[:size])
        with SessionLog(path, OWNER) as log:
            assert log.head.number == 0


def test_a_full_disk_refuses_the_record_and_keeps_the_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with SessionLog(path, OWNER) as log:
        log.append(RECORD)
        content = path.read_bytes()
        for failing in ("pwrite", "fsync"):
            with monkeypatch.context() as patched:
                patched.setattr(os, failing, full_disk)
                with pytest.raises(OSError, match="No space left"):
                    log.append(RECORD)
            assert path.read_bytes() == content
        log.append(RECORD)
    with SessionLog(path, OWNER) as log:
        assert log.head.number == 2


def test_a_record_that_a_file_at_its_size_limit_cuts_short_is_removed(path: Path) -> None:
    """The kernel cuts a write short because of the process's limit on the size of files."""
    with SessionLog(path, OWNER) as log:
        log.append(RECORD)
        content = path.read_bytes()
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(content) + 10, before[1]))
        try:
            with pytest.raises(OSError, match="only 10 of"):
                log.append(RECORD)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert path.read_bytes() == content


def full_disk(*_: object) -> int:
    raise OSError(28, "No space left on device")


def test_a_changed_file_is_not_continued(path: Path) -> None:
    with SessionLog(path, OWNER) as log:
        log.append(RECORD)
    path.write_bytes(path.read_bytes().replace(b"offered", b"offerEd"))
    with pytest.raises(AuditFileError, match="record 1 was changed"):
        SessionLog(path, OWNER)


def test_the_file_of_another_end_is_not_continued(path: Path) -> None:
    with SessionLog(path, OWNER):
        pass
    with pytest.raises(AuditFileError, match="is the file of RAP-0001, not of RAP-0002"):
        SessionLog(path, AuditOwner(End.BOX, "RAP-0002"))
