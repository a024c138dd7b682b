"""A floor-standing chemistry analyzer: photometer with a halogen lamp over a 37 °C reaction bath, and an ISE."""

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
from sim.units import HOUR_NS, MINUTE_NS

_IONS: Final = ("na", "k")
_BASIC: Final = (*_IONS, "glu", "urea", "crea")
_LIVER: Final = ("alb", "alt", "ast")
_PHOTOMETRIC: Final = ("glu", "urea", "crea", *_LIVER, "crp", "chol", "trig")

MODEL: Final = InstrumentModel(
    name="chemistry-analyzer",
    summary="clinical chemistry: 700 tests an hour, photometer and ion-selective electrodes",
    cycles_per_hour=700,
    samples_per_day=450,
    queue_max=300,
    counter="tests-n",
    panels=(
        Panel(0.40, 5, (*_BASIC, "wash")),
        Panel(0.25, 9, (*_BASIC, *_LIVER, "crp", "wash")),
        Panel(0.15, 6, (*_BASIC, "crp", "wash")),
        Panel(0.10, 3, ("glu", "chol", "trig", "wash")),
        Panel(0.10, 2, (*_IONS, "wash")),
    ),
    reagents=(
        Reagent("na", 3000, 300),
        Reagent("k", 3000, 300),
        Reagent("glu", 1600, 120),
        Reagent("urea", 1500, 120),
        Reagent("crea", 1400, 120),
        Reagent("alb", 600, 50),
        Reagent("alt", 500, 50),
        Reagent("ast", 500, 50),
        Reagent("crp", 500, 50),
        Reagent("chol", 400, 40),
        Reagent("trig", 250, 40),
        Reagent("wash", 2000, 200, essential=True),
    ),
    sensors=(
        Sensor(
            *("reaction-temp-mc", "bath", 37_000, 1, 36_900, 37_100),
            noise=1.5,
            wander=12,
            wander_ns=20 * MINUTE_NS,
            cold=22_000,
            drifts_per_day=0.03,
        ),
        Sensor(
            *("reagent-temp-mc", "reagent", 8_000, 10, 4_000, 12_000),
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
            *("vacuum-pa", "vacuum", 80_000, 10, 74_000, 86_000),
            noise=60,
            wander=150,
            wander_ns=5 * MINUTE_NS,
            drifts_per_day=0.02,
        ),
        Sensor(
            *("water-conductivity-ns", "water", 70, 1, 20, 100),
            noise=0.3,
            wander=2,
            wander_ns=2 * HOUR_NS,
            drifts_per_day=0.02,
        ),
    ),
    controls=("na", "k", "glu", "urea", "crea", "alb", "alt", "ast", "crp", "chol", "trig"),
    control_levels=2,
    waste_samples=1200,
    mishaps=(
        Mishap("B0101", "barcode-reader", "warning", per_day=0.7, value_max=8),
        Mishap("P0101", "pipettor", "warning", per_day=1.5, value_max=2),
        Mishap("P0201", "pipettor", "critical", per_day=0.05, value_max=5, stops=True),
        Mishap("U0101", "cuvettes", "info", per_day=0.3, value_max=4),
        Mishap("S0101", "software", "error", per_day=0.02, value_max=1),
    ),
    wear=(
        Wear(
            "lamp",
            "Halogen lamp",
            starts_after_days=150,
            lasts_days=(10, 30),
            symptoms=(
                Shift("lamp-intensity-pct", -25),
                Bias(("alt", "ast", "crea"), 1.5),
                Imprecision(_PHOTOMETRIC, 2.0),
            ),
        ),
        syringe((*_IONS, *_PHOTOMETRIC), Errors("P0101", 6), starts_after_days=300),
        Wear(
            "bath",
            "Thermostat",
            starts_after_days=700,
            lasts_days=(7, 28),
            symptoms=(
                Shift("reaction-temp-mc", -33),
                Noise("reaction-temp-mc", 4),
                Bias(("alt", "ast"), -1.5),
            ),
        ),
        Wear(
            "reagent",
            "Fan",
            starts_after_days=600,
            lasts_days=(10, 35),
            symptoms=(Shift("reagent-temp-mc", 2_800), Noise("reagent-temp-mc", 3)),
        ),
        pump_diaphragm(4_000, Errors("U0101", 3)),
        Wear(
            "water",
            "Ion-exchange cartridge",
            starts_after_days=200,
            lasts_days=(10, 30),
            symptoms=(Shift("water-conductivity-ns", 17), Noise("water-conductivity-ns", 4)),
            sudden=0.0,
        ),
        Wear(
            "cuvettes",
            "Cuvette set",
            starts_after_days=400,
            lasts_days=(15, 50),
            symptoms=(Errors("U0101", 8), Imprecision(_PHOTOMETRIC, 1.8)),
            sudden=0.0,
        ),
    ),
    lamp=Lamp("lamp-h", 750, "lamp-intensity-pct"),
)
