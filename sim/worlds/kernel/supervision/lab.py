"""A lab as its supervisor sees it: hosts, and links between them."""

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
from sim.worlds.kernel.supervision.control import Control, RequestRefused
from sim.worlds.kernel.supervision.deadline import Deadline


class KernelLab:
    """The hosts and links of one lab. `sim.worlds.kernel.supervision.supervisor` makes it, and gives it to `main`."""

    def __init__(
        self,
        name: str,
        listener: socket.socket,
        is_up: Callable[[], None],
        expired: Callable[[Stalled], object],
    ) -> None:
        self.name = name
        self.seed = 0
        """Of the links' random streams; to be set before the first link is made."""
        self.hosts: dict[str, NamespaceHost] = {}
        self.links: dict[str, KernelLink] = {}
        self._near_ends: dict[str, type[NearEnd]] = {}
        self.folder: Path = files.FOLDER
        """In memory, and gone with the lab."""
        self.is_up = is_up
        """To be called once the lab is up, if it is to stay: whoever started it is waiting."""
        self.deadline = Deadline(expired)
        """The time that the lab has for what it is doing."""
        for switch in ("all", "default"):  # the near ends of links have nothing of their own to say
            (Path("/proc/sys/net/ipv6/conf") / switch / "disable_ipv6").write_text("1")
        self._network = syscalls.namespace("net")
        self._netlink = Netlink(self._network)
        self._relay = Relay()
        self.control = Control(listener, self._namespaces)
        """Answers other processes' requests; set its `handler`."""

    def host(self, name: str) -> NamespaceHost:
        """Make a host. Raises ValueError if there is one of that name."""
        return self.add_host(NamespaceHost(name))

    def add_host(self, host: NamespaceHost, near_end: type[NearEnd] = NearEnd) -> NamespaceHost:
        """Add a host whose links end in `near_end`. Raises ValueError if there is one of that name."""
        if host.name in self.hosts:
            raise ValueError(f"the lab has a host {host.name!r} already")
        self.hosts[host.name] = host
        self._near_ends[host.name] = near_end
        return host

    def link(
        self,
        name: str,
        one: tuple[NamespaceHost, str],
        other: tuple[NamespaceHost, str],
        quality: LinkQuality,
    ) -> KernelLink:
        """Join two hosts, each by an interface of the name given, which this makes and sets up.

        Raises ValueError if there is a link of that name, or for a name that is too long for the kernel.
        """
        if name in self.links:
            raise ValueError(f"the lab has a link {name!r} already")
        stem = name.replace(":", "")
        near, far = (
            self._near_ends[host.name](self._netlink, self._network, f"{stem}-{end}", host, interface)
            for end, (host, interface) in (("a", one), ("b", other))
        )
        random = stream(self.seed, f"link {name}")
        self.links[name] = KernelLink(name, (near, far), quality, random, self._relay)
        return self.links[name]

    def disk(self, name: str, size: int) -> LoopDisk:
        """An empty ext4 disk of `size` bytes, in memory."""
        return LoopDisk(name, size)

    def _namespaces(self, host: str) -> Mapping[str, int]:
        if host not in self.hosts:
            raise RequestRefused(f"the lab has no host {host!r}; it has {', '.join(self.hosts)}")
        return self.hosts[host].namespaces
