"""Files between data center, box and instrument: named by their SHA-256, transferred in ranges.

The same requests serve both hops. The receiver of a file requests ranges; the sender of an upload sends ranges:

    GET  /v1/files/SHA256/OFFSET/LENGTH           200 with at most LENGTH bytes; 404 if the file is not available
    PUT  /v1/files/COMMAND/SHA256/SIZE/OFFSET     200 with `FileProgress`, regardless of the range that was
                                                  sent; 409 if the upload is not wanted, 507 if there is no
                                                  room for it

An upload belongs to the command that requested it. Ranges arrive in order: a range at another offset changes nothing,
and the response names the offset to continue from. A range of 0 bytes queries the offset.
"""

from __future__ import annotations

import re
from typing import Annotated, Final, NamedTuple, TypeAlias

from msgspec import Meta

from settings.profile import Verb
from wire.messages import Message, Number

FILES_PATH: Final = "/v1/files/"
RANGE_BYTES_MAX: Final = 32 * 1024
"""Maximum size of a range."""
FILE_BYTES_MAX: Final = 16 * 1024 * 1024
"""Maximum size of a file."""
DOWN_VERBS: Final[frozenset[Verb]] = frozenset({"help-file", "assay-configuration", "test-menu"})
"""Commands with a file for the instrument."""
UP_VERBS: Final[frozenset[Verb]] = frozenset({"data-upload"})
"""Commands for which the instrument sends a file."""

Sha256: TypeAlias = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
FileSize: TypeAlias = Annotated[int, Meta(ge=1, le=FILE_BYTES_MAX)]

_GET: Final = re.compile(rf"{FILES_PATH}([0-9a-f]{{64}})/([0-9]{{1,10}})/([0-9]{{1,5}})")
_PUT: Final = re.compile(rf"{FILES_PATH}([0-9]{{1,16}})/([0-9a-f]{{64}})/([0-9]{{1,9}})/([0-9]{{1,9}})")


class FileReference(Message, frozen=True):
    """The body of a command with a file: the file's hash and its size in bytes."""

    sha256: Sha256
    size: FileSize


class FileProgress(Message, frozen=True):
    """Response to a range of an upload: the bytes that are durable; equal to the size once the file is verified."""

    received: Annotated[int, Meta(ge=0, le=FILE_BYTES_MAX)]


class RangeRequest(NamedTuple):
    """A request for a range, at most `length` bytes from `offset`."""

    sha256: str
    offset: int
    length: int

    @property
    def target(self) -> str:
        """The path of the request."""
        return f"{FILES_PATH}{self.sha256}/{self.offset}/{self.length}"


class UploadRange(NamedTuple):
    """The position of a range in an upload of `size` bytes for a command."""

    command: Number
    sha256: str
    size: int
    offset: int

    @property
    def target(self) -> str:
        """The path of the request."""
        return f"{FILES_PATH}{self.command}/{self.sha256}/{self.size}/{self.offset}"


def parse_range(target: str, bytes_max: int = FILE_BYTES_MAX) -> RangeRequest | None:
    """Return the requested range of a GET path; None for another path, or an offset above `bytes_max`."""
    match = _GET.fullmatch(target)
    if match is None or not 1 <= int(match[3]) <= RANGE_BYTES_MAX or int(match[2]) > bytes_max:
        return None
    return RangeRequest(match[1], int(match[2]), int(match[3]))


def parse_upload(target: str) -> UploadRange | None:
    """Return the position of the range in a PUT request; None if the path does not name an upload."""
    match = _PUT.fullmatch(target)
    if match is None or not 1 <= int(match[3]) <= FILE_BYTES_MAX or int(match[4]) > int(match[3]):
        return None
    return UploadRange(int(match[1]), match[2], int(match[3]), int(match[4]))
