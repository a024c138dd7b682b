"""The kernel world: labs of network namespaces, which the kernel removes completely when they end.

    supervisor (pid 1 of the lab)
      ├── hosts: a network, mount and UTS namespace each      ── `host.spawn`, `host.inside`
      ├── links: carry frames between two hosts               ── `link.cut`, `link.set_quality`, …
      └── /run, /tmp, /var/tmp, /dev/shm: a tmpfs each; everything else is read-only

Everything that a lab creates belongs to a namespace, a process or an open file of the lab. The kernel removes it when
the supervisor ends, even by SIGKILL, at any time. Nothing is registered in files, so nothing has to be cleaned up.

    async def main(lab: KernelLab) -> int:
        box, far = lab.host("box"), lab.host("far")
        lab.link("uplink", (box, "enp1s0"), (far, "eth0"), LinkQuality(rate_bits=128_000, delay_ns=40_000_000))
        box.address("enp1s0", "10.0.0.1/24")
        far.address("eth0", "10.0.0.2/24")
        return await box.spawn(["ping", "-c1", "10.0.0.2"]).wait()

    assert supervisor.run("example", main) == 0
"""

from sim.worlds.kernel.namespaces.host import NamespaceHost
from sim.worlds.kernel.namespaces.link import KernelLink
from sim.worlds.kernel.namespaces.missing import missing
from sim.worlds.kernel.namespaces.process import LabProcess
from sim.worlds.kernel.supervision.answer import LabEnded
from sim.worlds.kernel.supervision.control import RequestRefused, ask, call_in_host
from sim.worlds.kernel.supervision.lab import KernelLab
from sim.worlds.kernel.supervision.registry import LabExists, NoSuchLab, running
from sim.worlds.kernel.supervision.supervisor import down, up

__all__ = [
    "KernelLab",
    "KernelLink",
    "LabEnded",
    "LabExists",
    "LabProcess",
    "NamespaceHost",
    "NoSuchLab",
    "RequestRefused",
    "ask",
    "call_in_host",
    "down",
    "missing",
    "running",
    "up",
]
