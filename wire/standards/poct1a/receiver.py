"""The box as observation reviewer of a point-of-care instrument: the POCT1-A conversation.

    instrument  HEL.R01  DST.R01       OBS…           EOT.R01                  OBS, EVS, DST, KPA …
    box               ACK      ACK REQ(ROBS) ACK…            REQ(RDEV) or DTV(START_CONTINUOUS)  ACK …

An instrument that cannot report continuously receives END.R01, and connects again when it has messages to send.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Final

from settings.adapted import AdaptedPort, zone_of
from wire.standards.engine import Action, Close, Count, Deliver, Outcome, Send
from wire.standards.extract import Reason
from wire.standards.mllp import frame
from wire.standards.poct1a.content import (
    DELIVERED,
    DocumentError,
    Poct1Extractor,
    Poct1Message,
    parse_document,
)
from wire.standards.poct1a.dialect import poct1_dialect
from wire.standards.poct1a.documents import DocumentReader, PoctDocument
from wire.standards.site_codes import SiteCodes

_CONTROL_ID_BYTES_MAX: Final = 64
_UNANSWERED: Final = (b"ACK.R01", b"ESC.R01")
_CONTINUOUS: Final = b"START_CONTINUOUS"
_ESCAPED: Final = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\n": "&#10;", "\r": "&#13;", "\t": "&#9;"}
)
"""For attribute values; xml.sax.saxutils has this too, but imports urllib."""
_REASONS: Final = {Outcome.BUSY: Reason.NOT_STORED, Outcome.REFUSED: Reason.MESSAGE_REFUSED}


class Poct1Receiver:
    """Engine of one connection (`wire.standards.engine.Engine`). `clock_ms` is the box's time, for its messages.

    Raises: ValueError if an option of the dialect is unknown or invalid.
    """

    def __init__(self, port: AdaptedPort, clock_ms: Callable[[], int], now: float = 0.0) -> None:
        self._dialect = poct1_dialect(port.dialect)
        self._extractor = Poct1Extractor(SiteCodes(port))
        self._clock_ms, self._zone = clock_ms, zone_of(port.timezone)
        self._reader = DocumentReader()
        self._undecided: Poct1Message | None = None
        self._last_received = now
        self._count = 0
        self._framed = False
        self._can_continue = False
        self._continuing = False
        self._requests: list[str] = []
        """Topics of the instrument that are still to be requested."""

    @property
    def deadline(self) -> float | None:
        """The time to close the connection if no bytes arrive before."""
        return self._last_received + self._dialect.silence_s if self._dialect.silence_s else None

    def receive(self, data: bytes, now: float) -> list[Action]:
        """Process received bytes up to the first message with content to store."""
        self._last_received = now
        self._reader.feed(data)
        return self._proceed()

    def decided(self, outcome: Outcome, now: float) -> list[Action]:
        """Acknowledge the delivered message by its outcome, and continue the conversation."""
        self._last_received = now
        message, self._undecided = self._undecided, None
        if message is None:
            raise ValueError("no message is undecided")
        actions: list[Action] = [Count(_REASONS[outcome])] if outcome in _REASONS else []
        actions.append(self._acknowledge(message, "AA" if outcome is Outcome.STORED else "AE"))
        if message.kind == b"DST.R01":
            actions += self._request_topics(message)
        return actions + self._proceed()

    def expired(self, now: float) -> list[Action]:
        """Close the connection after a long silence."""
        deadline = self.deadline
        return [Close()] if deadline is not None and now >= deadline else []

    def closed(self, now: float) -> list[Action]:  # noqa: ARG002 - no time matters here
        """Count an unfinished message."""
        return [Count(Reason.MESSAGE_UNFINISHED)] if self._reader.inside else []

    def _proceed(self) -> list[Action]:
        actions: list[Action] = []
        while self._undecided is None and (document := self._reader.next()) is not None:
            actions += [Count(document)] if isinstance(document, Reason) else self._read(document)
        return actions

    def _read(self, document: PoctDocument) -> list[Action]:
        self._framed = document.framed
        try:
            message = parse_document(document.data)
        except DocumentError:
            message = Poct1Message()
        control_id = message.value(b"HDR.control_id")
        if message.kind in _UNANSWERED:
            return self._process_answer(message)
        if not 0 < len(control_id) <= _CONTROL_ID_BYTES_MAX:
            message.values.pop(b"HDR.control_id", None)
            return [Count(Reason.MESSAGE_REFUSED), self._acknowledge(message, "AE")]
        if message.kind in DELIVERED:
            self._undecided = message
            return [Deliver(self._extractor.extract(message))]
        return self._converse(message)

    def _process_answer(self, message: Poct1Message) -> list[Action]:
        """Process ACK.R01 or ESC.R01: after a refusal, continuous reporting is not requested again."""
        refused = message.kind == b"ESC.R01" or message.value(b"ACK.type_cd") not in (b"AA", b"")
        if refused and self._continuing:
            self._can_continue = self._continuing = False
        return []

    def _converse(self, message: Poct1Message) -> list[Action]:
        kind = message.kind
        acknowledgement = self._acknowledge(message, "AA")
        if kind == b"HEL.R01":
            self._can_continue = self._dialect.continuous and _CONTINUOUS in message.directives
            self._continuing = False
            self._requests.clear()
            return [acknowledgement]
        if kind == b"EOT.R01":
            answer: list[Action] = [acknowledgement] if self._dialect.acknowledge_end_of_topic else []
            return answer + self._next_request()
        if kind == b"END.R01":
            return [acknowledgement, Close()]
        if kind == b"KPA.R01":
            return [acknowledgement]
        reason = Reason.QUERY_IGNORED if kind == b"REQ.R01" else Reason.MESSAGE_IGNORED
        return [Count(reason), acknowledgement]

    def _request_topics(self, status: Poct1Message) -> list[Action]:
        """Request the topics that the status announces, unless the instrument reports continuously."""
        if self._continuing:
            return []
        topics = (("ROBS", b"DST.new_observations_qty"), ("RDEV", b"DST.new_events_qty"))
        self._requests = [topic for topic, name in topics if status.value(name).strip(b"0")]
        return self._next_request()

    def _next_request(self) -> list[Action]:
        if self._requests:
            request = self._requests.pop(0)
            return [self._write("REQ.R01", f'<REQ><REQ.request_cd V="{request}"/></REQ>')]
        if self._can_continue and not self._continuing:
            self._continuing = True
            return [self._write("DTV.R01", f'<DTV><DTV.command_cd V="{_CONTINUOUS.decode()}"/></DTV>')]
        return [] if self._continuing else [self._write("END.R01", '<TRM><TRM.reason_cd V="NRM"/></TRM>')]

    def _acknowledge(self, message: Poct1Message, code: str) -> Send:
        control_id = message.value(b"HDR.control_id").decode("latin-1").translate(_ESCAPED)
        return self._write(
            "ACK.R01", f'<ACK><ACK.type_cd V="{code}"/><ACK.ack_control_id V="{control_id}"/></ACK>'
        )

    def _write(self, kind: str, body: str) -> Send:
        """Return a message of the box; a repeated control id consists of the same bytes as the instrument's."""
        self._count += 1
        time = datetime.fromtimestamp(self._clock_ms() // 1000, self._zone).isoformat()
        text = (
            f'<?xml version="1.0" encoding="utf-8"?><{kind}><HDR><HDR.message_type V="{kind}"/>'
            f'<HDR.control_id V="{self._count}"/><HDR.version_id V="POCT1"/><HDR.creation_dttm V="{time}"/>'
            f"</HDR>{body}</{kind}>"
        )
        data = text.encode("latin-1")
        return Send(frame(data) if self._framed else data)
