"""The box program on real hardware: the composition root.

Two threads: the event loop's, and one for the disk. SIGTERM and SIGINT stop it cleanly; after anything else the
next start finds what the spool kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import SystemRandom

from agents.box import Box, Hardware
from agents.config import BoxConfig, load_config
from hal.board import load_board
from hal.linux.clock import LinuxClock
from hal.linux.disk import LinuxDisk
from hal.linux.ethernet import LinuxEthernetPort


def run_box(config_path: Path) -> None:
    """Run the box until a signal stops it.

    Errors: ConfigError or BoardError for a wrong file; OSError or ssl.SSLError for unusable certificates; DiskError
    or SpoolError for a disk that cannot be used.
    """
    config = load_config(config_path)
    asyncio.run(_run(config))


async def _run(config: BoxConfig) -> None:
    board = load_board(config.board)
    disk = LinuxDisk(config.spool.directory)
    with contextlib.closing(disk), ThreadPoolExecutor(1, "disk") as executor:
        uplink = LinuxEthernetPort("uplink", board.uplink)
        box = Box(config, Hardware(disk, LinuxClock(), uplink, executor), SystemRandom())
        running = asyncio.ensure_future(box.run())
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, running.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await running
