"""The firewall in the kernel: put a policy in force, compare, count.

A policy is put in force in one transaction (`netfw.transition`): either all of it holds afterwards, or what held
before. Open sessions stay open, if the new policy has them, and counts go on.

Only the firewall's own table is ever touched. Another one, such as firewalld's, lives beside it: a packet must pass
both.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from socket import socket
from typing import Final, NamedTuple

from netfw import listing, names
from netfw.errors import FirewallError, Kind
from netfw.nft import Nft
from netfw.policy import Policy
from netfw.refill import refill
from netfw.render import Ruleset, render
from netfw.sessions import found_sessions, timed_elements, with_sessions
from netfw.terms import Json
from netfw.transition import removal, transition

ATTEMPTS_MAX: Final = 3
"""Somebody may change the table between reading it and writing it."""

LISTED_MAX: Final = 1000
"""Elements. 10,000 take 250 ms to list and compare, and 80 ms to load."""


class Count(NamedTuple):
    """What was refused for one cause."""

    packets: int
    bytes: int


class _Rendered(NamedTuple):
    """A policy, its ruleset, and how the kernel should list that."""

    policy: Policy
    ruleset: Ruleset
    listing: listing.Listing


class Firewall:
    """The table in this network namespace. Errors of all methods: FirewallError."""

    def __init__(self, nft: Nft) -> None:
        self.nft = nft
        self._rendered: _Rendered | None = None

    def apply(self, policy: Policy, changed: Container[str] | None = None) -> None:
        """Put the policy in force. On return the kernel holds it.

        Who knows that only some sets are `changed` since it was in force says so, and the others are left alone.
        """
        for attempt in range(1, ATTEMPTS_MAX + 1):
            try:
                self.nft.run(self._commands(policy, changed))
            except FirewallError as error:
                if error.kind is not Kind.REFUSED or attempt == ATTEMPTS_MAX:
                    raise
            else:
                return

    def refill(self, policy: Policy, sets: Container[str], sock: socket) -> None:
        """Fill these of the policy's sets anew, in a third of the time that `apply` takes (`netfw.refill`)."""
        refill(sock, (each for each in self._of(policy).ruleset.sets if each.name in sets))

    def differences(self, policy: Policy, changed: Container[str] | None = None) -> list[str]:
        """What the kernel holds otherwise than the policy, a line each.

        Of sets only those are looked at that may be `changed`: all, if nobody knows.
        """
        outline = self.nft.outline()
        if outline is None:
            return [f"there is no table {names.FAMILY} {names.TABLE}"]
        wanted, found = self._of(policy).listing, listing.of_objects(outline)
        looked_at = {
            name for name in (*found.elements, *wanted.elements) if changed is None or name in changed
        }
        found.elements |= {name: self.nft.elements(name) for name in looked_at}
        return list(listing.differences(wanted, found, looked_at))

    def large_sets(self, policy: Policy) -> frozenset[str]:
        """Sets of the policy that are filled anew in less time than it takes to see what they hold."""
        sizes = {name: len(elements) for name, elements in self._of(policy).listing.elements.items()}
        return frozenset(name for name, size in sizes.items() if size > LISTED_MAX)

    def mark(self) -> str:
        """The mark of the policy that is said to be in force; "" if none is."""
        return listing.mark(self.nft.outline() or [])

    def mark_of(self, policy: Policy) -> str:
        """What `mark` is while this policy is in force."""
        return self._of(policy).ruleset.mark

    def counts(self) -> dict[str, Count]:
        """What was refused since the box started, by cause. Empty if there is no table."""
        listed = [thing["counter"] for thing in self.nft.outline() or [] if "counter" in thing]
        return {counter["name"]: Count(counter["packets"], counter["bytes"]) for counter in listed}

    def _commands(self, policy: Policy, changed: Container[str] | None) -> Iterable[Json]:
        rendered, outline = self._of(policy), self.nft.outline()
        if outline is None:
            return rendered.ruleset.commands()
        wanted, sessions = rendered.listing.declarations, found_sessions(policy, self.nft)
        return transition(rendered.ruleset, wanted, outline, sessions, changed)

    def _of(self, policy: Policy) -> _Rendered:
        """Kept, for a watch asks at every change. By identity: to compare 10,000 addresses takes its time."""
        if self._rendered is None or self._rendered.policy is not policy:
            ruleset = render(policy)
            self._rendered = _Rendered(policy, ruleset, listing.of_ruleset(ruleset))
        return self._rendered

    def snapshot(self) -> list[Json] | None:
        """The table as it is, for `restore`; None if there is none."""
        return self.nft.table()

    def restore(self, snapshot: list[Json] | None) -> None:
        """Make the table again what it was, or remove it if there was none. A session that ended since stays so."""
        still_open = dict(timed_elements(self.nft.table() or []))
        things = [with_sessions(thing, still_open) for thing in snapshot or []]
        self.nft.run([*removal(), *({"add": thing} for thing in things)])

    def remove(self) -> None:
        """Take the table away: nothing is refused any more."""
        self.restore(None)
