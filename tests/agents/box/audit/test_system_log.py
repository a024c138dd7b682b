"""Each line of auditd's log files is delivered to the data center once."""

from __future__ import annotations

import asyncio
from pathlib import Path

from msgspec.structs import replace

from agents.box.configuration.config import AuditSettings, SpoolSize
from hal.linux.log_folder import LinuxLogFolder
from imaging.rpm.contents import RECIPE
from tests.support.agents.boxes import box_config, disk, running_box
from tests.support.agents.rotated_log import RotatedLog
from tests.support.agents.stand_in import StandIn, stand_in
from tests.support.audit_log_service import audit_log_service
from tests.support.crypto.hierarchy import Hierarchy
from wire.messages import LogLine

AUDITD = RECIPE / "root/usr/share/rap/hardening/etc/audit/auditd.conf"


def lines_of(center: StandIn) -> list[bytes]:
    """Return the stored log lines in the order of the chain."""
    linked = [entry for entry in center.stored.values() if entry.link]
    linked.sort(key=lambda entry: entry.link.number if entry.link else 0)
    return [entry.body.content for entry in linked if isinstance(entry.body, LogLine)]


def test_lines_are_delivered_once_over_restarts_and_rotations(pki: Hierarchy, tmp_path: Path) -> None:
    folder, path, log, spool_disk = tmp_path / "audit", tmp_path / "socket", RotatedLog(), disk()
    folder.mkdir()

    def write(line: bytes) -> None:
        log.write(line)
        with (folder / "audit.log").open("ab") as file:
            file.write(line)

    def rotate() -> None:
        log.rotate()
        for number in range(len(log.files) - 2, 0, -1):
            (folder / f"audit.log.{number}").rename(folder / f"audit.log.{number + 1}")
        (folder / "audit.log").rename(folder / "audit.log.1")

    async def scenario() -> None:
        nonlocal spool_disk
        async with stand_in(pki.datacenter) as center:
            config = replace(box_config(pki, center.server.port), audit=AuditSettings(path))
            for life in range(3):
                for _ in range(5):
                    write(log.line(200 * life))
                audit_log = LinuxLogFolder(path)
                async with running_box(config, spool_disk, audit_log=audit_log):
                    await center.until(lambda: len(b"".join(lines_of(center))) == len(log.written))
                    write(log.line(2000))
                    await center.until(lambda: len(b"".join(lines_of(center))) == len(log.written))
                    spool_disk = spool_disk.backend.cut_power()
                audit_log.close()
                rotate()
            assert b"".join(lines_of(center)) == log.written
            assert not [event for event in center.audits if event.startswith("audit-log")]

    with audit_log_service(path, folder):
        asyncio.run(scenario())


def test_a_box_without_the_service_reports_it_and_works(pki: Hierarchy, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stand_in(pki.datacenter) as center:
            config = replace(box_config(pki, center.server.port), audit=AuditSettings(tmp_path / "none"))
            async with running_box(config, disk(), audit_log=LinuxLogFolder(tmp_path / "none")):
                await center.until(lambda: "audit-log-unreadable" in center.audits)

    asyncio.run(scenario())


def test_the_box_expects_as_many_files_as_auditd_keeps() -> None:
    settings = dict(line.split(" = ") for line in AUDITD.read_text().splitlines() if " = " in line)
    assert int(settings["num_logs"]) == AuditSettings().files_max
    assert (settings["log_group"], settings["log_file"]) == ("root", "/var/log/audit/audit.log")
    assert AuditSettings().bytes_per_second < SpoolSize().bytes_max
