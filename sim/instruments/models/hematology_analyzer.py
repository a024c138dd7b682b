"""A hematology analyzer: impedance counting, flow cytometry with a laser, hemoglobin by photometry."""

from __future__ import annotations

from typing import Final

from sim.instruments.model import InstrumentModel, Lamp, Mishap, Panel, Reagent, Sensor
from sim.units import DAY_NS, MINUTE_NS, SECOND_NS

_COUNT: Final = ("diluent", "lyse", "sheath")

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
        Sensor("bath-temp-mc", "bath", 35_000, 100, 34_000, 36_000, cold=22_000, drifts_per_day=0.03),
        Sensor("ambient-temp-mc", "track", 22_500, 100, 18_000, 30_000, span=8, hop_ns=20 * MINUTE_NS),
        Sensor("sheath-pressure-pa", "flow-cell", 160_000, 1_000, 150_000, 170_000, drifts_per_day=0.03),
        Sensor(
            "flow-aperture-pa",
            "flow-cell",
            40_000,
            200,
            36_000,
            44_000,
            span=6,
            hop_ns=60 * SECOND_NS,
            drifts_per_day=0.05,
        ),
        Sensor(
            "vacuum-pa",
            "vacuum",
            40_000,
            200,
            35_000,
            45_000,
            span=8,
            hop_ns=30 * SECOND_NS,
            drifts_per_day=0.03,
        ),
        Sensor(
            "laser-current-ua",
            "laser",
            62_000,
            100,
            55_000,
            70_000,
            hop_ns=60 * MINUTE_NS,
            drifts_per_day=0.01,
        ),
    ),
    controls=("wbc", "rbc", "hgb", "plt", "retic"),
    control_levels=3,
    waste_samples=900,
    mishaps=(
        Mishap("B0101", "barcode-reader", "warning", per_day=1.0, value_max=10),
        Mishap("P0101", "pipettor", "warning", per_day=1.5, value_max=1),
        Mishap("F0101", "flow-cell", "error", per_day=0.2, value_max=4, stops=True),
        Mishap("K0101", "track", "error", per_day=0.1, value_max=5, stops=True),
        Mishap("S0101", "software", "error", per_day=0.02, value_max=1),
    ),
    lamp=Lamp("hemoglobin-lamp-h", 2000),
    calibration_ns=15 * MINUTE_NS,
    calibration_valid_ns=180 * DAY_NS,
    control_every_ns=40 * SECOND_NS,
    warm_up_ns=10 * MINUTE_NS,
)
