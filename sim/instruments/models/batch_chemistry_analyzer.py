"""A chemistry analyzer that processes samples in racks, and reports with the Beckman AU protocol."""

from __future__ import annotations

from typing import Final

from sim.instruments.model import (
    Bias,
    Errors,
    InstrumentModel,
    Mishap,
    Noise,
    Panel,
    Reagent,
    Sensor,
    Shift,
    Wear,
)
from sim.instruments.physics.parts import syringe
from sim.units import DAY_NS, MINUTE_NS, SECOND_NS

_ASSAYS: Final = ("crea", "glu", "alb", "alt")

MODEL: Final = InstrumentModel(
    name="batch-chemistry-analyzer",
    summary="clinical chemistry in racks: 400 tests an hour, Beckman AU",
    cycles_per_hour=400,
    samples_per_day=200,
    queue_max=100,
    counter="cycles-n",
    panels=(
        Panel(0.7, 3, ("crea", "glu", "wash")),
        Panel(0.3, 4, ("alb", "alt", "wash")),
    ),
    reagents=(
        Reagent("crea", 500, 50),
        Reagent("glu", 500, 50),
        Reagent("alb", 300, 30),
        Reagent("alt", 300, 30),
        Reagent("wash", 1500, 150, essential=True),
    ),
    sensors=(
        Sensor(
            *("bath-temp-mc", "bath", 37_000, 1, 36_900, 37_100),
            noise=1.5,
            wander=12,
            wander_ns=20 * MINUTE_NS,
            cold=22_000,
            drifts_per_day=0.03,
        ),
    ),
    controls=_ASSAYS,
    control_levels=3,
    waste_samples=800,
    mishaps=(Mishap("P0101", "pipettor", "warning", per_day=1.5, value_max=1),),
    wear=(
        syringe(_ASSAYS, Errors("P0101", 6), starts_after_days=300),
        Wear(
            "bath",
            "Thermostat",
            starts_after_days=700,
            lasts_days=(7, 28),
            symptoms=(Shift("bath-temp-mc", -33), Noise("bath-temp-mc", 4), Bias(("alt",), -1.5)),
        ),
    ),
    calibration_ns=12 * MINUTE_NS,
    calibration_valid_ns=28 * DAY_NS,
    control_every_ns=45 * SECOND_NS,
    warm_up_ns=20 * MINUTE_NS,
)
