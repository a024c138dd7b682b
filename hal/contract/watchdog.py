"""What `hal.watchdog` promises."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from hal.contract.patience import until
from hal.watchdog import Armed, Watchdog, WatchdogError, WatchdogErrorKind

TIMEOUT_SECONDS = 30


class WatchdogBench(Protocol):
    """A stopped watchdog of a machine that was switched on."""

    watchdog: Watchdog
    impossible_seconds: int
    """A timeout that the device cannot do."""

    def pass_time(self, seconds: int) -> None:
        """Let time pass for the device."""
        ...

    def resets(self) -> int:
        """How often the machine was reset."""
        ...

    def runs(self) -> bool:
        """Whether the device's time runs."""
        ...

    def reboot(self) -> Watchdog:
        """What the machine finds after a reset."""
        ...

    def kill_program(self) -> None:
        """End the program that started the watchdog, as SIGKILL would."""
        ...

    def occupy(self) -> None:
        """Let another program feed it."""
        ...

    def forbid_stopping(self) -> None:
        """Make it one that never stops."""
        ...


def _kind(call: Callable[[], object]) -> WatchdogErrorKind | None:
    try:
        call()
    except WatchdogError as error:
        return error.kind
    return None


async def watchdog_fires_when_it_is_not_fed(bench: WatchdogBench) -> None:
    """After the timeout that `start` said, and not before."""
    armed = bench.watchdog.start(TIMEOUT_SECONDS)
    assert TIMEOUT_SECONDS <= armed.timeout_seconds < 2 * TIMEOUT_SECONDS
    bench.pass_time(armed.timeout_seconds - 1)
    assert bench.resets() == 0
    bench.pass_time(2)
    assert bench.resets() == 1


async def watchdog_is_quiet_while_it_is_fed(bench: WatchdogBench) -> None:
    """Each feeding gives the whole time anew."""
    armed = bench.watchdog.start(TIMEOUT_SECONDS)
    for _ in range(5):
        bench.pass_time(armed.timeout_seconds - 1)
        bench.watchdog.feed()
    assert bench.resets() == 0
    bench.pass_time(armed.timeout_seconds + 1)
    assert bench.resets() == 1


async def watchdog_stops(bench: WatchdogBench) -> None:
    """Nothing fires after `stop`, and it can be started again."""
    for _ in range(2):
        armed = bench.watchdog.start(TIMEOUT_SECONDS)
        bench.watchdog.stop()
        await until(lambda: not bench.runs())
        bench.pass_time(2 * armed.timeout_seconds)
    assert bench.resets() == 0


async def watchdog_outlives_its_program(bench: WatchdogBench) -> None:
    """A program that dies has not stopped it."""
    armed = bench.watchdog.start(TIMEOUT_SECONDS)
    bench.kill_program()
    bench.pass_time(armed.timeout_seconds + 1)
    assert bench.resets() == 1


async def watchdog_says_what_it_cannot_wait(bench: WatchdogBench) -> None:
    """TIMEOUT, and it does not run; another timeout may do."""
    for seconds in (0, bench.impossible_seconds):
        assert _kind(lambda seconds=seconds: bench.watchdog.start(seconds)) is WatchdogErrorKind.TIMEOUT  # type: ignore[misc]
        await until(lambda: not bench.runs())
    bench.watchdog.start(TIMEOUT_SECONDS)
    bench.watchdog.stop()


async def watchdog_says_that_it_cannot_be_stopped(bench: WatchdogBench) -> None:
    """UNSTOPPABLE, and it still runs and can be fed."""
    bench.forbid_stopping()
    armed = bench.watchdog.start(TIMEOUT_SECONDS)
    bench.pass_time(armed.timeout_seconds - 1)
    assert _kind(bench.watchdog.stop) is WatchdogErrorKind.UNSTOPPABLE
    bench.watchdog.feed()
    bench.pass_time(armed.timeout_seconds - 1)
    assert bench.resets() == 0
    bench.pass_time(2)
    assert bench.resets() == 1


async def watchdog_belongs_to_one(bench: WatchdogBench) -> None:
    """BUSY while another program feeds it."""
    bench.occupy()
    assert _kind(lambda: bench.watchdog.start(TIMEOUT_SECONDS)) is WatchdogErrorKind.BUSY


async def watchdog_knows_whether_it_caused_the_reset(bench: WatchdogBench) -> None:
    """Not when the machine was switched on, but after it fired."""
    armed = bench.watchdog.start(TIMEOUT_SECONDS)
    assert not armed.caused_last_reset
    bench.pass_time(armed.timeout_seconds + 1)
    assert bench.reboot().start(TIMEOUT_SECONDS) == Armed(armed.timeout_seconds, caused_last_reset=True)


WATCHDOG_CHECKS: tuple[Callable[[WatchdogBench], Awaitable[None]], ...] = (
    watchdog_fires_when_it_is_not_fed,
    watchdog_is_quiet_while_it_is_fed,
    watchdog_stops,
    watchdog_outlives_its_program,
    watchdog_says_what_it_cannot_wait,
    watchdog_says_that_it_cannot_be_stopped,
    watchdog_belongs_to_one,
    watchdog_knows_whether_it_caused_the_reset,
)
