"""A blood cell counter, which reports with ASTM over TCP."""

from __future__ import annotations

from typing import Final

from sim.instruments.model import (
    Bias,
    Errors,
    Imprecision,
    InstrumentModel,
    Mishap,
    Noise,
    Panel,
    Reagent,
    Sensor,
    Shift,
    Wear,
)
from sim.units import DAY_NS, MINUTE_NS, SECOND_NS

_ASSAYS: Final = ("wbc", "rbc", "hgb", "plt")

MODEL: Final = InstrumentModel(
    name="blood-cell-counter",
    summary="blood counts: 60 samples an hour, ASTM over TCP",
    cycles_per_hour=60,
    samples_per_day=200,
    queue_max=60,
    counter="cycles-n",
    panels=(Panel(1.0, 1, ("diluent", "lyse")),),
    reagents=(
        Reagent("diluent", 600, 60, essential=True),
        Reagent("lyse", 800, 80, essential=True),
    ),
    sensors=(
        Sensor(
            *("bath-temp-mc", "bath", 35_000, 10, 34_000, 36_000),
            noise=8,
            wander=40,
            cold=22_000,
            drifts_per_day=0.03,
        ),
    ),
    controls=_ASSAYS,
    control_levels=3,
    waste_samples=600,
    mishaps=(Mishap("F0101", "flow-cell", "error", per_day=1.0, value_max=3, stops=True),),
    wear=(
        Wear(
            "flow-cell",
            "Aperture",
            starts_after_days=250,
            lasts_days=(5, 20),
            symptoms=(Errors("F0101", 3), Bias(("plt", "rbc"), 1.5), Imprecision(_ASSAYS, 1.5)),
        ),
        Wear(
            "bath",
            "Heater",
            starts_after_days=800,
            lasts_days=(7, 28),
            symptoms=(Shift("bath-temp-mc", -700), Noise("bath-temp-mc", 4)),
        ),
    ),
    calibration_ns=15 * MINUTE_NS,
    calibration_valid_ns=180 * DAY_NS,
    control_every_ns=60 * SECOND_NS,
    warm_up_ns=10 * MINUTE_NS,
)
