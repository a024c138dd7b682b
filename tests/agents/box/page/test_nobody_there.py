"""Only an act of a person permits a session, for any configuration and any order of other events.

Products for remote access permit sessions after a timeout, when nobody is signed in, because of a role or a setting,
or when the prompt was closed. Here random configurations and random orders of all other events must permit nothing:
offers of the data center, also repeated and forged; certificates that were not requested; pages that are opened,
reloaded and closed; forms with wrong codes or of other ports, origins and sessions; requests through another port;
time; clock changes; failing disks and firewalls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from urllib.parse import urlencode

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.agents.page_client import OTHER_PORT, PageClient, forms_of, page_of
from tests.support.agents.sessions.box import PORT, SessionBox, run
from tests.support.wire.grants import OFFER, STRANGER
from wire.session.grant import Offer, PresenceWay, SessionMode, SessionService, sign_offer
from wire.session.messages import CertificateMessage, EndMessage, GrantMessage, HeadMessage, OfferMessage
from wire.session.presence import TRIES
from wire.session.table import Actor, Event, SessionState

ALLOWED = (SessionState.NEW, SessionState.OFFERED, SessionState.ENDING, SessionState.ENDED)
LIFETIME = 1800


class World:
    """A box, and browsers that show its page where no person acts."""

    def __init__(self, box: SessionBox) -> None:
        self.box, self.page = box, page_of(box)
        self.clients = [PageClient(self.page, port) for port in (PORT, OTHER_PORT)]
        self.offers: list[Offer] = []
        self.codes: list[str] = []

    def client(self, number: int) -> PageClient:
        return self.clients[number % len(self.clients)]

    def last(self) -> bytes:
        return self.offers[-1].id if self.offers else OFFER.id


Act = Callable[[World, int], Awaitable[object]]


async def offer(world: World, number: int) -> None:
    """Send an offer of any kind that staff can request."""
    new_offer = world.box.next_offer(
        id=number.to_bytes(16, "big"),
        mode=list(SessionMode)[number % 2],
        service=list(SessionService)[number // 2 % 2],
        role=("service", "administrator", "vendor")[number % 3],
        port=(PORT, OTHER_PORT)[number % 2],
        instrument=("CH-4711", "CH-4712")[number // 3 % 2],
    )
    world.offers.append(new_offer)
    world.codes.append(await world.box.offer(new_offer))


async def repeat_offer(world: World, number: int) -> None:
    if world.offers:
        await world.box.offer(world.offers[number % len(world.offers)])


async def forged_offer(world: World, number: int) -> None:
    forged = replace(world.box.next_offer(), id=number.to_bytes(16, "big"))
    await world.box.sessions.receive(OfferMessage(sign_offer(forged, STRANGER)))


async def unrequested_certificate(world: World, number: int) -> None:
    await world.box.sessions.receive(CertificateMessage(world.last(), b"x" * number, b""))


async def other_messages(world: World, number: int) -> None:
    await world.box.sessions.receive(HeadMessage(world.last(), bytes(number)))
    if number % 5 == 0:
        await world.box.sessions.receive(EndMessage(world.last(), "ended by staff"))


async def look(world: World, number: int) -> None:
    """Request what a browser requests while it shows the page."""
    client = world.client(number)
    for target in ("/", f"/offer/{world.last().hex()}", "/events", "/page.js"):
        await client.ask("GET", target)


async def keep_open(world: World, number: int) -> None:
    """Request events as the page does, and disconnect after `number` seconds."""
    request = asyncio.ensure_future(world.client(number).ask("GET", "/events", last_event_id="x"))
    await asyncio.sleep(number)
    request.cancel()


async def wrong_code(world: World, number: int) -> None:
    """Send wrong codes."""
    client, target = world.client(number), f"/offer/{world.last().hex()}"
    form = forms_of((await client.ask("GET", target)).body.decode()).get("code")
    if form is None or not world.codes:
        return
    for guess in range(1, 2 + number % TRIES):
        code = f"{(int(world.codes[-1]) + guess) % 1_000_000:06}"
        await client.ask("POST", form.action, urlencode(form.fields | {"code": code}).encode())


async def foreign_form(world: World, number: int) -> None:
    """Send the right code with an invalid token, from another origin, and through the other port."""
    client, target = world.client(number), f"/offer/{world.last().hex()}"
    form = forms_of((await client.ask("GET", target)).body.decode()).get("code")
    fields = {"token": f"{number:064}", "code": world.codes[-1] if world.codes else ""}
    action = f"/session/{world.last().hex()}/code"
    await client.ask("POST", action, urlencode(fields).encode())
    if form:
        body = urlencode(form.fields | {"code": fields["code"]}).encode()
        await client.ask("POST", form.action, body, origin="https://evil.example")
        other = PageClient(world.page, (PORT, OTHER_PORT)[(number + 1) % 2])
        await other.ask("POST", form.action, body)


async def events_by_others(world: World, number: int) -> None:
    """Raise the authorization event by an actor that is not a person."""
    for port in (PORT, OTHER_PORT):
        for session in world.box.sessions.at_port(port):
            actor = (Actor.CLOCK, Actor.DATA_CENTER, Actor.BOX, Actor.LINE)[number % 4]
            await session.event(Event.AUTHORIZE, actor)
            session.page_seen()


async def wait(world: World, number: int) -> None:
    await asyncio.sleep(number**2)


async def set_clock(world: World, number: int) -> None:
    world.box.network.clock_error_s = (number - 20) * 86_400.0


async def break_firewall(world: World, number: int) -> None:
    world.box.path.in_force = lambda: bool(number % 2)


async def break_audit(world: World, number: int) -> None:
    world.box.audit.fails_at = None if number % 2 else len(world.box.audit.records)


ACTS: list[Act] = [
    offer,
    repeat_offer,
    forged_offer,
    unrequested_certificate,
    other_messages,
    look,
    keep_open,
    wrong_code,
    foreign_form,
    events_by_others,
    wait,
    set_clock,
    break_firewall,
    break_audit,
]
WAYS = st.lists(st.sampled_from(list(PresenceWay)), min_size=1, max_size=3, unique=True)
STEPS = st.lists(st.tuples(st.sampled_from(ACTS), st.integers(0, 40)), min_size=1, max_size=25)


@settings(max_examples=100)
@given(ways=WAYS, first=st.integers(0, 40), steps=STEPS)
def test_without_an_act_of_a_person_nothing_is_permitted(
    ways: list[PresenceWay], first: int, steps: list[tuple[Act, int]]
) -> None:
    async def act(box: SessionBox) -> None:
        world = World(box)
        await offer(world, first)
        for step, number in steps:
            await step(world, number)
            _assert_nothing_permitted(box)
        await asyncio.sleep(LIFETIME + 1)
        _assert_nothing_permitted(box)

    run(act, *ways)


def _assert_nothing_permitted(box: SessionBox) -> None:
    states = [session.state for port in (PORT, OTHER_PORT) for session in box.sessions.at_port(port)]
    assert all(state in ALLOWED for state in states), states
    assert not any(isinstance(message, GrantMessage) for message in box.sent)
    assert not box.tunnels
    assert not box.path.elements()
    assert not any(record.event is Event.AUTHORIZE for record in box.audit.records)


def test_the_same_offers_are_permitted_by_a_person() -> None:
    """The world of the test above can permit a session, so that only the missing act prevents it there."""

    async def act(box: SessionBox) -> None:
        world = World(box)
        await offer(world, 2)
        client = world.client(0)
        form = forms_of((await client.ask("GET", f"/offer/{world.last().hex()}")).body.decode())["code"]
        await client.ask("POST", form.action, urlencode(form.fields | {"code": world.codes[-1]}).encode())
        assert any(isinstance(message, GrantMessage) for message in box.sent)

    run(act, PresenceWay.CODE)
