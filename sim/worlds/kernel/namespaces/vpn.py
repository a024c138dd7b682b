"""Both ends of a lab's IPsec VPN: strongSwan, whose libipsec works without ESP in the kernel.

A box has libreswan, which needs the kernel's ESP; a kernel without it, such as those of most containers, can run only
this. Both speak IKEv2, use the same algorithms, and have an interface for the packets inside the VPN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Interface
from pathlib import Path
from typing import Final

from sim.lab.labfile import Lab
from sim.worlds.kernel.namespaces import files
from sim.worlds.shared.site.addresses import DATACENTER, PREFIX_BITS, PROXY, ROUTER

INTERFACE: Final = "ipsec0"
"""The name that libipsec gives to its TUN device."""
PROGRAMS: Final = {"swanctl": "strongswan-swanctl strongswan-charon libcharon-extra-plugins"}
"""Programs that a lab with a VPN needs, with their Debian packages."""
_CHARON: Final = "/usr/lib/ipsec/charon"
_PLUGINS: Final = (
    "random nonce openssl pem pubkey hmac kdf kernel-libipsec kernel-netlink socket-default vici updown"
)
_MARK: Final = "0x42"
"""Marks the packets of the VPN itself, which must not be routed into it."""
_SHARED: Final = "known-to-both-ends-of-this-lab"
"""The pre-shared key."""


@dataclass(frozen=True)
class VpnEnd:
    """One end; networks are those behind it, or "dynamic" for its own address."""

    name: str
    networks: str
    peer: str
    """The other end's address, or "%any"."""
    peer_name: str
    peer_networks: str
    begins: bool

    def command(self, folder: Path) -> Sequence[str]:
        """Return the command that runs this end, whose configuration is written into `folder`."""
        folder.mkdir(exist_ok=True)
        (folder / "strongswan.conf").write_text(self._daemon(folder))
        (folder / "swanctl.conf").write_text(self._connection())
        (folder / "swanctl.conf").chmod(0o600)
        # the daemon needs a separate /run, which the hosts of a lab share
        script = (
            f"mount --bind {files.FOLDER} /mnt && mount -t tmpfs run /run && mkdir {files.FOLDER} && "
            f"mount --move /mnt {files.FOLDER} && exec env STRONGSWAN_CONF={folder}/strongswan.conf {_CHARON}"
        )
        return ["unshare", "--mount", "sh", "-c", script]

    def _daemon(self, folder: Path) -> str:
        socket = "unix:///run/charon.vici"
        load = f"/usr/sbin/swanctl --load-all --noprompt --file {folder}/swanctl.conf --uri {socket}"
        return f"""\
charon {{
    load = {_PLUGINS}
    retransmit_tries = 3
    filelog {{
        stderr {{
            default = 1
        }}
    }}
    plugins {{
        vici {{
            socket = {socket}
        }}
        kernel-libipsec {{
            allow_peer_ts = yes
        }}
        kernel-netlink {{
            fwmark = !{_MARK}
        }}
        socket-default {{
            fwmark = {_MARK}
        }}
    }}
    start-scripts {{
        load = {load}
    }}
}}
"""

    def _connection(self) -> str:
        start = "start" if self.begins else "none"
        restart = "restart" if self.begins else "clear"
        return f"""\
connections {{
    lab {{
        version = 2
        remote_addrs = {self.peer}
        proposals = aes256gcm16-prfsha384-ecp384
        dpd_delay = 5s
        keyingtries = 0
        unique = replace
        local {{
            auth = psk
            id = {self.name}
        }}
        remote {{
            auth = psk
            id = {self.peer_name}
        }}
        children {{
            lab {{
                local_ts = {self.networks}
                remote_ts = {self.peer_networks}
                esp_proposals = aes256gcm16-ecp384
                start_action = {start}
                dpd_action = {restart}
                close_action = {start}
            }}
        }}
    }}
}}
secrets {{
    ike {{
        secret = "{_SHARED}"
    }}
}}
"""


def vpn_ends(lab: Lab) -> tuple[VpnEnd, VpnEnd]:
    """Return the box's end and the router's, behind which the box's destinations are.

    libipsec accepts only networks in which the host has an address.
    """
    address = PROXY if lab.uplink.proxy else DATACENTER
    networks = str(IPv4Interface(f"{address}/{PREFIX_BITS}").network)
    return (
        VpnEnd("box", "dynamic", ROUTER, "gateway", networks, begins=True),
        VpnEnd("gateway", networks, "%any", "box", "dynamic", begins=False),
    )
