"""A lab in the supervisor's process: its hosts, and the links between them."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from pathlib import Path

from sim.engine.stalls import Stalled
from sim.engine.streams import stream
from sim.net.link import LinkQuality
from sim.worlds.kernel.namespaces import files, syscalls
from sim.worlds.kernel.namespaces.cable import NearEnd
from sim.worlds.kernel.namespaces.disk import LoopDisk
from sim.worlds.kernel.namespaces.host import NamespaceHost
from sim.worlds.kernel.namespaces.link import KernelLink
from sim.worlds.kernel.namespaces.netlink import Netlink
from sim.worlds.kernel.namespaces.relay import Relay
from sim.worlds.kernel.supervision.control import RequestRefused, SupervisorControl
from sim.worlds.kernel.supervision.deadline import TimeLimit


class KernelLab:
    """The hosts and links of one lab, created by `sim.worlds.kernel.supervision.supervisor` and passed to `main`."""

    def __init__(
        self,
        name: str,
        listener: socket.socket,
        is_up: Callable[[], None],
        expired: Callable[[Stalled], object],
    ) -> None:
        self.name = name
        self.seed = 0
        """The seed of the links' random streams; to be set before the first link is created."""
        self.hosts: dict[str, NamespaceHost] = {}
        self.links: dict[str, KernelLink] = {}
        self._near_ends: dict[str, type[NearEnd]] = {}
        self.folder: Path = files.FOLDER
        """A folder on a tmpfs, which is removed with the lab."""
        self.is_up = is_up
        """Signal that the lab is up, to the process that started it and waits."""
        self.deadline = TimeLimit(expired)
        """The time limit of the lab's current phase."""
        for switch in ("all", "default"):  # so that the near ends of links send no IPv6 packets
            (Path("/proc/sys/net/ipv6/conf") / switch / "disable_ipv6").write_text("1")
        self._network = syscalls.namespace("net")
        self._netlink = Netlink(self._network)
        self._relay = Relay()
        self.control = SupervisorControl(listener, self._namespaces)
        """Answers the requests of other processes; its `handler` is to be set."""

    def host(
        self, name: str, kind: type[NamespaceHost] = NamespaceHost, near_end: type[NearEnd] = NearEnd
    ) -> NamespaceHost:
        """Create a host, whose links end in a `near_end`. Raises: ValueError if there is one with that name."""
        if name in self.hosts:
            raise ValueError(f"the lab has a host {name!r} already")
        self.hosts[name] = kind(name)
        self._near_ends[name] = near_end
        return self.hosts[name]

    def link(
        self,
        name: str,
        first: tuple[NamespaceHost, str],
        second: tuple[NamespaceHost, str],
        quality: LinkQuality,
    ) -> KernelLink:
        """Create a link between two hosts, given as (host, interface); the interfaces are created and set up.

        Raises: ValueError if there is a link with that name, or for an invalid interface name.
        """
        if name in self.links:
            raise ValueError(f"the lab has a link {name!r} already")
        stem = name.replace(":", "")
        near, far = (
            self._near_ends[host.name](self._netlink, self._network, f"{stem}-{end}", host, interface)
            for end, (host, interface) in (("a", first), ("b", second))
        )
        random = stream(self.seed, f"link {name}")
        self.links[name] = KernelLink(name, (near, far), quality, random, self._relay)
        return self.links[name]

    def disk(self, name: str, size: int) -> LoopDisk:
        """Create an empty ext4 disk of `size` bytes, in memory."""
        return LoopDisk(name, size)

    def _namespaces(self, host: str) -> Mapping[str, int]:
        if host not in self.hosts:
            raise RequestRefused(f"the lab has no host {host!r}; it has {', '.join(self.hosts)}")
        return self.hosts[host].namespaces
