"""Variants with other patient data detect leaks that are planted in the engines of ASTM and AU."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from settings.adapted import AdaptedPort
from settings.profile import Profile
from sim.conversations import port
from tests.support.sim.conversations.variants import CASES, differing
from wire.messages import Quality
from wire.standards.astm import AstmMessages
from wire.standards.astm_dialect import astm_dialect
from wire.standards.au import AuEngine
from wire.standards.engine import Action, Count, Engine
from wire.standards.extract import Extract, Finding, Reason
from wire.standards.lis1.endpoint import Lis1Endpoint

VARIANTS = 100


class _Leaky(AstmMessages):
    """Reads messages, and has one planted leak."""

    def take(self, text: bytes, last: bool) -> Extract | None:
        extract = super().take(text, last)
        return self.leak(text, extract or Extract()) or extract

    def leak(self, text: bytes, extract: Extract) -> Extract | None:
        raise NotImplementedError


class _IdPrefix(_Leaky):
    """Counts a sample as an unknown control if its number begins with a digit."""

    def leak(self, text: bytes, extract: Extract) -> Extract | None:
        if re.search(rb"O\|1\|[0-9]", text):
            extract.counts[Reason.CONTROL_UNKNOWN] += 1
        return extract if extract.counts else None


class _RecordLength(_Leaky):
    """Counts the bytes of patient records."""

    def leak(self, text: bytes, extract: Extract) -> Extract | None:
        for record in re.findall(rb"P\|1\|[^\r]*", text):
            extract.counts[Reason.LITTER] += len(record)
        return extract if extract.counts else None


class _ForwardedSum(_Leaky):
    """Reports the sum of a message's bytes as the result of a control."""

    def leak(self, text: bytes, extract: Extract) -> Extract | None:
        return Extract([Finding(Quality, ("tsh", 1, sum(text)))]) if b"O|1" in text else None


class _TextInError(_Leaky):
    """Fails at bytes that are not ASCII; the error contains them."""

    def leak(self, text: bytes, extract: Extract) -> Extract | None:
        text.decode("ascii")
        return None


class _ReportByName(_Leaky):
    """Reports the result of a control if a name begins with a lower-case letter."""

    def leak(self, text: bytes, extract: Extract) -> Extract | None:
        return Extract([Finding(Quality, ("tsh", 1, 0))]) if re.search(rb"P\|1\|+[a-z]", text) else None


def leaky(messages: type[AstmMessages]) -> Callable[..., Engine]:
    def make(_profile: Profile, port: AdaptedPort, *_: object) -> Engine:
        dialect = astm_dialect(port.dialect)
        return Lis1Endpoint(messages(port, dialect), dialect)

    return make


class _AuSample(AuEngine):
    """Counts litter if the number of a sample is even."""

    def receive(self, data: bytes, now: float) -> list[Action]:
        even = re.search(rb"D .{22}[02468]E", data, re.DOTALL) is not None
        return [*[Count(Reason.LITTER)] * even, *super().receive(data, now)]


@pytest.mark.parametrize("messages", [_IdPrefix, _RecordLength, _ForwardedSum, _TextInError, _ReportByName])
def test_a_planted_leak_of_messages_is_detected(
    monkeypatch: pytest.MonkeyPatch, messages: type[AstmMessages]
) -> None:
    (case,) = (case for case in CASES if case.name == "astm-host-query-name-in-id-field")
    monkeypatch.setattr(port, "make_engine", leaky(messages))
    assert any(differing(case, VARIANTS))


def test_a_planted_leak_of_columns_is_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    (case,) = (case for case in CASES if case.standard == "au-serial")
    monkeypatch.setattr(port, "make_engine", lambda _profile, site, *_: _AuSample(site))
    assert any(differing(case, VARIANTS))
