"""MLLP, the transport of HL7 v2 over a byte stream: a message is framed as VT … FS CR.

Rules beyond the framing, for what instruments send:

* FS ends a message only before CR; elsewhere it is data.
* VT inside a message begins a new one only before `MSH`; the message before it is unfinished.
* Bytes between messages are skipped. CR, LF and NUL are padding there; a sequence with other bytes counts as litter.
* Of a message longer than the limit, only the beginning is kept, for the header of the refusal.

Every byte is searched once, however the stream is divided, and at most the limit and one read are kept. Source: HL7
v2 transport specification, MLLP release 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from wire.standards.extract import Reason

MESSAGE_BYTES_MAX: Final = 160 * 1024
"""Longest accepted message. With one read of 64 KiB, a port keeps less than 256 KiB."""
HEAD_BYTES: Final = 4096
"""The number of bytes kept of a message that is too long."""
_START: Final = b"\x0b"
_RESTART: Final = b"\x0bMSH"
_END: Final = b"\x1c\r"
_PADDING: Final = b"\r\n\0"


def frame(message: bytes) -> bytes:
    """Frame a message for sending."""
    return _START + message + _END


@dataclass(slots=True)
class Block:
    """A framed message: the first `length` bytes of `data`, valid until the reader's next call."""

    data: bytearray
    length: int
    oversized: bool
    """Whether the message was too long, so that `data` has only its beginning."""


class BlockReader:
    """Finds the framed messages in a stream of bytes. With `fs_ends`, FS alone ends a message, without CR."""

    def __init__(self, message_bytes_max: int = MESSAGE_BYTES_MAX, *, fs_ends: bool = False) -> None:
        self._message_bytes_max = message_bytes_max
        self._end = _END[:1] if fs_ends else _END
        self._buffer = bytearray()
        self._inside = False
        """Whether the buffer begins with the data of a message, after VT; else with bytes between messages."""
        self._searched = 0
        """Position in the buffer before which there is neither an end nor a new start."""
        self._used = 0
        """Length of the block that the last call returned, which the next call removes."""
        self._oversized = False
        self._litter = False

    @property
    def inside(self) -> bool:
        """Whether a message has begun and its end is missing."""
        return self._inside

    def feed(self, data: bytes) -> None:
        """Append received bytes."""
        self._buffer += data

    def next(self) -> Block | Reason | None:
        """Return the next message or event of the stream (litter, unfinished message); None if bytes are missing."""
        if self._used:
            del self._buffer[: self._used]
            self._used = 0
        if not self._inside and (litter := self._skip_to_start()):
            return litter
        return self._find_end() if self._inside else None

    def _skip_to_start(self) -> Reason | None:
        start = self._buffer.find(_START)
        skipped = self._buffer if start < 0 else self._buffer[:start]
        new_litter = not self._litter and bool(skipped.strip(_PADDING))
        self._litter = start < 0 and (self._litter or new_litter)
        self._inside = start >= 0
        self._searched = 0
        del self._buffer[: start + 1 if self._inside else len(skipped)]
        return Reason.LITTER if new_litter else None

    def _find_end(self) -> Block | Reason | None:
        buffer = self._buffer
        end = buffer.find(self._end, max(self._searched - len(self._end) + 1, 0))
        limit = len(buffer) if end < 0 else end
        restart = buffer.find(_RESTART, max(self._searched - len(_RESTART) + 1, 0), limit)
        if restart >= 0:
            del buffer[: restart + 1]
            self._searched, self._oversized = 0, False
            return Reason.MESSAGE_UNFINISHED
        if end >= 0:
            return self._take(end)
        self._searched = len(buffer)
        if len(buffer) - 1 > self._message_bytes_max:
            self._drop_tail()
        return None

    def _take(self, end: int) -> Block:
        oversized = self._oversized or end > self._message_bytes_max
        length = min(end, HEAD_BYTES) if oversized else end
        self._used = end + len(self._end)
        self._inside = self._oversized = False
        return Block(self._buffer, length, oversized)

    def _drop_tail(self) -> None:
        """Keep the beginning, and the last bytes because an end or a start may be incomplete there."""
        self._oversized = True
        del self._buffer[HEAD_BYTES : 1 - len(_RESTART)]
        self._searched = len(self._buffer)
