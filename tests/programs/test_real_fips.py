"""The box program, OpenVPN and httpd with OpenSSL's real FIPS provider, and a box that stays closed without it."""

from __future__ import annotations

import asyncio
import signal
import socket
import ssl
import subprocess
import sys
from asyncio.subprocess import Process
from collections.abc import Callable
from ipaddress import IPv4Interface
from pathlib import Path
from random import Random

import msgspec
import pytest

from agents.box.status.status import NotRunning, StatusReport, read_status
from agents.instrument.agent import InstrumentAgent
from hal.contract.crypto import CRYPTO_CHECKS, CryptographicModuleBench
from hal.crypto import CryptographicModule, FipsCheck, SelfTest
from hal.linux.clock import LinuxClock
from settings.types import Endpoint
from tests.support import httpd, real
from tests.support.agents.stand_in import stand_in
from tests.support.crypto import fips
from tests.support.eventually import WAIT_SECONDS_MAX, eventually
from wire.messages import Quality
from wire.tls.context import Identity, client_context

pytestmark = [pytest.mark.skipif(not fips.CAN_RUN, reason=fips.REASON), pytest.mark.kernel]
INSTRUMENTS = ("CHEM-0001",)
SELF_TEST = """\
import sys, msgspec
from pathlib import Path
from hal.linux.crypto import LinuxCryptographicModule
print(msgspec.json.encode(LinuxCryptographicModule().self_test()).decode())
"""


class ProcessModule:
    """The cryptographic module of a new process."""

    def __init__(self, *within: str) -> None:
        self._within = within

    def self_test(self) -> SelfTest:
        command = [*self._within, sys.executable, "-c", SELF_TEST]
        output = subprocess.run(command, capture_output=True, check=True).stdout
        return msgspec.json.decode(output, type=SelfTest)


class LinuxBench:
    def __init__(self, packages: Path, folder: Path) -> None:
        self._packages, self._folder = packages, folder

    def sound(self) -> CryptographicModule:
        return ProcessModule(*fips.in_fips_mode(self._packages))

    def without_kernel(self) -> CryptographicModule:
        return ProcessModule(*fips.in_fips_mode(self._packages, kernel="0"))

    def without_provider(self) -> CryptographicModule:
        return ProcessModule(*fips.in_fips_mode(self._packages, fips.damaged(self._folder, "missing")))


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fips.distributions_cryptography(tmp_path_factory.mktemp("packages"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    asyncio.run(real.prepare(folder, INSTRUMENTS))
    return folder


def identity(site: Path, name: str) -> Identity:
    return Identity(*(site / f"{name}{end}" for end in (".crt", ".key", ".ca.crt")))


def box_config(site: Path, spool: Path, datacenter: int) -> Path:
    file = real.write_box_config(site, INSTRUMENTS, datacenter)
    file.write_text('fips = "required"\n' + file.read_text().replace('"spool"', f'"{spool}"'))
    return file


async def status_of(site: Path) -> StatusReport:
    reports: list[StatusReport] = []

    async def answers() -> bool:
        try:
            reports.append(await asyncio.to_thread(read_status, site / "box.sock"))
        except NotRunning:
            return False
        return True

    await eventually(answers, every_s=0.05)
    return reports[0]


async def ended(box: Process) -> tuple[int | None, str]:
    box.send_signal(signal.SIGTERM)
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        _, output = await box.communicate()
    return box.returncode, output.decode()


@pytest.mark.parametrize("check", CRYPTO_CHECKS, ids=lambda check: check.__name__)
def test_linux_module(
    check: Callable[[CryptographicModuleBench], None], packages: Path, tmp_path: Path
) -> None:
    check(LinuxBench(packages, tmp_path))


def test_a_box_in_fips_mode_receives_stores_and_delivers(site: Path, packages: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stand_in(identity(site, "dc")) as center:
            config = box_config(site, tmp_path / "spool", center.server.port)
            box = await real.start("box", "run", "--config", config, within=fips.in_fips_mode(packages))
            assert box.stderr is not None
            line = (await box.stderr.readline()).decode()
            assert "listening on TCP port" in line, line
            endpoint, tls = (
                Endpoint("127.0.0.1", int(line.split()[-1])),
                client_context(identity(site, "chem-0001")),
            )
            agent = InstrumentAgent(endpoint, tls, run_number=1, clock=LinuxClock(), random=Random(3))
            running = asyncio.ensure_future(agent.run())
            for _ in range(50):
                agent.submit(Quality, "glu", 1, 17)
            await center.until(lambda: len(center.reports) == 50 and "fips-in-force" in center.audits)
            status = await status_of(site)
            assert status.fips is not None and status.fips.is_passed
            assert status.fips.module.startswith("OpenSSL FIPS Provider 3.")
            assert status.traffic.cipher == "TLS_AES_128_GCM_SHA256"
            running.cancel()
            assert await ended(box) == (0, "")

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("defect", "failed"),
    [
        ("missing", FipsCheck.PROVIDER),
        ("damaged", FipsCheck.PROVIDER),
        ("not the default", FipsCheck.REFUSALS),
        ("kernel", FipsCheck.KERNEL),
        ("wheel", FipsCheck.CRYPTOGRAPHY),
    ],
)
def test_a_box_that_is_not_in_fips_mode_stays_up_and_closed(
    defect: str, failed: FipsCheck, site: Path, packages: Path, tmp_path: Path
) -> None:
    is_openssl = defect in ("missing", "damaged", "not the default")
    configuration = fips.damaged(tmp_path, defect) if is_openssl else fips.CONFIGURATION
    used_packages = None if defect == "wheel" else packages
    within = fips.in_fips_mode(used_packages, configuration, "0" if defect == "kernel" else "1")

    async def scenario() -> None:
        async with stand_in(identity(site, "dc")) as center:
            config = box_config(site, tmp_path / "spool", center.server.port)
            box = await real.start("box", "run", "--config", config, within=within)
            status = await status_of(site)
            assert status.fips is not None and failed in status.fips.failed
            assert not status.connected
            assert not center.connected
            assert box.returncode is None
            code, output = await ended(box)
            assert code == 0
            assert "listening" not in output
            assert f"rap: fips: {failed}: " in output
            assert "no port is served and no connection is made" in output

    asyncio.run(scenario())


def test_the_check_of_a_configuration_fails_without_fips_mode(
    site: Path, packages: Path, tmp_path: Path
) -> None:
    config = box_config(site, tmp_path / "spool", 9)
    command = [sys.executable, "-m", "rap", "box", "run", "--check", "--config", config]
    for kernel, status, text in (("1", 0, f"{config}: OK\n"), ("0", 3, "")):
        within = fips.in_fips_mode(packages, kernel=kernel)
        result = subprocess.run([*within, *map(str, command)], capture_output=True, text=True, check=False)
        assert (result.returncode, result.stdout) == (status, text), result.stderr
    assert "fips is required and not in force" in result.stderr


def test_openvpn_offers_only_ciphers_of_the_provider(tmp_path: Path) -> None:
    offered = fips.run(["openvpn", "--show-ciphers"]).stdout
    assert "AES-256-GCM" in offered
    assert "CHACHA20" not in offered
    assert "CHACHA20" not in fips.run(["openvpn", "--show-tls"]).stdout
    without = fips.run(["openvpn", "--show-ciphers"], fips.damaged(tmp_path, "missing")).stdout
    assert "AES-256-GCM" not in without


def test_httpd_refuses_cipher_suites_that_are_not_approved(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # for httpd; this process has loaded OpenSSL already
    monkeypatch.setenv("OPENSSL_CONF", str(fips.CONFIGURATION))
    conf, ports = httpd.configure(tmp_path, site, {1: IPv4Interface("127.0.0.1/8")})
    with httpd.running(conf, ("127.0.0.1", ports[1])):

        def suite(offer: str) -> str:
            client = httpd.client_tls(ssl.TLSVersion.TLSv1_2)
            client.set_ciphers(offer)
            with socket.create_connection(("127.0.0.1", ports[1])) as raw, client.wrap_socket(raw) as tls:
                return (tls.cipher() or ("",))[0]

        assert suite("ECDHE+AESGCM").endswith("GCM-SHA256") or suite("ECDHE+AESGCM").endswith("GCM-SHA384")
        with pytest.raises(ssl.SSLError):
            suite("ECDHE+CHACHA20")
