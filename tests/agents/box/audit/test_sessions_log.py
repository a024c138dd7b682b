"""The box's chain of audit records contains each line of the log of remote sessions and of the local page once."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from random import Random

from agents.box.audit.log_cursor import SESSIONS
from agents.box.audit.log_reader import LogReader
from agents.box.audit_work import SESSIONS_AUDIT
from agents.box.buffer import Buffer
from agents.box.health.audit import AuditLog, encode_gap
from agents.box.health.audit_tail import LogTail
from agents.box.state import SNAPSHOT_BYTES_MAX, BoxState
from agents.spool import Priority, Spool, SpoolLimits
from hal.emul.clock import EmulClock
from hal.emul.disk import EmulDisk
from hal.linux.log_folder import LinuxOwnLogs
from sim.net.loop import SimLoop
from wire.messages import Audit, Entry, LogLine, decode
from wire.session.audit import AuditOwner, SessionRecord
from wire.session.log import SessionLog
from wire.session.table import End

CLOCK = EmulClock(lambda: 0)
OWNER = AuditOwner(End.BOX, "RAP-0001")
LIMITS = SpoolLimits(
    spool_bytes_max=16 * 1024 * 1024, snapshot_bytes_max=SNAPSHOT_BYTES_MAX, gap_ranges_max=64
)


def record(number: int) -> SessionRecord:
    return SessionRecord(number, number, "ab", "transition", "cd", "offer received", "data center", "offered")


def read_logs(disk: EmulDisk, folder: Path) -> tuple[list[LogLine], list[str]]:
    """Let a box with this disk read the log for a minute of simulated time; return all stored lines and events."""
    entries: list[Entry] = []

    async def main() -> None:
        state = BoxState()
        spool = Spool.open(
            disk,
            LIMITS,
            random=Random(1),
            encode_gap=lambda gap: encode_gap(gap, CLOCK),
            snapshot=state.snapshot,
        )
        state.restore(spool.recovery, set())
        buffer = Buffer(spool)
        audit = AuditLog(buffer, CLOCK, state.audit_head)
        reader = LogReader(LinuxOwnLogs(folder), SESSIONS_AUDIT, state.log_cursor(SESSIONS))
        tail = LogTail(
            reader, audit, buffer, source=SESSIONS, bytes_per_second=1e6, waiting_bytes_max=1 << 20
        )
        with suppress(TimeoutError):
            async with asyncio.timeout(60):
                await tail.run()
        entries.extend(
            decode(Entry, payload) for _, payload in await buffer.read(Priority.AUDIT, 1000, 1 << 20)
        )
        await buffer.close()

    SimLoop().run_until_complete(main())
    bodies = [entry.body for entry in entries]
    assert all(entry.link for entry in entries), "all entries are in the chain"
    lines = [body for body in bodies if isinstance(body, LogLine)]
    return lines, [body.event for body in bodies if isinstance(body, Audit)]


def test_each_line_is_in_the_chain_once_and_later_changes_are_detected(tmp_path: Path) -> None:
    disk, file = EmulDisk(1 << 30, Random(1)), tmp_path / SESSIONS_AUDIT
    assert read_logs(disk, tmp_path) == ([], []), "there was no session yet"
    (tmp_path / "0000-0001.seg").write_bytes(b"another file")
    for life in range(3):
        with SessionLog(file, OWNER) as log:
            for number in range(5):
                log.append(record(10 * life + number))
        lines, events = read_logs(disk, tmp_path)
        assert b"".join(line.content for line in lines) == file.read_bytes()
        assert {line.source for line in lines} == {"sessions"}
        assert not events
    changed = file.read_bytes()
    file.write_bytes(changed[:-100] + bytes([changed[-100] ^ 1]) + changed[-99:])
    assert read_logs(disk, tmp_path)[1] == ["session-log-changed"]
    file.unlink()
    with SessionLog(file, OWNER):
        pass
    assert read_logs(disk, tmp_path)[1] == ["session-log-changed", "session-log-changed"]
