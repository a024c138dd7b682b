"""Encrypts the partitions of a flashed box at its first start, and opens them at each start.

An image contains no key, because all its boxes would share it. Flashing marks the partitions by their names
(`settings.encrypted`). Before they are mounted, they are encrypted without loss of their files, with a key generated
on this box. The TPM seals the key, bound to PCR 7, the policy of Secure Boot.

The next start continues after a power cut at any moment. For each partition, in this order: its files are copied to
the unused root slot and flushed; it is formatted and restored from that copy, again after each power cut; when all
files are back and flushed, its LUKS header is marked. A marked volume is never formatted again. No program that
changes files runs before the volumes are marked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Literal, Protocol, TypeAlias

from settings.encrypted import KEY_PARTITION, PREFIX

Content: TypeAlias = Literal["plain", "encrypted", "complete", "unknown"]
"""Content of a partition: ext4, LUKS, LUKS with the mark, anything else (interrupted formatting, damage)."""
KEY_VOLUME: Final = PREFIX + KEY_PARTITION


class VolumesError(Exception):
    """The volumes cannot be encrypted or opened; the message gives the reason and the remedy."""


class VolumeMachine(Protocol):
    """The operations on partitions. A volume has the name of its partition in the GPT."""

    def volumes(self) -> Sequence[str]:
        """Return the partitions that are to be encrypted."""
        ...

    def has_tpm(self) -> bool:
        """Return whether there is a TPM 2.0."""
        ...

    def content(self, volume: str) -> Content:
        """Return the kind of the partition's content."""
        ...

    def is_staged(self, volume: str) -> bool:
        """Return whether the unused slot has a complete copy of the partition's files."""
        ...

    def stage(self, volume: str) -> None:
        """Copy the partition's files to the unused slot; the copy is complete at once or not at all."""
        ...

    def unstage(self, volume: str) -> None:
        """Remove the copy."""
        ...

    def seal(self, volume: str) -> bytes:
        """Format the partition with LUKS, with a new key that the TPM seals, and return the key."""
        ...

    def unseal(self, volume: str) -> bytes:
        """Return the key that the TPM releases. Raises: VolumesError."""
        ...

    def format(self, volume: str, key: bytes) -> None:
        """Format the partition with LUKS."""
        ...

    def open(self, volume: str, key: bytes) -> None:
        """Make the volume available to be mounted. Raises: VolumesError."""
        ...

    def restore(self, volume: str) -> None:
        """Create the file system of an open volume and copy the files back, durably."""
        ...

    def mark(self, volume: str) -> None:
        """Mark the LUKS header, durably."""
        ...


NO_TPM: Final = (
    "its partitions must be encrypted, but it has no TPM 2.0 (/dev/tpmrm0) for the key. Enable the TPM in the "
    "firmware's setup, or write the disk again with a site file without [luks]. Until then the box has no identity"
)


def open_volumes(machine: VolumeMachine, on_encrypt: Callable[[str], None]) -> None:
    """Encrypt all volumes that are not encrypted yet, and open all. `on_encrypt` is called with each one to encrypt.

    Raises: VolumesError, with no file lost; OSError.
    """
    volumes = sorted(machine.volumes(), key=lambda volume: (volume != KEY_VOLUME, volume))
    if KEY_VOLUME not in volumes:
        raise VolumesError(f"the disk has no partition {KEY_VOLUME} for the key: write the disk again")
    if not machine.has_tpm():
        raise VolumesError(NO_TPM)
    contents = {volume: machine.content(volume) for volume in volumes}
    for volume, content in contents.items():
        if content == "plain" or (content != "complete" and machine.is_staged(volume)):
            continue
        if content != "complete":
            raise VolumesError(f"{volume} is damaged, and no copy of its files exists: write the disk again")
    key = b""
    for volume, content in contents.items():
        if content == "complete":
            key = key or machine.unseal(volume)
            machine.open(volume, key)
        else:
            on_encrypt(volume)
            key = _encrypt(machine, volume, key)


def _encrypt(machine: VolumeMachine, volume: str, key: bytes) -> bytes:
    """Encrypt a volume with `key`, or with a new key if it is empty, and open it; return the key."""
    if not machine.is_staged(volume):
        machine.stage(volume)
    if key:
        machine.format(volume, key)
    else:
        key = machine.seal(volume)
    machine.open(volume, key)
    machine.restore(volume)
    machine.mark(volume)
    machine.unstage(volume)
    return key
