"""The encryption of a flashed box at its first start: a real LUKS volume on a loop device, and an emulated TPM."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.provision import volume_machine
from agents.provision.volume_machine import DiskVolumes
from agents.provision.volumes import KEY_VOLUME, VolumesError
from imaging.rpm.contents import RECIPE
from settings.encrypted import STAGING_PARTITION
from tests.support.imaging.flash.images import MIB, loop_device
from tests.support.imaging.starts.emulated import software_tpm

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="loop devices need root")


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Path]:
    with loop_device(tmp_path / "volume", 64 * MIB) as name:
        subprocess.run(["mkfs.ext4", "-q", name], check=True)
        yield Path(name)


def fits(device: Path, key: bytes) -> bool:
    """Return whether the key opens the volume."""
    command = ["cryptsetup", "open", "--test-passphrase", "--key-file", "-", str(device)]
    return not subprocess.run(command, input=key, check=False, capture_output=True).returncode


def test_the_tpm_releases_the_key_until_secure_boot_changes(
    tmp_path: Path, device: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = DiskVolumes({KEY_VOLUME: device})
    assert machine.volumes() == [KEY_VOLUME]
    assert machine.content(KEY_VOLUME) == "plain"
    with software_tpm(tmp_path / "tpm") as server:
        monkeypatch.setenv("TPM2TOOLS_TCTI", f"swtpm:path={server}")
        key = machine.seal(KEY_VOLUME)
        assert machine.content(KEY_VOLUME) == "encrypted"
        assert machine.unseal(KEY_VOLUME) == key
        assert fits(device, key)
        assert not fits(device, key[:-1])
        machine.mark(KEY_VOLUME)
        assert machine.content(KEY_VOLUME) == "complete"
        assert machine.unseal(KEY_VOLUME) == key
        subprocess.run(["tpm2_pcrextend", f"7:sha256={'ab' * 32}"], check=True)
        with pytest.raises(VolumesError, match=r"does not release the key of luks-rap: Secure Boot"):
            machine.unseal(KEY_VOLUME)


def test_formatting_again_with_the_same_key_draws_another_master_key(device: Path) -> None:
    machine = DiskVolumes({"luks-var": device})
    dumps = []
    for _ in range(2):
        machine.format("luks-var", b"a key")
        assert fits(device, b"a key")
        command = [
            "cryptsetup",
            "luksDump",
            "--dump-volume-key",
            "--batch-mode",
            "--key-file",
            "-",
            str(device),
        ]
        dumps.append(subprocess.run(command, input=b"a key", check=True, capture_output=True).stdout)
    assert dumps[0] != dumps[1]


def test_an_interrupted_format_is_neither_plain_nor_encrypted(device: Path) -> None:
    with device.open("r+b") as file:
        file.write(bytes(MIB))
    assert DiskVolumes({KEY_VOLUME: device}).content(KEY_VOLUME) == "unknown"


def test_an_unused_slot_whose_superblock_is_torn_is_repaired_before_it_is_mounted(
    tmp_path: Path, device: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(volume_machine, "WORK", tmp_path)
    monkeypatch.setattr(volume_machine, "REPAIR", RECIPE / "root" / str(volume_machine.REPAIR)[1:])
    machine = DiskVolumes({KEY_VOLUME: device, STAGING_PARTITION: device})
    with device.open("r+b") as file:
        file.seek(1024 + 0x3FC)
        file.write(b"torn")
    assert subprocess.run(["e2fsck", "-a", device], check=False, capture_output=True).returncode > 1
    assert not machine.is_staged(KEY_VOLUME)
