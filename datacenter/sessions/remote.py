"""The remote sessions of a running data center: the desk with its audit file, keys, rights, recordings and rows.

Everything runs in the program's event loop. Pages and API run on other threads: they call `start`, `end` and `find`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Collection, Container, Coroutine
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from secrets import token_hex
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from datacenter.access.compiled import CompiledPolicies
from datacenter.access.tokens import revoked_among
from datacenter.config import RemoteSessionsConfig
from datacenter.desktop.recording import Recording, RecordingError, read_recording
from datacenter.sessions.box_keys import BoxKeys
from datacenter.sessions.desk import Outbox, SessionDesk, WantedSession
from datacenter.sessions.exchange import SessionExchange
from datacenter.sessions.listing import SessionRow
from datacenter.sessions.live_desktop import LiveDesktop
from datacenter.sessions.live_stream import LiveStream
from datacenter.sessions.recording_head import RecordingHead, read_recording_head, sign_recording
from datacenter.sessions.recordings import FileRecording, delete_recordings, head_path, recording_path
from datacenter.sessions.records import (
    SessionProgress,
    end_all_rows,
    save_progress,
    save_recording_head,
)
from datacenter.sessions.restart import InterruptedSession, end_interrupted, read_interrupted
from datacenter.sessions.rights import Requester, SessionRights
from datacenter.sessions.session import DeskSession
from datacenter.sessions.surroundings import Surroundings, TunnelEndpoint
from datacenter.store.errors import StoreError
from datacenter.store.store import Store
from settings.problems import Problem, SettingsError
from wire.http.connection import Request, Response
from wire.pki.signature import load_private_key
from wire.session.audit import AuditFileError, AuditOwner
from wire.session.cose import GrantError, key_set
from wire.session.grant import Offer, SessionService
from wire.session.log import SessionLog
from wire.session.messages import EXCHANGE_BYTES_MAX, EndMessage, HeadMessage
from wire.session.recorder import SessionRecorder
from wire.session.table import Actor, Cause, End, Event, SessionState

AUDIT: Final = "sessions.audit"
RECORDINGS: Final = "recordings"
CHECK_SECONDS: Final = 0.5
"""Interval at which the rights of open sessions are checked, in addition to each change of staff and policies."""
TOKEN_SECONDS_MAX: Final = 2.0
"""Time limit of a database query about a token; an unresponsive database delays the other decisions by at most
this."""
DELETE_SECONDS: Final = 3600.0
DAY_MS: Final = 86_400_000
END_SECONDS_MAX: Final = 5.0
"""Time for ending sessions when the program stops."""
_log: Final = logging.getLogger(__name__)

MakeEndpoint = Callable[[Offer, EllipticCurvePrivateKey], TunnelEndpoint]


class RemoteSessions:
    """All remote sessions, from their request to their end."""

    def __init__(
        self,
        settings: RemoteSessionsConfig,
        store: Store,
        writer: Executor,
        policies: Callable[[], CompiledPolicies],
        now_ms: Callable[[], int],
        boxes: Container[str],
        make_endpoint: MakeEndpoint,
        four_eyes: Collection[str] = (),
    ) -> None:
        """`boxes` are the authorized boxes. `writer` is the thread that writes to the store. At the sites
        `four_eyes`, a desktop is shown only to two people.

        Raises: SettingsError for an unusable audit file; StoreError; OSError.
        """
        self._settings, self._store, self._writer, self._now_ms = settings, store, writer, now_ms
        self._boxes, self._four_eyes = boxes, frozenset(four_eyes)
        self._loop = asyncio.get_running_loop()
        key = self._key = load_private_key(settings.key)
        self._disk = ThreadPoolExecutor(1, "sessions")
        self._recordings = settings.folder / RECORDINGS
        self._recordings.mkdir(mode=0o700, exist_ok=True)
        owner = AuditOwner(End.DATA_CENTER, settings.name)
        try:
            self._file = SessionLog(settings.folder / AUDIT, owner)
        except AuditFileError as error:
            raise SettingsError(settings.folder / AUDIT, Problem("", str(error))) from error
        keys = self._own_keys = key_set(key.public_key())
        self._interrupted: list[InterruptedSession] = []
        for unended in self._file.unended:
            try:
                self._interrupted.append(read_interrupted(unended, keys))
            except GrantError as error:
                _log.error("a session of an earlier run cannot be ended: its offer %s", error)
        monotonic_ns, wall_ns = time.monotonic_ns, lambda: now_ms() * 1_000_000
        self._audit = SessionRecorder(
            self._file, key, token_hex(8), wall_ns, monotonic_ns, self._send_head, self._disk
        )
        self._outbox = Outbox()
        self._keys = BoxKeys(store, writer, now_ms, settings.known_keys())
        self._rights = SessionRights(policies, now_ms)
        self._changed, self._rights_changed = asyncio.Event(), asyncio.Event()
        self._saved: dict[bytes, SessionProgress] = {}
        self._files: dict[bytes, FileRecording] = {}
        self._desktops: dict[bytes, LiveDesktop] = {}
        self._streams: dict[bytes, LiveStream] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.desk = SessionDesk(
            Surroundings(
                settings.name,
                key,
                keys,
                self._keys.of,
                wall_ns,
                monotonic_ns,
                self._audit,
                self._rights.permits,
                self._rights.has_training,
                make_endpoint,
                self._record,
                self._outbox.send,
                self._session_changed,
            )
        )
        self._exchange = SessionExchange(self.desk, self._outbox)

    def is_authorized(self, box: str) -> bool:
        """Return whether a box may have sessions."""
        return box in self._boxes

    def rights_changed(self) -> None:
        """Check the rights of all sessions now: the staff directory or the policies have changed."""
        self._rights_changed.set()

    def has_messages(self, box: str) -> bool:
        """Return whether there are messages for a box."""
        return self._outbox.has(box)

    async def answer(self, box: str, certificate: bytes | None, request: Request) -> Response:
        """Answer `POST /v1/sessions` of an authorized box, which is connected with this certificate (DER)."""
        if request.method != "POST":
            return Response(HTTPStatus.METHOD_NOT_ALLOWED, headers={"allow": "POST"})
        if len(request.body) > EXCHANGE_BYTES_MAX:
            return Response(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, close=True)
        try:
            await self._keys.learn(box, certificate)
        except (StoreError, ValueError) as error:
            _log.error("the key of %s cannot be stored: %s", box, error)
            return Response(HTTPStatus.SERVICE_UNAVAILABLE)
        return await self._exchange.answer(box, request)

    # called from other threads

    def find(self, session: bytes) -> DeskSession | None:
        """Return a session that has not ended, or that ended recently."""
        return self.desk.find(session)

    def desktop(self, session: bytes) -> LiveDesktop | None:
        """Return the desktop of a session that is open."""
        return self._desktops.get(session)

    def stream(self, session: bytes) -> LiveStream | None:
        """Return the raw TCP service of a session that is open."""
        return self._streams.get(session)

    def needs_second(self, site: str) -> bool:
        """Return whether desktops of this site are shown only to two people."""
        return site in self._four_eyes

    def has_recording(self, row: SessionRow) -> bool:
        """Return whether a recording of a session exists, complete or not."""
        return self._recording_of(row).exists()

    def read_recording(self, row: SessionRow) -> Recording:
        """Read and verify a recording; without a signed head, up to the point at which a crash truncated it.

        Raises: RecordingError; OSError.
        """
        with self._recording_of(row).open("rb") as file:
            if row.recording_head is None:
                return read_recording(file, is_complete=False)
            try:
                head = read_recording_head(row.recording_head, self._own_keys)
            except GrantError as error:
                raise RecordingError(f"its signed head {error}") from error
            if head.session.hex() != row.id:
                raise RecordingError("its signed head is that of another session")
            return read_recording(file, head.chain)

    def start(self, wanted: WantedSession, requester: Requester) -> None:
        """Request the session with the identifier of `wanted`, whose row is in the store."""
        assert wanted.id is not None, "the row has it"
        self._rights.add(wanted.id, requester)
        self._loop.call_soon_threadsafe(self._begin, self._request(wanted.id, wanted))

    def end(self, session: bytes) -> None:
        """End a session, or withdraw its request."""
        self._loop.call_soon_threadsafe(self._begin, self.desk.end(session))

    # in the event loop

    def end_of_box(self, box: str) -> None:
        """End all sessions of a box and their tunnels, in the same way as staff do."""
        for session in self.desk.sessions:
            if session.offer.box == box and not session.is_over:
                self._begin(self.desk.end(session.id))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run until the block ends, which ends all sessions."""
        await self._end_interrupted()
        works = (self._check(), self._save_changes(), self._delete_old())
        tasks = [self._loop.create_task(work) for work in works]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await self._end_all()
            await self._save()
            self._disk.shutdown()
            self._file.close()

    async def _end_interrupted(self) -> None:
        for interrupted in self._interrupted:
            await end_interrupted(interrupted, self._audit)
            if interrupted.box:
                self._outbox.send(interrupted.box, EndMessage(interrupted.session, Cause.RESTARTED))
        await self._loop.run_in_executor(self._writer, end_all_rows, self._store, self._now_ms())

    async def _request(self, session: bytes, wanted: WantedSession) -> None:
        try:
            started = await self.desk.request(wanted)
        except GrantError as error:
            _log.error("the session %s cannot be offered: %s", session.hex(), error)
            started = None
        if started is None or started.state is SessionState.NEW:
            self._rights.forget(session)
            refused = SessionProgress(session.hex(), SessionState.ENDED, Cause.REFUSED)
            await self._loop.run_in_executor(
                self._writer, save_progress, self._store, refused, self._now_ms()
            )

    async def _check(self) -> None:
        """End sessions that are no longer permitted, until cancelled."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(CHECK_SECONDS):
                    await self._rights_changed.wait()
            self._rights_changed.clear()
            await self._read_revoked()
            await self.desk.check_permissions()

    async def _read_revoked(self) -> None:
        if tokens := self._rights.tokens:
            reading = self._loop.run_in_executor(self._writer, revoked_among, self._store, tokens)
            try:
                async with asyncio.timeout(TOKEN_SECONDS_MAX):
                    self._rights.revoke(await reading)
            except (StoreError, TimeoutError) as error:
                _log.error("cannot read which API tokens are revoked: %s", error)

    async def _delete_old(self) -> None:
        """Delete recordings after their time, every hour until cancelled."""
        days = self._settings.recording_days
        while days is not None:
            try:
                await self._loop.run_in_executor(
                    self._writer,
                    delete_recordings,
                    self._store,
                    self._recordings,
                    self._now_ms() - days * DAY_MS,
                    self._now_ms(),
                )
            except (StoreError, OSError) as error:
                _log.error("old recordings are not deleted: %s", error)
            await asyncio.sleep(DELETE_SECONDS)

    async def _save_changes(self) -> None:
        """Store the states of sessions, until cancelled."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            if not await self._save():
                await asyncio.sleep(1)
                self._changed.set()

    async def _save(self) -> bool:
        """Store states that have changed; return whether all are stored."""
        for session in self.desk.sessions:
            progress = SessionProgress(session.id.hex(), session.state, session.shown_cause or "")
            saved = self._saved.get(session.id)
            if session.state is SessionState.NEW or saved == progress:
                continue
            # from `progress`, because the session may end while its state is being stored
            is_over = progress.state == SessionState.ENDED
            has_head = saved is not None and saved.state == SessionState.ENDED
            try:
                await self._loop.run_in_executor(
                    self._writer, save_progress, self._store, progress, self._now_ms()
                )
                if is_over and session.recorded and not has_head:
                    await self._loop.run_in_executor(self._writer, self._save_head, session)
            except StoreError as error:
                _log.error("the state of session %s is not stored yet: %s", session.id.hex(), error)
                return False
            self._saved[session.id] = progress
            if is_over:
                self._rights.forget(session.id)
                self._files.pop(session.id, None)
                self._desktops.pop(session.id, None)
                self._streams.pop(session.id, None)
        known = {session.id for session in self.desk.sessions}
        self._saved = {session: saved for session, saved in self._saved.items() if session in known}
        return True

    async def _end_all(self) -> None:
        """End all sessions, as a restart does."""
        for session in self.desk.sessions:
            await session.event(Event.RESTARTED, Actor.DATA_CENTER)
        with suppress(TimeoutError):
            async with asyncio.timeout(END_SECONDS_MAX):
                while not all(session.is_over for session in self.desk.sessions):
                    self._changed.clear()
                    await self._changed.wait()
                await self._audit.idle()

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _send_head(self, session: bytes, head: bytes) -> None:
        interrupted = (earlier.box for earlier in self._interrupted if earlier.session == session)
        live = self.desk.find(session)
        box = live.offer.box if live else next(interrupted, "")
        if box:
            self._outbox.send(box, HeadMessage(session, head))

    def _record(self, offer: Offer) -> FileRecording:
        file = self._files[offer.id] = FileRecording(recording_path(self._recordings, offer.id), self._disk)
        return file

    def _recording_of(self, row: SessionRow) -> Path:
        return recording_path(self._recordings, bytes.fromhex(row.id))

    def _save_head(self, session: DeskSession) -> None:
        """Sign the head of a complete recording, and store it next to the file and in the row. Raises: StoreError."""
        head = sign_recording(RecordingHead(session.id, session.recorded), self._key)
        try:
            head_path(recording_path(self._recordings, session.id)).write_bytes(head)
        except OSError as error:
            _log.error(
                "the head of the recording of %s could not be stored next to it: %s", session.id.hex(), error
            )
        save_recording_head(self._store, session.id.hex(), head)

    def _session_changed(self) -> None:
        """Receive the desktop of each session that has opened, and request that the states be stored."""
        for session in self.desk.sessions:
            is_known = session.id in self._desktops or session.id in self._streams
            if session.state is not SessionState.OPEN or is_known:
                continue
            if session.offer.service is SessionService.TCP:
                stream = self._streams[session.id] = LiveStream(session, self._files[session.id])
                self._begin(stream.run())
            else:
                needs_second = self.needs_second(self._rights.site_of(session.id))
                desktop = self._desktops[session.id] = LiveDesktop(
                    session, self._files[session.id], needs_second=needs_second
                )
                self._begin(desktop.run())
        self._changed.set()
