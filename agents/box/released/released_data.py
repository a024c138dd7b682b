"""The content of data releases as the running box program uses it: profiles of instruments, and send timing."""

from __future__ import annotations

from contextlib import suppress

from agents.box.configuration.config import BoxConfig
from agents.box.files.store import BoxFiles
from agents.box.firewall import LogMessage
from agents.box.health.audit import AuditLog
from agents.box.released.profiles import InstrumentProfiles
from agents.box.state import BoxState
from agents.box.updates.data_files import DataFiles
from agents.box.uplink.batching import Timing
from agents.spool import SpoolError
from hal.disk import Disk, DiskError
from wire.audit_events import AuditEvent
from wire.release.data import DataContent


class ReleasedData:
    """The data releases in use by the program; see `agents.box.updates.surroundings.DataUse`.

    Without a data release, `profiles` come from the package and `timing` from the configuration.
    """

    def __init__(self, config: BoxConfig, disk: Disk, files: BoxFiles) -> None:
        self.profiles = InstrumentProfiles(config)
        self.timing = Timing(config.sending.linger_s, config.sending.heartbeat_s)
        """Changes with the data release."""
        self.files = DataFiles(disk, files)
        self._config = config
        self.refused_by_trial = self.profiles.refused_by_trial
        self.problem = self.profiles.problem

    def load(self) -> None:
        """Use the data release that is in force. Blocks. Errors of the disk are ignored."""
        if self._config.updates is None:
            return
        with suppress(DiskError):  # the spool reports a failed disk
            content, problems = self.files.open()
            self.profiles.load(content)
            self.profiles.problems += problems
            self._set_timing(content)

    async def begin(self, audit: AuditLog, state: BoxState, log: LogMessage) -> None:
        """Record the profiles that changed, before any report that follows them, and why others are ignored.

        `state` holds the last recorded profile of each instrument, and is updated.
        """
        for problem in self.profiles.problems:
            audit.note(AuditEvent.PROFILE_IGNORED)
            log(f"profiles: {problem}")
        with suppress(SpoolError):  # recorded at the next start
            await self.profiles.record_changes(audit.record_profile, state)

    async def use(self, content: DataContent, *, on_trial: bool) -> None:
        """See `DataUse.use`."""
        await self.profiles.use(content, on_trial=on_trial)
        self._set_timing(content)

    def _set_timing(self, content: DataContent) -> None:
        released, configured = content.sending, self._config.sending
        self.timing.linger_s = configured.linger_s if released.linger_s is None else released.linger_s
        heartbeat_s = released.heartbeat_s
        self.timing.heartbeat_s = configured.heartbeat_s if heartbeat_s is None else heartbeat_s
