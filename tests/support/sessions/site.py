"""A site for remote sessions, with its programs as users start them, in network namespaces.

    data center, staff ──uplink── box, httpd ──port 1── instrument with a desktop, person

`rap dc serve` and `rap box run` read the files that their guides describe, with certificates of `rap pki`. All
connections of the box use TCP port 443. Tests start the browsers of staff and of the person.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Interface
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Final

from agents.instrument.agent import InstrumentAgent
from agents.provision.page import PAGE
from hal.linux.clock import LinuxClock
from rap.__main__ import main
from settings.types import Endpoint
from tests.support.eventually import poll_until
from tests.support.httpd import USER, configure, running
from tests.support.namespaces import Namespace, NamespaceThread, cable, namespace
from tests.support.paths import ROOT
from wire.messages import Status
from wire.tls.context import Identity, client_context

BOX, CHEM, DATACENTER = "RAP-0001", "CHEM-0001", "DC"
CENTER, TUNNEL_ADDRESS, UPLINK = "203.0.113.5", "203.0.113.6", "203.0.113.10"
PORT, INSTRUMENT = IPv4Interface("10.77.1.1/24"), "10.77.1.5"
STAFF_PORT: Final = 8080
STAFF_MEMBER: Final = "engineer"
TUN: Final = "rap-tun0"
BOARD: Final = 'name = "site"\nuplink = "uplink0"\n[instrument_ports]\n1 = "port1"\n'
FIREWALL: Final = """\
board = "board.toml"
[[authorized]]
role = "datacenter"
addresses = ["203.0.113.5", "203.0.113.6"]
protocol = "tcp"
ports = [443]
[[port]]
number = 1
addresses = ["10.77.1.1/24"]
services = ["tcp/443", "tcp/8443"]
desktop = ["tcp/{desktop}"]
[tunnel]
interface = "rap-tun0"
staff = ["10.99.0.2/32"]
address = "10.99.0.1"
"""
BOX_FILE: Final = """\
board = "board.toml"
[identity]
certificate = "pki/rap-0001.crt"
key = "pki/rap-0001.key"
vendor_authority = "pki/vendor-ca.crt"
datacenter_authority = "pki/datacenter-root.crt"
[datacenter]
host = "203.0.113.5"
[[port]]
number = 1
listen = "10.77.1.1"
[[port.instrument]]
serial = "CHEM-0001"
model = "{model}"
address = "10.77.1.5"
[spool]
directory = "spool"
[sending]
linger_s = 0.1
heartbeat_s = 1.0
[firewall]
policy = "firewall.toml"
retry_s = 0.2
[sessions]
endpoint = "203.0.113.6:443"
keys = "offer-key.pub"
ways = ["code"]
page = "{page}"
"""
CENTER_FILE: Final = """\
boxes = ["RAP-0001"]
fleet = "fleet.toml"
[listen]
host = "203.0.113.5"
[tls]
certificate = "pki/dc.crt"
key = "pki/dc.key"
authorities = "pki/vendor-ca.crt"
[store]
url = "sqlite:///{folder}/reports.db"
[staff]
directory = "staff.toml"
port = 8080
development = true
[sessions]
key = "offer-key.pem"
folder = "sessions"
address = "203.0.113.6"
port = 443
"""
FLEET: Final = """\
[site.berlin-1]
name = "Klinikum Nord"
country = "DE"
region = "europe"
zone = "Europe/Berlin"
boxes = ["RAP-0001"]
"""
STAFF: Final = """\
[staff.engineer]
roles = ["service-engineer"]
scope = ["everywhere"]
[staff.engineer.trainings]
{model} = 2100-01-01
"""


@dataclass
class SessionSite:
    """The running site. Both programs end with its context, or by `stop`."""

    folder: Path
    box: Namespace
    center: Namespace
    instrument: Namespace
    programs: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    staff_url = f"http://127.0.0.1:{STAFF_PORT}"
    person_url = f"https://{PORT.ip}:{PAGE}"

    @property
    def audits(self) -> tuple[Path, Path]:
        """The audit files of the data center and of the box."""
        return self.folder / "sessions/sessions.audit", self.folder / "spool/sessions.audit"

    def stop(self) -> None:
        """Stop both programs by SIGTERM; they must end without an error."""
        for name, program in self.programs.items():
            program.send_signal(signal.SIGTERM)
            assert program.wait() == 0, (self.folder / f"{name}.log").read_text()[-2000:]

    def tunnel_packets(self) -> int:
        """Count the packets that the box's TUN device has received and sent."""

        def read() -> int:
            rows = Path("/proc/thread-self/net/dev").read_text().splitlines()
            fields = next(row for row in rows if TUN in row).split(":")[1].split()
            return int(fields[1]) + int(fields[9])

        return self.box.run(read)

    def openvpn_processes(self) -> int:
        """Return the number of tunnels that the programs have started; processes that make keys do not count."""
        pids = [program.pid for program in self.programs.values()]
        listing = subprocess.run(
            ("ps", "-ww", "-o", "args=", "--ppid", ",".join(map(str, pids))),
            capture_output=True,
            text=True,
            check=False,
        )
        commands = [line.split() for line in listing.stdout.splitlines()]
        return sum(Path(name).name == "openvpn" and "--genkey" not in rest for name, *rest in commands)


def rap(*arguments: object) -> int:
    """Run `rap` with these arguments in this process; return its exit status."""
    return main([str(argument) for argument in arguments])


@contextmanager
def session_site(folder: Path, model: str, desktop_port: int) -> Iterator[SessionSite]:
    """Start a site in an empty folder. On entry, staff can see the instrument, and the page responds."""
    with ExitStack() as stack:
        box, center, instrument = (stack.enter_context(namespace()) for _ in range(3))
        _connect(box, center, instrument)
        page = Path(stack.enter_context(TemporaryDirectory(prefix="rap-page-")))
        shutil.chown(page, group=USER)
        page.chmod(0o2750)  # like /run/rap-page on a box, which tmpfiles.d creates
        _write_files(folder, model, desktop_port, page / "socket")
        site = SessionSite(folder, box, center, instrument)
        stack.callback(_kill, site)
        for name, network, verb in (("dc", center, "serve"), ("box", box, "run")):
            site.programs[name] = _start(folder, network, name, verb)
        (folder / "httpd").mkdir()
        configuration, _ = configure(
            folder / "httpd", folder / "pki", {1: PORT}, page / "socket", tcp_port=PAGE
        )
        stack.enter_context(running(configuration, (str(PORT.ip), PAGE), box))
        poll_until(lambda: _answers(site))
        thread = NamespaceThread(instrument)
        stack.callback(thread.stop)
        thread.call(_send_report(folder / "pki"))
        yield site


def _connect(box: Namespace, center: Namespace, instrument: Namespace) -> None:
    cable(box, "uplink0", center, "wan")
    cable(box, "port1", instrument, "eth0")
    center.ip(f"addr add {CENTER}/24 dev wan", f"addr add {TUNNEL_ADDRESS}/24 dev wan")
    box.ip(
        f"addr add {UPLINK}/24 dev uplink0",
        f"addr add {PORT} dev port1",
        f"tuntap add dev {TUN} mode tun user root",
        f"addr add 10.99.0.1/29 dev {TUN}",
        f"link set {TUN} up",
    )
    instrument.ip(f"addr add {INSTRUMENT}/24 dev eth0", f"route add default via {PORT.ip}")


def _write_files(folder: Path, model: str, desktop_port: int, page: Path) -> None:
    pki = folder / "pki"
    assert rap("pki", "init", pki) == 0
    assert rap("pki", "issue", pki, DATACENTER, "--for", "datacenter", "--host", CENTER) == 0
    assert rap("pki", "issue", pki, BOX, "--for", "box", "--host", PORT.ip) == 0
    assert rap("pki", "issue", pki, CHEM, "--for", "instrument") == 0
    for command in (
        "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out offer-key.pem",
        "pkey -in offer-key.pem -pubout -out offer-key.pub",
        "x509 -in pki/rap-0001.crt -pubkey -noout -out box.pub",
    ):
        subprocess.run(("openssl", *command.split()), cwd=folder, check=True, capture_output=True)
    (folder / "sessions").mkdir()
    for name, text in {
        "board.toml": BOARD,
        "firewall.toml": FIREWALL.format(desktop=desktop_port),
        "box.toml": BOX_FILE.format(page=page, model=model),
        "dc.toml": CENTER_FILE.format(folder=folder),
        "fleet.toml": FLEET,
        "staff.toml": STAFF.format(model=model),
    }.items():
        (folder / name).write_text(text)


def _start(folder: Path, network: Namespace, name: str, verb: str) -> subprocess.Popen[bytes]:
    file = folder / f"{name}.toml"
    command = network.wrap(sys.executable, "-m", "rap", name, verb, "--config", str(file))
    with (folder / f"{name}.log").open("wb") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | {"PYTHONPATH": str(ROOT)})


def _answers(site: SessionSite) -> bool:
    """Return whether both programs respond: the staff's pages, and the person's page through httpd."""
    for name, program in site.programs.items():
        assert program.poll() is None, (site.folder / f"{name}.log").read_text()[-2000:]
    for network, url in ((site.center, f"{site.staff_url}/sign-in"), (site.instrument, site.person_url)):
        command = (
            "curl",
            "--silent",
            "--fail",
            "--insecure",
            "--max-time",
            "5",
            "--output",
            "/dev/null",
            url,
        )
        if subprocess.run(network.wrap(*command), check=False).returncode:
            return False
    return True


async def _send_report(pki: Path) -> None:
    """Send a report of the instrument, so that the data center knows it; return when it is acknowledged."""
    stem = pki / CHEM.lower()
    identity = Identity(*(stem.with_suffix(end) for end in (".crt", ".key", ".ca.crt")))
    acknowledged = asyncio.Event()
    agent = InstrumentAgent(
        Endpoint(str(PORT.ip), 443),
        client_context(identity),
        run_number=1,
        clock=LinuxClock(),
        random=Random(1),
        on_acknowledged=lambda _: acknowledged.set(),
    )
    agent.submit(Status, "running", 1, {})
    running_agent = asyncio.create_task(agent.run())
    await acknowledged.wait()
    running_agent.cancel()
    await asyncio.wait([running_agent])


def _kill(site: SessionSite) -> None:
    for program in site.programs.values():
        if program.poll() is None:
            program.kill()
            program.wait()


def verify_records(site: SessionSite) -> None:
    """Check that the audit files and the recording of a stopped site pass the verification commands of `rap`."""
    center, box = site.audits
    keys = ("--datacenter-key", site.folder / "offer-key.pub")
    assert rap("session", "verify", center, box, *keys, "--box-key", site.folder / "box.pub") == 0
    (recording,) = (site.folder / "sessions/recordings").glob("*.rapr")
    assert rap("session", "recording", recording, *keys, "--audit", center, "--audit", box) == 0
