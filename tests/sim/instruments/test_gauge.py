"""Readings of gauges: distribution, resolution, drift, and readings that are computed in advance."""

from __future__ import annotations

from itertools import pairwise
from random import Random
from statistics import correlation, fmean, pstdev

import pytest

from sim.instruments.model import Sensor
from sim.instruments.physics.gauge import DRIFT_MAX, Gauge, Gauges
from sim.units import HOUR_NS, MINUTE_NS, SECOND_NS

VACUUM = Sensor(
    "vacuum-pa", "vacuum", 40_000, 10, 30_000, 50_000, noise=60, wander=120, wander_ns=5 * MINUTE_NS
)
QUIET = Sensor("ambient-temp-mc", "track", 22_500, 100, 18_000, 30_000, noise=20, wander=0)
BATH = Sensor("bath-temp-mc", "bath", 35_000, 10, 34_000, 36_000, noise=8, wander=40, cold=22_000)


def readings(gauge: Gauge, every_ns: int, count: int) -> list[int]:
    return [gauge.read(turn * every_ns) for turn in range(1, count + 1)]


def test_readings_have_the_resolution_of_the_channel_and_the_spread_of_the_sensor() -> None:
    values = readings(Gauge(VACUUM, Random(5), 0), MINUTE_NS, 20_000)
    assert all(value % 10 == 0 for value in values)
    assert abs(fmean(values) - 40_000) < 8
    assert pstdev(values) == pytest.approx((60**2 + 120**2) ** 0.5, rel=0.05)


@pytest.mark.parametrize("every_ns", [10 * SECOND_NS, MINUTE_NS, 10 * MINUTE_NS])
def test_the_spread_does_not_depend_on_how_often_a_gauge_is_read(every_ns: int) -> None:
    values = readings(Gauge(VACUUM, Random(5), 0), every_ns, 40_000)
    assert pstdev(values) == pytest.approx((60**2 + 120**2) ** 0.5, rel=0.07)


def test_consecutive_readings_share_the_slow_deviation_and_not_the_noise() -> None:
    values = readings(Gauge(VACUUM, Random(5), 0), MINUTE_NS, 20_000)
    slow_share = 120**2 / (120**2 + 60**2)
    expected = slow_share * 2.718281828 ** (-1 / 5)
    assert correlation(values[1:], values[:-1]) == pytest.approx(expected, abs=0.03)


def test_a_sensor_whose_noise_is_below_its_resolution_reads_constant_values() -> None:
    values = readings(Gauge(QUIET, Random(5), 0), MINUTE_NS, 5_000)
    assert values.count(22_500) / len(values) > 0.98


def test_a_drift_has_a_limit() -> None:
    gauge = Gauge(VACUUM, Random(5), 0)
    gauge.drift(0, -1000)
    assert abs(gauge.read(1000 * HOUR_NS) - (40_000 - DRIFT_MAX * 10_000)) <= 600


def test_wear_shifts_the_readings_and_multiplies_their_noise() -> None:
    gauge = Gauge(VACUUM, Random(5), 0)
    gauge.wear(shift=-3_000, noise_times=5)
    values = readings(gauge, MINUTE_NS, 20_000)
    assert fmean(values) == pytest.approx(37_000, abs=15)
    assert pstdev(values) == pytest.approx((300**2 + 120**2) ** 0.5, rel=0.05)


# ---- several gauges


def read(gauges: Gauges, now_ns: int) -> tuple[dict[str, int], list[str]]:
    """Return the readings by channel, and the channels out of range."""
    readings: dict[str, int] = {}
    outside = gauges.read(now_ns, readings)
    return readings, outside


def test_several_gauges_give_a_reading_of_each_channel_in_the_order_of_the_sensors() -> None:
    gauges = Gauges((VACUUM, BATH), Random(5), 0)
    rows = [read(gauges, turn * MINUTE_NS)[0] for turn in range(1, 200)]
    assert [list(row) for row in rows] == 199 * [["vacuum-pa", "bath-temp-mc"]]
    assert len({row["vacuum-pa"] for row in rows}) > 30


def test_a_change_takes_effect_at_the_next_reading() -> None:
    gauges = Gauges((VACUUM, BATH), Random(5), 0)
    for turn in range(1, 100):
        read(gauges, turn * MINUTE_NS)
    gauges.change("vacuum-pa").wear(shift=-3_000, noise_times=1)
    assert read(gauges, 100 * MINUTE_NS)[0]["vacuum-pa"] < 38_000
    gauges.change("vacuum-pa").wear(shift=0, noise_times=1)
    assert read(gauges, 101 * MINUTE_NS)[0]["vacuum-pa"] > 39_000


def test_discarded_readings_cause_no_step_of_the_slow_deviation() -> None:
    slow = Sensor("vacuum-pa", "vacuum", 40_000, 1, 0, 80_000, noise=0, wander=1_000, wander_ns=100 * HOUR_NS)
    gauges, values = Gauges((slow,), Random(5), 0), []
    for turn in range(1, 3_000):
        if turn % 7 == 0:
            gauges.change("vacuum-pa")
        values.append(read(gauges, turn * MINUTE_NS)[0]["vacuum-pa"])
    steps = [after - before for before, after in pairwise(values)]
    expected = 1_000 * (2 * MINUTE_NS / (100 * HOUR_NS)) ** 0.5
    assert pstdev(steps) == pytest.approx(expected, rel=0.1)


def test_a_reading_out_of_range_is_reported_even_if_it_was_computed_in_advance() -> None:
    narrow = Sensor("vacuum-pa", "vacuum", 40_000, 10, 39_900, 40_100, noise=60, wander=0)
    gauges, seen = Gauges((narrow, BATH), Random(5), 0), 0
    for turn in range(1, 1_000):
        values, outside = read(gauges, turn * MINUTE_NS)
        assert outside == (["vacuum-pa"] if not 39_900 <= values["vacuum-pa"] <= 40_100 else [])
        seen += bool(outside)
    assert 50 < seen < 200


def test_a_cold_start_of_one_gauge_decays_and_does_not_affect_the_others() -> None:
    gauges = Gauges((VACUUM, BATH), Random(5), 0)
    read(gauges, MINUTE_NS)
    gauges.change("bath-temp-mc").start_cold(MINUTE_NS)
    values, outside = read(gauges, 2 * MINUTE_NS)
    assert values["bath-temp-mc"] < 27_000 and outside == ["bath-temp-mc"]
    values, outside = read(gauges, HOUR_NS)
    assert abs(values["bath-temp-mc"] - 35_000) < 200 and outside == []
