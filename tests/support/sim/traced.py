"""Two simulated hosts with a log of their TCP segments, in the format of tcpdump."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Final

from crc32c import crc32c

from sim.net.link import LinkEnd, LinkQuality
from sim.net.segment import ACK, FIN, RST, SYN, TcpSegment, Unreachable
from sim.units import MILLISECOND_NS
from tests.support.sim.network import Pair, Recorder

FLAGS: Final = ((SYN, "S"), (FIN, "F"), (RST, "R"), (ACK, "."))
MS: Final = MILLISECOND_NS
FAST: Final = LinkQuality(10_000_000, 20 * MS)


class Traced(Pair):
    """A pair of hosts whose segments are logged when they are sent."""

    def __init__(
        self,
        quality: LinkQuality = FAST,
        *,
        a: Collection[int] = (),
        b: Collection[int] = (),
        seed: int = 1,
        show_every: int = 1,
    ) -> None:
        """Lose the segments with the numbers `a` of host a and `b` of host b, each counted from 1.

        `text()` shows only every `show_every`-th line of the trace, and a checksum of all lines.
        """
        super().__init__(quality, seed)
        self._show_every = show_every
        self.lines: list[str] = []
        self._lost, self._count = {"a": a, "b": b}, {"a": 0, "b": 0}
        self._send = self.link.send
        self.link.send = self._watch  # type: ignore[method-assign]
        self.client, self.server = Recorder(), Recorder()

    def _watch(self, source: LinkEnd, segment: TcpSegment) -> None:
        name = source.name
        self._count[name] += 1
        is_lost = self._count[name] in self._lost[name]
        self.lines.append(f"{self._line(name, segment)}{'  lost' * is_lost}")
        if not is_lost:
            self._send(source, segment)

    def _line(self, name: str, segment: TcpSegment) -> str:
        if isinstance(segment, Unreachable):
            return f"{self._now()} {name}  unreachable"
        flags = "".join(letter for flag, letter in FLAGS if segment.flags & flag) + "P" * segment.push
        sack = "".join(f" {first}-{end}" for first, end in segment.sack)
        return (
            f"{self._now()} {name}  {flags:3} seq {segment.seq} len {len(segment.data)} ack {segment.ack} "
            f"win {segment.window}{' sack' * bool(sack)}{sack}"
        )

    def _now(self) -> str:
        seconds, rest = divmod(self.loop.env.now, 10**9)
        return f"{seconds}.{rest:09}"

    def note(self, text: str) -> None:
        """Add a comment line to the trace."""
        self.lines.append(f"{self._now()} {text}")

    # -- actions of the programs

    def listen(self, server: Recorder | None = None) -> None:
        """Accept connections at b."""
        accepted = server or self.server

        async def listening() -> None:
            await self.loop.create_server(lambda: accepted, "b", 80)

        self.run(self.b, listening())

    def connect(self, ms: int = 1000) -> None:
        """Connect from a to b, and let `ms` milliseconds pass."""

        async def dial() -> None:
            try:
                await self.loop.create_connection(lambda: self.client, "b", 80)
            except OSError as error:
                self.note(f"a's program: {type(error).__name__}: {error}")

        self.on(self.a, dial())
        self.wait(ms)

    def open(self, ms: int = 1000) -> None:
        """Listen at b, and connect from a."""
        self.listen()
        self.connect(ms)

    def wait(self, ms: int) -> None:
        """Let `ms` milliseconds pass."""
        self.loop.run_for(ms * MS)

    def upload(self, size: int, ms: int = 20_000) -> None:
        """Connect, send `size` bytes from a to b, and close from both ends."""
        self.open()
        self.client.transport.write(bytes(size))
        self.wait(ms)
        self.close()

    def close(self, ms: int = 2_000) -> None:
        """Close a's end; b follows."""
        self.client.transport.close()
        self.wait(ms)

    def text(self) -> str:
        """Return the trace, the number of bytes that each program received, and the ends of the connections."""
        if self._show_every > 1:
            checksum = crc32c("\n".join(self.lines).encode())
            self.lines = self.lines[:: self._show_every]
            self.note(f"all lines: checksum {checksum:08x}")
        self.note(f"received: {len(self.client.received)} bytes at a, {len(self.server.received)} bytes at b")
        for name, recorder in (("a", self.client), ("b", self.server)):
            if recorder.lost:
                self.note(f"{name}'s connection ended: {recorder.lost[0] or 'closed'}")
        return "\n".join(self.lines) + "\n"


class Verdicts:
    """A packet filter with fixed verdicts on sent and received segments."""

    def __init__(self, send: Any, receive: Any) -> None:
        self.verdicts = send, receive

    def send(self, *_: object) -> Any:
        return self.verdicts[0]

    def receive(self, *_: object) -> Any:
        return self.verdicts[1]


Scenario = Callable[[], Traced]
SCENARIOS: Final[dict[str, Scenario]] = {}


def scenario(function: Scenario) -> Scenario:
    """Add a function to the scenarios; its name becomes the file's name, its docstring the file's first line."""
    SCENARIOS[function.__name__.replace("_", "-")] = function
    return function
