"""Compression: one stream for each connection, its limits, and its initial dictionary."""

from __future__ import annotations

import random
import sys
import zlib
from importlib import resources
from typing import get_args

import pytest

from settings.profile import Severity, load_profile
from wire.compression import (
    FRAME_BYTES_MAX,
    PACKED,
    PLAIN,
    WINDOW_LOG,
    BodyKind,
    CompressionError,
    Compressor,
    Decompressor,
    UnknownStreamError,
    body_kind,
    compress_self_contained,
    dictionary,
)
from wire.messages import STATES, Alert, Entry, Outcome, Status, encode, encode_batch

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

LIMIT = 1 << 20


def blocks(*data: bytes) -> list[bytes]:
    sender = Compressor()
    return [sender.compress(block) for block in data]


def test_each_block_can_be_decompressed_when_it_arrives() -> None:
    data = [b"first", b"", b"second" * 1000, random.Random(1).randbytes(200_000), b"last"]
    receiver = Decompressor()
    assert [receiver.decompress(block, LIMIT) for block in blocks(*data)] == data


def test_a_block_is_compressed_against_earlier_blocks() -> None:
    random_bytes = random.Random(1).randbytes(2000)
    first, again = blocks(random_bytes, random_bytes)
    assert len(again) < 30 < len(first)


def test_a_block_at_the_limit_is_read_and_one_byte_more_is_refused() -> None:
    (at_the_limit,), (longer,) = blocks(bytes(1000)), blocks(bytes(1001))
    assert Decompressor().decompress(at_the_limit, 1000) == bytes(1000)
    with pytest.raises(CompressionError, match="limit of 1000"):
        Decompressor().decompress(longer, 1000)


def test_a_decompression_bomb_is_refused_without_being_inflated() -> None:
    (bomb,) = blocks(bytes(200_000_000))
    assert len(bomb) < 50_000
    with pytest.raises(CompressionError, match="limit of 524288"):
        Decompressor().decompress(bomb, 524_288)


def test_a_stream_with_a_larger_window_is_refused() -> None:
    greedy = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: WINDOW_LOG + 1})
    block = greedy.compress(bytes(10), mode=greedy.FLUSH_BLOCK)
    with pytest.raises(CompressionError):
        Decompressor().decompress(bytes([PLAIN]) + block, LIMIT)


def test_a_truncated_block_yields_less_data() -> None:
    random_bytes = random.Random(1).randbytes(300)
    (block,) = blocks(random_bytes)
    for length in range(1, len(block)):
        assert len(Decompressor().decompress(block[:length], LIMIT)) < len(random_bytes)


def test_a_block_without_its_predecessor_is_refused_and_the_stream_continues() -> None:
    random_bytes = [random.Random(i).randbytes(300) for i in range(3)]
    first, second, third = blocks(*random_bytes)
    receiver = Decompressor()
    receiver.decompress(first, LIMIT)
    with pytest.raises(UnknownStreamError):
        receiver.decompress(third, LIMIT)
    assert [receiver.decompress(block, LIMIT) for block in (second, third)] == random_bytes[1:]
    with pytest.raises(UnknownStreamError):
        receiver.decompress(third, LIMIT)


def test_a_stream_ends_at_a_block_that_cannot_be_decompressed() -> None:
    first, second = blocks(b"first" * 100, b"second" * 100)
    receiver = Decompressor()
    receiver.decompress(first, LIMIT)
    with pytest.raises(CompressionError, match="not the next block"):
        receiver.decompress(second[:4] + b"\xff" * 20, LIMIT)
    with pytest.raises(UnknownStreamError):
        receiver.decompress(second, LIMIT)
    assert receiver.decompress(first, LIMIT) == b"first" * 100


def test_a_block_cannot_start_a_stream() -> None:
    _, second = blocks(b"first", b"second" * 100)
    with pytest.raises(CompressionError):
        Decompressor().decompress(second, LIMIT)


def test_a_stream_continues_across_many_frames() -> None:
    source = random.Random(2)
    data = [source.randbytes(source.randrange(FRAME_BYTES_MAX // 3)) for _ in range(40)]
    receiver = Decompressor()
    assert [receiver.decompress(block, LIMIT) for block in blocks(*data)] == data


def test_data_after_the_end_of_a_frame_is_refused() -> None:
    (block,) = blocks(bytes(FRAME_BYTES_MAX + 1))
    with pytest.raises(CompressionError, match="unexpected data"):
        Decompressor().decompress(block + b"more", LIMIT)


def test_a_single_alert_is_small_after_any_number_of_statuses() -> None:
    source = random.Random(3)
    sender = Compressor()
    sizes = []
    for number in range(1, 2000):
        readings = {"reaction-temp-mc": source.randrange(36900, 37100), "lamp-h": number // 60}
        status = Status(number, 1_790_000_000_000 + number * 60_000, "running", number, readings)
        sender.compress(encode_batch(7, [(number, encode(Entry("CHEM-0001", 1, status)))]))
        if number % 7 == 0:
            alert = Alert(number, 1_790_000_000_000 + number * 60_007, "R0103", "reagent", "warning", 119)
            sizes.append(
                len(sender.compress(encode_batch(7, [(number, encode(Entry("CHEM-0001", 1, alert)))])))
            )
    assert max(sizes) <= 45


@pytest.mark.parametrize("body", [b"", b"\x01garbage", b"\x28\xb5\x2f\xfd", b"\xff" * 100])
def test_invalid_compressed_data_is_refused(body: bytes) -> None:
    with pytest.raises(CompressionError):
        Decompressor().decompress(body, LIMIT)


def test_an_unknown_form_is_refused() -> None:
    with pytest.raises(CompressionError, match=f"unknown form 3 .* up to {PACKED}"):
        Decompressor().decompress(bytes([PACKED + 1]) + b"rest", LIMIT)


def test_a_plain_stream_of_an_earlier_release_is_read() -> None:
    data = [b"first" * 10, random.Random(1).randbytes(300)]
    options: dict[int, int] = {zstd.CompressionParameter.window_log: WINDOW_LOG}
    sender = zstd.ZstdCompressor(options=options, zstd_dict=dictionary(PLAIN))
    first, second = (sender.compress(block, mode=sender.FLUSH_BLOCK) for block in data)
    first = bytes([PLAIN]) + first
    position = (zlib.crc32(first) | 1 << 31).to_bytes(4, "big")
    receiver = Decompressor()
    assert [receiver.decompress(body, LIMIT) for body in (first, position + second)] == data


def test_the_dictionary_is_small_and_contains_every_word_of_a_report() -> None:
    content = (resources.files("wire") / "dictionaries" / "v1.zdict").read_bytes()
    assert len(content) <= 16 * 1024
    later = {"withdrawn"}  # a rare outcome, which was added after this dictionary was trained
    words = {*STATES, *get_args(Severity), *get_args(Outcome)} - later
    for model in ("chemistry-analyzer", "immunoassay-analyzer", "hematology-analyzer"):
        profile = load_profile(model)
        words |= {*profile.channels, *profile.assays, *profile.components}
    assert [word for word in sorted(words) if encode_word(word) not in content] == []


def encode_word(word: str) -> bytes:
    return bytes([0xA0 | len(word)]) + word.encode()


def test_a_single_alert_is_small_even_as_the_first_of_its_stream() -> None:
    alert = Alert(4242, 1_790_123_456_789, "R0103", "reagent", "warning", 119)
    (block,) = blocks(encode_batch(7, [(98_765, encode(Entry("CHEM-0001", 1, alert)))]))
    assert len(block) <= 45


def test_a_connection_refuses_a_block_whose_stream_it_does_not_have() -> None:
    """An intermediary puts the requests of two senders on one connection, and omits one request."""
    first, second, receiver = Compressor(), Compressor(), Decompressor()
    random_bytes = [b"one " * 20, b"two " * 20, b"three " * 20]
    blocks = [first.compress(data) for data in random_bytes]
    second.compress(b"another " * 20)
    others = second.compress(random_bytes[1])
    assert receiver.decompress(blocks[0], 1000) == random_bytes[0]
    for block in (blocks[2], others):
        with pytest.raises(UnknownStreamError):
            receiver.decompress(block, 1000)
    assert receiver.decompress(compress_self_contained(b"alone " * 20), 1000) == b"alone " * 20
    assert receiver.decompress(blocks[1], 1000) == random_bytes[1]
    assert receiver.decompress(Compressor().compress(b"other " * 20), 1000) == b"other " * 20
    with pytest.raises(UnknownStreamError):
        receiver.decompress(blocks[2], 1000)


def test_the_kind_of_a_body_is_recognized() -> None:
    first, second = blocks(b"first", b"second")
    kinds = [body_kind(body) for body in (first, second, compress_self_contained(b"alone"))]
    assert kinds == [BodyKind.BEGINS, BodyKind.CONTINUES, BodyKind.SELF_CONTAINED]
