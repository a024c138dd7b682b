"""The site file with which a lab's box is flashed."""

from __future__ import annotations

from pathlib import Path
from random import Random

from agents.provision.main import files_of
from imaging.kickstart.site import for_box
from sim.lab.labfile import load_lab
from sim.worlds.image.site import site_of
from sim.worlds.shared.site.session_keys import SessionKeys
from tests.support.paths import ROOT
from wire.pki.signature import load_public_keys
from wire.session.cose import key_set

LAB = ROOT / "labs/minutes/15-remote-sessions.toml"


def test_a_box_with_sessions_trusts_the_data_center_and_signs_with_the_key_of_its_certificate(
    tmp_path: Path,
) -> None:
    keys = SessionKeys.make(tmp_path / "keys", signs_with_certificate=True)
    site = site_of(load_lab(LAB), lambda _: Random(1), keys)
    files = files_of(for_box(site), tmp_path / "site.toml")
    (offers := tmp_path / "offers.pem").write_text(files["etc/rap/session-offers.pem"])
    assert key_set(*load_public_keys(offers)) == keys.datacenter_keys
    box = files["etc/rap/box.toml"]
    assert 'endpoint = "198.51.100.4:443"' in box
    assert 'address = "10.77.2.10"' in box
    assert "\nkey = " not in box.partition("[sessions]")[2].partition("\n[")[0]
    assert not keys.box_keys
    assert not keys.box_key.exists()
    assert (
        "[sessions]"
        not in files_of(for_box(site_of(load_lab(LAB), lambda _: Random(1))), tmp_path / "s")[
            "etc/rap/box.toml"
        ]
    )
