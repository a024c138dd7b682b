from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.desktop.conversations import EndOfBytesError, converse, converse_first
from wire.desktop.picture import Area, Picture
from wire.desktop.rfb import (
    NATIVE,
    VERSION,
    CursorShape,
    Encoding,
    KeyEvent,
    PixelFormat,
    PointerEvent,
    RfbError,
)
from wire.desktop.rfb_client import ServerMessages, handshake
from wire.desktop.rfb_server import (
    ClipboardDropped,
    SetEncodings,
    SetFormat,
    UpdateRequest,
    ViewerEncoder,
    viewer_handshake,
    viewer_message,
)


def test_both_sides_understand_each_other() -> None:
    _, served = converse(viewer_handshake(640, 480, "Sörensen"), VERSION + b"\x01\x01")
    server_init, sent = converse(handshake(), served)
    assert server_init == (640, 480, "Sörensen")
    rest = sent[len(VERSION) + 2 :]
    first = converse_first(viewer_message(), rest)
    second, _ = converse(viewer_message(), first.rest)
    assert first.result == SetFormat(NATIVE)
    assert isinstance(second, SetEncodings) and Encoding.RAW in second.encodings


@pytest.mark.parametrize(
    ("received", "message"),
    [
        (b"RFB 003.003\n\x01", "RFB 003.008 is supported"),
        (VERSION + b"\x02", "security type 2, which is not"),
    ],
)
def test_an_unsupported_version_or_security_type_is_an_error(received: bytes, message: str) -> None:
    with pytest.raises(RfbError, match=message):
        converse(viewer_handshake(640, 480, ""), received)


@pytest.mark.parametrize(
    ("received", "message"),
    [
        (b"\x03\x01" + struct.pack(">4H", 1, 2, 3, 4), UpdateRequest(Area(1, 2, 3, 4), True)),
        (KeyEvent(0xFF0D, True).encode(), KeyEvent(0xFF0D, True)),
        (PointerEvent(5, 10, 20).encode(), PointerEvent(5, 10, 20)),
        (b"\x06\0\0\0\0\0\0\x04text", ClipboardDropped()),
        (b"\x06\0\0\0\xff\xff\xff\xfctext", ClipboardDropped()),
        (b"\x02\0\0\x02" + struct.pack(">2i", 7, -239), SetEncodings(frozenset({7, -239}))),
    ],
)
def test_messages_of_viewers(received: bytes, message: object) -> None:
    assert converse(viewer_message(), received) == (message, b"")


@pytest.mark.parametrize("kind", [1, 7, 150, 248, 250, 251, 252, 255])
def test_messages_that_were_not_agreed_on_end_the_connection(kind: int) -> None:
    with pytest.raises(RfbError, match=f"message of the type {kind}, which was not agreed on"):
        converse_first(viewer_message(), bytes([kind]) + bytes(100))


def test_a_long_list_of_encodings_is_an_error() -> None:
    with pytest.raises(RfbError, match="lists 65535 encodings; at most 1024"):
        converse_first(viewer_message(), b"\x02\0\xff\xff")


@given(st.binary(max_size=2000))
def test_any_bytes_are_messages_an_error_or_an_incomplete_message(received: bytes) -> None:
    try:
        while received:
            received = converse_first(viewer_message(), received).rest
    except (RfbError, EndOfBytesError):
        pass


def random_picture(width: int, height: int, seed: int) -> Picture:
    picture = Picture(width, height)
    for index in range(width * height):
        picture.pixels[index] = (index * 2654435761 + seed) >> 8 & 0xFFFFFF
    return picture


def test_raw_updates_are_exact() -> None:
    picture, encoder = random_picture(70, 20, 1), ViewerEncoder()
    messages = ServerMessages(Picture(70, 20))
    converse(messages.message(), encoder.update(picture, [Area(0, 0, 30, 20), Area(30, 0, 40, 20)]))
    assert messages.picture == picture


def test_size_pointer_and_name_are_sent_to_viewers_that_understand_them() -> None:
    picture = random_picture(8, 8, 1)
    shape = CursorShape(1, 1, 0, 0, b"\x03\x02\x01\x00", b"\x80")
    red_first = PixelFormat(0, 1, 2)
    encoder = ViewerEncoder(red_first, {Encoding.CURSOR, Encoding.DESKTOP_SIZE, Encoding.DESKTOP_NAME})
    message = encoder.update(picture, [], is_resized=True, cursor=shape, name="stalled")
    assert message == (
        struct.pack(">BxH", 0, 3)
        + struct.pack(">HHHHi", 0, 0, 0, 0, -307)
        + b"\0\0\0\x07stalled"
        + struct.pack(">HHHHi", 0, 0, 8, 8, -223)
        + struct.pack(">HHHHi", 0, 0, 1, 1, -239)
        + b"\x01\x02\x03\x00\x80"
    )
    assert ViewerEncoder().update(picture, [], cursor=shape, name="stalled") == struct.pack(">BxH", 0, 0)
    with pytest.raises(RfbError, match="the viewer does not support this"):
        ViewerEncoder().update(picture, [], is_resized=True)


@pytest.mark.parametrize("width", [1, 3, 4, 2048, 2049])
def test_tight_updates_are_exact(width: int) -> None:
    picture = random_picture(width, 140, 7)
    encoder = ViewerEncoder(encodings={Encoding.TIGHT})
    inflate = zlib.decompressobj()
    shown = Picture(width, 140)
    for area in (picture.area, Area(0, 3, 1, 2)):
        message = encoder.update(picture, [area])
        count, offset = int.from_bytes(message[2:4], "big"), 4
        for _ in range(count):
            *corners, encoding = struct.unpack(">HHHHi", message[offset : offset + 12])
            part, offset = Area(*corners), offset + 12
            assert encoding == Encoding.TIGHT and message[offset] == 0
            offset += 1
            size = 3 * part.pixels
            if size < 12:
                colours, offset = message[offset : offset + size], offset + size
            else:
                length = shift = 0
                for index in range(3):
                    byte = message[offset]
                    offset += 1
                    length |= (byte & 127 if index < 2 else byte) << shift
                    shift += 7
                    if index == 2 or byte < 128:
                        break
                colours, offset = inflate.decompress(message[offset : offset + length]), offset + length
            assert len(colours) == size
            pixels = bytearray(4 * part.pixels)
            pixels[2::4], pixels[1::4], pixels[0::4] = colours[0::3], colours[1::3], colours[2::3]
            shown.write(part, pixels)
        assert offset == len(message)
    assert shown == picture


def test_a_requested_quality_changes_nothing() -> None:
    picture = random_picture(64, 32, 3)
    plain, with_quality = {Encoding.TIGHT}, {Encoding.TIGHT, *range(-32, -22), *range(-256, -246), -512}
    assert ViewerEncoder(encodings=plain).update(picture, [picture.area]) == ViewerEncoder(
        encodings=with_quality
    ).update(picture, [picture.area])
