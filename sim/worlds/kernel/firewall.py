"""The firewall of a kernel lab's box: the firewall service as shipped, with the lab's policy in a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from netfw.errors import FirewallError
from netfw.service.requests import Checked, CountRequest, FirewallProcess
from netfw.service.spawn import command
from sim.lab.labfile import Lab
from sim.worlds.kernel.namespaces import vpn
from sim.worlds.kernel.namespaces.host import NamespaceHost
from sim.worlds.shared.site.policy import lab_policy, policy_file, with_vpn


class KernelFirewall:
    """Policy file and command line of the firewall service, and the packet counters of the box's kernel."""

    def __init__(self, host: NamespaceHost, folder: Path, lab: Lab) -> None:
        """Write the policy of the lab's box into `folder`."""
        self._host = host
        self.socket = folder / "firewall.sock"
        self.policy = folder / "firewall.toml"
        policy = with_vpn(lab_policy(lab), vpn.INTERFACE) if lab.uplink.vpn else lab_policy(lab)
        self.policy.write_text(policy_file(lab.box.board, policy))

    def command(self) -> Sequence[str]:
        """Return the command that runs the service, which enforces the policy and retries every second after a
        failure.
        """
        return command("serve", "--policy", str(self.policy), "--socket", str(self.socket), "--retry", "1")

    def refused(self) -> Mapping[str, int]:
        """Return the packets that the firewall refused, by cause; empty if the policy was never enforced."""
        with self._host.inside(), suppress(FirewallError), FirewallProcess() as service:
            counts = service.ask(CountRequest())
            assert isinstance(counts, Checked)
            return {cause: packets for cause, (packets, _) in counts.refused.items()}
        return {}
