"""`rap box run` with a firewall, as a real process in a network namespace with veth pairs as cables.

dc ── uplink │ box │ port1 ── one
             │     │ port2 ── two
"""

from __future__ import annotations

import asyncio
import errno
import re
import select
import signal
import socket
import subprocess
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random

import pytest
from pyroute2 import IPRoute

from agents.box.status.status import StatusReport, read_status
from agents.instrument.agent import InstrumentAgent
from datacenter.store import queries
from datacenter.store.store import Store
from hal.linux import netlink
from hal.linux.clock import LinuxClock
from netfw.kernel.firewall import Firewall
from netfw.kernel.nft import Nft
from netfw.policy.policyfile import load_policy
from settings.types import Endpoint
from tests.support import eventually as polling
from tests.support.eventually import WAIT_SECONDS_MAX
from tests.support.namespaces import Namespace, cable, namespaces
from tests.support.real import prepare, start
from wire.messages import Audit, Quality, decode
from wire.tls.context import Identity, client_context

pytestmark = pytest.mark.kernel

eventually = partial(polling.eventually, every_s=0.02)
MEMORY_MB_MAX = 64
BOX_ON_PORT, SIBLING, DATACENTER = "10.77.1.1", "10.77.2.5", "203.0.113.5"

BOARD = 'name = "two"\nuplink = "uplink"\n[instrument_ports]\n1 = "port1"\n2 = "port2"\n'
DC = """\
boxes = ["RAP-0001"]
[listen]
host = "203.0.113.5"
port = 443
[tls]
certificate = "dc.crt"
key = "dc.key"
authorities = "vendor-ca.crt"
[store]
url = "sqlite:///{folder}/reports.db"
"""
BOX = """\
board = "board.toml"
[identity]
certificate = "rap-0001.crt"
key = "rap-0001.key"
vendor_authority = "vendor-ca.crt"
datacenter_authority = "datacenter-root.crt"
[datacenter]
host = "127.0.0.1"
address = "203.0.113.5"
[[port]]
number = 1
listen = "10.77.1.1"
[[port.instrument]]
serial = "CHEM-0001"
model = "chemistry-analyzer"
[spool]
directory = "spool"
bytes_max = 16777216
[sending]
linger_s = 0.1
[status]
socket = "box.sock"
[firewall]
policy = "firewall.toml"
retry_s = 0.1
"""
POLICY = """\
board = "board.toml"
[[authorized]]
role = "datacenter"
addresses = ["203.0.113.5"]
protocol = "tcp"
ports = [443]
[[port]]
number = 1
addresses = ["10.77.1.1/24", "fd00:77:1::1/64"]
services = ["tcp/443"]
"""
TUNNEL = '[tunnel]\ninterface = "tun-rap"\nstaff = ["10.99.0.0/16"]\n'


@dataclass
class FirewalledBox:
    """The namespaces, the files, and the state of the box as seen from outside its program."""

    folder: Path
    box: Namespace
    outside: Namespace
    one: Namespace
    nft: Nft

    def is_open(self, interface: str) -> bool:
        return bool(self.box.run(lambda: netlink.interface_info(interface)).flags & netlink.IFF_UP)

    def times_closed(self, interface: str) -> int:
        def count() -> int:
            with IPRoute() as kernel:
                return int(kernel.get_links(ifname=interface)[0].get_attr("IFLA_CARRIER_DOWN_COUNT"))

        return self.box.run(count)

    def setting(self, name: str) -> str:
        return self.box.run(lambda: Path("/proc/sys/net", name).read_text().strip())

    def sockets(self) -> int:
        """Return the number of TCP sockets in the box that listen, connect or are connected."""
        tables = [Path("/proc/thread-self/net/tcp"), Path("/proc/thread-self/net/tcp6")]
        return self.box.run(lambda: sum(len(table.read_text().splitlines()) - 1 for table in tables))

    def refused(self) -> dict[str, int]:
        return {cause: count.packets for cause, count in Firewall(self.nft).counts().items()}

    def handles(self) -> list[str]:
        """Return the handles of all rules; a rule that was created again has a new handle."""
        listed = self.box.command("nft", "-a", "list", "table", "inet", "rap", capture_output=True).stdout
        return re.findall(r"# handle \d+", listed)

    def status(self) -> StatusReport:
        return read_status(self.folder / "box.sock")

    def audits(self) -> list[str]:
        """Return the audit events of the box that the data center has stored."""
        store = Store(f"sqlite:///{self.folder}/reports.db")
        try:
            return [
                decode(Audit, body).event for record, body in queries.bodies(store) if record.kind == "audit"
            ]
        finally:
            store.close()

    def report(self) -> None:
        """Send a report from an instrument at port 1, and wait for the acknowledgement."""
        self.one.run(lambda: asyncio.run(self._report()))

    async def _report(self) -> None:
        stem = self.folder / "chem-0001"
        identity = Identity(*(stem.with_suffix(end) for end in (".crt", ".key", ".ca.crt")))
        far_end = Endpoint("127.0.0.1", 443, BOX_ON_PORT)
        agent = InstrumentAgent(
            far_end, client_context(identity), run_number=1, clock=LinuxClock(), random=Random(1)
        )
        agent.submit(Quality, "glu", 1, 17)
        task = asyncio.ensure_future(agent.run())
        await eventually(lambda: agent.waiting == 0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    def attempt(self, address: str) -> socket.socket:
        """Start a connection from port 1 to TCP port 443 of that address."""
        client = self.one.socket(socket.AF_INET, socket.SOCK_STREAM)
        client.setblocking(False)
        assert client.connect_ex((address, 443)) == errno.EINPROGRESS
        return client

    async def _refused_for(self, cause: str, address: str) -> bool:
        """Try to connect until the firewall counts a refusal for this cause; return whether nothing answered."""
        before = self.refused()[cause]
        with closing(self.attempt(address)) as client:
            await eventually(lambda: self.refused()[cause] > before)
            return not select.select([], [client], [], 0)[1]

    def refused_for(self, cause: str, address: str) -> bool:
        return asyncio.run(self._refused_for(cause, address))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fw")
    asyncio.run(prepare(folder, ["CHEM-0001"]))
    (folder / "board.toml").write_text(BOARD)
    (folder / "box.toml").write_text(BOX)
    (folder / "dc.toml").write_text(DC.format(folder=folder))
    (folder / "firewall.toml").write_text(POLICY + TUNNEL)
    return folder


@pytest.fixture
def site(folder: Path) -> Iterator[FirewalledBox]:
    """All cables plugged, all ports up and forwarding enabled: the most permissive state of a system."""
    with namespaces(4) as (box, outside, one, two):
        cable(box, "uplink", outside, "wan")
        cable(box, "port1", one, "eth0")
        cable(box, "port2", two, "eth0")
        box.write("ipv4/ip_forward", 1)
        box.ip(
            "addr add 192.0.2.2/24 dev uplink",
            "route add default via 192.0.2.1",
            f"addr add {BOX_ON_PORT}/24 dev port1",
            "addr add fd00:77:1::1/64 dev port1 nodad",
            "addr add 10.77.2.1/24 dev port2",
        )
        outside.ip(
            "addr add 192.0.2.1/24 dev wan",
            f"addr add {DATACENTER}/32 dev lo",
            "route add 10.0.0.0/8 via 192.0.2.2",
        )
        one.ip("addr add 10.77.1.5/24 dev eth0", f"route add default via {BOX_ON_PORT}")
        two.ip(f"addr add {SIBLING}/24 dev eth0", "route add default via 10.77.2.1")
        nft = box.run(Nft)
        try:
            yield FirewalledBox(folder, box, outside, one, nft)
        finally:
            nft.close()


@asynccontextmanager
async def running(
    namespace: Namespace, *arguments: object, through: tuple[str, ...] = ()
) -> AsyncIterator[Process]:
    """Run `rap` in the namespace, prefixed with the command `through`, and kill it at the end of the context."""
    process = await start(*arguments, within=(*namespace.wrap(), *through))
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def wait_for_line(process: Process, text: str) -> str:
    """Return the next line on standard error that contains this text."""
    assert process.stderr is not None
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        while line := (await process.stderr.readline()).decode():
            if text in line:
                return line
    raise AssertionError(f"the program ended without printing {text!r}")


@contextmanager
def table_of_another_program(namespace: Namespace) -> Iterator[None]:
    """Let another program own the firewall's table, so that the kernel refuses changes to it."""
    command = namespace.wrap("nft", "--interactive")
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdin and owner.stdout
        owner.stdin.write("add table inet rap { flags owner; }\nlist tables\n")
        owner.stdin.flush()
        while "table inet rap" not in (line := owner.stdout.readline()):
            assert line
        yield
        owner.stdin.close()


def memory_mb(process: Process) -> float:
    """Return the peak resident memory in units of 1,024 KiB."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    peak = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert peak is not None
    return int(peak[1]) / 1024


@pytest.mark.slow("real programs are started and restarted")
def test_a_box_serves_only_while_its_firewall_is_in_force(site: FirewalledBox) -> None:
    async def scenario() -> None:
        box_run = ("box", "run", "--config", site.folder / "box.toml")
        async with running(site.outside, "dc", "serve", "--config", site.folder / "dc.toml") as dc:
            await wait_for_line(dc, "ready")
            with table_of_another_program(site.box):
                async with running(site.box, *box_run) as box:
                    line = await wait_for_line(box, "firewall")
                    assert "not in force, so instrument ports are closed" in line
                    assert "another process owns it" in line
                    assert not site.is_open("port1")
                    assert not site.is_open("port2")
                    assert site.sockets() == 0
                    assert site.setting("ipv4/ip_forward") == "0"
                    status = await asyncio.to_thread(site.status)
                    assert status.firewall is not None
                    assert not status.firewall.in_force
                    await eventually(lambda: site.status().backlog.audit >= 2)
                    box.send_signal(signal.SIGTERM)
                    assert await box.wait() == 0
            async with running(site.box, *box_run) as box:
                await wait_for_line(box, "port 1: listening")
                assert site.is_open("port1")
                assert not site.is_open("port2")  # not in the policy
                assert site.setting("ipv4/ip_forward") == "1"
                assert site.setting("ipv4/conf/all/accept_redirects") == "0"
                assert site.setting("netfilter/nf_conntrack_tcp_loose") == "0"
                assert "fd00:77:1::1" in site.box.command("ip", "addr", capture_output=True).stdout
                await asyncio.to_thread(site.report)
                await eventually(lambda: "firewall-not-in-force" in site.audits())
                assert await asyncio.to_thread(site.refused_for, "leaving", DATACENTER)
                assert await asyncio.to_thread(site.refused_for, "instrument", "10.77.2.1")
                assert memory_mb(box) <= MEMORY_MB_MAX

                await asyncio.to_thread(site.box.command, "nft", "flush", "ruleset")
                await eventually(lambda: "firewall-repaired" in site.audits())
                assert "firewall-changed" in site.audits()
                policy = load_policy(site.folder / "firewall.toml")
                assert Firewall(site.nft).differences(policy) == []

                rules, closed = site.handles(), site.times_closed("port1")
                box.kill()
                await box.wait()
                assert site.handles() == rules
            async with running(site.box, *box_run) as box:
                await wait_for_line(box, "port 1: listening")
                assert site.handles() == rules
                assert site.times_closed("port1") == closed
                box.send_signal(signal.SIGTERM)
                assert await box.wait() == 0
            assert site.handles() == rules

    asyncio.run(scenario())


@pytest.mark.slow("real programs are started and restarted")
def test_box_and_firewall_service_survive_the_sigkill_of_the_other(site: FirewalledBox) -> None:
    """Box and firewall service are separate processes; the box has no network privileges."""
    folder = site.folder
    (folder / "apart.toml").write_text(BOX + f'socket = "{folder}/firewall.sock"\n')
    serve = ("fw", "serve", "--socket", folder / "firewall.sock", folder / "firewall.toml")
    box_run = ("box", "run", "--config", folder / "apart.toml")

    async def scenario() -> None:
        async with running(site.box, *serve) as service, unprivileged(site.box, *box_run) as box:
            await wait_for_line(service, "in force")
            await wait_for_line(box, "port 1: listening")
            service.kill()
            await service.wait()
            async with running(site.box, *serve) as service:  # restarted before the box detects its end
                await wait_for_line(service, "in force")
                status = await asyncio.to_thread(site.status)
                assert status.firewall is not None
                assert status.firewall.in_force
                assert site.sockets() > 0
                box.kill()
                await box.wait()
                await asyncio.to_thread(site.box.command, "nft", "flush", "ruleset")
                policy = load_policy(folder / "firewall.toml")
                await eventually(lambda: not Firewall(site.nft).differences(policy))
                async with unprivileged(site.box, *box_run) as box:
                    await wait_for_line(box, "port 1: listening")
                    service.kill()
                    assert "nothing confirms that the firewall is in force" in await wait_for_line(
                        box, "firewall"
                    )
                    await eventually(lambda: site.sockets() == 0)
                    assert site.handles()
                    assert not site.is_open("port2")

    asyncio.run(scenario())


def unprivileged(namespace: Namespace, *arguments: object) -> AbstractAsyncContextManager[Process]:
    """Like `running`, but with CAP_NET_BIND_SERVICE as the only capability."""
    return running(
        namespace,
        *arguments,
        through=(
            "setpriv",
            "--bounding-set=-all,+net_bind_service",
            "--inh-caps=-all",
            "--ambient-caps=-all",
            "--",
        ),
    )
