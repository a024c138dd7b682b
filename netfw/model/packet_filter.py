"""The firewall in front of a simulated box: connection tracking and the model of the ruleset, put together.

A packet takes one of three ways, as in the kernel. Each begins with the chains before connection tracking:

    receive    prerouting, input                     to the box
    forward    prerouting, forward, postrouting      through the box; the packet's `oif` is where routing sends it
    send       output, postrouting                   from the box

Between prerouting and the others the IP layer drops what has IPv4 options that it does not accept.
Fragments are not put together here; that is `netfw.model.fragments`.
"""

from __future__ import annotations

import msgspec

from netfw.model.conntrack import Conntrack, Settings, Tracked
from netfw.model.ip_options import ipv4_options_hold
from netfw.model.packet import Packet
from netfw.model.rules import CONNTRACK, Hook, PacketVerdict, RulesetModel
from netfw.model.values import NOT_TRACKED_YET, Json


class PacketFilterModel:
    """A ruleset (as `netfw.model.rules.RulesetModel` takes it), and the connections that it has let through.

    Who keeps a verdict to use it again must ask anew once `generation` is another one or `steady_until_ns` is over.
    """

    def __init__(self, ruleset: Json, settings: Settings | None = None) -> None:
        self.model = RulesetModel(ruleset)
        self.conntrack = Conntrack(settings)
        self.generation = 0
        """Counts the changes of the ruleset and its sets."""

    def load(self, ruleset: Json) -> None:
        """Replace the ruleset; connections stay tracked, as in the kernel."""
        self.model = RulesetModel(ruleset)
        self.generation += 1

    def steady_until_ns(self, now_ns: int) -> int:
        """When the next element of a set times out, which changes verdicts without a new generation."""
        return self.model.next_timeout_ns(now_ns)

    def receive(self, packet: Packet, now_ns: int) -> PacketVerdict:
        """A packet that came in at `iif`, to the box itself."""
        return self._pass(packet, now_ns, "prerouting", "input")

    def forward(self, packet: Packet, now_ns: int) -> PacketVerdict:
        """A packet that came in at `iif` and that routing sends out at `oif`."""
        return self._pass(packet, now_ns, "prerouting", "forward", "postrouting")

    def send(self, packet: Packet, now_ns: int) -> PacketVerdict:
        """A packet of the box's own, going out at `oif`."""
        return self._pass(packet, now_ns, "output", "postrouting")

    def arrive(self, packet: Packet, now_ns: int) -> PacketVerdict:
        """A packet that came in at `iif`, and for which routing has no way: it meets the first chains only."""
        return self._begin(packet, now_ns, "prerouting")[0]

    def open(self, name: str, element: Json, now_ns: int) -> None:
        """Put an element into a named set; its timeout begins now."""
        self.model.set(name).add(element, now_ns=now_ns)
        self.generation += 1

    def close(self, name: str, element: Json) -> None:
        """Take an element out of a named set. What it let through remains in `conntrack`, as in the kernel."""
        self.model.set(name).remove(element)
        self.generation += 1

    def _begin(self, packet: Packet, now_ns: int, hook: Hook) -> tuple[PacketVerdict, Tracked]:
        """The first hook, with connection tracking in the middle of it."""
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
        if first == "prerouting" and packet.family == 4 and not ipv4_options_hold(packet.data):
            return PacketVerdict("drop", counters, verdict.hook)  # by the IP layer, or before that by a rule
        for hook in others:
            if verdict.action != "accept":
                break
            verdict = self.model.evaluate(hook, _at(hook, packet), tracked.tracking, now_ns)
            counters += verdict.counters
        if verdict.action == "accept":
            self.conntrack.confirm(tracked.entry)
        return PacketVerdict(verdict.action, counters, verdict.hook)


def _at(hook: Hook, packet: Packet) -> Packet:
    """The packet with the interfaces that this hook knows: not yet where it goes, or no longer where it came in."""
    if hook == "prerouting" and packet.oif:
        return msgspec.structs.replace(packet, oif="")
    if hook == "postrouting" and packet.iif:
        return msgspec.structs.replace(packet, iif="")
    return packet
