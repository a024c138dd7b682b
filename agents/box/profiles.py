"""The instrument profiles of a box: those of its package, and newer ones that were delivered to it.

A delivered profile is a file in the directory `[profiles] directory`, signed by the vendor. A file that is not newer
than the package's profile is ignored; one that is unreadable or not signed by the vendor's key is also reported, but
does not prevent the start.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from agents.box.config import BoxConfig, Profiles
from settings.problems import SettingsError
from settings.profile import Profile, load_profile, parse_profile, profile_names
from wire.pki.signature import SignatureError, load_public_key, verify
from wire.profiles import AllowList

PROFILE_BYTES_MAX: Final = 256 * 1024


def profiles_in_force(
    models: Iterable[str], delivered: Profiles | None
) -> tuple[dict[str, Profile], list[str]]:
    """Return the newest profile of each of these models, and a message for each delivered file that is ignored.

    A model without a profile is left out.
    """
    needed = set(models)
    profiles = {model: load_profile(model) for model in needed.intersection(profile_names())}
    ignored: list[str] = []
    for profile in _delivered(delivered.directory, delivered.key, ignored) if delivered else ():
        shipped = profiles.get(profile.model)
        if profile.model in needed and (shipped is None or profile.version > shipped.version):
            profiles[profile.model] = profile
    return profiles, ignored


def _delivered(directory: Path, key: Path, ignored: list[str]) -> Iterator[Profile]:
    try:
        public = load_public_key(key)
        files = sorted(directory.glob("*.toml"))
    except (SignatureError, OSError) as error:
        ignored.append(str(error))
        return
    for file in files:
        try:
            yield _read(file, verify(_content(file), public))
        except (SignatureError, SettingsError) as error:
            ignored.append(f"{file.name}: {error}" if isinstance(error, SignatureError) else str(error))
        except OSError as error:
            ignored.append(f"{file.name}: cannot be read: {error.strerror}")


def _content(file: Path) -> bytes:
    with file.open("rb") as opened:
        content = opened.read(PROFILE_BYTES_MAX + 1)
    if len(content) > PROFILE_BYTES_MAX:
        raise SignatureError(f"is larger than {PROFILE_BYTES_MAX} bytes")
    return content


def _read(file: Path, text: bytes) -> Profile:
    try:
        return parse_profile(text.decode(), file)
    except UnicodeDecodeError:
        raise SignatureError("is not UTF-8") from None


def allow_lists(config: BoxConfig) -> tuple[dict[str, AllowList], list[str]]:
    """Return the allow-list of each instrument, and messages; an instrument without a profile may use no word."""
    models = config.models()
    profiles, problems = profiles_in_force(models.values(), config.profiles)
    problems += [
        f"{serial}: there is no profile of its model {model}; all its reports are refused"
        for serial, model in models.items()
        if model not in profiles
    ]
    unknown = {model: Profile(model=model, version=0, summary=model) for model in models.values()}
    return {serial: AllowList((unknown | profiles)[model]) for serial, model in models.items()}, problems
