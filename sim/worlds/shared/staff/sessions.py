"""Remote sessions of a lab: the actions of staff and of the person at the instrument, in any world.

Staff request sessions through a `StaffPortal`, give the person the code by telephone, and use the desktop. The person
acts on the local page of the instrument's port, like a browser that is open there, or on the instrument's display.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from sim.engine.trace import Trace
from sim.lab.sessions import LabSession
from sim.verdict.found.sessions import RequestedSession
from wire.session.presence import DIGITS
from wire.session.table import SessionState

LOOK_SECONDS: Final = 1.0
"""The interval at which people look at a page."""
WRONG_CODE_SECONDS: Final = 5.0
"""The time that it takes to enter another code."""
_NS: Final = 1_000_000_000


class StaffSessionView(Protocol):
    """The part of a session that is visible to the staff member who requested it."""

    id: bytes
    code: str
    """The code that staff give by telephone; empty in a session that was refused."""

    async def state(self) -> str:
        """Return its state at the data center, `SessionState`."""
        ...

    async def end(self) -> None:
        """End it, or withdraw the request."""
        ...

    async def use(self) -> list[str]:
        """View the desktop, and in control mode drag on it, until the session ends; return descriptions of errors."""
        ...


class StaffPortal(Protocol):
    """The interface by which staff request sessions."""

    async def request(self, session: LabSession, serial: str) -> StaffSessionView:
        """Request a session with an instrument."""
        ...


class PageOfPort(Protocol):
    """Where the person acts: the local page of an instrument port, or the instrument's own display.

    While the box is off it shows nothing, and nothing has an effect.
    """

    async def state(self, session: bytes) -> str:
        """Return the state of a session at the box; empty if the page does not show it."""
        ...

    async def look(self) -> None:
        """Keep the page open: the box notices when this ends."""
        ...

    async def enter_code(self, session: bytes, code: str) -> bool:
        """Enter a code; return whether it permits the session."""
        ...

    async def refuse(self, session: bytes) -> None:
        """Refuse an offer."""
        ...

    async def end(self, session: bytes) -> None:
        """Press the button that ends a session."""
        ...


class SessionPeople:
    """The staff of a lab, and the persons at its instruments."""

    def __init__(
        self,
        portal: Callable[[], StaffPortal],
        page: Callable[[LabSession], PageOfPort],
        now_ns: Callable[[], int],
        trace: Trace,
    ) -> None:
        """`page` returns where the person of a session acts; `now_ns` returns the lab time in ns."""
        self._portal, self._page, self._now_ns, self._trace = portal, page, now_ns, trace
        self.requested: list[RequestedSession] = []

    async def run(self, spec: LabSession, serial: str) -> None:
        """Wait until a session is to be requested, and act until it has ended."""
        await asyncio.sleep(spec.at / _NS)
        self._trace.add(f"{spec.staff} requests a session with {serial}")
        requested = RequestedSession(spec, serial, self._now_ns())
        self.requested.append(requested)
        staff_session = await self._portal().request(spec, serial)
        requested.id = staff_session.id
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._staff(requested, staff_session))
            tasks.create_task(self._person(requested, staff_session.code))

    async def _staff(self, requested: RequestedSession, staff_session: StaffSessionView) -> None:
        while await staff_session.state() != SessionState.OPEN:
            if self._is_late(requested):
                return
            await asyncio.sleep(LOOK_SECONDS)
        self._trace.add(f"{requested.spec.staff} has the desktop of {requested.serial}")
        using = asyncio.ensure_future(staff_session.use())
        if requested.spec.ended_by == "staff":
            await asyncio.wait([using], timeout=requested.spec.open_for / _NS)
            await staff_session.end()
        requested.desktop += await using

    async def _person(self, requested: RequestedSession, code: str) -> None:
        spec, page = requested.spec, self._page(requested.spec)
        while await page.state(requested.id) != SessionState.OFFERED:
            if self._is_late(requested):
                return
            await asyncio.sleep(LOOK_SECONDS)
        await asyncio.sleep(spec.answers_after / _NS)
        await page.look()
        if spec.person == "ignores":
            return
        if spec.person == "refuses":
            await page.refuse(requested.id)
            return
        for n in range(spec.wrong_codes):
            await page.enter_code(requested.id, f"{(int(code or 0) + n + 1) % 10**DIGITS:0{DIGITS}}")
            await asyncio.sleep(WRONG_CODE_SECONDS)
        self._trace.add(f"a person at {requested.serial} enters the code")
        requested.is_permitted = await page.enter_code(requested.id, code)
        if requested.is_permitted:
            await self._attend(requested, page)

    async def _attend(self, requested: RequestedSession, page: PageOfPort) -> None:
        """Keep the page open until the session has ended, and end it or walk away as the lab file says."""
        spec, opened_ns = requested.spec, 0
        while (state := await page.state(requested.id)) not in ("", SessionState.ENDED):
            await page.look()
            if state == SessionState.OPEN:
                opened_ns = opened_ns or self._now_ns()
                if self._now_ns() - opened_ns >= spec.open_for:
                    if spec.person == "walks-away":
                        self._trace.add(f"the person at {requested.serial} walks away")
                        return
                    if spec.ended_by == "person":
                        await page.end(requested.id)
            await asyncio.sleep(LOOK_SECONDS)

    def _is_late(self, requested: RequestedSession) -> bool:
        return self._now_ns() >= requested.requested_ns + requested.spec.lasts
