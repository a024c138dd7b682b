# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""What the firewall service reports: changes by other programs, their repair, and the state of the firewall.

These are messages of the service's protocol (`netfw.service.protocol`), and values within a process.
"""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct


class Alarm(Struct, frozen=True, tag="alarm"):
    """Another program has changed the firewall's table. `pid` is 0 and `program` "" where the kernel did not say."""

    pid: int
    program: str


class Repair(Struct, frozen=True, tag="repair"):
    """What was found changed, and whether the policy is in force again."""

    differences: tuple[str, ...]
    in_force: bool
    problem: str = ""


class PortFault(Struct, frozen=True, tag="port-fault"):
    """An instrument port could not be opened, or could not be closed."""

    port: int
    to_open: bool
    problem: str


class Surroundings(Struct, frozen=True, tag="surroundings"):
    """The result of an inspection of what lies around the table: kernel settings, foreign tables, interfaces."""

    repaired: tuple[str, ...] = ()
    """Settings that another program had changed and that were put back, a line each."""
    not_covered: tuple[str, ...] = ()
    """What is not the firewall's to change and limits what its proof covers, a line each."""
    problem: str = ""
    """Why instrument ports must be closed; "" if they may be open."""
    limits: dict[str, tuple[int, int]] = {}
    """What the firewall uses of the kernel that has a limit: amount and limit by name; "conntrack" in connections."""


class FirewallState(Struct, frozen=True, tag="state"):
    """The state of the firewall. Totals count from the start of the service."""

    in_force: bool
    problem: str = ""
    """Why it is not in force; "" if it is."""
    not_covered: tuple[str, ...] = ()
    """What limits the proof, a line each: see `Surroundings`."""
    alarms: int = 0
    """How often another program changed the firewall."""
    repairs: int = 0
    refused: dict[str, int] = {}
    """Refused packets by cause, when they were last counted."""
    limits: dict[str, tuple[int, int]] = {}
    """See `Surroundings`."""
    is_known: bool = True
    """False if the service cannot be asked; `problem` then says why."""


Event: TypeAlias = Alarm | Repair | PortFault | Surroundings | FirewallState
