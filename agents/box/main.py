"""The box program on real hardware: the composition root.

The event loop has one thread, and the disk another; updates, reading logs and name lookups use further threads.
SIGTERM and SIGINT stop the program cleanly, and within END_SECONDS_MAX even if the disk hangs. After a crash, the
next start recovers the spool; meanwhile the firewall service keeps the policy in force.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import tempfile
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import SystemRandom
from typing import Final

from agents.box.audit_work import SESSIONS_AUDIT
from agents.box.box import OnServed
from agents.box.check import CheckedConfig, check_box, check_closed
from agents.box.configuration.config import BoxConfig, FirewallPolicy, SessionSettings, UpdateSettings
from agents.box.firewall import LogMessage
from agents.box.hardware import Hardware
from agents.box.local_page import run_local_page
from agents.box.page.certificate import FILE as PAGE_CERTIFICATE
from agents.box.page.certificate import publish_certificate
from agents.box.program import BoxProgram, box_program, demanded_self_test
from agents.box.sessions.desktop import Accepted, DesktopNetwork
from agents.box.sessions.running import SessionHardware
from agents.box.status.status import serve_status
from agents.box.tunnel.openvpn import OpenVpnTunnel
from agents.box.updates.surroundings import UpdateHardware
from agents.enrolment.certificate_files import BoxCertificates
from agents.enrolment.keys import key_maker
from hal.crypto import SelfTest
from hal.disk import Disk, DiskError
from hal.linux.clock import LinuxClock
from hal.linux.crypto import LinuxCryptographicModule
from hal.linux.disk import LinuxDisk
from hal.linux.ethernet import LinuxEthernetPort
from hal.linux.indicators import LinuxIndicators
from hal.linux.log_folder import LinuxLogFolder, LinuxOwnLogs
from hal.linux.machine import LinuxMachine
from hal.linux.partition import LinuxPartition
from hal.linux.watchdog import LinuxWatchdog
from hal.serial import SerialPort
from netfw.service.client import Connect, FirewallClient, at_socket
from netfw.service.spawn import as_child
from settings.adapted import serial_ports_of
from wire.process.failures import FailureLog
from wire.process.forced_exit import ForcedExit
from wire.process.resources import process_bounds, used_and_total
from wire.session.log import SessionLog
from wire.tls.identity import Severity

END_SECONDS_MAX: Final = 15.0
"""Limit of the time from a signal to the end of the process; the unit's TimeoutStopSec is longer."""
THREADS_SECONDS_MAX: Final = 5.0
"""Limit of the time that the interpreter waits for threads after the box has ended."""
STATUS_RETRY_SECONDS: Final = 60.0
CERTIFICATE_CHECK_SECONDS: Final = 5.0
"""Interval of checks whether the certificate files have changed; SIGHUP triggers a check immediately."""
DISK_STATUS: Final = 3
"""Exit status if a disk call does not return."""
UNPRIVILEGED: Final = ("setpriv", "--no-new-privs", "--ambient-caps=-all")
"""Starts OpenVPN without the capabilities of the box program. OpenVPN opens the TUN device as the device's owner."""
UNPRIVILEGED_ROOT: Final = (*UNPRIVILEGED, "--inh-caps=-all", "--bounding-set=-all")
"""Drops the capabilities of a program started as root, which would otherwise regain all of them on exec. Requires
system calls that the box's unit does not permit."""


def run_box(config_path: Path, on_served: OnServed, log_message: LogMessage) -> None:
    """Run the box until a signal stops it.

    `on_served` is called when instruments can connect to a port, `log_message` with messages for the operator.
    If a disk call does not return, so that the box cannot stop in time, the process prints the reason and exits with
    DISK_STATUS. If FIPS mode is required and not in force, the box runs closed (`agents.box.closed`).

    Raises: SettingsError for an invalid file; DescriptorError; DiskError or SpoolError for an unusable disk.
    """
    checked = check_closed(config_path)
    fips = demanded_self_test(checked.config, LinuxCryptographicModule())
    if fips is None or fips.is_passed:
        checked = check_box(config_path, checked)
    for problem in checked.identity:
        log_message(
            f"{'warning' if problem.severity is Severity.SOON else 'peers refuse the certificate'}: {problem}"
        )
    asyncio.run(_run(checked, fips, on_served, log_message))


async def _run(
    checked: CheckedConfig, fips: SelfTest | None, on_served: OnServed, log_message: LogMessage
) -> None:
    config, loop, forced_exit = checked.config, asyncio.get_running_loop(), ForcedExit()
    loop.set_exception_handler(FailureLog())
    disk = LinuxDisk(config.spool.directory)
    # the disk is not closed: a call that never returns may be using it, and the process ends anyway
    executor = ThreadPoolExecutor(1, "disk")
    hardware = replace(_hardware(checked, disk, executor, log_message), fips=fips)
    box = box_program(config, hardware, SystemRandom(), on_served, log_message)
    running = asyncio.ensure_future(box.run())

    def stop() -> None:
        for number in (signal.SIGTERM, signal.SIGINT):  # a second signal must not interrupt the shutdown
            loop.add_signal_handler(number, lambda: None)
        forced_exit.arm(
            END_SECONDS_MAX,
            lambda: (DISK_STATUS, f"did not stop within {END_SECONDS_MAX:g} s: {box.activity}"),
        )
        running.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    loop.add_signal_handler(signal.SIGHUP, lambda: box.refresh_certificates(at_once=True))
    background = [
        asyncio.ensure_future(task)
        for task in (
            _answer_status(config, box, log_message),
            _follow_certificates(box),
            run_local_page(config, checked.board, box, hardware.clock, hardware.indicators, log_message),
        )
    ]
    try:
        with contextlib.suppress(asyncio.CancelledError):
            await running
    finally:
        for task in background:
            task.cancel()
        idle = executor.submit(int)
        executor.shutdown(wait=False)
        forced_exit.arm(THREADS_SECONDS_MAX, lambda: _lingering(idle, config))


def _lingering(idle: Future[int], config: BoxConfig) -> tuple[int, str]:
    """Return the exit status and reason for a process whose threads do not end."""
    if idle.done():
        return 0, "ended without waiting for a name lookup"
    return DISK_STATUS, f"spool.directory: {config.spool.directory}: the disk does not respond"


async def _follow_certificates(box: BoxProgram) -> None:
    while True:
        await asyncio.sleep(CERTIFICATE_CHECK_SECONDS)
        try:
            box.refresh_certificates()
        except Exception as error:
            context = {"message": "checking the certificate files failed", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)


async def _answer_status(config: BoxConfig, box: BoxProgram, log_message: LogMessage) -> None:
    """Serve the status socket until cancelled. Errors do not affect the box."""
    while config.status is not None:
        try:
            async with serve_status(config.status.socket, box.status):
                await asyncio.Event().wait()
        except OSError as error:
            log_message(f"status.socket: {config.status.socket}: cannot listen: {error.strerror or error}")
            await asyncio.sleep(STATUS_RETRY_SECONDS)


def _hardware(checked: CheckedConfig, disk: Disk, executor: Executor, log_message: LogMessage) -> Hardware:
    config, board = checked.config, checked.board
    watchdog, firewall = config.watchdog, config.firewall
    return Hardware(
        disk,
        LinuxClock(config.clock.service),
        LinuxEthernetPort("uplink", board.uplink),
        executor,
        firewall=FirewallClient(_connection(firewall)) if firewall else None,
        indicators=LinuxIndicators(board.leds, board.switches),
        watchdog=LinuxWatchdog(watchdog.device) if watchdog else None,
        built_s=Path(__file__).stat().st_mtime,
        bounds=process_bounds(),
        disk_space=partial(used_and_total, config.spool.directory),
        serial_ports=_serial_ports(checked),
        sessions=_sessions(config, config.sessions, log_message) if config.sessions else None,
        updates=_updates(config.updates, log_message) if config.updates else None,
        audit_log=LinuxLogFolder(config.audit.service) if config.audit else None,
        make_key=key_maker(config.enrolment, log_message),
    )


def _updates(settings: UpdateSettings, log_message: LogMessage) -> UpdateHardware | None:
    """Return the partitions of the slots; None if one is missing, which prevents only updates."""
    try:
        slots = {slot: LinuxPartition(path) for slot, path in settings.slots.items()}
        boot_state = LinuxPartition(settings.boot_state)
    except DiskError as error:
        log_message(f"updates: the box cannot be updated: {error}")
        return None
    machine = LinuxMachine(settings.restart_file)
    return UpdateHardware(slots, boot_state, machine, ThreadPoolExecutor(1, "updates"))


def _sessions(config: BoxConfig, settings: SessionSettings, log_message: LogMessage) -> SessionHardware:
    """Return the hardware of remote sessions: OpenVPN on the TUN device, and the network."""

    async def listen(accept: Accepted, port: int) -> asyncio.Server:
        return await asyncio.start_server(accept, str(settings.box_address), port, backlog=1)

    def publish(used: BoxCertificates) -> None:
        file = settings.page.with_name(PAGE_CERTIFICATE)
        try:
            publish_certificate(file, used, config.identity)
        except OSError as error:
            log_message(f"sessions.page: {file}: cannot be written: {error.strerror or error}")

    private = Path(tempfile.gettempdir())  # OpenVpnTunnel creates a folder in it that only this user can read
    prefix = (*(UNPRIVILEGED_ROOT if os.geteuid() == 0 else UNPRIVILEGED), "--")
    return SessionHardware(
        path=None,
        make_tunnel=lambda: OpenVpnTunnel(settings.device, private, config.proxy, prefix),
        open_log=partial(SessionLog, config.spool.directory / SESSIONS_AUDIT),
        desktop=DesktopNetwork(listen, asyncio.open_connection),
        log_folder=LinuxOwnLogs(config.spool.directory),
        publish=publish,
    )


def _connection(firewall: FirewallPolicy) -> Connect:
    """Connect to the firewall service, or start one as a child process if no socket is configured."""
    return at_socket(firewall.socket) if firewall.socket else as_child(firewall.policy, firewall.retry_s)


def _serial_ports(checked: CheckedConfig) -> dict[int, SerialPort]:
    """Return the serial ports that instruments use. pyserial is imported only if there are any."""
    numbers = [
        number
        for port in checked.config.port
        for instrument in port.instrument
        for number in serial_ports_of(instrument.adapted)
    ]
    if not numbers:
        return {}
    from hal.linux.serial import LinuxSerialPort

    devices = checked.board.serial_ports
    return {number: LinuxSerialPort(f"serial{number}", devices[number]) for number in numbers}
