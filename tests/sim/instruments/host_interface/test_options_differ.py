"""Each option of a dialect changes the bytes that an instrument sends to the box's engine."""

from __future__ import annotations

from random import Random

import pytest

from settings.profile import load_profile
from sim.instruments.host_interface.dialects import options_of
from sim.instruments.host_interface.interface import HostInterface, OutgoingMessage, site_settings
from sim.instruments.host_interface.transmitters.transmitter import (
    Abandon,
    TransmitterAction,
    TransmitterEvents,
)
from tests.support.sim.standard_models import MODELS
from wire.messages import Alert, Quality
from wire.standards.engine import Action, Close, Deliver, Engine, Outcome, Send
from wire.standards.engines import make_engine

START_NS = 1_930_392_000 * 10**9
MESSAGES = 150
SAME_BYTES = ("many-writes", "end-of-topic-acknowledged")
"""Options that change only the division of the bytes into writes, or the answer that the instrument waits for."""


@pytest.mark.slow("a conversation for each of a hundred options")
def test_each_option_changes_the_sent_bytes() -> None:
    for speaks, model in MODELS.items():
        default = transcript(speaks, model)
        same = [
            option
            for option in options_of(speaks)
            if option not in SAME_BYTES and transcript(speaks, model, option) == default
        ]
        assert same == [], speaks


def transcript(speaks: str, model: str, *dialect: str) -> list[object]:
    """Return the actions of an instrument that measures controls and patients and is answered at once."""
    conversation = _Conversation(speaks, model, frozenset(dialect))
    for number in range(MESSAGES):
        conversation.now += 60.0
        conversation.write(number)
        if number % 3 == 2:
            conversation.converse()
    return conversation.sent


class _Conversation:
    def __init__(self, speaks: str, model: str, dialect: frozenset[str]) -> None:
        self.now, self.sent = 0.0, list[object]()
        self._profile = load_profile(model)
        self._site = site_settings(model, dialect, 1 if speaks in ("astm-serial", "au") else None)
        events = TransmitterEvents(
            lambda _: None, lambda message, answer: pytest.fail(f"{message.kind}: {answer}")
        )
        self._instrument = HostInterface(model, dialect, self._wall_ns, events, Random(1))
        self._engine: Engine | None = None

    def _wall_ns(self) -> int:
        return START_NS + int(self.now * 1e9)

    def write(self, number: int) -> None:
        message: OutgoingMessage | None
        if number % 3 == 0:
            message = self._instrument.measure_patient()
        elif number % 3 == 1:
            assay = next(iter(self._profile.assays))
            message = self._instrument.write(Quality, (assay, 1, 50 * (number % 20)))
        else:
            code, error = next(iter(self._profile.errors.items()))
            message = self._instrument.write(Alert, (code, error.component, error.severity))
        if message is not None:
            self._instrument.transmitter.enqueue(message.message)

    def converse(self) -> None:
        """Exchange bytes until neither end has anything to send."""
        transmitter = self._instrument.transmitter
        for _ in range(40):
            if not transmitter.waiting:
                return
            if self._engine is None:
                self._engine = make_engine(
                    self._profile, self._site, lambda: self._wall_ns() // 10**6, self.now
                )
                actions = transmitter.connected(self.now)
            else:
                actions = transmitter.expired(self.now)
            while actions:
                actions = self._exchange(actions)
            self.now += 0.3

    def _exchange(self, actions: list[TransmitterAction]) -> list[TransmitterAction]:
        transmitter, following = self._instrument.transmitter, list[TransmitterAction]()
        for action in actions:
            self.sent.append(action)
            if isinstance(action, Close | Abandon) or self._engine is None:
                transmitter.closed(self.now)
                self._engine = None
                return []
            for answer in self._answers(self._engine, action.data):
                following += transmitter.receive(answer, self.now)
        return following

    def _answers(self, engine: Engine, data: bytes) -> list[bytes]:
        answers = list[bytes]()
        actions: list[Action] = engine.receive(data, self.now)
        if not actions and engine.deadline is not None and engine.deadline - self.now < 1.0:
            self.now = engine.deadline
            actions = engine.expired(self.now)
        while actions:
            following: list[Action] = []
            for action in actions:
                if isinstance(action, Send):
                    answers.append(action.data)
                elif isinstance(action, Deliver):
                    following = engine.decided(Outcome.STORED, self.now)
                elif isinstance(action, Close):
                    self._instrument.transmitter.closed(self.now)
                    self._engine = None
            actions = following
        return answers
