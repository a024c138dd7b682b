"""The people of a remote session in their browsers, at a running site (`tests.support.sessions.site`)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from tests.support.datacenter.web.browser import BrowserPage, open_browser
from tests.support.desktop.canvas import SHOWN, canvas_hash
from tests.support.desktop.screens import to_picture
from tests.support.eventually import poll_until
from tests.support.sessions.site import BOX, CHEM, STAFF_MEMBER, SessionSite, session_site

ENDED = "document.querySelector('.state')?.textContent === 'ended'"

ENDED_HERE = "document.querySelector('table.history')?.textContent.includes('ended here')"
"""Searched for in the list of ended sessions, because a live session's page contains "can only be ended here"."""


@dataclass
class People:
    """A staff member in the network of the data center, and the person in the network of the instrument."""

    site: SessionSite
    staff: BrowserPage
    person: BrowserPage

    def request(self) -> str:
        """Staff request a session on the instrument's page; return its identifier."""
        staff = self.staff
        staff.open(f"{self.site.staff_url}/sign-in")
        click(staff, f"button[value={STAFF_MEMBER}]")
        staff.wait_for("document.querySelector('h1')?.textContent === 'Fleet'")
        poll_until(self._finds_instrument, every_s=0.2)
        staff.open(f"{self.site.staff_url}/instruments/{BOX}/{CHEM}")
        click(staff, "a[href^='/sessions?']")
        staff.wait_for("document.querySelector('[name=ticket]')")
        fill = "for (const name of ['reason', 'ticket']) document.querySelector(`[name=${name}]`).value = 'x'"
        staff.evaluate(f"{fill}; 0")
        click(staff, ".primary")
        staff.wait_for("document.querySelector('.digits span')")
        return str(staff.evaluate("location.pathname")).rpartition("/")[2]

    def _finds_instrument(self) -> bool:
        self.staff.open(f"{self.site.staff_url}/?q=")
        return bool(self.staff.evaluate(f"document.body.textContent.includes('{CHEM}')"))

    def permit(self) -> None:
        """Enter the digits that staff read out, as the person at the instrument."""
        digits = self.staff.evaluate("document.querySelector('.digits span').textContent.replace(' ', '')")
        self.person.open(self.site.person_url)
        self.person.wait_for("document.querySelector('.offer a.button')")
        click(self.person, ".offer a.button")
        self.person.wait_for("document.querySelector('#code')")
        self.person.evaluate(f"document.querySelector('#code').value = '{digits}'")
        click(self.person, "button.permit")

    def end(self) -> None:
        """End the session as the person at the instrument; return when the page shows its end."""
        self.person.wait_for("document.querySelector('.live .end')")
        click(self.person, ".live .end")
        self.person.wait_for(ENDED_HERE)

    def see(self, screen: Image.Image) -> None:
        """Wait until the staff's browser shows exactly this screen."""
        expected = canvas_hash(to_picture(screen))
        poll_until(lambda: bool(self.staff.evaluate(SHOWN) == expected), every_s=0.2)


def click(page: BrowserPage, selector: str) -> None:
    page.evaluate(f'document.querySelector("{selector}").click()')


@contextmanager
def people(folder: Path, model: str, desktop_port: int) -> Iterator[People]:
    """Yield the people of a running site with an instrument of this model."""
    with ExitStack() as stack:
        site_folder = folder / ("a-path-that-is-too-long-for-a-socket" * 3)
        site_folder.mkdir()
        site = stack.enter_context(session_site(site_folder, model, desktop_port))
        staff = stack.enter_context(open_browser(folder / "staff", prefix=site.center.wrap()))
        person = stack.enter_context(
            open_browser(folder / "person", "--ignore-certificate-errors", prefix=site.instrument.wrap())
        )
        yield People(site, staff, person)
