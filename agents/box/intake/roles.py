"""Serves an instrument that speaks its own standard in its role: receiver, pass-through or listener."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial

from agents.box.intake.adapter import Adapter, line_settings
from agents.box.intake.intake import Intake, Note, Source
from agents.box.intake.observation import ConnectionObservation
from agents.box.intake.relay import (
    SerialEnd,
    TcpPassThrough,
    connect_to_host,
    serve_listener,
    serve_serial_pass_through,
)
from hal.serial import SerialPort
from settings.adapted import AdaptedPort, SerialLineSettings
from settings.profile import Profile
from wire.standards.engines import has_commands, make_engine, make_observer

Connected = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[None, None, None]]


@dataclass(frozen=True, slots=True)
class PortRole:
    """How an instrument is served: its TCP connections by `connected`, or its serial lines by `serve_serial`."""

    can_command: bool
    """Whether the box can send commands to the instrument."""
    connected: Connected | None = None
    serve_serial: Callable[[], Awaitable[None]] | None = None
    """Serves the lines until cancelled."""
    end: Callable[[], None] = lambda: None
    """Ends all TCP connections."""


def role_of(
    intake: Intake,
    source: Source,
    profile: Profile,
    site: AdaptedPort,
    clock_ms: Callable[[], int],
    note: Note,
    serial_ports: Mapping[int, SerialPort],
) -> PortRole:
    """Return the role of an instrument whose settings were checked (`settings.adapted.adapted_problems`)."""

    def end_of(line: SerialLineSettings) -> SerialEnd:
        return SerialEnd(serial_ports[line.port], line_settings(line))

    source.role = site.role
    can_command = has_commands(profile, site)
    if site.role == "receiver":
        adapter = Adapter(intake, source, partial(make_engine, profile, site, clock_ms), note)
        if site.serial is None:
            return PortRole(can_command, adapter.connected)
        instrument = end_of(site.serial)
        return PortRole(
            can_command, None, partial(adapter.serve_serial, instrument.port, instrument.settings)
        )
    observe = partial(ConnectionObservation, intake, source, partial(make_observer, profile, site), note)
    if site.host is not None:
        connect = partial(connect_to_host, site.host.address, site.host.tcp_port)
        relay = TcpPassThrough(source, observe, connect, note)
        return PortRole(can_command, relay.connected, end=relay.end)
    assert site.serial is not None, "the settings were checked"
    instrument, host = end_of(site.serial), end_of(site.host_serial) if site.host_serial else None
    if site.role == "listener":
        return PortRole(can_command, None, partial(serve_listener, source, observe, instrument, host, note))
    assert host is not None, "the settings were checked"
    return PortRole(
        can_command, None, partial(serve_serial_pass_through, source, observe, instrument, host, note)
    )
