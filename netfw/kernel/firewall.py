# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""The firewall in the kernel: put a policy in force, compare, repair, count.

A policy is put in force in one transaction (`netfw.ruleset.transition`): either all of it holds afterwards, or
what held before. Open sessions stay open, if the new policy has them, and counts go on.

Whether the policy is in force is decided by the kernel's own bytes (`netfw.kernel.picture`). The first time,
the bytes must
contain nothing unusual and libnftables' listing must be the policy's ruleset; from then on the picture is known, and
equal bytes are enough. The listing gives the words for what differs. Where it cannot be read, the objects and rules
that differ are named without it.

Only the firewall's own table is ever touched or listed. Another one, such as firewalld's, lives beside it: a packet
must pass both.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Container, Iterable
from dataclasses import dataclass, field
from socket import socket
from typing import Final, NamedTuple

from netfw.errors import FirewallError, FirewallErrorKind
from netfw.kernel import picture
from netfw.kernel.closing import OWNED, close_off
from netfw.kernel.nft import Nft
from netfw.kernel.picture import Picture, Unreadable
from netfw.kernel.picture_diff import differing_sets, lines
from netfw.kernel.refill import REFILLED, filling, holds_exactly, mend, send
from netfw.kernel.sessions import OpenSession, found_sessions, timed_elements, with_sessions
from netfw.policy.policy import Policy
from netfw.ruleset import listing, names
from netfw.ruleset.nft_json import Json
from netfw.ruleset.render import render
from netfw.ruleset.transition import removal, replacement, transition

ATTEMPTS_MAX: Final = 3
"""Somebody may change the table between reading it and writing it."""

MENDED_MAX: Final = 1000
"""Elements of a set that are added and deleted one by one; if more differ, it is filled anew."""

LISTED_MAX: Final = 1000
"""Elements of a set that are listed in words; 10,000 would take 130 ms."""


MISREAD: Final = (LookupError, TypeError, ValueError, AttributeError)
"""What reading a listing may end with if it contains something unexpected."""


class RefusedCount(NamedTuple):
    """What was refused for one cause."""

    packets: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Differences:
    """What the kernel holds otherwise than the policy: a line each, and what a repair must know."""

    lines: tuple[str, ...] = ()
    sets: frozenset[str] | None = None
    """Sets whose elements differ; None if that is not known."""
    nothing_else: bool = False
    """Whether only elements of sets differ."""
    strange: bool = False
    """Whether the table contains what cannot be changed in its place."""
    picture: Picture | None = field(default=None, compare=False, repr=False)
    """The table as it was found, if it could be read and compared with a known picture."""

    def __bool__(self) -> bool:
        """Whether anything differs."""
        return bool(self.lines)


class _Rendered:
    """A policy, its ruleset, how libnftables should list that, and its picture once it was in force."""

    def __init__(self, policy: Policy) -> None:
        self.policy, self.ruleset = policy, render(policy)
        self.listing = listing.of_ruleset(self.ruleset)
        self.picture: Picture | None = None
        sizes = {name: len(elements) for name, elements in self.listing.elements.items()}
        self.large = frozenset(name for name, size in sizes.items() if size > LISTED_MAX) & REFILLED
        self.fillings = {each.name: filling(each) for each in self.ruleset.sets if each.name in REFILLED}
        """The messages that fill a set, by its name; made in advance, so that a repair only has to send them."""


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
                if error.kind is FirewallErrorKind.DENIED and (found := self._now()) and found.owned:
                    raise FirewallError(FirewallErrorKind.REFUSED, OWNED) from error
                if error.kind is not FirewallErrorKind.REFUSED or attempt == ATTEMPTS_MAX:
                    raise
            else:
                return

    def repair(self, policy: Policy, found: Differences, sock: socket) -> None:
        """Put the policy in force again. `sock` is a netfilter socket for this alone.

        Rules come first and thousands of addresses last, which netlink's own messages add in a fifth of the time that
        libnftables takes. Meanwhile the box reaches fewer addresses than it may, and nobody reaches more.

        A table that cannot be changed in its place, or that libnftables cannot handle, is first replaced by one that
        drops everything: the kernel does that without looking at what is in the table.
        """
        rendered = self._of(policy)
        if (
            found.sets
            and found.nothing_else
            and found.sets <= REFILLED
            and found.picture
            and rendered.picture
        ):
            for name in found.sets:
                here, there = rendered.picture.elements[name], found.picture.elements.get(name, frozenset())
                missing, beyond = here - there, there - here
                if len(missing) + len(beyond) > MENDED_MAX:
                    self.refill(policy, {name}, sock)
                else:
                    mend(sock, name, missing, beyond)
            return
        if not found.strange:
            sets = (
                frozenset(each.name for each in rendered.ruleset.sets) if found.sets is None else found.sets
            )
            try:
                self._run_without(rendered.large, self._commands(policy, sets - rendered.large))
            except FirewallError as error:
                if error.kind is FirewallErrorKind.LACKING:
                    raise
            else:
                self.refill(policy, rendered.large & sets, sock)
                return
        replacing = list(self._replacement(policy))
        close_off(sock)
        self._run_without(rendered.large, replacing)
        self.refill(policy, rendered.large, sock)

    def _run_without(self, sets: Container[str], commands: Iterable[Json]) -> None:
        """Run the commands but for those that add elements to these sets."""
        self.nft.run(
            each for each in commands if each.get("add", {}).get("element", {}).get("name") not in sets
        )

    def refill(self, policy: Policy, sets: Container[str], sock: socket) -> None:
        """Fill these of the policy's sets anew, in a fifth of the time that `apply` takes (`netfw.kernel.refill`)."""
        fillings = self._of(policy).fillings
        if messages := [message for name in fillings if name in sets for message in fillings[name]]:
            send(sock, messages)

    def look(self, policy: Policy) -> Differences:
        """What the kernel holds otherwise than the policy."""
        rendered = self._of(policy)
        try:
            found = self._picture(rendered)
        except Unreadable as error:
            return Differences((f"the table cannot be read: {error}",), strange=True)
        if found is None:
            return Differences((f"there is no table {names.FAMILY} {names.TABLE}",))
        if rendered.picture is None:
            return self._first_look(rendered, found)
        if not found.strange and found.equals(rendered.picture):
            rendered.picture = found  # sets filled anew may be dumped in another order
            return Differences()
        sets, others = differing_sets(rendered.picture, found)
        words = found.strange or self._words(rendered, found, sets) or lines(rendered.picture, found)
        return Differences(tuple(words), sets, not others, bool(found.strange), found)

    def differences(self, policy: Policy) -> list[str]:
        """What the kernel holds otherwise than the policy, a line each."""
        return list(self.look(policy).lines)

    def _first_look(self, rendered: _Rendered, found: Picture) -> Differences:
        """Compares what libnftables lists. If that is the policy's ruleset, so is the picture from now on."""
        if found.strange:
            return Differences(tuple(found.strange), strange=True)
        words = self._words(rendered, found, frozenset(found.elements))
        if words is None:
            return Differences(("libnftables cannot list the table",), strange=True)
        if not words:
            now = self._picture(rendered)
            if now is None or not now.equals(found):
                return Differences(("the table was changed while it was read",))
            rendered.picture = found
        return Differences(tuple(words))

    def _words(self, rendered: _Rendered, found: Picture, sets: Collection[str]) -> list[str] | None:
        """The differences in words; None if libnftables does not list the table so that it can be read."""
        large = rendered.large.intersection(sets)
        small = set(sets) - large
        try:
            listed = listing.of_objects(self.nft.outline(alone=found.alone) or [])
            listed.elements |= {name: self.nft.elements(name) for name in small}
            words = list(listing.differences(rendered.listing, listed, small))
        except (FirewallError, *MISREAD):
            return None
        by_name = {each.name: each for each in rendered.ruleset.sets}
        return words + [
            f"set {name} was changed"
            for name in sorted(large)
            if not holds_exactly(by_name[name], found.elements.get(name, frozenset()))
        ]

    def _picture(self, rendered: _Rendered) -> Picture | None:
        try:
            return picture.take(self.nft.socket, rendered.ruleset.unsteady, rendered.picture)
        except OSError as error:
            raise _explained(error) from error

    def mark(self) -> str:
        """The mark of the policy that is said to be in force; "" if none is."""
        found = self._now()
        return found.mark if found else ""

    def mark_of(self, policy: Policy) -> str:
        """What `mark` is while this policy is in force."""
        return self._of(policy).ruleset.mark

    def counts(self) -> dict[str, RefusedCount]:
        """What was refused since the box started, by cause. Empty if there is no table."""
        found = self._now()
        return {name: RefusedCount(*count) for name, count in found.counts.items()} if found else {}

    def _now(self) -> Picture | None:
        """The table, without the elements of its sets."""
        try:
            return picture.take(self.nft.socket, None)
        except Unreadable as error:
            raise FirewallError(FirewallErrorKind.REFUSED, f"the table cannot be read: {error}") from error
        except OSError as error:
            raise _explained(error) from error

    def _commands(self, policy: Policy, changed: Container[str] | None) -> Iterable[Json]:
        rendered = self._of(policy)
        try:
            found = picture.take(self.nft.socket, None)
            if found is None:
                return rendered.ruleset.commands()
            if not found.strange and (outline := self.nft.outline(alone=found.alone)) is not None:
                wanted, sessions = rendered.listing.declarations, found_sessions(policy, self.nft)
                return transition(rendered.ruleset, wanted, outline, sessions, changed)
        except PermissionError as error:
            raise _explained(error) from error
        except (OSError, Unreadable, *MISREAD):
            pass  # whatever is in the table, it does not have to be understood to be replaced
        return self._replacement(policy)

    def _replacement(self, policy: Policy) -> Iterable[Json]:
        """Makes the ruleset of any table; with counts and open sessions, as far as they can be read."""
        counts: dict[str, tuple[int, int]] = {}
        sessions: list[OpenSession] = []
        with contextlib.suppress(OSError, Unreadable, FirewallError, *MISREAD):
            if found := picture.take(self.nft.socket, None):
                counts = found.counts
            sessions = found_sessions(policy, self.nft).open
        return replacement(self._of(policy).ruleset, counts, sessions)

    def _of(self, policy: Policy) -> _Rendered:
        """Kept, for a watch asks at every change. By identity: to compare 10,000 addresses takes its time."""
        if self._rendered is None or self._rendered.policy is not policy:
            self._rendered = _Rendered(policy)
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


def _explained(error: OSError) -> FirewallError:
    if isinstance(error, PermissionError):
        return FirewallError(
            FirewallErrorKind.DENIED, "the kernel does not let this user read the firewall; be root"
        )
    return FirewallError(
        FirewallErrorKind.REFUSED, f"the kernel does not list the ruleset: {error.strerror or error}"
    )
