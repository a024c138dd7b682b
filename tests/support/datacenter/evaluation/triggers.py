"""Triggers and reports for tests of the evaluators."""

from __future__ import annotations

from datacenter.triggers.triggerfile import Trigger, TriggerTable, make_trigger

MODEL = "chemistry-analyzer"


def trigger(when: str, *, until: str = "", lasts: str = "", name: str = "t") -> Trigger:
    """Return a trigger of the chemistry analyzer's lamp with this condition."""
    table = TriggerTable(MODEL, "warning", "lamp", "The lamp is weak", when, lasts, until)
    return make_trigger(name, table)
