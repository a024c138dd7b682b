"""The box program on real hardware: the composition root.

Two threads: the event loop's, and one for the disk. SIGTERM and SIGINT stop it cleanly; after anything else the
next start finds what the spool kept, and the firewall in force.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from random import SystemRandom

from agents.box import Box, Hardware, Served
from agents.boxcheck import CheckedConfig, check_box
from agents.config import BoxConfig, FirewallPolicy
from agents.firewall import Say
from agents.status import served_status
from hal.disk import Disk
from hal.linux.clock import LinuxClock
from hal.linux.disk import LinuxDisk
from hal.linux.ethernet import LinuxEthernetPort
from hal.linux.indicators import LinuxIndicators
from hal.linux.watchdog import LinuxWatchdog
from netfw.service.client import Connect, FirewallClient, at_socket
from netfw.service.spawn import as_child


def run_box(config_path: Path, served: Served, say: Say) -> None:
    """Run the box until a signal stops it.

    `served` is called when instruments can connect at a port, `say` with what a person beside it should know.
    Errors: ConfigError or PolicyError for a wrong file; DiskError or SpoolError for a disk that cannot be used.
    """
    asyncio.run(_run(check_box(config_path), served, say))


async def _run(checked: CheckedConfig, served: Served, say: Say) -> None:
    config = checked.config
    disk = LinuxDisk(config.spool.directory)
    with contextlib.closing(disk), ThreadPoolExecutor(1, "disk") as executor:
        box = Box(config, _hardware(checked, disk, executor), SystemRandom(), served, say)
        running = asyncio.ensure_future(box.run())
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, running.cancel)
        async with _told_to_those_who_ask(config, box):
            with contextlib.suppress(asyncio.CancelledError):
                await running


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
    )


def _connection(firewall: FirewallPolicy) -> Connect:
    """To the firewall service; without a socket's path, to one that is started as a child."""
    return at_socket(firewall.socket) if firewall.socket else as_child(firewall.policy, firewall.retry_s)


def _told_to_those_who_ask(config: BoxConfig, box: Box) -> contextlib.AbstractAsyncContextManager[None]:
    return served_status(config.status.socket, box.status) if config.status else contextlib.nullcontext()
