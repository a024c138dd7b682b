"""Labs for tests of faults: one with expectations, and one in which faults are combined."""

from __future__ import annotations

from pathlib import Path

from sim.faults import fault_kinds
from sim.lab.labfile import Lab, parse_lab
from sim.verdict.result import Result

HTTP = 'proxy = { kind = "http", auth = "basic" }'
LAB_WITH_EXPECTATIONS = """
[lab]
name = "faulty"
duration = "{duration}"
seed = {seed}
[box]
board = "rap-4"
linger = "10s"
[uplink]
rate = "128kbit"
delay = "40ms"
jitter = "10ms"
loss = "{loss}"
proxy = {{ kind = "{proxy}", auth = "{auth}" }}
[[instrument]]
port = 1
model = "chemistry-analyzer"
report_every = "{every}"
[[instrument]]
port = 2
model = "hematology-analyzer"
report_every = "{every}"
{events}
[expect]
lost = 0
duplicates = 0
dropped = {dropped}
"""
COMBINED_LAB = """
[lab]
name = "layers"
duration = "{duration}"
seed = {seed}
[box]
board = "rap-4"
[uplink]
rate = "128kbit"
delay = "40ms"
{proxy}
[[instrument]]
port = 1
model = "chemistry-analyzer"
report_every = "{every}"
[[instrument]]
port = 2
model = "hematology-analyzer"
report_every = "{every}"
{events}
"""
DROPPED_BY_ROT_MAX = 500
"""A damaged sector loses the records in it; damage in a table loses those of a whole group."""
PARAMETERS = {
    "link-degraded": 'loss = "20%"\nduplication = "5%"\nreordering = "5%"\njitter = "100ms"',
    "link-rate": 'rate = "9600bit"',
    "mtu-black-hole": 'bytes = "1300B"',
    "proxy-kills-idle": 'after = "5s"',
    "proxy-slow": 'delay = "3s"',
    "datacenter-slow": 'delay = "15s"',
    "disk-slow": 'flush = "2s"',
    "disk-flush-fails": "times = 3",
    "disk-write-fails": "times = 3",
    "disk-read-fails": "times = 3",
    "dns-slow": 'delay = "8s"',
    "disk-rot": "sectors = 3\nbits = 5",
    "disk-torn": "operation = 2",
    # to a time before the certificates are valid: the box must correct its clock before it accepts them
    "clock-jump": 'by = "30d"\ndirection = "backwards"',
    "instrument-floods": "rate = 60",
    "instrument-hoards-connections": 'every = "5s"',
    "instrument-stalls-handshakes": 'every = "5s"',
    "instrument-drips-requests": 'every = "5s"',
    "instrument-ignores-answers": 'every = "5s"\nconnections = 9',
    "instrument-reconnects": 'every = "5s"',
}
"""The parameters in TOML of each kind of fault that needs some."""
SESSION_FAULTS = frozenset(
    (
        "approval-withdrawn",
        "training-expired",
        "recording-fails",
        "session-audit-fails",
        "tunnels-killed",
        "desktop-frozen",
    )
)
"""Kinds of faults that affect only remote sessions; tests/sim/worlds/test_session_labs.py injects them."""
OTHER_FAULTS = SESSION_FAULTS | {"update", "enrolment-approved", "box-denied", "siem-down"}
REPORT_FAULTS = tuple(kind for kind in fault_kinds() if kind not in OTHER_FAULTS)
"""All other kinds; test_virtual_updates.py, test_enrolment_labs.py and test_siem_labs.py test updates, enrolment and
the SIEM."""
MOMENTARY = (
    "program-killed",
    "disk-flush-fails",
    "disk-write-fails",
    "disk-read-fails",
    "disk-rot",
    "clock-jump",
    "address-changes",
)
"""Kinds of faults without a duration."""


def target_of(kind: str) -> str:
    """Return a target for a kind of fault in these labs."""
    target = fault_kinds()[kind].targets[0]
    return "instrument:1" if target == "instrument" else target


def lab_with_expectations(
    events: str, seed: int = 1, *, duration: str = "90min", loss: str = "0.5%", report_every: str = "10s"
) -> Lab:
    """Return a lab of two instruments behind a proxy, which must neither lose nor duplicate a report."""
    proxy, auth = ("http", "basic") if seed % 2 else ("socks5", "password")
    dropped = DROPPED_BY_ROT_MAX if "disk-rot" in events or "disk-read-fails" in events else 0
    text = LAB_WITH_EXPECTATIONS.format(
        events=events,
        seed=seed,
        proxy=proxy,
        auth=auth,
        dropped=dropped,
        loss=loss,
        every=report_every,
        duration=duration,
    )
    return parse_lab(text, Path("faulty.toml"))


def combined_lab(
    events: str = "", *, duration: str = "30min", seed: int = 1, proxy: str = HTTP, report_every: str = "10s"
) -> Lab:
    """Return a lab of two instruments behind an uplink of 128 kbit/s without loss."""
    text = COMBINED_LAB.format(events=events, duration=duration, seed=seed, proxy=proxy, every=report_every)
    return parse_lab(text, Path("layers.toml"))


def event(kind: str, at_s: int, lasts_s: int | None = None, parameters: str | None = None) -> str:
    """Return an `[[event]]` of a lab file, with the `PARAMETERS` of its kind by default."""
    lasts = "" if lasts_s is None else f'lasts = "{lasts_s}s"'
    own = PARAMETERS.get(kind, "") if parameters is None else parameters
    return f'[[event]]\nat = "{at_s}s"\nfault = "{kind}"\ntarget = "{target_of(kind)}"\n{lasts}\n{own}\n'


def program_errors(result: Result) -> float | str | None:
    """Return the number of program errors in the lab."""
    return {e.name: e.measured for e in result.expectations}["program_errors"]
