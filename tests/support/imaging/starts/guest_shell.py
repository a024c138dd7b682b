"""A root shell inside a started image, for benchmarks that inspect the machine from within.

`KICKSTART` adds its unit to the image; the serial port of `options` starts the unit.
"""

from __future__ import annotations

import socket
from base64 import b64encode
from pathlib import Path
from typing import Final, NamedTuple

from tests.support.eventually import poll_until

_PORT: Final = "guest-shell"
_READY: Final = b"!"
"""The byte that the shell writes when it starts, in place of a status; no script may exit with this status."""
_SECONDS_MAX: Final = 900.0
"""Only prevents hanging; generous enough for a busy machine."""
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
    script, stdin = (read(int.from_bytes(read(8), "big")) for _ in range(2))
    with open("/run/{_PORT}.sh", "wb") as file:
        file.write(script)
    pipe, both = subprocess.PIPE, subprocess.STDOUT
    done = subprocess.run(["/bin/sh", "/run/{_PORT}.sh"], input=stdin, stdout=pipe, stderr=both)
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
"""The port starts the unit: a unit started at boot may run before udev has created the port."""


def file_script(path: str, text: str) -> str:
    """Return a line of sh(1) that writes a file."""
    return f"echo {b64encode(text.encode()).decode()} | base64 -d > {path}\n"


KICKSTART: Final = f"""
%post --erroronfail
set -e
{file_script(f"/etc/{_PORT}.py", _PROGRAM)}{file_script(f"/etc/systemd/system/{_PORT}.service", _UNIT)}\
{file_script(f"/etc/udev/rules.d/70-{_PORT}.rules", _RULE)}\
%end
"""
"""A section for the image's kickstart, which installs the shell."""


class ScriptResult(NamedTuple):
    """The result of a script in the guest."""

    status: int
    output: str
    """Standard output and standard error."""


def options(path: Path) -> list[str]:
    """Return QEMU's options for the port; `path` is the socket for `GuestShell`."""
    return [
        *("-device", "virtio-serial-pci,id=shell,bus=pcie.0,addr=0x11"),
        *("-chardev", f"socket,id=shell,path={path},server=on,wait=off"),
        *("-device", f"virtserialport,bus=shell.0,chardev=shell,name={_PORT}"),
    ]


class GuestShell:
    """A connection to the shell of a running machine, which runs one script at a time."""

    def __init__(self, path: Path) -> None:
        poll_until(path.exists)
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._socket.settimeout(_SECONDS_MAX)
        self._is_ready = False

    def run(self, script: str, stdin: bytes = b"") -> ScriptResult:
        """Run a script of sh(1) with standard input `stdin`. Raises: OSError, if the machine has ended.

        The machine may be restarting: the port keeps the script until the shell runs again.
        """
        while not self._is_ready:
            self._is_ready = self._read(1) == _READY
        for part in (script.encode(), stdin):
            self._socket.sendall(len(part).to_bytes(8, "big") + part)
        while (status := self._read(1)) == _READY:  # the machine has restarted since the last script
            pass
        return ScriptResult(
            status[0], self._read(int.from_bytes(self._read(8), "big")).decode("utf-8", "replace")
        )

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
