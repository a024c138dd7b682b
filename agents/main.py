"""The box program on real hardware: the composition root.

Two threads: the event loop's, and one for the disk. SIGTERM and SIGINT stop it cleanly; after anything else the
next start finds what the spool kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import ssl
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import SystemRandom

import msgspec

from agents.box import Box, Hardware, Served
from agents.config import BoxConfig, ConfigError, load_config
from agents.status import SOCKET_PATH_BYTES_MAX, served_status
from hal.board import Board, BoardError, load_board
from hal.linux.clock import LinuxClock
from hal.linux.disk import LinuxDisk
from hal.linux.ethernet import LinuxEthernetPort
from wire.tls import client_context, server_context


def check_box(config_path: Path) -> tuple[BoxConfig, Board]:
    """The configuration and its board, if what they name is there and fits together. Errors: ConfigError."""
    config = load_config(config_path)
    try:
        board = load_board(config.board)
    except BoardError as error:
        raise ConfigError(config_path, "board", str(error)) from error
    for index, port in enumerate(config.port):
        if port.number not in board.instrument_ports:
            there_are = ", ".join(map(str, board.instrument_ports))
            message = f"{board.name} has no port {port.number}; it has {there_are}"
            raise ConfigError(config_path, f"port[{index}].number", message)
    _check_identity(config_path, config)
    _check_status(config_path, config)
    return config, board


def _check_status(config_path: Path, config: BoxConfig) -> None:
    if config.status is None:
        return
    socket = config.status.socket
    if not socket.parent.is_dir():
        raise ConfigError(config_path, "status.socket", f"there is no folder {socket.parent}; make it first")
    if len(os.fsencode(socket)) > SOCKET_PATH_BYTES_MAX:
        message = f"{socket} is too long; the system allows {SOCKET_PATH_BYTES_MAX} bytes"
        raise ConfigError(config_path, "status.socket", message)


def _check_identity(config_path: Path, config: BoxConfig) -> None:
    for key, file in msgspec.structs.asdict(config.identity).items():
        try:
            file.open("rb").close()
        except OSError as error:
            message = f"{file}: {error.strerror}; give a PEM file that can be read"
            raise ConfigError(config_path, f"identity.{key}", message) from error
    try:
        server_context(config.identity.towards_instruments())
        client_context(config.identity.towards_datacenter())
    except ssl.SSLError as error:
        message = f"one of the files is not PEM, or `key` is not the key of `certificate`: {error}"
        raise ConfigError(config_path, "identity", message) from error


def run_box(config_path: Path, served: Served) -> None:
    """Run the box until a signal stops it; `served` is called when instruments can connect at a port.

    Errors: ConfigError for a wrong file; DiskError or SpoolError for a disk that cannot be used.
    """
    asyncio.run(_run(*check_box(config_path), served))


async def _run(config: BoxConfig, board: Board, served: Served) -> None:
    disk = LinuxDisk(config.spool.directory)
    with contextlib.closing(disk), ThreadPoolExecutor(1, "disk") as executor:
        uplink = LinuxEthernetPort("uplink", board.uplink)
        box = Box(config, Hardware(disk, LinuxClock(), uplink, executor), SystemRandom(), served)
        running = asyncio.ensure_future(box.run())
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, running.cancel)
        async with _told_to_those_who_ask(config, box):
            with contextlib.suppress(asyncio.CancelledError):
                await running


def _told_to_those_who_ask(config: BoxConfig, box: Box) -> contextlib.AbstractAsyncContextManager[None]:
    return served_status(config.status.socket, box.status) if config.status else contextlib.nullcontext()
