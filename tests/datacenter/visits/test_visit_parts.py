"""The spare parts for a visit, from alerts with their probability, and from readings near a threshold."""

from __future__ import annotations

import msgspec
import pytest
from sqlalchemy import insert

from datacenter.evaluation.evaluator import Evaluator
from datacenter.evaluation.knowledge import TriggerKnowledge
from datacenter.evaluation.triggerset import TriggerSet
from datacenter.fleet.visible import Visibility
from datacenter.scoring.matching import AlertStart, TrueDegradation
from datacenter.scoring.outcome import InstrumentOutcome
from datacenter.scoring.scorefile import RecordedScore, ScoreFile
from datacenter.scoring.tally import YEAR_MS
from datacenter.scoring.visits import score_visits
from datacenter.store.store import Store
from datacenter.store.tables.schema import boxes, sites
from datacenter.triggers.triggerfile import Trigger, make_trigger
from datacenter.visits.parts import PartReason, VisitPart, combine, totals
from datacenter.visits.read import visit_parts
from tests.support.datacenter.evaluation.arrivals import BOX, SERIAL, batch, numbered, profile, status
from tests.support.datacenter.evaluation.triggers import MODEL, trigger
from tests.support.datacenter.store.batches import AT_MS
from tests.support.datacenter.web.client import POLICIES, STAFF
from wire.messages import BoxReport, InstrumentReport

DAY_MS = 86_400_000


def naming(when: str, name: str, *parts: str) -> Trigger:
    return make_trigger(name, msgspec.structs.replace(trigger(when).table, parts=list(parts)))


LAMP = naming("lamp-intensity-pct < 70", "lamp", "Halogen lamp")


def reason(
    part: str, instrument: str = SERIAL, alert: str = "a", probability: float | None = 0.5
) -> PartReason:
    return PartReason(BOX, instrument, "lamp", part, "t", alert, probability)


def test_reasons_for_one_part_are_combined_and_the_most_probable_is_first() -> None:
    parts = combine(
        [
            reason("Fan", probability=0.6),
            reason("Lamp"),
            reason("Lamp", alert="b"),
            reason("Seal", probability=None),
        ]
    )
    assert [(one.part, one.probability) for one in parts] == [("Lamp", 0.75), ("Fan", 0.6), ("Seal", None)]
    assert [each.alert for each in parts[0].reasons] == ["a", "b"]


def test_a_part_that_is_due_soon_is_last_and_not_counted() -> None:
    parts = combine([reason("Fan", alert="", probability=None), reason("Lamp"), reason("Lamp", "CHEM-0002")])
    assert [one.is_due_soon for one in parts] == [False, False, True]
    assert totals(parts) == [("Lamp", 2, 1.0)]


def test_the_list_of_an_instrument_has_alerts_and_readings_near_a_threshold(store: Store) -> None:
    triggers = TriggerSet([LAMP, naming("water-conductivity-ns > 50", "water", "Halogen lamp")])
    score = RecordedScore(
        1.0, precision=0.8, parts_right=0.5, fingerprint=LAMP.fingerprint, history="simulated"
    )
    known = TriggerKnowledge(triggers, ScoreFile(triggers={"lamp": score}))
    with store.transaction() as connection:
        values = {"site": "s1", "name": "S", "country": "DE", "region": "europe", "zone": "UTC"}
        connection.execute(insert(sites).values(values))
        connection.execute(boxes.update().where(boxes.c.serial == BOX).values(site="s1"))
    visible = Visibility(POLICIES, STAFF.people["engineer"].principal, AT_MS)

    def after(*records: tuple[int, InstrumentReport | BoxReport]) -> list[VisitPart]:
        store.ingest(BOX, batch(records), AT_MS)
        Evaluator(store, triggers).advance(BOX, AT_MS)
        return visit_parts(store, visible, known, "s1")

    assert after(*numbered(profile(), status(1, water=30))) == []
    (near,) = after((3, status(2, water=40)))
    assert (near.is_due_soon, near.probability, near.reasons[0].share) == (True, None, 0.8)
    after((4, status(3, lamp=60)))
    (lamp,) = visit_parts(store, visible, known, "", BOX, SERIAL)
    assert (lamp.part, lamp.is_due_soon) == ("Halogen lamp", False)
    assert lamp.probability == pytest.approx(0.4)
    nobody = Visibility(POLICIES, STAFF.people["newcomer"].principal, AT_MS)
    assert visit_parts(store, nobody, known, "s1") == []


def scored(
    alarms: dict[str, list[int]], *worn: TrueDegradation
) -> tuple[int, int, float | None, float | None]:
    """Return visits, parts, precision and completeness for alerts that begin on these days, by trigger."""
    raised = [AlertStart(name, day * DAY_MS) for name, days in alarms.items() for day in days]
    result = InstrumentOutcome(MODEL, YEAR_MS, 0, 0.0, raised, list(worn))
    fan = naming("lamp-intensity-pct < 60", "fan", "Fan")
    score = score_visits([LAMP, fan, naming("lamp-intensity-pct < 1", "notice")], [result])
    return score.visits, score.parts, score.precision, score.complete


def test_visits_are_scored_with_the_truth() -> None:
    lamp = TrueDegradation("lamp", "Halogen lamp", "failing", 5 * DAY_MS, None, 20 * DAY_MS)
    fan = TrueDegradation("lamp", "Fan", "stable", 5 * DAY_MS)
    assert scored({}, lamp) == (0, 0, None, None)
    assert scored({"lamp": [10], "notice": [10]}, lamp) == (1, 1, 1.0, 1.0)
    assert scored({"lamp": [10], "fan": [10]}, lamp, fan) == (1, 2, 0.5, 1.0)
    assert scored({"fan": [10]}, lamp) == (1, 1, 0.0, 0.0)
    assert scored({"lamp": [10, 30]}, lamp) == (2, 2, 0.5, 1.0)
