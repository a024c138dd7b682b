"""Recorded conversations of ASTM and AU instruments: answers, reports, counts, and no trace of patients."""

import re
from collections.abc import Callable

import pytest

from settings.adapted import AdaptedPort
from tests.support.wire.instrument_cases import InstrumentCase, instrument_cases
from tests.support.wire.interference import MakeEngine, differing
from tests.support.wire.scripts import bytewise, play_script, whole
from wire.messages import Quality
from wire.standards.astm import AstmMessages, astm_engine
from wire.standards.astm_dialect import astm_dialect
from wire.standards.au import AuEngine
from wire.standards.engine import Action, Count, Engine
from wire.standards.extract import Extract, Finding, Reason
from wire.standards.lis1.endpoint import Lis1Endpoint

CASES = instrument_cases("astm-tcp", "astm-serial", "au-serial")
WITH_PATIENTS = [case for case in CASES if case.patient_data]
VARIANTS = 100


def engine_of(standard: str) -> MakeEngine:
    return AuEngine if standard == "au-serial" else astm_engine


def is_right(case: InstrumentCase, split: Callable[[bytes], list[bytes]]) -> bool:
    player = play_script(engine_of(case.standard)(case.port), case, split)
    played = player.played
    return (player.wrong, played.as_reports(), played.audit()) == ([], case.reports, case.audit)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_answers_reports_and_counts_are_right_in_whole_pieces_and_bytewise(case: InstrumentCase) -> None:
    assert is_right(case, whole)
    assert is_right(case, bytewise)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_answers_reports_and_counts_are_right_at_every_split_point(case: InstrumentCase) -> None:
    longest = max(len(piece) for piece in case.pieces)
    wrong = [
        at for at in range(1, longest) if not is_right(case, lambda piece, at=at: [piece[:at], piece[at:]])
    ]
    assert wrong == []


@pytest.mark.parametrize("case", WITH_PATIENTS, ids=lambda case: case.name)
def test_no_other_patient_changes_anything(case: InstrumentCase) -> None:
    found = differing(engine_of(case.standard), case, VARIANTS, lengths=case.standard != "au-serial")
    assert list(found) == []


class _Leaky(AstmMessages):
    """Reads messages, and has one planted leak."""

    def take(self, text: bytes, last: bool) -> Extract | None:
        extract = super().take(text, last)
        return self.leak(text, extract or Extract()) or extract

    def leak(self, text: bytes, extract: Extract) -> Extract | None:
        raise NotImplementedError


class _IdPrefix(_Leaky):
    """A sample is a control if its number begins with a digit."""

    def leak(self, text: bytes, extract: Extract) -> Extract | None:
        if re.search(rb"O\|1\|[0-9]", text):
            extract.counts[Reason.CONTROL_UNKNOWN] += 1
        return extract if extract.counts else None


class _WordLength(_Leaky):
    """Counts the letters of a name."""

    def leak(self, text: bytes, extract: Extract) -> Extract | None:
        for found in re.findall(rb"P\|1\|[^\r]*", text):
            extract.counts[Reason.LITTER] += len(found)
        return extract if extract.counts else None


class _ForwardedHash(_Leaky):
    """Forwards a sum of a record."""

    def leak(self, text: bytes, extract: Extract) -> Extract | None:
        return Extract([Finding(Quality, ("wbc", 1, sum(text)))]) if b"O|1" in text else None


class _TextInError(_Leaky):
    """Fails where bytes are not of the encoding, and says which."""

    def leak(self, text: bytes, extract: Extract) -> Extract | None:
        text.decode("ascii")
        return None


class _RefusedText(_Leaky):
    """Stores nothing if a name begins with a lower-case letter, so that the answer differs."""

    def leak(self, text: bytes, extract: Extract) -> Extract | None:
        return Extract([Finding(Quality, ("wbc", 1, 0))]) if re.search(rb"P\|1\|+[a-z]", text) else None


def leaky(messages: type[AstmMessages]) -> MakeEngine:
    def make(port: AdaptedPort) -> Engine:
        dialect = astm_dialect(port.dialect)
        return Lis1Endpoint(messages(port, dialect), dialect)

    return make


class _AuSample(AuEngine):
    """Counts samples whose number is even."""

    def receive(self, data: bytes, now: float) -> list[Action]:
        even = re.search(rb"D .{22}[02468]E", data, re.DOTALL) is not None
        return [*[Count(Reason.LITTER)] * even, *super().receive(data, now)]


@pytest.mark.parametrize("messages", [_IdPrefix, _WordLength, _ForwardedHash, _TextInError, _RefusedText])
def test_a_planted_leak_of_messages_is_found(messages: type[AstmMessages]) -> None:
    (case,) = (case for case in CASES if case.name == "astm-host-query-name-in-id-field")
    assert any(differing(leaky(messages), case, VARIANTS, lengths=True))


def test_a_planted_leak_of_columns_is_found() -> None:
    (case,) = (case for case in CASES if case.standard == "au-serial")
    assert any(differing(_AuSample, case, VARIANTS, lengths=False))
