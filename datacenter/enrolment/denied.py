"""The deny-list: boxes that may not connect, whatever certificate they have. It takes effect within seconds."""

from __future__ import annotations

import asyncio
import logging
import weakref
from concurrent.futures import Executor
from typing import Final

from sqlalchemy import select

from datacenter.store.errors import StoreError
from datacenter.store.schema import denied_boxes
from datacenter.store.store import Store
from wire.http.connection import Peer

FOLLOW_SECONDS: Final = 10.0
"""The interval at which the list is read: several processes of a data center share it."""
_log: Final = logging.getLogger(__name__)


class DeniedBoxes:
    """The deny-list in the database, as last read. The connections of a box that was added are aborted."""

    def __init__(self, store: Store) -> None:
        """Raises: StoreError."""
        self._store = store
        self._peers: weakref.WeakSet[Peer] = weakref.WeakSet()
        self._denied = self._read()

    def __contains__(self, box: str) -> bool:
        return box in self._denied

    def connected(self, peer: Peer) -> None:
        """A client sends requests on this connection."""
        self._peers.add(peer)

    async def follow(self, executor: Executor | None) -> None:
        """Read the list periodically, until cancelled; a failure of the database is logged and tried again."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(FOLLOW_SECONDS)
            try:
                found = await loop.run_in_executor(executor, self._read)
            except StoreError as error:
                _log.error("the deny-list is not read: %s", error)
                continue
            self._use(found)

    def _use(self, found: frozenset[str]) -> None:
        added, self._denied = found - self._denied, found
        for box in sorted(added):
            _log.warning("%s is denied from now on", box)
        for peer in list(self._peers):
            if peer.name in added:
                peer.hang_up()

    def _read(self) -> frozenset[str]:
        return frozenset(row.box for row in self._store.read(select(denied_boxes.c.box)))
