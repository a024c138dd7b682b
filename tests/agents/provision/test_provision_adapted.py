"""Sites with instruments that speak their own standard: the box and its firewall are configured for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.box.config import load_config
from agents.provision.box import box_file, firewall_file
from netfw.policy.policyfile import load_policy
from settings.problems import SettingsError
from settings.site import parse_site

SITE = """
board = "rap-4"
time_servers = ["192.0.2.123"]
datacenter = { host = "ingest.example.com" }
audit = { host = "192.0.2.65" }

[addresses]
"ingest.example.com" = ["203.0.113.5"]

[[instrument]]
port = 1
serial = "CHEM-0001"
model = "chemistry-analyzer"

[[instrument]]
port = 2
serial = "MODU-0002"
model = "modular-analyzer"
[instrument.adapted]
timezone = "Europe/Berlin"
tests = { TSH3 = "tsh" }
alarms = { P-CLOT = { code = "P0201", component = "pipettor", severity = "error" } }
[instrument.adapted.controls.NORM2]
level = 2
glu = ["5.00", "0.08"]

[[instrument]]
port = 3
serial = "ELEC-0003"
model = "electrolyte-analyzer"
[instrument.adapted]
serial = { port = 1 }
"""


def test_box_and_firewall_serve_each_instrument_by_its_standard(tmp_path: Path) -> None:
    site, board = parse_site(SITE, tmp_path / "site.toml")
    (tmp_path / "box.toml").write_text(box_file(site, board))
    (tmp_path / "firewall.toml").write_text(firewall_file(site, board))
    config, policy = load_config(tmp_path / "box.toml"), load_policy(tmp_path / "firewall.toml")
    assert config.adapted() == {"MODU-0002", "ELEC-0003"}
    assert [port.instrument[0].adapted for port in config.port[1:3]] == [
        instrument.adapted for instrument in site.instrument[1:]
    ]
    services = [list(map(str, port.services)) for port in policy.ports]
    assert services == [["tcp/443"], ["tcp/2575"], [], ["tcp/443"]]


@pytest.mark.parametrize(
    ("right", "wrong", "told"),
    [
        ('"modular-analyzer"', '"modular-analyser"', "did you mean modular-analyzer?"),
        ('"modular-analyzer"', '"chemistry-analyzer"', "has the vendor's agent; remove `adapted`"),
        ('model = "chemistry-analyzer"', 'model = "modular-analyzer"', "instrument[0].adapted: is missing"),
        ("serial = { port = 1 }", "tcp_port = 4000", "has an RS-232 line; add `serial`"),
        ("serial = { port = 1 }", "serial = { port = 2 }", "rap-4 has no serial port 2; it has 1"),
        ('TSH3 = "tsh"', 'TSH3 = "tsch"', "tsch is not an assay of modular-analyzer"),
        ("glu =", "bilirubin =", "bilirubin is not an assay of modular-analyzer"),
        ('"P0201"', '"P0301"', "P0301 is not an error code of modular-analyzer"),
        ('"pipettor"', '"reagent"', "P0201 is of component pipettor"),
        ("port = 3\n", "port = 2\n", "needs a separate port"),
    ],
)
def test_a_contradiction_is_explained(tmp_path: Path, right: str, wrong: str, told: str) -> None:
    assert right in SITE
    with pytest.raises(SettingsError) as caught:
        parse_site(SITE.replace(right, wrong, 1), tmp_path / "site.toml")
    assert told in str(caught.value)
