"""Checks of `rap box run --check`: names, addresses, certificates, and contradictions to the firewall policy."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID

from agents.box.check import check_box
from settings.problems import SettingsError
from tests.support.crypto.hierarchy import Hierarchy
from wire.pki.hierarchy import Authority, PrivateKey, Validity, make_key, make_rsa_key
from wire.pki.signature import new_key_pair
from wire.tls.context import Identity
from wire.tls.identity import SOON_DAYS, Severity

BOX = """\
board = "rap-4"
[identity]
certificate = "{certificate}"
key = "{key}"
vendor_authority = "{vendor}"
datacenter_authority = "{public}"
[datacenter]
host = "ingest.example.com"
address = "203.0.113.5"
[[port]]
number = 1
listen = "10.77.1.1"
[[port.instrument]]
serial = "CHEM-1"
model = "chemistry-analyzer"
[firewall]
policy = "firewall.toml"
"""
POLICY = """\
board = "rap-4"
[[authorized]]
role = "datacenter"
addresses = ["203.0.113.5"]
protocol = "tcp"
ports = [443]
[[port]]
number = 1
addresses = ["10.77.1.1/24", "fd00:77:1::1/64"]
services = ["tcp/443"]
"""
PROXY = '[proxy]\nkind = "http"\nhost = "{host}"\nport = 3128\n'


@pytest.fixture
def config(tmp_path: Path, pki: Hierarchy) -> Path:
    names = {
        "certificate": pki.box.certificate,
        "key": pki.box.key,
        "vendor": pki.box_server.authorities,
        "public": pki.box.authorities,
    }
    (tmp_path / "box.toml").write_text(BOX.format(**names))
    (tmp_path / "firewall.toml").write_text(POLICY)
    return tmp_path / "box.toml"


def change(file: Path, valid: str, invalid: str) -> None:
    text = file.read_text()
    assert valid in text
    file.write_text(text.replace(valid, invalid))


def test_a_revocation_list_is_read(config: Path, tmp_path: Path) -> None:
    config.write_text(config.read_text() + '[revocation]\nlist = "vendor.crl"\n')
    with pytest.raises(SettingsError, match=r"revocation\.list: .*No such file"):
        check_box(config)
    (tmp_path / "vendor.crl").write_bytes(Authority.make("VENDOR").revoke([1]))
    with pytest.raises(SettingsError, match=r"revocation\.list: .*CN=VENDOR is not signed by a trusted CA"):
        check_box(config)


def test_the_root_of_releases_must_be_signed(config: Path, tmp_path: Path) -> None:
    config.write_text(config.read_text() + '[updates]\nroot = "root.json"\n')
    with pytest.raises(SettingsError, match=r"updates\.root: .*No such file"):
        check_box(config)
    (tmp_path / "root.json").write_text("{}")
    with pytest.raises(SettingsError, match=r"updates\.root: .*give the root that the vendor signed"):
        check_box(config)


def test_a_consistent_configuration_is_accepted(config: Path) -> None:
    result = check_box(config)
    assert result.policy is not None
    assert result.policy.uplink == result.board.uplink


@pytest.mark.parametrize(
    ("valid", "invalid", "key", "message"),
    [
        ('"rap-4"', '"rap-8"', "firewall.policy", "the uplink is enp1s0 in the policy, but eno1 on rap-8; give both"),
        ("number = 1", "number = 2", "port[0].number", "port 2 is closed; add a [[port]] with number = 2 in"),
        ("10.77.1.1", "10.77.1.2", "port[0].listen", "port 1, which is 10.77.1.1, fd00:77:1::1 in"),
        ("10.77.1.1", "port1", "port[0].listen", "port1 is not the box's address on port 1, which is 10.77.1.1"),
        ("[[port]]", "[[port]]\ntcp_port = 8443", "port[0].tcp_port", "not a permitted service of port 1 (tcp/443)"),
        ("[[port]]", "[[port]]\ntcp_port = 0", "port[0].tcp_port", "tcp/0 is not a permitted"),
        ("203.0.113.5", "203.0.113.6", "datacenter.address", 'addresses = ["203.0.113.6"], protocol = "tcp", ports'),
        ("203.0.113.5", "2001:db8::5", "datacenter.address", 'role = "datacenter", addresses = ["2001:db8::5"]'),
        ('"203.0.113.5"', '"203.0.113.5"\nport = 444', "datacenter.address", "ports = [444]"),
        ("[[port]]", PROXY.format(host="10.0.0.3") + "[[port]]", "proxy.host", 'role = "proxy", addresses'),
    ],
)  # fmt: skip
def test_an_inconsistent_setting_is_reported_with_its_key_and_a_correction(
    config: Path, valid: str, invalid: str, key: str, message: str
) -> None:
    change(config, valid, invalid)
    with pytest.raises(SettingsError) as failed:
        check_box(config)
    assert failed.value.problems[0].key == key
    assert message in failed.value.problems[0].message
    assert str(config.parent / "firewall.toml") in failed.value.problems[0].message


SESSIONS = """
[sessions]
endpoint = "203.0.113.5:443"
keys = "offers.pub"
key = "session.key"
ways = ["code", "switch"]
"""
WITHOUT_DESKTOP = '"blood-gas-analyzer"\nadapted = { tcp_port = 443 }'
ADDRESS_KEY = "port[0].instrument[0].address"
TUNNEL = """
[tunnel]
interface = "rap-tun0"
staff = ["10.99.0.2/32"]
address = "10.99.0.1"
"""


@pytest.fixture
def with_sessions(config: Path) -> Path:
    """A configuration that permits remote sessions with CHEM-1."""
    folder = config.parent
    private, public = new_key_pair()
    (folder / "session.key").write_bytes(private)
    (folder / "offers.pub").write_bytes(public + new_key_pair()[1])
    change(config, 'serial = "CHEM-1"', 'serial = "CHEM-1"\naddress = "10.77.1.5"')
    config.write_text(config.read_text() + SESSIONS)
    policy = folder / "firewall.toml"
    change(policy, "services", 'desktop = ["tcp/5900"]\nservices')
    policy.write_text(policy.read_text() + TUNNEL)
    return config


def test_a_configuration_with_sessions_is_accepted(with_sessions: Path) -> None:
    settings = check_box(with_sessions).config.sessions
    assert settings is not None
    assert (str(settings.box_address), str(settings.staff_address)) == ("10.99.0.1", "10.99.0.2")


@pytest.mark.parametrize(
    ("file", "valid", "invalid", "key", "message"),
    [
        ("box.toml", "offers.pub", "session.key", "sessions.keys", "has no public key in PEM"),
        ("box.toml", "offers.pub", "none.pub", "sessions.keys", "No such file"),
        ("offers.pub", "PUBLIC KEY-----\n", "PUBLIC KEY-----\nA", "sessions.keys", "key 1 is not"),
        ("box.toml", '[firewall]\npolicy = "firewall.toml"', "", "sessions", "sessions need [firewall], which"),
        ("firewall.toml", TUNNEL, "", "sessions", "sessions need [tunnel] in"),
        ("firewall.toml", "rap-tun0", "tun1", "sessions.device", "is not the interface of [tunnel], which is tun1"),
        ("firewall.toml", "10.99.0.2/32", "10.98.0.0/29", "sessions.staff", "10.99.0.2 is not one of the addresses"),
        ("firewall.toml", 'address = "10.99.0.1"', "", "sessions.staff", "is not that of [tunnel]: none"),
        ("box.toml", "203.0.113.5:443", "203.0.113.6:443", "sessions.endpoint", 'addresses = ["203.0.113.6"]'),
        ("box.toml", "10.77.1.5", "10.77.2.5", ADDRESS_KEY, "is not in a network of port 1 for instruments"),
        ("firewall.toml", 'desktop = ["tcp/5900"]', "", ADDRESS_KEY, 'add desktop = ["tcp/5900"]'),
        ("box.toml", '"chemistry-analyzer"', WITHOUT_DESKTOP, ADDRESS_KEY, "sessions need `desktop_port`"),
    ],
)  # fmt: skip
def test_a_setting_with_which_sessions_cannot_work_is_reported_with_a_correction(
    with_sessions: Path, file: str, valid: str, invalid: str, key: str, message: str
) -> None:
    change(with_sessions.parent / file, valid, invalid)
    with pytest.raises(SettingsError) as failed:
        check_box(with_sessions)
    assert failed.value.problems[0].key == key
    assert message in failed.value.problems[0].message


def test_sessions_need_a_key_of_curve_p_256(with_sessions: Path, pki: Hierarchy) -> None:
    folder = with_sessions.parent
    rsa = Authority.make("VENDOR").issue(folder, "RAP-1", trusts=Authority.make("PUBLIC"), key=make_rsa_key())
    change(with_sessions, 'key = "session.key"', "")
    change(with_sessions, str(pki.box.key), str(rsa.key))
    change(with_sessions, str(pki.box.certificate), str(rsa.certificate))
    with pytest.raises(
        SettingsError, match=r"identity\.key: .*not an unencrypted private key of curve P-256"
    ):
        check_box(with_sessions)


def test_a_way_of_presence_that_the_board_lacks_is_reported(with_sessions: Path) -> None:
    (with_sessions.parent / "board.toml").write_text(
        'name = "bare"\nuplink = "eth0"\n[instrument_ports]\n1 = "eth1"\n'
    )
    for file in ("box.toml", "firewall.toml"):
        change(with_sessions.parent / file, '"rap-4"', '"board.toml"')
    with pytest.raises(SettingsError, match=r"sessions\.ways: bare has no switch; use another way"):
        check_box(with_sessions)


def test_a_security_key_that_cannot_be_used_is_refused(with_sessions: Path) -> None:
    key = f'[[sessions.security_key]]\nid = "mT3vVqGXkp0"\npublic_key = "{"A" * 120}"\n'
    change(with_sessions, 'ways = ["code", "switch"]\n', f'ways = ["code"]\npage_name = "rap.example"\n{key}')
    with pytest.raises(SettingsError, match=r"sessions\.security_key"):
        check_box(with_sessions)


@pytest.mark.parametrize(
    ("valid", "invalid"),
    [
        ('address = "203.0.113.5"\n', ""),
        ("[[port]]", PROXY.format(host="proxy.example.com") + "[[port]]"),
        ("10.77.1.1", "fd00:77:1::1"),
        ("10.77.1.1", "fd00:77:1:0::1"),
    ],
)
def test_names_are_not_checked_and_addresses_are_compared_by_value(
    config: Path, valid: str, invalid: str
) -> None:
    change(config, valid, invalid)
    assert check_box(config).policy is not None


def test_a_wrong_policy_is_reported_with_its_own_file_and_key(config: Path) -> None:
    change(config.parent / "firewall.toml", "tcp/443", "tcp/0")
    with pytest.raises(SettingsError, match=r"firewall\.toml:\d+: port\[0\]\.services\[0\]: tcp/0"):
        check_box(config)


def test_a_missing_policy_is_reported(config: Path) -> None:
    (config.parent / "firewall.toml").unlink()
    with pytest.raises(SettingsError, match=r"firewall\.toml: cannot be read"):
        check_box(config)


# -- names, addresses, proxies, the spool -----------------------------------------------------------------


def refusal(config: Path) -> SettingsError:
    with pytest.raises(SettingsError) as caught:
        check_box(config)
    return caught.value


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ("ingest..example.com", "two dots in a row"),
        (".example.com", "empty label"),
        ("a" * 64 + ".example.com", "has 64 characters"),
        (".".join(["abcd"] * 51), "has 254"),
        ("ingest.example.com.", "ends with a dot"),
        ("ingest example.com", "not just a host name"),
        ("https://ingest.example.com", "not just a host name"),
        ("ingest.example.com:443", "not just a host name"),
        ("ingest.exämple.com", "non-ASCII"),
        ("in_gest.example.com", "not a valid host name label"),
        ("-ingest.example.com", "not a valid host name label"),
        ("ingest-.example.com", "not a valid host name label"),
        ("10.0.0.256", "neither a host name nor an IP address"),
        ("10.0.1", "neither a host name nor an IP address"),
        ("12345", "neither a host name nor an IP address"),
        ("in*gest.example.com", "not a valid host name label"),
    ],
)
def test_an_invalid_host_name_is_refused(config: Path, host: str, message: str) -> None:
    change(config, '"ingest.example.com"', f'"{host}"')
    error = refusal(config)
    assert error.problems[0].key == "datacenter.host"
    assert message in error.problems[0].message


@pytest.mark.parametrize(
    "host",
    [
        "ingest",
        "xn--exmple-cua.com",
        "a" * 63 + ".example.com",
        "1st.example.com",
        "203.0.113.5",
        "2001:db8::5",
    ],
)
def test_valid_names_and_addresses_are_accepted(config: Path, host: str) -> None:
    change(config, '"ingest.example.com"', f'"{host}"')
    check_box(config)


@pytest.mark.parametrize("address", ["203.0.113", "0.0.0.0", "224.0.0.1", "255.255.255.255", "::", "abc"])
def test_an_address_that_is_not_unicast_is_refused(config: Path, address: str) -> None:
    change(config, 'address = "203.0.113.5"', f'address = "{address}"')
    assert refusal(config).problems[0].key == "datacenter.address"


@pytest.mark.parametrize(
    ("listen", "tcp_port", "valid"),
    [
        ("10.77.1.1", 443, False),
        ("10.77.1.1", 444, True),
        ("10.77.2.1", 443, True),
        ("0.0.0.0", 443, False),
        ("::", 443, False),
        ("224.1.1.1", 443, False),
        ("10.77.2.256", 443, False),
        ("fe80..1", 443, False),
    ],
)
def test_two_ports_cannot_listen_on_the_same_address(
    config: Path, listen: str, tcp_port: int, valid: bool
) -> None:
    change(config, '[firewall]\npolicy = "firewall.toml"\n', "")
    second = f'[[port]]\nnumber = 2\nlisten = "{listen}"\ntcp_port = {tcp_port}\n'
    config.write_text(config.read_text() + second)
    if valid:
        check_box(config)
    else:
        assert refusal(config).problems[0].key == "port[1].listen"


@pytest.mark.parametrize(
    ("proxy", "key"),
    [
        ('host = "proxy..example.com"\nport = 3128', "proxy.host"),
        ('host = "http://proxy"\nport = 3128', "proxy.host"),
        ('host = "proxy"\nport = 3128\npassword = "secret"', "proxy"),
        ('host = "proxy"\nport = 0', "proxy.port"),
        ('host = "proxy"\nport = 65536', "proxy.port"),
    ],
)
def test_an_unusable_proxy_is_refused(config: Path, proxy: str, key: str) -> None:
    config.write_text(config.read_text() + f'[proxy]\nkind = "http"\n{proxy}\n')
    assert refusal(config).problems[0].key == key


def test_a_proxy_may_have_an_underscore_in_its_name(config: Path) -> None:
    config.write_text(config.read_text() + '[proxy]\nkind = "http"\nhost = "PROXY_01"\nport = 3128\n')
    check_box(config)


def test_a_spool_that_is_a_file_is_refused(config: Path) -> None:
    config.write_text(config.read_text() + '[spool]\ndirectory = "box.toml/spool"\n')
    assert refusal(config).problems[0].key == "spool.directory"


# -- certificates -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Files:
    """A configuration, and its identity files, which tests replace."""

    config: Path
    folder: Path
    vendor: Authority
    device_key: PrivateKey

    def write(self, key: str, content: bytes) -> None:
        (self.folder / key).write_bytes(content)

    def install(self, identity: Identity) -> None:
        self.write("certificate", identity.certificate.read_bytes())
        self.write("key", identity.key.read_bytes())

    def reissue(self, *usages: x509.ObjectIdentifier, **options: Any) -> None:
        folder = self.folder / "issued"
        options = {"trusts": self.vendor, "key": self.device_key, "usages": usages or BOTH} | options
        self.install(self.vendor.issue(folder, "RAP-1", **options))

    def problems(self, severity: Severity) -> list[tuple[str, str]]:
        problems = check_box(self.config).identity
        return [(problem.file.name, problem.message) for problem in problems if problem.severity is severity]


BOTH = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)


@pytest.fixture(scope="module")
def keys() -> tuple[PrivateKey, PrivateKey]:
    return make_key(), make_key()


@pytest.fixture
def files(config: Path, tmp_path: Path, keys: tuple[PrivateKey, PrivateKey]) -> Files:
    change(config, '[firewall]\npolicy = "firewall.toml"\n', "")
    lines = [line for line in config.read_text().splitlines() if line.split(" ")[0] not in KEYS]
    identity = [f'{key} = "{key}"' for key in KEYS]
    lines[lines.index("[identity]") : lines.index("[identity]") + 1] = ["[identity]", *identity]
    config.write_text("\n".join(lines))
    files = Files(config, tmp_path, Authority.make("VENDOR", keys[0]), keys[1])
    files.reissue()
    root = files.vendor.certificate.public_bytes(serialization.Encoding.PEM)
    files.write("vendor_authority", root)
    files.write("datacenter_authority", root)
    return files


KEYS = ("certificate", "key", "vendor_authority", "datacenter_authority")


def test_a_valid_identity_has_no_problems(files: Files) -> None:
    assert check_box(files.config).identity == ()
    check_box(files.config).check_operable(files.config)


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(
    "content", [b"", b"nonsense", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_a_file_that_is_not_pem_is_named(files: Files, key: str, content: bytes) -> None:
    files.write(key, content)
    error = refusal(files.config)
    assert error.problems[0].key == f"identity.{key}"
    assert "in PEM" in error.problems[0].message


def test_a_key_of_another_certificate_and_an_encrypted_one_are_named(files: Files) -> None:
    key = files.vendor.key
    pem = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    files.write("key", key.private_bytes(*pem, serialization.NoEncryption()))
    assert "is not the key of" in refusal(files.config).problems[0].message
    files.write("key", key.private_bytes(*pem, serialization.BestAvailableEncryption(b"secret")))
    assert "is encrypted" in refusal(files.config).problems[0].message


@pytest.mark.parametrize(
    ("days", "severity", "message"),
    [
        ((-10, -1), Severity.REFUSED, "expired on"),
        ((1, 100), Severity.REFUSED, "is not valid before"),
        ((-10, SOON_DAYS - 1), Severity.SOON, "renew it"),
    ],
)
def test_validity_periods_are_checked_and_do_not_prevent_a_start(
    files: Files, days: tuple[int, int], severity: Severity, message: str
) -> None:
    now = datetime.now(UTC)
    files.reissue(validity=Validity(now + timedelta(days[0]), now + timedelta(days[1])))
    [(file, text)] = files.problems(severity)
    assert file == "certificate"
    assert message in text
    if severity is Severity.REFUSED:
        with pytest.raises(SettingsError, match="identity"):
            check_box(files.config).check_operable(files.config)


def test_a_certificate_of_another_ca_is_named_and_one_with_its_chain_is_accepted(files: Files) -> None:
    issuing = files.vendor.subordinate("ISSUING", files.device_key)
    with_chain = issuing.issue(
        files.folder / "chain", "RAP-1", trusts=files.vendor, key=files.device_key, usages=BOTH
    )
    files.install(with_chain)
    assert check_box(files.config).identity == ()
    files.write("certificate", first_pem(with_chain.certificate.read_bytes()))
    [(file, message)] = files.problems(Severity.REFUSED)
    assert file == "certificate"
    assert "was not issued by a CA in" in message


@pytest.mark.parametrize("missing", BOTH)
def test_a_certificate_without_a_purpose_is_named(files: Files, missing: x509.ObjectIdentifier) -> None:
    files.reissue(*(usage for usage in BOTH if usage != missing))
    [(_, message)] = files.problems(Severity.REFUSED)
    assert "extended key usage" in message


def test_a_certificate_that_is_not_a_ca_is_named(files: Files) -> None:
    files.write("datacenter_authority", first_pem((files.folder / "certificate").read_bytes()))
    [(file, message)] = files.problems(Severity.REFUSED)
    assert file == "datacenter_authority"
    assert "is not a CA's" in message


def first_pem(text: bytes) -> bytes:
    end = b"-----END CERTIFICATE-----\n"
    return text[: text.index(end) + len(end)]
