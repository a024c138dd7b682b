"""The power is cut while an instrument that speaks its own standard reports.

Each report is stored once, also those of a Beckman AU record, which has no time.
"""

from __future__ import annotations

import pytest

from agents.box.state import BoxState
from hal.emul.disk import EmulDisk
from sim.conversations.casefile import Conversation
from tests.support.sim.conversation_cuts import CASES, CutConversation, wrong_after

(CASE,) = (case for case in CASES if case.name == "hl7-status-with-offset")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_power_cut_at_every_operation_loses_no_acknowledged_report(case: Conversation) -> None:
    clean = CutConversation(case).run()
    assert clean.operations > 2 and clean.lives == 1
    assert len(clean.stored) == len(case.reports)
    for operation in range(1, clean.operations + 1):
        assert wrong_after(clean, CutConversation(case, [operation], operation).run()) == []


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_second_power_cut_after_the_first_loses_no_acknowledged_report(case: Conversation) -> None:
    clean = CutConversation(case).run()
    for operation in range(1, clean.operations + 1):
        cut = CutConversation(case, [operation, 1 + operation % 4], operation).run()
        assert wrong_after(clean, cut) == []


def found(clean: CutConversation) -> list[str]:
    cuts = range(1, clean.operations + 1)
    return [p for cut in cuts for p in wrong_after(clean, CutConversation(CASE, [cut], cut).run())]


def test_a_flush_without_effect_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    clean = CutConversation(CASE).run()
    monkeypatch.setattr(EmulDisk, "flush", lambda _disk, _name: None)
    assert any("lost" in problem for problem in found(clean))


def test_a_box_that_forgets_what_it_stored_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    clean = CutConversation(CASE).run()
    monkeypatch.setattr(BoxState, "restore", lambda *_: None)
    assert any("twice" in problem for problem in found(clean))
