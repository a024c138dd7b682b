"""The state of a running lab at one time, as shown by `rap lab watch` and in a line of its JSON output.

Totals are counted from the start of the lab, so that the difference of two states covers the time between them.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from agents.box.firewall import FirewallStatus
from agents.box.status.status import WaitingRecords
from datacenter.store import queries
from sim.verdict.found.updates import update_results
from sim.verdict.ledger import ReportLedger
from sim.worlds.kernel.box import LabBoxState
from sim.worlds.kernel.namespaces.link import KernelLink
from sim.worlds.kernel.world import KernelWorld
from sim.worlds.shared.instruments.analyzer import Analyzer


class LinkState(msgspec.Struct, frozen=True):
    """A link. Pairs have one value for each direction, the first for that from `ends[0]` to `ends[1]`."""

    name: str
    ends: tuple[str, str]
    up: bool
    rate_bps: int
    delay_ns: int
    loss: float
    """The share of packets that are lost."""
    is_nominal: bool
    """Whether its quality is that given by the lab file."""
    bytes: tuple[int, int]
    used_ns: tuple[int, int]
    """The total time in which it was sending."""
    captured: bool


class LiveInstrumentState(msgspec.Struct, frozen=True):
    """An instrument, with the counts of its reports."""

    port: int
    serial: str
    model: str
    on: bool
    made: int
    acknowledged: int
    """Reports that the box has acknowledged."""


class FaultState(msgspec.Struct, frozen=True):
    """An active fault. Times are nanoseconds of lab time."""

    kind: str
    target: str
    since_ns: int
    lasts_ns: int | None


class LabState(msgspec.Struct, frozen=True):
    """The state of a lab at `now_ns` nanoseconds of lab time."""

    lab: str
    now_ns: int
    box_runs: bool
    """Whether the box program answers."""
    connected: bool
    """Whether the box has a connection to the data center."""
    backlog: WaitingRecords
    """Records on the box that the data center has not acknowledged; while the box is off, the last known values."""
    made: int
    acknowledged: int
    stored: int
    """Reports at the data center; duplicates are not counted."""
    links: list[LinkState]
    instruments: list[LiveInstrumentState]
    faults: list[FaultState]
    updates: list[str]
    """For each update of the lab file, the last step that the box has reported, "" if none."""
    firewall: FirewallStatus | None
    """None while the box program does not run, or if it manages no firewall."""
    failures: list[str]
    """Failures of the simulator itself, after which the lab proves nothing."""


async def read_state(world: KernelWorld) -> LabState:
    """Read the current state of a lab."""
    status = await world.box.status()
    made, acknowledged = _counted(world.ledger)
    devices = [_device(analyzer, made, acknowledged) for _, analyzer in sorted(world.analyzers.items())]
    return LabState(
        lab=world.namespaces.name,
        now_ns=world.env.now,
        box_runs=status is not None,
        connected=status is not None and status.connected,
        backlog=_backlog(world, status),
        made=sum(made.values()),
        acknowledged=sum(acknowledged.values()),
        stored=sum(n for (_, serial), n in queries.counts(world.datacenter.store).items() if serial),
        links=[_line(link) for link in world.namespaces.links.values()],
        instruments=devices,
        faults=[
            FaultState(event.fault.kind, event.target, event.at, event.lasts)
            for event in (active.event for active in world.faults.active)
        ],
        updates=[update.step for update in update_results(world.datacenter.store, world.lab.events)],
        firewall=None if status is None else status.firewall,
        failures=world.failures,
    )


def _backlog(world: KernelWorld, status: LabBoxState | None) -> WaitingRecords:
    if status is not None:
        return status.backlog
    samples = world.backlog_meter.samples
    return WaitingRecords(*samples[-1]) if samples else WaitingRecords(0, 0, 0)


def _counted(ledger: ReportLedger) -> tuple[dict[str, int], dict[str, int]]:
    """Return the numbers of reports made and of reports acknowledged, each by the instrument's serial number."""
    made: dict[str, int] = {}
    acknowledged: dict[str, int] = {}
    for (serial, _), run in ledger.runs.items():
        made[serial] = made.get(serial, 0) + len(run)
        acknowledged[serial] = acknowledged.get(serial, 0) + run.acknowledgements
    return made, acknowledged


def _device(
    analyzer: Analyzer, made: Mapping[str, int], acknowledged: Mapping[str, int]
) -> LiveInstrumentState:
    spec = analyzer.spec
    return LiveInstrumentState(
        port=spec.port,
        serial=spec.serial,
        model=spec.model,
        on=analyzer.is_on,
        made=made.get(spec.serial, 0),
        acknowledged=acknowledged.get(spec.serial, 0),
    )


def _line(link: KernelLink) -> LinkState:
    one, other = link.cable
    quality = link.forward.quality
    return LinkState(
        name=link.name,
        ends=(one.host.name, other.host.name),
        up=link.up,
        rate_bps=quality.rate_bits,
        delay_ns=quality.delay_ns,
        loss=quality.loss,
        is_nominal=quality == link.nominal,
        bytes=(link.forward.bytes, link.backward.bytes),
        used_ns=link.used_ns(),
        captured=link.captured,
    )
