"""A box provisioned for the site of a lab has the same configuration as the lab's box."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from agents.box.configuration.config import load_config
from agents.provision.box import box_file, firewall_file
from netfw.policy.policyfile import load_policy
from settings.site import AuditServer, EnrolledInstrument, SiteForBox, UplinkAddress, parse_site
from settings.toml import dumps
from settings.types import Endpoint, Proxy
from sim.engine.streams import stream
from sim.lab.labfile import Lab, lab_paths, load_lab
from sim.proxies.kind import proxy_kind
from sim.worlds.shared.site.addresses import (
    BOX,
    DATACENTER,
    DATACENTER_NAME,
    PREFIX_BITS,
    PROXY,
    ROUTER,
)
from sim.worlds.shared.site.policy import lab_policy
from sim.worlds.shared.site.standards import served_port
from tests.support.paths import LABS

PASSWORD = 'p"ä:ss\\word'


def site_of_lab(lab: Lab) -> SiteForBox:
    spec, proxy = lab.uplink.proxy, None
    user, password = ("", "") if spec is None or spec.auth == "none" else ("rap-box", PASSWORD)
    if spec is not None:
        proxy = Proxy(spec.kind, "proxy.clinic.example", proxy_kind(spec.kind).port, user, password)
    return SiteForBox(
        board=lab.board.name,
        datacenter=Endpoint(DATACENTER_NAME),
        time_servers=["192.0.2.123"],
        audit=AuditServer(host="192.0.2.65"),
        uplink=UplinkAddress(address=f"{BOX}/{PREFIX_BITS}", gateway=ROUTER),
        proxy=proxy,
        instrument=[
            EnrolledInstrument(spec.port, instrument.serial, instrument.model, instrument.adapted)
            for spec in lab.instruments
            for instrument in served_port(lab, spec, partial(stream, 1)).instrument
        ],
        addresses={DATACENTER_NAME: [DATACENTER], "proxy.clinic.example": [PROXY]},
    )


@pytest.mark.parametrize("path", lab_paths(LABS), ids=lambda path: path.stem)
def test_a_box_is_provisioned_for_the_site_of_each_lab(tmp_path: Path, path: Path) -> None:
    lab = load_lab(path)
    wanted = site_of_lab(lab)
    site, board = parse_site(dumps(wanted), tmp_path / "site.toml")
    (tmp_path / "box.toml").write_text(box_file(site, board))
    (tmp_path / "firewall.toml").write_text(firewall_file(site, board))
    config = load_config(tmp_path / "box.toml")
    assert config.enrolled() == {spec.serial: spec.port for spec in lab.instruments}
    assert config.proxy == wanted.proxy
    assert config.datacenter.host == DATACENTER_NAME
    policy, own = load_policy(tmp_path / "firewall.toml"), lab_policy(lab)
    for port in own.ports:
        provisioned = policy.port(port.number)
        assert provisioned is not None
        assert (provisioned.interface, provisioned.addresses, provisioned.services) == (
            port.interface,
            port.addresses,
            port.services,
        )
    [uplink_target] = own.authorized
    [provisioned_target] = [entry for entry in policy.authorized if entry.role == uplink_target.role]
    assert provisioned_target.services == uplink_target.services
    assert set(provisioned_target.networks) <= set(uplink_target.networks)
