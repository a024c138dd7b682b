"""An electrolyte analyzer with ion-selective electrodes, which reports with ASTM over RS-232."""

from __future__ import annotations

from typing import Final

from sim.instruments.model import (
    Bias,
    Errors,
    Imprecision,
    InstrumentModel,
    Mishap,
    Panel,
    Reagent,
    Sensor,
    Wear,
)
from sim.units import DAY_NS, MINUTE_NS, SECOND_NS

_ASSAYS: Final = ("na", "k", "cl", "glu")

MODEL: Final = InstrumentModel(
    name="electrolyte-analyzer",
    summary="electrolytes: 40 samples an hour, ASTM over RS-232",
    cycles_per_hour=40,
    samples_per_day=90,
    queue_max=20,
    counter="cycles-n",
    panels=(
        Panel(0.9, 1, ("calibrant",)),
        Panel(0.1, 1, ("calibrant", "detergent")),
    ),
    reagents=(
        Reagent("calibrant", 400, 40, essential=True),
        Reagent("detergent", 60, 6),
    ),
    sensors=(
        Sensor(
            *("electrode-temp-mc", "electrodes", 37_000, 10, 36_500, 37_500),
            noise=8,
            wander=40,
            cold=22_000,
            drifts_per_day=0.03,
        ),
    ),
    controls=_ASSAYS,
    control_levels=2,
    waste_samples=400,
    mishaps=(Mishap("E0101", "electrodes", "error", per_day=1.0, value_max=1),),
    wear=(
        Wear(
            "electrodes",
            "Sodium electrode",
            starts_after_days=180,
            lasts_days=(10, 30),
            symptoms=(Bias(("na",), -2.0), Imprecision(("na",), 2.0), Errors("E0101", 3)),
            sudden=0.0,
        ),
        Wear(
            "electrodes",
            "Potassium electrode",
            starts_after_days=180,
            lasts_days=(10, 30),
            symptoms=(Bias(("k",), -2.0), Imprecision(("k",), 2.0), Errors("E0101", 3)),
            sudden=0.0,
        ),
        Wear(
            "electrodes",
            "Reference electrode",
            starts_after_days=350,
            lasts_days=(10, 30),
            symptoms=(Imprecision(_ASSAYS, 2.0), Errors("E0101", 4)),
        ),
    ),
    calibration_ns=5 * MINUTE_NS,
    calibration_valid_ns=28 * DAY_NS,
    control_every_ns=90 * SECOND_NS,
    warm_up_ns=15 * MINUTE_NS,
)
