"""Sessions at the box: only a person at the instrument opens one, and many events end it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from agents.box.sessions.session import PAGE_LOST_SECONDS, PAGE_OVERDUE_SECONDS
from agents.box.sessions.sessions import SESSIONS_MAX
from tests.support.agents.sessions.box import PORT, SessionBox, run
from tests.support.wire.grants import DATACENTER, OFFER, SESSION, STRANGER
from wire.session.grant import Offer, PresenceWay, SessionService, sign_offer
from wire.session.messages import CertificateMessage, EndMessage, GrantMessage, OfferMessage, ShownMessage
from wire.session.presence import TRIES
from wire.session.table import Actor, Cause, Event, SessionState

OTHER_PORT = PORT + 1


def wrong(code: str) -> str:
    return f"{(int(code) + 1) % 1_000_000:06}"


def test_the_person_opens_a_session_by_the_code_and_ends_it() -> None:
    async def act(box: SessionBox) -> None:
        code = await box.offer()
        assert (box.sent, box.session.state) == ([ShownMessage(OFFER.id)], SessionState.OFFERED)
        assert await box.sessions.enter_code(OFFER.id, PORT, code)
        grant = box.grant()
        assert grant.offer == OFFER
        assert [(proof.way, proof.observation) for proof in grant.consent.evidence] == [
            (PresenceWay.CODE, f"port {PORT}")
        ]
        assert not box.opened
        await box.sessions.receive(await box.certificate())
        assert not box.path.elements()
        await asyncio.sleep(2)
        assert box.has_passage
        assert box.path.elements()[OFFER.id] <= OFFER.expires - OFFER.issued
        await box.sessions.end(OFFER.id, PORT)
        assert not box.path.elements()
        await asyncio.sleep(1)
        assert box.tunnels[0].ended.done()
        assert box.session.state is SessionState.ENDED
        assert box.sent[-1] == EndMessage(OFFER.id, "ended by the person")
        assert [record.event for record in box.audit.records] == [
            Event.OFFER_RECEIVED,
            Event.AUTHORIZE,
            Event.CERTIFICATE_RECEIVED,
            Event.TUNNEL_UP,
            Event.PERSON_ENDS,
            Event.CLOSED,
        ]

    run(act)


def test_an_offer_without_an_answer_expires_and_opens_nothing() -> None:
    """Some products accept an offer that nobody answers, and so open a session to an empty laboratory."""

    async def act(box: SessionBox) -> None:
        await box.offer()
        await asyncio.sleep(OFFER.expires - OFFER.issued + 1)
        assert box.session.state is SessionState.ENDED
        assert box.session.cause is Cause.EXPIRED
        assert not box.tunnels

    run(act)


def test_the_last_permitted_wrong_code_ends_the_offer() -> None:
    async def act(box: SessionBox) -> None:
        code = await box.offer()
        for _ in range(TRIES - 1):
            assert not await box.sessions.enter_code(OFFER.id, PORT, wrong(code))
            assert box.session.state is SessionState.OFFERED
        assert not await box.sessions.enter_code(OFFER.id, PORT, wrong(code))
        assert box.session.cause is Cause.WRONG_CODES
        assert not await box.sessions.enter_code(OFFER.id, PORT, code)
        assert not any(isinstance(message, GrantMessage) for message in box.sent)

    run(act)


def test_a_code_at_another_port_changes_nothing() -> None:
    async def act(box: SessionBox) -> None:
        code = await box.offer()
        assert not await box.sessions.enter_code(OFFER.id, OTHER_PORT, code)
        assert not await box.sessions.enter_code(OFFER.id, OTHER_PORT, wrong(code))
        await box.sessions.refuse(OFFER.id, OTHER_PORT)
        await box.sessions.end(OFFER.id, OTHER_PORT)
        assert (box.session.state, box.session.wrong_codes) == (SessionState.OFFERED, 0)

    run(act)


@pytest.mark.parametrize("first", ["code", "switch"])
def test_where_code_and_switch_are_required_one_of_them_is_not_enough(first: str) -> None:
    """A product was found to accept either of two proofs where both were configured."""

    async def act(box: SessionBox) -> None:
        code = await box.offer()
        acts: dict[str, Callable[[], Awaitable[bool]]] = {
            "code": lambda: box.sessions.enter_code(OFFER.id, PORT, code),
            "switch": lambda: box.sessions.press_switch(OFFER.id, PORT, "chassis"),
        }
        assert not await acts.pop(first)()
        assert box.session.state is SessionState.OFFERED
        ((_, second),) = acts.items()
        assert await second()
        assert {proof.way for proof in box.grant().consent.evidence} == {PresenceWay.CODE, PresenceWay.SWITCH}

    run(act, PresenceWay.CODE, PresenceWay.SWITCH)


def test_the_switch_permits_nothing_where_the_site_requires_the_code() -> None:
    async def act(box: SessionBox) -> None:
        await box.offer()
        assert not await box.sessions.press_switch(OFFER.id, PORT, "chassis")
        assert box.session.state is SessionState.OFFERED

    run(act)


def test_a_shared_desktop_authorizes_nothing_and_ends_everything() -> None:
    async def act(box: SessionBox) -> None:
        await box.open()
        second = box.next_offer(replace(OFFER, id=bytes(16), instrument="CH-0002"))
        code = await box.offer(second)
        assert not await box.sessions.enter_code(second.id, PORT, code)
        assert box.session.state is SessionState.OFFERED
        assert "not screen_not_shared" in box.audit.refusals[-1]
        await box.sessions.end(second.id, PORT)
        await box.sessions.end(OFFER.id, PORT)
        assert not box.path.elements()

    run(act)


def test_a_session_needs_the_certificate_of_its_own_offer() -> None:
    async def act(box: SessionBox) -> None:
        await box.authorize()
        valid = await box.certificate()
        for foreign in (
            await box.certificate(STRANGER),
            await box.certificate(issuer=STRANGER),
            await box.certificate(longer_s=1),
            CertificateMessage(OFFER.id, b"no certificate", valid.tls_crypt),
        ):
            await box.sessions.receive(foreign)
            assert box.session.state is SessionState.AUTHORIZED
        assert not box.opened
        await box.sessions.receive(valid)
        assert box.session.state is SessionState.OPENING

    run(act)


@pytest.mark.parametrize(
    "offer",
    [
        replace(OFFER, box="RAP-0002"),
        replace(OFFER, instrument="XX-1"),
    ],
)
def test_an_offer_for_another_box_or_instrument_is_not_shown(offer: Offer) -> None:
    async def act(box: SessionBox) -> None:
        await box.sessions.receive(OfferMessage(sign_offer(offer, DATACENTER)))
        assert not box.sessions.at_port(PORT)
        assert box.audit.refusals

    run(act)


def test_an_offer_by_a_stranger_is_not_shown() -> None:
    async def act(box: SessionBox) -> None:
        await box.sessions.receive(OfferMessage(sign_offer(OFFER, STRANGER)))
        assert not box.sessions.at_port(PORT)

    run(act)


def test_an_offer_that_was_recorded_before_a_restart_is_not_shown_again() -> None:
    async def act(box: SessionBox) -> None:
        box.audit.before.add(OFFER.id)
        await box.offer()
        assert not box.sessions.at_port(PORT)

    run(act)


def test_an_offer_that_arrives_again_is_confirmed_again_and_shown_once() -> None:
    async def act(box: SessionBox) -> None:
        await box.offer()
        await box.offer()
        assert box.sent == [ShownMessage(OFFER.id)] * 2
        assert len(box.sessions.at_port(PORT)) == 1

    run(act)


def test_too_many_offers_are_refused() -> None:
    async def act(box: SessionBox) -> None:
        for number in range(SESSIONS_MAX + 1):
            await box.offer(replace(OFFER, id=number.to_bytes(16, "big")))
        assert len(box.sessions.at_port(PORT)) == SESSIONS_MAX

    run(act)


def test_a_session_that_has_ended_needs_a_new_consent() -> None:
    """Some products let staff reconnect after the end of a session."""

    async def act(box: SessionBox) -> None:
        await box.open()
        certificate = await box.certificate()
        await box.sessions.end(OFFER.id, PORT)
        await asyncio.sleep(1)
        await box.sessions.receive(certificate)
        await box.offer()
        await asyncio.sleep(2)
        assert box.session.state is SessionState.ENDED
        assert len(box.tunnels) == 1

    run(act)


ENDS: dict[str, tuple[Callable[[SessionBox], Awaitable[None]], Cause]] = {
    "person": (lambda box: box.sessions.end(OFFER.id, PORT), Cause.ENDED_BY_PERSON),
    "data center": (lambda box: box.sessions.receive(EndMessage(OFFER.id, "withdrawn")), Cause.PEER_ENDED),
    "firewall": (lambda box: box.session.event(Event.FENCE_LOST, Actor.BOX), Cause.FENCE_LOST),
    "audit": (lambda box: box.session.event(Event.AUDIT_FAILS, Actor.BOX), Cause.AUDIT_FAILED),
    "program": (lambda box: box.sessions.end_all(Event.RESTARTED, Actor.BOX), Cause.RESTARTED),
}


@pytest.mark.parametrize("end", ENDS)
def test_each_end_stops_the_packets_at_once(end: str) -> None:
    async def act(box: SessionBox) -> None:
        await box.open()
        end_session, cause = ENDS[end]
        await end_session(box)
        assert not box.path.elements()
        await asyncio.sleep(1)
        assert (box.session.state, box.session.cause) == (SessionState.ENDED, cause)
        assert box.tunnels[0].ended.done()

    run(act)


def test_a_lost_line_ends_the_session_and_the_next_one_opens() -> None:
    async def act(box: SessionBox) -> None:
        await box.open()
        box.network.endpoints[0].lose()
        await asyncio.sleep(1)
        assert (box.session.state, box.session.cause) == (SessionState.ENDED, Cause.LINE_LOST)
        await box.open(box.next_offer(id=bytes(16)))

    run(act)


def test_a_closed_page_makes_the_session_view_only_and_then_ends_it() -> None:
    async def act(box: SessionBox) -> None:
        await box.open()
        for _ in range(10):
            await asyncio.sleep(PAGE_LOST_SECONDS / 2)
            box.session.page_seen()
        assert not box.session.view_only
        await asyncio.sleep(PAGE_LOST_SECONDS + 1)
        assert box.session.view_only
        assert box.has_passage
        await asyncio.sleep(PAGE_OVERDUE_SECONDS - PAGE_LOST_SECONDS)
        assert box.session.cause is Cause.PERSON_ABSENT
        assert not box.has_passage

    run(act)


def test_no_data_of_a_tcp_service_pass_while_the_page_is_closed() -> None:
    async def act(box: SessionBox) -> None:
        await box.open(box.next_offer(service=SessionService.TCP))
        box.session.page_seen()
        assert box.has_passage
        await asyncio.sleep(PAGE_LOST_SECONDS + 1)
        assert box.session.view_only
        assert not box.has_passage
        await box.session.page_returned()
        assert box.session.state is SessionState.OPEN
        assert box.has_passage

    run(act)


def test_a_session_whose_page_was_never_open_ends() -> None:
    async def act(box: SessionBox) -> None:
        await box.open()
        await asyncio.sleep(PAGE_OVERDUE_SECONDS)
        assert box.session.cause is Cause.PERSON_ABSENT

    run(act)


def test_an_end_while_the_tunnel_opens_leaves_no_tunnel() -> None:
    async def act(box: SessionBox) -> None:
        await box.authorize()
        await box.sessions.receive(await box.certificate())
        await asyncio.sleep(0.5)
        await box.sessions.end(OFFER.id, PORT)
        await asyncio.sleep(2)
        assert box.session.state is SessionState.ENDED
        assert box.tunnels[0].ended.done()

    run(act)


def test_the_deadline_ends_an_open_session_whatever_the_wall_clock_says() -> None:
    async def act(box: SessionBox) -> None:
        await box.open()
        box.network.clock_error_s = -86_400.0
        for _ in range((OFFER.expires - OFFER.issued) // 10):
            await asyncio.sleep(10)
            box.session.page_seen()
        assert (box.session.state, box.session.cause) == (SessionState.ENDED, Cause.EXPIRED)

    run(act)


@pytest.mark.parametrize("instrument", [OFFER.instrument, "CH-2"])
def test_a_second_session_of_a_box_does_not_open(instrument: str) -> None:
    async def act(box: SessionBox) -> None:
        await box.authorize()
        first = await box.certificate()
        second = replace(OFFER, id=bytes(16), instrument=instrument)
        await box.authorize(second)
        other = await box.certificate()
        await box.sessions.receive(first)
        await box.sessions.receive(other)
        await asyncio.sleep(2)
        assert len(box.opened) == 1
        assert box.session.state is SessionState.AUTHORIZED

    run(act)


@pytest.mark.parametrize("number", range(4))
def test_a_full_disk_at_any_record_prevents_the_session(number: int) -> None:
    async def act(box: SessionBox) -> None:
        box.audit.fails_at = number
        code = await box.offer()
        if await box.sessions.enter_code(OFFER.id, PORT, code):
            await box.sessions.receive(await box.certificate())
            await asyncio.sleep(2)
        await asyncio.sleep(1)
        assert not box.has_passage
        assert all(session.state is SessionState.ENDED for session in box.sessions.at_port(PORT))

    run(act)


def test_a_firewall_that_is_not_in_force_prevents_the_session() -> None:
    async def act(box: SessionBox) -> None:
        await box.authorize()
        box.path.in_force = lambda: False
        await box.sessions.receive(await box.certificate())
        await asyncio.sleep(2)
        assert not box.opened
        box.path.in_force = lambda: True
        box.path.opens = False
        await box.sessions.receive(await box.certificate())
        await asyncio.sleep(2)
        assert not box.has_passage
        assert box.session.cause is Cause.FENCE_LOST

    run(act)


def test_a_certificate_without_consent_opens_nothing() -> None:
    async def act(box: SessionBox) -> None:
        await box.authorize()
        certificate = await box.certificate()
        second = replace(OFFER, id=bytes(16))
        await box.offer(second)
        await box.sessions.receive(replace_session(certificate, second.id))
        await box.sessions.receive(replace_session(certificate, b"?" * 16))
        await asyncio.sleep(2)
        assert not box.opened

    run(act)


def replace_session(message: CertificateMessage, session: bytes) -> CertificateMessage:
    return CertificateMessage(session, message.certificate, message.tls_crypt)


def test_each_session_has_its_own_key() -> None:
    async def act(box: SessionBox) -> None:
        await box.authorize()
        first = box.grant().consent.session_key
        await box.authorize(replace(OFFER, id=bytes(16)))
        keys = {
            key.public_numbers() for key in (first, box.grant().consent.session_key, SESSION.public_key())
        }
        assert len(keys) == 3

    run(act)
