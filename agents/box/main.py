"""The box program on real hardware: the composition root.

Two threads: the event loop's, and one for the disk. SIGTERM and SIGINT stop it cleanly, and within END_SECONDS_MAX
whatever the disk does; after anything else the next start finds what the spool kept, and the firewall in force.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from random import SystemRandom
from typing import Final

from agents.box.box import Box, Hardware, Served
from agents.box.check import CheckedConfig, check_box
from agents.box.config import BoxConfig, FirewallPolicy
from agents.box.firewall import Say
from agents.box.status import served_status
from hal.disk import Disk
from hal.linux.clock import LinuxClock
from hal.linux.disk import LinuxDisk
from hal.linux.ethernet import LinuxEthernetPort
from hal.linux.indicators import LinuxIndicators
from hal.linux.watchdog import LinuxWatchdog
from netfw.service.client import Connect, FirewallClient, at_socket
from netfw.service.spawn import as_child
from wire.process.ending import LastResort
from wire.process.failures import FailureLog
from wire.process.resources import process_bounds, used_and_total
from wire.tls.identity import Severity

END_SECONDS_MAX: Final = 15.0
"""From a signal to the process's end; the unit's TimeoutStopSec is longer."""
THREADS_SECONDS_MAX: Final = 5.0
"""How long the interpreter may wait for threads once the box itself has ended."""
STATUS_RETRY_SECONDS: Final = 60.0
CERTIFICATE_LOOK_SECONDS: Final = 5.0
"""How often the program looks whether its certificate's files have changed; at SIGHUP it looks at once."""
DISK_STATUS: Final = 3


def run_box(config_path: Path, served: Served, say: Say) -> None:
    """Run the box until a signal stops it.

    `served` is called when instruments can connect at a port, `say` with what a person beside it should know.
    Raises: SettingsError for a wrong file; DescriptorError; DiskError or SpoolError for a disk that
    cannot be used. If a disk call does not return, the process ends with exit status 3 and the reason.
    """
    checked = check_box(config_path)
    for problem in checked.identity:
        say(f"{'warning' if problem.severity is Severity.SOON else 'the other end refuses'}: {problem}")
    asyncio.run(_run(checked, served, say))


async def _run(checked: CheckedConfig, served: Served, say: Say) -> None:
    config, loop, last_resort = checked.config, asyncio.get_running_loop(), LastResort()
    loop.set_exception_handler(FailureLog())
    disk = LinuxDisk(config.spool.directory)
    # neither is closed: a call that never returns may be using them, and the process ends anyway
    executor = ThreadPoolExecutor(1, "disk")
    box = Box(config, _hardware(checked, disk, executor), SystemRandom(), served, say)
    running = asyncio.ensure_future(box.run())

    def stop() -> None:
        for number in (signal.SIGTERM, signal.SIGINT):  # a second one must not interrupt the end
            loop.add_signal_handler(number, lambda: None)
        last_resort.arm(
            END_SECONDS_MAX, lambda: (DISK_STATUS, f"did not end in {END_SECONDS_MAX:g} s: {box.doing}")
        )
        running.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    loop.add_signal_handler(signal.SIGHUP, lambda: box.refresh_certificates(at_once=True))
    beside = [
        asyncio.ensure_future(it) for it in (_answer_status(config, box, say), _follow_certificates(box))
    ]
    try:
        with contextlib.suppress(asyncio.CancelledError):
            await running
    finally:
        for task in beside:
            task.cancel()
        idle = executor.submit(int)
        executor.shutdown(wait=False)
        last_resort.arm(THREADS_SECONDS_MAX, lambda: _lingering(idle, config))


def _lingering(idle: Future[int], config: BoxConfig) -> tuple[int, str]:
    """The exit status of a process whose threads do not end, and the reason."""
    if idle.done():
        return 0, "ended without waiting for a name lookup"
    return DISK_STATUS, f"spool.directory: {config.spool.directory}: the disk does not answer"


async def _follow_certificates(box: Box) -> None:
    while True:
        await asyncio.sleep(CERTIFICATE_LOOK_SECONDS)
        try:
            box.refresh_certificates()
        except Exception as error:
            context = {"message": "the certificate's files could not be looked at", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)


async def _answer_status(config: BoxConfig, box: Box, say: Say) -> None:
    """Answer whoever asks, until cancelled; without that the box works all the same."""
    while config.status is not None:
        try:
            async with served_status(config.status.socket, box.status):
                await asyncio.Event().wait()
        except OSError as error:
            say(
                f"status.socket: {config.status.socket}: nobody can ask for the status: {error.strerror or error}"
            )
            await asyncio.sleep(STATUS_RETRY_SECONDS)


def _hardware(checked: CheckedConfig, disk: Disk, executor: Executor) -> Hardware:
    board, watchdog, firewall = checked.board, checked.config.watchdog, checked.config.firewall
    return Hardware(
        disk,
        LinuxClock(checked.config.clock.service),
        LinuxEthernetPort("uplink", board.uplink),
        executor,
        firewall=FirewallClient(_connection(firewall)) if firewall else None,
        indicators=LinuxIndicators(board.leds, board.switches),
        watchdog=LinuxWatchdog(watchdog.device) if watchdog else None,
        built_s=Path(__file__).stat().st_mtime,
        bounds=process_bounds(),
        disk_space=partial(used_and_total, checked.config.spool.directory),
    )


def _connection(firewall: FirewallPolicy) -> Connect:
    """To the firewall service; without a socket's path, to one that is started as a child."""
    return at_socket(firewall.socket) if firewall.socket else as_child(firewall.policy, firewall.retry_s)
