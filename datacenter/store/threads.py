"""The threads that write to the databases: one per database, because only one thread of a process may write to it."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future, ThreadPoolExecutor

from datacenter.store.store import Store


class StoreThreads:
    """A thread for the main database, and one for each shard; calls in progress finish before `close` returns."""

    def __init__(self, store: Store) -> None:
        self.of = {part: ThreadPoolExecutor(1, "store") for part in store.parts}
        self.main = self.of[store]

    def idle(self) -> dict[str, Future[int]]:
        """Return by URL (without password) a future that is done when all earlier calls have ended."""
        return {part.url: thread.submit(int) for part, thread in self.of.items()}

    async def close(self) -> None:
        """Wait for the submitted calls, and end the threads."""
        loop = asyncio.get_running_loop()
        await asyncio.gather(*(loop.run_in_executor(thread, int) for thread in self.of.values()))
        for thread in self.of.values():
            thread.shutdown(wait=False)
