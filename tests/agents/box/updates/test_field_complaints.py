"""Failures of other update programs that were reported from the field, each as a test of the box's updater.

The name of a test begins with the project and the issue number.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from random import Random

import pytest

from agents.box.updates.table import UpdatePhase
from agents.box.updates.updater import TRIAL_SECONDS_MAX
from settings import slots
from tests.support.agents.update_box import (
    UpdateBox,
    UpdateCenter,
    operations_of,
    slot_content,
    update_center,
)
from tests.support.imaging.releases import NOW
from wire.http.connection import Response
from wire.release.messages import UpdateOrder


@pytest.fixture
def center(tmp_path: Path) -> UpdateCenter:
    center = update_center(tmp_path, (1, 2), (2, 3), (1, 3))
    center.order = UpdateOrder(7, 2)
    return center


@pytest.fixture
def box(center: UpdateCenter) -> UpdateBox:
    return UpdateBox(center)


def delta_requests(center: UpdateCenter) -> list[str]:
    return [request for request in center.requests if "/files/" in request]


def test_rauc_1517_a_line_that_is_down_200_times_does_not_end_the_download(
    box: UpdateBox, center: UpdateCenter
) -> None:
    losses = box.lose_line_while_fetching(200)
    box.run()
    assert losses[0] <= 0, "the line was not down often enough"
    assert center.outcomes == [(2, "committed", "")]
    (delta,) = {len(center.targets[request.split("/")[3]]) for request in delta_requests(center)}
    assert center.delta_bytes_sent <= 1.05 * delta


def test_hawkbit_updater_223_the_whole_slot_is_never_fetched_instead(center: UpdateCenter) -> None:
    box = UpdateBox(center, running=4)  # there is no delta from release 4
    box.run()
    assert center.outcomes == [(2, "refused", "no-delta")]
    assert not delta_requests(center)


def test_hawkbit_updater_158_a_missing_file_is_requested_less_and_less_often_and_reported_once(
    box: UpdateBox, center: UpdateCenter
) -> None:
    center.change = lambda request, response: Response(404) if "/files/" in request.target else response
    with pytest.raises(AssertionError, match="nothing settled"):
        box.run(seconds=6 * 3600)
    assert len(delta_requests(center)) < 15
    assert box.messages == ["update: the data center responded with status 404"]
    center.change = lambda _request, response: response
    box.run()
    assert center.outcomes == [(2, "committed", "")]


def test_hawkbit_3185_a_release_that_does_not_start_is_never_reported_as_done(
    box: UpdateBox, center: UpdateCenter
) -> None:
    box.dead = {2}
    box.run()
    assert center.outcomes == [(2, "returned", "not-committed")]
    assert box.started == [1, 2, 2, 2, 1]


def test_hawkbit_693_a_box_that_does_not_return_reports_nothing_more(
    box: UpdateBox, center: UpdateCenter
) -> None:
    box.health = lambda release: "firewall-not-in-force" if release == 2 else ""
    box.run(until=lambda: box.started[-1:] == [2])
    box.lose_power()
    assert [step for _, step, _ in center.steps] == ["accepted", "fetched", "applied", "restarting"]
    assert not center.outcomes


def test_rauc_490_twenty_power_cuts_do_not_change_the_slot(box: UpdateBox) -> None:
    for _ in range(20):
        box.run(seconds=3600, until=lambda: box.phase is UpdatePhase.FETCHING)
        box.switch_on()
    assert set(box.started) == {1}
    box.run()
    for _ in range(20):
        box.run(seconds=3600, until=lambda: True)
        box.switch_on()
    assert box.started[-20:] == [2] * 20


@pytest.mark.parametrize("offset", [*slots.COPY_OFFSETS, *slots.TRIES_OFFSETS])
@pytest.mark.parametrize("sector", [0, 512])
@pytest.mark.parametrize("when", ["fetching", "ready", "trial", "idle"])
def test_rauc_1907_the_box_starts_and_updates_with_any_sector_of_its_state_destroyed(
    box: UpdateBox, center: UpdateCenter, offset: int, sector: int, when: str
) -> None:
    is_ready = False
    box.may_restart = lambda: is_ready
    if when == "trial":
        is_ready = True
    box.run(
        until=box.is_settled if when == "idle" and is_ready else lambda: box.phase == when or when == "idle"
    )
    box.boot_state.write(offset + sector, Random(3).randbytes(512))
    box.boot_state.flush()
    is_ready = True
    box.switch_on()
    box.run()
    assert center.outcomes[-1][0] == 2
    assert box.release_in(box.boot()) == (2 if center.outcomes == [(2, "committed", "")] else 1)


def test_rauc_459_a_slot_that_reads_back_differently_is_not_activated(
    box: UpdateBox, center: UpdateCenter
) -> None:
    box.at_start = lambda: box.slots["b"].backend.drop_next_write(1000)
    box.run()
    assert center.outcomes == [(2, "failed", "read-back-differs")]
    assert set(box.started) == {1} and box.state.trial is None


def test_mender_convert_97_a_bad_release_that_is_offered_again_is_refused_without_a_download(
    box: UpdateBox, center: UpdateCenter
) -> None:
    box.health = lambda release: "firewall-not-in-force" if release == 2 else ""
    box.run()
    assert center.outcomes == [(2, "returned", "firewall-not-in-force")]
    assert box.started == [1, 2, 1]
    before = len(center.requests)
    center.order = UpdateOrder(8, 2)
    box.run(until=lambda: center.outcomes[-1][1] == "refused")
    assert center.outcomes[-1] == (2, "refused", "failed-before")
    assert all(request.startswith("POST") for request in center.requests[before:])
    center.order = UpdateOrder(9, 3)
    box.run(until=lambda: center.outcomes[-1][1] == "committed" and box.phase is UpdatePhase.IDLE)
    assert box.release_in(box.boot()) == 3


def test_ostree_3392_a_crash_after_the_commit_starts_the_new_release(
    box: UpdateBox, center: UpdateCenter
) -> None:
    box.run(until=lambda: box.state.committed == "b")
    box.switch_on()
    box.run()
    assert box.started == [1, 2, 2] and center.outcomes == [(2, "committed", "")]


@pytest.mark.slow("an update for each call of the program")
def test_sysupdate_41288_a_program_that_is_killed_at_any_step_continues(center: UpdateCenter) -> None:
    uninterrupted = UpdateBox(center)
    uninterrupted.run()
    assert uninterrupted.calls > 50
    for call in range(1, uninterrupted.calls + 1):
        center.steps.clear()
        box = UpdateBox(center)
        box.kill_at = call
        box.run()
        assert center.outcomes == [(2, "committed", "")], f"killed at call {call}"
        assert (box.release_in("a"), box.state.committed) == (1, "b")


def test_aktualizr_1548_metadata_that_expires_before_the_restart_does_not_stop_it(
    box: UpdateBox, center: UpdateCenter
) -> None:
    begins = int((NOW + timedelta(days=90)).timestamp())  # a timestamp is valid for 30 days
    center.order = UpdateOrder(7, 2, restart_times=((begins, begins + 3600),))
    box.run(until=lambda: box.phase is UpdatePhase.READY)
    box.now_s = begins - 60
    box.switch_on()
    box.run()
    assert center.outcomes == [(2, "committed", "")]


def test_rust_tuf_49_a_box_that_was_off_for_years_follows_three_new_roots(
    box: UpdateBox, center: UpdateCenter
) -> None:
    center.rotate_roots(3, NOW + timedelta(days=730))
    box.now_s = (NOW + timedelta(days=731)).timestamp()
    box.run()
    assert center.outcomes == [(2, "committed", "")]


def test_rauc_781_an_expired_root_is_replaced_by_a_valid_one(box: UpdateBox, center: UpdateCenter) -> None:
    late = NOW + timedelta(days=6 * 365)  # a root is valid for five years
    center.rotate_roots(1, late)
    box.now_s = late.timestamp()
    box.run()
    assert center.outcomes == [(2, "committed", "")]


def test_mcuboot_1966_a_write_torn_in_the_last_sector_is_written_again(center: UpdateCenter) -> None:
    operations = operations_of(UpdateBox(center))[2]
    for operation in range(operations - 3, operations + 1):
        for seed in range(4):
            center.steps.clear()
            box = UpdateBox(center, seed)
            box.slots["b"].backend.tear_within_sectors(32)
            box.cut_power_at(2, operation, "inside")
            box.run()
            assert center.outcomes == [(2, "committed", "")] and box.content("b") == slot_content(2)


def test_ostree_1648_a_full_disk_refuses_the_order_before_the_download(
    box: UpdateBox, center: UpdateCenter
) -> None:
    box.run(until=lambda: box.phase is UpdatePhase.METADATA)
    box.at_start = lambda: box.disk.backend.set_capacity(box.disk.backend.used_bytes + 8 * 1024)
    box.run()
    assert center.outcomes == [(2, "refused", "no-room")]
    assert not delta_requests(center)
    box.at_start = lambda: box.disk.backend.set_capacity(1024 * 1024)
    center.order = UpdateOrder(8, 2)
    box.run(until=lambda: center.outcomes[-1] == (2, "committed", ""))


def test_mender_convert_231_a_running_slot_that_was_written_is_repaired_by_ranges(
    box: UpdateBox, center: UpdateCenter
) -> None:
    box.run(
        until=lambda: box.phase is UpdatePhase.METADATA
    )  # the metadata with the expected content is known
    box.slots["a"].backend.flip_bits(3 * 4096)
    damaged, box.damaged = box.content("a"), {"a": 1}
    box.run()
    assert center.outcomes == [(2, "committed", "")]
    assert box.content("b") == slot_content(2) and box.content("a") == damaged
    assert "update: 1 MiB of the running slot are damaged; they were fetched" in box.messages


def test_a_trial_that_never_becomes_healthy_ends_in_time(box: UpdateBox, center: UpdateCenter) -> None:
    box.health = lambda release: "ports-not-served" if release == 2 else ""
    box.run(seconds=TRIAL_SECONDS_MAX + 600)
    assert center.outcomes == [(2, "returned", "ports-not-served")]
