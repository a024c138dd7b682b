"""Each option of a dialect changes what an instrument sends to the box's engine."""

from __future__ import annotations

from random import Random

import pytest

from settings.profile import load_profile
from sim.instruments.speaking.dialects import options_of
from sim.instruments.speaking.instrument import SpeakingInstrument, site_settings
from sim.instruments.speaking.speaker import Hearing, SpeakerAction, Vanish
from tests.support.sim.speaking_models import MODELS
from wire.messages import Alert, Quality
from wire.standards.engine import Action, Close, Deliver, Engine, Outcome, Send
from wire.standards.engines import make_engine

START_NS = 1_930_392_000 * 10**9
MESSAGES = 150
SAME_BYTES = ("many-writes", "end-of-topic-acknowledged")
"""They change how bytes are divided, and what is waited for."""


@pytest.mark.slow("a conversation for each of a hundred options")
def test_each_option_changes_what_is_sent() -> None:
    for speaks, model in MODELS.items():
        usual = transcript(speaks, model)
        same = [
            option
            for option in options_of(speaks)
            if option not in SAME_BYTES and transcript(speaks, model, option) == usual
        ]
        assert same == [], speaks


def transcript(speaks: str, model: str, *dialect: str) -> list[object]:
    """What the instrument sends while it measures controls and patients, and the engine answers at once."""
    talk = _Talk(speaks, model, frozenset(dialect))
    for number in range(MESSAGES):
        talk.now += 60.0
        talk.say(number)
        if number % 3 == 2:
            talk.converse()
    return talk.sent


class _Talk:
    def __init__(self, speaks: str, model: str, dialect: frozenset[str]) -> None:
        self.now, self.sent = 0.0, list[object]()
        self._profile = load_profile(model)
        self._site = site_settings(model, dialect, 1 if speaks in ("astm-serial", "au") else None)
        hearing = Hearing(lambda _: None, lambda message, answer: pytest.fail(f"{message.about}: {answer}"))
        self._instrument = SpeakingInstrument(model, dialect, self._wall_ns, hearing, Random(1))
        self._engine: Engine | None = None

    def _wall_ns(self) -> int:
        return START_NS + int(self.now * 1e9)

    def say(self, number: int) -> None:
        if number % 3 == 0:
            said = self._instrument.measure_patient()
        elif number % 3 == 1:
            assay = next(iter(self._profile.assays))
            said = self._instrument.say(Quality, (assay, 1, 50 * (number % 20)))
        else:
            code, error = next(iter(self._profile.errors.items()))
            said = self._instrument.say(Alert, (code, error.component, error.severity))
        if said is not None:
            self._instrument.speaker.tell(said.message)

    def converse(self) -> None:
        """Exchange bytes until neither end has anything to send."""
        speaker = self._instrument.speaker
        for _ in range(40):
            if not speaker.waiting:
                return
            if self._engine is None:
                self._engine = make_engine(
                    self._profile, self._site, lambda: self._wall_ns() // 10**6, self.now
                )
                actions = speaker.connected(self.now)
            else:
                actions = speaker.expired(self.now)
            while actions:
                actions = self._exchange(actions)
            self.now += 0.3

    def _exchange(self, actions: list[SpeakerAction]) -> list[SpeakerAction]:
        speaker, following = self._instrument.speaker, list[SpeakerAction]()
        for action in actions:
            self.sent.append(action)
            if isinstance(action, Close | Vanish) or self._engine is None:
                speaker.closed(self.now)
                self._engine = None
                return []
            for answer in self._answers(self._engine, action.data):
                following += speaker.receive(answer, self.now)
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
                    self._instrument.speaker.closed(self.now)
                    self._engine = None
            actions = following
        return answers
