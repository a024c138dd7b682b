"""Recordings of desktops: the stream of the box as it arrived, in segments that a hash chain connects.

    magic and version | segments | end
    segment: length of its body, four bytes | body: the stream's header (in the first one) and whole frames | chain
    end: four zero bytes | chain

The chain (`wire.desktop.stream.StreamChain`) depends only on the stream's bytes, so that the box computes the same
value without the file. A changed, exchanged or missing byte anywhere is detected: by the chain within the file, and
in a rewritten file by the value that both ends signed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO, Final, NamedTuple

from datacenter.desktop.decoder import PictureDecoder
from wire.desktop.picture import Picture
from wire.desktop.stream import (
    CHAIN_BYTES,
    FRAME,
    HEADER_BYTES,
    MESSAGE_BYTES_MAX,
    DesktopStreamError,
    FrameHead,
    StreamChain,
    parse_header,
)
from wire.desktop.warm import COLD, WarmContent

MAGIC: Final = b"RAPR\x01"
SEGMENT_BYTES: Final = 16 * 1024
"""Minimum length of a segment; it ends with the message that reaches this length."""
_LENGTH_BYTES: Final = 4


class RecordingError(Exception):
    """The recording is damaged, incomplete, or not the one that was signed."""


class RecordingWriter:
    """Writes a recording. Errors of the file are raised to the caller: a session without a recording must end."""

    def __init__(self, file: BinaryIO) -> None:
        """Raises: OSError."""
        self._file = file
        self._body = bytearray()
        self._chain = StreamChain()
        file.write(MAGIC)

    def add(self, part: bytes) -> None:
        """Add the stream's header, or its next frame. Raises: OSError."""
        self._chain.add(part)
        self._body += part
        if len(self._body) >= SEGMENT_BYTES:
            self.flush()

    def flush(self) -> None:
        """End the segment, so that the file has all parts so far. Raises: OSError."""
        if self._body:
            self._file.write(len(self._body).to_bytes(_LENGTH_BYTES, "big") + self._body + self._chain.value)
            self._body.clear()
        self._file.flush()

    def end(self) -> bytes:
        """End the recording; return the value of the chain, which both ends sign. Raises: OSError."""
        self.flush()
        self._file.write(bytes(_LENGTH_BYTES) + self._chain.value)
        self._file.flush()
        return self._chain.value


class RecordedMessage(NamedTuple):
    """A recorded message."""

    time_ms: int
    """Since the start of the stream."""
    message: bytes


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording whose chain is verified."""

    warm: bytes
    """The identity of the starting content."""
    frames: list[RecordedMessage]
    chain: bytes

    def replay(self, known: Mapping[bytes, WarmContent] | None = None) -> Iterator[tuple[int, Picture]]:
        """Yield the time in milliseconds and the picture after each message; the picture is changed in place.

        Raises: DesktopStreamError, also if the starting content is not among the `known`.
        """
        decoder = PictureDecoder(find_warm(self.warm, known or {}))
        for frame in self.frames:
            decoder.apply(frame.message)
            yield frame.time_ms, decoder.picture


def find_warm(identity: bytes, known: Mapping[bytes, WarmContent]) -> WarmContent:
    """Return the starting content of a stream. Raises: DesktopStreamError if it is not known."""
    if identity == COLD.identity:
        return COLD
    if identity not in known:
        raise DesktopStreamError(
            f"the stream needs the starting content {identity.hex()}, which is not known here"
        )
    return known[identity]


def read_recording(file: BinaryIO, signed: bytes | None = None, *, is_complete: bool = True) -> Recording:
    """Read and verify a recording; `signed` is the value of the chain that both ends signed.

    Without `is_complete`, a recording that a crash truncated is read up to its last complete segment.
    Raises: RecordingError with the position of the first fault; OSError.
    """
    if file.read(len(MAGIC)) != MAGIC:
        raise RecordingError("not a recording of a desktop, or one of another version")
    chain, body, count = StreamChain(), bytearray(), 0
    warm = b""
    frames: list[RecordedMessage] = []
    while True:
        where = f"segment {count + 1}"
        length = int.from_bytes(prefix := file.read(_LENGTH_BYTES), "big")
        if length > MESSAGE_BYTES_MAX + SEGMENT_BYTES + HEADER_BYTES + FRAME.size:
            raise RecordingError(f"{where}: a length of {length} bytes is not valid")
        body[:] = file.read(length)
        value = file.read(CHAIN_BYTES)
        if len(prefix) < _LENGTH_BYTES or len(body) < length or len(value) < CHAIN_BYTES:
            if is_complete:
                raise RecordingError(f"the recording is cut off in {where}")
            break
        try:
            warm, parsed = _parse_body(bytes(body), chain, warm)
        except DesktopStreamError as error:
            raise RecordingError(f"{where}: {error}") from None
        if chain.value != value:
            raise RecordingError(f"{where}: its content does not match the hash chain")
        if not length:
            if file.read(1):
                raise RecordingError("bytes follow the end of the recording")
            break
        frames += parsed
        count += 1
    if signed is not None and chain.value != signed:
        raise RecordingError("the recording is not the one whose hash was signed")
    return Recording(warm, frames, chain.value)


def _parse_body(body: bytes, chain: StreamChain, warm: bytes) -> tuple[bytes, list[RecordedMessage]]:
    offset = 0
    if body and not warm:
        warm, offset = parse_header(body[:HEADER_BYTES]), HEADER_BYTES
        chain.add(body[:HEADER_BYTES])
    frames = []
    while offset < len(body):
        start, offset = offset, offset + FRAME.size
        if offset > len(body):
            raise DesktopStreamError("a frame's head is cut off")
        head = FrameHead.parse(body[start:offset])
        offset += head.length
        if offset > len(body):
            raise DesktopStreamError("a frame is cut off")
        chain.add(body[start:offset])
        frames.append(RecordedMessage(head.time_ms, body[start + FRAME.size : offset]))
    return warm, frames
