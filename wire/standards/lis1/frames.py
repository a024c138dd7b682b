"""Reads and writes LIS1-A frames (STX, number, text, ETB or ETX, checksum, CR LF) and control characters.

Only the first byte after STX is the frame number; the text may begin with a digit. The checksum is the sum of the
bytes from the number to ETB or ETX, modulo 256, in two hexadecimal digits.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from hashlib import sha256
from typing import Final, Literal, TypeAlias

from wire.standards.astm_dialect import AstmDialect

STX, ETX, EOT, ENQ, ACK, NAK, ETB = b"\x02", b"\x03", b"\x04", b"\x05", b"\x06", b"\x15", b"\x17"
REPLY_S: Final = 15.0
"""Time that a sender waits for the reply to ENQ or to a frame."""
FRAME_BYTES_MAX: Final = 64_000
FRAME_OVERHEAD: Final = 7
"""Bytes of a frame that are not text."""
TEXT_BYTES_MAX: Final = FRAME_BYTES_MAX - FRAME_OVERHEAD
_WHOLE: Final = re.compile(
    rb"\x02([^\x02-\x05\x17]{1,%d})([\x03\x17])([0-9A-Fa-f]{2})\r\n" % (TEXT_BYTES_MAX + 1)
)
"""A complete frame of the default dialect."""

_CR, _LF = 0x0D, 0x0A
_NOT_LINE_END: Final = re.compile(rb"[^\r\n]")
_SIGNAL: Final = re.compile(rb"[\x02\x04\x05\x06\x15]")
_END_OF_TEXT: Final = re.compile(rb"[\x02\x03\x04\x05\x17]")


@dataclass(frozen=True, slots=True)
class Frame:
    """A received frame; `number` is -1 if the instrument sends none."""

    number: int
    text: bytes
    last: bool
    """Whether it ends with ETX: the record that it contains is complete."""
    intact: bool = True
    """Whether length, number and checksum are correct."""

    @property
    def identity(self) -> FrameIdentity:
        """A short key that is equal for a repetition of the frame."""
        return self.number, self.last, sha256(self.text).digest()


FrameIdentity: TypeAlias = tuple[int, bool, bytes]


class Signal(Enum):
    """What a reader finds in the bytes of a line, other than complete frames."""

    ENQ = "enquiry"
    ACK = "acknowledgement"
    NAK = "negative acknowledgement"
    EOT = "end of transmission"
    CUT = "a frame that ends before its ETB or ETX"
    LITTER = "the beginning of a sequence of other bytes"


Token: TypeAlias = Frame | Signal
_SIGNALS: Final = {ENQ: Signal.ENQ, ACK: Signal.ACK, NAK: Signal.NAK, EOT: Signal.EOT}


class FrameReader:
    """Divides bytes into tokens, in linear time; keeps at most `FRAME_BYTES_MAX` bytes of a frame."""

    def __init__(self, dialect: AstmDialect) -> None:
        self._dialect = dialect
        usual = (dialect.checksum, dialect.frame_end, dialect.frame_numbers)
        self._is_usual = usual == ("checked", "lf", "counted")
        self._data, self._at = b"", 0
        self._in_litter = False
        self._forget()

    def push(self, data: bytes) -> None:
        """Append received bytes."""
        if self._dialect.xon_xoff:
            data = data.translate(None, b"\x11\x13")
        self._data, self._at = self._data[self._at :] + data, 0

    def pull(self) -> Token | None:
        """Return the next token, or None if it needs more bytes."""
        while self._at < len(self._data):
            if (token := self._step()) is not None:
                return token
        self._data, self._at = b"", 0
        return None

    @property
    def next_byte(self) -> bytes:
        """The byte after the last token, if it has been received."""
        return self._data[self._at : self._at + 1]

    @property
    def only_end_missing(self) -> bool:
        """Whether a frame was received completely except for the CR or LF that ends it."""
        return self._step == self._in_end

    def finish(self) -> Frame | None:
        """Return the frame of which only the end is missing, or None."""
        return self._frame() if self.only_end_missing else None

    def reset(self) -> bool:
        """Discard an incomplete frame; return whether there was one."""
        incomplete = self._step != self._between
        self._forget()
        return incomplete

    def _forget(self) -> None:
        self._step: Callable[[], Token | None] = self._between
        self._content = bytearray()
        self._too_long = False
        self._last = False
        self._checksum = bytearray()
        self._cr_seen = False

    def _between(self) -> Token | None:
        match = _NOT_LINE_END.search(self._data, self._at)
        if match is None:
            self._at = len(self._data)
            return None
        if not _SIGNAL.match(match[0]):
            return self._litter(match.start())
        self._at = match.end()
        self._in_litter = False
        if match[0] == STX:
            if self._is_usual and (whole := _WHOLE.match(self._data, match.start())):
                return self._whole(whole)
            self._step = self._in_text
            return None
        return _SIGNALS[match[0]]

    def _whole(self, match: re.Match[bytes]) -> Frame:
        """Return a completely received frame; takes half the time of parsing it step by step."""
        content, end, sent = match.groups()
        self._at = match.end()
        number = content[0] - ord("0")
        intact = sent.upper() == checksum(content, end) and 0 <= number <= 7
        return Frame(number, content[1:], end == ETX, intact)

    def _litter(self, start: int) -> Token | None:
        match = _SIGNAL.search(self._data, start)
        self._at = match.start() if match else len(self._data)
        begins, self._in_litter = not self._in_litter, True
        return Signal.LITTER if begins else None

    def _in_text(self) -> Token | None:
        match = _END_OF_TEXT.search(self._data, self._at)
        end = match.start() if match else len(self._data)
        room = TEXT_BYTES_MAX + 1 - len(self._content)
        self._too_long |= end - self._at > room
        self._content += self._data[self._at : min(end, self._at + room)]
        self._at = end
        if match is None:
            return None
        if match[0] not in (ETX, ETB):
            self._forget()
            return Signal.CUT
        self._at = match.end()
        self._last = match[0] == ETX
        self._step = self._in_end if self._dialect.checksum == "absent" else self._in_checksum
        return None

    def _in_checksum(self) -> Token | None:
        byte = self._data[self._at]
        if byte >= 0x20:
            self._checksum.append(byte)
            self._at += 1
        if byte < 0x20 or len(self._checksum) == 2:
            self._step = self._in_end
            if self._dialect.frame_end == "checksum":
                return self._frame()
        return None

    def _in_end(self) -> Token | None:
        byte = self._data[self._at]
        if byte == _CR and not self._cr_seen:
            self._at += 1
            self._cr_seen = True
            return self._frame() if self._dialect.frame_end == "cr" else None
        if byte == _LF:
            self._at += 1
        return self._frame()

    def _frame(self) -> Frame:
        content, last = self._content, self._last
        intact = not self._too_long and self._checksum_holds()
        self._forget()
        number = -1
        if self._dialect.frame_numbers != "absent" and content:
            number = content[0] - ord("0")
            del content[0]
        return Frame(number, bytes(content), last, intact and self._is_number(number))

    def _is_number(self, number: int) -> bool:
        return 0 <= number <= 7 if self._dialect.frame_numbers == "counted" else True

    def _checksum_holds(self) -> bool:
        if self._dialect.checksum == "checked":
            return bytes(self._checksum).upper() == checksum(self._content, ETX if self._last else ETB)
        return True


def checksum(content: bytes | bytearray, end: bytes) -> bytes:
    """Return the checksum of a frame: `content` is its number and text, `end` is ETB or ETX."""
    return b"%02X" % ((sum(content) + end[0]) % 256)


@dataclass(frozen=True, slots=True)
class FrameStyle:
    """An instrument's way of dividing a message into frames; the defaults are those of E1381-95."""

    text_bytes_max: int = 240
    first: int = 1
    counted: bool = True
    record_per_frame: bool = True
    """Whether each record begins a frame; otherwise the message is cut wherever a frame is full."""
    checksum: Literal["upper", "lower", "wrong", "absent"] = "upper"
    end: bytes = b"\r\n"


def frames_of(message: bytes, style: FrameStyle) -> Iterator[bytes]:
    """Divide a message, whose records end with CR, into frames."""
    texts = re.findall(rb"[^\r]*\r|[^\r]+", message) if style.record_per_frame else [message]
    number = style.first
    for text in texts:
        for start in range(0, len(text), style.text_bytes_max):
            part = text[start : start + style.text_bytes_max]
            last = start + style.text_bytes_max >= len(text)
            yield _encode_frame(number, part, last, style)
            number = (number + style.counted) % 8


def _encode_frame(number: int, text: bytes, last: bool, style: FrameStyle) -> bytes:
    end = ETX if last else ETB
    content = b"%d" % number + text
    correct = checksum(content, end)
    sent = {
        "upper": correct,
        "lower": correct.lower(),
        "wrong": b"%02X" % (int(correct, 16) ^ 1),
        "absent": b"",
    }[style.checksum]
    return STX + content + end + sent + style.end
