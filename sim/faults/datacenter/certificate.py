"""Untrusted data center certificates."""

from __future__ import annotations

from sim.faults import End, Fault, fault
from sim.faults.world import World


@fault("datacenter-certificate-expired", targets=("datacenter",))
class DatacenterCertificateExpired(Fault[World], frozen=True):
    """The data center presents an expired certificate; open connections are closed."""

    async def start(self, world: World, target: str) -> End:
        return await world.datacenter.present("expired")


@fault("datacenter-certificate-wrong", targets=("datacenter",))
class DatacenterCertificateWrong(Fault[World], frozen=True):
    """The data center presents a certificate of an untrusted CA; open connections are closed."""

    async def start(self, world: World, target: str) -> End:
        return await world.datacenter.present("wrong")
