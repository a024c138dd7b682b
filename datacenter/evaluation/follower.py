"""Evaluates in the background of the data center's program, soon after batches are stored."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from contextlib import suppress
from functools import partial
from typing import Final, TypeVar

from datacenter.evaluation.evaluator import Evaluator
from datacenter.evaluation.silence import SilenceWatch
from datacenter.store.calls import call_database
from datacenter.store.errors import StoreError

SWEEP_SECONDS: Final = 60.0
"""Interval at which all boxes are evaluated, for batches of other processes and after failures."""
WATCH_MS: Final = 30_000
"""Minimum interval between checks for silence, by the clock that measures the silence."""
_log: Final = logging.getLogger(__name__)
T = TypeVar("T")


class Follower:
    """Evaluates the boxes that `stored` names, on `executor`; None is the event loop's default executor.

    `watch` checks for silence when all stored boxes are evaluated. `evaluated` is called with the seconds from the
    storage of a box's batch to its evaluation, `failed` after each failure.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        executor: Executor | None,
        now_ms: Callable[[], int],
        watch: SilenceWatch | None = None,
        evaluated: Callable[[float], object] = lambda _: None,
        failed: Callable[[], object] = lambda: None,
    ) -> None:
        self._evaluator, self._executor, self._now_ms, self._watch = evaluator, executor, now_ms, watch
        self._evaluated, self._failed = evaluated, failed
        self._watched_ms = -WATCH_MS
        self._waiting: dict[str, float] = {}
        """The boxes to be evaluated, and since when, by the event loop's clock."""
        self._oldest: float | None = None
        """The time since which the box in evaluation has waited, by the same clock; None if there is none."""
        self._wakes = asyncio.Event()

    def stored(self, boxes: set[str]) -> None:
        """Queue these boxes, whose batches were stored, for evaluation."""
        now = asyncio.get_running_loop().time()
        for box in boxes:
            self._waiting.setdefault(box, now)
        self._wakes.set()

    def lag_s(self) -> float:
        """Return the seconds since the storage of the oldest batch that is not evaluated yet; 0 if there is none."""
        since = [*self._waiting.values(), *([] if self._oldest is None else [self._oldest])]
        return asyncio.get_running_loop().time() - min(since) if since else 0.0

    async def run(self) -> None:
        """Evaluate until cancelled: the boxes that are named, and all boxes periodically."""
        while True:
            boxes = await self._call(self._evaluator.boxes) or []
            await self._evaluate(boxes)
            await self._watch_if_due()
            with suppress(TimeoutError):
                async with asyncio.timeout(SWEEP_SECONDS):
                    while True:
                        await self._wakes.wait()
                        self._wakes.clear()
                        await self._evaluate(sorted(self._waiting))
                        await self._watch_if_due()

    async def _watch_if_due(self) -> None:
        now_ms = self._now_ms()
        if self._watch is not None and now_ms - self._watched_ms >= WATCH_MS:
            self._watched_ms = now_ms
            await self._call(self._watch.advance, now_ms)

    async def _evaluate(self, boxes: Iterable[str]) -> None:
        for box in boxes:
            self._oldest = since = self._waiting.pop(box, None)
            try:
                advance = await self._call(self._evaluator.advance, box, self._now_ms())
            finally:
                self._oldest = None
            if since is not None and advance is not None:
                self._evaluated(asyncio.get_running_loop().time() - since)
            elif since is not None:
                self._waiting[box] = since  # until the next time

    async def _call(self, function: Callable[..., T], *arguments: object) -> T | None:
        """Call in the thread; return None after a failure, which is logged and does not affect other boxes."""
        try:
            return await call_database(self._executor, partial(function, *arguments))
        except Exception as error:
            subject = f" of {arguments[0]}" if arguments else ""
            if isinstance(error, StoreError):
                _log.error("evaluation%s failed: %s", subject, error)
            else:  # its text can quote a report
                _log.error("evaluation%s failed: %s", subject, type(error).__name__, exc_info=error)
            self._failed()
            return None
