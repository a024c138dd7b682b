"""A folder of releases, signed with The Update Framework's reference implementation.

    metadata/1.root.json, 2.root.json, …    signed by two of three keys, which are kept offline
    metadata/targets.json, snapshot.json    version and hash of everything below
    metadata/timestamp.json                 signed daily by the data center, so that boxes detect withheld releases
    targets/                                the files of the releases

Boxes check the metadata with `wire.release.metadata`.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp

from wire.pki.signature import load_private_key

ROOT_THRESHOLD: Final = 2
ROOT_KEYS_MIN: Final = 3
LIFETIMES: Final = {
    "root": timedelta(days=5 * 365),
    "targets": timedelta(days=3 * 365),
    "snapshot": timedelta(days=3 * 365),
    "timestamp": timedelta(days=30),
}
"""How long metadata of each role is valid: a box that was off for years can still follow the chain of roots."""
_NAME: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z._+~-]{0,63}")
_NUMBER_MAX: Final = 2**31


class ReleaseError(Exception):
    """The releases cannot be changed as requested; the message states why."""


@dataclass(frozen=True)
class RoleKeyFiles:
    """The private keys of the roles that sign often: PEM, curve P-256."""

    targets: Path
    online: Path
    """Signs snapshots and timestamps."""


@dataclass(frozen=True)
class NewRelease:
    """A release: its name, its number, which is higher than all earlier ones, and `floor`.

    `floor` is the lowest number that a box with this release accepts.
    """

    name: str
    number: int
    floor: int


def check_release(release: NewRelease, released: dict[str, dict[str, Any]]) -> None:
    """Check that the release can follow the released ones. Raises: ReleaseError."""
    if not _NAME.fullmatch(release.name):
        raise ReleaseError(
            f"{release.name!r} is not a valid release name; use up to 64 letters, digits and . _ + ~ - such as 1.4.0"
        )
    if not 0 <= release.floor <= release.number <= _NUMBER_MAX:
        raise ReleaseError(
            f"the floor {release.floor} must be between 0 and the number {release.number} of the release"
        )
    highest = max((custom.get("number", 0) for custom in released.values()), default=0)
    if release.number <= highest:
        raise ReleaseError(f"the number {release.number} is already used; the next one is {highest + 1}")


class ReleaseRepository:
    """The folder of releases."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.metadata = folder / "metadata"
        self.targets = folder / "targets"

    def create(self, roots: Sequence[Path], keys: RoleKeyFiles, now: datetime) -> None:
        """Create the folder without releases. Raises: ReleaseError, SignatureError, OSError."""
        if self.metadata.exists():
            raise ReleaseError(f"{self.metadata} already exists; add releases to it")
        signers = _signers(roots)
        if len(signers) < ROOT_KEYS_MIN:
            raise ReleaseError(
                f"{len(signers)} different root keys; give {ROOT_KEYS_MIN}, of which any {ROOT_THRESHOLD} sign"
            )
        root = Root(expires=_expiry("root", now), consistent_snapshot=False)
        for signer in signers:
            root.add_key(signer.public_key, "root")
        root.roles["root"].threshold = ROOT_THRESHOLD
        root.add_key(_signer(keys.targets).public_key, "targets")
        for role in ("snapshot", "timestamp"):
            root.add_key(_signer(keys.online).public_key, role)
        self.metadata.mkdir(parents=True)
        self.targets.mkdir(exist_ok=True)
        _write(self.metadata / "1.root.json", root, signers)
        _write(
            self.metadata / "targets.json", Targets(expires=_expiry("targets", now)), [_signer(keys.targets)]
        )
        self._sign_online(keys, now, first=True)

    def add(self, file: Path, keys: RoleKeyFiles, now: datetime, custom: dict[str, Any]) -> None:
        """Add a file, described by `custom`. Raises: ReleaseError, SignatureError, OSError."""
        self.add_all({file.name: (file, custom)}, keys, now)

    def add_all(
        self, files: Mapping[str, tuple[Path, dict[str, Any]]], keys: RoleKeyFiles, now: datetime
    ) -> None:
        """Add files under these names, each described by its `custom`.

        Raises: ReleaseError, SignatureError, OSError.
        """
        targets = self._load("targets", Targets)
        for name, (file, custom) in files.items():
            if name in targets.targets:
                raise ReleaseError(f"{name} is already released; a release never changes: give it a new name")
            target = TargetFile.from_file(name, str(file), ["sha256"])
            target.unrecognized_fields["custom"] = custom
            targets.targets[name] = target
        for name, (file, _) in files.items():
            published = self.targets / name
            published.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, published)
        self._sign_targets(targets, keys, now)

    def released(self) -> dict[str, dict[str, Any]]:
        """Return the `custom` of each released file, by its name. Raises: ReleaseError, OSError."""
        targets = self._load("targets", Targets).targets
        return {name: target.unrecognized_fields.get("custom", {}) for name, target in targets.items()}

    def withdraw(self, name: str, keys: RoleKeyFiles, now: datetime) -> None:
        """Remove a file from the releases. Raises: ReleaseError, SignatureError, OSError."""
        targets = self._load("targets", Targets)
        if targets.targets.pop(name, None) is None:
            known = ", ".join(sorted(targets.targets)) or "none"
            raise ReleaseError(f"{name} is not released; the releases are: {known}")
        self._sign_targets(targets, keys, now)

    def renew(self, online: Path, now: datetime) -> None:
        """Sign a new timestamp for the current releases. Raises: ReleaseError, SignatureError, OSError."""
        timestamp = self._load("timestamp", Timestamp)
        timestamp.version += 1
        timestamp.expires = _expiry("timestamp", now)
        _write(self.metadata / "timestamp.json", timestamp, [_signer(online)])

    def _sign_targets(self, targets: Targets, keys: RoleKeyFiles, now: datetime) -> None:
        targets.version += 1
        targets.expires = _expiry("targets", now)
        _write(self.metadata / "targets.json", targets, [_signer(keys.targets)])
        self._sign_online(keys, now)

    def _sign_online(self, keys: RoleKeyFiles, now: datetime, *, first: bool = False) -> None:
        online = [_signer(keys.online)]
        snapshot = Snapshot() if first else self._load("snapshot", Snapshot)
        timestamp = Timestamp() if first else self._load("timestamp", Timestamp)
        for part in () if first else (snapshot, timestamp):
            part.version += 1
        targets = self._load("targets", Targets)
        snapshot.expires, timestamp.expires = _expiry("snapshot", now), _expiry("timestamp", now)
        snapshot.meta["targets.json"] = self._file("targets", targets.version)
        _write(self.metadata / "snapshot.json", snapshot, online)
        timestamp.snapshot_meta = self._file("snapshot", snapshot.version)
        _write(self.metadata / "timestamp.json", timestamp, online)

    def _file(self, role: str, version: int) -> MetaFile:
        return MetaFile.from_data(version, (self.metadata / f"{role}.json").read_bytes(), ["sha256"])

    def _load(self, role: str, kind: type[Any]) -> Any:
        path = self.metadata / f"{role}.json"
        try:
            signed = Metadata.from_bytes(path.read_bytes()).signed
        except FileNotFoundError:
            raise ReleaseError(
                f"{self.folder} has no releases; create them with `rap image release create`"
            ) from None
        except RepositoryError as error:
            raise ReleaseError(f"{path}: {error}") from None
        assert isinstance(signed, kind)
        return signed


def _write(path: Path, signed: Any, signers: Sequence[CryptoSigner]) -> None:
    metadata = Metadata(signed)
    for signer in signers:
        metadata.sign(signer, append=True)
    part = path.with_suffix(".part")
    part.write_bytes(metadata.to_bytes())
    part.replace(path)


def _signer(key: Path) -> CryptoSigner:
    return CryptoSigner(load_private_key(key))


def _signers(keys: Sequence[Path]) -> list[CryptoSigner]:
    """Return a signer for each different key."""
    by_id = {signer.public_key.keyid: signer for signer in map(_signer, keys)}
    return list(by_id.values())


def _expiry(role: str, now: datetime) -> datetime:
    return (now + LIFETIMES[role]).astimezone(UTC).replace(microsecond=0)
