"""The files that a data center needs for a demonstration: staff directory, triggers and configuration."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from sim.fleet.plan import PlannedBox
from sim.instruments import model_names
from sim.lab.shipped_triggers import SHIPPED_TRIGGERS

FRONT_END: Final = "FRONT-1"
"""The name in the certificate with which the fleet sends the reports of all boxes."""
PEOPLE: Final = (
    ("engineer", "Service engineer, Europe", "service-engineer", "region/europe", "Europe/Berlin", 200),
    ("untrained", "Service engineer, training expired", "service-engineer", "region/europe", "UTC", -30),
    ("manager", "Regional manager, America", "supervisor", "region/america", "America/New_York", 0),
    (
        "specialist",
        "Application specialist, Asia",
        "application-specialist",
        "region/asia",
        "Asia/Tokyo",
        200,
    ),
    ("supervisor", "Supervisor, Asia", "supervisor", "region/asia", "Asia/Tokyo", 0),
    ("administrator", "Administrator", "administrator", "everywhere", "UTC", 0),
    ("auditor", "Auditor", "auditor", "everywhere", "UTC", 0),
)
"""(identifier, name, role, scope, time zone, days until the trainings expire; 0: no training)."""


def staff_directory(now_ms: int) -> str:
    """Return the staff directory; trainings are for all models."""
    lines = []
    for staff, name, role, scope, zone, days in PEOPLE:
        lines += [f"[staff.{staff}]", f'roles = ["{role}"]', f'scope = ["{scope}"]']
        lines += [f'name = "{name}"', f'zone = "{zone}"', ""]
        if days:
            expiry = datetime.fromtimestamp(now_ms / 1000, UTC) + timedelta(days=days)
            lines += [f"[staff.{staff}.trainings]"]
            lines += [f"{model} = {expiry:%Y-%m-%d}" for model in model_names()] + [""]
    return "\n".join(lines)


def write_triggers(folder: Path) -> None:
    """Write the triggers that this version ships with, and their scores."""
    folder.mkdir()
    for file in sorted(SHIPPED_TRIGGERS.glob("*.toml")):
        (folder / file.name).write_text(file.read_text())


def configuration(database: Path, plan: list[PlannedBox], port: int) -> str:
    """Return the configuration of the data center; its other files are in the folder of the database."""
    serials = ", ".join(f'"{box.serial}"' for box in plan)
    return f"""\
boxes = [{serials}]
front_ends = ["{FRONT_END}"]

[listen]
host = "127.0.0.1"
port = 0

[tls]
certificate = "datacenter.crt"
key = "datacenter.key"
authorities = "datacenter.ca.crt"

[evaluation]
triggers = "triggers"

[store]
url = "sqlite:///{database}"

[staff]
directory = "staff.toml"
port = {port}
development = true
idle_minutes = 600

[log]
level = "warning"
"""
