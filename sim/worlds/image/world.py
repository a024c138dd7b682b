"""The image world: the kernel world with a flashed image in QEMU as the box."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

from agents.box.status.status import WaitingRecords
from datacenter.releases.plan import RolloutPlan
from datacenter.sessions.box_keys import BoxKeys
from datacenter.store import queries
from hal.serial import SerialPort
from sim.faults import AnyFault
from sim.lab.labfile import Lab, LabInstrument
from sim.lab.standards import serial_ports
from sim.units import MILLISECOND_NS
from sim.updates.orders import ordered_releases
from sim.verdict.found.sessions import SessionAudits, by_wall_clocks
from sim.verdict.result import World as Name
from sim.worlds.image import inside
from sim.worlds.image.box import ImageBox
from sim.worlds.image.disk.client import GuestDisk
from sim.worlds.image.flash import flash
from sim.worlds.image.machine.qemu import Firmware, console_socket
from sim.worlds.image.machine.serial_lines import SocketSerialPort, line_socket
from sim.worlds.image.refusals import why_no_fault
from sim.worlds.image.releases import ImageReleases
from sim.worlds.image.site import ImageSite, site_of
from sim.worlds.kernel.analyzer import PtyCable
from sim.worlds.kernel.supervision.lab import KernelLab
from sim.worlds.kernel.world import KernelWorld
from sim.worlds.shared.fault_runner import FaultRunner
from sim.worlds.shared.refusals import FaultRefused
from sim.worlds.shared.site.addresses import BOX_SERIAL
from sim.worlds.shared.site.session_keys import SessionKeys
from sim.worlds.shared.staff.rollouts import begin_rollout


class ImageSettings(NamedTuple):
    """The image from which the box of a lab boots, and the settings of its virtual machine."""

    image: Path
    key: Path
    disk_bytes: int
    firmware: Firmware
    start_seconds_max: float
    """Time limit from power-on until the box accepts connections."""
    accelerator: str

    def options(self) -> str:
        """Return the equivalent options of `rap lab run`."""
        files = f"--image {self.image} --key {self.key}"
        machine = f"--disk-bytes {self.disk_bytes} --firmware {self.firmware}"
        return f"{files} {machine} --start-seconds {self.start_seconds_max:g}"


class ImageWorld(KernelWorld):
    """One run of one lab. `start` flashes the image; lab time begins when the box accepts connections."""

    name: Name = "image"
    box: ImageBox
    site: ImageSite

    def __init__(
        self, namespaces: KernelLab, lab: Lab, settings: ImageSettings, seed: int | None = None
    ) -> None:
        self._settings = settings
        super().__init__(namespaces, lab, seed)
        self.replay_options = settings.options()
        self.consoles = {"box": str(console_socket(self.box.folder))}

    def why_no_fault(self, kind: type[AnyFault], target: str) -> str:
        """See `KernelWorld`."""
        return why_no_fault(kind, target, self.lab)

    def _make_faults(self) -> FaultRunner:
        return FaultRunner(self, lambda: self.env.now, self.trace, machine=self)

    def _make_releases(self) -> Path | None:
        orders = ordered_releases(self.lab.events)
        models = [instrument.model for instrument in self.lab.instruments]
        self._releases = ImageReleases(self.namespaces.folder, orders, models) if orders else None
        return self._releases.folder if self._releases else None

    def order_update(self) -> None:
        """See `sim.faults.world.MachineWorld`."""
        number = self._releases.next() if self._releases else None
        if self._releases is None or number is None:
            raise FaultRefused(
                "there is no further release: releases of the lab file are built before the lab starts"
            )
        plan = RolloutPlan(release=number, waves=(100,), observe_hours=0)
        begin_rollout(self.datacenter.store, plan, time.time_ns() // 1_000_000, self._releases.kind(number))

    def _make_site(self) -> ImageSite:
        return ImageSite(self.namespaces, self.lab)

    def _make_session_keys(self, folder: Path) -> SessionKeys:
        return SessionKeys.make(folder, signs_with_certificate=True)

    def _session_audits(self, keys: SessionKeys) -> SessionAudits:
        """See `KernelWorld`. Uses the wall clocks, because the guest's monotonic clock starts at its boot."""
        store = self.datacenter.store
        with ThreadPoolExecutor() as executor:
            box_keys = BoxKeys(store, executor, lambda: 0).of(BOX_SERIAL)
        clocks = by_wall_clocks((self.wall_ns() - self.env.now) // MILLISECOND_NS)
        files = self.datacenter.session_audit, self.box.session_audit
        return keys.audits(*files, store, clocks, box_keys)

    def _make_box(self) -> ImageBox:
        folder = self.namespaces.folder / "box"
        folder.mkdir()
        self._disk = GuestDisk(self.site.box, folder, self._settings.disk_bytes, self.seed)
        return ImageBox(
            self.site.box,
            self.lab,
            self._disk,
            (self._settings.accelerator, self._settings.firmware),
            (self.site.instruments, self.site.datacenter),
            self._waiting,
            folder,
            self.random,
            self.trace,
            self._certificates.box().vendor_authority,
        )

    async def _power_on(self) -> None:
        settings, records = self._settings, self.namespaces.folder / "flash"
        flash_box = partial(flash, is_expired=self.lab.box.enrolment == "expired")
        await asyncio.to_thread(
            flash_box,
            settings.image,
            settings.key,
            self._disk.descriptor,
            site_of(self.lab, self.random, self._session_keys),
            self._certificates,
            records,
        )
        if self._releases:
            await asyncio.to_thread(self._releases.make, self._disk.file)
        await self._disk.serve()
        self.box.boot()
        await self.box.wait_until_up(self._settings.start_seconds_max)
        self.box.check_disk()
        if any(event.fault.kind in inside.KINDS for event in self.lab.events):
            await self.box.inside.check()

    def _make_cables(self) -> dict[int, PtyCable]:
        return {}  # the serial lines belong to the machine

    def _serial_line(self, spec: LabInstrument) -> SerialPort | None:
        number = serial_ports(self.lab.instruments, self.lab.board).get(spec.port)
        return (
            None
            if number is None
            else SocketSerialPort(f"serial{number}", line_socket(self.box.folder, number))
        )

    def _waiting(self) -> WaitingRecords:
        """Return the number of reports that the box has acknowledged to instruments and the data center has not
        stored.
        """
        acknowledged = sum(run.acknowledgements for run in self.ledger.runs.values())
        stored = sum(n for (_, serial), n in queries.counts(self.datacenter.store).items() if serial)
        return WaitingRecords(0, 0, max(0, acknowledged - stored))
