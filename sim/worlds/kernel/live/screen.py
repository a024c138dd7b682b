"""The terminal screen of `rap lab watch`, drawn several times a second.

It is drawn from two successive states of the lab: totals are those of the later state, and a link's use is computed
from the difference. It fits 80 columns, and 24 lines with four instruments.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import chain
from typing import Any, Final

import msgspec
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from agents.box.firewall import FirewallStatus
from sim.units import MILLISECOND_NS
from sim.verdict import quantities
from sim.worlds.kernel.live.state import FaultState, LabState, LinkState, LiveInstrumentState
from sim.worlds.kernel.supervision.control import ask

_GOOD, _BAD, _QUIET = "green", "bold red", "dim"
_BAR_CELLS: Final = 6

Use = dict[str, tuple[float, float]]
"""The share of time in which each link was sending, in each direction, by the link's name."""


def request_state(name: str) -> LabState:
    """Request the state of the lab `name`. Raises: NoSuchLab, RequestRefused."""
    return msgspec.convert(ask(name, {"verb": "state"}), LabState)


def use(before: LabState, now: LabState) -> Use:
    """Compute the use of each link between two states."""
    passed = max(1, now.now_ns - before.now_ns)
    earlier = {line.name: line.used_ns for line in before.links}
    return {
        line.name: (
            _share(line.used_ns[0] - earlier.get(line.name, (0, 0))[0], passed),
            _share(line.used_ns[1] - earlier.get(line.name, (0, 0))[1], passed),
        )
        for line in now.links
    }


def _share(part: int, whole: int) -> float:
    return min(1.0, max(0.0, part / whole))


def document(before: LabState, now: LabState) -> dict[str, Any]:
    """Convert a state to a JSON document, with the `use` of each link in both directions since the state before."""
    built: dict[str, Any] = msgspec.to_builtins(now)
    shares = use(before, now)
    for line in built["links"]:
        line["use"] = [round(share, 4) for share in shares[line["name"]]]
    return built


def screen(before: LabState, now: LabState) -> RenderableType:
    """Draw a state."""
    blocks = (
        [_banner(now)],
        [_links(now, use(before, now))],
        [_figures(now)],
        [_instruments(now.instruments)],
        [_faults(now)] if now.faults else [],
        [Text(failure, style=_BAD) for failure in now.failures[:3]],
    )
    return Group(*chain.from_iterable([*block, Text()] for block in blocks if block))


def _banner(now: LabState) -> Text:
    if not now.box_runs:
        state = (" BOX OFF ", f"{_BAD} reverse")
    elif not now.connected:
        state = (" NOT CONNECTED ", f"{_BAD} reverse")
    else:
        state = (" CONNECTED ", f"{_GOOD} reverse")
    return Text.assemble(state, (f" {now.lab}", "bold"), (f"  {quantities.clock(now.now_ns)}", _QUIET))


def _links(now: LabState, shares: Use) -> Table:
    table = _table("Link", "Between", "there", "back", "Line")
    for line in now.links:
        there, back = shares[line.name]
        between = " → ".join(line.ends)
        table.add_row(Text(line.name), Text(between), _bar(there, line), _bar(back, line), _quality(line))
    return table


def _quality(line: LinkState) -> Text:
    if not line.up:
        return Text("down", style=_BAD)
    parts = [quantities.rate(line.rate_bps)]
    if line.delay_ns >= MILLISECOND_NS:
        parts.append(quantities.duration(line.delay_ns))
    if line.loss:
        parts.append(f"{line.loss * 100:g} % lost")
    captured = Text(" captured", style="cyan") if line.captured else Text()
    return Text(", ".join(parts), style="" if line.is_nominal else "yellow") + captured


def _bar(share: float, line: LinkState) -> Text:
    if not line.up:
        return Text("—", style=_QUIET)
    filled = round(share * _BAR_CELLS)
    style = _BAD if share > 0.95 else _GOOD
    return Text.assemble(("█" * filled, style), ("·" * (_BAR_CELLS - filled), _QUIET), f" {share:4.0%}")


def _figures(now: LabState) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    waiting = now.backlog
    table.add_row(
        Text("Waiting", style=_QUIET),
        Text(f"{waiting.alert} alerts, {waiting.audit} audit records, {waiting.routine} routine"),
    )
    table.add_row(
        Text("Reports", style=_QUIET),
        Text(f"{now.made:,} made, {now.acknowledged:,} acknowledged by the box, {now.stored:,} stored"),
    )
    if now.updates:
        table.add_row(Text("Updates", style=_QUIET), Text(", ".join(step or "none" for step in now.updates)))
    if now.firewall is not None:
        table.add_row(Text("Firewall", style=_QUIET), _firewall(now.firewall))
    return table


def _firewall(firewall: FirewallStatus) -> Text:
    refused = ", ".join(f"{count:,} {cause}" for cause, count in sorted(firewall.refused.items()) if count)
    text = Text("in force") if firewall.in_force else Text(f"NOT IN FORCE: {firewall.problem}", style=_BAD)
    if firewall.alarms:
        changes = f"; changed by others {firewall.alarms:,}×, repaired {firewall.repairs:,}×"
        text.append(changes, style="yellow")
    return text.append(f"; refused: {refused or 'nothing'}")


def _instruments(devices: list[LiveInstrumentState]) -> Table:
    table = _table("Port", "Instrument", "Model", "Made", "Acknowledged")
    for device in devices:
        serial = Text(device.serial) if device.on else Text(f"{device.serial} off", style=_BAD)
        table.add_row(
            str(device.port), serial, Text(device.model), f"{device.made:,}", f"{device.acknowledged:,}"
        )
    return table


def _faults(now: LabState) -> RenderableType:
    return Group(*(Text.assemble(("✗ ", _BAD), _fault(fault, now.now_ns)) for fault in now.faults))


def _fault(fault: FaultState, now_ns: int) -> str:
    since = quantities.duration(now_ns - fault.since_ns)
    if fault.lasts_ns is None:
        return f"{fault.kind} of {fault.target} for {since}, until it is ended"
    left = max(0, fault.since_ns + fault.lasts_ns - now_ns)
    return f"{fault.kind} of {fault.target} for {since}, {quantities.duration(left)} left"


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style=_QUIET)
    for heading in headings:
        table.add_column(heading, no_wrap=heading != headings[-1])
    return table


def watch_states(name: str, every_s: float) -> Iterator[tuple[LabState, LabState]]:
    """Yield (previous state, current state) every `every_s` seconds. Raises: NoSuchLab, RequestRefused."""
    before = request_state(name)
    while True:
        time.sleep(every_s)
        now = request_state(name)
        yield before, now
        before = now
