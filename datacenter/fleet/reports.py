"""The other reports of an instrument: errors, quality control, inventory and calibrations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple, TypeVar

from sqlalchemy import and_, select

from datacenter.store.store import Store
from datacenter.store.tables.schema import records
from wire.messages import Alert, Calibration, Inventory, Quality, Report, decode

REPORTS_MAX: Final = 5000
"""Maximum number of reports of one kind on a page."""
CLOCK_AHEAD_MS: Final = 31 * 86_400_000
_R: Final = records.c
_Kind = TypeVar("_Kind", bound=Report)


class MeasuredControls(NamedTuple):
    """The controls of one assay and level, in the order of time."""

    assay: str
    level: int
    controls: list[Quality]


def list_errors(
    store: Store, box: str, instrument: str, since_ms: int, until_ms: int, limit: int = REPORTS_MAX
) -> list[Alert]:
    """Return the error reports of a period, the latest first."""
    return list(_read(store, Alert, box, instrument, since_ms, until_ms, limit))


def list_controls(
    store: Store, box: str, instrument: str, since_ms: int, until_ms: int
) -> list[MeasuredControls]:
    """Return the controls of a period by assay and level."""
    controls: dict[tuple[str, int], list[Quality]] = {}
    for control in _read(store, Quality, box, instrument, since_ms, until_ms, REPORTS_MAX):
        controls.setdefault((control.assay, control.level), []).append(control)
    return [MeasuredControls(*key, controls[key][::-1]) for key in sorted(controls)]


def list_calibrations(
    store: Store, box: str, instrument: str, since_ms: int, until_ms: int
) -> list[Calibration]:
    """Return the latest calibration of each assay in a period, by assay."""
    latest: dict[str, Calibration] = {}
    for calibration in _read(store, Calibration, box, instrument, since_ms, until_ms, REPORTS_MAX):
        latest.setdefault(calibration.assay, calibration)
    return [latest[assay] for assay in sorted(latest)]


def latest_inventory(
    store: Store, box: str, instrument: str, since_ms: int, until_ms: int
) -> Inventory | None:
    """Return the latest inventory of a period."""
    return next(_read(store, Inventory, box, instrument, since_ms, until_ms, 1), None)


def _read(
    store: Store,
    kind: type[_Kind],
    box: str,
    instrument: str,
    since_ms: int,
    until_ms: int,
    limit: int,
) -> Iterator[_Kind]:
    """Yield the reports of a kind in a period by the instrument's clock, the latest first.

    Reports whose clock was more than CLOCK_AHEAD_MS ahead are omitted; therefore only partitions that can contain
    reports of the period are read.
    """
    of_kind = and_(
        _R.stored_at_ms >= since_ms - CLOCK_AHEAD_MS,
        _R.box == box,
        _R.instrument == instrument,
        _R.at_ms >= since_ms,
        _R.at_ms < until_ms,
        _R.kind == str(kind.__struct_config__.tag),
    )
    order = (_R.at_ms.desc(), _R.run.desc(), _R.number.desc())
    for (body,) in store.of(box).read(select(_R.body).where(of_kind).order_by(*order).limit(limit)):
        yield decode(kind, body)
