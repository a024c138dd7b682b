"""Calibration and quality control of one assay.

A control is a sample with a known value. The deviation of its result from that value, in standard deviations of the
method (SD), is the assay's bias plus a standard normal random number. The bias drifts after a calibration, changes
with the reagent lot, and is removed by the next calibration. A worn part adds to the bias, until the next calibration
compensates for it, and multiplies the random number. A run is rejected by two of Westgard's rules: 1-3s (one
result beyond 3 SD) and 2-2s (two consecutive results beyond 2 SD on the same side).

Source: Westgard et al., Clin Chem 27 (1981) 493–501.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Final

from sim.units import DAY_NS

DRIFT_SD_PER_DAY: Final = 0.04
LOT_SHIFT_SD: Final = 0.5
CALIBRATED_BIAS_SD: Final = 0.15
REFUSED_PROBABILITY: Final = 0.03
DEVIATION_STEP_MSD: Final = 50
"""The resolution of a control result, in thousandths of a standard deviation: 20 steps per SD."""
NOMINAL_PPM: Final = 1_000_000
SLOPE_STEP_PPM: Final = 500


def rejects(previous_msd: int, deviation_msd: int) -> bool:
    """Return whether a control result and its predecessor reject the run (1-3s or 2-2s), in thousandths of an SD."""
    if abs(deviation_msd) > 3000:
        return True
    return min(previous_msd, deviation_msd) > 2000 or max(previous_msd, deviation_msd) < -2000


@dataclass(frozen=True, slots=True)
class Curve:
    """The result of a calibration: slope (nominally 1,000,000 ppm) and offset in ppm, and whether it is accepted."""

    slope_ppm: int
    offset_ppm: int
    accepted: bool


class Controls:
    """The bias of one assay, and the results of its controls and calibrations."""

    def __init__(self, random: Random, now_ns: int, valid_ns: int) -> None:
        self._random = random
        self._bias_sd = random.gauss(0.0, CALIBRATED_BIAS_SD)
        self._drift_sd_per_day = random.gauss(0.0, DRIFT_SD_PER_DAY)
        self._calibrated_ns = now_ns - int(valid_ns * random.random())
        self._compensated_sd = 0.0
        self._previous_msd = 0

    def age_ns(self, now_ns: int) -> int:
        """Return the time since the last accepted calibration, in nanoseconds."""
        return now_ns - self._calibrated_ns

    def measure(self, now_ns: int, worn_bias_sd: float = 0.0, imprecision: float = 1.0) -> tuple[int, bool]:
        """Measure one control; returns (deviation in thousandths of an SD, whether it rejects the run).

        Worn parts bias it by `worn_bias_sd`, and multiply its random deviation by `imprecision`.
        """
        drifted = self._drift_sd_per_day * self.age_ns(now_ns) / DAY_NS
        bias_sd = self._bias_sd + drifted + worn_bias_sd - self._compensated_sd
        deviation_sd = self._random.gauss(bias_sd, imprecision)
        deviation_msd = round(deviation_sd * 1000 / DEVIATION_STEP_MSD) * DEVIATION_STEP_MSD
        rejected = rejects(self._previous_msd, deviation_msd)
        self._previous_msd = deviation_msd
        return deviation_msd, rejected

    def change_lot(self) -> None:
        """Shift the bias, because a reagent pack of another lot was opened."""
        self._bias_sd += self._random.gauss(0.0, LOT_SHIFT_SD)

    def calibrate(self, now_ns: int, worn_bias_sd: float = 0.0) -> Curve:
        """Calibrate, which compensates for the bias of worn parts; a rejected calibration changes nothing."""
        accepted = self._random.random() >= REFUSED_PROBABILITY
        spread_ppm = 6_000 if accepted else 80_000
        slope = round(self._random.gauss(0.0, spread_ppm) / SLOPE_STEP_PPM) * SLOPE_STEP_PPM
        offset = round(self._random.gauss(0.0, spread_ppm / 4) / SLOPE_STEP_PPM) * SLOPE_STEP_PPM
        if accepted:
            self._bias_sd = self._random.gauss(0.0, CALIBRATED_BIAS_SD)
            self._drift_sd_per_day = self._random.gauss(0.0, DRIFT_SD_PER_DAY)
            self._calibrated_ns = now_ns
            self._compensated_sd = worn_bias_sd
            self._previous_msd = 0
        return Curve(NOMINAL_PPM + slope, offset, accepted)
