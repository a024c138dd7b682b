"""Files on the box's disk, received in ranges. A range is durable before it counts; a file is verified before use.

A file on the disk has one sector with its description and the received length, then the content. A range is made
durable first, and the sector afterwards, so that a power cut loses at most one range. Once everything was received,
the content is read back; if its hash is correct, the file is renamed, otherwise it is removed. A file with the suffix
`.file` is therefore complete and verified.

Calls block, and are made on the thread of the disk. Files of the spool are on the same disk; names do not overlap.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from typing import Final

import msgspec

from hal.disk import Disk, DiskError, DiskErrorKind
from wire.files import FILE_BYTES_MAX, RANGE_BYTES_MAX

FILES_BYTES_MAX: Final = 64 * 1024 * 1024
"""Default limit of the total size of the files on a box."""
SECTOR: Final = 512
"""Bytes before the content of a file."""
PARTIAL, COMPLETE = ".part", ".file"
_PREFIX: Final = "transfer-"


class NoRoomError(Exception):
    """The file does not fit on the disk, or within the limit in addition to the files in use."""


class FileKey(msgspec.Struct, frozen=True, array_like=True):
    """A file, identified by hash and size in bytes; with `command`, it is an instrument's upload for that command."""

    sha256: str
    size: int
    command: int = 0
    instrument: str = ""

    @property
    def stem(self) -> str:
        """Its name on the disk, without the suffix."""
        return f"{_PREFIX}{self.command}" if self.command else f"{_PREFIX}{self.sha256[:40]}"


class _Sector(msgspec.Struct, array_like=True):
    key: FileKey
    received: int
    number: int


class BoxFile:
    """A file on the disk, of which the first `received` bytes are present."""

    def __init__(self, key: FileKey, received: int, number: int, *, is_complete: bool = False) -> None:
        """`number` is higher for files begun later."""
        self.key, self.received, self.number, self.is_complete = key, received, number, is_complete

    @property
    def name(self) -> str:
        """Its name on the disk."""
        return self.key.stem + (COMPLETE if self.is_complete else PARTIAL)


class BoxFiles:
    """The files on a disk, at most `bytes_max` bytes in all; `open` loads those of earlier runs."""

    def __init__(self, disk: Disk, bytes_max: int = FILES_BYTES_MAX) -> None:
        self._disk, self._bytes_max = disk, bytes_max
        self._files: dict[str, BoxFile] = {}

    def open(self) -> None:
        """Load the files on the disk; remove damaged ones. Raises: DiskError UNAVAILABLE."""
        for name in self._disk.names():
            if not name.startswith(_PREFIX):
                continue
            try:
                file = self._load(name)
            except DiskError as error:
                if error.kind is DiskErrorKind.UNAVAILABLE:
                    raise
                file = None
            if file is None:
                self._disk.remove(name)
            else:
                self._files[file.key.stem] = file
                if not file.is_complete and file.received == file.key.size:
                    self._verify(file)  # the power failed after its last range

    def _load(self, name: str) -> BoxFile | None:
        """Return the file with this name; None if its sector is damaged or does not fit its size."""
        try:
            data = self._disk.read(name, 0, SECTOR)
            sector = msgspec.msgpack.decode(data[2 : 2 + int.from_bytes(data[:2], "big")], type=_Sector)
        except msgspec.DecodeError:
            return None
        is_complete = name.endswith(COMPLETE)
        file = BoxFile(sector.key, sector.received, sector.number, is_complete=is_complete)
        fits = sector.received == sector.key.size if is_complete else sector.received <= sector.key.size
        return (
            file if file.name == name and fits and self._disk.size(name) == SECTOR + sector.key.size else None
        )

    def find(self, key: FileKey) -> BoxFile | None:
        """Return the file with this key; None if it was not begun."""
        file = self._files.get(key.stem)
        return file if file is not None and file.key == key else None

    def is_complete(self, key: FileKey) -> bool:
        """Return whether the file is complete and verified."""
        file = self.find(key)
        return file is not None and file.is_complete

    def uploads(self) -> list[BoxFile]:
        """Return the complete files of instruments, oldest first."""
        complete = (file for file in list(self._files.values()) if file.key.command and file.is_complete)
        return sorted(complete, key=lambda file: file.number)

    @property
    def used_bytes(self) -> int:
        """The size of all files, including the missing parts of partial ones."""
        return sum(file.key.size for file in self._files.values())

    def begin(self, key: FileKey, needed: Collection[str]) -> BoxFile:
        """Return the file with this key; create it if it does not exist.

        The oldest files that are not in `needed` (stems) are removed to make room, but never complete uploads.

        Raises: NoRoomError, although such files may have been removed; DiskError IO, UNAVAILABLE.
        """
        if (file := self.find(key)) is not None:
            return file
        self._make_room(key, needed)
        number = max((file.number for file in self._files.values()), default=0) + 1
        file = BoxFile(key, 0, number)
        try:
            self._disk.create(file.name, SECTOR + key.size)
            self._write_sector(file)
        except DiskError as error:
            if error.kind is DiskErrorKind.FULL:
                raise NoRoomError(str(error)) from error
            raise
        self._files[key.stem] = file
        return file

    def _make_room(self, key: FileKey, needed: Collection[str]) -> None:
        if not 1 <= key.size <= min(FILE_BYTES_MAX, self._bytes_max):
            raise NoRoomError(f"{key.size} bytes are more than the box accepts")
        for file in sorted(self._files.values(), key=lambda file: file.number):
            is_old_upload = (
                file.key.stem == key.stem
            )  # the instrument sends another file for the same command
            fits = self.used_bytes + key.size <= self._bytes_max
            is_waiting = file.key.stem in needed or (file.key.command and file.is_complete)
            if is_old_upload or (not fits and not is_waiting):
                self.remove(file)
        if self.used_bytes + key.size > self._bytes_max:
            raise NoRoomError(f"the files in use leave less than {key.size} of {self._bytes_max} bytes")

    def write(self, file: BoxFile, offset: int, body: bytes) -> None:
        """Append a range, if it begins where the received part ends; durable on return.

        If this completes the file, it is verified; a file with a wrong hash is removed and must be received again.

        Raises: DiskError IO, UNAVAILABLE.
        """
        if file.is_complete or offset != file.received or not body or offset + len(body) > file.key.size:
            return
        self._disk.commit(file.name, SECTOR + offset, body)
        file.received += len(body)
        self._write_sector(file)
        if file.received == file.key.size:
            self._verify(file)

    def _verify(self, file: BoxFile) -> None:
        digest = hashlib.sha256()
        for part in self._parts(file):
            digest.update(part)
        if digest.hexdigest() != file.key.sha256:
            self.remove(file)
            return
        self._disk.rename(file.name, file.key.stem + COMPLETE)
        file.is_complete = True

    def _parts(self, file: BoxFile) -> Iterable[bytes]:
        for offset in range(0, file.key.size, RANGE_BYTES_MAX):
            yield self.read(file, offset, RANGE_BYTES_MAX)

    def read(self, file: BoxFile, offset: int, length: int) -> bytes:
        """Return at most `length` bytes from `offset`. Raises: DiskError IO, UNAVAILABLE."""
        length = max(0, min(length, file.key.size - offset))
        return self._disk.read(file.name, SECTOR + offset, length) if length else b""

    def remove(self, file: BoxFile) -> None:
        """Remove a file. Raises: DiskError IO, UNAVAILABLE."""
        self._files.pop(file.key.stem, None)
        self._disk.remove(file.name)

    def _write_sector(self, file: BoxFile) -> None:
        """Make the sector of a file durable; a sector is written as a whole or not at all."""
        sector = msgspec.msgpack.encode(_Sector(file.key, file.received, file.number))
        self._disk.commit(file.name, 0, (len(sector).to_bytes(2, "big") + sector).ljust(SECTOR, b"\0"))
