"""The interface between faults and worlds: the parts of a world that faults act on.

Most methods start an effect and return a function that ends it (`sim.engine.layers.End`); effects that overlap are
combined. Each call of a method `hold_…` is one *hold*, which keeps power, a link or a program off until it ends.

Every world has the parts of `World`. The virtual and the image world are also a `MachineWorld`: their box
has its own disk and clock. Only the virtual world is an `EmulatedWorld`, for faults that need an emulated data center
or name service, or the contents of an emulated disk.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

from settings.profile import Verb
from sim.engine.layers import End

if TYPE_CHECKING:
    from sim.hostile import Attack
    from sim.instruments.instrument import FloodReport
    from sim.net.link import Impairment

Certificate = Literal["good", "expired", "wrong"]


class LinkPart(Protocol):
    """A link; effects apply to both directions."""

    def hold_down(self) -> End:
        """Take the link down until every hold has ended."""
        ...

    def impair(self, impairment: Impairment) -> End:
        """Impair the link in addition to its other impairments: see `sim.net.link.impaired`."""
        ...


class BoxPart(Protocol):
    """The box."""

    def hold_power(self) -> End:
        """Cut the power; the box boots when every hold has ended."""
        ...

    async def kill(self) -> None:
        """Kill the box program, if it runs; the system restarts it."""
        ...

    async def fill_disk(self) -> End:
        """Fill the disk with other data."""
        ...

    def make_disk_read_only(self) -> End:
        """Make the disk reject every write; a box that has to restart to write again does so at the end."""
        ...


class MachineBoxPart(BoxPart, Protocol):
    """A box with its own disk and clock, which the simulator controls: in the virtual and the image world."""

    async def tear(self, operation: int) -> End:
        """Wait for the disk's `operation`-th operation from now on, and cut the power in the middle of it."""
        ...

    def slow_disk(self, flush_ns: int) -> End:
        """Make each flush take `flush_ns` ns; the longest of several times applies."""
        ...

    def lie_about_flushes(self, holds_ns: int) -> End:
        """Acknowledge flushes, but lose the data of the last `holds_ns` ns at a power cut; the longest applies."""
        ...

    def fail_flushes(self, times: int) -> None:
        """Make `times` more flushes fail."""
        ...

    def fail_reads(self, times: int) -> None:
        """Make `times` more reads of the disk with the reports fail; a power cut resets the count."""
        ...

    def fail_writes(self, times: int) -> None:
        """Make `times` more writes to the disk with the reports fail; a power cut resets the count."""
        ...

    async def jump_clock(self, ns: int) -> None:
        """Move the wall clock by `ns` ns, backwards if negative."""
        ...


class EmulatedBoxPart(MachineBoxPart, Protocol):
    """The virtual world's box."""

    def flip_bits(self, sectors: int, bits: int) -> None:
        """Flip `bits` bits in each of `sectors` sectors that hold data, if there are any."""
        ...

    def kill_tunnels(self) -> None:
        """Kill the tunnel processes of remote sessions."""
        ...

    def lose_fips(self) -> End:
        """Restart the machine without FIPS mode; it restarts in FIPS mode when every such effect has ended."""
        ...


class InstrumentPart(Protocol):
    """An instrument."""

    def hold_power(self) -> End:
        """Cut the power; it returns when every hold has ended."""
        ...

    def flood(self, per_second: int, report: FloodReport) -> End:
        """Send `per_second` reports of that kind a second in addition to all others."""
        ...

    def attack(self, attack: Attack) -> End:
        """Run a hostile program (`sim.hostile`) on its computer, in addition to the agent, while it has power."""
        ...


class ProxyPart(Protocol):
    """The site's proxy."""

    async def refuse(self) -> End:
        """Reject all credentials until every such effect has ended; this closes open tunnels."""
        ...

    async def inspect(self) -> End:
        """Terminate TLS with a certificate from another CA until every such effect has ended; closes open tunnels."""
        ...

    async def go_silent(self) -> End:
        """Accept data without forwarding or answering it; when every such effect has ended, tunnels are closed."""
        ...

    async def kill_idle_after(self, seconds: float) -> End:
        """Close tunnels that are idle for `seconds`; the shortest of several times applies."""
        ...

    async def hold_back(self, seconds: float) -> End:
        """Delay data by `seconds` in each direction; several delays add up."""
        ...


class DataCenterPart(Protocol):
    """The data center."""

    async def present(self, certificate: Certificate) -> End:
        """Present that certificate; the latest of several applies. Open connections are closed."""
        ...

    async def hold_down(self) -> End:
        """Kill the program; it is restarted when every hold has ended."""
        ...

    def queue_command(self, instrument: str, verb: Verb, content: bytes, expires_after_ns: int | None) -> int:
        """Queue a command with a file, or without one if `content` is empty; return its number.

        `instrument` is a serial number; an empty one addresses the box.
        """
        ...

    def withdraw_command(self, command: int) -> None:
        """Withdraw a command, unless it has begun."""
        ...

    def approve_enrolments(self) -> None:
        """Approve all pending certificate requests."""
        ...

    def deny_box(self) -> End:
        """Put the box on the deny-list."""
        ...


class EmulatedDataCenterPart(DataCenterPart, Protocol):
    """The virtual world's data center."""

    def answer_with(self, status: int) -> End:
        """Answer every batch with that HTTP status; the latest of several applies."""
        ...

    def answer_invalidly(self) -> End:
        """Answer every batch with status 200 and an invalid body."""
        ...

    def lose_responses(self) -> End:
        """Store each batch, and close the connection without a response."""
        ...

    def delay_processing(self, delay_ns: int) -> End:
        """Wait `delay_ns` ns before processing a batch; several delays add up."""
        ...

    def withdraw_approvals(self) -> End:
        """Make the access policies refuse every remote session."""
        ...

    def expire_training(self) -> End:
        """Let the training of all staff expire."""
        ...

    def fail_recordings(self) -> End:
        """Make every write to a recording of a remote session fail."""
        ...

    def fail_session_audit(self) -> End:
        """Make every write to the audit file of remote sessions fail."""
        ...

    def kill_tunnels(self) -> None:
        """Kill the tunnel processes of remote sessions."""
        ...

    def hold_siem_down(self) -> End:
        """Cut the power of the SIEM until every such effect has ended."""
        ...


class NameServicePart(Protocol):
    """The site's name service."""

    def stop_answering(self) -> End:
        """Do not answer."""
        ...

    def answer_wrongly(self) -> End:
        """Answer every query with an unused address."""
        ...


class EmulatedNameServicePart(NameServicePart, Protocol):
    """The virtual world's name service."""

    def delay(self, delay_ns: int) -> End:
        """Wait `delay_ns` ns before answering; several delays add up."""
        ...


class IntrudersPart(Protocol):
    """Programs that attempt connections which the firewall must block."""

    def begin(self, target: str, every_ns: int) -> End:
        """Repeat all connection attempts from `target`, with pauses of `every_ns` ns."""
        ...


class World(Protocol):
    """The parts of a running lab that faults act on."""

    def link(self, target: str) -> LinkPart:
        """Return the link of that name: `uplink` or `instrument:<port>`."""
        ...

    def instrument(self, target: str) -> InstrumentPart:
        """Return the instrument at `instrument:<port>`."""
        ...

    @property
    def box(self) -> BoxPart:
        """The box."""
        ...

    @property
    def proxy(self) -> ProxyPart | None:
        """The site's proxy, if it has one. Faults of the proxy occur only in labs that have one."""
        ...

    @property
    def datacenter(self) -> DataCenterPart:
        """The data center."""
        ...

    @property
    def names(self) -> NameServicePart:
        """The site's name service."""
        ...

    async def change_address(self, target: str) -> None:
        """Give the box's `uplink`, or the `datacenter`, another address; connections that use the old one fail."""
        ...

    @property
    def intruders(self) -> IntrudersPart:
        """The intruders."""
        ...


class MachineWorld(World, Protocol):
    """A world in which the box is a machine with its own disk and clock."""

    @property
    def box(self) -> MachineBoxPart:
        """The box."""
        ...

    def order_update(self) -> None:
        """Make the data center order the next of the lab's releases. Raises: FaultRefused if there is none."""
        ...


class EmulatedWorld(MachineWorld, Protocol):
    """A world with emulated hardware, data center and name service."""

    @property
    def box(self) -> EmulatedBoxPart:
        """The box."""
        ...

    @property
    def datacenter(self) -> EmulatedDataCenterPart:
        """The data center."""
        ...

    @property
    def names(self) -> EmulatedNameServicePart:
        """The site's name service."""
        ...

    def freeze_desktop(self, target: str) -> End:
        """Stop an instrument's VNC server from reading and answering until every such effect has ended."""
        ...
