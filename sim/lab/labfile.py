"""Lab files: a simulated laboratory, the faults injected into it, and the expectations that its run must meet.

A lab file is TOML; the Structs here are its tables, and their fields are its keys. docs/reference/lab-file.md is
generated from them. Everything is checked before anything runs: first the form and bounds of each key
(`settings.toml`), then the relations between keys. The parameters of a fault are further keys of its event.

Durations are integer nanoseconds, rates bits per second, sizes bytes, percentages fractions of 1.
"""

from __future__ import annotations

import base64
import zlib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Annotated, Any, Final, Literal

import msgspec

from agents.box.configuration.defaults import LINGER_SECONDS
from settings.board import Board, board_names, load_board
from settings.problems import Problem, Problems, SettingsError
from settings.profile import Speaks, Verb
from settings.toml import as_table, dumps, format_value, nearest, parse, read_partial, read_table, read_text
from settings.types import FipsDemand, ProxyKind, Table
from sim import values
from sim.faults import AnyFault, fault_kinds, port_of
from sim.lab.sessions import LabSession, check_sessions
from sim.lab.standards import DialectForm, check_standards, standard_of_model
from sim.units import HOUR_NS, MINUTE_NS, SECOND_NS, format_duration
from sim.values import BitsPerSecond, CountForm, Nanoseconds, TextForm

LABS = Path("labs")
"""The default folder of `lab_paths` in a checkout."""
LAB_BYTES_MAX: Final = 1024 * 1024
"""The largest size of a packed lab file after decompression."""
LIMIT_NS_MIN: Final = 30 * SECOND_NS
"""The minimum of a default time limit: in real time, programs take this long to start and to retry."""


class About(Table, frozen=True):
    """The lab as a whole."""

    name: Annotated[
        str, TextForm('lower-case letters, digits and "-", at most 63', r"[a-z0-9][a-z0-9-]{0,62}")
    ]
    """The name shown by reports and `rap lab list`."""
    duration: Annotated[int, values.duration("1s", "30d")]
    """How long it runs, in lab time."""
    description: Annotated[str, TextForm("one line of at most 200 characters", r"[^\n]{0,200}")] = ""
    """The purpose of the lab, in one sentence."""
    start: Annotated[int, values.TimeOfDay()] = 6 * HOUR_NS
    """The time of day at which it starts."""
    seed: Annotated[int, CountForm(0, 2**63 - 1)] = 1
    """The seed of all random numbers, unless `--seed` gives another."""
    meant_to_fail: bool = False
    """Whether its expectations are meant to fail, as an example of a failed run."""


class LabBox(Table, frozen=True):
    """The RAP box."""

    board: Annotated[str, TextForm("the name of a board", r"[a-z0-9-]{1,64}")]
    """The board, which determines the instrument ports."""
    linger: Annotated[int, values.duration("0s", "1h")] = int(LINGER_SECONDS * SECOND_NS)
    """How long a routine report may wait to be sent in a batch with others."""
    spool_bytes_max: Annotated[int, values.size("16MiB", "1024GiB")] = 256 * 2**20
    """How much of the disk the spool may use."""
    enrolment: Literal["none", "flashed", "expired"] = "none"
    """Whether the box requests certificates from the data center, beginning with its flashed certificate, or with one
    that expired two years ago. Default: no certificate requests."""
    fips: FipsDemand = "not-required"
    """`"required"`: the box serves nothing unless its cryptography is in FIPS mode. In the kernel world, this is the
    cryptography of the machine that runs the lab."""


class LabProxy(Table, frozen=True):
    """The site's proxy, through which all connections to the data center must go."""

    kind: ProxyKind
    """Its protocol."""
    auth: Annotated[
        str, TextForm("an authentication method of the proxy kind, see below", r"[^\n]{1,64}")
    ] = "none"
    """How the box authenticates."""


class LabUplink(Table, frozen=True):
    """The line to the data center."""

    rate: BitsPerSecond
    """Its rate in each direction."""
    delay: Annotated[int, values.duration("0s", "10s")] = 0
    """The one-way delay of a packet."""
    jitter: Annotated[int, values.duration("0s", "10s")] = 0
    """The largest additional random delay; packets keep their order."""
    loss: Annotated[float, values.percentage("0%", "50%")] = 0.0
    """The share of packets that are lost."""
    queue: Annotated[int, values.size("3kB", "16MiB")] = 64 * 1024
    """The size of the queue in each direction, beyond which packets are dropped."""
    proxy: LabProxy | None = None
    """The site's proxy."""
    vpn: bool = False
    """Whether an IPsec VPN joins the box and the site's router. In the virtual world it only makes packets longer."""


class LabInstrument(Table, frozen=True):
    """An analyzer on one of the box's ports."""

    port: Annotated[int, CountForm(1, 64)]
    """The box's instrument port to which it is connected."""
    model: Annotated[str, TextForm("the name of an instrument model", r"[^\n]{1,64}")]
    """The instrument model."""
    speaks: Speaks | None = None
    """The protocol between instrument and box, one that the model speaks. Default: that of the model."""
    dialect: Annotated[tuple[str, ...] | str, DialectForm()] = ()
    """How it differs from its standard: options of the list below, or `"random"`, drawn from the seed."""
    report_every: Annotated[int, values.duration("100ms", "1d")] = 60 * SECOND_NS
    """The interval of its status reports."""
    operator: Literal["consents", "refuses", "absent"] = "consents"
    """The person's answer to a command that needs consent according to the profile."""
    enrolment: Literal["none", "flashed", "expired"] = "none"
    """Whether it requests certificates through the box, beginning with its delivered certificate, or with one that
    expired two years ago. Requires `enrolment` in [box] and the vendor's agent. Default: no certificate requests."""
    serial: Annotated[str, TextForm('a serial number such as "CHEM-0001"', r"[A-Z0-9][A-Z0-9-]{0,23}|")] = ""
    """Its serial number. Default: the first letters of the model and the port, as in `CHEM-0001`."""


class FaultEvent(Table, frozen=True):
    """A fault and its time; the fault's own parameters are further keys."""

    at: Nanoseconds
    """The lab time at which it starts."""
    fault: Annotated[str, TextForm("the name of a fault", r"[^\n]{1,64}")]
    """The kind of fault."""
    target: Annotated[str, TextForm("the name of a target", r"[^\n]{1,64}")]
    """The part of the lab that it acts on: `uplink`, `box`, …, or `instrument:` and its port."""
    lasts: Annotated[int, values.duration("1ms", "30d")] | None = None
    """Its duration. Default: it ends at once or lasts until the end of the lab, depending on the kind of fault."""


class Order(Table, frozen=True):
    """A command that the data center queues for the box or an instrument; see `commands_within`."""

    at: Nanoseconds
    """The lab time at which it is queued."""
    target: Annotated[str, TextForm("the name of a target", r"[^\n]{1,64}")]
    """Its recipient: `box`, or `instrument:` and its port."""
    verb: Verb = "send-inventory"
    """The command."""
    file_bytes: Annotated[int, values.size("1B", "16MiB")] | None = None
    """The size of its file for the instrument."""
    expires_after: Nanoseconds | None = None
    """The time after which it is no longer executed. Default: never."""
    withdrawn_after: Nanoseconds | None = None
    """The time after which it is withdrawn, unless it has begun. Default: never."""
    ends: Literal["done", "failed", "expired", "withdrawn"] = "done"
    """The state in which it is expected to end."""

    def content(self) -> bytes:
        """Return the content of the file; empty without one."""
        return Random(f"{self.target} {self.at}").randbytes(self.file_bytes or 0)


class ExpectedAlert(Table, frozen=True):
    """An alert that the data center's evaluation raises once."""

    trigger: Annotated[str, TextForm("the name of a trigger of `triggers/`", r"[a-z0-9-]{1,64}")]
    """The trigger."""
    within: Nanoseconds
    """The time after the start of the first event by which the data center has raised it; in a lab without events, \
the time after the start of the lab."""


class Expect(Table, frozen=True):
    """The expectations checked at the end. An expectation with nothing to check does not hold.

    Delivery is expected of every lab by default: reports are acknowledged and stored in time, unless a fault explains
    the delay. A fault that blocks explains all delay until a minute after its end; one that only slows explains it as
    long as there is progress.
    """

    lost: Annotated[int, CountForm(0, 10**12)] = 0
    """Maximum number of acknowledged reports that are neither stored, nor on the box, nor named in a gap record."""
    duplicates: Annotated[int, CountForm(0, 10**12)] = 0
    """Maximum number of reports that are stored more than once."""
    dropped: Annotated[int, CountForm(0, 10**12)] = 0
    """Maximum number of reports that the box drops (full or failed disk) and names in a gap record."""
    altered: Annotated[int, CountForm(0, 10**12)] = 0
    """Maximum number of stored reports that differ from the instrument's, or that no instrument made."""
    unacknowledged: Annotated[int, CountForm(0, 10**12)] = 0
    """Maximum number of reports that are not acknowledged within `acknowledged_within`."""
    acknowledged_within: Nanoseconds | None = None
    """The time limit for the acknowledgement of a report, not counting the time explained by a fault of the \
instrument or the box. Default: 5 min or a tenth of the lab's duration, whichever is less, but at least 30 s."""
    refused: Annotated[int, CountForm(0, 10**12)] = 0
    """Maximum number of valid messages that the box refuses; only in labs with instruments that speak a \
standard of their own. A fault of the instrument, the box or its disk explains refusals."""
    patient_texts: Annotated[int, CountForm(0, 10**12)] = 0
    """Maximum number of occurrences of a patient's data in the data that leaves the box: uplink, database, disk, \
log, status. Only in labs with instruments that speak a standard of their own."""
    undelivered: Annotated[int, CountForm(0, 10**12)] = 0
    """Maximum number of acknowledged reports that are not stored within `delivered_within`."""
    delivered_within: Nanoseconds | None = None
    """The time limit for storing an acknowledged report, not counting the time explained by a fault between box and \
data center. Default: 10 min or a tenth of the lab's duration, whichever is less, but at least 30 s; plus
`linger`."""
    commands: Annotated[int, CountForm(0, 10**12)] = 0
    """Maximum number of commands not in the state `ends` within `commands_within`, or executed twice;
only in labs with a `[[command]]`."""
    commands_within: Nanoseconds | None = None
    """The time limit for the result of a command at the data center. Default: three times `delivered_within`."""
    sessions: Annotated[int, CountForm(0, 10**6)] = 0
    """Maximum number of remote sessions that differ from their `[[session]]`; only in labs with one."""
    tunnel_seconds_without_grant: Annotated[int, CountForm(0, 10**6)] = 0
    """Maximum time in s in which packets of a remote session could pass without a valid grant, according to \
the audit files of both ends; only in labs with a `[[session]]`."""
    intrusions: Annotated[int, CountForm(0, 10**12)] = 0
    """Maximum number of connection attempts of intruders that are not blocked; only in labs with intruders."""
    backlog_drained_within: Nanoseconds | None = None
    """The time after the end of each outage within which the reports waiting then are stored."""
    latency_p99: Nanoseconds | None = None
    """Maximum latency, from the creation of a report to its storage, of 99 % of the acknowledged reports."""
    alert_latency_p99: Nanoseconds | None = None
    """Maximum latency, from the creation of an alert to its storage, of 99 % of the acknowledged alerts."""
    other_ports_latency_p99: Nanoseconds | None = None
    """Maximum latency of 99 % of the reports, acknowledged or not, of instruments that no event targets."""
    connections: Annotated[int, CountForm(0, 10**6)] | None = None
    """Maximum number of connections with instruments that are open on the box at once."""
    alerts: tuple[ExpectedAlert, ...] = ()
    """The alerts that the data center must raise, see below. With this key or the next one, it evaluates the \
triggers of `triggers/`."""
    false_alerts: Annotated[int, CountForm(0, 10**6)] | None = None
    """Maximum number of alerts that `alerts` does not name."""

    @property
    def evaluates_triggers(self) -> bool:
        """Whether the data center of the lab evaluates triggers."""
        return bool(self.alerts) or self.false_alerts is not None


class LabFile(Table, frozen=True):
    """The top level of a lab file without its events, whose keys depend on their faults."""

    lab: About
    box: LabBox
    uplink: LabUplink
    instrument: tuple[LabInstrument, ...]
    command: tuple[Order, ...] = ()
    session: tuple[LabSession, ...] = ()
    expect: Expect = Expect()


class ScheduledFault(msgspec.Struct, frozen=True):
    """A fault with its parameters, target, start and duration, in nanoseconds of lab time."""

    at: int
    fault: AnyFault
    target: str
    lasts: int | None

    def toml(self) -> dict[str, Any]:
        """Return the event as a table of a lab file."""
        kind = self.fault.kind
        event = FaultEvent(at=self.at, fault=kind, target=self.target, lasts=self.lasts)
        return as_table(event) | as_table(self.fault)


class Lab(msgspec.Struct, frozen=True):
    """A valid lab file. `events` are ordered by time."""

    path: Path
    about: About
    box: LabBox
    board: Board
    uplink: LabUplink
    instruments: tuple[LabInstrument, ...]
    events: tuple[ScheduledFault, ...]
    expect: Expect
    orders: tuple[Order, ...] = ()
    sessions: tuple[LabSession, ...] = ()

    def serial(self, target: str) -> str:
        """Return the serial number of the instrument `instrument:<port>`; "" for the box."""
        return next((i.serial for i in self.instruments if i.port == port_of(target)), "")

    @property
    def name(self) -> str:
        """The lab's name."""
        return self.about.name

    def packed(self) -> str:
        """Return the compressed lab as one word, which `load_lab` accepts as a path."""
        return PACKED + base64.urlsafe_b64encode(zlib.compress(self.toml().encode(), 9)).decode("ascii")

    def toml(self) -> str:
        """Return the text of a lab file that `parse_lab` reads as this lab."""
        events = [event.toml() for event in self.events]
        file = LabFile(
            lab=self.about,
            box=self.box,
            uplink=self.uplink,
            instrument=self.instruments,
            command=self.orders,
            session=self.sessions,
            expect=self.expect,
        )
        return dumps(as_table(file) | ({"event": events} if events else {}))

    @property
    def limits(self) -> Expect:
        """The expectations, with default time limits that depend on the lab's duration."""
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
"""The prefix of a packed lab, a compressed lab file given instead of a path in the replay command of a failed run."""


def lab_paths(folder: Path = LABS) -> list[Path]:
    """Return the lab files of a folder, sorted."""
    return sorted(folder.glob("*.toml"))


def load_lab(path: Path) -> Lab:
    """Read and check a lab file, or a packed lab. Raises: SettingsError."""
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
    """Read and check the text of a lab file; `path` is for messages. Raises: SettingsError with all problems.

    `models` and `faults` are the known instrument models and faults; None: all.
    """
    raw = parse(text, path)
    problems = Problems(path, text)
    rest = {key: value for key, value in raw.items() if key != "event"}
    file = read_partial(LabFile, rest, (), problems, other_keys=("event",))
    events = _read_events(raw.get("event", []), fault_kinds() if faults is None else faults, problems)
    board = None
    with problems.part():
        board = _board(file.box.board, problems)
    with problems.part():
        _check_instruments(file, board, _models() if models is None else models, problems)
    with problems.part():
        check_standards(file.instrument, board, problems)
    with problems.part():
        _check_proxy(file.uplink.proxy, problems)
    with problems.part():
        _check_events(events, file, problems)
    with problems.part():
        _check_orders(file, problems)
    with problems.part():
        models_by_target = {
            f"instrument:{instrument.port}": instrument.model for instrument in file.instrument
        }
        check_sessions(file.session, models_by_target, file.lab.duration, problems)
    with problems.part():
        _check_alerts(file, problems)
    problems.raise_if_any()
    assert board is not None
    instruments = tuple(_with_serial(instrument) for instrument in file.instrument)
    in_order = tuple(sorted((event for event in events if event), key=lambda event: event.at))
    parts = (file.lab, file.box, board, file.uplink, instruments, in_order, file.expect, file.command)
    return Lab(path, *parts, file.session)


def _models() -> Collection[str]:
    from sim.instruments import model_names

    return model_names()


def _serial(instrument: LabInstrument) -> str:
    letters = instrument.model.partition("-")[0][:4].upper()
    return instrument.serial or f"{letters}-{instrument.port:04d}"


def _with_serial(instrument: LabInstrument) -> LabInstrument:
    speaks = instrument.speaks or standard_of_model(instrument.model)
    return msgspec.structs.replace(instrument, serial=_serial(instrument), speaks=speaks)


def _read_events(
    given: Any, kinds: Mapping[str, type[AnyFault]], problems: Problems
) -> list[ScheduledFault | None]:
    """Read the events in the order of the file; None for one with problems."""
    if not isinstance(given, list):
        problems.add(("event",), "must be an array of tables; begin each with [[event]]")
        return []
    return [_read_event(table, kinds, ("event", n), problems) for n, table in enumerate(given)]


def _read_event(
    given: Any, kinds: Mapping[str, type[AnyFault]], key: tuple[str, int], problems: Problems
) -> ScheduledFault | None:
    if not isinstance(given, dict):
        problems.add(key, "must be a table; begin it with [[event]]")
        return None
    if "update" in given and "fault" not in given:
        given = {"fault": "update", "target": "box", "release": given["update"]} | given
        del given["update"]
    common = FaultEvent.__struct_fields__
    common_keys = {name: value for name, value in given.items() if name in common}
    event = read_table(FaultEvent, common_keys, key, problems)
    if event is None:
        return None
    if event.fault not in kinds:
        problems.add((*key, "fault"), f"{format_value(event.fault)}: {nearest(event.fault, list(kinds))}")
        return None
    parameters = {name: value for name, value in given.items() if name not in common}
    fault = read_table(kinds[event.fault], parameters, key, problems, other_keys=common)
    return None if fault is None else ScheduledFault(event.at, fault, event.target, event.lasts)


def _board(name: str, problems: Problems) -> Board | None:
    if name in board_names():
        return load_board(name)
    problems.add(("box", "board"), f"{format_value(name)}: {nearest(name, board_names())}")
    return None


def _check_instruments(
    file: LabFile, board: Board | None, models: Collection[str], problems: Problems
) -> None:
    instruments = file.instrument
    if not instruments:
        problems.add(("instrument",), "a lab has at least one; begin each with [[instrument]]")
    serials: Counter[str] = Counter()
    ports: Counter[int] = Counter()
    for instrument in instruments:
        with problems.part():
            ports[instrument.port] += 1
            serials[_serial(instrument)] += 1
    for n, instrument in enumerate(instruments):
        with problems.part():
            if board is not None and instrument.port not in board.instrument_ports:
                ports_of_board = ", ".join(map(str, board.instrument_ports))
                problems.add(
                    ("instrument", n, "port"),
                    f"{board.name} has no port {instrument.port}; it has {ports_of_board}",
                )
        with problems.part():
            if ports[instrument.port] > 1:
                message = f"port {instrument.port} has more than one instrument"
                problems.add(("instrument", n, "port"), message)
            elif serials[_serial(instrument)] > 1:
                message = f"{format_value(instrument.serial)}: another instrument has the same serial number"
                problems.add(("instrument", n, "serial"), message)
        with problems.part():
            if instrument.enrolment != "none" and file.box.enrolment == "none":
                key, text = (
                    ("instrument", n, "enrolment"),
                    "requests go through the box: add `enrolment` to [box]",
                )
                problems.add(key, text)
        with problems.part():
            if instrument.model not in models:
                message = f"{format_value(instrument.model)}: {nearest(instrument.model, list(models))}"
                problems.add(("instrument", n, "model"), message)


def _check_alerts(file: LabFile, problems: Problems) -> None:
    from sim.lab.shipped_triggers import models_of_triggers

    if not file.expect.alerts:
        return
    known, models = models_of_triggers(), {instrument.model for instrument in file.instrument}
    for n, alert in enumerate(file.expect.alerts):
        key = ("expect", "alerts", n)
        if alert.trigger not in known:
            hint = nearest(alert.trigger, list(known))
            problems.add((*key, "trigger"), f"{format_value(alert.trigger)}: {hint}")
        elif (model := known[alert.trigger]) and model not in models:
            why = f"{alert.trigger} is a trigger of the model {model}, of which this lab has no instrument"
            problems.add((*key, "trigger"), why)
        if alert.within > file.lab.duration:
            problems.add(
                (*key, "within"), "is longer than the lab; give a shorter time, or a longer duration"
            )


def _check_proxy(proxy: LabProxy | None, problems: Problems) -> None:
    if proxy is None:
        return
    from sim.proxies.kind import proxy_kind

    *others, last = (f'"{auth}"' for auth in proxy_kind(proxy.kind).auths)
    if proxy.auth not in proxy_kind(proxy.kind).auths:
        expected = f"{', '.join(others)} or {last}"
        problems.add(
            ("uplink", "proxy", "auth"),
            f'{format_value(proxy.auth)}: with kind "{proxy.kind}" give {expected}',
        )


def _check_events(events: list[ScheduledFault | None], file: LabFile, problems: Problems) -> None:
    duration = file.lab.duration
    for n, event in enumerate(events):
        if event is None:
            continue
        key = ("event", n)
        if event.at >= duration:
            problems.add((*key, "at"), f"must be before the lab ends, at {format_duration(duration)}")
        elif event.lasts is not None and event.at + event.lasts > duration:
            left = format_duration(duration - event.at)
            problems.add(
                (*key, "lasts"),
                f"at most {left} remain until the lab ends; for a fault without end, leave `lasts` out",
            )
        targets = targets_of(type(event.fault), file.instrument, file.uplink.proxy)
        if not targets:
            problems.add((*key, "fault"), f"{event.fault.kind} needs a proxy; add `proxy` to [uplink]")
        elif event.target not in targets:
            problems.add((*key, "target"), f"{format_value(event.target)}: {nearest(event.target, targets)}")


def _check_orders(file: LabFile, problems: Problems) -> None:
    targets = ["box", *(f"instrument:{instrument.port}" for instrument in file.instrument)]
    for n, order in enumerate(file.command):
        if order.at >= file.lab.duration:
            end = format_duration(file.lab.duration)
            problems.add(("command", n, "at"), f"must be before the lab ends, at {end}")
        if order.target not in targets:
            problems.add(
                ("command", n, "target"), f"{format_value(order.target)}: {nearest(order.target, targets)}"
            )


def targets_of(
    fault: type[AnyFault], instruments: Sequence[LabInstrument], proxy: LabProxy | None
) -> list[str]:
    """Return the possible targets of a fault in a lab with these instruments and this proxy (None: no proxy)."""
    ports = [f"instrument:{instrument.port}" for instrument in instruments]
    present = [target for target in fault.targets if target not in ("instrument", "proxy")]
    if "proxy" in fault.targets and proxy is not None:
        present.append("proxy")
    return present + (ports if "instrument" in fault.targets else [])
