# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""Names in the kernel: one table, its chains, sets and counters. What reads the ruleset goes by these."""

from __future__ import annotations

from typing import Final

FAMILY: Final = "inet"
TABLE: Final = "rap"

MARK: Final = "policy "
"""Before the policy's digest, in the comment of the table's first rule."""

LOG_GROUP: Final = 77
"""NFLOG group; what is logged there can be read in any network namespace."""
LOG_PREFIX: Final = "rap-fw"
LOG_BYTES: Final = 64
"""Of each packet logged: headers. What an instrument says is nobody's business."""
LOG_PER_SECOND: Final = 5
"""Of each interface, so that one instrument's packets do not keep another's from being logged."""
LOG_BURST: Final = 10
LOG_TIMEOUT_SECONDS: Final = 60
"""An interface's limit is forgotten after this time without a packet to be logged."""

CONNECTIONS_MAX: Final = 256
"""Tracked connections of each instrument port, half-open and ended ones included until they time out."""
INTERFACES_MAX: Final = 128
"""Interfaces for which limits are kept: 64 ports, uplink, tunnel, and unused ones."""

UNUSED: Final = "unused"
"""Came in at an interface of no zone."""
SPOOFED: Final = "spoofed"
"""Had a source address that does not belong where it came in."""
LINK: Final = "link"
"""Talk of the link itself: routers' advice that is not believed, who listens to which group, mDNS."""
INVALID: Final = "invalid"
"""Belongs to no connection, and cannot begin one."""
OUTSIDE: Final = "outside"
"""Came from the uplink unasked, to the box or to an instrument."""
TUNNEL: Final = "tunnel"
"""Came from staff, without an open session."""
INSTRUMENT: Final = "instrument"
"""An instrument wanted of the box what its port does not offer."""
CROSSING: Final = "crossing"
"""An instrument wanted to reach another one, or staff without a session."""
LEAVING: Final = "leaving"
"""An instrument wanted to reach the uplink."""
EGRESS: Final = "egress"
"""The box wanted to reach an address that is not authorized."""
CROWDED: Final = "crowded"
"""An instrument's new connection, when its port had CONNECTIONS_MAX already."""

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
"""Why packets are refused: a named counter each."""

CONNECTIONS: Final = "connections"
"""The set in which the kernel counts each port's connections."""
LOGGED: Final = "logged"
"""The set in which the kernel keeps each interface's rate of log records."""

SESSIONS: Final = {4: "sessions4", 6: "sessions6"}
"""The sets whose elements are open sessions, by IP version."""
