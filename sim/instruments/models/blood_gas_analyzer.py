"""A blood gas analyzer at the point of care, which reports with POCT1-A."""

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
from sim.units import DAY_NS, MINUTE_NS, SECOND_NS

MODEL: Final = InstrumentModel(
    name="blood-gas-analyzer",
    summary="blood gases at the point of care: 30 samples an hour, POCT1-A",
    cycles_per_hour=30,
    samples_per_day=120,
    queue_max=20,
    counter="cycles-n",
    panels=(
        Panel(0.8, 1, ("cartridge",)),
        Panel(0.2, 1, ("cartridge", "rinse")),
    ),
    reagents=(
        Reagent("cartridge", 300, 30, essential=True),
        Reagent("rinse", 80, 8),
    ),
    sensors=(
        Sensor(
            *("slot-temp-mc", "cartridge-slot", 37_000, 1, 36_850, 37_150),
            noise=1.5,
            wander=20,
            cold=22_000,
            drifts_per_day=0.03,
        ),
    ),
    controls=("ph", "po2", "pco2", "lac"),
    control_levels=3,
    waste_samples=300,
    mishaps=(Mishap("K0101", "cartridge-slot", "error", per_day=0.5, value_max=1),),
    wear=(
        Wear(
            "cartridge-slot",
            "Slot heater",
            starts_after_days=500,
            lasts_days=(7, 28),
            symptoms=(
                Shift("slot-temp-mc", -35),
                Noise("slot-temp-mc", 4),
                Errors("K0101", 2),
                Bias(("ph", "po2", "pco2"), 1.2),
            ),
        ),
    ),
    calibration_ns=4 * MINUTE_NS,
    calibration_valid_ns=28 * DAY_NS,
    control_every_ns=120 * SECOND_NS,
    warm_up_ns=20 * MINUTE_NS,
)
