"""A chemiluminescence immunoassay analyzer: incubator, washer, substrate and a luminometer that counts photons."""

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
from sim.instruments.physics.parts import pump_diaphragm, syringe
from sim.units import DAY_NS, HOUR_NS, MINUTE_NS

_EVERY_TEST: Final = ("substrate", "wash")
_ASSAYS: Final = ("tsh", "ft4", "tni", "ferr", "vitb12", "vitd", "psa")

MODEL: Final = InstrumentModel(
    name="immunoassay-analyzer",
    summary="chemiluminescence immunoassays: 200 tests an hour",
    cycles_per_hour=200,
    samples_per_day=280,
    queue_max=150,
    counter="tests-n",
    panels=(
        Panel(0.30, 1, ("tsh", *_EVERY_TEST)),
        Panel(0.15, 2, ("tsh", "ft4", *_EVERY_TEST)),
        Panel(0.25, 1, ("tni", *_EVERY_TEST)),
        Panel(0.12, 3, ("ferr", "vitb12", "vitd", *_EVERY_TEST)),
        Panel(0.10, 1, ("vitd", *_EVERY_TEST)),
        Panel(0.08, 1, ("psa", *_EVERY_TEST)),
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
            *("incubator-temp-mc", "incubator", 37_000, 1, 36_500, 37_500),
            noise=1.5,
            wander=20,
            wander_ns=20 * MINUTE_NS,
            cold=22_000,
            drifts_per_day=0.03,
        ),
        Sensor(
            *("substrate-temp-mc", "luminometer", 37_000, 10, 36_000, 38_000),
            noise=8,
            wander=40,
            cold=22_000,
            drifts_per_day=0.02,
        ),
        Sensor(
            *("reagent-temp-mc", "reagent", 6_000, 10, 2_000, 10_000),
            noise=8,
            wander=150,
            cold=15_000,
            drifts_per_day=0.03,
        ),
        Sensor(
            *("ambient-temp-mc", "track", 22_500, 100, 18_000, 30_000),
            noise=20,
            wander=400,
            wander_ns=3 * HOUR_NS,
        ),
        Sensor(
            *("luminometer-dark-n", "luminometer", 180, 1, 0, 400),
            noise=13.4,
            wander=8,
            wander_ns=3 * HOUR_NS,
            drifts_per_day=0.03,
        ),
        Sensor(
            *("wash-pressure-pa", "washer", 60_000, 10, 52_000, 68_000),
            noise=120,
            wander=200,
            wander_ns=10 * MINUTE_NS,
            drifts_per_day=0.03,
        ),
        Sensor(
            *("vacuum-pa", "vacuum", 82_000, 10, 76_000, 88_000),
            noise=60,
            wander=150,
            wander_ns=5 * MINUTE_NS,
            drifts_per_day=0.02,
        ),
    ),
    controls=_ASSAYS,
    control_levels=3,
    waste_samples=700,
    mishaps=(
        Mishap("B0101", "barcode-reader", "warning", per_day=0.5, value_max=6),
        Mishap("P0101", "pipettor", "warning", per_day=1.0, value_max=2),
        Mishap("P0201", "pipettor", "critical", per_day=0.05, value_max=5, stops=True),
        Mishap("V0101", "washer", "error", per_day=0.1, value_max=3),
        Mishap("S0101", "software", "error", per_day=0.02, value_max=1),
    ),
    wear=(
        Wear(
            "luminometer",
            "Photomultiplier",
            starts_after_days=600,
            lasts_days=(14, 50),
            symptoms=(
                Shift("luminometer-dark-n", 110),
                Noise("luminometer-dark-n", 1.5),
                Bias(("tni", "tsh"), 1.5),
                Imprecision(_ASSAYS, 1.6),
            ),
        ),
        Wear(
            "washer",
            "Wash valves",
            starts_after_days=300,
            lasts_days=(7, 30),
            symptoms=(
                Shift("wash-pressure-pa", -5_000),
                Noise("wash-pressure-pa", 4),
                Errors("V0101", 3),
                Imprecision(_ASSAYS, 1.7),
            ),
        ),
        syringe(_ASSAYS, Errors("P0101", 6), starts_after_days=350),
        Wear(
            "incubator",
            "Heating foil",
            starts_after_days=700,
            lasts_days=(7, 28),
            symptoms=(Shift("incubator-temp-mc", -350), Noise("incubator-temp-mc", 5)),
        ),
        Wear(
            "reagent",
            "Peltier element",
            starts_after_days=500,
            lasts_days=(10, 35),
            symptoms=(
                Shift("reagent-temp-mc", 2_800),
                Noise("reagent-temp-mc", 3),
                Bias(_ASSAYS, -1.0),
            ),
        ),
        pump_diaphragm(4_000),
    ),
    calibration_ns=35 * MINUTE_NS,
    calibration_valid_ns=28 * DAY_NS,
    control_every_ns=2 * MINUTE_NS,
    warm_up_ns=30 * MINUTE_NS,
)
