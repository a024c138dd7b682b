"""A data center in a separate process, and the identities of its boxes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from settings.types import Endpoint
from wire.compression import Compressor
from wire.dial.dialer import dial
from wire.pki.hierarchy import Authority, make_key
from wire.tls.context import Identity, client_context

PROGRAM = """
import sys
from datacenter.main import run_datacenter
run_datacenter(sys.argv[1], ready=lambda ports: print(ports.boxes, flush=True))
"""


def configure(folder: Path, url: str) -> tuple[Path, Identity]:
    """Write the program's configuration and a box's identity."""
    file, identities = configure_boxes(folder, url, ["RAP-0001"])
    return file, identities["RAP-0001"]


def configure_boxes(folder: Path, url: str, boxes: Sequence[str]) -> tuple[Path, dict[str, Identity]]:
    """Write the program's configuration and the identities of boxes."""
    vendor, key = Authority.make("vendor"), make_key()
    vendor.issue(folder, "dc", hosts=("localhost",), trusts=vendor, key=key)
    file = folder / "dc.toml"
    file.write_text(
        f'boxes = {json.dumps(boxes)}\n[listen]\nhost = "127.0.0.1"\nport = 0\n[store]\nurl = "{url}"\n'
        '[tls]\ncertificate = "dc.crt"\nkey = "dc.key"\nauthorities = "dc.ca.crt"\n'
    )
    return file, {box: vendor.issue(folder, box, trusts=vendor, key=key) for box in boxes}


async def send_batches(port: int, box: Identity, *batches: bytes) -> list[int]:
    """Send batches of a box on one connection; return the status of each."""
    connection = await dial(Endpoint("localhost", port), client_context(box), reply_bytes_max=1000)
    compressor = Compressor()
    bodies = [compressor.compress(batch) for batch in batches]
    statuses = [(await connection.request("POST", "/v1/batches", body)).status for body in bodies]
    connection.close()
    return statuses


@contextmanager
def serving(file: Path) -> Iterator[int]:
    """Run the program; gives the TCP port for boxes. On SIGTERM the program must exit with status 0."""
    command = [sys.executable, "-c", PROGRAM, str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        try:
            assert program.stdout is not None
            yield int(program.stdout.readline())
        finally:
            program.terminate()
    assert program.returncode == 0
