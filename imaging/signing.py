"""Signed manifests of images: the SHA-256 of every file, signed with Ed25519 (RFC 8032).

These files belong to an image `box.raw` or `box.raw.zst`:

    box.bmap              the mapped parts of the image, with their hashes
    box.manifest.json     a description of the image, and the size and hash of each of its files
    box.manifest.json.sig the signature of the manifest: 64 bytes

An installer's ISO has `box.iso.manifest.json` and its signature, but no map.

Thus the signature covers every byte of an image that is written to a disk: the manifest has the hash of the map, and
the map has the hash of each range. It can be verified without this program: `openssl pkeyutl -verify -rawin -pubin
-inkey KEY -in MANIFEST -sigfile SIG`.

Keys are PEM files. The private key is unencrypted and readable by its owner only; keep it on a machine that is used
for nothing else.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from imaging.media.imagefile import sha256_of

Sha256Hex = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
FileName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")]
IMAGE_ENDS: Final = (".raw", ".raw.zst")


class SigningError(Exception):
    """A key, manifest or signature is invalid; the message names the file and the correction."""


class SignedFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file listed in a manifest; `bytes` is its size."""

    name: FileName
    bytes: Annotated[int, msgspec.Meta(ge=0)]
    sha256: Sha256Hex


class SignedFileSystem(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file system of an image, which gets a different UUID on each disk (`imaging.flash.identifiers`).

    `offset` is that of its first byte in the image; `id` is its UUID, or a FAT's serial, as in /etc/fstab;
    `references` are the offsets at which the image contains `id` as text.
    """

    offset: Annotated[int, msgspec.Meta(ge=0)]
    format: Literal["ext4", "vfat"]
    id: Annotated[str, msgspec.Meta(pattern=r"^[0-9A-Fa-f-]{9,36}\Z")]
    references: list[Annotated[int, msgspec.Meta(ge=0)]]


class SignedPartition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A partition whose UUID an image contains as text; each disk gets different UUIDs.

    `offset` is that of its first byte in the image; `references` are the offsets at which the image contains `id`.
    """

    offset: Annotated[int, msgspec.Meta(ge=0)]
    id: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f-]{36}\Z")]
    references: list[Annotated[int, msgspec.Meta(ge=0)]]


TPM_KEYS_KEY: Final = "keys"
"""The key of a manifest's `about` that states where, besides in files, a box can keep its private keys."""
TPM_KEYS: Final = "in the TPM"
ARCHITECTURE_KEY: Final = "architecture"
"""The key of a manifest's `about` for the processor architecture of an image."""
ARCHITECTURE: Final = "x86_64"
"""The processor architecture that images are built for."""


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The description of an image. `about` contains facts to display and to record, such as release and board."""

    format: Literal["rap-image-1"] = "rap-image-1"
    name: str
    files: list[SignedFile]
    about: dict[str, str] = {}
    file_systems: list[SignedFileSystem] = []
    partitions: list[SignedPartition] = []

    def file(self, name: str) -> SignedFile | None:
        """Return the file with this name, or None."""
        return next((file for file in self.files if file.name == name), None)


def stem(image: Path) -> Path:
    """Return the path of an image without its suffix, which all its files have in common. Raises: SigningError."""
    for end in IMAGE_ENDS:
        if image.name.endswith(end):
            return image.with_name(image.name.removesuffix(end))
    raise SigningError(f"{image}: the name of an image must end with {' or '.join(IMAGE_ENDS)}")


def sibling(image: Path, end: str) -> Path:
    """Return the path of another file of an image, such as that with the suffix ".bmap". Raises: SigningError."""
    base = stem(image)
    return base.with_name(base.name + end)


def describe(file: Path) -> SignedFile:
    """Return the manifest entry of a file. Raises: OSError."""
    return SignedFile(file.name, file.stat().st_size, sha256_of(file))


def make_key(private: Path, public: Path) -> None:
    """Generate a signing key; neither file may exist. Raises: OSError."""
    key = Ed25519PrivateKey.generate()
    public_bytes = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    private.touch(mode=0o600, exist_ok=False)
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    with public.open("xb") as file:
        file.write(public_bytes)


def load_private_key(file: Path) -> Ed25519PrivateKey:
    """Read a private signing key (PEM). Raises: SigningError."""
    try:
        key = serialization.load_pem_private_key(_read(file), None)
    except (ValueError, TypeError) as error:
        raise SigningError(f"{file}: is not an unencrypted private key in PEM: {error}") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise SigningError(
            f"{file}: is not an Ed25519 key; make one with `openssl genpkey -algorithm ed25519`"
        )
    return key


def load_public_key(file: Path) -> Ed25519PublicKey:
    """Read a public signing key (PEM). Raises: SigningError."""
    try:
        key = serialization.load_pem_public_key(_read(file))
    except ValueError as error:
        raise SigningError(f"{file}: is not a public key in PEM: {error}") from None
    if not isinstance(key, Ed25519PublicKey):
        raise SigningError(
            f"{file}: is not an Ed25519 key; give the public key that belongs to the key that signed the image"
        )
    return key


def write_manifest(manifest: Manifest, file: Path, key: Ed25519PrivateKey) -> Path:
    """Write a manifest and its signature. Returns the path of the signature. Raises: OSError."""
    data = msgspec.json.format(msgspec.json.encode(manifest, order="deterministic"), indent=2) + b"\n"
    file.write_bytes(data)
    signature = _signature_of(file)
    signature.write_bytes(key.sign(data))
    return signature


def read_manifest(file: Path, key: Ed25519PublicKey) -> tuple[Manifest, str]:
    """Verify the signature of a manifest. Returns the manifest and its SHA-256. Raises: SigningError."""
    data = _read(file)
    try:
        key.verify(_read(_signature_of(file)), data)
    except InvalidSignature:
        raise SigningError(
            f"{file}: its signature does not match this key: the manifest was changed, or signed with another key"
        ) from None
    try:
        return msgspec.json.decode(data, type=Manifest), hashlib.sha256(data).hexdigest()
    except msgspec.DecodeError as error:
        raise SigningError(
            f"{file}: has a valid signature, but is not the manifest of an image: {error}"
        ) from None


def read_signed(manifest: Manifest, file: Path) -> bytes:
    """Read a file that the manifest names. Raises: SigningError, if its content has another hash."""
    data = _read(file)
    entry = manifest.file(file.name)
    if entry is None:
        raise SigningError(f"{file}: the manifest of {manifest.name} does not name it")
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        raise SigningError(f"{file}: was changed: its SHA-256 is not the one in the signed manifest")
    return data


def _signature_of(file: Path) -> Path:
    return file.with_name(file.name + ".sig")


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise SigningError(f"{file}: cannot be read: {error.strerror}") from None
