"""From power-on to the first report: a box's own kickstart as an image, its identity, a data center, an instrument.

Everything is as in the field but for four things: the packages stand in for a distribution's, partitions are small,
nothing is encrypted, and the kernel talks to the serial console.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Final

from agents.instrument.agent import InstrumentAgent
from datacenter.store import queries
from datacenter.store.store import Store
from hal.linux.clock import LinuxClock
from imaging.build.build import build
from imaging.build.types import BuildRequest
from imaging.flash import gpt, identity
from imaging.kickstart.assemble import assemble
from imaging.kickstart.data import MIB
from imaging.kickstart.site import for_box, load_site
from imaging.mock_repo.rpms import kept_repository
from imaging.rpm.build import build_rpm
from settings import identity_archive
from settings.types import Endpoint
from tests.support.eventually import eventually
from tests.support.imaging.emulated import tap
from tests.support.imaging.sites import SITE, write_site
from tests.support.paths import ROOT
from tests.support.real import start
from wire.messages import Quality
from wire.pki import directory as pki_directory
from wire.tls.context import Identity, client_context

MOCK_REPO: Final = ROOT / "build/mock-repo"
CABLES: Final = {1: "uplink", 2: "port1"}
"""TAP devices by the number of the bus that the port's card is on."""
UPLINK, COLLECTOR = "192.0.2.10", Endpoint("rap-0001", 443, "10.77.1.1")
"""The box's addresses, on its uplink and on port 1."""
_ELSEWHERE: Final = "192.0.2.1"
"""The data center's, and the uplink's gateway."""
_LOOK_SECONDS: Final = 0.2
_DISK: Final = """\
[disk]
device = "sda"
[disk.sizes_mib]
"/boot/efi" = 64
"/boot" = 192
"/" = 1024
"/slots/b" = 64
"/home" = 32
"/tmp" = 32
"/var" = 128
"/var/log" = 32
"/var/log/audit" = 32
"/var/tmp" = 32
"/var/lib/rap" = 256
"""
_SLOW_ARGUMENTS: Final = "pti=on page_poison=1 init_on_alloc=1 init_on_free=1 slub_debug=P"
"""Each page written and each address space changed twice: nothing to a processor, much to one that is emulated."""
_DATACENTER: Final = f"""\
boxes = ["RAP-0001"]
[listen]
host = "{_ELSEWHERE}"
port = 8443
[tls]
certificate = "dc.crt"
key = "dc.key"
authorities = "vendor-ca.crt"
[store]
url = "sqlite:///{{folder}}/reports.db"
"""


def build_image(folder: Path, kernel_arguments: str = "", post: str = "", *, key: Path | None = None) -> Path:
    """Build the image of box RAP-0001 with an identity, as if flashed; `post` is a further section of its kickstart.

    With `key` it is signed instead, and has no identity.
    """
    site = write_site(folder, _site_text())
    kickstart = folder / "box.ks"
    text = assemble(load_site(site), site)
    assert _SLOW_ARGUMENTS in text
    text = text.replace(_SLOW_ARGUMENTS, f"console=ttyS0 quiet {kernel_arguments}")
    kickstart.write_text(text + post)
    (packages := folder / "rpm").mkdir()
    build_rpm(packages, "rhel9")
    subprocess.run(["createrepo_c", "--quiet", packages], check=True)
    repositories = (str(kept_repository(MOCK_REPO)), str(packages))
    request = BuildRequest(kickstart, "RHEL9", repositories, folder / "out", folder / "work", key=key)
    image = build(request, lambda _name, _kept: None, lambda _line: None).image
    return image if key else _made_ready(image, folder, site)


def copy_for_first_start(image: Path, folder: Path) -> Path:
    """Copy a signed image to `folder` with an identity, as if flashed, and all files for its first report."""
    copy = folder / image.name
    subprocess.run(["cp", "--sparse=always", image, copy], check=True)
    return _made_ready(copy, folder, write_site(folder, _site_text()))


def _made_ready(image: Path, folder: Path, site: Path) -> Path:
    _prepare_far_end(folder)
    _give_identity(image, folder, for_box(load_site(site)).encode())
    return image


def _site_text() -> str:
    luks, proxy = (re.search(rf"\[{name}\]\n(.+\n)+", SITE) for name in ("luks", "proxy"))
    assert luks and proxy
    text = SITE.replace(luks[0], "").replace(proxy[0], "")
    text = text.replace('host = "ingest.example.com"', f'host = "{_ELSEWHERE}"\nport = 8443')
    return text.replace('[disk]\ndevice = "sda"\n', _DISK)


def _prepare_far_end(folder: Path) -> None:
    pki_directory.init(folder)
    pki_directory.issue(folder, "DC", "datacenter", (_ELSEWHERE,))
    pki_directory.issue(folder, "CHEM-0001", "instrument")
    (folder / "dc.toml").write_text(_DATACENTER.format(folder=folder))


def _give_identity(image: Path, folder: Path, site: bytes) -> None:
    """As `rap flash write` does with a disk."""
    area = identity_archive.pack(identity.issue(identity.make("RAP-0001", site), folder))
    with image.open("r+b") as disk:
        place = next(part for part in gpt.slices(disk.read(MIB)) if part.label == identity_archive.LABEL)
        disk.seek(place.offset)
        disk.write(area)


def plug_in() -> None:
    """The cables of the uplink and of port 1, in this thread's network namespace."""
    tap("uplink", f"{_ELSEWHERE}/24")
    tap("port1", "10.77.1.10/24")


async def first_report(folder: Path, seconds_max: float) -> float:
    """Return the time at which the first report is stored (`time.monotonic`). Raises: TimeoutError.

    The instrument has one to send from the beginning, and sends it as soon as it can connect.
    """
    server = await start("dc", "serve", "--config", folder / "dc.toml")
    try:
        assert server.stderr is not None and b"ready" in await server.stderr.readline()
        async with asyncio.timeout(seconds_max), asyncio.TaskGroup() as tasks:
            reporting = tasks.create_task(_report(folder))
            stored = await _stored(folder)
            reporting.cancel()
        return stored
    finally:
        server.kill()
        await server.communicate()


async def _report(folder: Path) -> None:
    await eventually(lambda: answers(COLLECTOR.address, COLLECTOR.port), None, every_s=_LOOK_SECONDS)
    context = client_context(Identity(*(folder / f"chem-0001{end}" for end in (".crt", ".key", ".ca.crt"))))
    agent = InstrumentAgent(COLLECTOR, context, run_number=1, clock=LinuxClock(), random=Random(1))
    agent.submit(Quality, "glu", 1, 17)
    await agent.run()


async def answers(host: str, port: int) -> bool:
    """Whether a TCP connection to the address succeeds within a second."""
    with suppress(OSError):  # TimeoutError is one
        async with asyncio.timeout(1):
            _, writer = await asyncio.open_connection(host, port)
        writer.close()
        return True
    return False


async def _stored(folder: Path) -> float:
    store = Store(f"sqlite:///{folder}/reports.db")
    try:
        await eventually(
            lambda: any(instrument for _, instrument in queries.counts(store)), None, every_s=_LOOK_SECONDS
        )
        return time.monotonic()
    finally:
        store.close()
