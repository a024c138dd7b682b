"""Conformance checks of `hal.watchdog`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from hal.contract.wait import wait_until
from hal.watchdog import Armed, Watchdog, WatchdogError, WatchdogErrorKind

TIMEOUT_SECONDS = 30


class WatchdogBench(Protocol):
    """A stopped watchdog of a machine that has just been switched on."""

    watchdog: Watchdog
    impossible_seconds: int
    """A timeout that the device does not support."""

    def pass_time(self, seconds: int) -> None:
        """Advance the device's time."""
        ...

    def resets(self) -> int:
        """Return how often the watchdog has reset the machine."""
        ...

    def runs(self) -> bool:
        """Return whether the device's timer runs."""
        ...

    def reboot(self) -> Watchdog:
        """Return the watchdog as the machine sees it after a reset."""
        ...

    def kill_program(self) -> None:
        """End the program that started the watchdog, as SIGKILL does."""
        ...

    def occupy(self) -> None:
        """Have another program own the watchdog."""
        ...

    def forbid_stopping(self) -> None:
        """Make the watchdog unstoppable (`nowayout`)."""
        ...


def _kind(call: Callable[[], object]) -> WatchdogErrorKind | None:
    try:
        call()
    except WatchdogError as error:
        return error.kind
    return None


async def watchdog_fires_unless_fed(bench: WatchdogBench) -> None:
    """The watchdog fires after the timeout that `start` returned, and not earlier."""
    armed = bench.watchdog.start(TIMEOUT_SECONDS)
    assert TIMEOUT_SECONDS <= armed.timeout_seconds < 2 * TIMEOUT_SECONDS
    bench.pass_time(armed.timeout_seconds - 1)
    assert bench.resets() == 0
    bench.pass_time(2)
    assert bench.resets() == 1


async def watchdog_does_not_fire_while_fed(bench: WatchdogBench) -> None:
    """Each feeding restarts the full timeout."""
    armed = bench.watchdog.start(TIMEOUT_SECONDS)
    for _ in range(5):
        bench.pass_time(armed.timeout_seconds - 1)
        bench.watchdog.feed()
    assert bench.resets() == 0
    bench.pass_time(armed.timeout_seconds + 1)
    assert bench.resets() == 1


async def watchdog_stops(bench: WatchdogBench) -> None:
    """A stopped watchdog does not fire, and can be started again."""
    for _ in range(2):
        armed = bench.watchdog.start(TIMEOUT_SECONDS)
        bench.watchdog.stop()
        await wait_until(lambda: not bench.runs())
        bench.pass_time(2 * armed.timeout_seconds)
    assert bench.resets() == 0


async def watchdog_fires_after_its_program_died(bench: WatchdogBench) -> None:
    """The watchdog fires although its program has died."""
    armed = bench.watchdog.start(TIMEOUT_SECONDS)
    bench.kill_program()
    bench.pass_time(armed.timeout_seconds + 1)
    assert bench.resets() == 1


async def watchdog_refuses_unsupported_timeouts(bench: WatchdogBench) -> None:
    """An unsupported timeout raises TIMEOUT and leaves the watchdog stopped; a supported one works afterwards."""
    for seconds in (0, bench.impossible_seconds):
        assert _kind(lambda seconds=seconds: bench.watchdog.start(seconds)) is WatchdogErrorKind.TIMEOUT  # type: ignore[misc]
        await wait_until(lambda: not bench.runs())
    bench.watchdog.start(TIMEOUT_SECONDS)
    bench.watchdog.stop()


async def watchdog_reports_that_it_is_unstoppable(bench: WatchdogBench) -> None:
    """`stop` raises UNSTOPPABLE; the watchdog keeps running and can be fed."""
    bench.forbid_stopping()
    armed = bench.watchdog.start(TIMEOUT_SECONDS)
    bench.pass_time(armed.timeout_seconds - 1)
    assert _kind(bench.watchdog.stop) is WatchdogErrorKind.UNSTOPPABLE
    bench.watchdog.feed()
    bench.pass_time(armed.timeout_seconds - 1)
    assert bench.resets() == 0
    bench.pass_time(2)
    assert bench.resets() == 1


async def watchdog_is_exclusive(bench: WatchdogBench) -> None:
    """Starting a watchdog that another program owns raises BUSY."""
    bench.occupy()
    assert _kind(lambda: bench.watchdog.start(TIMEOUT_SECONDS)) is WatchdogErrorKind.BUSY


async def watchdog_reports_that_it_caused_the_reset(bench: WatchdogBench) -> None:
    """`caused_last_reset` is False after power-on and True after the watchdog fired."""
    armed = bench.watchdog.start(TIMEOUT_SECONDS)
    assert not armed.caused_last_reset
    bench.pass_time(armed.timeout_seconds + 1)
    assert bench.reboot().start(TIMEOUT_SECONDS) == Armed(armed.timeout_seconds, caused_last_reset=True)


WATCHDOG_CHECKS: tuple[Callable[[WatchdogBench], Awaitable[None]], ...] = (
    watchdog_fires_unless_fed,
    watchdog_does_not_fire_while_fed,
    watchdog_stops,
    watchdog_fires_after_its_program_died,
    watchdog_refuses_unsupported_timeouts,
    watchdog_reports_that_it_is_unstoppable,
    watchdog_is_exclusive,
    watchdog_reports_that_it_caused_the_reset,
)
