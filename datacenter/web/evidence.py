"""The recomputed evidence of an alert for its page: a table of moments, and the data of charts."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, pairwise
from typing import Any, Final, NamedTuple

from msgspec import Struct

from datacenter.evaluation.alerts import AlertEvidence
from datacenter.evaluation.triggerset import TriggerSet
from datacenter.explanation.evidence import UnexplainedError, evidence_of, read_record, trigger_of
from datacenter.explanation.replay import Moment, Recomputation, evidence_span_ms, recompute
from datacenter.explanation.sides import ComparedSides, compared_sides
from datacenter.fleet.readings import SILENCE_MS_MIN
from datacenter.store.store import Store
from datacenter.web.rendering import scale_of
from settings.profile import load_profile

POINTS: Final = 600
"""The number of moments at equal distances that a chart has before the beginning of an alert."""
GAP_STEPS: Final = 3
"""The longest span without reports across which a chart draws a line, in steps between moments."""
LINES: Final = (("reading", "--muted"), ("value", "--series"), ("threshold", "--band"))


class EvidenceData(Struct, frozen=True):
    """Columns for charts, as in `datacenter.fleet.readings.ChartData`; a span can also be `evidence` or `held`."""

    since_ms: int
    until_ms: int
    times: list[int]
    channels: dict[str, list[float | None]]
    spans: list[tuple[int, int, str]]
    reduced: bool = False


NO_DATA: Final = EvidenceData(0, 0, [], {}, [])
"""The evidence of an alert that cannot be recomputed, whose page has no charts."""


class EvidenceTable(NamedTuple):
    """The comparisons of a condition, and their sides at some moments."""

    condition: str
    lasts: str
    until: str
    held_since_ms: int | None
    charts: list[dict[str, Any]]
    columns: list[str]
    rows: list[tuple[int, str, list[str]]]
    """Time, event, and a text for each column."""
    differences: list[str]
    reports: int


def load_evidence(store: Store, alert: str, count: int) -> Recomputation | None:
    """Recompute an alert of a condition; return None for an alert of silence.

    First, only the reports in the span of its evidence are evaluated, which is faster. Averages without a window can
    then differ a little; therefore all reports are evaluated if this does not confirm the alert.

    Raises: StoreError; UnexplainedError.
    """
    record = read_record(store, alert)
    assert record is not None, "the route has found the alert"
    evidence = evidence_of(record)
    if not isinstance(evidence, AlertEvidence):
        return None
    if evidence.until is None:
        raise UnexplainedError(
            "an earlier version of the program raised it, and did not store the text of its trigger"
        )
    trigger = trigger_of(record, evidence, TriggerSet([]))
    recomputed = recompute(store, record, evidence, trigger, is_whole=False, count=count)
    return recomputed if recomputed.is_confirmed else recompute(store, record, evidence, trigger, count=count)


def make_table(recomputed: Recomputation) -> EvidenceTable:
    """Return the table of a recomputation, and the list of its charts."""
    table = recomputed.trigger.table
    compared = compared_sides(recomputed.trigger)
    columns = [
        side.text for sides in compared for side in (sides.value, sides.threshold) if side.sum.coefficients
    ]
    rows = [
        (one.at_ms, one.event or ("the condition holds" if one.holds else ""), list(_cells(compared, one)))
        for one in recomputed.moments
    ]
    return EvidenceTable(
        " ".join(table.when.split()),
        table.lasts,
        " ".join(table.until.split()),
        recomputed.holds_since_ms,
        [_chart(number, sides, table.model) for number, sides in enumerate(compared)],
        columns,
        rows,
        recomputed.differences,
        len(recomputed.reports),
    )


def make_data(recomputed: Recomputation, now_ms: int) -> EvidenceData:
    """Return the columns of the charts of a recomputation, with the spans to shade: gaps, evidence and `lasts`."""
    span_ms = evidence_span_ms(recomputed.trigger)
    key, began_ms = recomputed.began or (None, 0)
    assert key is not None, "the alert was found again"
    since_ms = began_ms - span_ms
    moments = [one for one in recomputed.moments if one.at_ms >= since_ms - span_ms // 10]
    until_ms = min(now_ms, max(moments[-1].at_ms, began_ms + span_ms // 20))
    step_ms = max(GAP_STEPS * span_ms // POINTS, SILENCE_MS_MIN * GAP_STEPS)
    breaks = [
        (before.at_ms, after.at_ms)
        for before, after in pairwise(moments)
        if after.at_ms - before.at_ms > step_ms
    ]
    points = list(_with_breaks(moments, {first for first, _ in breaks}))
    channels: dict[str, list[float | None]] = {}
    for number, one in enumerate(compared_sides(recomputed.trigger)):
        channels[f"value-{number}"] = [m and one.value.value(m.values) for m in points]
        channels[f"threshold-{number}"] = [m and one.threshold.value(m.values) for m in points]
        if one.is_smoothed:
            channels[f"reading-{number}"] = [m and m.readings.get(one.channel) for m in points]
    held_ms = recomputed.holds_since_ms or began_ms
    return EvidenceData(
        max(0, since_ms - span_ms // 20),
        until_ms,
        _times(points),
        channels,
        [
            *((first, last, "silent") for first, last in breaks),
            (since_ms, began_ms, "evidence"),
            (held_ms, began_ms, "held"),
        ],
    )


def _with_breaks(moments: list[Moment], firsts: set[int]) -> Iterator[Moment | None]:
    """Return the moments, with None after each whose time is in `firsts`."""
    return chain.from_iterable((one, None) if one.at_ms in firsts else (one,) for one in moments)


def _times(points: list[Moment | None]) -> list[int]:
    """Return the times of points; a break has the time of the point before it."""
    times: list[int] = []
    for one in points:
        times.append(one.at_ms if one else times[-1])
    return times


def _chart(number: int, sides: ComparedSides, model: str) -> dict[str, Any]:
    """Return the content of a chart: title, unit, factor, and lines."""
    channel = load_profile(model).channels.get(sides.channel)
    factor, unit = scale_of(channel)
    shown = [
        {"channel": f"{kind}-{number}", "label": kind, "color": color}
        for kind, color in LINES
        if kind != "reading" or sides.is_smoothed
    ]
    title = f"{sides.value.text} {sides.sign} {sides.threshold.text}"
    return {"title": title, "unit": unit, "factor": factor, "lines": shown}


def _cells(compared: list[ComparedSides], moment: Moment) -> Iterator[str]:
    for sides in compared:
        for side in (sides.value, sides.threshold):
            if side.sum.coefficients:
                value = side.value(moment.values)
                yield "unknown" if value is None else f"{value:,.6g}".replace(",", "\u202f")
