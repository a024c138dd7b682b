"""Data releases: small files that boxes put into force without a restart.

A target `data/<release>` whose `custom.kind` is "data" is the manifest of a release. It lists all files of the
release by path and SHA-256. The files are separate targets, `data/files/<sha256>`; a file that an earlier release
also contains is neither published nor downloaded again. A release replaces the previous one completely: every box
with the release has the same files.

    profiles/<model>.toml     the profile of an instrument model (`settings.profile`)
    settings/sending.toml     when the box sends (`SendingTimes`); triggers on silence depend on it
    help/<model>/<name>       a file for all instruments of a model; the data center sends it to them by command when
                              the box has the release (`datacenter.releases.help_files`)
    help/<name>               a file that staff send to instruments by command; the box has it before the command
                              arrives
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Final, Literal, NamedTuple, TypeAlias

import msgspec
from msgspec import Meta

from settings.problems import SettingsError
from settings.profile import Profile, parse_profile
from settings.toml import loads
from settings.types import Table

MANIFEST_BYTES_MAX: Final = 64 * 1024
DATA_FILES_MAX: Final = 256
DATA_BYTES_MAX: Final = 16 * 1024 * 1024
"""Maximum size of all files of a release together."""
SETTINGS_BYTES_MAX: Final = 256 * 1024
"""Maximum size of a profile or a settings file."""
SENDING: Final = "settings/sending.toml"
_PROFILES: Final = "profiles/"
_HELP: Final = "help/"
PATHS: Final = "profiles/<model>.toml, settings/sending.toml, help/<model>/<name> and help/<name>"
"""The paths that a release may contain, for error messages."""

DataPath: TypeAlias = Annotated[
    str,
    Meta(
        pattern=r"^(profiles/[a-z][a-z0-9-]{0,31}\.toml|settings/sending\.toml"
        r"|help/([a-z][a-z0-9-]{0,31}/)?[0-9A-Za-z][0-9A-Za-z._-]{0,63})\Z"
    ),
]


class DataError(Exception):
    """A data release cannot be used; the message says why."""


class SendingTimes(Table, frozen=True):
    """Overrides of the times of `[sending]` in the box's configuration, in seconds; None: no override."""

    linger_s: Annotated[float, Meta(ge=0, le=3600)] | None = None
    heartbeat_s: Annotated[float, Meta(ge=1, le=86400)] | None = None


class DataFile(msgspec.Struct, frozen=True):
    """A file of a release; `bytes` is its size."""

    path: DataPath
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
    bytes: Annotated[int, Meta(ge=1, le=DATA_BYTES_MAX)]


class DataManifest(msgspec.Struct, frozen=True):
    """The files of a release."""

    format: Literal[1]
    files: Annotated[tuple[DataFile, ...], Meta(max_length=DATA_FILES_MAX)]

    @property
    def total_bytes(self) -> int:
        """The size of all files together."""
        return sum(file.bytes for file in self.files)


class DataContent(NamedTuple):
    """The content of a data release."""

    profiles: Mapping[str, Profile] = MappingProxyType({})
    """The profiles by model."""
    sending: SendingTimes = SendingTimes()


NO_DATA: Final = DataContent()
"""The content without a data release: the box uses the profiles and times of its package and configuration."""


def render_manifest(files: Mapping[str, bytes]) -> bytes:
    """Return the manifest of files by path. Raises: DataError if boxes would refuse it."""
    listed = tuple(
        DataFile(path, sha256(data).hexdigest(), len(data)) for path, data in sorted(files.items())
    )
    rendered = msgspec.json.encode(DataManifest(1, listed))
    parse_manifest(rendered)
    return rendered


def parse_manifest(data: bytes) -> DataManifest:
    """Read a manifest. Raises: DataError."""
    if len(data) > MANIFEST_BYTES_MAX:
        raise DataError(f"the manifest has {len(data)} bytes; at most {MANIFEST_BYTES_MAX} are accepted")
    try:
        manifest = msgspec.json.decode(data, type=DataManifest)
    except msgspec.MsgspecError as error:
        raise DataError(f"the manifest cannot be read: {error}; a release may have {PATHS}") from None
    if len({file.path for file in manifest.files}) < len(manifest.files):
        raise DataError("the manifest lists a file twice")
    if manifest.total_bytes > DATA_BYTES_MAX:
        raise DataError(f"the files have {manifest.total_bytes} bytes; at most {DATA_BYTES_MAX} are accepted")
    return manifest


def read_content(files: Iterable[tuple[str, bytes]]) -> DataContent:
    """Return the content of files, each given as path and bytes. Raises: DataError."""
    profiles, sending = {}, SendingTimes()
    try:
        for path, data in files:
            if path.startswith(_PROFILES):
                profile = _read_profile(path, data)
                profiles[profile.model] = profile
            elif path == SENDING:
                sending = loads(*_text(path, data), SendingTimes)
    except (SettingsError, RecursionError) as error:
        raise DataError(str(error)) from None
    return DataContent(profiles, sending)


def is_read(path: str) -> bool:
    """Return whether the box reads a file itself; other files are forwarded to instruments unchanged."""
    return path.startswith(_PROFILES) or path == SENDING


def help_file(path: str) -> tuple[str, str] | None:
    """Return model and name of a file for the instruments of a model; None for other paths."""
    model, _, name = path.removeprefix(_HELP).partition("/")
    return (model, name) if path.startswith(_HELP) and name else None


@lru_cache(maxsize=64)
def _read_profile(path: str, data: bytes) -> Profile:
    return parse_profile(*_text(path, data))


def _text(path: str, data: bytes) -> tuple[str, Path]:
    if len(data) > SETTINGS_BYTES_MAX:
        raise DataError(f"{path}: has {len(data)} bytes; at most {SETTINGS_BYTES_MAX} are accepted")
    try:
        return data.decode(), Path(path)
    except UnicodeDecodeError:
        raise DataError(f"{path}: is not a text file in UTF-8") from None
