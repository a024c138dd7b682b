"""Releases that change only the application: tried, committed or abandoned without a restart of the machine."""

from __future__ import annotations

from typing import get_args

import pytest

from agents.box.updates.application import SWITCHES_MAX
from agents.box.updates.memory import COPIES, COPY_BYTES
from agents.box.updates.table import UpdatePhase
from hal.emul.disk import Moment
from tests.support.agents.update_box import (
    RANGE_BYTES,
    UpdateBox,
    UpdateCenter,
    operations_of,
    update_center,
)
from wire.release.messages import UpdateOrder

METADATA_BYTES = 8 * 1024
"""Upper bound for the metadata and the orders of an update."""


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> UpdateCenter:
    return update_center(tmp_path_factory.mktemp("releases"), (1, 2), (2, 3), application=True)


@pytest.fixture
def center(releases: UpdateCenter) -> UpdateCenter:
    order = UpdateOrder(7, 2, "application")
    return UpdateCenter(releases.root, releases.metadata, releases.targets, order)


@pytest.fixture
def box(center: UpdateCenter) -> UpdateBox:
    return UpdateBox(center)


def steps(center: UpdateCenter) -> list[str]:
    return [step for _, step, _ in center.steps]


def test_a_release_is_committed_without_a_restart_of_the_machine(
    box: UpdateBox, center: UpdateCenter
) -> None:
    box.run()
    assert steps(center) == ["accepted", "fetched", "applied", "restarting", "committed"]
    assert (box.started, box.switched) == ([1], [2])
    assert box.updater is not None and box.updater.status.release == 2
    assert (box.state.committed, box.state.trial) == ("b", None)
    box.switch_on()
    assert box.boot() == "b"


def test_a_release_waits_for_the_end_of_a_session(box: UpdateBox, center: UpdateCenter) -> None:
    box.may_restart = lambda: False
    box.run(until=lambda: box.phase is UpdatePhase.READY)
    with pytest.raises(AssertionError, match="nothing settled"):
        box.run(seconds=6 * 3600)
    assert not box.switched and set(box.started) == {1}
    box.may_restart = lambda: True
    box.run()
    assert center.outcomes == [(2, "committed", "")]


def test_an_unhealthy_release_is_abandoned_without_a_restart_of_the_machine_and_refused_later(
    box: UpdateBox, center: UpdateCenter
) -> None:
    box.health = lambda release: "ports-not-served" if release == 2 else ""
    box.run()
    assert center.outcomes == [(2, "returned", "ports-not-served")]
    assert (box.started, box.switched, box.application) == ([1], [2, 1], None)
    before = len(center.requests)
    center.order = UpdateOrder(8, 2, "application")
    box.run(until=lambda: center.outcomes[-1] == (2, "refused", "failed-before"))
    assert all(request.startswith("POST") for request in center.requests[before:])


def test_a_release_that_does_not_start_is_abandoned(box: UpdateBox, center: UpdateCenter) -> None:
    box.dead = {2}
    box.run()
    assert center.outcomes == [(2, "returned", "not-committed")]
    assert (box.started, box.switched) == ([1], [2])


def test_a_release_that_crashes_is_abandoned(box: UpdateBox, center: UpdateCenter) -> None:
    def crash(release: int) -> str:
        box.is_killed = release == 2
        return ""

    box.health = crash
    box.run()
    assert center.outcomes == [(2, "returned", "crashed")]
    assert box.started == [1] and box.state.committed == "a"


def test_a_power_cut_in_the_trial_starts_the_previous_release_and_three_end_the_trial(
    box: UpdateBox, center: UpdateCenter
) -> None:
    for _ in range(SWITCHES_MAX):
        box.run(until=lambda: box.application == "b" and box.phase is UpdatePhase.APPLICATION_TRIAL)
        box.switch_on()
    box.run()
    assert box.started == [1] * (1 + SWITCHES_MAX) and box.switched == [2] * SWITCHES_MAX
    assert center.outcomes == [(2, "returned", "not-committed")]


def test_one_power_cut_in_the_trial_costs_another_try(box: UpdateBox, center: UpdateCenter) -> None:
    box.run(until=lambda: box.application == "b" and box.phase is UpdatePhase.APPLICATION_TRIAL)
    box.switch_on()
    box.run()
    assert (box.started, box.switched) == ([1, 1], [2, 2])
    assert center.outcomes == [(2, "committed", "")]


def test_a_machine_that_cannot_switch_restarts(box: UpdateBox, center: UpdateCenter) -> None:
    box.can_switch = False
    box.run()
    assert center.outcomes == [(2, "committed", "")]
    assert (box.started, box.switched) == ([1, 2], [])


def test_the_next_release_waits_for_a_restart_because_the_root_file_system_is_in_its_slot(
    box: UpdateBox, center: UpdateCenter
) -> None:
    box.run()
    box.may_restart = lambda: False
    center.order = UpdateOrder(8, 3, "application")
    before = box.content("a")
    box.is_killed = True
    box.run(until=lambda: box.phase is UpdatePhase.FETCHED)
    box.is_killed = True
    with pytest.raises(AssertionError, match="nothing settled"):
        box.run(seconds=3600, until=lambda: False)
    assert box.phase is UpdatePhase.FETCHED and box.content("a") == before
    assert box.started == [1]


def test_the_next_release_restarts_the_machine_before_it_is_written(
    box: UpdateBox, center: UpdateCenter
) -> None:
    box.run()
    center.order, box.is_killed = UpdateOrder(8, 3, "application"), True
    box.run(until=lambda: center.outcomes[-1] == (3, "committed", "") and box.phase is UpdatePhase.IDLE)
    assert (box.started, box.switched) == ([1, 2], [2, 3])
    assert (box.release_in("a"), box.release_in("b"), box.state.committed) == (3, 2, "a")


def test_a_trial_whose_stored_state_is_lost_is_committed(box: UpdateBox, center: UpdateCenter) -> None:
    box.run(until=lambda: box.application == "b")
    for name in COPIES:
        box.disk.commit(name, 0, bytes(COPY_BYTES))
    box.is_killed = True
    box.run(until=lambda: box.state.committed == "b")
    assert box.started == [1]


@pytest.mark.slow("an update for each call of the program after the download")
def test_a_program_that_is_killed_at_any_step_of_the_switch_continues(center: UpdateCenter) -> None:
    uninterrupted = UpdateBox(center)
    uninterrupted.run(until=lambda: uninterrupted.phase is UpdatePhase.SWITCHING)
    before = uninterrupted.calls
    uninterrupted.run()
    for call in range(before - 5, uninterrupted.calls + 1):
        center.steps.clear()
        box = UpdateBox(center)
        box.kill_at = call
        box.run()
        assert center.outcomes == [(2, "committed", "")], f"killed at call {call}"
        assert (box.started, box.state.committed) == ([1], "b"), f"killed at call {call}"


@pytest.mark.slow("an update for each operation of a device after the download")
@pytest.mark.parametrize("moment", get_args(Moment))
@pytest.mark.parametrize("device", [0, 3], ids=["disk", "boot state"])
def test_a_cut_at_every_operation_of_the_switch_starts_the_old_or_the_new_release(
    releases: UpdateCenter, device: int, moment: Moment
) -> None:
    def ordered() -> UpdateCenter:
        order = UpdateOrder(7, 2, "application")
        return UpdateCenter(releases.root, releases.metadata, releases.targets, order)

    uninterrupted = ordered()
    operations = operations_of(UpdateBox(uninterrupted))[device]
    probe = UpdateBox(ordered())
    before = operations_of(probe, lambda: probe.phase is UpdatePhase.SWITCHING)[device]
    assert before < operations, "the switch does not use this device"
    for operation in range(max(1, before - 5), operations + 1):
        center = ordered()
        box = UpdateBox(center, operation)
        box.boot_state.backend.tear_within_sectors(32)
        box.cut_power_at(device, operation, moment)
        box.run()
        cut = f"{moment} operation {operation}"
        assert center.outcomes == [(2, "committed", "")], cut
        assert (box.release_in("a"), box.release_in("b"), box.state.committed) == (1, 2, "b"), cut
        assert len(box.started) <= 2 and set(box.switched) <= {2}, cut
        assert center.bytes_sent <= uninterrupted.bytes_sent + RANGE_BYTES + METADATA_BYTES, cut
