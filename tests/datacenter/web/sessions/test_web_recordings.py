"""Recordings of remote sessions are verified, played for authorized staff, and deleted after their retention."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlalchemy import select
from websockets.exceptions import InvalidStatus

from agents.box.desktop.encoder import PictureEncoder
from datacenter.desktop.recording import RecordingWriter, read_recording
from datacenter.desktop.replay import RecordedDesktop
from datacenter.sessions.recordings import delete_recordings
from datacenter.sessions.remote import AUDIT, RECORDINGS
from datacenter.sessions.session import DeskSession
from datacenter.store.tables.schema import remote_sessions
from rap.__main__ import main
from tests.support.datacenter.web.browser import PROGRAM, open_browser
from tests.support.datacenter.web.desktop_pages import Pages, run_pages
from tests.support.desktop.screens import Analyzer, to_picture
from tests.support.eventually import eventually
from tests.support.wire.grants import DATACENTER, STRANGER
from wire.desktop.rfb import KeyEvent
from wire.desktop.stream import encode_frame, encode_header

SCREENS = [to_picture(step.screen) for step, _ in zip(Analyzer().script(), range(3), strict=False)]


def stream() -> Iterator[bytes]:
    """Yield a stream that shows each of SCREENS for ten seconds."""
    yield encode_header(bytes(8))
    encoder = PictureEncoder(SCREENS[0], level=1)
    for number, screen in enumerate(SCREENS):
        encoder.resized(screen)
        while (message := encoder.next_message()) is not None:
            yield encode_frame(message, number * 10_000)


async def recorded(served: Pages) -> DeskSession:
    """Open a session, record the stream, and end it; return the ended session."""
    session = await served.center.open()
    box = await served.box()
    served.connections.append(box)
    for part in stream():
        await box.write(part)
        if part[:4] != b"RAPD":
            await box.read_exactly(5)
    served.center.remote.end(session.id)
    await eventually(lambda: session.is_over)
    assert served.web.store is not None
    column = remote_sessions.c.recording_head
    query = select(column).where(remote_sessions.c.id == session.id.hex())
    await eventually(lambda: next(served.web.store.read(query))[0] is not None)  # type: ignore[union-attr]
    return session


def file_of(folder: Path, session: DeskSession) -> Path:
    return folder / "sessions" / RECORDINGS / f"{session.id.hex()}.rapr"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, DeskSession]:
    """The folder of a data center in which a session was recorded, and the session."""
    folder, sessions = tmp_path_factory.mktemp("recorded"), list[DeskSession]()

    async def act(served: Pages) -> None:
        sessions.append(await recorded(served))

    run_pages(folder, act)
    (folder / "dc.pub").write_bytes(
        DATACENTER.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    (folder / "other.pub").write_bytes(
        STRANGER.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    return folder, sessions[0]


def verify(folder: Path, *files: Path, key: str = "dc.pub") -> int:
    audit = str(folder / "sessions" / AUDIT)
    return main(
        ["session", "recording", *map(str, files), "--datacenter-key", str(folder / key), "--audit", audit]
    )


def test_a_recording_is_valid_by_its_signed_head_and_the_audit_file(
    finished: tuple[Path, DeskSession], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, session = finished
    assert verify(folder, file_of(folder, session)) == 0
    assert "valid" in capsys.readouterr().out
    assert verify(folder, file_of(folder, session), key="other.pub") == 1


@pytest.mark.parametrize("how", ["cut", "swap", "flip", "recomputed", "other session"])
def test_a_recording_that_was_changed_is_found(
    finished: tuple[Path, DeskSession], tmp_path: Path, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    folder, session = finished
    content = file_of(folder, session).read_bytes()
    name = session.id.hex() if how != "other session" else bytes(16).hex()
    changed, head = tmp_path / f"{name}.rapr", tmp_path / f"{name}.head"
    head.write_bytes(file_of(folder, session).with_suffix(".head").read_bytes())
    offsets = range(0, len(content), len(content) // 20)
    versions = {
        "cut": [content[:offset] for offset in offsets],
        "swap": [content[:5] + content[offset:] + content[5:offset] for offset in offsets if offset > 5],
        "flip": [
            content[:offset] + bytes([content[offset] ^ 1 << offset % 8]) + content[offset + 1 :]
            for offset in offsets
        ],
        "recomputed": [_recomputed(changed)],
        "other session": [content],
    }[how]
    for version in versions:
        changed.write_bytes(version)
        assert verify(folder, changed) == 1, f"{how} is not found"
    assert "NOT valid" in capsys.readouterr().out


def _recomputed(path: Path) -> bytes:
    with path.open("wb") as file:
        writer = RecordingWriter(file)
        for part in list(stream())[:3]:
            writer.add(part)
        writer.end()
    return path.read_bytes()


def test_the_replay_is_exact_at_each_position(finished: tuple[Path, DeskSession]) -> None:
    folder, session = finished
    with file_of(folder, session).open("rb") as file:
        recording = read_recording(file, session.recorded)
    assert list(recording.replay())[-1][1] == SCREENS[-1]

    async def seek() -> None:
        desktop = RecordedDesktop(recording)
        await desktop.send(KeyEvent(0x20, True))  # pause
        running = asyncio.create_task(desktop.run())
        for keys, screen in (([], 0), ([0xFF53], 1), ([0xFF53], 2), ([0xFF51, 0xFF51], 0)):
            for key in keys:
                await desktop.send(KeyEvent(key, True))
            await eventually(lambda screen=screen: desktop.picture == SCREENS[screen])
            assert "paused" in desktop.note
        running.cancel()

    asyncio.run(seek())


def test_recordings_are_played_only_for_authorized_staff(tmp_path: Path) -> None:
    async def act(served: Pages) -> None:
        session = await recorded(served)
        target = f"/sessions/{session.id.hex()}/recording"
        expected = {"engineer": 200, "auditor": 200, "supervisor": 200, "specialist": 403, "observer": 403}
        for staff, status in expected.items():
            client = served.web.sign_in(staff)
            assert (await asyncio.to_thread(client.get, target)).status == status, staff
            page = (await asyncio.to_thread(client.get, f"/sessions/{session.id.hex()}")).text
            assert ("Play the recording" in page) == (status == 200), staff
            assert any(
                (one.actor, one.action, one.outcome == "permitted")
                == (staff, "replay-session", status == 200)
                for one in served.web.entries
            ), staff
        with pytest.raises(InvalidStatus, match="403"):
            async with served.socket(session, "specialist", "replay"):
                pass
        async with served.socket(session, "auditor", "replay") as player:
            assert await player.recv() == b"RFB 003.008\n"

    run_pages(tmp_path, act)


def test_a_changed_recording_is_not_played_and_the_page_says_why(tmp_path: Path) -> None:
    async def act(served: Pages) -> None:
        session = await recorded(served)
        path = file_of(tmp_path, session)
        content = bytearray(path.read_bytes())
        with path.open("rb") as file:
            message = read_recording(file).frames[0].message
        content[content.index(message)] ^= 1  # a changed length would cause another error
        path.write_bytes(content)
        auditor = served.web.sign_in("auditor")
        text = (await asyncio.to_thread(auditor.get, f"/sessions/{session.id.hex()}/recording")).text
        assert "not valid" in text and "hash chain" in text
        with pytest.raises(InvalidStatus, match="403"):
            async with served.socket(session, "auditor", "replay"):
                pass

    run_pages(tmp_path, act)


def test_recordings_are_deleted_after_their_time(tmp_path: Path) -> None:
    async def act(served: Pages) -> None:
        session = await recorded(served)
        store = served.web.store
        assert store is not None
        folder = file_of(tmp_path, session).parent
        assert await asyncio.to_thread(delete_recordings, store, folder, 0, 1) == 0
        assert file_of(tmp_path, session).exists()
        assert await asyncio.to_thread(delete_recordings, store, folder, 2**50, 1) > 0
        assert not list(folder.iterdir())
        auditor = served.web.sign_in("auditor")
        answer = await asyncio.to_thread(auditor.get, f"/sessions/{session.id.hex()}/recording")
        assert answer.status == 409

    run_pages(tmp_path, act)


@pytest.mark.slow("a browser, and the time of a recording at eight times its speed")
@pytest.mark.skipif(PROGRAM is None, reason="needs chromium: make setup-datacenter")
def test_a_recording_is_played_in_a_browser(tmp_path: Path) -> None:
    async def act(served: Pages) -> None:
        session = await recorded(served)
        host = f"http://127.0.0.1:{served.port}"
        await asyncio.to_thread(page.open, f"{host}/sign-in")
        await asyncio.to_thread(page.evaluate, "document.querySelector('button[value=engineer]').click()")
        await asyncio.to_thread(page.wait_for, "document.querySelector('h1')?.textContent === 'Fleet'")
        await asyncio.to_thread(page.open, f"{host}/sessions/{session.id.hex()}/recording")
        await asyncio.to_thread(
            page.wait_for, "document.getElementById('connection').textContent !== 'loading'"
        )
        await asyncio.to_thread(page.evaluate, "document.querySelector('[data-key=\"56\"]').click()")
        shown = "document.getElementById('connection').textContent.includes('0:20, end')"
        await asyncio.to_thread(page.wait_for, shown)
        for width in (400, 1280):
            await asyncio.to_thread(page.resize, width, 800)
            await asyncio.to_thread(page.screenshot, tmp_path / f"recording-{width}.png")
            assert await asyncio.to_thread(page.evaluate, "document.documentElement.scrollWidth") <= width
        assert not page.problems

    with open_browser(tmp_path / "browser") as page:
        run_pages(tmp_path, act)
