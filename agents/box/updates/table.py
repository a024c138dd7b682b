"""The transition table of an update: all phases, all events, and every row that changes the phase.

`decide` is pure; `agents.box.updates.updater` makes each new phase durable and then acts on it. After a restart, the
program continues in the stored phase, so every phase can be entered again: its actions are repeated or continued.

No phase before `restarting` changes which slot the boot loader starts, and only `restarting` begins a trial by a
restart. After that, an order can no longer be withdrawn: the trial decides.

A release that differs only in the application has a trial without a restart of the machine (`application`). A data
release has the same phases until it is fetched; then its files are in force without a restart, on trial.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple

from wire.messages import UpdateWord


class UpdatePhase(StrEnum):
    """The phases of an update."""

    IDLE = "idle"
    """There is no order, or its outcome has been reported."""
    OFFERED = "offered"
    """An order has arrived, and is compared with the state of the box."""
    METADATA = "metadata"
    """The signed metadata is fetched and verified; the delta, its source slot and free space for it are
    determined."""
    FETCHING = "fetching"
    """The delta is fetched in ranges."""
    FETCHED = "fetched"
    """The delta is complete; delta and running slot are compared with their hashes."""
    APPLYING = "applying"
    """The other slot is being written. It cannot be started during this time."""
    READING_BACK = "reading back"
    """The whole other slot is read from the device and compared with its hash."""
    READY = "ready"
    """The other slot has the release; the restart waits for its time."""
    RESTARTING = "restarting"
    """The slot state is written, so that the boot loader tries the other slot, and the machine restarts."""
    TRIAL = "trial"
    """The new release runs, and checks its own health."""
    RETURNING = "returning"
    """The new release is not healthy; the machine restarts into the previous slot."""
    SWITCHING = "switching"
    """The release differs only in the application: the programs are started from the other slot, on trial."""
    APPLICATION_TRIAL = "application trial"
    """The programs of the new release run and check their health, without a restart of the machine."""
    SWITCHING_BACK = "switching back"
    """The new release is not healthy; the programs are started from the previous slot."""
    DATA_TRIAL = "data trial"
    """The files of a data release are in force, and the program checks its own health."""
    COMMITTED = "committed"
    """The new release is healthy and committed."""
    RETURNED = "returned"
    """The previous release is in use again."""
    REFUSED = "refused"
    """The order was refused before anything was fetched."""
    FAILED = "failed"
    """The update ended before the new release was in use."""


class UpdateEvent(StrEnum):
    """Events of an update."""

    ORDERED = "ordered"
    """The data center has ordered a release."""
    WITHDRAWN = "withdrawn"
    """The data center has withdrawn the order, or replaced it."""
    FITS = "fits"
    """The order does not contradict the state of the box."""
    RUNS_ALREADY = "runs already"
    """The ordered release is the one that runs."""
    ACCEPTED = "accepted"
    """The metadata contains a delta from the running slot, and there is enough free space for it."""
    ALREADY_IN_SLOT = "already in slot"
    """The other slot has the release already."""
    REFUSED = "refused"
    """The order cannot be followed."""
    DELTA_COMPLETE = "delta complete"
    """The delta is complete and has its signed hash."""
    DELTA_LOST = "delta lost"
    """The delta on the disk is missing or no longer has its verified content."""
    SOURCE_MATCHES = "source matches"
    """The running slot is the source of the delta, byte for byte."""
    FAILED = "failed"
    """The update cannot continue."""
    USABLE = "usable"
    """All files of a data release are complete, and the program can use them."""
    WRITTEN = "written"
    """The other slot is written and flushed."""
    EQUAL = "equal"
    """The other slot was read back and has the signed hash."""
    DIFFERS = "differs"
    """The other slot was read back, and its hash is wrong."""
    TIME_TO_RESTART = "time to restart"
    """The time of the order has come, and nothing at the box forbids the restart."""
    TIME_TO_SWITCH = "time to switch"
    """As TIME_TO_RESTART, and the machine need not restart."""
    CANNOT_SWITCH = "cannot switch"
    """The machine does not start the programs from the other slot; it must restart."""
    NOT_BEGUN = "not begun"
    """The program starts, and the slot state has no trial although one should have begun."""
    NOT_RESTARTED = "not restarted"
    """The program starts, but the machine has not restarted since the trial began."""
    STARTED_NEW = "started new"
    """The machine, or its programs, have started from the slot on trial."""
    STARTED_OLD = "started old"
    """The machine, or its programs, have started from the previous slot."""
    HEALTHY = "healthy"
    """The new release has been healthy for long enough, and the slot state commits it."""
    UNHEALTHY = "unhealthy"
    """The new release has not become healthy in time."""
    REPORTED = "reported"
    """The outcome is recorded durably."""


class UpdateRow(NamedTuple):
    """One row: in one of `phases`, `event` leads to `next`."""

    phases: tuple[UpdatePhase, ...]
    event: UpdateEvent
    next: UpdatePhase
    report: UpdateWord | None = None
    """The step that is reported."""
    bars: bool = False
    """Whether the release is never accepted again."""


P, E = UpdatePhase, UpdateEvent
BEFORE_TRIAL: Final = (
    P.OFFERED,
    P.METADATA,
    P.FETCHING,
    P.FETCHED,
    P.APPLYING,
    P.READING_BACK,
    P.READY,
)
"""Phases in which an order can be withdrawn."""
OUTCOMES: Final = (P.COMMITTED, P.RETURNED, P.REFUSED, P.FAILED)
AFTER_RESTART: Final = (P.RESTARTING, P.TRIAL, P.RETURNING)
"""Phases whose outcome depends on the slot from which the machine has started."""

TABLE: Final[tuple[UpdateRow, ...]] = (
    UpdateRow((P.IDLE,), E.ORDERED, P.OFFERED),
    UpdateRow((P.OFFERED,), E.FITS, P.METADATA),
    UpdateRow((P.OFFERED,), E.RUNS_ALREADY, P.COMMITTED, "committed"),
    UpdateRow((P.OFFERED, P.METADATA), E.REFUSED, P.REFUSED, "refused"),
    UpdateRow((P.METADATA,), E.ACCEPTED, P.FETCHING, "accepted"),
    UpdateRow((P.METADATA,), E.ALREADY_IN_SLOT, P.READING_BACK, "accepted"),
    UpdateRow((P.FETCHING,), E.DELTA_COMPLETE, P.FETCHED, "fetched"),
    UpdateRow((P.FETCHED,), E.DELTA_LOST, P.FETCHING),
    UpdateRow((P.FETCHED,), E.SOURCE_MATCHES, P.APPLYING),
    UpdateRow((P.APPLYING,), E.WRITTEN, P.READING_BACK),
    UpdateRow((P.READING_BACK,), E.EQUAL, P.READY, "applied"),
    UpdateRow((P.READING_BACK,), E.DIFFERS, P.FETCHED),
    UpdateRow((P.READY,), E.TIME_TO_RESTART, P.RESTARTING, "restarting"),
    UpdateRow((P.RESTARTING,), E.NOT_BEGUN, P.READY),
    UpdateRow((P.RESTARTING,), E.NOT_RESTARTED, P.RESTARTING),
    UpdateRow((P.RESTARTING,), E.STARTED_NEW, P.TRIAL),
    UpdateRow((P.TRIAL,), E.HEALTHY, P.COMMITTED, "committed"),
    UpdateRow((P.TRIAL,), E.UNHEALTHY, P.RETURNING, bars=True),
    UpdateRow(AFTER_RESTART, E.STARTED_OLD, P.RETURNED, "returned", bars=True),
    UpdateRow((P.READY,), E.TIME_TO_SWITCH, P.SWITCHING, "restarting"),
    UpdateRow((P.SWITCHING,), E.NOT_RESTARTED, P.SWITCHING),
    UpdateRow((P.SWITCHING,), E.CANNOT_SWITCH, P.RESTARTING),
    UpdateRow((P.SWITCHING,), E.STARTED_NEW, P.APPLICATION_TRIAL),
    UpdateRow((P.APPLICATION_TRIAL,), E.NOT_BEGUN, P.READY),
    UpdateRow((P.APPLICATION_TRIAL,), E.HEALTHY, P.COMMITTED, "committed"),
    UpdateRow((P.APPLICATION_TRIAL,), E.UNHEALTHY, P.SWITCHING_BACK, bars=True),
    UpdateRow(
        (P.SWITCHING, P.APPLICATION_TRIAL, P.SWITCHING_BACK), E.STARTED_OLD, P.RETURNED, "returned", bars=True
    ),
    UpdateRow(BEFORE_TRIAL, E.WITHDRAWN, P.FAILED, "failed"),
    UpdateRow((P.FETCHED,), E.USABLE, P.DATA_TRIAL, "applied"),
    UpdateRow((P.DATA_TRIAL,), E.HEALTHY, P.COMMITTED, "committed"),
    UpdateRow((P.DATA_TRIAL,), E.UNHEALTHY, P.RETURNED, "returned", bars=True),
    UpdateRow((*BEFORE_TRIAL, P.RESTARTING, P.DATA_TRIAL), E.FAILED, P.FAILED, "failed"),
    UpdateRow(OUTCOMES, E.REPORTED, P.IDLE),
)


def decide(phase: UpdatePhase, event: UpdateEvent) -> UpdateRow | None:
    """Return the row of an event in a phase; None if the event does not change this phase."""
    return next((row for row in TABLE if row.event == event and phase in row.phases), None)


class Started(NamedTuple):
    """The situation when the program starts in a phase of AFTER_RESTART."""

    is_in_target: bool
    """The machine has started from the slot that the update has written."""
    committed_to_target: bool
    """The slot state names that slot as committed."""
    trial_of_target: bool
    """The slot state names that slot as on trial."""
    is_state_lost: bool
    """No copy of the slot state can be read."""
    tries: int | None
    """How often the boot loader has begun to start the slot on trial; None if unknown."""


def after_start(phase: UpdatePhase, started: Started) -> UpdateEvent | None:
    """Return the event that the slot and the slot state show; None: the phase continues."""
    if not started.is_in_target:
        if phase is P.RESTARTING and not started.trial_of_target:
            return E.NOT_BEGUN
        return E.NOT_RESTARTED if phase is P.RESTARTING and started.tries == 0 else E.STARTED_OLD
    if phase is P.RETURNING:
        return None
    if phase is P.RESTARTING:
        return E.STARTED_NEW
    if started.committed_to_target and not started.is_state_lost:
        return E.HEALTHY
    return None
