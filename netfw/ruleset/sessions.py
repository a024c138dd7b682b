# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""Remote sessions as set elements of the ruleset, with and without their remaining time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from netfw.policy.policy import Address, Service
from netfw.ruleset.names import FAMILY, SESSIONS, TABLE
from netfw.ruleset.nft_json import Json, concat


@dataclass(frozen=True, slots=True)
class Session:
    """A path from one staff address to one service of one instrument."""

    staff: Address
    port: int
    instrument: Address
    desktop: Service


@dataclass(frozen=True, slots=True)
class OpenSession:
    """A session in the kernel's set, with its interface and remaining time."""

    session: Session
    interface: str
    seconds_left: int

    def element(self) -> Json:
        """Return the set element with its timeout."""
        value = {"elem": {"val": _key(self.session, self.interface), "timeout": self.seconds_left}}
        return session_element(self.session.staff.version, value)


class Found(NamedTuple):
    """Content of the session sets: sessions that the policy permits, and other elements."""

    open: list[OpenSession]
    unexpected: list[Json]


def _key(session: Session, interface: str) -> Json:
    return concat(str(session.staff), interface, str(session.instrument), *session.desktop)


def deletion(session: Session, interface: str) -> Json:
    """Return the command that deletes a session's element."""
    return {"delete": session_element(session.staff.version, _key(session, interface))}


def session_element(version: int, value: Json) -> Json:
    """Return an element of the set of sessions with addresses of this IP version."""
    return {"element": {"family": FAMILY, "table": TABLE, "name": SESSIONS[version], "elem": [value]}}


def timed_elements(table: list[Json]) -> Iterator[tuple[str, Json]]:
    """Yield the elements of the session sets with their remaining time, each with an identifying key."""
    for name in SESSIONS.values():
        for element in _elements(table, name):
            yield json.dumps(element["elem"]["val"]), element


def with_sessions(thing: Json, still_open: Mapping[str, Json]) -> Json:
    """Return a listing's object; a session set gets the sessions that are still open, with their remaining time."""
    if "set" not in thing or thing["set"]["name"] not in SESSIONS.values():
        return thing
    keys = [key for key, _ in timed_elements([thing])]
    elements = [still_open[key] for key in keys if key in still_open]
    declared = {key: value for key, value in thing["set"].items() if key != "elem"}
    return {"set": declared | ({"elem": elements} if elements else {})}


def _elements(table: list[Json], name: str) -> Iterator[Json]:
    for thing in table:
        if "set" in thing and thing["set"]["name"] == name:
            yield from thing["set"].get("elem", [])
