# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""Instrument profiles: the words that the reports of a model may contain, and their meaning; files in `profiles/`.

The box refuses a report with a word that is not in its instrument's profile; simulator, data center and reference
documentation read the same file. No text about a patient can be a word of a profile, and every other value in a
report is an integer.

    model = "chemistry-analyzer"
    version = 1                            # raised with each change
    summary = "clinical chemistry: 700 tests an hour"
    speaks = "agent"                       # or a standard: "hl7", "astm", "astm-serial", "poct1a", "au"
    verbs = ["help-file"]                  # the commands that it executes
    consent = []                           # the verbs that require consent of the person at the instrument
    restart_while_running = true           # whether the box may restart for an update while it runs samples
    desktop_port = 5900                    # for remote sessions, if it has one
    desktop_service = "rfb"                # the service: a VNC server, or "tcp" for any other, such as RDP
    desktop = { size = [1024, 768], masked = [[300, 80, 400, 24]] }   # its screen; areas with patient data

    [channels]                             # sensor readings; the last part of a name is its unit
    bath-temp-mc = { text = "Bath temperature", unit = "0.001 °C", resolution = 10, normal = [36900, 37100] }

    [assays]
    glu = "Glucose"

    [components]
    bath = { text = "Reaction bath", parts = ["Thermostat"] }

    [errors]
    T0100 = { component = "bath", severity = "error", text = "Bath temperature out of range", advice = "…" }

    [dialect]                              # of a standard: options that differ from its defaults
    checksum = "ignored"
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias

from msgspec import Meta

from settings.problems import Problem, Problems, SettingsError
from settings.toml import load, loads, nearest
from settings.types import Table, TcpPort

DIRECTORY: Final = Path(__file__).parent.parent / "profiles"
"""The profiles that ship with the program."""
WORDS_MAX: Final = 512
"""Maximum number of channels of a profile, and likewise of assays, components and error codes."""

Word: TypeAlias = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9-]{0,47}\Z", examples=["reaction-temp-mc"])]
"""The form of a channel, assay or component. The profile lists those that its instruments may use."""
Code: TypeAlias = Annotated[str, Meta(pattern=r"^[A-Z][0-9]{4}\Z", examples=["T0100"])]
"""The form of an error code."""
Model: TypeAlias = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9-]{0,31}\Z", examples=["chemistry-analyzer"])]
"""The name of an instrument model, and of its profile."""
Severity: TypeAlias = Literal["info", "warning", "error", "critical"]
Text: TypeAlias = Annotated[
    str, Meta(pattern=r"^[^\x00-\x1f\x7f]{1,200}\Z", examples=["Reaction bath temperature"])
]
Speaks: TypeAlias = Literal["agent", "hl7", "astm", "astm-serial", "poct1a", "au"]
"""`agent`: the vendor's agent runs on the instrument; otherwise the standard that the instrument speaks."""
TCP_PORTS: Final[dict[str, int]] = {"hl7": 2575, "astm": 4000, "poct1a": 3001}
"""The TCP port on which the box listens for each standard, unless the site sets another port."""
Verb: TypeAlias = Literal["help-file", "assay-configuration", "test-menu", "data-upload", "send-inventory"]
UNITS: Final = {
    "h": "h",
    "mc": "0.001 °C",
    "n": "",
    "ns": "nS/cm",
    "pa": "Pa",
    "pct": "%",
    "ua": "µA",
}
"""The last part of a channel's name, and the unit of its readings."""


MaskedArea: TypeAlias = Annotated[list[Annotated[int, Meta(ge=0, le=4096)]], Meta(min_length=4, max_length=4)]
"""x, y, width and height, in pixels."""


class Channel(Table, frozen=True):
    """A sensor reading: an integer in `unit`, a multiple of `resolution`.

    `normal` is [low, high]; readings outside of it cause an alert.
    """

    text: Text
    unit: Annotated[str, Meta(max_length=16)]
    resolution: Annotated[int, Meta(ge=1)] = 1
    normal: Annotated[list[int], Meta(min_length=2, max_length=2)] | None = None


class Component(Table, frozen=True):
    """A part of the instrument that staff can replace, clean or adjust, and its spare parts."""

    text: Text
    parts: list[Text] = []


class ErrorCode(Table, frozen=True):
    """The meaning of an error code for service staff."""

    component: Word
    severity: Severity
    text: Text
    advice: str = ""
    parts: list[Text] = []


class DesktopScreen(Table, frozen=True):
    """The screen of the model: its size, and the areas that show patient data, which never leave the box.

    An area is [x, y, width, height] in pixels. On a screen of another size everything is masked.
    """

    size: Annotated[list[Annotated[int, Meta(ge=1, le=4096)]], Meta(min_length=2, max_length=2)]
    masked: Annotated[list[MaskedArea], Meta(min_length=1, max_length=64)]


class Profile(Table, frozen=True):
    """The profile of one instrument model."""

    model: Model
    version: Annotated[int, Meta(ge=1, le=2**31 - 1)]
    summary: Text
    speaks: Speaks = "agent"
    verbs: list[Verb] = []
    consent: list[Verb] = []
    restart_while_running: bool = True
    """Whether the box may restart for an update while the instrument runs samples; its reports wait meanwhile."""
    desktop_port: TcpPort | None = None
    desktop_service: Literal["rfb", "tcp"] = "rfb"
    """With `tcp` the box forwards the connection without parsing it."""
    desktop: DesktopScreen | None = None
    channels: Annotated[dict[Word, Channel], Meta(max_length=WORDS_MAX)] = {}
    assays: Annotated[dict[Word, Text], Meta(max_length=WORDS_MAX)] = {}
    components: Annotated[dict[Word, Component], Meta(max_length=WORDS_MAX)] = {}
    errors: Annotated[dict[Code, ErrorCode], Meta(max_length=WORDS_MAX)] = {}
    dialect: dict[Word, str | int | bool] = {}


def read_profile(file: Path) -> Profile:
    """Read a profile. Raises: SettingsError with all problems."""
    return load(file, Profile, _check)


def parse_profile(text: str, file: Path) -> Profile:
    """Parse the text of a profile; `file` is for messages. Raises: SettingsError with all problems."""
    return loads(text, file, Profile, _check)


def profile_names() -> list[str]:
    """Return the models whose profiles ship with the program, sorted."""
    return sorted(path.stem for path in DIRECTORY.glob("*.toml"))


def profile_problem(model: str) -> str:
    """Return the error if no profile of the model ships with the program, with the nearest model; else ""."""
    names = profile_names()
    return "" if model in names else f"there is no profile of {model}; {nearest(model, names)}"


@cache
def load_profile(model: str) -> Profile:
    """Load the shipped profile of a model. Raises: SettingsError with the known models."""
    if problem := profile_problem(model):
        raise SettingsError(Path(model), Problem("", problem))
    return read_profile(DIRECTORY / f"{model}.toml")


def _check(profile: Profile, problems: Problems) -> None:
    with problems.part():
        for name, channel in profile.channels.items():
            with problems.part():
                _check_channel(name, channel, problems)
    with problems.part():
        known = ", ".join(profile.components) or "none"
        for code, error in profile.errors.items():
            with problems.part():
                if error.component not in profile.components:
                    message = f"{error.component} is not one of [components], which are {known}"
                    problems.add(("errors", code, "component"), message)
    for contradictions in (_wrong_desktop, _wrong_verbs, _wrong_consent, _wrong_dialect):
        with problems.part():
            for key, message in contradictions(profile):
                problems.add(key, message)
    with problems.part():
        if problems.file.suffix == ".toml" and problems.file.stem != profile.model:
            problems.add(
                ("model",),
                f"the file must be named {profile.model}.toml, or the model {problems.file.stem}",
            )


def _check_channel(name: str, channel: Channel, problems: Problems) -> None:
    with problems.part():
        suffix = name.rpartition("-")[2]
        if UNITS.get(suffix) != channel.unit:
            known = ", ".join(f'-{end} "{unit}"' for end, unit in UNITS.items())
            message = f'"{channel.unit}" is not the unit of the name\'s last part; the units are {known}'
            problems.add(("channels", name, "unit"), message)
    with problems.part():
        if channel.normal and channel.normal[0] >= channel.normal[1]:
            problems.add(("channels", name, "normal"), "must be [low, high], with low below high")


def _wrong_desktop(profile: Profile) -> Iterator[tuple[tuple[str, ...], str]]:
    if profile.desktop is not None:
        yield from _desktop_contradictions(profile.desktop, profile.desktop_port)
        if profile.desktop_service == "tcp":
            message = 'masks areas of the screen, which the box can only do with `desktop_service` "rfb"'
            yield ("desktop",), message


def _wrong_verbs(profile: Profile) -> Iterator[tuple[tuple[str, ...], str]]:
    if len(set(profile.verbs)) < len(profile.verbs):
        yield ("verbs",), "list each verb once"


def _wrong_consent(profile: Profile) -> Iterator[tuple[tuple[str, ...], str]]:
    if others := sorted(set(profile.consent) - set(profile.verbs)):
        yield ("consent",), f"{', '.join(others)}: only commands of `verbs` can need consent"


def _wrong_dialect(profile: Profile) -> Iterator[tuple[tuple[str, ...], str]]:
    if profile.dialect and profile.speaks == "agent":
        yield ("dialect",), "options are for instruments that speak a standard; remove it, or change `speaks`"


def _desktop_contradictions(
    desktop: DesktopScreen, port: int | None
) -> Iterator[tuple[tuple[str, ...], str]]:
    if port is None:
        yield ("desktop",), "describes the screen of a `desktop_port`, which is missing"
    screen_width, screen_height = desktop.size
    for x, y, width, height in desktop.masked:
        if not width or not height or x + width > screen_width or y + height > screen_height:
            yield (
                ("desktop", "masked"),
                f"[{x}, {y}, {width}, {height}] is not an area of a screen of {screen_width}×{screen_height} pixels; "
                "write [x, y, width, height]",
            )
