"""The plan of a rollout: the boxes, the waves, the local times of restarts, and the conditions that stop it.

release = 12                        # the number of the release
place = "country/DE"                # optional: default: "everywhere"; or "site/…", "region/…"
models = ["chemistry-analyzer"]     # optional: only boxes with an instrument of these models
boxes = ["RAP-0001"]                # optional: only these boxes
waves = [1, 10, 50, 100]            # optional: percent of the boxes, in total; the last is 100
observe_hours = 24                  # optional: the time after the last box of a wave, before the next wave
answer_hours = 72                   # optional: a box that has not reported the end by then has failed
failures_percent = 5                # optional: stop if more of a wave's boxes fail; 0: at the first failure
failures_max = 20                   # optional: stop if more boxes fail in total
may_fetch_slot = false              # optional: whether a box may fetch a whole slot if no delta fits
not_before = 2026-12-01T06:00:00Z   # optional: no box gets an order earlier

[restart]                           # optional: when boxes restart, by the time zone of their site; default: any time
begins = "22:00"
ends = "04:00"                      # of the next day, if it is not later than `begins`
days = ["mon", "tue", "wed", "thu"] # optional: on which it begins; default: on all
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Final, Literal, TypeAlias
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Meta

from datacenter.access.vocabulary import EVERYWHERE
from settings.profile import Model
from settings.types import Serial, Table
from wire.release.messages import RESTART_TIMES_MAX

Day: TypeAlias = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: Final[tuple[Day, ...]] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
ClockTime: TypeAlias = Annotated[str, Meta(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]\Z", examples=["22:00"])]
Percent: TypeAlias = Annotated[int, Meta(ge=1, le=100)]
RESTART_DAYS: Final = 14
"""Period for which a box receives restart times in advance."""
assert RESTART_DAYS + 2 <= RESTART_TIMES_MAX
HOUR_MS: Final = 3_600_000
BOXES_MAX: Final = 10_000


class Restart(Table, frozen=True):
    """The local time in which boxes restart, on these days."""

    begins: ClockTime
    ends: ClockTime
    days: Annotated[tuple[Day, ...], Meta(min_length=1, max_length=7)] = DAYS

    def times(self, zone: ZoneInfo, from_s: int) -> tuple[tuple[int, int], ...]:
        """Return the beginnings and ends of the windows that are not over at `from_s`, in seconds since 1970."""
        begins, ends = time.fromisoformat(self.begins), time.fromisoformat(self.ends)
        today = datetime.fromtimestamp(from_s, zone).date()
        windows = []
        for ahead in range(-1, RESTART_DAYS + 1):
            day = today + timedelta(days=ahead)
            if DAYS[day.weekday()] not in self.days:
                continue
            end_day = day if ends > begins else day + timedelta(days=1)
            pair = _seconds(day, begins, zone), _seconds(end_day, ends, zone)
            if from_s < pair[1] and pair[0] < pair[1]:  # a window in the hour that summer time skips is empty
                windows.append(pair)
        return tuple(windows)

    @property
    def hours_apart(self) -> int:
        """The hours within which at least one window begins and ends, from any moment on."""
        numbers = sorted(DAYS.index(day) for day in set(self.days))
        gaps = [
            later - earlier for earlier, later in zip(numbers, [*numbers[1:], numbers[0] + 7], strict=True)
        ]
        return 24 * max(gaps) + 24


class RolloutPlan(Table, frozen=True):
    """The plan; see the example above."""

    release: Annotated[int, Meta(ge=1, le=2**53 - 1)]
    place: Annotated[
        str, Meta(pattern=r"^(everywhere|(site|country|region)/\S.{0,63})\Z", examples=["country/DE"])
    ] = EVERYWHERE
    models: Annotated[tuple[Model, ...], Meta(max_length=100)] = ()
    boxes: Annotated[tuple[Serial, ...], Meta(max_length=BOXES_MAX)] = ()
    waves: Annotated[tuple[Percent, ...], Meta(min_length=1, max_length=20)] = (1, 10, 50, 100)
    observe_hours: Annotated[int, Meta(ge=0, le=30 * 24)] = 24
    answer_hours: Annotated[int, Meta(ge=1, le=90 * 24)] = 72
    failures_percent: Annotated[int, Meta(ge=0, le=100)] = 5
    failures_max: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None
    may_fetch_slot: bool = False
    not_before: datetime | None = None
    restart: Restart | None = None

    def __post_init__(self) -> None:
        """Raise ValueError for waves that do not rise to 100, and for times that do not fit together."""
        if self.waves != tuple(sorted(set(self.waves))) or self.waves[-1] != 100:
            raise ValueError(
                "waves: give rising percentages of which the last is 100, such as [1, 10, 50, 100]"
            )
        if self.not_before is not None and self.not_before.tzinfo is None:
            raise ValueError("not_before: give a time with its zone, such as 2026-12-01T06:00:00Z")
        if self.restart is not None and self.answer_hours < self.restart.hours_apart:
            raise ValueError(
                f"answer_hours: {self.answer_hours} may be over before a time to restart has come; give at least"
                f" {self.restart.hours_apart}"
            )

    @property
    def not_before_ms(self) -> int:
        """The earliest time of orders, in ms since 1970; 0 if there is none."""
        return 0 if self.not_before is None else round(self.not_before.timestamp() * 1000)

    @property
    def answer_ms(self) -> int:
        """The time within which a box must report the end, in ms."""
        return self.answer_hours * HOUR_MS

    @property
    def observe_ms(self) -> int:
        """The time of observation, in ms."""
        return self.observe_hours * HOUR_MS

    def wave_sizes(self, boxes: int) -> list[int]:
        """Return the number of boxes in each wave, from the total number; the cumulative numbers are rounded up."""
        ends = [-(-boxes * percent // 100) for percent in self.waves]
        return [end - begin for begin, end in zip([0, *ends], ends, strict=False)]


def encode_plan(plan: RolloutPlan) -> str:
    """Return a plan as JSON."""
    return msgspec.json.encode(plan).decode()


def decode_plan(text: str) -> RolloutPlan:
    """Return the plan of a stored rollout."""
    return msgspec.json.decode(text, type=RolloutPlan)


def _seconds(day: date, clock: time, zone: ZoneInfo) -> int:
    return round(datetime.combine(day, clock, zone).astimezone(UTC).timestamp())
