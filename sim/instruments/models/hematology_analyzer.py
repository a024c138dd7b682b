"""A hematology analyzer: impedance counting, flow cytometry with a laser, hemoglobin by photometry."""

from __future__ import annotations

from typing import Final

from sim.instruments.model import (
    Bias,
    Errors,
    Imprecision,
    InstrumentModel,
    Lamp,
    Mishap,
    Noise,
    Panel,
    Reagent,
    Sensor,
    Shift,
    Wear,
)
from sim.instruments.physics.parts import pump_diaphragm, syringe
from sim.units import DAY_NS, HOUR_NS, MINUTE_NS, SECOND_NS

_COUNT: Final = ("diluent", "lyse", "sheath")
_CONTROLS: Final = ("wbc", "rbc", "hgb", "plt", "retic")

MODEL: Final = InstrumentModel(
    name="hematology-analyzer",
    summary="blood counts with differential and reticulocytes: 100 samples an hour",
    cycles_per_hour=100,
    samples_per_day=400,
    queue_max=200,
    counter="cycles-n",
    panels=(
        Panel(0.35, 1, _COUNT),
        Panel(0.55, 1, (*_COUNT, "stain")),
        Panel(0.10, 2, (*_COUNT, "stain", "retic")),
    ),
    reagents=(
        Reagent("diluent", 900, 90, essential=True),
        Reagent("lyse", 1500, 150, essential=True),
        Reagent("sheath", 1200, 120, essential=True),
        Reagent("stain", 800, 80),
        Reagent("retic", 200, 20),
    ),
    sensors=(
        Sensor(
            *("bath-temp-mc", "bath", 35_000, 10, 34_000, 36_000),
            noise=8,
            wander=40,
            cold=22_000,
            drifts_per_day=0.03,
        ),
        Sensor(
            *("ambient-temp-mc", "track", 22_500, 100, 18_000, 30_000),
            noise=20,
            wander=400,
            wander_ns=3 * HOUR_NS,
        ),
        Sensor(
            *("sheath-pressure-pa", "flow-cell", 160_000, 50, 150_000, 170_000),
            noise=150,
            wander=300,
            wander_ns=10 * MINUTE_NS,
            drifts_per_day=0.03,
        ),
        Sensor(
            *("flow-aperture-pa", "flow-cell", 40_000, 10, 36_000, 44_000),
            noise=50,
            wander=120,
            wander_ns=10 * MINUTE_NS,
            drifts_per_day=0.05,
        ),
        Sensor(
            *("vacuum-pa", "vacuum", 40_000, 10, 35_000, 45_000),
            noise=60,
            wander=120,
            wander_ns=5 * MINUTE_NS,
            drifts_per_day=0.03,
        ),
        Sensor(
            *("laser-current-ua", "laser", 62_000, 10, 55_000, 70_000),
            noise=8,
            wander=60,
            wander_ns=4 * HOUR_NS,
            drifts_per_day=0.01,
        ),
    ),
    controls=_CONTROLS,
    control_levels=3,
    waste_samples=900,
    mishaps=(
        Mishap("B0101", "barcode-reader", "warning", per_day=1.0, value_max=10),
        Mishap("P0101", "pipettor", "warning", per_day=1.5, value_max=1),
        Mishap("F0101", "flow-cell", "error", per_day=0.2, value_max=4, stops=True),
        Mishap("K0101", "track", "error", per_day=0.1, value_max=5, stops=True),
        Mishap("S0101", "software", "error", per_day=0.02, value_max=1),
    ),
    wear=(
        Wear(
            "laser",
            "Laser module",
            starts_after_days=700,
            lasts_days=(15, 60),
            symptoms=(
                Shift("laser-current-ua", 6_500),
                Noise("laser-current-ua", 6),
                Imprecision(("wbc", "retic"), 1.8),
            ),
        ),
        Wear(
            "flow-cell",
            "Aperture",
            starts_after_days=250,
            lasts_days=(5, 20),
            symptoms=(
                Shift("flow-aperture-pa", 2_800),
                Noise("flow-aperture-pa", 4),
                Errors("F0101", 2),
                Bias(("plt", "rbc"), 1.5),
            ),
        ),
        Wear(
            "flow-cell",
            "Flow cell tubing",
            starts_after_days=500,
            lasts_days=(10, 30),
            symptoms=(Shift("sheath-pressure-pa", -6_000), Noise("sheath-pressure-pa", 4)),
        ),
        syringe(_CONTROLS, Errors("P0101", 6), starts_after_days=350),
        pump_diaphragm(3_000),
        Wear(
            "bath",
            "Heater",
            starts_after_days=800,
            lasts_days=(7, 28),
            symptoms=(Shift("bath-temp-mc", -700), Noise("bath-temp-mc", 4)),
        ),
        Wear(
            "track",
            "Drive belt",
            starts_after_days=500,
            lasts_days=(10, 45),
            symptoms=(Errors("K0101", 4), Errors("B0101", 4)),
        ),
    ),
    lamp=Lamp("hemoglobin-lamp-h", 2000),
    calibration_ns=15 * MINUTE_NS,
    calibration_valid_ns=180 * DAY_NS,
    control_every_ns=40 * SECOND_NS,
    warm_up_ns=10 * MINUTE_NS,
)
