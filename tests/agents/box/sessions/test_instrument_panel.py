"""A person permits and ends remote sessions on the instrument itself, through its agent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.box.box import Box
from agents.box.sessions.instrument_panel import InstrumentPanels
from agents.instrument.session_panel import SessionPanel
from datacenter.sessions.session import DeskSession
from settings.types import Endpoint
from tests.support.agents.boxes import box_config, connect, disk, running_box
from tests.support.agents.sessions.box import PORT, SessionBox
from tests.support.agents.sessions.box import run as run_emulated
from tests.support.agents.sessions.center import (
    WANTED,
    LoopbackTunnels,
    SessionCenter,
    session_center,
    with_sessions,
)
from tests.support.crypto.hierarchy import Hierarchy
from tests.support.eventually import eventually
from tests.support.wire.grants import OFFER
from wire.http.connection import Peer, Request
from wire.messages import decode, encode
from wire.session.grant import PresenceWay
from wire.session.panel import PATH, EndSession, EnterCode, PanelAsk, PanelReply, Refuse, ShownSession
from wire.session.table import Cause, SessionState
from wire.tls.context import Identity, client_context


class Display:
    """The instrument's display, which a person can switch off."""

    def __init__(self) -> None:
        self.sessions: Sequence[ShownSession] = ()
        self.is_on = True

    def show(self, sessions: Sequence[ShownSession]) -> None:
        self.sessions = sessions

    @property
    def displayed(self) -> Sequence[bytes]:
        return [shown.session for shown in self.sessions] if self.is_on else []

    def states(self) -> list[str]:
        return [shown.state for shown in self.sessions]


@asynccontextmanager
async def panel(box: Box, identity: Identity, port: int = 1) -> AsyncIterator[tuple[SessionPanel, Display]]:
    """Run the agent of an instrument with a display until the end of the block."""
    display = Display()
    agent = SessionPanel(
        Endpoint("127.0.0.1", box.tcp_ports[port]), client_context(identity), Random(1), display
    )
    task = asyncio.create_task(agent.run())
    try:
        yield agent, display
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def run(pki: Hierarchy, folder: Path, act: Callable[[Box, SessionCenter], Awaitable[None]]) -> None:
    """Call `act` with a running box and its data center; afterwards both audit files must prove every session."""
    tunnels = LoopbackTunnels(9)

    async def inside() -> None:
        async with session_center(folder, pki, tunnels) as center:
            config = with_sessions(box_config(pki, center.server.port, heartbeat_s=1.0), folder, tunnels)
            async with running_box(config, disk(), tunnels.hardware(folder)) as box:
                await eventually(lambda: box.sessions is not None)
                await act(box, center)
        assert center.verdict().is_proven, center.verdict()

    asyncio.run(inside())


async def request(center: SessionCenter) -> DeskSession:
    session = await center.desk.request(WANTED)
    await center.reached(session, SessionState.OFFERED)
    return session


def test_the_person_permits_and_ends_a_session_on_the_instrument(pki: Hierarchy, tmp_path: Path) -> None:
    async def act(box: Box, center: SessionCenter) -> None:
        async with panel(box, pki.instrument) as (agent, display):
            session = await request(center)
            await eventually(lambda: display.states() == ["offered"])
            (shown,) = display.sessions
            assert (shown.staff, shown.mode, shown.ways) == (WANTED.staff, "control", ["code"])
            agent.enter_code(session.id, f"{(int(session.code) + 1) % 1_000_000:06}")
            agent.enter_code(session.id, session.code)
            await center.reached(session, SessionState.OPEN)
            assert session.grant is not None
            assert [proof.observation for proof in session.grant.consent.evidence] == ["instrument CHEM-1"]
            await eventually(lambda: display.states() == ["open"])
            assert display.sessions[0].is_shared
            agent.end(session.id)
            await eventually(lambda: display.states() == ["ended"])
            assert display.sessions[0].cause == "ended by the person"
            await center.reached(session, SessionState.ENDED)

    run(pki, tmp_path, act)


def test_the_person_refuses_on_the_instrument(pki: Hierarchy, tmp_path: Path) -> None:
    async def act(box: Box, center: SessionCenter) -> None:
        async with panel(box, pki.instrument) as (agent, display):
            session = await request(center)
            await eventually(lambda: display.states() == ["offered"])
            agent.refuse(session.id)
            await center.reached(session, SessionState.ENDED)
            assert session.shown_cause is Cause.REFUSED

    run(pki, tmp_path, act)


def test_another_instrument_sees_and_does_nothing(pki: Hierarchy, tmp_path: Path) -> None:
    async def act(box: Box, center: SessionCenter) -> None:
        async with panel(box, pki.other_instrument, 2) as (agent, display):
            session = await request(center)
            agent.enter_code(session.id, session.code)
            agent.refuse(session.id)
            agent.end(session.id)
            connection = await connect(box, pki.other_instrument, 2)
            ask = PanelAsk([session.id], "", EnterCode(session.id, session.code))
            reply = decode(PanelReply, (await connection.request("POST", PATH, encode(ask))).body)
            connection.close()
            assert reply.sessions == []
            assert not display.sessions
            assert box.sessions is not None
            assert box.sessions.at_port(1)[-1].state is SessionState.OFFERED

    run(pki, tmp_path, act)


async def ask(box: SessionBox, query: PanelAsk | bytes, instrument: str = OFFER.instrument) -> int:
    panels = InstrumentPanels(lambda: box.sessions)
    body = query if isinstance(query, bytes) else encode(query)
    peer = Peer(instrument, "10.77.2.5", lambda: None)
    return (await panels.handle(Request("POST", PATH, {}, body, peer), instrument, PORT)).status


def test_a_code_entered_on_the_instrument_is_refused_while_its_desktop_is_shared() -> None:
    """Staff who operate the desktop could also operate the instrument's display."""

    async def act(box: SessionBox) -> None:
        await box.open()
        second = bytes(16)
        code = await box.offer(box.next_offer(id=second, instrument="CH-4712"))
        await ask(box, PanelAsk([], "", EnterCode(second, code)), "CH-4712")
        assert box.session.state is SessionState.OFFERED
        await ask(box, PanelAsk([], "", EndSession(OFFER.id)))
        assert box.sessions.at_port(PORT)[0].state in (SessionState.ENDING, SessionState.ENDED)

    run_emulated(act)


@pytest.mark.parametrize(("is_displayed", "view_only"), [(True, False), (False, True)])
def test_a_display_that_is_off_makes_the_session_view_only(is_displayed: bool, view_only: bool) -> None:
    async def act(box: SessionBox) -> None:
        await box.open()
        for _ in range(5):
            await ask(box, PanelAsk([OFFER.id] if is_displayed else [], ""))
            await asyncio.sleep(5)
        assert box.session.state is SessionState.OPEN
        assert box.session.view_only == view_only

    run_emulated(act)


@pytest.mark.parametrize("is_displayed", [True, False])
def test_a_press_of_the_switch_permits_the_offer_that_the_instrument_displays(is_displayed: bool) -> None:
    async def act(box: SessionBox) -> None:
        await box.offer()
        await ask(box, PanelAsk([OFFER.id] if is_displayed else [], ""))
        assert await box.sessions.switch_pressed("chassis") == is_displayed
        assert box.session.state is (SessionState.AUTHORIZED if is_displayed else SessionState.OFFERED)

    run_emulated(act, PresenceWay.SWITCH)


actions = st.one_of(
    st.none(),
    st.builds(EnterCode, st.just(OFFER.id), st.from_regex(r"[0-9]{6}", fullmatch=True)),
    st.builds(EndSession, st.just(bytes(16))),
    st.builds(Refuse, st.just(bytes(16))),
)
asks = st.one_of(
    st.builds(PanelAsk, st.lists(st.just(OFFER.id), max_size=4), st.text(max_size=64), actions),
    st.binary(max_size=200),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(asks, st.floats(0, 600)), max_size=12))
def test_no_request_and_no_time_permits_a_session_without_its_code(
    requests: list[tuple[PanelAsk | bytes, float]],
) -> None:
    async def act(box: SessionBox) -> None:
        code = await box.offer()
        for query, seconds in requests:
            if isinstance(query, PanelAsk) and query.action == EnterCode(OFFER.id, code):
                continue
            await ask(box, query)
            await asyncio.sleep(seconds)
        await asyncio.sleep(OFFER.expires - OFFER.issued + 5)
        assert box.session.state is SessionState.ENDED
        assert SessionState.AUTHORIZED not in box.session.reached_s

    run_emulated(act)
