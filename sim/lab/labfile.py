"""Lab files: a simulated laboratory, the faults injected into it, and the expectations it is judged by.

A lab file is TOML; the Structs here are its tables, and their fields its keys (docs/reference/lab-file.md says
the same to people). Everything is checked before anything runs: forms and bounds key by key (`settings.toml`), then
what keys must be to each other. A fault's parameters stand in its event beside `at`, `fault`, `target` and `lasts`.

Durations are integer nanoseconds, rates bits a second, sizes bytes, percentages fractions of 1.
"""

from __future__ import annotations

import base64
import zlib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec

from agents.box.uplink.stream import LINGER_SECONDS
from settings.board import Board, board_names, load_board
from settings.problems import Problem, Problems, SettingsError
from settings.toml import as_table, dumps, format_value, nearest, parse, read_table, read_text
from settings.types import Table
from sim import values
from sim.faults import AnyFault, fault_kinds, port_of
from sim.units import HOUR_NS, MINUTE_NS, SECOND_NS, format_duration
from sim.values import BitsPerSecond, CountForm, Nanoseconds, TextForm
from wire.vocabulary import Verb

LABS = Path("labs")
"""Where `lab_paths` looks: the checkout's folder of labs."""
LAB_BYTES_MAX: Final = 1024 * 1024
"""Of a packed lab file."""
LIMIT_NS_MIN: Final = 30 * SECOND_NS
"""Of a time limit that a lab leaves to its length: what starting and back-offs need in real time."""


class About(Table, frozen=True):
    """The lab as a whole."""

    name: Annotated[
        str, TextForm('lower-case letters, digits and "-", at most 63', r"[a-z0-9][a-z0-9-]{0,62}")
    ]
    """What reports and `rap lab list` call it."""
    duration: Annotated[int, values.duration("1s", "30d")]
    """How long it runs, in lab time."""
    description: Annotated[str, TextForm("one line of at most 200 characters", r"[^\n]{0,200}")] = ""
    """What it shows, in one sentence."""
    start: Annotated[int, values.TimeOfDay()] = 6 * HOUR_NS
    """The time of day at which it begins."""
    seed: Annotated[int, CountForm(0, 2**63 - 1)] = 1
    """Where all its randomness comes from, unless `--seed` gives another."""
    meant_to_fail: bool = False
    """Whether its expectations are there to be missed, as an example of what that looks like."""


class LabBox(Table, frozen=True):
    """The RAP box."""

    board: Annotated[str, TextForm("the name of a board", r"[a-z0-9-]{1,64}")]
    """Which kind of box: how many instruments it has ports for."""
    linger: Annotated[int, values.duration("0s", "1h")] = int(LINGER_SECONDS * SECOND_NS)
    """How long a routine report may wait for others to travel with."""
    spool_bytes_max: Annotated[int, values.size("16MiB", "1024GiB")] = 256 * 2**20
    """How much of the disk the buffer may take."""


class LabProxy(Table, frozen=True):
    """The site's proxy, through which everything must go."""

    kind: Literal["http", "socks5"]
    """HTTP CONNECT (RFC 9110) or SOCKS 5 (RFC 1928)."""
    auth: Literal["none", "basic", "digest", "password"] = "none"
    """How the box authenticates: `basic` (RFC 7617) or `digest` (RFC 7616) with `http`, `password` (RFC 1929) with
    `socks5`."""


class LabUplink(Table, frozen=True):
    """The line to the data center."""

    rate: BitsPerSecond
    """How fast it is, each way."""
    delay: Annotated[int, values.duration("0s", "10s")] = 0
    """How long a packet takes, one way."""
    jitter: Annotated[int, values.duration("0s", "10s")] = 0
    """How much longer it may take, at random; packets keep their order."""
    loss: Annotated[float, values.percentage("0%", "50%")] = 0.0
    """How many packets never arrive."""
    queue: Annotated[int, values.size("3kB", "16MiB")] = 64 * 1024
    """How much waits at the line's near end before packets are refused."""
    proxy: LabProxy | None = None
    """The site's proxy."""


class LabInstrument(Table, frozen=True):
    """An analyzer on one of the box's ports."""

    port: Annotated[int, CountForm(1, 64)]
    """Which port of the box it is plugged into."""
    model: Annotated[str, TextForm("the name of an instrument model", r"[^\n]{1,64}")]
    """What it is."""
    speaks: Literal["agent"] = "agent"
    """How it talks to the box."""
    report_every: Annotated[int, values.duration("100ms", "1d")] = 60 * SECOND_NS
    """How often its agent reports its status."""
    serial: Annotated[str, TextForm('a serial number such as "CHEM-0001"', r"[A-Z0-9][A-Z0-9-]{0,23}|")] = ""
    """Its serial number; left out, the model's letters and the port: `CHEM-0001`."""


class FaultEvent(Table, frozen=True):
    """A fault and its time; the fault's own parameters are further keys."""

    at: Nanoseconds
    """When, in lab time from the beginning."""
    fault: Annotated[str, TextForm("the name of a fault", r"[^\n]{1,64}")]
    """What happens."""
    target: Annotated[str, TextForm("the name of a target", r"[^\n]{1,64}")]
    """What it happens to: `uplink`, `box`, …, or `instrument:` and its port."""
    lasts: Annotated[int, values.duration("1ms", "30d")] | None = None
    """How long; left out, it is over at once or stays to the end, as the fault's kind says."""


class Order(Table, frozen=True):
    """A command that the data center queues for the box or an instrument; it is to be done, see `commands_within`."""

    at: Nanoseconds
    """When, in lab time from the beginning."""
    target: Annotated[str, TextForm("the name of a target", r"[^\n]{1,64}")]
    """What carries it out: `box`, or `instrument:` and its port."""
    verb: Verb = "send-inventory"
    """What is to be done."""


class Expect(Table, frozen=True):
    """What must hold at the end. An expectation for which there is nothing to judge does not hold.

    Delivery is expected of every lab, also by default: reports are acknowledged and stored in time, unless a fault
    explains why not. A fault that blocks explains every wait until a minute after its end; one that only slows, as
    long as there is progress.
    """

    lost: Annotated[int, CountForm(0, 10**12)] = 0
    """At most so many acknowledged reports are neither stored, nor on the box, nor named singly in a gap record."""
    duplicates: Annotated[int, CountForm(0, 10**12)] = 0
    """At most so many are stored twice."""
    dropped: Annotated[int, CountForm(0, 10**12)] = 0
    """At most so many are given up for want of room or because the disk fails, and named singly in a gap record."""
    altered: Annotated[int, CountForm(0, 10**12)] = 0
    """At most so many are found with another content than the instrument gave them, or were never made."""
    unacknowledged: Annotated[int, CountForm(0, 10**12)] = 0
    """At most so many reports are not acknowledged within `acknowledged_within`."""
    acknowledged_within: Nanoseconds | None = None
    """How soon the box acknowledges a report, time that a fault of the instrument or the box explains not counted. \
Left out: 5 min, but a tenth of the lab's duration if that is less, and 30 s at least."""
    undelivered: Annotated[int, CountForm(0, 10**12)] = 0
    """At most so many acknowledged reports are not stored within `delivered_within`."""
    delivered_within: Nanoseconds | None = None
    """How soon an acknowledged report is stored, time that a fault of the way to the data center explains not \
counted. Left out: 10 min, but a tenth of the lab's duration if that is less, and 30 s at least; plus `linger`."""
    commands: Annotated[int, CountForm(0, 10**12)] = 0
    """At most so many commands are not done within `commands_within`; it counts in labs that have a `[[command]]`."""
    commands_within: Nanoseconds | None = None
    """How soon the result of a command is at the data center. Left out: three times what `delivered_within` is."""
    intrusions: Annotated[int, CountForm(0, 10**12)] = 0
    """At most so many attempts of intruders reach somebody; it counts in labs that have intruders."""
    backlog_drained_within: Nanoseconds | None = None
    """After each outage that ended, what was waiting then is stored this soon."""
    latency_p99: Nanoseconds | None = None
    """99 % of the acknowledged reports are stored within this of being made."""
    alert_latency_p99: Nanoseconds | None = None
    """99 % of the acknowledged alerts are stored within this of being made."""
    other_ports_latency_p99: Nanoseconds | None = None
    """99 % of the reports of instruments that no event targets are stored within this of being made."""
    connections: Annotated[int, CountForm(0, 10**6)] | None = None
    """At most so many connections with instruments are open on the box at once."""


class LabFile(Table, frozen=True):
    """A lab file's top level, all but its events, whose keys depend on their faults."""

    lab: About
    box: LabBox
    uplink: LabUplink
    instrument: tuple[LabInstrument, ...]
    command: tuple[Order, ...] = ()
    expect: Expect = Expect()


class Event(msgspec.Struct, frozen=True):
    """A fault with its parameters, when and to what it happens. Nanoseconds from the beginning."""

    at: int
    fault: AnyFault
    target: str
    lasts: int | None

    def toml(self) -> dict[str, Any]:
        """The event as a table of a lab file."""
        kind = self.fault.kind
        occasion = FaultEvent(at=self.at, fault=kind, target=self.target, lasts=self.lasts)
        return as_table(occasion) | as_table(self.fault)


class Lab(msgspec.Struct, frozen=True):
    """A lab file that was found to be right. `events` are in the order of time."""

    path: Path
    about: About
    box: LabBox
    board: Board
    uplink: LabUplink
    instruments: tuple[LabInstrument, ...]
    events: tuple[Event, ...]
    expect: Expect
    orders: tuple[Order, ...] = ()

    def serial(self, target: str) -> str:
        """The serial number of the instrument `instrument:<port>`; "" for the box."""
        return next((i.serial for i in self.instruments if i.port == port_of(target)), "")

    @property
    def name(self) -> str:
        """The lab's name."""
        return self.about.name

    def packed(self) -> str:
        """The lab as one word that `load_lab` takes for a path."""
        return PACKED + base64.urlsafe_b64encode(zlib.compress(self.toml().encode(), 9)).decode("ascii")

    def toml(self) -> str:
        """The lab as a lab file, which reads as this lab."""
        events = [event.toml() for event in self.events]
        file = LabFile(
            lab=self.about,
            box=self.box,
            uplink=self.uplink,
            instrument=self.instruments,
            command=self.orders,
            expect=self.expect,
        )
        return dumps(as_table(file) | ({"event": events} if events else {}))

    @property
    def limits(self) -> Expect:
        """What it expects, with the time limits that it leaves to its length."""
        expect, tenth = self.expect, max(self.about.duration // 10, LIMIT_NS_MIN)
        delivered = expect.delivered_within
        if delivered is None:
            delivered = min(10 * MINUTE_NS, tenth) + self.box.linger
        acknowledged, commands = expect.acknowledged_within, expect.commands_within
        return msgspec.structs.replace(
            expect,
            delivered_within=delivered,
            acknowledged_within=min(5 * MINUTE_NS, tenth) if acknowledged is None else acknowledged,
            commands_within=3 * delivered if commands is None else commands,
        )


PACKED: Final = "lab:"
"""What a path begins with that is a whole lab file, compressed, as the command that replays a failed run has it."""


def lab_paths(folder: Path = LABS) -> list[Path]:
    """The lab files of a folder, sorted."""
    return sorted(folder.glob("*.toml"))


def load_lab(path: Path) -> Lab:
    """The lab in a file. Raises: SettingsError."""
    return parse_lab(_unpacked(path) if str(path).startswith(PACKED) else read_text(path), path)


def _unpacked(path: Path) -> str:
    stream = zlib.decompressobj()
    try:
        packed = base64.urlsafe_b64decode(str(path).removeprefix(PACKED))
        text = stream.decompress(packed, LAB_BYTES_MAX).decode("utf-8")
        if stream.eof and not stream.unused_data:
            return text
    except (ValueError, zlib.error):
        pass
    problem = "is not a complete packed lab; copy the whole word that follows `rap lab run`"
    raise SettingsError(Path(format_value(str(path))), Problem("", problem))


def parse_lab(
    text: str,
    path: Path,
    *,
    models: Collection[str] | None = None,
    faults: Mapping[str, type[AnyFault]] | None = None,
) -> Lab:
    """The lab in a lab file's text; `path` is for messages. Raises: SettingsError with all problems.

    `models` and `faults` are what instruments and events may be; left out, all there are.
    """
    raw = parse(text, path)
    problems = Problems(path, text)
    rest = {key: value for key, value in raw.items() if key != "event"}
    file = read_table(LabFile, rest, (), problems, other_keys=("event",))
    events = _read_events(raw.get("event", []), fault_kinds() if faults is None else faults, problems)
    problems.raise_if_any()
    assert file is not None
    board = _board(file.box.board, problems)
    _check_instruments(file.instrument, board, _models() if models is None else models, problems)
    _check_proxy(file.uplink.proxy, problems)
    _check_events(events, file, problems)
    _check_orders(file, problems)
    problems.raise_if_any()
    assert board is not None
    instruments = tuple(_with_serial(instrument) for instrument in file.instrument)
    in_order = tuple(sorted(events, key=lambda event: event.at))
    return Lab(path, file.lab, file.box, board, file.uplink, instruments, in_order, file.expect, file.command)


def _models() -> Collection[str]:
    from sim.instruments import model_names

    return model_names()


def _with_serial(instrument: LabInstrument) -> LabInstrument:
    letters = instrument.model.partition("-")[0][:4].upper()
    serial = instrument.serial or f"{letters}-{instrument.port:04d}"
    return msgspec.structs.replace(instrument, serial=serial)


def _read_events(given: Any, kinds: Mapping[str, type[AnyFault]], problems: Problems) -> list[Event]:
    if not isinstance(given, list):
        problems.add(("event",), "must be an array of tables; begin each with [[event]]")
        return []
    read = [_read_event(table, kinds, ("event", n), problems) for n, table in enumerate(given)]
    return [event for event in read if event is not None]


def _read_event(
    given: Any, kinds: Mapping[str, type[AnyFault]], key: tuple[str, int], problems: Problems
) -> Event | None:
    if not isinstance(given, dict):
        problems.add(key, "must be a table; begin it with [[event]]")
        return None
    common = FaultEvent.__struct_fields__
    own = {name: value for name, value in given.items() if name in common}
    occasion = read_table(FaultEvent, own, key, problems)
    if occasion is None:
        return None
    if occasion.fault not in kinds:
        problems.add(
            (*key, "fault"), f"{format_value(occasion.fault)}: {nearest(occasion.fault, list(kinds))}"
        )
        return None
    parameters = {name: value for name, value in given.items() if name not in common}
    fault = read_table(kinds[occasion.fault], parameters, key, problems, other_keys=common)
    return None if fault is None else Event(occasion.at, fault, occasion.target, occasion.lasts)


def _board(name: str, problems: Problems) -> Board | None:
    if name in board_names():
        return load_board(name)
    problems.add(("box", "board"), f"{format_value(name)}: {nearest(name, board_names())}")
    return None


def _check_instruments(
    instruments: tuple[LabInstrument, ...], board: Board | None, models: Collection[str], problems: Problems
) -> None:
    if not instruments:
        problems.add(("instrument",), "a lab has at least one; begin each with [[instrument]]")
    serials = Counter(_with_serial(instrument).serial for instrument in instruments)
    ports = Counter(instrument.port for instrument in instruments)
    for n, instrument in enumerate(instruments):
        if board is not None and instrument.port not in board.instrument_ports:
            known = ", ".join(map(str, board.instrument_ports))
            problems.add(
                ("instrument", n, "port"), f"{board.name} has no port {instrument.port}; it has {known}"
            )
        if ports[instrument.port] > 1:
            problems.add(("instrument", n, "port"), f"port {instrument.port} has more than one instrument")
        elif serials[_with_serial(instrument).serial] > 1:
            problems.add(
                ("instrument", n, "serial"), f"{format_value(instrument.serial)}: another one has it too"
            )
        if instrument.model not in models:
            problems.add(
                ("instrument", n, "model"),
                f"{format_value(instrument.model)}: {nearest(instrument.model, list(models))}",
            )


def _check_proxy(proxy: LabProxy | None, problems: Problems) -> None:
    fitting = {"http": ("none", "basic", "digest"), "socks5": ("none", "password")}
    if proxy is not None and proxy.auth not in fitting[proxy.kind]:
        *others, last = (f'"{auth}"' for auth in fitting[proxy.kind])
        right = f"{', '.join(others)} or {last}"
        problems.add(("uplink", "proxy", "auth"), f'"{proxy.auth}": with kind "{proxy.kind}" give {right}')


def _check_events(events: list[Event], file: LabFile, problems: Problems) -> None:
    duration = file.lab.duration
    for n, event in enumerate(events):
        key = ("event", n)
        if event.at >= duration:
            problems.add((*key, "at"), f"must be before the lab ends, at {format_duration(duration)}")
        elif event.lasts is not None and event.at + event.lasts > duration:
            left = format_duration(duration - event.at)
            problems.add((*key, "lasts"), f"at most {left} are left of the lab; to stay, leave `lasts` out")
        targets = targets_of(type(event.fault), file.instrument, file.uplink.proxy)
        if not targets:
            problems.add(
                (*key, "fault"), f"{event.fault.kind} needs a proxy in [uplink], which this lab has not"
            )
        elif event.target not in targets:
            problems.add((*key, "target"), f"{format_value(event.target)}: {nearest(event.target, targets)}")


def _check_orders(file: LabFile, problems: Problems) -> None:
    targets = ["box", *(f"instrument:{instrument.port}" for instrument in file.instrument)]
    for n, order in enumerate(file.command):
        if order.at >= file.lab.duration:
            left = format_duration(file.lab.duration)
            problems.add(("command", n, "at"), f"must be before the lab ends, at {left}")
        if order.target not in targets:
            problems.add(
                ("command", n, "target"), f"{format_value(order.target)}: {nearest(order.target, targets)}"
            )


def targets_of(
    fault: type[AnyFault], instruments: Sequence[LabInstrument], proxy: LabProxy | None
) -> list[str]:
    """The possible targets of a fault in a lab with these instruments and that proxy."""
    ports = [f"instrument:{instrument.port}" for instrument in instruments]
    present = [target for target in fault.targets if target not in ("instrument", "proxy")]
    if "proxy" in fault.targets and proxy is not None:
        present.append("proxy")
    return present + (ports if "instrument" in fault.targets else [])
