"""Folders of signed releases."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from imaging.release.repository import ReleaseRepository, RoleKeyFiles
from wire.pki.signature import new_key_pair

NOW = datetime(2026, 11, 30, tzinfo=UTC)


def key_file(folder: Path, name: str) -> Path:
    """Return a file with a new private key."""
    path = folder / f"{name}.pem"
    path.write_bytes(new_key_pair()[0])
    return path


def role_keys(folder: Path) -> RoleKeyFiles:
    """Return new keys of the roles `targets` and `online`, which sign often."""
    return RoleKeyFiles(key_file(folder, "targets"), key_file(folder, "online"))


def released(
    folder: Path, names: tuple[str, ...] = ("rap-1.4.0.img",)
) -> tuple[ReleaseRepository, RoleKeyFiles]:
    """Return a repository in which files with these names are released, and its keys."""
    keys = role_keys(folder)
    repository = ReleaseRepository(folder / "releases")
    repository.create([key_file(folder, f"root{n}") for n in range(3)], keys, NOW)
    for name in names:
        (folder / name).write_bytes(name.encode() * 10)
        repository.add(folder / name, keys, NOW, {"version": name})
    return repository, keys
