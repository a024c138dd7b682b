"""The countersigned head of the box's audit chain: records removed from the disk are detected at the next start."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from random import Random

import pytest
from msgspec.structs import replace
from sqlalchemy import select

from agents.box.audit_work import AuditStatus
from agents.box.box import Box, Hardware
from agents.box.configuration.config import AuditSettings
from agents.box.health.countersigning import FILE
from datacenter.audit.boxes import AuditSearch, box_chain_problems, find_records
from datacenter.audit.heads import HeadService
from datacenter.ingest import make_ingest
from datacenter.store.queue import StoreQueue
from datacenter.store.store import Store
from datacenter.store.tables.schema import box_chains
from hal.emul.ethernet import EmulEthernetPort
from hal.linux.disk import LinuxDisk
from tests.support.agents.boxes import CLOCK, box_config
from tests.support.agents.rotated_log import RotatedLog
from tests.support.crypto.hierarchy import Hierarchy
from tests.support.eventually import eventually
from wire.audit_head import parse_head_text
from wire.http.connection import serve
from wire.messages import BATCH_BODY_BYTES_MAX
from wire.pki.signature import load_private_key, new_key_pair
from wire.tls.context import server_context

BOX = "RAP-1"


class Site:
    """A data center that countersigns heads, and the folder of a box's disk."""

    def __init__(self, pki: Hierarchy, folder: Path) -> None:
        self.pki, self.spool, self.starts = pki, folder / "spool", 0
        private, public = new_key_pair()
        (folder / "key.pem").write_bytes(private)
        self.keys = folder / "keys.pem"
        self.keys.write_bytes(public)
        self.key = load_private_key(folder / "key.pem")
        self.store = Store("sqlite://", durable=False)
        self.store.authorize([BOX], 0)
        self.executor = ThreadPoolExecutor(1)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Box]:
        """Run the data center and the box within the context."""

        def now_ms() -> int:
            return time.time_ns() // 1_000_000

        heads = HeadService(self.store, self.executor, self.key, now_ms)
        queue = StoreQueue(self.executor, self.store.ingest_all)
        server = await serve(
            make_ingest(now_ms, queue, heads=heads),
            "127.0.0.1",
            0,
            tls=server_context(self.pki.datacenter),
            body_bytes_max=BATCH_BODY_BYTES_MAX,
            now=time.time,
        )
        settings = AuditSettings(Path("none"), keys=self.keys)
        config = replace(box_config(self.pki, server.port), audit=settings)
        disk = LinuxDisk(self.spool)
        self.starts += 1  # a new spool has another epoch
        hardware = Hardware(disk, CLOCK, EmulEthernetPort("uplink"), audit_log=RotatedLog())
        box = Box(config, hardware, Random(self.starts))
        task = asyncio.ensure_future(box.run())
        try:
            yield box
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            await server.close()
            disk.close()

    def signed(self) -> int:
        """Return the number of the last record that the data center has countersigned, 0 for none."""
        return max((number for (number,) in self.store.read(select(box_chains.c.signed_number))), default=0)

    async def run_box(self, until: str = "") -> AuditStatus:
        """Let the box run until a new head is countersigned, or until an event has arrived."""
        before = self.file()
        async with self.running() as box:
            await eventually(
                lambda: (
                    any(until in record.text for record in find_records(self.store, AuditSearch()))
                    if until
                    else self.file() != before
                )
            )
            status = await box.status()
            assert status is not None and status.audit is not None
            return status.audit

    def file(self) -> bytes:
        """Return the content of the file with the countersigned head."""
        with suppress(FileNotFoundError):
            return (self.spool / FILE).read_bytes()
        return b""


@pytest.fixture
def site(pki: Hierarchy, tmp_path: Path) -> Iterator[Site]:
    site = Site(pki, tmp_path)
    yield site
    site.executor.shutdown()
    site.store.close()


def test_the_head_is_countersigned_at_each_start_and_both_ends_have_it(site: Site) -> None:
    for _ in range(3):
        status = asyncio.run(site.run_box())
    box, head = parse_head_text(status.countersigned)
    assert (box, head.epoch) == (BOX, status.chain)
    assert 0 < head.number <= status.record
    assert head.number == site.signed()
    assert not list(box_chain_problems(site.store, "", site.key.public_key(), [(box, head)]))


def manipulate(site: Site, manipulation: str, earlier: Path) -> str:
    """Change the disk of a box that is switched off; return the audit event of its next start."""
    newest = site.file()
    match manipulation:
        case "an earlier state of the spool":
            shutil.rmtree(site.spool)
            shutil.copytree(earlier, site.spool)
            (site.spool / FILE).write_bytes(newest)
            return "audit-tail-lost"
        case "the end of the spool's newest file":
            file = max(path for path in site.spool.iterdir() if path.name != FILE)
            content = bytearray(file.read_bytes())
            used = len(content.rstrip(b"\0"))
            content[used // 4 : used] = bytes(used - used // 4)
            file.write_bytes(content)
            return "audit-tail-lost"
        case "the whole spool":
            shutil.rmtree(site.spool)
            site.spool.mkdir()
            (site.spool / FILE).write_bytes(newest)
            return "audit-chain-lost"
        case "a byte of the countersigned head":
            (site.spool / FILE).write_bytes(newest[:50] + bytes([newest[50] ^ 1]) + newest[51:])
            return "audit-head-unusable"
        case "the countersigned head of another data center":
            site.keys.write_bytes(new_key_pair()[1])
            return "audit-head-unusable"
        case "an earlier state with its own head":
            shutil.rmtree(site.spool)
            shutil.copytree(earlier, site.spool)
            return "audit-head-refused"
        case "an earlier state without a head":
            shutil.rmtree(site.spool)
            shutil.copytree(earlier, site.spool)
            (site.spool / FILE).unlink()
            return "audit-head-refused"
    raise AssertionError(manipulation)


@pytest.mark.parametrize(
    "manipulation",
    [
        "an earlier state of the spool",
        "the end of the spool's newest file",
        "the whole spool",
        "a byte of the countersigned head",
        "the countersigned head of another data center",
        "an earlier state with its own head",
        "an earlier state without a head",
    ],
)
def test_manipulation_of_the_disk_is_detected(site: Site, tmp_path: Path, manipulation: str) -> None:
    asyncio.run(site.run_box())
    earlier = tmp_path / "earlier"
    shutil.copytree(site.spool, earlier)
    for _ in range(2):
        asyncio.run(site.run_box())
    event = manipulate(site, manipulation, earlier)
    asyncio.run(site.run_box(event))
