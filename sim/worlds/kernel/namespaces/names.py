"""The name service in the kernel world: a bind-mounted /etc/hosts, and a name server that does not answer.

Programs read /etc/hosts at each connection; for names that are not in it, they query the name server without success.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from sim.engine.layers import End, Layers, nothing_to_end
from sim.net.names import UNUSED_ADDRESS

SERVER: Final = "192.0.2.53"
"""An unused address of TEST-NET-1 (RFC 5737)."""


class SiteNames:
    """The names of the lab's hosts; `addresses` maps names to IP addresses."""

    def __init__(self, folder: Path, addresses: Mapping[str, str]) -> None:
        self.on_change: Callable[[], object] = nothing_to_end
        """Called when the address of a name has changed, or names are no longer resolved."""
        self._hosts = folder / "hosts"
        self._addresses = dict(addresses)
        self._silences = Layers[None](self._write)
        self._lies = Layers[None](self._write)
        self._write()
        servers = folder / "resolv.conf"
        servers.write_text(f"nameserver {SERVER}\n")
        for file, target in ((self._hosts, "/etc/hosts"), (servers, "/etc/resolv.conf")):
            subprocess.run(["mount", "--bind", file, target], check=True)

    def move(self, name: str, address: str) -> None:
        """Change the address of a name."""
        self._addresses[name] = address
        self._write()

    def stop_answering(self) -> End:
        """Answer no query."""
        return self._silences.add(None)

    def answer_wrongly(self) -> End:
        """Answer every query with UNUSED_ADDRESS."""
        return self._lies.add(None)

    def _write(self) -> None:
        lines = ["127.0.0.1 localhost"]
        if not self._silences:
            lines += [
                f"{UNUSED_ADDRESS if self._lies else address} {name}"
                for name, address in self._addresses.items()
            ]
        self._hosts.write_text("\n".join(lines) + "\n")
        self.on_change()
