"""The name service of a kernel lab: its own /etc/hosts over the machine's, and a name server that does not answer.

Programs look into /etc/hosts at each connection, and ask the name server, in vain, for what is not there.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from sim.engine.layers import End, Layers, nothing_to_end
from sim.net.names import UNUSED_ADDRESS

SERVER: Final = "192.0.2.53"
"""Of TEST-NET-1 (RFC 5737): nobody has it."""


class SiteNames:
    """Gives the lab's machines their names for `addresses`, which it keeps."""

    def __init__(self, folder: Path, addresses: Mapping[str, str]) -> None:
        self.on_change: Callable[[], object] = nothing_to_end
        """Called when a name has got another address, or none."""
        self._hosts = folder / "hosts"
        self._addresses = dict(addresses)
        self._silences = Layers[None](self._write)
        self._lies = Layers[None](self._write)
        self._write()
        servers = folder / "resolv.conf"
        servers.write_text(f"nameserver {SERVER}\n")
        for file, over in ((self._hosts, "/etc/hosts"), (servers, "/etc/resolv.conf")):
            subprocess.run(["mount", "--bind", file, over], check=True)

    def move(self, name: str, address: str) -> None:
        """Give a name another address."""
        self._addresses[name] = address
        self._write()

    def stop_answering(self) -> End:
        """Answer nothing."""
        return self._silences.add(None)

    def answer_wrongly(self) -> End:
        """Answer with an address that nobody has."""
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
