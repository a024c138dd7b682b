"""The data center's program, with `[siem]` in its configuration, forwards audit records to rsyslogd."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from datacenter.audit.chain import AuditEntry
from datacenter.audit.trail import AuditTrail
from datacenter.store.store import Store
from tests.support.crypto.hierarchy import Hierarchy
from tests.support.datacenter.programs import configure, send_batches
from tests.support.datacenter.rsyslog import free_port, needs_rsyslog, rsyslog
from tests.support.datacenter.store.batches import AT_MS
from tests.support.eventually import poll_until
from wire.messages import Audit, AuditLink, Entry, encode, encode_batch

RECORDS = 30


def batches() -> list[bytes]:
    """Return batches of ten audit records each."""
    entries, previous = [], bytes(32)
    for number in range(1, RECORDS + 1):
        entry = encode(Entry("", 0, Audit(AT_MS, "alive", 0, number), AuditLink(number, previous)))
        previous = sha256(entry).digest()
        entries.append(entry)
    return [
        encode_batch(5, list(enumerate(entries[first : first + 10], first + 1)))
        for first in range(0, RECORDS, 10)
    ]


@needs_rsyslog
@pytest.mark.slow("a SIEM that was away is tried again after half a minute")
def test_records_of_boxes_and_data_center_arrive_once_after_an_outage_of_the_siem(
    tmp_path: Path, pki: Hierarchy
) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    file, box = configure(tmp_path, url)
    port = free_port()
    siem = f'[siem]\nhost = "localhost"\nport = {port}\ncertificate = "{pki.box.certificate}"\n'
    file.write_text(
        file.read_text() + siem + f'key = "{pki.box.key}"\nauthorities = "{pki.box.authorities}"\n'
    )
    (tmp_path / "log").touch()

    def received() -> list[str]:
        file = tmp_path / "received"
        return re.findall(r'id="([^"]+)"', file.read_text()) if file.exists() else []

    def enter(actor: str) -> None:
        store = Store(url)
        AuditTrail(store).append(
            [AuditEntry(1, actor, "", "view", "Box", "RAP-1", "", "", "permitted", "", "")]
        )
        store.close()

    of_box = [f"RAP-0001/5/{number}" for number in range(1, RECORDS + 1)]
    command = [sys.executable, "-m", "rap", "dc", "serve", "--config", str(file)]
    with (tmp_path / "log").open("w") as log, subprocess.Popen(command, stderr=log) as program:
        try:
            poll_until(
                lambda: program.poll() is not None or "ready on port" in (tmp_path / "log").read_text()
            )
            [listening] = re.findall(r"ready on port (\d+)", (tmp_path / "log").read_text())
            first, second, third = batches()
            with rsyslog(tmp_path, port, pki.datacenter):
                enter("doris")
                assert asyncio.run(send_batches(int(listening), box, first)) == [200]
                poll_until(lambda: len(received()) == 11)
            assert asyncio.run(send_batches(int(listening), box, second)) == [200]
            enter("emil")
            poll_until(lambda: "audit records wait" in (tmp_path / "log").read_text())
            assert asyncio.run(send_batches(int(listening), box, third)) == [200]
            with rsyslog(tmp_path, port, pki.datacenter):
                poll_until(lambda: len(received()) == RECORDS + 2)
            poll_until(lambda: "receives audit records again" in (tmp_path / "log").read_text())
        finally:
            program.terminate()
    assert sorted(received()) == sorted([*of_box, "datacenter/1", "datacenter/2"])
    assert [each for each in received() if each in of_box] == of_box, "in the order of the chain"
