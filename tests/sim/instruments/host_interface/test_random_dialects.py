"""Labs of four hours with dialects drawn at random; `make bench` runs 500 days."""

from __future__ import annotations

import pytest

from bench.lab.dialects import MODELS, counted, day
from sim.engine.streams import stream
from sim.instruments.host_interface.dialects import OPTIONS, contradiction, draw_dialect, options_of
from sim.units import HOUR_NS
from sim.worlds import run_lab


@pytest.mark.slow("four hours of five instruments for each seed")
@pytest.mark.parametrize("seed", range(1000, 1006))
def test_nothing_is_lost_stored_twice_or_refused(seed: int) -> None:
    lab = day(seed, 4 * HOUR_NS)
    result = run_lab(lab, seed=seed)
    assert {name: count for name, count in counted(result).items() if count} == {}, result.replay
    assert {one.model for one in result.instruments if one.stored} == set(MODELS)


def test_there_are_many_options_and_each_is_drawn() -> None:
    drawn = set().union(
        *(draw_dialect(stream(seed, "x"), speaks) for seed in range(60) for speaks in _STANDARDS)
    )
    assert drawn == set(OPTIONS)
    assert len(OPTIONS) >= 24


def test_no_drawn_dialect_contradicts_itself() -> None:
    for seed in range(200):
        for speaks in _STANDARDS:
            drawn = draw_dialect(stream(seed, "x"), speaks)
            assert contradiction(drawn) is None
            assert drawn <= set(options_of(speaks))


_STANDARDS = ("hl7", "astm", "astm-serial", "poct1a", "au")
