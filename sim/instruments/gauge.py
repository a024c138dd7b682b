"""The readings of a regulated quantity, such as a temperature with a thermostat or a vacuum with a pump.

Readings are quantized and fluctuate slowly around the setpoint. This is modelled by an Ehrenfest urn, the discrete
Ornstein–Uhlenbeck process: after exponentially distributed times the reading moves by one step, towards the setpoint
with a probability that grows with its distance (stationary distribution: binomial, with a standard deviation of
√(span/2) steps). Nothing has to be computed between two moves, and an unchanged reading compresses to almost nothing
on a slow uplink.

Added to this are a cold start, which decays exponentially to the setpoint, and a linear drift until it is reset.
"""

from __future__ import annotations

import math
from random import Random
from typing import Final

from sim.instruments.model import Sensor
from sim.units import HOUR_NS, MINUTE_NS

RELAX_NS: Final = 3 * MINUTE_NS
DRIFT_MAX: Final = 6
"""A drift stops at this multiple of the distance from setpoint to limit, since a heater's power is limited."""


class Gauge:
    """The reading of one sensor over time."""

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
        """The reading at `now_ns`, in the unit of the sensor's channel; `now_ns` must not decrease between calls."""
        while now_ns >= self._next_hop_ns:
            self._hop()
        if self._cold_ns is None and self._drift_ns is None:
            return self._value
        return self._value + self._disturbance(now_ns)

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
