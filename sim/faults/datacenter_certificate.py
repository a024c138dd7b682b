"""Certificates that must not be believed."""

from __future__ import annotations

from sim.faults import End, Fault, fault
from sim.faults.world import World


@fault("datacenter-certificate-expired", targets=("datacenter",))
class DatacenterCertificateExpired(Fault, frozen=True):
    """The data center presents a certificate that has expired; connections that are open are ended."""

    async def start(self, world: World, target: str) -> End:
        return await world.datacenter.present("expired")


@fault("datacenter-certificate-wrong", targets=("datacenter",))
class DatacenterCertificateWrong(Fault, frozen=True):
    """Somebody with a certificate of another authority answers in the data center's place."""

    async def start(self, world: World, target: str) -> End:
        return await world.datacenter.present("wrong")
