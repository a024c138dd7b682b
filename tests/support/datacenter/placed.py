"""A configured data center with a staff directory, and with one instrument at a site in Germany."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import insert

from datacenter.store.store import Store
from datacenter.store.tables.schema import boxes, instruments, sites
from tests.support.datacenter.programs import configure

BOX, SERIAL = "RAP-0001", "CHEM-0001"
ENGINEER = """[staff.engineer]
roles = ["service-engineer"]
scope = ["country/DE"]
trainings = { chemistry-analyzer = 2099-01-01 }
"""


def placed_instrument(folder: Path, staff: str) -> tuple[Path, Store]:
    """Return the configuration file and the store, which the caller closes."""
    url = f"sqlite:///{folder / 'store.db'}"
    file, _ = configure(folder, url)
    (folder / "staff.toml").write_text(staff)
    file.write_text(file.read_text() + '[staff]\ndirectory = "staff.toml"\nport = 0\ndevelopment = true\n')
    store = Store(url)
    store.authorize([BOX], 0)
    with store.transaction() as connection:
        connection.execute(
            insert(sites).values(site="n", name="N", country="DE", region="europe", zone="UTC")
        )
        connection.execute(boxes.update().values(site="n"))
        of_report = {"run": 1, "number": 1, "at_ms": 0, "stored_at_ms": 0, "evaluation": b""}
        values = {"box": BOX, "serial": SERIAL, "model": "chemistry-analyzer", **of_report}
        connection.execute(insert(instruments).values(values))
    return file, store
