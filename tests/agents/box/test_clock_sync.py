"""A wrong clock is corrected by the data center's time, within limits."""

from __future__ import annotations

import asyncio
import ssl
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from agents.box.clock_sync import CONFIRMED_EVERY_SECONDS, TOLERANCE_SECONDS, ClockSync, ServerTime
from datacenter.store import queries
from hal.emul.clock import EmulClock
from sim.lab.labfile import parse_lab
from sim.worlds.virtual.world import VirtualWorld
from wire.messages import Audit, decode

NOW = 1_790_000_000
DAY = 24 * 3600


class Bench:
    """A box whose clock shows `clock_s`, and a server whose time is `server_s` (both in seconds since 1970)."""

    def __init__(
        self,
        clock_s: float,
        server_s: float = NOW,
        *,
        floor_s: float = NOW - 100 * DAY,
        confirmed_s: int = 0,
        valid: tuple[float, float] = (NOW - 30 * DAY, NOW + 30 * DAY),
        may_set: bool = True,
    ) -> None:
        self.clock = EmulClock(lambda: 0)
        self.clock.set(int(clock_s * 1e9))
        self.confirmed_s = confirmed_s
        self.notes: list[tuple[str, int]] = []
        self.answer: ServerTime | Exception = ServerTime(formatdate(server_s, usegmt=True), *valid)
        self.requests = 0
        self.sync = ClockSync(self.clock, self, floor_s, self, self.ask, may_set=may_set)  # type: ignore[arg-type]

    def note(self, event: str, value: int = 0, **_: Any) -> None:
        self.notes.append((event, value))

    async def ask(self) -> ServerTime:
        self.requests += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    @property
    def clock_s(self) -> float:
        return self.clock.now_ns() / 1e9

    def recover(self, code: int = 9) -> bool:
        error = ssl.SSLCertVerificationError("dates")
        error.verify_code = code
        return asyncio.run(self.sync.recover(error))


@pytest.mark.parametrize("clock_s", [0, NOW - 3000 * DAY, NOW + 20_000 * DAY])
def test_a_clock_at_which_no_certificate_is_valid_is_corrected(clock_s: float) -> None:
    bench = Bench(clock_s)
    assert bench.recover(9 if clock_s < NOW else 10)
    assert bench.clock_s == NOW


def test_errors_not_caused_by_a_validity_period_do_not_trigger_a_time_request() -> None:
    bench = Bench(0)
    assert not bench.recover(20)
    assert not asyncio.run(bench.sync.recover(ConnectionResetError()))
    assert (bench.requests, bench.clock_s) == (0, 0)


def test_an_expired_certificate_is_not_mistaken_for_a_wrong_clock() -> None:
    bench = Bench(NOW, valid=(NOW - 60 * DAY, NOW - 30 * DAY))
    assert not bench.recover(10)
    assert bench.clock_s == NOW


@pytest.mark.parametrize("late", [-TOLERANCE_SECONDS, 0, TOLERANCE_SECONDS])
def test_a_correct_clock_is_not_changed(late: float) -> None:
    bench = Bench(NOW + late)
    assert not bench.recover()
    bench.sync.confirm(formatdate(NOW, usegmt=True))
    assert bench.clock_s == NOW + late


def test_a_time_before_the_floor_is_refused_even_if_a_stolen_certificate_was_valid_then() -> None:
    stolen = (NOW - 400 * DAY, NOW - 200 * DAY)
    for floor in ({"floor_s": NOW - 150 * DAY}, {"floor_s": 0, "confirmed_s": NOW - 150 * DAY}):
        bench = Bench(0, NOW - 250 * DAY, valid=stolen, **floor)  # type: ignore[arg-type]
        assert not bench.recover()
        assert bench.clock_s == 0
        assert ("time-refused", NOW - 250 * DAY) in bench.notes


@pytest.mark.parametrize("date", ["", "yesterday", "Thu, 99 Foo 2026 25:00:00 GMT", "\0"])
def test_a_response_without_a_valid_date_changes_nothing(date: str) -> None:
    bench = Bench(0)
    bench.answer = ServerTime(date, 0, 2e10)
    assert not bench.recover()
    bench.sync.confirm(date)
    assert (bench.clock_s, bench.confirmed_s, bench.notes) == (0, 0, [])


def test_an_unreachable_server_changes_nothing() -> None:
    bench = Bench(0)
    bench.answer = TimeoutError()
    assert not bench.recover()
    assert bench.clock_s == 0


@pytest.mark.parametrize("wrong_by", [-40 * DAY, TOLERANCE_SECONDS + 1, 40 * DAY])
def test_a_normal_response_corrects_a_clock_within_the_validity_period(wrong_by: float) -> None:
    bench = Bench(NOW + wrong_by)
    bench.sync.confirm(formatdate(NOW, usegmt=True))
    assert bench.clock_s == NOW
    assert [event for event, _ in bench.notes] == ["clock-wrong", "clock-set", "time-confirmed"]


def test_a_normal_response_before_the_floor_is_refused() -> None:
    bench = Bench(NOW, confirmed_s=NOW)
    bench.sync.confirm(formatdate(NOW - DAY, usegmt=True))
    assert (bench.clock_s, bench.confirmed_s) == (NOW, NOW)
    assert bench.notes == [("time-refused", NOW - DAY)]


def test_a_confirmed_time_is_stored_once_a_day() -> None:
    bench = Bench(NOW)
    for later in (0, 60, CONFIRMED_EVERY_SECONDS - 1, CONFIRMED_EVERY_SECONDS):
        bench.clock.set((NOW + later) * 10**9)
        bench.sync.confirm(formatdate(NOW + later, usegmt=True))
    assert [value for event, value in bench.notes if event == "time-confirmed"] == [NOW, NOW + DAY]
    assert bench.confirmed_s == NOW + DAY


@pytest.mark.parametrize(("clock_s", "after_s"), [(0, NOW), (NOW - 1, NOW), (NOW + 5, NOW + 5)])
def test_a_clock_behind_the_floor_is_set_to_it(clock_s: float, after_s: float) -> None:
    bench = Bench(clock_s, floor_s=NOW - 7 * DAY, confirmed_s=NOW)
    bench.sync.start()
    assert bench.clock_s == after_s


def test_the_error_of_a_clock_that_may_not_be_set_is_only_recorded() -> None:
    bench = Bench(0, may_set=False)
    bench.sync.start()
    assert not bench.recover()
    bench.sync.confirm(formatdate(NOW, usegmt=True))
    assert bench.clock_s == 0
    assert {event for event, _ in bench.notes} >= {"clock-behind", "clock-wrong"}
    bench = Bench(0)
    bench.clock.backend.may_be_set = False
    assert not bench.recover()
    assert bench.notes[-1] == ("clock-not-set", 0)


LAB = """
[lab]
name = "dead-clock"
duration = "2h"
[box]
board = "rap-4"
[uplink]
rate = "128kbit"
delay = "40ms"
{proxy}
[[instrument]]
port = 1
model = "chemistry-analyzer"
report_every = "10s"
[[event]]
at = "30min"
fault = "clock-jump"
target = "clock"
by = "{by}"
direction = "{direction}"
[[event]]
at = "31min"
fault = "{then}"
target = "box"
[expect]
lost = 0
duplicates = 0
"""
PROXY = '[uplink.proxy]\nkind = "http"'


@pytest.mark.parametrize("proxy", ["", PROXY])
@pytest.mark.parametrize("then", ["power-cut", "program-killed"])
@pytest.mark.parametrize(
    ("direction", "by"), [("backwards", "50d"), ("forwards", "9000d"), ("backwards", "1h")]
)
def test_a_box_without_a_clock_battery_delivers_everything(
    direction: str, by: str, then: str, proxy: str
) -> None:
    text = LAB.format(direction=direction, by=by, then=then, proxy=proxy)
    with VirtualWorld(parse_lab(text, Path("dead-clock.toml"))) as world:
        result = world.run()
        clock_ns, right_ns = world.box.clock.now_ns(), world.wall_ns()
        audits = [
            decode(Audit, body)
            for record, body in queries.bodies(world.datacenter.store)
            if record.kind == "audit"
        ]
    assert result.verdict == "pass"
    assert result.reports.made - result.reports.stored < 10, (
        "more reports are missing than may wait for a batch"
    )
    assert abs(clock_ns - right_ns) <= TOLERANCE_SECONDS * 10**9
    assert "clock-set" in {audit.event for audit in audits}
