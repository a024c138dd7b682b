"""The box's own kickstart as an image that starts: ports named, firewall before network, a report forwarded."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
from pathlib import Path
from random import Random

import pytest

from agents.dial import FarEnd
from agents.instrument import InstrumentAgent
from datacenter import queries
from datacenter.store import Store
from hal.linux.clock import LinuxClock
from imaging.build.build import build
from imaging.build.terms import Request
from imaging.flash import identity
from imaging.kickstart.assemble import assemble
from imaging.rpm import build_rpm
from imaging.site import load_site
from imaging.standin.rpms import kept_repository
from tests.hal.namespaces import own_network
from tests.imaging.emulated import Machine, identity_disk, tap
from tests.imaging.sites import SITE, write_site
from tests.imaging.small_system import need_tools
from tests.real import start
from wire import pki_folder
from wire.tls import client_context

BUILD = Path(__file__).parents[2] / "build/standin"
SLOW_ARGUMENTS = "pti=on page_poison=1 init_on_free=1 slub_debug=P"
"""Each page written and each address space changed twice: without acceleration, minutes."""
FIRST_REPORT_SECONDS_MAX = 240
"""A guard against hanging on a busy machine, and no measure."""
SIZES = {
    "/boot/efi": 64,
    "/boot": 192,
    "/": 1024,
    "/slots/b": 64,
    "/home": 32,
    "/tmp": 32,
    "/var": 128,
    "/var/log": 32,
}
SIZES |= {"/var/log/audit": 32, "/var/tmp": 32, "/var/lib/rap": 256}
DATACENTER = """\
boxes = ["RAP-0001"]
[listen]
host = "192.0.2.1"
port = 8443
[tls]
certificate = "dc.crt"
key = "dc.key"
authorities = "vendor-ca.crt"
[store]
url = "sqlite:///{folder}/reports.db"
"""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def _site_text() -> str:
    luks, proxy = (re.search(rf"\[{name}\]\n(.+\n)+", SITE) for name in ("luks", "proxy"))
    assert luks and proxy
    sizes = "".join(f'"{mount}" = {size}\n' for mount, size in SIZES.items())
    text = SITE.replace(luks[0], "").replace(proxy[0], "")
    text = text.replace('host = "ingest.example.com"', 'host = "192.0.2.1"\nport = 8443')
    return text.replace('[disk]\ndevice = "sda"\n', f'[disk]\ndevice = "sda"\n[disk.sizes_mib]\n{sizes}')


def _image(folder: Path) -> Path:
    site = write_site(folder, _site_text())
    kickstart = folder / "box.ks"
    text = assemble(load_site(site), site)
    assert SLOW_ARGUMENTS in text
    kickstart.write_text(
        text.replace(SLOW_ARGUMENTS, "console=ttyS0 quiet systemd.journald.forward_to_console=1")
    )
    (packages := folder / "rpm").mkdir()
    build_rpm(packages, "rhel9")
    subprocess.run(["createrepo_c", "--quiet", packages], check=True)
    repositories = (str(kept_repository(BUILD)), str(packages))
    request = Request(kickstart, "RHEL9", repositories, folder / "out", folder / "work")
    return build(request, lambda _name, _kept: None, lambda _line: None).image


def _identity(folder: Path) -> Path:
    text = _box_site_of(folder) + '\n[[instrument]]\nport = 1\nserial = "CHEM-0001"\n'
    files = identity.issue(identity.make("RAP-0001", text.encode()), folder)
    identity_disk(folder / "identity.raw", identity.pack(files))
    return folder / "identity.raw"


def _box_site_of(folder: Path) -> str:
    """The site as the kickstart carries it."""
    found = re.search(r"<<'SITE'\n(.*)\nSITE\n", (folder / "box.ks").read_text(), re.DOTALL)
    assert found
    return found[1]


async def _until_stored(folder: Path) -> None:
    store = Store(f"sqlite:///{folder}/reports.db")
    try:
        while not any(instrument for _, instrument in queries.counts(store)):
            await asyncio.sleep(0.2)
    finally:
        store.close()


async def _first_report(folder: Path, machine: Machine) -> None:
    server = await start("dc", "serve", "--config", folder / "dc.toml")
    chemistry = pki_folder.issue(folder, "CHEM-0001", "instrument")
    agent = InstrumentAgent(
        FarEnd("10.77.1.1", 443),
        client_context(chemistry),
        run_number=1,
        clock=LinuxClock(),
        random=Random(1),
    )
    reporting = asyncio.ensure_future(agent.run())
    try:
        async with asyncio.timeout(FIRST_REPORT_SECONDS_MAX):
            await _until_stored(folder)
    except TimeoutError:
        pytest.fail(f"no report was stored; the box said:\n{machine.log()[-4000:]}")
    finally:
        reporting.cancel()
        server.kill()
        await server.communicate()


def test_an_image_starts_and_forwards_a_report(tmp_path: Path) -> None:
    need_tools()
    if not shutil.which("qemu-system-x86_64"):
        pytest.skip("needs qemu-system-x86_64: make setup-image")
    image = _image(tmp_path)
    pki_folder.init(tmp_path)
    pki_folder.issue(tmp_path, "DC", "datacenter", ("192.0.2.1",))
    (tmp_path / "dc.toml").write_text(DATACENTER.format(folder=tmp_path))
    disks = [image, _identity(tmp_path)]
    with own_network():
        tap("uplink", "192.0.2.1/24")
        tap("port1", "10.77.1.10/24")
        machine = Machine(tmp_path, disks, {1: "uplink", 2: "port1"})
        try:
            asyncio.run(_first_report(tmp_path, machine))
        finally:
            complaint = machine.stop()
    assert not complaint
    said = machine.log()
    assert said.index("Finished rap-firewall.service") < said.index("Starting NetworkManager.service")
    assert all(f"({name})" in said for name in ("enp1s0", "enp2s0", "enp3s0", "enp4s0", "enp5s0"))
