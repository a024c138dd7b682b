"""From flashing to certificates: the programs of box and data center run as processes on loopback.

Disks are written by the flasher's own code; provisioning derives the box's settings from them. In these settings, the
addresses, the firewall and the system paths are replaced, because only a real box has them.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path

import pytest
from msgspec.structs import replace
from sqlalchemy import select

from agents.box.configuration.config import Clock, InstrumentPort, PortInstrument, Sending, load_config
from agents.provision.main import provision
from datacenter.store import queries
from datacenter.store.store import Store
from datacenter.store.tables.schema import certificates, enrolments
from imaging.disks.machine import Device
from imaging.flash.job import Job
from imaging.flash.record import save
from imaging.flash.source import open_image
from settings.identity_archive import LABEL
from settings.toml import dumps
from settings.types import Endpoint
from tests.support.eventually import eventually
from tests.support.imaging.flash.images import IMAGE_BYTES, MIB, MemoryDisk, public_key, raw_image, sign
from tests.support.imaging.sites import FLASHED_SITE, system_tree, write_site
from tests.support.real import BOARD, Site, rap
from tests.support.real import DATACENTER as CONFIG
from wire.dial.dialer import dial
from wire.messages import TIME_PATH, Audit, Quality, decode
from wire.pki import directory as pki_directory
from wire.tls.context import client_context

BOX, NAME = "RAP-0007", "ingest.example.com"
"""The serial number, and the name of the data center in the site file."""
DISK_BYTES = IMAGE_BYTES + 3 * MIB
SECONDS_MAX = 240
"""A guard against hanging."""
BEHIND_MS = 20 * 3_600_000
"""The data center's clock is behind by this time, so that two thirds of the validity of a certificate for one day
have passed when it is issued.
"""
DATACENTER = f"""
import sys, time
from datacenter.main import run_datacenter
run_datacenter(
    sys.argv[1],
    ready=lambda ports: print(ports.boxes, flush=True),
    now_ms=lambda: time.time_ns() // 1_000_000 - {BEHIND_MS},
)
"""
MORE = """\
fleet = "sites.toml"
[staff]
directory = "staff.toml"
port = 0
development = true
[enrolment]
certificate = "vendor-ca.crt"
key = "vendor-ca.key"
days = 1
"""
SITES = """\
[site.berlin]
name = "Berlin"
country = "DE"
region = "europe"
zone = "Europe/Berlin"
boxes = ["RAP-0001"]
"""
STAFF = """\
[staff.installer]
roles = ["installer"]
scope = ["country/DE"]
[staff.chief]
roles = ["supervisor"]
scope = ["country/DE"]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the PKI, the configuration of the data center, and an image."""
    folder = tmp_path_factory.mktemp("enrolment")
    pki_directory.init(folder)
    pki_directory.issue(folder, "DC", "datacenter", (NAME,))
    pki_directory.issue(folder, "CHEM-0001", "instrument")
    head, rest = CONFIG.format(folder=folder).split("\n", 1)
    more, tables = MORE.split("\n", 1)
    (folder / "dc.toml").write_text(f"{head}\n{more}\n{rest}{tables}")
    (folder / "sites.toml").write_text(SITES)
    (folder / "staff.toml").write_text(STAFF)
    (folder / "board.toml").write_text(BOARD)
    sign(raw_image(folder / "box.raw"))
    return folder


def flash(folder: Path, name: str, datacenter_port: int) -> Path:
    """Flash a disk, provision the box from it, and return the path of its settings; NAME.json is the flash record."""
    site = write_site(
        folder,
        FLASHED_SITE.replace('[proxy]\nkind = "http"\nhost = "192.0.2.3"\nport = 3128\n', "[enrolment]\n"),
    )
    disk, image = MemoryDisk(bytes(DISK_BYTES)), folder / "box.raw"
    device = Device(name="sdz", kind="disk", number="8:0", bytes=DISK_BYTES, serial="S-1")
    with open_image(image, public_key(image)) as opened:
        job = Job(opened, public_key(image), device, disk)
        job.give_identity(BOX, site, folder, False)
        record = job.run(False, lambda _phase, _bytes: None)
    save(record, folder / f"{name}.json")
    identity_part = next(part for part in record.parts if part.label == LABEL)
    root, partition = system_tree(folder / name), folder / f"{name}.partition"
    end = identity_part.offset + identity_part.length
    partition.write_bytes(disk.content[identity_part.offset : end])
    provision(root / "none.toml", root, partition, at_start=True)
    config = load_config(root / "etc/rap/box.toml")
    state = root / "var/lib/rap"
    (state / "spool").mkdir()
    identity = config.identity
    files = {key: state / "identity" / getattr(identity, key).name for key in identity.__struct_fields__}
    instrument = PortInstrument("CHEM-0001", "chemistry-analyzer")
    on_loopback = replace(
        config,
        board=str(folder / "board.toml"),
        datacenter=Endpoint(NAME, datacenter_port, "127.0.0.1"),
        identity=replace(identity, **files),
        spool=replace(config.spool, directory=state / "spool"),
        port=[InstrumentPort(number=1, listen="127.0.0.1", tcp_port=0, instrument=[instrument])],
        sending=Sending(linger_s=0.1),
        firewall=None,
        clock=Clock(),
        status=None,
    )
    (file := root / "box.toml").write_text(dumps(on_loopback))
    return file


@asynccontextmanager
async def datacenter(folder: Path) -> AsyncIterator[int]:
    """Run the program of the data center; yield the port for boxes."""
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-c", DATACENTER, folder / "dc.toml", stdout=PIPE
    )
    try:
        assert program.stdout is not None
        yield int(await program.stdout.readline())
    finally:
        program.terminate()
        await program.wait()


async def is_denied(box: Path, port: int) -> bool:
    """Return whether the data center refuses requests with the flashed certificate of a box."""
    tls = client_context(load_config(box).identity.client_identity())
    connection = await dial(Endpoint(NAME, port, "127.0.0.1"), tls, reply_bytes_max=1000)
    try:
        return (await connection.request("GET", TIME_PATH)).status == HTTPStatus.FORBIDDEN
    finally:
        connection.abort()


async def is_allowed(box: Path, port: int) -> bool:
    """Return whether the data center accepts requests with the flashed certificate of a box."""
    return not await is_denied(box, port)


async def until(holds: Callable[[], bool | Awaitable[bool]]) -> None:
    """Wait until a condition holds; only the scenario has a time limit."""
    await eventually(holds, None, every_s=0.1)


async def stop(process: Process) -> None:
    """End a program as a service manager does."""
    process.terminate()
    assert await process.wait() == 0


def events(store: Store) -> Counter[str]:
    """Return the audit events of boxes that the data center has stored."""
    return Counter(
        decode(Audit, body).event for record, body in queries.bodies(store) if record.kind == "audit"
    )


@pytest.mark.slow(
    "a deny-list takes effect within seconds, and a box that was refused waits before it tries again"
)
def test_a_flashed_box_enrols_renews_is_denied_and_is_flashed_again(folder: Path) -> None:
    store = Store(f"sqlite:///{folder / 'reports.db'}")

    def causes() -> list[str]:
        query = select(certificates.c.cause).where(certificates.c.box == BOX)
        return [row.cause for row in store.read(query.order_by(certificates.c.issued_at_ms))]

    def are_used(*expected: str) -> bool:
        return causes() == [*expected] and events(store)["certificate-renewed"] == len(expected)

    def waiting() -> list[tuple[str, str]]:
        query = select(enrolments.c.key, enrolments.c.reason).where(enrolments.c.state == "waiting")
        return [(row.key, row.reason) for row in store.read(query)]

    async def staff(name: str, *arguments: object) -> None:
        options = ("--config", folder / "dc.toml", "--as", name)
        status, output = await rap("dc", "enrolment", *arguments, *options)
        assert status == 0, output

    async def scenario() -> None:
        async with datacenter(folder) as port, Site(folder, ["CHEM-0001"]) as site:
            box = flash(folder, "first", port)
            await staff("installer", "register", folder / "first.json", "--site", "berlin")
            process, _ = await site.start("box", "run", "--config", box)
            await until(lambda: are_used("first"))
            await stop(process)

            process, instruments = await site.start("box", "run", "--config", box)
            await until(lambda: are_used("first", "renewal"))

            await staff("chief", "deny", BOX, "stolen")
            await until(lambda: is_denied(box, port))
            site.start_agents(instruments, BOX.lower())
            site.agents[0].submit(Quality, "glu", 1, 17)
            await until(lambda: not site.agents[0].waiting)
            assert not any(instrument for _, instrument in queries.counts(store))
            await staff("chief", "allow", BOX)
            await until(lambda: is_allowed(box, port))
            await site.wait_until_stored(1)
            await stop(process)

            again = flash(folder, "again", port)
            process, _ = await site.start("box", "run", "--config", again)
            await until(lambda: bool(waiting()))
            ((key, reason),) = waiting()
            assert reason == "other-key"
            await stop(process)
            await staff("chief", "approve", BOX, key)
            await site.start("box", "run", "--config", again)
            await until(lambda: are_used("first", "renewal", "approved"))

    async def guarded() -> None:
        async with asyncio.timeout(SECONDS_MAX):
            await scenario()

    asyncio.run(guarded())
    store.close()
