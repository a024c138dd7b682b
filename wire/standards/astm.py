"""Instruments that speak ASTM: LIS1-A frames with LIS2-A messages, in each of the three roles."""

from __future__ import annotations

import re
from typing import Final

from settings.adapted import AdaptedPort
from wire.standards.astm_dialect import AstmDialect, astm_dialect
from wire.standards.astm_message import FINDINGS_MAX, AstmMessage
from wire.standards.extract import Extract, Reason
from wire.standards.lis1.endpoint import Lis1Endpoint
from wire.standards.lis1.observer import Lis1Observer
from wire.standards.lis2 import RecordReader

_HEADER: Final = re.compile(rb"[Hh](?![A-Za-z0-9])")


def astm_engine(port: AdaptedPort) -> Lis1Endpoint:
    """Return the receiving engine of a port. Raises: ValueError if an option of the dialect is unknown or invalid."""
    dialect = astm_dialect(port.dialect)
    return Lis1Endpoint(AstmMessages(port, dialect), dialect)


def astm_observer(port: AdaptedPort, *, host_observed: bool = True) -> Lis1Observer:
    """Return the observer of a connection to another host. Raises: ValueError, as `astm_engine`."""
    dialect = astm_dialect(port.dialect)
    return Lis1Observer(AstmMessages(port, dialect), dialect, host_observed=host_observed)


class AstmMessages:
    """A `MessageReader` (`wire.standards.lis1.receiver`) that interprets messages by the site's settings.

    Records are interpreted when they end and not kept, so that messages of any length take little memory.
    """

    def __init__(self, port: AdaptedPort, dialect: AstmDialect) -> None:
        self._port, self._dialect = port, dialect
        self._records = RecordReader()
        self._message: AstmMessage | None = None
        self._complete: Extract | None = None

    def take(self, text: bytes, last: bool) -> Extract | None:
        """Interpret the text of a frame; return the findings of the messages that end in it."""
        self._complete = None
        for data, whole in self._records.push(text, last):
            self._interpret(data, whole)
        complete, self._complete = self._complete, None
        return complete

    def end(self, complete: bool) -> Extract | None:
        """End the session: count an unfinished message, or return it if messages have no terminator."""
        if complete and self._dialect.terminator == "absent" and not self._records.incomplete:
            self._finish()
        if self._message is not None or self._records.incomplete:
            self._add(Extract()).counts[Reason.MESSAGE_UNFINISHED] += 1
        self._message = None
        self._records.reset()
        extract, self._complete = self._complete, None
        return extract

    def _interpret(self, data: bytes, whole: bool) -> None:
        if _HEADER.match(data):
            self._begin(data)
        elif self._message is None:
            self._message = AstmMessage(self._port, self._dialect, b"")
        if self._message is not None and self._message.read(data, whole):
            self._finish()

    def _begin(self, header: bytes) -> None:
        if self._message is not None and self._dialect.terminator == "absent":
            self._finish()
        unfinished = self._message is not None
        self._message = AstmMessage(self._port, self._dialect, header)
        self._message.extract.counts[Reason.MESSAGE_UNFINISHED] += unfinished

    def _finish(self) -> None:
        if self._message is not None:
            self._message.end()
            self._add(self._message.extract)
        self._message = None

    def _add(self, extract: Extract) -> Extract:
        """Merge the findings of a message with those of earlier messages in the same frame."""
        total = self._complete = self._complete or Extract()
        if len(total.findings) + len(extract.findings) > FINDINGS_MAX:
            total.counts[Reason.MESSAGE_REFUSED] += 1
        else:
            total.findings += extract.findings
            total.counts += extract.counts
        return total
