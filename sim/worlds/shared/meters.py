"""Meters of a run: the uplink's traffic, the backlog and the connections over time, in bins."""

from __future__ import annotations

from typing import Final

from sim.engine.trace import Trace
from sim.net.link import Link
from sim.units import SECOND_NS
from sim.verdict.result import BacklogSeries, Interval, Series

BINS: Final = 720


class UplinkMeter:
    """The bytes in each direction and the busy time towards the data center, by bin."""

    def __init__(self, link: Link, duration_ns: int, trace: Trace) -> None:
        self._trace = trace
        self.began_ns = 0
        """The start of the lab on the link's clock, in nanoseconds."""
        self.bin_ns = bin_width(duration_ns)
        bins = -(-duration_ns // self.bin_ns)
        self.up, self.down = [0] * bins, [0] * bins
        self._busy_ns = [0] * bins
        link.forward.on_send = self._sent_up
        link.backward.on_send = self._sent_down

    def _sent_up(self, start_ns: int, duration_ns: int, length: int) -> None:
        start_ns -= self.began_ns
        self._trace.add(f"uplink > {start_ns} {length}")
        first = start_ns // self.bin_ns
        if not 0 <= first < len(self.up):
            return  # before the lab began, or after its planned end
        self.up[first] += length
        while duration_ns > 0 and first < len(self.up):
            share = min(duration_ns, (first + 1) * self.bin_ns - start_ns)
            self._busy_ns[first] += share
            start_ns, duration_ns, first = start_ns + share, duration_ns - share, first + 1

    def _sent_down(self, start_ns: int, _duration_ns: int, length: int) -> None:
        start_ns -= self.began_ns
        self._trace.add(f"uplink < {start_ns} {length}")
        index = start_ns // self.bin_ns
        if 0 <= index < len(self.down):
            self.down[index] += length

    @property
    def busy(self) -> tuple[float, ...]:
        """The share of each bin in which the link was sending towards the data center."""
        return tuple(min(1.0, ns / self.bin_ns) for ns in self._busy_ns)


class BacklogMeter:
    """The records on the box by priority, and the times of its connection, sampled once per bin."""

    def __init__(self) -> None:
        self.samples: list[tuple[int, int, int]] = []
        self._intervals: list[Interval] = []
        self._connected_since: int | None = None

    def sample(self, now_ns: int, backlog: tuple[int, int, int] | None, *, connected: bool) -> None:
        """Add a sample; a backlog of None (the box is off) repeats the previous one."""
        self.samples.append(backlog if backlog is not None else (self.samples or [(0, 0, 0)])[-1])
        self.connection(now_ns, up=connected)

    def connection(self, now_ns: int, *, up: bool) -> None:
        """Record whether the box has a connection to the data center."""
        if up and self._connected_since is None:
            self._connected_since = now_ns
        elif not up and self._connected_since is not None:
            self._intervals.append((self._connected_since, now_ns))
            self._connected_since = None

    def series(self, uplink: UplinkMeter, now_ns: int) -> Series:
        """Return the series of a run that ends at `now_ns`."""
        self.connection(now_ns, up=False)
        bins = min(len(self.samples), len(uplink.up))
        alert, audit, routine = zip(*self.samples[:bins], strict=True) if bins else ((), (), ())
        return Series(
            bin_ns=uplink.bin_ns,
            bytes_up=tuple(uplink.up[:bins]),
            bytes_down=tuple(uplink.down[:bins]),
            busy=uplink.busy[:bins],
            backlog=BacklogSeries(alert=alert, audit=audit, routine=routine),
            connected=tuple(self._intervals),
        )


class ConnectionMeter:
    """The maximum number of connections with instruments open on the box at once, sampled once per bin."""

    def __init__(self) -> None:
        self.most: int | None = None

    def sample(self, connections: int | None) -> None:
        """Add a sample; None while the box program does not run."""
        if connections is not None:
            self.most = max(connections, self.most or 0)


def bin_width(duration_ns: int) -> int:
    """Return the width of a bin in ns: the smallest number of whole seconds that needs no more than BINS bins."""
    return max(1, -(-duration_ns // (BINS * SECOND_NS))) * SECOND_NS
