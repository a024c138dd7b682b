"""Rollouts to a simulated fleet: waves, reasons to stop, and exact counts."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations

import pytest
from sqlalchemy import select

from datacenter.audit.trail import AuditTrail
from datacenter.releases.figures import read_figures
from datacenter.releases.folder import Release
from datacenter.releases.listing import find_rollout_row
from datacenter.releases.orders import exchange_order
from datacenter.releases.plan import Restart, RolloutPlan
from datacenter.releases.runner import change_state
from datacenter.releases.states import RolloutEvent, RolloutEventError
from datacenter.releases.windows import next_windows
from datacenter.store.store import Store
from datacenter.store.tables.schema import audit
from tests.support.datacenter.rollouts import HOUR_MS, SimulatedFleet, release_set
from wire.messages import UpdateWord
from wire.release.messages import UpdateState

QUICK = RolloutPlan(release=2, waves=(10, 100), observe_hours=2, answer_hours=10, failures_percent=20)


@pytest.fixture
def memory() -> Iterator[Store]:
    store = Store("sqlite://")
    yield store
    store.close()


def serials(count: int, first: int = 1) -> list[str]:
    return [f"RAP-{number:04}" for number in range(first, first + count)]


def fleet_of(store: Store, count: int, **endings: UpdateWord | None) -> SimulatedFleet:
    """Return a fleet; `endings` has the last steps of the boxes RAP_0001, … that do not commit their release."""
    by_serial = {name.replace("_", "-"): end for name, end in endings.items()}
    fleet = SimulatedFleet(store, release_set(2, 3), by_serial)
    fleet.add(*serials(count))
    return fleet


def event(fleet: SimulatedFleet, number: int, name: RolloutEvent) -> None:
    with fleet.store.transaction() as connection:
        change_state(connection, number, name, "by hand", fleet.now_ms)


def run_until_over(fleet: SimulatedFleet, number: int, hours_max: int = 1000) -> None:
    for _ in range(hours_max):
        fleet.advance()
        fleet.work()
        if fleet.state(number)[0] != "running":
            return
    raise AssertionError(f"the rollout is still {fleet.state(number)} {fleet.counts(number)}")


def thousand(store: Store) -> SimulatedFleet:
    """Return a thousand boxes, of which 1 % return to their old release and 2 % never answer."""
    endings: dict[str, UpdateWord | None] = {}
    for number, serial in enumerate(serials(1000)):
        if number % 100 == 50:
            endings[serial] = "returned"
        elif number % 50 == 7:
            endings[serial] = None
    fleet = SimulatedFleet(store, release_set(2), endings)
    fleet.add(*serials(1000))
    return fleet


def test_a_thousand_boxes_with_bad_and_silent_ones_are_counted_exactly(memory: Store) -> None:
    fleet = thousand(memory)
    number = fleet.start(RolloutPlan(release=2, waves=(10, 100), observe_hours=2, answer_hours=10))
    run_until_over(fleet, number)
    assert fleet.state(number) == ("done", "all waves are complete")
    assert fleet.counts(number) == {"committed": 970, "returned": 10, "silent": 20}
    assert all(len(box.orders) == 1 for box in fleet.boxes.values()), "each was ordered once"
    assert sum(len(box.installed) for box in fleet.boxes.values()) == 980


def test_a_rollout_to_a_thousand_boxes_stops_by_its_rule_and_orders_no_further_boxes(memory: Store) -> None:
    fleet = thousand(memory)
    plan = RolloutPlan(release=2, waves=(20, 60, 100), observe_hours=2, answer_hours=10, failures_percent=2)
    number = fleet.start(plan)
    run_until_over(fleet, number)
    counts = fleet.counts(number)
    failed = counts["returned"] + counts["silent"]
    assert counts.total() == 1000
    with memory.transaction() as connection:
        first, second, third = read_figures(connection, number, 3)
    reason = f"{second.failed} of 400 boxes of wave 2 failed; the plan permits 2 %"
    assert fleet.state(number) == ("stopped", reason)
    assert 0 < first.failed <= 4 and second.failed > 8 and third.failed == 0
    assert counts["committed"] == sum(box.running == 2 for box in fleet.boxes.values())
    assert counts["committed"] + counts["withdrawn"] + failed == 1000
    for _ in range(5):
        fleet.advance()
        fleet.work()
    assert fleet.counts(number) == counts
    assert max(len(box.orders) for box in fleet.boxes.values()) == 1


def test_hawkbit_3185_a_release_that_breaks_the_first_wave_reaches_no_other_boxes(memory: Store) -> None:
    """A rollout that counts deliveries instead of successful starts would continue."""
    fleet = fleet_of(memory, 20)
    fleet.endings = dict.fromkeys(fleet.boxes, "returned")
    number = fleet.start(QUICK)
    run_until_over(fleet, number)
    assert fleet.state(number) == ("stopped", "2 of 2 boxes of wave 1 failed; the plan permits 20 %")
    assert fleet.counts(number) == {"returned": 2, "withdrawn": 18}


def test_hawkbit_693_a_box_that_never_returns_has_failed(memory: Store) -> None:
    fleet = fleet_of(memory, 2, RAP_0001=None)
    plan = RolloutPlan(release=2, waves=(100,), observe_hours=0, answer_hours=10, failures_percent=50)
    number = fleet.start(plan)
    for _ in range(10):
        fleet.advance()
        fleet.work()
        assert fleet.state(number)[0] == "running"
    fleet.advance()
    assert fleet.states(number) == {"RAP-0001": "silent", "RAP-0002": "committed"}


def test_a_late_success_of_a_silent_box_counts_but_does_not_order_it_again(memory: Store) -> None:
    fleet = fleet_of(memory, 1, RAP_0001=None)
    number = fleet.start(
        RolloutPlan(release=2, waves=(100,), observe_hours=0, answer_hours=1, failures_percent=0)
    )
    run_until_over(fleet, number)
    assert fleet.counts(number) == {"silent": 1}
    (order,) = fleet.boxes["RAP-0001"].orders
    fleet.report("RAP-0001", fleet.step(order.order, 2, "committed"))
    assert fleet.counts(number) == {"committed": 1}
    assert fleet.state(number)[0] == "stopped"
    again = fleet.start(RolloutPlan(release=2, waves=(100,), observe_hours=0))
    run_until_over(fleet, again)
    assert fleet.counts(again) == {"present": 1}


def test_waves_follow_each_other_after_the_observation(memory: Store) -> None:
    fleet = fleet_of(memory, 20)
    number = fleet.start(QUICK)
    fleet.advance()
    assert fleet.counts(number) == {"ordered": 2, "waiting": 18}
    fleet.work()
    fleet.advance()
    assert fleet.counts(number) == {"committed": 2, "waiting": 18}
    fleet.advance()
    assert fleet.counts(number) == {"committed": 2, "ordered": 18}, "two hours after the last one ended"


def test_a_failure_during_the_observation_stops_the_rollout(memory: Store) -> None:
    fleet = fleet_of(memory, 20)
    number = fleet.start(QUICK)
    fleet.advance()
    fleet.work()
    box = next(box for box in fleet.boxes.values() if box.orders)
    fleet.report(box.serial, fleet.step(box.orders[0].order, 2, "returned", "crashed"))
    fleet.advance()
    assert fleet.state(number)[0] == "stopped"


def test_a_box_that_is_added_later_joins_the_current_wave(memory: Store) -> None:
    fleet = fleet_of(memory, 20)
    number = fleet.start(QUICK)
    fleet.advance()
    fleet.add("RAP-0100")
    fleet.advance()
    assert fleet.states(number)["RAP-0100"] == "ordered"
    assert fleet.counts(number) == {"ordered": 3, "waiting": 18}


def test_a_box_that_runs_the_release_already_is_not_ordered(memory: Store) -> None:
    fleet = fleet_of(memory, 20)
    fleet.boxes["RAP-0003"].running = 2
    fleet.ask("RAP-0003")
    number = fleet.start(QUICK)
    run_until_over(fleet, number)
    assert fleet.states(number)["RAP-0003"] == "present"
    assert fleet.counts(number) == {"committed": 19, "present": 1}


def test_a_box_with_an_order_waits_for_its_end_before_it_gets_another(memory: Store) -> None:
    fleet = fleet_of(memory, 1, RAP_0001=None)
    plan = RolloutPlan(release=2, waves=(100,), observe_hours=0, answer_hours=5, failures_percent=100)
    first = fleet.start(plan)
    fleet.advance()
    second = fleet.start(RolloutPlan(release=3, waves=(100,), observe_hours=0, answer_hours=5))
    fleet.advance()
    assert (fleet.counts(first), fleet.counts(second)) == ({"ordered": 1}, {"waiting": 1})
    fleet.advance(5)
    fleet.advance()
    assert (fleet.counts(first), fleet.counts(second)) == ({"silent": 1}, {"ordered": 1})
    assert fleet.ask("RAP-0001").release == 3


def test_a_paused_rollout_orders_no_boxes_and_those_with_an_order_continue(memory: Store) -> None:
    fleet = fleet_of(memory, 20)
    number = fleet.start(QUICK)
    fleet.advance()
    event(fleet, number, "pause")
    fleet.work()
    fleet.advance(20)
    assert fleet.counts(number) == {"committed": 2, "waiting": 18}
    event(fleet, number, "resume")
    fleet.advance()
    assert fleet.counts(number) == {"committed": 2, "ordered": 18}


def test_a_paused_rollout_whose_boxes_fail_stops_at_once(memory: Store) -> None:
    fleet = fleet_of(memory, 20)
    fleet.endings = dict.fromkeys(fleet.boxes, "returned")
    number = fleet.start(QUICK)
    fleet.advance()
    event(fleet, number, "pause")
    fleet.work()
    fleet.advance()
    assert fleet.state(number) == ("stopped", "2 of 2 boxes of wave 1 failed; the plan permits 20 %")
    assert fleet.counts(number) == {"returned": 2, "withdrawn": 18}


def test_boxes_that_are_silent_stop_a_paused_rollout(memory: Store) -> None:
    fleet = fleet_of(memory, 20)
    fleet.endings = dict.fromkeys(fleet.boxes, None)
    number = fleet.start(QUICK)
    fleet.advance()
    event(fleet, number, "pause")
    fleet.advance(11)
    assert fleet.state(number)[0] == "stopped"


def test_the_next_times_to_restart_are_those_of_each_time_zone(memory: Store) -> None:
    fleet = fleet_of(memory, 3)
    fleet.add_site("berlin", zone="Europe/Berlin")
    fleet.add_site("tokyo", "JP", "asia", zone="Asia/Tokyo")
    fleet.place("RAP-0001", "berlin")
    fleet.place("RAP-0002", "tokyo")
    window = Restart(begins="22:00", ends="04:00")
    number = fleet.start(RolloutPlan(release=2, waves=(100,), restart=window, answer_hours=72))
    row = find_rollout_row(memory, number)
    assert row is not None
    midnight_ms = fleet.now_ms - fleet.now_ms % (24 * HOUR_MS)
    windows = {one.zone: one for one in next_windows(memory, row, midnight_ms + 10 * HOUR_MS)}
    hours = {zone: (one.begins_ms - midnight_ms, one.boxes) for zone, one in windows.items()}
    assert hours == {
        "Asia/Tokyo": (13 * HOUR_MS, 1),
        "Europe/Berlin": (20 * HOUR_MS, 1),
        "UTC": (22 * HOUR_MS, 1),
    }
    assert list(windows) == ["Asia/Tokyo", "Europe/Berlin", "UTC"], "the earliest first"
    assert next_windows(memory, row, midnight_ms + 14 * HOUR_MS)[0].begins_ms == midnight_ms + 13 * HOUR_MS
    assert not next_windows(memory, row._replace(kind="data"), fleet.now_ms)
    assert not next_windows(memory, row._replace(plan=RolloutPlan(release=2)), fleet.now_ms)


def test_a_data_release_is_present_by_its_own_number(memory: Store) -> None:
    fleet = fleet_of(memory, 2)
    fleet.releases.releases[5] = Release(5, "profiles", "data", ())
    exchange_order(memory, fleet.releases, "RAP-0001", UpdateState(9, data=4), fleet.now_ms)
    exchange_order(memory, fleet.releases, "RAP-0002", UpdateState(1, data=5), fleet.now_ms)
    number = fleet.start(RolloutPlan(release=5, waves=(100,)), "data")
    fleet.advance()
    assert fleet.states(number) == {"RAP-0001": "ordered", "RAP-0002": "present"}
    order = exchange_order(memory, fleet.releases, "RAP-0001", UpdateState(9, data=4), fleet.now_ms)
    assert order is not None and (order.release, order.kind) == (5, "data")


def test_a_withdrawn_order_is_taken_back_from_its_box(memory: Store) -> None:
    fleet = fleet_of(memory, 2, RAP_0001=None, RAP_0002=None)
    number = fleet.start(RolloutPlan(release=2, waves=(100,)))
    fleet.advance()
    fleet.work()
    assert fleet.boxes["RAP-0001"].follows
    event(fleet, number, "withdraw")
    fleet.work()
    assert [box.follows for box in fleet.boxes.values()] == [0, 0]
    assert fleet.counts(number) == {"withdrawn": 2}
    box = fleet.boxes["RAP-0002"]
    fleet.report(box.serial, fleet.step(box.orders[0].order, 2, "failed", "withdrawn"))
    assert fleet.counts(number) == {"withdrawn": 2}, "a withdrawn update is no failure"


def test_a_release_that_is_withdrawn_from_the_folder_stops_its_rollout(memory: Store) -> None:
    fleet = fleet_of(memory, 20)
    number = fleet.start(QUICK)
    fleet.advance()
    fleet.releases = release_set(3)
    box = next(box for box, state in fleet.states(number).items() if state == "ordered")
    assert fleet.ask(box).order == 0, "even before the rollout stops"
    fleet.advance()
    assert fleet.state(number) == ("stopped", "release 2 is no longer among the signed releases")


@pytest.mark.parametrize(
    ("name", "state"), [("start", "running"), ("resume", "running"), ("stop", "withdrawn"), ("pause", "done")]
)
def test_an_event_that_the_state_does_not_permit_is_refused(
    memory: Store, name: RolloutEvent, state: str
) -> None:
    fleet = fleet_of(memory, 1)
    number = fleet.start(RolloutPlan(release=2, waves=(100,), observe_hours=0))
    if state == "withdrawn":
        event(fleet, number, "withdraw")
    elif state == "done":
        run_until_over(fleet, number)
    with pytest.raises(RolloutEventError, match=f"the rollout is {state}; {name} is possible while it is"):
        event(fleet, number, name)


@pytest.mark.parametrize(
    ("order", "release", "box"), [(99, 2, "RAP-0001"), (1, 3, "RAP-0001"), (1, 2, "RAP-0002")]
)
def test_a_step_of_another_order_release_or_box_counts_for_nothing(
    memory: Store, order: int, release: int, box: str
) -> None:
    fleet = fleet_of(memory, 2, RAP_0001=None, RAP_0002=None)
    number = fleet.start(RolloutPlan(release=2, waves=(100,), boxes=("RAP-0001",)))
    fleet.advance()
    fleet.work()
    assert fleet.boxes["RAP-0001"].orders[0].order == 1
    fleet.report(box, fleet.step(order, release, "committed"))
    assert fleet.states(number) == {"RAP-0001": "ordered"}


@pytest.mark.parametrize("steps", tuple(permutations(("restarting", "committed", "returned"))))
def test_the_order_in_which_steps_arrive_changes_nothing(
    memory: Store, steps: tuple[UpdateWord, ...]
) -> None:
    fleet = fleet_of(memory, 1, RAP_0001=None)
    number = fleet.start(RolloutPlan(release=2, waves=(100,)))
    fleet.advance()
    for step in (*steps, *steps):
        fleet.report("RAP-0001", fleet.step(1, 2, step))
    assert fleet.states(number) == {"RAP-0001": "returned"}


def test_boxes_are_selected_by_location_model_and_serial_number(memory: Store) -> None:
    fleet = fleet_of(memory, 5)
    fleet.add_site("s1")
    fleet.add_site("s2", country="JP", region="asia")
    for serial, site in zip(fleet.boxes, ("s1", "s1", "s2", "s2"), strict=False):
        fleet.place(serial, site)

    def concerned(**keys: object) -> list[str]:
        number = fleet.start(RolloutPlan(release=2, **keys))  # type: ignore[arg-type]
        fleet.advance()
        selected = sorted(fleet.states(number))
        event(fleet, number, "withdraw")
        return selected

    assert concerned() == serials(5)
    assert concerned(place="site/s1") == serials(2)
    assert concerned(place="country/JP") == serials(2, 3)
    assert concerned(place="region/asia", boxes=("RAP-0001", "RAP-0004")) == ["RAP-0004"]
    assert concerned(models=("chemistry-analyzer",)) == []


def test_every_step_of_a_rollout_is_in_the_audit_log(memory: Store) -> None:
    fleet = fleet_of(memory, 20)
    fleet.endings = dict.fromkeys(fleet.boxes, "returned")
    number = fleet.start(QUICK)
    run_until_over(fleet, number)
    query = select(audit.c.actor, audit.c.action, audit.c.resource, audit.c.reason).order_by(audit.c.number)
    assert [tuple(row) for row in memory.read(query)] == [
        ("data center", "order-update", str(number), "2 boxes of wave 1 are to install release 2"),
        ("data center", "stop-rollout", str(number), fleet.state(number)[1]),
    ]
    assert AuditTrail(memory).problems() == []


def test_rollouts_work_on_every_database(store: Store) -> None:
    fleet = SimulatedFleet(store, release_set(2), {"RAP-0002": "failed"})
    fleet.add(*serials(3))
    number = fleet.start(RolloutPlan(release=2, waves=(100,), observe_hours=0, failures_percent=50))
    run_until_over(fleet, number)
    assert fleet.counts(number) == {"committed": 2, "failed": 1}
