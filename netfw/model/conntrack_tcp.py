"""Model of TCP connection tracking, as an observer in the middle: flags, states and sequence windows.

Source: Linux net/netfilter/nf_conntrack_proto_tcp.c (6.x). A connection has one state; a segment's direction and
flags determine the next one. Two results are not states: IGNORE accepts the segment without a change of state,
INVALID makes it invalid. Otherwise the segment must fit the windows announced by both sides (van Rooij, "Real
Stateful TCP Packet Filtering in IP Filter", 2000). Not modelled: selective acknowledgements, which extend what may be
acknowledged, and challenge acknowledgements (RFC 5961).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from struct import unpack_from
from typing import Final, Literal, TypeAlias

import msgspec

from netfw.model.packet import ACK, FIN, RST, SYN, URG

HEADER_BYTES: Final = 20
VALID_FLAGS: Final = frozenset(
    {SYN, SYN | URG, SYN | ACK, RST, RST | ACK, FIN | ACK, FIN | ACK | URG, ACK, ACK | URG}
)
"""Valid combinations of FIN, SYN, RST, ACK and URG; the other flags are always valid."""
FLAGS_CHECKED: Final = FIN | SYN | RST | ACK | URG
ACK_WINDOW_MIN: Final = 66000
SCALE_MAX: Final = 14

Answer: TypeAlias = Literal["accept", "invalid", "reopen", "delete"]
"""`reopen`: delete this connection and look up the segment again; `delete`: accept, and delete the connection."""


_ANSWER: Final[dict[str, Answer]] = {"ignore": "accept", "invalid": "invalid"}


class TcpState(IntEnum):
    """States, the columns of the transition table, and the results INVALID and IGNORE."""

    NONE = 0
    SYN_SENT = 1
    SYN_RECV = 2
    ESTABLISHED = 3
    FIN_WAIT = 4
    CLOSE_WAIT = 5
    LAST_ACK = 6
    TIME_WAIT = 7
    CLOSE = 8
    SYN_SENT2 = 9
    INVALID = 10
    IGNORE = 11


class SegmentKind(IntEnum):
    """Rows of the transition table: the kind of a segment by its flags."""

    SYN = 0
    SYN_ACK = 1
    FIN = 2
    ACK = 3
    RST = 4
    NOTHING = 5


TIMEOUTS_S: Final = {
    TcpState.SYN_SENT: 120,
    TcpState.SYN_RECV: 60,
    TcpState.ESTABLISHED: 432_000,
    TcpState.FIN_WAIT: 120,
    TcpState.CLOSE_WAIT: 60,
    TcpState.LAST_ACK: 30,
    TcpState.TIME_WAIT: 120,
    TcpState.CLOSE: 10,
    TcpState.SYN_SENT2: 120,
}
_CLOSING: Final = frozenset(
    {TcpState.FIN_WAIT, TcpState.CLOSE_WAIT, TcpState.LAST_ACK, TcpState.TIME_WAIT, TcpState.CLOSE}
)
UNACKNOWLEDGED_S: Final = 300

_LETTERS: Final = dict(
    zip(("NO", "SS", "SR", "ES", "FW", "CW", "LA", "TW", "CL", "S2", "IV", "IG"), TcpState, strict=True)
)


def _table(text: str) -> tuple[tuple[TcpState, ...], ...]:
    return tuple(tuple(_LETTERS[word] for word in line.split()[1:]) for line in text.strip().splitlines())


_NEXT: Final = (
    _table("""
        syn      SS SS IG IG IG IG IG SS SS S2
        syn-ack  IV IV SR IV IV IV IV IV IV SR
        fin      IV IV FW FW LA LA LA TW CL IV
        ack      ES IV ES ES CW CW TW TW CL IV
        rst      IV CL CL CL CL CL CL CL CL CL
        nothing  IV IV IV IV IV IV IV IV IV IV
    """),
    _table("""
        syn      IV S2 IV IV IV IV IV SS IV S2
        syn-ack  IV SR IG IG IG IG IG IG IG SR
        fin      IV IV FW FW LA LA LA TW CL IV
        ack      IV IG SR ES CW CW TW TW CL IG
        rst      IV CL CL CL CL CL CL CL CL CL
        nothing  IV IV IV IV IV IV IV IV IV IV
    """),
)
"""Next state by direction (original, reply), kind, and state from NONE to SYN_SENT2."""


class TrackedSegment(msgspec.Struct, frozen=True, gc=False):
    """The relevant fields of a segment; `kind` is its row in the table.

    `end` is the sequence number after it; SYN and FIN count as one each.
    """

    flags: int
    seq: int
    ack: int
    window: int
    end: int
    scale: int | None
    kind: SegmentKind


def _kind(flags: int) -> SegmentKind:
    if flags & RST:
        return SegmentKind.RST
    if flags & SYN:
        return SegmentKind.SYN_ACK if flags & ACK else SegmentKind.SYN
    if flags & FIN:
        return SegmentKind.FIN
    return SegmentKind.ACK if flags & ACK else SegmentKind.NOTHING


def segment(data: bytes, at: int) -> TrackedSegment | None:
    """Parse the segment at offset `at` of a packet; None if it is malformed or its flags are invalid."""
    length = len(data) - at
    if length < HEADER_BYTES:
        return None
    seq, ack, offset, flags, window = unpack_from("!IIBBH", data, at + 4)
    header = (offset >> 4) * 4
    if not HEADER_BYTES <= header <= length or flags & FLAGS_CHECKED not in VALID_FLAGS:
        return None
    end = seq + length - header + bool(flags & SYN) + bool(flags & FIN)
    scale = None if header == HEADER_BYTES else _window_scale(data[at + HEADER_BYTES : at + header])
    return TrackedSegment(flags, seq, ack, window, end & 0xFFFFFFFF, scale, _kind(flags))


def _window_scale(options: bytes) -> int | None:
    """Return the window scale option (RFC 7323 section 2)."""
    at = 0
    while at < len(options) and options[at] != 0:
        if options[at] == 1:
            at += 1
            continue
        if at + 1 >= len(options) or not 2 <= options[at + 1] <= len(options) - at:
            return None
        if options[at] == 3 and options[at + 1] == 3:
            return min(options[at + 2], SCALE_MAX)
        at += options[at + 1]
    return None


@dataclass(slots=True)
class _Side:
    end: int = 0
    maxend: int = 0
    maxwin: int = 0
    scale: int = 0
    scales: bool = False
    liberal: bool = False
    began_close: bool = False
    maxack: int | None = None

    def begin(self, seg: TrackedSegment) -> None:
        self.end = self.maxend = seg.end
        self.maxwin = seg.window or 1
        self.scale = seg.scale or 0
        self.scales = seg.scale is not None


@dataclass(slots=True)
class TcpConnection:
    """One connection. Call `begin` for its first segment, `follow` for every segment including the first."""

    state: TcpState = TcpState.NONE
    sides: tuple[_Side, _Side] = field(default_factory=lambda: (_Side(), _Side()))
    last_kind: SegmentKind = SegmentKind.NOTHING
    last_direction: int = 0
    last_end: int = 0
    last_window: int = 0
    last_scale: int | None = None
    answered: bool = False
    assured: bool = False
    simultaneous_open: bool = False

    def timeout_s(self, timeouts: Mapping[str, int]) -> int:
        """Return how long the entry is kept from now; `timeouts` override the kernel's defaults."""
        timeout_s = timeouts.get(f"tcp_timeout_{self.state.name.lower()}", TIMEOUTS_S[self.state])
        if self.answered or self.state is not TcpState.ESTABLISHED:
            return timeout_s
        return min(timeout_s, timeouts.get("tcp_timeout_unacknowledged", UNACKNOWLEDGED_S))

    @classmethod
    def begin(cls, seg: TrackedSegment, loose: bool) -> TcpConnection | None:
        """Begin a connection; None if this segment cannot begin one. `loose` also accepts running connections."""
        state = _NEXT[0][seg.kind][TcpState.NONE]
        if state >= TcpState.INVALID or (state is not TcpState.SYN_SENT and not loose):
            return None
        connection = cls()
        first, second = connection.sides
        first.begin(seg)
        if state is not TcpState.SYN_SENT:
            first.maxend = _wrap(first.end + first.maxwin)
            first.scale, first.liberal, second.liberal = 0, True, True
        return connection

    def follow(self, seg: TrackedSegment, direction: int) -> Answer:
        """Process one segment; `direction` is 0 for original, 1 for reply."""
        kind, old = seg.kind, self.state
        new = _NEXT[direction][kind][old]
        if new is TcpState.INVALID:
            return "invalid"
        if new is TcpState.SYN_SENT and old in (TcpState.TIME_WAIT, TcpState.CLOSE, TcpState.SYN_SENT2):
            if any(side.began_close for side in self.sides):
                return "reopen"
            if self.last_direction == direction and self.last_kind is SegmentKind.RST:
                return "reopen"
            new = TcpState.IGNORE
        if new is TcpState.IGNORE:
            if not self._synchronizes(seg, direction):
                return self._ignore(seg, direction)
            old, new = TcpState.SYN_SENT, TcpState.SYN_RECV
        elif new is TcpState.SYN_SENT2:
            self.simultaneous_open = True
        elif new is TcpState.SYN_RECV:
            if direction == 1 and kind is SegmentKind.ACK and self.simultaneous_open:
                new = TcpState.ESTABLISHED
        elif new is TcpState.CLOSE and kind is SegmentKind.RST:
            checked = self._check_reset(seg, direction)
            if checked is TcpState.INVALID:
                return "invalid"
            new = old if checked is TcpState.IGNORE else new
            if (
                checked is TcpState.NONE
            ):  # a reset for segments that were accepted without a state change: no window to check
                return self._advance(seg, direction, old, new)
        fits = self._in_window(seg, direction)
        if fits == "invalid":
            self._remember_end(kind, direction)
        return self._advance(seg, direction, old, new) if fits == "accept" else _ANSWER[fits]

    def _remember_end(self, kind: SegmentKind, direction: int) -> None:
        """Record a FIN or RST outside the windows: it closes nothing, but the tracked state may be outdated."""
        ends = (SegmentKind.FIN, SegmentKind.RST)
        if (
            self.assured
            and kind in ends
            and not (self.last_direction != direction and self.last_kind in ends)
        ):
            self.last_kind, self.last_direction = kind, direction

    def _synchronizes(self, seg: TrackedSegment, direction: int) -> bool:
        """Accept a SYN-ACK for a SYN that was ignored before: both ends agree, so the tracked state was outdated."""
        if seg.kind is not SegmentKind.SYN_ACK or self.last_kind is not SegmentKind.SYN:
            return False
        if self.last_direction == direction or seg.ack != self.last_end:
            return False
        caller = self.sides[self.last_direction]
        caller.end = caller.maxend = self.last_end
        caller.maxwin = self.last_window or 1
        caller.scale, caller.scales = self.last_scale or 0, self.last_scale is not None
        answering = self.sides[direction]
        answering.end = answering.maxend = answering.maxwin = answering.scale = 0
        answering.maxack, answering.scales = None, False
        return True

    def _ignore(self, seg: TrackedSegment, direction: int) -> Answer:
        self.last_kind, self.last_direction = seg.kind, direction
        self.last_end, self.last_window, self.last_scale = seg.end, seg.window, seg.scale
        return "accept"

    def _check_reset(self, seg: TrackedSegment, direction: int) -> TcpState:
        """Classify a reset: CLOSE, checked like other segments; INVALID, too old; IGNORE, accepted without effect;
        NONE, accepted without a window check.
        """
        if self.state in _CLOSING:  # the ends may have moved on already: the tracked windows are useless
            return TcpState.NONE
        maxack = self.sides[1 - direction].maxack
        if maxack is not None and self.last_kind is not SegmentKind.SYN:
            established = self.answered and self.assured and self.state is TcpState.ESTABLISHED
            if seg.seq == 0 and not established:
                return TcpState.CLOSE
            if _before(seg.seq, maxack):
                return TcpState.INVALID
            if not established or seg.seq == maxack:
                return TcpState.CLOSE
            last = (self.last_kind, self.last_direction, self.last_end)
            return TcpState.CLOSE if last == (SegmentKind.ACK, direction, seg.seq) else TcpState.IGNORE
        answers = (self.answered and self.last_kind is SegmentKind.SYN) or (
            not self.assured and self.last_kind is SegmentKind.ACK
        )
        return TcpState.NONE if answers and seg.ack == self.last_end else TcpState.CLOSE

    def _in_window(self, seg: TrackedSegment, direction: int) -> Literal["accept", "ignore", "invalid"]:
        sender, receiver = self.sides[direction], self.sides[1 - direction]
        seq, end, ack = seg.seq, seg.end, seg.ack
        again = seg.flags & SYN and self.state in (TcpState.SYN_SENT, TcpState.SYN_RECV)
        if sender.maxwin == 0:
            if seg.flags & SYN:
                self._begin_side(seg, direction)
                if not seg.flags & ACK:
                    return "accept"
            else:
                self._pick_up(seg, sender, receiver)
        elif again and _before(sender.end, end):
            self._begin_side(seg, direction)
            if direction == 1 and not seg.flags & ACK:
                return "accept"
        if not seg.flags & ACK or (seg.flags & RST and ack == 0):
            ack = receiver.end
        if seg.flags & RST and seq == 0 and self.state is TcpState.SYN_SENT:
            seq = end = sender.end
        if not _before(seq, sender.maxend + 1) or not _before(ack, receiver.end + 1):
            return "accept" if sender.liberal else "invalid"
        if _too_old(sender, receiver, end, ack):
            return "accept" if sender.liberal else "ignore"
        _widen(seg, sender, receiver, end, ack)
        if seg.kind is SegmentKind.ACK:
            self.last_end = end
        return "accept"

    def _begin_side(self, seg: TrackedSegment, direction: int) -> None:
        sender, receiver = self.sides[direction], self.sides[1 - direction]
        sender.begin(seg)
        if direction == 1 and not (sender.scales and receiver.scales):
            sender.scale = receiver.scale = 0

    @staticmethod
    def _pick_up(seg: TrackedSegment, sender: _Side, receiver: _Side) -> None:
        sender.end = seg.end
        sender.maxwin = (seg.window << sender.scale) or 1
        sender.maxend = _wrap(seg.end + sender.maxwin)
        if receiver.maxwin == 0:
            receiver.end = receiver.maxend = seg.ack
        elif seg.ack == _wrap(receiver.end + 1):
            receiver.end = seg.ack

    def _advance(self, seg: TrackedSegment, direction: int, old: TcpState, new: TcpState) -> Answer:
        self.last_kind, self.last_direction = seg.kind, direction
        self.state = new
        if old is not new and new is TcpState.FIN_WAIT:
            self.sides[direction].began_close = True
        if not self.answered:
            return "delete" if seg.flags & RST else "accept"
        if old in (TcpState.SYN_RECV, TcpState.ESTABLISHED) and new is TcpState.ESTABLISHED:
            self.assured = True
        return "accept"


def _too_old(sender: _Side, receiver: _Side, end: int, ack: int) -> bool:
    """Return whether a segment, or its acknowledgement, is an old duplicate, which is harmless."""
    if receiver.maxwin and not _before(sender.end - receiver.maxwin - 1, end):
        return True
    return not _before(receiver.end - max(sender.maxwin, ACK_WINDOW_MIN) - 1, ack)


def _widen(seg: TrackedSegment, sender: _Side, receiver: _Side, end: int, ack: int) -> None:
    """Advance both sides' windows for a segment in the window."""
    window = seg.window if seg.flags & SYN else seg.window << sender.scale
    sender.maxwin = max(sender.maxwin, window)
    if _before(sender.end, end):
        sender.end = end
    if seg.flags & ACK and (sender.maxack is None or _before(sender.maxack, ack)):
        sender.maxack = ack
    if receiver.maxwin and _before(sender.maxend, end):
        receiver.maxwin += _wrap(end - sender.maxend)
    if _before(receiver.maxend - 1, ack + window):
        receiver.maxend = _wrap(ack + window + (window == 0))


def _wrap(number: int) -> int:
    return number & 0xFFFFFFFF


def _before(first: int, second: int) -> bool:
    """Return whether the first sequence number precedes the second (RFC 9293 section 3.4)."""
    return (first - second) & 0xFFFFFFFF > 0x7FFFFFFF
