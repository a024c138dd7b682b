"""What the page shows of the box beside its sessions."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PagePort:
    """One instrument port."""

    number: int
    instruments: tuple[str, ...]
    """The serial numbers of the instruments enrolled there."""
    is_served: bool
    """Whether the box receives reports there."""


@dataclass(frozen=True, slots=True)
class PageStatus:
    """The state of the box."""

    is_connected: bool
    """Whether there is a connection to the data center."""
    records_waiting: int
    """Records that the data center has not acknowledged."""
    accepts_reports: bool
    """Whether reports are stored."""
    is_firewall_enforced: bool
    ports: tuple[PagePort, ...]
    is_fips_in_force: bool | None = None
    """None: the site does not demand FIPS mode."""
