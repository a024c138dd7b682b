"""The page of commands: its list, the actions that it offers, and its forms."""

from __future__ import annotations

import pytest

from datacenter.store.tables.schema import commands
from tests.support.datacenter.web.client import WebClient

OF_CHEM = "/instruments/RAP-0001/CHEM-0001/commands"


def states(web: WebClient) -> dict[int, tuple[str, str]]:
    assert web.store is not None
    query = commands.select().order_by(commands.c.id)
    return {row.id: (row.verb, row.state) for row in web.store.read(query)}


def send(web: WebClient, staff: str, verb: str, path: str = OF_CHEM) -> int:
    person = web.sign_in(staff)
    fields = {"form_token": person.form_token(), "verb": verb, "purpose": "service"}
    return person.post(path, fields).status


def test_the_list_is_filtered_by_state_and_instrument(web: WebClient) -> None:
    engineer = web.sign_in("engineer")
    everything = engineer.get("/commands").text
    assert (
        everything.index("assay configuration") < everything.index("GAS-0001") < everything.index("1 min ago")
    )
    assert "0 % of 40,000 bytes" in everything
    waiting = engineer.get("/commands?state=waiting+for+approval").text
    assert "assay configuration" in waiting and "GAS-0001" not in waiting
    assert "CHEM-0001</a>" not in engineer.get("/commands?instrument=GAS-0001").text
    assert "No command matches" in engineer.get("/commands?state=done").text
    assert engineer.get("/commands?state=lost").status == 400


@pytest.mark.parametrize("verb", ["send-inventory", "data-upload"])
def test_a_trained_engineer_sends_a_command(changing: WebClient, verb: str) -> None:
    assert send(changing, "engineer", verb) == 303
    assert states(changing)[4] == (verb, "queued")


def test_staff_who_may_not_send_commands_get_no_form_and_are_refused(changing: WebClient) -> None:
    form = "/commands?instrument=CHEM-0001&box=RAP-0001"
    assert "Send</button>" in changing.sign_in("engineer").get(form).text
    assert "You may not send commands" in changing.sign_in("observer").get(form).text
    assert send(changing, "observer", "send-inventory") == 403
    untrained = "/instruments/RAP-0001/HEMA-0001/commands"
    assert send(changing, "engineer", "send-inventory", untrained) == 403
    assert send(changing, "engineer", "help-file") == 400
    assert len(states(changing)) == 3


def test_a_command_is_withdrawn_by_its_requester_alone(changing: WebClient) -> None:
    assert "Withdraw<" not in changing.sign_in("observer").get("/commands").text
    assert changing.sign_in("observer").post("/commands/1/withdraw").status == 403
    assert states(changing)[1][1] == "queued"
    engineer = changing.sign_in("engineer")
    assert 'action="/commands/1/withdraw"' in engineer.get("/commands").text
    assert engineer.post("/commands/1/withdraw").status == 303
    assert states(changing)[1][1] == "withdrawn"
    assert 'action="/commands/1/withdraw"' not in engineer.get("/commands").text
    assert engineer.post("/commands/1/withdraw").status == 303


def test_a_command_that_is_done_is_not_withdrawn(changing: WebClient) -> None:
    assert changing.store is not None
    with changing.store.transaction() as connection:
        connection.execute(commands.update().values(state="done"))
    answer = changing.sign_in("engineer").post("/commands/1/withdraw")
    assert (answer.status, "cannot be withdrawn: it is done" in answer.text) == (409, True)


def test_a_waiting_command_is_approved_by_a_supervisor(changing: WebClient) -> None:
    assert "Approve<" not in changing.sign_in("engineer").get("/commands").text
    assert changing.sign_in("engineer").post("/commands/3/approve").status == 403
    assert states(changing)[3][1] == "waiting for approval"
    supervisor = changing.sign_in("supervisor")
    assert 'action="/commands/3/approve"' in supervisor.get("/commands").text
    assert supervisor.post("/commands/3/approve").status == 303
    assert states(changing)[3][1] == "queued"


def test_forms_need_their_token_and_decisions_are_recorded(changing: WebClient) -> None:
    engineer = changing.sign_in("engineer")
    assert engineer.post("/commands/1/withdraw", {}).status == 403
    assert states(changing)[1][1] == "queued"
    engineer.post("/commands/1/withdraw")
    recorded = [(one.actor, one.action, one.resource, one.outcome) for one in changing.entries]
    assert ("engineer", "withdraw-command", "1", "permitted") in recorded


def test_without_commands_the_page_says_what_to_do(changing: WebClient) -> None:
    assert changing.store is not None
    with changing.store.transaction() as connection:
        connection.execute(commands.delete())
    assert (
        "No command has been sent. Open an instrument" in changing.sign_in("engineer").get("/commands").text
    )
