"""TigerVNC's server (Xvnc) on loopback, as an instrument's desktop."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.eventually import poll_until

PROGRAM = shutil.which("Xtigervnc") or shutil.which("Xvnc")


@dataclass(frozen=True)
class VncServer:
    """A running server."""

    port: int
    display: int
    process: subprocess.Popen[bytes]

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)


def free_port(host: str = "127.0.0.1") -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def vnc_server(
    folder: Path,
    *options: str,
    size: tuple[int, int] = (1024, 768),
    password: str = "",
    prefix: tuple[str, ...] = (),
    host: str = "127.0.0.1",
) -> Iterator[VncServer]:
    """Start a server, which ends with the block. `prefix` is a command that starts it, as in a namespace."""
    assert PROGRAM is not None, "TigerVNC is not installed: make setup-sessions"
    security = ["-SecurityTypes", "VncAuth" if password else "None"]
    if password:
        file = folder / "vncpasswd"
        file.write_bytes(obfuscated(password))
        security += ["-PasswordFile", str(file)]
    port = free_port()
    reading, writing = os.pipe()
    command = [*prefix, PROGRAM, "-displayfd", str(writing), "-rfbport", str(port), "-interface", host]
    command += ["-geometry", f"{size[0]}x{size[1]}", "-depth", "24", "-AlwaysShared", "-nolisten", "tcp"]
    with (folder / "vnc-server.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, *security, *options], pass_fds=(writing,), stdout=log, stderr=log
        )
    os.close(writing)
    try:
        with os.fdopen(reading, "rb") as display:
            number = display.readline()
        assert number, (folder / "vnc-server.log").read_text()
        server = VncServer(port, int(number), process)
        if not prefix:
            poll_until(lambda: _accepts(port))
        yield server
    finally:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        process.wait()


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def obfuscated(password: str) -> bytes:
    """Return the content of a password file of VNC: the password, encrypted by a key that everybody knows."""
    from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
    from cryptography.hazmat.primitives.ciphers import Cipher, modes

    key = bytes(int(f"{byte:08b}"[::-1], 2) for byte in (23, 82, 107, 6, 35, 78, 88, 7))
    encryptor = Cipher(TripleDES(key * 3), modes.ECB()).encryptor()
    return encryptor.update(password.encode()[:8].ljust(8, b"\0")) + encryptor.finalize()
