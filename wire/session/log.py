"""Writes the audit file of sessions: each record is on the disk before the transition that it records."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from wire.hash_chain import ChainHead, chain_problems
from wire.process.folders import sync_folder
from wire.session.audit import (
    AuditFileError,
    AuditOwner,
    SessionRecord,
    owner_line,
    parse_audit,
    record_line,
    sign_head,
    start_hash,
)
from wire.session.table import SessionState


class Unended(NamedTuple):
    """A session of an earlier run of the program that has not ended in the log."""

    offer: bytes
    """The signed offer."""
    state: SessionState


class SessionLog:
    """An audit file that is open for appending. One process writes it."""

    def __init__(self, path: Path, owner: AuditOwner) -> None:
        """Open or create the file, and verify its content.

        An incomplete last line is removed: its record was never reported as durable. Raises: OSError; AuditFileError
        if the file is another end's, or was changed.
        """
        self.owner = owner
        self._used: set[str] = set()
        self.unended: list[Unended] = []
        """The sessions of earlier runs of the program that have not ended, oldest first."""
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self.head = self._load(path)
        except BaseException:
            os.close(self._fd)
            raise

    def _load(self, path: Path) -> ChainHead:
        content = path.read_bytes()
        self._size = content.rfind(b"\n") + 1
        os.ftruncate(self._fd, self._size)
        if not self._size:
            first = owner_line(self.owner)
            self._write(first)
            sync_folder(path.parent)
            return ChainHead(0, start_hash(first))
        audit = parse_audit(content[: self._size])
        if audit.owner != self.owner:
            raise AuditFileError(f"{path}: is the file of {audit.owner.name}, not of {self.owner.name}")
        start = ChainHead(0, audit.start)
        head = ChainHead(audit.lines[-1].number, audit.lines[-1].hash) if audit.lines else start
        for problem in chain_problems(audit.lines, head, start=start):
            raise AuditFileError(f"{path}: {problem}")
        # `parse_audit` does not check states and messages; the chain shows that they are as this program wrote them
        transitions = [line.record for line in audit.lines if line.record.kind == "transition"]
        self._used = {record.session for record in transitions}
        self.unended = _unended(transitions)
        return head

    def __enter__(self) -> SessionLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; nothing can be written afterwards."""
        fd, self._fd = self._fd, -1
        os.close(fd)

    def is_used(self, session: bytes) -> bool:
        """Return whether a session with this id ever had a transition here: its grant must not be used again."""
        return session.hex() in self._used

    def append(self, record: SessionRecord) -> None:
        """Append a record; on return it is durable. Raises: OSError, and the file is as before."""
        line, head = record_line(self.head, record)
        self._write(line)
        self.head = head
        if record.kind == "transition":
            self._used.add(record.session)

    def signed_head(self, key: EllipticCurvePrivateKey) -> bytes:
        """Return the signed head, to be recorded here (`head`) and at the other end (`peer head`)."""
        return sign_head(self.owner.name, self.head, key)

    def _write(self, line: bytes) -> None:
        os.ftruncate(self._fd, self._size)  # remove bytes that an earlier failure could not remove
        try:
            written = os.pwrite(self._fd, line, self._size)
            if written < len(line):
                raise OSError(f"only {written} of {len(line)} bytes of an audit record could be written")
            os.fsync(self._fd)
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._fd, self._size)
            raise
        self._size += len(line)


def _unended(transitions: Iterable[SessionRecord]) -> list[Unended]:
    unended: dict[str, Unended] = {}
    for record in transitions:
        state = SessionState(record.state)
        if state is SessionState.ENDED:
            unended.pop(record.session, None)
        elif record.session in unended:
            unended[record.session] = unended[record.session]._replace(state=state)
        else:
            unended[record.session] = Unended(bytes.fromhex(record.message), state)
    return list(unended.values())
