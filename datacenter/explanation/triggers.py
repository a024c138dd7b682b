"""The triggers that a member of the staff may see, with their scores and open alerts, and those that are not live.

Triggers have no location. Policies decide about one as if it were at an instrument of its model that the
person may see, and about the silence of boxes and sites as if it were at such a box.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias

from sqlalchemy import func, literal, select

from datacenter.access.request import Resource
from datacenter.evaluation.knowledge import TriggerKnowledge
from datacenter.fleet.visible import PLACED_BOXES, Visibility
from datacenter.scoring.scorefile import RecordedScore, ScoreFile, read_scores, trigger_files, unscored
from datacenter.store.store import Store
from datacenter.store.tables.schema import alerts, boxes, instruments, sites
from datacenter.triggers.silencefile import SilenceTrigger, is_silence, read_silence
from datacenter.triggers.triggerfile import Trigger, parse_trigger
from settings.problems import SettingsError
from settings.profile import Severity
from settings.toml import read_text

TriggerState: TypeAlias = Literal["live", "without score", "scored", "not valid"]
STATE_TEXTS: Final[dict[TriggerState, str]] = {
    "live": "evaluated with every report",
    "without score": "not live, because this text has no score: run `rap trigger test` with `--write`",
    "scored": "not live until the data center is started again",
    "not valid": "not live, because the file is not valid",
}


class TriggerRow(NamedTuple):
    """A trigger; `score` is None for silence triggers, which predict nothing, and for those without a score."""

    name: str
    state: TriggerState
    model: str
    """Empty for the silence of boxes and sites."""
    severity: Severity | None = None
    component: str = ""
    text: str = ""
    condition: str = ""
    lasts: str = ""
    until: str = ""
    parts: tuple[str, ...] = ()
    fingerprint: str = ""
    source: str = ""
    """The text of its file."""
    is_silence: bool = False
    score: RecordedScore | None = None
    open_alerts: int = 0
    problem: str = ""


def list_triggers(store: Store, visible: Visibility, known: TriggerKnowledge) -> list[TriggerRow]:
    """Return the triggers that may be seen, by model and name; with the files in the folder that are not live.

    Raises: StoreError.
    """
    locations, counts = _locations(store, visible), _open_alerts(store, visible)
    live = {
        trigger.name: _row(trigger, "live", known.texts, known.scores) for trigger in known.triggers.all()
    }
    rows = [
        *(row._replace(open_alerts=counts.get(row.name, 0)) for row in live.values()),
        *_not_live(known, live),
    ]
    seen = (
        row for row in rows if visible.decide("view", _resource(row.name, row.model, locations)).permitted
    )
    return sorted(seen, key=lambda row: (row.model, row.name, row.state != "live"))


def find_trigger(store: Store, visible: Visibility, known: TriggerKnowledge, name: str) -> Resource | None:
    """Return the resource of a live trigger, or of a file in the folder; None if there is none.

    Raises: StoreError.
    """
    row = next(_rows_of(known, name), None)
    return None if row is None else _resource(name, row.model, _locations(store, visible))


def read_trigger_rows(
    store: Store, visible: Visibility, known: TriggerKnowledge, name: str
) -> list[TriggerRow]:
    """Return a trigger that may be seen: if it is live its row, and if its file has another text, that of the file.

    Raises: StoreError.
    """
    count = _open_alerts(store, visible, name).get(name, 0)
    return [row._replace(open_alerts=count) if row.state == "live" else row for row in _rows_of(known, name)]


def _rows_of(known: TriggerKnowledge, name: str) -> Iterator[TriggerRow]:
    live = {
        trigger.name: _row(trigger, "live", known.texts, known.scores)
        for trigger in known.triggers.all()
        if trigger.name == name
    }
    yield from live.values()
    yield from _not_live(known, live, name)


def _resource(name: str, model: str, locations: Mapping[str, tuple[str, str, str]]) -> Resource:
    return Resource("Trigger", name, *locations.get(model, ("", "", "")), model=model)


def _locations(store: Store, visible: Visibility) -> dict[str, tuple[str, str, str]]:
    """Return a site, country and region by model where an instrument may be seen; for "" where a box may."""
    of_instruments = instruments.join(PLACED_BOXES, instruments.c.box == boxes.c.serial)
    location = (func.min(boxes.c.site), sites.c.country, sites.c.region)
    grouped = (sites.c.country, sites.c.region)
    models = (
        select(instruments.c.model, *location)
        .select_from(of_instruments)
        .where(visible.where("Instrument"), instruments.c.model.is_not(None))
        .group_by(instruments.c.model, *grouped)
    )
    of_boxes = (
        select(literal(""), *location)
        .select_from(PLACED_BOXES)
        .where(visible.where("Box"))
        .group_by(*grouped)
    )
    rows = [*store.read(models), *store.read(of_boxes)]
    return {model: (site or "", country or "", region or "") for model, site, country, region in rows}


def _open_alerts(store: Store, visible: Visibility, name: str = "") -> dict[str, int]:
    """Return the number of open alerts of each trigger, or of one."""
    a = alerts.c
    query = (
        select(a.trigger, func.count())
        .select_from(alerts.join(PLACED_BOXES, a.box == boxes.c.serial))
        .where(visible.where("Alert"), a.ended_at_ms.is_(None))
        .group_by(a.trigger)
    )
    if name:
        query = query.where(a.trigger == name)
    return {row[0]: row[1] for row in store.read(query)}


def _not_live(known: TriggerKnowledge, live: dict[str, TriggerRow], name: str = "") -> Iterator[TriggerRow]:
    """Yield the files of the folder, or the file with a name, whose text differs from the live trigger."""
    if known.folder is None:
        return
    try:
        scores = read_scores(known.folder)
    except SettingsError:
        scores = ScoreFile()
    for file in trigger_files(known.folder):
        if name and file.stem != name:
            continue
        try:
            text = read_text(file)
            if text == known.texts.get(file.stem):
                continue
            trigger = read_silence(file) if is_silence(file) else parse_trigger(text, file)
        except SettingsError as error:
            model = live[file.stem].model if file.stem in live else ""
            yield _invalid(file, model, error)
            continue
        row = _row(trigger, "scored", {trigger.name: text}, scores)
        if isinstance(trigger, Trigger) and unscored([trigger], scores):
            row = row._replace(state="without score", score=None)
        yield row


def _row(
    trigger: Trigger | SilenceTrigger, state: TriggerState, texts: Mapping[str, str], scores: ScoreFile
) -> TriggerRow:
    if isinstance(trigger, SilenceTrigger):
        return TriggerRow(
            name=trigger.name,
            state=state,
            model=trigger.table.model,
            severity=trigger.table.severity,
            component="",
            text=trigger.table.text,
            condition=f"nothing received from the {trigger.table.of} for {trigger.table.silence}",
            fingerprint=trigger.fingerprint,
            source=texts.get(trigger.name, ""),
            is_silence=True,
        )
    return TriggerRow(
        name=trigger.name,
        state=state,
        model=trigger.table.model,
        severity=trigger.table.severity,
        component=trigger.table.component,
        text=trigger.table.text,
        condition=" ".join(trigger.table.when.split()),
        lasts=trigger.table.lasts,
        until=" ".join(trigger.table.until.split()),
        parts=tuple(trigger.table.parts),
        fingerprint=trigger.fingerprint,
        source=texts.get(trigger.name, ""),
        score=scores.triggers.get(trigger.name),
    )


def _invalid(file: Path, model: str, error: SettingsError) -> TriggerRow:
    """Return a file that is not valid; its model is known only from an earlier version."""
    problems = "; ".join(
        f"{problem.key}: {problem.message}" if problem.key else problem.message for problem in error.problems
    )
    return TriggerRow(name=file.stem, state="not valid", model=model, problem=problems)
