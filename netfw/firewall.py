"""The firewall in the kernel: put a policy in force, compare, count.

A policy is put in force in one transaction: either all of it holds afterwards, or what held before. Where the table
in force has the same shape, its chains and sets are flushed and filled again in place; where it has another, it is
replaced. Either way open sessions stay open, if the new policy has them, and counts go on.

Only the firewall's own table is ever touched. Another one, such as firewalld's, lives beside it: a packet must pass
both.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from typing import Final, NamedTuple

from netfw import listing, names
from netfw.nft import FirewallError, Kind, Nft
from netfw.policy import Policy
from netfw.render import Ruleset, render
from netfw.sessions import OpenSession, found_sessions, timed_elements, with_sessions
from netfw.terms import Json

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
                self.nft.run(_transition(self._of(policy), self.nft, changed))
            except FirewallError as error:
                if error.kind is not Kind.REFUSED or attempt == ATTEMPTS_MAX:
                    raise
            else:
                return

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
        self.nft.run([*_removal(), *({"add": thing} for thing in things)])

    def remove(self) -> None:
        """Take the table away: nothing is refused any more."""
        self.restore(None)


def _transition(rendered: _Rendered, nft: Nft, changed: Container[str] | None) -> Iterator[Json] | list[Json]:
    """The commands that lead from the table in force to the ruleset."""
    ruleset, outline = rendered.ruleset, nft.outline()
    if outline is None:
        return ruleset.commands()
    sessions = found_sessions(rendered.policy, nft)
    if rendered.listing.declarations == listing.of_objects(outline).declarations:
        filled = {kept.name for kept in ruleset.sets if changed is None or kept.name in changed}
        return _in_place(ruleset, filled - {*names.SESSIONS.values()}, sessions.strangers)
    return _replacement(ruleset, outline, sessions.open)


def _in_place(ruleset: Ruleset, filled: Container[str], strangers: Sequence[Json]) -> Iterator[Json]:
    """Sets are filled anew without asking what they hold: listing 10,000 elements takes longer than loading them."""
    for chain in ruleset.chains:
        yield {"flush": {"chain": _ours(chain.name)}}
    for kept in ruleset.sets:
        if kept.name in filled:
            yield {"flush": {"set": _ours(kept.name)}}
    for element in strangers:
        yield {"delete": element}
    for thing in ruleset.contents():
        if "rule" in thing or thing["element"]["name"] in filled:
            yield {"add": thing}


def _replacement(ruleset: Ruleset, table: list[Json], sessions: Sequence[OpenSession]) -> Iterator[Json]:
    counted = {thing["counter"]["name"]: thing["counter"] for thing in table if "counter" in thing}
    yield from _removal()
    for thing in (*ruleset.declarations(), *ruleset.contents()):
        if "counter" in thing:
            before = counted.get(thing["counter"]["name"], {})
            kept = {key: before[key] for key in ("packets", "bytes") if key in before}
            yield {"add": {"counter": thing["counter"] | kept}}
        else:
            yield {"add": thing}
    for session in sessions:
        yield {"add": session.element()}


def _removal() -> list[Json]:
    """Removing what may not be there: `add` first, which does nothing where it is."""
    table = {"table": {"family": names.FAMILY, "name": names.TABLE}}
    return [{"add": table}, {"delete": table}]


def _ours(name: str) -> Json:
    return {"family": names.FAMILY, "table": names.TABLE, "name": name}
