"""Links between two hosts: one pipe in each direction, with a rate, a queue, a delay, jitter, loss and reordering.

A packet waits until all packets queued before it are sent, takes its length divided by the rate to be sent, and
arrives after `delay` and a random part of `jitter`. It can be lost, duplicated, or overtake the previous packet.
Packets are dropped while the queue exceeds `queue_bytes_max`, as by a router (tail drop). Jitter does not change the
order of packets, as on a real line; reordering is a separate property.

Lengths are those of the IP packets: a TCP segment has HEADER_BYTES of headers, and options. The box turns TCP
timestamps off, which would add 12 bytes to every packet.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from random import Random
from typing import Final, Protocol, TypeAlias

from sim.engine.clock import Environment
from sim.engine.layers import End, Layers
from sim.engine.streams import branch
from sim.net.segment import HEADER_BYTES, TcpSegment
from sim.net.timers import LazyTimers

_NS: Final = 1_000_000_000
_REORDER_NS_MIN: Final = 10_000_000
"""A reordered packet arrives later by the link's delay, or by this if that is less."""
_ACK: Final = 0x10

_Deliver: TypeAlias = Callable[[TcpSegment], None]


class LinkEnd(Protocol):
    """A host at one end of a link."""

    @property
    def name(self) -> str:
        """The host's name."""
        ...

    def receive(self, segment: TcpSegment, link: Link) -> None:
        """Process a segment that arrived over `link`."""
        ...


@dataclass(frozen=True, slots=True)
class LinkQuality:
    """The properties of a link: rates in bits per second, times in nanoseconds, probabilities from 0 to 1."""

    rate_bits: int
    delay_ns: int = 0
    jitter_ns: int = 0
    loss: float = 0.0
    duplication: float = 0.0
    reordering: float = 0.0
    queue_bytes_max: int = 256 * 1024
    packet_bytes_max: int = 65535
    """Longer packets are lost without an ICMP error (a path MTU black hole)."""
    overhead_bytes: int = 0
    """Additional bytes per packet, such as the headers of a VPN."""
    is_steady: bool = field(init=False)
    """Whether every packet that is not too long arrives exactly once, after a constant delay."""

    def __post_init__(self) -> None:
        steady = not (self.jitter_ns or self.loss or self.duplication or self.reordering)
        object.__setattr__(self, "is_steady", steady)


@dataclass(frozen=True, slots=True)
class Impairment:
    """The effect of one fault on a link, combined with its other impairments by `impaired`."""

    rate_bits: int | None = None
    """An upper limit of the rate, in bits per second; None for no limit."""
    delay_ns: int = 0
    """Delay added to each packet."""
    jitter_ns: int = 0
    """Jitter added to each packet's delay."""
    loss: float = 0.0
    """The probability that this impairment loses a packet; likewise `duplication` and `reordering`."""
    duplication: float = 0.0
    reordering: float = 0.0
    packet_bytes_max: int | None = None
    """Longer packets are lost; None for no limit."""


def impaired(quality: LinkQuality, impairments: Sequence[Impairment]) -> LinkQuality:
    """Return the quality of a link with all of `impairments`.

    The lowest rate and the shortest packet length apply. Delays and jitters add up. Losses, duplications and
    reorderings by each impairment are independent of the others and of the link's own.
    """
    rates = [impairment.rate_bits for impairment in impairments if impairment.rate_bits is not None]
    lengths = [
        impairment.packet_bytes_max for impairment in impairments if impairment.packet_bytes_max is not None
    ]
    return replace(
        quality,
        rate_bits=min(rates, default=quality.rate_bits),
        delay_ns=quality.delay_ns + sum(impairment.delay_ns for impairment in impairments),
        jitter_ns=quality.jitter_ns + sum(impairment.jitter_ns for impairment in impairments),
        loss=_either(quality.loss, *(impairment.loss for impairment in impairments)),
        duplication=_either(quality.duplication, *(impairment.duplication for impairment in impairments)),
        reordering=_either(quality.reordering, *(impairment.reordering for impairment in impairments)),
        packet_bytes_max=min([quality.packet_bytes_max, *lengths]),
    )


def _either(*probabilities: float) -> float:
    """Return the probability that at least one of several independent events occurs."""
    some = [probability for probability in probabilities if probability]
    return 1 - prod(1 - probability for probability in some) if len(some) > 1 else sum(some)


class _Waiting:
    """A packet in the queue. It is queued again when the link's quality changes."""

    __slots__ = ("deliver", "duration_ns", "length", "lost", "segment", "start_ns")

    def __init__(
        self, start_ns: int, duration_ns: int, length: int, segment: TcpSegment, deliver: _Deliver
    ) -> None:
        self.start_ns, self.duration_ns, self.length = start_ns, duration_ns, length
        self.segment = segment
        self.deliver: _Deliver | None = deliver
        self.lost = False

    def arrive(self, segment: TcpSegment) -> None:
        """Deliver the packet, unless it was queued again or the queue was emptied."""
        if self.deliver is not None:
            self.deliver(segment)


class Pipe:
    """One direction of a link, with counters of what was sent."""

    def __init__(self, env: Environment, quality: LinkQuality, random: Random) -> None:
        self._env = env
        self.quality = quality
        self.random = random
        """The source of the random decisions on losses, jitter and so on, in the order of the packets."""
        self._free_at_ns = 0
        self._last_arrival_ns = 0
        self._waiting: deque[_Waiting] = deque()
        self.bytes = 0
        self.header_bytes = 0
        self.packets = 0
        self.lost = 0
        self.busy_ns = 0
        self.on_send: Callable[[int, int, int], None] | None = None
        """Called for each packet that is sent, with (start_ns, duration_ns, bytes)."""
        self.resent_bytes = 0
        """The part of `bytes` that is retransmitted TCP payload."""

    def send(self, length: int, segment: TcpSegment, deliver: _Deliver, header: int = HEADER_BYTES) -> None:
        """Queue a packet of `length` bytes, of which `header` are headers.

        `deliver` is called with `segment` at each arrival: once, or never if it is lost, or twice if duplicated.
        """
        quality, now, start = self.quality, self._env.now, self._free_at_ns
        length += quality.overhead_bytes
        header += quality.overhead_bytes
        if start <= now:
            start = now
        elif (start - now) * quality.rate_bits > quality.queue_bytes_max * 8 * _NS:
            self.lost += 1
            return
        duration = length * 8 * _NS // quality.rate_bits
        self._free_at_ns = start + duration
        self.bytes += length
        self.header_bytes += header
        self.packets += 1
        self.busy_ns += duration
        if self.on_send is not None:
            self.on_send(start, duration, length)
        if start > now:
            self._send_waiting(_Waiting(start, duration, length, segment, deliver))
        elif quality.is_steady and length <= quality.packet_bytes_max:
            # the case of `_propagate` that most packets need, without its calls
            arrival = now + duration + quality.delay_ns
            if arrival > self._last_arrival_ns:
                self._last_arrival_ns = arrival
            else:
                arrival = self._last_arrival_ns
            self._env.after(arrival - now, deliver, segment)
        else:
            self._propagate(duration, length, segment, deliver)

    def _send_waiting(self, packet: _Waiting) -> None:
        waiting, now = self._waiting, self._env.now
        while waiting and waiting[0].start_ns <= now:
            waiting.popleft()
        waiting.append(packet)
        done_in = packet.start_ns + packet.duration_ns - now
        packet.lost = not self._propagate(done_in, packet.length, packet.segment, packet.arrive)

    def _propagate(self, delay: int, length: int, segment: TcpSegment, deliver: _Deliver) -> bool:
        """Schedule the arrival of a packet that will be sent `delay` ns from now; False if it is lost."""
        quality = self.quality
        if length > quality.packet_bytes_max:
            self.lost += 1
            return False
        if quality.loss and self.random.random() < quality.loss:
            self.lost += 1
            return False
        self._arrive(delay + quality.delay_ns, segment, deliver)
        if quality.duplication and self.random.random() < quality.duplication:
            self._arrive(delay + quality.delay_ns, segment, deliver)
        return True

    def _arrive(self, delay: int, segment: TcpSegment, deliver: _Deliver) -> None:
        quality, now = self.quality, self._env.now
        if quality.jitter_ns:
            delay += self.random.randrange(quality.jitter_ns)
        if quality.reordering and self.random.random() < quality.reordering:
            delay += max(quality.delay_ns, _REORDER_NS_MIN)
        elif now + delay > self._last_arrival_ns:
            self._last_arrival_ns = now + delay
        else:
            delay = self._last_arrival_ns - now
        self._env.after(delay, deliver, segment)

    def change(self, quality: LinkQuality) -> None:
        """Change the quality from now on, also for queued packets; packets already sent arrive as before.

        Order is kept only among packets sent with the same quality. Otherwise packets would wait behind earlier ones
        that were sent with a delay of minutes.
        """
        waiting, before, now = self._empty_queue(), self.quality, self._env.now
        self.quality = quality
        self._last_arrival_ns = 0
        if (remaining := self._free_at_ns - now) > 0:  # the rest of the packet that is being sent
            rescaled = remaining * before.rate_bits // quality.rate_bits
            self._free_at_ns = now + rescaled
            self.busy_ns += rescaled - remaining
        for packet in waiting:
            deliver = packet.deliver
            assert deliver is not None
            packet.deliver = None
            start = max(now, self._free_at_ns)
            duration = packet.length * 8 * _NS // quality.rate_bits
            self._free_at_ns = start + duration
            self.busy_ns += duration
            self._send_waiting(_Waiting(start, duration, packet.length, packet.segment, deliver))

    def clear(self) -> None:
        """Discard queued packets; later packets need not wait for those in flight, which the link itself discards."""
        now = self._env.now
        self._empty_queue()
        self.busy_ns -= max(0, self._free_at_ns - now)
        self._free_at_ns = self._last_arrival_ns = now

    def _empty_queue(self) -> list[_Waiting]:
        """Remove all queued packets and undo their effect on the counters."""
        now = self._env.now
        packets = [packet for packet in self._waiting if packet.start_ns > now]
        self._waiting.clear()
        if packets:
            self._free_at_ns = packets[0].start_ns
            self.busy_ns -= sum(packet.duration_ns for packet in packets)
            self.lost -= sum(packet.lost for packet in packets)
        return packets


class Link:
    """A link between two hosts: a cable, a line, or a network between routers."""

    def __init__(self, env: Environment, name: str, quality: LinkQuality, random: Random) -> None:
        self.name = name
        self._env = env
        self.up = True
        # a random stream for each direction, so that traffic one way does not change the losses of the other
        self.forward = Pipe(env, quality, branch(random))
        self.backward = Pipe(env, quality, branch(random))
        self.ends: tuple[LinkEnd, LinkEnd] | None = None
        self.timers = LazyTimers(env)
        """The timers of the connections over this link."""
        self._deliveries: tuple[_Deliver, _Deliver] | None = None
        """The functions that deliver segments at the near end and at the far end, until the carrier changes."""
        self.nominal = quality
        """The quality given by the lab, without impairments."""
        self._set_to = quality
        self._impairments = Layers[Impairment](self._requalify)
        self._cut = 0
        self._holds = Layers[None](self._follow_holds)
        self._own_hold: End | None = None
        self.on_change: list[Callable[[bool], None]] = []
        """Called at each change of the carrier, with True if the link is up."""

    @property
    def now(self) -> int:
        """The lab time, in ns."""
        return self._env.now

    def send(self, source: LinkEnd, segment: TcpSegment) -> None:
        """Send a segment from one end to the other; it is lost while the link is down."""
        if not self.up:
            return
        assert self.ends is not None
        near, far = self._deliveries or self._prepare()
        header = HEADER_BYTES
        if segment.sack or segment.flags != _ACK:
            header += segment.option_bytes
        length = header + len(segment.data)
        if source is self.ends[0]:
            self.forward.send(length, segment, far, header)
        else:
            self.backward.send(length, segment, near, header)

    def _prepare(self) -> tuple[_Deliver, _Deliver]:
        assert self.ends is not None
        near, far = self.ends
        self._deliveries = self._delivery(near), self._delivery(far)
        return self._deliveries

    def _delivery(self, target: LinkEnd) -> _Deliver:
        """Return a function that delivers segments to `target` unless the carrier changed after they were sent."""
        cut = self._cut

        def deliver(segment: TcpSegment) -> None:
            if cut == self._cut:
                target.receive(segment, self)

        return deliver

    def resent(self, source: LinkEnd, length: int) -> None:
        """Count `length` bytes of payload sent by `source` as retransmitted."""
        assert self.ends is not None
        pipe = self.forward if source is self.ends[0] else self.backward
        pipe.resent_bytes += length

    def other(self, host: LinkEnd) -> LinkEnd:
        """Return the host at the other end."""
        assert self.ends is not None
        return self.ends[1] if host is self.ends[0] else self.ends[0]

    # -- faults and manual changes

    def hold_down(self) -> End:
        """Take the link down: packets in flight are lost, and both ends lose the carrier.

        The link is up again when all such effects have ended.
        """
        return self._holds.add(None)

    def cut(self) -> None:
        """Take the link down, in addition to faults, until `mend`."""
        self._own_hold = self._own_hold or self.hold_down()

    def mend(self) -> None:
        """End `cut`; a fault may still keep the link down."""
        if self._own_hold is not None:
            self._own_hold()
            self._own_hold = None

    def _follow_holds(self) -> None:
        up = not self._holds
        if up != self.up:
            self._set(up=up)

    def _set(self, *, up: bool) -> None:
        self.up = up
        self._cut += 1
        self._deliveries = None
        for pipe in (self.forward, self.backward):
            pipe.clear()
        for changed in self.on_change:
            changed(up)

    def impair(self, impairment: Impairment) -> End:
        """Impair the link in both directions, in addition to other impairments: see `impaired`."""
        return self._impairments.add(impairment)

    def set_quality(self, **changes: float) -> None:
        """Change properties of LinkQuality until `restore`; impairments apply in addition."""
        self._set_to = replace(self._set_to, **changes)  # type: ignore[arg-type]
        self._requalify()

    def restore(self) -> None:
        """Restore the link's nominal quality."""
        self._set_to = self.nominal
        self._requalify()

    def _requalify(self) -> None:
        quality = impaired(self._set_to, list(self._impairments))
        if quality != self.forward.quality:
            self._change(quality)

    def _change(self, quality: LinkQuality) -> None:
        for pipe in (self.forward, self.backward):
            pipe.change(quality)
