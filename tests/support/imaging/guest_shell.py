"""A shell of root inside a started image, for benchmarks that look at the machine from within.

The image gets a unit for it (`KICKSTART`), which the serial port of `options` starts.
"""

from __future__ import annotations

import socket
from base64 import b64encode
from pathlib import Path
from typing import Final, NamedTuple

from tests.support.eventually import poll_until

_PORT: Final = "guest-shell"
_READY: Final = b"!"
"""The status that the shell writes when it starts; no script may end with it."""
_SECONDS_MAX: Final = 900.0
"""A limit that prevents hanging on a busy machine."""
_PROGRAM: Final = f"""\
import subprocess, time
port = open("/dev/virtio-ports/{_PORT}", "r+b", buffering=0)
def read(count):
    data = b""
    while len(data) < count:
        more = port.read(count - len(data))
        if not more:
            time.sleep(0.2)
        data += more or b""
    return data
def write(data):
    while data:
        data = data[port.write(data):]
port.write({_READY!r})
while True:
    script, given = (read(int.from_bytes(read(8), "big")) for _ in range(2))
    with open("/run/{_PORT}.sh", "wb") as file:
        file.write(script)
    pipe, both = subprocess.PIPE, subprocess.STDOUT
    done = subprocess.run(["/bin/sh", "/run/{_PORT}.sh"], input=given, stdout=pipe, stderr=both)
    write(bytes([done.returncode & 255]) + len(done.stdout).to_bytes(8, "big") + done.stdout)
"""
_UNIT: Final = f"""\
[Unit]
Description=Shell for benchmarks
StartLimitIntervalSec=0
[Service]
ExecStart=/usr/bin/python3.11 /etc/{_PORT}.py
Restart=always
RestartSec=2
"""
_RULE: Final = f"""\
SUBSYSTEM=="virtio-ports", ATTR{{name}}=="{_PORT}", TAG+="systemd", ENV{{SYSTEMD_WANTS}}="{_PORT}.service"
"""
"""The port starts the unit: a unit that looks for the port may run before udev has made it."""


def file_script(path: str, text: str) -> str:
    """Return lines of sh(1) that write a file."""
    return f"echo {b64encode(text.encode()).decode()} | base64 -d > {path}\n"


KICKSTART: Final = f"""
%post --erroronfail
set -e
{file_script(f"/etc/{_PORT}.py", _PROGRAM)}{file_script(f"/etc/systemd/system/{_PORT}.service", _UNIT)}\
{file_script(f"/etc/udev/rules.d/70-{_PORT}.rules", _RULE)}\
%end
"""
"""A section of the image's kickstart."""


class Done(NamedTuple):
    """The end of a script in the guest."""

    status: int
    output: str
    """Standard output and standard error."""


def options(place: Path) -> list[str]:
    """Return QEMU's options; `place` is the socket for `GuestShell`."""
    return [
        *("-device", "virtio-serial-pci,id=shell,bus=pcie.0,addr=0x11"),
        *("-chardev", f"socket,id=shell,path={place},server=on,wait=off"),
        *("-device", f"virtserialport,bus=shell.0,chardev=shell,name={_PORT}"),
    ]


class GuestShell:
    """The connection to the shell of a running machine; the guest answers one script after the other."""

    def __init__(self, place: Path) -> None:
        poll_until(place.exists)
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(place))
        self._socket.settimeout(_SECONDS_MAX)
        self._is_ready = False

    def run(self, script: str, given: bytes = b"") -> Done:
        """Run a script of sh(1) with `given` as its standard input. Raises: OSError, if the machine has ended.

        The machine may have restarted since the last one; what the port gets is kept until the shell runs again.
        """
        while not self._is_ready:
            self._is_ready = self._read(1) == _READY
        for part in (script.encode(), given):
            self._socket.sendall(len(part).to_bytes(8, "big") + part)
        while (status := self._read(1)) == _READY:  # from a start since the last script
            pass
        return Done(status[0], self._read(int.from_bytes(self._read(8), "big")).decode("utf-8", "replace"))

    def write(self, path: str, content: bytes) -> None:
        """Write a file in the guest."""
        done = self.run(f"cat > {path}", content)
        assert done.status == 0, done.output

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def _read(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = self._socket.recv(count - len(data))
            if not more:
                raise ConnectionResetError("the machine has ended")
            data += more
        return data
