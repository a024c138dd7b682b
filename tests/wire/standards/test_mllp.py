"""Framing of HL7 messages in a stream of bytes (MLLP)."""

from __future__ import annotations

import random
import tracemalloc

import pytest

from wire.standards.extract import Reason
from wire.standards.mllp import HEAD_BYTES, MESSAGE_BYTES_MAX, Block, BlockReader

SMALL = 8192
"""A limit above HEAD_BYTES, so that tests need few bytes."""


def read(*pieces: bytes, limit: int = MESSAGE_BYTES_MAX) -> list[bytes | Reason]:
    """Return the messages that a reader finds in pieces; an oversized one as `!` and its kept beginning."""
    reader = BlockReader(limit)
    expected: list[bytes | Reason] = []
    for piece in pieces:
        reader.feed(piece)
        while (item := reader.next()) is not None:
            if isinstance(item, Block):
                expected.append(b"!" * item.oversized + bytes(item.data[: item.length]))
            else:
                expected.append(item)
    return expected


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"\x0bA\x1c\r\x0bB\x1c\r", [b"A", b"B"]),
        (b"\x0bA\x1c\r\n\x0bB\x1c\r\n", [b"A", b"B"]),
        (b"\0\0\x0bA\x1c\r\0\0\x0bB\x1c\r", [b"A", b"B"]),
        (b"[link up]\r\n\x0bA\x1c\r\nlog\nlog\x0bB\x1c\r", [Reason.LITTER, b"A", Reason.LITTER, b"B"]),
        (b"\x0bA\x1cB\x1c\x1c\r", [b"A\x1cB\x1c"]),
        (b"\x0bA\x0bB\x1c\r", [b"A\x0bB"]),
        (b"\x0bMSH|1\r\x0bMSH|2\r\x1c\r", [Reason.MESSAGE_UNFINISHED, b"MSH|2\r"]),
        (b"\x0b\x0bMSH|2\x1c\r", [Reason.MESSAGE_UNFINISHED, b"MSH|2"]),
        (b"\x0b\x1c\r", [b""]),
        (b"\x1c\r\x1c\r\x0bA\x1c\r", [Reason.LITTER, b"A"]),
        (b"\x0bA", []),
        (b"", []),
    ],
)
def test_messages_are_found_wherever_the_bytes_are_split(
    stream: bytes, expected: list[bytes | Reason]
) -> None:
    for split in range(len(stream) + 1):
        assert read(stream[:split], stream[split:]) == expected
    assert read(*(bytes([byte]) for byte in stream)) == expected


@pytest.mark.parametrize("excess", [-1, 0, 1, 2, 3, 20_000])
@pytest.mark.parametrize("piece", [1, 7, SMALL, 10**6])
def test_a_message_over_the_limit_is_cut_and_the_next_one_is_read(excess: int, piece: int) -> None:
    message = bytes(random.Random(7).choices(b"ab|\x1c\x0b", k=SMALL + excess))
    stream = b"\x0b" + message + b"\x1c\r\x0bB\x1c\r"
    first = b"!" + message[:HEAD_BYTES] if excess > 0 else message
    pieces = [stream[start : start + piece] for start in range(0, len(stream), piece)]
    assert read(*pieces, limit=SMALL) == [first, b"B"]


@pytest.mark.parametrize("excess", [1, 2, 3, 4, 5, 6, 5000])
def test_a_new_message_inside_one_over_the_limit_is_read(excess: int) -> None:
    stream = b"\x0b" + b"M" * (SMALL + excess) + b"\x0bMSH\x1c\r"
    expected = [Reason.MESSAGE_UNFINISHED, b"MSH"]
    assert read(stream, limit=SMALL) == read(*(bytes([byte]) for byte in stream), limit=SMALL) == expected


@pytest.mark.parametrize("filler", [b"\x1c", b"\x0b", b"\x0bMS", b"\x1c\x0b", b"x"])
def test_no_stream_makes_the_reader_keep_more_than_its_bound(filler: bytes) -> None:
    tracemalloc.start()
    try:
        reader = BlockReader()
        piece = filler * (65_536 // len(filler))
        reader.feed(b"\x0b")
        for _ in range(32):
            reader.feed(piece)
            while reader.next() is not None:
                pass
        assert tracemalloc.get_traced_memory()[1] < 256 * 1024 + 65_536  # the test's own chunk
    finally:
        tracemalloc.stop()


class _CountedBuffer(bytearray):
    """Counts the bytes from the start of each search to the end of the buffer."""

    searched = 0

    def find(self, *args: object) -> int:
        start = args[1] if len(args) > 1 else 0
        assert isinstance(start, int)
        _CountedBuffer.searched += len(self) - start
        return super().find(*args)  # type: ignore[arg-type]


@pytest.mark.parametrize("filler", [b"\x1c", b"\x0b", b"\x0bMS", b"x"])
def test_every_byte_is_searched_a_bounded_number_of_times(
    filler: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wire.standards.mllp.bytearray", _CountedBuffer, raising=False)
    reader = BlockReader()
    reader.feed(b"\x0b")
    _CountedBuffer.searched, total = 0, 120_000
    for _ in range(total // 60):
        reader.feed((filler * 60)[:60])
        assert reader.next() is None
    assert _CountedBuffer.searched < 3 * total
