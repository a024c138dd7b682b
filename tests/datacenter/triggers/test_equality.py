"""Live evaluation, with and without the extension module, and back-tests reach the same verdicts for every report."""

from __future__ import annotations

from random import Random

import pytest

from datacenter.triggers.columns import ColumnEvaluator
from datacenter.triggers.live import LiveEvaluator, LiveFunctions
from tests.support.datacenter.evaluation.evaluators import (
    CONDITIONS,
    INSTRUMENTS,
    bases,
    by_columns,
    live,
    random_triggers,
    stream,
)


@pytest.mark.slow("three evaluators of random triggers, on random reports")
def test_all_evaluators_agree_on_random_reports() -> None:
    fired: set[str] = set()
    for seed in range(3):
        random = Random(seed)
        triggers = random_triggers(random)
        streams = [stream(random, random.randint(100, 400)) for _ in range(INSTRUMENTS)]
        expected = live(triggers, streams, as_python=True)
        assert live(triggers, streams) == expected
        assert by_columns(triggers, streams) == expected
        assert by_columns(triggers, streams, together=37) == expected
        fired |= {name for _, _, name, _ in expected}
    assert fired == {*CONDITIONS, "hysteresis"}, "each trigger must fire, or nothing is compared for it"


def test_state_and_terms_are_equal_with_and_without_the_extension_module() -> None:
    random = Random(7)
    triggers = random_triggers(random)
    native, python = (
        LiveEvaluator(LiveFunctions(triggers, as_python=as_python), bases) for as_python in (False, True)
    )
    for one in stream(random, 300):
        native.evaluate(one)
        python.evaluate(one)
        assert list(native.state) == list(python.state)
    for trigger in triggers:
        assert native.terms(trigger) == python.terms(trigger)
        assert native.holds_since_ms(trigger) == python.holds_since_ms(trigger)


def test_columns_of_fewer_instruments_are_refused() -> None:
    evaluator = ColumnEvaluator(random_triggers(Random(1)), 3)
    with pytest.raises(ValueError, match="columns of 0 instruments; give those of all 3"):
        list(evaluator.evaluate([]))
