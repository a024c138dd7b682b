"""Files on the box's disk: power cuts at every operation, the limit, damage, and verification."""

from __future__ import annotations

import hashlib
from random import Random

import pytest

from agents.box.files.store import BoxFiles, FileKey, NoRoomError
from hal.disk import DiskError
from hal.emul.disk import EmulDisk

CONTENT = Random(1).randbytes(5000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
KEY = FileKey(SHA256, len(CONTENT))
UPLOAD = FileKey(SHA256, len(CONTENT), 7, "CHEM-0001")


def new_disk() -> EmulDisk:
    return EmulDisk(1 << 20, Random(2))


def open_files(disk: EmulDisk, bytes_max: int = 1 << 19) -> BoxFiles:
    files = BoxFiles(disk, bytes_max)
    files.open()
    return files


def receive(files: BoxFiles, key: FileKey, content: bytes = CONTENT, step: int = 1024) -> None:
    """Write the missing ranges of a file, each of at most `step` bytes."""
    file = files.begin(key, ())
    while not file.is_complete and files.find(key) is file:
        offset = file.received
        files.write(file, offset, content[offset : offset + step])


@pytest.mark.parametrize("key", [KEY, UPLOAD])
@pytest.mark.parametrize("operation", range(1, 24))
def test_after_a_power_cut_at_any_operation_the_transfer_continues(key: FileKey, operation: int) -> None:
    disk = new_disk()
    files = open_files(disk)
    disk.backend.cut_power_at(operation)
    try:
        receive(files, key)
    except DiskError:
        disk = disk.backend.reboot()
    else:
        disk = disk.backend.cut_power()
    files = open_files(disk)
    file = files.find(key)
    if file is not None:
        assert files.read(file, 0, file.received) == CONTENT[: file.received]
    receive(files, key)
    file = files.find(key)
    assert file is not None
    assert file.is_complete
    assert files.read(file, 0, len(CONTENT)) == CONTENT


def test_a_power_cut_loses_no_range_that_was_received() -> None:
    disk = new_disk()
    open_files(disk).begin(KEY, ())
    for number in range(4):
        disk = disk.backend.cut_power()
        files = open_files(disk)
        file = files.find(KEY)
        assert file is not None
        assert file.received == 1000 * number
        files.write(file, file.received, CONTENT[file.received :][:1000])


def test_a_file_with_another_hash_is_removed() -> None:
    files = open_files(new_disk())
    receive(files, KEY, bytes(5000))
    assert files.find(KEY) is None
    assert files.used_bytes == 0


@pytest.mark.parametrize(("offset", "body"), [(1, b"x"), (0, b""), (0, bytes(5001))])
def test_a_range_that_does_not_continue_changes_nothing(offset: int, body: bytes) -> None:
    files = open_files(new_disk())
    file = files.begin(KEY, ())
    files.write(file, offset, body)
    assert file.received == 0


def test_the_oldest_file_that_is_not_needed_is_removed_for_a_new_one() -> None:
    files = open_files(new_disk(), 12_000)
    keys = [FileKey(hashlib.sha256(bytes([n]) * 5000).hexdigest(), 5000) for n in range(4)]
    for number, key in enumerate(keys[:2]):
        receive(files, key, bytes([number]) * 5000)
    files.begin(keys[2], {keys[0].stem})
    assert files.is_complete(keys[0])
    assert files.find(keys[1]) is None
    with pytest.raises(NoRoomError):
        files.begin(keys[3], {keys[0].stem, keys[2].stem})
    assert files.is_complete(keys[0])


def test_a_complete_upload_is_never_removed_for_another_file() -> None:
    files = open_files(new_disk(), 6000)
    receive(files, UPLOAD)
    with pytest.raises(NoRoomError):
        files.begin(FileKey(SHA256, 1001), ())
    assert [file.key for file in files.uploads()] == [UPLOAD]


def test_a_file_beyond_the_limit_or_the_disk_is_refused() -> None:
    files = open_files(new_disk(), 4 << 20)
    for size in ((4 << 20) + 1, 2 << 20):
        with pytest.raises(NoRoomError):
            files.begin(FileKey(SHA256, size), ())
    assert files.used_bytes == 0


def test_another_file_for_the_same_upload_replaces_it() -> None:
    files = open_files(new_disk())
    receive(files, UPLOAD)
    replacement = FileKey(hashlib.sha256(b"other").hexdigest(), 5, 7, "CHEM-0001")
    receive(files, replacement, b"other")
    assert [file.key for file in files.uploads()] == [replacement]


def test_damaged_files_are_removed_and_others_left_alone() -> None:
    disk = new_disk()
    receive(open_files(disk), KEY)
    disk.create("transfer-damaged.part", 1000)
    disk.create("somebody-elses", 1000)
    files = open_files(disk)
    assert files.is_complete(KEY)
    assert disk.names() == ["somebody-elses", KEY.stem + ".file"]
