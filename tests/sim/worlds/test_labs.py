"""Every lab of the repository passes, or fails if it is meant to fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from sim.lab.labfile import lab_paths, load_lab
from sim.units import DAY_NS
from sim.worlds import run_lab
from tests.support.paths import LABS

ALL = lab_paths(LABS)
SHORT = [path for path in ALL if load_lab(path).about.duration <= DAY_NS]


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_every_lab_has_a_description(path: Path) -> None:
    about = load_lab(path).about
    assert path.stem.endswith(about.name)
    assert about.description


@pytest.mark.parametrize("path", SHORT, ids=lambda path: path.stem)
@pytest.mark.slow("all labs of at most a day, with TLS")
def test_a_lab_of_at_most_a_day_passes_unless_it_is_meant_to_fail(path: Path) -> None:
    lab = load_lab(path)
    result = run_lab(lab)
    assert result.reports.made > 0
    assert len(result.faults) == len(lab.events)
    missed = [expectation.name for expectation in result.expectations if not expectation.holds]
    assert missed == (["dropped"] if lab.about.meant_to_fail else []), result.replay
