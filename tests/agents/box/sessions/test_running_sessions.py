"""Sessions of a complete box on loopback: the connection for their messages, the desktop, the log, and their end."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest

from agents.box.box import Box
from agents.box.sessions.sessions import BoxSessions
from datacenter.desktop.receiver import DesktopReceiver
from datacenter.desktop.recording import RecordingWriter
from datacenter.sessions.session import DeskSession
from tests.support.agents.boxes import box_config, disk, running_box
from tests.support.agents.sessions.center import (
    WANTED,
    LoopbackTunnels,
    SessionCenter,
    session_center,
    with_sessions,
)
from tests.support.crypto.hierarchy import Hierarchy
from tests.support.desktop.vnc_server import vnc_server
from tests.support.eventually import WAIT_SECONDS_MAX, eventually
from wire.desktop.connection import TcpChannel
from wire.session.audit import parse_audit
from wire.session.grant import SessionService
from wire.session.table import Cause, SessionState

Act = Callable[[Box, SessionCenter], Awaitable[None]]
FOLLOWED = (Cause.PEER_ENDED, Cause.LINE_LOST)
"""The possible causes at the data center of a session that the box has ended: whichever is noticed first."""


def run(pki: Hierarchy, folder: Path, act: Act, tunnels: LoopbackTunnels | None = None) -> None:
    """Call `act` with a running box and its data center; afterwards both audit files must prove every session."""
    tunnels = tunnels or LoopbackTunnels(9)

    async def inside() -> None:
        async with session_center(folder, pki, tunnels) as center:
            config = with_sessions(box_config(pki, center.server.port, heartbeat_s=1.0), folder, tunnels)
            async with running_box(config, disk(), tunnels.hardware(folder)) as box:
                await act(box, center)
        if (folder / "sessions.audit").exists():
            assert center.verdict().is_proven, center.verdict()

    asyncio.run(inside())


def sessions_of(box: Box) -> BoxSessions:
    assert box.sessions is not None
    return box.sessions


async def offered(box: Box, center: SessionCenter, **changes: object) -> DeskSession:
    """Request a session, and wait until the box shows it."""
    await eventually(lambda: box.sessions is not None)
    session = await center.desk.request(WANTED._replace(**changes))  # type: ignore[arg-type]
    await center.reached(session, SessionState.OFFERED)
    return session


async def opened(box: Box, center: SessionCenter, **changes: object) -> DeskSession:
    """Request a session, enter the code, and wait until it is open at both ends."""
    session = await offered(box, center, **changes)
    assert await sessions_of(box).enter_code(session.id, 1, session.code)
    await center.reached(session, SessionState.OPEN)
    await eventually(lambda: sessions_of(box).at_port(1)[-1].state is SessionState.OPEN)
    return session


async def connected(session: DeskSession) -> TcpChannel:
    """Connect to the desktop, as the data center does."""
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    transports: list[asyncio.Transport] = []
    original = protocol.connection_made

    def connection_made(transport: asyncio.Transport) -> None:
        transports.append(transport)
        original(transport)

    protocol.connection_made = connection_made  # type: ignore[method-assign, assignment]
    await session.connect(protocol)
    loop = asyncio.get_running_loop()
    return TcpChannel(reader, asyncio.StreamWriter(transports[0], protocol, reader, loop))


def test_an_offer_is_shown_after_the_next_reply_and_its_code_opens_a_session(
    pki: Hierarchy, tmp_path: Path
) -> None:
    async def act(box: Box, center: SessionCenter) -> None:
        session = await opened(box, center)
        at_box = sessions_of(box).at_port(1)[-1]
        await sessions_of(box).end(session.id, 1)
        await center.reached(session, SessionState.ENDED)
        assert at_box.cause is Cause.ENDED_BY_PERSON
        assert session.cause in FOLLOWED

    run(pki, tmp_path, act)


def test_the_desktop_of_a_real_vnc_server_is_shown_and_ends_with_the_session(
    pki: Hierarchy, tmp_path: Path
) -> None:
    with vnc_server(tmp_path, size=(320, 200)) as server:
        tunnels = LoopbackTunnels(server.port)

        async def act(box: Box, center: SessionCenter) -> None:
            session = await opened(box, center)
            channel = await connected(session)
            receiver = DesktopReceiver(channel, RecordingWriter(io.BytesIO()))
            receiving = asyncio.ensure_future(receiver.run())
            await eventually(lambda: receiver.updates > 0)
            assert (receiver.picture.width, receiver.picture.height) == (320, 200)
            with pytest.raises(OSError):
                await asyncio.open_connection("127.0.0.1", tunnels.desktop_port)
            await sessions_of(box).end(session.id, 1)
            with suppress(EOFError, OSError):
                await receiving
            await center.reached(session, SessionState.ENDED)

        run(pki, tmp_path, act, tunnels)


def test_a_session_ends_when_the_instruments_desktop_ends(pki: Hierarchy, tmp_path: Path) -> None:
    with vnc_server(tmp_path, size=(320, 200)) as server:

        async def act(box: Box, center: SessionCenter) -> None:
            session = await opened(box, center)
            await connected(session)
            server.process.terminate()
            await center.reached(session, SessionState.ENDED)
            assert sessions_of(box).at_port(1)[-1].cause is Cause.LINE_LOST

        run(pki, tmp_path, act, LoopbackTunnels(server.port))


def test_the_session_of_an_instrument_without_a_desktop_server_ends(pki: Hierarchy, tmp_path: Path) -> None:
    async def act(box: Box, center: SessionCenter) -> None:
        session = await opened(box, center)
        await connected(session)
        await center.reached(session, SessionState.ENDED)

    run(pki, tmp_path, act)


@pytest.mark.parametrize(
    "changes",
    [
        {"instrument": "HEMA-1", "port": 2},
        {"instrument": "CHEM-1", "port": 2},
        {"instrument": "OTHER-1"},
        {"tcp_port": 22},
        {"service": SessionService.TCP},
    ],
    ids=[
        "instrument without an address",
        "another port",
        "unknown instrument",
        "TCP port",
        "unmasked service",
    ],
)
def test_an_offer_that_does_not_match_the_configuration_is_refused(
    pki: Hierarchy, tmp_path: Path, changes: dict[str, object]
) -> None:
    async def act(box: Box, center: SessionCenter) -> None:
        await eventually(lambda: box.sessions is not None)
        session = await center.desk.request(WANTED._replace(**changes))  # type: ignore[arg-type]
        await center.reached(session, SessionState.ENDED)
        assert session.cause is Cause.PEER_ENDED

    run(pki, tmp_path, act)


def test_the_end_of_the_program_ends_sessions_and_reports_it(
    pki: Hierarchy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agents.box.sessions.running.END_SECONDS_MAX", WAIT_SECONDS_MAX)
    tunnels = LoopbackTunnels(9)

    async def inside() -> None:
        async with session_center(tmp_path, pki, tunnels) as center:
            config = with_sessions(box_config(pki, center.server.port, heartbeat_s=1.0), tmp_path, tunnels)
            async with running_box(config, disk(), tunnels.hardware(tmp_path)) as box:
                session = await opened(box, center)
            assert not tunnels.path.elements()
            await center.reached(session, SessionState.ENDED)
            assert session.cause in FOLLOWED
        assert center.verdict().is_proven

    asyncio.run(inside())


@pytest.mark.parametrize("through", [SessionState.OFFERED, SessionState.OPEN, SessionState.ENDING])
def test_a_restarted_box_ends_the_sessions_that_its_log_shows_as_live(
    pki: Hierarchy, tmp_path: Path, through: SessionState
) -> None:
    """The log of a complete session, cut after its first record of a state, stands for the log of a killed box."""
    tunnels = LoopbackTunnels(9)

    async def first(box: Box, center: SessionCenter) -> None:
        session = await opened(box, center)
        await sessions_of(box).end(session.id, 1)
        await center.reached(session, SessionState.ENDED)

    run(pki, tmp_path, first, tunnels)
    file = tmp_path / "sessions.audit"
    lines = file.read_bytes().splitlines(keepends=True)
    states = [""] + [line.record.state for line in parse_audit(b"".join(lines)).lines]
    file.write_bytes(b"".join(lines[: states.index(through) + 1]))

    async def again() -> None:
        async with session_center(tmp_path, pki, tunnels) as center:
            config = with_sessions(box_config(pki, center.server.port), tmp_path, tunnels)
            async with running_box(config, disk(), tunnels.hardware(tmp_path)) as box:
                await eventually(lambda: box.sessions is not None and not box.sessions.is_live)
        records = [line.record for line in parse_audit(file.read_bytes()).lines]
        last = [(record.event, record.state) for record in records if record.kind == "transition"][-2:]
        event = "person ends" if through is SessionState.ENDING else "restarted"
        assert last == [(event, "ending"), ("closed", "ended")]

    asyncio.run(again())


def test_a_box_without_sessions_in_its_configuration_has_none(pki: Hierarchy) -> None:
    async def inside() -> None:
        async with running_box(box_config(pki, 9), disk()) as box:
            assert box.sessions is None

    asyncio.run(inside())


def test_a_log_that_cannot_be_written_permits_no_session_and_stops_no_report(
    pki: Hierarchy, tmp_path: Path
) -> None:
    tunnels = LoopbackTunnels(9)
    tunnels.log_fails = True

    async def act(box: Box, center: SessionCenter) -> None:
        await center.until(lambda: "session-log-unusable" in center.audits)
        assert box.sessions is None

    run(pki, tmp_path, act, tunnels)
