from __future__ import annotations

from array import array

import pytest
from backports import zstd
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.box.desktop.encoder import PictureEncoder
from datacenter.desktop.decoder import PictureDecoder
from wire.desktop.picture import Area, Picture
from wire.desktop.rfb import CursorShape
from wire.desktop.stream import (
    HEADER_BYTES,
    UPDATE_BYTES_MAX,
    AreaCopy,
    DesktopStreamError,
    Tile,
    Update,
    UpdateNotice,
    encode_header,
    parse_header,
    parse_update,
)


def compressed(*updates: Update | bytes) -> list[bytes]:
    compressor = zstd.ZstdCompressor()
    return [
        compressor.compress(
            update if isinstance(update, bytes) else update.encode(), mode=compressor.FLUSH_BLOCK
        )
        for update in updates
    ]


FULL_UPDATE = Update(
    UpdateNotice.BELL | UpdateNotice.STALLED | UpdateNotice.VIEW_ONLY,
    (9, 7),
    CursorShape(2, 1, 1, 0, bytes([1, 2, 3, 0] * 2), b"\xc0"),
    array("I", [0xFFFFFF, 0x010203]),
    [AreaCopy(Area(0, 0, 2, 2), 4, 5)],
    [
        Tile(Area(1, 2, 2, 1), array("H", [0, 1])),
        Tile(Area(0, 0, 1, 2), array("H", [0x100, 1])),
        Tile(Area(0, 0, 1, 1), array("I", [0x123456])),
    ],
)


def test_an_update_has_all_its_fields_after_parsing() -> None:
    assert parse_update(FULL_UPDATE.encode()) == FULL_UPDATE
    assert parse_update(Update().encode()) == Update()


def test_tiles_are_column_by_column() -> None:
    decoder = PictureDecoder()
    tile = Tile(Area(1, 0, 2, 2), array("H", [0, 1, 2, 3]))
    update = Update(size=(3, 2), colours=array("I", [10, 11, 12, 13]), tiles=[tile])
    decoder.apply(compressed(update)[0])
    assert list(decoder.picture.pixels) == [0, 10, 12, 0, 11, 13]


@pytest.mark.parametrize("length", range(len(FULL_UPDATE.encode())))
def test_a_truncated_update_is_an_error(length: int) -> None:
    with pytest.raises(DesktopStreamError, match="ends too early"):
        parse_update(FULL_UPDATE.encode()[:length])


def start(**changes: object) -> Update:
    return Update(size=(4, 4), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("update", "message"),
    [
        (b"\x20" + bytes(6), "the head of an update is not valid: flags 32"),
        (b"\0\0\0\0\xff\xff\xff", "65535 tiles"),
        (Update().encode() + b"x", "1 bytes follow an update"),
        (start(tiles=[Tile(Area(3, 0, 2, 1), array("H", [0, 0]))], colours=array("I", [1])), "is not within"),
        (start(tiles=[Tile(Area(0, 0, 1, 1), array("H", [0]))]), "a colour that is not in the palette"),
        (start(copies=[AreaCopy(Area(0, 0, 2, 2), 3, 3)]), "is not within a picture of 4×4"),
        (Update(size=(5000, 1)), "a desktop of 5000×1 pixels is not supported"),
        (Update(cursor=CursorShape(300, 1, 0, 0, b"", b"")), "a pointer of 300×1 pixels"),
        (b"\0\0\0\0\0\0\1" + bytes([0, 0, 1, 1, 0, 0, 0, 0, 3, 0]), "unknown kind 3 of a tile"),
    ],
)
def test_an_invalid_update_is_an_error(update: Update | bytes, message: str) -> None:
    with pytest.raises(DesktopStreamError, match=message):
        PictureDecoder().apply(compressed(update)[0])


def test_a_palette_that_grows_too_large_is_an_error() -> None:
    colours = array("I", range(40_000))
    first, second = compressed(Update(colours=colours), Update(colours=colours))
    decoder = PictureDecoder()
    decoder.apply(first)
    with pytest.raises(DesktopStreamError, match="a palette of more than 65536 colours"):
        decoder.apply(second)


def test_a_bomb_is_an_error() -> None:
    bomb = zstd.ZstdCompressor()
    message = bomb.compress(bytes(UPDATE_BYTES_MAX + 1), mode=bomb.FLUSH_BLOCK)
    assert len(message) < 4096
    with pytest.raises(DesktopStreamError, match="an update of more than"):
        PictureDecoder().apply(message)


def test_an_ended_or_foreign_stream_is_an_error() -> None:
    with pytest.raises(DesktopStreamError, match="ends within the message"):
        PictureDecoder().apply(zstd.compress(Update().encode()))
    with pytest.raises(DesktopStreamError, match="not the next message of this stream"):
        PictureDecoder().apply(b"hello, world")
    first, _, third = compressed(start(), start(), start())
    decoder = PictureDecoder()
    decoder.apply(first)
    with pytest.raises(DesktopStreamError):
        decoder.apply(third[1:])


def test_header() -> None:
    assert len(encode_header(bytes(8))) == HEADER_BYTES
    assert parse_header(encode_header(b"identity")) == b"identity"
    with pytest.raises(DesktopStreamError, match="not the stream of a desktop"):
        parse_header(b"RFB 003.008\n\0")
    with pytest.raises(DesktopStreamError, match="of version 9; this program has version 1"):
        parse_header(b"RAPD\x09" + bytes(8))


@given(st.binary(max_size=400))
def test_any_bytes_are_an_update_or_an_error(data: bytes) -> None:
    try:
        parse_update(data)
    except DesktopStreamError:
        return
    decoder = PictureDecoder()
    try:
        decoder.apply(compressed(data)[0])
    except DesktopStreamError:
        return


@given(st.data())
@settings(max_examples=60)
def test_any_damaged_message_is_applied_or_an_error(data: st.DataObject) -> None:
    picture = Picture(40, 30)
    picture.write(Area(3, 4, 5, 6), bytes([7, 8, 9, 0]) * 30)
    message = bytearray(PictureEncoder(picture, level=1).next_message() or b"")
    message[data.draw(st.integers(0, len(message) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        PictureDecoder().apply(bytes(message))
    except DesktopStreamError:
        return
