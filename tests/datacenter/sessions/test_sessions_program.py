"""The data center's program with `[sessions]`: a request from the pages reaches the box; a lost right ends it."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from datacenter.main import check_datacenter
from datacenter.store.store import Store
from settings.problems import SettingsError
from settings.types import Endpoint
from tests.support.datacenter.web.fleet import fill_fleet
from tests.support.eventually import poll_until
from tests.support.wire.grants import BOX, DATACENTER, DATACENTER_KEYS
from wire.dial.dialer import dial
from wire.messages import decode, encode
from wire.pki.hierarchy import Authority, make_key
from wire.session.grant import read_offer
from wire.session.messages import PATH, Exchange, ExchangeReply, OfferMessage, ShownMessage, ToBox
from wire.tls.context import Identity, client_context

SERIAL, INSTRUMENT = "RAP-0001", "CHEM-0001"
PROGRAM = """
import sys
from datacenter.main import run_datacenter
run_datacenter(sys.argv[1], ready=lambda ports: print(ports.boxes, ports.staff, flush=True))
"""
STAFF = """
[staff.engineer]
roles = ["service-engineer"]
scope = ["everywhere"]
[staff.engineer.trainings]
chemistry-analyzer = 2100-01-01
"""
ORDER = {"reason": "replace the lamp", "ticket": "T-1", "mode": "control", "port": "2", "minutes": "10"}


def configure(folder: Path) -> tuple[Path, Identity]:
    """Write the program's configuration, and the identity of a box whose key is of curve P-256."""
    vendor, key = Authority.make("vendor"), make_key()
    vendor.issue(folder, "dc", hosts=("localhost",), trusts=vendor, key=key)
    box = vendor.issue(folder, SERIAL, trusts=vendor, key=key)
    pem = Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    box.certificate.write_bytes(vendor.certify(SERIAL, BOX.public_key()))
    box.key.write_bytes(BOX.private_bytes(*pem))
    (folder / "offer-key.pem").write_bytes(DATACENTER.private_bytes(*pem))
    (folder / "staff.toml").write_text(STAFF)
    (folder / "sessions").mkdir()
    file = folder / "dc.toml"
    file.write_text(
        f'boxes = ["{SERIAL}"]\n[listen]\nhost = "127.0.0.1"\nport = 0\n'
        f'[store]\nurl = "sqlite:///{folder / "store.db"}"\n'
        '[tls]\ncertificate = "dc.crt"\nkey = "dc.key"\nauthorities = "dc.ca.crt"\n'
        '[staff]\ndirectory = "staff.toml"\nport = 0\ndevelopment = true\n'
        '[sessions]\nkey = "offer-key.pem"\nfolder = "sessions"\naddress = "127.0.0.1"\nport = 0\n'
    )
    store = Store(f"sqlite:///{folder / 'store.db'}", durable=False)
    fill_fleet(store, with_reports=False)
    store.close()
    return file, box


@contextmanager
def serving(file: Path) -> Iterator[tuple[int, int]]:
    """Run the program; gives the TCP ports for boxes and staff."""
    command = [sys.executable, "-c", PROGRAM, str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        try:
            assert program.stdout is not None
            boxes, staff = program.stdout.readline().split()
            yield int(boxes), int(staff)
        finally:
            program.terminate()
    assert program.returncode == 0


def exchange(port: int, box: Identity, *messages: ShownMessage) -> list[ToBox]:
    """Exchange messages of sessions as the box does."""

    async def once() -> list[ToBox]:
        connection = await dial(Endpoint("localhost", port), client_context(box), reply_bytes_max=100_000)
        response = await connection.request("POST", PATH, encode(Exchange(list(messages))))
        connection.close()
        assert response.status == 200, response.body
        return decode(ExchangeReply, response.body).messages

    return asyncio.run(once())


def token(page: httpx.Response) -> str:
    match = re.search(r'name="form_token" value="(\w+)"', page.text)
    assert match is not None
    return match[1]


@pytest.mark.slow("the program starts, and reads a changed staff directory after a second")
def test_a_request_reaches_the_box_and_a_withdrawn_approval_ends_it(tmp_path: Path) -> None:
    """One known product leaves sessions open after their approval was withdrawn."""
    file, box = configure(tmp_path)
    assert not [one for one in check_datacenter(file) if "session" in one]
    with serving(file) as (boxes, staff), httpx.Client(base_url=f"http://127.0.0.1:{staff}") as web:
        signed = {"form_token": token(web.get("/sign-in")), "staff": "engineer", "next": "/"}
        assert web.post("/sign-in", data=signed).status_code == 303
        form = web.get(f"/sessions?box={SERIAL}&instrument={INSTRUMENT}")
        target = f"/instruments/{SERIAL}/{INSTRUMENT}/sessions"
        page = web.post(target, data={**ORDER, "form_token": token(form)}).headers["location"]
        (offer,) = exchange(boxes, box)
        assert isinstance(offer, OfferMessage)
        signed_offer = read_offer(offer.offer, DATACENTER_KEYS, SERIAL)
        assert (signed_offer.offer.staff, signed_offer.offer.id.hex()) == (
            "engineer",
            page[len("/sessions/") :],
        )
        exchange(boxes, box, ShownMessage(signed_offer.offer.id))
        poll_until(lambda: "Code to tell the person at the instrument" in web.get(page).text)
        (tmp_path / "staff.toml").write_text(STAFF.replace("2100", "2000"))
        poll_until(lambda: "training expired" in web.get(page).text)


def test_an_invalid_signing_key_is_a_configuration_error(tmp_path: Path) -> None:
    file, _ = configure(tmp_path)
    (tmp_path / "offer-key.pem").write_text("no key")
    with pytest.raises(SettingsError, match="openssl genpkey"):
        check_datacenter(file)


@pytest.mark.slow("the program starts")
def test_a_changed_audit_file_prevents_the_program_from_starting(tmp_path: Path) -> None:
    """The program must not continue a log with a gap."""
    file, _ = configure(tmp_path)
    (tmp_path / "sessions" / "sessions.audit").write_text("changed\n")
    command = [sys.executable, "-m", "rap", "dc", "serve", "--config", str(file)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode != 0
    assert "sessions.audit: line 1" in result.stderr
