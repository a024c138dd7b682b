"""The local page of a complete box on loopback: a person at the instrument opens and ends sessions."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlencode

from agents.box.box import Box
from agents.box.local_page import LED, run_local_page
from datacenter.sessions.session import DeskSession
from hal.emul.indicators import EmulIndicators
from hal.indicators import Light
from settings.board import load_board
from tests.support.agents.boxes import CLOCK, box_config, disk, running_box
from tests.support.agents.page_client import forms_of
from tests.support.agents.sessions.center import (
    BOX_SERIAL,
    WANTED,
    LoopbackTunnels,
    SessionCenter,
    session_center,
    with_sessions,
)
from tests.support.crypto.hierarchy import Hierarchy
from tests.support.eventually import eventually
from wire.http.connection import ClientConnection, Response
from wire.session.table import Cause, SessionState

PORT = 1


class Person:
    """A person at the instrument, with a browser and the switch of the box."""

    def __init__(self, socket: Path, indicators: EmulIndicators) -> None:
        self._socket, self._indicators = socket, indicators

    async def ask(self, method: str, target: str, body: bytes = b"", port: int = PORT) -> Response:
        connection = ClientConnection("rap-page", 1 << 20)
        await eventually(self._socket.exists)
        await asyncio.get_running_loop().create_unix_connection(lambda: connection, str(self._socket))
        try:
            return await connection.request(method, target, body, f"X-Rap-Port: {port}\r\n")
        finally:
            connection.close()

    async def look(self) -> str:
        return (await self.ask("GET", "/")).body.decode()

    async def permit(self, session: DeskSession) -> None:
        text = (await self.ask("GET", f"/offer/{session.id.hex()}")).body.decode()
        await self._send(text, "code", code=session.code)

    async def end(self) -> None:
        await self._send(await self.look(), "end")

    async def refuse(self, session: DeskSession) -> None:
        await self._send((await self.ask("GET", f"/offer/{session.id.hex()}")).body.decode(), "refuse")

    def hold_switch(self) -> None:
        self._indicators.backend.open_cover("chassis")

    async def _send(self, text: str, name: str, **values: str) -> None:
        form = forms_of(text)[name]
        answer = await self.ask("POST", form.action, urlencode(form.fields | values).encode())
        assert answer.status == HTTPStatus.SEE_OTHER

    @property
    def light(self) -> Light:
        return self._indicators.backend.lights[LED]


Act = Callable[[Box, SessionCenter, Person], Awaitable[None]]


def run(pki: Hierarchy, folder: Path, act: Act) -> None:
    async def inside() -> None:
        tunnels = LoopbackTunnels(9)
        async with session_center(folder, pki, tunnels) as center:
            config = with_sessions(box_config(pki, center.server.port, heartbeat_s=1.0), folder, tunnels)
            board, indicators = load_board("rap-4"), EmulIndicators((LED,), ("chassis",))
            async with running_box(config, disk(), tunnels.hardware(folder)) as box:
                serving = asyncio.ensure_future(
                    run_local_page(config, board, box, CLOCK, indicators, lambda _: None)
                )
                await act(box, center, Person(folder / "page.sock", indicators))
            serving.cancel()

    asyncio.run(inside())


async def offered(box: Box, center: SessionCenter) -> DeskSession:
    await eventually(lambda: box.sessions is not None)
    session = await center.desk.request(WANTED)
    await center.reached(session, SessionState.OFFERED)
    return session


async def opened(box: Box, center: SessionCenter, person: Person) -> DeskSession:
    session = await offered(box, center)
    await person.permit(session)
    await center.reached(session, SessionState.OPEN)
    sessions = box.sessions
    assert sessions is not None
    await eventually(lambda: sessions.at_port(PORT)[-1].state is SessionState.OPEN)
    return session


def cause_at(box: Box) -> Cause | None:
    assert box.sessions is not None
    return box.sessions.at_port(PORT)[-1].cause


def test_the_person_permits_a_session_of_a_complete_box_and_ends_it(pki: Hierarchy, tmp_path: Path) -> None:
    async def act(box: Box, center: SessionCenter, person: Person) -> None:
        text = await person.look()
        assert BOX_SERIAL in text and "CHEM-1" in text and "HEMA-1" in text
        assert person.light is Light.OFF
        session = await offered(box, center)
        await eventually(lambda: person.light is Light.SLOW)
        await person.permit(session)
        await center.reached(session, SessionState.OPEN)
        await eventually(lambda: person.light is Light.ON)
        await person.end()
        await center.reached(session, SessionState.ENDED)
        assert cause_at(box) is Cause.ENDED_BY_PERSON
        await eventually(lambda: person.light is Light.OFF)

    run(pki, tmp_path, act)


def test_the_person_refuses_a_session_of_a_complete_box(pki: Hierarchy, tmp_path: Path) -> None:
    async def act(box: Box, center: SessionCenter, person: Person) -> None:
        session = await offered(box, center)
        await person.refuse(session)
        await center.reached(session, SessionState.ENDED)
        assert cause_at(box) is Cause.REFUSED

    run(pki, tmp_path, act)


def test_holding_the_switch_ends_the_session(pki: Hierarchy, tmp_path: Path) -> None:
    async def act(box: Box, center: SessionCenter, person: Person) -> None:
        session = await opened(box, center, person)
        person.hold_switch()
        await center.reached(session, SessionState.ENDED)
        assert cause_at(box) is Cause.ENDED_BY_PERSON

    run(pki, tmp_path, act)


def test_the_end_of_the_program_ends_the_session(pki: Hierarchy, tmp_path: Path) -> None:
    sessions = []

    async def act(box: Box, center: SessionCenter, person: Person) -> None:
        sessions.append(await opened(box, center, person))

    run(pki, tmp_path, act)
    assert sessions[0].state is SessionState.ENDED


def test_a_request_without_the_port_of_httpd_is_refused(pki: Hierarchy, tmp_path: Path) -> None:
    async def act(box: Box, center: SessionCenter, person: Person) -> None:
        assert (await person.ask("GET", "/", port=3)).status == HTTPStatus.FORBIDDEN

    run(pki, tmp_path, act)
