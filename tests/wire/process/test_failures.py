"""A bug that a peer can trigger at will does not fill the log."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sim.net.loop import SimLoop
from tests.support.wire.http_line import Line, settle
from wire.http.connection import Request, ServerConnection
from wire.process.failures import KINDS_MAX, REPORTS_BURST, REPORTS_PER_SECOND, FailureLog

TIMES = 1000


class ReportingLoop(SimLoop):
    """An event loop that collects the failures that it would log."""

    def __init__(self) -> None:
        super().__init__()
        self.reported: list[dict[str, Any]] = []
        self.set_exception_handler(FailureLog())

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        self.reported.append(context)


def failure(number: int) -> Exception:
    try:
        raise ValueError(f"request {number}")
    except ValueError as error:
        return error


def test_a_repeated_failure_is_logged_a_few_times_then_every_ten_minutes_with_a_count() -> None:
    async def main() -> None:
        for number in range(TIMES):
            loop.call_exception_handler({"message": "handler failed", "exception": failure(number)})
        assert len(loop.reported) == REPORTS_BURST
        await asyncio.sleep(1 / REPORTS_PER_SECOND)
        loop.call_exception_handler({"message": "handler failed", "exception": failure(TIMES)})

    loop = ReportingLoop()
    loop.run_until_complete(main())
    assert len(loop.reported) == REPORTS_BURST + 1
    assert f"({TIMES - REPORTS_BURST} more since" in loop.reported[-1]["message"]
    assert loop.reported[-1]["exception"].args == (f"request {TIMES}",)


def test_another_failure_is_logged_in_the_meantime() -> None:
    async def main() -> None:
        for number in range(TIMES):
            loop.call_exception_handler({"message": "handler failed", "exception": failure(number)})
        loop.call_exception_handler({"message": "handler failed", "exception": KeyError("other")})
        loop.call_exception_handler({"message": "part failed"})

    loop = ReportingLoop()
    loop.run_until_complete(main())
    assert len(loop.reported) == REPORTS_BURST + 2


def test_failures_that_all_differ_are_rate_limited_too() -> None:
    async def main() -> None:
        for number in range(TIMES):
            loop.call_exception_handler({"message": f"message {number}"})

    loop = ReportingLoop()
    loop.run_until_complete(main())
    assert len(loop.reported) == KINDS_MAX + REPORTS_BURST


@pytest.mark.parametrize("depth", [0, 3])
def test_a_request_that_repeatedly_triggers_a_bug_is_rate_limited_in_the_log(depth: int) -> None:
    async def handler(request: Request) -> Any:
        def fail(left: int) -> None:
            if not left:
                raise RuntimeError(request.target)
            fail(left - 1)

        fail(depth)

    async def main() -> None:
        for number in range(TIMES):
            line = Line(ServerConnection(handler, 10, lambda: 0.0, 10.0, lambda: None))
            line.protocol.data_received(b"GET /%d HTTP/1.1\r\nContent-Length: 0\r\n\r\n" % number)
            await settle()
            assert line.statuses() == [500]

    loop = ReportingLoop()
    loop.run_until_complete(main())
    assert len(loop.reported) == REPORTS_BURST
