"""A box and its surroundings in network namespaces: the outside, two instruments and staff, connected by veth pairs.

Interfaces and addresses are those of policies/clinic.toml. The tunnel is a veth pair, too, because the firewall uses
only its name.
"""

from __future__ import annotations

import errno
import select
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

from netfw.kernel.firewall import Firewall
from netfw.kernel.nft import Nft
from netfw.kernel.sessions import Sessions
from netfw.policy.policy import Policy
from netfw.policy.policyfile import load_policy
from netfw.ruleset.names import LINK
from tests.support.eventually import WAIT_SECONDS_MAX
from tests.support.namespaces import Namespace, cable, namespaces
from tests.support.paths import FIXTURES

POLICIES = FIXTURES / "policies"
BOX_HARDWARE = "02:00:00:00:00:01"
"""The MAC address of all interfaces of the box, no two of which are on one link."""
BOX_INTERFACES = ("enp1s0", "enp2s0", "enp3s0", "tun-rap")
POLL_SECONDS = 0.005

DATACENTER = {4: "203.0.113.5", 6: "2001:db8:1::5"}
ELSEWHERE = {4: "203.0.113.99", 6: "2001:db8:9::9"}
UPLINK = {4: "192.0.2.2", 6: "2001:db8::2"}
ROUTER = {4: "192.0.2.1", 6: "2001:db8::1"}
PORT = {1: {4: "10.77.1.1", 6: "fd00:77:1::1"}, 2: {4: "10.77.2.1", 6: "fd00:77:2::1"}}
INSTRUMENT = {1: {4: "10.77.1.5", 6: "fd00:77:1::5"}, 2: {4: "10.77.2.5", 6: "fd00:77:2::5"}}
IN_TUNNEL = "10.98.0.1"
"""The box's own address in the tunnel, at which staff reach bridged desktops."""
STAFF = {4: "10.99.1.2", 6: "fd00:99::2"}


@dataclass
class BoxLab:
    """The namespaces of the box and its surroundings, and the firewall in the box's namespace."""

    box: Namespace
    outside: Namespace
    instrument: dict[int, Namespace]
    staff: Namespace
    nft: Nft
    policy: Policy = field(default_factory=lambda: load_policy(POLICIES / "clinic.toml"))

    @property
    def firewall(self) -> Firewall:
        """The firewall of the box."""
        return Firewall(self.nft)

    @property
    def sessions(self) -> Sessions:
        """The sessions of the box."""
        return Sessions(self.nft, self.policy)

    def apply(self, policy: Policy) -> None:
        """Put another policy in force."""
        self.policy = policy
        self.firewall.apply(policy)

    def packets(self, cause: str) -> int:
        """Return how many packets were refused for this cause."""
        return self.firewall.counts()[cause].packets

    def causes(self, before: dict[str, int]) -> set[str]:
        """Return the causes of refusals since `before`, without `link`, because such packets arrive at any time."""
        now = self.refused()
        return {cause for cause in now if now[cause] > before[cause]} - {LINK}

    def refused(self) -> dict[str, int]:
        """Return how many packets were refused, by cause."""
        return {cause: count.packets for cause, count in self.firewall.counts().items()}

    def attempt(
        self,
        client_host: Namespace,
        server_host: Namespace,
        address: str,
        port: int,
        *,
        source: str = "",
        kind: str = "tcp",
    ) -> str:
        """Connect or send to `address`; return "reached", the error of the client, or the causes of the refusal."""
        before = self.refused()
        with (
            closing(self.listener(server_host, address, port, kind)) as server,
            closing(client_host.socket(server.family, server.type)) as client,
        ):
            client.setblocking(False)
            if source:
                client.bind((source, 0))
            client.connect_ex((address, port))
            if kind == "udp":
                client.send(b"hello")
            return self._outcome(client, server, before)

    def _outcome(self, client: socket.socket, server: socket.socket, before: dict[str, int]) -> str:
        for _ in range(int(WAIT_SECONDS_MAX / POLL_SECONDS)):
            arrived, answered, _ = select.select([server], [client], [], POLL_SECONDS)
            if error := client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                return errno.errorcode[error]
            if arrived and (answered or client.type == socket.SOCK_DGRAM):
                return "reached"
            if causes := self.causes(before):
                # an error may be reported a moment later
                select.select([], [client], [], POLL_SECONDS)
                error = client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                return errno.errorcode[error] if error else " ".join(sorted(causes))
        return "nothing at all"

    def listener(self, host: Namespace, address: str, port: int, kind: str = "tcp") -> socket.socket:
        """Return a listening socket of a host."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        server = host.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET:
            # IP_FREEBIND: listen on an address that is only routed here
            server.setsockopt(socket.SOL_IP, 15, 1)
        else:
            server.setsockopt(socket.IPPROTO_IPV6, 78, 1)  # IPV6_FREEBIND
        server.bind((address, port))
        if kind == "tcp":
            server.listen()
        return server


@contextmanager
def box_lab() -> Iterator[BoxLab]:
    """Yield a lab in which the clinic's policy is in force."""
    with namespaces(5) as (box, outside, one, two, staff):
        box.write("ipv6/conf/default/router_solicitations", 0)  # such packets are refused at any time
        cable(box, "enp1s0", outside, "wan")
        cable(box, "enp2s0", one, "eth0")
        cable(box, "enp3s0", two, "eth0")
        cable(box, "tun-rap", staff, "eth0")
        box.ip(*(f"link set {name} address {BOX_HARDWARE}" for name in BOX_INTERFACES))
        box.ip(
            f"addr add {UPLINK[4]}/24 dev enp1s0",
            f"addr add {UPLINK[6]}/64 dev enp1s0 nodad",
            *(f"addr add {PORT[n][4]}/24 dev enp{n + 1}s0" for n in PORT),
            *(f"addr add {PORT[n][6]}/64 dev enp{n + 1}s0 nodad" for n in PORT),
            "addr add 10.99.0.1/16 dev tun-rap",
            f"addr add {IN_TUNNEL}/32 dev tun-rap",
            "addr add fd00:99::1/48 dev tun-rap nodad",
            f"route add default via {ROUTER[4]}",
            f"route add ::/0 via {ROUTER[6]}",
        )
        outside.ip(
            f"addr add {ROUTER[4]}/24 dev wan",
            f"addr add {ROUTER[6]}/64 dev wan nodad",
            *(f"addr add {a[4]}/32 dev lo" for a in (DATACENTER, ELSEWHERE)),
            *(f"addr add {a[6]}/128 dev lo nodad" for a in (DATACENTER, ELSEWHERE)),
            f"route add 10.0.0.0/8 via {UPLINK[4]}",
            f"route add fd00::/8 via {UPLINK[6]}",
        )
        for host, v4, v6, via4, via6 in (
            (one, INSTRUMENT[1][4] + "/24", INSTRUMENT[1][6] + "/64", PORT[1][4], PORT[1][6]),
            (two, INSTRUMENT[2][4] + "/24", INSTRUMENT[2][6] + "/64", PORT[2][4], PORT[2][6]),
            (staff, STAFF[4] + "/16", STAFF[6] + "/48", "10.99.0.1", "fd00:99::1"),
        ):
            host.ip(
                f"addr add {v4} dev eth0",
                f"addr add {v6} dev eth0 nodad",
                f"route add default via {via4}",
                f"route add ::/0 via {via6}",
            )
        box.write("ipv4/ip_forward", 1)
        box.write("ipv6/conf/all/forwarding", 1)
        nft = box.run(Nft)
        try:
            lab = BoxLab(box, outside, {1: one, 2: two}, staff, nft)
            lab.firewall.apply(lab.policy)
            yield lab
        finally:
            nft.close()
