"""Reads a folder of releases in the same way as a box that has downloaded it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from wire.release.metadata import MetadataError, Target, TrustedMetadata


def read_releases(folder: Path, root: bytes, now_s: float) -> Mapping[str, Target]:
    """Return the released files by name, after checking them and all metadata. Raises: MetadataError, OSError."""
    trusted = TrustedMetadata(root, now_s)
    metadata = folder / "metadata"
    while (newer := metadata / f"{trusted.root_version + 1}.root.json").exists():
        trusted.update_root(newer.read_bytes())
    trusted.update_timestamp((metadata / "timestamp.json").read_bytes())
    trusted.update_snapshot((metadata / "snapshot.json").read_bytes())
    trusted.update_targets((metadata / "targets.json").read_bytes())
    targets = trusted.targets()
    for name, target in targets.items():
        try:
            target.check((folder / "targets" / name).read_bytes())
        except MetadataError as error:
            raise MetadataError(f"{name}: {error}") from None
    return targets
