"""Observers of AU and POCT1-A connections, of lines without the host's bytes, and of lines with delayed bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from settings.adapted import AdaptedPort
from settings.profile import Profile, Speaks
from tests.support.wire.astm import CONFIG, CONTROL, HEADER, RESULT
from tests.support.wire.instrument_cases import instrument_cases, port_of
from wire.standards.au import AuObserver
from wire.standards.engine import Action, Count, Deliver, Observer, Outcome
from wire.standards.engines import has_commands, make_observer
from wire.standards.extract import Finding, Reason
from wire.standards.lis1.frames import ACK, ENQ, EOT, NAK, FrameStyle, frames_of
from wire.standards.poct1a import Poct1Observer
from wire.standards.unanswered import SKEW_S

(AU,) = instrument_cases("au-serial")
BEGIN, DQ, PATIENT, DE = AU.pieces


class ObservedLine:
    """An observed line: `host` and `instrument` send bytes; collects what the observer delivers and counts."""

    def __init__(self, observer: Observer, outcome: Outcome = Outcome.STORED) -> None:
        self.observer, self.outcome = observer, outcome
        self.now = 0.0
        self.findings: list[Finding] = []
        self.counts: Counter[Reason] = Counter()

    def instrument(self, data: bytes, after_s: float = 0.01) -> None:
        self.now += after_s
        self._follow(self.observer.from_instrument(data, self.now))

    def host(self, data: bytes, after_s: float = 0.5) -> None:
        self.now += after_s
        self._follow(self.observer.from_host(data, self.now))

    def close(self) -> Counter[Reason]:
        self._follow(self.observer.closed(self.now))
        return self.counts

    def _follow(self, actions: list[Action]) -> None:
        while actions:
            for action in actions:
                if isinstance(action, Count):
                    self.counts[action.reason] += action.number
            assert all(isinstance(action, (Count, Deliver)) for action in actions)
            last = actions[-1]
            actions = []
            if isinstance(last, Deliver):
                self.findings += last.extract.findings
                self.counts += last.extract.counts
                actions = self.observer.decided(self.outcome, self.now)


def au(**options: Any) -> ObservedLine:
    return ObservedLine(AuObserver(AU.port, **options))


def test_an_au_control_counts_when_the_host_has_accepted_it() -> None:
    line = au()
    for record in (BEGIN, DQ, PATIENT):
        line.instrument(record)
        assert len(line.findings) == (0 if record is not PATIENT else 2)
        line.host(ACK)
    line.instrument(DE)
    assert line.close() == {Reason.PATIENT_RESULTS_DROPPED: 1}


def test_an_au_record_that_the_host_refuses_is_read_when_it_is_repeated() -> None:
    line = au()
    line.instrument(DQ)
    line.host(NAK)
    assert (line.findings, line.counts) == ([], {Reason.FRAME_REFUSED: 1})
    line.instrument(DQ)
    line.host(ACK)
    line.instrument(DQ)  # the analyzer missed the answer
    line.host(ACK)
    assert len(line.findings) == 2
    assert line.close() == {Reason.FRAME_REFUSED: 1, Reason.FRAME_REPEATED: 1}


def test_an_au_record_without_an_answer_is_counted_and_not_read() -> None:
    line = au()
    line.instrument(DQ)
    line.instrument(PATIENT, after_s=30)
    line.host(ACK)
    assert line.findings == []
    assert line.close() == {Reason.MESSAGE_UNFINISHED: 1, Reason.PATIENT_RESULTS_DROPPED: 1}


def test_orders_of_an_au_host_are_not_answers() -> None:
    line = au()
    line.instrument(DQ)
    for byte in b"\x02S \x15 0001\x03":
        line.host(bytes([byte]))
    assert (line.findings, line.counts) == ([], {})
    line.host(ACK)
    assert len(line.findings) == 2


def test_an_au_host_that_is_not_observed_accepts_what_fits_the_columns() -> None:
    line = au(host_observed=False)
    for record in (BEGIN, DQ[:9] + DQ[10:], DQ, DQ, PATIENT, DE):
        line.instrument(record)
    assert len(line.findings) == 2
    expected = {Reason.FRAME_REFUSED: 1, Reason.FRAME_REPEATED: 1, Reason.PATIENT_RESULTS_DROPPED: 1}
    assert line.close() == expected


def messages(*frames: bytes) -> list[bytes]:
    return [ENQ, *frames, EOT]


MESSAGE = f"{HEADER}\r{CONTROL}\r{RESULT}\rL|1|N\r".encode()
FRAMES = list(frames_of(MESSAGE, FrameStyle()))


def astm(**options: Any) -> ObservedLine:
    profile = Profile(model="m", version=1, summary="m", speaks="astm-serial")
    return ObservedLine(make_observer(profile, port_of({**CONFIG, **options})))


ONE_LINE = {"role": "listener", "serial": {"port": 1}}
TWO_LINES = {**ONE_LINE, "host_serial": {"port": 2}}


def test_a_lis1_host_that_is_not_observed_accepts_intact_frames() -> None:
    line = astm(**ONE_LINE)
    broken = FRAMES[1].replace(b"NORM2", b"NORM3")
    for piece in messages(FRAMES[0], broken, FRAMES[1], FRAMES[2], FRAMES[2], FRAMES[3]):
        line.instrument(piece)
    assert len(line.findings) == 1
    assert line.close() == {Reason.FRAME_REFUSED: 1, Reason.FRAME_REPEATED: 1}


@pytest.mark.parametrize("early", [True, False])
def test_the_two_taps_of_a_listener_may_have_different_delays(early: bool) -> None:
    line, skew = astm(**TWO_LINES), SKEW_S / 4
    for _ in range(2):
        pieces = messages(*FRAMES)
        for index, piece in enumerate(pieces):
            if piece == EOT:
                line.instrument(piece)
            elif early:
                line.host(ACK)
                line.instrument(piece, skew)
            else:
                line.instrument(piece)
                if index:
                    line.host(ACK, skew)
        if not early:
            line.instrument(b"", skew)
    if not early:
        line.host(ACK * 2, skew)
    assert len(line.findings) == 2
    assert line.close() == {}


def test_an_answer_without_a_frame_is_not_kept_for_long() -> None:
    line = astm(**TWO_LINES)
    line.host(ACK)
    line.instrument(ENQ, 2 * SKEW_S)
    line.instrument(FRAMES[0])
    assert line.close() == {}


def document(kind: str, body: str, control_id: str) -> bytes:
    return f'<{kind}><HDR><HDR.control_id V="{control_id}"/></HDR>{body}</{kind}>'.encode()


def poct1_status(control_id: str, condition: str = "B") -> bytes:
    return document("DST.R01", f'<DST><DST.condition_cd V="{condition}"/></DST>', control_id)


def poct1_answer(control_id: str, code: str = "AA") -> bytes:
    body = f'<ACK><ACK.type_cd V="{code}"/><ACK.ack_control_id V="{control_id}"/></ACK>'
    return document("ACK.R01", body, "77")


def poct1() -> ObservedLine:
    return ObservedLine(Poct1Observer(AdaptedPort()))


def test_a_poct1_message_counts_when_the_reviewer_has_accepted_it() -> None:
    line = poct1()
    line.instrument(document("HEL.R01", "", "1"))
    line.host(poct1_answer("1"))
    for number, condition in (("2", "B"), ("3", "L"), ("4", "R")):
        line.instrument(poct1_status(number, condition))
    line.host(poct1_answer("3") + poct1_answer("2", "AE") + poct1_answer("3"))
    assert [finding.fields[0] for finding in line.findings] == ["stopped"]
    assert line.close() == {Reason.NOT_STORED: 1}


def test_a_poct1_conversation_of_others_yields_counts_only() -> None:
    line = poct1()
    line.instrument(
        document("EOT.R01", "", "1") + document("REQ.R01", "", "2") + document("XYZ.R01", "", "3")
    )
    line.host(document("REQ.R01", "", "1") + b"<!DOCTYPE x []><ACK.R01/>" + b"<bad>")
    line.instrument(b"<DST.R01><open></DST.R01>" + document("DST.R01", "", ""))
    assert line.findings == []
    assert line.close() == {Reason.QUERY_IGNORED: 1, Reason.MESSAGE_IGNORED: 1, Reason.MESSAGE_REFUSED: 2}


@pytest.mark.parametrize("make", [poct1, au])
@pytest.mark.parametrize("outcome", [Outcome.BUSY, Outcome.REFUSED])
def test_a_finding_that_an_observer_cannot_store_is_counted(
    make: Callable[[], ObservedLine], outcome: Outcome
) -> None:
    line = make()
    line.outcome = outcome
    line.instrument(DQ if make is au else poct1_status("1"))
    line.host(ACK if make is au else poct1_answer("1"))
    assert sum(line.close().values()) == 1


@pytest.mark.parametrize(
    ("speaks", "role", "commands"),
    [("hl7", "receiver", True), ("hl7", "pass-through", False), ("astm", "receiver", False)],
)
def test_only_a_receiver_of_hl7_has_commands(speaks: Speaks, role: Any, commands: bool) -> None:
    profile = Profile(model="m", version=1, summary="m", speaks=speaks)
    assert has_commands(profile, AdaptedPort(role=role)) is commands
