"""The site's proxy in the kernel world: a program of the distribution, such as squid or dante, with faults.

A fault changes the configuration and restarts the program, which closes its tunnels, as a change by an administrator
does. A silent proxy is a stopped process (SIGSTOP): the kernel still accepts connections, but nothing answers.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from sim.engine.layers import End, Layers
from sim.lab import labfile
from sim.net.link import Impairment
from sim.proxies.kind import ProgramSettings, proxy_kind
from sim.worlds.kernel.namespaces.host import NamespaceHost
from sim.worlds.kernel.namespaces.link import KernelLink
from sim.worlds.kernel.namespaces.process import LabProcess
from sim.worlds.kernel.site import INTERFACE
from wire.tls.context import Identity

_NS: Final = 1_000_000_000


class KernelProxy:
    """A running proxy; see `sim.worlds.virtual.proxy.VirtualProxy` for the virtual world's."""

    def __init__(
        self,
        host: NamespaceHost,
        spec: labfile.LabProxy,
        folder: Path,
        backbone: KernelLink,
        inspector: Identity,
    ) -> None:
        """`inspector` is the certificate presented to clients during TLS inspection."""
        self._host, self._backbone, self._inspector = host, backbone, inspector
        folder.mkdir(mode=0o755)
        self._kind = proxy_kind(spec.kind)
        self.settings = ProgramSettings(spec.auth, folder, INTERFACE)
        self._silent = False
        self._refusals = Layers[None]()
        self._inspections = Layers[None]()
        self._idle_seconds_max = Layers[int]()
        self._silences = Layers[None]()
        self._changing = asyncio.Lock()
        self._restarting: asyncio.Future[None] | None = None  # for its new names
        self.process: LabProcess | None = None
        self._helper: LabProcess | None = None
        self._kind.prepare_program(folder)

    # -- faults: see `sim.faults.world`

    async def refuse(self) -> End:
        """Reject all credentials until every such effect has ended."""
        return await self._refusals.add_settled(None, self._behave)

    async def inspect(self) -> End:
        """Terminate TLS with a certificate from another CA until every such effect has ended."""
        return await self._inspections.add_settled(None, self._behave)

    async def kill_idle_after(self, seconds: float) -> End:
        """Close tunnels that are idle for `seconds`; the shortest of several times applies."""
        return await self._idle_seconds_max.add_settled(max(1, int(seconds)), self._behave)

    async def go_silent(self) -> End:
        """Accept connections without answering until every such effect has ended; then tunnels are closed."""
        return await self._silences.add_settled(None, self._behave)

    async def hold_back(self, seconds: float) -> End:
        """Delay data by `seconds` in each direction; several delays add up."""
        return self._backbone.impair(Impairment(delay_ns=int(seconds * _NS)))

    def reload_names(self) -> None:
        """Make the proxy read /etc/hosts again: by a signal, or by a restart if it has no signal for that."""
        if self.process is None:
            return
        if self._kind.reload_signal is not None:
            self.process.send_signal(self._kind.reload_signal)
        else:
            self._restarting = asyncio.ensure_future(self._restart_in_turn())

    async def _restart_in_turn(self) -> None:
        async with self._changing:
            await self._restart()

    # -- running it

    async def start(self) -> None:
        """Start the program, and wait until it listens."""
        await self._restart()

    async def _start(self, command: list[str], port: int) -> LabProcess:
        """Start a program, and wait until it listens on `port`."""
        process = self._host.spawn(command)
        await process.ready(lambda: self._listens(port))
        return process

    async def _behave(self) -> None:
        """Apply all effects, by a restart with another configuration if necessary."""
        async with self._changing:
            wanted = replace(
                self.settings,
                refuses=bool(self._refusals),
                inspector=self._inspector if self._inspections else None,
                idle_seconds_max=min(self._idle_seconds_max, default=None),
            )
            silent = bool(self._silences)
            if (wanted, silent) == (self.settings, self._silent):
                return
            only_silent = silent and wanted == self.settings
            self.settings, self._silent = wanted, silent
            await (self._stop() if only_silent else self._restart())

    async def _stop(self) -> None:
        """Stop the program with SIGSTOP; the kernel keeps accepting connections for it."""
        assert self.process is not None
        _signal_all(family := _with_children(self.process.pid), signal.SIGSTOP)
        await self.process.ready(lambda: all(map(_is_stopped, family)))

    async def _restart(self) -> None:
        """Restart the program with the current configuration, and stop it again if it is to be silent."""
        if self.process is not None:
            _signal_all(_with_children(self.process.pid), signal.SIGKILL)
            await self.process.wait()
        if self._helper is None and (helper := self._kind.helper(self.settings)):
            self._helper = await self._start(*helper)
        self.process = await self._start(self._kind.configure(self.settings), self._kind.port)
        if self._silent:
            await self._stop()

    def _listens(self, port: int) -> bool:
        wanted = f":{port:04X}"
        with self._host.inside():
            lines = Path("/proc/thread-self/net/tcp").read_text().splitlines()
            lines += Path("/proc/thread-self/net/tcp6").read_text().splitlines()
        return any(
            line.split()[1].endswith(wanted) and line.split()[3] == "0A" for line in lines[1:] if ":" in line
        )


def _signal_all(pids: Iterable[int], number: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):  # a child has just ended
            os.kill(pid, number)


def _is_stopped(pid: int) -> bool:
    """Return whether a process is stopped or has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "TZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def _with_children(pid: int) -> list[int]:
    """Return the IDs of a process and all its descendants."""
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
