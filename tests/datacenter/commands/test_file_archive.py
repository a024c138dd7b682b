"""Files in the data center: ranges, resumed uploads, verification, and the limit of the total size."""

from __future__ import annotations

import hashlib
from random import Random

import pytest

from datacenter.commands.files import FileArchive, FileTooLargeError, UploadRefusedError
from datacenter.store import queries
from datacenter.store.store import Store
from tests.support.datacenter.store.batches import batch, result
from wire.files import FILE_BYTES_MAX, RANGE_BYTES_MAX, RangeRequest, UploadRange

BOX, OTHER, CHEM = "RAP-0001", "RAP-0002", "CHEM-0001"
CONTENT = Random(1).randbytes(3 * RANGE_BYTES_MAX + 17)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def upload_command(store: Store) -> int:
    return store.queue_command(BOX, CHEM, "data-upload", b"", 0)


def send(archive: FileArchive, command: int, content: bytes, step: int, sha256: str = "") -> int:
    """Send all ranges in order, each twice, as after a lost response; return the number of received bytes."""
    sha256 = sha256 or hashlib.sha256(content).hexdigest()
    received = 0
    for offset in range(0, len(content), step):
        for _ in range(2):
            upload = UploadRange(command, sha256, len(content), offset)
            received = archive.receive(BOX, upload, content[offset : offset + step], 5)
    return received


@pytest.mark.parametrize("length", [1, 1000, RANGE_BYTES_MAX - 1, RANGE_BYTES_MAX])
def test_ranges_of_any_size_give_the_content(store: Store, length: int) -> None:
    archive = FileArchive(store)
    assert archive.keep(CONTENT, 0) == SHA256
    store.queue_command(BOX, CHEM, "help-file", b"", 0, file=SHA256, file_bytes=len(CONTENT))
    offsets = range(0, len(CONTENT), length) if length > 1 else (0, RANGE_BYTES_MAX - 1, len(CONTENT) - 1)
    for offset in offsets:
        assert (
            archive.read_range(BOX, RangeRequest(SHA256, offset, length)) == CONTENT[offset : offset + length]
        )


def test_a_box_reads_only_the_files_of_its_open_commands(store: Store) -> None:
    archive = FileArchive(store)
    archive.keep(CONTENT, 0)
    wanted = RangeRequest(SHA256, 0, 10)
    assert archive.read_range(BOX, wanted) is None
    command = store.queue_command(BOX, CHEM, "help-file", b"", 0, file=SHA256, file_bytes=len(CONTENT))
    assert archive.read_range(OTHER, wanted) is None
    assert archive.read_range(BOX, wanted) == CONTENT[:10]
    assert archive.read_range(BOX, RangeRequest(SHA256, len(CONTENT), 10)) is None
    store.ingest(BOX, batch(result(1, command), instrument=CHEM), 0)
    assert archive.read_range(BOX, wanted) is None


@pytest.mark.parametrize("step", [1000, RANGE_BYTES_MAX])
def test_an_upload_is_complete_when_its_hash_is_verified(store: Store, step: int) -> None:
    archive, command = FileArchive(store), upload_command(store)
    assert send(archive, command, CONTENT, step) == len(CONTENT)
    assert archive.content(SHA256) == CONTENT


def test_an_upload_is_invisible_until_it_is_complete(store: Store) -> None:
    archive, command = FileArchive(store), upload_command(store)
    upload = UploadRange(command, SHA256, len(CONTENT), 0)
    assert archive.receive(BOX, upload, CONTENT[:100], 0) == 100
    assert archive.content(SHA256) is None
    assert archive.receive(BOX, upload._replace(offset=200), CONTENT[200:300], 0) == 100  # a hole
    assert archive.receive(BOX, upload, b"", 0) == 100


def test_a_wrong_hash_begins_again(store: Store) -> None:
    archive, command = FileArchive(store), upload_command(store)
    assert send(archive, command, CONTENT[:1000], 1000, SHA256) == 0
    assert archive.content(SHA256) is None
    assert send(archive, command, CONTENT, RANGE_BYTES_MAX) == len(CONTENT)


def test_an_upload_needs_an_open_command_of_the_same_box(store: Store) -> None:
    archive, command = FileArchive(store), upload_command(store)
    upload = UploadRange(command, SHA256, len(CONTENT), 0)
    with pytest.raises(UploadRefusedError):
        archive.receive(OTHER, upload, b"x", 0)
    with pytest.raises(UploadRefusedError):
        archive.receive(BOX, upload._replace(command=command + 1), b"x", 0)
    store.withdraw_command(command, 0)
    with pytest.raises(UploadRefusedError):
        archive.receive(BOX, upload, b"x", 0)


@pytest.mark.parametrize("file_first", [True, False])
def test_an_upload_is_done_with_its_file_and_its_result(store: Store, file_first: bool) -> None:
    archive, command = FileArchive(store), upload_command(store)

    def state() -> str:
        return queries.commands(store)[0].state

    if file_first:
        send(archive, command, CONTENT, RANGE_BYTES_MAX)
        assert state() == "queued"
    store.ingest(BOX, batch(result(1, command), instrument=CHEM), 0)
    if not file_first:
        assert state() == "executing"
        send(archive, command, CONTENT, RANGE_BYTES_MAX)
    assert state() == "done"


def test_files_beyond_the_limits_are_refused_and_not_stored(store: Store) -> None:
    archive = FileArchive(store, bytes_max=2000)
    for content in (b"", bytes(FILE_BYTES_MAX + 1), bytes(2001)):
        with pytest.raises(FileTooLargeError):
            archive.keep(content, 0)
    assert archive.content(hashlib.sha256(bytes(2001)).hexdigest()) is None


def test_the_oldest_unused_file_is_removed_to_make_room(store: Store) -> None:
    archive = FileArchive(store, bytes_max=2500)
    needed = archive.keep(b"1" * 1000, 1)
    store.queue_command(BOX, CHEM, "help-file", b"", 0, file=needed, file_bytes=1000)
    old = archive.keep(b"2" * 1000, 2)
    new = archive.keep(b"3" * 1000, 3)
    assert archive.content(old) is None
    assert archive.content(needed) == b"1" * 1000
    assert archive.content(new) == b"3" * 1000
    store.queue_command(BOX, CHEM, "help-file", b"", 0, file=new, file_bytes=1000)
    with pytest.raises(FileTooLargeError):
        archive.keep(b"4" * 1000, 4)
