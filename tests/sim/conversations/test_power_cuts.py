"""Power cuts while an instrument that speaks its own standard reports.

Each report is stored once, even those of a Beckman AU record, which contains no time.
"""

from __future__ import annotations

import pytest

from agents.box.state import BoxState
from hal.emul.disk import EmulDisk
from sim.conversations.casefile import Conversation
from tests.support.sim.conversations.cuts import CASES, CutConversation, differences

(CASE,) = (case for case in CASES if case.name == "hl7-status-with-offset")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_power_cut_at_every_operation_loses_no_acknowledged_report(case: Conversation) -> None:
    clean = CutConversation(case).run()
    assert clean.operations > 2 and clean.starts == 1
    assert len(clean.stored) == len(case.reports)
    for operation in range(1, clean.operations + 1):
        assert differences(clean, CutConversation(case, [operation], operation).run()) == []


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_second_power_cut_after_the_first_loses_no_acknowledged_report(case: Conversation) -> None:
    clean = CutConversation(case).run()
    for operation in range(1, clean.operations + 1):
        cut = CutConversation(case, [operation, 1 + operation % 4], operation).run()
        assert differences(clean, cut) == []


def differences_after_each_cut(clean: CutConversation) -> list[str]:
    cuts = range(1, clean.operations + 1)
    return [p for cut in cuts for p in differences(clean, CutConversation(CASE, [cut], cut).run())]


def test_a_flush_without_effect_is_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    clean = CutConversation(CASE).run()
    monkeypatch.setattr(EmulDisk, "flush", lambda _disk, _name: None)
    assert any("lost" in problem for problem in differences_after_each_cut(clean))


def test_a_box_that_forgets_its_stored_reports_is_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    clean = CutConversation(CASE).run()
    monkeypatch.setattr(BoxState, "restore", lambda *_: None)
    assert any("twice" in problem for problem in differences_after_each_cut(clean))
