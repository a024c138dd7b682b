"""The ground truth about a model's worn parts agrees with the failures, errors and replacements that occur."""

from __future__ import annotations

from itertools import pairwise

import pytest

from settings.profile import load_profile
from sim.engine.clock import Environment
from sim.engine.streams import stream
from sim.instruments import load_model, model_names
from sim.instruments.model import Bias, Errors, Imprecision, Noise, Shift, Wear
from sim.instruments.physics.part_wear import PartWear
from sim.instruments.physics.wear import Degradation
from sim.units import DAY_NS, HOUR_NS

YEARS = 6
REPAIR_NS = 8 * HOUR_NS


class WornModel:
    """The parts of a model, each replaced `REPAIR_NS` after its failure, and all of them after each half year."""

    def __init__(self, name: str, seed: int = 1) -> None:
        self.model, self.env = load_model(name), Environment()
        self.failures: list[tuple[int, int, float]] = []
        """The index and time of each failure, and the level of the part's symptoms then, from 0.0 to 1.0."""
        self.errors: list[tuple[str, int]] = []
        self.replacements: list[tuple[int, int]] = []
        self.degradation = Degradation(
            self.model,
            self.env,
            stream(seed, "wear"),
            self._failed,
            lambda code: self.errors.append((code, self.env.now)),
        )

    def run(self, years: int = YEARS) -> tuple[PartWear, ...]:
        for _ in range(2 * years):
            self.env.run(until=self.env.now + 182 * DAY_NS)
            for index in range(len(self.model.wear)):
                self._replace(index)
        return self.degradation.truth("X-1")

    def index_of(self, truth: PartWear) -> int:
        return int(truth.code.removeprefix("D01"))

    def _failed(self, index: int) -> None:
        self.failures.append((index, self.env.now, self._level(index)))
        self.env.after(REPAIR_NS, self._replace, index)

    def _level(self, index: int) -> float:
        """Return the level of a part's symptoms now."""
        return next(one.level(self.env.now) for one in self.degradation.active if one.index == index)

    def _replace(self, index: int) -> None:
        self.replacements.append((index, self.env.now))
        self.degradation.replace(index)


def symptoms_of(wear: Wear) -> tuple[set[str], set[str], set[str]]:
    """Return the channels, assays and codes of a part's symptoms."""
    channels = {one.channel for one in wear.symptoms if isinstance(one, Shift | Noise)}
    assays = {assay for one in wear.symptoms if isinstance(one, Bias | Imprecision) for assay in one.assays}
    return channels, assays, {one.code for one in wear.symptoms if isinstance(one, Errors)}


@pytest.fixture(params=model_names())
def worn(request: pytest.FixtureRequest) -> WornModel:
    return WornModel(request.param)


def test_the_truth_names_the_part_its_code_and_its_symptoms(worn: WornModel) -> None:
    errors, truths = load_profile(worn.model.name).errors, worn.run()
    assert {worn.index_of(one) for one in truths} == set(range(len(worn.model.wear)))
    for one in truths:
        wear, error = worn.model.wear[worn.index_of(one)], errors[one.code]
        assert (one.component, [one.part]) == (error.component, error.parts)
        assert (one.component, one.part) == (wear.component, wear.part)
        assert (set(one.channels), set(one.assays), set(one.codes)) == symptoms_of(wear)


def test_the_truth_contains_exactly_the_failures_at_their_times(worn: WornModel) -> None:
    truths = worn.run()
    failed = [(worn.index_of(one), one.failed_ns) for one in truths if one.failed_ns is not None]
    assert sorted(failed) == sorted((index, at_ns) for index, at_ns, _ in worn.failures)
    assert failed
    replaced = set(worn.replacements)
    assert all((worn.index_of(one), one.replaced_ns) in replaced for one in truths)


def test_a_part_fails_when_it_is_due_with_its_full_symptoms_and_not_before(worn: WornModel) -> None:
    truths = worn.run()
    sudden = {(worn.index_of(one), one.failed_ns) for one in truths if one.course == "sudden"}
    for index, at_ns, level in worn.failures:
        assert level == (0.0 if (index, at_ns) in sudden else 1.0)
    for one in truths:
        assert one.replaced_ns is not None and one.began_ns <= one.replaced_ns
        if one.due_ns is None:
            assert (one.course, one.failed_ns) == ("stable", None)
            continue
        assert one.failed_ns == (one.due_ns if one.due_ns <= one.replaced_ns else None)
        shortest, longest = worn.model.wear[worn.index_of(one)].lasts_days
        lasts = (one.due_ns - one.began_ns) / DAY_NS
        assert lasts == 0 if one.course == "sudden" else shortest - 0.01 <= lasts <= longest + 0.01


def test_the_truth_contains_no_future_failure_or_replacement(worn: WornModel) -> None:
    for _ in range(40):
        worn.env.run(until=worn.env.now + 20 * DAY_NS)
        for one in worn.degradation.truth("X-1"):
            times = [one.began_ns, one.failed_ns or 0, one.replaced_ns or 0]
            assert max(times) <= worn.env.now


def test_a_part_begins_to_degrade_again_only_after_its_replacement(worn: WornModel) -> None:
    truths = worn.run()
    assert [one.began_ns for one in truths] == sorted(one.began_ns for one in truths)
    again = 0
    for index in range(len(worn.model.wear)):
        episodes = [one for one in truths if worn.index_of(one) == index]
        again += len(episodes) > 1
        for before, after in pairwise(episodes):
            assert before.replaced_ns is not None and before.replaced_ns < after.began_ns
    assert again


def test_each_error_comes_from_a_degrading_part_that_causes_it(worn: WornModel) -> None:
    truths = worn.run()
    for code, at_ns in worn.errors:
        assert any(
            code in one.codes
            and one.course != "sudden"
            and one.began_ns < at_ns <= (one.failed_ns or one.replaced_ns or at_ns)
            for one in truths
        )


@pytest.mark.parametrize("name", model_names())
def test_the_courses_depend_on_the_seed_alone(name: str) -> None:
    assert WornModel(name).run(2) == WornModel(name).run(2)
    courses = {tuple((one.part, one.began_ns) for one in WornModel(name, seed).run(2)) for seed in range(4)}
    assert len(courses) == 4


def test_the_parts_of_one_model_do_not_degrade_at_the_same_times(worn: WornModel) -> None:
    began = [one.began_ns for one in worn.run()]
    assert len(set(began)) == len(began)
