"""Authentication at a real squid, with the helper programs that come with it."""

from __future__ import annotations

import asyncio
import pwd
import shutil
import socket
import subprocess
from collections.abc import Iterator
from hashlib import md5
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from msgspec.structs import replace

from settings.types import Endpoint, Proxy
from sim.proxies.spnego import SpnegoScheme, write_passwords
from sim.proxies.squid_spnego import serve, write_squid_login
from tests.support.agents.stand_in import stand_in
from tests.support.crypto.hierarchy import Hierarchy
from tests.support.eventually import eventually
from wire.dial.dialer import dial
from wire.dial.proxy import ProxyError, ProxyErrorKind
from wire.tls.context import client_context

HELPERS = next((f for f in (Path("/usr/lib/squid"), Path("/usr/lib64/squid")) if f.is_dir()), None)
USER, PASSWORD = "rap-box", "clinic: proxy"
SPNEGO_PASSWORD = "clinic proxy"  # the password file cannot contain a colon in a password
SQUID = """\
http_port 127.0.0.1:{port}
visible_hostname proxy
pid_filename none
cache_log {folder}/cache.log
access_log none
coredump_dir {folder}
cache deny all
shutdown_lifetime 0 seconds
{login}
acl known proxy_auth REQUIRED
http_access allow known
http_access deny all
"""
DIGEST = """\
auth_param digest program {helpers}/digest_file_auth -c {folder}/digest
auth_param digest children 1
auth_param digest realm clinic"""
NTLM = """\
auth_param ntlm program {helpers}/ntlm_fake_auth
auth_param ntlm children 1"""
BASIC = """\
auth_param basic program {helpers}/basic_ncsa_auth {folder}/basic
auth_param basic children 1
auth_param basic realm clinic"""


def hashed(password: str) -> str:
    command = ["openssl", "passwd", "-6", password]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


async def connect(pki: Hierarchy, folder: Path, login: str, **fields: Any) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    secret = md5(f"{USER}:clinic:{PASSWORD}".encode(), usedforsecurity=False).hexdigest()
    (folder / "digest").write_text(f"{USER}:clinic:{secret}\n")
    (folder / "basic").write_text(f"{USER}:{hashed(PASSWORD)}\n")
    config = folder / "squid.conf"
    config.write_text(
        SQUID.format(port=port, folder=folder, login=login.format(helpers=HELPERS, folder=folder))
    )
    squid = shutil.which("squid")
    assert squid is not None
    process = await asyncio.create_subprocess_exec(squid, "-N", "-f", config, "-n", f"test{port}")
    try:
        await listening(process, port)
        async with stand_in(pki.datacenter) as center:
            proxy = replace(Proxy("http", "127.0.0.1", port, user=USER, password=PASSWORD), **fields)
            far_end = Endpoint("127.0.0.1", center.server.port)
            connection = await dial(far_end, client_context(pki.box), reply_bytes_max=999, proxy=proxy)
            connection.abort()
    finally:
        process.kill()
        await process.wait()


async def listening(process: asyncio.subprocess.Process, port: int) -> None:
    async def accepts() -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            assert process.returncode is None
            return False
        writer.close()
        return True

    await eventually(accepts)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder outside pytest's, which only its owner may enter: squid's helpers run as another user."""
    if shutil.which("squid") is None or HELPERS is None:
        pytest.skip("needs squid: make setup-kernel")
    user = pwd.getpwnam("proxy" if str(HELPERS) == "/usr/lib/squid" else "squid")
    with TemporaryDirectory(prefix="rap-squid-") as folder:
        shutil.chown(folder, user.pw_uid, user.pw_gid)
        yield Path(folder)


@pytest.mark.parametrize(
    "login", [DIGEST, NTLM, BASIC, f"{BASIC}\n{DIGEST}"], ids=["digest", "ntlm", "basic", "both"]
)
@pytest.mark.parametrize("basic", ["first", "offered"])
def test_a_box_connects_through_squid_with_credentials(
    pki: Hierarchy, folder: Path, login: str, basic: str
) -> None:
    asyncio.run(connect(pki, folder, login, basic=basic))


@pytest.mark.parametrize("login", [DIGEST, BASIC], ids=["digest", "basic"])
def test_a_wrong_password_is_reported_as_the_cause(pki: Hierarchy, folder: Path, login: str) -> None:
    with pytest.raises(ProxyError) as caught:
        asyncio.run(connect(pki, folder, login, password="wrong"))
    assert caught.value.kind is ProxyErrorKind.REFUSED_AUTH


@pytest.mark.parametrize("scheme", ["ntlm", "negotiate"])
@pytest.mark.parametrize("wrong", ["", "user", "password", "domain"])
def test_ntlm_and_negotiate_passwords_are_checked(
    pki: Hierarchy, folder: Path, scheme: SpnegoScheme, wrong: str
) -> None:
    fields = {"password": SPNEGO_PASSWORD, "domain": "CLINIC"} | ({wrong: "other"} if wrong else {})
    write_passwords(folder / "spnego", "CLINIC", USER, SPNEGO_PASSWORD)

    async def attempt() -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        server = asyncio.create_task(serve(scheme, folder / "spnego", port))
        try:
            await connect(pki, folder, write_squid_login(folder, scheme, port), **fields)
        finally:
            server.cancel()

    if not wrong:
        asyncio.run(attempt())
        return
    with pytest.raises(ProxyError) as caught:
        asyncio.run(attempt())
    assert caught.value.kind is ProxyErrorKind.REFUSED_AUTH
