"""The firewall policy of a lab's box: instruments may connect to the collector, the box to the proxy or data center.

The box may connect to the site's proxy if there is one, and otherwise to the data center. The virtual world evaluates
the policy with a model of nftables (`sim.worlds.virtual.firewall`); in the kernel world the firewall service reads it
from a file.
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from typing import Final, cast

from netfw.policy.policy import Authorized, Policy, PolicyPort, PolicyTunnel, Service
from netfw.policy.policyfile import (
    AuthorizedTable,
    PolicyFile,
    PortTable,
    Role,
    TunnelTable,
    UplinkTable,
)
from settings.toml import dumps
from sim.lab.labfile import Lab, LabInstrument
from sim.lab.sessions import desktop_of
from sim.proxies.kind import proxy_kind
from sim.worlds.shared.site.addresses import (
    DATACENTER,
    DATACENTER_MOVED,
    DATACENTER_PORT,
    DATACENTER_TUNNEL,
    PREFIX_BITS,
    PROXY,
    ROUTER,
    TUNNEL_BOX,
    TUNNEL_DEVICE,
    TUNNEL_STAFF,
    box_address,
)
from sim.worlds.shared.site.standards import tcp_port

NOT_IN_FORCE: Final = "not-in-force"
"""The cause of packets that are refused before the policy is enforced, or while a port is closed."""


def lab_policy(lab: Lab) -> Policy:
    """Return the firewall policy of a lab's box."""
    return Policy(
        uplink=lab.board.uplink,
        ports=tuple(_port(lab, spec) for spec in lab.instruments),
        authorized=(_destination(lab),),
        tunnel=_tunnel() if lab.sessions else None,
    )


def with_vpn(policy: Policy, interface: str) -> Policy:
    """Return the policy of a box that connects through a VPN with this interface, which ends at the router."""
    gateway = Authorized("gateway", (ip_network(ROUTER),), ())
    return replace(policy, vpn=interface, authorized=(*policy.authorized, gateway))


def _port(lab: Lab, spec: LabInstrument) -> PolicyPort:
    address = ip_interface(f"{box_address(spec.port)}/{PREFIX_BITS}")
    served = tcp_port(spec)
    services = () if served is None else (Service("tcp", served),)
    desktop = desktop_of(spec.model) if lab.sessions else None
    desktops = () if desktop is None else (Service("tcp", desktop),)
    return PolicyPort(spec.port, lab.board.instrument_ports[spec.port], (address,), services, desktops)


def _destination(lab: Lab) -> Authorized:
    if lab.uplink.proxy is not None:
        return _authorized("proxy", proxy_kind(lab.uplink.proxy.kind).port, PROXY)
    tunnels = (DATACENTER_TUNNEL,) if lab.sessions else ()
    return _authorized("datacenter", DATACENTER_PORT, DATACENTER, DATACENTER_MOVED, *tunnels)


def _authorized(role: str, port: int, *addresses: str) -> Authorized:
    return Authorized(role, tuple(map(ip_network, addresses)), (Service("tcp", port),))


def policy_file(board: str, policy: Policy) -> str:
    """Return the text of a policy file (`netfw.policy.policyfile`) for a lab's policy."""
    return dumps(
        PolicyFile(
            board=board,
            uplink=UplinkTable(vpn=policy.vpn or None),
            authorized=[_authorized_table(entry) for entry in policy.authorized],
            port=[
                PortTable(
                    number=port.number,
                    addresses=list(map(str, port.addresses)),
                    services=list(map(str, port.services)),
                    desktop=list(map(str, port.desktop)),
                )
                for port in policy.ports
            ],
            tunnel=_tunnel_table(policy.tunnel) if policy.tunnel else None,
        )
    )


def _tunnel() -> PolicyTunnel:
    return PolicyTunnel(TUNNEL_DEVICE, (ip_network(TUNNEL_STAFF),), ip_address(TUNNEL_BOX))


def _tunnel_table(tunnel: PolicyTunnel) -> TunnelTable:
    address = None if tunnel.address is None else str(tunnel.address)
    return TunnelTable(interface=tunnel.interface, staff=list(map(str, tunnel.staff)), address=address)


def _authorized_table(entry: Authorized) -> AuthorizedTable:
    networks = list(map(str, entry.networks))
    if not entry.services:
        return AuthorizedTable(role=cast(Role, entry.role), addresses=networks)
    (service,) = entry.services
    return AuthorizedTable(
        role=cast(Role, entry.role), addresses=networks, protocol=service.protocol, ports=[service.port]
    )
