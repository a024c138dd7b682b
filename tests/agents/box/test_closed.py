"""A box that requires FIPS mode and is not in it serves no port, reports the reason, and delivers it later."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from random import Random

import msgspec
import pytest

from agents.box.configuration.config import BoxConfig
from agents.box.hardware import Hardware
from agents.box.local_page import page_status
from agents.box.program import BoxProgram, box_program, demanded_self_test
from agents.box.status.snapshot import BoxStatus
from agents.box.status.status import read_status, serve_status
from hal.crypto import FipsCheck
from hal.emul.crypto import MODULE, EmulCryptographicModule
from hal.emul.disk import EmulDisk
from hal.emul.ethernet import EmulEthernetPort
from hal.emul.indicators import EmulIndicators
from hal.indicators import Light
from rap.box import print_status
from tests.support.agents.boxes import CLOCK, box_config, disk
from tests.support.agents.stand_in import stand_in
from tests.support.crypto.hierarchy import Hierarchy
from tests.support.eventually import eventually

KERNEL = "the kernel is not in FIPS mode; start it with fips=1"
PROVIDER = "OpenSSL has not loaded the FIPS provider"


def failing_module() -> EmulCryptographicModule:
    crypto = EmulCryptographicModule()
    crypto.backend.failed |= {FipsCheck.PROVIDER: PROVIDER, FipsCheck.KERNEL: KERNEL}
    return crypto


def requiring_fips(pki: Hierarchy, datacenter: int) -> BoxConfig:
    return msgspec.structs.replace(box_config(pki, datacenter, linger_s=0), fips="required")


@asynccontextmanager
async def started(
    config: BoxConfig, spool_disk: EmulDisk, crypto: EmulCryptographicModule, log: list[str]
) -> AsyncIterator[tuple[BoxProgram, EmulIndicators]]:
    """Start the program once; yield it and the LEDs until the context's end."""
    leds, fips = EmulIndicators(["alarm"], []), demanded_self_test(config, crypto)
    hardware = Hardware(spool_disk, CLOCK, EmulEthernetPort("uplink"), indicators=leds, fips=fips)
    program = box_program(config, hardware, Random(2), log_message=log.append)
    task = asyncio.ensure_future(program.run())
    try:
        await eventually(lambda: task.done() or program.activity == "running")
        assert not task.done(), task
        yield program, leds
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def status_of(program: BoxProgram) -> BoxStatus:
    status = await program.status()
    assert status is not None
    return status


def test_without_fips_mode_no_port_is_served_and_nothing_is_sent(pki: Hierarchy) -> None:
    async def scenario() -> None:
        spool_disk, log = disk(), list[str]()
        async with (
            stand_in(pki.datacenter) as center,
            started(requiring_fips(pki, center.server.port), spool_disk, failing_module(), log) as (
                program,
                leds,
            ),
        ):
            await eventually(lambda: leds.backend.lights["alarm"] is Light.FAST)
            await eventually(lambda: _records(program, 3))
            status = await status_of(program)
            assert not program.tcp_ports
            assert not center.connected
            assert not status.is_connected
            assert status.spool.records
            assert not [port for port in _listening() if port != center.server.port]
        assert log == [
            f"fips: kernel: {KERNEL}",
            f"fips: provider: {PROVIDER}",
            "fips: is required and not in force, so no port is served and no connection is made",
        ]

    asyncio.run(scenario())


def _listening() -> list[int]:
    """Return the TCP ports on which this process listens."""
    own = {str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()}
    rows = [line.split() for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]]
    return [
        int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in own
    ]


async def _records(program: BoxProgram, number: int) -> bool:
    backlog = await program.backlog()
    return backlog is not None and sum(backlog.values()) >= number


def test_the_reasons_reach_the_data_center_when_fips_mode_is_back(pki: Hierarchy) -> None:
    async def scenario() -> None:
        spool_disk, crypto = disk(), failing_module()
        async with stand_in(pki.datacenter) as center:
            config = requiring_fips(pki, center.server.port)
            for start in (1, 2):
                async with started(config, spool_disk, crypto, []) as (program, _leds):
                    await eventually(lambda: _records(program, 3 * start))  # noqa: B023
            crypto.backend.failed.clear()
            async with started(config, spool_disk, crypto, []) as (program, leds):
                await center.until(lambda: "fips-in-force" in center.audits)
                failed = ["started", "fips-failed-kernel", "fips-failed-provider"]
                assert center.audits[:8] == [*failed, *failed, "started", "fips-in-force"]
                assert len(program.tcp_ports) == len(config.port)
                assert leds.backend.lights["alarm"] is Light.OFF
                fips = (await status_of(program)).fips
                assert fips is not None and fips.is_passed and fips.module == MODULE

    asyncio.run(scenario())


def test_nothing_is_tested_where_the_site_does_not_require_it(pki: Hierarchy) -> None:
    async def scenario() -> None:
        async with stand_in(pki.datacenter) as center:
            config = box_config(pki, center.server.port, linger_s=0)
            async with started(config, disk(), failing_module(), []) as (program, _leds):
                await eventually(lambda: len(program.tcp_ports) == len(config.port))
                assert (await status_of(program)).fips is None

    asyncio.run(scenario())


def test_a_closed_box_answers_with_the_reason(
    pki: Hierarchy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def scenario() -> None:
        config = requiring_fips(pki, 9)
        async with (
            started(config, disk(), failing_module(), []) as (program, _leds),
            serve_status(tmp_path / "box.sock", program.status),
        ):
            read = await asyncio.to_thread(read_status, tmp_path / "box.sock")
            assert read.fips is not None
            assert read.fips.failed == {FipsCheck.KERNEL: KERNEL, FipsCheck.PROVIDER: PROVIDER}
            print_status(read)
            page = await page_status(config, program, 0)
            assert page is not None
            assert page.is_fips_in_force is False
            assert not any(port.is_served for port in page.ports)

    asyncio.run(scenario())
    printed = capsys.readouterr().out
    assert "fips         NOT IN FORCE" in printed
    assert f"PROBLEM: kernel: {KERNEL}" in printed


def test_damaged_certificates_do_not_end_a_closed_box(pki: Hierarchy, tmp_path: Path) -> None:
    """OpenSSL without its provider reads no certificate. The program must keep running, not restart forever."""

    async def scenario() -> None:
        (tmp_path / "box.crt").write_text("nothing")
        config = requiring_fips(pki, 9)
        identity = msgspec.structs.replace(config.identity, certificate=tmp_path / "box.crt")
        async with started(
            msgspec.structs.replace(config, identity=identity), disk(), failing_module(), []
        ) as (
            program,
            _leds,
        ):
            assert (await status_of(program)).certificate.expires_s is None

    asyncio.run(scenario())
