"""The record of a flash: its content, the refusal of invalid records, and the comparison with a disk."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from imaging.flash import record as records
from imaging.flash.gpt import Slice
from imaging.flash.record import FlashedDisk, FlashedPart, FlashRecord, RecordError, Span
from imaging.flash.target import DeviceError
from imaging.flash.write import WrittenRange
from tests.support.imaging.flash.images import MIB, MemoryDisk

SLICES = [Slice("esp", MIB, MIB), Slice("root-a", 2 * MIB, MIB), Slice("", 3 * MIB, MIB)]
OFFSETS = (0, MIB, 2 * MIB - 512, 2 * MIB, 3 * MIB, 4 * MIB - 512)
"""In the table, at the beginning and end of esp, in root-a, in the partition without a label, in the table's copy."""


def content(offset: int) -> bytes:
    return bytes([offset // 512 % 251]) * 512


def written() -> list[WrittenRange]:
    return [WrittenRange(offset, 512, hashlib.sha256(content(offset)).hexdigest()) for offset in OFFSETS]


def flashed_disk() -> MemoryDisk:
    disk = MemoryDisk(bytes(4 * MIB))
    for offset in OFFSETS:
        disk.content[offset : offset + 512] = content(offset)
    return disk


def example(**changes: Any) -> FlashRecord:
    spans = [Span(offset=each.offset, length=each.length, sha256=each.sha256) for each in written()]
    record = FlashRecord(
        written_at="2026-11-28T12:00:00+00:00",
        image="box.raw.zst",
        about={"release": "9.6", "build": "7"},
        manifest_sha256="a" * 64,
        signed_by_sha256="b" * 64,
        box="RAP-0001",
        certificate_sha256="c" * 64,
        disk=FlashedDisk(model="Stick", serial="S-1", bus="usb", bytes=4 * MIB),
        seconds=1.25,
        parts=records.parts(SLICES, written()),
        spans=spans,
        sha256=records.summary(spans),
    )
    return msgspec.structs.replace(record, **changes)


def test_a_summary_is_a_hash_of_a_line_for_each_span() -> None:
    first, second = written()[:2]
    lines = f"0 512 {first.sha256}\n{MIB} 512 {second.sha256}\n"
    assert records.summary([first, second]) == hashlib.sha256(lines.encode()).hexdigest()


def test_a_partition_has_the_summary_of_the_spans_that_begin_in_it() -> None:
    spans = written()
    assert example().parts == [
        FlashedPart(label="esp", offset=MIB, length=MIB, sha256=records.summary(spans[1:3])),
        FlashedPart(label="root-a", offset=2 * MIB, length=MIB, sha256=records.summary(spans[3:4])),
        FlashedPart(label="", offset=3 * MIB, length=MIB, sha256=records.summary(spans[4:])),
    ]


def test_a_record_is_one_json_document_and_is_unchanged_after_writing_and_reading(tmp_path: Path) -> None:
    file = tmp_path / "it.json"
    records.save(example(), file)
    assert records.load(file) == example()
    document = json.loads(file.read_text())
    assert document["format"] == "rap-flash-record-1"
    assert document["spans"][1] == {"offset": MIB, "length": 512, "sha256": written()[1].sha256}
    lines = file.read_text().splitlines()
    assert lines[1] == ' "format": "rap-flash-record-1",', "the JSON must be indented for people"
    assert file.read_bytes().endswith(b"}\n")
    with pytest.raises(FileExistsError):
        records.save(example(), file)


@pytest.mark.parametrize(
    ("where", "value", "problem"),
    [
        (("format",), "rap-flash-record-2", r"is not a flash record of `rap flash write`.*format"),
        (("more",), 1, r"unknown field"),
        (("spans", 0, "more"), 1, r"unknown field"),
        (("spans", 0, "offset"), 1, r"multiple of 512.*spans\[0\]\.offset"),
        (("spans", 0, "offset"), -512, r">= 0.*spans\[0\]\.offset"),
        (("spans", 0, "length"), 0, r">= 512.*spans\[0\]\.length"),
        (("spans", 0, "length"), 513, r"multiple of 512.*spans\[0\]\.length"),
        (("spans", 0, "length"), MIB + 512, r"<= 1048576.*spans\[0\]\.length"),
        (("spans", 0, "sha256"), "a" * 63, r"spans\[0\]\.sha256"),
        (("parts", 0, "offset"), -1, r">= 0.*parts\[0\]\.offset"),
        (("disk", "bytes"), -1, r">= 0.*disk\.bytes"),
        (("spans", 0, "offset"), 512, "was changed: its `sha256` does not match its `spans`"),
        (("sha256",), "d" * 64, "was changed: its `sha256` does not match its `spans`"),
        (("disk", "bytes"), 4 * MIB - 1, "has `spans` beyond the end of its `disk`"),
    ],
)
def test_an_invalid_record_is_refused_with_its_file_and_the_reason(
    tmp_path: Path, where: tuple[Any, ...], value: Any, problem: str
) -> None:
    file = tmp_path / "it.json"
    document = msgspec.to_builtins(example())
    table = document
    for key in where[:-1]:
        table = table[key]
    table[where[-1]] = value
    file.write_text(json.dumps(document))
    with pytest.raises(RecordError, match=rf"it\.json: .*(?:{problem})"):
        records.load(file)


def test_a_span_may_be_as_long_as_a_cell_and_reach_the_end_of_the_disk(tmp_path: Path) -> None:
    spans = [Span(offset=3 * MIB, length=MIB, sha256="a" * 64)]
    records.save(example(spans=spans, sha256=records.summary(spans)), tmp_path / "it.json")
    assert records.load(tmp_path / "it.json").written_bytes == MIB


def test_a_record_that_cannot_be_read_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"none\.json: cannot be read: No such file"):
        records.load(tmp_path / "none.json")


def test_the_written_bytes_are_the_sum_of_all_spans() -> None:
    assert example().written_bytes == 6 * 512


def test_a_record_can_be_restricted_to_partitions() -> None:
    chosen = records.only(example(), ["root-a", "esp"])
    assert [span.offset for span in chosen.spans] == [MIB, 2 * MIB - 512, 2 * MIB]
    assert chosen.parts == example().parts
    with pytest.raises(RecordError, match="no partition 'var' in the record; there are esp, root-a, "):
        records.only(example(), ["esp", "var"])


def test_spans_that_differ_on_a_disk_are_returned_in_order() -> None:
    disk, seen = flashed_disk(), list[int]()
    assert records.differences(example(), disk, seen.append) == []
    assert seen == [512] * 6
    disk.content[2 * MIB - 1] ^= 1
    disk.content[3 * MIB] ^= 1
    disk.content[MIB + 512] ^= 1  # not written, so not compared
    assert [span.offset for span in records.differences(example(), disk)] == [2 * MIB - 512, 3 * MIB]


def test_a_disk_that_fails_while_it_is_compared_is_reported() -> None:
    class Unreadable(MemoryDisk):
        def read(self, offset: int, into: memoryview) -> None:
            raise DeviceError("cannot be read")

    with pytest.raises(DeviceError, match="cannot be read"):
        records.differences(example(), Unreadable(bytes(4 * MIB)))


def test_the_location_of_a_span_is_a_partition_or_the_table() -> None:
    record = example()
    assert [records.location_of(record, span) for span in record.spans] == [
        "the partition table",
        "esp",
        "esp",
        "root-a",
        f"the partition at byte {3 * MIB}",
        f"the partition at byte {3 * MIB}",
    ]
