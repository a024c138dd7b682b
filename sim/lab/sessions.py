"""Remote sessions in lab files: the requests of staff, and the actions of the person at the instrument."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from settings.problems import Problems
from settings.profile import load_profile, profile_names
from settings.toml import format_value, nearest
from settings.types import Table
from sim import values
from sim.units import MINUTE_NS, SECOND_NS, format_duration
from sim.values import CountForm, Nanoseconds, TextForm
from wire.session.presence import TRIES
from wire.session.table import Cause


class LabSession(Table, frozen=True):
    """A remote session that a staff member requests, and what the person at the instrument does."""

    at: Nanoseconds
    """The lab time at which it is requested."""
    target: Annotated[str, TextForm("the name of a target", r"[^\n]{1,64}")]
    """The instrument: `instrument:` and its port. Its profile must have a VNC desktop (`desktop_port`)."""
    lasts: Annotated[int, values.duration("1min", "4h")] = 30 * MINUTE_NS
    """The time after the request at which it ends, whatever its state."""
    staff: Annotated[
        str, TextForm("lower-case letters, digits, dots and hyphens, at most 32", r"[a-z0-9.-]{1,32}")
    ] = "m.curie"
    """The staff member who requests it."""
    role: Annotated[str, TextForm("lower-case letters and hyphens, at most 32", r"[a-z-]{1,32}")] = "service"
    """The staff member's role."""
    mode: Literal["control", "view"] = "control"
    """Whether the staff member may operate the desktop, or only view it."""
    person: Literal["authorizes", "refuses", "ignores", "walks-away"] = "authorizes"
    """The person's reaction to the offer. `walks-away`: the person permits the session, and leaves the page while the
    session is open."""
    acts_at: Literal["page", "display"] = "page"
    """The person acts on the box's page in a browser, or on the instrument's own display, through its agent."""
    answers_after: Annotated[int, values.duration("0s", "1h")] = 30 * SECOND_NS
    """The time from the offer to the person's answer."""
    wrong_codes: Annotated[int, CountForm(0, 9)] = 0
    """The number of wrong codes that the person enters before the right one."""
    ended_by: Literal["person", "staff", "nobody"] = "person"
    """Who ends the open session."""
    open_for: Annotated[int, values.duration("1s", "4h")] = 2 * MINUTE_NS
    """The time for which it is open, or for which the person stays."""
    opens: bool | None = None
    """Whether it is expected to open. Default: whether the person permits it."""
    ends: Annotated[str, TextForm("a cause of docs/reference/session.md", r"[a-z ]{0,32}")] = ""
    """The expected cause of its end, as the audit files of both ends show it. Default: the one that follows from the
    keys above."""

    @property
    def is_permitted(self) -> bool:
        """Whether the person permits it."""
        return self.person in ("authorizes", "walks-away") and self.wrong_codes < TRIES

    @property
    def expected_to_open(self) -> bool:
        """Whether it is expected to open."""
        return self.is_permitted if self.opens is None else self.opens

    @property
    def expected_end(self) -> str:
        """The expected cause of its end."""
        if self.ends:
            return self.ends
        if self.person == "refuses":
            return Cause.REFUSED
        if self.person != "ignores" and self.wrong_codes >= TRIES:
            return Cause.WRONG_CODES
        if self.person == "walks-away":
            return Cause.PERSON_ABSENT
        by = {"person": Cause.ENDED_BY_PERSON, "staff": Cause.ENDED_BY_STAFF}
        return by.get(self.ended_by, Cause.EXPIRED) if self.is_permitted else Cause.EXPIRED


def check_sessions(
    sessions: Sequence[LabSession], models: Mapping[str, str], duration_ns: int, problems: Problems
) -> None:
    """Check the sessions of a lab; `models` maps the target `instrument:<port>` to the instrument's model."""
    causes = [cause.value for cause in Cause if cause is not Cause.PEER_ENDED]
    for n, session in enumerate(sessions):
        key = ("session", n)
        if session.at >= duration_ns:
            problems.add((*key, "at"), f"must be before the lab ends, at {format_duration(duration_ns)}")
        if session.target not in models:
            problems.add(
                (*key, "target"), f"{format_value(session.target)}: {nearest(session.target, list(models))}"
            )
        elif desktop_of(models[session.target]) is None:
            suitable = ", ".join(name for name in profile_names() if desktop_of(name) is not None)
            model = models[session.target]
            why = f"the profile of {model} has no VNC `desktop_port`, which labs require; models with one: {suitable}"
            problems.add((*key, "target"), why)
        elif session.acts_at == "display" and load_profile(models[session.target]).speaks != "agent":
            why = f'{models[session.target]} has no agent that shows sessions on its display; use "page"'
            problems.add((*key, "acts_at"), why)
        if session.ends and session.ends not in causes:
            problems.add((*key, "ends"), f"{format_value(session.ends)}: {nearest(session.ends, causes)}")


def desktop_of(model: str) -> int | None:
    """Return the TCP port of the VNC server of a model's instruments; None without one, or without a profile."""
    profile = load_profile(model) if model in profile_names() else None
    return profile.desktop_port if profile is not None and profile.desktop_service == "rfb" else None
