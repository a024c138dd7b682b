"""Encrypts partitions of this machine's disk with cryptsetup; clevis seals the key in the TPM.

All programs belong to the installed system; the kickstart binds the volumes of an installed box in the same way.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from agents.provision.volumes import Content, VolumesError
from settings.encrypted import PREFIX, STAGING_PARTITION

TPM: Final = Path("/dev/tpmrm0")
BLOCK_DEVICES: Final = Path("/sys/dev/block")
WORK: Final = Path("/run/rap-volumes")
MAPPED: Final = Path("/dev/mapper")
REPAIR: Final = Path("/usr/libexec/rap/repair-superblock")
MARK: Final = "rap-encrypted"
"""The label in a LUKS header whose volume has all its files."""
HEADER_ENTRY: Final = "rap-tpm2"
"""The type of the token in the header of the key's volume (LUKS2 On-Disk Format, Tokens)."""
PIN: Final = ("tpm2", '{"pcr_bank":"sha256","pcr_ids":"7"}')
FORMAT: Final = "--batch-mode --type luks2 --cipher aes-xts-plain64 --key-size 512 --key-file -"
SHORT_DERIVATION: Final = "--pbkdf pbkdf2 --pbkdf-force-iterations 1000"
"""FIPS mode has no Argon2; a key of 256 random bits needs no slow derivation."""
_APPEARS_SECONDS_MAX: Final = 60.0
_POLL_SECONDS: Final = 0.1


class DiskVolumes:
    """The marked partitions of the disk with the root file system; see `VolumeMachine`."""

    def __init__(self, devices: Mapping[str, Path] | None = None) -> None:
        """`devices` are partitions by their names; default: the partitions of the root file system's disk."""
        self._devices = devices if devices is not None else dict(_partitions(Path("/").stat().st_dev))
        self._staging = WORK / "staging"
        self._waiting: list[str] = []

    def volumes(self) -> Sequence[str]:
        """Return the partitions that are to be encrypted."""
        return [name for name in self._devices if name.startswith(PREFIX)]

    def has_tpm(self) -> bool:
        """Return whether there is a TPM 2.0."""
        return TPM.exists()

    def content(self, volume: str) -> Content:
        """Return the kind of the partition's content."""
        tags = self._probe(volume)
        match tags.get("TYPE"):
            case "ext4":
                return "plain"
            case "crypto_LUKS":
                return "complete" if tags.get("LABEL") == MARK else "encrypted"
        return "unknown"

    def is_staged(self, volume: str) -> bool:
        """Return whether the unused slot has a complete copy of the partition's files."""
        with self._slot():
            return self._copy(volume).exists()

    def stage(self, volume: str) -> None:
        """Copy the partition's files to the unused slot, with the UUID and label of its file system."""
        tags = self._probe(volume)
        with self._slot(), _mounted(self._devices[volume], "ro") as files:
            part = self._copy(volume).with_suffix(".part")
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True, mode=0o700)
            _run("cp", "--archive", f"{files}/.", part / "files")
            (part / "uuid").write_text(tags["UUID"])
            (part / "label").write_text(tags.get("LABEL", ""))
            os.sync()
            part.rename(self._copy(volume))
            os.sync()

    def unstage(self, volume: str) -> None:
        """Remove the copy."""
        with self._slot():
            shutil.rmtree(self._copy(volume))
            with suppress(OSError):
                self._copy(volume).parent.rmdir()

    def seal(self, volume: str) -> bytes:
        """Format the partition with a new key, and store it in the header, sealed by the TPM; return the key."""
        device = self._devices[volume]
        key = secrets.token_hex(32).encode()
        self.format(volume, key)
        sealed = _run("clevis", "encrypt", *PIN, stdin=key).decode().strip()
        token = {"type": HEADER_ENTRY, "keyslots": ["0"], "jwe": sealed}
        _run("cryptsetup", "token", "import", "--token-id", "0", device, stdin=json.dumps(token).encode())
        return key

    def unseal(self, volume: str) -> bytes:
        """Return the key that the TPM releases. Raises: VolumesError."""
        token = json.loads(_run("cryptsetup", "token", "export", "--token-id", "0", self._devices[volume]))
        try:
            return _run("clevis", "decrypt", stdin=token["jwe"].encode())
        except VolumesError as error:
            raise VolumesError(
                f"the TPM does not release the key of {volume}: Secure Boot or its keys were changed (PCR 7), "
                "the TPM was cleared, or the disk is from another machine. Undo the change, or write the disk again; "
                f"reports that were not forwarded are then lost ({error})"
            ) from None

    def format(self, volume: str, key: bytes) -> None:
        """Format the partition with LUKS 2."""
        arguments = [*FORMAT.split(), *SHORT_DERIVATION.split(), self._devices[volume]]
        _run("cryptsetup", "luksFormat", *arguments, stdin=key)

    def open(self, volume: str, key: bytes) -> None:
        """Make the volume available as /dev/mapper/VOLUME, unless it already is. Raises: VolumesError."""
        if not (MAPPED / volume).exists():
            _run("cryptsetup", "open", "--key-file", "-", self._devices[volume], volume, stdin=key)

    def restore(self, volume: str) -> None:
        """Create the file system with its former UUID, which /etc/fstab contains, and copy the files back."""
        with self._slot():
            copy = self._copy(volume)
            uuid, label = ((copy / name).read_text() for name in ("uuid", "label"))
            _run("mkfs.ext4", "-q", "-F", "-U", uuid, "-L", label, MAPPED / volume)
            with _mounted(MAPPED / volume, "rw") as files:
                _run("cp", "--archive", f"{copy / 'files'}/.", files)
                os.sync()
        self._waiting.append(uuid)

    def mark(self, volume: str) -> None:
        """Mark the LUKS header by its label."""
        _run("cryptsetup", "config", "--label", MARK, self._devices[volume])
        os.sync()

    def wait_for_mounts(self) -> None:
        """Wait until systemd knows the new devices of the file systems, which it could not mount before.

        Raises: VolumesError.
        """
        _run("udevadm", "settle")
        deadline = time.monotonic() + _APPEARS_SECONDS_MAX
        for uuid in self._waiting:
            unit = _run("systemd-escape", "--path", "--suffix=device", f"/dev/disk/by-uuid/{uuid}").decode()
            while b"/dm-" not in _run("systemctl", "show", "--property=SysFSPath", unit.strip()):
                if time.monotonic() > deadline:
                    raise VolumesError(f"the file system {uuid} does not appear: start the box again")
                time.sleep(_POLL_SECONDS)

    def _probe(self, volume: str) -> dict[str, str]:
        """Return the tags that blkid detects, such as TYPE, LABEL and UUID."""
        done = subprocess.run(
            ["blkid", "--probe", "--output", "export", self._devices[volume]],
            capture_output=True,
            text=True,
            check=False,
        )
        return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)

    def _copy(self, volume: str) -> Path:
        return self._staging / "rap-volumes" / volume

    @contextmanager
    def _slot(self) -> Iterator[None]:
        """Mount the unused slot at `_staging`. Raises: VolumesError."""
        if STAGING_PARTITION not in self._devices:
            raise VolumesError(f"the disk has no partition {STAGING_PARTITION}: write the disk again")
        if self._staging.is_mount():
            yield
            return
        device = self._devices[STAGING_PARTITION]
        number = device.stat().st_rdev
        # udev, which repairs the other file systems, may not have processed this partition yet
        _run("sh", REPAIR, device, f"{os.major(number)}:{os.minor(number)}")
        with _mounted(device, "rw", self._staging):
            yield


def _partitions(root: int) -> Iterator[tuple[str, Path]]:
    """Yield the names and devices of all named partitions on the disk of the partition with this device number."""
    own = (BLOCK_DEVICES / f"{os.major(root)}:{os.minor(root)}").resolve()
    for file in sorted(own.parent.glob("*/uevent")):
        fields = dict(line.split("=", 1) for line in file.read_text().splitlines() if "=" in line)
        if "PARTNAME" in fields:
            yield fields["PARTNAME"], Path("/dev", fields["DEVNAME"])


@contextmanager
def _mounted(device: Path, mode: str, mount_point: Path = WORK / "files") -> Iterator[Path]:
    mount_point.mkdir(parents=True, exist_ok=True)
    _run("mount", "-t", "ext4", "-o", f"{mode},nodev,nosuid,noexec", device, mount_point)
    try:
        yield mount_point
    finally:
        _run("umount", mount_point)


def _run(*command: object, stdin: bytes = b"") -> bytes:
    """Run a program of the system and return its output. Raises: VolumesError."""
    argv = [str(argument) for argument in command]
    try:
        done = subprocess.run(argv, input=stdin, capture_output=True, check=False)
    except FileNotFoundError:
        raise VolumesError(f"{argv[0]} is missing in the image: install its package") from None
    if done.returncode:
        output = b" ".join((done.stderr or done.stdout).split()).decode("utf-8", "replace")
        raise VolumesError(f"{' '.join(argv[:3])} failed: {output}")
    return done.stdout


def main() -> int:
    """Run the program; return the exit status."""
    import sys

    from agents.provision.volumes import open_volumes

    def log(text: str) -> None:
        sys.stderr.write(f"rap-volumes: {text}\n")
        sys.stderr.flush()

    machine = DiskVolumes()
    try:
        open_volumes(machine, lambda volume: log(f"encrypting {volume}"))
        machine.wait_for_mounts()
    except (VolumesError, OSError) as error:
        log(f"this box cannot start: {error}")
        return 1
    return 0
