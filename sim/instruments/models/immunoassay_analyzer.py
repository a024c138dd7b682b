"""A chemiluminescence immunoassay analyzer: incubator, washer, substrate and a luminometer that counts photons."""

from __future__ import annotations

from typing import Final

from sim.instruments.model import InstrumentModel, Mishap, Panel, Reagent, Sensor
from sim.units import DAY_NS, MINUTE_NS, SECOND_NS

_LIGHT: Final = ("substrate", "wash")

MODEL: Final = InstrumentModel(
    name="immunoassay-analyzer",
    summary="chemiluminescence immunoassays: 200 tests an hour",
    cycles_per_hour=200,
    samples_per_day=280,
    queue_max=150,
    counter="tests-n",
    panels=(
        Panel(0.30, 1, ("tsh", *_LIGHT)),
        Panel(0.15, 2, ("tsh", "ft4", *_LIGHT)),
        Panel(0.25, 1, ("tni", *_LIGHT)),
        Panel(0.12, 3, ("ferr", "vitb12", "vitd", *_LIGHT)),
        Panel(0.10, 1, ("vitd", *_LIGHT)),
        Panel(0.08, 1, ("psa", *_LIGHT)),
    ),
    reagents=(
        Reagent("tsh", 400, 40),
        Reagent("ft4", 200, 20),
        Reagent("tni", 300, 40),
        Reagent("ferr", 200, 20),
        Reagent("vitb12", 200, 20),
        Reagent("vitd", 200, 20),
        Reagent("psa", 100, 10),
        Reagent("substrate", 1000, 100, essential=True),
        Reagent("wash", 700, 70, essential=True),
    ),
    sensors=(
        Sensor(
            "incubator-temp-mc", "incubator", 37_000, 10, 36_500, 37_500, cold=22_000, drifts_per_day=0.03
        ),
        Sensor(
            "substrate-temp-mc", "luminometer", 37_000, 100, 36_000, 38_000, cold=22_000, drifts_per_day=0.02
        ),
        Sensor("reagent-temp-mc", "reagent", 6_000, 100, 2_000, 10_000, cold=15_000, drifts_per_day=0.03),
        Sensor("ambient-temp-mc", "track", 22_500, 100, 18_000, 30_000, span=8, hop_ns=20 * MINUTE_NS),
        Sensor(
            "luminometer-dark-n",
            "luminometer",
            180,
            10,
            0,
            400,
            span=8,
            hop_ns=30 * SECOND_NS,
            drifts_per_day=0.03,
        ),
        Sensor("wash-pressure-pa", "washer", 60_000, 500, 52_000, 68_000, drifts_per_day=0.03),
        Sensor(
            "vacuum-pa",
            "vacuum",
            82_000,
            200,
            76_000,
            88_000,
            span=12,
            hop_ns=30 * SECOND_NS,
            drifts_per_day=0.02,
        ),
    ),
    controls=("tsh", "ft4", "tni", "ferr", "vitb12", "vitd", "psa"),
    control_levels=3,
    waste_samples=700,
    mishaps=(
        Mishap("B0101", "barcode-reader", "warning", per_day=0.5, value_max=6),
        Mishap("P0101", "pipettor", "warning", per_day=1.0, value_max=2),
        Mishap("P0201", "pipettor", "critical", per_day=0.05, value_max=5, stops=True),
        Mishap("V0101", "washer", "error", per_day=0.1, value_max=3),
        Mishap("S0101", "software", "error", per_day=0.02, value_max=1),
    ),
    calibration_ns=35 * MINUTE_NS,
    calibration_valid_ns=28 * DAY_NS,
    control_every_ns=2 * MINUTE_NS,
    warm_up_ns=30 * MINUTE_NS,
)
