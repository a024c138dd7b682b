"""Divides a stream of bytes into XML documents, with or without MLLP framing.

A document ends with the end tag of its root element; in well-formed XML that tag cannot be in an attribute. An XML
declaration or a HEL.R01 inside a document begins a new document, and the previous one is incomplete.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from wire.standards.extract import Reason

DOCUMENT_BYTES_MAX: Final = 32 * 1024
"""Longest accepted document; instruments declare 16,000 bytes (DSC.max_message_sz)."""
_PADDING: Final = b" \t\r\n\0\x0b\x1c\xef\xbb\xbf"
_ROOT: Final = re.compile(rb"<([A-Za-z_][A-Za-z0-9_.\-]{0,63})[\s/>]")
_DECLARATION: Final = re.compile(rb"<\?xml\s")
_HELLO: Final = re.compile(rb"<HEL\.R01[\s>]")
_PROLOG_BYTES_MAX: Final = 512
"""Maximum length of the prolog, within which the root element must begin; otherwise the data is discarded."""
_OVERLAP: Final = 80
"""Bytes at the end of the buffer in which a tag may be incomplete."""


@dataclass(frozen=True, slots=True)
class PoctDocument:
    """A document; `data` is empty if it was too long. `framed`: VT came before it, as in MLLP."""

    data: bytes
    framed: bool


class DocumentReader:
    """Finds the documents in a stream of bytes. Every byte is searched a bounded number of times."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._inside = self._framed = self._litter = self._oversized = False
        self._end_tag: re.Pattern[bytes] | None = None
        """The end of the document, if its root element is known."""
        self._first = self._body = self._searched = 0
        """Positions in the buffer: where another declaration may begin, where the root element's content begins, and
        up to which the buffer has been searched."""

    @property
    def inside(self) -> bool:
        """Whether a document has begun and its end is missing."""
        return self._inside

    def feed(self, data: bytes) -> None:
        """Append received bytes."""
        self._buffer += data

    def next(self) -> PoctDocument | Reason | None:
        """Return the next document or event of the stream (litter, unfinished message); None if bytes are missing."""
        if not self._inside and (litter := self._skip_to_start()):
            return litter
        return self._find_end() if self._inside else None

    def _skip_to_start(self) -> Reason | None:
        start = self._buffer.find(b"<")
        skipped = bytes(self._buffer if start < 0 else self._buffer[:start])
        self._framed = self._framed or b"\x0b" in skipped
        new_litter = not self._litter and bool(skipped.strip(_PADDING))
        self._litter = start < 0 and (self._litter or new_litter)
        del self._buffer[: len(skipped)]
        if start >= 0:
            self._begin()
        return Reason.LITTER if new_litter else None

    def _begin(self) -> None:
        self._inside, self._oversized, self._end_tag = True, False, None
        self._first, self._body, self._searched = 1, 1, 0

    def _find_end(self) -> PoctDocument | Reason | None:
        buffer = self._buffer
        if self._end_tag is None and not self._find_root():
            return self._await_root()
        start = max(self._searched - _OVERLAP, 0)
        end = self._end_tag.search(buffer, start) if self._end_tag else None
        if self._restart(start, end.end() if end else len(buffer)):
            return Reason.MESSAGE_UNFINISHED
        if end:
            return self._take(end.end())
        self._searched = len(buffer)
        if len(buffer) > DOCUMENT_BYTES_MAX:
            self._oversized = True
            del buffer[1:-_OVERLAP]
            self._first = self._body = self._searched = 1
        return None

    def _await_root(self) -> Reason | None:
        if self._restart(0, _PROLOG_BYTES_MAX):
            return Reason.MESSAGE_UNFINISHED
        if len(self._buffer) < _PROLOG_BYTES_MAX:
            return None
        del self._buffer[:_PROLOG_BYTES_MAX]
        self._inside, self._litter = False, True
        return Reason.LITTER

    def _restart(self, start: int, end: int) -> bool:
        """Begin again if another document begins in this part of the buffer."""
        declaration = _DECLARATION.search(self._buffer, max(start, self._first), end)
        hello = _HELLO.search(self._buffer, max(start, self._body), end) if self._end_tag else None
        starts = [match.start() for match in (declaration, hello) if match]
        if starts:
            del self._buffer[: min(starts)]
            self._begin()
        return bool(starts)

    def _find_root(self) -> bool:
        root = _ROOT.search(self._buffer, 0, _PROLOG_BYTES_MAX)
        if root:
            self._end_tag = re.compile(rb"</" + re.escape(root[1]) + rb"\s{0,8}>")
            self._body = root.end() - 1
        return root is not None

    def _take(self, end: int) -> PoctDocument:
        oversized = self._oversized or end > DOCUMENT_BYTES_MAX
        document = PoctDocument(b"" if oversized else bytes(self._buffer[:end]), self._framed)
        del self._buffer[:end]
        self._inside = self._framed = False
        return document
