"""Parts of data that is compressed as one stream, such as kernels with gzip."""

from __future__ import annotations

import subprocess
from hashlib import sha256
from random import Random

import pytest

from imaging.release.delta_file import DeltaWriter, PackedPart, PatchControl
from wire.release.codecs import UNPACK, CodecError
from wire.release.delta import BLOCK_BYTES, Delta, DeltaError, Range

RANDOM = Random(3)
OLD = RANDOM.randbytes(40_000)
NEW = OLD[:1000] + b"new" + OLD[1000:]


def gzip(data: bytes) -> bytes:
    return subprocess.run(["gzip", "-n", "-9"], input=data, capture_output=True, check=True).stdout


SOURCE, TARGET = gzip(OLD), gzip(NEW)
PADDED = TARGET.ljust(-(-len(TARGET) // BLOCK_BYTES) * BLOCK_BYTES, b"\0")
CONTROLS = (PatchControl(bytes(1000), b"new", 0), PatchControl(bytes(len(OLD) - 1000), b"", 0))


def part(
    offset: int, length: int, *controls: PatchControl, codec: str = "gzip-9", patched: int = len(NEW)
) -> PackedPart:
    ranges = (Range(0, len(SOURCE)),)
    return PackedPart(length, offset, ranges, "gzip", len(OLD), controls, patched, codec)


def delta(*parts: PackedPart) -> bytes:
    """Return a delta with these parts, and zeros at the end."""
    writer = DeltaWriter()
    for packed in parts:
        writer.part(packed, SOURCE, TARGET[packed.offset : packed.offset + packed.length])
    writer.zeros(len(PADDED) - sum(packed.length for packed in parts))
    return writer.finish(sha256(SOURCE).digest(), len(SOURCE), sha256(PADDED).digest(), len(PADDED))


def applied(data: bytes) -> bytes:
    target = bytearray()
    opened = Delta.open(lambda offset, length: data[offset : offset + length], len(data))
    list(
        opened.apply(
            lambda offset, length: SOURCE[offset : offset + length],
            lambda _, new: target.extend(new),
            lambda *_: b"",
        )
    )
    return bytes(target)


def test_data_compressed_as_one_stream_is_patched_in_parts() -> None:
    first = part(0, 30_000, *CONTROLS)
    assert applied(delta(first, part(30_000, len(TARGET) - 30_000))) == PADDED


@pytest.mark.parametrize(
    ("parts", "problem"),
    [
        ((part(1000, 9000),), "is not the next part"),
        ((part(0, 9000, *CONTROLS), part(8000, 100)), "is not the next part"),
        ((part(0, 9000, *CONTROLS), part(9000, 100, *CONTROLS)), "is not the next part"),
        (
            (part(0, 9000, *CONTROLS, codec="gzip-1"),),
            "compression by gzip and gzip-1, which is unknown here",
        ),
        ((part(0, 9000, *CONTROLS, codec="xz-6"),), "compression by gzip and xz-6, which is unknown here"),
        ((part(0, 9000, *CONTROLS, patched=len(NEW) - 1),), "produces more than the"),
        ((part(0, 9000, *CONTROLS, patched=len(NEW) + 1),), "bytes instead of the"),
    ],
)
def test_wrong_parts_are_refused(parts: tuple[PackedPart, ...], problem: str) -> None:
    with pytest.raises(DeltaError, match=problem):
        applied(delta(*parts))


def test_without_the_program_the_operation_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(
        DeltaError, match="the program gzip cannot be started: No such file or directory; install gzip"
    ):
        applied(delta(part(0, 9000, *CONTROLS)))


@pytest.mark.parametrize(
    "packed", [SOURCE[:-1], SOURCE + b"1", b"1" + SOURCE, gzip(OLD + b"1"), gzip(OLD[1:])]
)
def test_a_damaged_source_is_not_unpacked(packed: bytes) -> None:
    with pytest.raises(CodecError):
        UNPACK["gzip"](packed, len(OLD))
