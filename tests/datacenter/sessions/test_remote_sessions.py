"""Remote sessions of the data center's program: keys of boxes, lost rights, restarts, and rows in the store."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import insert, select

from datacenter.enrolment.box_lists import DeniedBoxes
from datacenter.sessions.box_keys import BoxKeys
from datacenter.sessions.remote import AUDIT, RECORDINGS
from datacenter.store.store import Store
from datacenter.store.tables.schema import denied_boxes, remote_sessions
from datacenter.store.threads import StoreThreads
from tests.support.datacenter.remote_sessions import SERIAL, Center, box_certificate, center, engineer
from tests.support.eventually import eventually
from tests.support.wire.grants import BOX_KEYS, STRANGER
from wire.pki.hierarchy import Authority, make_rsa_key
from wire.session.audit import parse_audit
from wire.session.cose import key_set
from wire.session.messages import EndMessage
from wire.session.table import Cause, SessionState


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(f"sqlite:///{tmp_path / 'store.db'}")
    yield store
    store.close()


def run(folder: Path, store: Store, act: Callable[[Center], Awaitable[None]]) -> None:
    async def inside() -> None:
        async with center(folder, store) as running:
            await act(running)

    asyncio.run(inside())


def row(store: Store, session: bytes) -> tuple[str, str]:
    """Return the state and cause of a session in the store."""
    columns = remote_sessions.c.state, remote_sessions.c.cause
    (stored,) = store.read(select(*columns).where(remote_sessions.c.id == session.hex()))
    return stored.state, stored.cause


def transitions(folder: Path) -> list[tuple[str, str]]:
    """Return the transitions in the audit file."""
    lines = parse_audit((folder / AUDIT).read_bytes()).lines
    return [(line.record.event, line.record.state) for line in lines if line.record.kind == "transition"]


def test_a_session_is_opened_recorded_and_listed(tmp_path: Path, store: Store) -> None:
    async def act(running: Center) -> None:
        session = await running.open()
        assert (tmp_path / "s" / RECORDINGS / f"{session.id.hex()}.rapr").exists()
        await eventually(lambda: row(store, session.id) == ("open", ""))
        running.remote.end(session.id)
        await eventually(lambda: row(store, session.id) == ("ended", "ended by staff"))

    run(tmp_path / "s", store, act)
    assert transitions(tmp_path / "s")[-1] == ("closed", "ended")


@pytest.mark.parametrize(
    ("staff", "cause"),
    [(lambda: None, Cause.WITHDRAWN), (lambda: engineer(trained_until_ms=1), Cause.TRAINING_EXPIRED)],
)
def test_a_lost_right_or_training_ends_an_open_session(
    tmp_path: Path, store: Store, staff: Callable[[], None], cause: Cause
) -> None:
    async def act(running: Center) -> None:
        session = await running.open()
        running.staff = staff
        await eventually(lambda: session.is_over)
        assert session.cause is cause

    run(tmp_path / "s", store, act)


def test_staff_see_why_the_person_ended_a_session_although_the_line_was_lost_first(
    tmp_path: Path, store: Store
) -> None:
    """The tunnel is lost before the box reports the cause."""
    columns = remote_sessions.c.ended_at_ms, remote_sessions.c.recording_head

    def kept() -> tuple[int | None, bytes | None]:
        (stored,) = store.read(select(*columns))
        return stored.ended_at_ms, stored.recording_head

    async def act(running: Center) -> None:
        session = await running.open()
        running.endpoints[-1].ended.set_result("the box has closed the tunnel")
        await eventually(lambda: row(store, session.id) == ("ended", "line lost"))
        await eventually(lambda: kept()[1] is not None)
        before = kept()
        await running.exchange(EndMessage(session.id, "a cause of a later version"))
        await running.exchange(EndMessage(session.id, "ended by the person"))
        await eventually(lambda: row(store, session.id) == ("ended", "ended by the person"))
        assert kept() == before

    run(tmp_path / "s", store, act)


def test_denying_a_box_ends_its_open_session(tmp_path: Path, store: Store) -> None:
    async def act(running: Center) -> None:
        session = await running.open()
        denied = DeniedBoxes(store)
        denied.on_denied.append(running.remote.end_of_box)
        with store.transaction() as connection:
            for box in ("RAP-0002", SERIAL):
                entry = {"box": box, "denied_at_ms": 0, "denied_by": "chief", "reason": "stolen"}
                connection.execute(insert(denied_boxes).values(entry))
        following = asyncio.ensure_future(denied.follow(None))
        await eventually(lambda: session.is_over)
        assert session.cause is Cause.ENDED_BY_STAFF
        following.cancel()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datacenter.enrolment.box_lists.FOLLOW_SECONDS", 0.01)
        run(tmp_path / "s", store, act)


def test_a_request_without_a_right_is_never_offered(tmp_path: Path, store: Store) -> None:
    async def act(running: Center) -> None:
        running.staff = lambda: None
        session = running.request()
        await eventually(lambda: row(store, session) == ("ended", "refused"))
        assert running.remote.find(session) is None
        assert not running.remote.has_messages(SERIAL)

    run(tmp_path / "s", store, act)


def test_the_end_of_the_program_ends_its_sessions(tmp_path: Path, store: Store) -> None:
    sessions: list[bytes] = []

    async def act(running: Center) -> None:
        sessions.append((await running.open()).id)

    run(tmp_path / "s", store, act)
    assert row(store, sessions[0]) == ("ended", "restarted")
    assert transitions(tmp_path / "s")[-2:] == [("restarted", "ending"), ("closed", "ended")]


def test_a_restart_ends_sessions_that_the_log_shows_as_live_and_informs_the_box(
    tmp_path: Path, store: Store
) -> None:
    folder, sessions = tmp_path / "s", list[bytes]()

    async def act(running: Center) -> None:
        sessions.append((await running.open()).id)
        await eventually(lambda: row(store, sessions[0])[0] == "open")
        (tmp_path / "before").write_bytes((folder / AUDIT).read_bytes())

    async def after(running: Center) -> None:
        await eventually(lambda: row(store, sessions[0])[0] == "ended")
        assert EndMessage(sessions[0], "restarted") in await running.exchange()

    run(folder, store, act)
    (folder / AUDIT).write_bytes((tmp_path / "before").read_bytes())  # as if the program had been killed
    with store.transaction() as connection:
        connection.execute(remote_sessions.update().values(state="open", cause=""))
    run(folder, store, after)
    assert transitions(folder)[-2:] == [("restarted", "ending"), ("closed", "ended")]
    assert row(store, sessions[0]) == ("ended", "restarted")


def test_refused_and_ended_sessions_are_forgotten(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A data center that runs for months must not keep every session in memory."""
    monkeypatch.setattr("wire.session.executor.HISTORY_MAX", 2)

    async def act(running: Center) -> None:
        running.staff = lambda: None
        for _ in range(4):
            refused = running.request()
            await eventually(lambda refused=refused: row(store, refused)[0] == "ended")
        assert not running.remote.desk.sessions
        running.staff = engineer
        for _ in range(5):
            session = await running.offered(running.request())
            running.remote.end(session.id)
            await eventually(lambda session=session: session.is_over)
        assert len(running.remote.desk.sessions) == 3
        assert all(session.state is SessionState.ENDED for session in running.remote.desk.sessions)

    run(tmp_path / "s", store, act)


def test_keys_of_boxes_are_those_of_their_certificates_and_kept(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    async def learn() -> None:
        threads = StoreThreads(store)
        keys = BoxKeys(store, threads.main, lambda: 1)
        assert not keys.of(SERIAL)
        chain = Authority.make("vendor").certify(SERIAL, make_rsa_key().public_key())
        await keys.learn(SERIAL, x509.load_pem_x509_certificate(chain).public_bytes(Encoding.DER))
        assert not keys.of(SERIAL)
        assert "no key of curve P-256" in caplog.text
        await keys.learn(SERIAL, box_certificate())
        assert keys.of(SERIAL) == BOX_KEYS
        assert BoxKeys(store, threads.main, lambda: 1).of(SERIAL) == BOX_KEYS
        assert not keys.of("RAP-0002")
        given = BoxKeys(store, threads.main, lambda: 1, {SERIAL: STRANGER.public_key()})
        await given.learn(SERIAL, box_certificate())
        assert given.of(SERIAL) == key_set(STRANGER.public_key())
        await threads.close()

    with caplog.at_level(logging.WARNING):
        asyncio.run(learn())


def test_a_bug_in_the_decision_ends_all_sessions(
    tmp_path: Path, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    async def act(running: Center) -> None:
        session = await running.open()

        def fails() -> None:
            raise LookupError("a bug")

        running.staff = fails
        await eventually(lambda: session.is_over)

    run(tmp_path / "s", store, act)
    assert "cannot be decided" in caplog.text
