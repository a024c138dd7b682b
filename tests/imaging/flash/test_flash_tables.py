"""Partition tables are read and adapted to a disk, or refused."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from uuid import RFC_4122, UUID

import pytest

from imaging.flash import gpt as tables
from imaging.flash.gpt import GptError, Slice
from imaging.flash.plan import FlashPlan, make_plan
from imaging.flash.source import open_image
from imaging.flash.write import flash
from imaging.media.imagefile import ImageError
from tests.support.imaging.flash.gpt_tables import with_checksums, with_field
from tests.support.imaging.flash.images import IMAGE_BYTES, MIB, MemoryDisk, gpt, public_key, raw_image, sign

DISK_BYTES = IMAGE_BYTES + 3 * MIB
SLICES = [
    Slice("esp", MIB, MIB),
    Slice("rap-identity", 2 * MIB, MIB),
    Slice("root-a", 3 * MIB, 3 * MIB),
    Slice("var", 6 * MIB, MIB),
]
Change = Callable[[bytes], bytes]


@pytest.fixture
def front() -> bytes:
    """The first MiB of an image."""
    return gpt(IMAGE_BYTES)[0].ljust(MIB, b"\0")


def plan(folder: Path, change: Change = bytes, disk_bytes: int = DISK_BYTES) -> FlashPlan:
    """Return the plan for an image whose first MiB was changed before it was signed."""
    raw = raw_image(folder / "box.raw")
    with raw.open("r+b") as file:
        front = file.read(MIB)
        file.seek(0)
        file.write(change(front))
    sign(raw)
    with open_image(raw, public_key(raw)) as image:
        return make_plan(image, disk_bytes)


def last_sector(value: int) -> Change:
    """Let the last partition of the table end with this sector."""

    def change(front: bytes) -> bytes:
        at = 1024 + 3 * 128 + 40
        return with_checksums(front[:at] + struct.pack("<Q", value) + front[at + 8 :])

    return change


def protective(*kinds: int, signature: bytes = b"\x55\xaa") -> Change:
    """Give the first entries of the MBR these types, and the MBR this signature."""

    def change(front: bytes) -> bytes:
        block = bytearray(front)
        for index, kind in enumerate(kinds):
            block[446 + 16 * index + 4] = kind
        block[510:512] = signature
        return bytes(block)

    return change


@pytest.mark.parametrize(
    "change",
    [
        bytes,
        lambda front: with_field(front, 12, "<I", 512),  # the longest header
        lambda front: with_field(front, 80, "<I", (MIB - 1024) // 128),  # entries to the end of the MiB
        lambda front: with_field(front, 80, "<I", 4),  # only the entries in use
    ],
    ids=["usual", "long header", "many entries", "few entries"],
)
def test_partitions_are_read_in_the_order_of_the_table(front: bytes, change: Change) -> None:
    assert tables.slices(change(front)) == SLICES


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda front: bytes(MIB), "no GUID partition table"),
        (lambda front: front[:1023], "no GUID partition table"),
        (lambda front: with_field(front, 0, "<Q", 0), "no GUID partition table"),
        (lambda front: with_field(front, 12, "<I", 91), "its header is not valid"),
        (lambda front: with_field(front, 12, "<I", 513), "its header is not valid"),
        (
            lambda front: with_field(front, 24, "<Q", 2),
            "its header is not valid",
        ),  # a header of another block
        (lambda front: with_field(front, 20, "<I", 1, checksums=False), "its header is not valid"),
        (lambda front: with_field(front, 91, "B", 7, checksums=False), "its header is not valid"),
        (lambda front: with_field(front, 16, "<I", 7, checksums=False), "its header is not valid"),
        (lambda front: with_field(front, 84, "<I", 256), "entries' checksum"),
        (lambda front: with_field(front, 80, "<I", (MIB - 1024) // 128 + 1), "entries' checksum"),
        (lambda front: front[:1024] + b"\1" + front[1025:], "entries' checksum"),
        (lambda front: front[:17407] + b"\1" + front[17408:], "entries' checksum"),
    ],
)
def test_a_damaged_table_is_refused_with_the_reason(front: bytes, change: Change, problem: str) -> None:
    with pytest.raises(GptError, match=f"^has .*{problem}"):
        tables.slices(change(front))


def test_bytes_after_the_entries_are_ignored(front: bytes) -> None:
    assert tables.slices(front[:17408] + b"\1" + front[17409:]) == SLICES


@pytest.mark.parametrize(
    "change", [protective(0xEE), protective(0, 0xEE), protective(0, 0, 0, 0xEE), protective(0x0C, 0xEE)]
)
def test_any_entry_of_the_first_block_may_protect_the_disk(tmp_path: Path, change: Change) -> None:
    head = plan(tmp_path, change).head
    last = DISK_BYTES // 512 - 1
    sizes = [(head[at + 4], *struct.unpack_from("<I", head, at + 12)) for at in range(446, 510, 16)]
    assert [size for kind, size in sizes if kind == 0xEE] == [last], "it must cover the disk"
    assert all(size != last for kind, size in sizes if kind != 0xEE)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (protective(0), "no protective MBR"),
        (protective(0xEE, signature=b"\x55\xab"), "no protective MBR"),
        (protective(0xEF), "no protective MBR"),
        (lambda front: with_field(front, 80, "<I", 127), "128 entries of 128 bytes"),
        (lambda front: with_field(front, 80, "<I", 129), "128 entries of 128 bytes"),
        (lambda front: with_field(front, 72, "<Q", 3), "128 entries of 128 bytes"),
        (last_sector(IMAGE_BYTES // 512 - 33), "no space for the copy"),
        (lambda front: bytes(MIB), "no GUID partition table"),
    ],
)
def test_an_image_whose_table_does_not_fit_is_refused(tmp_path: Path, change: Change, problem: str) -> None:
    with pytest.raises(ImageError, match=rf"box\.raw: has .*{problem}"):
        plan(tmp_path, change)


def test_the_last_partition_may_end_where_the_copy_of_the_table_begins(tmp_path: Path) -> None:
    planned = plan(tmp_path, last_sector(IMAGE_BYTES // 512 - 34), IMAGE_BYTES)
    assert (
        planned.slices[-1].offset + planned.slices[-1].length
        == IMAGE_BYTES - tables.TAIL_BYTES
        == planned.tail.offset
    )


def test_a_disk_that_is_too_small_for_the_partitions_is_refused(tmp_path: Path) -> None:
    needed = 7 * MIB + tables.TAIL_BYTES
    assert plan(tmp_path, disk_bytes=needed).tail.offset == 7 * MIB
    (tmp_path / "small").mkdir()
    with pytest.raises(ImageError, match="no space for the copy"):
        plan(tmp_path / "small", disk_bytes=needed - 512)


@pytest.mark.parametrize(
    ("disk_bytes", "covered"),
    [(2**32 * 512, 2**32 - 1), (2**32 * 512 - 512, 2**32 - 2), (2**33 * 512, 2**32 - 1)],
)
def test_the_protective_entry_covers_the_disk_as_far_as_32_bits_allow(
    tmp_path: Path, disk_bytes: int, covered: int
) -> None:
    planned = plan(tmp_path, disk_bytes=disk_bytes)
    assert struct.unpack_from("<I", planned.head, 446 + 12) == (covered,)
    assert planned.tail.offset + len(planned.tail.data) == disk_bytes
    assert struct.unpack_from("<QQ", planned.head, 512 + 24) == (1, disk_bytes // 512 - 1)
    assert struct.unpack_from("<QQ", planned.tail.data, 32 * 512 + 24) == (disk_bytes // 512 - 1, 1)


@pytest.mark.parametrize(
    "image_bytes", [IMAGE_BYTES, IMAGE_BYTES + 512], ids=["within a block", "at its end"]
)
def test_bytes_just_before_the_backup_table_are_written_and_the_images_backup_table_is_not(
    tmp_path: Path, image_bytes: int
) -> None:
    raw = raw_image(tmp_path / "box.raw")
    end = image_bytes - tables.TAIL_BYTES
    with raw.open("r+b") as file:
        file.truncate(end)
        file.truncate(image_bytes)
        file.seek(end - 1024)
        file.write(b"the image's last bytes".ljust(1024, b"."))
    sign(raw)
    disk = MemoryDisk(bytes(DISK_BYTES))
    with open_image(raw, public_key(raw)) as image:
        flash(make_plan(image, DISK_BYTES, b"identity".ljust(512, b".")), image, disk)
    assert disk.content[end - 1024 : end] == b"the image's last bytes".ljust(1024, b".")
    assert not any(disk.content[end : DISK_BYTES - tables.TAIL_BYTES])
    assert disk.content[2 * MIB : 2 * MIB + 512] == b"identity".ljust(512, b".")


def with_attribute(bit: int, entry: int) -> Change:
    """Set this attribute in an entry of the table."""

    def change(front: bytes) -> bytes:
        at = 1024 + entry * 128 + 48
        return with_checksums(front[:at] + struct.pack("<Q", 1 << bit) + front[at + 8 :])

    return change


@pytest.mark.parametrize(
    ("bit", "entry", "disk_bytes", "var_bytes"),
    [
        (59, 3, DISK_BYTES, 4 * MIB),  # to the last whole MiB before the copy of the table
        (59, 3, 10 * MIB + tables.TAIL_BYTES, 4 * MIB),
        (59, 3, 10 * MIB + tables.TAIL_BYTES - 512, 3 * MIB),
        (59, 3, IMAGE_BYTES, MIB),
        (58, 3, DISK_BYTES, MIB),
        (60, 3, DISK_BYTES, MIB),
        (59, 2, DISK_BYTES, MIB),  # root-a, which is not the last
    ],
)
def test_the_last_partition_grows_to_the_end_of_the_disk_if_its_attribute_allows_it(
    tmp_path: Path, bit: int, entry: int, disk_bytes: int, var_bytes: int
) -> None:
    planned = plan(tmp_path, with_attribute(bit, entry), disk_bytes)
    assert planned.slices == (*SLICES[:3], Slice("var", 6 * MIB, var_bytes))
    assert tables.slices(planned.head) == list(planned.slices)
    assert planned.head[1024 : 1024 + 128 * 128] == planned.tail.data[: 128 * 128]


def test_the_end_of_a_grown_partition_is_erased(tmp_path: Path) -> None:
    planned = plan(tmp_path, with_attribute(59, 3))
    disk = MemoryDisk(b"\xff" * DISK_BYTES)
    raw = tmp_path / "box.raw"
    with open_image(raw, public_key(raw)) as image:
        flash(planned, image, disk)
    assert not any(disk.content[9 * MIB : 10 * MIB]), "the end may have RAID metadata"
    assert not any(disk.content[6 * MIB : 7 * MIB]), "the beginning may have a LUKS header"
    assert disk.content[8 * MIB : 9 * MIB] == b"\xff" * MIB


def test_a_partition_to_encrypt_gets_the_name_by_which_the_box_finds_it(front: bytes) -> None:
    head, tail = tables.fit(front, DISK_BYTES, bytes, encrypted={"var", "home"})
    assert [(one.label, one.offset, one.length) for one in tables.slices(head)] == [
        *((one.label, one.offset, one.length) for one in SLICES[:3]),
        ("luks-var", 6 * MIB, MIB),
    ]
    assert head[1024 : 1024 + 128 * 128] == tail[: 128 * 128]


def test_each_disk_and_partition_gets_a_random_identifier(tmp_path: Path) -> None:
    one, other = plan(tmp_path).head, make_plan_again(tmp_path)
    drawn = [guid for head in (one, other) for guid in guids_of(head)]
    assert len(set(drawn)) == 10
    for guid in drawn:
        uuid = UUID(bytes_le=guid)
        assert (uuid.version, uuid.variant) == (4, RFC_4122)


def make_plan_again(folder: Path) -> bytes:
    """Return the beginning of the disk according to another plan for the image of `plan`."""
    raw = folder / "box.raw"
    with open_image(raw, public_key(raw)) as image:
        return make_plan(image, DISK_BYTES).head


def guids_of(head: bytes) -> list[bytes]:
    """Return the GUID of the disk, and of its four partitions."""
    return [head[512 + 56 : 512 + 72], *(head[at + 16 : at + 32] for at in range(1024, 1024 + 4 * 128, 128))]
