"""The block device that is flashed: reads, writes and errors of the operating system."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from imaging.flash.target import BlockDevice, DeviceError, DeviceRefused, aligned, buffer, read
from tests.support.imaging.flash.images import MIB, MemoryDisk, loop_device

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="loop devices need root")
CONTENT = bytes(range(256)) * 32


@pytest.fixture
def device(tmp_path: Path) -> Iterator[str]:
    with loop_device(tmp_path / "disk.img", MIB) as path:
        yield path


@pytest.mark.parametrize(
    ("offset", "length"), [(0, 512), (1, 1), (511, 2), (512, 512), (700, 2000), (8191, 1), (0, 8192)]
)
def test_any_bytes_of_a_disk_can_be_read_by_whole_sectors(offset: int, length: int) -> None:
    reads: list[tuple[int, int]] = []

    class Sectors(MemoryDisk):
        def read(self, offset: int, into: memoryview) -> None:
            reads.append((offset, len(into)))
            super().read(offset, into)

    assert read(Sectors(CONTENT), offset, length) == CONTENT[offset : offset + length]
    ((start, size),) = reads
    assert start % 512 == size % 512 == 0
    assert offset - 512 < start <= offset
    assert offset + length <= start + size < offset + length + 512


def test_an_aligned_buffer_contains_only_the_data() -> None:
    assert bytes(aligned(b"data")) == b"data"
    assert len(buffer(3 * 512)) == 3 * 512
    assert not any(buffer(512))


@needs_root
def test_written_data_can_be_read_before_and_after_closing(device: str) -> None:
    target = BlockDevice(Path(device), write=True)
    assert target.size == MIB
    target.write(4096, aligned(CONTENT))
    target.flush()
    into = buffer(len(CONTENT))
    target.read(4096, into)
    assert bytes(into) == CONTENT
    target.close()
    again = BlockDevice(Path(device), write=False)
    assert read(again, 5000, 100) == CONTENT[904:1004]
    again.close()


@needs_root
def test_a_short_read_or_write_is_continued(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pwrite, preadv = os.pwrite, os.preadv
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: pwrite(fd, data[:1024], at))
    monkeypatch.setattr(os, "preadv", lambda fd, parts, at: preadv(fd, [parts[0][:512]], at))
    target = BlockDevice(Path(device), write=True)
    target.write(512, aligned(CONTENT))
    assert read(target, 512, len(CONTENT)) == CONTENT
    target.close()


@needs_root
def test_an_error_of_the_disk_names_the_byte(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    target = BlockDevice(Path(device), write=True)
    with pytest.raises(DeviceError, match=rf"{device}: byte {MIB} cannot be read: the device ends before it"):
        target.read(MIB - 512, buffer(1024))
    with pytest.raises(DeviceError, match=rf"{device}: byte {MIB} cannot be written: No space left"):
        target.write(MIB - 512, buffer(1024))
    with pytest.raises(DeviceError, match=rf"{device}: byte 100 cannot be read: Invalid argument"):
        target.read(100, buffer(512))

    def fails(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(DeviceError, match=rf"{device}: cannot be flushed: Input/output error"):
        target.flush()
    target.close()


@needs_root
def test_a_disk_has_one_writer_and_any_number_of_readers(device: str) -> None:
    writer = BlockDevice(Path(device), write=True)
    with pytest.raises(DeviceRefused, match=rf"{device}: it is in use .*unmount it or stop that first"):
        BlockDevice(Path(device), write=True)
    BlockDevice(Path(device), write=False).close()
    writer.close()
    subprocess.run(["blockdev", "--setro", device], check=True)
    try:
        BlockDevice(Path(device), write=False).close()
    finally:
        subprocess.run(["blockdev", "--setrw", device], check=True)


def test_a_file_that_is_not_a_disk_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "disk.img"
    with pytest.raises(DeviceRefused, match=r"disk\.img: there is no such disk.*`rap flash list` shows"):
        BlockDevice(file, write=False)
    file.write_bytes(bytes(1024))
    with pytest.raises(DeviceRefused, match=r"disk\.img is not a disk; `rap flash list` shows the disks"):
        BlockDevice(file, write=True)


@pytest.mark.parametrize(
    ("number", "problem"),
    [
        (errno.EBUSY, "it is in use"),
        (errno.ENXIO, "no medium in its slot"),
        (errno.ENOMEDIUM, "no medium in its slot"),
        (errno.EACCES, "no permission; run this as root"),
        (errno.EPERM, "no permission; run this as root"),
        (errno.EIO, "cannot be opened: Input/output error"),
    ],
)
def test_the_error_for_a_disk_that_cannot_be_opened_gives_the_reason(
    monkeypatch: pytest.MonkeyPatch, number: int, problem: str
) -> None:
    def refuses(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "stat", lambda _path, **_: SimpleNamespace(st_mode=stat.S_IFBLK))
    monkeypatch.setattr(os, "open", refuses)
    with pytest.raises(DeviceRefused, match=f"^/dev/sdz: .*{problem}"):
        BlockDevice(Path("/dev/sdz"), write=True)
