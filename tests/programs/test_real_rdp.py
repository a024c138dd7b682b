"""A session with an instrument whose desktop service is Remote Desktop (RDP), with FreeRDP's server and client.

Staff follow the instructions of the session's page: they start `rap session connect`, and connect their client to
its port.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageChops, ImageGrab

from tests.support.datacenter.web.browser import PROGRAM
from tests.support.desktop.screens import Analyzer
from tests.support.desktop.vnc_server import vnc_server
from tests.support.desktop.x11 import FullWindow
from tests.support.eventually import poll_until
from tests.support.httpd import CAN_RUN, REASON
from tests.support.namespaces import Namespace
from tests.support.paths import ROOT
from tests.support.sessions.people import ENDED, people
from tests.support.sessions.site import INSTRUMENT, STAFF_MEMBER, SessionSite, verify_records

SERVER, CLIENT, KEYBOARD = "freerdp-shadow-cli", "xfreerdp", "xdotool"
pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(PROGRAM is None, reason="needs chromium: make setup-datacenter"),
    pytest.mark.skipif(not CAN_RUN, reason=REASON),
    pytest.mark.skipif(
        not all(map(shutil.which, (SERVER, CLIENT, KEYBOARD))), reason="needs FreeRDP: make setup-sessions"
    ),
]

MODEL = "immunoassay-analyzer"
RDP_PORT = 3389
COLOUR_DIFFERENCE_MAX = 16
"""Per colour channel: RDP has fewer colours than the screens."""
OPENED = "document.querySelector('pre code')"


@contextmanager
def program(
    namespace: Namespace, log: Path, *command: str, display: int | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program in a namespace until the block ends."""
    environment = os.environ | {"HOME": str(log.parent), "PYTHONPATH": str(ROOT)}
    if display is not None:
        environment["DISPLAY"] = f":{display}"
    with log.open("wb") as output:
        process = subprocess.Popen(namespace.wrap(*command), stdout=output, stderr=output, env=environment)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def token(site: SessionSite) -> Path:
    """Return a file with the API token of the staff member."""
    create = ("dc", "token", "create", "--staff", STAFF_MEMBER, "--purpose", "service", "--days", "1")
    actions = ("--action", "read", "--action", "change")
    result = subprocess.run(
        (sys.executable, "-m", "rap", *create, *actions, "--config", site.folder / "dc.toml"),
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    file = site.folder / "token.txt"
    file.write_text(result.stdout.splitlines()[-1])
    return file


def shows(namespace: Namespace, display: int, screen: Image.Image) -> bool:
    """Return whether a display in a namespace shows a screen, apart from small differences of colours."""
    shown = namespace.run(lambda: ImageGrab.grab(xdisplay=f":{display}"))
    difference = ImageChops.difference(shown.convert("RGB"), screen)
    bands: Any = difference.getextrema()  # (low, high) of each colour channel
    return all(high <= COLOUR_DIFFERENCE_MAX for _, high in bands)


@pytest.mark.slow("two browsers, two programs, and an RDP session")
def test_staff_use_remote_desktop_from_the_code_of_the_person_to_the_end_button(tmp_path: Path) -> None:
    steps = iter(Analyzer().script())
    first, second = next(steps).screen, next(steps).screen
    with (
        people(tmp_path, MODEL, RDP_PORT) as here,
        vnc_server(tmp_path, prefix=here.site.instrument.wrap()) as windows,
        vnc_server(tmp_path / "staff", prefix=here.site.center.wrap()) as desk,
        here.site.instrument.run(lambda: FullWindow(windows.display)) as screen,
        program(
            here.site.instrument,
            tmp_path / "rdp-server.log",
            SERVER,
            f"/bind-address:{INSTRUMENT}",
            f"/port:{RDP_PORT}",
            "-auth",
            display=windows.display,
        ),
    ):
        site = here.site
        screen.show(first)
        here.request()
        assert (site.tunnel_packets(), site.openvpn_processes()) == (0, 0)
        here.permit()
        here.staff.wait_for(f"{OPENED} || {ENDED}")
        assert not here.staff.evaluate(ENDED), site.audits[0].read_text()
        command = shlex.split(
            here.staff.evaluate(f"{OPENED}.textContent").replace("token.txt", str(token(site)))
        )
        assert command[0] == "rap"
        connect = (sys.executable, "-m", *command)
        rdp = (CLIENT, f"/v:{command[-1]}", "/f", "/network:modem", "/cert:ignore", "/u:service", "/p:x")
        with program(site.center, tmp_path / "connect.log", *connect) as connecting:
            poll_until(lambda: b"connect to" in (tmp_path / "connect.log").read_bytes())
            with program(site.center, tmp_path / "rdp.log", *rdp, display=desk.display) as client:
                poll_until(lambda: shows(site.center, desk.display, first), every_s=0.2)
                press = (KEYBOARD, "key", "--delay", "200", "Return")
                subprocess.run(
                    site.center.wrap(*press), env=os.environ | {"DISPLAY": f":{desk.display}"}, check=True
                )
                assert screen.next_event().is_press
                screen.show(second)
                poll_until(lambda: shows(site.center, desk.display, second), every_s=0.2)
                here.end()
                client.wait()
            poll_until(lambda: site.openvpn_processes() == 0)
            packets = site.tunnel_packets()
            with program(site.center, tmp_path / "rdp-again.log", *rdp, display=desk.display) as again:
                again.wait()
            assert connecting.wait() == 1
        assert "refused: the session is not open" in (tmp_path / "connect.log").read_text()
        assert site.tunnel_packets() == packets
        here.staff.wait_for("document.body.textContent.includes('ended by the person')")
        site.stop()
        assert not here.staff.problems
        assert not here.person.problems
    verify_records(site)
