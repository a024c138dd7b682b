"""Remote sessions are requested, listed, ended and annotated on pages and by the API."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from sqlalchemy import select, update

from datacenter.access.tokens import list_tokens, revoke_token
from datacenter.store.store import Store
from datacenter.store.tables.schema import instruments, remote_sessions
from tests.support.datacenter.remote_sessions import Center, center
from tests.support.datacenter.web.client import Answer, WebClient, open_web
from tests.support.datacenter.web.fleet import fill_fleet
from tests.support.eventually import eventually
from wire.session.messages import OfferMessage
from wire.session.table import Cause

LIST = "/sessions?box=RAP-0001&instrument=CHEM-0001"
FORM = "/instruments/RAP-0001/CHEM-0001/sessions"
ORDER = {"reason": "replace <lamp>", "ticket": "T-17", "minutes": "20", "port": "2", "mode": "control"}
ENDED = f"{1:032x}"


def send(client: WebClient, target: str, **fields: str) -> Answer:
    return client.post(target, {"form_token": client.form_token(), **fields})


def run(folder: Path, act: Callable[[Center, WebClient], Awaitable[None]]) -> None:
    """Call `act` with a running data center and a browser, whose requests `act` must send on other threads."""

    async def inside() -> None:
        store = Store(f"sqlite:///{folder / 'store.db'}", durable=False)
        fill_fleet(store, with_reports=False)
        async with center(folder / "sessions", store) as running:
            await act(running, open_web(store, lambda: time.time_ns() // 1_000_000, remote=running.remote))
        store.close()

    asyncio.run(inside())


def test_a_session_is_requested_shown_with_its_code_and_withdrawn(tmp_path: Path) -> None:
    async def act(running: Center, web: WebClient) -> None:
        engineer = web.sign_in("engineer")
        text = (await asyncio.to_thread(engineer.get, LIST)).text
        assert f'action="{FORM}" method="post"' in text
        answer = await asyncio.to_thread(send, engineer, FORM, **ORDER)
        assert answer.status == 303
        page = answer.headers["location"]
        session = bytes.fromhex(page.rpartition("/")[2])
        await eventually(lambda: running.remote.has_messages("RAP-0001"))
        offered = await running.offered(session)
        assert any(isinstance(one, OfferMessage) for one in running.received)
        text = (await asyncio.to_thread(engineer.get, page)).text
        assert f"{offered.code[:3]} {offered.code[3:]}" in text
        assert "replace &lt;lamp&gt;" in text
        other = web.sign_in("supervisor")
        assert f"{offered.code[:3]} {offered.code[3:]}" not in (await asyncio.to_thread(other.get, page)).text
        assert (await asyncio.to_thread(send, engineer, f"{page}/end")).status == 303
        await eventually(lambda: offered.is_over)
        fragment = await asyncio.to_thread(engineer.get, page, hx_request_type="partial")
        assert "<h1>" not in fragment.text
        assert "ended" in fragment.text

    run(tmp_path, act)


def test_staff_need_not_know_the_port_of_the_box(tmp_path: Path) -> None:
    async def act(running: Center, web: WebClient) -> None:
        engineer = web.sign_in("engineer")
        assert 'name="port"' not in (await asyncio.to_thread(engineer.get, LIST)).text
        order = {name: value for name, value in ORDER.items() if name != "port"}
        page = (await asyncio.to_thread(send, engineer, FORM, **order)).headers["location"]
        session = await running.offered(bytes.fromhex(page.rpartition("/")[2]))
        assert session.offer.port == 2
        unknown = LIST.replace("0001", "0002")
        assert 'name="port"' in (await asyncio.to_thread(engineer.get, unknown)).text
        answer = await asyncio.to_thread(send, engineer, FORM.replace("0001", "0002"), **order)
        assert answer.status == 400
        assert "give the port" in answer.text

    run(tmp_path, act)


def test_a_request_that_is_sent_twice_is_one_session_and_another_one_waits(tmp_path: Path) -> None:
    async def act(running: Center, web: WebClient) -> None:
        program = web.sign_in("engineer").program("service")
        body = json.dumps({"reason": "lamp", "ticket": "T-1"}).encode()
        target = "/api/v1/instruments/RAP-0001/CHEM-0001/sessions"

        async def ask(key: str, content: bytes = body) -> Answer:
            return await asyncio.to_thread(program.post_json, target, content, idempotency_key=key)

        first, again = await ask("k1"), await ask("k1")
        assert first.status == 200
        session = json.loads(first.text)["session"]
        assert json.loads(again.text)["session"] == session
        assert (await ask("k2")).status == 409
        other = body.replace(b"}", b', "mode": "view"}')
        assert (await ask("k1", other)).status == 409
        await running.offered(bytes.fromhex(session))
        shown = await asyncio.to_thread(program.get, f"/api/v1/sessions/{session}")
        assert json.loads(shown.text)["code"] == running.remote.find(bytes.fromhex(session)).code  # type: ignore[union-attr]
        ended = await asyncio.to_thread(program.post_json, f"/api/v1/sessions/{session}/end")
        assert ended.status == 200
        await eventually(lambda: running.remote.find(bytes.fromhex(session)).is_over)  # type: ignore[union-attr]

    run(tmp_path, act)


def test_a_box_has_one_tunnel_at_a_time(tmp_path: Path) -> None:
    async def act(running: Center, web: WebClient) -> None:
        program = web.sign_in("engineer").program("service")
        with running.store.transaction() as connection:
            moved = update(instruments).where(instruments.c.serial == "CHEM-0002")
            connection.execute(moved.values(box="RAP-0001", port=3))
        body = json.dumps({"reason": "lamp", "ticket": "T-1"}).encode()

        async def post(target: str, content: bytes = body) -> Answer:
            return await asyncio.to_thread(program.post_json, f"/api/v1/{target}", content)

        first = json.loads((await post("instruments/RAP-0001/CHEM-0001/sessions")).text)["session"]
        offered = await running.offered(bytes.fromhex(first))
        other = json.loads((await post("instruments/RAP-0001/CHEM-0002/sessions")).text)["session"]
        assert (await post(f"sessions/{other}/end", b"{}")).status == 200, (
            "the first session has no grant yet"
        )
        await running.grant(offered)

        async def is_refused() -> bool:
            answer = await post("instruments/RAP-0001/CHEM-0002/sessions")
            return answer.status == 409 and "RAP-0001 can have one tunnel at a time" in answer.text

        await eventually(is_refused)

    run(tmp_path, act)


def test_a_revoked_token_ends_the_session_that_was_requested_with_it(tmp_path: Path) -> None:
    async def act(running: Center, web: WebClient) -> None:
        program = web.sign_in("engineer").program("service")
        body = json.dumps({"reason": "lamp", "ticket": "T-1"}).encode()
        target = "/api/v1/instruments/RAP-0001/CHEM-0001/sessions"
        asked = json.loads((await asyncio.to_thread(program.post_json, target, body)).text)
        session = await running.offered(bytes.fromhex(asked["session"]))
        assert web.store is not None
        revoke_token(web.store, list_tokens(web.store)[0].id, 1)
        await eventually(lambda: session.is_over)
        assert session.cause is Cause.WITHDRAWN

    run(tmp_path, act)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("reason", " ", "reason in one line"),
        ("ticket", "", "ticket in one line"),
        ("minutes", "0", "minutes"),
        ("minutes", "241", "minutes"),
        ("port", "65", "port"),
        ("port", "3", "is at port 2"),
        ("mode", "all", "one of view, control"),
    ],
)
def test_a_wrong_request_says_what_would_be_right(
    changing: WebClient, field: str, value: str, message: str
) -> None:
    answer = send(changing.sign_in("engineer"), FORM, **{**ORDER, field: value})
    assert answer.status == 400
    assert message in answer.text


def test_staff_without_the_right_to_a_session_are_refused_with_the_reason(changing: WebClient) -> None:
    observer = changing.sign_in("observer")
    assert send(observer, FORM, **ORDER).status == 403
    specialist = changing.sign_in("specialist")
    assert send(specialist, FORM, **ORDER).status == 403
    engineer = changing.sign_in("engineer")
    untrained = send(engineer, "/instruments/RAP-0003/GAS-0001/sessions", **ORDER)
    assert untrained.status == 403
    assert "require a valid training" in untrained.text
    assert "not configured" in send(engineer, FORM, **ORDER).text


def test_sessions_are_listed_filtered_and_annotated(changing: WebClient) -> None:
    engineer, supervisor = changing.sign_in("engineer"), changing.sign_in("supervisor")
    text = engineer.get("/sessions").text
    assert text.index("error at CHEM-0001") < text.index("error at GAS-0001")
    assert "GAS-0001" not in engineer.get("/sessions?instrument=CHEM-0001").text
    assert "No session matches" in engineer.get("/sessions?staff=nobody").text
    assert "No session matches" in engineer.get("/sessions?state=live").text
    assert "GAS-0001" not in changing.sign_in("european").get("/sessions").text
    assert send(supervisor, f"/sessions/{ENDED}/notes", text="checked <twice>").status == 303
    text = engineer.get(f"/sessions/{ENDED}").text
    assert "checked &lt;twice&gt;" in text
    assert send(engineer, f"/sessions/{ENDED}/notes", text="").status == 400
    assert send(changing.sign_in("observer"), f"/sessions/{ENDED}/notes", text="x").status == 403


def test_the_list_continues_after_the_key_of_its_last_row(changing: WebClient) -> None:
    assert changing.store is not None
    (first,) = changing.store.read(select(remote_sessions).where(remote_sessions.c.id == ENDED))
    with changing.store.transaction() as connection:
        for number in range(60):
            values = first._asdict() | {"id": f"{number + 100:032x}", "reason": f"case {number}"}
            connection.execute(remote_sessions.insert().values(values))
    engineer = changing.sign_in("engineer")
    text = engineer.get("/sessions?instrument=CHEM-0001").text
    older = text.partition('rel="next"')[0].rpartition('href="')[2].partition('"')[0].replace("&amp;", "&")
    shown = [*_cases(text), *_cases(engineer.get(older).text)]
    assert sorted(shown) == sorted(range(60))
    items, cursor = [], ""
    while True:
        part = json.loads(
            engineer.get(f"/api/v1/sessions?limit=25&instrument=CHEM-0001&cursor={cursor}").text
        )
        items += [one["session"] for one in part["items"]]
        cursor = part["next"]
        if not cursor:
            break
    assert len(items) == len(set(items)) == 61


def _cases(text: str) -> list[int]:
    return [int(part.partition("<")[0]) for part in text.split(">case ")[1:]]
