"""Records of LIS2-A (ASTM E1394): fields, components, repeats and escapes, on bytes.

The header declares the delimiters. Only the components that are compared or read are decoded; bytes that are invalid
in the encoding are replaced.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_RECORD_END: Final = re.compile(rb"[\r\n]")
RECORD_BYTES_MAX: Final = 8192
"""Maximum length of a record; a longer one is truncated after its last complete field. Only histograms and images are
longer."""
_ASCII_TRAIL_BYTES: Final = frozenset({"gb18030", "shift_jis"})
"""Encodings in which a byte of a character can equal a delimiter: records are decoded before they are divided."""


@dataclass(frozen=True, slots=True)
class Lis2Delimiters:
    """The delimiters of a message."""

    field: bytes = b"|"
    repeat: bytes = b"\\"
    component: bytes = b"^"
    escape: bytes = b"&"


def delimiters_of(header: bytes) -> Lis2Delimiters:
    r"""Return the delimiters that a header declares, as in `H|\^&`; the usual ones if it declares none."""
    declared = [header[position : position + 1] for position in range(1, 5)]
    valid = all(len(each) == 1 and 0x20 < each[0] < 0x7F and not each.isalnum() for each in declared)
    return Lis2Delimiters(*declared) if valid and len(set(declared)) == 4 else Lis2Delimiters()


class Lis2Record:
    """A record. Fields and components are counted from 1, and field 1 is the type.

    `whole` is false for a record that was cut because it is too long.
    """

    def __init__(self, data: bytes, delimiters: Lis2Delimiters, encoding: str, *, whole: bool = True) -> None:
        if encoding in _ASCII_TRAIL_BYTES:
            data, encoding = data.decode(encoding, "replace").encode(), "utf-8"
        self._fields = data.split(delimiters.field)
        self._delimiters = delimiters
        self._encoding = encoding
        if not whole and len(self._fields) > 1:
            self._fields.pop()
        self.whole = whole
        self.type = self._fields[0].strip().decode("ascii", "replace").upper()
        """The upper-case letter of the record's type."""

    def has_content(self, number: int) -> bool:
        """Return whether a field contains anything except blanks and delimiters."""
        delimiters = self._delimiters
        return bool(self._field(number).strip(b" " + delimiters.component + delimiters.repeat))

    def fields_with_content(self) -> set[int]:
        """Return the numbers of the fields that contain anything except blanks and delimiters."""
        return {number for number in range(1, len(self._fields) + 1) if self.has_content(number)}

    def components(self, number: int) -> list[str]:
        """Return the components of a field, or of its first repetition, without surrounding blanks."""
        first = self._field(number).split(self._delimiters.repeat, 1)[0]
        return [self._text(part) for part in first.split(self._delimiters.component)]

    def text(self, number: int, component: int = 1) -> str:
        """Return a component of a field, or of its first repetition; empty if absent."""
        first = self._field(number).split(self._delimiters.repeat, 1)[0]
        parts = first.split(self._delimiters.component, component)
        return self._text(parts[component - 1]) if component <= len(parts) else ""

    def only(self, number: int, component: int = 1) -> str:
        """Return a component of a field; empty if absent or if the field is repeated."""
        return "" if self.is_repeated(number) else self.text(number, component)

    def is_repeated(self, number: int) -> bool:
        """Return whether a field is repeated."""
        return self._delimiters.repeat in self._field(number)

    def _field(self, number: int) -> bytes:
        return self._fields[number - 1] if number <= len(self._fields) else b""

    def _text(self, part: bytes) -> str:
        if self._delimiters.escape in part:
            part = _unescape(part, self._delimiters)
        return part.decode(self._encoding, "replace").strip(" ")


def _unescape(part: bytes, delimiters: Lis2Delimiters) -> bytes:
    """Replace `&F&`, `&S&`, `&R&`, `&E&` and `&Xhh&`; remove other sequences. An unpaired escape is kept."""
    escape = re.escape(delimiters.escape)
    known = {
        b"F": delimiters.field,
        b"S": delimiters.component,
        b"R": delimiters.repeat,
        b"E": delimiters.escape,
    }

    def replace(match: re.Match[bytes]) -> bytes:
        body = match[1]
        if re.fullmatch(rb"X([0-9A-Fa-f]{2})+", body):
            return bytes.fromhex(body[1:].decode("ascii"))
        return known.get(body, b"")

    return re.sub(escape + rb"([A-Z][0-9A-Fa-f]{0,64})" + escape, replace, part)


class RecordReader:
    """Divides the joined texts of frames into records. At most `RECORD_BYTES_MAX` bytes are kept."""

    def __init__(self) -> None:
        self._kept = bytearray()
        self._length = 0

    @property
    def incomplete(self) -> bool:
        """Whether a record has begun and not ended."""
        return self._length > 0

    def push(self, text: bytes, last: bool) -> Iterator[tuple[bytes, bool]]:
        """Append the text of a frame, which ends a record if `last`; yield records, each with whether it is whole."""
        if text[-1:] == b"\r" and not self._length and len(text) <= RECORD_BYTES_MAX:
            record = text[:-1]
            if record and b"\r" not in record and b"\n" not in record:  # as in most frames
                yield record, True
                return
        start = 0
        for match in _RECORD_END.finditer(text):
            self._keep(text[start : match.start()])
            start = match.end()
            yield from self._end()
        self._keep(text[start:])
        if last:
            yield from self._end()

    def reset(self) -> None:
        """Discard an incomplete record."""
        self._kept.clear()
        self._length = 0

    def _keep(self, part: bytes) -> None:
        self._length += len(part)
        self._kept += part[: RECORD_BYTES_MAX - len(self._kept)]

    def _end(self) -> Iterator[tuple[bytes, bool]]:
        if self._length:
            record, whole = bytes(self._kept), self._length <= RECORD_BYTES_MAX
            self.reset()
            yield record, whole
