"""firewalld with the box's configuration: the zone "drop", and policies that accept what the box's table accepts."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from imaging.rpm.contents import RECIPE
from tests.support.eventually import WAIT_SECONDS_MAX, poll_until
from tests.support.namespaces import own_network

PROGRAMS = ("firewalld", "firewall-cmd", "dbus-daemon", "nsenter")
BUS = """<busconfig><listen>unix:path={path}</listen><policy context="default">
<allow user="*"/><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/></policy></busconfig>"""
REFUSED_AFTER_SECONDS = 1
BOX, INSTRUMENT = "10.77.1.1", "10.77.1.10"

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(
        os.geteuid() != 0 or not all(map(shutil.which, PROGRAMS)),
        reason="needs root, firewalld and dbus-daemon: make setup-kernel",
    ),
]


@contextmanager
def _running(*command: str | Path, **environment: str) -> Iterator[int]:
    """Run a program for the duration of the block; yield its process id."""
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, env={**os.environ, **environment}, stdout=quiet, stderr=quiet) as process:
        try:
            yield process.pid
        finally:
            process.send_signal(signal.SIGTERM)


@contextmanager
def _instrument() -> Iterator[int]:
    """Connect port 1 to a network namespace with the instrument's address; yield the id of a process in it."""
    with _running("unshare", "--net", "sleep", str(10 * WAIT_SECONDS_MAX)) as pid:
        own = os.stat("/proc/self/ns/net").st_ino  # noqa: PTH116
        poll_until(lambda: Path(f"/proc/{pid}/ns/net").stat().st_ino != own)
        for arguments in (
            f"link add port1 type veth peer name eth0 netns {pid}",
            f"address add {BOX}/24 dev port1",
            "link set port1 up",
        ):
            subprocess.run(["ip", *arguments.split()], check=True)
        for arguments in (f"address add {INSTRUMENT}/24 dev eth0", "link set eth0 up"):
            subprocess.run(["nsenter", f"--net=/proc/{pid}/ns/net", "ip", *arguments.split()], check=True)
        yield pid


def _connects(pid: int, port: int) -> bool:
    """Return whether a connection to the box from the network namespace of process `pid` succeeds."""
    code = f"import socket; socket.create_connection(({BOX!r}, {port}), {REFUSED_AFTER_SECONDS})"
    command = ["nsenter", f"--net=/proc/{pid}/ns/net", sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@contextmanager
def _firewalld(folder: Path) -> Iterator[None]:
    """Run firewalld with the configuration in `folder` on a separate D-Bus."""
    bus = f"unix:path={folder / 'bus'}"
    (folder / "bus.conf").write_text(BUS.format(path=folder / "bus"))
    environment = {"DBUS_SYSTEM_BUS_ADDRESS": bus}
    ask = ["firewall-cmd", "--state"]
    with (
        _running("dbus-daemon", f"--config-file={folder / 'bus.conf'}", "--nofork"),
        _running("firewalld", "--nofork", "--nopid", "--system-config", folder, **environment),
    ):

        def answers() -> bool:
            environ = {**os.environ, **environment}
            return subprocess.run(ask, env=environ, capture_output=True, check=False).returncode == 0

        poll_until(answers)
        yield


@pytest.mark.parametrize("with_policies", [True, False])
def test_an_instrument_reaches_the_box_through_firewalld(tmp_path: Path, with_policies: bool) -> None:
    if with_policies:
        shutil.copytree(RECIPE / "root/etc/firewalld", tmp_path, dirs_exist_ok=True)
    (tmp_path / "firewalld.conf").write_text("DefaultZone=drop\nFirewallBackend=nftables\n")
    with own_network(), _instrument() as instrument, socket.create_server((BOX, 0)) as collector:
        port = collector.getsockname()[1]
        assert _connects(instrument, port)
        with _firewalld(tmp_path):
            assert _connects(instrument, port) is with_policies
