"""Worn parts that several models have: the same part wears in the same way everywhere."""

from __future__ import annotations

from sim.instruments.model import Bias, Errors, Imprecision, Noise, Shift, Symptom, Wear
from wire.messages import Assay


def syringe(assays: tuple[Assay, ...], errors: Errors, starts_after_days: float) -> Wear:
    """Return the syringe of a pipettor that begins to leak: imprecise and low results, and more `errors`."""
    return Wear(
        "pipettor",
        "Syringe",
        starts_after_days=starts_after_days,
        lasts_days=(14, 40),
        symptoms=(Imprecision(assays, 2.2), Bias(assays, -0.8), errors),
    )


def pump_diaphragm(fall_pa: float, *more: Symptom) -> Wear:
    """Return the diaphragm of the vacuum pump: the vacuum falls and pulsates."""
    return Wear(
        "vacuum",
        "Pump diaphragm",
        starts_after_days=400,
        lasts_days=(10, 40),
        symptoms=(Shift("vacuum-pa", -fall_pa), Noise("vacuum-pa", 5), *more),
    )
