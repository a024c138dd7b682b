"""From power-on to the first report: an image of a box's own kickstart, its identity, a data center, an instrument.

Four things differ from a real site: the packages are substitutes for a distribution's, partitions are small, nothing
is encrypted, and the kernel prints to the serial console.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from random import Random
from typing import Final

from agents.instrument.agent import InstrumentAgent, OnAcknowledged
from agents.instrument.command_runner import Instrument
from datacenter.store import queries
from datacenter.store.store import Store
from hal.linux.clock import LinuxClock
from imaging.build.build import build
from imaging.build.types import BuildRequest
from imaging.flash import gpt, identity
from imaging.kickstart.assemble import assemble
from imaging.kickstart.data import MIB, releases
from imaging.kickstart.site import for_box, load_site
from imaging.mock_repo.rpms import Stub, cached_repository, make_stubs
from imaging.rpm.build import build_rpm
from settings import identity_archive
from settings.types import Endpoint
from tests.support.eventually import eventually
from tests.support.imaging.flash.images import loop_device, rap
from tests.support.imaging.sites import SITE, write_site
from tests.support.imaging.starts.emulated import tap
from tests.support.paths import ROOT
from tests.support.real import start
from wire.messages import Quality
from wire.pki import directory as pki_directory
from wire.tls.context import Identity, client_context

MOCK_REPO: Final = ROOT / "build/mock-repo"
_MOCK_PYTHON_OF: Final = "rhel9"
"""The release whose Python version the mock repository has: the box's package is built for it."""
CABLES: Final = {1: "uplink", 2: "port1"}
"""TAP devices by the number of the bus that the port's card is on."""
SERIAL: Final = "RAP-0001"
UPLINK, COLLECTOR = "192.0.2.10", "10.77.1.1"
"""The box's addresses, on its uplink and on port 1."""
_ELSEWHERE: Final = "192.0.2.1"
"""The address of the data center, which is also the uplink's gateway."""
_POLL_SECONDS: Final = 0.2
SPARE_BYTES: Final = 64 * MIB
_DISK: Final = """\
[disk]
device = "sda"
[disk.sizes_mib]
"/boot/efi" = 64
"/boot" = 192
"/" = 1024
"/slots/b" = 1024
"/home" = 32
"/tmp" = 32
"/var" = 128
"/var/log" = 32
"/var/log/audit" = 32
"/var/tmp" = 32
"/var/lib/rap" = 256
"""
_SLOW_ARGUMENTS: Final = "pti=on page_poison=1 init_on_alloc=1 init_on_free=1 slub_debug=P"
"""Kernel arguments that write pages twice and switch address spaces more often, which is slow in emulation."""
_DATACENTER: Final = f"""\
boxes = ["{{serial}}"]
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


def build_image(
    folder: Path,
    kernel_arguments: str = "",
    post: str = "",
    *,
    key: Path | None = None,
    settings: str = "",
    tables: str = "",
) -> Path:
    """Build the image of box RAP-0001 with an identity, as if flashed; `post` is appended to its kickstart.

    With `key`, the image is signed and has no identity. `settings` come first in the site file, `tables` last.
    """
    site = write_site(folder, settings + site_text() + tables)
    text = assemble(load_site(site), site)
    assert _SLOW_ARGUMENTS in text
    text = text.replace(_SLOW_ARGUMENTS, f"console=ttyS0 quiet {kernel_arguments}")
    image = _build_from(folder, text + post, "rhel9", key)
    if not key:
        prepare_datacenter(folder)
        give_identity(image, folder, site)
    return image


def build_delivered(folder: Path, release: str) -> Path:
    """Build the image of a box for RHEL 9 or 10 ("rhel9", "rhel10") from its unchanged kickstart.

    The package redhat-release of the mock repository is RHEL 9's; for RHEL 10 another one is added.
    """
    site = write_site(folder, site_text())
    (folder / "rpm").mkdir()
    if release == "rhel10":
        text = "Red Hat Enterprise Linux release 10.2 (mock)\n"
        make_stubs(folder / "rpm", {"redhat-release": Stub({"etc/redhat-release": text}, version="10.2-1")})
    return _build_from(folder, assemble(load_site(site), site, release), release)


def _build_from(folder: Path, kickstart: str, release: str, key: Path | None = None) -> Path:
    (file := folder / "box.ks").write_text(kickstart)
    (packages := folder / "rpm").mkdir(exist_ok=True)
    build_rpm(packages, _MOCK_PYTHON_OF)
    subprocess.run(["createrepo_c", "--quiet", packages], check=True)
    repositories = (str(cached_repository(MOCK_REPO)), str(packages))
    version = releases()[release].version
    request = BuildRequest(file, version, repositories, folder / "out", folder / "work", key=key)
    return build(request, lambda _name, _kept: None, lambda _line: None).image


def flashed(image: Path, key: Path, folder: Path, more: str = "") -> Path:
    """Return a disk in `folder` to which `rap flash` wrote a signed image; `more` is appended to the site file."""
    prepare_datacenter(folder)
    site = write_site(folder, site_text() + more)
    disk = folder / "disk.raw"
    with loop_device(disk, image.stat().st_size + SPARE_BYTES) as device:
        options = ["--key", key, "--serial", Path(device).name, "--record", folder / "record.json"]
        rap("flash", "write", image, device, *options, "--box", "RAP-0001", "--site", site, "--pki", folder)
    return disk


def site_text() -> str:
    """Return the text of the box's site file: without encryption and proxy, with small partitions."""
    luks, proxy = (re.search(rf"\[{name}\]\n(.+\n)+", SITE) for name in ("luks", "proxy"))
    assert luks and proxy
    text = SITE.replace(luks[0], "").replace(proxy[0], "")
    text = text.replace('host = "ingest.example.com"', f'host = "{_ELSEWHERE}"\nport = 8443')
    return text.replace('[disk]\ndevice = "sda"\n', _DISK)


def prepare_datacenter(folder: Path, serial: str = SERIAL) -> None:
    """Create the CAs, the certificates of the data center and the instrument, and the data center's configuration."""
    pki_directory.init(folder)
    pki_directory.issue(folder, "DC", "datacenter", (_ELSEWHERE,))
    pki_directory.issue(folder, "CHEM-0001", "instrument")
    write_datacenter(folder, serial)


def write_datacenter(folder: Path, serial: str) -> None:
    """Write the configuration of a data center that accepts box `serial` and whose certificates are in `folder`."""
    (folder / "dc.toml").write_text(_DATACENTER.format(folder=folder, serial=serial))


def give_identity(image: Path, folder: Path, site: Path) -> None:
    """Write an identity with the site file into the image, as `rap flash write` does on a disk."""
    on_box = for_box(load_site(site)).encode()
    area = identity_archive.pack(identity.issue(identity.make(SERIAL, on_box), folder))
    with image.open("r+b") as disk:
        partition = next(part for part in gpt.slices(disk.read(MIB)) if part.label == identity_archive.LABEL)
        disk.seek(partition.offset)
        disk.write(area)


def plug_in() -> None:
    """Connect the cables of the uplink and of port 1, in this thread's network namespace."""
    tap("uplink", f"{_ELSEWHERE}/24")
    tap("port1", "10.77.1.10/24")


async def first_report(folder: Path, seconds_max: float) -> float:
    """Return the time (`time.monotonic`) at which the data center has stored the first report. Raises: TimeoutError.

    The instrument has a report to send from the beginning, and sends it as soon as it can connect.
    """
    async with asyncio.timeout(seconds_max), datacenter(folder), reporting(folder) as agent:
        submit(agent)
        return await _stored(folder)


@asynccontextmanager
async def datacenter(folder: Path) -> AsyncIterator[None]:
    """Run the data center; kill it at the end."""
    server = await start("dc", "serve", "--config", folder / "dc.toml")
    try:
        assert server.stderr is not None
        line = b""
        while b"ready" not in line:  # it may first print which releases it serves
            line = await server.stderr.readline()
            assert line, "the data center has ended"
        yield
    finally:
        server.kill()
        await server.communicate()


@asynccontextmanager
async def reporting(
    folder: Path,
    serial: str = SERIAL,
    run: int = 1,
    on_acknowledged: OnAcknowledged = len,
    instrument: Instrument | None = None,
) -> AsyncIterator[InstrumentAgent]:
    """Run the agent of the instrument, which connects as soon as box `serial` accepts connections.

    `instrument` executes the data center's commands; without it, the agent offers none.
    """
    context = client_context(Identity(*(folder / f"chem-0001{end}" for end in (".crt", ".key", ".ca.crt"))))
    agent = InstrumentAgent(
        Endpoint(serial.lower(), 443, COLLECTOR),
        context,
        run_number=run,
        clock=LinuxClock(),
        random=Random(1),
        on_acknowledged=on_acknowledged,
        instrument=instrument,
    )

    async def work() -> None:
        await eventually(lambda: answers(COLLECTOR, 443), None, every_s=_POLL_SECONDS)
        await agent.run()

    working = asyncio.ensure_future(work())
    try:
        yield agent
    finally:
        working.cancel()
        with suppress(asyncio.CancelledError):
            await working


def submit(agent: InstrumentAgent) -> None:
    """Give the instrument a report to send."""
    agent.submit(Quality, "glu", 1, 17)


async def answers(host: str, port: int) -> bool:
    """Return whether a TCP connection to the address succeeds within a second."""
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
            lambda: any(instrument for _, instrument in queries.counts(store)), None, every_s=_POLL_SECONDS
        )
        return time.monotonic()
    finally:
        store.close()
