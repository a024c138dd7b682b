"""The shipped triggers have scores, and name every part that wears in the simulated models."""

from __future__ import annotations

from pathlib import Path

from datacenter.evaluation.triggerset import read_triggers
from datacenter.scoring.scorefile import read_scores
from sim.instruments import load_model, model_names

FOLDER = Path("triggers")


def test_the_shipped_triggers_go_live() -> None:
    assert len(read_triggers(FOLDER).triggers) >= 20


def test_each_part_that_wears_has_a_trigger() -> None:
    tables = [trigger.table for trigger in read_triggers(FOLDER).triggers.values()]
    named = {(table.model, table.component, part) for table in tables for part in table.parts}
    wearing = {
        (model, wear.component, wear.part) for model in model_names() for wear in load_model(model).wear
    }
    assert named == wearing


def test_the_scores_are_those_of_the_whole_set_on_a_hundred_instrument_years() -> None:
    scores = read_scores(FOLDER).set
    assert scores is not None
    assert scores.instrument_years >= 100
