"""The ways in which information about a person could leave the box, if an instrument has such information.

Reports cannot carry it, unless a field holds free text; files requested from an instrument, and the picture of its
screen, have the instrument's own content.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator

from trust.fact import Fact, fact
from trust.facts.messages import INSTALLED, known_messages, report_fields
from trust.machine import ExaminedBox


def facts(machine: ExaminedBox) -> Iterator[Fact]:
    """Yield the fact whose values are the ways; without the box's settings and messages there is no fact."""
    messages, settings = known_messages(machine), machine.file("/etc/rap/box.toml")
    if messages is None or settings is None:
        return
    ways = [f"free text in a report: {field}" for field in report_fields() if not _is_bounded(field)]
    box, used = tomllib.loads(settings.text), [messages, settings]
    for port in box.get("port", []):
        for instrument in port.get("instrument", []):
            serial = instrument["serial"]
            profile = machine.file(f"{INSTALLED}/profiles/{instrument['model']}.toml")
            if profile is None:
                ways.append(f"unknown: {serial} has no profile")
                continue
            used.append(profile)
            if "data-upload" in tomllib.loads(profile.text).get("verbs", []):
                ways.append(f"data files that are requested from {serial}")
            if box.get("sessions") and instrument.get("address"):
                ways.append(f"the picture of the screen of {serial} in a remote session")
    yield fact("personal.ways", ways, *used)


def _is_bounded(field: str) -> bool:
    """Return whether a field can only hold numbers and words of a fixed form."""
    form = field.split(": ", 2)[2]
    return not any(word in form for word in ("text", "bytes", "Type"))
