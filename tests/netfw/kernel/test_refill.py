"""Sets filled with netlink messages have the same elements as sets filled by libnftables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from netfw.errors import FirewallError, FirewallErrorKind
from netfw.kernel.firewall import Firewall
from netfw.kernel.netlink import netfilter_socket
from netfw.kernel.nft import Nft
from netfw.kernel.refill import ELEMENTS_MAX, REFILLED, refill_messages, send
from netfw.policy.policy import Authorized, Service
from netfw.policy.policyfile import load_policy
from netfw.ruleset.sets import AUTHORIZED, HASH_SIZE_MIN, Set
from tests.support.namespaces import Namespace, namespace
from tests.support.netfw.boxlab import POLICIES

pytestmark = pytest.mark.kernel

FIRST = {4: "50.0.0.1", 6: "2001:db8:50::1"}
HOSTS = tuple(
    ip_network(int(ip_address(first)) + 3 * n) for first in FIRST.values() for n in range(ELEMENTS_MAX + 1)
)
ENTRY = Authorized("proxy", HOSTS, (Service("udp", 53), Service("tcp", 65535)))
POLICY = replace(load_policy(POLICIES / "clinic.toml"), authorized=(ENTRY,))


@pytest.fixture
def firewalled() -> Iterator[tuple[Namespace, Firewall]]:
    """The policy in force, with more addresses of each IP version than fit into a message."""
    with namespace() as here:
        nft = here.run(Nft)
        firewall = Firewall(nft)
        firewall.apply(POLICY)
        yield here, firewall
        nft.close()


def test_a_refilled_set_has_exactly_its_elements(firewalled: tuple[Namespace, Firewall]) -> None:
    here, firewall = firewalled
    here.command("nft", "flush set inet rap authorized4; flush set inet rap authorized6")
    here.command("nft", "add element inet rap authorized4 { 198.51.100.66 . tcp . 22 }")
    assert firewall.differences(POLICY)
    with here.run(netfilter_socket) as sock:
        for _ in range(2):  # the second time no element is missing
            firewall.refill(POLICY, REFILLED, sock)
            assert firewall.differences(POLICY) == []


def test_changed_elements_of_a_large_set_are_reported_without_a_listing(
    firewalled: tuple[Namespace, Firewall], monkeypatch: pytest.MonkeyPatch
) -> None:
    def outline(**_: object) -> None:
        pytest.fail("the ruleset was listed")

    here, firewall = firewalled
    assert firewall.differences(POLICY) == []
    here.command("nft", "flush set inet rap authorized4")
    monkeypatch.setattr(firewall.nft, "outline", outline)
    assert firewall.differences(POLICY) == ["set authorized4 was changed"]


def test_if_one_set_is_refused_no_other_is_changed(firewalled: tuple[Namespace, Firewall]) -> None:
    here, firewall = firewalled
    here.command("nft", "flush chain inet rap output; delete set inet rap authorized6")
    before = firewall.nft.elements(AUTHORIZED[4])
    kind = ["ipv4_addr", "inet_proto", "inet_service"]
    with here.run(netfilter_socket) as sock:
        with pytest.raises(FirewallError, match="No such file") as refused:
            firewall.refill(POLICY, REFILLED, sock)
        assert refused.value.kind is FirewallErrorKind.REFUSED
        assert firewall.nft.elements(AUTHORIZED[4]) == before
        send(sock, refill_messages(Set(AUTHORIZED[4], kind, ())))  # no message of the refusal remains unread
    assert firewall.nft.elements(AUTHORIZED[4]) == []


@pytest.mark.parametrize(
    "hosts", [HASH_SIZE_MIN - 1, HASH_SIZE_MIN, 2 * HASH_SIZE_MIN - 1, 2 * HASH_SIZE_MIN]
)
def test_a_full_set_is_replaced_in_one_transaction(
    firewalled: tuple[Namespace, Firewall], hosts: int
) -> None:
    """The table in force has sets of another size; sizes are powers of two."""
    here, firewall = firewalled
    policy = replace(
        POLICY, authorized=(replace(ENTRY, networks=_hosts(hosts), services=ENTRY.services[:1]),)
    )
    firewall.apply(policy)
    assert firewall.differences(policy) == []
    other = replace(policy, authorized=(replace(policy.authorized[0], networks=_hosts(hosts, offset=1)),))
    with here.run(netfilter_socket) as sock:  # all elements are replaced by as many others in one transaction
        firewall.refill(other, {AUTHORIZED[4]}, sock)
    assert len(firewall.nft.elements(AUTHORIZED[4])) == hosts


def _hosts(count: int, offset: int = 0) -> tuple[Any, ...]:
    first = int(ip_address(FIRST[4])) + offset
    return tuple(ip_network(first + 3 * n) for n in range(count))
