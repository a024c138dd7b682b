"""Segments, fields and escapes of HL7 v2."""

from __future__ import annotations

import pytest

from wire.standards.er7 import Er7Delimiters, Er7Error, Er7Message, byte_forms, mask, unmask

HEADER = b"MSH|^~\\&|A|B|C"


def segments(data: bytes, *, masked: bool = False) -> list[tuple[bytes, bytes]]:
    """Return the name and first field of each segment after the header."""
    return [(segment.name, segment.raw(1)) for segment in Er7Message(data, masked=masked).segments()]


def delimiters() -> Er7Delimiters:
    return Er7Message(HEADER).delimiters


@pytest.mark.parametrize("end", [b"\r", b"\n", b"\r\n", b"\x1c", b"\r\r"])
def test_segments_end_with_any_usual_character(end: bytes) -> None:
    assert segments(end.join((HEADER, b"EQU|1", b"NDS|2", b""))) == [(b"EQU", b"1"), (b"NDS", b"2")]


def test_segments_may_end_differently_in_one_message() -> None:
    assert segments(HEADER + b"\nEQU|1\rNDS|2\r\nNTE|3") == [(b"EQU", b"1"), (b"NDS", b"2"), (b"NTE", b"3")]


def test_a_line_feed_inside_a_field_is_data() -> None:
    assert segments(HEADER + b"\rNTE|one\ntwo\x1cthree\rNDS|2\r") == [
        (b"NTE", b"one\ntwo\x1cthree"),
        (b"NDS", b"2"),
    ]


@pytest.mark.parametrize("line", [b"of a note|x", b"NT|x", b"nte|x", b"NTE^x", b" NTE|1"])
def test_a_carriage_return_inside_a_field_is_refused(line: bytes) -> None:
    with pytest.raises(Er7Error, match="name of a segment"):
        segments(HEADER + b"\rNTE|the rest\r" + line + b"\rNDS|2\r")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"MS",
        b"MSH",
        b"MSH|",
        b"PID|1",
        b"MSHX^~\\&X",
        b"MSH|^^\\&|",
        b"MSH|^~\\&#x|",
        b"GET / HTTP/1.1",
    ],
)
def test_a_message_without_a_valid_header_is_refused(data: bytes) -> None:
    with pytest.raises(Er7Error) as error:
        Er7Message(data)
    assert "GET" not in str(error.value)


@pytest.mark.parametrize("prefix", [b"", b"\r\n", b"\xef\xbb\xbf", b" \0"])
def test_the_header_may_follow_padding_and_its_separator_may_be_doubled(prefix: bytes) -> None:
    message = Er7Message(prefix + b"MSH|||^~\\&|A|B\r")
    assert [message.header.raw(number) for number in (1, 2, 3, 4, 5)] == [b"|", b"^~\\&", b"A", b"B", b""]


def test_unusual_delimiters_are_those_of_the_header() -> None:
    message = Er7Message(b"MSH#*+!%#A\rEQU#a*b+c#d!F!e\r")
    equ = next(message.segments())
    assert (equ.first(1), equ.component(1, 2), equ.component(1, 3), equ.text(2)) == (b"a", b"b", b"", b"d#e")


@pytest.mark.parametrize(
    ("field", "text"),
    [
        (b"a\\F\\b\\S\\c\\T\\d\\R\\e\\E\\f", b"a|b^c&d~e\\f"),
        (b"\\X41\\B", b"AB"),
        (b"a\\X000d\\b", b"a\x00\x0db"),
        (b"\\X0A", b"\\X0A"),
        (b"\\X0\\b", b"\\X0\\b"),
        (b"\\Xzz\\b\\F\\c", b"\\Xzz\\b|c"),
        (b"a\\b", b"a\\b"),
        (b"\\", b"\\"),
        (b"\\\\", b"\\\\"),
        (b"\\.br\\x\\F\\y", b"\\.br\\x|y"),
        (b"\\H\\x\\N\\", b"\\H\\x\\N\\"),
        (b"  a b ", b"a b"),
        (b'""', b""),
    ],
)
def test_escapes_are_replaced_and_incomplete_ones_stay(field: bytes, text: bytes) -> None:
    assert delimiters().clean(field) == text


@pytest.mark.parametrize(
    ("field", "first", "content"),
    [
        (b"a&x^b~c", b"a", True),
        (b"", b"", False),
        (b'""', b"", False),
        (b"^^~&", b"", False),
        (b'""^""', b"", False),
        (b"^b", b"", True),
        (b"~c", b"", True),
        (b" ", b"", True),
    ],
)
def test_the_first_component_and_whether_a_field_has_content(
    field: bytes, first: bytes, content: bool
) -> None:
    assert (delimiters().first(field), delimiters().has_content(field)) == (first, content)


@pytest.mark.parametrize("charset", ["utf-8", "latin-1", "cp1252", "gb18030"])
def test_a_text_is_recognized_in_every_usual_character_set(charset: str) -> None:
    assert "Qualität".encode(charset) in byte_forms("Qualität")


def test_delimiter_bytes_inside_characters_of_gb18030_are_data() -> None:
    name = "".join(
        chr(code) for code in range(0x4E00, 0x9FA5) if chr(code).encode("gb18030")[1:2] in b"|^~\\"
    )
    sent = name.encode("gb18030")
    message = Er7Message(HEADER + b"|" + sent + b"\rNTE|" + sent + b"\r", masked=True)
    assert unmask(message.header.raw(6)) == sent
    note = next(message.segments())
    assert len(name) > 100
    assert unmask(note.raw(1)) == name.encode("gb18030")
    assert note.first(1) in byte_forms(name, masked=True)
    assert unmask(mask(name.encode("gb18030"))) == name.encode("gb18030")


@pytest.mark.parametrize("name", [b"PID", b"SPM", b"NK1", b"MSH"])
def test_a_segment_too_long_to_be_read_is_refused_if_it_could_identify_a_patient(name: bytes) -> None:
    data = HEADER + b"\r" + name + b"|" + b"x" * 4096 + b"\r"
    with pytest.raises(Er7Error, match="too long"):
        segments(data)


def test_a_long_image_is_skipped() -> None:
    image = b"OBX|1|ED|x||" + b"A" * 100_000
    assert segments(HEADER + b"\r" + image + b"\rNTE|" + b"x" * 9000 + b"\rOBX|2\r") == [(b"OBX", b"2")]
