"""A data center in a separate process, and a box's identity."""

from __future__ import annotations

from pathlib import Path

from settings.types import Endpoint
from wire.compression import Compressor
from wire.dial.dialer import dial
from wire.pki.hierarchy import Authority, make_key
from wire.tls.context import Identity, client_context


def configure(folder: Path, url: str) -> tuple[Path, Identity]:
    """Write the program's configuration and a box's identity."""
    vendor, key = Authority.make("vendor"), make_key()
    vendor.issue(folder, "dc", hosts=("localhost",), trusts=vendor, key=key)
    file = folder / "dc.toml"
    file.write_text(
        f'boxes = ["RAP-0001"]\n[listen]\nhost = "127.0.0.1"\nport = 0\n[store]\nurl = "{url}"\n'
        '[tls]\ncertificate = "dc.crt"\nkey = "dc.key"\nauthorities = "dc.ca.crt"\n'
    )
    return file, vendor.issue(folder, "RAP-0001", trusts=vendor, key=key)


async def send_batches(port: int, box: Identity, *batches: bytes) -> list[int]:
    """Send batches of a box on one connection; return the status of each."""
    connection = await dial(Endpoint("localhost", port), client_context(box), reply_bytes_max=1000)
    compressor = Compressor()
    bodies = [compressor.compress(batch) for batch in batches]
    statuses = [(await connection.request("POST", "/v1/batches", body)).status for body in bodies]
    connection.close()
    return statuses
