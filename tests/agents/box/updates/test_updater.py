"""Updates of an emulated box, from the order to the outcome."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.agents.update_box import UpdateBox, UpdateCenter, slot_content, update_center
from wire.release.messages import UpdateOrder


@pytest.fixture
def center(tmp_path: Path) -> UpdateCenter:
    return update_center(tmp_path, (1, 2), (2, 3))


def test_a_release_is_fetched_applied_tried_and_committed(center: UpdateCenter) -> None:
    box = UpdateBox(center)
    center.order = UpdateOrder(7, 2)
    box.run()
    assert [step for _, step, _ in center.steps] == [
        "accepted",
        "fetched",
        "applied",
        "restarting",
        "committed",
    ]
    assert box.state.committed == "b" and box.state.trial is None
    assert box.content("b") == slot_content(2) and box.content("a") == slot_content(1)
    assert box.started == [1, 2]
    assert box.updater is not None and box.updater.status.release == 2
