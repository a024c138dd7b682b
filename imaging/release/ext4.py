"""Reads the files of an ext4 image, and which bytes belong to each, without mounting it.

Source: the kernel's Documentation/filesystems/ext4. Inodes without extents (short links, old files with block maps)
are left out of `Ext4.files`: the caller treats bytes outside of files as metadata.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, NamedTuple

_SUPERBLOCK: Final = 1024
_MAGIC: Final = 0xEF53
_EXTENT_MAGIC: Final = 0xF30A
_ROOT: Final = 2
_FIRST_FILE: Final = 11
_INODE_BASE_BYTES: Final = 128
_HAS_EXTENTS: Final = 0x80000
_IS_64BIT: Final = 0x80
_FOLDER, _FILE = 0x4000, 0x8000
_TYPE: Final = 0xF000
_DEPTH_MAX: Final = 5
_UNINITIALISED: Final = 32768


class Ext4Error(Exception):
    """The image has no readable ext4 file system; the message states why."""


class Extent(NamedTuple):
    """An extent of a file: its length, and its offsets in the file and in the image, in bytes."""

    file_offset: int
    offset: int
    length: int


@dataclass(frozen=True)
class File:
    """A regular file with its extents in the order of the file, in whole blocks."""

    path: str
    size: int
    extents: tuple[Extent, ...]


@dataclass(frozen=True)
class Ext4Entry:
    """A file, folder, link or device, without its times and its position in the image."""

    mode: int
    """The type and the permissions."""
    owner: tuple[int, int]
    """The UID and the GID."""
    size: int
    """The size in bytes; 0 for a folder."""
    attributes: bytes
    """The extended attributes, such as the SELinux label, as they are stored."""
    content: bytes
    """The SHA-256 of the content; for a short link its target, for a device its numbers, for a folder nothing."""


class Ext4:
    """An ext4 file system in memory."""

    def __init__(self, image: memoryview) -> None:
        """Raises: Ext4Error."""
        self._image = image
        if len(image) < 4096 or self._u16(_SUPERBLOCK + 0x38) != _MAGIC:
            raise Ext4Error("has no ext4 file system")
        self.block_bytes = 1024 << self._u32(_SUPERBLOCK + 0x18)
        self._first_block = self._u32(_SUPERBLOCK + 0x14)
        self._inodes_per_group = self._u32(_SUPERBLOCK + 0x28)
        self._inode_bytes = self._u16(_SUPERBLOCK + 0x58)
        wide = self._u32(_SUPERBLOCK + 0x60) & _IS_64BIT
        self._descriptor_bytes = self._u16(_SUPERBLOCK + 0xFE) if wide else 32
        high = self._u32(_SUPERBLOCK + 0x150) if wide else 0
        self.length = (self._u32(_SUPERBLOCK + 0x4) | high << 32) * self.block_bytes
        """The length of the file system in bytes, according to its superblock."""

    def modification_times(self) -> dict[int, int]:
        """Return the modification time of the root folder and of each inode of a file, in seconds since 1970."""
        used = self._u32(_SUPERBLOCK) - self._u32(_SUPERBLOCK + 0x10)
        return {
            inode: self._u32(self._inode(inode) + 0x10) for inode in (_ROOT, *range(_FIRST_FILE, used + 1))
        }

    def entries(self) -> dict[str, Ext4Entry]:
        """Return all files, folders, links and devices by path. Raises: Ext4Error."""
        try:
            return {path: self._entry(inode) for path, inode in self._walk_all(_ROOT, "", frozenset())}
        except (struct.error, IndexError, UnicodeDecodeError) as error:
            raise Ext4Error(f"has a damaged ext4 file system: {error}") from None

    def files(self) -> list[File]:
        """Return the regular files, each under one of its names, in the order of their paths. Raises: Ext4Error."""
        files: dict[int, File] = {}
        try:
            for path, inode in sorted(self._walk(_ROOT, "", frozenset())):
                if inode not in files:
                    at = self._inode(inode)
                    size = self._u32(at + 4) | self._u32(at + 0x6C) << 32
                    files[inode] = File(path, size, tuple(self._extents(at)))
        except (struct.error, IndexError, UnicodeDecodeError) as error:
            raise Ext4Error(f"has a damaged ext4 file system: {error}") from None
        return [file for file in files.values() if file.extents]

    def _walk(self, folder: int, path: str, above: frozenset[int]) -> Iterator[tuple[str, int]]:
        """Yield the path and the inode of each regular file below a folder."""
        for file, inode in self._walk_all(folder, path, above):
            if self._type(inode) == _FILE:
                yield file, inode

    def _walk_all(self, folder: int, path: str, above: frozenset[int]) -> Iterator[tuple[str, int]]:
        """Yield the path and the inode of everything below a folder."""
        if folder in above:
            raise Ext4Error(f"has a folder that contains itself: {path}")
        for name, inode in self._entries(folder):
            yield f"{path}/{name}", inode
            if self._type(inode) == _FOLDER:
                yield from self._walk_all(inode, f"{path}/{name}", above | {folder})

    def _type(self, inode: int) -> int:
        return self._u16(self._inode(inode)) & _TYPE

    def _entry(self, inode: int) -> Ext4Entry:
        at = self._inode(inode)
        mode = self._u16(at)
        owner = (
            self._u16(at + 0x2) | self._u16(at + 0x78) << 16,
            self._u16(at + 0x18) | self._u16(at + 0x7A) << 16,
        )
        size = 0 if mode & _TYPE == _FOLDER else self._u32(at + 4) | self._u32(at + 0x6C) << 32
        inside = at + _INODE_BASE_BYTES + self._u16(at + _INODE_BASE_BYTES)
        attributes = bytes(self._image[inside : at + self._inode_bytes])
        if block := self._u32(at + 0x68) | self._u16(at + 0x76) << 32:
            attributes += bytes(self._image[block * self.block_bytes :][: self.block_bytes])
        if mode & _TYPE == _FOLDER:
            content = b""
        elif self._u32(at + 0x20) & _HAS_EXTENTS:
            content = self._digest(at, size)
        else:
            content = bytes(self._image[at + 0x28 : at + 0x64])
        return Ext4Entry(mode, owner, size, attributes, content)

    def _digest(self, inode: int, size: int) -> bytes:
        digest, at = sha256(), 0
        for extent in sorted(self._extents(inode)):
            length = max(0, min(extent.length, size - extent.file_offset))
            digest.update(bytes(extent.file_offset - at))
            digest.update(self._image[extent.offset : extent.offset + length])
            at = extent.file_offset + length
        digest.update(bytes(max(0, size - at)))
        return digest.digest()

    def _entries(self, folder: int) -> Iterator[tuple[str, int]]:
        for extent in self._extents(self._inode(folder)):
            at, end = extent.offset, extent.offset + extent.length
            while at < end:
                inode, length, name_bytes = struct.unpack_from("<IHB", self._image, at)
                if length < 8:
                    raise Ext4Error(f"has a damaged folder at byte {at}")
                name = bytes(self._image[at + 8 : at + 8 + name_bytes]).decode(errors="surrogateescape")
                if inode and name not in ("", ".", ".."):
                    yield name, inode
                at += length

    def _inode(self, number: int) -> int:
        """Return the offset of an inode."""
        group, index = divmod(number - 1, self._inodes_per_group)
        at = (self._first_block + 1) * self.block_bytes + group * self._descriptor_bytes
        block = self._u32(at + 8) | (self._u32(at + 0x28) << 32 if self._descriptor_bytes > 32 else 0)
        return block * self.block_bytes + index * self._inode_bytes

    def _extents(self, inode: int) -> Iterator[Extent]:
        if self._u32(inode + 0x20) & _HAS_EXTENTS:
            yield from self._extent_tree(inode + 0x28, _DEPTH_MAX)

    def _extent_tree(self, at: int, depth_max: int) -> Iterator[Extent]:
        magic, entries, _, depth = struct.unpack_from("<HHHH", self._image, at)
        if magic != _EXTENT_MAGIC or depth > depth_max:
            raise Ext4Error(f"has a damaged extent tree at byte {at}")
        for entry in range(at + 12, at + 12 + 12 * entries, 12):
            if depth:
                low, high = struct.unpack_from("<4xIH", self._image, entry)
                yield from self._extent_tree((low | high << 32) * self.block_bytes, depth - 1)
                continue
            block, length, high, low = struct.unpack_from("<IHHI", self._image, entry)
            start = (low | high << 32) * self.block_bytes
            if length > _UNINITIALISED:  # allocated but not written: it has no content of the file
                continue
            if start + length * self.block_bytes > len(self._image):
                raise Ext4Error(f"has an extent beyond its end at byte {entry}")
            yield Extent(block * self.block_bytes, start, length * self.block_bytes)

    def _u16(self, at: int) -> int:
        value: int = struct.unpack_from("<H", self._image, at)[0]
        return value

    def _u32(self, at: int) -> int:
        value: int = struct.unpack_from("<I", self._image, at)[0]
        return value
