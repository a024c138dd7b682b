"""One stream a connection, its bounds, and the dictionary it starts with."""

from __future__ import annotations

import random
from importlib import resources
from typing import get_args

import pytest

from wire import vocabulary
from wire.compression import (
    CURRENT_DICTIONARY,
    FRAME_BYTES_MAX,
    SELF_CONTAINED,
    WINDOW_LOG,
    CompressionError,
    Compressor,
    Decompressor,
    Streams,
    UnknownStreamError,
    compress_alone,
    zstd,
)
from wire.messages import Alert, Entry, Status, encode, encode_batch

LIMIT = 1 << 20


def blocks(*data: bytes) -> list[bytes]:
    sender = Compressor()
    return [sender.compress(one) for one in data]


def test_each_block_can_be_read_when_it_has_come() -> None:
    data = [b"first", b"", b"second" * 1000, random.Random(1).randbytes(200_000), b"last"]
    receiver = Decompressor()
    assert [receiver.decompress(block, LIMIT) for block in blocks(*data)] == data


def test_a_block_refers_to_those_before_it() -> None:
    said = random.Random(1).randbytes(2000)
    first, again = blocks(said, said)
    assert len(again) < 30 < len(first)


def test_a_block_of_the_limit_is_read_and_one_byte_more_is_not() -> None:
    assert Decompressor().decompress(*blocks(bytes(1000)), 1000) == bytes(1000)
    with pytest.raises(CompressionError, match="more than 1000"):
        Decompressor().decompress(*blocks(bytes(1001)), 1000)


def test_a_bomb_is_refused_without_being_inflated() -> None:
    (bomb,) = blocks(bytes(200_000_000))
    assert len(bomb) < 50_000
    with pytest.raises(CompressionError, match="more than 524288"):
        Decompressor().decompress(bomb, 524_288)


def test_a_stream_with_a_larger_window_is_refused() -> None:
    greedy = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: WINDOW_LOG + 1})
    block = greedy.compress(bytes(10), mode=greedy.FLUSH_BLOCK)
    with pytest.raises(CompressionError):
        Decompressor().decompress(bytes([CURRENT_DICTIONARY]) + block, LIMIT)


def test_a_block_cut_short_never_passes_for_the_whole() -> None:
    said = random.Random(1).randbytes(300)
    (block,) = blocks(said)
    for length in range(1, len(block)):
        assert len(Decompressor().decompress(block[:length], LIMIT)) < len(said)


def test_a_block_whose_predecessor_is_missing_never_passes_for_what_was_sent() -> None:
    said = [random.Random(i).randbytes(300) for i in range(2)]
    first, _, third = blocks(said[0], said[1], said[1])
    receiver = Decompressor()
    receiver.decompress(first, LIMIT)
    try:
        got = receiver.decompress(third, LIMIT)
    except CompressionError:
        got = b""
    assert got != said[1]


def test_a_block_cannot_start_a_stream() -> None:
    _, second = blocks(b"first", b"second" * 100)
    with pytest.raises(CompressionError):
        Decompressor().decompress(second, LIMIT)


def test_a_stream_goes_on_beyond_many_frames() -> None:
    source = random.Random(2)
    data = [source.randbytes(source.randrange(FRAME_BYTES_MAX // 3)) for _ in range(40)]
    receiver = Decompressor()
    assert [receiver.decompress(block, LIMIT) for block in blocks(*data)] == data


def test_what_follows_the_end_of_a_frame_is_refused() -> None:
    (block,) = blocks(bytes(FRAME_BYTES_MAX + 1))
    with pytest.raises(CompressionError, match="follows"):
        Decompressor().decompress(block + b"more", LIMIT)


def test_a_lone_alert_is_small_whatever_was_said_before_it() -> None:
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
def test_garbage_is_refused(body: bytes) -> None:
    with pytest.raises(CompressionError):
        Decompressor().decompress(body, LIMIT)


def test_a_dictionary_of_the_future_is_refused_by_its_version() -> None:
    with pytest.raises(CompressionError, match=f"up to v{CURRENT_DICTIONARY}"):
        Decompressor().decompress(bytes([CURRENT_DICTIONARY + 1]) + b"rest", LIMIT)


def test_the_dictionary_is_small_and_says_every_word_of_a_report() -> None:
    content = (resources.files("wire") / "dictionaries" / f"v{CURRENT_DICTIONARY}.zdict").read_bytes()
    assert len(content) <= 16 * 1024
    kinds = (vocabulary.Channel, vocabulary.Assay, vocabulary.Component, vocabulary.State)
    for words in (*kinds, vocabulary.Severity, vocabulary.Outcome):
        assert [word for word in get_args(words) if encode_word(word) not in content] == []


def encode_word(word: str) -> bytes:
    return bytes([0xA0 | len(word)]) + word.encode()


def test_a_lone_alert_is_small_even_as_the_first_of_its_stream() -> None:
    alert = Alert(4242, 1_790_123_456_789, "R0103", "reagent", "warning", 119)
    (block,) = blocks(encode_batch(7, [(98_765, encode(Entry("CHEM-0001", 1, alert)))]))
    assert len(block) <= 45


def test_a_connection_refuses_a_block_whose_stream_it_does_not_have() -> None:
    """An intermediary puts the requests of two senders on one connection, and leaves out one of them."""
    first, second, streams = Compressor(), Compressor(), Streams()
    blocks = [first.compress(b"one " * 20), first.compress(b"two " * 20), first.compress(b"three " * 20)]
    assert streams.decompress("aa.0", blocks[0], 1000) == b"one " * 20
    with pytest.raises(UnknownStreamError):
        streams.decompress("aa.2", blocks[2], 1000)
    with pytest.raises(UnknownStreamError):
        streams.decompress("bb.1", blocks[1], 1000)
    assert streams.decompress(SELF_CONTAINED, compress_alone(b"alone " * 20), 1000) == b"alone " * 20
    assert streams.decompress("aa.1", blocks[1], 1000) == b"two " * 20
    assert streams.decompress("bb.0", second.compress(b"other " * 20), 1000) == b"other " * 20
    with pytest.raises(UnknownStreamError):
        streams.decompress("aa.2", blocks[2], 1000)
