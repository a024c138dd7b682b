r"""ER7, the encoding of HL7 v2 messages: parses segments, fields and components as bytes.

A message is never decoded as a whole, because MSH-18 (character set) is often absent or wrong. Numbers, times and
words of the standard are ASCII; a code of the site is compared in its encoding in each usual character set
(`byte_forms`). The result therefore does not depend on MSH-18, and no byte can cause a decoding error.

Segments end with CR. LF and FS end a segment if a segment's name and the field separator follow; elsewhere they are
data. In GB 18030 the second byte of a character may be `|`, `^`, `~` or the backslash: with `masked` these bytes are
replaced by control characters before fields are split. Source: HL7 v2.5.1, chapter 2, sections 2.5 to 2.7.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

SEGMENT_BYTES_MAX: Final = 4096
"""Longest segment that is read whole. A longer OBX, NTE or Zxx (an image, a curve) is skipped."""
_NULL: Final = b'""'
_SEGMENT: Final = re.compile(rb"[A-Z][A-Z0-9]{2}")
_AROUND_SEGMENT: Final = b"\n\x1c\0"
_PREFIXES: Final = b"\r\n \0\xef\xbb\xbf"
_CHARSETS: Final = ("utf-8", "latin-1", "cp1252", "gb18030")
_GB_PAIR: Final = re.compile(rb"[\x81-\xfe][0-9][\x81-\xfe][0-9]|[\x81-\xfe][\x40-\x7e\x80-\xfe]")
_TRAILS: Final = b"|^~\\"
_MASKS: Final = b"\x01\x02\x03\x04"
_MASK: Final = bytes.maketrans(_TRAILS, _MASKS)
_UNMASK: Final = bytes.maketrans(_MASKS, _TRAILS)
_MASKED_PAIR: Final = re.compile(rb"[\x81-\xfe][\x01-\x04]")


class Er7Error(Exception):
    """The bytes are not a message of HL7 v2; the text contains none of them."""


def mask(data: bytes) -> bytes:
    """Replace delimiter bytes inside characters of GB 18030 with control characters."""
    return _GB_PAIR.sub(lambda pair: pair[0].translate(_MASK), data)


def unmask(data: bytes) -> bytes:
    """Undo `mask`."""
    return _MASKED_PAIR.sub(lambda pair: pair[0].translate(_UNMASK), data)


def byte_forms(text: str, masked: bool = False) -> set[bytes]:
    """Return the encodings of `text` in the usual character sets."""
    forms = set()
    for charset in _CHARSETS:
        try:
            form = text.encode(charset)
        except UnicodeEncodeError:
            continue
        forms.add(mask(form) if masked else form)
    return forms


@dataclass(frozen=True, slots=True)
class Er7Delimiters:
    """The delimiters of a message from MSH-1 and MSH-2, each one byte; empty if missing in MSH-2."""

    field: bytes
    component: bytes
    repetition: bytes
    escape: bytes
    subcomponent: bytes
    boundary: re.Pattern[bytes]
    """Matches the end of a segment."""

    def first(self, field: bytes) -> bytes:
        """Return the first subcomponent of the first component of the first repetition, without escapes and blanks.

        The null value `""` is returned as empty.
        """
        if not field:
            return field
        for delimiter in (self.repetition, self.component, self.subcomponent):
            if delimiter and delimiter in field:
                field = field[: field.index(delimiter)]
        return self.clean(field)

    def component_of(self, field: bytes, number: int) -> bytes:
        """Return component `number`, from 1, of the first repetition, without escapes and blanks."""
        if self.repetition:
            field = field.partition(self.repetition)[0]
        parts = field.split(self.component) if self.component else [field]
        return self.first(parts[number - 1]) if number <= len(parts) else b""

    def has_content(self, field: bytes) -> bool:
        """Return whether any part of the field is valued."""
        if not field:
            return False
        for delimiter in (self.repetition, self.component, self.subcomponent):
            if delimiter:
                field = field.replace(delimiter, b"")
        return bool(field.replace(_NULL, b""))

    def clean(self, text: bytes) -> bytes:
        """Replace escape sequences and remove surrounding blanks; incomplete and unknown sequences are kept."""
        if self.escape and self.escape in text:
            text = self._unescape(text)
        text = text.strip(b" ")
        return b"" if text == _NULL else text

    def _unescape(self, text: bytes) -> bytes:
        parts = text.split(self.escape)
        result = parts[0]
        index = 1
        while index < len(parts) - 1:
            meaning = self._meaning(parts[index])
            if meaning is None:
                result += self.escape + parts[index]
                index += 1
            else:
                result += meaning + parts[index + 1]
                index += 2
        return result + b"".join(self.escape + part for part in parts[index:])

    def _meaning(self, sequence: bytes) -> bytes | None:
        if sequence[:1] == b"X":
            try:
                return bytes.fromhex(sequence[1:].decode("ascii"))
            except ValueError:
                return None
        index = b"FSRET".find(sequence) if len(sequence) == 1 else -1
        return (
            (self.field, self.component, self.repetition, self.escape, self.subcomponent)[index]
            if index >= 0
            else None
        )


class Segment:
    """A segment: its name, and its fields by their number in the standard."""

    __slots__ = ("_delimiters", "_fields", "name")

    def __init__(self, name: bytes, fields: list[bytes], delimiters: Er7Delimiters) -> None:
        self.name = name
        self._fields = fields
        self._delimiters = delimiters

    def raw(self, number: int) -> bytes:
        """Return a field as received; empty if absent."""
        return self._fields[number] if number < len(self._fields) else b""

    def first(self, number: int) -> bytes:
        """Return the first component of a field (`Er7Delimiters.first`)."""
        return self._delimiters.first(self.raw(number))

    def only(self, number: int) -> bytes:
        """Return the first component of a field that must not be repeated; a repeated one is returned as one text."""
        repetition = self._delimiters.repetition
        return self.text(number) if repetition and repetition in self.raw(number) else self.first(number)

    def text(self, number: int) -> bytes:
        """Return a field as one text, without escapes and blanks."""
        return self._delimiters.clean(self.raw(number))

    def component(self, number: int, component: int) -> bytes:
        """Return a component of a field (`Er7Delimiters.component_of`)."""
        return self._delimiters.component_of(self.raw(number), component)

    def has_content(self, number: int) -> bool:
        """Return whether any part of a field is valued."""
        return self._delimiters.has_content(self.raw(number))


class Er7Message:
    """A message: its header (MSH), and an iterator over its other segments. Only the current segment is copied.

    Raises: Er7Error if there is no header.
    """

    def __init__(self, data: bytes | bytearray, length: int | None = None, *, masked: bool = False) -> None:
        self._data = data
        self._end = len(data) if length is None else length
        self._masked = masked
        self._position = 0
        while self._position < self._end and data[self._position] in _PREFIXES:
            self._position += 1
        self.delimiters = self._read_delimiters()
        self._only_cr = data.find(b"\n", 0, self._end) < 0 and data.find(b"\x1c", 0, self._end) < 0
        header = self._next_line()
        if header is None or len(header) > SEGMENT_BYTES_MAX:
            raise Er7Error("the header segment is too long")
        separator = self.delimiters.field
        fields = (mask(header) if masked else header)[4:].lstrip(separator).split(separator)
        self.header = Segment(b"MSH", [b"MSH", separator, *fields], self.delimiters)

    def segments(self) -> Iterator[Segment]:
        """Iterate over the segments after the header, once.

        Raises: Er7Error at a line that is not a segment, or is an overlong segment of another type than OBX, NTE or
        Zxx.
        """
        while (line := self._next_line()) is not None:
            if not line:
                continue
            if not _SEGMENT.match(line) or line[3:4] not in (b"", self.delimiters.field):
                raise Er7Error("a line does not begin with the name of a segment")
            if len(line) <= SEGMENT_BYTES_MAX:
                line = mask(line) if self._masked else line
                yield Segment(line[:3], line.split(self.delimiters.field), self.delimiters)
            elif line[:3] not in (b"OBX", b"NTE") and line[:1] != b"Z":
                raise Er7Error("a segment is too long")

    def _read_delimiters(self) -> Er7Delimiters:
        """Read MSH-1 and MSH-2; the separator before MSH-2 may be repeated, as a hematology analyzer does."""
        start = bytes(self._data[self._position : min(self._position + 16, self._end)])
        if start[:3] != b"MSH":
            raise Er7Error("it does not begin with the segment MSH")
        separator = start[3:4]
        return _delimiters(
            separator, start[4:].lstrip(separator).partition(separator)[0] if separator else b""
        )

    def _next_line(self) -> bytes | None:
        """Return the next line, cut after one byte more than a segment may have; None at the end."""
        start = self._position
        if start >= self._end:
            return None
        if self._only_cr:
            end = self._data.find(b"\r", start, self._end)
        else:
            match = self.delimiters.boundary.search(self._data, start, self._end)
            end = match.start() if match else -1
        if end < 0:
            end = self._end
        self._position = end + 1
        line = bytes(self._data[start : min(end, start + SEGMENT_BYTES_MAX + 1)])
        return line.strip(_AROUND_SEGMENT)


@lru_cache(maxsize=64)
def _delimiters(separator: bytes, encoding: bytes) -> Er7Delimiters:
    all_delimiters = separator + encoding
    if not 2 <= len(all_delimiters) <= 6 or len(set(all_delimiters)) < len(all_delimiters):
        raise Er7Error("its header does not define the delimiters")
    if any(byte <= 0x20 or byte >= 0x7F or chr(byte).isalnum() for byte in all_delimiters):
        raise Er7Error("its header defines a letter, digit or control character as delimiter")
    component, repetition, escape, subcomponent = (encoding[i : i + 1] for i in range(4))
    boundary = re.compile(rb"\r|[\n\x1c](?=[A-Z][A-Z0-9]{2}" + re.escape(separator) + rb")")
    return Er7Delimiters(separator, component, repetition, escape, subcomponent, boundary)
