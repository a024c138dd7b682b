"""Has the data center countersign the head of the audit chain, and thereby detects missing records at a start.

The newest countersigned head is a file next to the spool, so that it does not get lost with the spool's files. A head
is requested at most once in INTERVAL_SECONDS, with lower priority than all reports on their connection
(`wire.audit_head`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from hashlib import sha256
from http import HTTPStatus
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from agents.box.audit.chain import AuditHead
from agents.box.buffer import Buffer
from agents.box.files.requests import TransferRequest
from agents.box.health.audit import AuditLog
from agents.disk_files import replace_file
from hal.disk import Disk, DiskError, DiskErrorKind
from wire.audit_events import AuditEvent
from wire.audit_head import HEAD_BYTES_MAX, PATH, CountersignedHead, HeadQuery, KnownHead, is_countersigned
from wire.http.connection import Response
from wire.messages import MessageError, decode, encode

INTERVAL_SECONDS: Final = 3600.0
AGAIN_SECONDS: Final = 60.0
"""Pause before requesting a head again whose records have not all arrived at the data center."""
FILE: Final = "audit-head.record"
_PART: Final = "audit-head-new.part"
_HASH_BYTES: Final = 32


class Countersigning:
    """The countersigned heads of a box, and the requests for them (`agents.box.files.requests.RequestQueue`).

    `newest` is the newest countersigned head; None before the first, and until `load`.
    """

    def __init__(
        self, box: str, keys: Sequence[EllipticCurvePublicKey], disk: Disk, buffer: Buffer, audit: AuditLog
    ) -> None:
        """Create it before anything is appended to the chain. `keys` are the data center's keys for heads."""
        self._box, self._keys, self._disk, self._buffer, self._audit = box, keys, disk, buffer, audit
        head = audit.chain.head
        self._restored = AuditHead(head.number, head.digest)
        self._loop = asyncio.get_running_loop()
        self.newest: CountersignedHead | None = None
        self._is_loaded = False
        self._candidate: KnownHead | None = None
        self._next_at = 0.0
        self.changed: Callable[[], object] = lambda: None

    async def load(self) -> None:
        """Read the newest countersigned head, compare it with the spool, and record a difference in the audit log.

        Raises: DiskError or SpoolError, after which it must be called again.
        """
        if self._is_loaded:
            return
        if (content := await self._buffer.call(self._read)) is not None:
            newest = self._parse(content)
            if newest is None:
                await self._audit.record(AuditEvent.AUDIT_HEAD_UNUSABLE)
            elif problem := self._compare(newest.head):
                await self._audit.record(*problem)
            self.newest = newest
        self._is_loaded = True
        self.changed()

    def _compare(self, head: KnownHead) -> tuple[AuditEvent, int] | None:
        """Return the audit event and its value if the head proves that records of the spool's chain are missing."""
        restored = self._restored
        if head.epoch != self._buffer.epoch:
            return AuditEvent.AUDIT_CHAIN_LOST, head.number
        if restored.number < head.number:
            return AuditEvent.AUDIT_TAIL_LOST, head.number - restored.number
        if restored.number == head.number and restored.digest != head.digest:
            return AuditEvent.AUDIT_CHAIN_REPLACED, head.number
        return None

    # -- for the stream ---------------------------------------------------------------------------------

    def resumes_at(self) -> float:
        """See `RequestQueue.resumes_at`."""
        return self._next_at

    async def next_request(self, bytes_max: int) -> TransferRequest | None:  # noqa: ARG002
        """See `RequestQueue.next_request`."""
        if not self._is_loaded or self._loop.time() < self._next_at:
            return None
        if self._candidate is None:
            head = self._audit.chain.head
            self._candidate = KnownHead(self._buffer.epoch, head.number, head.digest) if head.number else None
            if self._candidate is None or (self.newest and self.newest.head == self._candidate):
                self._wait(INTERVAL_SECONDS)
                return None
        return TransferRequest("POST", PATH, encode(HeadQuery(self._candidate, self.newest)), HEAD_BYTES_MAX)

    async def answered(self, request: TransferRequest, response: Response) -> None:
        """See `RequestQueue.answered`."""
        asked = decode(HeadQuery, request.body).head
        if response.status == HTTPStatus.ACCEPTED:
            self._next_at = self._loop.time() + AGAIN_SECONDS
            return
        self._wait(INTERVAL_SECONDS)
        if response.status == HTTPStatus.CONFLICT:
            self._audit.note(AuditEvent.AUDIT_HEAD_REFUSED, asked.number)
        elif response.status == HTTPStatus.OK:
            signed = self._parse(response.body, is_file=False)
            if signed is None or signed.head != asked:
                self._audit.note(AuditEvent.AUDIT_HEAD_UNUSABLE)
                return
            try:
                await self._buffer.call(lambda: self._write(signed))
            except DiskError:
                return  # the spool reports a failed disk; requested again after the pause
            self.newest = signed

    def _wait(self, seconds: float) -> None:
        self._candidate = None
        self._next_at = self._loop.time() + seconds

    # -- the file ---------------------------------------------------------------------------------------

    def _parse(self, content: bytes, *, is_file: bool = True) -> CountersignedHead | None:
        """Return the head in `content`; None if it is damaged, or not countersigned for this box.

        A file begins with the hash of its content.
        """
        if is_file:
            digest, content = content[:_HASH_BYTES], content[_HASH_BYTES:]
            if sha256(content).digest() != digest:
                return None
        try:
            head = decode(CountersignedHead, content)
        except MessageError:
            return None
        return head if is_countersigned(head, self._box, self._keys) else None

    def _read(self) -> bytes | None:
        try:
            size = self._disk.size(FILE)
            return self._disk.read(FILE, 0, min(size, _HASH_BYTES + HEAD_BYTES_MAX))
        except DiskError as error:
            if error.kind is DiskErrorKind.MISSING:
                return None
            raise

    def _write(self, head: CountersignedHead) -> None:
        content = encode(head)
        replace_file(self._disk, FILE, sha256(content).digest() + content, _PART)
