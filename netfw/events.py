# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""Events of the firewall service: changes by other programs, their repair, and the firewall's state.

They are messages of the service's protocol (`netfw.service.protocol`), and are also used within a process.
"""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct


class Alarm(Struct, frozen=True, tag="alarm"):
    """Another program changed the firewall's table. `pid` is 0 and `program` "" if the kernel did not report them."""

    pid: int
    program: str


class Repair(Struct, frozen=True, tag="repair"):
    """A detected change of the table, and whether the policy is in force again."""

    differences: tuple[str, ...]
    in_force: bool
    problem: str = ""


class PortFault(Struct, frozen=True, tag="port-fault"):
    """An instrument port could not be opened or closed."""

    port: int
    to_open: bool
    problem: str


class OutsideInspection(Struct, frozen=True, tag="surroundings"):
    """The result of an inspection outside the table: kernel settings, tables of other programs, interfaces."""

    repaired: tuple[str, ...] = ()
    """Settings that another program had changed and that were restored, a line each."""
    not_covered: tuple[str, ...] = ()
    """Findings that the firewall does not correct and that limit the scope of its proof, a line each."""
    problem: str = ""
    """Why instrument ports must be closed; "" if they may be open."""
    limits: dict[str, tuple[int, int]] = {}
    """Use of limited kernel resources: (amount, limit) by name; "conntrack" counts connections."""


class PathsLost(Struct, frozen=True, tag="paths-lost"):
    """Paths of sessions were closed without a request, possibly all paths of this client. `reason` says why."""

    reason: str


class FirewallState(Struct, frozen=True, tag="state"):
    """The state of the firewall. Totals count from the start of the service."""

    in_force: bool
    problem: str = ""
    """Why it is not in force; "" if it is."""
    not_covered: tuple[str, ...] = ()
    """Conditions that limit the scope of the proof: see `OutsideInspection`."""
    alarms: int = 0
    """How many times another program changed the firewall."""
    repairs: int = 0
    refused: dict[str, int] = {}
    """Refused packets by cause, as last counted."""
    limits: dict[str, tuple[int, int]] = {}
    """See `OutsideInspection`."""
    is_known: bool = True
    """False if the service cannot be reached; `problem` then says why."""


Event: TypeAlias = Alarm | Repair | PortFault | OutsideInspection | PathsLost | FirewallState
