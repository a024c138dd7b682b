"""Frames: their bytes, checksums and numbers, and other bytes between them."""

import tracemalloc

import pytest

from wire.standards.astm_dialect import AstmDialect
from wire.standards.lis1.frames import (
    FRAME_BYTES_MAX,
    TEXT_BYTES_MAX,
    Frame,
    FrameReader,
    FrameStyle,
    Signal,
    Token,
    frames_of,
)

MESSAGE = b"H|\\^&\rP|1\rL|1|N\r"


def tokens(data: bytes, chunk: int | None = None, **options: object) -> list[Token]:
    reader = FrameReader(AstmDialect(**options))  # type: ignore[arg-type]
    result: list[Token] = []
    for start in range(0, len(data), chunk or len(data)):
        reader.push(data[start : start + (chunk or len(data))])
        while (token := reader.pull()) is not None:
            result.append(token)
    if (frame := reader.finish()) is not None:
        result.append(frame)
    return result


@pytest.mark.parametrize("text_bytes_max", [1, 2, 5, 240])
@pytest.mark.parametrize("record_per_frame", [True, False])
def test_frames_contain_the_message_in_order(text_bytes_max: int, record_per_frame: bool) -> None:
    style = FrameStyle(text_bytes_max, record_per_frame=record_per_frame)
    result = tokens(b"".join(frames_of(MESSAGE, style)), chunk=3)
    frames = [token for token in result if isinstance(token, Frame)]
    assert len(frames) == len(result)
    assert b"".join(frame.text for frame in frames) == MESSAGE
    assert all(frame.intact for frame in frames)
    assert [frame.number for frame in frames] == [number % 8 for number in range(1, len(frames) + 1)]
    ends = (
        [frame.text.endswith(b"\r") for frame in frames]
        if record_per_frame
        else [frame is frames[-1] for frame in frames]
    )
    assert [frame.last for frame in frames] == ends


def test_the_longest_frame_of_e1381_has_247_bytes() -> None:
    assert [len(frame) for frame in frames_of(b"R" * 300 + b"\r", FrameStyle())] == [247, 68]


@pytest.mark.parametrize(
    ("checksum", "end", "options"),
    [
        ("lower", b"\r\n", {}),
        ("upper", b"\r", {}),
        ("upper", b"", {}),
        ("upper", b"\n", {}),
        ("upper", b"\r", {"frame_end": "cr"}),
        ("upper", b"\r\n", {"frame_end": "cr"}),
        ("upper", b"\r\n", {"frame_end": "checksum"}),
        ("absent", b"\r\n", {"checksum": "absent"}),
        ("absent", b"", {"checksum": "absent"}),
        ("wrong", b"\r\n", {"checksum": "ignored"}),
    ],
)
@pytest.mark.parametrize("chunk", [1, 1000])
def test_forms_of_checksum_and_end(checksum: str, end: bytes, options: dict[str, str], chunk: int) -> None:
    style = FrameStyle(checksum=checksum, end=end)  # type: ignore[arg-type]
    assert tokens(b"".join(frames_of(MESSAGE, style)), chunk, **options) == [
        Frame(1, b"H|\\^&\r", True),
        Frame(2, b"P|1\r", True),
        Frame(3, b"L|1|N\r", True),
    ]


@pytest.mark.parametrize("style", [FrameStyle(checksum="wrong"), FrameStyle(checksum="absent")])
def test_a_frame_with_a_wrong_or_missing_checksum_is_not_intact(style: FrameStyle) -> None:
    result = tokens(b"".join(frames_of(MESSAGE, style)))
    assert [isinstance(token, Frame) and not token.intact for token in result] == [True] * 3


@pytest.mark.parametrize(
    "bad", [b"\x021A\x03+5\r\n", b"\x021A\x03 5\r\n", b"\x02\x0303\r\n", b"\x029A\x037D\r\n"]
)
def test_a_malformed_frame_is_not_intact(bad: bytes) -> None:
    (frame,) = tokens(bad)
    assert isinstance(frame, Frame)
    assert not frame.intact


def test_the_checksum_is_that_of_the_bytes_before_decoding() -> None:
    (frame,) = frames_of("O|1|Grünwald\r".encode("latin-1"), FrameStyle())
    assert tokens(frame) == [Frame(1, b"O|1|Gr\xfcnwald\r", True)]


def test_flow_control_bytes_are_removed_only_if_the_line_has_flow_control() -> None:
    (frame,) = frames_of(b"L|1\r", FrameStyle())
    disturbed = b"\x13" + frame[:4] + b"\x11" + frame[4:]
    assert tokens(disturbed, xon_xoff=True) == [Frame(1, b"L|1\r", True)]
    assert Frame(1, b"L|1\r", True) not in tokens(disturbed)


def test_frames_without_numbers_begin_with_their_text() -> None:
    assert tokens(b"\x02L|1\r\x0373\r\n", frame_numbers="absent", checksum="ignored") == [
        Frame(-1, b"L|1\r", True)
    ]


@pytest.mark.parametrize("chunk", [1, 2, 1000])
def test_consecutive_other_bytes_are_one_token(chunk: int) -> None:
    assert tokens(b"\r\n\r\n\x05log text\r\nmore\x00\x03\x06\r\n??\x04", chunk) == [
        Signal.ENQ,
        Signal.LITTER,
        Signal.ACK,
        Signal.LITTER,
        Signal.EOT,
    ]


@pytest.mark.parametrize("by", [b"\x02", b"\x04", b"\x05"])
def test_a_frame_that_a_new_one_interrupts_is_cut(by: bytes) -> None:
    result = tokens(b"\x021H|" + by + b"1L|1\r\x03A5\r\n")
    assert result[0] is Signal.CUT
    assert len(result) > 1


@pytest.mark.parametrize(("excess", "intact"), [(0, True), (1, False)])
def test_the_longest_frame_has_64000_bytes(excess: int, intact: bool) -> None:
    (frame,) = frames_of(b"M" * (TEXT_BYTES_MAX + excess), FrameStyle(text_bytes_max=10**6))
    assert len(frame) == FRAME_BYTES_MAX + excess
    (token,) = tokens(frame, 4096)
    assert isinstance(token, Frame)
    assert token.intact == intact


@pytest.mark.parametrize(
    "unit", [b"x", b"\x02", b"\x021A\x03", b"\x02" + b"1" * 100, b"\x17", b"\r", b"\x05"]
)
def test_bytes_without_an_end_take_bounded_memory(unit: bytes) -> None:
    reader = FrameReader(AstmDialect())
    chunk = unit * (4096 // len(unit))
    reader.push(b"\x02")
    tracemalloc.start()
    for _ in range(5 if unit == b"\x02" else 20):
        reader.push(chunk)
        while reader.pull() is not None:
            pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 160 * 1024
