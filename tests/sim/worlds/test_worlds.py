"""The same lab file gives the same verdict on every expectation, and the same faults, in both worlds.

The labs of `labs/minutes` run in real time in the kernel world, `REAL_TIME_LABS` at a time, the longest first.
Meanwhile the virtual world runs them one after another at a low priority, since simulated time does not depend on
the processor.
"""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from sim.lab.labfile import load_lab
from tests.support.paths import ROOT

pytestmark = pytest.mark.kernel

LABS = sorted((ROOT / "labs" / "minutes").glob("*.toml"))
SECONDS_MAX = 900
"""A guard against hanging on a busy machine; not a performance target."""
REAL_TIME_LABS = 5
"""The number of labs that run in real time at once. With all labs at once, two cores would need so long to start the
programs that the first faults would be over before the boxes are connected."""
AUDITED = {
    "clinic-128k-minutes": {"started-after-crash", "uplink-lost", "uplink-restored"},
    "satellite-socks-minutes": {"uplink-restored"},
    "hostile-proxy-minutes": {"proxy-refused-auth", "uplink-lost", "uplink-restored"},
    "dark-minutes": {"uplink-lost", "uplink-restored"},
    "intruders-minutes": set(),
    "power-cut-minutes": {"started-after-crash"},
    "full-disk-minutes": {"started-after-crash", "uplink-restored"},
    "commands-and-files-minutes": {"started-after-crash"},
    "enrolment-minutes": {"certificate-issued", "certificate-renewed", "uplink-lost", "uplink-restored"},
    "expired-box-minutes": {"certificate-awaits-approval", "certificate-issued", "certificate-renewed"},
    "remote-sessions-minutes": set(),
    "hostile-instruments-minutes": {"connections-near-limit", "connections-over-limit", "reports-refused"},
}
"""Audit events that the box must have recorded: a fault without an effect proves nothing."""


def run(lab: Path, world: str) -> dict[str, Any]:
    nice = ["nice"] if world == "virtual" else []
    command = [*nice, sys.executable, "-m", "rap", "lab", "run", str(lab), "--world", world, "--json"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=SECONDS_MAX)
    assert ran.stdout, (lab, world, ran.stderr)
    document: dict[str, Any] = json.loads(ran.stdout)
    return document


@pytest.fixture(scope="module")
def results() -> dict[str, dict[str, dict[str, Any]]]:
    longest_first = sorted(LABS, key=lambda lab: load_lab(lab).about.duration, reverse=True)
    with ThreadPoolExecutor(REAL_TIME_LABS) as pool:
        running = [pool.submit(run, lab, "kernel") for lab in longest_first]
        documents = [run(lab, "virtual") for lab in LABS]
        documents += [future.result() for future in running]
    by_lab: dict[str, dict[str, dict[str, Any]]] = {}
    for document in documents:
        by_lab.setdefault(document["lab"], {})[document["world"]] = document
    return by_lab


@pytest.mark.parametrize("lab", AUDITED)
@pytest.mark.slow("the labs run in real time, for up to six minutes")
def test_both_worlds_agree_on_every_expectation(
    results: dict[str, dict[str, dict[str, Any]]], lab: str
) -> None:
    worlds = results[lab]
    for world, document in worlds.items():
        assert document["world"] == world
        assert document["verdict"] == "pass", (world, document["expectations"], document["failures"])
        assert document["reports"]["stored"] > 0.9 * document["reports"]["made"]
        events = {note["text"].partition(",")[0] for note in document["notes"]}
        assert events >= AUDITED[lab], (world, events)
    outcomes = [[(e["name"], e["limit"], e["holds"]) for e in d["expectations"]] for d in worlds.values()]
    assert outcomes[0] == outcomes[1]
    sessions = [
        [
            (s["instrument"], s["opened_ns"] is not None, set(s["causes"]), s["problems"])
            for s in d["sessions"]
        ]
        for d in worlds.values()
    ]
    assert sessions[0] == sessions[1]
    virtual, kernel = audit_lines(worlds["virtual"]), audit_lines(worlds["kernel"])
    assert virtual == kernel
    # sorted, since simultaneous faults have no order in real time
    faults = [sorted((f["at"], f["kind"], f["target"]) for f in d["faults"]) for d in worlds.values()]
    assert faults[0] == faults[1]


STAFF_CAUSE = ["ended by staff"]
STAFF_END = ("staff end", "ending")


def audit_lines(document: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return the transitions of sessions at the box, each of which the data center must have as an audit line.

    When staff end a session, the box gets the message or the end of its connection to the desktop, whichever comes
    first; in the kernel world there is no viewer. So both are reduced to one transition.
    """
    lines: list[tuple[str, ...]] = []
    for session in document["sessions"]:
        for step in session["steps"]:
            if step["end"] == "box" and step["state"]:
                assert step["is_sent"], (document["world"], session["instrument"], step)
                transition = step["event"], step["actor"], step["state"], step["cause"]
                is_staff_end = (
                    step["event"] in ("peer ended", "line lost") and session["causes"] == STAFF_CAUSE
                )
                lines.append((session["instrument"], *(STAFF_END if is_staff_end else transition)))
    return lines


def test_every_lab_of_the_folder_is_compared(results: dict[str, dict[str, dict[str, Any]]]) -> None:
    assert set(results) == set(AUDITED)
