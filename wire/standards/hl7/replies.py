"""Acknowledgements to an instrument: original and enhanced mode of HL7 v2.5.1, chapter 2, section 2.9.

A reply uses the delimiters of the message and repeats, byte by byte, the fields that instruments compare: MSH-10 in
MSA-2, the event of MSH-9, MSH-11, MSH-12 and MSH-18. Sender and receiver are swapped. Nothing else is repeated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Final

from settings.adapted import zone_of
from wire.standards.er7 import Er7Message, unmask

_DEFAULT_VERSION: Final = b"2.5.1"
_ON_SUCCESS: Final = (b"AL", b"SU")
_ON_ERROR: Final = (b"AL", b"ER")
_CONDITIONS: Final = (b"AL", b"NE", b"ER", b"SU")


class Answer(Enum):
    """The answer to a message: the second letter of MSA-1, and the code of ERR-3 (table 0357)."""

    ACCEPT = (b"A", b"")
    NO_CONTROL_ID = (b"E", b"101^Required field missing")
    INVALID = (b"E", b"100^Segment sequence error")
    UNKNOWN_WORD = (b"E", b"103^Table value not found")
    BUSY = (b"E", b"207^Application internal error")
    UNSUPPORTED = (b"R", b"200^Unsupported message type")


@dataclass(frozen=True, slots=True)
class ReplyHeader:
    """The fields of a message's header that a reply needs; defaults for a message without a valid header."""

    separator: bytes = b"|"
    encoding: bytes = b"^~\\&"
    addresses: tuple[bytes, ...] = (b"", b"", b"", b"")
    """MSH-3 to MSH-6."""
    kind: bytes = b""
    event: bytes = b""
    has_structure: bool = False
    control_id: bytes = b""
    processing: bytes = b"P"
    version: bytes = _DEFAULT_VERSION
    charset: bytes = b""
    accept: bytes = b""
    application: bytes = b""

    @classmethod
    def of(cls, message: Er7Message, masked: bool) -> ReplyHeader:
        """Read the header of a message."""
        msh, component = message.header, message.delimiters.component
        raw = (lambda number: unmask(msh.raw(number))) if masked else msh.raw
        kind = msh.raw(9).split(component) if component else [msh.raw(9)]
        return cls(
            separator=msh.raw(1),
            encoding=msh.raw(2),
            addresses=(raw(3), raw(4), raw(5), raw(6)),
            kind=msh.component(9, 1),
            event=kind[1] if len(kind) > 1 else b"",
            has_structure=len(kind) > 2,
            control_id=raw(10),
            processing=raw(11) or b"P",
            version=raw(12) or _DEFAULT_VERSION,
            charset=raw(18),
            accept=msh.first(15),
            application=msh.first(16),
        )


def acknowledgement_codes(header: ReplyHeader, answer: Answer, original: bool = False) -> list[bytes]:
    """Return the values of MSA-1, one for each acknowledgement to send.

    Original mode: AA, AE or AR. Enhanced mode, by MSH-15 and MSH-16: on success CA, AA or both in this order; on an
    error CE or CR if the instrument always waits for an accept acknowledgement, else AE or AR if it wants any.
    """
    letter = answer.value[0]
    enhanced = header.accept in _CONDITIONS or header.application in _CONDITIONS
    if original or not enhanced:
        return [b"A" + letter]
    if answer is Answer.ACCEPT:
        wanted = ((b"CA", header.accept), (b"AA", header.application))
        return [code for code, condition in wanted if condition in _ON_SUCCESS]
    if header.accept == b"AL":
        return [b"C" + letter]
    if header.application in _ON_ERROR:
        return [b"A" + letter]
    return [b"C" + letter] if header.accept == b"ER" else []


class MessageNumbers:
    """Time stamps and control ids (MSH-7, MSH-10) of the box's own messages on one connection.

    Times are in the site's zone and without an offset, the form that every instrument can read.
    """

    def __init__(self, clock_ms: Callable[[], int], zone: str) -> None:
        self._clock_ms = clock_ms
        self._zone = zone_of(zone)
        self._count = 0
        self._second, self._stamp = -1, ""

    def next(self) -> tuple[bytes, bytes]:
        """Return a time stamp and a control id of 20 digits that is unique on the connection."""
        self._count += 1
        ms = self._clock_ms()
        if ms // 1000 != self._second:
            self._second = ms // 1000
            self._stamp = datetime.fromtimestamp(self._second, self._zone).strftime("%Y%m%d%H%M%S")
        stamp = self._stamp
        return stamp.encode(), f"{stamp}{ms % 1000:03}{self._count % 1000:03}".encode()


def write_reply(header: ReplyHeader, code: bytes, answer: Answer, numbers: MessageNumbers) -> bytes:
    """Write an acknowledgement without its framing."""
    separator, component = header.separator, header.encoding[:1]
    stamp, own_id = numbers.next()
    kind = b"ACK" + (component + header.event if header.event and component else b"")
    if header.has_structure:
        kind += component + b"ACK"
    application, facility, host, host_facility = header.addresses
    msh = [
        *(b"MSH", header.encoding, host, host_facility, application, facility, stamp, b"", kind),
        *(own_id, header.processing, header.version),
    ]
    if header.charset:
        msh += [b"", b"", b"", b"", b"", header.charset]
    segments = [msh, [b"MSA", code, header.control_id]]
    if answer.value[1] and _has_error_code(header.version):
        error = (answer.value[1] + b"^HL70357").replace(b"^", component or b" ")
        segments.append([b"ERR", b"", b"", error, b"E"])
    return b"".join(separator.join(segment) + b"\r" for segment in segments)


def _has_error_code(version: bytes) -> bool:
    """Return whether the version has ERR-3 and ERR-4: from 2.5 on."""
    return version[:3] in (b"2.5", b"2.6", b"2.7", b"2.8", b"2.9")
