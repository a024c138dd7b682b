"""Requests for paths of sessions that the firewall service must refuse while the policy clinic.toml is in force."""

from __future__ import annotations

from ipaddress import ip_address
from random import Random

import msgspec

from netfw.policy.policy import SESSION_SECONDS_MAX, Service
from netfw.ruleset.sessions import Session
from netfw.service.protocol import OpenPath
from tests.support.netfw.boxlab import INSTRUMENT, STAFF

PATH = Session(ip_address(STAFF[4]), 1, ip_address(INSTRUMENT[1][4]), Service("tcp", 5900))
OPEN = OpenPath.of(PATH, seconds=600)
SOURCES = (
    "10.77.1.255",
    "10.77.2.5",
    "10.98.0.1",
    "10.98.255.255",
    "10.100.0.0",
    "fd00:98::1",
    "0.0.0.0",
    "",
)
INSTRUMENTS = (
    "10.98.0.1",
    "10.99.1.2",
    "10.77.1.1",
    "10.77.1.255",
    "10.77.2.5",
    "10.77.0.5",
    "10.77.1.5%eth0",
    "",
)


def forged(random: Random) -> bytes:
    """Return a framed request that must be refused: at least one value is wrong, or its end is missing."""
    valid = msgspec.to_builtins(OPEN)
    wrong = {
        "staff": random.choice(SOURCES),
        "port": random.choice([0, 2, 3, -1, 65, 1 << 63, True, "1", None]),
        "instrument": random.choice(INSTRUMENTS),
        "protocol": random.choice(["udp", "icmp", "", 6]),
        "desktop": random.choice([0, 22, 443, 5899, 5901, 65536, -1]),
        "seconds": random.choice([0, -1, SESSION_SECONDS_MAX + 1, 1 << 62, 0.5, "60"]),
        "type": random.choice(["open_path", "hello", "path", ""]),
    }
    changed = random.sample(sorted(wrong), random.choice([1, 1, 1, 2, 3]))
    body = bytearray(msgspec.msgpack.encode(valid | {name: wrong[name] for name in changed}))
    if random.random() < 0.2:
        body = bytearray(msgspec.msgpack.encode(valid))
        del body[random.randrange(len(body)) :]
    return len(body).to_bytes(4, "big") + body
