"""The watchdog is fed only while the spool responds."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from random import Random
from threading import Event

import msgspec

from agents.box.box import Box, Hardware
from agents.box.configuration.config import BoxConfig, HardwareWatchdog
from hal.emul.ethernet import EmulEthernetPort
from hal.watchdog import Armed, WatchdogError, WatchdogErrorKind
from tests.support.agents.boxes import CLOCK, box_config, disk
from tests.support.agents.stand_in import stand_in
from tests.support.crypto.hierarchy import Hierarchy
from tests.support.eventually import eventually


class FakeWatchdog:
    """Counts feeds in `fed`; with a timeout of 0 seconds the box feeds at every iteration of the loop."""

    def __init__(self, error: WatchdogError | None = None, *, caused_last_reset: bool = False) -> None:
        self.fed = 0
        self.running = False
        self._error, self._armed = error, Armed(0, caused_last_reset)

    def start(self, timeout_seconds: int) -> Armed:
        assert timeout_seconds == 60
        if self._error:
            raise self._error
        self.running = True
        return self._armed

    def feed(self) -> None:
        self.fed += 1

    def stop(self) -> None:
        self.running = False


def config_with_watchdog(pki: Hierarchy, datacenter: int = 9) -> BoxConfig:
    config = box_config(pki, datacenter, linger_s=0)
    return msgspec.structs.replace(config, watchdog=HardwareWatchdog())


async def cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def test_the_watchdog_is_fed_while_the_disk_responds_and_stopped_at_the_end(pki: Hierarchy) -> None:
    async def scenario() -> None:
        watchdog = FakeWatchdog()
        with ThreadPoolExecutor(1) as thread:
            hardware = Hardware(disk(), CLOCK, EmulEthernetPort("uplink"), thread, watchdog=watchdog)
            box = asyncio.ensure_future(Box(config_with_watchdog(pki), hardware, Random(1)).run())
            await eventually(lambda: watchdog.fed > 10)
            hangs = Event()
            thread.submit(hangs.wait)
            query = asyncio.ensure_future(asyncio.wrap_future(thread.submit(lambda: None)))
            before = watchdog.fed
            for _ in range(1000):
                await asyncio.sleep(0)
            assert not query.done()
            assert watchdog.fed <= before + 1  # for the query that was in progress
            assert watchdog.running
            hangs.set()
            await eventually(lambda: watchdog.fed > before + 10)
            await cancelled(box)
            assert not watchdog.running

    asyncio.run(scenario())


def test_a_failing_watchdog_is_recorded_and_the_box_runs_without_it(pki: Hierarchy) -> None:
    async def scenario(watchdog: FakeWatchdog, event: str) -> None:
        async with stand_in(pki.datacenter) as center:
            hardware = Hardware(disk(), CLOCK, EmulEthernetPort("uplink"), watchdog=watchdog)
            config = config_with_watchdog(pki, center.server.port)
            box = asyncio.ensure_future(Box(config, hardware, Random(1)).run())
            await center.until(lambda: event in center.audits)
            await cancelled(box)

    busy = WatchdogError(WatchdogErrorKind.BUSY, "systemd feeds it")
    asyncio.run(scenario(FakeWatchdog(busy), "watchdog-not-started"))
    asyncio.run(scenario(FakeWatchdog(caused_last_reset=True), "watchdog-reset"))


def test_a_box_with_failing_disk_calls_stops_feeding_and_leaves_the_watchdog_running(pki: Hierarchy) -> None:
    async def scenario() -> None:
        failures: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
        watchdog = FakeWatchdog()
        thread = ThreadPoolExecutor(1)
        hardware = Hardware(disk(), CLOCK, EmulEthernetPort("uplink"), thread, watchdog=watchdog)
        box = asyncio.ensure_future(Box(config_with_watchdog(pki), hardware, Random(1)).run())
        await eventually(lambda: watchdog.fed > 0)
        thread.shutdown(wait=False)  # the disk's calls fail from now on
        await eventually(lambda: len(failures) > 0)
        before = watchdog.fed
        await eventually(lambda: len(failures) > 5)
        assert watchdog.fed == before
        assert watchdog.running
        assert not box.done()
        with suppress(RuntimeError):  # the spool cannot be closed
            await cancelled(box)

    asyncio.run(scenario())
