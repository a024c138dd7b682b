"""Links: two pipes between two hosts, each with a rate, a queue, a delay, and bad luck.

A packet waits until the pipe has sent what was queued before it, takes its length over the rate to be sent,
then `delay` and a random part of `jitter` to arrive. It can be lost on the way, doubled, or overtake the one
before it. A queue beyond `queue_bytes_max` refuses packets, as a router's does. Packets keep their order under
jitter, as on a real line; reordering is a fault of its own.

Lengths are those of the IP packets: a TCP segment has HEADER_BYTES of headers. The box turns TCP timestamps
off, which at these rates are 12 bytes of every packet for nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sim.clock import Environment
    from sim.net.host import Host
    from sim.net.tcp import Segment

HEADER_BYTES: Final = 40
SYN_OPTION_BYTES: Final = 12
"""What Linux says in a SYN: segment size, window scale, selective acknowledgement permitted."""
MTU_BYTES: Final = 1500
_NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Quality:
    """How good a link is: bits a second; nanoseconds; probabilities."""

    rate_bits: int
    delay_ns: int = 0
    jitter_ns: int = 0
    loss: float = 0.0
    duplication: float = 0.0
    reordering: float = 0.0
    queue_bytes_max: int = 256 * 1024


class Pipe:
    """One direction of a link, with its account."""

    def __init__(self, env: Environment, quality: Quality, random: Random) -> None:
        self._env = env
        self.quality = quality
        self._random = random
        self._free_at_ns = 0
        self._last_arrival_ns = 0
        self.bytes = 0
        self.header_bytes = 0
        self.packets = 0
        self.lost = 0
        self.busy_ns = 0
        self.on_send: Callable[[int, int, int], None] | None = None
        """Called for each packet that takes the line's time, with (start_ns, duration_ns, bytes)."""
        self.resent_bytes = 0
        """Of `bytes`, what was sent before, above TCP/IP."""

    def send(self, length: int, segment: Segment, deliver: Callable[[Segment], None]) -> None:
        """Take a packet; `deliver` gets it, later, twice or never."""
        quality, now = self.quality, self._env.now
        start = self._free_at_ns if self._free_at_ns > now else now
        if (start - now) * quality.rate_bits > quality.queue_bytes_max * 8 * _NS:
            self.lost += 1
            return
        duration = length * 8 * _NS // quality.rate_bits
        self._free_at_ns = start + duration
        self.bytes += length
        self.header_bytes += HEADER_BYTES
        self.packets += 1
        self.busy_ns += duration
        if self.on_send is not None:
            self.on_send(start, duration, length)
        if quality.loss and self._random.random() < quality.loss:
            self.lost += 1
            return
        self._arrive(start + duration + quality.delay_ns - now, segment, deliver)
        if quality.duplication and self._random.random() < quality.duplication:
            self._arrive(start + duration + quality.delay_ns - now, segment, deliver)

    def _arrive(self, delay: int, segment: Segment, deliver: Callable[[Segment], None]) -> None:
        quality, now = self.quality, self._env.now
        if quality.jitter_ns:
            delay += self._random.randrange(quality.jitter_ns)
        if quality.reordering and self._random.random() < quality.reordering:
            delay += max(quality.delay_ns, _NS // 100)
        elif now + delay > self._last_arrival_ns:
            self._last_arrival_ns = now + delay
        else:
            delay = self._last_arrival_ns - now
        self._env.after(delay, deliver, segment)


class Link:
    """A cable, line or network between two hosts."""

    def __init__(self, env: Environment, name: str, quality: Quality, random: Random) -> None:
        self.name = name
        self.up = True
        self.forward = Pipe(env, quality, random)
        self.backward = Pipe(env, quality, random)
        self.ends: tuple[Host, Host] | None = None
        self._nominal = quality
        self._cut = 0
        self.on_change: list[Callable[[bool], None]] = []
        """Told the carrier at each change."""

    def send(self, source: Host, segment: Segment) -> None:
        """Send a segment from one end to the other; it is lost while the link is down."""
        if not self.up:
            return
        assert self.ends is not None
        near, far = self.ends
        pipe, target = (self.forward, far) if source is near else (self.backward, near)
        cut = self._cut

        def deliver(segment: Segment) -> None:
            if cut == self._cut:
                target.receive(segment, self)

        length = HEADER_BYTES + len(segment.data)
        if segment.syn:
            length += SYN_OPTION_BYTES
            pipe.header_bytes += SYN_OPTION_BYTES
        pipe.send(length, segment, deliver)

    def resent(self, source: Host, length: int) -> None:
        """Note that so many bytes of what `source` sends next were sent before."""
        assert self.ends is not None
        pipe = self.forward if source is self.ends[0] else self.backward
        pipe.resent_bytes += length

    @property
    def quality(self) -> Quality:
        """The nominal qualities."""
        return self._nominal

    def other(self, host: Host) -> Host:
        """The host at the other end."""
        assert self.ends is not None
        return self.ends[1] if host is self.ends[0] else self.ends[0]

    def cut(self) -> None:
        """Pull the cable: what is on the way is lost, both ends lose the carrier."""
        self._set(up=False)

    def mend(self) -> None:
        """Put the cable back."""
        self._set(up=True)

    def _set(self, *, up: bool) -> None:
        if up != self.up:
            self.up = up
            self._cut += 1
            for changed in self.on_change:
                changed(up)

    def degrade(self, **changes: float) -> None:
        """Change some of the qualities until `restore`."""
        quality = replace(self.forward.quality, **changes)  # type: ignore[arg-type]
        self.forward.quality = self.backward.quality = quality

    def restore(self) -> None:
        """Go back to the link's nominal qualities."""
        self.forward.quality = self.backward.quality = self._nominal
