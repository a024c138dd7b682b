"""The TPM of an installed box opens its volumes: the kickstart's own script, a real LUKS volume, an emulated TPM."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from imaging.kickstart.assemble import assemble
from imaging.kickstart.document import read
from imaging.kickstart.site import load_site
from tests.support.imaging.flash.images import MIB, loop_device
from tests.support.imaging.sites import SITE, write_site
from tests.support.imaging.starts.emulated import software_tpm

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="loop devices need root")
PASSPHRASE = "a-passphrase-of-the-installer"


def script(folder: Path, disk: str, passphrase_file: Path) -> str:
    """Return the %post section that binds the volumes, for a site with this disk."""
    text = SITE.replace('device = "sda"', f'device = "{Path(disk).name}"')
    file = write_site(folder, text.replace("/run/install/repo/luks-passphrase", str(passphrase_file)))
    (kickstart := folder / "box.ks").write_text(assemble(load_site(file), file, "almalinux9"))
    scripts = ["\n".join(section.body) for section in read(kickstart, "RHEL9").sections]
    (binding,) = [text for text in scripts if "clevis luks bind" in text]
    return binding


@pytest.fixture
def tpm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An emulated TPM 2.0."""
    with software_tpm(tmp_path / "tpm") as server:
        monkeypatch.setenv("TPM2TOOLS_TCTI", f"swtpm:path={server}")
        yield


def opens(volume: str) -> bool:
    """Return whether the TPM releases a passphrase that opens the volume."""
    released = subprocess.run(
        ["clevis", "luks", "pass", "-d", volume, "-s", "1"], capture_output=True, check=False
    )
    command = ["cryptsetup", "open", "--test-passphrase", "--key-file", "-", volume]
    return (
        released.returncode == 0
        and not subprocess.run(command, input=released.stdout, check=False).returncode
    )


def test_an_encrypted_volume_opens_by_the_tpm_until_secure_boot_changes(tmp_path: Path, tpm: None) -> None:
    (passphrase_file := tmp_path / "passphrase").write_text(PASSPHRASE + "\n")
    with loop_device(tmp_path / "volume", 64 * MIB) as volume:
        command = ["cryptsetup", "luksFormat", "-q", "--type", "luks2", "--pbkdf", "pbkdf2"]
        command += ["--pbkdf-force-iterations", "1000", volume, "-"]
        subprocess.run(command, input=PASSPHRASE.encode(), check=True)
        assert not opens(volume)
        programs = tmp_path / "bin"
        programs.mkdir()
        (programs / "systemctl").write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/enabled\n')
        (programs / "systemctl").chmod(0o755)
        environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
        text = script(tmp_path, volume, passphrase_file)
        subprocess.run(["bash", "-c", text], check=True, env=environment)
        assert opens(volume)
        assert (tmp_path / "enabled").read_text() == "enable clevis-luks-askpass.path\n"
        subprocess.run(["tpm2_pcrextend", f"7:sha256={'ab' * 32}"], check=True)
        assert not opens(volume), "the key must be bound to the state of Secure Boot"
        command = ["cryptsetup", "open", "--test-passphrase", "--key-file", "-", volume]
        subprocess.run(command, input=PASSPHRASE.encode(), check=True)


def test_a_disk_without_an_encrypted_volume_ends_the_installation(tmp_path: Path) -> None:
    with loop_device(tmp_path / "volume", MIB) as volume:
        command = ["bash", "-c", script(tmp_path, volume, tmp_path / "passphrase")]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert "no encrypted volume on loop" in done.stderr


def test_a_site_without_a_tpm_binds_nothing(tmp_path: Path) -> None:
    luks = '[luks]\npassphrase_file = "/run/install/repo/luks-passphrase"\n'
    file = write_site(tmp_path, SITE.replace(luks, f"{luks}tpm = false\n"))
    text = assemble(load_site(file), file, "almalinux9")
    assert "--encrypted" in text
    assert "clevis luks" not in text
    assert "/dev/tpmrm0" not in text
