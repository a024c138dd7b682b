"""firewalld does not change the firewall's table when it is started, reloaded, in panic mode or stopped.

It runs in a separate namespace with a separate message bus; those of the machine are not used.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from netfw.kernel.firewall import Firewall
from netfw.kernel.nft import Nft
from netfw.policy.policyfile import load_policy
from netfw.proof.prove import prove
from netfw.watch.surroundings import not_covered
from tests.support.eventually import WAIT_SECONDS_MAX, poll_until
from tests.support.namespaces import Namespace, namespace
from tests.support.netfw.boxlab import POLICIES

POLICY = load_policy(POLICIES / "clinic.toml")
PROGRAMS = ("firewalld", "dbus-daemon", "firewall-cmd")
BUS = """<busconfig><listen>unix:path={path}</listen><policy context="default">
<allow user="*"/><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/></policy></busconfig>"""

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(
        not all(map(shutil.which, PROGRAMS)), reason="needs the packages firewalld and dbus-daemon"
    ),
]


@contextmanager
def running(here: Namespace, *command: str, bus: str) -> Iterator[None]:
    """Run a daemon until the end of the context."""
    environment = {**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": bus}
    quiet = subprocess.DEVNULL
    daemon = subprocess.Popen(here.wrap(*command), env=environment, stdout=quiet, stderr=quiet)
    try:
        yield
    finally:
        daemon.send_signal(signal.SIGTERM)
        daemon.wait(WAIT_SECONDS_MAX)


@pytest.mark.slow("firewalld starts and reloads")
def test_firewalld_does_not_change_the_firewall(tmp_path: Path) -> None:
    bus = f"unix:path={tmp_path / 'bus'}"
    (tmp_path / "bus.conf").write_text(BUS.format(path=tmp_path / "bus"))

    with namespace() as here:
        nft = here.run(Nft)
        firewall = Firewall(nft)
        firewall.apply(POLICY)

        def run_command(arguments: str) -> int:
            environment = {**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": bus}
            command = here.wrap("firewall-cmd", *arguments.split())
            return subprocess.run(command, env=environment, capture_output=True, check=False).returncode

        def tables() -> str:
            return str(here.command("nft", "list", "tables", capture_output=True).stdout)

        with (
            running(here, "dbus-daemon", f"--config-file={tmp_path / 'bus.conf'}", "--nofork", bus=bus),
            running(here, "firewalld", "--nofork", "--nopid", bus=bus),
        ):
            poll_until(lambda: run_command("--state") == 0)
            assert "table inet firewalld" in tables()
            for arguments in (
                "--zone=trusted --add-interface=enp2s0",
                "--reload",
                "--complete-reload",
                "--panic-on",
                "--panic-off",
            ):
                assert run_command(arguments) == 0, arguments
                assert firewall.differences(POLICY) == [], arguments
                assert not any(each.breaks for each in here.run(lambda: not_covered(POLICY))), arguments
            assert all(finding.holds for finding in prove(POLICY, nft.table() or []))
        assert "firewalld" not in tables()
        assert firewall.differences(POLICY) == []
        nft.close()
