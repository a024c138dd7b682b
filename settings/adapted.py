# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""A site's settings for an instrument that speaks its own standard: the meaning of its codes at this laboratory.

timezone = "Europe/Berlin"             # of times without an offset; or "+01:00"
tests = { "798" = "glu" }              # test codes and the profile's assays
ignore = ["00008"]                     # services or test codes that are not reported
alarms = { "P-CLOT" = { code = "P0201", component = "pipettor", severity = "error" } }

role = "pass-through"                  # relayed unchanged to the laboratory's host, and read on the way
host = { address = "192.0.2.20", tcp_port = 5000 }

[controls.NORM2]                       # a control by its id; mean and standard deviation as decimal strings
level = 2
glu = ["5.00", "0.08"]

Over TCP the instrument connects to the box, never the box to the instrument.

The box answers the instrument as its host (`role = "receiver"`), or observes its connection to the laboratory's host.
A pass-through relays between the instrument and the host: from the box's TCP port to `host`, or from the RS-232 line
`serial` to `host_serial`. A listener is connected by a Y-cable or tap to an existing RS-232 line between the two, and
only receives: the instrument's data on `serial`, and the host's data on `host_serial`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta, timezone, tzinfo
from decimal import Decimal
from functools import cache
from typing import Annotated, Any, Final, Literal, TypeAlias

from msgspec import Meta

from settings.board import Board, PortNumber
from settings.form import Form
from settings.profile import TCP_PORTS, Code, Profile, Severity, Word
from settings.toml import nearest
from settings.types import Address, Table, TcpPort

_DECIMAL: Final = re.compile(r"[+-]?[0-9]{1,12}(\.[0-9]{1,12})?\Z")
_OFFSET: Final = re.compile(r"([+-])([01][0-9]):([0-5][0-9])\Z")

InstrumentText: TypeAlias = Annotated[str, Meta(pattern=r"^[^\x00-\x1f\x7f]{1,64}\Z", examples=["798"])]
"""A code as an instrument sends it, after decoding and without surrounding blanks."""


@dataclass(frozen=True, slots=True)
class ControlTarget:
    """Mean and standard deviation of a control for one assay."""

    mean: Decimal
    sd: Decimal


@dataclass(frozen=True, slots=True)
class Control:
    """A control material: its level, and its target values by assay."""

    level: int
    targets: Mapping[str, ControlTarget]


@dataclass(frozen=True, slots=True)
class ControlForm(Form):
    """The table of a control: `level`, and for each assay `["mean", "standard deviation"]`."""

    @property
    def rule(self) -> str:
        """The allowed values, in words."""
        return 'a table like { level = 2, glu = ["5.00", "0.08"] }'

    def read(self, given: object) -> Control:
        """Convert the table. Raises: ValueError with all problems."""
        if not isinstance(given, dict):
            raise ValueError(f"must be {self.rule}")
        problems, targets = [], {}
        level = given.get("level")
        if type(level) is not int or not 1 <= level <= 3:
            problems.append("`level` must be 1, 2 or 3")
        for assay, values in given.items():
            if assay == "level":
                continue
            try:
                targets[assay] = _target(values)
            except ValueError as error:
                problems.append(f"`{assay}` {error}")
        if problems:
            raise ValueError("; ".join(problems))
        return Control(given["level"], targets)

    def write(self, value: Any) -> object:
        """Convert back to the table."""
        texts = {assay: [str(target.mean), str(target.sd)] for assay, target in value.targets.items()}
        return {"level": value.level, **texts}


def _target(values: object) -> ControlTarget:
    rule = 'must be ["mean", "standard deviation"] as decimal strings, like ["5.00", "0.08"]'
    if not (isinstance(values, list) and len(values) == 2):
        raise ValueError(rule)
    for value in values:
        if not (isinstance(value, str) and _DECIMAL.match(value)):
            raise ValueError(rule)
    mean, sd = map(Decimal, values)
    if sd <= 0:
        raise ValueError(f"has the standard deviation {sd}; it must be above 0")
    return ControlTarget(mean, sd)


@dataclass(frozen=True, slots=True)
class ZoneForm(Form):
    """A time zone: an offset like "+01:00", or a name of the time-zone database."""

    @property
    def rule(self) -> str:
        """The allowed values, in words."""
        return 'a time zone, like "Europe/Berlin" or "+01:00"'

    def read(self, given: object) -> str:
        """Return the value unchanged. Raises: ValueError."""
        if not isinstance(given, str):
            raise ValueError(f"must be {self.rule}")
        zone_of(given)
        return given


@cache
def zone_of(text: str) -> tzinfo:
    """Parse an offset or the name of a time zone. Raises: ValueError."""
    if match := _OFFSET.match(text):
        sign, hours, minutes = match.groups()
        offset = timedelta(hours=int(hours), minutes=int(minutes))
        return timezone(-offset if sign == "-" else offset)
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError  # seldom needed at a box's start

    try:
        return ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"is not a time zone; {ZoneForm().rule}") from None


class AlarmMapping(Table, frozen=True):
    """The error code, component and severity in the profile for an alarm of the instrument."""

    code: Code
    component: Word
    severity: Severity


class Columns(Table, frozen=True):
    """Beckman AU: column ranges [first, end) of a record's fields, from 0, and the widths of a result's fields."""

    type: list[int]
    analyzer: list[int]
    rack: list[int]
    cup: list[int]
    kind: list[int]
    number: list[int]
    sample: list[int]
    results_from: Annotated[int, Meta(ge=0)]
    test: Annotated[int, Meta(ge=1, le=8)]
    value: Annotated[int, Meta(ge=1, le=16)]
    flag: Annotated[int, Meta(ge=0, le=8)]


class SerialLineSettings(Table, frozen=True):
    """A serial port of the box by its number on the board, and the line settings, by default those of LIS1-A."""

    port: PortNumber
    baud: Annotated[int, Meta(ge=50, le=4_000_000)] = 9600
    data_bits: Literal[7, 8] = 8
    parity: Literal["none", "even", "odd"] = "none"
    stop_bits: Literal[1, 2] = 1
    flow_control: Literal["none", "rts-cts", "xon-xoff"] = "none"


class LaboratoryHost(Table, frozen=True):
    """The address at which the laboratory's host (LIS) listens. Names are not resolved: the firewall allows only this
    address."""

    address: Address
    tcp_port: TcpPort


class AdaptedPort(Table, frozen=True):
    """The site's settings for one instrument that speaks its own standard."""

    timezone: Annotated[str, ZoneForm()] = "UTC"
    """The zone of times without an offset."""
    role: Literal["receiver", "listener", "pass-through"] = "receiver"
    """Whether the box answers the instrument, listens to its connection with the laboratory's host, or relays it."""
    host: LaboratoryHost | None = None
    """Pass-through over TCP: the laboratory's host."""
    tests: dict[InstrumentText, Word] = {}
    """Test codes and their assays."""
    ignore: list[InstrumentText] = []
    """Services (OBR-4) or test codes whose results are neither reported nor counted."""
    controls: dict[InstrumentText, Annotated[Control, ControlForm()]] = {}
    """Controls by the id that the instrument sends."""
    alarms: dict[InstrumentText, AlarmMapping] = {}
    """Alarms by the code that the instrument sends, or by FIELD:VALUE, as in `INV-2:NE`."""
    tcp_port: TcpPort | None = None
    """The TCP port on which the box listens for the instrument; None: the usual port of its standard."""
    serial: SerialLineSettings | None = None
    """The RS-232 line, for instruments without Ethernet."""
    host_serial: SerialLineSettings | None = None
    """RS-232: the line to the laboratory's host (pass-through), or the tap on the host's transmit line (listener)."""
    time: Literal["message", "reception"] = "message"
    """Whether reports have the time stated in the message or the time of its reception."""
    columns: Columns | None = None
    dialect: dict[Word, str | int | bool] = {}
    """Options of the protocol that differ from those of the profile."""


def listening_port(profile: Profile, site: AdaptedPort) -> int | None:
    """Return the TCP port for an instrument that speaks its own standard; None if it has a serial line."""
    if site.serial:
        return None
    return TCP_PORTS[profile.speaks] if site.tcp_port is None else site.tcp_port


def adapted_problems(profile: Profile, site: AdaptedPort | None, board: Board) -> Iterator[tuple[str, str]]:
    """Yield (key, message) for each contradiction between a site's settings, the profile and the board.

    The key is relative to `adapted`; "" is the table itself.
    """
    yield from profile_problems(profile, site)
    if site and not _unsuitable(profile, site):
        for key, line in (("serial.port", site.serial), ("host_serial.port", site.host_serial)):
            if line and line.port not in board.serial_ports:
                known = ", ".join(map(str, board.serial_ports)) or "none"
                yield key, f"{board.name} has no serial port {line.port}; it has {known}"


def profile_problems(profile: Profile, site: AdaptedPort | None) -> Iterator[tuple[str, str]]:
    """Like `adapted_problems`, but without the board."""
    if problem := _unsuitable(profile, site):
        yield "", problem
    elif site:
        yield from _unknown_words(profile, site)
        yield from _role_problems(profile, site)


def serial_ports_of(site: AdaptedPort | None) -> list[int]:
    """Return the serial ports of the board that an instrument uses."""
    return [line.port for line in (site.serial, site.host_serial) if line] if site else []


def shared_serial_ports(sites: Iterable[AdaptedPort | None]) -> Iterator[tuple[int, str]]:
    """Yield (index in `sites`, message) for each instrument with a serial port that another one uses."""
    used: set[int] = set()
    for index, site in enumerate(sites):
        ports = serial_ports_of(site)
        if shared := used.intersection(ports):
            yield index, f"serial port {min(shared)} is used by another instrument; each needs its own"
        used.update(ports)


def _role_problems(profile: Profile, site: AdaptedPort) -> Iterator[tuple[str, str]]:
    """Yield (key, message) for lines that do not suit the role."""
    serial, host_serial = site.serial, site.host_serial
    if site.role != "pass-through" and site.host:
        yield (
            "host",
            'only a pass-through relays to the laboratory\'s host; remove it, or add role = "pass-through".'
            " The box does not connect to instruments: set the instrument's interface to client",
        )
    if site.role == "receiver" and host_serial:
        yield "host_serial", "a receiver is the host itself; remove it, or add the `role`"
    elif serial and host_serial and serial.port == host_serial.port:
        yield (
            "host_serial.port",
            f"is the instrument's serial port {serial.port} too; each line needs its own",
        )
    if site.role == "listener":
        yield from _listener_problems(profile, site)
    elif site.role == "pass-through":
        if serial and site.host:
            yield "host", "the instrument has an RS-232 line; give the line to the host as `host_serial`"
        elif serial and not host_serial:
            yield "role", "a pass-through of an RS-232 line needs the line to the host; add `host_serial`"
        elif not serial and not site.host:
            yield (
                "role",
                "a pass-through needs the laboratory's host;"
                ' add host = { address = "192.0.2.20", tcp_port = 5000 }',
            )
        if not serial and host_serial:
            yield "host_serial", "the instrument is connected over TCP; give the host as `host`"


def _listener_problems(profile: Profile, site: AdaptedPort) -> Iterator[tuple[str, str]]:
    if site.serial is None:
        yield (
            "role",
            "a listener receives from an RS-232 line, by a Y-cable: add `serial`;"
            ' a TCP connection cannot be observed by a listener: use role = "pass-through" with the `host`',
        )
    elif profile.speaks in ("hl7", "poct1a"):
        yield (
            "role",
            f"a listener is for ASTM and AU; an instrument that speaks {profile.speaks} is connected over TCP:"
            ' use role = "pass-through" with the `host`',
        )


def _unsuitable(profile: Profile, site: AdaptedPort | None) -> str:
    """Return why a site's settings do not suit the standard that the model speaks; empty if they do."""
    if profile.speaks == "agent":
        return f"{profile.model} has the vendor's agent; remove `adapted`" if site else ""
    if site is None:
        return (
            f"is missing: {profile.model} speaks {profile.speaks}; its test codes and controls belong there"
        )
    if profile.speaks in ("astm-serial", "au") and site.serial is None:
        return f"{profile.model} has an RS-232 line; add `serial` with the port of the board"
    if profile.speaks == "au" and site.columns is None:
        return f"{profile.model} sends fixed columns; add `columns`"
    return ""


def _unknown_words(profile: Profile, site: AdaptedPort) -> Iterator[tuple[str, str]]:
    """Yield (key, message) for each assay, code and component that is not in the profile."""
    assays = list(profile.assays)
    for code, assay in site.tests.items():
        if assay not in assays:
            yield f'tests."{code}"', f"{assay} is not an assay of {profile.model}; {nearest(assay, assays)}"
    for name, control in site.controls.items():
        for assay in control.targets:
            if assay not in assays:
                yield (
                    f'controls."{name}"',
                    f"{assay} is not an assay of {profile.model}; {nearest(assay, assays)}",
                )
    for name, alarm in site.alarms.items():
        error = profile.errors.get(alarm.code)
        if error is None:
            correction = nearest(alarm.code, list(profile.errors))
            message = f"{alarm.code} is not an error code of {profile.model}; {correction}"
            yield f'alarms."{name}".code', message
        elif error.component != alarm.component:
            yield f'alarms."{name}".component', f"{alarm.code} is of component {error.component}"
