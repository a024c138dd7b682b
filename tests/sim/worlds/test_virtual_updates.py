"""Updates in the virtual world: a box downloads and tries releases over the simulated line while it reports."""

from __future__ import annotations

from pathlib import Path

import pytest

from datacenter.store import queries
from settings.problems import SettingsError
from settings.profile import load_profile
from sim.lab.labfile import parse_lab
from sim.units import SECOND_NS
from sim.worlds.virtual.world import VirtualWorld

LAB = """
[lab]
name = "update"
duration = "{minutes}min"
[box]
board = "rap-4"
[uplink]
rate = "128kbit"
delay = "40ms"
[[instrument]]
port = 1
model = "chemistry-analyzer"
report_every = "30s"
[[event]]
at = "1min"
update = "{update}"
[[event]]
at = "70s"
fault = "instrument-floods"
target = "instrument:1"
lasts = "2min"
rate = 1
report = "alert"
[expect]
lost = 0
duplicates = 0
dropped = 0
"""


@pytest.mark.slow("two labs with a download")
def test_alerts_pass_beside_the_download_and_a_run_can_be_repeated() -> None:
    lab = parse_lab(LAB.format(minutes=10, update="healthy"), Path("update.toml"))
    results = []
    for _ in range(2):
        with VirtualWorld(lab) as world:
            results.append(world.run())
            ages = sorted(
                entry.stored_ns - entry.made_ns
                for run in world.ledger.runs.values()
                for entry in run
                if entry.priority == "alert" and 70 * SECOND_NS <= entry.made_ns < 190 * SECOND_NS
            )
    assert results[0].verdict == "pass", results[0].failures
    assert len(ages) >= 100
    assert ages[len(ages) * 99 // 100] <= 5 * SECOND_NS
    assert results[0].trace_sha256 == results[1].trace_sha256


@pytest.mark.slow("a lab with a download")
def test_an_update_that_has_no_outcome_fails_the_lab() -> None:
    lab = parse_lab(LAB.format(minutes=4, update="healthy"), Path("update.toml"))
    with VirtualWorld(lab) as world:
        result = world.run()
    assert [each.name for each in result.expectations if not each.holds] == ["updates"]


APPLICATIONS = """
[lab]
name = "applications"
duration = "1h"
[box]
board = "rap-4"
[uplink]
rate = "128kbit"
delay = "40ms"
[[instrument]]
port = 1
model = "chemistry-analyzer"
report_every = "30s"
[[event]]
at = "1min"
update = "application"
[[event]]
at = "10min"
update = "unhealthy-application"
lasts = "20min"
[[event]]
at = "35min"
update = "unstartable-application"
lasts = "10min"
[[event]]
at = "50min"
update = "application"
[[event]]
at = "51min"
fault = "power-cut"
target = "box"
[expect]
lost = 0
duplicates = 0
dropped = 0
"""


@pytest.mark.slow("a lab of an hour")
def test_applications_are_tried_without_a_restart_of_the_machine() -> None:
    """Only the last update restarts the machine first, because its root file system is in the slot to be written."""
    with VirtualWorld(parse_lab(APPLICATIONS, Path("applications.toml"))) as world:
        result = world.run()
    assert result.verdict == "pass", result.failures
    assert world.box.boots == 3, "the start, the restart before the last update, and the power cut"


def test_an_unknown_release_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"event\[0\].*healthy, unhealthy, unstartable"):
        parse_lab(LAB.format(minutes=4, update="good"), Path("update.toml"))


PROFILES = """
[lab]
name = "profiles"
duration = "14min"
[box]
board = "rap-4"
[uplink]
rate = "128kbit"
delay = "40ms"
[[instrument]]
port = 1
model = "chemistry-analyzer"
report_every = "30s"
[[event]]
at = "1min"
update = "profiles"
[[event]]
at = "8min"
update = "narrow-profiles"
[expect]
lost = 0
duplicates = 0
dropped = 0
"""


def test_new_profiles_are_in_force_without_a_restart_and_too_narrow_ones_are_reverted() -> None:
    with VirtualWorld(parse_lab(PROFILES, Path("profiles.toml"))) as world:
        result = world.run()
        versions = [one.version for one in queries.profiles(world.datacenter.store, {})]
    assert result.verdict == "pass", result.failures
    shipped = load_profile("chemistry-analyzer").version
    assert versions == [shipped, shipped + 2, shipped + 3, shipped + 2]
    assert sum(note.text.startswith("started") for note in result.notes) == 1
