"""Receives files from browsers and programs, with bounded memory and size.

A file is first received completely, then stored in one transaction. Until then, a small file is in memory, a larger
one in an unnamed file on the disk: if the connection or the program ends before, nothing remains. A form must
have its fields before its file, as browsers send them: a forged form is refused before its file is received.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from tempfile import SpooledTemporaryFile
from typing import Any, BinaryIO, Final, NamedTuple, cast

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from datacenter.commands.desk import SentFile
from datacenter.commands.files import FileTooLargeError
from datacenter.web.api.callers import UnsupportedBodyError
from datacenter.web.files.downloads import BINARY
from datacenter.web.forms import FORM_BYTES_MAX, require_own_site
from datacenter.web.parameters import PARAMETERS_MAX, ParameterError
from wire.files import FILE_BYTES_MAX

MEMORY_BYTES_MAX: Final = 256 * 1024
"""A larger file is on the disk while it is received."""
UPLOADS_MAX: Final = 32
UPLOADS_OF_PERSON_MAX: Final = 4
UPLOAD_SECONDS_MAX: Final = 15 * 60
"""Time limit of an upload: a file of 16 MiB needs 150 kbit/s."""
MULTIPART: Final = "multipart/form-data"
_TOO_LARGE: Final = f"send a file of at most {FILE_BYTES_MAX:,} bytes (16 MiB)"
_WRONG_FORM: Final = f"the form must be {MULTIPART} with its fields before its file"


class ReceivedForm(NamedTuple):
    """The fields of a form and its file; None if no file was chosen."""

    pairs: list[tuple[str, str]]
    file: SentFile | None


def media_type(request: Request) -> str:
    """Return the media type of a request's body."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


class NotReceivedError(Exception):
    """A file is not received because of a limit; `status` is the HTTP status."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class FileReceiver:
    """Receives files, and limits the number of concurrent uploads, because larger ones occupy disk space."""

    def __init__(self) -> None:
        self._uploads: Counter[str] = Counter()

    @asynccontextmanager
    async def form(
        self, request: Request, staff: str, check: Callable[[list[tuple[str, str]]], None]
    ) -> AsyncIterator[ReceivedForm]:
        """Receive a form of a person with at most one file, which exists in the block.

        `check` is called with the fields before the file is received, and raises an exception to refuse it.

        Raises: ForgedFormError, ParameterError, FileTooLargeError, NotReceivedError.
        """
        require_own_site(request)
        with self._content(staff) as content:
            parts = _Parts(request, check, content)
            await _receive(request, parts.write)
            yield parts.form()

    @asynccontextmanager
    async def file(self, request: Request, staff: str) -> AsyncIterator[SentFile]:
        """Receive a body of a program as a file, which exists in the block.

        Raises: UnsupportedBodyError, ParameterError, FileTooLargeError, NotReceivedError.
        """
        if media_type(request) != BINARY:
            raise UnsupportedBodyError(415, f"send the file as the body, with the content type {BINARY}")
        with self._content(staff) as content:

            def write(block: bytes) -> None:
                _require_size(content.tell() + len(block))
                content.write(block)

            await _receive(request, write)
            yield SentFile(content)

    @contextmanager
    def _content(self, staff: str) -> Iterator[BinaryIO]:
        """Yield a temporary file for an upload of a person. Raises: NotReceivedError."""
        if self._uploads[staff] >= UPLOADS_OF_PERSON_MAX or self._uploads.total() >= UPLOADS_MAX:
            limits = f"at most {UPLOADS_OF_PERSON_MAX} for a person, and {UPLOADS_MAX} in total"
            raise NotReceivedError(
                429, f"the limit of concurrent uploads is reached: {limits}; try again when one is complete"
            )
        self._uploads[staff] += 1
        try:
            with SpooledTemporaryFile(MEMORY_BYTES_MAX) as content:
                yield cast(BinaryIO, content)
        finally:
            self._uploads[staff] -= 1
            self._uploads = +self._uploads  # removes persons without uploads


async def _receive(request: Request, write: Callable[[bytes], None]) -> None:
    """Pass the blocks of a body to `write`, unless its Content-Length is too large.

    Raises: the errors of `write`; ParameterError, FileTooLargeError, NotReceivedError.
    """
    length = request.headers.get("content-length", "")
    _require_size(int(length) - 2 * FORM_BYTES_MAX if length.isascii() and length.isdecimal() else 0)
    try:
        async with asyncio.timeout(UPLOAD_SECONDS_MAX):
            async for block in request.stream():
                write(block)
    except ClientDisconnect as error:
        raise ParameterError("the connection ended before the file was complete") from error
    except TimeoutError as error:
        text = f"the file was not complete after {UPLOAD_SECONDS_MAX} s; send it over a faster connection"
        raise NotReceivedError(408, text) from error


def _require_size(size: int) -> None:
    if size > FILE_BYTES_MAX:
        raise FileTooLargeError(_TOO_LARGE)


class _Parts:
    """Parses a multipart form: collects its fields, and writes its file to `content`."""

    def __init__(
        self, request: Request, check: Callable[[list[tuple[str, str]]], None], content: Any
    ) -> None:
        self._check, self._content = check, content
        self._pairs: list[tuple[str, str]] = []
        self._file: SentFile | None = None
        self._size = self._field_bytes = 0
        self._is_ended = False
        self._begin()
        boundary = parse_options_header(request.headers.get("content-type"))[1].get(b"boundary", b"")
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin,
                    "on_header_field": self._add_to_header_name,
                    "on_header_value": self._add_to_header_value,
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._begin_content,
                    "on_part_data": self._add_content,
                    "on_part_end": self._end_part,
                    "on_end": self._end,
                },
            )
        except FormParserError as error:
            raise ParameterError(_WRONG_FORM) from error

    def write(self, block: bytes) -> None:
        """Parse the next block of the body. Raises: the errors of `check`; ParameterError, FileTooLargeError."""
        try:
            self._parser.write(block)
        except FormParserError as error:
            raise ParameterError(_WRONG_FORM) from error

    def form(self) -> ReceivedForm:
        """Return the complete form. Raises: the errors of `check`; ParameterError."""
        if not self._is_ended:
            raise ParameterError(f"the form is not complete; {_WRONG_FORM}")
        if self._file is None:
            self._check(self._pairs)
        is_chosen = self._file is not None and bool(self._file.name or self._size)
        return ReceivedForm(self._pairs, self._file if is_chosen else None)

    def _begin(self) -> None:
        self._header_name = self._header_value = self._disposition = b""
        self._name: str | None = None
        self._value = b""

    def _add_to_header_name(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _add_to_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _end_header(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = self._header_value
        self._header_name = self._header_value = b""

    def _begin_content(self) -> None:
        _, options = parse_options_header(self._disposition.decode("latin-1"))
        if self._file is not None or b"name" not in options:
            raise ParameterError(_WRONG_FORM)
        if b"filename" in options:
            self._check(self._pairs)
            name = options[b"filename"].decode("utf-8", "replace")
            self._file = SentFile(self._content, name.replace("%22", '"'))
        elif len(self._pairs) == PARAMETERS_MAX:
            raise ParameterError(f"too many fields; at most {PARAMETERS_MAX} are allowed")
        else:
            self._name = options[b"name"].decode("utf-8", "replace")

    def _add_content(self, data: bytes, start: int, end: int) -> None:
        if self._file is not None:
            self._size += end - start
            _require_size(self._size)
            self._content.write(data[start:end])
            return
        self._field_bytes += end - start
        if self._field_bytes > FORM_BYTES_MAX:
            raise ParameterError(f"the fields of the form are larger than {FORM_BYTES_MAX} bytes")
        self._value += data[start:end]

    def _end_part(self) -> None:
        if self._name is None:
            return
        try:
            self._pairs.append((self._name, self._value.decode("utf-8")))
        except UnicodeDecodeError as error:
            raise ParameterError("the form is not valid UTF-8") from error

    def _end(self) -> None:
        self._is_ended = True
