# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""Settings of the kernel's network stack that the firewall relies on, or that the RHEL 9 STIG wants beside it.

They are written through /proc/sys, and so hold in the network namespace that the program runs in. Where the kernel
takes the larger of `all` and the interface's own value, or only one of them, all are set: `all`, `default` for
interfaces that come later, and those that are there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from netfw.ruleset.timeouts import BOX_S

PROC_SYS_NET: Final = Path("/proc/sys/net")

OF_THE_BOX: Final = {
    "ipv4/icmp_echo_ignore_broadcasts": 1,  # RHEL-09-253055
    "ipv4/icmp_ignore_bogus_error_responses": 1,  # RHEL-09-253060
    "ipv4/tcp_syncookies": 1,  # RHEL-09-253010
    "ipv4/tcp_timestamps": 0,  # 12 bytes of each packet on a 128 kbit/s uplink; and they tell the uptime
    # the proof counts on connections that began with a SYN; else any ACK would begin one
    "netfilter/nf_conntrack_tcp_loose": 0,
    "netfilter/nf_conntrack_tcp_be_liberal": 0,  # and that a segment outside the window is invalid
    "netfilter/nf_conntrack_tcp_ignore_invalid_rst": 0,
    "netfilter/nf_conntrack_checksum": 1,
    **{f"netfilter/nf_conntrack_{name}": seconds for name, seconds in BOX_S.items()},
}
OF_INTERFACES: Final = {
    "ipv4": {
        "accept_redirects": 0,  # RHEL-09-253015, 253040: nobody else chooses the box's routes
        "secure_redirects": 0,
        "accept_source_route": 0,  # RHEL-09-253020, 253045: nor a packet its own
        "rp_filter": 1,  # RHEL-09-253035, 253050: the second line behind the rule against false sources
        "send_redirects": 0,  # RHEL-09-253065, 253070
        "log_martians": 1,  # RHEL-09-253025, 253030
        "arp_ignore": 1,  # below the ruleset: a port answers for its own address and not for other ports'
        "arp_announce": 2,  # and asks with its own
        "proxy_arp": 0,  # nor for machines behind other ports
        "proxy_arp_pvlan": 0,
        "route_localnet": 0,  # 127.0.0.0/8 stays inside
        "accept_local": 0,  # the box's own addresses do not come in
    },
    "ipv6": {
        "accept_ra": 0,  # RHEL-09-254010, 254030; on the uplink as the policy says
        "accept_redirects": 0,  # RHEL-09-254015, 254035
        "accept_source_route": 0,  # RHEL-09-254020, 254040
        "proxy_ndp": 0,
        "keep_addr_on_down": 1,  # closing a port must not lose its IPv6 addresses (IPv4's stay by themselves)
    },
}
FORWARDING: Final = ("ipv4/ip_forward", "ipv6/conf/all/forwarding")  # RHEL-09-253075, 254025
OF_FORWARDING: Final = "forwarding"
"""The same of each interface: the kernel sets all of them together with those, and lets them be changed alone."""
EVEN_IF_FORWARDING: Final = 2  # accept_ra


@dataclass(frozen=True, slots=True)
class KernelSettings:
    """The settings of this network namespace. Errors of all methods: OSError."""

    uplink: str
    believes_routers: bool = False
    """Whether router advertisements on the uplink are taken."""
    folder: Path = field(default=PROC_SYS_NET)

    def set(self) -> list[str]:
        """On return all settings hold, but for forwarding. nf_conntrack must be loaded, as a ruleset does.

        Returns what was otherwise, a line each.
        """
        return [line for name, value in self._wanted() if (line := self._write(name, value))]

    def set_addresses_kept(self) -> None:
        """On return ports keep their addresses when they are closed."""
        for name, value in self._wanted():
            if name.endswith("keep_addr_on_down"):
                self._write(name, value)

    def set_forwarding(self, on: bool) -> list[str]:
        """Let packets pass between interfaces, or none. Returns what was otherwise, a line each.

        The kernel changes `accept_redirects` with it (inet_forward_change), so `set` belongs behind it.
        """
        of_interfaces = [
            f"{family}/conf/{place.name}/{OF_FORWARDING}"
            for family in OF_INTERFACES
            for place in sorted(self.folder.glob(f"{family}/conf/*"))
        ]
        names = [*(name for name in FORWARDING if self._has(name)), *of_interfaces]
        return [line for name in names if (line := self._write(name, int(on)))]

    def _wanted(self) -> Iterator[tuple[str, int]]:
        yield from OF_THE_BOX.items()
        for family, settings in OF_INTERFACES.items():
            for place in sorted(self.folder.glob(f"{family}/conf/*")):
                for name, value in settings.items():
                    believed = name == "accept_ra" and place.name == self.uplink and self.believes_routers
                    yield f"{family}/conf/{place.name}/{name}", EVEN_IF_FORWARDING if believed else value

    def _has(self, name: str) -> bool:
        """IPv6 may be switched off at boot; then there is nothing of it to set."""
        return name.startswith("ipv4/") or (self.folder / "ipv6").is_dir()

    def _write(self, name: str, value: int) -> str:
        """Returns what was there, in words; "" if it was this value already."""
        path = self.folder / name
        try:
            before = path.read_text().strip()
            if before == str(value):  # /proc/sys may be read-only where all is right already
                return ""
            path.write_text(str(value))
        except FileNotFoundError:
            if path.parent.is_dir():
                raise
            return ""  # the interface has been removed meanwhile
        return f"net.{name.replace('/', '.')} was {before}, and is {value} again"
