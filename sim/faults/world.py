"""What faults act on: the parts of a world, each of which takes layers and gives back their ends.

Both worlds have these parts. What only the virtual world's have (`Drive`, `Clock`, and the failing answers of
`DataCenter`) is for faults that are declared `emulated`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

from sim.engine.layers import End
from wire.vocabulary import Verb

if TYPE_CHECKING:
    from sim.hostile import Attack
    from sim.instruments.instrument import FloodReport
    from sim.net.link import Impairment

Certificate = Literal["good", "expired", "wrong"]


class LinkPart(Protocol):
    """A link, both ways."""

    def hold_down(self) -> End:
        """Pull the cable. It is back when everybody who holds it down has let go."""
        ...

    def impair(self, impairment: Impairment) -> End:
        """Make it worse, beside everything else that is the matter with it: see `sim.net.link.impaired`."""
        ...


class BoxPart(Protocol):
    """The box."""

    def hold_power(self) -> End:
        """Cut the power. The box boots when everybody who holds it off has let go."""
        ...

    def kill(self) -> None:
        """Kill the program, if it runs; the system starts it again."""
        ...

    def fill_disk(self) -> End:
        """Let something else take all the room that the disk has left."""
        ...


class EmulatedMachine(BoxPart, Protocol):
    """The virtual world's box."""

    async def tear(self, operation: int) -> End:
        """Wait for the disk's `operation`-th coming operation, and hold the power off from the middle of it."""
        ...

    def slow_disk(self, flush_ns: int) -> End:
        """Let each flush take so long; of several times the longest counts."""
        ...

    def make_disk_read_only(self) -> End:
        """Let the disk refuse every change."""
        ...

    def lie_about_flushes(self, holds_ns: int) -> End:
        """Report flushes as done and lose the last `holds_ns` of data with the power; the longest counts."""
        ...

    def fail_flushes(self, times: int) -> None:
        """Let so many more of the coming flushes fail."""
        ...

    def rot(self, sectors: int, bits: int) -> None:
        """Flip bits in so many sectors that hold data, if there are any."""
        ...

    def jump_clock(self, ns: int) -> None:
        """Set the wall clock forwards, or backwards if negative."""
        ...


class InstrumentPart(Protocol):
    """An instrument."""

    def hold_power(self) -> End:
        """Cut its power; it is back when everybody who holds it off has let go."""
        ...

    def flood(self, per_second: int, report: FloodReport) -> End:
        """Make so many reports of that kind a second beside all others."""
        ...

    def attack(self, attack: Attack) -> End:
        """Run a hostile program (`sim.hostile`) on its computer, beside the agent, while it has power."""
        ...


class Middle(Protocol):
    """The site's proxy."""

    async def refuse(self) -> End:
        """Let nobody through while anybody asks for this; tunnels that are open are ended."""
        ...

    async def go_silent(self) -> End:
        """Take everything and answer nothing; when nobody asks for this any more, tunnels are ended."""
        ...

    async def kill_idle_after(self, seconds: float) -> End:
        """End tunnels that are idle for so long; of several times the shortest counts."""
        ...

    async def hold_back(self, seconds: float) -> End:
        """Hold everything back for so long, each way; several times add up."""
        ...


class EmulatedMiddle(Middle, Protocol):
    """The virtual world's proxy."""

    async def inspect(self) -> End:
        """Terminate TLS under certificates of its own CA while anybody asks for this; open tunnels are ended."""
        ...


class FarSide(Protocol):
    """The data center."""

    async def present(self, certificate: Certificate) -> End:
        """Present that certificate; of several the one that came last counts. Open connections are ended."""
        ...

    async def hold_down(self) -> End:
        """Kill the program; it is started again when nobody holds it down any more."""
        ...

    def queue_command(self, instrument: str, verb: Verb) -> None:
        """Queue a command for the instrument of that serial number, or with "" for the box."""
        ...


class EmulatedFarSide(FarSide, Protocol):
    """The virtual world's data center."""

    def answer_with(self, status: int) -> End:
        """Answer every batch with that status; of several the one that came last counts."""
        ...

    def answer_nonsense(self) -> End:
        """Answer every batch with 200 and no reply."""
        ...

    def lose_responses(self) -> End:
        """Commit each batch, and end the connection instead of answering."""
        ...

    def think(self, delay_ns: int) -> End:
        """Take so long before looking at a batch; several times add up."""
        ...


class NameService(Protocol):
    """The site's name service."""

    def fall_silent(self) -> End:
        """Answer nothing."""
        ...

    def lie(self) -> End:
        """Answer with an address that nobody has."""
        ...


class EmulatedNameService(NameService, Protocol):
    """The virtual world's name service."""

    def delay(self, delay_ns: int) -> End:
        """Take so long to answer; several times add up."""
        ...


class Strangers(Protocol):
    """Programs that try to reach what the firewall is to keep from them."""

    def begin(self, where: str, every_ns: int) -> End:
        """Try everything from there, again and again, with a pause of `every_ns`."""
        ...


class World(Protocol):
    """The world that runs the lab."""

    def link(self, target: str) -> LinkPart:
        """`uplink`, or the cable of `instrument:<port>`."""
        ...

    def instrument(self, target: str) -> InstrumentPart:
        """The instrument at `instrument:<port>`."""
        ...

    @property
    def box(self) -> BoxPart:
        """The box."""
        ...

    @property
    def proxy(self) -> Middle | None:
        """The site's proxy; a lab without one has no fault that needs it."""
        ...

    @property
    def datacenter(self) -> FarSide:
        """The data center."""
        ...

    @property
    def names(self) -> NameService:
        """The site's name service."""
        ...

    async def change_address(self, target: str) -> None:
        """Give the box's `uplink`, or the `datacenter`, another address; connections with the old one are dead."""
        ...

    @property
    def intruders(self) -> Strangers:
        """Programs where they should not be."""
        ...


class EmulatedWorld(World, Protocol):
    """The virtual world."""

    @property
    def proxy(self) -> EmulatedMiddle | None:
        """The site's proxy; a lab without one has no fault that needs it."""
        ...

    @property
    def box(self) -> EmulatedMachine:
        """The box."""
        ...

    @property
    def datacenter(self) -> EmulatedFarSide:
        """The data center."""
        ...

    @property
    def names(self) -> EmulatedNameService:
        """The site's name service."""
        ...
