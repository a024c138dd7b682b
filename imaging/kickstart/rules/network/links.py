"""Bonds, bridges and VLANs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from imaging.kickstart.document import KickstartCommand, SourceLocation
from imaging.kickstart.rule import Case, Faults, LintFault, risk, rule

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
VLAN_ID_MAX: Final = 4094
BOND_NUMBERS: Final = (
    "miimon",
    "updelay",
    "downdelay",
    "arp_interval",
    "min_links",
    "lp_interval",
    "resend_igmp",
)
LACP_RATES: Final = ("slow", "fast", "0", "1")
BRIDGE_OPTIONS: Final = {
    "priority": range(65536),
    "forward-delay": range(31),
    "hello-time": range(11),
    "max-age": range(41),
    "ageing-time": range(1_000_001),
    "group-forward-mask": range(65536),
    "stp": None,
    "multicast-snooping": None,
}
"""The range of each option's values, or None for options with the values yes and no: nm-settings-nmcli(5), bridge."""


@rule
def vlan_id(case: Case) -> Faults:
    """VLAN ids are 1 to 4094.

    Source: IEEE 802.1Q, 9.6.
    """
    for command in case.ks.named("network"):
        given = str(command.data.vlanid or "")
        if given and not (given.isdecimal() and 1 <= int(given) <= VLAN_ID_MAX):
            yield LintFault(
                command.location,
                f"--vlanid={given} is not a VLAN id",
                f"write a number from 1 to {VLAN_ID_MAX}",
            )


@rule
def member_devices(case: Case) -> Faults:
    """A device is a member of at most one bond or bridge, and not of itself; a member has no address.

    Source: ip-link(8), master; NetworkManager, nm-settings-nmcli(5), controller.
    """
    owner: dict[str, SourceLocation] = {}
    for command in case.ks.named("network"):
        data = command.data
        for name in [*device_names(data.bondslaves), *device_names(data.bridgeslaves)]:
            if name in owner or name == data.device:
                is_itself = name == data.device
                yield LintFault(
                    command.location,
                    f"{name} is its own member"
                    if is_itself
                    else f"{name} is already a member on line {owner[name].line}",
                    "name each member once, and not the bond or bridge itself",
                )
            owner.setdefault(name, command.location)
    for command in case.ks.named("network"):
        if command.data.device in owner and command.data.bootProto == "static" and not command.data.vlanid:
            yield LintFault(
                command.location,
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
        for option in [option for option in re.split(r"[;,](?=[a-z_]+=)|;", text) if option]:
            name, sign, value = option.partition("=")
            if not sign or name not in BOND_OPTIONS or (name == "mode" and value not in BOND_MODES):
                yield LintFault(
                    command.location,
                    f"{option!r} is not a bonding option",
                    "write it like mode=active-backup,miimon=100",
                )
        yield from _bond_values(
            command, dict(option.partition("=")[::2] for option in re.split("[;,]", text) if option)
        )
        if text and not command.data.bondslaves:
            yield LintFault(command.location, "--bondopts without --bondslaves", "name the members")


def _bond_values(command: KickstartCommand, given: dict[str, str]) -> Faults:
    mode, members = given.get("mode", "balance-rr"), list(device_names(command.data.bondslaves))
    wrong = [
        *(
            f"{name}={given[name]} is not a number"
            for name in BOND_NUMBERS
            if not given.get(name, "0").isdecimal()
        ),
        *(
            f"primary={given['primary']} is not a member"
            for _ in range("primary" in given)
            if given["primary"] not in members
        ),
        *(
            "both miimon and arp_interval"
            for _ in range(given.get("miimon", "0") != "0" and given.get("arp_interval", "0") != "0")
        ),
        *(
            "arp_interval without arp_ip_target"
            for _ in range(given.get("arp_interval", "0") != "0" and "arp_ip_target" not in given)
        ),
        *(f"lacp_rate in mode {mode}" for _ in range("lacp_rate" in given and mode not in ("802.3ad", "4"))),
        *(
            f"lacp_rate={given['lacp_rate']} is not a rate"
            for _ in range(given.get("lacp_rate", "slow") not in LACP_RATES)
        ),
    ]
    for problem in wrong:
        yield LintFault(
            command.location, f"--bondopts: {problem}", "write it like mode=active-backup,miimon=100"
        )


@rule
def bridge_options(case: Case) -> Faults:
    """The options of a bridge must exist in NetworkManager, with values that the kernel accepts.

    Source: nm-settings-nmcli(5), bridge; Anaconda, `network/nm_client.py`, sets them as they are.
    """
    for command in case.ks.named("network"):
        text = str(command.data.bridgeopts or "")
        for option in [option for option in text.split(",") if option]:
            name, _, value = option.partition("=")
            limits = BRIDGE_OPTIONS.get(name)
            right = value in ("yes", "no") if limits is None else value.isdecimal() and int(value) in limits
            if name not in BRIDGE_OPTIONS or not right:
                yield LintFault(
                    command.location,
                    f"{option!r} is not an option of a bridge",
                    "write it like priority=32768,stp=yes",
                )


@risk
def vlan_device(case: Case) -> Faults:
    """A VLAN is on a device, and its name should not contain the number of another VLAN.

    Source: RHEL's kickstart reference, `network --vlanid`; ip-link(8).
    """
    for command in case.ks.named("network"):
        data = command.data
        if not data.vlanid:
            continue
        number = re.fullmatch(r"(?:vlan|.*\.)0*(\d+)", str(data.interfacename or ""))
        if not data.device:
            yield LintFault(
                command.location, f"--vlanid={data.vlanid} without --device", "name the port that it is on"
            )
        elif number and number[1] != str(data.vlanid):
            yield LintFault(
                command.location,
                f"--interfacename={data.interfacename} of VLAN {data.vlanid}",
                "write the same number in both",
            )


def device_names(value: Any) -> Iterator[str]:
    """Yield the names of a list separated by commas."""
    yield from (name.strip() for name in str(value or "").split(",") if name.strip())
