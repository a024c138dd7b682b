"""The site of a lab in the image world: the kernel world's network with a guest as the box, and its site file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Final

from agents.box.configuration.config import PortInstrument
from imaging.kickstart import site as sitefile
from settings.profile import load_profile
from settings.site import EnrolledInstrument, Enrolment, SiteSessions, UplinkAddress
from settings.types import Endpoint
from sim.lab.labfile import Lab
from sim.worlds.image.machine.guest import GuestEnd, GuestHost
from sim.worlds.kernel.namespaces.host import NamespaceHost
from sim.worlds.kernel.site import KernelSite
from sim.worlds.shared.site.addresses import (
    BOX,
    BOX_NAME,
    DATACENTER,
    DATACENTER_NAME,
    DATACENTER_PORT,
    DATACENTER_TUNNEL,
    INSTRUMENTS,
    PREFIX_BITS,
    PROXY,
    PROXY_NAME,
    ROUTER,
)
from sim.worlds.shared.site.box import reporting
from sim.worlds.shared.site.proxy import client_settings
from sim.worlds.shared.site.session_keys import SessionKeys
from sim.worlds.shared.site.standards import served_port

_NO_FILE: Final = Path("none")
"""The value of keys of a site file that only an installer uses."""
_NO_KEY: Final = "ecdsa-sha2-nistp256 AAAA lab"


class ImageSite(KernelSite):
    """Hosts and links of a lab whose box is a guest."""

    box: GuestHost

    def _box_host(self) -> NamespaceHost:
        return self._without_ipv6(self._namespaces.host("box", GuestHost, GuestEnd))

    def close_ports(self) -> None:
        """Do nothing: the ports of a machine without power are closed."""


def site_of(
    lab: Lab, random: Callable[[str], Random], session_keys: SessionKeys | None = None
) -> sitefile.Site:
    """Return the site file of the lab's box; keys that only an installer uses have placeholders as values.

    With `session_keys` it permits remote sessions.
    """
    served = [
        EnrolledInstrument(spec.port, one.serial, one.model, one.adapted, _desktop_address(one))
        for spec in lab.instruments
        for one in served_port(lab, spec, random).instrument
    ]
    proxy = client_settings(lab)
    addresses = {DATACENTER_NAME: [DATACENTER], ROUTER_NAME: [ROUTER]}
    return sitefile.Site(
        board=lab.box.board,
        hostname=BOX_NAME,
        timezone="Etc/UTC",
        time_servers=[ROUTER_NAME],
        audit=sitefile.KickstartAuditServer(host=ROUTER_NAME, authority=_NO_FILE),
        uplink=UplinkAddress(address=f"{BOX}/{PREFIX_BITS}", gateway=ROUTER),
        instrument_network=INSTRUMENTS,
        datacenter=Endpoint(DATACENTER_NAME),
        proxy=proxy,
        instrument=served,
        reporting=reporting(lab),
        enrolment=Enrolment() if lab.box.enrolment != "none" else None,
        sessions=_sessions(session_keys) if session_keys else None,
        fips=lab.box.fips,
        addresses=addresses | ({PROXY_NAME: [PROXY]} if proxy else {}),
        administrator=[sitefile.Administrator("nobody", [_NO_KEY])],
        boot=sitefile.Boot(_NO_FILE),
    )


def _desktop_address(instrument: PortInstrument) -> str:
    """Return the address of an instrument whose desktop can be shared; empty for others, which need none."""
    return instrument.address if load_profile(instrument.model).desktop_port else ""


def _sessions(keys: SessionKeys) -> SiteSessions:
    return SiteSessions(f"{DATACENTER_TUNNEL}:{DATACENTER_PORT}", [keys.offer_text], ["code"])


ROUTER_NAME: Final = "router"
"""The site file's time server and audit server. It provides neither service: the box must work without them."""
