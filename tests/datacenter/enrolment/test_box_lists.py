"""The list of authorized boxes follows the database, which other processes also change."""

from __future__ import annotations

import asyncio

import pytest

from datacenter.enrolment.box_lists import AuthorizedBoxes
from datacenter.store.store import Store
from tests.support.eventually import eventually


def test_registered_and_dismissed_boxes_are_followed_without_a_restart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("datacenter.enrolment.box_lists.FOLLOW_SECONDS", 0.01)
    store = Store("sqlite://")
    store.authorize(["RAP-0001"], 0)
    boxes = AuthorizedBoxes(store)
    assert "RAP-0001" in boxes and "RAP-0007" not in boxes

    async def act() -> None:
        following = asyncio.ensure_future(boxes.follow(None))
        store.authorize_also("RAP-0007", "berlin", 0)
        await eventually(lambda: "RAP-0007" in boxes)
        store.authorize(["RAP-0007"], 1)
        await eventually(lambda: "RAP-0001" not in boxes)
        following.cancel()

    asyncio.run(act())
    store.close()
