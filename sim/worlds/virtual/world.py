"""The virtual world: a whole lab in one process, in SimPy time, with the box program as it ships.

    instrument ── LAN ──┐
    instrument ── LAN ──┤ box ── uplink ── [proxy ── backbone ──] data center
    instrument ── LAN ──┘

The lab file says what the uplink is like; the LANs and the backbone behind a proxy are good and never the bottleneck.
Everything follows from the lab file, the seed and the program: each link, machine and person has a stream of random
numbers of its own, derived from the seed and its name.
"""

from __future__ import annotations

import asyncio
import calendar
import gc
import tempfile
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any, Final

from agents.spool import Priority
from hal.emul.clock import EmulClock
from netfw.policy.policy import Policy
from settings.types import Endpoint as Address
from sim.engine.layers import End
from sim.engine.loop import SimLoop
from sim.engine.streams import stream
from sim.engine.trace import Trace
from sim.faults.world import EmulatedWorld
from sim.lab.labfile import Lab, LabInstrument
from sim.net.host import Network, SimHost
from sim.net.link import Link, LinkQuality
from sim.verdict.ledger import ReportLedger
from sim.verdict.result import Result
from sim.verdict.result import World as Name
from sim.worlds.shared.addresses import box_address, instrument_address
from sim.worlds.shared.analyzer import Analyzer
from sim.worlds.shared.conclusion import conclude
from sim.worlds.shared.intruders import Intruders
from sim.worlds.shared.meters import BacklogMeter, ConnectionMeter, UplinkMeter
from sim.worlds.shared.occurrences import Occurrences
from sim.worlds.shared.policy import COLLECTOR_PORT, lab_policy
from sim.worlds.virtual.box import NAME, SERIAL, BoxMachine
from sim.worlds.virtual.certificates import LabCertificates
from sim.worlds.virtual.datacenter import SimulatedDataCenter
from sim.worlds.virtual.proxy import SiteProxy

EPOCH_NS: Final = calendar.timegm((2026, 1, 5, 0, 0, 0)) * 1_000_000_000
"""The Monday on which every lab begins; the time of day is the lab's."""
LAN: Final = LinkQuality(rate_bits=100_000_000, delay_ns=100_000)
BACKBONE: Final = LinkQuality(rate_bits=1_000_000_000, delay_ns=5_000_000)


class _Computer:
    """`sim.worlds.shared.analyzer.Computer` on a simulated host."""

    def __init__(self, loop: SimLoop, host: SimHost) -> None:
        self._loop, self._host = loop, host

    def power_on(self) -> None:
        self._host.power_on()

    def power_off(self) -> None:
        self._host.power_off()

    def start(self, program: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        assert self._host.incarnation is not None
        return self._host.incarnation.run(self._loop, program)


class VirtualWorld:
    """One run of one lab; use it in a `with` statement, which cleans up after it."""

    name: Name = "virtual"

    def __init__(self, lab: Lab, seed: int | None = None, *, policy: Policy | None = None) -> None:
        """`policy` is the box's instead of the lab's own, to see what a wrong one does."""
        self.lab = lab
        self.seed = lab.about.seed if seed is None else seed
        self._folder = tempfile.TemporaryDirectory(prefix="rap-lab-")
        folder = Path(self._folder.name)
        self.loop = SimLoop()
        self.env = self.loop.env
        self.trace = Trace(lambda: self.env.now)
        self.ledger = ReportLedger()
        emulated: EmulatedWorld = self
        self.faults = Occurrences(emulated, lambda: self.env.now, self.trace)
        self.happened = self.faults.happened
        self._links: dict[str, Link] = {}
        self._wall_started = time.perf_counter()
        # A run makes few cycles and many objects: looking for garbage every 700 of them took a tenth of its time
        self._gc_threshold = gc.get_threshold()
        gc.set_threshold(100_000, 20, 50)

        network = Network(self.wall_ns)
        certificates = LabCertificates(folder / "pki", datetime.fromtimestamp(EPOCH_NS // 10**9, UTC))
        spec = lab.uplink
        self.datacenter = SimulatedDataCenter(self.loop, network, certificates.datacenter(), self.wall_ns)
        self.proxy = (
            SiteProxy(self.loop, network, spec.proxy, certificates.inspector()) if spec.proxy else None
        )
        self.box = BoxMachine(
            self.loop,
            network,
            lab,
            certificates.box(),
            self.proxy.for_clients() if self.proxy else None,
            policy or lab_policy(lab),
            self.wall_ns,
            self.random,
            self.trace,
        )
        near = self.proxy.host if self.proxy else self.datacenter.host
        near.gateway, self.box.host.gateway = self.box.host, near
        quality = LinkQuality(spec.rate, spec.delay, spec.jitter, spec.loss, queue_bytes_max=spec.queue)
        self.uplink = self._join(network, "uplink", self.box.host, near, quality)
        if self.proxy:
            self._join(network, "backbone", self.proxy.host, self.datacenter.host, BACKBONE)
        self.names = network.names
        self.analyzers = {i.port: self._analyzer(network, certificates, i) for i in lab.instruments}
        self._near = near
        self.intruders = Intruders(lab, self._run_program)
        self.uplink_meter = UplinkMeter(self.uplink, lab.about.duration, self.trace)
        self.backlog_meter = BacklogMeter()
        self.connection_meter = ConnectionMeter()
        self.loop.run_until_complete(self._start())

    def _join(self, network: Network, name: str, one: SimHost, other: SimHost, quality: LinkQuality) -> Link:
        link = Link(self.env, name, quality, self.random(f"link {name}"))
        network.connect(one, other, link)
        self._links[name] = link
        link.on_change.append(lambda up: self.trace.add(f"link {name} {'up' if up else 'down'}"))
        return link

    def _analyzer(self, network: Network, certificates: LabCertificates, spec: LabInstrument) -> Analyzer:
        host = SimHost(network, f"instrument{spec.port}", instrument_address(spec.port))
        host.gateway = self.box.host
        clock = EmulClock(self.wall_ns)
        host.wall_ns = clock.now_ns
        self._join(network, f"instrument:{spec.port}", host, self.box.host, LAN)
        return Analyzer(
            self.env,
            _Computer(self.loop, host),
            spec,
            Address(NAME, COLLECTOR_PORT, box_address(spec.port)),
            certificates.instrument(spec.serial),
            clock,
            self.ledger,
            lambda name: self.random(f"{spec.serial} {name}"),
            -self.lab.about.start,
        )

    def _run_program(self, where: str, program: Callable[[], Coroutine[Any, Any, None]]) -> End:
        if where != "uplink":
            return self.instrument(where).run(program)
        task = _Computer(self.loop, self._near).start(program())

        def end() -> None:
            task.cancel()

        return end

    def random(self, name: str) -> Random:
        """The stream of random numbers of that name."""
        return stream(self.seed, name)

    def wall_ns(self) -> int:
        """The right time of day, in nanoseconds since 1970."""
        return EPOCH_NS + self.lab.about.start + self.env.now

    @property
    def failures(self) -> list[str]:
        """Errors that no part of the programs handled."""
        return self.loop.failures

    async def _start(self) -> None:
        await self.datacenter.start(SERIAL)
        if self.proxy:
            await self.proxy.start()
        self.uplink.on_change.append(self.box.uplink_changed)
        self.box.boot()
        for event in self.lab.events:
            self.loop.create_task(self.faults.run(event))
        for order in self.lab.orders:
            self.loop.create_task(self.faults.queue(order, self.lab.serial(order.target)))
        self.loop.create_task(self._sample())

    async def _sample(self) -> None:
        while True:
            backlog = await self.backlog()
            self.backlog_meter.sample(self.env.now, backlog, connected=self.box.is_connected)
            self.connection_meter.sample(self.box.instrument_connections())
            await asyncio.sleep(self.uplink_meter.bin_ns / 1e9)

    async def backlog(self) -> tuple[int, int, int] | None:
        """Records on the box that are not acknowledged, by priority; None while its program does not run."""
        records = await self.box.backlog()
        if records is None:
            return None
        return records[Priority.ALERT], records[Priority.AUDIT], records[Priority.ROUTINE]

    # -- faults

    async def change_address(self, target: str) -> None:
        """See `sim.faults.world.World`."""
        if target == "uplink":
            self.box.host.change_address(self.uplink)
        else:
            self.datacenter.change_address()

    def link(self, target: str) -> Link:
        """The link that faults call `uplink` or `instrument:<port>`."""
        return self._links[target]

    def instrument(self, target: str) -> Analyzer:
        """The instrument that faults call `instrument:<port>`."""
        return self.analyzers[int(target.partition(":")[2])]

    # -- running

    def run_until(self, until_ns: int) -> None:
        """Let lab time pass."""
        self.loop.run_for(until_ns - self.env.now)

    def run(self, progress: Callable[[int], None] = lambda _now_ns: None, steps: int = 200) -> Result:
        """Run the lab to its end, telling `progress` the time now and then; then judge it."""
        duration = self.lab.about.duration
        for step in range(1, steps + 1):
            self.run_until(duration * step // steps)
            progress(self.env.now)
        return self.finish()

    def finish(self) -> Result:
        """End the lab now: cut the box's power, look at what is there, and judge."""
        self.faults.closed = True
        return conclude(self, time.perf_counter() - self._wall_started)

    def __enter__(self) -> VirtualWorld:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End every task, and remove the lab's files. Raises Stalled for tasks that do not end."""
        try:
            self.loop.run_until_complete(self._end_tasks())
        finally:
            self.datacenter.store.close()
            self.loop.close()
            self._folder.cleanup()
            gc.set_threshold(*self._gc_threshold)

    async def _end_tasks(self) -> None:
        own = asyncio.current_task()
        await self.loop.end_tasks(lambda: [task for task in asyncio.all_tasks() if task is not own])
