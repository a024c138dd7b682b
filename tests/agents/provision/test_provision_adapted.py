"""Provisioning of sites with instruments without an agent: box and firewall follow the instrument's standard."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from agents.box.check import load_fitting_policy
from agents.box.configuration.config import FirewallPolicy, load_config
from agents.provision.box import box_file, firewall_file
from netfw.policy.policyfile import load_policy
from settings.adapted import serial_ports_of
from settings.board import load_board
from settings.problems import SettingsError
from settings.site import parse_site
from tests.support.paths import ROOT

DIRECTORY = ROOT / "settings/boards"
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


HOST = 'host = { address = "192.0.2.20", tcp_port = 5000 }'
PASS = f'role = "pass-through"\n{HOST}\n'
TIMEZONE = 'timezone = "Europe/Berlin"'
ONE_LINE = "serial = { port = 1 }"
TWO_LINES = "serial = { port = 1 }\nhost_serial = { port = 2 }\n"


def write_configuration(tmp_path: Path, text: str) -> Path:
    """Write the box's configuration file and firewall policy for a site; return the path of the former."""
    board = (
        (DIRECTORY / "rap-4.toml")
        .read_text()
        .replace('1 = "/dev/ttyS0"', '1 = "/dev/ttyS0"\n2 = "/dev/ttyS1"')
    )
    (tmp_path / "board.toml").write_text(board)
    site, own = parse_site(text.replace('"rap-4"', '"board.toml"'), tmp_path / "site.toml")
    (tmp_path / "box.toml").write_text(box_file(site, own))
    (tmp_path / "firewall.toml").write_text(firewall_file(site, own))
    return tmp_path / "box.toml"


def test_a_pass_through_may_reach_the_laboratorys_host_and_nothing_else(tmp_path: Path) -> None:
    before = load_policy(write_configuration(tmp_path, SITE).parent / "firewall.toml")
    after = load_policy(write_configuration(tmp_path, SITE.replace(TIMEZONE, PASS)).parent / "firewall.toml")
    added = [entry for entry in after.authorized if entry not in before.authorized]
    assert [(e.role, [*map(str, e.networks)], [*map(str, e.services)]) for e in added] == [
        ("laboratory-host", ["192.0.2.20/32"], ["tcp/5000"])
    ]
    assert after.ports == before.ports  # the instrument reaches the same service of the box


@pytest.mark.parametrize("role", ["pass-through", "listener"])
def test_two_serial_lines_open_no_port_of_the_firewall(tmp_path: Path, role: str) -> None:
    before = load_policy(write_configuration(tmp_path, SITE).parent / "firewall.toml")
    text = SITE.replace(ONE_LINE, f'role = "{role}"\n{TWO_LINES}')
    assert load_policy(write_configuration(tmp_path, text).parent / "firewall.toml") == before
    (adapted,) = [p.instrument[0].adapted for p in load_config(tmp_path / "box.toml").port if p.number == 3]
    assert adapted and (adapted.role, serial_ports_of(adapted)) == (role, [1, 2])


def test_the_box_refuses_a_policy_that_does_not_permit_the_laboratorys_host(tmp_path: Path) -> None:
    file = write_configuration(tmp_path, SITE.replace(TIMEZONE, PASS))
    config, board = load_config(file), load_board(tmp_path / "board.toml")
    config = replace(config, firewall=FirewallPolicy(policy=tmp_path / "firewall.toml"))
    load_fitting_policy(file, config, board)
    policy = (tmp_path / "firewall.toml").read_text()
    for valid, invalid in (("192.0.2.20", "192.0.2.21"), ("5000", "5001")):
        (tmp_path / "firewall.toml").write_text(policy.replace(valid, invalid))
        with pytest.raises(SettingsError) as caught:
            load_fitting_policy(file, config, board)
        assert "does not permit connections to 192.0.2.20, tcp/5000; add" in str(caught.value)
        assert "port[1].instrument[0].adapted.host" in str(caught.value)


@pytest.mark.parametrize(
    ("valid", "invalid", "problem"),
    [
        (
            TIMEZONE,
            HOST,
            "adapted.host: only a pass-through relays to the laboratory's host; remove it, or add role",
        ),
        (TIMEZONE, HOST, "The box does not connect to instruments: set the instrument's interface to client"),
        (TIMEZONE, 'role = "pass-through"', "needs the laboratory's host; add host = {"),
        (TIMEZONE, 'role = "listener"', "a TCP connection cannot be observed by a listener"),
        (TIMEZONE, PASS.replace("192.0.2.20", "10.77.3.9"), "10.77.3.9 is not reached by the uplink"),
        (TIMEZONE, PASS.replace("192.0.2.20", "127.0.0.1"), "127.0.0.1 is not reached by the uplink"),
        (TIMEZONE, PASS.replace("192.0.2.20", "lis.example.com"), "write it like 192.0.2.1"),
        (TIMEZONE, PASS.replace("192.0.2.20", "0.0.0.0"), "of a single host"),
        (TIMEZONE, PASS.replace("5000", "0"), "tcp_port"),
        (TIMEZONE, PASS + "host_serial = { port = 2 }", "is connected over TCP; give the host as `host`"),
        (TIMEZONE, 'role = "repeater"', "must be one of"),
        (TIMEZONE, 'role = "listener"\nserial = { port = 2 }', "a listener is for ASTM and AU"),
        (TIMEZONE, ONE_LINE, "serial port 1 is used by another instrument"),
        (
            TIMEZONE,
            f'role = "listener"\nserial = {{ port = 2 }}\nhost_{ONE_LINE}',
            "used by another instrument",
        ),
        (ONE_LINE, f'role = "pass-through"\n{ONE_LINE}', "needs the line to the host; add `host_serial`"),
        (ONE_LINE, f"{PASS}{TWO_LINES}", "give the line to the host as `host_serial`"),
        (ONE_LINE, TWO_LINES, "a receiver is the host itself"),
        (
            ONE_LINE,
            f'role = "listener"\n{TWO_LINES}{HOST}',
            "only a pass-through relays to the laboratory's host",
        ),
        (ONE_LINE, f'role = "listener"\n{TWO_LINES.replace("2", "3")}', "has no serial port 3; it has 1, 2"),
        (
            ONE_LINE,
            f'role = "listener"\n{TWO_LINES.replace("2", "1")}',
            "is the instrument's serial port 1 too",
        ),
    ],
)
def test_a_connection_that_does_not_suit_the_role_is_explained(
    tmp_path: Path, valid: str, invalid: str, problem: str
) -> None:
    assert valid in SITE
    with pytest.raises(SettingsError) as caught:
        write_configuration(tmp_path, SITE.replace(valid, invalid, 1))
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("valid", "invalid", "problem"),
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
def test_a_contradiction_is_explained(tmp_path: Path, valid: str, invalid: str, problem: str) -> None:
    assert valid in SITE
    with pytest.raises(SettingsError) as caught:
        parse_site(SITE.replace(valid, invalid, 1), tmp_path / "site.toml")
    assert problem in str(caught.value)
