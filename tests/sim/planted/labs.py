"""Short labs with faults that reveal a bug anywhere between instrument and database."""

from __future__ import annotations

from pathlib import Path

from sim.lab.labfile import Lab, parse_lab

HEAD = """
[lab]
name = "{name}"
duration = "{duration}"
start = "08:00"
[box]
board = "rap-4"
linger = "{linger}"
spool_bytes_max = "16MiB"
[uplink]
rate = "256kbit"
delay = "20ms"
[[instrument]]
port = 1
model = "chemistry-analyzer"
report_every = "{every}"
[[instrument]]
port = 2
model = "hematology-analyzer"
report_every = "{every}"
"""
CRASH = (
    HEAD.format(name="crash", duration="9min", linger="2s", every="2s")
    + """
# a power cut while the disk is slow and the uplink is down: only data on the disk survives
[[event]]
at = "1min"
fault = "link-down"
target = "uplink"
lasts = "1min"
[[event]]
at = "90s"
fault = "disk-slow"
target = "disk"
flush = "3s"
lasts = "10s"
[[event]]
at = "95s"
fault = "power-cut"
target = "box"
lasts = "5s"
[[command]]
at = "5min"
target = "instrument:1"
[expect]
acknowledged_within = "1min"
delivered_within = "1min"
commands_within = "2min"
backlog_drained_within = "1min"
"""
)
ERRORS = (
    HEAD.format(name="errors", duration="9min", linger="2s", every="2s")
    + """
[[event]]
at = "1min"
fault = "datacenter-errors"
target = "datacenter"
lasts = "20s"
[[event]]
at = "2min"
fault = "datacenter-nonsense"
target = "datacenter"
lasts = "20s"
[[event]]
at = "3min"
fault = "datacenter-loses-responses"
target = "datacenter"
lasts = "20s"
[[event]]
at = "4min"
fault = "datacenter-restarts"
target = "datacenter"
lasts = "5s"
[[event]]
at = "5min"
fault = "link-down"
target = "instrument:1"
lasts = "45s"
[expect]
acknowledged_within = "1min"
delivered_within = "1min"
backlog_drained_within = "1min"
"""
)
ROT = (
    HEAD.format(name="rot", duration="9min", linger="2s", every="2s")
    + """
[[event]]
at = "1min"
fault = "link-down"
target = "uplink"
lasts = "2min"
[[event]]
at = "2min"
fault = "disk-rot"
target = "disk"
sectors = 4
bits = 8
[expect]
dropped = 30
delivered_within = "1min"
"""
)
ALERTS = (
    HEAD.format(name="alerts", duration="10h", linger="10min", every="2min")
    + """
[expect]
alert_latency_p99 = "10s"
delivered_within = "15min"
"""
)
LABS = {name.lower(): globals()[name] for name in ("CRASH", "ERRORS", "ROT", "ALERTS")}


def lab(name: str) -> Lab:
    """Return a lab by its name."""
    return parse_lab(LABS[name], Path(f"{name}.toml"))
