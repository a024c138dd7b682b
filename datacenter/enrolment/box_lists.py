"""The lists of boxes in the database: authorized boxes, and denied boxes.

A denied box may not connect, even with a valid certificate. Both lists are read periodically, because staff change
them and several processes of a data center share them.
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Final

from sqlalchemy import select

from datacenter.store.errors import StoreError
from datacenter.store.store import Store
from datacenter.store.tables.schema import boxes, denied_boxes, denied_instruments
from wire.http.connection import Peer

FOLLOW_SECONDS: Final = 10.0
_log: Final = logging.getLogger(__name__)


class AuthorizedBoxes:
    """The authorized boxes, as last read."""

    def __init__(self, store: Store) -> None:
        """Raises: StoreError."""
        self._store = store
        self._boxes = self._read()

    def __contains__(self, box: object) -> bool:
        return box in self._boxes

    async def follow(self, executor: Executor | None) -> None:
        """Read the list periodically, until cancelled; failures of the database are logged, and reading continues."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(FOLLOW_SECONDS)
            try:
                self._boxes = await loop.run_in_executor(executor, self._read)
            except StoreError as error:
                _log.error("the list of authorized boxes cannot be read: %s", error)

    def _read(self) -> frozenset[str]:
        query = select(boxes.c.serial).where(boxes.c.dismissed_at_ms.is_(None))
        return frozenset(row.serial for row in self._store.read(query))


class DeniedBoxes:
    """The deny-list in the database, as last read. The connections of a box that was added are aborted.

    Each response to a batch lists the box's denied instruments.
    """

    def __init__(self, store: Store) -> None:
        """Raises: StoreError."""
        self._store = store
        self._peers: weakref.WeakSet[Peer] = weakref.WeakSet()
        self._denied, self._instruments = self._read()
        self.on_denied: list[Callable[[str], object]] = []
        """Called with the serial number of each box that was added."""

    def __contains__(self, box: str) -> bool:
        return box in self._denied

    def instruments(self, box: str) -> list[str]:
        """Return the denied instruments behind a box."""
        return self._instruments.get(box, [])

    def connected(self, peer: Peer) -> None:
        """Register a connection on which a client sends requests."""
        self._peers.add(peer)

    async def follow(self, executor: Executor | None) -> None:
        """Read the list periodically, until cancelled; failures of the database are logged, and reading continues."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(FOLLOW_SECONDS)
            try:
                denied, self._instruments = await loop.run_in_executor(executor, self._read)
            except StoreError as error:
                _log.error("the deny-list cannot be read: %s", error)
                continue
            self._use(denied)

    def _use(self, denied: frozenset[str]) -> None:
        added, self._denied = denied - self._denied, denied
        for box in sorted(added):
            _log.warning("%s is denied from now on", box)
            for call in self.on_denied:
                call(box)
        for peer in list(self._peers):
            if peer.name in added:
                peer.hang_up()

    def _read(self) -> tuple[frozenset[str], dict[str, list[str]]]:
        """Return the denied boxes, and the denied instruments by their boxes."""
        denied = frozenset(row.box for row in self._store.read(select(denied_boxes.c.box)))
        instruments: dict[str, list[str]] = {}
        columns = denied_instruments.c.box, denied_instruments.c.instrument
        for row in self._store.read(select(*columns).order_by(*columns)):
            instruments.setdefault(row.box, []).append(row.instrument)
        return denied, instruments
