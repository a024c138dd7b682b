"""The SSH server's host keys are the same after each start of a box whose /etc is recreated."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from agents.provision.host_keys import KINDS, install_host_keys
from imaging.kickstart.data import FOLDER

KEYS = {f"ssh_host_{kind}_key{end}" for kind in KINDS for end in ("", ".pub")}


def test_sshd_loads_the_keys_that_are_kept_and_no_others() -> None:
    """By default sshd also loads an Ed25519 key."""
    lines = (FOLDER / "fragments/60-sshd.ks").read_text().splitlines()
    named = [line.split()[1] for line in lines if line.startswith("HostKey ")]
    assert named == [f"/etc/ssh/ssh_host_{kind}_key" for kind in KINDS]


@pytest.fixture
def _ssh() -> None:
    if not shutil.which("ssh-keygen"):
        pytest.skip("needs ssh-keygen: install openssh-client")


def start(tmp_path: Path) -> dict[str, bytes]:
    """Recreate /etc/ssh, as each start does, and return the keys in it."""
    shutil.rmtree(folder := tmp_path / "etc/ssh", ignore_errors=True)
    folder.mkdir(parents=True)
    install_host_keys(tmp_path / "kept", folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.usefixtures("_ssh")
@pytest.mark.slow("generates RSA keys")
def test_host_keys_are_generated_once(tmp_path: Path) -> None:
    first = start(tmp_path)
    assert first.keys() == KEYS
    assert start(tmp_path) == first
    assert {path.name for path in (tmp_path / "kept").iterdir()} == KEYS
    for kind in KINDS:
        key = tmp_path / f"etc/ssh/ssh_host_{kind}_key"
        assert key.stat().st_mode & 0o777 == 0o600  # sshd refuses keys with wider permissions
        public = subprocess.run(["ssh-keygen", "-y", "-f", key], check=True, capture_output=True).stdout
        assert public.split()[:2] == first[f"{key.name}.pub"].split()[:2]


@pytest.mark.usefixtures("_ssh")
@pytest.mark.slow("generates RSA keys")
def test_incomplete_files_of_an_interrupted_start_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    for name in ("new", "new.pub", "ssh_host_rsa_key.pub"):
        (tmp_path / "kept" / name).write_text("half")
    assert start(tmp_path).keys() == KEYS
    assert {path.name for path in (tmp_path / "kept").iterdir()} == KEYS


def test_a_system_without_an_ssh_server_gets_no_keys(tmp_path: Path) -> None:
    install_host_keys(tmp_path / "kept", tmp_path / "etc/ssh")
    assert not (tmp_path / "kept").exists()
