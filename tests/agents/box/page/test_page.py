"""The local page: acts of a person at the instrument, and refusal of everything else."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from html import unescape

import pytest

from agents.box.page.application import (
    HELD_MAX,
    HOLD_SECONDS,
    LIVE_HOLD_SECONDS,
    LocalPage,
)
from agents.box.page.languages import catalogue
from agents.box.page.markup import Markup
from agents.box.page.ports import port_row
from agents.box.page.status import PagePort, PageStandard, PageStatus
from agents.box.sessions.session import PAGE_LOST_SECONDS, PAGE_OVERDUE_SECONDS, SHOWN_SECONDS
from tests.support.agents.page_client import OTHER_PORT, PageClient, forms_of, page_of
from tests.support.agents.sessions.box import PORT, SessionBox, run
from tests.support.wire.grants import OFFER
from wire.session.grant import Offer, PresenceWay
from wire.session.presence import TRIES
from wire.session.table import Cause, SessionState
from wire.standards.extract import Reason

ID = OFFER.id.hex()


def wrong(code: str) -> str:
    return f"{(int(code) + 1) % 1_000_000:06}"


def test_the_person_permits_watches_and_ends_a_session() -> None:
    async def act(box: SessionBox) -> None:
        client = PageClient(page_of(box))
        assert "no remote session and no request" in await client.get()
        code = await box.offer()
        assert f'href="/offer/{ID}"' in await client.get()
        text = unescape(await client.get(f"/offer/{ID}"))
        for shown in (OFFER.staff, OFFER.role, OFFER.issuer, OFFER.instrument, "operate the instrument"):
            assert shown in text
        assert "You have permitted" in await client.send(
            forms_of(text)["code"], code=f"{code[:3]} {code[3:]}"
        )
        await box.sessions.receive(await box.certificate())
        await asyncio.sleep(2)
        running = await client.get()
        assert "A remote session is running" in running
        assert "30 min" in running
        assert "has ended" in await client.send(forms_of(running)["end"])
        assert not box.path.elements()
        await asyncio.sleep(1)
        history = await client.get()
        assert "ended here" in history
        assert re.search(r"\d min \d+ s", history)
        assert not forms_of(history)

    run(act)


def test_the_person_refuses_an_offer() -> None:
    async def act(box: SessionBox) -> None:
        await box.offer()
        client = PageClient(page_of(box))
        assert "You have refused" in await client.send(await client.offer_form("refuse"))
        await asyncio.sleep(1)
        assert box.session.cause is Cause.REFUSED
        assert "answered or is over" in await client.get(f"/offer/{ID}")

    run(act)


def test_the_page_shows_the_counts_of_ports_with_a_standard() -> None:
    async def act(box: SessionBox) -> None:
        text = await PageClient(page_of(box)).get()
        (row,) = re.findall(r"<tr>(?:(?!</tr>).)*CELL-7.*?</tr>", text)
        assert re.findall(r"<li>(.*?)</li>", re.sub("</?time[^>]*>", "", row)) == [
            "ASTM (RS-232): connected",
            "last message 2031-03-04 11:30 UTC",
            "reports stored: 12",
            "not sent, because they belong or may belong to patients: 7",
            "damaged frames, repeated by the instrument: 2",
        ]
        (silent,) = re.findall(r"<tr>(?:(?!</tr>).)*GAS-8.*?</tr>", text)
        assert "HL7: not connected" in silent and "no message yet" in silent

    run(act)


def test_each_reason_has_a_text() -> None:
    page = PagePort(1, (), True, PageStandard("hl7", True, None, 0, {reason.value: 1 for reason in Reason}))
    text = port_row(page, catalogue("en"), lambda _: Markup(""))
    assert not [reason.value for reason in Reason if f"{reason.value}: 1" in text]


def test_wrong_codes_are_counted_and_the_last_one_ends_the_offer() -> None:
    async def act(box: SessionBox) -> None:
        code = await box.offer()
        client = PageClient(page_of(box))
        for tries in range(1, TRIES):
            text = await client.send(await client.offer_form("code"), code=wrong(code))
            assert "This proof was not accepted" in text
            assert f"Tries left: {TRIES - tries}" in text
        assert "is over" in await client.send(await client.offer_form("code"), code=wrong(code))
        await asyncio.sleep(1)
        assert box.session.cause is Cause.WRONG_CODES

    run(act)


def test_a_code_that_is_not_a_number_is_wrong() -> None:
    async def act(box: SessionBox) -> None:
        await box.offer()
        client = PageClient(page_of(box))
        assert "not accepted" in await client.send(await client.offer_form("code"), code="<script>ä")
        assert box.session.wrong_codes == 1

    run(act)


@pytest.mark.parametrize("port", ["", "0", "1", "9", "x", "²", "2, 3"])
def test_a_request_without_a_valid_port_from_httpd_is_refused(port: str) -> None:
    async def act(box: SessionBox) -> None:
        await box.offer()
        client = PageClient(page_of(box))
        for method, target in (("GET", "/"), ("POST", f"/session/{ID}/code"), ("GET", "/events")):
            assert (await client.ask(method, target, x_rap_port=port)).status == 403

    run(act)


def test_another_port_neither_shows_nor_changes_an_offer() -> None:
    async def act(box: SessionBox) -> None:
        code = await box.offer()
        page = page_of(box)
        here, other = PageClient(page), PageClient(page, OTHER_PORT)
        assert OFFER.staff not in await other.get()
        assert (await other.ask("GET", f"/offer/{ID}")).status == 404
        form = await here.offer_form("code")
        body = f"token={form.fields['token']}&code={code}".encode()
        assert (await other.ask("POST", form.action, body)).status == 403
        assert box.session.state is SessionState.OFFERED

    run(act)


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://rap.example:8443"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
    ],
)
def test_a_form_that_another_origin_sends_is_refused(headers: dict[str, str]) -> None:
    async def act(box: SessionBox) -> None:
        code = await box.offer()
        client = PageClient(page_of(box))
        form = await client.offer_form("code")
        body = f"token={form.fields['token']}&code={code}".encode()
        answer = await client.ask("POST", form.action, body, **headers)
        assert (answer.status, box.session.state) == (403, SessionState.OFFERED)
        answer = await client.ask("POST", form.action, body, origin="https://rap.example:8443")
        assert (answer.status, box.session.state) == (303, SessionState.AUTHORIZED)

    run(act)


def test_a_form_without_its_own_token_is_refused() -> None:
    async def act(box: SessionBox) -> None:
        code = await box.offer()
        client = PageClient(page_of(box))
        foreign = (await client.offer_form("refuse")).fields["token"]
        for token in ("", "x", foreign):
            answer = await client.ask("POST", f"/session/{ID}/code", f"token={token}&code={code}".encode())
            assert answer.status == 403
        for body in (b"\xff", b"&".join([b"a=b"] * 99)):
            assert (await client.ask("POST", f"/session/{ID}/code", body)).status == 403
        assert box.session.state is SessionState.OFFERED

    run(act)


def test_unknown_addresses_and_methods_are_refused() -> None:
    async def act(box: SessionBox) -> None:
        client = PageClient(page_of(box))
        for target in ("/offer/zz", f"/offer/{ID}", f"/offer/{ID}/code", "/page.txt", "/../page.css"):
            assert (await client.ask("GET", target)).status == 404
        for method in ("PUT", "DELETE", "HEAD", "OPTIONS"):
            assert (await client.ask(method, "/")).status == 405

    run(act)


def test_while_the_desktop_is_shared_the_page_can_only_end_sessions() -> None:
    """Staff who operate the instrument's desktop could otherwise permit a second session with the code they know."""

    async def act(box: SessionBox) -> None:
        client = PageClient(page_of(box))
        second = box.next_offer(id=bytes(16), instrument="CH-4712")
        code = await box.offer(second)
        form = await client.offer_form("code", second.id)
        await box.open()
        assert "can only be ended here" in await client.get(f"/offer/{second.id.hex()}")
        tries = 1000
        for _ in range(tries):
            assert "desktop of this port is shared" in await client.send(form, code=code)
        states = {session.id: session.state for session in box.sessions.at_port(PORT)}
        assert states == {second.id: SessionState.OFFERED, OFFER.id: SessionState.OPEN}
        assert sum("shared" in reason for reason in box.audit.refusals) == tries
        assert list(forms_of(await client.get())) == ["end"]

    run(act)


def test_a_code_without_the_press_of_the_switch_permits_nothing() -> None:
    """RustDesk accepted a password or a click where both were configured."""

    async def act(box: SessionBox) -> None:
        code = await box.offer()
        client = PageClient(page_of(box))
        text = await client.send(await client.offer_form("code"), code=code)
        assert "Another one is needed" in text
        assert "The code is correct." in text and "Press the switch" in text
        assert box.session.state is SessionState.OFFERED
        assert await box.sessions.press_switch(OFFER.id, PORT, "consent")

    run(act, PresenceWay.CODE, PresenceWay.SWITCH)


def test_a_press_of_the_switch_without_the_code_permits_nothing() -> None:
    async def act(box: SessionBox) -> None:
        code = await box.offer()
        client = PageClient(page_of(box))
        assert not await box.sessions.press_switch(OFFER.id, PORT, "consent")
        assert "The switch was pressed." in await client.get(f"/offer/{ID}")
        assert "not accepted" in await client.send(await client.offer_form("code"), code=wrong(code))
        assert box.session.state is SessionState.OFFERED
        assert "You have permitted" in await client.send(await client.offer_form("code"), code=code)

    run(act, PresenceWay.CODE, PresenceWay.SWITCH)


def test_an_offer_that_nobody_answers_expires_although_its_page_is_open() -> None:
    """MeshCentral and RustDesk have options that accept a session when nobody answers."""

    async def act(box: SessionBox) -> None:
        await box.offer()
        client = PageClient(page_of(box))
        for _ in range(0, OFFER.expires - OFFER.issued, 20):
            assert "Request for a remote session" in await client.get()
            await client.get(f"/offer/{ID}")
            await asyncio.sleep(20)
        await asyncio.sleep(1)
        assert "the time ran out" in await client.get()
        assert not box.tunnels

    run(act)


def test_an_open_page_keeps_the_session_and_a_closed_one_ends_it() -> None:
    async def act(box: SessionBox) -> None:
        await box.open()
        client = PageClient(page_of(box))
        known = ""
        for _ in range(40):
            answer = await client.ask("GET", "/events", last_event_id=known)
            known = _event(answer.body)[0] or known
        assert box.session.state is SessionState.OPEN
        assert not box.session.view_only
        await asyncio.sleep(PAGE_LOST_SECONDS + 1)
        assert box.session.view_only
        assert "staff can only watch" in await client.get()
        await asyncio.sleep(PAGE_OVERDUE_SECONDS + 1)
        assert box.session.cause is Cause.PERSON_ABSENT
        assert "not open for too long" in await client.get()
        next_offer = box.next_offer(id=bytes(16))
        await box.open(next_offer)

    run(act)


def _event(body: bytes) -> tuple[str, str]:
    """Return the identifier and the data of an event."""
    fields = [line.partition(": ") for line in body.decode().splitlines() if line]
    values = {name: value for name, _, value in fields}
    return values.get("id", ""), values.get("data", "")


def test_an_event_comes_with_each_change_and_nothing_without_one() -> None:
    async def act(box: SessionBox) -> None:
        client, loop = PageClient(page_of(box)), asyncio.get_running_loop()
        first, shown = _event((await client.ask("GET", "/events")).body)
        assert "no remote session" in shown
        start = loop.time()
        assert _event((await client.ask("GET", "/events", last_event_id=first)).body) == ("", "")
        assert loop.time() - start == pytest.approx(HOLD_SECONDS)
        held = asyncio.ensure_future(client.ask("GET", "/events", last_event_id=first))
        await asyncio.sleep(3)
        assert not held.done()
        start = loop.time()
        await box.offer()
        second, shown = _event((await held).body)
        assert loop.time() - start < 0.1
        assert second != first and OFFER.staff in shown
        await box.sessions.end(OFFER.id, PORT)
        await asyncio.sleep(1)
        await box.open(box.next_offer(id=bytes(16)))
        known, _ = _event((await client.ask("GET", "/events", last_event_id=second)).body)
        start = loop.time()
        await client.ask("GET", "/events", last_event_id=known)
        assert loop.time() - start == pytest.approx(LIVE_HOLD_SECONDS)

    run(act)


def test_the_number_of_held_requests_is_limited() -> None:
    async def act(box: SessionBox) -> None:
        client = PageClient(page_of(box))
        known, _ = _event((await client.ask("GET", "/events")).body)
        held = [
            asyncio.ensure_future(client.ask("GET", "/events", last_event_id=known)) for _ in range(HELD_MAX)
        ]
        await asyncio.sleep(0.1)
        assert not any(request.done() for request in held)
        held.append(asyncio.ensure_future(client.ask("GET", "/events", last_event_id=known)))
        await asyncio.sleep(0.1)
        assert [request.done() for request in held] == [True] + [False] * HELD_MAX
        await asyncio.gather(*held)

    run(act)


def test_texts_of_staff_are_escaped() -> None:
    async def act(box: SessionBox) -> None:
        offer = replace(OFFER, staff='<img src=x onerror="x">', role="&amp;'\"")
        await box.offer(offer)
        client = PageClient(page_of(box))
        for target in ("/", f"/offer/{ID}"):
            text = await client.get(target)
            assert "<img" not in text
            assert offer.staff in unescape(text) and offer.role in unescape(text)

    run(act)


def test_each_cause_of_an_end_has_a_text() -> None:
    async def act(box: SessionBox) -> None:
        client = PageClient(page_of(box))
        await box.offer()
        await box.sessions.end_all()
        await asyncio.sleep(1)
        for cause in Cause:
            box.session.cause = cause
            assert "Why it ended" in await client.get()

    run(act)


def _other(box: SessionBox) -> Offer:
    return box.next_offer(id=bytes(16), port=OTHER_PORT, instrument="CH-4712")


def test_a_press_of_the_switch_permits_the_one_offer_that_a_page_shows() -> None:
    async def act(box: SessionBox) -> None:
        page = page_of(box)
        await box.offer()
        await page.switch_pressed("chassis")
        assert box.session.state is SessionState.OFFERED  # nobody has seen it
        await PageClient(page, OTHER_PORT).get()
        await page.switch_pressed("chassis")
        assert box.session.state is SessionState.OFFERED  # only at another port
        assert sum("no page showed" in reason for reason in box.audit.refusals) == 2
        await PageClient(page).get(f"/offer/{ID}")
        await page.switch_pressed("chassis")
        assert [(proof.way, proof.observation) for proof in box.grant().consent.evidence] == [
            (PresenceWay.SWITCH, "chassis")
        ]

    run(act, PresenceWay.SWITCH)


def test_a_press_of_the_switch_permits_nothing_if_two_offers_wait() -> None:
    async def act(box: SessionBox) -> None:
        page = page_of(box)
        await box.offer()
        await box.offer(_other(box))
        for port in (PORT, OTHER_PORT):
            await PageClient(page, port).get()
        await page.switch_pressed("chassis")
        sessions = box.sessions.at_port(PORT) + box.sessions.at_port(OTHER_PORT)
        assert {session.state for session in sessions} == {SessionState.OFFERED}
        assert box.audit.refusals == ["the switch was pressed while 2 offers waited"] * 2

    run(act, PresenceWay.SWITCH)


def test_a_page_that_was_shown_long_ago_is_no_longer_shown() -> None:
    async def act(box: SessionBox) -> None:
        page = page_of(box)
        await box.offer()
        await PageClient(page).get()
        await asyncio.sleep(SHOWN_SECONDS + 1)
        await page.switch_pressed("chassis")
        assert box.session.state is SessionState.OFFERED

    run(act, PresenceWay.SWITCH)


def test_the_page_works_while_the_box_refuses_all_sessions() -> None:
    """The session log cannot be written and the disk does not respond: the page shows no request."""

    async def act(box: SessionBox) -> None:
        async def status() -> PageStatus | None:
            await asyncio.sleep(99)  # the disk does not respond
            raise AssertionError

        page = LocalPage(OFFER.box, frozenset({PORT}), lambda: None, status)
        text = await PageClient(page).get()
        assert "no remote session and no request" in text
        assert "not known yet" in text
        await page.switch_pressed("chassis")
        await page.end_all()

    run(act)


def test_after_the_page_was_closed_only_the_switch_returns_control() -> None:
    """Staff can open the page on a shared screen, so an open page does not prove that a person is there."""

    async def act(box: SessionBox) -> None:
        page = page_of(box)
        client = PageClient(page)
        await box.open()
        await asyncio.sleep(PAGE_LOST_SECONDS + 1)
        await page.switch_pressed("chassis")
        assert box.session.view_only  # no page is open yet
        assert "press the switch" in await client.get()
        assert box.session.view_only
        await page.switch_pressed("chassis")
        assert not box.session.view_only
        assert box.session.state is SessionState.OPEN
        await asyncio.sleep(PAGE_LOST_SECONDS + 1)
        assert box.session.view_only

    run(act)


def test_a_page_whose_browser_or_server_is_killed_ends_its_session_within_a_minute() -> None:
    async def act(box: SessionBox) -> None:
        await box.open()
        client, loop = PageClient(page_of(box)), asyncio.get_running_loop()
        held = asyncio.ensure_future(client.ask("GET", "/events", last_event_id="x"))
        held.cancel()
        start = loop.time()
        while box.session.state is SessionState.OPEN:
            await asyncio.sleep(0.1)
        assert PAGE_LOST_SECONDS < loop.time() - start <= PAGE_OVERDUE_SECONDS + 0.1
        assert box.session.cause is Cause.PERSON_ABSENT
        assert not box.path.elements()

    run(act)


def test_the_loss_of_the_tunnel_ends_the_session() -> None:
    async def act(box: SessionBox) -> None:
        await box.open()
        client = PageClient(page_of(box))
        await box.tunnels[-1].close()
        await asyncio.sleep(1)
        assert "the connection was lost" in await client.get()
        assert not box.path.elements()

    run(act)
