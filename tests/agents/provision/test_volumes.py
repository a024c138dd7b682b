"""Encryption at the first start: no power cut loses files, and no complete volume is formatted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from agents.provision.volumes import (
    KEY_VOLUME,
    NO_TPM,
    Content,
    VolumesError,
    open_volumes,
)
from imaging.kickstart.data import layout
from settings.encrypted import KEY_PARTITION, PREFIX, STAGING_PARTITION

VOLUMES = ("luks-home", "luks-rap", "luks-var")


class PowerCut(Exception):
    """The power of the machine fails."""


@dataclass
class Disk:
    """The state that survives a power cut: content and files of each partition, and the copies in the unused slot."""

    content: dict[str, Content] = field(default_factory=lambda: dict.fromkeys(VOLUMES, "plain"))
    files: dict[str, str] = field(default_factory=lambda: {name: f"files of {name}" for name in VOLUMES})
    copies: dict[str, str] = field(default_factory=dict)
    keys: dict[str, bytes] = field(default_factory=dict)
    sealed: bytes = b""
    formatted: list[str] = field(default_factory=list)


class Machine:
    """A machine whose power fails in the middle of its operation number `cut_at` (from 0; -1: never)."""

    def __init__(self, disk: Disk, cut_at: int = -1, *, tpm: bool = True) -> None:
        self.disk, self.tpm = disk, tpm
        self._left = cut_at
        self.opened: dict[str, bytes] = {}

    def _is_cut(self) -> bool:
        self._left -= 1
        return self._left == -1

    def volumes(self) -> Sequence[str]:
        return list(self.disk.content)

    def has_tpm(self) -> bool:
        return self.tpm

    def content(self, volume: str) -> Content:
        return self.disk.content[volume]

    def is_staged(self, volume: str) -> bool:
        return volume in self.disk.copies

    def stage(self, volume: str) -> None:
        assert self.disk.content[volume] == "plain"
        if self._is_cut():
            raise PowerCut
        self.disk.copies[volume] = self.disk.files[volume]

    def unstage(self, volume: str) -> None:
        if self._is_cut():
            raise PowerCut
        del self.disk.copies[volume]

    def seal(self, volume: str) -> bytes:
        key = f"key {len(self.disk.formatted)}".encode()
        self.format(volume, key)
        if self._is_cut():
            raise PowerCut
        self.disk.sealed = key
        return key

    def unseal(self, volume: str) -> bytes:
        assert volume == KEY_VOLUME
        if not self.disk.sealed:
            raise VolumesError("the TPM does not release the key")
        return self.disk.sealed

    def format(self, volume: str, key: bytes) -> None:
        assert self.disk.content[volume] != "complete", "a volume with its files may not be formatted"
        self.disk.files.pop(volume, None)
        self.disk.content[volume] = "unknown"
        self.disk.formatted.append(volume)
        if self._is_cut():
            raise PowerCut
        self.disk.content[volume] = "encrypted"
        self.disk.keys[volume] = key

    def open(self, volume: str, key: bytes) -> None:
        assert self.disk.keys[volume] == key
        self.opened[volume] = key

    def restore(self, volume: str) -> None:
        assert volume in self.opened
        self.disk.files[volume] = ""
        if self._is_cut():
            raise PowerCut
        self.disk.files[volume] = self.disk.copies[volume]

    def mark(self, volume: str) -> None:
        if self._is_cut():
            raise PowerCut
        self.disk.content[volume] = "complete"


def start(disk: Disk, cut_at: int = -1, *, tpm: bool = True) -> list[str]:
    """Start the machine; return the volumes that it has opened, none if the power failed."""
    machine = Machine(disk, cut_at, tpm=tpm)
    try:
        open_volumes(machine, lambda _volume: None)
    except PowerCut:
        return []
    return sorted(machine.opened)


def operations() -> int:
    """Return the number of operations of the first start at which power can be cut."""
    count = 0
    while not start(Disk(), count):
        count += 1
    return count


def test_the_first_start_encrypts_all_volumes_with_their_files_and_later_ones_open_them() -> None:
    disk = Disk()
    assert start(disk) == sorted(VOLUMES)
    assert set(disk.content.values()) == {"complete"}
    assert disk.formatted[0] == KEY_VOLUME
    before = json.dumps(disk.formatted)
    assert start(disk) == sorted(VOLUMES)
    assert json.dumps(disk.formatted) == before
    assert disk.files == Disk().files
    assert not disk.copies


def test_every_pair_of_power_cuts_is_repaired_by_the_next_start() -> None:
    count = operations()
    assert count >= 5 * len(VOLUMES)
    for first in range(count):
        for second in range(count):
            disk = Disk()
            start(disk, first)
            start(disk, second)
            assert start(disk) == sorted(VOLUMES), (first, second)
            assert disk.files == Disk().files, (first, second)
            assert len(set(disk.keys.values())) == 1


def test_a_report_stored_after_the_first_start_survives_every_later_start() -> None:
    for cut in range(operations()):
        disk = Disk()
        start(disk, cut)
        start(disk)
        disk.files[KEY_VOLUME] += " and a report"
        for again in range(3):
            start(disk, again)
        assert start(disk) == sorted(VOLUMES)
        assert disk.files[KEY_VOLUME].endswith("and a report")


def test_a_machine_without_a_tpm_is_refused_with_nothing_changed() -> None:
    disk = Disk()
    with pytest.raises(VolumesError, match=r"no TPM 2\.0.*firmware's setup.*without \[luks\]"):
        start(disk, tpm=False)
    assert disk == Disk()
    assert start(disk) == sorted(VOLUMES), "the box starts when the TPM is there"
    with pytest.raises(VolumesError):
        start(disk, tpm=False)
    assert disk.files == Disk().files
    assert "Enable the TPM" in NO_TPM


@pytest.mark.parametrize("content", ["unknown", "encrypted"])
def test_a_damaged_volume_without_a_copy_is_never_formatted(content: Content) -> None:
    disk = Disk()
    start(disk)
    formatted = list(disk.formatted)
    disk.content["luks-var"] = content
    with pytest.raises(VolumesError, match=r"luks-var is damaged.*write the disk again"):
        start(disk)
    assert disk.formatted == formatted


def test_no_volume_is_formatted_if_the_tpm_does_not_release_the_key() -> None:
    disk = Disk()
    start(disk)
    formatted, disk.sealed = list(disk.formatted), b""
    with pytest.raises(VolumesError, match="does not release the key"):
        start(disk)
    assert disk.formatted == formatted


def test_a_disk_without_the_partition_of_the_key_is_refused() -> None:
    disk = Disk(content={"luks-var": "plain"})
    with pytest.raises(VolumesError, match="no partition luks-rap"):
        start(disk)
    assert not disk.formatted


def test_partition_names_match_the_disk_layout() -> None:
    labels = {part.label: part for part in layout()}
    assert labels[KEY_PARTITION].encrypted
    assert not labels[STAGING_PARTITION].encrypted
    assert all(len(PREFIX + label) <= 36 for label in labels)
