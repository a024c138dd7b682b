"""The instrument profiles of a box: those of its package, and newer ones that were delivered to it.

A delivered profile is a file in the directory `[profiles] directory`, signed by the vendor, or comes with a data
release (`wire.release.data`). A profile that is not newer than the package's is ignored; a file that is unreadable
or not signed by the vendor's key is also reported, but does not prevent the start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Final

from agents.box.configuration.config import BoxConfig, Profiles
from agents.box.state import BoxState
from settings.adapted import profile_problems
from settings.problems import SettingsError
from settings.profile import Profile, load_profile, parse_profile, profile_names
from wire.messages import InstrumentReport
from wire.pki.signature import SignatureError, load_public_key, verify
from wire.profiles import AllowList
from wire.release.data import DataContent
from wire.standards.engines import engine_problem

PROFILE_BYTES_MAX: Final = 256 * 1024
_FIXED_KEYS: Final = ("speaks", "desktop_port", "desktop_service")
"""Keys of a profile that cannot change without a restart of the program."""


def profiles_in_force(
    models: Iterable[str], delivered: Profiles | None, released: Iterable[Profile] = ()
) -> tuple[dict[str, Profile], list[str]]:
    """Return the newest profile of each of these models, and a message for each delivered file that is ignored.

    A model without a profile is left out.
    """
    needed = set(models)
    profiles = {model: load_profile(model) for model in needed.intersection(profile_names())}
    ignored: list[str] = []
    files = _delivered(delivered.directory, delivered.key, ignored) if delivered else ()
    for profile in chain(files, released):
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


def allow_lists(
    config: BoxConfig, released: Iterable[Profile] = ()
) -> tuple[dict[str, AllowList], list[str]]:
    """Return the allow-list of each instrument (without a profile: one that permits no word), and messages."""
    models = config.models()
    profiles, problems = profiles_in_force(models.values(), config.profiles, released)
    problems += [
        f"{serial}: there is no profile of its model {model}; all its reports are refused"
        for serial, model in models.items()
        if model not in profiles
    ]
    unknown = {model: Profile(model=model, version=0, summary=model) for model in models.values()}
    return {serial: AllowList((unknown | profiles)[model]) for serial, model in models.items()}, problems


class TrialAllowList(AllowList):
    """An allow-list on trial: it also accepts what the previous list accepts, and records such cases."""

    def __init__(self, profile: Profile, before: AllowList) -> None:
        super().__init__(profile)
        self._before = before
        self.refused = ""
        """The refusal of a report that the previous allow-list accepts; empty if there was none."""

    def refusal(self, report: InstrumentReport) -> str:
        """See `AllowList.refusal`."""
        refusal = super().refusal(report)
        if not refusal or self._before.refusal(report):
            return refusal
        self.refused = self.refused or refusal
        return ""


class InstrumentProfiles:
    """The profiles that the instruments of a box follow, and their change while the program runs."""

    def __init__(self, config: BoxConfig) -> None:
        self._config = config
        self._record: Callable[[str, Profile, int], Awaitable[object]] | None = None
        self._recorded = BoxState()
        self.allowed, self.problems = allow_lists(config)
        """The allow-list of each instrument by serial number; why profiles are ignored."""
        self.on_change: list[Callable[[str, AllowList], object]] = []
        """Called with the serial number and the new allow-list of an instrument."""
        self._changed = asyncio.Event()

    def load(self, content: DataContent) -> None:
        """Use the profiles of a data release. Call it before instruments are served."""
        self.allowed, self.problems = allow_lists(self._config, content.profiles.values())

    async def record_changes(
        self, record: Callable[[str, Profile, int], Awaitable[object]], recorded: BoxState
    ) -> None:
        """Record the profiles that changed, before any report that follows them. Raises: SpoolError.

        `record` makes the profile of an instrument and its port durable, and is also called for later changes.
        `recorded` holds the last recorded profile of each instrument, and is updated.
        """
        self._record, self._recorded = record, recorded
        for serial, allowed in self.allowed.items():
            await self._record_if_new(serial, allowed.profile)

    async def _record_if_new(self, serial: str, profile: Profile) -> None:
        assert self._record is not None, "`record_changes` comes first"
        port = self._config.enrolled()[serial]
        if self._recorded.recorded_profile(serial) != (profile.model, profile.version, port):
            await self._record(serial, profile, port)
            self._recorded.set_recorded_profile(serial, profile.model, profile.version, port)

    def problem(self, content: DataContent) -> str:
        """Return why the profiles cannot be followed without a restart; empty if they can.

        The firewall's policy and the listening ports cannot change after the start.
        """
        lists, _ = allow_lists(self._config, content.profiles.values())
        for port in self._config.port:
            for instrument in port.instrument:
                serial = instrument.serial
                before, profile = self.allowed[serial].profile, lists[serial].profile
                if profile == before:
                    continue
                for key in _FIXED_KEYS:
                    new, old = getattr(profile, key), getattr(before, key)
                    if new != old:
                        return f"the profile of {profile.model} has {key} {new}, which was {old} at the start"
                if mismatch := next(profile_problems(profile, instrument.adapted), None):
                    return f"the profile of {profile.model} does not suit {serial}: {mismatch[1]}"
                if instrument.adapted and (problem := engine_problem(profile, instrument.adapted)):
                    return f"the profile of {profile.model} does not suit {serial}: {problem}"
        return ""

    async def use(self, content: DataContent, *, on_trial: bool) -> None:
        """Follow the profiles of a data release from the next report on. Raises: SpoolError."""
        lists, _ = allow_lists(self._config, content.profiles.values())
        for serial, allowed in lists.items():
            before = self.allowed[serial]
            is_changed = allowed.profile != before.profile
            if not is_changed and (on_trial or not isinstance(before, TrialAllowList)):
                continue
            await self._record_if_new(serial, allowed.profile)
            new = TrialAllowList(allowed.profile, before) if on_trial and is_changed else allowed
            self.allowed[serial] = new
            for changed in self.on_change:
                changed(serial, new)
        self._changed.set()
        self._changed = asyncio.Event()

    def refused_by_trial(self) -> str:
        """Return the refusal of a report that the previous profile accepts; empty if there was none."""
        trials = (allowed for allowed in self.allowed.values() if isinstance(allowed, TrialAllowList))
        return next((trial.refused for trial in trials if trial.refused), "")

    async def while_unchanged(self, serial: str, serve: Callable[[], Coroutine[None, None, None]]) -> None:
        """Serve an instrument until cancelled; when its profile changes, `serve` is cancelled and called again."""
        while True:
            profile = self.allowed[serial].profile
            serving = asyncio.ensure_future(serve())
            try:
                while self.allowed[serial].profile == profile and not serving.done():
                    changed = asyncio.ensure_future(self._changed.wait())
                    try:
                        await asyncio.wait((serving, changed), return_when=asyncio.FIRST_COMPLETED)
                    finally:
                        changed.cancel()
                if serving.done():
                    serving.result()
                    return
            finally:
                serving.cancel()
                await asyncio.gather(serving, return_exceptions=True)
