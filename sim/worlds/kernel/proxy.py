"""The site's proxy in the kernel world: squid or dante as packaged by the distribution, with faults.

A fault changes the configuration and restarts the program, which closes its tunnels, as a change by an administrator
does. A silent proxy is a stopped process (SIGSTOP): the kernel still accepts connections, but nothing answers.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import md5
from pathlib import Path
from typing import Final

from sim.engine.layers import End, Layers
from sim.lab import labfile
from sim.net.link import Impairment
from sim.proxies.spnego import write_passwords
from sim.proxies.squid_spnego import write_squid_login
from sim.worlds.kernel.namespaces.host import NamespaceHost
from sim.worlds.kernel.namespaces.link import KernelLink
from sim.worlds.kernel.namespaces.process import LabProcess
from sim.worlds.kernel.site import INTERFACE
from sim.worlds.shared.addresses import PROXY_PORTS
from sim.worlds.shared.proxy import DOMAIN, PASSWORD, USER

PROGRAMS: Final = {"http": {"squid": "squid"}, "socks5": {"danted": "dante-server", "openssl": "openssl"}}
"""The programs that each kind of proxy needs, with the Debian packages that contain them."""
SPNEGO_PORT: Final = 3129
"""Where the program that checks passwords of NTLM and Negotiate listens, on the proxy's loopback."""
START_SECONDS_MAX: Final = 10.0
_NS: Final = 1_000_000_000

SQUID: Final = """\
http_port {port}
visible_hostname proxy
pid_filename {folder}/squid.pid
cache_log {folder}/cache.log
access_log stdio:{folder}/access.log
coredump_dir {folder}
cache deny all
shutdown_lifetime 0 seconds
{login}
acl secure port 443
http_access deny !secure
http_access {allowed}
http_access deny all
{patience}
"""
SQUID_LOGIN: Final = """\
auth_param basic program {helper} {folder}/passwords
auth_param basic realm clinic
acl known proxy_auth REQUIRED"""
SQUID_DIGEST: Final = """\
auth_param digest program {helper} -c {folder}/passwords
auth_param digest realm clinic
acl known proxy_auth REQUIRED"""
DANTE: Final = """\
logoutput: stderr
internal: {interface} port = {port}
external: {interface}
clientmethod: none
socksmethod: {method}
user.privileged: root
user.unprivileged: nobody
{patience}
client pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 }}
socks pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 port = 443 }}
"""


@dataclass(frozen=True, slots=True)
class _Configuration:
    """The present configuration of the proxy."""

    refuses: bool = False
    idle_seconds_max: int | None = None
    silent: bool = False


class KernelProxy:
    """A running proxy; see `sim.worlds.virtual.proxy.VirtualProxy` for the virtual world's."""

    def __init__(
        self, host: NamespaceHost, spec: labfile.LabProxy, folder: Path, backbone: KernelLink
    ) -> None:
        self._host, self._spec, self._backbone = host, spec, backbone
        self._folder = folder
        self._folder.mkdir(mode=0o755)
        self.configuration = _Configuration()
        self._refusals = Layers[None]()
        self._idle_seconds_max = Layers[int]()
        self._silences = Layers[None]()
        self._changing = asyncio.Lock()
        self._restarting: asyncio.Future[None] | None = None  # for its new names
        self.process: LabProcess | None = None
        if spec.kind == "http":
            user = pwd.getpwnam("proxy")
            os.chown(folder, user.pw_uid, user.pw_gid)
        else:
            _enrol(folder)

    # -- faults: see `sim.faults.world`

    async def refuse(self) -> End:
        """Reject all credentials until every such effect has ended."""
        return await self._refusals.add_settled(None, self._behave)

    async def kill_idle_after(self, seconds: float) -> End:
        """Close tunnels that are idle for `seconds`; of several times the shortest applies."""
        return await self._idle_seconds_max.add_settled(max(1, int(seconds)), self._behave)

    async def go_silent(self) -> End:
        """Accept connections without answering until every such effect has ended; then tunnels are closed."""
        return await self._silences.add_settled(None, self._behave)

    async def hold_back(self, seconds: float) -> End:
        """Delay data by `seconds` in each direction; several delays add up."""
        return self._backbone.impair(Impairment(delay_ns=int(seconds * _NS)))

    def reload_names(self) -> None:
        """Make the proxy read /etc/hosts again: squid by SIGHUP; dante, which caches names, by a restart."""
        if self.process is None:
            return
        if self._spec.kind == "http":
            self.process.send_signal(signal.SIGHUP)
        else:
            self._restarting = asyncio.ensure_future(self._restart_in_turn())

    async def _restart_in_turn(self) -> None:
        async with self._changing:
            await self._restart()

    # -- running it

    async def start(self) -> None:
        """Start the program, and wait until it listens."""
        if self._spec.auth in ("ntlm", "negotiate"):
            module = [sys.executable, "-m", "sim.proxies.squid_spnego", self._spec.auth]
            await self._start([*module, str(self._folder / "passwords"), str(SPNEGO_PORT)], SPNEGO_PORT)
        await self._restart()

    async def _start(self, command: list[str], port: int) -> LabProcess:
        """Start a program, and wait until it listens on `port`."""
        process = self._host.spawn(command)
        async with asyncio.timeout(START_SECONDS_MAX):
            while not self._listens(port):
                if process.returncode is not None:
                    raise RuntimeError(f"{command[0]} ended during its start: {process.output()}")
                await asyncio.sleep(0.02)
        return process

    async def _behave(self) -> None:
        """Apply all effects, by a restart with another configuration if necessary."""
        async with self._changing:
            wanted = _Configuration(
                bool(self._refusals), min(self._idle_seconds_max, default=None), bool(self._silences)
            )
            if wanted == self.configuration:
                return
            only_silent = replace(self.configuration, silent=True) == wanted
            self.configuration = wanted
            await (self._stop() if only_silent else self._restart())

    async def _stop(self) -> None:
        """Stop the program by SIGSTOP; the kernel keeps accepting connections for it."""
        assert self.process is not None
        _signal_all(family := _with_children(self.process.pid), signal.SIGSTOP)
        async with asyncio.timeout(START_SECONDS_MAX):
            while not all(map(_is_stopped, family)):  # noqa: ASYNC110 - the kernel has no event for it
                await asyncio.sleep(0.001)

    async def _restart(self) -> None:
        """Restart the program with the present configuration, and stop it again if it is to be silent."""
        if self.process is not None:
            _signal_all(_with_children(self.process.pid), signal.SIGKILL)
            await self.process.wait()
        (self._folder / "squid.pid").unlink(missing_ok=True)
        command = self._squid() if self._spec.kind == "http" else self._dante()
        self.process = await self._start(command, PROXY_PORTS[self._spec.kind])
        if self.configuration.silent:
            await self._stop()

    def _listens(self, port: int) -> bool:
        wanted = f":{port:04X}"
        with self._host.inside():
            lines = Path("/proc/thread-self/net/tcp").read_text().splitlines()
            lines += Path("/proc/thread-self/net/tcp6").read_text().splitlines()
        return any(
            line.split()[1].endswith(wanted) and line.split()[3] == "0A" for line in lines[1:] if ":" in line
        )

    def _squid(self) -> list[str]:
        has_login = self._spec.auth != "none"
        idle = self.configuration.idle_seconds_max
        config = self._folder / "squid.conf"
        config.write_text(
            SQUID.format(
                port=PROXY_PORTS["http"],
                folder=self._folder,
                login=self._squid_login() if has_login else "",
                allowed="allow known" if has_login else "allow all",
                patience="" if idle is None else f"read_timeout {idle} seconds\nclient_lifetime 1 day",
            )
        )
        return ["squid", "-N", "-f", str(config), "-n", "lab"]

    def _squid_login(self) -> str:
        """Write the passwords; return the lines of squid.conf that require them."""
        password = "no one" if self.configuration.refuses else PASSWORD
        passwords, scheme = self._folder / "passwords", self._spec.auth
        if scheme in ("ntlm", "negotiate"):
            write_passwords(passwords, DOMAIN, USER, password)
            return write_squid_login(self._folder, scheme, SPNEGO_PORT) + "\nacl known proxy_auth REQUIRED"
        if scheme == "digest":
            passwords.write_text(f"{USER}:clinic:{_digest_secret(password)}\n")
            return SQUID_DIGEST.format(helper=_helper("digest_file_auth"), folder=self._folder)
        passwords.write_text(f"{USER}:{_hashed(password)}\n")
        return SQUID_LOGIN.format(helper=_helper("basic_ncsa_auth"), folder=self._folder)

    def _dante(self) -> list[str]:
        idle = self.configuration.idle_seconds_max
        config = self._folder / "danted.conf"
        has_login = self._spec.auth != "none"
        _set_password("no one" if self.configuration.refuses else PASSWORD)
        config.write_text(
            DANTE.format(
                port=PROXY_PORTS["socks5"],
                interface=INTERFACE,
                method="username" if has_login or self.configuration.refuses else "none",
                patience="" if idle is None else f"timeout.io.tcp: {idle}",
            )
        )
        return ["danted", "-f", str(config), "-p", str(self._folder / "danted.pid")]


def _helper(name: str) -> Path:
    """The path of one of squid's authentication helpers, whose folder differs between Debian and RHEL."""
    places = (Path("/usr/lib/squid"), Path("/usr/lib64/squid"))
    return next(place / name for place in places if (place / name).exists())


def _digest_secret(password: str) -> str:
    """The hash stored for squid's Digest helper: H(A1) of RFC 7616 with MD5, the only algorithm it supports."""
    return md5(f"{USER}:clinic:{password}".encode(), usedforsecurity=False).hexdigest()


def _hashed(password: str) -> str:
    command = ["openssl", "passwd", "-6", "-salt", "clinic", password]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _enrol(folder: Path) -> None:
    """Create the user that dante authenticates, in copies of /etc/passwd and /etc/shadow that only the lab sees."""
    user = f"{USER}:x:64077:64077::/nonexistent:/usr/sbin/nologin\n"
    for name, line in (("passwd", user), ("shadow", "")):
        copy = folder / name
        shutil.copy(f"/etc/{name}", copy)
        copy.write_text(copy.read_text() + line)
        subprocess.run(["mount", "--bind", copy, f"/etc/{name}"], check=True)


def _set_password(password: str) -> None:
    shadow = Path("/etc/shadow")
    others = [line for line in shadow.read_text().splitlines() if not line.startswith(f"{USER}:")]
    shadow.write_text("\n".join([*others, f"{USER}:{_hashed(password)}:19000:0:99999:7:::"]) + "\n")


def _signal_all(pids: Iterable[int], number: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):  # a child has just ended
            os.kill(pid, number)


def _is_stopped(pid: int) -> bool:
    """Whether a process is stopped or has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "TZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def _with_children(pid: int) -> list[int]:
    """The ids of a process and all its descendants."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it has just ended
            parents.setdefault(int(fields[1]), []).append(int(entry.name))
    family = [pid]
    for member in family:
        family += parents.get(member, [])
    return family
