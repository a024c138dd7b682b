"""The instrument's own display, on which its agent shows remote sessions and the person acts, in any world."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from agents.instrument.session_panel import SessionPanel
from sim.worlds.shared.instruments.reporter import Workplace
from wire.session.panel import ShownSession
from wire.session.table import SessionState
from wire.tls.context import client_context

LOOKED_SECONDS: Final = 3.0
"""The time for which the display stays on after the person has looked at it."""
ANSWER_SECONDS_MAX: Final = 20.0
"""How long the person waits for an effect of the code."""


class InstrumentDisplay:
    """A `PageOfPort` for the simulated person, and the `SessionDisplay` of the agent."""

    def __init__(self, workplace: Workplace) -> None:
        self._panel = SessionPanel(
            workplace.box, client_context(workplace.identity), workplace.random("session panel"), self
        )
        self._sessions: Sequence[ShownSession] = ()
        self._looked_at = -LOOKED_SECONDS

    async def run(self) -> None:
        """Poll the box until cancelled."""
        try:
            await self._panel.run()
        finally:
            self._sessions = ()

    # -- see `agents.instrument.session_panel.SessionDisplay`

    def show(self, sessions: Sequence[ShownSession]) -> None:
        """Show these sessions."""
        self._sessions = sessions

    @property
    def displayed(self) -> Sequence[bytes]:
        """The IDs of the sessions that the person can see; none while the display is off."""
        is_on = asyncio.get_running_loop().time() - self._looked_at <= LOOKED_SECONDS
        return [shown.session for shown in self._sessions] if is_on else []

    # -- see `sim.worlds.shared.staff.sessions.PageOfPort`

    async def state(self, session: bytes) -> str:
        """See `PageOfPort.state`."""
        return next((shown.state for shown in self._sessions if shown.session == session), "")

    async def look(self) -> None:
        """See `PageOfPort.look`."""
        self._looked_at = asyncio.get_running_loop().time()

    async def enter_code(self, session: bytes, code: str) -> bool:
        """See `PageOfPort.enter_code`."""
        self._panel.enter_code(session, code)
        for _ in range(round(ANSWER_SECONDS_MAX)):
            await asyncio.sleep(1)
            if await self.state(session) != SessionState.OFFERED:
                break
        return await self.state(session) not in ("", SessionState.OFFERED, SessionState.ENDED)

    async def refuse(self, session: bytes) -> None:
        """See `PageOfPort.refuse`."""
        self._panel.refuse(session)

    async def end(self, session: bytes) -> None:
        """See `PageOfPort.end`."""
        self._panel.end(session)
