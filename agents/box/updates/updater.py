"""Executes the table of updates: makes each phase durable, reports it, and performs its actions.

All waiting is on the event loop. Blocking calls are made on two threads: calls for the box's disk (memory, metadata,
the delta) on the thread of the disk, and calls for the partitions on a separate thread, in short pieces, so that
reports never wait for them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any, Final

import msgspec

from agents.box.files.store import BoxFiles, FileKey
from agents.box.updates.application import (
    IN_APPLICATION,
    ApplicationSwitch,
    after_switch,
    forget_starts,
)
from agents.box.updates.data_files import DataFiles
from agents.box.updates.data_update import DataUpdate, commit_data
from agents.box.updates.downloads import Downloads
from agents.box.updates.memory import Memory, MemoryStore, PhaseOutcome, Unreported
from agents.box.updates.metadata import OrderRefused, ReleaseMetadata, plan_update
from agents.box.updates.parts import TargetParts
from agents.box.updates.requests import UpdateRequests
from agents.box.updates.slots.boot_state import BootStatePartition
from agents.box.updates.slots.installer import ATTEMPTS_MAX, SlotInstaller, count_attempt
from agents.box.updates.slots.slot_work import SlotWorker
from agents.box.updates.surroundings import UpdateHardware, UpdateStatus, UpdateSurroundings
from agents.box.updates.table import (
    AFTER_RESTART,
    BEFORE_TRIAL,
    OUTCOMES,
    UpdateEvent,
    UpdatePhase,
    after_start,
    decide,
)
from agents.spool import SpoolError
from hal.disk import Disk, DiskError
from hal.machine import MachineError
from hal.partition import Partition
from settings.slots import Slot, other
from wire.messages import MessageError, UpdateStep
from wire.release.messages import UpdateOrder, UpdateState
from wire.release.metadata import MetadataError, Target

HEALTHY_SECONDS: Final = 180.0
"""How long a new release must be healthy, without an interruption, before it is committed."""
TRIAL_SECONDS_MAX: Final = 900.0
"""Time from the program's start after which a new release that is not committed is rejected."""
EXAMINE_SECONDS: Final = 5.0
"""Interval of the health checks in a trial."""
TRIAL_STARTS_MAX: Final = 5
"""Maximum number of starts of the program on trial; more mean that it crashes, and the release is rejected."""
RESTARTS_MAX: Final = 3
"""Maximum number of restarts that are requested for one trial."""
RESTART_SECONDS_MAX: Final = 600.0
"""Time after which the restart is requested again if the machine still runs."""
RESTART_CHECK_SECONDS: Final = 30.0
CONFIRM_SECONDS_MAX: Final = 600.0
"""Time that a starting program waits for the data center to confirm its order."""
METADATA_RETRY_SECONDS: Final = 60.0
"""Time after which rejected metadata is fetched once more, because it may have been replaced."""
P, E = UpdatePhase, UpdateEvent


class Updater:
    """The updates of a box. The box program awaits `run`, which reads all state from the disk."""

    def __init__(
        self,
        hardware: UpdateHardware,
        disk: Disk,
        files: BoxFiles,
        root: bytes,
        surroundings: UpdateSurroundings,
        data: DataFiles,
    ) -> None:
        """`root` is the root of the release metadata shipped with the software; `data` has been opened."""
        self.requests = UpdateRequests()
        """The queue of requests, for the stream."""
        self._hardware, self._surroundings = hardware, surroundings
        self._downloads = Downloads(self.requests, files, surroundings, self._report_problem)
        self._store = MemoryStore(disk)
        self._worker = SlotWorker(hardware.executor)
        self._boot = BootStatePartition(hardware.boot_state)
        self._metadata = ReleaseMetadata(disk, root, surroundings.call, self.requests.metadata)
        self._memory = Memory()
        self._data = DataUpdate(
            data, self._downloads, surroundings, lambda: self._memory, self._targets, self._report_problem
        )
        self._running: Slot | None = None
        """The slot with the running release; differs from the slot of `_root` until the machine restarts."""
        self._root: Slot | None = None
        """The slot with the root file system of the machine."""
        self._parts = TargetParts(disk, surroundings.call, self._downloads.part)
        memory, slots = (lambda: self._memory), hardware.slots
        self._install = SlotInstaller(
            slots, self._worker, self._boot, self._downloads, self._parts, memory, self._report_problem
        )
        self._application = ApplicationSwitch(hardware.machine, memory, self._change, self._report_problem)
        self._latest: UpdateOrder | None = None
        self._order_changed = asyncio.Event()
        self._order_wanted = asyncio.Event()
        self._order_wanted.set()
        self._problem = ""
        self._changing = asyncio.Lock()
        self._begun_at = asyncio.get_running_loop().time()
        self._is_start_counted = False
        self._work: dict[UpdatePhase, Callable[[], Coroutine[Any, Any, PhaseOutcome]]] = {
            P.IDLE: self._await_order,
            P.OFFERED: self._compare,
            P.METADATA: self._check_metadata,
            P.FETCHING: self._fetch,
            P.FETCHED: self._check,
            P.APPLYING: self._install.apply,
            P.READING_BACK: self._install.read_back,
            P.READY: self._await_time,
            P.RESTARTING: self._begin_trial,
            P.TRIAL: self._examine,
            P.RETURNING: self._return,
            P.SWITCHING: self._application.switch,
            P.APPLICATION_TRIAL: self._examine,
            P.SWITCHING_BACK: self._application.switch_back,
            P.DATA_TRIAL: self._data.examine,
            **dict.fromkeys(OUTCOMES, self._finish),
        }

    @property
    def status(self) -> UpdateStatus:
        """The state of updates, for the box's status."""
        memory, data = self._memory, self._data.release_in_force
        ordered = 0 if memory.phase is P.IDLE else memory.order.release
        return UpdateStatus(self._running, memory.running, memory.phase, ordered, self._problem, data)

    def needed_files(self) -> set[str]:
        """Return the stems of the files that the update needs."""
        delta = {key.stem} if (key := self._delta()) is not None else set()
        return delta | self._data.files.stems()

    def wake(self) -> None:
        """Request the order, which has changed at the data center."""
        self._order_wanted.set()

    async def run(self) -> None:
        """Follow orders until cancelled. Raises: DiskError, SpoolError; then run it again.

        Returns at once if the machine has no slots.
        """
        try:
            self._root = self._hardware.machine.running_slot()
            self._running = self._hardware.machine.application_slot()
        except MachineError as error:
            self._report_problem(f"this machine cannot be updated: {error}")
            return
        await self._open(self._running)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow_orders())
            tasks.create_task(self._data.restore())
            while True:
                await self._report_steps()
                await self._transition(await self._outcome())

    async def _open(self, running: Slot) -> None:
        self._memory = memory = await self._surroundings.call(self._store.open)
        self._data.keep(memory)
        if memory.phase in AFTER_RESTART and memory.target_slot is not None:
            target = memory.target_slot
            started = await self._worker.call(lambda: self._boot.after_start(running, target))
            if (event := after_start(memory.phase, started)) is not None:
                await self._transition(
                    PhaseOutcome(event, memory.cause or "" if event is E.STARTED_OLD else "")
                )
        elif memory.phase in IN_APPLICATION:
            if (event := after_switch(memory.phase, memory, self._hardware.machine)) is not None:
                cause = memory.cause if event is E.STARTED_OLD else ""
                await self._transition(PhaseOutcome(event, cause, forget_starts))
        elif memory.phase not in AFTER_RESTART:
            state = await self._worker.call(self._boot.read)
            # the memory may have been lost in a trial
            if state.trial == running:
                memory.phase, memory.target_slot, memory.order = P.TRIAL, running, UpdateOrder(0)
            elif running != self._root and state.committed != running:
                memory.phase, memory.target_slot = P.APPLICATION_TRIAL, running
                memory.order = UpdateOrder(0)
            elif state.trial is not None:
                await self._worker.call(lambda: self._boot.settle(running))
        if memory.phase in BEFORE_TRIAL and memory.target_slot == running:
            # the slot that was to be written has been started, because the other one cannot be read
            await self._transition(PhaseOutcome(E.FAILED, "slot-changed"))
        if self._memory.phase in (P.TRIAL, P.APPLICATION_TRIAL, P.DATA_TRIAL) and not self._is_start_counted:
            await self._change(lambda memory: setattr(memory, "trial_starts", memory.trial_starts + 1))
            self._is_start_counted = True

    # -- phases -----------------------------------------------------------------------------------------

    async def _outcome(self) -> PhaseOutcome:
        """Perform the actions of the phase, until they are complete or the order is withdrawn."""
        work = self._work[self._memory.phase]
        if self._memory.phase not in BEFORE_TRIAL:
            return await work()
        working = asyncio.ensure_future(work())
        withdrawn = asyncio.ensure_future(self._until_withdrawn())
        try:
            await asyncio.wait((working, withdrawn), return_when=asyncio.FIRST_COMPLETED)
            return withdrawn.result() if withdrawn.done() else working.result()
        finally:
            for task in (working, withdrawn):
                task.cancel()
            await asyncio.gather(working, withdrawn, return_exceptions=True)

    async def _await_order(self) -> PhaseOutcome:
        while True:
            self._order_changed.clear()
            order = self._latest
            if order is not None and order.order not in (0, self._memory.order.order):
                return PhaseOutcome(E.ORDERED, change=partial(_set_order, order))
            await self._order_changed.wait()

    async def _until_withdrawn(self) -> PhaseOutcome:
        while self._latest is None or self._latest.order == self._memory.order.order:
            self._order_changed.clear()
            await self._order_changed.wait()
        return PhaseOutcome(E.WITHDRAWN, "withdrawn")

    async def _compare(self) -> PhaseOutcome:
        memory, order = self._memory, self._memory.order
        if order.release in memory.barred:
            return PhaseOutcome(E.REFUSED, "failed-before")
        if self._is_data:
            return self._data.compare(order)
        if order.release < memory.floor:
            return PhaseOutcome(E.REFUSED, "below-floor")
        return PhaseOutcome(E.RUNS_ALREADY if order.release == memory.running else E.FITS)

    async def _check_metadata(self) -> PhaseOutcome:
        try:
            return await (self._data.plan() if self._is_data else self._plan())
        except OrderRefused as error:
            self._report_problem(f"release {self._memory.order.release} is refused: {error}")
            return PhaseOutcome(E.REFUSED, error.reason)

    async def _plan(self) -> PhaseOutcome:
        """Return the plan for the order. Raises: OrderRefused, DiskError."""
        running = self._slot(self._running)
        length = self._memory.slot_bytes or await self._worker.length(running)
        targets = await self._targets()
        slot_sha256 = await self._worker.hash_if_readable(running, length)
        plan = plan_update(targets, self._memory.order, slot_sha256, self._memory.slot_sha256)
        target_slot = other(self._running or "a")
        target = self._slot(target_slot)
        if plan.target_bytes > target.size:
            raise OrderRefused(
                "slot-too-small", f"the release has {plan.target_bytes} bytes; the slot has {target.size}"
            )

        def change(memory: Memory) -> None:
            memory.slot_sha256, memory.slot_bytes = plan.source_sha256, length
            memory.plan, memory.target_slot = plan, target_slot

        if await self._worker.hash_if_readable(target, plan.target_bytes) == plan.target_sha256:
            return PhaseOutcome(E.ALREADY_IN_SLOT, change=change)
        if plan.is_whole:
            self._report_problem("no delta fits; the whole slot is fetched")
        else:
            await self._downloads.make_room(FileKey(plan.delta_sha256, plan.delta_bytes))
        return PhaseOutcome(E.ACCEPTED, change=change)

    async def _targets(self) -> Mapping[str, Target]:
        """Return the targets of the metadata. Raises: OrderRefused, DiskError."""
        surroundings, is_repeated = self._surroundings, False
        while True:
            try:
                now_s = max(surroundings.now_s(), surroundings.time_floor_s())
                return await self._downloads.until_available(lambda: self._metadata.targets(now_s))  # noqa: B023
            except MetadataError as error:
                if is_repeated:
                    raise OrderRefused("metadata-refused", str(error)) from None
                is_repeated = True
                await asyncio.sleep(METADATA_RETRY_SECONDS)

    async def _fetch(self) -> PhaseOutcome:
        if self._is_whole:
            await self._leave_root()
            return await self._install.fill_whole()
        try:
            while missing := await self._missing():
                if await self._downloads.fetch(missing[0]):
                    continue
                if self._memory.attempts >= ATTEMPTS_MAX:
                    return PhaseOutcome(E.FAILED, "data-damaged" if self._is_data else "delta-damaged")
                await self._change(count_attempt)
        except OrderRefused as error:
            return PhaseOutcome(E.FAILED, error.reason)
        return PhaseOutcome(E.DELTA_COMPLETE)

    async def _missing(self) -> list[FileKey]:
        if self._is_data:
            return await self._data.missing()
        key = self._delta()
        assert key is not None, "only `_plan` leads here"
        return self._downloads.missing(key)

    async def _check(self) -> PhaseOutcome:
        if self._is_data:
            return await self._data.check()
        await self._leave_root()
        return PhaseOutcome(E.SOURCE_MATCHES) if self._is_whole else await self._install.check_delta()

    async def _leave_root(self) -> None:
        """Restart the machine into the running release if its root file system is in the slot to be written.

        This is the case after a release that was committed without a restart. Otherwise, it returns at once.
        """
        while self._root == self._memory.target_slot:
            await self._until_time()
            await self._restart()

    async def _await_time(self) -> PhaseOutcome:
        await self._until_time()
        plan = self._memory.plan
        is_application = plan is not None and plan.is_application and self._root == self._running
        return PhaseOutcome(E.TIME_TO_SWITCH if is_application else E.TIME_TO_RESTART)

    async def _until_time(self) -> None:
        """Wait until the order permits interrupting the box's programs, and nothing at the box forbids it."""
        has_asked, loop = False, asyncio.get_running_loop()
        while True:
            # an order that was withdrawn while the program did not run must not be followed
            is_confirmed = self._latest is not None or loop.time() - self._begun_at >= CONFIRM_SECONDS_MAX
            order, now_s = self._order(), self._surroundings.now_s()
            times = order.restart_times
            is_time = now_s >= order.not_before_s and (
                not times or any(begin <= now_s < end for begin, end in times)
            )
            if is_time and is_confirmed and self._surroundings.may_restart():
                return
            if times and now_s >= max(end for _, end in times) and not has_asked:
                has_asked = True
                self._order_wanted.set()
            await asyncio.sleep(RESTART_CHECK_SECONDS)

    async def _begin_trial(self) -> PhaseOutcome:
        memory = self._memory
        running, target = self._running, memory.target_slot
        assert running is not None and target is not None, "only `_plan` leads here"
        if memory.restarts >= RESTARTS_MAX:
            await self._worker.call(lambda: self._boot.settle(running))
            return PhaseOutcome(E.FAILED, "not-restarted")
        await self._change(lambda memory: setattr(memory, "restarts", memory.restarts + 1))
        try:
            await self._worker.call(lambda: self._boot.begin_trial(target))
        except DiskError as error:
            outcome = self._install.disk_failed(error)
            await self._worker.call(lambda: self._boot.settle(running))
            return outcome
        await self._restart()
        return PhaseOutcome(E.NOT_RESTARTED)

    async def _examine(self) -> PhaseOutcome:
        loop, running = asyncio.get_running_loop(), self._running
        assert running is not None, "`run` ends without slots"
        if self._memory.trial_starts > TRIAL_STARTS_MAX:
            return PhaseOutcome(E.UNHEALTHY, "crashed")
        healthy_since, reason = loop.time(), ""
        while loop.time() - self._begun_at < TRIAL_SECONDS_MAX:
            reason = self._surroundings.health()
            if reason:
                healthy_since = loop.time()
            elif loop.time() - healthy_since >= HEALTHY_SECONDS:
                try:
                    await self._worker.call(lambda: self._boot.settle(running))
                    return PhaseOutcome(E.HEALTHY)
                except DiskError as error:
                    reason = self._install.disk_failed(error).reason
            await asyncio.sleep(EXAMINE_SECONDS)
        return PhaseOutcome(E.UNHEALTHY, reason or "unhealthy")

    async def _return(self) -> PhaseOutcome:
        """Request a restart into the previous slot repeatedly, until the machine restarts."""
        running = self._running
        assert running is not None, "`run` ends without slots"
        while True:
            await self._worker.call(lambda: self._boot.settle(other(running)))
            await self._restart()

    async def _restart(self) -> None:
        """Request the restart, and wait for it for a limited time."""
        try:
            self._hardware.machine.restart()
        except MachineError as error:
            self._report_problem(f"the machine does not restart: {error}")
        await asyncio.sleep(RESTART_SECONDS_MAX)

    async def _finish(self) -> PhaseOutcome:
        """Clean up after an update whose outcome is reported."""
        running = self._running
        assert running is not None, "`run` ends without slots"
        if self._memory.phase in (P.RETURNED, P.FAILED):
            await self._worker.call(lambda: self._boot.settle(running))
        if (key := self._delta()) is not None:
            await self._downloads.remove(key)
        await self._parts.clear()
        if self._is_data:
            await self._data.settle()
        self._problem = ""
        return PhaseOutcome(E.REPORTED)

    # -- memory and reports -----------------------------------------------------------------------------

    async def _transition(self, outcome: PhaseOutcome) -> None:
        """Change the phase. Raises: DiskError."""
        row = decide(self._memory.phase, outcome.event)
        assert row is not None, f"{outcome.event} in phase {self._memory.phase}"
        reason = outcome.reason or (self._memory.cause if row.report == "returned" else "")
        if row.report == "returned" and not reason:
            reason = "not-committed"

        def change(memory: Memory) -> None:
            outcome.change(memory)
            memory.phase, memory.cause = row.next, reason
            release, order = memory.order.release, memory.order.order
            if row.bars and release:
                memory.bar(release)
            if row.report and order:
                memory.unreported = [
                    *memory.unreported,
                    Unreported(order, release, row.report, reason if row.next is not P.RETURNING else ""),
                ]
            if outcome.event is E.HEALTHY:
                _commit(memory)
            if row.next is P.IDLE:
                memory.plan = memory.target_slot = memory.data_new = None
                memory.attempts = memory.restarts = memory.trial_starts = memory.switches = 0

        await self._change(change)

    async def _change(self, change: Callable[[Memory], object]) -> None:
        """Make a change of the memory durable, then use it. Raises: DiskError."""
        async with self._changing:
            changed = msgspec.structs.replace(self._memory)
            change(changed)
            await self._surroundings.call(lambda: self._store.save(changed))
            self._memory = changed
            self._data.keep(changed)

    async def _report_steps(self) -> None:
        """Record the steps that are not recorded yet. Raises: SpoolError, DiskError."""
        while self._memory.unreported:
            step = self._memory.unreported[0]
            at_ms = max(0, int(self._surroundings.now_s() * 1000))
            try:
                await self._surroundings.record(
                    UpdateStep(at_ms, step.order, step.release, step.step, step.reason)
                )
            except SpoolError:
                if self._memory.phase in AFTER_RESTART:
                    return  # the trial continues although the spool refuses records
                raise
            await self._change(lambda memory: setattr(memory, "unreported", memory.unreported[1:]))

    def _report_problem(self, problem: str) -> None:
        self._problem = problem
        self._surroundings.log_message(f"update: {problem}")

    # -- the data center --------------------------------------------------------------------------------

    async def _follow_orders(self) -> None:
        """Fetch the order at the start and whenever it has changed."""
        running = self._slot(self._running)
        length = self._memory.slot_bytes or await self._worker.length(running)
        if not self._memory.slot_sha256 and (
            slot_sha256 := await self._worker.hash_if_readable(running, length)
        ):
            await self._change(lambda memory: setattr(memory, "slot_sha256", slot_sha256))
        while True:
            await self._order_wanted.wait()
            self._order_wanted.clear()
            try:
                self._latest = await self._downloads.until_available(
                    lambda: self.requests.order(self._state())
                )
            except MessageError as error:
                self._report_problem(f"the order is unknown to this version: {error}")
                continue
            self._order_changed.set()

    def _state(self) -> UpdateState:
        memory = self._memory
        order = 0 if memory.phase is P.IDLE else memory.order.order
        return UpdateState(memory.running, memory.slot_sha256, "", order, self._data.release_in_force)

    @property
    def _is_data(self) -> bool:
        """Whether the order is for a data release."""
        return self._memory.order.kind == "data"

    @property
    def _is_whole(self) -> bool:
        return self._memory.plan is not None and self._memory.plan.is_whole

    # -- slots and files --------------------------------------------------------------------------------

    def _order(self) -> UpdateOrder:
        """Return the order as the data center has it now: its times may have changed."""
        latest = self._latest
        return (
            latest if latest is not None and latest.order == self._memory.order.order else self._memory.order
        )

    def _slot(self, slot: Slot | None) -> Partition:
        assert slot is not None, "`run` ends without slots"
        return self._hardware.slots[slot]

    def _delta(self) -> FileKey | None:
        plan = self._memory.plan
        return (
            FileKey(plan.delta_sha256, plan.delta_bytes) if plan is not None and not plan.is_whole else None
        )


def _set_order(order: UpdateOrder, memory: Memory) -> None:
    memory.order = order


def _commit(memory: Memory) -> None:
    """Commit the release on trial."""
    if memory.order.kind == "data":
        commit_data(memory)
        return
    memory.running = memory.order.release or memory.running
    if (plan := memory.plan) is not None:
        memory.slot_sha256, memory.slot_bytes = plan.target_sha256, plan.target_bytes
        memory.floor = max(memory.floor, plan.floor)
