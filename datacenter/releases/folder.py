"""The folder of signed releases (`rap image release`) as the data center serves it.

The metadata is checked as a box checks it, beginning with the first root of the folder, and kept in memory, so that
the served content is always complete and of one version. A folder that does not pass the check, because files are
being copied or its timestamp has expired, is not used: the previous content continues to be served.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple, cast, get_args

import msgspec

from wire.release.messages import Kind, MetadataVersions
from wire.release.metadata import MetadataError, Target, TrustedMetadata

_KINDS: Final = get_args(Kind)
_BLOCK_BYTES: Final = 1024 * 1024


class Release(NamedTuple):
    """A release: its number and name, whether it replaces slot or data, and the names of its targets."""

    number: int
    name: str
    kind: Kind
    targets: tuple[str, ...]


@dataclass(frozen=True)
class ReleaseSet:
    """The releases of one version of the metadata."""

    metadata: dict[str, bytes]
    """The metadata files by name."""
    versions: MetadataVersions
    targets: dict[str, Target]
    """All targets by name."""
    releases: dict[int, Release]
    """The releases by number."""
    names: dict[str, str] = field(default_factory=dict)
    """The names of the targets by SHA-256."""


EMPTY: Final = ReleaseSet({}, MetadataVersions(), {}, {})


class ReleaseFolder:
    """The folder; `now_s` of its calls is the data center's clock. It may be used by several threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._set, self._version = EMPTY, b""
        self._verified: set[tuple[str, str]] = set()

    @property
    def current(self) -> ReleaseSet:
        """The releases that are served."""
        return self._set

    def refresh(self, now_s: float) -> bool:
        """Serve the folder's current content; return whether it changed. Raises: MetadataError, OSError."""
        with self._lock:
            version = (self._folder / "metadata" / "timestamp.json").read_bytes()
            if version == self._version:
                return False
            releases = self._read(now_s)
            self._set, self._version = releases, version
            return True

    def read_metadata(self, file: str, offset: int, length: int) -> bytes | None:
        """Return a range of a metadata file; None if there is no such file."""
        data = self._set.metadata.get(file)
        return None if data is None else data[offset : offset + length]

    def read_target(self, sha256: str, offset: int, length: int) -> bytes | None:
        """Return a range of a target; None if no target has this hash. Raises: OSError."""
        current = self._set
        name = current.names.get(sha256)
        if name is None:
            return None
        wanted = max(0, min(length, current.targets[name].length - offset))
        with (self._folder / "targets" / name).open("rb") as file:
            return os.pread(file.fileno(), wanted, offset)

    def _read(self, now_s: float) -> ReleaseSet:
        folder = self._folder / "metadata"
        metadata = {"1.root.json": (folder / "1.root.json").read_bytes()}
        trusted = TrustedMetadata(metadata["1.root.json"], now_s)
        while (newer := folder / f"{trusted.root_version + 1}.root.json").exists():
            metadata[newer.name] = newer.read_bytes()
            trusted.update_root(metadata[newer.name])
        for name, update in (
            ("timestamp", trusted.update_timestamp),
            ("snapshot", trusted.update_snapshot),
            ("targets", trusted.update_targets),
        ):
            metadata[f"{name}.json"] = (folder / f"{name}.json").read_bytes()
            update(metadata[f"{name}.json"])
        targets = dict(trusted.targets())
        for name, target in targets.items():
            self._check(name, target)
        versions = MetadataVersions(
            trusted.root_version, *(_version(metadata[f"{name}.json"]) for name in _BELOW_ROOT)
        )
        names = {target.sha256: name for name, target in targets.items()}
        return ReleaseSet(metadata, versions, targets, _releases(targets), names)

    def _check(self, name: str, target: Target) -> None:
        """Read a target for the first time, and compare it with its hash."""
        if (name, target.sha256) in self._verified:
            return
        if name.startswith("/") or ".." in name.split("/"):
            raise MetadataError(f"{name}: is not a path inside the folder; give the target another name")
        digest, size = hashlib.sha256(), 0
        with (self._folder / "targets" / name).open("rb") as file:
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
                size += len(block)
        if (digest.hexdigest(), size) != (target.sha256, target.length):
            raise MetadataError(f"{name}: the file in the folder is not the signed one; copy it again")
        self._verified.add((name, target.sha256))


_BELOW_ROOT: Final = ("timestamp", "snapshot", "targets")


def _version(metadata: bytes) -> int:
    """Return the version of metadata that has already been checked."""
    return int(msgspec.json.decode(metadata)["signed"]["version"])


def _releases(targets: dict[str, Target]) -> dict[int, Release]:
    """Return the releases by number. Targets without a number, such as papers, belong to none."""
    of_number = defaultdict(list)
    for name, target in targets.items():
        number = target.custom.get("number")
        if isinstance(number, int) and not isinstance(number, bool) and number > 0:
            of_number[number].append(name)
    releases = {}
    for number, names in of_number.items():
        customs = [targets[name].custom for name in sorted(names)]
        kinds = {str(custom.get("kind", "system")) for custom in customs}
        labels = {str(custom.get("release", number)) for custom in customs}
        if len(kinds) > 1 or len(labels) > 1 or not kinds <= set(_KINDS):
            raise MetadataError(
                f"release {number}: its targets have the names {', '.join(sorted(labels))} and the kinds"
                f" {', '.join(sorted(kinds))}; give all the same, and a kind of {', '.join(_KINDS)}"
            )
        releases[number] = Release(number, labels.pop(), cast(Kind, kinds.pop()), tuple(sorted(names)))
    return releases
