"""The disk of the image world: data after a power cut, and responses to the NBD client."""

from __future__ import annotations

import asyncio
import errno
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from sim.worlds.image.disk import nbd
from sim.worlds.image.disk.cache import SECTOR, CachedDisk
from sim.worlds.image.disk.recording import DiskRecorder, recorded
from sim.worlds.image.disk.server import DiskServer

SECTORS = 256
OLD, NEW, NEWER = (bytes([value]) * SECTOR for value in (1, 2, 3))


class Medium:
    """A file of old sectors, and a disk on it whose clock is `now`, in ns."""

    def __init__(self, path: Path) -> None:
        path.write_bytes(OLD * SECTORS)
        self.path, self.now = path, 0
        self.fd = os.open(path, os.O_RDWR)
        self.disk = CachedDisk(self.fd, lambda: self.now, cache_bytes_max=64 * SECTOR)

    def sectors(self) -> list[bytes]:
        data = self.path.read_bytes()
        return [data[offset : offset + SECTOR] for offset in range(0, len(data), SECTOR)]


@pytest.fixture
def medium(tmp_path: Path) -> Iterator[Medium]:
    opened = Medium(tmp_path / "disk")
    yield opened
    os.close(opened.fd)


def test_a_write_is_read_back_before_it_is_on_the_medium(medium: Medium) -> None:
    medium.disk.write(SECTOR, NEW)
    assert medium.disk.read(0, 3 * SECTOR) == OLD + NEW + OLD
    assert medium.sectors()[:3] == [OLD, OLD, OLD]


def test_a_power_cut_loses_some_unflushed_sectors_and_keeps_others(medium: Medium) -> None:
    medium.disk.write(0, NEW * 40)
    kept, lost = medium.disk.cut_power(Random(1))
    assert kept + lost == 40 and kept and lost
    assert medium.sectors().count(NEW) == kept
    assert medium.disk.read(0, 40 * SECTOR) == b"".join(medium.sectors()[:40])


def test_a_power_cut_loses_nothing_that_was_flushed(medium: Medium) -> None:
    medium.disk.write(0, NEW * 40)
    medium.disk.flush()
    medium.disk.write(0, NEWER)
    medium.disk.cut_power(Random(2))
    assert set(medium.sectors()[:40]) <= {NEW, NEWER} and medium.sectors()[1:40] == [NEW] * 39


def test_a_power_cut_leaves_each_sector_old_or_new(medium: Medium) -> None:
    for seed in range(20):
        medium.disk.write(0, NEW * 8)
        medium.disk.cut_power(Random(seed))
        assert set(medium.sectors()) <= {OLD, NEW}


@pytest.mark.parametrize(("offset", "sectors"), [(8, 1), (4, 5), (11, 1), (4, 20)])
def test_requests_that_overlap_the_range_fail_until_all_failures_have_happened(
    medium: Medium, offset: int, sectors: int
) -> None:
    medium.disk.failing_reads.times = medium.disk.failing_writes.times = 2
    medium.disk.failing_reads.affected = medium.disk.failing_writes.affected = range(8 * SECTOR, 12 * SECTOR)
    for _ in range(2):
        for request in (
            lambda: medium.disk.read(offset * SECTOR, sectors * SECTOR),
            lambda: medium.disk.write(offset * SECTOR, NEW * sectors),
        ):
            with pytest.raises(OSError, match="cannot be accessed") as caught:
                request()
            assert caught.value.errno == errno.EIO
    assert medium.disk.read(offset * SECTOR, sectors * SECTOR) == OLD * sectors
    medium.disk.write(offset * SECTOR, NEW * sectors)
    assert medium.disk.read(offset * SECTOR, sectors * SECTOR) == NEW * sectors


@pytest.mark.parametrize("offset", [7, 12])
def test_requests_beside_the_range_succeed(medium: Medium, offset: int) -> None:
    medium.disk.failing_reads.times = medium.disk.failing_writes.times = 1
    medium.disk.failing_reads.affected = medium.disk.failing_writes.affected = range(8 * SECTOR, 12 * SECTOR)
    medium.disk.write(offset * SECTOR, NEW)
    assert medium.disk.read(offset * SECTOR, SECTOR) == NEW


def test_failures_end_with_the_power(medium: Medium) -> None:
    medium.disk.failing_flushes = medium.disk.failing_reads.times = medium.disk.failing_writes.times = 3
    medium.disk.failing_reads.affected = medium.disk.failing_writes.affected = range(SECTORS * SECTOR)
    medium.disk.cut_power(Random(1))
    medium.disk.write(0, NEW)
    medium.disk.flush()
    assert medium.disk.read(0, SECTOR) == NEW


def test_a_write_with_fua_is_on_the_medium_and_earlier_ones_are_not(medium: Medium) -> None:
    medium.disk.write(0, NEW * 2)
    medium.disk.write(SECTOR, NEWER, fua=True)
    assert medium.sectors()[:2] == [OLD, NEWER]
    medium.disk.flush()
    assert medium.sectors()[:2] == [NEW, NEWER]


def test_a_full_cache_is_written_out_and_one_at_its_limit_is_not(medium: Medium) -> None:
    medium.disk.write(0, NEW * 64)
    assert NEW not in medium.sectors()
    medium.disk.write(64 * SECTOR, NEW)
    assert medium.sectors().count(NEW) == 65
    assert medium.disk.cached_bytes == 0


def test_a_failed_flush_leaves_the_cache_and_the_next_one_succeeds(medium: Medium) -> None:
    medium.disk.write(0, NEW)
    medium.disk.failing_flushes = 1
    with pytest.raises(OSError, match="flush"):
        medium.disk.flush()
    assert medium.sectors()[0] == OLD
    medium.disk.flush()
    assert medium.sectors()[0] == NEW


def test_a_dishonest_disk_keeps_recent_writes_in_its_cache(medium: Medium) -> None:
    medium.disk.holds_ns = 10
    medium.disk.write(0, NEW)
    medium.now = 5
    medium.disk.write(SECTOR, NEW, fua=True)
    medium.now = 10
    medium.disk.flush()
    assert medium.sectors()[:2] == [NEW, OLD]


def test_a_read_only_disk_refuses_writes_and_can_be_read(medium: Medium) -> None:
    medium.disk.is_read_only = True
    with pytest.raises(OSError) as refused:
        medium.disk.write(0, NEW)
    assert refused.value.errno == errno.EPERM
    assert medium.disk.read(0, SECTOR) == OLD


@pytest.mark.parametrize(("offset", "length"), [(1, SECTOR), (0, 100), (SECTORS * SECTOR, SECTOR)])
def test_a_request_that_is_not_aligned_to_sectors_or_beyond_the_end_fails(
    medium: Medium, offset: int, length: int
) -> None:
    with pytest.raises(OSError) as refused:
        medium.disk.read(offset, length)
    assert refused.value.errno == errno.EINVAL


def test_a_torn_write_leaves_part_of_its_sectors(medium: Medium) -> None:
    medium.disk.tear(0, NEW * 40, Random(1))
    assert 0 < medium.sectors()[:40].count(NEW) < 40


# -- over NBD, as QEMU uses it


class Client:
    """The part of an NBD client that these tests need."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def negotiate(self) -> tuple[int, int]:
        """Choose the export; return its size in bytes and its flags."""
        assert await self._reader.readexactly(16) == b"NBDMAGICIHAVEOPT"
        await self._reader.readexactly(2)
        option = struct.pack(">8sIIIH", b"IHAVEOPT", 7, 6, 0, 0)
        self._writer.write(struct.pack(">I", 3) + option)
        _, _, kind, length = struct.unpack(">QIII", await self._reader.readexactly(20))
        assert kind == 3
        _, size, flags = struct.unpack(">HQH", await self._reader.readexactly(length))
        assert struct.unpack(">QIII", await self._reader.readexactly(20))[2] == 1
        return size, flags

    async def request(
        self, kind: int, offset: int = 0, length: int = 0, data: bytes = b"", flags: int = 0
    ) -> tuple[int, bytes]:
        """Send one request; return its errno, and the data of a read."""
        head = struct.pack(">IHHQQI", 0x25609513, flags, kind, 7, offset, length or len(data))
        self._writer.write(head + data)
        _, error, handle = struct.unpack(">IIQ", await self._reader.readexactly(16))
        assert handle == 7
        return error, await self._reader.readexactly(length if kind == nbd.READ and not error else 0)


def run_with_client(medium: Medium, folder: Path, use: object, recorder: DiskRecorder | None = None) -> None:
    async def main() -> None:
        server = DiskServer(medium.disk, 1, recorder)
        path = str(folder / "disk.sock")
        async with await asyncio.start_unix_server(server.serve_disk, path):
            client = Client(*await asyncio.open_unix_connection(path))
            await use(client, server)  # type: ignore[operator]

    asyncio.run(main())


def test_a_client_reads_writes_flushes_and_gets_the_errors_of_the_disk(
    medium: Medium, tmp_path: Path
) -> None:
    async def use(client: Client, server: DiskServer) -> None:
        size, flags = await client.negotiate()
        assert size == SECTORS * SECTOR
        assert flags & 4 and flags & 8, (
            "flush and FUA must be offered; otherwise those of the guest do not reach the disk"
        )
        assert await client.request(nbd.WRITE, 0, data=NEW) == (0, b"")
        assert await client.request(nbd.READ, 0, SECTOR) == (0, NEW)
        assert medium.sectors()[0] == OLD
        assert await client.request(nbd.FLUSH) == (0, b"")
        assert medium.sectors()[0] == NEW
        assert await client.request(nbd.WRITE, SECTOR, data=NEW, flags=1) == (0, b"")
        assert medium.sectors()[1] == NEW
        medium.disk.failing_flushes = 1
        assert (await client.request(nbd.FLUSH))[0] == errno.EIO
        assert (await client.request(nbd.READ, SECTORS * SECTOR, SECTOR))[0] == errno.EINVAL
        assert (await client.request(4))[0] == errno.EINVAL

    run_with_client(medium, tmp_path, use)


def test_a_power_cut_ends_the_connection_and_loses_unflushed_writes(medium: Medium, tmp_path: Path) -> None:
    async def use(client: Client, server: DiskServer) -> None:
        await client.negotiate()
        await client.request(nbd.WRITE, 0, data=NEW * 40)
        kept, lost = await server.control({"do": "cut"})
        assert kept + lost == 40 and lost
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await client.request(nbd.READ, 0, SECTOR)

    run_with_client(medium, tmp_path, use)


@pytest.mark.parametrize(("requests", "kind"), [("reads", nbd.READ), ("writes", nbd.WRITE)])
def test_the_client_gets_the_failures_of_requests_that_the_world_injects(
    medium: Medium, tmp_path: Path, requests: str, kind: int
) -> None:
    async def use(client: Client, server: DiskServer) -> None:
        await client.negotiate()
        failing_range = {"start": 4 * SECTOR, "stop": 8 * SECTOR}
        await server.control({"do": "fail", "requests": requests, "times": 1, **failing_range})
        more = (0, NEW * 2) if kind == nbd.WRITE else (2 * SECTOR, b"")
        errors = [(await client.request(kind, first * SECTOR, *more))[0] for first in (2, 8, 3, 3)]
        assert errors == [0, 0, errno.EIO, 0]

    run_with_client(medium, tmp_path, use)


def test_a_tear_happens_in_the_middle_of_the_chosen_operation(medium: Medium, tmp_path: Path) -> None:
    async def use(client: Client, server: DiskServer) -> None:
        await client.negotiate()
        torn = asyncio.ensure_future(server.control({"do": "tear", "operation": 2}))
        await client.request(nbd.READ, 0, SECTOR)  # reads do not count
        await client.request(nbd.FLUSH)
        assert not torn.done()
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await client.request(nbd.WRITE, 0, data=NEW * 40)
        await torn
        assert 0 < medium.sectors()[:40].count(NEW) < 40

    run_with_client(medium, tmp_path, use)


def test_writes_and_flushes_are_recorded_even_if_a_power_cut_interrupts_them(
    medium: Medium, tmp_path: Path
) -> None:
    async def use(client: Client, server: DiskServer) -> None:
        await client.negotiate()
        torn = asyncio.ensure_future(server.control({"do": "tear", "operation": 3}))
        await client.request(nbd.WRITE, 0, data=NEW, flags=1)
        await client.request(nbd.READ, 0, SECTOR)
        await client.request(4)
        await client.request(nbd.FLUSH)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await client.request(nbd.WRITE, SECTOR, data=NEWER)
        await torn

    run_with_client(medium, tmp_path, use, DiskRecorder(tmp_path / "recording", lambda: 5))
    requests = [(each.at_ns, each.request) for each in recorded(tmp_path / "recording")]
    assert requests == [
        (5, nbd.DiskRequest(nbd.WRITE, 0, SECTOR, NEW, True)),
        (5, nbd.DiskRequest(nbd.FLUSH, 0, 0, b"", False)),
        (5, nbd.DiskRequest(nbd.WRITE, SECTOR, SECTOR, NEWER, False)),
    ]
