"""Serves monitoring in the data center's program."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Final

from prometheus_client.metrics_core import Metric
from sqlalchemy.engine import make_url

from datacenter.config import Config
from datacenter.evaluation.follower import Follower
from datacenter.monitoring.figures import families, read_figures
from datacenter.monitoring.listener import make_monitoring
from datacenter.monitoring.metrics import Metrics, build_info, gauge, limits
from datacenter.monitoring.probe import CachedProbe
from datacenter.monitoring.readiness import readiness
from datacenter.store.queue import IngestQueue
from datacenter.store.store import Store
from wire.http.admission import Limits
from wire.http.connection import Server, serve
from wire.process.bounds import Bounds

FIGURES_SECONDS: Final = 10.0
"""Time for which the figures of the database are cached for scrapes."""
READY_SECONDS: Final = 1.0
CONNECTIONS_MAX: Final = 32


@asynccontextmanager
async def monitoring(
    config: Config,
    metrics: Metrics,
    store: Store,
    now_ms: Callable[[], int],
    bounds: Bounds,
    boxes: Server,
    queue: IngestQueue,
    follower: Follower,
) -> AsyncIterator[int | None]:
    """Serve within the block; the value is the TCP port, None if monitoring is not configured.

    Raises: OSError if the address is unusable.
    """
    if config.monitoring is None:
        yield None
        return
    executor = ThreadPoolExecutor(2, "monitoring")
    figures = CachedProbe(executor, lambda: read_figures(store, now_ms()), FIGURES_SECONDS)
    database = make_url(config.store.url).get_backend_name()

    def of_process() -> Iterator[Metric]:
        bounds.check()
        yield build_info(database)
        yield gauge("rap_box_connections", "Connections of boxes.", boxes.connections)
        text = "Records of batches that are waiting for the database or being stored."
        yield gauge("rap_store_queue_records", text, queue.filling()[0])
        text = "Time since the storage of the oldest batch that this process has not evaluated."
        yield gauge("rap_evaluation_lag_seconds", text, follower.lag_s())
        yield limits(bounds.levels)
        yield from families(figures.latest)

    metrics.add(of_process)
    problem = CachedProbe(executor, readiness(store, config.store.url), READY_SECONDS)
    server = await serve(
        make_monitoring(metrics.registry, figures, problem, config.monitoring.names),
        config.monitoring.host,
        config.monitoring.port,
        tls=None,
        body_bytes_max=0,
        now=time.time,
        limits=Limits(connections_max=CONNECTIONS_MAX),
    )
    try:
        yield server.port
    finally:
        await server.close()
        executor.shutdown(wait=False, cancel_futures=True)
