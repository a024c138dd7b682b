"""Publishes data releases: small files that boxes apply without a restart (`wire.release.data`)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from imaging.release.repository import (
    NewRelease,
    ReleaseError,
    ReleaseRepository,
    RoleKeyFiles,
    check_release,
)
from settings.adapted import AdaptedPort
from settings.problems import SettingsError
from settings.profile import DIRECTORY, Profile, load_profile
from wire.release.data import PATHS, DataError, help_file, parse_manifest, read_content, render_manifest
from wire.standards.engines import engine_problem


def release_data(
    repository: ReleaseRepository, folder: Path, release: NewRelease, keys: RoleKeyFiles, now: datetime
) -> list[str]:
    """Publish all files of a folder after the checks that boxes make. Return the names of the new targets.

    Raises: ReleaseError, SignatureError, OSError.
    """
    check_release(release, repository.released())
    files = {
        path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()
    }
    if not files:
        raise ReleaseError(f"{folder} has no files; a release may have {PATHS}")
    content = {name: path.read_bytes() for name, path in files.items()}
    try:
        manifest = render_manifest(content)
        profiles = read_content(content.items()).profiles
    except DataError as error:
        raise ReleaseError(f"{folder}: {error}") from None
    for profile in profiles.values():
        if profile.speaks not in ("agent", "au") and (problem := engine_problem(profile, AdaptedPort())):
            raise ReleaseError(f"{folder}/profiles/{profile.model}.toml: {problem}")
    for path in content:
        if (target := help_file(path)) and (problem := _help_problem(target[0], profiles)):
            raise ReleaseError(f"{folder}/{path}: {problem}")
    return add_data(repository, files, manifest, release, keys, now)


def _help_problem(model: str, profiles: Mapping[str, Profile]) -> str:
    """Return why instruments of a model cannot get a help file, with the correction; "" if they can."""
    try:
        profile = profiles.get(model) or load_profile(model)
    except SettingsError:
        known = ", ".join(sorted({path.stem for path in DIRECTORY.glob("*.toml")} | profiles.keys()))
        return f"there is no model {model}; give one of {known}, or put the file into help/"
    return "" if "help-file" in profile.verbs else f"instruments of model {model} take no help files (verbs)"


def add_data(
    repository: ReleaseRepository,
    files: Mapping[str, Path],
    manifest: bytes,
    release: NewRelease,
    keys: RoleKeyFiles,
    now: datetime,
) -> list[str]:
    """Publish checked files, given by their paths in the manifest. Return the names of the new targets.

    Raises: ReleaseError, SignatureError, OSError.
    """
    released, listed = repository.released(), parse_manifest(manifest)
    custom = {
        "release": release.name,
        "number": release.number,
        "floor": release.floor,
        "kind": "data",
        "bytes": listed.total_bytes,
    }
    with TemporaryDirectory(dir=repository.folder) as temporary:
        (copy := Path(temporary, "manifest")).write_bytes(manifest)
        added: dict[str, tuple[Path, dict[str, Any]]] = {f"data/{release.name}": (copy, custom)}
        for file in listed.files:
            if (name := f"data/files/{file.sha256}") not in released:
                added[name] = files[file.path], {"path": file.path}
        repository.add_all(added, keys, now)
    return list(added)
