"""The parts of a running box, which `agents.box.box` assembles."""

from __future__ import annotations

from dataclasses import dataclass

from agents.box.audit_work import AuditWork
from agents.box.buffer import Buffer
from agents.box.commands import CommandDispatcher
from agents.box.firewall import FirewallGuard
from agents.box.health.audit import AuditLog
from agents.box.intake.collector import Collector
from agents.box.intake.intake import Intake
from agents.box.sessions.running import RunningSessions
from agents.box.updates.updater import Updater
from agents.box.uplink.forwarder import Forwarder
from agents.box.uplink.trust import TrustDiagnosis
from wire.process.bounds import Bounds


@dataclass(frozen=True, slots=True)
class RunningParts:
    """The parts of a running box; one is None without its table in the configuration or its hardware."""

    buffer: Buffer
    audit: AuditLog
    intake: Intake
    collector: Collector
    forwarder: Forwarder
    commands: CommandDispatcher
    guard: FirewallGuard | None
    bounds: Bounds
    trust: TrustDiagnosis
    sessions: RunningSessions | None
    updater: Updater | None
    audit_work: AuditWork | None
