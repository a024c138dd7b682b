"""A link of the kernel world: the virtual world's link with Ethernet frames and in real time.

The treatment of packets, the counters and the operations for faults are those of `sim.net.link`.
Packets that never leave a link (ARP, and IPv6 packets to link-local addresses) are delivered at once while the link
is up: the virtual world has no such packets, and on a real line they would end at the next router.
"""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path
from random import Random
from threading import Lock
from typing import Any, Final, cast

from sim.net.link import Link, LinkQuality, Pipe
from sim.worlds.kernel.namespaces.cable import NearEnd
from sim.worlds.kernel.namespaces.capture import Capture
from sim.worlds.kernel.namespaces.relay import Relay

ETHERNET_BYTES: Final = 14
"""The header of a frame, which is not counted: lengths on a link are those of the IP packets."""
_IPV6: Final = b"\x86\xdd"
_IP_ETHERTYPES: Final = (b"\x08\x00", _IPV6)


class KernelLink(Link):
    """A link between interfaces of two hosts; `forward` is the direction from the first to the second.

    The callbacks `on_send` of its pipes are called in the relay's thread, the callbacks of `on_change` in the thread
    that changes the carrier.
    """

    def __init__(
        self, name: str, cable: tuple[NearEnd, NearEnd], quality: LinkQuality, random: Random, relay: Relay
    ) -> None:
        super().__init__(cast(Any, relay.clock), name, quality, random)
        self.cable = cable
        self._relay = relay
        self._sending = Lock()
        """Locks the pipes: the relay's thread sends packets, other threads change the quality."""
        self._capture: Capture | None = None
        near, far = cable
        for source, pipe, target in ((near, self.forward, far), (far, self.backward, near)):
            relay.carry(source.socket, partial(self._carry, source, pipe, target))

    @property
    def overrun(self) -> int:
        """The number of frames lost because this machine was too slow, not because of the link's quality."""
        return sum(end.overrun for end in self.cable)

    @property
    def captured(self) -> bool:
        """Whether a capture is running."""
        return self._capture is not None

    def used_ns(self) -> tuple[int, int]:
        """Return for how long each pipe (forward, backward) has been sending, in ns, without queued packets."""
        now = time.monotonic_ns()
        forward, backward = (
            pipe.busy_ns - max(0, pipe._free_at_ns - now) for pipe in (self.forward, self.backward)
        )
        return forward, backward

    def start_capture(self, file: Path | int) -> None:
        """Write the frames that the first host sends and receives as pcapng, until `stop_capture`.

        `file` is a path, or a file descriptor for `Capture`.
        """
        self.stop_capture()
        if isinstance(file, Path):
            file = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        self._capture = Capture(file, self.cable[0].interface)

    def stop_capture(self) -> None:
        """End the capture, if one is running."""
        capture, self._capture = self._capture, None
        if capture is not None:
            capture.close()

    def _set(self, *, up: bool) -> None:
        for end in self.cable:
            end.set_up(up=up)
        with self._sending:
            super()._set(up=up)

    def _change(self, quality: LinkQuality) -> None:
        with self._sending:
            super()._change(quality)
        self._relay.wake()  # a packet may be due earlier now

    def _carry(self, source: NearEnd, pipe: Pipe, target: NearEnd, frame: bytes) -> None:
        if not self.up:
            return
        cut = self._cut

        def deliver(_event: object) -> None:
            if cut == self._cut:
                self._deliver(frame, target)

        self._capture_frame(frame, source, outbound=True)
        if frame[12:14] not in _IP_ETHERTYPES or _stays_on_the_link(frame):
            self._deliver(frame, target)
            return
        with self._sending:
            pipe.send(len(frame) - ETHERNET_BYTES, cast(Any, frame), deliver)

    def _deliver(self, frame: bytes, target: NearEnd) -> None:
        try:
            target.socket.send(frame)
        except OSError:
            return  # the link was just set down, or the host's queue is full
        self._capture_frame(frame, target, outbound=False)

    def _capture_frame(self, frame: bytes, end: NearEnd, *, outbound: bool) -> None:
        capture = self._capture
        if capture is not None and end is self.cable[0]:
            capture.add(frame, time.time_ns(), outbound=outbound)


def _stays_on_the_link(frame: bytes) -> bool:
    """Return whether a frame contains an IPv6 packet to a link-local address: neighbor discovery, MLD and so on."""
    destination = frame[38:40]  # the first two bytes of the packet's destination
    return frame[12:14] == _IPV6 and (
        destination == b"\xff\x02" or (destination[0] == 0xFE and destination[1] & 0xC0 == 0x80)
    )
