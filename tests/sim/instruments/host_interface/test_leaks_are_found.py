"""The verdict of a lab with patients detects each leak of patient data that is planted in the box."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest

import agents.box.box as box_module
from agents.box.buffer import Buffer, OnSettled
from agents.box.intake.adapter import TcpInstrumentChannel
from agents.box.intake.counts import PortStatus, port_status
from agents.box.intake.intake import Intake, Source
from sim.lab.labfile import load_lab
from sim.units import MINUTE_NS
from sim.worlds import run_lab
from tests.support.paths import LABS
from wire.standards.engine import Outcome
from wire.standards.extract import Extract

LAB = load_lab(LABS / "12-patients.toml")
SHORT = msgspec.structs.replace(
    LAB,
    path=Path("patients.toml"),
    about=msgspec.structs.replace(LAB.about, duration=40 * MINUTE_NS),
    instruments=LAB.instruments[:1],
    events=(),
)
Received = list[bytes]
"""The messages about patients that the box has received."""


@pytest.fixture
def patient_messages(monkeypatch: pytest.MonkeyPatch) -> Received:
    received: Received = []
    read = TcpInstrumentChannel.read

    async def keep(self: TcpInstrumentChannel) -> bytes:
        data = await read(self)
        if b"ORU^R01" in data and b"||S" in data:
            received.append(data)
        return data

    monkeypatch.setattr(TcpInstrumentChannel, "read", keep)
    return received


def _name(patient_messages: Received) -> bytes:
    name = re.search(rb"PID\|1\|\|\d+\|\|([^^]+)", b"".join(patient_messages))
    return name[1] if name else b""


def _in_an_error_message(patch: pytest.MonkeyPatch, patient_messages: Received) -> None:
    accept = Intake.accept

    async def fail(self: Intake, source: Source, extract: Extract) -> Outcome:
        message = {"message": f"unreadable: {_name(patient_messages).decode('latin-1')}"}
        asyncio.get_running_loop().call_exception_handler(message)
        return await accept(self, source, extract)

    patch.setattr(Intake, "accept", fail)


def _in_the_status(patch: pytest.MonkeyPatch, patient_messages: Received) -> None:
    def status(source: Source, now: float) -> PortStatus:
        name = base64.b64encode(_name(patient_messages)).decode()
        return msgspec.structs.replace(port_status(source, now), instrument=name)

    patch.setattr(box_module, "port_status", status)


def _behind_a_record(patch: pytest.MonkeyPatch, patient_messages: Received) -> None:
    append = Buffer.append_all

    def append_with_name(
        self: Buffer, priorities: Sequence[int], payloads: Sequence[bytes], *others: OnSettled | None
    ) -> asyncio.Future[range]:
        longer = [payload + _name(patient_messages).hex().encode() for payload in payloads]
        return append(self, priorities, longer, *others)

    patch.setattr(Buffer, "append_all", append_with_name)


def _as_a_serial_number(patch: pytest.MonkeyPatch, patient_messages: Received) -> None:
    accept = Intake.accept

    async def rename(self: Intake, source: Source, extract: Extract) -> Outcome:
        if number := re.search(rb"PID\|1\|\|(\d+)", b"".join(patient_messages)):
            source.serial = number[1].decode()
        return await accept(self, source, extract)

    patch.setattr(Intake, "accept", rename)


@pytest.mark.slow("runs a lab and searches a disk for each leak")
@pytest.mark.parametrize(
    ("plant", "channel"),
    [
        (_in_an_error_message, "log"),
        (_in_the_status, "status"),
        (_behind_a_record, "disk"),
        (_as_a_serial_number, "uplink"),
    ],
)
def test_a_leak_to_each_channel_is_detected(
    plant: Callable[[pytest.MonkeyPatch, Received], None],
    channel: str,
    patient_messages: Received,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plant(monkeypatch, patient_messages)
    (texts,) = (one for one in run_lab(SHORT).expectations if one.name == "patient_texts")
    assert patient_messages
    assert isinstance(texts.measured, int) and texts.measured > 0 and not texts.holds
    assert f"bytes of the {channel}" in texts.explanation.partition("The first:")[2] or texts.measured > 1


def test_a_box_without_leaks_passes(patient_messages: Received) -> None:
    (texts,) = (one for one in run_lab(SHORT).expectations if one.name == "patient_texts")
    assert patient_messages
    assert texts.holds
