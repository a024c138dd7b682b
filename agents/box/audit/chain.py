"""The hash chain of the box's audit records: each has a number and the hash of its predecessor.

The chain is computed as records are appended to the spool, one group at a time: a group is linked when the
previous group is durable. Records that the spool refuses get no number, so that a full disk leaves no hole in
the chain; the number of refused records is recorded in a separate audit record. The head of the chain follows from
the last record on the disk. Gap records, which the spool creates itself, are not part of the chain.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from hashlib import sha256
from typing import Final

import msgspec

from agents.box.buffer import CLOSE_SECONDS_MAX, Buffer
from agents.spool import Priority
from wire.messages import AuditLink, Entry, encode

ENTRIES_PER_GROUP_MAX: Final = 128
START: Final = bytes(32)
"""The hash in the link of the first record, which has no predecessor."""

_Waiting = tuple[Sequence[Entry], asyncio.Future[range]]


class AuditHead(msgspec.Struct, array_like=True):
    """The head of a chain: the number and the SHA-256 hash of its last record."""

    number: int = 0
    digest: bytes = START

    def accept(self, payload: bytes, link: AuditLink) -> bool:
        """Move the head to a stored record; return whether the record is linked to the previous head."""
        follows = link.number == self.number + 1 and (link.previous == self.digest or not self.number)
        self.number, self.digest = link.number, sha256(payload).digest()
        return follows


class AuditChain:
    """Appends entries to the spool as links of the chain. `head` moves when they are durable."""

    def __init__(self, buffer: Buffer, head: AuditHead) -> None:
        self._buffer, self.head = buffer, head
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[_Waiting] = deque()
        self._idle = asyncio.Event()
        self._idle.set()

    def append(self, entries: Sequence[Entry]) -> asyncio.Future[range]:
        """Append entries, all or none, at most ENTRIES_PER_GROUP_MAX. The result is their numbers in the spool.

        Cancelling the future does not remove them. Raises, when awaited: SpoolError, with nothing stored.
        """
        assert len(entries) <= ENTRIES_PER_GROUP_MAX
        future: asyncio.Future[range] = self._loop.create_future()
        self._waiting.append((entries, future))
        if self._idle.is_set():
            self._idle.clear()
            self._write()
        return future

    async def close(self) -> None:
        """Wait until all entries are stored or refused, for a limited time. Nothing may be appended afterwards."""
        try:
            async with asyncio.timeout(CLOSE_SECONDS_MAX):
                await self._idle.wait()
        except TimeoutError:
            pass  # the buffer reports a disk that does not respond

    def _write(self) -> None:
        group: list[_Waiting] = []
        count = 0
        while self._waiting and count + len(self._waiting[0][0]) <= ENTRIES_PER_GROUP_MAX:
            group.append(self._waiting.popleft())
            count += len(group[-1][0])
        head, payloads = AuditHead(self.head.number, self.head.digest), list[bytes]()
        for entries, _ in group:
            for entry in entries:
                link = AuditLink(head.number + 1, head.digest)
                payload = encode(msgspec.structs.replace(entry, link=link))
                head.accept(payload, link)
                payloads.append(payload)

        def settled(result: range | BaseException) -> None:
            self._settle(group, head, result)

        self._buffer.append_all(bytes([Priority.AUDIT] * count), payloads, settled).add_done_callback(
            _ignored
        )

    def _settle(self, group: list[_Waiting], head: AuditHead, result: range | BaseException) -> None:
        offset = 0
        if isinstance(result, range):
            self.head.number, self.head.digest = head.number, head.digest
        for entries, future in group:
            if future.done():  # cancelled
                pass
            elif isinstance(result, range):
                future.set_result(result[offset : offset + len(entries)])
            else:
                future.set_exception(result)
            offset += len(entries)
        if self._waiting:
            self._write()
        else:
            self._idle.set()


def _ignored(future: asyncio.Future[range]) -> None:
    """Retrieve the exception, so that asyncio does not log it: the callers have their own futures."""
    if not future.cancelled():
        future.exception()
