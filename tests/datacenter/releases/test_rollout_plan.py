"""Rollout plans: waves, restart times and refused values; states of boxes and judgements of waves."""

from __future__ import annotations

from datetime import UTC, datetime, time
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datacenter.releases.judgement import Judgement, WaveFigures, judge
from datacenter.releases.plan import Restart, RolloutPlan, decode_plan, encode_plan
from datacenter.releases.states import RolloutProgress
from tests.support.datacenter.rollouts import HOUR_MS
from wire.release.messages import RESTART_TIMES_MAX

BERLIN = ZoneInfo("Europe/Berlin")
PLAN = RolloutPlan(release=2, waves=(10, 100), observe_hours=2, failures_percent=10)


def at(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp())


def shown(pair: tuple[int, int]) -> str:
    begin, end = (datetime.fromtimestamp(one, UTC) for one in pair)
    return f"{begin:%d %H:%M}-{end:%d %H:%M}"


@given(boxes=st.integers(0, 5000), waves=st.sets(st.integers(1, 99), max_size=10))
def test_every_box_is_in_one_wave(boxes: int, waves: set[int]) -> None:
    plan = RolloutPlan(release=2, waves=(*sorted(waves), 100))
    sizes = plan.wave_sizes(boxes)
    assert (len(sizes), sum(sizes)) == (len(plan.waves), boxes)
    assert min(sizes) >= 0
    assert boxes == 0 or sizes[0] > 0, "the first wave is never empty"


def test_times_to_restart_are_local_and_cross_midnight() -> None:
    night = Restart(begins="22:00", ends="04:00")
    first, second, *_ = night.times(BERLIN, at("2026-12-01T01:00:00Z"))
    assert shown(first) == "30 21:00-01 03:00", "the current one"
    assert shown(second) == "01 21:00-02 03:00"


def test_times_to_restart_follow_summer_time() -> None:
    night = Restart(begins="22:00", ends="04:00")
    spring, autumn = (night.times(BERLIN, at(f"{day}T12:00:00Z"))[0] for day in ("2026-03-28", "2026-10-24"))
    assert [(end - begin) // 3600 for begin, end in (spring, autumn)] == [5, 7]


def test_a_restart_time_that_the_change_to_summer_time_skips_is_left_out() -> None:
    time_lost = Restart(begins="02:50", ends="03:10", days=("sun",))
    first, *_ = time_lost.times(BERLIN, at("2026-03-28T12:00:00Z"))
    assert shown(first) == "05 00:50-05 01:10", "a week later"


def test_times_to_restart_are_on_the_days_on_which_they_begin() -> None:
    weekend = Restart(begins="22:00", ends="04:00", days=("fri",))
    times = weekend.times(BERLIN, at("2026-11-30T12:00:00Z"))
    assert [shown(pair) for pair in times] == ["04 21:00-05 03:00", "11 21:00-12 03:00"]


@given(
    st.integers(0, 4_000_000_000),
    st.sampled_from(["Pacific/Apia", "Europe/Berlin", "America/Sao_Paulo", "Asia/Kathmandu", "UTC"]),
    st.times(),
    st.times(),
)
def test_times_to_restart_are_sorted_and_fit_into_an_order(
    from_s: int, zone: str, begins: time, ends: time
) -> None:
    times = Restart(begins=f"{begins:%H:%M}", ends=f"{ends:%H:%M}").times(ZoneInfo(zone), from_s)
    assert 0 < len(times) <= RESTART_TIMES_MAX
    assert all(from_s < end and begin < end for begin, end in times)
    assert list(times) == sorted(times)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"waves": [10, 50]}, "rising percentages of which the last is 100"),
        ({"waves": [50, 10, 100]}, "rising percentages"),
        ({"waves": [10, 10, 100]}, "rising percentages"),
        ({"waves": []}, "waves"),
        ({"release": 0}, "release"),
        ({"place": "europe"}, "place"),
        ({"answer_hours": 0}, "answer_hours"),
        ({"not_before": "2026-12-01T06:00:00"}, "a time with its zone"),
        ({"restart": {"begins": "22:00", "ends": "24:00"}}, "ends"),
        ({"restart": {"begins": "22:00", "ends": "04:00"}, "answer_hours": 47}, "give at least 48"),
        ({"restart": {"begins": "22:00", "ends": "04:00", "days": ["mon"]}}, "give at least 192"),
        ({"failure_percent": 5}, "unknown field"),
    ],
)
def test_a_wrong_plan_is_refused_with_what_would_be_right(keys: dict[str, object], message: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=message):
        msgspec.convert({"release": 2, **keys}, RolloutPlan)


def test_a_plan_survives_storage() -> None:
    plan = RolloutPlan(
        release=2,
        place="country/DE",
        boxes=("RAP-0001",),
        not_before=datetime(2026, 12, 1, tzinfo=UTC),
        restart=Restart(begins="22:00", ends="04:00", days=("mon", "fri")),
        answer_hours=200,
    )
    assert decode_plan(encode_plan(plan)) == plan


@pytest.mark.parametrize(
    ("progress", "state"),
    [
        (RolloutProgress(False), "waiting"),
        (RolloutProgress(False, ending="present"), "present"),
        (RolloutProgress(False, ending="withdrawn"), "withdrawn"),
        (RolloutProgress(True), "ordered"),
        (RolloutProgress(True, "fetched"), "fetched"),
        (RolloutProgress(True, "restarting", "silent"), "silent"),
        (RolloutProgress(True, "committed", "silent"), "committed"),
        (RolloutProgress(True, "fetched", "withdrawn"), "withdrawn"),
        (RolloutProgress(True, "failed", "withdrawn"), "withdrawn"),
        (RolloutProgress(True, "refused", "withdrawn"), "withdrawn"),
        (RolloutProgress(True, "committed", "withdrawn"), "committed"),
        (RolloutProgress(True, "returned", "withdrawn"), "returned"),
    ],
)
def test_the_state_of_a_box_follows_from_what_is_known(progress: RolloutProgress, state: str) -> None:
    assert progress.state == state


FIRST = WaveFigures(boxes=10, committed=10, last_ended_ms=5 * HOUR_MS)
OTHERS = WaveFigures(boxes=90, waiting=90)


@pytest.mark.parametrize(
    ("first", "hours", "verdict"),
    [
        (WaveFigures(boxes=10, open=1, committed=9, last_ended_ms=1), 100, "wait"),
        (WaveFigures(boxes=10, waiting=1, committed=9, last_ended_ms=1), 100, "wait"),
        (FIRST, 6.9, "wait"),
        (FIRST, 7, "next wave"),
        (WaveFigures(boxes=10, committed=9, failed=1, last_ended_ms=1), 100, "next wave"),
        (WaveFigures(boxes=10, open=8, failed=2), 1, "stop"),
        (WaveFigures(boxes=10, present=5, committed=4, failed=1, last_ended_ms=1), 100, "stop"),
        (WaveFigures(boxes=10, present=10, last_ended_ms=0), 0, "next wave"),
        (WaveFigures(), 0, "next wave"),
    ],
)
def test_a_wave_is_judged(first: WaveFigures, hours: float, verdict: str) -> None:
    assert judge(PLAN, [first, OTHERS], 0, 0, round(hours * HOUR_MS)).verdict == verdict


def test_the_rollout_ends_after_the_last_wave_unless_an_earlier_wave_has_failed() -> None:
    last = WaveFigures(boxes=90, committed=90, last_ended_ms=10 * HOUR_MS)
    assert judge(PLAN, [FIRST, last], 1, 0, 12 * HOUR_MS) == Judgement("done", "all waves are complete")
    first = FIRST._replace(committed=8, failed=2)
    assert judge(PLAN, [first, last], 1, 0, 12 * HOUR_MS).verdict == "stop"


def test_failures_are_also_limited_in_total() -> None:
    plan = msgspec.structs.replace(PLAN, failures_max=1)
    first, second = FIRST._replace(committed=9, failed=1), OTHERS._replace(waiting=89, failed=1)
    assert judge(plan, [first, second], 1, 0, 0) == Judgement("stop", "2 boxes failed; the plan permits 1")
