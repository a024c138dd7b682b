"""`rap session connect` gives only the requester access to a session: raw TCP, or a desktop for VNC viewers."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from datacenter.desktop.recording import read_recording
from datacenter.sessions import live_stream
from datacenter.sessions.remote import RECORDINGS
from datacenter.sessions.session import DeskSession
from tests.support.datacenter.web.desktop_pages import Pages, run_pages
from tests.support.eventually import eventually
from tests.support.paths import ROOT
from wire.desktop.connection import TcpChannel, converse
from wire.desktop.rfb import KeyEvent
from wire.desktop.rfb_client import handshake
from wire.desktop.stream import RAW_STREAM
from wire.session.grant import SessionService
from wire.session.table import Cause


@asynccontextmanager
async def connecting(served: Pages, folder: Path, session: str, staff: str) -> AsyncIterator[tuple[str, int]]:
    """Run `rap session connect` with a token of a person; gives its first line of output and its TCP port."""
    token = folder / "token.txt"
    program = await asyncio.to_thread(served.web.sign_in(staff).program, "service")
    token.write_text(program.secret + "\n")
    command = ("-m", "rap", "session", "connect", session, "--url", f"http://127.0.0.1:{served.port}")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *(*command, "--token-file", str(token), "--listen", "127.0.0.1:0"),
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    assert process.stdout is not None
    line = (await process.stdout.readline()).decode()
    try:
        yield line, int(line.split(";")[0].rpartition(":")[2])
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


@pytest.mark.slow("the command starts in a separate process")
def test_a_program_communicates_with_the_instrument_and_both_directions_are_recorded(tmp_path: Path) -> None:
    sessions: list[DeskSession] = []
    large = os.urandom(100_000)

    async def act(served: Pages) -> None:
        session = await served.center.open(service=SessionService.TCP)
        sessions.append(session)
        async with connecting(served, tmp_path, session.id.hex(), "engineer") as (_, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            box = await served.box()
            writer.write(b"hello")
            assert await box.read_exactly(5) == b"hello"
            await box.write(large)
            assert await reader.readexactly(len(large)) == large
            served.center.remote.end(session.id)
            assert await reader.read() == b""
            writer.close()
        await eventually(lambda: session.is_over)

    run_pages(tmp_path, act)
    path = tmp_path / "sessions" / RECORDINGS / f"{sessions[0].id.hex()}.rapr"
    with path.open("rb") as file:
        recording = read_recording(file, sessions[0].recorded)
    assert recording.warm == RAW_STREAM
    by_direction = {
        direction: b"".join(one.message[2:] for one in recording.frames if one.message[0] == direction)
        for direction in (live_stream.FROM_INSTRUMENT, live_stream.TO_INSTRUMENT)
    }
    assert by_direction == {live_stream.FROM_INSTRUMENT: large, live_stream.TO_INSTRUMENT: b"hello"}


@pytest.mark.slow("the command starts in a separate process")
def test_another_person_gets_no_data(tmp_path: Path) -> None:
    async def act(served: Pages) -> None:
        session = await served.center.open(service=SessionService.TCP)
        async with connecting(served, tmp_path, session.id.hex(), "european") as (_, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            assert await reader.read() == b""
            writer.close()
        assert not served.center.endpoints[-1].box.done()

    run_pages(tmp_path, act)


@pytest.mark.slow("the command starts in a separate process")
def test_a_vnc_viewer_of_the_requester_sees_and_operates_a_desktop(tmp_path: Path) -> None:
    async def act(served: Pages) -> None:
        session = await served.center.open()
        box = await served.shown(session)
        async with connecting(served, tmp_path, session.id.hex(), "engineer") as (_, port):
            viewer = TcpChannel(*await asyncio.open_connection("127.0.0.1", port))
            init = await converse(viewer, handshake())
            assert (init.width, init.height, init.name) == (64, 48, "CHEM-0001")
            await viewer.write(KeyEvent(0x61, True).encode())
            assert await box.read_exactly(8) == KeyEvent(0x61, True).encode()
            served.center.remote.end(session.id)
            assert await viewer.reader.read() == b""
            viewer.writer.close()
        await eventually(lambda: session.is_over)

    run_pages(tmp_path, act)


@pytest.mark.slow("the command starts in a separate process")
def test_a_vnc_viewer_of_another_person_is_refused(tmp_path: Path) -> None:
    async def act(served: Pages) -> None:
        session = await served.center.open()
        await served.shown(session)
        async with connecting(served, tmp_path, session.id.hex(), "specialist") as (_, port):
            viewer = TcpChannel(*await asyncio.open_connection("127.0.0.1", port))
            assert await viewer.reader.read() == b""
            viewer.writer.close()

    run_pages(tmp_path, act)


def test_a_session_that_no_program_uses_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_stream, "UNUSED_SECONDS", 0.2)

    async def act(served: Pages) -> None:
        session = await served.center.open(service=SessionService.TCP)
        await eventually(lambda: session.is_over)
        assert session.cause is Cause.VIEWER_LOST

    run_pages(tmp_path, act)


@pytest.mark.parametrize(
    ("mode", "four_eyes", "error"),
    [("view", (), "request `control`"), ("control", ("berlin-1",), "require two viewers")],
)
def test_modes_that_a_raw_service_cannot_guarantee_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, four_eyes: tuple[str, ...], error: str
) -> None:
    monkeypatch.setattr("datacenter.sessions.requests.desktop_of", lambda _model: (SessionService.TCP, 3389))

    async def act(served: Pages) -> None:
        engineer = served.web.sign_in("engineer")
        form = {"reason": "x", "ticket": "T", "minutes": "5", "mode": mode}
        target = "/instruments/RAP-0001/CHEM-0001/sessions"
        answer = await asyncio.to_thread(
            lambda: engineer.post(target, {"form_token": engineer.form_token(), **form})
        )
        assert answer.status in (400, 409)
        assert error in answer.text

    run_pages(tmp_path, act, four_eyes)
