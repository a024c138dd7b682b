from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.desktop.conversations import EndOfBytesError, converse, converse_first
from wire.desktop.picture import PIXELS_MAX, Area, Picture
from wire.desktop.rfb import (
    NATIVE,
    TEXT_BYTES_MAX,
    VERSION,
    CursorShape,
    Encoding,
    PixelFormat,
    RfbError,
)
from wire.desktop.rfb_client import (
    DesktopChange,
    ServerInit,
    ServerMessages,
    handshake,
    update_request,
    vnc_response,
)


def rectangle(x: int, y: int, width: int, height: int, encoding: int, data: bytes = b"") -> bytes:
    return struct.pack(">HHHHi", x, y, width, height, encoding) + data


def update(*rectangles: bytes) -> bytes:
    return struct.pack(">BxH", 0, len(rectangles)) + b"".join(rectangles)


def init(name: bytes = b"analyzer") -> bytes:
    return struct.pack(">HH", 640, 480) + NATIVE.encode() + len(name).to_bytes(4, "big") + name


def refusal(reason: bytes) -> bytes:
    return len(reason).to_bytes(4, "big") + reason


NO_SECURITY = VERSION + b"\x02\x02\x01" + bytes(4)


def test_handshake_without_authentication() -> None:
    result, sent = converse(handshake(), NO_SECURITY + init())
    assert result == ServerInit(640, 480, "analyzer")
    assert sent.startswith(VERSION + b"\x01\x01\x00\x00\x00\x00" + NATIVE.encode())
    encodings = struct.unpack(">5i", sent[-20:])
    assert set(encodings) == {0, 1, -239, -223, -308}, "no JPEG, no clipboard and no lossy encoding"


def test_handshake_answers_the_challenge_with_the_password() -> None:
    challenge = bytes(range(16))
    _, sent = converse(handshake(b"secret"), VERSION + b"\x01\x02" + challenge + bytes(4) + init())
    assert vnc_response(b"secret", challenge) in sent
    assert vnc_response(b"12345678", challenge) == vnc_response(b"123456789", challenge)


@pytest.mark.parametrize(
    ("received", "message"),
    [
        (b"RFB 003.003\n", "version is 'RFB 003.003\\\\n'; RFB 003.008"),
        (b"HTTP/1.1 200", "version is 'HTTP/1.1 200'"),
        (VERSION + b"\x00" + refusal(b"too many attempts"), "refuses the connection: 'too many attempts'"),
        (VERSION + b"\x00" + refusal(b"x" * 2000), "refuses the connection: a long text"),
        (VERSION + b"\x01\x02" + bytes(16), "requires a password"),
        (VERSION + b"\x01\x13", r"offers the security types \[19\]; 1 \(none\)"),
        (VERSION + b"\x01\x01\x00\x00\x00\x01" + refusal(b"no"), "refuses the authentication: 'no'"),
        (NO_SECURITY + init(b"n" * 1025), "the desktop's name has 1025 bytes; at most 1024"),
    ],
)
def test_handshake_errors_say_what_is_supported(received: bytes, message: str) -> None:
    with pytest.raises(RfbError, match=message):
        converse_first(handshake(), received)


def test_control_characters_of_a_name_are_dropped() -> None:
    result, _ = converse(handshake(), NO_SECURITY + init(b"a\x1b[2Jb\n\xff"))
    assert result.name == "a[2Jb\ufffd"


def test_pixels_and_copies_change_the_picture() -> None:
    messages = ServerMessages(Picture(4, 2))
    pixels = bytes([1, 2, 3, 255, 4, 5, 6, 77])
    message = update(
        rectangle(0, 0, 2, 1, Encoding.RAW, pixels), rectangle(2, 1, 2, 1, Encoding.COPY_RECT, bytes(4))
    )
    change, _ = converse(messages.message(), message)
    assert change == DesktopChange(True, [Area(0, 0, 2, 1), Area(2, 1, 2, 1)])
    assert messages.picture.read(Area(2, 1, 2, 1)) == bytes([1, 2, 3, 0, 4, 5, 6, 0]), "the fourth byte is 0"


def test_a_copy_may_overlap_its_target() -> None:
    messages = ServerMessages(Picture(1, 4))
    messages.picture.pixels[:] = memoryview(struct.pack("4I", 1, 2, 3, 4)).cast("B").cast("I")
    converse(messages.message(), update(rectangle(0, 1, 1, 3, Encoding.COPY_RECT, bytes(4))))
    assert list(messages.picture.pixels) == [1, 1, 2, 3]


@pytest.mark.parametrize("screens", [None, 2])
def test_a_changed_size_replaces_the_picture(screens: int | None) -> None:
    messages = ServerMessages(Picture(4, 2))
    if screens is None:
        message = rectangle(0, 0, 8, 3, Encoding.DESKTOP_SIZE)
    else:
        message = rectangle(
            0, 0, 8, 3, Encoding.EXTENDED_DESKTOP_SIZE, bytes([screens, 0, 0, 0]) + bytes(16 * screens)
        )
    change, _ = converse(messages.message(), update(message))
    assert (messages.picture.width, messages.picture.height, change.is_resized) == (8, 3, True)


def test_the_same_size_again_keeps_the_picture() -> None:
    messages = ServerMessages(Picture(4, 2))
    change, _ = converse(messages.message(), update(rectangle(0, 0, 4, 2, Encoding.DESKTOP_SIZE)))
    assert not change.is_resized


def test_a_pointer_shape_and_the_bell() -> None:
    messages = ServerMessages(Picture(4, 2))
    shape = rectangle(3, 1, 9, 1, Encoding.CURSOR, bytes([1, 2, 3, 9]) * 9 + b"\xff\x80")
    change, _ = converse(messages.message(), update(shape))
    assert change.cursor == CursorShape(9, 1, 3, 1, bytes([1, 2, 3, 0]) * 9, b"\xff\x80")
    assert converse(messages.message(), b"\x02")[0].is_bell


@pytest.mark.parametrize("length", [struct.pack(">i", 70_000), struct.pack(">i", -70_000)])
def test_clipboard_of_the_server_is_dropped(length: bytes) -> None:
    messages = ServerMessages(Picture(4, 2))
    change, sent = converse(messages.message(), b"\x03\x00\x00\x00" + length + b"t" * 70_000)
    assert (change, sent) == (DesktopChange(), b"")


@pytest.mark.parametrize(
    ("received", "message"),
    [
        (b"\x01", "message of the type 1"),
        (b"\xfa", "message of the type 250"),
        (
            b"\x03\x00\x00\x00" + struct.pack(">i", TEXT_BYTES_MAX + 1),
            "a clipboard of 1048577 bytes; at most",
        ),
        (b"\x03\x00\x00\x00" + struct.pack(">i", -(2**31)), "a clipboard of 2147483648 bytes"),
        (update(rectangle(3, 0, 2, 1, Encoding.RAW)), "is not within a picture of 4×2 pixels"),
        (update(rectangle(0, 0, 2, 2, Encoding.COPY_RECT, struct.pack(">HH", 3, 0))), "is not within"),
        (update(rectangle(0, 0, 1, 1, 7)), "in the encoding 7, which was not agreed on"),
        (update(rectangle(0, 0, 65535, 65535, Encoding.DESKTOP_SIZE)), "65535×65535 pixels is not supported"),
        (update(rectangle(0, 0, 0, 4, Encoding.DESKTOP_SIZE)), "0×4 pixels is not supported"),
        (update(rectangle(0, 0, 257, 4, Encoding.CURSOR)), "a pointer of 257×4 pixels; at most"),
        (
            update(rectangle(0, 0, 9, 9, Encoding.EXTENDED_DESKTOP_SIZE, b"\xff\0\0\0")),
            "255 screens; at most",
        ),
    ],
)
def test_a_message_that_was_not_agreed_on_is_an_error(received: bytes, message: str) -> None:
    with pytest.raises(RfbError, match=message):
        converse_first(ServerMessages(Picture(4, 2)).message(), received)


@given(st.binary(max_size=4000))
def test_any_bytes_are_a_message_an_error_or_an_incomplete_message(received: bytes) -> None:
    messages = ServerMessages(Picture(8, 8))
    try:
        while received:
            received = converse_first(messages.message(), received).rest
    except (RfbError, EndOfBytesError):
        pass
    assert messages.picture.width * messages.picture.height <= PIXELS_MAX


HOSTILE_RECTANGLE = st.builds(
    rectangle,
    *[st.integers(0, 20)] * 4,
    st.sampled_from([0, 1, 7, -223, -239, -308]),
    st.binary(max_size=100),
)


@given(st.lists(HOSTILE_RECTANGLE, max_size=6), st.binary(max_size=3000))
def test_any_rectangles_are_applied_or_refused(rectangles: list[bytes], rest: bytes) -> None:
    messages = ServerMessages(Picture(8, 8))
    with contextlib.suppress(RfbError, EndOfBytesError):
        converse_first(messages.message(), update(*rectangles) + rest)
    assert not any(messages.picture.data[3::4].tobytes())


@given(st.binary(max_size=300))
def test_any_bytes_in_a_handshake_are_an_error_or_an_incomplete_message(received: bytes) -> None:
    for start in (b"", VERSION, NO_SECURITY):
        with contextlib.suppress(RfbError, EndOfBytesError):
            converse_first(handshake(b"secret"), start + received)


def test_a_request_for_pixels() -> None:
    assert update_request(Area(1, 2, 3, 4), incremental=True) == b"\x03\x01\0\x01\0\x02\0\x03\0\x04"


def test_pixel_formats_of_viewers() -> None:
    novnc = PixelFormat.parse(bytes([32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 0, 8, 16, 0, 0, 0]))
    assert novnc.from_picture(b"\x03\x02\x01\x00") == b"\x01\x02\x03\x00"
    big_endian = PixelFormat.parse(bytes([32, 24, 1, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0]))
    assert big_endian.from_picture(b"\x03\x02\x01\x00") == b"\x00\x01\x02\x03"
    assert PixelFormat.parse(NATIVE.encode()) == NATIVE


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (bytes([8, 8, 0, 1, 0, 7, 0, 7, 0, 3, 0, 3, 6, 0, 0, 0]), "8 bits .* set the viewer to full colour"),
        (bytes([32, 24, 0, 0, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0]), "is not supported"),
        (bytes([32, 30, 0, 1, 0, 255, 0, 255, 0, 255, 20, 10, 0, 0, 0, 0]), "shifts of whole bytes are"),
        (bytes([32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 8, 8, 0, 0, 0, 0]), "shifts of whole bytes are"),
    ],
)
def test_other_pixel_formats_are_an_error(data: bytes, message: str) -> None:
    with pytest.raises(RfbError, match=message):
        PixelFormat.parse(data)
