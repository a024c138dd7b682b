"""A box that is updated in simulated time: emulated disk and partitions, and a boot loader that decides as GRUB does.

The data center answers from memory, with metadata that the reference implementation of TUF has signed.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from http import HTTPStatus
from pathlib import Path
from random import Random
from typing import Any, Final, TypeVar

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Root

from agents.box.configuration.config import BoxConfig, InstrumentPort, PortInstrument, UpdateSettings
from agents.box.files.requests import TransferRequest
from agents.box.files.store import BoxFiles
from agents.box.released.released_data import ReleasedData
from agents.box.state import BoxState
from agents.box.updates.surroundings import UpdateHardware, UpdateSurroundings
from agents.box.updates.table import UpdatePhase
from agents.box.updates.updater import Updater
from agents.enrolment.certificate_files import BoxCertificates
from hal.disk import DiskError, DiskErrorKind
from hal.emul.disk import EmulDisk, Moment
from hal.emul.machine import EmulMachine
from hal.emul.partition import EmulPartition
from imaging.release.data import release_data
from imaging.release.delta_file import block_delta
from imaging.release.repository import NewRelease, ReleaseRepository, RoleKeyFiles
from imaging.release.slots import pack_slot
from settings import slots
from settings.profile import DIRECTORY, Profile
from settings.slots import Slot, SlotState
from settings.types import Endpoint
from sim.net.loop import SimLoop
from tests.support.imaging.releases import NOW, released
from wire.files import FILES_PATH, parse_range
from wire.http.connection import Response
from wire.messages import UpdateStep, encode
from wire.pki.signature import load_private_key
from wire.release.delta import BLOCK_BYTES
from wire.release.messages import NO_ORDER, TARGET_BYTES_MAX, UpdateOrder, parse_metadata_range

SLOT_BYTES: Final = 8 * BLOCK_BYTES
RANGE_BYTES: Final = 2048
"""Maximum bytes of a range that the box requests."""
DISK_BYTES: Final = 1024 * 1024
STARTS_MAX: Final = 100
LINE_SECONDS: Final = 1.0
"""Duration of a request on the emulated line."""
INSTRUMENT: Final = "CHEM-0001"
MODEL: Final = "chemistry-analyzer"
PATH: Final = Path("file")
CONFIG: Final = BoxConfig(
    board="rap-4",
    identity=BoxCertificates(PATH, PATH, PATH, PATH),
    datacenter=Endpoint("ingest.example.com", 443),
    port=[InstrumentPort(1, "10.77.1.1", [PortInstrument(INSTRUMENT, MODEL)])],
    updates=UpdateSettings(PATH),
)
"""The configuration of the box, of which only its instrument is used."""
T = TypeVar("T")


def profile_text(version: int, *, without: str = "", also: str = "") -> bytes:
    """Return the profile of MODEL in another version, without one assay, or with an additional one."""
    text = (DIRECTORY / f"{MODEL}.toml").read_text()
    text = re.sub(r"^version = .*$", f"version = {version}", text, flags=re.M)
    if without:
        text = re.sub(rf"^{without} = .*\n", "", text, flags=re.M)
    return text.replace(
        "[assays]\n", f'[assays]\n{also} = "Another assay"\n' if also else "[assays]\n"
    ).encode()


def slot_content(release: int) -> bytes:
    """Return the content of a release's slot, most of which is equal in all releases."""
    common, own = Random(0), Random(release)
    blocks = [common.randbytes(BLOCK_BYTES) for _ in range(SLOT_BYTES // BLOCK_BYTES - 4)]
    return own.randbytes(BLOCK_BYTES) + b"".join(blocks) + own.randbytes(2 * BLOCK_BYTES) + bytes(BLOCK_BYTES)


@dataclass
class UpdateCenter:
    """A data center that serves releases and orders, and the update steps that boxes have reported to it."""

    root: bytes
    metadata: dict[str, bytes]
    targets: dict[str, bytes]
    """By SHA-256."""
    order: UpdateOrder = NO_ORDER
    steps: list[tuple[int, str, str]] = field(default_factory=list)
    """The steps that boxes have reported: release, step, reason."""
    bytes_sent: int = 0
    delta_bytes_sent: int = 0
    requests: list[str] = field(default_factory=list)
    change: Callable[[TransferRequest, Response], Response] = lambda _request, response: response
    """Changes each response, to inject faults."""
    signed: tuple[Path, ReleaseRepository, RoleKeyFiles] | None = None
    """The folder of the root keys, the repository of the releases, and the keys that sign each release."""

    def answer(self, request: TransferRequest) -> Response:
        self.requests.append(f"{request.method} {request.target}")
        response = self.change(request, self._answer(request))
        self.bytes_sent += len(response.body)
        if request.target.startswith(FILES_PATH):
            self.delta_bytes_sent += len(response.body)
        return response

    def _answer(self, request: TransferRequest) -> Response:
        if request.method == "POST":
            return Response(HTTPStatus.OK, encode(self.order))
        if (part := parse_metadata_range(request.target)) is not None:
            data = self.metadata.get(part.file)
        elif (wanted := parse_range(request.target, TARGET_BYTES_MAX)) is not None:
            part, data = wanted, self.targets.get(wanted.sha256)  # type: ignore[assignment]
        else:
            return Response(HTTPStatus.BAD_REQUEST)
        if data is None or part is None:
            return Response(HTTPStatus.NOT_FOUND)
        return Response(HTTPStatus.OK, data[part.offset : part.offset + part.length])

    def rotate_roots(self, count: int, now: datetime) -> None:
        """Sign `count` new roots, and all other metadata again, at `now`."""
        assert self.signed is not None
        folder, repository, keys = self.signed
        for _ in range(count):
            latest = max(
                repository.metadata.glob("*.root.json"), key=lambda path: int(path.name.split(".")[0])
            )
            root = Metadata[Root].from_file(str(latest))
            root.signed.version += 1
            root.signed.expires = now.replace(microsecond=0) + timedelta(days=365)
            root.signatures.clear()
            for number in range(2):
                root.sign(CryptoSigner(load_private_key(folder / f"root{number}.pem")), append=True)
            root.to_file(str(repository.metadata / f"{root.signed.version}.root.json"))
        (file := folder / f"other-{now:%Y%m%d}").write_bytes(b"-")
        repository.add(file, keys, now, {})
        self.load()

    def load(self) -> None:
        """Serve the metadata that is in the folder of the releases."""
        assert self.signed is not None
        self.metadata = {path.name: path.read_bytes() for path in self.signed[1].metadata.iterdir()}

    def release_data(self, number: int, files: Mapping[str, bytes], floor: int = 0) -> None:
        """Release files as a data release."""
        assert self.signed is not None
        base, repository, keys = self.signed
        folder = base / f"data-{number}"
        for path, content in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
        names = release_data(repository, folder, NewRelease(f"data-{number}", number, floor), keys, NOW)
        for name in names:
            content = (repository.targets / name).read_bytes()
            self.targets[sha256(content).hexdigest()] = content
        self.load()

    @property
    def outcomes(self) -> list[tuple[int, str, str]]:
        """The outcomes of orders, without the steps before them; a repeated outcome is listed once."""
        ends = [step for step in self.steps if step[1] in ("committed", "returned", "refused", "failed")]
        return [step for index, step in enumerate(ends) if step not in ends[:index]]


def update_center(
    folder: Path,
    *pairs: tuple[int, int],
    change_delta: Callable[[bytes], bytes] = lambda delta: delta,
    **custom: Any,
) -> UpdateCenter:
    """Return a data center with signed deltas between these releases, and their slots.

    `change_delta` changes a delta before it is signed; `custom` is added to the signed properties of deltas (such as
    `application=True`).
    """
    repository, keys = released(folder, ())
    targets = {}
    files: dict[str, tuple[Path, dict[str, Any]]] = {}
    for number in sorted({number for pair in pairs for number in pair}):
        (image := folder / f"{number}.img").write_bytes(slot_content(number))
        (blocks := folder / f"{number}.blocks").write_bytes(
            pack_slot(image, packed := folder / f"{number}.zst")
        )
        slot = {"number": number, "target": sha256(slot_content(number)).hexdigest(), "bytes": SLOT_BYTES}
        for file in (packed, blocks):
            files[f"slots/{file.name}"] = file, slot
            targets[sha256(file.read_bytes()).hexdigest()] = file.read_bytes()
    for source, target in pairs:
        delta = change_delta(block_delta(slot_content(source), slot_content(target)))
        (file := folder / f"{source}-{target}").write_bytes(delta)
        properties = {
            "release": f"1.{target}.0",
            "number": target,
            "source": sha256(slot_content(source)).hexdigest(),
            "target": sha256(slot_content(target)).hexdigest(),
            "bytes": SLOT_BYTES,
        }
        files[f"deltas/{source}-{target}"] = file, properties | custom
        targets[sha256(delta).hexdigest()] = delta
    repository.add_all(files, keys, NOW)
    root = (repository.metadata / "1.root.json").read_bytes()
    center = UpdateCenter(root, {}, targets, signed=(folder, repository, keys))
    center.load()
    return center


class _KillableLoop(SimLoop):
    """Kills the program of a box after one of its blocking calls."""

    def __init__(self, box: UpdateBox) -> None:
        super().__init__()
        self._box = box

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        if self._box.is_killed:
            return self.create_future()
        self._box.calls += 1
        future = super().run_in_executor(executor, func, *args)
        if self._box.calls != self._box.kill_at:
            return future
        self._box.is_killed = True
        return self.create_future()


class UpdateBox:
    """A box with release `running` in both slots, of which slot a is committed."""

    def __init__(self, center: UpdateCenter, seed: int = 0, running: int = 1) -> None:
        random = Random(seed)
        self.center = center
        self.disk = EmulDisk(DISK_BYTES, random)
        self.slots = {
            slot: EmulPartition(SLOT_BYTES, random, slot_content(running)) for slot in slots.PARTITIONS
        }
        self.boot_state = EmulPartition(slots.BOOT_STATE_BYTES, random)
        for offset in slots.COPY_OFFSETS:
            self._write(offset, slots.encode(SlotState(1, "a")))
        self.now_s = NOW.timestamp()
        self.floor_s = 0.0
        self.health: Callable[[int], str] = lambda _release: ""
        """Returns the problem of the program of a release; empty if it is healthy."""
        self.dead: set[int] = set()
        """Releases that never reach their program; a watchdog resets the machine."""
        self.may_restart: Callable[[], bool] = lambda: True
        self.at_start: Callable[[], object] = lambda: None
        """Called before each start of the program."""
        self.started: list[int] = []
        """The release of each start of the machine."""
        self.application: Slot | None = None
        """The slot from which the programs run since a switch without a restart of the machine."""
        self.left: Slot | None = None
        """The slot whose programs the machine has left by itself."""
        self.switched: list[int] = []
        """The release of each switch without a restart of the machine."""
        self.can_switch = True
        """Whether requests to switch are followed."""
        self.messages: list[str] = []
        self.updater: Updater | None = None
        self.is_line_lost: Callable[[], bool] = lambda: False
        """Returns whether the connection is lost before the next response."""
        self.damaged: dict[Slot, int] = {}
        """The releases of slots that are damaged but still start."""
        self.released: ReleasedData | None = None
        """The parts of data releases that the program uses."""
        self.loaded: list[int] = []
        """The version of the profile at each start of the program."""
        self.problems: list[str] = []
        """Why data releases were not in force at a start."""
        self.recorded: list[int] = []
        """The versions of the profile that were recorded as in force."""
        self._is_switched = False
        self.calls, self.kill_at, self.is_killed = 0, 0, False
        """The number of blocking calls of the program, that after which it is killed, and whether it was killed."""

    @property
    def phase(self) -> UpdatePhase:
        """The phase of the update, while the program runs."""
        assert self.updater is not None
        return self.updater.status.phase

    def lose_line_while_fetching(self, times: int) -> list[int]:
        """Lose the connection at 29 of 30 responses of a download. Return a list with one item: how many of `times`
        are left.
        """
        left = [times]

        def is_line_lost() -> bool:
            left[0] -= self.phase is UpdatePhase.FETCHING
            return self.phase is UpdatePhase.FETCHING and left[0] % 30 > 0

        self.is_line_lost = is_line_lost
        return left

    # -- power and boot loader --------------------------------------------------------------------------

    @property
    def devices(self) -> tuple[EmulDisk | EmulPartition, ...]:
        return self.disk, self.slots["a"], self.slots["b"], self.boot_state

    def cut_power_at(self, device: int, operation: int, moment: Moment) -> None:
        """Cut the power of the whole box at an operation of one device, by its index in `devices`."""
        self.devices[device].backend.cut_power_at(operation, moment)
        for other in self.devices:
            other.backend.on_power_lost = self.lose_power

    def lose_power(self) -> None:
        for device in self.devices:
            device.backend.lose_power()

    @property
    def has_power(self) -> bool:
        return all(device.backend.has_power for device in self.devices)

    def switch_on(self) -> None:
        """Switch the power off, if it is on, and on again."""
        self.lose_power()
        self.disk = self.disk.backend.reboot()
        self.slots = {slot: partition.backend.cut_power() for slot, partition in self.slots.items()}
        self.boot_state = self.boot_state.backend.cut_power()

    def content(self, slot: Slot) -> bytes:
        return self.slots[slot].read(0, SLOT_BYTES)

    def release_in(self, slot: Slot) -> int | None:
        """Return the release that a slot contains completely; None if it contains none."""
        content = self.content(slot)
        return next((number for number in range(1, 6) if slot_content(number) == content), None)

    @property
    def state(self) -> SlotState:
        return slots.decode([self._read(offset) for offset in slots.COPY_OFFSETS])

    def boot(self) -> Slot:
        """Choose the slot as the boot loader does, and check that it contains a complete release."""
        while True:
            copies = [self._read(offset) for offset in slots.COPY_OFFSETS]
            tries = [self._read(offset) for offset in slots.TRIES_OFFSETS]
            startable = [slot for slot in slots.PARTITIONS if any(self.slots[slot].read(0, BLOCK_BYTES))]
            choice = slots.choose(copies, tries, startable)
            if choice.write is not None:
                self._write(slots.TRIES_OFFSETS[choice.write[0]], choice.write[1])
            release = self.release_in(choice.slot) or self.damaged.get(choice.slot)
            assert release is not None, f"slot {choice.slot} is started and has no complete release"
            self.started.append(release)
            assert len(self.started) < STARTS_MAX, f"the box starts again and again: {self.started}"
            if release not in self.dead:
                self.application = self.left = None
                return choice.slot

    def _read(self, offset: int) -> bytes:
        try:
            return self.boot_state.read(offset, slots.RECORD_BYTES)
        except DiskError as error:
            assert error.kind is DiskErrorKind.IO
            return b""

    def _write(self, offset: int, record: bytes) -> None:
        self.boot_state.write(offset, record)
        self.boot_state.flush()

    # -- the program ------------------------------------------------------------------------------------

    def run(self, seconds: float = 4 * 3600.0, until: Callable[[], bool] | None = None) -> None:
        """Start the machine, and again after each restart and power cut, until the time is over or `until` holds.

        Without `until`, the order must have an outcome and the updater be idle.
        """
        is_over = until or self.is_settled
        ends_s = self.now_s + seconds
        slot: Slot = "a"
        while self.now_s < ends_s:
            if not self.has_power:
                self.switch_on()
            try:
                slot = slot if self.is_killed or self._is_switched else self.boot()
            except DiskError:
                assert not self.has_power, "the boot loader fails only without power"
                continue
            self.is_killed = self._is_switched = False
            if self._run_program(slot, ends_s, is_over):
                return
        raise AssertionError(f"nothing settled in {seconds} s: {self.center.steps}, {self.messages}")

    def is_settled(self) -> bool:
        """Return whether the last order has an outcome, and nothing is left to do."""
        updater = self.updater
        return updater is not None and updater.status.phase is UpdatePhase.IDLE and bool(self.center.outcomes)

    def _run_program(self, slot: Slot, ends_s: float, is_over: Callable[[], bool]) -> bool:
        """Run the program until the machine restarts or loses its power; return whether `is_over`."""
        loop = _KillableLoop(self)
        started_s = self.now_s
        try:
            return loop.run_until_complete(self._program(loop, slot, ends_s, is_over))
        finally:
            self.now_s = started_s + loop.time() + 1
            loop.close()

    async def _program(self, loop: SimLoop, slot: Slot, ends_s: float, is_over: Callable[[], bool]) -> bool:
        restarting = asyncio.Event()
        files = BoxFiles(self.disk)
        start_s, release = self.now_s, self.release_in(self.application or slot) or self.damaged[slot]

        def switch(wanted: Slot) -> None:
            if self.can_switch:
                self._switch(slot, wanted)

        self.released = released = ReleasedData(CONFIG, self.disk, files)
        try:
            files.open()
            released.load()
        except DiskError:
            assert not self.has_power
            return False

        async def call(blocking: Callable[[], Any]) -> Any:
            return await loop.run_in_executor(None, blocking)

        async def record(step: UpdateStep) -> None:
            if not self.is_killed:
                self.center.steps.append((step.release, step.step, step.reason))

        async def record_profile(_serial: str, profile: Profile, _port: int) -> None:
            self.recorded.append(profile.version)

        self.problems += released.profiles.problems
        await released.profiles.record_changes(record_profile, BoxState())
        self.loaded.append(released.profiles.allowed[INSTRUMENT].profile.version)
        around = UpdateSurroundings(
            now_s=lambda: start_s + loop.time(),
            time_floor_s=lambda: self.floor_s,
            health=lambda: self.health(release),
            may_restart=self._may_restart,
            record=record,
            call=call,
            needed_files=self._needed_files,
            log_message=self.messages.append,
            data=released,
        )
        machine = EmulMachine(
            slot, restarting.set, application=self.application, on_switch=switch, left=self.left
        )
        hardware = UpdateHardware(self.slots, self.boot_state, machine)
        self.updater = updater = Updater(hardware, self.disk, files, self.center.root, around, released.files)
        self.at_start()
        tasks = [asyncio.ensure_future(self._supervise(updater)), asyncio.ensure_future(self._line(updater))]
        try:
            while start_s + loop.time() < ends_s:
                if is_over():
                    return True
                if restarting.is_set() or self.is_killed or self._is_switched or not self.has_power:
                    return False
                for task in tasks:
                    if task.done():
                        task.result()
                await asyncio.sleep(1)
            return False
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _switch(self, root: Slot, wanted: Slot) -> None:
        """Start the programs from a slot, as rap-application.service does."""
        release = self.release_in(wanted)
        assert release is not None, f"slot {wanted} is started and has no complete release"
        self.switched.append(release)
        if release in self.dead:
            self.left, wanted = wanted, root
        self.application = None if wanted == root else wanted
        self._is_switched = True

    def _needed_files(self) -> set[str]:
        assert self.updater is not None
        return self.updater.needed_files()

    def _may_restart(self) -> bool:
        return self.may_restart()

    async def _supervise(self, updater: Updater) -> None:
        """Restart the updater after errors, as the box does."""
        while self.has_power:
            try:
                await updater.run()
                return
            except* DiskError:
                await asyncio.sleep(5)

    async def _line(self, updater: Updater) -> None:
        """Answer the box's requests one after the other."""
        changed = asyncio.Event()
        updater.requests.changed = changed.set
        while True:
            if (request := await updater.requests.next_request(RANGE_BYTES)) is None:
                changed.clear()
                await changed.wait()
                continue
            await asyncio.sleep(LINE_SECONDS)
            if not self.is_line_lost():
                await updater.requests.answered(request, self.center.answer(request))


def operations_of(box: UpdateBox, until: Callable[[], bool] | None = None) -> list[int]:
    """Run an update without interruption; return the number of operations of each device."""
    never = 1_000_000
    for device in box.devices:
        device.backend.cut_power_at(never)
    box.run(until=until)
    return [never - device.backend.operations_until_cut for device in box.devices]
