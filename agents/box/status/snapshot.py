"""The state of a running box at one moment."""

from __future__ import annotations

from dataclasses import dataclass

from agents.box.audit_work import AuditStatus
from agents.box.firewall import FirewallStatus
from agents.box.intake.counts import PortStatus
from agents.box.updates.surroundings import UpdateStatus
from agents.box.uplink.trust import TrustProblem
from agents.spool import SpoolStatus
from hal.crypto import SelfTest
from wire.dial.traffic import Traffic
from wire.process.bounds import Level
from wire.tls.identity import Inspection


@dataclass(frozen=True, slots=True)
class BoxStatus:
    """Snapshot of a running box."""

    spool: SpoolStatus
    traffic: Traffic
    is_connected: bool
    reports_accepted: int
    reports_repeated: int
    firewall: FirewallStatus | None
    """None without [firewall] in the configuration."""
    certificate: Inspection
    levels: tuple[Level, ...]
    """The bounded quantities, as last measured."""
    spool_problem: str
    """Why the spool accepts no records; empty if it does."""
    trust: TrustProblem | None
    """Why the data center's certificate is not trusted; None if it is, or if that is unknown."""
    ports: tuple[PortStatus, ...]
    """The ports with an instrument that speaks its own standard."""
    update: UpdateStatus | None
    """None if the box ignores orders to update it."""
    fips: SelfTest | None
    """None if the site does not require FIPS mode."""
    audit: AuditStatus | None
    """None without [audit] and [sessions] in the configuration."""
