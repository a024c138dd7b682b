# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""The firewall in the kernel: apply a policy, compare, repair, count.

A policy is applied in one transaction (`netfw.ruleset.transition`): afterwards either all of it is in force or the
previous policy is. Open sessions that the new policy permits stay open, and counters continue.

Whether the policy is in force is determined from the bytes of the kernel's dump (`netfw.kernel.snapshot`). The first
time, they must contain nothing unusual, and libnftables' listing must equal the policy's ruleset. From then on this
snapshot is the reference, and equal bytes suffice. The listing is used to describe differences in words; if it cannot
be read, the differing objects and rules are named without it.

Only the firewall's own table is changed or listed. Tables of other programs, such as firewalld's, are independent: a
packet must pass both.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Container, Iterable
from dataclasses import dataclass, field
from socket import socket
from typing import Final, NamedTuple, TypeVar

from netfw.errors import FirewallError, FirewallErrorKind
from netfw.kernel import snapshot
from netfw.kernel.lockdown import OWNED, drop_everything
from netfw.kernel.nft import Nft
from netfw.kernel.refill import REFILLED, holds_exactly, refill_messages, send, update_elements
from netfw.kernel.sessions import kernel_sessions
from netfw.kernel.snapshot import TableSnapshot, Unreadable
from netfw.kernel.snapshot_diff import differing_sets, lines
from netfw.policy.policy import Policy
from netfw.ruleset import listing, names
from netfw.ruleset.nft_json import Json
from netfw.ruleset.render import render
from netfw.ruleset.sessions import OpenSession, timed_elements, with_sessions
from netfw.ruleset.transition import removal, replacement, transition

ATTEMPTS_MAX: Final = 3
"""Attempts, because other programs may change the table between reading and writing."""

SINGLE_CHANGES_MAX: Final = 1000
"""Up to this many elements of a set are added or deleted one by one; beyond that the set is refilled."""

LISTED_MAX: Final = 1000
"""Sets with more elements are not listed in words: 10,000 would take 130 ms."""


LISTING_ERRORS: Final = (LookupError, TypeError, ValueError, AttributeError)
"""Exceptions while reading a listing with unexpected content."""


T = TypeVar("T")


class RefusedCount(NamedTuple):
    """Refused packets and bytes for one cause."""

    packets: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Differences:
    """Differences between the kernel and the policy, and the data that a repair needs."""

    lines: tuple[str, ...] = ()
    sets: frozenset[str] | None = None
    """Sets whose elements differ; None if unknown."""
    nothing_else: bool = False
    """Whether only elements of sets differ."""
    unsupported: bool = False
    """Whether the table contains something that cannot be changed in place."""
    snapshot: TableSnapshot | None = field(default=None, compare=False, repr=False)
    """The current table, if it could be read and compared with the reference."""

    def __bool__(self) -> bool:
        """Return whether there are differences."""
        return bool(self.lines)


class _Rendered:
    """A policy, its ruleset, the expected libnftables listing, and the reference snapshot once it was in force."""

    def __init__(self, policy: Policy) -> None:
        self.policy, self.ruleset = policy, render(policy)
        self.listing = listing.of_ruleset(self.ruleset)
        self.snapshot: TableSnapshot | None = None
        sizes = {name: len(elements) for name, elements in self.listing.elements.items()}
        self.large = frozenset(name for name, size in sizes.items() if size > LISTED_MAX) & REFILLED
        self.refill_messages = {
            each.name: refill_messages(each) for each in self.ruleset.sets if each.name in REFILLED
        }
        """The messages that fill each set, by its name; prepared in advance to make repairs fast."""


class Firewall:
    """The firewall's table in this network namespace. All methods raise FirewallError."""

    def __init__(self, nft: Nft) -> None:
        self.nft = nft
        self._rendered: _Rendered | None = None

    def apply(self, policy: Policy, changed: Container[str] | None = None) -> None:
        """Put the policy in force before returning.

        Of the sets that stay in the table, only those in `changed` are refilled; None means all.
        """
        for attempt in range(1, ATTEMPTS_MAX + 1):
            try:
                self.nft.run(self._commands(policy, changed))
            except FirewallError as error:
                if error.kind is FirewallErrorKind.DENIED and (table := self._read_table()) and table.owned:
                    raise FirewallError(FirewallErrorKind.REFUSED, OWNED) from error
                if error.kind is not FirewallErrorKind.REFUSED or attempt == ATTEMPTS_MAX:
                    raise
            else:
                return

    def repair(self, policy: Policy, differences: Differences, sock: socket) -> None:
        """Put the policy in force again. `sock` is a netfilter socket without other use.

        Rules are restored first and large sets last, with netlink messages, which take a fifth of libnftables' time.
        In the meantime the box can reach fewer addresses than permitted, never more.

        A table that cannot be changed in place, or that libnftables cannot handle, is first replaced by one that
        drops everything, which the kernel does without interpreting the table's content.
        """
        rendered = self._rendered_policy(policy)
        if (
            differences.sets
            and differences.nothing_else
            and differences.sets <= REFILLED
            and differences.snapshot
            and rendered.snapshot
        ):
            for name in differences.sets:
                expected = rendered.snapshot.elements[name]
                actual = differences.snapshot.elements.get(name, frozenset())
                missing, surplus = expected - actual, actual - expected
                if len(missing) + len(surplus) > SINGLE_CHANGES_MAX:
                    self.refill(policy, {name}, sock)
                else:
                    update_elements(sock, name, missing, surplus)
            return
        if not differences.unsupported:
            sets = differences.sets
            if sets is None:
                sets = frozenset(each.name for each in rendered.ruleset.sets)
            try:
                self._run_without(rendered.large, self._commands(policy, sets - rendered.large))
            except FirewallError as error:
                if error.kind is FirewallErrorKind.LACKING:
                    raise
            else:
                self.refill(policy, rendered.large & sets, sock)
                return
        replacing = list(self._replacement(policy))
        drop_everything(sock)
        self._run_without(rendered.large, replacing)
        self.refill(policy, rendered.large, sock)

    def _run_without(self, sets: Container[str], commands: Iterable[Json]) -> None:
        """Run the commands except those that add elements to these sets."""
        self.nft.run(
            each for each in commands if each.get("add", {}).get("element", {}).get("name") not in sets
        )

    def refill(self, policy: Policy, sets: Container[str], sock: socket) -> None:
        """Refill these sets of the policy, in a fifth of the time of `apply` (`netfw.kernel.refill`)."""
        fillings = self._rendered_policy(policy).refill_messages
        if messages := [message for name in fillings if name in sets for message in fillings[name]]:
            send(sock, messages)

    def compare(self, policy: Policy) -> Differences:
        """Compare the kernel's table with the policy."""
        rendered = self._rendered_policy(policy)
        try:
            current = self._snapshot(rendered)
        except Unreadable as error:
            return Differences((f"the table cannot be read: {error}",), unsupported=True)
        if current is None:
            return Differences((f"there is no table {names.FAMILY} {names.TABLE}",))
        if rendered.snapshot is None:
            return self._compare_listing(rendered, current)
        if not current.unsupported and current.equals(rendered.snapshot):
            rendered.snapshot = current  # refilled sets may be dumped in another order
            return Differences()
        sets, others = differing_sets(rendered.snapshot, current)
        descriptions = (
            current.unsupported
            or self._describe(rendered, current, sets, only_elements=not others)
            or lines(rendered.snapshot, current)
        )
        return Differences(tuple(descriptions), sets, not others, bool(current.unsupported), current)

    def differences(self, policy: Policy) -> list[str]:
        """Return the differences between kernel and policy, a line each."""
        return list(self.compare(policy).lines)

    def _compare_listing(self, rendered: _Rendered, current: TableSnapshot) -> Differences:
        """Compare libnftables' listing; if it is the policy's ruleset, make the snapshot the reference."""
        if current.unsupported:
            return Differences(tuple(current.unsupported), unsupported=True)
        descriptions = self._describe(rendered, current, frozenset(current.elements))
        if descriptions is None:
            return Differences(("libnftables cannot list the table",), unsupported=True)
        if not descriptions:
            now = self._snapshot(rendered)
            if now is None or not now.equals(current):
                return Differences(("the table was changed while it was being read",))
            rendered.snapshot = current
        return Differences(tuple(descriptions))

    def _describe(
        self,
        rendered: _Rendered,
        current: TableSnapshot,
        sets: Collection[str],
        *,
        only_elements: bool = False,
    ) -> list[str] | None:
        """Describe the differences in words; None if libnftables' listing of the table cannot be read.

        `only_elements` says that only elements of `sets` differ. If these sets are large, nothing is listed.
        """
        large = rendered.large.intersection(sets)
        small = set(sets) - large
        descriptions: list[str] = []
        if small or not only_elements:
            try:
                listed = listing.of_objects(self.nft.outline(alone=current.alone) or [])
                listed.elements |= {name: self.nft.elements(name) for name in small}
                descriptions += listing.differences(rendered.listing, listed, small)
            except (FirewallError, *LISTING_ERRORS):
                return None
        by_name = {each.name: each for each in rendered.ruleset.sets}
        return descriptions + [
            f"set {name} was changed"
            for name in sorted(large)
            if not holds_exactly(by_name[name], current.elements.get(name, frozenset()))
        ]

    def _snapshot(self, rendered: _Rendered) -> TableSnapshot | None:
        try:
            return snapshot.take(self.nft.socket, rendered.ruleset.volatile, rendered.snapshot)
        except OSError as error:
            raise _explained(error) from error

    def mark(self) -> str:
        """Return the mark in the table that identifies the policy in force; "" if there is none."""
        return self._read(snapshot.read_mark)

    def mark_of(self, policy: Policy) -> str:
        """Return the value of `mark` while this policy is in force."""
        return self._rendered_policy(policy).ruleset.mark

    def counts(self) -> dict[str, RefusedCount]:
        """Return refused packets and bytes since the box started, by cause; empty if there is no table."""
        table = self._read_table()
        return {name: RefusedCount(*count) for name, count in table.counts.items()} if table else {}

    def _read_table(self) -> TableSnapshot | None:
        """Read the table without the elements of its sets."""
        return self._read(lambda sock: snapshot.take(sock, None))

    def _read(self, reading: Callable[[socket], T]) -> T:
        try:
            return reading(self.nft.socket)
        except Unreadable as error:
            raise FirewallError(FirewallErrorKind.REFUSED, f"the table cannot be read: {error}") from error
        except OSError as error:
            raise _explained(error) from error

    def _commands(self, policy: Policy, changed: Container[str] | None) -> Iterable[Json]:
        rendered = self._rendered_policy(policy)
        try:
            table = snapshot.take(self.nft.socket, None)
            if table is None:
                return rendered.ruleset.commands()
            if not table.unsupported and (outline := self.nft.outline(alone=table.alone)) is not None:
                wanted, sessions = rendered.listing.declarations, kernel_sessions(policy, self.nft)
                return transition(rendered.ruleset, wanted, outline, sessions, changed)
        except PermissionError as error:
            raise _explained(error) from error
        except (OSError, Unreadable, *LISTING_ERRORS):
            pass  # a table can be replaced without being understood
        return self._replacement(policy)

    def _replacement(self, policy: Policy) -> Iterable[Json]:
        """Return commands that replace any table, with counters and open sessions as far as they are readable."""
        counts: dict[str, tuple[int, int]] = {}
        sessions: list[OpenSession] = []
        with contextlib.suppress(OSError, Unreadable, FirewallError, *LISTING_ERRORS):
            if table := snapshot.take(self.nft.socket, None):
                counts = table.counts
            sessions = kernel_sessions(policy, self.nft).open
        return replacement(self._rendered_policy(policy).ruleset, counts, sessions)

    def _rendered_policy(self, policy: Policy) -> _Rendered:
        """Return the rendered policy, cached by identity: comparing 10,000 addresses would take too long."""
        if self._rendered is None or self._rendered.policy is not policy:
            self._rendered = _Rendered(policy)
        return self._rendered

    def save(self) -> list[Json] | None:
        """Return the table's objects for `restore`; None if there is no table."""
        return self.nft.table()

    def restore(self, saved: list[Json] | None) -> None:
        """Restore the table that `save` returned; remove it if None. Sessions that ended since then remain closed."""
        still_open = dict(timed_elements(self.nft.table() or []))
        objects = [with_sessions(each, still_open) for each in saved or []]
        self.nft.run([*removal(), *({"add": each} for each in objects)])

    def remove(self) -> None:
        """Remove the table; packets are no longer refused."""
        self.restore(None)


def _explained(error: OSError) -> FirewallError:
    if isinstance(error, PermissionError):
        return FirewallError(
            FirewallErrorKind.DENIED, "the kernel does not let this user read the firewall; run it as root"
        )
    return FirewallError(
        FirewallErrorKind.REFUSED, f"the kernel does not list the ruleset: {error.strerror or error}"
    )
