"""The hardware and services that a box uses; the composition roots provide real or emulated implementations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field

from agents.box.audit.log_reader import LogFolder
from agents.box.firewall import FirewallService
from agents.box.health.spoolwatch import DiskSpace
from agents.box.sessions.running import SessionHardware
from agents.box.updates.surroundings import UpdateHardware
from hal.clock import WallClock
from hal.crypto import SelfTest
from hal.disk import Disk
from hal.ethernet import EthernetPort
from hal.indicators import Indicators
from hal.serial import SerialPort
from hal.watchdog import Watchdog
from wire.pki.hierarchy import PrivateKey, make_key
from wire.process.bounds import Bound


@dataclass(frozen=True, slots=True)
class Hardware:
    """The hardware and services that a box uses.

    `executor` runs the disk's calls one at a time; without it the box starts a thread. `firewall`, `watchdog`,
    `sessions` and `audit_log` are given if the configuration has [firewall], [watchdog], [sessions] and [audit].
    `bounds` are the bounds of the process; `disk_space` is called on the thread of the disk.
    """

    disk: Disk
    clock: WallClock
    uplink: EthernetPort
    executor: Executor | None = None
    firewall: FirewallService | None = None
    indicators: Indicators | None = None
    watchdog: Watchdog | None = None
    built_s: float = 0.0
    """Build time of the software, in seconds since 1970: a lower bound of the current time."""
    bounds: tuple[Bound, ...] = ()
    disk_space: DiskSpace | None = None
    serial_ports: Mapping[int, SerialPort] = field(default_factory=dict)
    """The serial ports by their numbers on the board."""
    sessions: SessionHardware | None = None
    updates: UpdateHardware | None = None
    """None: the box ignores orders to update it."""
    fips: SelfTest | None = None
    """The self-test of the cryptographic module at the start; None: the site does not require FIPS mode."""
    audit_log: LogFolder | None = None
    """The files of the operating system's audit log; it is called on a separate thread."""
    make_key: Callable[[], PrivateKey] = make_key
    """Makes a private key for the box's certificate."""
