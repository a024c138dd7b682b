from __future__ import annotations

import io
import struct

import pytest

from agents.box.desktop.encoder import PictureEncoder
from datacenter.desktop.recording import (
    MAGIC,
    SEGMENT_BYTES,
    Recording,
    RecordingError,
    RecordingWriter,
    read_recording,
)
from tests.support.paths import FIXTURES
from wire.desktop.picture import Area, Picture
from wire.desktop.stream import (
    CHAIN_BYTES,
    HEADER_BYTES,
    DesktopStreamError,
    StreamChain,
    encode_frame,
    encode_header,
)


def record(steps: int, *, flush_each: bool = True) -> tuple[bytes, list[Picture], bytes]:
    """Return a recording, the picture after each frame, and the final hash of the sender's chain."""
    picture = Picture(24, 16)
    encoder = PictureEncoder(picture, level=1)
    file, chain = io.BytesIO(), StreamChain()
    writer = RecordingWriter(file)
    parts = [encode_header(bytes(8))]
    pictures = []
    for step in range(steps):
        picture.write(Area(step % 20, step % 12, 4, 4), struct.pack("<I", 1000 + step) * 16)
        encoder.changed(picture.area)
        while (message := encoder.next_message()) is not None:
            parts.append(encode_frame(message, 40 * step))
            pictures.append(picture.copy())
    for part in parts:
        writer.add(part)
        chain.add(part)
        if flush_each:
            writer.flush()
    assert writer.end() == chain.value
    return file.getvalue(), pictures, chain.value


def read(data: bytes, signed: bytes | None = None, *, is_complete: bool = True) -> Recording:
    return read_recording(io.BytesIO(data), signed, is_complete=is_complete)


def test_a_recording_replays_every_picture_exactly() -> None:
    data, pictures, chain = record(30)
    recording = read(data, chain)
    shown = [(time, picture.copy()) for time, picture in recording.replay()]
    assert [picture for _, picture in shown] == pictures
    assert [time for time, _ in shown] == [40 * step for step in range(30)]


def test_a_recording_of_an_earlier_version_replays_every_picture_exactly() -> None:
    """The file is never recreated: recordings are kept for years, and later versions must play them."""
    _, pictures, _ = record(30)
    recording = read((FIXTURES / "session/recording.rapr").read_bytes())
    assert [picture.copy() for _, picture in recording.replay()] == pictures


def test_each_flipped_bit_is_found() -> None:
    data, _, _ = record(6)
    for offset in range(len(data)):
        for bit in range(8):
            damaged = bytearray(data)
            damaged[offset] ^= 1 << bit
            with pytest.raises(RecordingError):
                read(bytes(damaged))


def test_each_cut_is_found() -> None:
    data, _, _ = record(6)
    for length in range(len(data)):
        with pytest.raises(RecordingError):
            read(data[:length])


def test_added_and_removed_bytes_are_found() -> None:
    data, _, _ = record(6)
    for offset in range(len(data) + 1):
        with pytest.raises(RecordingError):
            read(data[:offset] + b"\0" + data[offset:])
        if offset < len(data):
            with pytest.raises(RecordingError):
                read(data[:offset] + data[offset + 1 :])


def segments(data: bytes) -> list[bytes]:
    """Return the segments of a recording, each with its length and its hash."""
    parts, offset = [], len(MAGIC)
    while offset < len(data):
        end = offset + 4 + int.from_bytes(data[offset : offset + 4], "big") + CHAIN_BYTES
        parts.append(data[offset:end])
        offset = end
    return parts


def test_exchanged_repeated_and_missing_segments_are_found() -> None:
    data, _, _ = record(6)
    parts = segments(data)
    for first in range(len(parts)):
        for second in range(first):
            swapped = parts[:]
            swapped[first], swapped[second] = swapped[second], swapped[first]
            with pytest.raises(RecordingError):
                read(MAGIC + b"".join(swapped))
        with pytest.raises(RecordingError):
            read(MAGIC + b"".join(parts[:first] + parts[first + 1 :]))
        with pytest.raises(RecordingError):
            read(MAGIC + b"".join([*parts[:first], parts[first], *parts[first:]]))


def test_a_shorter_recomputed_recording_is_found_by_the_signed_chain() -> None:
    _, _, signed = record(6)
    shorter, _, _ = record(5)
    read(shorter)
    with pytest.raises(RecordingError, match="not the one whose hash was signed"):
        read(shorter, signed)


def test_a_recording_cut_by_a_crash_is_readable_up_to_the_last_segment() -> None:
    data, pictures, _ = record(6)
    parts = segments(data)
    cut = MAGIC + b"".join(parts[:4]) + parts[4][:10]
    with pytest.raises(RecordingError, match="cut off in segment 5"):
        read(cut)
    shown = [picture.copy() for _, picture in read(cut, is_complete=False).replay()]
    assert shown == pictures[: len(shown)]
    assert len(shown) == 3, "the first of the four segments contains only the header"


def test_segments_end_at_their_maximum_size() -> None:
    file = io.BytesIO()
    writer = RecordingWriter(file)
    writer.add(encode_header(bytes(8)))
    assert len(file.getvalue()) == len(MAGIC)
    writer.add(encode_frame(bytes(SEGMENT_BYTES), 0))
    assert len(file.getvalue()) > SEGMENT_BYTES + HEADER_BYTES


class FullDisk(io.RawIOBase):
    """A file whose writes fail after `capacity` bytes."""

    def __init__(self, capacity: int) -> None:
        self._free = capacity

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self._free -= len(data)
        if self._free < 0:
            raise OSError(28, "No space left on device")
        return len(data)


@pytest.mark.parametrize("capacity", [0, 10, 50, 100])
def test_an_error_of_the_disk_is_not_hidden(capacity: int) -> None:
    with pytest.raises(OSError, match="No space left"):
        writer = RecordingWriter(FullDisk(capacity))  # type: ignore[arg-type]
        writer.add(encode_header(bytes(8)))
        writer.flush()
        writer.add(encode_frame(b"x" * 40, 0))
        writer.end()


def test_an_unknown_starting_content_is_named() -> None:
    file = io.BytesIO()
    writer = RecordingWriter(file)
    writer.add(encode_header(b"12345678"))
    writer.end()
    with pytest.raises(DesktopStreamError, match="needs the starting content 3132333435363738"):
        list(read(file.getvalue()).replay())
