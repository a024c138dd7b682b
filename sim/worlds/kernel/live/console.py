"""The requests that other processes can send to a running lab, through `sim.worlds.kernel.supervision.control`.

A request is `{"verb": …}` with the arguments of the verb, written as on the command line: a rate is "64kbit", a loss
"2%". A request is checked completely before anything is changed; an invalid one is answered with RequestRefused,
whose message says how to correct it.
"""

from __future__ import annotations

import asyncio
import socket
import tomllib
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec

from settings.problems import Problems
from settings.toml import format_value, nearest, read_table
from sim.faults import AnyFault, Fault, fault_kinds
from sim.lab.labfile import ScheduledFault, targets_of
from sim.values import BitsPerSecond, Fraction, Nanoseconds, duration, size
from sim.worlds.kernel.live.state import read_state
from sim.worlds.kernel.namespaces.link import KernelLink
from sim.worlds.kernel.supervision.control import Request, RequestRefused, SocketAnswer
from sim.worlds.kernel.world import KernelWorld
from sim.worlds.shared.refusals import FaultRefused

_CAPTURE_BUFFER_BYTES: Final = 8 << 20
_SO_SNDBUFFORCE: Final = 32


class Qualities(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The properties of a link that can be changed, named as in a lab file's [uplink]."""

    rate: BitsPerSecond | None = None
    delay: Nanoseconds | None = None
    jitter: Nanoseconds | None = None
    loss: Fraction | None = None
    queue: Annotated[int, size("3kB", "16MiB")] | None = None


_FIELDS: Final = {
    "rate": "rate_bits",
    "delay": "delay_ns",
    "jitter": "jitter_ns",
    "loss": "loss",
    "queue": "queue_bytes_max",
}
"""The corresponding fields of `sim.net.link.LinkQuality`."""


class _Lasts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    lasts: Annotated[int, duration("1ms", "30d")] | None = None


class _ArgumentProblems(Problems):
    """Problems in the arguments of a request, which have no file and no line."""

    def __init__(self) -> None:
        super().__init__(Path(), "")

    def refuse_if_any(self) -> None:
        """Raise RequestRefused with all problems, if there are any."""
        if self.found:
            raise RequestRefused("\n".join(f"{problem.key}: {problem.message}" for problem in self.found))


class Console:
    """The handler of requests to one world."""

    def __init__(self, world: KernelWorld) -> None:
        self._world = world
        self._running_tasks: set[asyncio.Task[Any]] = set()
        self._verbs: dict[str, Callable[..., Awaitable[object]]] = {
            "about": self._about,
            "far": self._far,
            "state": self._state,
            "link": self._link,
            "fault": self._fault,
            "end-fault": self._end_fault,
            "capture": self._capture,
            "finish": self._finish,
        }

    async def answer(self, request: Request) -> object:
        """Execute a request; returns the answer. Raises: RequestRefused."""
        arguments = dict(request)
        verb = arguments.pop("verb", "")
        if verb not in self._verbs:
            raise RequestRefused(
                f"there is no request {format_value(verb)}; {nearest(str(verb), list(self._verbs))}"
            )
        return await self._verbs[verb](**arguments)

    # -- state

    async def _about(self) -> dict[str, Any]:
        world = self._world
        return {
            "lab": world.namespaces.name,
            "file": str(world.lab.path),
            "seed": world.seed,
            "hosts": {name: host.addresses for name, host in world.namespaces.hosts.items()},
            "links": list(world.namespaces.links),
            "consoles": world.consoles,
        }

    async def _far(self) -> dict[str, int]:
        world = self._world
        return {"now_ns": world.env.now, "stored": world.datacenter.stored, "backlog": world.backlog}

    async def _state(self) -> Any:
        return msgspec.to_builtins(await read_state(self._world))

    # -- links

    def _line(self, name: str) -> KernelLink:
        links = self._world.namespaces.links
        if name not in links:
            raise RequestRefused(f"the lab has no link {format_value(name)}; {nearest(name, list(links))}")
        return links[name]

    async def _link(self, link: str, change: str, to: Mapping[str, str] | None = None) -> None:
        """Change a link: `change` is "down", "up", "restore", or "set" with the new properties `to`."""
        line = self._line(link)
        if change == "set":
            problems = _ArgumentProblems()
            properties = read_table(Qualities, dict(to or {}), (link,), problems)
            problems.refuse_if_any()
            assert properties is not None
            changes = {_FIELDS[k]: v for k, v in msgspec.structs.asdict(properties).items() if v is not None}
            line.set_quality(**changes)
        else:
            {"down": line.cut, "up": line.mend, "restore": line.restore}[change]()
        self._world.trace.add(f"link {link} {change} {to or ''}".rstrip())

    async def _capture(self, link: str) -> SocketAnswer:
        line = self._line(link)
        if line.captured:
            raise RequestRefused(f"{link} is already being captured; end that capture first")
        lab_end, client_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        lab_end.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _CAPTURE_BUFFER_BYTES)
        lab_end.setblocking(False)
        line.start_capture(lab_end.dup().detach())
        task = asyncio.get_running_loop().create_task(_until_hung_up(lab_end, line.stop_capture))
        self._keep(task)
        return SocketAnswer(client_end)

    # -- faults

    async def _fault(
        self, kind: str, target: str, parameters: Mapping[str, str], lasts: str | None = None
    ) -> None:
        event = self._event(kind, target, parameters, lasts)
        faults = self._world.faults
        try:
            active = await faults.inject(event)
        except FaultRefused as error:
            raise RequestRefused(str(error)) from None
        self._keep(asyncio.get_running_loop().create_task(faults.wait_for_end(active)))

    def _event(
        self, kind: str, target: str, parameters: Mapping[str, str], lasts: str | None
    ) -> ScheduledFault:
        """Return the event of a fault that starts now, from the arguments of a request."""
        world, problems = self._world, _ArgumentProblems()
        fault_kind = self._fault_kind(kind)
        targets = targets_of(fault_kind, world.lab.instruments, world.lab.uplink.proxy)
        if not targets:
            raise RequestRefused(f"{kind} needs a proxy, but this lab has none")
        if target not in targets:
            problems.add(("target",), f"{format_value(target)}: {nearest(target, targets)}")
        given = {name: _toml_value(text) for name, text in parameters.items()}
        fault = read_table(fault_kind, given, (kind,), problems)
        duration_table = read_table(_Lasts, {} if lasts is None else {"lasts": lasts}, (), problems)
        problems.refuse_if_any()
        if why := world.why_no_fault(fault_kind, target):
            raise RequestRefused(f"{kind} {why}")
        assert isinstance(fault, Fault) and duration_table is not None
        return ScheduledFault(world.env.now, fault, target, duration_table.lasts)

    def _fault_kind(self, kind: str) -> type[AnyFault]:
        why_not = self._world.why_no_fault
        kinds = {name: fault for name, fault in fault_kinds().items() if not why_not(fault, "")}
        if kind in kinds:
            return kinds[kind]
        if kind in fault_kinds():
            raise RequestRefused(f"{kind} {why_not(fault_kinds()[kind], '')}")
        raise RequestRefused(f"there is no fault {format_value(kind)}; {nearest(kind, list(kinds))}")

    async def _end_fault(self, kind: str, target: str) -> None:
        """End the fault of that kind and target that started last."""
        faults = self._world.faults
        for active in reversed(faults.active):
            if (active.event.fault.kind, active.event.target) == (kind, target):
                await faults.end(active)
                return
        events = (active.event for active in faults.active)
        active_faults = ", ".join(f"{event.fault.kind} {event.target}" for event in events) or "none"
        raise RequestRefused(f"{target} has no {kind} now; active: {active_faults}")

    def _keep(self, task: asyncio.Task[Any]) -> None:
        """Keep a reference to a task, which the event loop does not."""
        self._running_tasks.add(task)
        task.add_done_callback(self._running_tasks.discard)

    # -- the end

    async def _finish(self) -> Any:
        """End and evaluate the lab; it does not continue afterwards."""
        if self._world.finished:
            raise RequestRefused(
                "the lab has already been evaluated and does not continue; end it with `rap lab down`"
            )
        return msgspec.to_builtins(self._world.finish())


def _toml_value(text: str) -> object:
    """Parse a parameter as a TOML value; text that is not valid TOML, such as 2%, is a string."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


async def _until_hung_up(connection: socket.socket, stop: Callable[[], None]) -> None:
    with connection, suppress(ConnectionResetError):  # the receiver closed with unread data
        await asyncio.get_running_loop().sock_recv(connection, 1)
    stop()
