"""Checks the metadata of releases: the client's part of The Update Framework 1.0, section 5.

    root        names the keys of all roles; a new one is also signed by the keys of the previous one
    timestamp   the current snapshot; signed often, so that a newer one cannot be withheld for long
    snapshot    the current version of the targets
    targets     the files of a release: length and SHA-256

Keys are ECDSA P-256 only, which FIPS 186-5 approves. No part of a file is used before its signatures are verified,
and a refused file changes nothing. The caller stores each accepted file, and passes it again after a restart.

Times of expiry are compared with `now_s`. So that a clock that is behind has little effect, the caller determines it
as the latest of the clock, the build of the software, and the last signed time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Annotated, Any, Final, TypeAlias, TypeVar

import msgspec
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from msgspec import Meta, Struct

from wire.release.canonical import CanonicalError, canonical

ROOT_BYTES_MAX: Final = 64 * 1024
TIMESTAMP_BYTES_MAX: Final = 16 * 1024
SNAPSHOT_BYTES_MAX: Final = 64 * 1024
TARGETS_BYTES_MAX: Final = 1024 * 1024
SIGNATURES_MAX: Final = 16
_ECDSA: Final = ("ecdsa", "ecdsa-sha2-nistp256")


class MetadataError(Exception):
    """Metadata is refused; the message says why."""


Version: TypeAlias = Annotated[int, Meta(ge=1, le=2**53)]
Length: TypeAlias = Annotated[int, Meta(ge=0, le=2**53)]


class _KeyValue(Struct, frozen=True):
    public: str


class _Key(Struct, frozen=True):
    keytype: str
    scheme: str
    keyval: _KeyValue


class _RoleKeys(Struct, frozen=True):
    keyids: list[str]
    threshold: Annotated[int, Meta(ge=1)]


class _Signature(Struct, frozen=True):
    keyid: str
    sig: str


class _Roles(Struct, frozen=True):
    root: _RoleKeys
    timestamp: _RoleKeys
    snapshot: _RoleKeys
    targets: _RoleKeys


class _Part(Struct, frozen=True):
    type: str = msgspec.field(name="_type")
    spec_version: str
    version: Version
    expires: datetime


class _Root(_Part, frozen=True):
    keys: dict[str, _Key]
    roles: _Roles


class _File(Struct, frozen=True):
    version: Version
    length: Length | None = None
    hashes: dict[str, str] | None = None


class _Timestamp(_Part, frozen=True):
    meta: dict[str, _File]


class _Snapshot(_Part, frozen=True):
    meta: dict[str, _File]


class Target(Struct, frozen=True):
    """A file of a release."""

    length: Length
    hashes: dict[str, str]
    custom: dict[str, Any] = {}
    """The vendor's signed custom metadata of the target."""

    @property
    def sha256(self) -> str:
        """Its SHA-256, in hexadecimal."""
        return self.hashes["sha256"]

    def check(self, data: bytes) -> None:
        """Check that `data` is this file. Raises: MetadataError."""
        if len(data) != self.length:
            raise MetadataError(f"has {len(data)} bytes; {self.length} are signed")
        if sha256(data).hexdigest() != self.sha256:
            raise MetadataError("has another SHA-256 than the signed one")


class _Targets(_Part, frozen=True):
    targets: dict[str, Target]


P = TypeVar("P", bound=_Part)


@dataclass(frozen=True, slots=True)
class _Envelope:
    signed: dict[str, Any]
    signatures: list[_Signature]
    message: bytes


class TrustedMetadata:
    """The metadata that is trusted, beginning with a root that came with the software."""

    def __init__(self, root: bytes, now_s: float) -> None:
        """Trust `root`, whose signatures are checked against its own keys. Raises: MetadataError."""
        self._now_s = now_s
        self._root = self._read_root(root, None)
        self._timestamp: _Timestamp | None = None
        self._snapshot: _Snapshot | None = None
        self._targets: _Targets | None = None
        self._known: Mapping[str, _File] = {}
        """The files that the last accepted snapshot named; a later snapshot may not name lower versions of them."""

    @property
    def root_version(self) -> int:
        """The version of the trusted root; the next version to request is one higher."""
        return self._root.version

    def update_root(self, data: bytes) -> None:
        """Trust the next root, which must be signed by the keys of both roots. Raises: MetadataError."""
        root = self._read_root(data, self._root)
        if root.version != self._root.version + 1:
            raise MetadataError(f"root: is version {root.version}; the next one is {self._root.version + 1}")
        previous, self._root = self._root.roles, root
        self._snapshot = self._targets = None
        if (previous.timestamp, previous.snapshot) != (root.roles.timestamp, root.roles.snapshot):
            # stolen keys may have signed very high versions
            self._timestamp, self._known = None, {}

    def update_timestamp(self, data: bytes, *, is_stored: bool = False) -> None:
        """Trust a timestamp. With `is_stored`, it is from before a restart and may be expired by now.

        Raises: MetadataError.
        """
        self._check_expiry(self._root)
        part = self._read(data, TIMESTAMP_BYTES_MAX, _Timestamp, self._root.roles.timestamp)
        snapshot = _named(part, part.meta, "snapshot.json")
        if self._timestamp is not None:
            _check_not_older(part, self._timestamp)
            previous = _named(part, self._timestamp.meta, "snapshot.json")
            if snapshot.version < previous.version:
                raise MetadataError(
                    f"timestamp: names snapshot {snapshot.version}; {previous.version} is already known"
                )
        if not is_stored:
            self._check_expiry(part)
        if self._snapshot is not None and self._snapshot.version != snapshot.version:
            self._snapshot = self._targets = None
        self._timestamp = part

    def update_snapshot(self, data: bytes, *, is_stored: bool = False) -> None:
        """Trust the snapshot that the timestamp names; `is_stored` as for the timestamp. Raises: MetadataError."""
        if self._timestamp is None:
            raise MetadataError("snapshot: its timestamp is needed first")
        named = _named(self._timestamp, self._timestamp.meta, "snapshot.json")
        _check_file("snapshot", data, named)
        part = self._read(data, SNAPSHOT_BYTES_MAX, _Snapshot, self._root.roles.snapshot)
        if part.version != named.version:
            raise MetadataError(f"snapshot: is version {part.version}; the timestamp names {named.version}")
        for name, previous in self._known.items():
            if name not in part.meta:
                raise MetadataError(f"snapshot: no longer contains {name}")
            if part.meta[name].version < previous.version:
                raise MetadataError(
                    f"snapshot: names {name} {part.meta[name].version}; {previous.version} is already known"
                )
        if not is_stored:
            self._check_expiry(part)
        self._snapshot, self._targets, self._known = part, None, part.meta

    def update_targets(self, data: bytes, *, is_stored: bool = False) -> None:
        """Trust the targets that the snapshot names; `is_stored` as for the timestamp. Raises: MetadataError."""
        if self._snapshot is None:
            raise MetadataError("targets: their snapshot is needed first")
        named = _named(self._snapshot, self._snapshot.meta, "targets.json")
        _check_file("targets", data, named)
        part = self._read(data, TARGETS_BYTES_MAX, _Targets, self._root.roles.targets)
        if part.version != named.version:
            raise MetadataError(f"targets: are version {part.version}; the snapshot names {named.version}")
        if wrong := [name for name, target in part.targets.items() if "sha256" not in target.hashes]:
            raise MetadataError(f"targets: {wrong[0]} has no SHA-256")
        if not is_stored:
            self._check_expiry(part)
        self._targets = part

    def targets(self) -> Mapping[str, Target]:
        """Return the files of all releases, by name. Raises: MetadataError if anything is missing or expired."""
        for name, part in (("timestamp", self._timestamp), ("snapshot", self._snapshot)):
            if part is None:
                raise MetadataError(f"{name}: is missing")
            self._check_expiry(part)
        if self._targets is None:
            raise MetadataError("targets: are missing")
        self._check_expiry(self._targets)
        return self._targets.targets

    def _read_root(self, data: bytes, previous: _Root | None) -> _Root:
        envelope = _opened("root", data, ROOT_BYTES_MAX)
        root = _converted(envelope, _Root, "root")
        for trusted in (previous, root):
            if trusted is not None:
                _verify("root", envelope, trusted.roles.root, trusted.keys)
        return root

    def _read(self, data: bytes, bytes_max: int, kind: type[P], role: _RoleKeys) -> P:
        name = kind.__name__.strip("_").lower()
        envelope = _opened(name, data, bytes_max)
        _verify(name, envelope, role, self._root.keys)
        return _converted(envelope, kind, name)

    def _check_expiry(self, part: _Part) -> None:
        if part.expires.timestamp() <= self._now_s:
            now = datetime.fromtimestamp(self._now_s, UTC)
            raise MetadataError(
                f"{part.type}: expired at {part.expires:%Y-%m-%dT%H:%MZ}, and it is {now:%Y-%m-%dT%H:%MZ}"
            )


def _opened(name: str, data: bytes, bytes_max: int) -> _Envelope:
    if len(data) > bytes_max:
        raise MetadataError(f"{name}: has {len(data)} bytes; at most {bytes_max} are accepted")
    try:
        envelope = json.loads(data, object_pairs_hook=_without_repetition)
        if not isinstance(envelope, dict) or not isinstance(envelope.get("signed"), dict):
            raise ValueError("no signed part")
        signatures = msgspec.convert(envelope.get("signatures"), list[_Signature])
        return _Envelope(envelope["signed"], signatures, canonical(envelope["signed"]))
    except (ValueError, RecursionError, CanonicalError, msgspec.ValidationError) as error:
        raise MetadataError(f"{name}: is not signed metadata: {error}") from None


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    parsed = dict(pairs)
    if len(parsed) != len(pairs):
        raise ValueError("a key is repeated")
    return parsed


def _converted(envelope: _Envelope, kind: type[P], name: str) -> P:
    try:
        part = msgspec.convert(envelope.signed, kind)
    except msgspec.ValidationError as error:
        raise MetadataError(f"{name}: {error}") from None
    if part.type != name:
        raise MetadataError(f"{name}: is signed as {part.type!r}")
    if not part.spec_version.startswith("1."):
        raise MetadataError(f"{name}: is of specification {part.spec_version}; 1 is known here")
    if part.expires.tzinfo is None:
        raise MetadataError(f"{name}: its time of expiry has no time zone")
    return part


def _verify(name: str, envelope: _Envelope, role: _RoleKeys, keys: Mapping[str, _Key]) -> None:
    """Check that enough different keys of a role have signed. Raises: MetadataError."""
    if len(envelope.signatures) > SIGNATURES_MAX:
        raise MetadataError(f"{name}: has {len(envelope.signatures)} signatures; at most {SIGNATURES_MAX}")
    if len({signature.keyid for signature in envelope.signatures}) < len(envelope.signatures):
        raise MetadataError(f"{name}: a key has signed twice")
    valid = set()
    for signature in envelope.signatures:
        key = keys.get(signature.keyid) if signature.keyid in role.keyids else None
        if key is not None and _is_valid(envelope.message, signature.sig, key):
            valid.add(key.keyval.public.strip())  # a key that is listed twice counts once
    if len(valid) < role.threshold:
        raise MetadataError(f"{name}: {len(valid)} of {role.threshold} necessary signatures are valid")


def _is_valid(message: bytes, signature: str, key: _Key) -> bool:
    if (key.keytype, key.scheme) != _ECDSA:
        return False
    try:
        public = load_pem_public_key(key.keyval.public.encode())
        if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(public.curve, ec.SECP256R1):
            return False
        public.verify(bytes.fromhex(signature), message, ec.ECDSA(SHA256()))
    except (InvalidSignature, UnsupportedAlgorithm, ValueError):
        return False
    return True


def _named(part: _Part, meta: Mapping[str, _File], name: str) -> _File:
    if name not in meta:
        raise MetadataError(f"{part.type}: does not name {name}")
    return meta[name]


def _check_file(name: str, data: bytes, named: _File) -> None:
    if named.length is not None and len(data) > named.length:
        raise MetadataError(f"{name}: has {len(data)} bytes; at most {named.length} are signed")
    digest = (named.hashes or {}).get("sha256")
    if digest is not None and sha256(data).hexdigest() != digest:
        raise MetadataError(f"{name}: has another SHA-256 than the signed one")


def _check_not_older(part: _Part, previous: _Part) -> None:
    if part.version < previous.version:
        raise MetadataError(f"{part.type}: is version {part.version}; {previous.version} is already known")
