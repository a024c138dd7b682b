"""The complete packet filter of a simulated box: ruleset model and connection tracking.

A packet takes one of three paths, as in the kernel. Each begins with the chains before connection tracking:

    receive    prerouting, input                     to the box
    forward    prerouting, forward, postrouting      through the box; routing has set the packet's `oif`
    send       output, postrouting                   from the box

Between prerouting and the other hooks, the IP layer drops packets with unacceptable IPv4 options. Fragments must be
reassembled beforehand (`netfw.model.fragments`).
"""

from __future__ import annotations

import msgspec

from netfw.model.conntrack import Conntrack, Settings, Tracked
from netfw.model.ip_options import ipv4_options_are_valid
from netfw.model.packet import Packet
from netfw.model.rules import CONNTRACK, Hook, PacketVerdict, RulesetModel
from netfw.model.values import NOT_TRACKED_YET, Json


class PacketFilterModel:
    """A ruleset (see `netfw.model.rules.RulesetModel`) and its tracked connections.

    A cached verdict is valid until `generation` changes or `constant_until_ns` is reached.
    """

    def __init__(self, ruleset: Json, settings: Settings | None = None) -> None:
        self.model = RulesetModel(ruleset)
        self.conntrack = Conntrack(settings)
        self.generation = 0
        """Number of changes of the ruleset and its sets."""

    def load(self, ruleset: Json) -> None:
        """Replace the ruleset; connections stay tracked, as in the kernel."""
        self.model = RulesetModel(ruleset)
        self.generation += 1

    def constant_until_ns(self, now_ns: int) -> int:
        """Return when the next set element times out, which can change verdicts without a new generation."""
        return self.model.next_timeout_ns(now_ns)

    def receive(self, packet: Packet, now_ns: int) -> PacketVerdict:
        """Process a packet received at `iif` for the box itself."""
        return self._pass(packet, now_ns, "prerouting", "input")

    def forward(self, packet: Packet, now_ns: int) -> PacketVerdict:
        """Process a packet received at `iif` that routing sends out at `oif`."""
        return self._pass(packet, now_ns, "prerouting", "forward", "postrouting")

    def send(self, packet: Packet, now_ns: int) -> PacketVerdict:
        """Process a packet of the box itself, sent at `oif`."""
        return self._pass(packet, now_ns, "output", "postrouting")

    def arrive(self, packet: Packet, now_ns: int) -> PacketVerdict:
        """Process a packet received at `iif` without a route: it passes only the first hook."""
        return self._begin(packet, now_ns, "prerouting")[0]

    def would_pass(self, packet: Packet, oif: str, now_ns: int) -> bool:
        """Return whether a packet received at `iif` would be forwarded to `oif`, or received if that is "".

        The packet is not tracked.
        """
        verdict, tracked = self._begin(_at("prerouting", packet), now_ns, "prerouting")
        if verdict.action != "accept":
            return False
        routed = msgspec.structs.replace(packet, oif=oif)
        hook: Hook = "forward" if oif else "input"
        return self.model.evaluate(hook, routed, tracked.tracking, now_ns).action == "accept"

    def open(self, name: str, element: Json, now_ns: int) -> None:
        """Add an element to a named set; its timeout starts now."""
        self.model.set(name).add(element, now_ns=now_ns)
        self.generation += 1

    def close(self, name: str, element: Json) -> None:
        """Delete an element of a named set. Connections it permitted remain in `conntrack`, as in the kernel."""
        self.model.set(name).remove(element)
        self.generation += 1

    def _begin(self, packet: Packet, now_ns: int, hook: Hook) -> tuple[PacketVerdict, Tracked]:
        """Process the first hook, with connection tracking in the middle of its chains."""
        tracked = Tracked(NOT_TRACKED_YET)
        before = self.model.evaluate(hook, packet, tracked.tracking, now_ns, below=CONNTRACK)
        if before.action != "accept":
            return before, tracked
        tracked = self.conntrack.track(packet, now_ns, incoming=hook == "prerouting")
        after = self.model.evaluate(hook, packet, tracked.tracking, now_ns, above=CONNTRACK)
        return PacketVerdict(after.action, before.counters + after.counters, hook), tracked

    def _pass(self, packet: Packet, now_ns: int, first: Hook, *others: Hook) -> PacketVerdict:
        verdict, tracked = self._begin(_at(first, packet), now_ns, first)
        counters = verdict.counters
        if first == "prerouting" and packet.family == 4 and not ipv4_options_are_valid(packet.data):
            # dropped by the IP layer, or earlier by a rule
            return PacketVerdict("drop", counters, verdict.hook)
        for hook in others:
            if verdict.action != "accept":
                break
            verdict = self.model.evaluate(hook, _at(hook, packet), tracked.tracking, now_ns)
            counters += verdict.counters
        if verdict.action == "accept":
            self.conntrack.confirm(tracked.entry)
        return PacketVerdict(verdict.action, counters, verdict.hook)


def _at(hook: Hook, packet: Packet) -> Packet:
    """Return the packet with only the interfaces that are known at this hook."""
    if hook == "prerouting" and packet.oif:
        return msgspec.structs.replace(packet, oif="")
    if hook == "postrouting" and packet.iif:
        return msgspec.structs.replace(packet, iif="")
    return packet
