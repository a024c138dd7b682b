"""Data of patients, operators and facilities, and free text, do not influence the behavior of the box."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable

import pytest

from sim.conversations import port
from sim.conversations.casefile import Conversation
from tests.support.sim.conversations.variants import CASES, differing, observe, observe_passing
from wire.standards.engine import Action, Count, Engine
from wire.standards.engines import make_engine
from wire.standards.extract import Reason
from wire.standards.hl7 import Hl7Observer

VARIANTS = 30
Leak = Callable[[bytes], list[Action]]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_data_of_persons_changes_nothing(case: Conversation) -> None:
    assert list(differing(case, VARIANTS)) == []


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_data_of_persons_changes_nothing_at_an_observed_connection(case: Conversation) -> None:
    assert list(differing(case, VARIANTS, observe_passing)) == []


def test_a_leak_of_an_observer_is_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    class Leaky(Hl7Observer):
        def from_instrument(self, data: bytes, now: float) -> list[Action]:
            return [Count(Reason.LITTER, zlib.crc32(data) % 100), *super().from_instrument(data, now)]

    monkeypatch.setattr(port, "make_observer", lambda _profile, site: Leaky(site))
    assert len(list(differing(NOTE, 10, observe_passing))) > 5


class _LeakyEngine:
    """An engine whose actions begin with those of `leak(data)`."""

    def __init__(self, engine: Engine, leak: Leak) -> None:
        self._engine, self._leak = engine, leak

    def __getattr__(self, name: str) -> object:
        return getattr(self._engine, name)

    def receive(self, data: bytes, now: float) -> list[Action]:
        return [*self._leak(data), *self._engine.receive(data, now)]


def plant(monkeypatch: pytest.MonkeyPatch, leak: Leak) -> None:
    monkeypatch.setattr(port, "make_engine", lambda *args: _LeakyEngine(make_engine(*args), leak))


def log_a_byte(data: bytes) -> list[Action]:
    logging.getLogger("intake").warning("received %d", data[-9] if len(data) > 8 else 0)
    return []


def count_by_digest(data: bytes) -> list[Action]:
    return [Count(Reason.LITTER, zlib.crc32(data) % 100)]


def fail(data: bytes) -> list[Action]:
    raise ValueError(f"{data!r} is not a message")


def log_an_exception(data: bytes) -> list[Action]:
    try:
        return fail(data)
    except ValueError:
        logging.getLogger("intake").exception("engine")
        return []


NOTE = next(case for case in CASES if case.name == "hl7-notification-with-a-name-in-the-note")


@pytest.mark.parametrize("leak", [log_a_byte, count_by_digest, log_an_exception])
def test_a_leak_is_detected(monkeypatch: pytest.MonkeyPatch, leak: Leak) -> None:
    plant(monkeypatch, leak)
    assert len(list(differing(NOTE, 10))) > 5


def test_an_exception_of_an_engine_is_reported_without_its_text(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, fail)
    assert "ValueError at" in str(observe((NOTE, NOTE.file.read_bytes())))
    assert list(differing(NOTE, 4)) == []


def test_an_exception_without_bytes_of_the_instrument_is_no_leak(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, lambda _data: log_an_exception(b""))
    assert "is not a message" in str(observe((NOTE, NOTE.file.read_bytes())))
    assert list(differing(NOTE, 4)) == []
