"""The hardware and settings of a lab's box in every world, and the reading of its disk at the end of a run."""

from __future__ import annotations

from dataclasses import fields
from random import Random
from typing import Final

from agents.spool import Priority, Record, Spool, SpoolLimits
from hal.disk import Disk
from settings.site import Reporting
from sim.lab.labfile import Lab
from sim.units import SECOND_NS
from sim.verdict.findings import SpoolContent
from wire.dial.traffic import Traffic

BOOT_SECONDS: Final = 20.0
"""The time from power-on to the start of the box program."""
RESTART_SECONDS: Final = 1.0
"""The time from the end of the box program to its restart by the system."""
DISK_BYTES_BESIDE_SPOOL: Final = 64 * 1024 * 1024
"""The disk's capacity beyond the limit of the spool."""


def reporting(lab: Lab) -> Reporting:
    """Return the lab's settings for buffering and sending, in the form in which a site file has them."""
    return Reporting(linger_s=lab.box.linger / SECOND_NS, spool_bytes_max=lab.box.spool_bytes_max)


def read_disk(disk: Disk, spool_bytes_max: int, random: Random) -> SpoolContent:
    """Open the spool on a box's disk and return the records and gaps in it. Raises: SpoolError, DiskError."""
    spool = Spool.open(
        disk,
        SpoolLimits(spool_bytes_max=spool_bytes_max),
        random=random,
        encode_gap=lambda _: b"",
        snapshot=lambda: b"",
    )
    records = [record for priority in Priority for record in _read_all(spool, priority)]
    return SpoolContent(spool.epoch, records, spool.pending_gaps())


def _read_all(spool: Spool, priority: Priority) -> list[Record]:
    records: list[Record] = []
    while more := spool.read(priority, 1000, 1 << 20, records[-1][0] if records else 0):
        records += more
    return records


def add_traffic(earlier: Traffic, later: Traffic) -> Traffic:
    """Return the sum of two traffic counts; the cipher is taken from `later` if it has one."""
    names = [field.name for field in fields(Traffic) if field.name != "cipher"]
    total = {name: getattr(earlier, name) + getattr(later, name) for name in names}
    return Traffic(**total, cipher=later.cipher or earlier.cipher)
