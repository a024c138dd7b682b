"""Orders that a box must refuse: no slot is changed, the reason is reported, and the next valid order is followed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from imaging.release.delta_file import block_delta
from tests.support.agents.update_box import UpdateBox, UpdateCenter, slot_content, update_center
from tests.support.imaging.releases import NOW
from wire.http.connection import Response
from wire.release.messages import UpdateOrder


@pytest.fixture
def center(tmp_path: Path) -> UpdateCenter:
    center = update_center(tmp_path, (1, 2))
    center.order = UpdateOrder(7, 2)
    return center


def tampered(center: UpdateCenter, folder: Path) -> None:
    center.metadata["targets.json"] = center.metadata["targets.json"].replace(b"1.2.0", b"1.3.0")


def truncated(center: UpdateCenter, folder: Path) -> None:
    center.metadata["targets.json"] = center.metadata["targets.json"][:-100]


def oversized(center: UpdateCenter, folder: Path) -> None:
    center.metadata["timestamp.json"] = center.metadata["timestamp.json"].ljust(100_000)


def endless(center: UpdateCenter, folder: Path) -> None:
    """Every requested range of the snapshot is full, so that the file never ends."""
    center.change = lambda request, response: (
        Response(200, b" " * 2048) if "snapshot.json" in request.target else response
    )


def foreign(center: UpdateCenter, folder: Path) -> None:
    """All metadata are signed with other keys."""
    (other := folder / "other").mkdir()
    center.metadata = update_center(other, (1, 2)).metadata


def mixed(center: UpdateCenter, folder: Path) -> None:
    """The targets are older than the snapshot."""
    before = center.metadata["targets.json"]
    center.rotate_roots(0, NOW)
    center.metadata["targets.json"] = before


def missing(center: UpdateCenter, folder: Path) -> None:
    del center.metadata["timestamp.json"]


def signed_badly(center: UpdateCenter, folder: Path) -> None:
    content = json.loads(center.metadata["timestamp.json"])
    content["signatures"][0]["sig"] = "00"
    center.metadata["timestamp.json"] = json.dumps(content).encode()


CASES = (tampered, truncated, oversized, endless, foreign, mixed, missing, signed_badly)


@pytest.mark.parametrize("spoil", CASES, ids=lambda case: case.__name__)
def test_bad_metadata_is_refused_before_any_slot_is_changed(
    center: UpdateCenter, tmp_path: Path, spoil: Callable[[UpdateCenter, Path], None]
) -> None:
    spoil(center, tmp_path)
    box = UpdateBox(center)
    slots, state = [box.content(slot) for slot in box.slots], box.state
    box.run()
    assert center.outcomes == [(2, "refused", "metadata-refused")]
    assert [box.content(slot) for slot in box.slots] == slots and box.state == state
    assert not [request for request in center.requests if "/files/" in request]
    center.load()
    center.order = UpdateOrder(8, 2)
    center.change = lambda _request, response: response
    box.run(until=lambda: center.outcomes[-1] == (2, "committed", ""))


def test_metadata_is_not_replaced_by_older_one(center: UpdateCenter, tmp_path: Path) -> None:
    old = dict(center.metadata)
    center.rotate_roots(0, NOW)  # signs all metadata again
    box = UpdateBox(center)
    box.run()
    assert center.outcomes == [(2, "committed", "")]
    center.metadata, center.order = old, UpdateOrder(8, 3)
    box.run(until=lambda: len(center.outcomes) == 2)
    assert center.outcomes[-1] == (3, "refused", "metadata-refused")


def test_expired_metadata_is_refused_also_with_a_dead_clock(center: UpdateCenter) -> None:
    box = UpdateBox(center)
    box.now_s = 0.0
    box.floor_s = NOW.timestamp() + 40 * 24 * 3600  # the software was built after the timestamp expired
    box.run()
    assert center.outcomes == [(2, "refused", "metadata-refused")]


def test_a_dead_clock_does_not_prevent_an_update(center: UpdateCenter) -> None:
    box = UpdateBox(center)
    box.now_s = 0.0
    box.floor_s = NOW.timestamp()
    box.run()
    assert center.outcomes == [(2, "committed", "")]


def change_ranges(center: UpdateCenter, change: Callable[[bytes], bytes]) -> None:
    """Apply `change` to the body of each range of a target."""
    center.change = lambda request, response: (
        Response(200, change(response.body)) if "/files/" in request.target else response
    )


@pytest.mark.parametrize(
    "change",
    [lambda body: bytes(len(body)), lambda body: body[:-1] + b"?"],
    ids=["zeros", "one byte"],
)
def test_a_delta_with_another_hash_is_not_applied(
    center: UpdateCenter, change: Callable[[bytes], bytes]
) -> None:
    change_ranges(center, change)
    box = UpdateBox(center)
    before = box.content("b")
    box.run()
    assert center.outcomes == [(2, "failed", "delta-damaged")]
    assert box.content("b") == before


def test_ranges_that_are_too_long_are_not_accepted(center: UpdateCenter) -> None:
    change_ranges(center, lambda body: body + b"more")
    box = UpdateBox(center)
    with pytest.raises(AssertionError, match="nothing settled"):
        box.run(seconds=3600)
    assert box.content("b") == slot_content(1)


@pytest.mark.parametrize("cut", [1, 100, 5000])
def test_a_signed_delta_that_is_truncated_is_not_applied(tmp_path: Path, cut: int) -> None:
    center = update_center(tmp_path, (1, 2), change_delta=lambda delta: delta[:-cut])
    center.order = UpdateOrder(7, 2)
    box = UpdateBox(center)
    box.run()
    assert center.outcomes == [(2, "failed", "delta-damaged")]
    assert set(box.started) == {1} and box.state.committed == "a"


def test_a_signed_delta_to_another_slot_is_not_applied(tmp_path: Path) -> None:
    center = update_center(
        tmp_path, (1, 2), change_delta=lambda _: block_delta(slot_content(1), slot_content(3))
    )
    center.order = UpdateOrder(7, 2)
    box = UpdateBox(center)
    before = box.content("b")
    box.run()
    assert center.outcomes == [(2, "failed", "delta-damaged")] and box.content("b") == before


def test_releases_below_the_floor_are_refused(tmp_path: Path) -> None:
    center = update_center(tmp_path, (1, 3), (3, 2), floor=3)
    center.order = UpdateOrder(7, 3)
    box = UpdateBox(center)
    box.run()
    center.order = UpdateOrder(8, 2)
    box.run(until=lambda: len(center.outcomes) == 2)
    assert center.outcomes == [(3, "committed", ""), (2, "refused", "below-floor")]


def test_an_order_that_is_withdrawn_ends_before_the_slot_state_is_written(center: UpdateCenter) -> None:
    box = UpdateBox(center)
    box.may_restart = lambda: False
    box.run(until=lambda: "applied" in [step for _, step, _ in center.steps])
    center.order = UpdateOrder(0)
    box.may_restart = lambda: True
    box.run()
    assert center.outcomes == [(2, "failed", "withdrawn")]
    assert box.state.trial is None and set(box.started) == {1}


def test_a_box_restarts_only_in_the_times_of_the_order_and_without_a_session(center: UpdateCenter) -> None:
    box = UpdateBox(center)
    begins = int(box.now_s) + 7200
    center.order = UpdateOrder(7, 2, restart_times=((begins, begins + 3600),))
    is_free = False
    box.may_restart = lambda: is_free
    with pytest.raises(AssertionError, match="nothing settled"):
        box.run(seconds=7800)
    assert box.started == [1]
    is_free = True
    box.run()
    assert center.outcomes == [(2, "committed", "")]


def test_an_order_for_the_running_release_changes_nothing(center: UpdateCenter) -> None:
    box = UpdateBox(center)
    box.run()
    starts, center.order = len(box.started), UpdateOrder(8, 2)
    box.run(until=lambda: len([step for _, step, _ in center.steps if step == "committed"]) == 2)
    assert len(box.started) == starts + 1  # by this test
