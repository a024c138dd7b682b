"""The log has one record per line, and contains no content of reports."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from datacenter.log import JsonFormatter, TextFormatter
from tests.support.datacenter.programs import configure, send_batches
from tests.support.datacenter.store.batches import encoded
from tests.support.eventually import WAIT_SECONDS_MAX
from wire.messages import Status

SECRET = "Erika Mustermann 1964-08-12"
FORMATTERS = pytest.mark.parametrize("formatter", [JsonFormatter(), TextFormatter()], ids=["json", "text"])


def formatted(formatter: logging.Formatter, log: Callable[[logging.Logger], None], name: str = "test") -> str:
    lines = list[str]()

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(formatter.format(record))

    logger, handler = logging.getLogger(name), Kept()
    logger.addHandler(handler)
    level, logger.propagate = logger.level, False
    logger.setLevel(logging.INFO)
    try:
        log(logger)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = True
    (line,) = lines
    return line


def fail() -> None:
    try:
        raise ValueError(SECRET)
    except ValueError as error:
        raise KeyError(f"of {SECRET}") from error


def log_failure(logger: logging.Logger) -> None:
    try:
        fail()
    except KeyError:
        logger.exception("a batch of %s failed", "RAP-0001")


def log_lost_task(_: logging.Logger) -> None:
    async def lose() -> None:
        loop = asyncio.get_running_loop()
        task = loop.create_task(asyncio.to_thread(fail))
        await asyncio.wait([task])
        loop.call_exception_handler({"message": "a task failed", "exception": task.exception(), "task": task})

    asyncio.run(lose())


@FORMATTERS
def test_an_exception_is_written_with_its_positions_but_without_its_text(
    formatter: logging.Formatter,
) -> None:
    line = formatted(formatter, log_failure)
    assert "a batch of RAP-0001 failed" in line and "KeyError" in line
    assert f"{Path(__file__).name}:" in line and " fail" in line
    assert "Erika" not in line and "1964" not in line


@FORMATTERS
def test_the_event_loop_writes_no_representation_of_a_failed_task(formatter: logging.Formatter) -> None:
    line = formatted(formatter, log_lost_task, "asyncio")
    assert "a task failed" in line and "KeyError" in line
    assert "Erika" not in line


@FORMATTERS
def test_external_text_adds_no_line(formatter: logging.Formatter) -> None:
    line = formatted(
        formatter, lambda logger: logger.warning("%s is refused", 'X\n{"level": "info"}\r\x1b[2J')
    )
    assert "\n" not in line and "\r" not in line and "\x1b" not in line


@FORMATTERS
def test_arguments_that_do_not_fit_are_not_written(formatter: logging.Formatter) -> None:
    line = formatted(formatter, lambda logger: logger.error("%d records", SECRET))
    assert "%d records" in line and "Erika" not in line


def test_a_json_record_has_time_level_logger_and_message() -> None:
    record = json.loads(formatted(JsonFormatter(), lambda logger: logger.warning("near %d %%", 80)))
    assert record.pop("time").endswith("+00:00")
    assert record == {"level": "warning", "logger": "test", "message": "near 80 %"}


def test_a_text_record_has_its_level_if_it_is_a_problem() -> None:
    assert formatted(TextFormatter(), lambda logger: logger.warning("near")) == "rap: warning: near"
    assert formatted(TextFormatter(), lambda logger: logger.info("ready")) == "rap: ready"


PROGRAM = """
import signal, sys
from datacenter import main
from datacenter.store.store import Store

def fail(self, received):
    raise ValueError(repr(received))

Store.ingest_all = fail
main.run_datacenter(sys.argv[1], ready=lambda ports: print(ports.boxes, flush=True))
"""


def test_the_program_writes_json_without_the_report_that_it_fails_on(tmp_path: Path) -> None:
    file, box = configure(tmp_path, f"sqlite:///{tmp_path / 'store.db'}")
    file.write_text(file.read_text() + '[log]\nformat = "json"\n')
    status = Status(4711, 987_654_321, "running", 31_337, {"lamp-intensity-pct": 24_681})
    command = [sys.executable, "-c", PROGRAM, str(file)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, text=True, stdout=pipe, stderr=pipe) as program:
        try:
            assert program.stdout is not None
            assert asyncio.run(
                send_batches(int(program.stdout.readline()), box, encoded(status, instrument="PLANTED-7"))
            ) == [500]
            program.terminate()
            _, errors = program.communicate(timeout=WAIT_SECONDS_MAX)
        finally:
            program.kill()
    records = [json.loads(line) for line in errors.splitlines()]
    assert records[0]["message"].startswith("ready on port ")
    (failure,) = [one for one in records if "exception" in one]
    assert failure["exception"]["type"] == "ValueError"
    assert not [text for text in ("PLANTED-7", "4711", "987654", "31337", "24681") if text in errors]
