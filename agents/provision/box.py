"""Generates box.toml and firewall.toml from the site.

Their formats are in `agents.box.configuration.config` and `netfw.policy.policyfile`.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from agents.box.configuration.config import (
    AuditSettings,
    BoxConfig,
    Clock,
    FirewallPolicy,
    InstrumentPort,
    PortInstrument,
    Sending,
    SessionSettings,
    SpoolSize,
    StatusSocket,
    UpdateSettings,
)
from agents.enrolment.certificate_files import BoxCertificates
from agents.provision.page import PAGE
from netfw.policy.policy import Protocol
from netfw.policy.policyfile import AuthorizedTable, PolicyFile, PortTable, Role, TunnelTable, UplinkTable
from settings.adapted import listening_port
from settings.board import Board
from settings.ipsec import INTERFACE
from settings.profile import load_profile
from settings.site import Reporting, SiteOnBox, SiteSessions
from settings.toml import dumps

IDENTITY: Final = Path("/var/lib/rap/identity")
"""On the state partition, which is encrypted if the site requires LUKS, and which system updates do not change."""
COLLECTOR_PORT: Final = 443
"""The TCP port on which the box receives reports."""
FIREWALL_SOCKET: Final = Path("/run/rap-firewall/socket")
"""The socket of rap-firewall.service."""
OFFER_KEYS: Final = "session-offers.pem"
"""The data center's public keys for remote sessions, beside box.toml; rap-tunnel.service needs the file to exist."""
HEAD_KEYS: Final = "audit-heads.pem"
"""The data center's public keys for heads of audit chains, beside box.toml."""
RELEASES_ROOT: Final = Path("/usr/share/rap/releases-root.json")
"""The root of the release metadata, which is installed when the image is built."""
WRITTEN_BY: Final = "Written by /usr/lib/rap/provision from /etc/rap/site.toml; edit that file."


def box_file(site: SiteOnBox, board: Board, releases_root: Path | None = None) -> str:
    """Return the content of box.toml. Without `releases_root` (usually RELEASES_ROOT) the box ignores updates."""
    center = site.datacenter
    if site.proxy is None and not center.address:
        center = replace(center, address=site.addresses_of(center.host)[0])
    config = BoxConfig(
        board=site.board,
        identity=BoxCertificates(
            certificate=IDENTITY / "box.crt",
            key=IDENTITY / "box.key",
            vendor_authority=IDENTITY / "vendor-ca.crt",
            datacenter_authority=IDENTITY / "datacenter-root.crt",
        ),
        datacenter=center,
        proxy=site.proxy,
        spool=spool_size(site.reporting, SpoolSize().directory),
        sending=sending(site.reporting),
        port=[
            InstrumentPort(number=number, listen=str(address.ip), instrument=_instruments(site, number))
            for number, address in site.ports(board).items()
        ],
        status=StatusSocket(),
        firewall=FirewallPolicy(policy=Path("firewall.toml"), socket=FIREWALL_SOCKET),
        clock=Clock(service=Path("/run/rap-clock.sock")),
        audit=AuditSettings(keys=Path(HEAD_KEYS) if site.audit.keys else None),
        enrolment=site.enrolment,
        sessions=_sessions(site.sessions),
        updates=UpdateSettings(releases_root) if releases_root else None,
        fips=site.fips,
    )
    return dumps(config, comment=WRITTEN_BY)


def spool_size(reporting: Reporting, directory: Path) -> SpoolSize:
    """Return the table [spool] of box.toml, with this directory."""
    spool = SpoolSize(directory)
    wanted = reporting.spool_bytes_max
    return spool if wanted is None else replace(spool, bytes_max=wanted)


def sending(reporting: Reporting) -> Sending:
    """Return the table [sending] of box.toml."""
    return Sending() if reporting.linger_s is None else Sending(linger_s=reporting.linger_s)


def _services(site: SiteOnBox, port: int) -> list[str]:
    """Return the TCP services of a port: the collector or the instrument's own standard, and the local page."""
    ports: set[int | None] = {
        listening_port(load_profile(instrument.model), instrument.adapted)
        if instrument.adapted
        else COLLECTOR_PORT
        for instrument in site.instrument
        if instrument.port == port
    }
    page = {PAGE} if site.sessions else set()
    return [f"tcp/{number}" for number in sorted(filter(None, (ports or {COLLECTOR_PORT}) | page))]


def _instruments(site: SiteOnBox, port: int) -> list[PortInstrument]:
    at_port = (instrument for instrument in site.instrument if instrument.port == port)
    return [
        PortInstrument(instrument.serial, instrument.model, instrument.adapted, instrument.address)
        for instrument in sorted(at_port, key=lambda instrument: instrument.serial)
    ]


def _sessions(sessions: SiteSessions | None) -> SessionSettings | None:
    if sessions is None:
        return None
    return SessionSettings(
        sessions.endpoint,
        Path(OFFER_KEYS),
        sessions.ways,
        line_kbit_s=sessions.line_kbit_s,
        page_name=sessions.page_name,
        security_key=sessions.security_key,
    )


def keys_file(keys: Iterable[str]) -> str:
    """Return the content of OFFER_KEYS or HEAD_KEYS: public keys of the data center, in PEM."""
    return "".join(
        f"-----BEGIN PUBLIC KEY-----\n{wrapped}\n-----END PUBLIC KEY-----\n"
        for wrapped in ("\n".join(textwrap.wrap(key, 64)) for key in keys)
    )


def _desktops(site: SiteOnBox, port: int) -> list[str]:
    """Return the services of instruments at a port that sessions may reach."""
    ports = {
        load_profile(instrument.model).desktop_port
        for instrument in site.instrument
        if instrument.port == port and instrument.address
    }
    return [f"tcp/{number}" for number in sorted(filter(None, ports))] if site.sessions else []


def firewall_file(site: SiteOnBox, board: Board) -> str:
    """Return the content of firewall.toml: outbound to the hosts in the site file, inbound from instruments."""
    policy = PolicyFile(
        board=site.board,
        uplink=UplinkTable(dhcp=not site.uplink.address, vpn=INTERFACE if site.ipsec else None),
        authorized=list(_authorized_destinations(site)),
        port=[
            PortTable(
                number=number,
                addresses=[str(address)],
                services=_services(site, number),
                desktop=_desktops(site, number),
            )
            for number, address in site.ports(board).items()
        ],
        tunnel=_tunnel(site),
    )
    return dumps(policy, comment=WRITTEN_BY)


def _tunnel(site: SiteOnBox) -> TunnelTable | None:
    sessions = _sessions(site.sessions)
    if sessions is None:
        return None
    return TunnelTable(sessions.device, [f"{sessions.staff_address}/32"], str(sessions.box_address))


def _authorized_destinations(site: SiteOnBox) -> Iterator[AuthorizedTable]:
    """Yield the permitted destinations. With a proxy, the box connects to the proxy instead of the data center."""
    if site.ipsec:
        yield AuthorizedTable(role="gateway", addresses=site.addresses_of(site.ipsec.gateway))
    role, addresses, port = site.uplink_target()
    yield _authorized(role, addresses, "tcp", port)
    sessions = site.sessions
    if sessions and not site.proxy and (sessions.host, sessions.port) != (site.datacenter.host, port):
        yield _authorized("datacenter", site.addresses_of(sessions.host), "tcp", sessions.port)
    if names := site.uplink.nameservers:
        yield _authorized("names", names, "udp", 53)
        yield _authorized("names", names, "tcp", 53)
    times = [address for server in site.time_servers for address in site.addresses_of(server)]
    if times:
        yield _authorized("time", list(dict.fromkeys(times)), "udp", 123)
    if audit := site.addresses_of(site.audit.host):
        yield _authorized("audit-log", audit, "tcp", site.audit.port)
    adapted = [instrument.adapted for instrument in site.instrument if instrument.adapted]
    for host in dict.fromkeys(settings.host for settings in adapted):
        if host:
            yield _authorized("laboratory-host", [host.address], "tcp", host.tcp_port)


def _authorized(role: Role, addresses: list[str], protocol: Protocol, port: int) -> AuthorizedTable:
    return AuthorizedTable(role=role, addresses=addresses, protocol=protocol, ports=[port])
