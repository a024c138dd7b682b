"""Remote sessions in labs: the effects of people and faults, and bugs that a lab detects."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from agents.box.sessions.sessions import BoxSessions
from datacenter.store.store import Store
from datacenter.store.tables.schema import box_audit
from netfw.ruleset.sessions import Session
from settings.problems import SettingsError
from sim.faults import fault_kinds
from sim.lab.labfile import Lab, ScheduledFault, parse_lab
from sim.units import SECOND_NS
from sim.verdict.result import Result
from sim.worlds import run_lab
from sim.worlds.shared.site.session_keys import sent_lines
from sim.worlds.virtual.sessions import VirtualPage, paths_of
from sim.worlds.virtual.world import VirtualWorld
from wire.desktop.held_input import HeldInput
from wire.messages import LogLine
from wire.session.log import SessionLog
from wire.session.presence import DIGITS, code_of
from wire.session.table import Cause, SessionState

LAB = """
[lab]
name = "sessions"
duration = "{duration}"
[box]
board = "rap-4"
linger = "1s"
[uplink]
rate = "128kbit"
delay = "40ms"
{proxy}
[[instrument]]
port = 1
model = "chemistry-analyzer"
report_every = "5s"
[[instrument]]
port = 2
model = "immunoassay-analyzer"
[[session]]
at = "30s"
target = "instrument:1"
lasts = "5min"
{keys}
"""
OPEN_S = 90
"""A time at which the session of the lab is open, in seconds."""
TARGET = "instrument:1"


def lab(keys: str = "", *, duration: str = "6min", proxy: str = "") -> Lab:
    return parse_lab(LAB.format(keys=keys, duration=duration, proxy=proxy), Path("sessions.toml"))


def failed(result: Result) -> list[str]:
    return [expectation.name for expectation in result.expectations if not expectation.holds]


@contextmanager
def opened(keys: str = 'ended_by = "nobody"', **more: str) -> Iterator[VirtualWorld]:
    """Yield a world with an open session, in which a key and a button are pressed."""
    with VirtualWorld(lab(keys, **more)) as world:
        world.run_until(OPEN_S * SECOND_NS)
        assert world.desktops[TARGET].pressed == "key 0x61, a button"
        yield world


def inject(world: VirtualWorld, kind: str, target: str, **parameters: Any) -> None:
    event = ScheduledFault(world.env.now, fault_kinds()[kind](**parameters), target, None)
    world.loop.run_until_complete(world.faults.inject(event))


def step(world: VirtualWorld, seconds: float) -> None:
    world.run_until(world.env.now + int(seconds * SECOND_NS))


def state(world: VirtualWorld) -> tuple[str, str]:
    """Return the states of the session at the data center and at the box."""
    (one,) = world.people.requested
    assert world.datacenter.sessions is not None
    at_datacenter = world.datacenter.sessions.find(one.id)
    page = VirtualPage(world.loop, world.box.host, lambda: world.box.sessions, 1)
    at_box = world.loop.run_until_complete(page.state(one.id))
    return "" if at_datacenter is None else at_datacenter.state, at_box


@pytest.mark.parametrize(
    ("keys", "cause"),
    [
        ('wrong_codes = 2\nopen_for = "40s"', Cause.ENDED_BY_PERSON),
        ('person = "refuses"', Cause.REFUSED),
        ('person = "walks-away"\nopen_for = "20s"', Cause.PERSON_ABSENT),
    ],
)
def test_the_person_acts_on_the_display_of_the_instrument(keys: str, cause: Cause) -> None:
    result = run_lab(lab(f'acts_at = "display"\n{keys}'))
    assert result.verdict == "pass", failed(result)
    (session,) = result.sessions
    assert session.causes == (cause,)


# faults of other products for remote access, as their users reported them


def test_a_line_that_is_lost_in_the_middle_of_a_drag_leaves_no_key_pressed() -> None:
    with opened('open_for = "4min"\nends = "line lost"') as world:
        inject(world, "link-down", "uplink")
        step(world, 30)
        assert world.desktops[TARGET].pressed == ""
        assert world.desktops[TARGET].left_pressed == []
        assert state(world) == (SessionState.ENDED, SessionState.ENDED)
        assert not world.box.session_path.elements()
        step(world, 120)
        result = world.finish()
    assert "sessions" not in failed(result)
    assert "tunnel_seconds_without_grant" not in failed(result)


def test_staff_reach_the_box_only_with_the_element_in_the_ruleset() -> None:
    with opened('open_for = "4min"\nends = "line lost"') as world:
        firewall, tunnel = world.box.firewall, world.box.tunnels[-1]
        to_box, _ = open_paths(world)
        assert firewall.passes(to_box)
        packets = tunnel.packets
        step(world, 30)
        assert tunnel.packets > packets
        firewall.close_session(to_box)
        packets = tunnel.packets
        step(world, 30)
        assert not firewall.passes(to_box)
        assert tunnel.packets == packets


def test_the_box_reaches_a_desktop_only_with_the_element_in_the_ruleset() -> None:
    with opened('open_for = "4min"\nends = "line lost"') as world:
        _, to_instrument = open_paths(world)
        refused = world.box.refused().get("egress", 0)
        step(world, 30)
        assert world.box.refused().get("egress", 0) == refused
        world.box.firewall.close_session(to_instrument)
        step(world, 30)
        assert world.box.refused()["egress"] > refused


def open_paths(world: VirtualWorld) -> tuple[Session, Session]:
    """Return the paths of the open session: to the box, and to the instrument."""
    (session,) = world.box.session_path.elements()
    offer = world.box.session_path.offer(session)
    assert offer is not None
    return paths_of(offer)


def test_nothing_passes_before_the_last_evidence() -> None:
    """A product let its session be used before the second factor was entered."""
    with VirtualWorld(lab('answers_after = "2min"')) as world:
        world.run_until(140 * SECOND_NS)
        assert state(world) == (SessionState.OFFERED, SessionState.OFFERED)
        assert not any(tunnel.was_opened for tunnel in world.box.tunnels)
        assert world.box.session_path.elements() == {}
        assert world.desktops[TARGET].viewers == 0
        step(world, 60)
        assert state(world) == (SessionState.OPEN, SessionState.OPEN)
        assert world.desktops[TARGET].viewers == 1


@pytest.mark.parametrize("seconds", [30.01, 40, 63.2, 66.15, 66.35, 66.6, 67, 120])
@pytest.mark.parametrize(("kind", "target"), [("link-down", "uplink"), ("program-killed", "box")])
def test_from_every_state_an_end_is_reachable(seconds: float, kind: str, target: str) -> None:
    """A product had sessions that stayed "canceling" forever."""
    with VirtualWorld(lab('ended_by = "nobody"')) as world:
        world.run_until(int(seconds * SECOND_NS))
        inject(world, kind, target)
        world.run_until(335 * SECOND_NS)
        at_datacenter, at_box = state(world)
        assert at_datacenter == SessionState.ENDED
        assert at_box in ("", SessionState.ENDED)
        assert not world.box.session_path.elements()
        assert "tunnel_seconds_without_grant" not in failed(world.finish())


def test_a_proxy_that_answers_late_is_waited_for() -> None:
    """The tunnel's own program gives up a proxy after five seconds."""
    proxy = 'proxy = { kind = "http" }'
    with VirtualWorld(lab('ended_by = "nobody"', proxy=proxy)) as world:
        world.run_until(35 * SECOND_NS)
        inject(world, "proxy-slow", "proxy", delay=6 * SECOND_NS)
        world.run_until(240 * SECOND_NS)
        assert state(world) == (SessionState.OPEN, SessionState.OPEN)


def test_after_the_end_neither_the_old_code_nor_the_old_tunnel_opens_anything() -> None:
    """With a product, staff could connect again after the end."""
    with opened('open_for = "30s"') as world:
        (one,) = world.people.requested
        assert world.datacenter.sessions is not None
        session = world.datacenter.sessions.find(one.id)
        assert session is not None
        step(world, 30)
        assert state(world) == (SessionState.ENDED, SessionState.ENDED)
        page = VirtualPage(world.loop, world.box.host, lambda: world.box.sessions, 1)
        assert not world.loop.run_until_complete(page.enter_code(one.id, session.code))
        step(world, 60)
        assert len(world.box.tunnels) == 1
        assert world.desktops[TARGET].viewers == 0


def test_without_the_page_of_the_person_staff_lose_control_first_and_then_the_session() -> None:
    with opened('person = "walks-away"\nopen_for = "30s"') as world:
        step(world, 30)
        assert state(world) == (SessionState.OPEN, SessionState.OPEN)
        assert world.desktops[TARGET].pressed == ""
        step(world, 60)
        assert state(world) == (SessionState.ENDED, SessionState.ENDED)
        step(world, 180)
        assert failed(world.finish()) == []


def test_a_desktop_that_does_not_respond_does_not_prevent_the_end() -> None:
    with opened('open_for = "2min"') as world:
        inject(world, "desktop-frozen", TARGET)
        step(world, 150)
        assert state(world) == (SessionState.ENDED, SessionState.ENDED)


@pytest.mark.parametrize(
    ("kind", "target", "cause"),
    [
        ("approval-withdrawn", "datacenter", "withdrawn"),
        ("training-expired", "datacenter", "training expired"),
        ("recording-fails", "datacenter", "recording failed"),
        ("tunnels-killed", "box", "line lost"),
        ("tunnels-killed", "datacenter", "line lost"),
    ],
)
def test_a_session_ends_with_each_of_its_preconditions(kind: str, target: str, cause: str) -> None:
    with opened() as world:
        inject(world, kind, target)
        step(world, 8)
        assert state(world) == (SessionState.ENDED, SessionState.ENDED)
        (session,) = world.finish().sessions
        assert session.causes == (cause,)
        assert session.problems == ()


def test_the_end_of_a_session_on_a_full_disk_is_recorded_when_there_is_room() -> None:
    with opened() as world:
        event = ScheduledFault(world.env.now, fault_kinds()["disk-full"](), "disk", None)
        active = world.loop.run_until_complete(world.faults.inject(event))
        inject(world, "approval-withdrawn", "datacenter")
        step(world, 20)
        assert state(world) == (SessionState.ENDED, SessionState.ENDED)
        world.loop.run_until_complete(world.faults.end(active))
        step(world, 20)
        (session,) = world.finish().sessions
        assert session.problems == ()


def test_an_audit_file_of_the_data_center_that_cannot_be_written_opens_nothing() -> None:
    with VirtualWorld(lab('answers_after = "1min"')) as world:
        world.run_until(60 * SECOND_NS)
        inject(world, "session-audit-fails", "datacenter")
        step(world, 120)
        assert state(world) == (SessionState.ENDED, SessionState.ENDED)
        assert not any(tunnel.was_opened for tunnel in world.box.tunnels)


# bugs that a lab detects


def test_a_session_that_ends_otherwise_than_expected_fails_the_lab() -> None:
    result = run_lab(lab('ends = "expired"'))
    assert failed(result) == ["sessions"]
    (failure,) = result.failures
    assert "it ended by ended by the person, not by expired" in failure.explanation


def test_a_session_that_does_not_open_as_expected_fails_the_lab() -> None:
    result = run_lab(lab('person = "refuses"\nopens = true'))
    assert failed(result) == ["sessions"]
    assert "it has not opened" in result.failures[0].explanation


Plant = Callable[[pytest.MonkeyPatch], None]


def accept_any_code(patch: pytest.MonkeyPatch) -> None:
    from agents.box.sessions import sessions

    patch.setattr(sessions, "code_of", lambda _: f"{1:0{DIGITS}}")
    patch.setattr(hmac, "compare_digest", lambda _one, _other: True)


def lose_a_record(patch: pytest.MonkeyPatch) -> None:
    append = SessionLog.append

    def append_others(self: SessionLog, record: Any) -> None:
        if record.event != "authorize":
            append(self, record)

    patch.setattr(SessionLog, "append", append_others)


def consent_for_the_person(patch: pytest.MonkeyPatch) -> None:
    receive = BoxSessions.receive

    async def receive_and_consent(self: BoxSessions, message: Any) -> None:
        await receive(self, message)
        for session in self.at_port(1):
            await self.enter_code(session.id, 1, code_of(session.signed.hash))

    patch.setattr(BoxSessions, "receive", receive_and_consent)


def keep_keys_pressed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(HeldInput, "release", lambda _: [])


@pytest.mark.parametrize(
    ("plant", "keys", "expectations"),
    [
        (accept_any_code, "wrong_codes = 5", ["sessions"]),
        (lose_a_record, "", ["tunnel_seconds_without_grant"]),
        (consent_for_the_person, 'person = "ignores"', ["sessions", "tunnel_seconds_without_grant"]),
        (keep_keys_pressed, "", ["sessions"]),
    ],
)
def test_a_lab_detects_a_planted_bug(
    monkeypatch: pytest.MonkeyPatch, plant: Plant, keys: str, expectations: list[str]
) -> None:
    assert failed(run_lab(lab(keys))) == []
    plant(monkeypatch)
    assert set(expectations) <= set(failed(run_lab(lab(keys))))


def audited(tamper: Callable[[Store], object] = lambda _store: None) -> tuple[list[LogLine], Result]:
    """Run the lab and tamper with the data center's store; return the audit lines in it, and the result."""
    with VirtualWorld(lab()) as world:
        world.run_until(world.lab.about.duration)
        tamper(world.datacenter.store)
        return sent_lines(world.datacenter.store), world.finish()


def test_a_lab_with_sessions_is_deterministic() -> None:
    """The audit lines, which contain keys and signatures, and the bytes on the uplink are equal in each run."""
    (lines, first), (again, second) = audited(), audited()
    assert len(lines) > 8
    assert lines == again
    assert first.trace_sha256 == second.trace_sha256
    assert first.uplink.bytes_up == second.uplink.bytes_up


def test_the_audit_lines_of_sessions_reach_the_data_center() -> None:
    lines, result = audited()
    assert b"".join(line.content for line in lines).startswith(b'{"end":"box"')
    steps = [step for session in result.sessions for step in session.steps]
    assert {step.end for step in steps if step.is_sent} == {"box"}
    assert all(step.is_sent for step in steps if step.end == "box")


def test_an_audit_line_that_differs_from_the_file_of_the_box_is_detected() -> None:
    def change(store: Store) -> None:
        with store.transaction() as connection:
            (row,) = connection.execute(select(box_audit).where(box_audit.c.text.contains("person ends")))
            entry = row.entry.replace(b"person ends", b"staff  ends")
            is_row = (box_audit.c.epoch == row.epoch) & (box_audit.c.number == row.number)
            connection.execute(update(box_audit).where(is_row).values(entry=entry))

    _, result = audited(change)
    assert failed(result) == ["tunnel_seconds_without_grant"]
    assert "the data center's audit records of sessions differ" in result.failures[0].explanation


# lab files


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ('person = "sleeps"', "session.*person"),
        ('ends = "expierd"', r'ends: "expierd": did you mean expired'),
        ("wrong_codes = 10", "wrong_codes"),
        ('opens = "yes"', "opens"),
    ],
)
def test_a_wrong_session_is_refused(keys: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        lab(keys)


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        (f'"{TARGET}"', '"instrument:3"', r'session\[0\].target: "instrument:3": '),
        (f'"{TARGET}"', '"instrument:2"', "immunoassay-analyzer has no VNC `desktop_port`"),
        ('"30s"', '"6min"', "must be before the lab ends, at 6min"),
    ],
)
def test_an_impossible_session_is_refused(right: str, wrong: str, message: str) -> None:
    text = LAB.format(keys="", duration="6min", proxy="").replace(right, wrong)
    with pytest.raises(SettingsError, match=message):
        parse_lab(text, Path("sessions.toml"))


def test_a_lab_with_sessions_can_be_written_and_read_again() -> None:
    original = lab('person = "walks-away"\nopen_for = "30s"')
    assert parse_lab(original.toml(), original.path).sessions == original.sessions
