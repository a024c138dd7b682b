"""The phases of a data release: its files are fetched, used without a restart, and committed after a healthy trial.
The release in force changes only with a durable change of the memory. Until then, and after a failure, the previous
release is in force; a program that starts continues with the release that the memory names.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from agents.box.files.store import FileKey
from agents.box.updates.data_files import DataFiles, manifest_key
from agents.box.updates.downloads import Downloads
from agents.box.updates.memory import DataSet, Memory, PhaseOutcome
from agents.box.updates.metadata import OrderRefused
from agents.box.updates.surroundings import UpdateSurroundings
from agents.box.updates.table import UpdateEvent, UpdatePhase
from wire.messages import Count
from wire.release.data import DATA_BYTES_MAX, MANIFEST_BYTES_MAX, NO_DATA, DataError
from wire.release.messages import UpdateOrder
from wire.release.metadata import Target

HEALTHY_SECONDS: Final = 180.0
"""How long the program must be healthy with the new files, without an interruption, before they are committed."""
TRIAL_SECONDS_MAX: Final = 900.0
"""Time from the start of a trial after which files that are not committed are rejected."""
EXAMINE_SECONDS: Final = 5.0
"""Interval of the health checks in a trial."""
TRIAL_STARTS_MAX: Final = 5
"""Maximum number of starts of the program with new files on trial; more mean that it crashes, and the files are
rejected."""
ATTEMPTS_MAX: Final = 3
E, P = UpdateEvent, UpdatePhase


class _ManifestFacts(msgspec.Struct, frozen=True):
    """The signed metadata of a data release's manifest; other members are ignored here."""

    kind: Literal["data"]
    number: Count
    bytes: Annotated[int, Meta(ge=1, le=DATA_BYTES_MAX)]
    floor: Count = 0


def find_data(targets: Mapping[str, Target], order: UpdateOrder) -> DataSet:
    """Return the data release of an order. Raises: OrderRefused."""
    for target in targets.values():
        try:
            facts = msgspec.convert(target.custom, _ManifestFacts)
        except msgspec.ValidationError:  # not the manifest of a data release
            continue
        if facts.number == order.release:
            if not 1 <= target.length <= MANIFEST_BYTES_MAX:
                raise OrderRefused(
                    "too-large", f"the manifest has {target.length} bytes; at most {MANIFEST_BYTES_MAX}"
                )
            return DataSet(facts.number, target.sha256, target.length, facts.bytes, facts.floor)
    raise OrderRefused("not-released", f"the signed metadata has no data release {order.release}")


class DataUpdate:
    """The phases of a data release. `memory` returns the updater's memory, which only the updater changes."""

    def __init__(
        self,
        files: DataFiles,
        downloads: Downloads,
        surroundings: UpdateSurroundings,
        memory: Callable[[], Memory],
        targets: Callable[[], Awaitable[Mapping[str, Target]]],
        report_problem: Callable[[str], object],
    ) -> None:
        """`targets` fetches the metadata. Raises: OrderRefused."""
        self.files = files
        self._downloads, self._surroundings, self._memory = downloads, surroundings, memory
        self._targets, self._report_problem = targets, report_problem

    @property
    def release_in_force(self) -> int:
        """The number of the data release that is in force; 0 if there is none."""
        return self.files.in_force.release if self.files.in_force is not None else 0

    def keep(self, memory: Memory) -> None:
        """Keep the files that this memory needs."""
        self.files.keep(memory.data_new, memory.data, memory.data_before)

    def compare(self, order: UpdateOrder) -> PhaseOutcome:
        """Compare an order with the state of the box."""
        memory = self._memory()
        if order.release < memory.data_floor:
            return PhaseOutcome(E.REFUSED, "below-floor")
        runs = memory.data is not None and memory.data.release == order.release
        return PhaseOutcome(E.RUNS_ALREADY if runs and self.files.in_force == memory.data else E.FITS)

    async def plan(self) -> PhaseOutcome:
        """Find the release in the metadata, and make room for its manifest. Raises: OrderRefused, DiskError."""
        new = find_data(await self._targets(), self._memory().order)
        await self._downloads.make_room(manifest_key(new))
        return PhaseOutcome(E.ACCEPTED, change=lambda memory: setattr(memory, "data_new", new))

    async def missing(self) -> list[FileKey]:
        """Return the files to fetch: first the manifest; when it is complete, all others, after making room for them.

        Raises: OrderRefused, DiskError.
        """
        new = self._new()
        if missing := self._downloads.missing(manifest_key(new)):
            return missing
        try:
            keys: list[FileKey] = await self._surroundings.call(lambda: self.files.keys(new))
        except DataError as error:
            self._report_problem(f"data release {new.release}: {error}")
            raise OrderRefused("data-unusable", str(error)) from None
        missing = self._downloads.missing(*keys)
        await self._downloads.make_room(*missing)
        return missing

    async def check(self) -> PhaseOutcome:
        """Read all files back, and compare them with what this program can use. Raises: DiskError."""
        new = self._new()
        try:
            content = await self._surroundings.call(lambda: self.files.content(new))
        except DataError as error:
            try:
                is_lost = bool(await self.missing())  # damaged files are removed when they are read
            except OrderRefused as refused:
                return PhaseOutcome(E.FAILED, refused.reason)
            return self._lost() if is_lost else self._unusable(str(error))
        if problem := self._surroundings.data.problem(content):
            return self._unusable(problem)
        return PhaseOutcome(E.USABLE)

    async def examine(self) -> PhaseOutcome:
        """Use the new files, and commit them if the program stays healthy. Raises: DiskError, SpoolError."""
        new, loop = self._new(), asyncio.get_running_loop()
        if self._memory().trial_starts > TRIAL_STARTS_MAX:
            return PhaseOutcome(E.UNHEALTHY, "crashed")
        try:
            content = await self._surroundings.call(lambda: self.files.content(new))
        except DataError as error:
            self._report_problem(f"data release {new.release}: {error}")
            return PhaseOutcome(E.FAILED, "data-damaged")
        await self._surroundings.data.use(content, on_trial=True)
        self.files.in_force = new
        begun_at = healthy_since = loop.time()
        reason = ""
        while loop.time() - begun_at < TRIAL_SECONDS_MAX:
            if refused := self._surroundings.data.refused_by_trial():
                self._report_problem(f"data release {new.release} is reverted: {refused}")
                return PhaseOutcome(E.UNHEALTHY, "words-refused")
            reason = self._surroundings.health()
            if reason:
                healthy_since = loop.time()
            elif loop.time() - healthy_since >= HEALTHY_SECONDS:
                return PhaseOutcome(E.HEALTHY)
            await asyncio.sleep(EXAMINE_SECONDS)
        return PhaseOutcome(E.UNHEALTHY, reason or "unhealthy")

    async def settle(self) -> None:
        """Use the committed release, and remove files that are no longer needed. Raises: DiskError, SpoolError."""
        memory, content, chosen = self._memory(), NO_DATA, None
        for data in (memory.data, memory.data_before):
            if data is None:
                continue
            try:
                content = await self._surroundings.call(lambda: self.files.content(data))  # noqa: B023
                chosen = data
                break
            except DataError as error:
                self._report_problem(f"data release {data.release} cannot be used: {error}")
        await self._surroundings.data.use(content, on_trial=False)
        self.files.in_force = chosen
        self.files.keep(memory.data, memory.data_before)
        needed = self._surroundings.needed_files()
        await self._surroundings.call(lambda: self.files.sweep(needed))

    async def restore(self) -> None:
        """Fetch again the committed release's files that are damaged on the disk. Raises: DiskError, SpoolError."""
        memory, problem = self._memory(), ""
        data = memory.data
        if data is None or self.files.in_force in (data, memory.data_new):
            return
        for _ in range(ATTEMPTS_MAX):
            try:
                if await self._downloads.fetch(manifest_key(data)):
                    for key in await self._surroundings.call(lambda: self.files.keys(data)):
                        await self._downloads.fetch(key)
                await self._surroundings.call(lambda: self.files.content(data))
            except (DataError, OrderRefused) as error:
                problem = str(error)
                continue
            if self._memory().data == data and self._memory().phase is not P.DATA_TRIAL:
                await self.settle()
            return
        self._report_problem(f"data release {data.release} cannot be fetched again: {problem}")

    def _new(self) -> DataSet:
        new = self._memory().data_new
        assert new is not None, "only `plan` leads here"
        return new

    def _unusable(self, problem: str) -> PhaseOutcome:
        self._report_problem(f"data release {self._new().release} cannot be used: {problem}")
        return PhaseOutcome(E.FAILED, "data-unusable")

    def _lost(self) -> PhaseOutcome:
        attempts = self._memory().attempts + 1
        if attempts > ATTEMPTS_MAX:
            return PhaseOutcome(E.FAILED, "data-damaged")
        return PhaseOutcome(E.DELTA_LOST, change=lambda memory: setattr(memory, "attempts", attempts))


def commit_data(memory: Memory) -> None:
    """Commit the data release on trial, which remains in force."""
    new = memory.data_new
    assert new is not None, "only a trial is committed"
    if memory.data is None or memory.data.release != new.release:
        memory.data_before = memory.data
    memory.data, memory.data_floor = new, max(memory.data_floor, new.floor)
