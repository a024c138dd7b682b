"""A floor-standing chemistry analyzer: photometer with a halogen lamp over a 37 °C reaction bath, and an ISE."""

from __future__ import annotations

from typing import Final

from sim.instruments.model import InstrumentModel, Lamp, Mishap, Panel, Reagent, Sensor
from sim.units import MINUTE_NS, SECOND_NS

_IONS: Final = ("na", "k")
_BASIC: Final = (*_IONS, "glu", "urea", "crea")
_LIVER: Final = ("alb", "alt", "ast")

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
        Sensor("reaction-temp-mc", "bath", 37_000, 10, 36_900, 37_100, cold=22_000, drifts_per_day=0.03),
        Sensor("reagent-temp-mc", "reagent", 8_000, 100, 4_000, 12_000, cold=15_000, drifts_per_day=0.03),
        Sensor("ambient-temp-mc", "track", 22_500, 100, 18_000, 30_000, span=8, hop_ns=20 * MINUTE_NS),
        Sensor(
            "vacuum-pa",
            "vacuum",
            80_000,
            200,
            74_000,
            86_000,
            span=12,
            hop_ns=30 * SECOND_NS,
            drifts_per_day=0.02,
        ),
        Sensor("water-conductivity-ns", "water", 70, 1, 20, 100, hop_ns=30 * MINUTE_NS, drifts_per_day=0.02),
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
    lamp=Lamp("lamp-h", 750, "lamp-intensity-pct"),
)
