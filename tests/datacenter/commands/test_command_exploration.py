"""Every interleaving of one command, its withdrawal, lost messages and restarts, in a model of all three programs.

The data center's states and transitions are the program's (`datacenter.store.command_states`). The box and the agent
are modelled by their state in memory and their durable state. The state space is explored completely.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from datacenter.store.command_states import FINAL, SENT, WITHDRAWABLE, State, after


class Model(NamedTuple):
    """A state of the three programs.

    `box_log` is durable: "", "started", "withdrawn" or an outcome. A restart of the instrument clears `agent`.
    """

    center: State = "queued"
    was_sent: bool = False
    ending: bool = False
    has_command: bool = False  # the box, in memory
    box_log: str = ""
    reports: tuple[str, ...] = ()  # durable on the box, not stored at the data center yet
    agent: str = ""
    executions: int = 0
    restarts: int = 0


def report(model: Model, event: str) -> Model:
    """Store a report of the agent or of the box itself on the box; a result ends the command for the box."""
    log = model.box_log
    if event == "executing" and log == "":
        log = "started"
    elif event in ("done", "failed") and log != "withdrawn":
        log = event
    elif event == "withdrawn":
        log = "withdrawn"
    has_command = model.has_command and log in ("", "started")
    return model._replace(box_log=log, reports=(*model.reports, event), has_command=has_command)


def steps(model: Model) -> Iterator[Model]:
    """Yield the states that can follow."""
    if model.center in SENT and not (model.ending and model.center in WITHDRAWABLE):
        yield model._replace(was_sent=True)  # the reply is lost
        if model.box_log in ("", "started"):
            yield model._replace(was_sent=True, has_command=True)
    if model.center in WITHDRAWABLE and not model.ending:
        if model.was_sent:
            yield model._replace(ending=True)
        else:
            yield model._replace(center=after(model.center, "withdrawn"))
    if model.ending and model.center in WITHDRAWABLE and model.box_log == "":
        yield report(model, "withdrawn")
    if model.reports:
        event, *rest = model.reports
        event = "failed" if event in ("failed", "refused") else event
        center = after(model.center, event)  # type: ignore[arg-type]
        yield model._replace(center=center, reports=tuple(rest))
    if model.has_command and model.agent == "":
        if model.box_log == "started":
            yield report(model._replace(agent="finished"), "failed")  # begun before a restart of the agent
        else:
            yield report(model._replace(agent="delivered"), "delivered")
    if model.agent == "delivered":
        is_withdrawn = model.box_log == "withdrawn"
        announced = report(model, "executing")
        yield announced._replace(agent="finished" if is_withdrawn else "permitted")
    if model.agent == "permitted":
        yield model._replace(agent="executed", executions=model.executions + 1)
    if model.agent == "executed":
        yield report(model._replace(agent="finished"), "done")
    if model.restarts < 2:
        yield model._replace(restarts=model.restarts + 1, has_command=False)  # the box
        yield model._replace(restarts=model.restarts + 1, agent="")  # the instrument


def explore() -> set[Model]:
    """Return all reachable states."""
    reached, new = {Model()}, [Model()]
    while new:
        for following in steps(new.pop()):
            if following not in reached:
                reached.add(following)
                new.append(following)
    return reached


MODELS = explore()


def test_a_command_is_never_executed_twice() -> None:
    assert max(model.executions for model in MODELS) == 1


def test_a_withdrawn_command_is_never_executed() -> None:
    assert any(model.center == "withdrawn" and model.was_sent for model in MODELS)
    assert not any(model.center == "withdrawn" and model.executions for model in MODELS)


def test_a_command_is_done_only_if_it_was_executed() -> None:
    assert all(model.executions == 1 for model in MODELS if model.center == "done")


def test_delivered_means_that_the_instrument_had_the_command() -> None:
    assert not any(model.center == "delivered" and not model.was_sent for model in MODELS)


def test_the_command_can_end_from_every_state() -> None:
    ending = {model for model in MODELS if model.center in FINAL}
    before: dict[Model, set[Model]] = {}
    for model in MODELS:
        for following in steps(model):
            before.setdefault(following, set()).add(model)
    new = list(ending)
    while new:
        for earlier in before.get(new.pop(), set()) - ending:
            ending.add(earlier)
            new.append(earlier)
    assert ending == MODELS


def test_the_model_reaches_every_state_after_queued() -> None:
    assert {model.center for model in MODELS} >= {
        "queued",
        "delivered",
        "executing",
        "done",
        "failed",
        "withdrawn",
    }
