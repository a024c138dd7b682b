"""The local page of a running box: the page on its UNIX socket, the switches, and the LED of sessions."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from agents.box.configuration.config import BoxConfig, SessionSettings
from agents.box.firewall import LogMessage
from agents.box.intake.counts import PortStatus
from agents.box.page.application import LocalPage
from agents.box.page.server import serve_page
from agents.box.page.status import PagePort, PageStandard, PageStatus
from agents.box.page.switch import watch_switches
from agents.box.program import BoxProgram
from agents.box.sessions.running import security_keys, serial_of
from hal.clock import WallClock
from hal.indicators import IndicatorError, Indicators, Light
from settings.board import Board
from wire.session.table import SessionState

RETRY_SECONDS: Final = 60.0
LED: Final = "session"
"""On while a session has a tunnel, otherwise blinking while an offer waits for an answer."""


async def run_local_page(
    config: BoxConfig,
    board: Board,
    box: BoxProgram,
    clock: WallClock,
    indicators: Indicators | None,
    log_message: LogMessage,
) -> None:
    """Serve the page until cancelled, if the configuration has [sessions]. Errors do not affect the box.

    Raises: OSError, ValueError if the box's certificate cannot be read.
    """
    if config.sessions is None:
        return
    ports = frozenset(port.number for port in config.port)
    page = LocalPage(
        serial_of(config.identity.certificate),
        ports,
        lambda: box.sessions,
        lambda: page_status(config, box, clock.now_ns() / 1e9),
        security_keys(config.sessions),
    )
    box.on_sessions_changed(page.changed)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_serve(config.sessions, page, clock, log_message))
        if indicators is not None:
            tasks.create_task(watch_switches(indicators, board.switches, page.switch_pressed, page.end_all))
            if LED in board.leds:
                box.on_sessions_changed(lambda: _show_sessions(indicators, ports, box))


async def _serve(
    settings: SessionSettings, page: LocalPage, clock: WallClock, log_message: LogMessage
) -> None:
    while True:
        try:
            async with serve_page(settings.page, page.handle, lambda: clock.now_ns() / 1e9):
                await asyncio.Event().wait()
        except OSError as error:
            log_message(f"sessions.page: {settings.page}: cannot listen: {error.strerror or error}")
            await asyncio.sleep(RETRY_SECONDS)


async def page_status(config: BoxConfig, box: BoxProgram, now_s: float) -> PageStatus | None:
    """Return the box's state for the page; None before the spool is open. `now_s` is in seconds since 1970."""
    status = await box.status()
    if status is None:
        return None
    standards = {port.port: _standard(port, now_s) for port in status.ports}
    served = {*box.tcp_ports, *(number for number, standard in standards.items() if standard.is_connected)}
    ports = [
        PagePort(
            port.number,
            tuple(instrument.serial for instrument in port.instrument),
            port.number in served,
            standards.get(port.number),
        )
        for port in config.port
    ]
    return PageStatus(
        status.is_connected,
        sum(status.spool.records.values()),
        not status.spool_problem,
        status.firewall is not None and status.firewall.in_force,
        tuple(ports),
        None if status.fips is None else status.fips.is_passed,
    )


def _standard(port: PortStatus, now_s: float) -> PageStandard:
    message_at_s = None if port.message_s is None else int(now_s - port.message_s)
    return PageStandard(port.speaks, port.connected, message_at_s, port.accepted, port.left_out)


def _show_sessions(indicators: Indicators, ports: frozenset[int], box: BoxProgram) -> None:
    sessions = box.sessions
    shown = [session for port in ports for session in sessions.at_port(port)] if sessions else []
    light = Light.OFF
    if any(session.state is SessionState.OFFERED for session in shown):
        light = Light.SLOW
    if any(session.has_tunnel for session in shown):
        light = Light.ON
    with suppress(IndicatorError):
        indicators.show(LED, light)
