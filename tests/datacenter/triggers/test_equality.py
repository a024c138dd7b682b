"""Live evaluation and back-test reach the same verdict at every report."""

from __future__ import annotations

from random import Random

from tests.support.datacenter.evaluators import (
    CONDITIONS,
    INSTRUMENTS,
    by_columns,
    live,
    random_triggers,
    stream,
)


def test_live_evaluation_and_back_test_agree_on_random_reports() -> None:
    fired: set[str] = set()
    for seed in range(3):
        random = Random(seed)
        triggers = random_triggers(random)
        streams = [stream(random, random.randint(100, 400)) for _ in range(INSTRUMENTS)]
        expected = live(triggers, streams)
        assert by_columns(triggers, streams) == expected
        fired |= {name for _, _, name, _ in expected}
    assert fired == {*CONDITIONS, "hysteresis"}, "nothing is compared for a trigger that does not fire"
