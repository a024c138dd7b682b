"""The first steps of the box program: opening the spool, and restoring the box's state from it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from random import Random

from agents.box.buffer import Buffer
from agents.box.configuration.config import BoxConfig
from agents.box.files.store import BoxFiles
from agents.box.hardware import Hardware
from agents.box.health.audit import GAP_RANGES_MAX, encode_gap
from agents.box.released.released_data import ReleasedData
from agents.box.state import SNAPSHOT_BYTES_MAX, BoxState
from agents.spool import Spool, SpoolLimits
from hal.disk import DiskError
from wire.audit_events import AuditEvent


async def open_spool(
    config: BoxConfig,
    hardware: Hardware,
    random: Random,
    state: BoxState,
    files: BoxFiles,
    released: ReleasedData | None = None,
) -> Spool:
    """Open the spool, the files of commands and the data release, and restore `state`.

    Raises: SpoolError, DiskError.
    """
    limits = SpoolLimits(
        spool_bytes_max=config.spool.bytes_max,
        gap_ranges_max=GAP_RANGES_MAX,
        snapshot_bytes_max=SNAPSHOT_BYTES_MAX,
    )

    def open_and_restore() -> Spool:
        spool = Spool.open(
            hardware.disk,
            limits,
            random=random,
            encode_gap=partial(encode_gap, clock=hardware.clock),
            snapshot=state.snapshot,
        )
        adapted = config.adapted()
        ports = {port: serial for serial, port in config.enrolled().items() if serial in adapted}
        state.restore(spool.recovery, set(config.enrolled()), adapted, ports)
        with suppress(DiskError):  # the spool reports a failed disk
            files.open()
        if released is not None:
            released.load()
        return spool

    return await asyncio.get_running_loop().run_in_executor(hardware.executor, open_and_restore)


async def start_event(spool: Spool, buffer: Buffer) -> AuditEvent:
    """Return STARTED if the spool is new or was closed cleanly, else STARTED_AFTER_CRASH."""
    is_new = (await buffer.status()).next_seq == 1
    return AuditEvent.STARTED if is_new or spool.recovery.was_closed else AuditEvent.STARTED_AFTER_CRASH
