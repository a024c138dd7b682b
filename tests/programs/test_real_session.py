"""A remote session as its people see it, from the request to the recording, with all programs as users start them.

Two browsers, `rap dc serve` and `rap box run` with OpenVPN and nftables, httpd in front of the page, and TigerVNC.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from tests.support.datacenter.browser import PROGRAM, BrowserPage, open_browser
from tests.support.desktop.canvas import SHOWN, canvas_hash
from tests.support.desktop.screens import Analyzer, to_picture
from tests.support.desktop.vnc_server import vnc_server
from tests.support.desktop.x11 import FullWindow
from tests.support.eventually import poll_until
from tests.support.httpd import CAN_RUN, REASON
from tests.support.session_site import BOX, CHEM, INSTRUMENT, SessionSite, rap, session_site

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(PROGRAM is None, reason="needs chromium: make setup-datacenter"),
    pytest.mark.skipif(not CAN_RUN, reason=REASON),
]


ENDED = "document.querySelector('.state')?.textContent === 'ended'"
ENDED_HERE = "document.querySelector('table.history')?.textContent.includes('ended here')"
"""In the list of sessions that are over: while one is live, the page says that it "can only be ended here"."""


@dataclass
class People:
    """Staff in the data center's network, the person in the instrument's, and what the instrument shows."""

    site: SessionSite
    staff: BrowserPage
    person: BrowserPage
    screen: FullWindow

    def request(self) -> str:
        """Staff request a session on the instrument's page; return its identifier."""
        staff = self.staff
        staff.open(f"{self.site.staff_url}/sign-in")
        click(staff, "button[value=engineer]")
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
        """The person enters the digits that staff read out."""
        digits = self.staff.evaluate("document.querySelector('.digits span').textContent.replace(' ', '')")
        self.person.open(self.site.person_url)
        self.person.wait_for("document.querySelector('.offer a.button')")
        click(self.person, ".offer a.button")
        self.person.wait_for("document.querySelector('#code')")
        self.person.evaluate(f"document.querySelector('#code').value = '{digits}'")
        click(self.person, "button.permit")

    def see(self, screen: Image.Image) -> None:
        """Wait until staff see the screen exactly."""
        expected = canvas_hash(to_picture(screen))
        poll_until(lambda: bool(self.staff.evaluate(SHOWN) == expected), every_s=0.2)


def click(page: BrowserPage, selector: str) -> None:
    page.evaluate(f'document.querySelector("{selector}").click()')


@contextmanager
def people(folder: Path) -> Iterator[People]:
    """A running site, its people, and the instrument's desktop."""
    with ExitStack() as stack:
        place = folder / ("a-path-that-is-too-long-for-a-socket" * 3)
        place.mkdir()
        site = stack.enter_context(session_site(place))
        words = site.instrument.words()
        server = stack.enter_context(vnc_server(folder, "-rfbport", "5900", prefix=words, host=INSTRUMENT))
        screen = stack.enter_context(FullWindow(server.display))
        staff = stack.enter_context(open_browser(folder / "staff", prefix=site.center.words()))
        person = stack.enter_context(
            open_browser(folder / "person", "--ignore-certificate-errors", prefix=words)
        )
        yield People(site, staff, person, screen)


@pytest.mark.slow("two browsers, two programs, and a first picture at 128 kbit/s")
def test_staff_operate_a_desktop_from_the_code_of_the_person_to_the_end_button(tmp_path: Path) -> None:
    steps = iter(Analyzer().script())
    with people(tmp_path) as here:
        site, first, second = here.site, next(steps).screen, next(steps).screen
        here.screen.show(first)
        session = here.request()
        assert (site.tunnel_packets(), site.openvpn_processes()) == (0, 0)
        here.permit()
        here.staff.wait_for(f"location.pathname.endsWith('/desktop') || {ENDED}")
        assert not here.staff.evaluate(ENDED), site.audits[0].read_text()
        here.see(first)
        here.staff.press("Enter")
        assert here.screen.next_event().is_press
        here.screen.show(second)
        here.see(second)
        here.person.wait_for("document.querySelector('.live .end')")
        click(here.person, ".live .end")
        here.person.wait_for(ENDED_HERE)
        packets = site.tunnel_packets()
        here.staff.press("Enter")
        here.staff.wait_for("!location.pathname.endsWith('/desktop')")
        poll_until(lambda: site.openvpn_processes() == 0)
        assert site.tunnel_packets() == packets
        here.staff.open(f"{site.staff_url}/sessions/{session}")
        here.staff.wait_for("document.body.textContent.includes('ended by the person')")
        play(here, session, second)
        site.stop()
        assert not here.staff.problems
        assert not here.person.problems
    center, box = site.audits
    keys = ("--datacenter-key", site.folder / "offer-key.pub")
    assert rap("session", "verify", center, box, *keys, "--box-key", site.folder / "box.pub") == 0
    (recording,) = (site.folder / "sessions/recordings").glob("*.rapr")
    assert rap("session", "recording", recording, *keys, "--audit", center, "--audit", box) == 0


def play(here: People, session: str, last: Image.Image) -> None:
    """Staff play the recording, to its last picture."""
    here.staff.wait_for("document.querySelector(\"a[href$='/recording']\")")
    here.staff.open(f"{here.site.staff_url}/sessions/{session}/recording")
    here.staff.wait_for("document.body.textContent.includes('verified')")
    here.staff.wait_for("document.querySelector('#screen canvas')")
    for _ in range(6):
        click(here.staff, "[data-key='65363']")
    here.see(last)
