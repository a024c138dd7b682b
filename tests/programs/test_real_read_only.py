"""A real box on a file system that the kernel makes read-only and writable again."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hal.disk import DiskError
from hal.linux.disk import LinuxDisk
from settings.types import Endpoint
from tests.support.eventually import eventually
from tests.support.real import Site, prepare, start
from wire.dial.dialer import dial
from wire.http.connection import Response
from wire.messages import REPLY_BYTES_MAX, Alert, Reports, Status, encode
from wire.tls.context import Identity, client_context

pytestmark = pytest.mark.kernel
INSTRUMENTS = ("CHEM-0001",)
WAITING = 30
SECONDS_MAX = 120
"""A guard against hanging."""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A site whose spool has its own ext4 file system."""
    image, spool = tmp_path / "spool.img", tmp_path / "spool"
    spool.mkdir()
    with image.open("wb") as file:
        file.truncate(64 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, spool], check=True)
    try:
        yield tmp_path
    finally:
        subprocess.run(["umount", "--lazy", spool], check=True)


def remount(folder: Path, mode: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{mode}", folder / "spool"], check=True)


async def status_of_box(folder: Path) -> str:
    process = await start("box", "status", "--config", folder / "box.toml")
    output, _ = await process.communicate()
    return output.decode()


async def post(folder: Path, port: int, number: int) -> Response:
    stem = folder / "chem-0001"
    identity = Identity(*(stem.with_suffix(end) for end in (".crt", ".key", ".ca.crt")))
    connection = await dial(
        Endpoint("127.0.0.1", port), client_context(identity), reply_bytes_max=REPLY_BYTES_MAX
    )
    alert = Alert(number, 0, "L0100", "lamp", "error")
    answer = await connection.request("POST", "/v1/reports", encode(Reports(9, [alert])))
    connection.close()
    return answer


@pytest.mark.slow("retries of a real program")
def test_a_box_restarted_on_a_read_only_disk_delivers_and_recovers(folder: Path) -> None:
    async def scenario() -> None:
        await prepare(folder, INSTRUMENTS)
        async with asyncio.timeout(SECONDS_MAX), Site(folder, INSTRUMENTS) as site:
            box, port = await site.start_box(9)  # there is no data center
            site.start_agents(port)
            (agent,) = site.agents
            for _ in range(WAITING):
                agent.submit(Status, "running", agent.made, {})
            await eventually(lambda: not agent.waiting)
            box.send_signal(signal.SIGTERM)
            await box.communicate()
            remount(folder, "ro")

            _, datacenter_port = await site.start_datacenter()
            box, port = await site.start_box(datacenter_port)
            assert box.stderr is not None
            assert len(await site.wait_until_stored(WAITING)) >= WAITING
            answer = await post(folder, port, 1)
            assert answer.status == 503
            assert b"the box cannot store reports at present" in answer.body
            assert b"Read-only file system" in answer.body
            assert "PROBLEM: reports are refused" in (status := await status_of_box(folder))
            assert "Read-only file system" in status and ", 0 reports" in status

            remount(folder, "rw")
            output = "".join(site.output)
            while "accepts records again" not in output:
                output += (await box.stderr.readline()).decode()
            assert "reports are refused, waiting records are delivered" in output
            assert (await post(folder, port, 1)).status == 200
            await site.wait_until_stored(WAITING + 1)
            assert "PROBLEM: reports" not in await status_of_box(folder)
            box.send_signal(signal.SIGTERM)
            await box.communicate()
            assert box.returncode == 0

    asyncio.run(scenario())


def test_a_file_opened_read_only_is_reopened_when_the_disk_is_writable(folder: Path) -> None:
    disk = LinuxDisk(folder / "spool")
    disk.create("file", 4096)
    disk.close()
    remount(folder, "ro")
    disk = LinuxDisk(folder / "spool")
    assert disk.read("file", 0, 5) == bytes(5)
    for write in (disk.write, disk.commit):
        with pytest.raises(DiskError, match="Read-only file system"):
            write("file", 0, b"again")
    remount(folder, "rw")
    disk.commit("file", 0, b"again")  # not whole sectors: through the page cache
    disk.write("file", 100, b"again")
    assert disk.read("file", 0, 5) == disk.read("file", 100, 5) == b"again"
    disk.close()
