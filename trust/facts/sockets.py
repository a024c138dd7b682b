"""The sockets that accept packets from other machines: from the kernel, or derived from the configuration."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

from trust.fact import Fact, fact, names
from trust.machine import ExaminedBox
from trust.policy_evidence import policy_of

ENABLED = "/etc/systemd/system/*.wants/*"


def facts(machine: ExaminedBox) -> Iterator[Fact]:
    """Yield the listening sockets, such as "tcp 10.77.1.1:443", without those of loopback addresses."""
    kernel = machine.command("ss", "-H", "-l", "-n", "-t", "-u")
    if kernel is not None:
        yield fact("sockets.listening", sorted(set(_of_kernel(kernel.text))), kernel)
        return
    policy_evidence = policy_of(machine)
    if policy_evidence is None:
        return
    policy, evidence = policy_evidence
    enabled = machine.paths(ENABLED)
    sockets = {
        f"{service.protocol} {own.ip}:{service.port}"
        for port in policy.ports
        for service in port.services
        for own in port.addresses
    }
    if any(path.endswith("/sshd.service") for path in names(enabled)):
        sockets |= {"tcp 0.0.0.0:22", "tcp [::]:22"}
    if policy.vpn:
        sockets |= {f"udp 0.0.0.0:{port}" for port in (500, 4500)}
    yield fact("sockets.listening", sorted(sockets), *evidence, enabled)


def _of_kernel(text: str) -> Iterator[str]:
    for line in text.splitlines():
        protocol, _state, _received, _sent, local, *_ = line.split()
        address, _, port = local.rpartition(":")
        bare = address.strip("[]").partition("%")[0]
        if bare == "*":
            yield f"{protocol} 0.0.0.0:{port}"
            yield f"{protocol} [::]:{port}"
        elif not ip_address(bare).is_loopback:
            yield f"{protocol} {address}:{port}"
