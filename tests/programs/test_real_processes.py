"""The programs as real processes with sockets and a disk, also when they are killed."""

from __future__ import annotations

import asyncio
import signal
import stat
from asyncio import StreamReader, StreamWriter
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from agents.box.status.status import read_status
from tests.support.eventually import eventually
from tests.support.real import Site, own_lines, prepare, rap, start, write_box_config
from wire.messages import Quality

INSTRUMENTS = ("CHEM-0001", "HEMA-0001")
REPORTS_EACH = 1000
REPORTS = REPORTS_EACH * len(INSTRUMENTS)
SECONDS_MAX = 180
"""A guard against hanging, not a performance limit: the scenario takes about five seconds on an idle machine."""
TLS_AES_128_GCM_SHA256 = b"\x13\x01"  # RFC 8446, B.4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    asyncio.run(prepare(folder, INSTRUMENTS))
    return folder


class StablePort:
    """A TCP port that forwards to a program, and stays the same when the program is restarted.

    `suites` are the TLS cipher suites in the ServerHello messages of the program.
    """

    def __init__(self) -> None:
        self.behind = 0
        self.suites: set[bytes] = set()

    async def open(self) -> int:
        server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        port: int = server.sockets[0].getsockname()[1]
        return port

    async def _carry(self, reader: StreamReader, writer: StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            there, back = await asyncio.open_connection("127.0.0.1", self.behind)
            onward = asyncio.ensure_future(pump(reader, back))
            await self._note_suite(there, writer)
            await pump(there, writer)
            await onward
        writer.close()

    async def _note_suite(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Read the ServerHello up to the cipher suite, after the session ID (RFC 8446, 4.1.3)."""
        hello = await reader.readexactly(5 + 4 + 2 + 32 + 1)
        hello += await reader.readexactly(hello[-1] + 2)
        self.suites.add(hello[-2:])
        writer.write(hello)


async def pump(reader: StreamReader, writer: StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@pytest.mark.slow("real programs are killed and restarted")
def test_killed_programs_lose_and_duplicate_no_report(folder: Path) -> None:
    async def scenario() -> None:
        to_box, to_datacenter = StablePort(), StablePort()
        box_port, datacenter_port = await to_box.open(), await to_datacenter.open()
        async with asyncio.timeout(SECONDS_MAX), Site(folder, INSTRUMENTS) as site:
            datacenter, to_datacenter.behind = await site.start_datacenter()
            box, to_box.behind = await site.start_box(datacenter_port)
            site.start_agents(box_port)
            for agent in site.agents:
                for deviation in range(REPORTS_EACH):
                    agent.submit(Quality, "glu", 1, deviation)

            def waiting() -> int:
                return sum(agent.waiting for agent in site.agents)

            await eventually(lambda: waiting() <= 0.75 * REPORTS, None)
            box.kill()
            assert waiting() > 0.5 * REPORTS
            box, to_box.behind = await site.start_box(datacenter_port)

            await eventually(lambda: waiting() <= 0.5 * REPORTS, None)
            datacenter.kill()
            assert waiting() > 0
            await eventually(lambda: waiting() == 0, None)
            datacenter, to_datacenter.behind = await site.start_datacenter()

            stored = await site.wait_until_stored(REPORTS)
            each_once = Counter((name, 1, n) for name in INSTRUMENTS for n in range(1, REPORTS_EACH + 1))
            assert Counter((record.instrument, record.run, record.number) for record in stored) == each_once
            assert not any(agent.dropped for agent in site.agents)
            config = folder / "box.toml"
            assert await rap("box", "status", "--config", config) == (0, "")
            state = await asyncio.to_thread(read_status, folder / "box.sock")
            assert state.connected
            assert state.backlog.routine == 0
            assert 0 < state.accepted <= REPORTS
            assert stat.S_IMODE((folder / "box.sock").stat().st_mode) == 0o600
            assert to_box.suites == to_datacenter.suites == {TLS_AES_128_GCM_SHA256}

            for program, last in ((box, ""), (datacenter, "rap: stopping because of a signal\n")):
                program.send_signal(signal.SIGTERM)
                _, message = await program.communicate()
                assert (program.returncode, own_lines(message.decode())) == (0, last)
            status, reason = await rap("box", "status", "--config", config)
            assert status == 1
            assert "no box program is listening" in reason

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("valid", "invalid", "message"),
    [
        ("port = 443", "port = 70000", "9: datacenter.port: 70000: must be a whole number <= 65535"),
        ("bytes_max", "bytes", "24: spool.bytes: unknown key; did you mean bytes_max?"),
        ('"board.toml"', '"rap-5"', "1: board: unknown board 'rap-5'; known boards: "),
        ("number = 1", "number = 2", "11: port[0].number: loopback has no port 2; it has 1"),
        ('"rap-0001.key"', '"none.key"', "4: identity.key: {folder}/none.key: No such file or directory; give a PEM"),
        ('"box.sock"', '"none/box.sock"', "28: status.socket: the directory {folder}/none does not exist; create it"),
        ('"rap-0001.key"', '"dc.key"', "4: identity.key: {folder}/dc.key: is not the key of {folder}/rap-0001"),
    ],
)  # fmt: skip
def test_a_wrong_configuration_is_reported_with_line_key_and_remedy(
    folder: Path, valid: str, invalid: str, message: str
) -> None:
    async def scenario() -> None:
        command = ("box", "run", "--config", file)
        for status, state in await asyncio.gather(rap(*command), rap(*command, "--check")):
            assert status == 2
            assert state.startswith(f"rap: {file}:{message.format(folder=folder)}")

    file = write_box_config(folder, INSTRUMENTS, 443)
    text = file.read_text()
    assert valid in text
    file.write_text(text.replace(valid, invalid))
    asyncio.run(scenario())


def test_a_valid_configuration_is_accepted(folder: Path) -> None:
    file = write_box_config(folder, INSTRUMENTS, 443)
    assert asyncio.run(rap("box", "run", "--config", file, "--check")) == (0, "")


def test_too_few_open_files_are_refused_before_anything_starts(folder: Path) -> None:
    async def scenario() -> None:
        limited = ("sh", "-c", 'ulimit -n 300; exec "$@"', "sh")
        for options in ((), ("--check",)):
            process = await start("box", "run", "--config", file, *options, within=limited)
            _, state = await process.communicate()
            assert process.returncode == 3
            assert "1 ports need 409 open files and connections; the system allows 300" in state.decode()

    file = write_box_config(folder, INSTRUMENTS, 443)
    asyncio.run(scenario())


def test_a_soft_limit_of_open_files_is_raised(folder: Path) -> None:
    async def scenario() -> None:
        limited = ("sh", "-c", 'ulimit -Sn 300; exec "$@"', "sh")
        process = await start("box", "run", "--config", file, "--check", within=limited)
        _, state = await process.communicate()
        assert (process.returncode, state) == (0, b"")

    file = write_box_config(folder, INSTRUMENTS, 443)
    asyncio.run(scenario())
