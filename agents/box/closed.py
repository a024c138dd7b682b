"""The box program while FIPS mode is required and not in force: it serves no port and opens no connection.

It remains closed until it is stopped, because OpenSSL and the kernel keep their mode for the lifetime of a process.
The program does not exit by itself: the service manager would restart it repeatedly, and nothing would show the
reason. It records the reason in the spool, from which it reaches the data center later; logs it; sets the alarm LED;
and answers `rap box status` and the local page. It performs no cryptography except for the hash chain of the audit
records.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from random import Random
from typing import Final

from agents.box.buffer import Buffer
from agents.box.configuration.config import BoxConfig
from agents.box.files.store import BoxFiles
from agents.box.firewall import LogMessage
from agents.box.hardware import Hardware
from agents.box.health.alarm import AlarmLed
from agents.box.health.audit import AuditLog
from agents.box.health.bounds import box_bounds, watch_bounds
from agents.box.health.spoolwatch import watch_spool
from agents.box.health.supervision import keep_running
from agents.box.health.watchdog import feed_while_healthy
from agents.box.sessions.sessions import BoxSessions
from agents.box.start import open_spool, start_event
from agents.box.state import BoxState
from agents.box.status.snapshot import BoxStatus
from agents.spool import Priority
from hal.indicators import Light
from wire.audit_events import AuditEvent
from wire.dial.traffic import Traffic
from wire.process.bounds import Bounds
from wire.tls.identity import Inspection

_UNKNOWN: Final = Inspection((), None)
"""Certificates are not read, because OpenSSL may be unable to."""


class ClosedBox:
    """A box that serves nothing; see `agents.box.program.BoxProgram`."""

    def __init__(
        self, config: BoxConfig, hardware: Hardware, random: Random, log_message: LogMessage
    ) -> None:
        """`hardware.fips` is the failed self-test, with the reasons."""
        assert hardware.fips is not None
        self._config, self._hardware, self._random = config, hardware, random
        self._log_message, self._fips = log_message, hardware.fips
        self._alarm = AlarmLed(hardware.indicators)
        self._state = BoxState()
        self._buffer: Buffer | None = None
        self._bounds: Bounds | None = None
        self.tcp_ports: Mapping[int, int] = {}
        self.activity = "starting"

    async def run(self) -> None:
        """Record the reasons and wait until cancelled. Raises: SpoolError IO if the disk is unusable."""
        self._alarm.show("fips", Light.FAST)
        for check, reason in self._fips.failed.items():
            self._log_message(f"fips: {check}: {reason}")
        self._log_message(
            "fips: is required and not in force, so no port is served and no connection is made"
        )
        self.activity = "opening the spool"
        files = BoxFiles(self._hardware.disk)
        spool = await open_spool(self._config, self._hardware, self._random, self._state, files)
        buffer = Buffer(spool, self._hardware.executor)
        audit = AuditLog(buffer, self._hardware.clock, self._state.audit_head)
        try:
            self.activity = "running"
            self._buffer = buffer
            audit.note(await start_event(spool, buffer))
            for check in self._fips.failed:
                audit.note(AuditEvent(f"fips-failed-{check}"), unlimited=True)
            await self._run_parts(buffer, audit)
        finally:
            self.activity = "closing the spool"
            self._buffer = None
            await audit.chain.close()
            await buffer.close()
            self.activity = "closed"

    async def _run_parts(self, buffer: Buffer, audit: AuditLog) -> None:
        config, hardware = self._config, self._hardware
        self._bounds = bounds = box_bounds(audit, self._alarm.used_by("bounds"))
        bounds.add(*hardware.bounds)
        supervise = partial(keep_running, audit=audit, random=self._random)
        async with asyncio.TaskGroup() as tasks:
            watch = partial(watch_spool, buffer, bounds, hardware.disk_space)
            tasks.create_task(supervise("spool-watch", watch))
            tasks.create_task(supervise("bounds", partial(watch_bounds, bounds)))
            if config.watchdog and hardware.watchdog:
                feed = partial(
                    feed_while_healthy, hardware.watchdog, config.watchdog.timeout_s, buffer, audit
                )
                tasks.create_task(supervise("watchdog", feed))

    async def status(self) -> BoxStatus | None:
        """Return the current status; None before the spool is open."""
        if self._buffer is None:
            return None
        return BoxStatus(
            spool=await self._buffer.status(),
            traffic=Traffic(),
            is_connected=False,
            reports_accepted=0,
            reports_repeated=0,
            firewall=None,
            certificate=_UNKNOWN,
            levels=self._bounds.levels if self._bounds else (),
            spool_problem=str(self._buffer.problem or ""),
            trust=None,
            ports=(),
            update=None,
            fips=self._fips,
            audit=None,
        )

    async def backlog(self) -> Mapping[Priority, int] | None:
        """Return records that are not acknowledged, by priority; None before the spool is open."""
        return (await self._buffer.status()).records if self._buffer else None

    @property
    def traffic(self) -> Traffic:
        """No traffic, because the uplink is not opened."""
        return Traffic()

    @property
    def is_connected(self) -> bool:
        """False, because no connection is opened."""
        return False

    @property
    def sessions(self) -> BoxSessions | None:
        """None, because all remote sessions are refused."""
        return None

    def on_sessions_changed(self, changed: Callable[[], object]) -> None:
        """Ignore the callback, because sessions never change."""

    def refresh_certificates(self, *, at_once: bool = False) -> None:
        """Do nothing, because no certificate is used."""
