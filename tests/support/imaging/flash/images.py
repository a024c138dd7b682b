"""Small images to flash, and disks in memory to flash them to."""

from __future__ import annotations

import os
import struct
import subprocess
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from imaging import signing
from imaging.flash.target import DeviceError
from imaging.media import bmap
from imaging.media.imagefile import compress_framed, make_bmap
from rap import flash, pki
from rap.parser import Parser

MIB = 1024 * 1024
IMAGE_BYTES = 8 * MIB
PARTS = (("esp", 1, 1), ("rap-identity", 2, 1), ("root-a", 3, 3), ("var", 6, 1))
"""Label, start and length in MiB. `root-a` has holes; `var` and the identity are holes entirely."""
SITE = """\
board = "rap-4"
release = "almalinux9"
timezone = "Europe/Berlin"
time_servers = ["ntp1.example.com"]
[uplink]
[datacenter]
host = "ingest.example.com"
[audit]
host = "audit.example.com"
authority = "audit-ca.pem"
[addresses]
"ingest.example.com" = ["203.0.113.5"]
"audit.example.com" = ["203.0.113.7"]
"ntp1.example.com" = ["203.0.113.8"]
[[administrator]]
name = "labadmin"
ssh_keys = ["ecdsa-sha2-nistp384 AAAA desk"]
[boot]
password_hash_file = "grub.hash"
"""


def raw_image(file: Path, seed: int = 1) -> Path:
    """Return a sparse image with a GPT, boot code and random partitions."""
    draw = Random(seed).randbytes
    front, back = gpt(IMAGE_BYTES)
    with file.open("wb") as out:
        out.truncate(IMAGE_BYTES)
        os.pwrite(out.fileno(), draw(440) + front[440:], 0)
        os.pwrite(out.fileno(), back, IMAGE_BYTES - len(back))
        for offset, length in ((MIB, 300_000), (3 * MIB, MIB + 8192), (5 * MIB, 70_000)):
            os.pwrite(out.fileno(), draw(length), offset)
    return file


GUIDS = [bytes(range(16)), *(bytes([number] * 16) for number, _ in enumerate(PARTS, 1))]
"""The image's GUIDs: the disk's, then those of the partitions."""


def guids(front: bytes) -> list[bytes]:
    """Return the GUIDs of the disk and of its partitions from the first blocks of a disk."""
    return [front[568:584], *(front[1040 + 128 * n : 1056 + 128 * n] for n, _ in enumerate(PARTS))]


def gpt(disk_bytes: int, own: list[bytes] = GUIDS) -> tuple[bytes, bytes]:
    """Return blocks 0 to 33 and the last 33 blocks of a disk with these GUIDs, as UEFI specifies them."""
    last = disk_bytes // 512 - 1
    entries = b""
    for number, (label, start, length) in enumerate(PARTS, 1):
        kind, unique = bytes([0xAF] * 16), own[number]
        first, end = start * MIB // 512, (start + length) * MIB // 512 - 1
        entries += struct.pack("<16s16sQQQ72s", kind, unique, first, end, 0, label.encode("utf-16-le"))
    entries = entries.ljust(128 * 128, b"\0")

    def header(block: int, backup_block: int, entries_block: int) -> bytes:
        def packed(crc: int) -> bytes:
            return struct.pack(
                "<8sIIIIQQQQ16sQIII",
                *(b"EFI PART", 0x10000, 92, crc, 0, block, backup_block, 34, last - 33, own[0]),
                *(entries_block, 128, 128, zlib.crc32(entries)),
            )

        return packed(zlib.crc32(packed(0))).ljust(512, b"\0")

    entry = bytes([0, 0, 2, 0, 0xEE, 255, 255, 255]) + struct.pack("<II", 1, last)
    mbr = bytes(446) + entry + bytes(48) + b"\x55\xaa"
    return mbr + header(1, last, 2) + entries, entries + header(last, 1, last - 32)


def sign(
    raw: Path,
    *,
    compressed: bool = False,
    file_systems: Sequence[signing.SignedFileSystem] = (),
    about: Mapping[str, str] = {"release": "test"},
) -> Path:
    """Write the block map, the signed manifest, and the keys `key.pem` and `key.pub`. Return the image to flash."""
    folder = raw.parent
    if not (folder / "key.pem").exists():
        signing.make_key(folder / "key.pem", folder / "key.pub")
    block_map = make_bmap(raw)
    image = raw
    if compressed:
        image = raw.with_name(raw.name + ".zst")
        compress_framed(raw, block_map, image)
    map_file = signing.sibling(raw, ".bmap")
    map_file.write_bytes(bmap.render(block_map))
    manifest = signing.Manifest(
        name="box",
        files=[signing.describe(image), signing.describe(map_file)],
        about=dict(about),
        file_systems=list(file_systems),
    )
    key = signing.load_private_key(folder / "key.pem")
    signing.write_manifest(manifest, signing.sibling(raw, ".manifest.json"), key)
    return image


def public_key(image: Path) -> Ed25519PublicKey:
    return signing.load_public_key(image.parent / "key.pub")


class MemoryDisk:
    """A disk in memory whose `trace` has each write as (offset, data), and None for each flush."""

    def __init__(self, content: bytes) -> None:
        self.size = len(content)
        self.content = bytearray(content)
        self.trace: list[tuple[int, bytes] | None] = []
        self.removed_after_writes: int | None = None

    def read(self, offset: int, into: memoryview) -> None:
        into[:] = self.content[offset : offset + len(into)]

    def write(self, offset: int, data: memoryview) -> None:
        assert offset % 512 == len(data) % 512 == 0
        assert offset + len(data) <= self.size
        if self.removed_after_writes is not None:
            self.removed_after_writes -= 1
            if self.removed_after_writes < 0:
                raise DeviceError("the disk was removed")
        self.content[offset : offset + len(data)] = data
        self.trace.append((offset, bytes(data)))

    def flush(self) -> None:
        self.trace.append(None)


def rap(*command_line: object) -> int:
    """Run `rap flash …` or `rap pki …` in this process; return its exit status."""
    parser = Parser(prog="rap")
    flash.add_verbs(parser.add_command("flash", ""))
    pki.add_verbs(parser.add_command("pki", ""))
    arguments = parser.parse_args([str(argument) for argument in command_line])
    status: int = arguments.command(arguments)
    return status


@contextmanager
def loop_device(file: Path | str, size: int = 0, *options: str) -> Iterator[str]:
    """Attach a loop device to a file and always detach it; with `size`, create the file with that many zeros."""
    if size:
        with Path(file).open("wb") as out:
            out.truncate(size)
    command = ["losetup", "--find", "--show", *options, file]
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    device = run.stdout.strip()
    try:
        yield device
    finally:
        subprocess.run(["losetup", "--detach", device], check=False)
