"""The box's status on the page, in addition to its sessions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PageStandard:
    """Messages of an instrument that speaks its own standard. Counts begin at the start of the program."""

    name: str
    """The standard, as in a profile's `speaks`."""
    is_connected: bool
    message_at_s: int | None
    """When the instrument's last message was stored, in seconds since 1970; None if there was none yet."""
    accepted: int
    """Reports stored."""
    left_out: Mapping[str, int]
    """Content of messages that was not accepted, by `wire.standards.extract.Reason`."""


@dataclass(frozen=True, slots=True)
class PagePort:
    """One instrument port."""

    number: int
    instruments: tuple[str, ...]
    """The serial numbers of the instruments enrolled at the port."""
    is_served: bool
    """Whether the box receives reports at the port."""
    standard: PageStandard | None = None
    """None if the instrument runs the agent."""


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
    """None: the site does not require FIPS mode."""
