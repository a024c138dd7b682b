"""The box's settings for each instrument of a lab: the vendor's agent, or the standard that it speaks."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from agents.box.configuration.config import InstrumentPort, PortInstrument
from settings.profile import TCP_PORTS
from settings.types import Endpoint
from sim.instruments.host_interface.dialects import draw_dialect
from sim.instruments.host_interface.interface import site_settings
from sim.lab.labfile import Lab, LabInstrument
from sim.lab.standards import RANDOM, SERIAL_STANDARDS, serial_ports
from sim.worlds.shared.site.addresses import BOX_NAME, COLLECTOR_PORT, box_address, instrument_address


def tcp_port(spec: LabInstrument) -> int | None:
    """Return the box's TCP port for an instrument; None if it has a serial line."""
    speaks = spec.speaks or "agent"
    return None if speaks in SERIAL_STANDARDS else TCP_PORTS.get(speaks, COLLECTOR_PORT)


def box_endpoint(spec: LabInstrument) -> Endpoint:
    """Return the box's endpoint for an instrument."""
    return Endpoint(BOX_NAME, tcp_port(spec) or COLLECTOR_PORT, box_address(spec.port))


def dialect_of(spec: LabInstrument, random: Callable[[str], Random]) -> frozenset[str]:
    """Return the options of an instrument's dialect: those of the lab file, or drawn from the lab's seed."""
    if spec.dialect == RANDOM:
        return draw_dialect(random(f"{spec.serial} dialect"), spec.speaks or "agent")
    return frozenset(spec.dialect)


def served_port(lab: Lab, spec: LabInstrument, random: Callable[[str], Random]) -> InstrumentPort:
    """Return the settings of the box for an instrument's port."""
    adapted = None
    if spec.speaks != "agent":
        line = serial_ports(lab.instruments, lab.board).get(spec.port)
        adapted = site_settings(spec.model, dialect_of(spec, random), line)
    address = instrument_address(spec.port) if lab.sessions else ""
    return InstrumentPort(
        number=spec.port,
        listen=box_address(spec.port),
        instrument=[PortInstrument(spec.serial, spec.model, adapted, address)],
        tcp_port=COLLECTOR_PORT,
    )
