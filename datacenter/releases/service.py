"""Serves releases and orders to boxes (`wire.release.messages`), and advances rollouts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Container
from concurrent.futures import Executor
from http import HTTPStatus
from typing import Final

from datacenter.commands.files import FileArchive
from datacenter.releases.folder import ReleaseFolder
from datacenter.releases.help_files import HelpFileSender
from datacenter.releases.orders import exchange_order, find_boxes_to_notify
from datacenter.releases.runner import advance_rollouts
from datacenter.store.calls import call_database
from datacenter.store.errors import StoreError
from datacenter.store.store import Store
from wire.files import RangeRequest
from wire.http.connection import Request, Response
from wire.messages import MessageError, decode, encode
from wire.release.messages import UpdateState, parse_metadata_range
from wire.release.metadata import MetadataError

ADVANCE_SECONDS: Final = 10.0
"""Interval at which rollouts are advanced and the folder is checked."""
RETRY_AFTER: Final = {"retry-after": "60"}
_log: Final = logging.getLogger(__name__)


class ReleaseService:
    """The releases of a folder, for authorized `boxes`; `executor` is the thread of the store."""

    def __init__(
        self,
        folder: ReleaseFolder,
        boxes: Container[str],
        store: Store,
        executor: Executor | None,
        now_ms: Callable[[], int],
    ) -> None:
        self.folder = folder
        self._boxes = boxes
        self._store, self._executor, self._now_ms = store, executor, now_ms
        self._help_files = HelpFileSender(folder, FileArchive(store))
        self._to_notify: set[str] = set()
        self._problem = ""

    def has_news(self, box: str) -> bool:
        """Return whether a box has to request its order."""
        return box in self._to_notify

    async def answer_state(self, request: Request, box: str) -> Response:
        """Handle the request of a box that reports its state and fetches its order."""
        if request.method != "POST":
            return Response(HTTPStatus.METHOD_NOT_ALLOWED, headers={"allow": "POST"})
        try:
            state = decode(UpdateState, request.body)
        except MessageError as error:
            return Response(HTTPStatus.UNPROCESSABLE_ENTITY, str(error).encode())
        now_ms = self._now_ms()
        try:
            order = await call_database(
                self._executor, exchange_order, self._store, self.folder.current, box, state, now_ms
            )
        except StoreError:
            return Response(HTTPStatus.SERVICE_UNAVAILABLE, b"the database failed", dict(RETRY_AFTER))
        if order is None:
            return _forbidden(box)
        self._to_notify.discard(box)
        return Response(HTTPStatus.OK, encode(order))

    async def answer_metadata(self, request: Request, box: str) -> Response:
        """Answer a request for a range of a metadata file."""
        wanted = parse_metadata_range(request.target)
        if request.method != "GET" or wanted is None:
            return Response(HTTPStatus.BAD_REQUEST, b"not a valid request for a range of a metadata file")
        if box not in self._boxes:
            return _forbidden(box)
        body = self.folder.read_metadata(*wanted)
        if body is None:
            return Response(HTTPStatus.NOT_FOUND, b"there is no such metadata file")
        return Response(HTTPStatus.OK, body)

    def has_target(self, sha256: str) -> bool:
        """Return whether a target of a release has this hash."""
        return sha256 in self.folder.current.names

    async def answer_target(self, wanted: RangeRequest, box: str) -> Response:
        """Answer a request for a range of a target."""
        if box not in self._boxes:
            return _forbidden(box)
        try:
            body = await asyncio.to_thread(self.folder.read_target, *wanted)
        except OSError as error:
            _log.error("a release cannot be read: %s", error)
            return Response(HTTPStatus.SERVICE_UNAVAILABLE, b"the release cannot be read", dict(RETRY_AFTER))
        if body is None:
            return Response(HTTPStatus.NOT_FOUND, b"no release has this file")
        return Response(HTTPStatus.OK, body)

    async def run(self) -> None:
        """Advance rollouts periodically, until cancelled; failures are logged."""
        while True:
            await self.advance()
            await asyncio.sleep(ADVANCE_SECONDS)

    async def advance(self) -> None:
        """Check the folder, advance rollouts, and find the boxes that have to request their order."""
        now_ms = self._now_ms()
        try:
            if await asyncio.to_thread(self.folder.refresh, now_ms / 1000):
                numbers = ", ".join(map(str, sorted(self.folder.current.releases))) or "none"
                _log.info("releases are served: %s", numbers)
            self._problem = ""
        except (MetadataError, OSError) as error:
            if str(error) != self._problem:  # log it once
                self._problem = str(error)
                _log.error("the folder of releases is not used as it is now: %s", error)
        try:
            self._to_notify = await call_database(self._executor, self._advance, now_ms)
        except (StoreError, OSError) as error:
            _log.error("rollouts cannot be advanced: %s", error)

    def _advance(self, now_ms: int) -> set[str]:
        advance_rollouts(self._store, self.folder.current, now_ms)
        self._help_files.send(self._store, now_ms)
        return find_boxes_to_notify(self._store)


def _forbidden(box: str) -> Response:
    return Response(HTTPStatus.FORBIDDEN, f"{box!r} is not an authorized box".encode(), close=True)
