"""The health checks that a new release must pass before it is committed; no check needs the uplink."""

from __future__ import annotations

from collections.abc import Callable

from agents.box.buffer import Buffer
from agents.box.firewall import FirewallGuard


def program_health(guard: FirewallGuard | None, buffer: Buffer, are_ports_served: Callable[[], bool]) -> str:
    """Return why the program is not healthy, as a word; empty if it is. `guard` is None without a firewall."""
    if guard is not None and not guard.status().in_force:
        return "firewall-not-in-force"
    if buffer.problem is not None:
        return "spool-refuses"
    return "" if are_ports_served() else "ports-not-served"
