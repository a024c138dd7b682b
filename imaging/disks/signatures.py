"""Detects the content of a disk or partition by the signatures of known formats, as libblkid and wipefs do.

The list contains the formats that are needed to show what would be lost, and to refuse disks that must not be
overwritten: members of a RAID, of LVM or of a storage pool, and swap space contain data although they are not
mounted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias

Read: TypeAlias = Callable[[int, int], bytes]
"""Returns bytes of a device; takes offset and length."""


class _Magic(NamedTuple):
    name: str
    offset: int
    bytes: bytes


MEMBERS: Final = {
    "LVM": "a member of LVM",
    "md RAID": "a member of a RAID",
    "Intel RAID": "a member of a RAID",
    "DDF RAID": "a member of a RAID",
    "DRBD": "a member of a DRBD mirror",
    "ZFS": "a member of a ZFS pool",
    "bcache": "a member of a bcache",
    "Ceph": "a member of a Ceph cluster",
    "swap": "swap space",
    "hibernation": "a hibernated system's memory",
}
"""Formats that must not be overwritten even when unused, with their description for messages."""

_MD: Final = b"\xfc\x4e\x2b\xa9"
_SWAP_PAGES: Final = (4096, 8192, 16384, 65536)
# A negative offset counts from the end.
_MAGICS: Final = (
    _Magic("ext", 1024 + 56, b"\x53\xef"),
    _Magic("XFS", 0, b"XFSB"),
    _Magic("Btrfs", 65536 + 64, b"_BHRfS_M"),
    _Magic("F2FS", 1024, b"\x10\x20\xf5\xf2"),
    _Magic("FAT", 54, b"FAT1"),
    _Magic("FAT", 82, b"FAT32"),
    _Magic("exFAT", 3, b"EXFAT   "),
    _Magic("NTFS", 3, b"NTFS    "),
    _Magic("BitLocker", 3, b"-FVE-FS-"),
    _Magic("ISO 9660", 32769, b"CD001"),
    _Magic("squashfs", 0, b"hsqs"),
    _Magic("EROFS", 1024, b"\xe2\xe1\xf5\xe0"),
    _Magic("LUKS", 0, b"LUKS\xba\xbe"),
    *(_Magic("LVM", 512 * sector, b"LABELONE") for sector in range(4)),
    _Magic("md RAID", 0, _MD),
    _Magic("md RAID", 4096, _MD),
    _Magic("Intel RAID", -1024, b"Intel Raid ISM Cfg Sig. "),
    _Magic("DDF RAID", -512, b"\xde\x11\xde\x11"),
    _Magic("DRBD", -4096 + 60, b"\x83\x74\x02\x6b"),
    _Magic("bcache", 4096 + 24, bytes.fromhex("c68573f64e1a45ca8265f57f48ba6d81")),
    _Magic("Ceph", 0, b"bluestore block device"),
    *(_Magic("swap", page - 10, magic) for page in _SWAP_PAGES for magic in (b"SWAPSPACE2", b"SWAP-SPACE")),
    *(_Magic("hibernation", page - 10, b"S1SUSPEND") for page in _SWAP_PAGES),
    _Magic("unfinished flash", 65536, b"RAP-FLASH-UNFINISHED\n"),
)
_ZFS_LABEL: Final = 128 * 1024
_ZFS_LABEL_BYTES: Final = 256 * 1024
_ZFS_UBERBLOCK: Final = (b"\x0c\xb1\xba\x00\x00\x00\x00\x00", b"\x00\x00\x00\x00\x00\xba\xb1\x0c")


def signatures(read: Read, size: int) -> list[str]:
    """Return the formats found on a device of `size` bytes, sorted; empty for a blank device.

    Raises: the exceptions of `read`.
    """
    names = [magic.name for magic in _MAGICS if _has(read, size, magic)]
    names += [name for name, is_present in _TABLES.items() if is_present(read, size)]
    return sorted(set(names))


def _has(read: Read, size: int, magic: _Magic) -> bool:
    offset = magic.offset if magic.offset >= 0 else size + magic.offset
    if offset < 0 or offset + len(magic.bytes) > size:
        return False
    return read(offset, len(magic.bytes)) == magic.bytes


def _gpt(read: Read, size: int) -> bool:
    at = (512, 4096, size - 512, size - 4096)
    return any(0 < offset <= size - 8 and read(offset, 8) == b"EFI PART" for offset in at)


def _mbr(read: Read, size: int) -> bool:
    """Return whether there is an MBR with a partition other than the protective one.

    The first sector of FAT and NTFS ends with the same two bytes.
    """
    if size < 512 or read(510, 2) != b"\x55\xaa" or read(3, 4) in (b"NTFS", b"EXFA", b"-FVE"):
        return False
    entries = [read(446 + 16 * index, 16) for index in range(4)]
    plausible = all(entry[0] in (0, 0x80) for entry in entries)
    return plausible and any(entry[4] not in (0, 0xEE) and any(entry[12:]) for entry in entries)


def _old_md(read: Read, size: int) -> bool:
    """Return whether there is an md superblock near the end (versions 0.90 and 1.0)."""
    at = (size // 65536 * 65536 - 65536, (size // 4096 - 2) * 4096)
    return any(offset > 0 and read(offset, 4) == _MD for offset in at)


def _zfs(read: Read, size: int) -> bool:
    """Return whether the first or the last ZFS label has an uberblock, in either byte order."""
    last = size // _ZFS_LABEL_BYTES * _ZFS_LABEL_BYTES - _ZFS_LABEL_BYTES + _ZFS_LABEL
    for label in (_ZFS_LABEL, last):
        if label < _ZFS_LABEL or label + _ZFS_LABEL > size:
            continue
        ring = read(label, _ZFS_LABEL)
        if any(ring[at : at + 8] in _ZFS_UBERBLOCK for at in range(0, len(ring), 1024)):
            return True
    return False


_TABLES: Final = {"GPT": _gpt, "MBR": _mbr, "md RAID": _old_md, "ZFS": _zfs}
