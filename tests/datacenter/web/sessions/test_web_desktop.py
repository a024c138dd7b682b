"""The desktop of a remote session in the browser: permitted viewers, and the end of the session without viewers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus

from agents.box.desktop.bridge import DesktopBridge
from datacenter.desktop.recording import read_recording
from datacenter.sessions import live_desktop
from datacenter.sessions.remote import AUDIT, RECORDINGS
from datacenter.sessions.session import DeskSession
from tests.support.datacenter.web.browser import PROGRAM, BrowserPage, axe_violations, open_browser
from tests.support.datacenter.web.desktop_pages import Pages, run_pages
from tests.support.desktop.canvas import SHOWN, canvas_hash
from tests.support.desktop.screens import Analyzer, to_picture
from tests.support.desktop.vnc_server import vnc_server
from tests.support.desktop.x11 import FullWindow
from tests.support.eventually import eventually
from wire.desktop.connection import TcpChannel
from wire.desktop.rfb import KeyEvent
from wire.session.audit import parse_audit
from wire.session.table import Cause

HANDSHAKE = b"RFB 003.008\n"


async def greet(viewer: ClientConnection) -> None:
    """Perform the RFB handshake."""
    assert await viewer.recv() == HANDSHAKE
    await viewer.send(HANDSHAKE + b"\x01\x01")


def causes(folder: Path) -> list[str]:
    lines = parse_audit((folder / "sessions" / AUDIT).read_bytes()).lines
    return [line.record.cause for line in lines if line.record.state == "ending"]


def test_a_closed_tab_ends_the_session_and_is_audited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One known product leaves sessions open after the browser's tab was closed."""
    assert live_desktop.VIEWER_SECONDS < 5
    monkeypatch.setattr(live_desktop, "VIEWER_SECONDS", 0.2)

    async def act(served: Pages) -> None:
        session = await served.center.open()
        await served.shown(session)
        async with served.viewer(session, "engineer") as viewer:
            await greet(viewer)
        await eventually(lambda: session.is_over)
        assert session.cause is Cause.VIEWER_LOST

    run_pages(tmp_path, act)
    assert causes(tmp_path) == ["viewer lost"]


def test_reloading_the_page_does_not_end_the_session(tmp_path: Path) -> None:
    async def act(served: Pages) -> None:
        session = await served.center.open()
        await served.shown(session)
        for _ in range(2):
            async with served.viewer(session, "engineer") as viewer:
                await greet(viewer)
        assert not session.is_over

    run_pages(tmp_path, act)


def test_a_session_without_viewers_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_desktop, "FIRST_VIEWER_SECONDS", 0.2)

    async def act(served: Pages) -> None:
        session = await served.center.open()
        await eventually(lambda: session.is_over)
        assert session.cause is Cause.VIEWER_LOST

    run_pages(tmp_path, act)


def test_keys_of_the_requester_reach_the_box_and_those_of_a_watcher_do_not(tmp_path: Path) -> None:
    async def act(served: Pages) -> None:
        session = await served.center.open()
        box = await served.shown(session)
        async with (
            served.viewer(session, "specialist") as second,
            served.viewer(session, "engineer") as viewer,
        ):
            await greet(second)
            await greet(viewer)
            await second.send(KeyEvent(0x62, True).encode())
            await viewer.send(KeyEvent(0x61, True).encode())
            assert await box.read_exactly(8) == KeyEvent(0x61, True).encode()
            assert served.web.entries[-1].action == "view-session" or any(
                one.action == "view-session" and one.actor == "specialist" for one in served.web.entries
            )

    run_pages(tmp_path, act)


def test_at_a_site_with_four_eyes_a_single_person_cannot_operate_the_desktop(tmp_path: Path) -> None:
    async def act(served: Pages) -> None:
        session = await served.center.open()
        box = await served.shown(session)
        page = f"/sessions/{session.id.hex()}/desktop"
        engineer = served.web.sign_in("engineer")
        async with served.viewer(session, "engineer") as viewer, served.viewer(session, "engineer") as again:
            await greet(viewer)
            await greet(again)
            await viewer.send(KeyEvent(0x61, True).encode())
            assert "waiting for a second person" in (await asyncio.to_thread(engineer.get, page)).text
            async with served.viewer(session, "specialist") as second:
                await greet(second)
                assert "waiting for" not in (await asyncio.to_thread(engineer.get, page)).text
                await viewer.send(KeyEvent(0x62, True).encode())
                assert await box.read_exactly(8) == KeyEvent(0x62, True).encode()
            assert await box.read_exactly(8) == KeyEvent(0x62, False).encode()
            assert "waiting for a second person" in (await asyncio.to_thread(engineer.get, page)).text

    run_pages(tmp_path, act, ["berlin-1"])


@pytest.mark.parametrize(
    ("staff", "origin"),
    [("observer", ""), ("supervisor", ""), ("nobody", ""), ("engineer", "https://elsewhere.example")],
)
def test_viewers_without_permission_get_no_data(tmp_path: Path, staff: str, origin: str) -> None:
    async def act(served: Pages) -> None:
        session = await served.center.open()
        await served.shown(session)
        with pytest.raises(InvalidStatus, match="403"):
            async with served.viewer(session, staff, origin):
                pass

    run_pages(tmp_path, act)


def test_the_end_of_the_session_closes_its_viewers_and_a_new_one_needs_a_new_grant(tmp_path: Path) -> None:
    async def act(served: Pages) -> None:
        session = await served.center.open()
        await served.shown(session)
        async with served.viewer(session, "engineer") as viewer:
            await greet(viewer)
            served.center.remote.end(session.id)
            with pytest.raises(ConnectionClosed):
                while True:
                    await viewer.recv()
        await eventually(lambda: session.is_over)
        with pytest.raises(InvalidStatus, match="403"):
            async with served.viewer(session, "engineer"):
                pass

    run_pages(tmp_path, act)


def test_the_end_of_the_desktop_ends_the_session_with_a_complete_recording(tmp_path: Path) -> None:
    """One known product loses the last minutes of recordings."""
    sessions: list[DeskSession] = []

    async def act(served: Pages) -> None:
        session = await served.center.open()
        sessions.append(session)
        box = await served.shown(session)
        box.writer.transport.abort()
        await eventually(lambda: session.is_over)
        assert session.cause is Cause.LINE_LOST

    run_pages(tmp_path, act)
    path = tmp_path / "sessions" / RECORDINGS / f"{sessions[0].id.hex()}.rapr"
    with path.open("rb") as file:
        recording = read_recording(file, sessions[0].recorded)
    assert len(recording.frames) == 1


def test_a_recording_that_cannot_be_written_ends_the_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One known product lets sessions continue while its disk is full."""
    monkeypatch.setattr(live_desktop, "FLUSH_SECONDS", 0.1)

    async def act(served: Pages) -> None:
        session = await served.center.open()
        await served.shown(session)

        def full(_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("datacenter.sessions.recordings.RecordingWriter.flush", full)
        await eventually(lambda: session.cause is not None)
        assert session.cause is Cause.RECORDING_FAILED
        monkeypatch.undo()

    run_pages(tmp_path, act)


async def becomes(page: BrowserPage, script: str, expected: object) -> None:
    async def holds() -> bool:
        return bool(await asyncio.to_thread(page.evaluate, script) == expected)

    await eventually(holds, every_s=0.2)


LEAVE = (
    "!document.querySelector('#screen canvas').dispatchEvent(new KeyboardEvent('keydown', "
    "{key: 'Shift', ctrlKey: true, altKey: true, shiftKey: true, bubbles: true, cancelable: true}))"
)
"""JavaScript that presses the key combination which leaves the desktop; true if the desktop does not get it."""


@pytest.mark.slow("a browser, a VNC server and the time of pages that ask every 2 s")
@pytest.mark.skipif(PROGRAM is None, reason="needs chromium: make setup-datacenter")
def test_staff_request_see_operate_and_end_a_desktop_in_a_browser(tmp_path: Path) -> None:
    step = next(iter(Analyzer().script()))

    async def act(served: Pages) -> None:
        host = f"http://127.0.0.1:{served.port}"

        async def call(function: Callable[..., Any], *arguments: object) -> Any:
            return await asyncio.to_thread(function, *arguments)

        await call(page.resize, 1280, 800)
        await call(page.open, f"{host}/sign-in")
        await call(page.evaluate, "document.querySelector('button[value=engineer]').click()")
        await call(page.wait_for, "document.querySelector('h1')?.textContent === 'Fleet'")
        await call(page.open, f"{host}/sessions?box=RAP-0001&instrument=CHEM-0001")
        fill = (
            "for (const name of ['reason', 'ticket']) document.querySelector(`[name=${name}]`).value = 'x';"
        )
        await call(page.evaluate, f"{fill} document.querySelector('.primary').click()")
        await call(page.wait_for, "location.pathname.length > 20")
        shown: str = await call(page.evaluate, "location.pathname")
        session = await served.center.offered(bytes.fromhex(shown.rpartition("/")[2]))
        await becomes(
            page, "document.querySelector('.digits span')?.textContent.replace(' ', '')", session.code
        )
        await served.center.grant(session)
        line = await served.box()
        vnc = TcpChannel(*await asyncio.open_connection("127.0.0.1", server.port))
        bridge = DesktopBridge(vnc, line, has_control=True, bytes_per_second=10_000_000)
        running = asyncio.create_task(bridge.run())
        await call(page.wait_for, "location.pathname.endsWith('/desktop')")
        await call(window.show, step.screen)
        await becomes(page, SHOWN, canvas_hash(to_picture(step.screen)))
        await becomes(page, "document.getElementById('connection').textContent", "connected")
        await call(page.press, "Enter")
        assert (await call(window.next_event)).is_press
        await call(page.wait_for, "document.getElementById('status').textContent.includes('kbit/s')")
        assert await call(axe_violations, page) == []
        for width in (400, 1280):
            await call(page.resize, width, 800)
            await call(page.screenshot, tmp_path / f"desktop-{width}.png")
            assert await call(page.evaluate, "document.documentElement.scrollWidth") <= width
        assert await call(page.evaluate, f"{LEAVE} && document.activeElement.id") == "end"
        without_button = f"const end = document.getElementById('end'); end.id = ''; {LEAVE}"
        assert await call(page.evaluate, without_button) is True, (
            "a person who only watches has no such button"
        )
        await call(page.evaluate, "document.querySelector('button.end').click()")
        await call(page.wait_for, "!location.pathname.endsWith('/desktop')")
        await eventually(lambda: session.is_over)
        assert session.cause is Cause.ENDED_BY_STAFF
        running.cancel()
        await asyncio.wait([running])
        assert not page.problems

    with (
        vnc_server(tmp_path) as server,
        FullWindow(server.display) as window,
        open_browser(tmp_path / "browser") as page,
    ):
        run_pages(tmp_path, act)
