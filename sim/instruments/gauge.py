"""A regulated quantity: a temperature under its thermostat, a vacuum under its pump.

What the instrument shows is quantised, and it wanders slowly around its setpoint. Both at once is the Ehrenfest
urn, the discrete Ornstein–Uhlenbeck process: at exponential moments the reading moves one step, towards the
setpoint the more probably the further it is away (stationary: binomial, a standard deviation of
√(span/2) steps). Between two moves nothing has to be computed, and a reading that stays the same costs
next to nothing on a slow uplink.

On top of that: a cold start, which relaxes to the setpoint, and a drift, a straight line until somebody resets it.
"""

from __future__ import annotations

import math
from random import Random
from typing import Final

from sim.instruments.model import Sensor
from sim.units import HOUR_NS, MINUTE_NS

RELAX_NS: Final = 3 * MINUTE_NS
DRIFT_MAX: Final = 6
"""A drift ends at this many times the distance from setpoint to limit: a heater has only so much power."""


class Gauge:
    """One sensor's reading over time."""

    def __init__(self, sensor: Sensor, random: Random, now_ns: int) -> None:
        self.sensor, self.low, self.high = sensor, sensor.low, sensor.high
        self._random = random
        self._steps = 0
        self._value = sensor.setpoint
        self._next_hop_ns = now_ns + self._gap_ns()
        self._cold_ns: int | None = None
        self._drift_ns: int | None = None
        self._drift_per_hour = 0.0

    def read(self, now_ns: int) -> int:
        """The reading, in the unit of the sensor's channel; `now_ns` never goes back."""
        while now_ns >= self._next_hop_ns:
            self._hop()
        if self._cold_ns is None and self._drift_ns is None:
            return self._value
        return self._value + self._disturbance(now_ns)

    def start_cold(self, now_ns: int) -> None:
        """Start from the temperature of the room, after a power cut."""
        if self.sensor.cold is not None:
            self._cold_ns = now_ns

    def drift(self, now_ns: int, per_hour: float) -> None:
        """Drift from now on, by so much in an hour."""
        self._drift_ns, self._drift_per_hour = now_ns, per_hour

    def reset(self) -> None:
        """End a drift: the part was readjusted or replaced."""
        self._drift_ns = None

    def _gap_ns(self) -> int:
        return int(self._random.expovariate(1.0) * self.sensor.hop_ns) + 1

    def _hop(self) -> None:
        span = self.sensor.span
        up = self._random.random() * 2 * span < span - self._steps
        self._steps += 1 if up else -1
        self._value = self.sensor.setpoint + self._steps * self.sensor.step
        self._next_hop_ns += self._gap_ns()

    def _disturbance(self, now_ns: int) -> int:
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
        return round(offset / sensor.step) * sensor.step
