# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""Kernel network settings that the firewall relies on, or that the RHEL 9 STIG requires.

They are written through /proc/sys and apply to the program's network namespace. For settings of which the kernel uses
the maximum of `all` and the interface's own value, or only one of them, all are set: `all`, `default` for interfaces
created later, and existing interfaces.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from netfw.ruleset.timeouts import BOX_S

PROC_SYS_NET: Final = Path("/proc/sys/net")

GLOBAL_VALUES: Final = {
    "ipv4/icmp_echo_ignore_broadcasts": 1,  # RHEL-09-253055
    "ipv4/icmp_ignore_bogus_error_responses": 1,  # RHEL-09-253060
    "ipv4/tcp_syncookies": 1,  # RHEL-09-253010
    "ipv4/tcp_timestamps": 0,  # saves 12 bytes per packet on a 128 kbit/s uplink, and hides the uptime
    # the proof assumes that connections begin with a SYN; otherwise any ACK would begin one
    "netfilter/nf_conntrack_tcp_loose": 0,
    "netfilter/nf_conntrack_tcp_be_liberal": 0,  # segments outside the window are invalid
    "netfilter/nf_conntrack_tcp_ignore_invalid_rst": 0,
    "netfilter/nf_conntrack_checksum": 1,
    **{f"netfilter/nf_conntrack_{name}": seconds for name, seconds in BOX_S.items()},
}
INTERFACE_VALUES: Final = {
    "ipv4": {
        "accept_redirects": 0,  # RHEL-09-253015, 253040: no other host changes the box's routes
        "secure_redirects": 0,
        "accept_source_route": 0,  # RHEL-09-253020, 253045: no packet chooses its own route
        "rp_filter": 1,  # RHEL-09-253035, 253050: defence in depth in addition to the rule against spoofed sources
        "send_redirects": 0,  # RHEL-09-253065, 253070
        "log_martians": 1,  # RHEL-09-253025, 253030
        "arp_ignore": 1,  # ARP bypasses the ruleset: a port answers only for its own address
        "arp_announce": 2,  # ARP requests use the port's own address
        "proxy_arp": 0,  # no answers for hosts behind other ports
        "proxy_arp_pvlan": 0,
        "route_localnet": 0,  # 127.0.0.0/8 is not routed
        "accept_local": 0,  # packets from the box's own addresses are not accepted from outside
    },
    "ipv6": {
        "accept_ra": 0,  # RHEL-09-254010, 254030; on the uplink as configured in the policy
        "accept_redirects": 0,  # RHEL-09-254015, 254035
        "accept_source_route": 0,  # RHEL-09-254020, 254040
        "proxy_ndp": 0,
        "keep_addr_on_down": 1,  # a closed port keeps its IPv6 addresses (as it does its IPv4 addresses)
    },
}
FORWARDING: Final = ("ipv4/ip_forward", "ipv6/conf/all/forwarding")  # RHEL-09-253075, 254025
INTERFACE_FORWARDING: Final = "forwarding"
"""Forwarding per interface: the kernel sets all of them with FORWARDING, but each can also be changed separately."""
ACCEPT_RA_WHEN_FORWARDING: Final = 2  # accept_ra


@dataclass(frozen=True, slots=True)
class KernelSettings:
    """The settings of this network namespace. All methods raise OSError."""

    uplink: str
    accept_router_advertisements: bool = False
    """Whether router advertisements on the uplink are accepted."""
    folder: Path = field(default=PROC_SYS_NET)

    def set(self) -> list[str]:
        """Set all settings except forwarding. nf_conntrack must be loaded; loading a ruleset does that.

        Returns a description of each setting that was different.
        """
        return [line for name, value in self._required_values() if (line := self._write(name, value))]

    def set_addresses_kept(self) -> None:
        """Let closed ports keep their addresses."""
        for name, value in self._required_values():
            if name.endswith("keep_addr_on_down"):
                self._write(name, value)

    def set_forwarding(self, on: bool) -> list[str]:
        """Enable or disable forwarding between interfaces. Returns a description of each changed setting.

        The kernel changes `accept_redirects` with it (inet_forward_change), so call `set` afterwards.
        """
        of_interfaces = [
            f"{family}/conf/{folder.name}/{INTERFACE_FORWARDING}"
            for family in INTERFACE_VALUES
            for folder in sorted(self.folder.glob(f"{family}/conf/*"))
        ]
        names = [*(name for name in FORWARDING if self._has(name)), *of_interfaces]
        return [line for name in names if (line := self._write(name, int(on)))]

    def _required_values(self) -> Iterator[tuple[str, int]]:
        yield from GLOBAL_VALUES.items()
        for family, settings in INTERFACE_VALUES.items():
            for folder in sorted(self.folder.glob(f"{family}/conf/*")):
                for name, value in settings.items():
                    accepted = (
                        name == "accept_ra"
                        and folder.name == self.uplink
                        and self.accept_router_advertisements
                    )
                    yield (
                        f"{family}/conf/{folder.name}/{name}",
                        ACCEPT_RA_WHEN_FORWARDING if accepted else value,
                    )

    def _has(self, name: str) -> bool:
        """Return whether the setting exists: IPv6 may be disabled at boot."""
        return name.startswith("ipv4/") or (self.folder / "ipv6").is_dir()

    def _write(self, name: str, value: int) -> str:
        """Set a value and return a description of the old one; "" if it was already set."""
        path = self.folder / name
        try:
            before = path.read_text().strip()
            if before == str(value):  # do not write: /proc/sys may be read-only
                return ""
            path.write_text(str(value))
        except FileNotFoundError:
            if path.parent.is_dir():
                raise
            return ""  # the interface was removed in the meantime
        return f"net.{name.replace('/', '.')} was {before}, restored to {value}"
