"""The files of data releases on the box's disk, and which release is in force at the start. Calls block."""

from __future__ import annotations

from collections.abc import Iterable

from agents.box.files.store import BoxFiles, FileKey
from agents.box.updates.downloads import read_verified
from agents.box.updates.memory import DataSet, MemoryStore
from hal.disk import Disk
from wire.release.data import (
    NO_DATA,
    DataContent,
    DataError,
    DataManifest,
    is_read,
    parse_manifest,
    read_content,
)


class DataFiles:
    """The files of data releases. `in_force` is the release whose files are used; None: the package's files."""

    def __init__(self, disk: Disk, files: BoxFiles) -> None:
        self._disk, self._files = disk, files
        self._manifests: dict[DataSet, DataManifest] = {}
        self._kept: tuple[DataSet, ...] = ()
        self.in_force: DataSet | None = None

    def open(self) -> tuple[DataContent, list[str]]:
        """Return the data in force at the start of the program, and a message for each release that cannot be used.

        Raises: DiskError.
        """
        memory, problems = MemoryStore(self._disk).open(), list[str]()
        self.keep(memory.data_new, *memory.data_chosen)
        for data_set in memory.data_chosen:
            try:
                content = self.content(data_set)
            except DataError as error:
                problems.append(f"data release {data_set.release} cannot be used: {error}")
                continue
            self.in_force = data_set
            return content, problems
        return NO_DATA, problems

    def keep(self, *sets: DataSet | None) -> None:
        """Keep the files of these releases, and of no others, from now on."""
        self._kept = tuple(data_set for data_set in sets if data_set is not None)

    def stems(self) -> set[str]:
        """Return the stems of the files that are needed."""
        return {key.stem for data_set in self._kept for key in self._keys(data_set)}

    def sweep(self, needed: set[str]) -> None:
        """Remove files of releases that are no longer needed, except those `needed` by others.

        Raises: DiskError.
        """
        for data_set in [data_set for data_set in self._manifests if data_set not in self._kept]:
            keys = list(self._keys(data_set))
            del self._manifests[data_set]
            for key in keys:
                if key.stem not in needed and (file := self._files.find(key)) is not None:
                    self._files.remove(file)

    def manifest(self, data_set: DataSet) -> DataManifest | None:
        """Return the manifest of a release; None if it is not on the disk.

        Raises: DataError if it cannot be read, DiskError UNAVAILABLE.
        """
        if (data := read_verified(self._files, manifest_key(data_set))) is None:
            self._manifests.pop(data_set, None)
            return None
        manifest = self._manifests[data_set] = parse_manifest(data)
        return manifest

    def keys(self, data_set: DataSet) -> list[FileKey]:
        """Return the keys of a release's files, except its manifest; none if that is not on the disk.

        Raises: as `manifest`.
        """
        manifest = self.manifest(data_set)
        return [] if manifest is None else list(self._files_of(manifest))

    def content(self, data_set: DataSet) -> DataContent:
        """Return the content of a release, after comparing every file with its hash.

        Raises: DataError, also for a missing file; DiskError UNAVAILABLE.
        """
        manifest = self.manifest(data_set)
        if manifest is None:
            raise DataError("its manifest is missing or damaged on the disk")
        read = []
        for file in manifest.files:
            if (data := read_verified(self._files, FileKey(file.sha256, file.bytes))) is None:
                raise DataError(f"{file.path} is missing or damaged on the disk")
            if is_read(file.path):
                read.append((file.path, data))
        return read_content(read)

    def _keys(self, data_set: DataSet) -> Iterable[FileKey]:
        yield manifest_key(data_set)
        if (manifest := self._manifests.get(data_set)) is not None:
            yield from self._files_of(manifest)

    def _files_of(self, manifest: DataManifest) -> Iterable[FileKey]:
        return (FileKey(file.sha256, file.bytes) for file in manifest.files)


def manifest_key(data_set: DataSet) -> FileKey:
    """Return the key of the file of a release's manifest."""
    return FileKey(data_set.sha256, data_set.size)
