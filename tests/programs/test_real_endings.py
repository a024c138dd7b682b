"""The box program always ends in bounded time after SIGTERM, with an exit status and a reason."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path

import pytest

from settings.types import Endpoint
from tests.support.eventually import WAIT_SECONDS_MAX, eventually
from tests.support.paths import ROOT
from tests.support.real import prepare, write_box_config
from wire.dial.dialer import dial
from wire.messages import REPLY_BYTES_MAX, Alert, Reports, encode
from wire.tls.context import Identity, client_context

INSTRUMENTS = ("CHEM-0001",)

DISK_HANGS = re.compile(r"the disk (has not responded for 0\.5 s|does not respond)")
"""The first message is printed when closing the spool times out, the second when the process is ended.

On a busy machine the process may end before it has printed the first one.
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    asyncio.run(prepare(folder, INSTRUMENTS))
    return folder


@pytest.fixture
def config(site: Path, tmp_path: Path) -> Path:
    file = write_box_config(site, INSTRUMENTS, 9)
    file.write_text(file.read_text().replace('"spool"', f'"{tmp_path / "spool"}"'))
    return file


async def start_box(config: Path, dead: Path, call: str) -> Process:
    command = (sys.executable, "-m", "tests.support.dead_disk", dead, call, "box", "run", "--config", config)
    return await asyncio.create_subprocess_exec(*map(str, command), cwd=ROOT, stdout=PIPE, stderr=PIPE)


async def served_port(box: Process) -> int:
    assert box.stderr is not None
    return int((await box.stderr.readline()).split()[-1])


async def ended(box: Process) -> tuple[int | None, str]:
    box.send_signal(signal.SIGTERM)
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        _, output = await box.communicate()
    return box.returncode, output.decode()


def test_the_box_ends_on_a_disk_whose_flush_never_returns(site: Path, config: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        dead = tmp_path / "dead"
        box = await start_box(config, dead, "commit")
        port = await served_port(box)
        identity = Identity(*(site / f"chem-0001{end}" for end in (".crt", ".key", ".ca.crt")))
        connection = await dial(
            Endpoint("127.0.0.1", port), client_context(identity), reply_bytes_max=REPLY_BYTES_MAX
        )
        dead.touch()
        answer = connection.request("POST", "/v1/reports", encode(Reports(1, [_alert()])))
        status, output = await ended(box)
        assert status == 3
        assert DISK_HANGS.search(output) and "did not stop within" not in output, output
        assert isinstance(answer.exception(), Exception)  # never acknowledged

    asyncio.run(scenario())


def test_the_box_ends_on_a_disk_whose_spool_never_opens(config: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        dead = tmp_path / "dead"
        dead.touch()
        box = await start_box(config, dead, "names")
        status_socket = config.parent / "box.sock"
        status_socket.unlink(missing_ok=True)
        await eventually(status_socket.exists)
        status, output = await ended(box)
        assert status == 3
        assert DISK_HANGS.search(output) and "did not stop within" not in output, output

    asyncio.run(scenario())


def test_the_box_ends_with_peers_that_never_respond(config: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        box = await start_box(config, tmp_path / "dead", "commit")
        port = await served_port(box)
        silent_peers = [socket.create_connection(("127.0.0.1", port)) for _ in range(3)]
        status_client = socket.socket(socket.AF_UNIX)
        status_client.connect(str(config.parent / "box.sock"))
        assert await ended(box) == (0, "")
        for client in (*silent_peers, status_client):
            client.close()

    asyncio.run(scenario())


def test_a_second_signal_does_not_interrupt_the_shutdown(config: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        box = await start_box(config, tmp_path / "dead", "commit")
        silent_peer = socket.create_connection(("127.0.0.1", await served_port(box)))
        for _ in range(5):
            box.send_signal(signal.SIGTERM)
        assert await ended(box) == (0, "")
        silent_peer.close()

    asyncio.run(scenario())


def _alert() -> Alert:
    return Alert(1, 0, "L0100", "lamp", "error")
