"""Bonds, bridges and VLANs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from imaging.kickstart.document import Spot
from imaging.kickstart.rule import Case, Faults, LintFault, rule

BOND_MODES: Final = (
    *("balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb", "balance-alb"),
    *map(str, range(7)),
)
BOND_OPTIONS: Final = (
    *(
        "mode",
        "miimon",
        "updelay",
        "downdelay",
        "arp_interval",
        "arp_ip_target",
        "arp_validate",
        "arp_all_targets",
    ),
    *(
        "primary",
        "primary_reselect",
        "fail_over_mac",
        "use_carrier",
        "ad_select",
        "xmit_hash_policy",
        "resend_igmp",
    ),
    *(
        "lacp_rate",
        "active_slave",
        "all_slaves_active",
        "min_links",
        "num_grat_arp",
        "num_unsol_na",
        "lp_interval",
    ),
    *("packets_per_slave", "tlb_dynamic_lb", "ad_actor_sys_prio", "ad_actor_system", "ad_user_port_key"),
    *("ns_ip6_target", "lacp_active", "peer_notif_delay", "arp_missed_max", "balance-slb"),
)
VLAN_MOST: Final = 4094


@rule
def vlan_id(case: Case) -> Faults:
    """VLAN ids are 1 to 4094.

    Source: IEEE 802.1Q, 9.6.
    """
    for command in case.ks.named("network"):
        given = str(command.data.vlanid or "")
        if given and not (given.isdecimal() and 1 <= int(given) <= VLAN_MOST):
            yield LintFault(
                command.spot, f"--vlanid={given} is not a VLAN id", f"write a number from 1 to {VLAN_MOST}"
            )


@rule
def member_devices(case: Case) -> Faults:
    """A device is a member of at most one bond or bridge, not of itself; a member has no address.

    Source: ip-link(8), master; NetworkManager, nm-settings-nmcli(5), controller.
    """
    owner: dict[str, Spot] = {}
    for command in case.ks.named("network"):
        data = command.data
        for name in [*device_names(data.bondslaves), *device_names(data.bridgeslaves)]:
            if name in owner or name == data.device:
                yield LintFault(
                    command.spot,
                    f"{name} is already a member in line {owner.get(name, command.spot).line}",
                    "name each member once, and not the bond or bridge itself",
                )
            owner.setdefault(name, command.spot)
    for command in case.ks.named("network"):
        if command.data.device in owner and command.data.bootProto == "static" and not command.data.vlanid:
            yield LintFault(
                command.spot,
                f"{command.data.device} is a member of a bond or bridge and has an address",
                "give the address to the bond or bridge",
            )


@rule
def bond_options(case: Case) -> Faults:
    """Bonding options are NAME=VALUE pairs that the kernel knows; Anaconda ignores all others.

    Source: Linux, `Documentation/networking/bonding.rst`; Anaconda, `network/nm_client.py`.
    """
    for command in case.ks.named("network"):
        text = str(command.data.bondopts or "")
        for word in [word for word in re.split(r"[;,](?=[a-z_]+=)|;", text) if word]:
            name, sign, value = word.partition("=")
            if not sign or name not in BOND_OPTIONS or (name == "mode" and value not in BOND_MODES):
                yield LintFault(
                    command.spot,
                    f"{word!r} is not a bonding option",
                    "write it like mode=active-backup,miimon=100",
                )
        if text and not command.data.bondslaves:
            yield LintFault(command.spot, "--bondopts without --bondslaves", "name the members")


def device_names(value: Any) -> Iterator[str]:
    """The names of a list separated by commas."""
    yield from (name.strip() for name in str(value or "").split(",") if name.strip())
