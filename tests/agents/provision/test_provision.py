"""Provisioning: content, permissions and atomic replacement of the generated files."""

from __future__ import annotations

import base64
import configparser
import json
import os
import re
import shutil
import tomllib
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from agents.box.configuration.config import AuditSettings, SessionSettings, load_config
from agents.box.sessions.running import security_keys
from agents.provision.box import HEAD_KEYS, OFFER_KEYS, RELEASES_ROOT, box_file, firewall_file
from agents.provision.identity import read_identity
from agents.provision.main import LINKS_CHANGED, STAMP, SystemLacks, files_of, main, note_new_names, provision
from agents.provision.network import id_path
from agents.provision.page import LISTEN
from imaging.kickstart.site import for_box, load_site
from imaging.rpm.contents import RECIPE
from netfw.policy.policyfile import load_policy
from settings import identity_archive
from settings.board import load_board
from settings.problems import SettingsError
from settings.site import parse_site
from settings.types import Proxy
from tests.support.imaging.sites import PROVISIONED_SITE, system_tree, write_site
from tests.support.paths import ROOT
from tests.support.wire.grants import DATACENTER
from wire.pki.signature import load_public_keys
from wire.process.files import write_file


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A tree with the package's units, and the site file beside it."""
    (tmp_path / "site.toml").write_text(PROVISIONED_SITE)
    return system_tree(tmp_path / "root")


def test_the_box_program_accepts_the_generated_configuration(root: Path) -> None:
    provision(root.parent / "site.toml", root)
    config = load_config(root / "etc/rap/box.toml")
    assert config.datacenter.address == "203.0.113.5"
    assert [(port.number, port.listen) for port in config.port][:2] == [(1, "10.77.1.1"), (2, "10.77.2.1")]
    assert config.enrolled() == {"CHEM-0001": 2, "CHEM-0002": 2}


def test_a_site_with_keys_for_audit_chains_has_them_countersigned(root: Path) -> None:
    file = root.parent / "site.toml"
    provision(file, root)
    audit = load_config(root / "etc/rap/box.toml").audit
    assert audit == AuditSettings()
    file.write_text(PROVISIONED_SITE.replace("[audit]\n", f'[audit]\nkeys = ["{OFFERED_BY}"]\n'))
    provision(file, root)
    audit = load_config(root / "etc/rap/box.toml").audit
    assert audit is not None and audit.keys is not None
    assert [key.public_numbers() for key in load_public_keys(audit.keys)] == [
        DATACENTER.public_key().public_numbers()
    ]
    file.write_text(PROVISIONED_SITE)
    assert f"etc/rap/{HEAD_KEYS}" in provision(file, root)
    assert not (root / "etc/rap" / HEAD_KEYS).exists()


def test_the_firewall_permits_only_the_destinations_in_the_site_file(root: Path) -> None:
    provision(root.parent / "site.toml", root)
    policy = load_policy(root / "etc/rap/firewall.toml")
    destinations = {
        (entry.role, str(network), str(service))
        for entry in policy.authorized
        for network in entry.networks
        for service in entry.services
    }
    assert destinations == {
        ("datacenter", "203.0.113.5/32", "tcp/443"),
        ("datacenter", "203.0.113.6/32", "tcp/443"),
        ("names", "192.0.2.53/32", "udp/53"),
        ("names", "192.0.2.53/32", "tcp/53"),
        ("time", "203.0.113.8/32", "udp/123"),
        ("time", "192.0.2.123/32", "udp/123"),
        ("audit-log", "203.0.113.7/32", "tcp/6514"),
    }
    assert {port.number: str(port.addresses[0]) for port in policy.ports} == {
        number: f"10.77.{number}.1/24" for number in (1, 2, 3, 4)
    }


OFFERED_BY = base64.b64encode(
    DATACENTER.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
).decode()
SESSIONS = f"""
[sessions]
endpoint = "tunnels.example.com:8443"
keys = ["{OFFERED_BY}"]
ways = ["code"]
"""


def with_sessions(text: str) -> str:
    """Return a site file with remote sessions to one of its instruments."""
    before, after = text.split('serial = "CHEM-0001"')
    names = '[addresses]\n"tunnels.example.com" = ["203.0.113.9"]'
    site = f'{before}serial = "CHEM-0001"\naddress = "10.77.2.5"{after}{SESSIONS}'
    return site.replace("[addresses]", names)


def test_a_site_with_sessions_gets_their_keys_their_tunnel_and_the_desktop_ports_of_instruments(
    root: Path,
) -> None:
    (root.parent / "site.toml").write_text(with_sessions(PROVISIONED_SITE))
    provision(root.parent / "site.toml", root)
    config = load_config(root / "etc/rap/box.toml")
    assert config.sessions is not None
    assert [key.public_numbers() for key in load_public_keys(config.sessions.keys)] == [
        DATACENTER.public_key().public_numbers()
    ]
    policy = load_policy(root / "etc/rap/firewall.toml")
    assert policy.tunnel is not None
    assert (policy.tunnel.interface, [str(network) for network in policy.tunnel.staff]) == (
        "rap-tun0",
        ["10.99.0.2/32"],
    )
    assert str(policy.tunnel.address) == "10.99.0.1"
    assert {
        port.number: [str(service) for service in port.desktop] for port in policy.ports if port.desktop
    } == {2: ["tcp/5900"]}
    assert ("datacenter", "203.0.113.9/32", "tcp/8443") in {
        (entry.role, str(network), str(service))
        for entry in policy.authorized
        for network in entry.networks
        for service in entry.services
    }
    (root.parent / "site.toml").write_text(PROVISIONED_SITE)
    provision(root.parent / "site.toml", root)
    assert not config.sessions.keys.exists()


def test_the_unit_creates_the_tunnel_device_of_the_configuration() -> None:
    unit = (RECIPE / "root/usr/lib/systemd/system/rap-tunnel.service").read_text()
    settings = SessionSettings("dc.example:443", Path("keys.pem"), ["code"])
    assert f"ip tuntap add dev {settings.device} mode tun user rap\n" in unit
    assert f"ip address add {settings.box_address}/29 dev {settings.device}\n" in unit
    assert f"ConditionPathExists=/etc/rap/{OFFER_KEYS}\n" in unit


@pytest.mark.parametrize(
    ("valid", "invalid", "message"),
    [
        ("10.77.2.5", "10.77.1.5", "10.77.1.5 is not an address on port 2: give one of 10.77.2.0/24"),
        ("10.77.2.5", "10.77.2.1", "10.77.2.1 is not an address on port 2"),
        (":8443", "", "write a host and a port of 1 to 65535, like ingest.example.com:443"),
        ('"203.0.113.9"', '"203.0.113.9"]\n"x.example.com" = ["203.0.113.9"', ""),
        (
            '"tunnels.example.com" = ["203.0.113.9"]',
            "",
            "the firewall needs the addresses of tunnels.example.com",
        ),
        ("MFkw", "MFk?", "keys[0]"),
    ],
)
def test_a_site_whose_sessions_cannot_work_is_refused(
    tmp_path: Path, valid: str, invalid: str, message: str
) -> None:
    text = with_sessions(PROVISIONED_SITE)
    assert valid in text
    try:
        parse_site(text.replace(valid, invalid), tmp_path / "site.toml")
    except SettingsError as error:
        assert message and message in str(error)
    else:
        assert not message


def test_the_local_page_is_served_only_on_instrument_ports(root: Path) -> None:
    provision(root.parent / "site.toml", root)
    text = (root / LISTEN).read_text()
    assert re.findall("^Listen (.*)", text, re.MULTILINE) == [f"10.77.{n}.1:8443" for n in (1, 2, 3, 4)]
    hosts = re.findall(r"<VirtualHost (\S+)>\n.*\n +RequestHeader set X-Rap-Port (\d)", text)
    assert hosts == [(f"10.77.{number}.1:8443", str(number)) for number in (1, 2, 3, 4)]
    assert re.findall(r"Require ip (\S+)", text) == [f"10.77.{number}.0/24" for number in (1, 2, 3, 4)]
    conf = (RECIPE / "root/etc/httpd/conf/rap.conf").read_text()
    assert f"IncludeOptional {Path(LISTEN).relative_to('etc/httpd')}\n" in conf


def test_with_sessions_the_firewall_opens_the_local_page_and_httpd_accepts_its_name(root: Path) -> None:
    key = f'page_name = "rap.example"\n[[sessions.security_key]]\nid = "mT3vVqGXkp0"\npublic_key = "{OFFERED_BY}"\n'
    (root.parent / "site.toml").write_text(
        with_sessions(PROVISIONED_SITE).replace(
            'ways = ["code"]\n', f'ways = ["code", "security-key"]\n{key}'
        )
    )
    provision(root.parent / "site.toml", root)
    policy = load_policy(root / "etc/rap/firewall.toml")
    assert all("tcp/8443" in map(str, port.services) for port in policy.ports)
    settings = load_config(root / "etc/rap/box.toml").sessions
    assert settings is not None
    keys = security_keys(settings)
    assert keys is not None and (keys.name, keys.ids) == ("rap.example", ["mT3vVqGXkp0"])
    text = (root / LISTEN).read_text()
    assert "\"%{HTTP_HOST} == '10.77.1.1:8443' || %{HTTP_HOST} == 'rap.example:8443'\"" in text
    (root.parent / "site.toml").write_text(PROVISIONED_SITE)
    provision(root.parent / "site.toml", root)
    policy = load_policy(root / "etc/rap/firewall.toml")
    assert not any("tcp/8443" in map(str, port.services) for port in policy.ports)


def test_a_proxy_with_authentication_is_in_the_boxs_configuration() -> None:
    login = {"user": 'clinic "rap"', "password": "pässwörd 🗝\\1", "domain": "CLINIC", "basic": "never"}
    lines = "".join(f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in login.items())
    text = PROVISIONED_SITE + f'\n[proxy]\nkind = "http"\nhost = "192.0.2.3"\nport = 3128\n{lines}'
    site, board = parse_site(text, Path("site.toml"))
    proxy = msgspec.convert(tomllib.loads(box_file(site, board))["proxy"], Proxy)
    assert {key: getattr(proxy, key) for key in login} == login


def test_with_a_proxy_the_firewall_permits_only_the_proxy() -> None:
    text = PROVISIONED_SITE + '\n[proxy]\nkind = "socks5"\nhost = "192.0.2.3"\nport = 1080\n'
    site, board = parse_site(text, Path("site.toml"))
    assert 'role = "proxy"' in firewall_file(site, board)
    assert 'role = "datacenter"' not in firewall_file(site, board)
    assert '[proxy]\nkind = "socks5"\nhost = "192.0.2.3"\nport = 1080\n' in box_file(site, board)


def test_a_box_with_a_root_of_releases_can_be_updated() -> None:
    parsed, board = parse_site(PROVISIONED_SITE, Path("site.toml"))
    assert "[updates]" not in box_file(parsed, board)
    assert f'[updates]\nroot = "{RELEASES_ROOT}"' in box_file(parsed, board, RELEASES_ROOT)


def test_each_port_has_a_link_file_and_a_connection(root: Path) -> None:
    provision(root.parent / "site.toml", root)
    link = (root / "etc/systemd/network/10-rap-port4.link").read_text()
    assert link == "[Match]\nPath=pci-0000:05:00.0\n\n[Link]\nName=enp5s0\n"
    folder = root / "etc/NetworkManager/system-connections"
    files = sorted(folder.iterdir())
    assert [file.stem for file in files] == [*(f"rap-port{n}" for n in (1, 2, 3, 4)), "rap-uplink"]
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    read = configparser.ConfigParser()
    read.read(files)
    assert read["connection"]["interface-name"] == "enp1s0"
    port = configparser.ConfigParser()
    port.read(folder / "rap-port2.nmconnection")
    assert dict(port["ipv4"]) == {"method": "manual", "address1": "10.77.2.1/24", "never-default": "true"}


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("enp1s0", "pci-0000:01:00.0"),
        ("enp10s31f6", "pci-0000:0a:1f.6"),
        ("enP2p1s0", "pci-0002:01:00.0"),
        ("eth0", ""),
        ("enp1s0d1", ""),
    ],
)
def test_an_interface_name_contains_its_pci_slot(name: str, path: str) -> None:
    assert id_path(name) == path


def test_changed_interface_names_are_recorded_for_the_service_that_applies_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit = ROOT / "firmware-image/root/usr/lib/systemd/system/rap-interfaces.service"
    assert f"ConditionPathExists=/run/rap-provision/{LINKS_CHANGED}\n" in unit.read_text()
    note_new_names()  # without RUNTIME_DIRECTORY of systemd, nothing is recorded
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    note_new_names()
    assert (tmp_path / LINKS_CHANGED).exists()


def test_the_network_waits_for_the_firewall_and_the_units_are_enabled(root: Path) -> None:
    provision(root.parent / "site.toml", root)
    drop_in = (root / "etc/systemd/system/NetworkManager.service.d/10-rap-firewall.conf").read_text()
    for line in ("After=rap-firewall.service", "AssertPathExists=/run/rap-firewall/ready"):
        assert line in drop_in.splitlines()
    wanted = root / "etc/systemd/system/multi-user.target.wants"
    assert sorted(link.name for link in wanted.iterdir()) == [
        "ipsec.service",
        "rap-box.service",
        "rap-firewall.service",
        "rap-provision.service",
        "rap-tunnel.service",
    ]


def test_enabled_units_are_not_enabled_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    provision(root.parent / "site.toml", root)
    monkeypatch.setattr("agents.provision.main.shutil.which", lambda _name: None)
    assert provision(root.parent / "site.toml", root) == []
    (root / "etc/systemd/system/multi-user.target.wants/rap-box.service").unlink()
    with pytest.raises(SystemLacks, match="systemctl is missing"):
        provision(root.parent / "site.toml", root)


def test_a_second_run_changes_nothing(root: Path) -> None:
    assert provision(root.parent / "site.toml", root)
    before = {path: path.lstat().st_mtime_ns for path in root.rglob("*") if path.is_file()}
    assert provision(root.parent / "site.toml", root) == []
    assert {path: path.lstat().st_mtime_ns for path in root.rglob("*") if path.is_file()} == before


def test_files_that_the_site_no_longer_needs_are_removed(root: Path) -> None:
    stale = root / "etc/systemd/network/10-rap-port9.link"
    others = root / "etc/systemd/network/10-others.link"
    stale.parent.mkdir(parents=True)
    stale.write_text("")
    others.write_text("")
    assert "etc/systemd/network/10-rap-port9.link" in provision(root.parent / "site.toml", root)
    assert not stale.exists()
    assert others.exists()


def test_a_custom_board_file_is_copied(root: Path) -> None:
    site = root.parent / "site.toml"
    site.write_text(PROVISIONED_SITE.replace('"rap-4"', '"ours.toml"'))
    ports = '[instrument_ports]\n1 = "eth1"\n2 = "eth2"\n'
    (root.parent / "ours.toml").write_text(f'name = "ours"\nuplink = "eth0"\n{ports}')
    provision(site, root)
    assert load_policy(root / "etc/rap/firewall.toml").uplink == "eth0"
    assert load_board(root / "etc/rap/ours.toml").name == "ours"
    assert not list((root / "etc").glob("systemd/network/*.link"))
    assert provision(root / "etc/rap/site.toml", root) == []


def test_the_site_files_of_kickstart_and_flash_are_both_accepted(tmp_path: Path) -> None:
    """Keys that only the installer uses are accepted and ignored."""
    file = write_site(tmp_path)
    for text in (for_box(load_site(file)), file.read_text()):
        files = files_of(text, file)
        ports = tomllib.loads(files["etc/rap/box.toml"])["port"]
        assert [port.get("instrument", []) for port in ports] == [
            [{"serial": "CHEM-0001", "model": "chemistry-analyzer"}],
            [],
            [],
            [],
        ]
        assert "203.0.113.9 ntp2.example.com" in files["etc/hosts"]


@pytest.mark.parametrize(
    ("valid", "invalid", "message"),
    [
        ('"rap-4"', '"rap-9"', "board: unknown board 'rap-9'; known boards: "),
        (
            '"rap-4"',
            '"../ours.toml"',
            "board: ../ours.toml: the board file must be in the site file's directory",
        ),
        (
            "[datacenter]",
            "[datacentre]",
            "datacentre: unknown key; did you mean datacenter?",
        ),
        ('host = "ingest', 'hots = "ingest', "datacenter.hots: unknown key; did you mean host?"),
        ("port = 2\n", "port = 5\n", "instrument[0].port: rap-4 has no port 5; it has 1, 2, 3, 4"),
        ("CHEM-0002", "CHEM-0001", "instrument[1].serial: CHEM-0001 is listed twice; list it once"),
        (
            '"ingest.example.com" =',
            '"other.example.com" =',
            "datacenter.host: the firewall needs the addresses of",
        ),
        ("203.0.113.5", "203.0.113", 'addresses."ingest.example.com"[0]: "203.0.113": is not'),
        (
            "203.0.113.5",
            "10.77.3.9",
            "the firewall policy generated from it is invalid: 10.77.3.9/32 is not external",
        ),
        ("board =", "board", "is not TOML"),
        ("gateway", "# gateway", "a fixed `address` needs a `gateway`"),
    ],
)
def test_a_wrong_site_is_reported_and_changes_nothing(
    root: Path, capsys: pytest.CaptureFixture[str], valid: str, invalid: str, message: str
) -> None:
    site = root.parent / "site.toml"
    provision(site, root)
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    assert valid in PROVISIONED_SITE
    site.write_text(PROVISIONED_SITE.replace(valid, invalid, 1))
    assert main(["--site", str(site), "--root", str(root)]) == 2
    output = capsys.readouterr().err
    assert message in output
    assert str(site) in output
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


def test_a_host_name_without_addresses_is_reported(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root.parent / "site.toml").write_text(
        PROVISIONED_SITE.replace('"audit.example.com" =', '"log.example.com" =')
    )
    assert main(["--site", str(root.parent / "site.toml"), "--root", str(root)]) == 0
    assert "audit.host: the firewall needs the addresses of audit.example.com" in capsys.readouterr().err


def test_a_tree_without_the_package_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "site.toml").write_text(PROVISIONED_SITE)
    (tmp_path / "root").mkdir()
    assert main(["--site", str(tmp_path / "site.toml"), "--root", str(tmp_path / "root")]) == 3
    assert "install rap-box in this system" in capsys.readouterr().err
    with pytest.raises(SettingsError, match="is not a directory"):
        provision(tmp_path / "site.toml", tmp_path / "nowhere")


FILES = {
    "serial": b"RAP-0001\n",
    "site.toml": PROVISIONED_SITE.encode(),
    "box.csr": b"request",
    "box.key": b"key",
    "box.crt": b"certificate",
    "vendor-ca.crt": b"vendor",
}


WITHOUT_CERTIFICATE = {name: data for name, data in FILES.items() if name != "box.crt"}


@pytest.fixture
def partition(tmp_path: Path) -> Path:
    """A partition with an identity that has its certificate."""
    path = tmp_path / "partition"
    path.write_bytes(identity_archive.pack(FILES).ljust(65536, b"\0"))
    return path


def identity_on(root: Path) -> dict[str, bytes]:
    """Return the content of the box's identity files by name."""
    return {path.name: path.read_bytes() for path in (root / "var/lib/rap/identity").iterdir()}


def test_an_identity_is_moved_to_the_box_and_erased_from_its_partition(root: Path, partition: Path) -> None:
    provision(root / "nothing.toml", root, partition)
    assert identity_on(root) == FILES
    modes = {path.name: path.stat().st_mode & 0o777 for path in (root / "var/lib/rap/identity").iterdir()}
    assert modes == {name: 0o600 if name == "site.toml" else 0o640 for name in FILES}
    assert (root / "etc/rap/site.toml").read_text() == PROVISIONED_SITE
    assert partition.read_bytes() == bytes(65536)
    assert (root / STAMP).exists()
    assert provision(root / "etc/rap/site.toml", root, partition) == []


def test_each_start_configures_a_new_etc_from_the_kept_site_file(root: Path, partition: Path) -> None:
    provision(root / "nothing.toml", root, partition, at_start=True)
    first = snapshot(root, partition)
    for _ in range(2):
        shutil.rmtree(root / "etc")
        provision(root / "etc/rap/site.toml", root, partition, at_start=True)
        assert snapshot(root, partition) == first


def test_a_changed_site_file_is_kept_for_later_starts(root: Path, partition: Path) -> None:
    provision(root / "nothing.toml", root, partition, at_start=True)
    site = root / "etc/rap/site.toml"
    site.write_text(changed := PROVISIONED_SITE.replace("192.0.2.10/24", "192.0.2.11/24"))
    provision(site, root, partition)
    site.write_text(PROVISIONED_SITE)
    provision(site, root, partition, at_start=True)
    assert site.read_text() == changed


def test_a_box_without_an_identity_partition_keeps_its_own_site_file(root: Path, tmp_path: Path) -> None:
    site = root.parent / "site.toml"
    provision(site, root, tmp_path / "none", at_start=True)
    assert not (root / "var/lib/rap/identity/site.toml").exists()


def test_provisioning_of_an_unflashed_box_completes_with_its_certificate(root: Path, tmp_path: Path) -> None:
    site, partition = root.parent / "site.toml", tmp_path / "none"
    provision(site, root, partition)
    assert not (root / STAMP).exists()
    (root / "var/lib/rap/identity").mkdir(parents=True)
    (root / "var/lib/rap/identity/box.crt").write_bytes(b"certificate")
    provision(site, root, partition)
    assert (root / STAMP).exists()
    assert not partition.exists()


def test_a_box_that_starts_before_its_certificate_was_issued_gets_it_later(
    root: Path, partition: Path
) -> None:
    partition.write_bytes(identity_archive.pack(WITHOUT_CERTIFICATE).ljust(65536, b"\0"))
    for _ in range(2):
        provision(root / "nothing.toml", root, partition)
        left = identity_archive.unpack(partition.read_bytes())
        assert left == {name: FILES[name] for name in ("serial", "box.csr", "site.toml")}
        assert b"key" not in partition.read_bytes()
        assert not (root / STAMP).exists()
    partition.write_bytes(identity_archive.pack({**left, "box.crt": b"late"}).ljust(65536, b"\0"))
    provision(root / "nothing.toml", root, partition)
    assert identity_on(root)["box.crt"] == b"late"
    assert identity_on(root)["box.key"] == b"key"
    assert (root / STAMP).exists()
    assert not any(partition.read_bytes())


class PowerCut(Exception):
    """Simulates a power cut."""


def snapshot(root: Path, partition: Path) -> dict[str, bytes]:
    """Return the content of all files and of the partition."""
    files = {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    return {**files, "partition": partition.read_bytes()}


@pytest.mark.parametrize("files", [FILES, WITHOUT_CERTIFICATE], ids=["certificate", "no certificate"])
@pytest.mark.slow("a power cut at each flush")
def test_provisioning_is_repeated_after_a_power_cut_at_any_flush(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes]
) -> None:
    real, flushes, last = os.fsync, 0, -1

    def cut(fd: int) -> None:
        nonlocal flushes
        flushes += 1
        if flushes == last:
            raise PowerCut
        real(fd)

    monkeypatch.setattr("os.fsync", cut)

    def first_start(name: str) -> tuple[Path, Path]:
        partition = tmp_path / f"{name}-partition"
        partition.write_bytes(identity_archive.pack(files).ljust(65536, b"\0"))
        return system_tree(tmp_path / name), partition

    undisturbed = first_start("undisturbed")
    provision(tmp_path / "nothing.toml", *undisturbed)
    cuts = flushes
    assert cuts > 40
    for number in range(1, cuts + 1):
        root, partition = first_start(f"cut-{number}")
        flushes, last = 0, number
        with pytest.raises(PowerCut):
            provision(tmp_path / "nothing.toml", root, partition)
        complete = snapshot(root, partition) == snapshot(*undisturbed)
        assert complete or not (root / STAMP).exists(), f"cut {number} leaves a box that is not provisioned"
        last = -1
        provision(root / "etc/rap/site.toml", root, partition)
        assert snapshot(root, partition) == snapshot(*undisturbed), f"cut {number}"


def test_a_damaged_identity_is_not_installed(root: Path, partition: Path) -> None:
    damaged = bytearray(partition.read_bytes())
    damaged[600] ^= 1
    partition.write_bytes(damaged)
    with pytest.raises(identity_archive.IdentityError, match="damaged"):
        provision(root / "nothing.toml", root, partition)
    assert partition.read_bytes() == damaged
    assert not (root / "etc/rap/site.toml").exists()


def test_a_box_that_has_its_key_repairs_a_half_written_partition(root: Path, partition: Path) -> None:
    partition.write_bytes(identity_archive.pack(WITHOUT_CERTIFICATE).ljust(65536, b"\0"))
    provision(root / "nothing.toml", root, partition)
    complete = partition.read_bytes()
    partition.write_bytes(complete[:600] + bytes(len(complete) - 600))
    provision(root / "etc/rap/site.toml", root, partition)
    assert partition.read_bytes() == complete


def test_an_identity_without_a_key_needs_the_key_of_the_box(tmp_path: Path, partition: Path) -> None:
    files = {name: data for name, data in FILES.items() if name != "box.key"}
    partition.write_bytes(identity_archive.pack(files))
    with pytest.raises(identity_archive.IdentityError, match="write the disk again"):
        read_identity(partition, tmp_path)


def test_only_the_box_can_read_the_proxy_password(root: Path) -> None:
    """This includes a box that an earlier version provisioned with world-readable files."""
    folder = root / "etc/rap"
    provision(root.parent / "site.toml", root)
    group = 4711 if os.geteuid() == 0 else os.getgid()
    os.chown(folder, -1, group)
    folder.chmod(0o2755)
    for name in ("site.toml", "box.toml"):
        (folder / name).chmod(0o644)
    assert provision(root.parent / "site.toml", root) == []
    access = {file.name: (file.stat().st_mode & 0o777, file.stat().st_gid) for file in folder.iterdir()}
    assert access["site.toml"][0] == 0o600
    assert access["box.toml"] == (0o640, group)
    assert access["firewall.toml"][0] == 0o644


def test_a_file_is_replaced_atomically(tmp_path: Path) -> None:
    file = tmp_path / "etc/file"
    assert write_file(file, b"one", 0o644)
    assert not write_file(file, b"one", 0o644)
    with file.open("rb") as reader:
        assert write_file(file, b"two", 0o600)
        assert reader.read() == b"one"
    assert (file.read_bytes(), file.stat().st_mode & 0o777) == (b"two", 0o600)
    assert [path.name for path in file.parent.iterdir()] == ["file"]
