"""The steps of `rap flash` in order, independent of the terminal.

The order is guaranteed: before `Job.run` writes the first byte, the signature and map of the image are verified, the
disk is checked against the facts about the machine, and the kernel locks the disk. Until then every problem raises
`FlashRefused`, and nothing was changed. Afterwards problems raise `Interrupted`, and the disk does not start.
"""

from __future__ import annotations

import datetime
import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from imaging import signing
from imaging.disks.linux import device_name, gather
from imaging.disks.machine import Device
from imaging.disks.refusals import refusals
from imaging.flash import gpt, identity, record
from imaging.flash.plan import HEAD_BYTES, FlashPlan, identity_slice, make_plan
from imaging.flash.source import Image, open_image
from imaging.flash.target import BlockDevice, DeviceError, DeviceRefused, FlashTarget, aligned, read
from imaging.flash.write import FlashProgress, ReadbackMismatch, flash
from imaging.kickstart.site import Site, for_box, load_site
from imaging.media.imagefile import ImageError
from settings import encrypted, identity_archive
from settings.problems import SettingsError

TPM_REQUIRED: Final = (
    "a flashed box encrypts its partitions at its first start, when nobody can type a passphrase: write tpm = true, "
    "install this box with the ISO of `rap image build --iso`, or remove the table"
)
CANNOT_ENCRYPT: Final = (
    "this image cannot encrypt its partitions at the first start: build it again with rap-box, clevis, "
    "cryptsetup and tpm2-tools, and with the partitions {}; or remove the table"
)

NO_TPM_PROVIDER: Final = (
    "this image cannot use keys in a TPM: build it again from this site file, whose kickstart has the package "
    'tpm2-openssl; or write keys = "tpm-or-file"'
)


class FlashRefused(Exception):
    """The request cannot be fulfilled; the message states why, and how to correct it. No image was written."""


class Interrupted(Exception):
    """Writing began but was not completed. `__cause__` is an ImageError, DeviceError or ReadbackMismatch."""


class Job:
    """An image, and a locked disk to which it may be written."""

    def __init__(self, image: Image, key: Ed25519PublicKey, disk: Device, target: FlashTarget) -> None:
        self._image, self._key, self._target = image, key, target
        self._identity: dict[str, bytes] = {}
        self.encrypted: frozenset[str] = frozenset()
        """The names of the partitions that the box will encrypt at its first start."""
        self._plan = self._make_plan()
        self.disk = disk

    @property
    def total_bytes(self) -> int:
        """The total number of bytes that each phase reports to `progress`."""
        return self._plan.bulk_bytes

    def give_identity(self, box: str, site: Path, pki: Path | None, resume: bool) -> None:
        """Make the identity of the box with the serial `box`, from the site file `site`.

        If `pki` is given, a certificate is issued from that folder. `resume` keeps an existing key of the same box.
        Raises: FlashRefused.
        """
        try:
            loaded = load_site(site)
            self.encrypted = self._to_be_encrypted(loaded, site)
            self._check_keys(loaded, site)
            settings = for_box(loaded).encode()
            files = identity.make(box, settings, self._identity_on_target() if resume else None)
            self._identity = identity.issue(files, pki) if pki else files
            self._plan = self._make_plan()
        except (SettingsError, identity_archive.IdentityError, OSError) as error:
            raise FlashRefused(str(error)) from error

    def run(self, resume: bool, progress: FlashProgress) -> record.FlashRecord:
        """Write the disk; see `imaging.flash.write`. Raises: Interrupted."""
        start = time.monotonic()
        try:
            written = flash(self._plan, self._image, self._target, resume=resume, progress=progress)
        except (ImageError, DeviceError, ReadbackMismatch) as error:
            raise Interrupted(str(error)) from error
        spans = [record.Span(offset=w.offset, length=w.length, sha256=w.sha256) for w in written]
        certificate = self._identity.get(identity_archive.CERTIFICATE)
        return record.FlashRecord(
            written_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            image=self._image.path.name,
            about=self._image.manifest.about,
            manifest_sha256=self._image.manifest_sha256,
            signed_by_sha256=key_sha256(self._key),
            box=self._identity.get(identity_archive.SERIAL, b"").decode().strip(),
            key_sha256=identity.key_sha256(self._identity) if self._identity else "",
            certificate_sha256=hashlib.sha256(certificate).hexdigest() if certificate else "",
            disk=record.FlashedDisk(
                model=self.disk.model, serial=self.disk.serial, bus=self.disk.bus, bytes=self._plan.disk_bytes
            ),
            seconds=round(time.monotonic() - start, 3),
            parts=record.parts(self._plan.slices, written),
            spans=spans,
            sha256=record.summary(spans),
        )

    def request(self) -> bytes:
        """Return the certificate request of the identity (PEM)."""
        return self._identity[identity_archive.REQUEST]

    def _make_plan(self) -> FlashPlan:
        packed = identity_archive.pack(self._identity) if self._identity else b""
        try:
            return make_plan(self._image, self._target.size, packed, encrypted=self.encrypted)
        except ImageError as error:
            raise FlashRefused(str(error)) from error

    def _to_be_encrypted(self, site: Site, file: Path) -> frozenset[str]:
        """Return the partitions to encrypt, as the site requires. Raises: FlashRefused, if the box cannot do that."""
        if site.luks is None:
            return frozenset()
        if not site.luks.tpm:
            raise FlashRefused(f"{file}: luks.tpm: {TPM_REQUIRED}")
        names = {part.label for part in self._plan.slices}
        needed = {encrypted.KEY_PARTITION, encrypted.STAGING_PARTITION}
        about = self._image.manifest.about.get(encrypted.MANIFEST_KEY)
        if about != encrypted.AT_FIRST_START or needed - names:
            raise FlashRefused(f"{file}: luks: {CANNOT_ENCRYPT.format(' and '.join(sorted(needed)))}")
        return frozenset(part.label for part in site.partitions() if part.encrypted) & names

    def _check_keys(self, site: Site, file: Path) -> None:
        """Raise FlashRefused if the site requires keys in a TPM, and the image cannot use them."""
        about = self._image.manifest.about.get(signing.TPM_KEYS_KEY)
        if site.enrolment and site.enrolment.keys == "tpm" and about != signing.TPM_KEYS:
            raise FlashRefused(f"{file}: enrolment.keys: {NO_TPM_PROVIDER}")

    def _identity_on_target(self) -> dict[str, bytes] | None:
        part = identity_slice(self._plan.slices)
        try:
            return identity_archive.unpack(read(self._target, part.offset, part.length)) if part else None
        except (identity_archive.IdentityError, DeviceError):
            return None


class IdentityOnDisk:
    """The identity on a flashed disk. Raises: FlashRefused, if it cannot be read."""

    def __init__(self, target: FlashTarget) -> None:
        try:
            part = identity_slice(gpt.slices(read(target, 0, HEAD_BYTES)))
            if part is None:
                raise FlashRefused(
                    "the disk has no identity partition: it was not flashed with an image of the box"
                )
            self._files = identity_archive.unpack(read(target, part.offset, part.length))
        except (gpt.GptError, identity_archive.IdentityError, DeviceError) as error:
            raise FlashRefused(
                f"the disk {error}" if isinstance(error, gpt.GptError) else str(error)
            ) from error
        self._target, self._part = target, part

    @property
    def box(self) -> str:
        """The serial of the box, such as "RAP-0001"."""
        return self._files[identity_archive.SERIAL].decode().strip()

    def request(self) -> bytes:
        """Return the certificate request (PEM)."""
        return self._files[identity_archive.REQUEST]

    def add_certificate(self, file: Path, authorities: dict[str, Path]) -> None:
        """Add the issued certificate, and the CA certificates that the box trusts, by their names in the archive.

        Raises: FlashRefused, OSError.
        """
        files = {**self._files, **{name: _certificates(path) for name, path in authorities.items()}}
        try:
            files = identity.with_certificate(files, file.read_bytes())
        except identity_archive.IdentityError as error:
            raise FlashRefused(f"{file}: {error}") from error
        if {identity_archive.VENDOR_AUTHORITY, identity_archive.DATACENTER_AUTHORITY} - files.keys():
            raise FlashRefused(
                "the box needs the CAs that it trusts: give --vendor-ca and --datacenter-root as well"
            )
        self._replace(files)

    def issue(self, folder: Path) -> None:
        """Add a certificate issued from a folder of `rap pki`. Raises: FlashRefused, OSError."""
        try:
            self._replace(identity.issue(self._files, folder))
        except identity_archive.IdentityError as error:
            raise FlashRefused(str(error)) from error

    def _replace(self, files: dict[str, bytes]) -> None:
        packed = identity_archive.pack(files)
        if len(packed) > self._part.length:
            raise FlashRefused(
                f"this identity has {len(packed)} bytes, but its partition has only {self._part.length}"
            )
        self._target.write(self._part.offset, aligned(packed))
        self._target.flush()
        if read(self._target, self._part.offset, len(packed)) != packed:
            raise FlashRefused("the disk returned different data than was written: use another disk")


def _certificates(file: Path) -> bytes:
    """Read a file of certificates. Raises: FlashRefused, OSError."""
    pem = file.read_bytes()
    try:
        identity.read_certificate(pem)
    except identity_archive.IdentityError as error:
        raise FlashRefused(f"{file}: {error}") from error
    return pem


@contextmanager
def prepare(image: Path, key: Path, device: Path) -> Iterator[Job]:
    """Verify the image, check the disk and lock it. Raises: FlashRefused."""
    try:
        public = signing.load_public_key(key)
        with open_image(image, public) as opened, _locked(device, opened.bmap.image_bytes) as (disk, target):
            yield Job(opened, public, disk, target)
    except (signing.SigningError, ImageError) as error:
        raise FlashRefused(str(error)) from error


@contextmanager
def open_identity(device: Path) -> Iterator[IdentityOnDisk]:
    """Lock a flashed disk and read its identity. Raises: FlashRefused."""
    with _locked(device, 0) as (_, target):
        try:
            yield IdentityOnDisk(target)
        except DeviceError as error:
            raise FlashRefused(str(error)) from error


def key_sha256(key: Ed25519PublicKey) -> str:
    """Return the fingerprint of a public key: the SHA-256 of its DER form, in hexadecimal."""
    encoded = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(encoded).hexdigest()


@contextmanager
def _locked(device: Path, image_bytes: int) -> Iterator[tuple[Device, FlashTarget]]:
    machine = gather()
    try:
        name = device_name(device)
        if reasons := refusals(machine, name, image_bytes):
            raise FlashRefused(f"{device} may not be written: it {'; '.join(reasons)}")
        target = BlockDevice(Path("/dev") / name, write=True)
    except OSError as error:
        raise FlashRefused(f"{device}: {error.strerror}; `rap flash list` shows the disks") from error
    except DeviceRefused as error:
        raise FlashRefused(str(error)) from error
    disk = machine.device(name)
    assert disk is not None
    try:
        yield disk, target
    finally:
        target.close()
