"""The readings of regulated quantities, such as a temperature with a thermostat or a vacuum with a pump.

A reading is the sum of the setpoint, a slow deviation that the regulation leaves, and the noise of sensor and
converter, rounded to the resolution of the channel. The deviation is an Ornstein–Uhlenbeck process with the sensor's
standard deviation and time constant; the noise is white. Both are advanced exactly over the time since the last
reading, so their distribution does not depend on how often the gauge is read, and nothing happens between readings.

Added to this are a cold start, which decays exponentially to the setpoint, a linear drift until it is reset, and the
shift and the additional noise of a worn part (`sim.instruments.physics.wear`).

The readings of an instrument are almost always equally spaced. `Gauges` therefore computes some in advance, which
takes a third of the time, and takes them back if anything changes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import islice, repeat
from random import Random
from typing import Final

from sim.engine.streams import branch, normals
from sim.instruments.model import Sensor
from sim.units import HOUR_NS, MINUTE_NS
from wire.messages import Channel

RELAX_NS: Final = 3 * MINUTE_NS
DRIFT_MAX: Final = 6
"""A drift stops at this multiple of the distance from setpoint to limit, since a heater's power is limited."""
AHEAD_MAX: Final = 64
"""Maximum number of readings of a gauge that are computed in advance."""


class Gauge:
    """The reading of one sensor over time."""

    def __init__(self, sensor: Sensor, random: Random, now_ns: int) -> None:
        self.sensor, self.low, self.high = sensor, sensor.low, sensor.high
        self._normals = normals(random)
        # in steps of the channel's resolution, as everything that is added up in `ahead`
        self._setpoint = self._centre = sensor.setpoint / sensor.step
        self._noise = self._noise_worn = sensor.noise / sensor.step
        self._wander = next(self._normals) * sensor.wander / sensor.step
        self._read_ns = now_ns
        self._gap_ns = -1
        self._decay, self._kick = 1.0, 0.0
        self._before = self._wander, now_ns
        self._kicks: list[float] = []
        self._cold_ns: int | None = None
        self._drift_ns: int | None = None
        self._drift_per_hour = 0.0

    def read(self, now_ns: int) -> int:
        """Return the reading at `now_ns`, in the unit of the sensor's channel; `now_ns` must not decrease between
        calls.
        """
        (value,) = self.ahead(now_ns - self._read_ns, 1)
        if self.is_disturbed:
            value += round(self._disturbance(now_ns) / self.sensor.step) * self.sensor.step
        return value

    def ahead(self, gap_ns: int, count: int) -> list[int]:
        """Return the next `count` readings, `gap_ns` apart, without a cold start or drift."""
        if gap_ns != self._gap_ns:
            self._set_gap(gap_ns)
        self._before = wander, begin_ns = self._wander, self._read_ns
        decay, kick, centre = self._decay, self._kick, self._centre
        noise, step = self._noise_worn, self.sensor.step
        self._kicks = kicks = list(islice(self._normals, count))
        noises = islice(self._normals, count)
        values = [
            round(centre + (wander := decay * wander + kick * k) + noise * x) * step
            for k, x in zip(kicks, noises, strict=True)
        ]
        self._wander, self._read_ns = wander, begin_ns + count * gap_ns
        return values

    def take_back(self, used: int) -> None:
        """Take back the result of the last `ahead` except for the first `used` readings."""
        wander, begin_ns = self._before
        for kick in self._kicks[:used]:
            wander = self._decay * wander + self._kick * kick
        self._wander, self._read_ns = wander, begin_ns + used * self._gap_ns

    @property
    def is_disturbed(self) -> bool:
        """Whether there is a cold start or a drift, which only `read` includes in the reading."""
        return self._cold_ns is not None or self._drift_ns is not None

    def start_cold(self, now_ns: int) -> None:
        """Start from the sensor's cold value, after a power cut."""
        if self.sensor.cold is not None:
            self._cold_ns = now_ns

    def drift(self, now_ns: int, per_hour: float) -> None:
        """Drift from now on, by `per_hour` units of the channel per hour."""
        self._drift_ns, self._drift_per_hour = now_ns, per_hour

    def reset(self) -> None:
        """End a drift, after the part was readjusted or replaced."""
        self._drift_ns = None

    def wear(self, shift: float, noise_times: float) -> None:
        """Shift the readings by `shift` units of the channel, and multiply their noise, from now on."""
        self._centre = self._setpoint + shift / self.sensor.step
        self._noise_worn = self._noise * noise_times

    def _set_gap(self, gap_ns: int) -> None:
        sensor = self.sensor
        self._gap_ns = gap_ns
        self._decay = math.exp(-gap_ns / sensor.wander_ns)
        self._kick = sensor.wander / sensor.step * math.sqrt(1 - self._decay**2)

    def _disturbance(self, now_ns: int) -> float:
        sensor, offset = self.sensor, 0.0
        if self._drift_ns is not None:
            bound = DRIFT_MAX * (sensor.high - sensor.low) / 2
            drifted = self._drift_per_hour * (now_ns - self._drift_ns) / HOUR_NS
            offset += max(-bound, min(bound, drifted))
        if self._cold_ns is not None and sensor.cold is not None:
            left = (sensor.cold - sensor.setpoint) * math.exp((self._cold_ns - now_ns) / RELAX_NS)
            offset += left
            if abs(left) < sensor.step / 2:
                self._cold_ns = None
        return offset


class Gauges:
    """The gauges of one instrument, which are read together."""

    def __init__(self, sensors: Iterable[Sensor], random: Random, now_ns: int) -> None:
        self._gauges = {sensor.channel: Gauge(sensor, branch(random), now_ns) for sensor in sensors}
        self._channels = tuple(self._gauges)
        self._read_ns = now_ns
        self._gap_ns = -1
        self._rows: Iterator[Iterable[tuple[Channel, int]]] = iter(())
        self._ahead = 1
        self._computed = self._used = 0
        self._row_may_be_outside = False

    def read(self, now_ns: int, readings: dict[Channel, int]) -> list[Channel]:
        """Add the readings by channel to `readings`; return the channels whose reading is out of range."""
        if now_ns - self._read_ns != self._gap_ns:
            self._take_back()
            self._gap_ns = now_ns - self._read_ns
        row = next(self._rows, None)
        readings.update(row or self._fetch(now_ns))
        self._used += 1
        self._read_ns = now_ns
        if not self._row_may_be_outside:
            return []
        return [c for c, gauge in self._gauges.items() if not gauge.low <= readings[c] <= gauge.high]

    def change(self, channel: Channel) -> Gauge:
        """Return the gauge of a channel, for a change of its state."""
        self._take_back()
        return self._gauges[channel]

    def __contains__(self, channel: object) -> bool:
        return channel in self._gauges

    def __iter__(self) -> Iterator[Channel]:
        return iter(self._gauges)

    def _fetch(self, now_ns: int) -> Iterable[tuple[Channel, int]]:
        gauges = self._gauges.values()
        self._used = 0
        if any(gauge.is_disturbed for gauge in gauges):
            self._computed, self._row_may_be_outside = 1, True
            return [(channel, gauge.read(now_ns)) for channel, gauge in self._gauges.items()]
        self._computed = self._ahead = min(2 * self._ahead, AHEAD_MAX)
        columns = [gauge.ahead(self._gap_ns, self._computed) for gauge in gauges]
        self._row_may_be_outside = any(
            min(column) < gauge.low or max(column) > gauge.high
            for gauge, column in zip(gauges, columns, strict=True)
        )
        self._rows = map(zip, repeat(self._channels), zip(*columns, strict=True))
        return next(self._rows)

    def _take_back(self) -> None:
        """Take back the readings that were computed in advance, and compute fewer of them next time."""
        if self._used < self._computed:
            for gauge in self._gauges.values():
                gauge.take_back(self._used)
            self._ahead = max(1, self._ahead // 4)
        self._rows, self._computed, self._used = iter(()), 0, 0
