"""A remote session as its users see it, from the request to the recording, with all programs as users start them.

Two browsers, `rap dc serve` and `rap box run` with OpenVPN and nftables, httpd in front of the page, and TigerVNC,
whose screen has patient data in the areas that the shipped profile masks.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from agents.box.desktop.masking import MASK
from settings.profile import DesktopScreen, load_profile
from tests.support.datacenter.web.browser import PROGRAM
from tests.support.desktop.screens import Analyzer
from tests.support.desktop.vnc_server import vnc_server
from tests.support.desktop.x11 import FullWindow
from tests.support.eventually import poll_until
from tests.support.httpd import CAN_RUN, REASON
from tests.support.sessions.people import ENDED, People, click, people
from tests.support.sessions.site import INSTRUMENT, verify_records

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(PROGRAM is None, reason="needs chromium: make setup-datacenter"),
    pytest.mark.skipif(not CAN_RUN, reason=REASON),
]

MODEL = "hematology-analyzer"
VNC_PORT = 5900


def of_patient(screen: Image.Image, name: str) -> Image.Image:
    """Return the screen with the name of a patient, as shown during the measurement of the patient's sample."""
    shown = screen.copy()
    ImageDraw.Draw(shown).text((410, 16), f"{name}  *1958-03-14", fill="yellow", font_size=18)
    return shown


def masked(screen: Image.Image) -> Image.Image:
    """Return the screen with the areas masked that must not leave the box according to the profile."""
    desktop = load_profile(MODEL).desktop
    assert isinstance(desktop, DesktopScreen)
    shown = screen.copy()
    for x, y, width, height in desktop.masked:
        box = (x, y, x + width - 1, y + height - 1)
        ImageDraw.Draw(shown).rectangle(box, fill=(MASK[2], MASK[1], MASK[0]))
    return shown


@pytest.mark.slow("two browsers, two programs, and a first picture at 128 kbit/s")
def test_staff_operate_a_desktop_from_the_code_of_the_person_to_the_end_button(tmp_path: Path) -> None:
    steps = iter(Analyzer().script())
    first = of_patient(next(steps).screen, "Maria Muster")
    second = of_patient(next(steps).screen, "Erika Beispiel")
    assert masked(first) != first
    with (
        people(tmp_path, MODEL, VNC_PORT) as here,
        vnc_server(
            tmp_path, "-rfbport", str(VNC_PORT), prefix=here.site.instrument.wrap(), host=INSTRUMENT
        ) as server,
        here.site.instrument.run(lambda: FullWindow(server.display)) as screen,
    ):
        site = here.site
        screen.show(first)
        session = here.request()
        assert (site.tunnel_packets(), site.openvpn_processes()) == (0, 0)
        here.permit()
        here.staff.wait_for(f"location.pathname.endsWith('/desktop') || {ENDED}")
        assert not here.staff.evaluate(ENDED), site.audits[0].read_text()
        here.see(masked(first))
        here.staff.press("Enter")
        assert screen.next_event().is_press
        screen.show(second)
        here.see(masked(second))
        here.end()
        poll_until(lambda: site.openvpn_processes() == 0)
        packets = site.tunnel_packets()
        here.staff.press("Enter")
        here.staff.wait_for("!location.pathname.endsWith('/desktop')")
        assert site.tunnel_packets() == packets
        here.staff.open(f"{site.staff_url}/sessions/{session}")
        here.staff.wait_for("document.body.textContent.includes('ended by the person')")
        play(here, session, masked(second))
        site.stop()
        assert not here.staff.problems
        assert not here.person.problems
    verify_records(site)


def play(here: People, session: str, last: Image.Image) -> None:
    """Play the recording as staff do, up to its last picture."""
    here.staff.wait_for("document.querySelector(\"a[href$='/recording']\")")
    here.staff.open(f"{here.site.staff_url}/sessions/{session}/recording")
    here.staff.wait_for("document.body.textContent.includes('verified')")
    here.staff.wait_for("document.querySelector('#screen canvas')")
    for _ in range(6):
        click(here.staff, "[data-key='65363']")
    here.see(last)
