# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""Names in the kernel: the table, its chains, sets and counters. Readers of the ruleset depend on them."""

from __future__ import annotations

from typing import Final

FAMILY: Final = "inet"
TABLE: Final = "rap"

MARK: Final = "policy "
"""Prefix of the policy's digest, in the comment of the table's first rule."""

LOG_GROUP: Final = 77
"""The NFLOG group; it can be read in any network namespace."""
LOG_PREFIX: Final = "rap-fw"
LOG_BYTES: Final = 64
"""Logged bytes per packet: headers only, to exclude the content of instruments' messages."""
LOG_PER_SECOND: Final = 5
"""Per interface, so that one interface's packets do not suppress the logging of another's."""
LOG_BURST: Final = 10
LOG_TIMEOUT_SECONDS: Final = 60
"""Time without a logged packet after which the rate limit of an interface is removed."""

CONNECTIONS_MAX: Final = 256
"""Maximum tracked connections per instrument port, including half-open and ended ones until they time out."""
INTERFACES_MAX: Final = 128
"""Maximum interfaces with limits: 64 ports, uplink, tunnel, and unused ones."""

UNUSED: Final = "unused"
"""Received at an interface of no zone."""
SPOOFED: Final = "spoofed"
"""Source address that does not belong to the interface."""
LINK: Final = "link"
"""Link-local traffic: router advertisements and redirects that are not accepted, multicast reports, mDNS."""
INVALID: Final = "invalid"
"""Belongs to no connection, and cannot begin one."""
OUTSIDE: Final = "outside"
"""Unsolicited packet from the uplink."""
TUNNEL: Final = "tunnel"
"""Packet from staff without an open session."""
INSTRUMENT: Final = "instrument"
"""An instrument's request for a service that its port does not offer."""
CROSSING: Final = "crossing"
"""An instrument's packet to another instrument, or to staff without a session."""
LEAVING: Final = "leaving"
"""An instrument's packet to the uplink."""
EGRESS: Final = "egress"
"""The box's packet to an address that is not authorized."""
CROWDED: Final = "crowded"
"""A new connection of an instrument whose port already has CONNECTIONS_MAX connections."""

CAUSES: Final = (
    UNUSED,
    SPOOFED,
    LINK,
    INVALID,
    OUTSIDE,
    TUNNEL,
    INSTRUMENT,
    CROSSING,
    LEAVING,
    EGRESS,
    CROWDED,
)
"""Causes of refusals; each has a named counter."""

CONNECTIONS: Final = "connections"
"""The set in which the kernel counts each port's connections."""
LOGGED: Final = "logged"
"""The set in which the kernel keeps each interface's logging rate."""

SESSIONS: Final = {4: "sessions4", 6: "sessions6"}
"""The sets whose elements are open sessions, by IP version."""
