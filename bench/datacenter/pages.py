"""Pages in headless Chromium: `python -m bench.datacenter.pages [--json]`.

A fleet of 10,000 instruments in a SQLite database, one with a history of 21,600 statuses of ten channels. The time of
a page is from the request to the end of its `load` event, the time of the charts from the request of their data until
all of them are drawn, both as the browser measures them.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any, Final

import msgspec
from sqlalchemy import insert, update

from bench.datacenter.scale import scaled
from bench.figures import Figure, figure, run
from datacenter.history.chunk import encode_chunk
from datacenter.history.statuses import Statuses
from datacenter.store.batches.coverage import encode_ranges
from datacenter.store.store import Store
from datacenter.store.tables.schema import alerts, boxes, chunks, coverage, instruments, sites
from datacenter.web.assets import load_assets
from sim.instruments.history import History
from sim.units import DAY_NS
from tests.support.datacenter.web.browser import BrowserPage, open_browser
from tests.support.datacenter.web.client import open_web
from tests.support.datacenter.web.fleet import DAY_MS, NOW_MS, alert_row
from tests.support.datacenter.web.server import served
from wire.messages import Status

INSTRUMENTS: Final = scaled(10_000, 100)
POINTS: Final = 21_600
DAYS: Final = POINTS // 1440
PER_BOX: Final = 8
SITES: Final = scaled(400, 4)
REGIONS: Final = (
    ("europe", "DE", "Europe/Berlin"),
    ("america", "US", "America/New_York"),
    ("asia", "JP", "Asia/Tokyo"),
)
ALERT_EVERY: Final = 25
ROUNDS: Final = 7
BOX: Final = "RAP-0000"
SERIAL: Final = "CHEM-00000"
_DURATION: Final = "performance.getEntriesByType('navigation')[0].duration"
_DRAWN: Final = "document.querySelector('.charts')?.dataset.drawnMs"


def fill(store: Store) -> None:
    """Enter the fleet into an empty store, and the history of the first instrument."""
    serials = [f"RAP-{number:04}" for number in range(-(-INSTRUMENTS // PER_BOX))]
    store.authorize(serials, 0)
    site_rows = [_site_row(number) for number in range(SITES)]
    with store.transaction() as connection:
        connection.execute(insert(sites), site_rows)
        for number, site_row in enumerate(site_rows):
            at_site = boxes.c.serial.in_(serials[number::SITES])
            connection.execute(update(boxes).where(at_site).values(site=site_row["site"]))
        rows = [_instrument_row(number) for number in range(INSTRUMENTS)]
        connection.execute(insert(instruments), rows)
        connection.execute(
            insert(alerts),
            [
                alert_row(f"a{number}", row["box"], row["serial"], row["model"], "lamp", "warning", "lamp")
                for number, row in enumerate(rows)
                if number % ALERT_EVERY == 0
            ],
        )
        connection.execute(insert(chunks), _chunk_rows())
        stored = encode_ranges([(1, POINTS)])
        connection.execute(insert(coverage).values(box=BOX, stream=SERIAL, life=1, stored=stored))


def _site_row(number: int) -> dict[str, Any]:
    """Return a site at random coordinates."""
    random = Random(number)
    region, country, zone = random.choice(REGIONS)
    coordinates = {"latitude": random.uniform(-40, 65), "longitude": random.uniform(-120, 150)}
    names = {"site": f"site-{number}", "name": f"Laboratory {number}"}
    return {**names, "country": country, "region": region, "zone": zone, **coordinates}


def _instrument_row(number: int) -> dict[str, Any]:
    return {
        "box": f"RAP-{number // PER_BOX:04}",
        "serial": f"CHEM-{number:05}",
        "model": "chemistry-analyzer",
        "profile_version": 2,
        "run": 1,
        "number": POINTS,
        "at_ms": NOW_MS - 60_000,
        "stored_at_ms": NOW_MS - 50_000,
        "state": "running",
        "samples": number,
        "readings": msgspec.msgpack.encode({"lamp-intensity-pct": 90}),
        "evaluation": b"",
    }


def _chunk_rows() -> list[dict[str, Any]]:
    """Return the chunks of statuses until now, numbered without gaps."""
    start_ms = (NOW_MS // DAY_MS - DAYS) * DAY_MS
    history = History("chemistry-analyzer", SERIAL, 7, start_ms=start_ms)
    statuses = [report for report in history.until((DAYS + 1) * DAY_NS) if isinstance(report, Status)]
    latest = [report for report in statuses if report.at_ms <= NOW_MS][-POINTS:]
    by_day: dict[int, list[tuple[int, Status]]] = {}
    for number, report in enumerate(latest, 1):
        renumbered = msgspec.structs.replace(report, number=number)
        by_day.setdefault(report.at_ms // DAY_MS, []).append((1, renumbered))
    return [
        {
            "box": BOX,
            "instrument": SERIAL,
            "day": day,
            "statuses": len(reports),
            "body": encode_chunk(Statuses.of(reports)),
        }
        for day, reports in by_day.items()
    ]


def _page_ms(page: BrowserPage, url: str) -> float:
    durations = []
    for _ in range(ROUNDS):
        page.open(url)
        page.wait_for(f"{_DURATION} > 0")
        durations.append(float(page.evaluate(_DURATION)))
    return statistics.median(durations)


def _charts_ms(page: BrowserPage, url: str) -> tuple[float, int]:
    """Return the time of the charts, and their number."""
    durations = []
    for _ in range(ROUNDS):
        page.open(url)
        page.wait_for(_DRAWN)
        durations.append(float(page.evaluate(_DRAWN)))
    return statistics.median(durations), int(
        page.evaluate("document.querySelectorAll('.chart canvas').length")
    )


def figures() -> list[Figure]:
    """Return all figures."""
    with TemporaryDirectory(prefix="rap-pages-", ignore_cleanup_errors=True) as folder:
        store = Store(f"sqlite:///{folder}/store.db", durable=False)
        fill(store)
        application = open_web(store, lambda: NOW_MS).application
        with served(application) as address, open_browser(Path(folder) / "profile") as page:
            page.resize(1280, 800)
            page.open(f"{address}/sign-in")
            page.evaluate("document.querySelector('button[value=engineer]').click()")
            page.wait_for("document.querySelector('h1')?.textContent === 'Fleet'")
            measured = [
                figure(f"fleet page of {INSTRUMENTS} instruments", "ms", _page_ms(page, address), "<= 1000"),
                figure("  by sites", "ms", _page_ms(page, f"{address}/?view=sites")),
                figure(f"  map of {SITES} sites", "ms", _page_ms(page, f"{address}/?view=map")),
                figure("  searched", "ms", _page_ms(page, f"{address}/?q=CHEM-0002")),
            ]
            since_ms = NOW_MS - POINTS * 60_000
            url = f"{address}/instruments/{BOX}/{SERIAL}?since_ms={since_ms}&until_ms={NOW_MS}"
            measured.append(figure("page of an instrument", "ms", _page_ms(page, url)))
            drawn_ms, count = _charts_ms(page, url)
            measured.append(figure(f"{count} charts of {POINTS} points", "ms", drawn_ms, "<= 200"))
        store.close()
    script = sum(
        len(asset.compressed) for asset in load_assets().values() if "javascript" in asset.media_type
    )
    return [*measured, figure("script shipped, gzipped", "kB", script / 1000, "<= 60")]


if __name__ == "__main__":
    run(figures, __doc__)
