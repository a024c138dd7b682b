"""The instruments that the data center has put on the deny-list: the box refuses their connections.

Each response to a batch has the complete list. It is kept on the disk, so that a denied instrument is also refused
after a restart while the uplink is down.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

import msgspec

from agents.box.buffer import Buffer
from agents.box.intake.intake import Note
from agents.disk_files import replace_file
from hal.disk import Disk, DiskError
from wire.audit_events import AuditEvent
from wire.http.connection import Peer
from wire.messages import Denied

FILE: Final = "denied-instruments.record"
_PART: Final = "denied-instruments.part"
BYTES_MAX: Final = 4096


def load_denied(disk: Disk) -> frozenset[str]:
    """Return the stored list; empty if there is none, or if it is damaged. Blocks."""
    try:
        data = disk.read(FILE, 0, min(disk.size(FILE), BYTES_MAX))
        return frozenset(msgspec.msgpack.decode(data, type=Denied))
    except (DiskError, msgspec.DecodeError):
        return frozenset()


class DeniedInstruments:
    """The deny-list of the box, with the open connections, which are closed when their instrument is denied."""

    def __init__(self, disk: Disk, buffer: Buffer, ports: Mapping[str, int], note: Note) -> None:
        """`ports` maps enrolled instruments to their ports; `disk` is used on the thread of the buffer."""
        self._disk, self._buffer, self._ports, self._note = disk, buffer, ports, note
        self._denied: frozenset[str] = frozenset()
        self._peers: weakref.WeakSet[Peer] = weakref.WeakSet()
        self._storing: set[asyncio.Task[None]] = set()

    async def load(self) -> None:
        """Read the list of the last response."""
        self._denied = await self._buffer.call(lambda: load_denied(self._disk))

    def refuses(self, peer: Peer) -> bool:
        """Return whether the client of a connection is denied; if it is denied later, the connection is closed."""
        self._peers.add(peer)
        return peer.name in self._denied

    def use(self, names: list[str]) -> None:
        """Apply the list of a response, and store it."""
        denied = frozenset(names) & self._ports.keys()
        if denied == self._denied:
            return
        changed, self._denied = denied ^ self._denied, denied
        for name in sorted(changed):
            is_denied = name in denied
            event = AuditEvent.INSTRUMENT_DENIED if is_denied else AuditEvent.INSTRUMENT_ALLOWED
            self._note(event, port=self._ports[name])
        for peer in list(self._peers):
            if peer.name in denied:
                peer.hang_up()
        storing = asyncio.get_running_loop().create_task(self._store(denied))
        self._storing.add(storing)
        storing.add_done_callback(self._storing.discard)

    async def _store(self, denied: frozenset[str]) -> None:
        data = msgspec.msgpack.encode(sorted(denied))
        # the spool reports a failed disk, and after a restart the next response to a batch has the list
        with suppress(DiskError):
            await self._buffer.call(lambda: replace_file(self._disk, FILE, data, _PART))
