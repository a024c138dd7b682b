"""Chemistry and immunoassay modules on one track, which report with HL7."""

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

_ASSAYS: Final = ("glu", "k", "na", "crea", "chol", "crp", "tsh", "ft4", "vitd")

MODEL: Final = InstrumentModel(
    name="modular-analyzer",
    summary="chemistry and immunoassay on one track: 600 tests an hour, HL7",
    cycles_per_hour=600,
    samples_per_day=300,
    queue_max=150,
    counter="cycles-n",
    panels=(
        Panel(0.50, 6, ("na", "k", "glu", "crea", "crp")),
        Panel(0.20, 3, ("glu", "chol")),
        Panel(0.20, 4, ("tsh", "ft4", "substrate")),
        Panel(0.10, 3, ("vitd", "tsh", "substrate")),
    ),
    reagents=(
        Reagent("glu", 800, 80),
        Reagent("k", 900, 90),
        Reagent("na", 900, 90),
        Reagent("crea", 800, 80),
        Reagent("chol", 400, 40),
        Reagent("crp", 400, 40),
        Reagent("tsh", 200, 20),
        Reagent("ft4", 200, 20),
        Reagent("vitd", 100, 10),
        Reagent("substrate", 2000, 200, essential=True),
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
    control_levels=2,
    waste_samples=900,
    mishaps=(Mishap("P0201", "pipettor", "error", per_day=2.0, value_max=1),),
    wear=(
        syringe(_ASSAYS, Errors("P0201", 5), starts_after_days=300),
        Wear(
            "bath",
            "Thermostat",
            starts_after_days=700,
            lasts_days=(7, 28),
            symptoms=(Shift("bath-temp-mc", -33), Noise("bath-temp-mc", 4), Bias(("crea",), -1.5)),
        ),
    ),
    calibration_ns=12 * MINUTE_NS,
    calibration_valid_ns=28 * DAY_NS,
    control_every_ns=40 * SECOND_NS,
    warm_up_ns=20 * MINUTE_NS,
)
