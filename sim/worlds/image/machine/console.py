"""Connects this terminal to the serial console of a box: `python -m sim.worlds.image.machine.console SOCKET`.

Ctrl-] ends it. If standard input is not a terminal, it is sent to the console, and the program ends with QEMU.
"""

from __future__ import annotations

import os
import select
import socket
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

ESCAPE: Final = b"\x1d"
"""Ctrl-], as in telnet(1)."""
_BYTES: Final = 4096


def attach(path: str, typed: int = 0, shown: int = 1) -> int:
    """Copy between the console and the file descriptors `typed` and `shown`; return the exit status."""
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(path)
    except OSError:
        sys.stderr.write("rap: the box has no power\n")
        return 1
    with connection, _raw(typed):
        _copy(connection, typed, shown)
    return 0


def _copy(connection: socket.socket, typed: int, shown: int) -> None:
    sources: list[int | socket.socket] = [connection, typed]
    while True:
        ready, _, _ = select.select(sources, [], [])
        if connection in ready:
            try:
                text = connection.recv(_BYTES)
            except ConnectionResetError:
                text = b""
            if not text:
                return
            os.write(shown, text)
        if typed in ready:
            keys = os.read(typed, _BYTES)
            if not keys:
                sources.remove(typed)
            before, escape, _ = keys.partition(ESCAPE)
            connection.sendall(before)
            if escape:
                return


@contextmanager
def _raw(terminal: int) -> Iterator[None]:
    """Set the terminal to raw mode, in which every key, including Ctrl-C, is sent to the guest."""
    if not os.isatty(terminal):
        yield
        return
    sys.stderr.write("rap: the box's serial console; press Ctrl-] to leave it, Enter for a prompt\r\n")
    previous = termios.tcgetattr(terminal)
    tty.setraw(terminal)
    try:
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, previous)


if __name__ == "__main__":
    sys.exit(attach(sys.argv[1]))
