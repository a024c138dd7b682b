"""The box in the virtual world: the shipped box program on an emulated disk, clock and uplink port.

The simulated machine boots, restarts the program when it ends, and loses power, as the hardware and the operating
system do. Its disk is like an ordinary SSD: 0.5 ms per flush, 500 MB/s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Final

from agents.box.audit_work import SESSIONS_AUDIT
from agents.box.configuration.config import (
    BoxConfig,
    Clock,
    FirewallPolicy,
    UpdateSettings,
)
from agents.box.hardware import Hardware
from agents.box.program import BoxProgram, box_program, demanded_self_test
from agents.box.sessions.desktop import DesktopNetwork
from agents.box.sessions.running import SessionHardware
from agents.box.sessions.sessions import BoxSessions
from agents.box.status.snapshot import BoxStatus
from agents.box.tunnel.tunnel import SessionKey
from agents.enrolment.certificate_files import BoxCertificates
from agents.provision.box import sending, spool_size
from agents.spool import Priority, SpoolError
from hal.crypto import FipsCheck
from hal.disk import DiskError
from hal.emul.clock import EmulClock
from hal.emul.crypto import EmulCryptographicModule
from hal.emul.disk import EmulDisk
from hal.emul.ethernet import EmulEthernetPort
from hal.emul.serial import EmulSerialPort
from hal.linux.log_folder import LinuxOwnLogs
from netfw.policy.policy import Policy
from netfw.service.supervisor import Supervisor
from settings.site import Enrolment
from settings.slots import Slot
from settings.types import Endpoint, Proxy
from sim.engine.layers import End, Layers
from sim.engine.trace import Trace
from sim.lab.labfile import Lab
from sim.net.host import Network, SimHost
from sim.net.loop import SimLoop
from sim.sessions.keys import RepeatableKey, drawn_keys
from sim.tunnel.box import EmulTunnel
from sim.tunnel.device import EmulTunDevice
from sim.units import MICROSECOND_NS
from sim.updates.releases import LabReleases
from sim.updates.slots import VirtualSlots
from sim.verdict.findings import SpoolContent
from sim.worlds.shared.site.addresses import (
    BOX,
    BOX_NAME,
    DATACENTER_NAME,
    DATACENTER_PORT,
    box_address,
)
from sim.worlds.shared.site.box import (
    BOOT_SECONDS,
    DISK_BYTES_BESIDE_SPOOL,
    RESTART_SECONDS,
    add_traffic,
    read_disk,
    reporting,
)
from sim.worlds.shared.site.certificates import rsa_keys
from sim.worlds.shared.site.session_keys import SessionKeys, session_settings
from sim.worlds.shared.site.standards import served_port, tcp_port
from sim.worlds.virtual.firewall import VirtualFirewall, Zone
from sim.worlds.virtual.sessions import EmulSessionLog, RulesetPath
from wire.dial.traffic import Traffic
from wire.pki.hierarchy import PrivateKey
from wire.pki.signature import load_private_key
from wire.session.grant import Offer

FLUSH_NS: Final = 500 * MICROSECOND_NS
WRITTEN_BYTE_NS: Final = 2.0
SHUTDOWN_SECONDS: Final = 2.0
"""The time from the request of a restart to its beginning."""
RESET_SECONDS: Final = 60.0
"""The time from the start of a release that does not reach its programs to the reset by a watchdog."""
LEAVE_SECONDS: Final = 120.0
"""The time until the machine abandons another slot's programs, which do not start, for those of its own slot."""
AUDIT_BYTES_MIN: Final = 4096
"""Free disk space that a record of the sessions' audit file requires."""
FIREWALL_LOOK_SECONDS: Final = 3600.0
"""The interval at which the supervisor checks the ports, which only the program itself changes in this world."""


class _Tear:
    """A scheduled power loss in the middle of a disk operation, the `left`-th from now on."""

    def __init__(self, left: int, torn: asyncio.Future[End]) -> None:
        self.left, self.torn = left, torn


class VirtualBox:
    """The box's hardware, and the program running on it."""

    def __init__(
        self,
        loop: SimLoop,
        network: Network,
        lab: Lab,
        identity: BoxCertificates,
        proxy: Proxy | None,
        policy: Policy,
        wall_ns: Callable[[], int],
        random: Callable[[str], Random],
        trace: Trace,
        session_keys: SessionKeys | None = None,
        releases: LabReleases | None = None,
        make_key: Callable[[], PrivateKey] = lambda: rsa_keys().requested,
    ) -> None:
        """With `session_keys` the box permits remote sessions, with `releases` it is updated.

        `make_key` makes the key for which it requests a certificate.
        """
        self._make_key = make_key
        self._loop = loop
        self._random = random
        self._trace = trace
        self._lives = 0
        self.boots = 0
        """How often the machine has been started."""
        self.tunnels: list[EmulTunnel] = []
        """The tunnels of all remote sessions, oldest first."""
        self.log: list[str] = []
        """The messages of the program for the operator."""
        self._box: BoxProgram | None = None
        self._slots = VirtualSlots(releases, random) if releases else None
        self._power_holds = Layers[None](self._follow_power)
        self._own_hold: End | None = None
        self._tears: list[_Tear] = []
        self._armed = 0
        """The number of operations, counted from `_arm`, until the next tear; 0 if the disk is not armed."""
        self._traffic = Traffic()
        self.host = SimHost(network, BOX_NAME, BOX, *(box_address(spec.port) for spec in lab.instruments))
        self.host.mtu_probing = True
        self._capacities = Layers[int](self._set_up_disk)
        self._flush_times = Layers[int](self._set_up_disk)
        self._held_ns = Layers[int](self._set_up_disk)
        self._read_only = Layers[None](self._set_up_disk)
        self._without_fips = Layers[None](self._follow_fips)
        self.disk_bytes = lab.box.spool_bytes_max + DISK_BYTES_BESIDE_SPOOL
        self.disk = EmulDisk(self.disk_bytes, random("disk"), now_ns=self._disk_now_ns, spend=self._spend)
        self._set_up_disk()
        self.clock = EmulClock(wall_ns)
        self.host.wall_ns = self.clock.now_ns
        self.uplink = EmulEthernetPort("uplink")
        self.crypto = EmulCryptographicModule()
        self.ports = {n: EmulEthernetPort(f"port{n}", up=False) for n in lab.board.instrument_ports}
        zones = {"uplink": Zone(lab.board.uplink, BOX, self.uplink)} | {
            f"instrument:{n}": Zone(lab.board.instrument_ports[n], box_address(n), port)
            for n, port in self.ports.items()
        }
        self.firewall = VirtualFirewall(policy, self.host, zones, lambda: loop.env.now)
        self.session_path = RulesetPath(self.firewall, lambda: loop.env.now)
        self.host.firewall = self.firewall
        self._tcp_ports = set(map(tcp_port, lab.instruments))
        self.serial_ports = {n: EmulSerialPort(f"serial{n}") for n in lab.board.serial_ports}
        self._config = BoxConfig(
            board=lab.box.board,
            identity=identity,
            datacenter=Endpoint(host=DATACENTER_NAME, port=DATACENTER_PORT),
            port=[served_port(lab, spec, random) for spec in lab.instruments],
            proxy=proxy,
            spool=spool_size(reporting(lab), Path("spool")),
            sending=sending(reporting(lab)),
            clock=Clock(service=Path("emulated")),
            firewall=FirewallPolicy(policy=Path("firewall.toml"), retry_s=FIREWALL_LOOK_SECONDS),
            sessions=session_settings(session_keys) if session_keys else None,
            updates=UpdateSettings(releases.root) if releases else None,
            enrolment=Enrolment() if lab.box.enrolment != "none" else None,
            fips=lab.box.fips,
        )
        self._session_keys = session_keys
        self.session_audit = (session_keys.folder if session_keys else Path()) / "box" / SESSIONS_AUDIT
        """The audit file of remote sessions."""
        if session_keys is not None:
            self.session_audit.parent.mkdir()
        self._session_key = drawn_keys(random("keys of box sessions"))

    # -- state

    async def backlog(self) -> Mapping[Priority, int] | None:
        """Return the records not delivered, by priority; None while the program does not run."""
        return await self._box.backlog() if self._box else None

    @property
    def sessions(self) -> BoxSessions | None:
        """The remote sessions; None while the program does not run, or permits none."""
        return self._box.sessions if self._box else None

    async def status(self) -> BoxStatus | None:
        """Return the status reported by the program; None while the program does not run."""
        return await self._box.status() if self._box else None

    @property
    def is_connected(self) -> bool:
        """Whether the program has a connection to the data center, as seen by the program."""
        return self._box is not None and self._box.is_connected

    def traffic(self) -> Traffic:
        """Return the program's traffic on the uplink, over all its starts."""
        return add_traffic(self._traffic, self._box.traffic) if self._box else self._traffic

    def instrument_connections(self) -> int | None:
        """Return the number of open connections with instruments; None while the box is off."""
        incarnation = self.host.incarnation
        if incarnation is None:
            return None
        return sum(local_port in self._tcp_ports for _, local_port, _ in incarnation.flows(None))

    def refused(self) -> Mapping[str, int]:
        """Return the numbers of segments that the firewall refused, by cause."""
        return self.firewall.causes

    def remaining(self) -> SpoolContent:
        """Cut the power for the last time, and read the disk."""
        self.disk.backend.write_back()  # the end of a lab is not a power cut: keep cached data
        self.cut_power()
        self.disk.backend.set_read_only(False)
        self.disk.backend.set_capacity(self.disk_bytes)  # opening the spool needs some room
        return read_disk(self.disk, self._config.spool.bytes_max, self._random("inspection"))

    # -- faults: see `sim.faults.world`

    async def fill_disk(self) -> End:
        """Fill the free space of the disk with other data; the largest of several amounts applies."""
        return self._capacities.add(self.disk.backend.used_bytes)

    def slow_disk(self, flush_ns: int) -> End:
        """Make each flush take `flush_ns` ns; the longest of several times applies."""
        return self._flush_times.add(flush_ns)

    def make_disk_read_only(self) -> End:
        """Make the disk reject every write."""
        return self._read_only.add(None)

    def lie_about_flushes(self, holds_ns: int) -> End:
        """Acknowledge flushes, but lose the data of the last `holds_ns` ns at a power cut; the longest applies."""
        return self._held_ns.add(holds_ns)

    def fail_flushes(self, times: int) -> None:
        """Make `times` more flushes fail; a power cut resets the count."""
        self.disk.backend.fail_next_flush(times)

    def fail_reads(self, times: int) -> None:
        """Make `times` more reads fail; a power cut resets the count."""
        self.disk.backend.fail_next_read(times)

    def fail_writes(self, times: int) -> None:
        """Make `times` more writes fail; a power cut resets the count."""
        self.disk.backend.fail_next_write(times)

    def flip_bits(self, sectors: int, bits: int) -> None:
        """Flip `bits` bits in each of `sectors` sectors that hold data, if there are any."""
        for _ in range(sectors):
            if self.disk.backend.flip_bits(bits=bits) is None:
                self._trace.add("nothing on the disk that could rot")
                return

    def kill_tunnels(self) -> None:
        """Kill the tunnel processes of remote sessions."""
        for tunnel in self.tunnels:
            tunnel.lose("killed")

    def lose_fips(self) -> End:
        """Restart the machine without FIPS mode; it restarts in FIPS mode when every such effect has ended."""
        return self._without_fips.add(None)

    async def jump_clock(self, ns: int) -> None:
        """Move the wall clock by `ns` ns, backwards if negative."""
        self.clock.backend.jump(ns)

    def uplink_changed(self, up: bool) -> None:
        """Set the carrier of the uplink port, after the cable was unplugged or plugged in."""
        if up:
            self.uplink.backend.plug()
        else:
            self.uplink.backend.unplug()

    def hold_power(self) -> End:
        """Cut the power, losing data that was not flushed; the box boots when every hold has ended."""
        return self._power_holds.add(None)

    def cut_power(self) -> None:
        """Cut the power, in addition to faults, until `restore_power`."""
        self._own_hold = self._own_hold or self.hold_power()

    def restore_power(self) -> None:
        """End `cut_power`; a fault may still keep the power off."""
        if self._own_hold is not None:
            self._own_hold()
            self._own_hold = None

    async def tear(self, operation: int) -> End:
        """Wait for the disk's `operation`-th operation from now on, and cut the power in the middle of it.

        The count continues across power losses.
        """
        torn: asyncio.Future[End] = self._loop.create_future()
        self._disarm()
        self._tears.append(_Tear(operation, torn))
        self._arm()
        return await torn

    async def kill(self) -> None:
        """See `end_program`."""
        self.end_program()

    def end_program(self) -> None:
        """Kill the program (SIGKILL), if it runs; the system restarts it."""
        if self.host.incarnation is not None:
            self._trace.add("box program killed")
            self._end_life()
            self.host.kill().run(self._loop, self._run(RESTART_SECONDS))

    # -- implementation of the faults

    def _set_up_disk(self) -> None:
        """Apply all effects to the disk."""
        backend = self.disk.backend
        backend.set_capacity(min(self._capacities, default=self.disk_bytes))
        backend.set_read_only(bool(self._read_only))
        backend.hold_flushed(max(self._held_ns, default=0))
        backend.set_latency(max(self._flush_times, default=FLUSH_NS), WRITTEN_BYTE_NS)

    def _follow_fips(self) -> None:
        self.crypto.backend.failed.clear()
        if self._without_fips:
            self.crypto.backend.failed[FipsCheck.KERNEL] = (
                "the kernel is not in FIPS mode; start it with fips=1"
            )
        self._restart()

    def _follow_power(self) -> None:
        on = self.host.incarnation is not None
        if on and self._power_holds:
            self._lose_power()
        elif not on and not self._power_holds:
            self.boot()

    def boot(self) -> None:
        """Switch the box on."""
        self._trace.add("box boots")
        self.boots += 1
        if self._slots is not None:
            health = self._slots.boot()
            self._trace.add(f"box starts a release that is {health}")
            assert health is not None, "the boot loader starts a slot without a complete release"
            self.firewall.prevented = "a fault of this release" if health == "unhealthy" else ""
            if health == "unstartable":
                self._loop.call_later(RESET_SECONDS, self._restart)
                return
        self.host.power_on().run(self._loop, self._run(BOOT_SECONDS if self._lives else 0.0))
        self._arm()

    def _restart_soon(self) -> None:
        self._loop.call_later(SHUTDOWN_SECONDS, self._restart)

    def _switch_soon(self, slot: Slot) -> None:
        self._loop.call_later(SHUTDOWN_SECONDS, self._switch, slot)

    def _switch(self, slot: Slot) -> None:
        """Start the programs from a slot, without a restart of the machine."""
        if self._slots is None or self.host.incarnation is None:
            return
        self._trace.add(f"box starts its programs from slot {slot}")
        health = self._slots.switch(slot)
        self.firewall.prevented = "a fault of this release" if health == "unhealthy" else ""
        self._end_life()
        delay_s = LEAVE_SECONDS if health == "unstartable" else RESTART_SECONDS
        self.host.kill().run(self._loop, self._run(delay_s))

    def _restart(self) -> None:
        """Restart the machine."""
        self._trace.add("box restarts")
        self.hold_power()()

    def _lose_power(self) -> None:
        self._trace.add("box loses power")
        self._end_life()
        self.host.power_off()
        self.firewall.reboot()
        for port in self.ports.values():
            port.set_up(False)
        self._disarm()
        backend = self.disk.backend
        self.disk = backend.cut_power() if backend.has_power else backend.reboot()
        if self._slots is not None:
            self._slots.lose_power()

    def _arm(self) -> None:
        """Set the disk up to lose its power in the middle of the operation of the next tear."""
        if self._tears and self.host.incarnation is not None:
            self._armed = min(tear.left for tear in self._tears)
            self.disk.backend.cut_power_at(self._armed)
            self.disk.backend.on_power_lost = self._torn

    def _disarm(self) -> None:
        """Subtract the operations done since `_arm` from the remaining operations of all tears."""
        if self._armed:
            done, self._armed = self._armed - self.disk.backend.operations_until_cut, 0
            for tear in self._tears:
                tear.left -= done

    def _torn(self) -> None:
        """Cut the box's power, after the disk has lost power in the middle of an operation."""
        self._disarm()
        due = [tear for tear in self._tears if not tear.left]
        self._tears = [tear for tear in self._tears if tear.left]
        for tear in due:
            end = self.hold_power()
            if tear.torn.cancelled():
                end()
            else:
                tear.torn.set_result(end)

    # -- running the program

    async def _run(self, delay_s: float) -> None:
        while True:
            await asyncio.sleep(delay_s)
            self._lives += 1
            self._trace.add(f"box program starts, life {self._lives}")
            hardware = Hardware(
                self.disk,
                self.clock,
                self.uplink,
                firewall=self._supervisor(),
                serial_ports=self.serial_ports,
                sessions=self._session_hardware(),
                updates=self._slots.hardware(self._restart_soon, self._switch_soon) if self._slots else None,
                fips=demanded_self_test(self._config, self.crypto),
                make_key=self._make_key,
            )
            random = self._random(f"box {self._lives}")
            self._box = box_program(self._config, hardware, random, log_message=self.log.append)
            try:
                await self._box.run()
            except* (DiskError, SpoolError) as error:
                self._trace.add(f"box program ends: {error.exceptions[0]!r}")
            self._end_life()
            delay_s = RESTART_SECONDS

    def _session_hardware(self) -> SessionHardware | None:
        if self._session_keys is None:
            return None
        device, clock, proxy = EmulTunDevice(), self.clock, self._config.proxy

        async def connect(offer: Offer, protocol: asyncio.Protocol) -> None:
            device.connect(offer.tcp_port, protocol)

        def make_tunnel() -> EmulTunnel:
            self.tunnels.append(EmulTunnel(self.session_path, connect, clock.now_ns, proxy))
            return self.tunnels[-1]

        return SessionHardware(
            self.session_path,
            make_tunnel,
            lambda owner: EmulSessionLog(self.session_audit, owner, self._prevents_audit),
            DesktopNetwork(device.listen, asyncio.open_connection),
            LinuxOwnLogs(self.session_audit.parent),
            load_key=lambda path: RepeatableKey(load_private_key(path)),
            make_key=lambda: SessionKey(self._session_key()),
        )

    def _prevents_audit(self) -> str:
        """Return why the audit file of sessions cannot be written; its records take the time of a flush."""
        backend = self.disk.backend
        if backend.is_read_only or not backend.has_power:
            return "the disk is read-only"
        if backend.free_bytes() < AUDIT_BYTES_MIN:
            return "the disk is full"
        self._spend(max(self._flush_times, default=FLUSH_NS))
        return ""

    def _supervisor(self) -> Supervisor:
        return Supervisor(self.firewall, self.ports, FIREWALL_LOOK_SECONDS, FIREWALL_LOOK_SECONDS)

    def _end_life(self) -> None:
        self._traffic, self._box = self.traffic(), None
        self.session_path.clear()  # as the firewall service does when its connection to the program ends

    def _disk_now_ns(self) -> int:
        """Return the time at which the disk starts an operation requested now."""
        incarnation = self.host.incarnation
        return max(self._loop.env.now, incarnation.busy_until_ns if incarnation else 0)

    def _spend(self, delay_ns: int) -> None:
        if self.host.incarnation is not None:
            self.host.incarnation.spend(self._loop.env.now, delay_ns)
