"""Assembled kickstarts of the box: accepted by pykickstart and without findings for every release and board."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pykickstart.parser import KickstartParser

from imaging.kickstart.assemble import assemble, box_repository
from imaging.kickstart.data import FOLDER, MIB, layout, releases
from imaging.kickstart.document import read
from imaging.kickstart.handler import new_handler
from imaging.kickstart.lint import lint
from imaging.kickstart.site import load_site
from imaging.repository.repository import Repository
from settings.board import board_names, load_board
from settings.problems import SettingsError
from tests.support.imaging.golden import goldens
from tests.support.imaging.repositories import BOX, BOX_COMPS, write_repository
from tests.support.imaging.sites import CRYPT_HASH, GRUB_HASH, SITE, write_site

VARIANTS = {
    "unchanged": SITE,
    "media": SITE.partition("[install]")[0],
    "DHCP": SITE.replace('address = "192.0.2.10/24"\ngateway = "192.0.2.1"\n', ""),
    "no LUKS": SITE.replace('[luks]\npassphrase_file = "/run/install/repo/luks-passphrase"\n', ""),
    "no proxy": SITE.replace('[proxy]\nkind = "http"\nhost = "192.0.2.3"\nport = 3128\n', ""),
    "no sudo": SITE.replace('password_hash_file = "labadmin.hash"\n', ""),
    "NVMe": SITE.replace('device = "sda"', 'device = "nvme0n1"'),
}


def test_the_assembled_files_equal_the_golden_files(tmp_path: Path) -> None:
    for path, text in goldens(tmp_path):
        assert path.read_text("utf-8") == text, "if the change is intended, run `make golden`"


@pytest.mark.parametrize("board", board_names())
@pytest.mark.parametrize("release", releases())
def test_every_release_and_board_is_accepted_without_findings(
    tmp_path: Path, release: str, board: str
) -> None:
    file = write_site(tmp_path, SITE.replace("rap-4", board))
    kickstart = tmp_path / "box.ks"
    kickstart.write_text(assemble(load_site(file), file, release))
    handler = new_handler(releases()[release].version)
    KickstartParser(handler, followIncludes=False).readKickstart(str(kickstart))
    assert handler.network.network[0].device == load_board(board).uplink
    repository = Repository.load(write_repository(tmp_path / "repo", BOX, BOX_COMPS))
    report = lint(kickstart, release, [repository], load_board(board), load_site(file).disk.bytes)
    assert report.findings == []
    assert report.version == releases()[release].version


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("release", ["almalinux9", "almalinux10"])
def test_every_variant_of_a_site_has_no_findings(tmp_path: Path, release: str, variant: str) -> None:
    file = write_site(tmp_path, VARIANTS[variant])
    site = load_site(file)
    kickstart = tmp_path / "box.ks"
    kickstart.write_text(assemble(site, file, release))
    assert lint(kickstart, "", [], load_board("rap-4"), site.disk.bytes).findings == []


@pytest.mark.parametrize(
    ("table", "is_needed"),
    [("", False), ("[enrolment]\n", False)]
    + [(f'[enrolment]\nkeys = "{keys}"\n', keys != "file") for keys in ("file", "tpm", "tpm-or-file")],
)
def test_a_site_whose_boxes_make_keys_in_a_tpm_gets_the_provider(
    tmp_path: Path, table: str, is_needed: bool
) -> None:
    file = write_site(tmp_path, SITE.replace("[audit]", f"{table}[audit]"))
    assert ("\ntpm2-openssl\n" in assemble(load_site(file), file)) is is_needed


def test_secrets_are_in_a_kickstart_only_as_hashes(tmp_path: Path) -> None:
    file = write_site(tmp_path)
    text = assemble(load_site(file), file)
    assert CRYPT_HASH in text
    assert GRUB_HASH in text
    assert '--passphrase="$passphrase"' in text
    assert "plaintext" not in text
    assert str(tmp_path) not in text, "the kickstart contains a path of this machine"


@pytest.mark.parametrize("release", ["almalinux9", "almalinux10"])
def test_a_failing_line_of_a_script_stops_the_installation(tmp_path: Path, release: str) -> None:
    file = write_site(tmp_path)
    (kickstart := tmp_path / "box.ks").write_text(assemble(load_site(file), file, release))
    scripts = list(read(kickstart, releases()[release].version).sections_named("%pre", "%post"))
    assert len(scripts) > 5
    for script in scripts:
        assert script.script.errorOnFail
        assert len(script.body) == 1 or script.body[0].startswith("set -e"), script.location


def test_the_box_repository_is_on_the_media_unless_the_site_names_another(tmp_path: Path) -> None:
    media = load_site(write_site(tmp_path, VARIANTS["media"]))
    assert box_repository(media) == "file://" + "/run/install/repo/rap-box"
    assert box_repository(load_site(write_site(tmp_path))) == "https://images.example.com/rap-box/"


def test_a_custom_board_file_is_included(tmp_path: Path) -> None:
    ports = '[instrument_ports]\n1 = "eth1"\n'
    (tmp_path / "ours.toml").write_text(f'name = "ours"\nuplink = "eth0"\n{ports}')
    file = write_site(tmp_path, SITE.replace('"rap-4"', '"ours.toml"'))
    text = assemble(load_site(file), file)
    assert "<<'SITE'\nboard = \"ours.toml\"\n" in text
    assert f'cat > /etc/rap/ours.toml <<\'BOARD\'\nname = "ours"\nuplink = "eth0"\n{ports}BOARD\n' in text


def test_the_example_site_is_valid(tmp_path: Path) -> None:
    file = write_site(tmp_path, (FOLDER / "example-site.toml").read_text("utf-8"))
    assert assemble(load_site(file), file).startswith("#version=RHEL9\n# AlmaLinux 9")


def test_the_layout_has_two_slots_of_equal_size_and_only_the_spool_grows() -> None:
    by_mount = {partition.mount: partition for partition in layout()}
    assert by_mount["/"].size_mib == by_mount["/slots/b"].size_mib
    assert [p.mount for p in layout() if p.grow] == ["/var/lib/rap"]
    assert sum(p.size_mib for p in layout()) * MIB < 32_000_000_000


def test_the_same_site_gives_the_same_bytes_in_another_process(tmp_path: Path) -> None:
    file = write_site(tmp_path)
    command = [sys.executable, "-m", "rap", "image", "ks", str(file)]
    outputs = {
        subprocess.run(
            command, capture_output=True, check=True, env={"PYTHONHASHSEED": seed}, cwd=Path.cwd()
        ).stdout
        for seed in ("1", "2")
    }
    assert outputs == {assemble(load_site(file), file).encode()}


@pytest.mark.parametrize(
    ("old", "new", "key", "message"),
    [
        ('board = "rap-4"', 'board = "rap-5"', "board", "known boards: "),
        ('release = "almalinux9"', 'release = "rhel8"', "release", "there are rhel9, almalinux9"),
        ("Europe/Berlin", "Europe/Bern", "timezone", "write it like Europe/Berlin"),
        ('time_servers = ["ntp1.example.com", "ntp2.example.com"]', "", "time_servers", "is missing"),
        ("[uplink]", "[uplink]\nspeed = 3", "uplink.speed", "must be one of address, gateway, nameservers"),
        ('gateway = "192.0.2.1"', "", "uplink", "a fixed `address` needs a `gateway`"),
        ("192.0.2.10/24", "192.0.2.300/24", "uplink", "192.0.2.300"),
        ("ecdsa-sha2-nistp256", "ssh-ed25519", "administrator[0]", "is refused in FIPS mode"),
        ('device = "sda"', "bytes = 8_000_000_000", "disk.bytes", "the partitions need"),
        ('device = "sda"', 'sizes_mib = { "/opt" = 5 }', "disk.sizes_mib", "there are biosboot, /boot/efi"),
        ("192.0.2.10/24", "192.0.2.10", "uplink", "with its prefix length, like 192.0.2.10/24"),
        (
            'gateway = "192.0.2.1"',
            'gateway = "198.51.100.1"',
            "uplink",
            "is not on the network of 192.0.2.10/24",
        ),
        (
            'nameservers = ["192.0.2.53"]',
            'nameservers = ["192.0.2.530"]',
            "uplink.nameservers[0]",
            "192.0.2.530",
        ),
        (
            "[uplink]",
            'instrument_network = "192.0.0.0/16"\n[uplink]',
            "instrument_network",
            "overlaps with the uplink",
        ),
        ("[uplink]", 'instrument_network = "10.77.0.0/24"\n[uplink]', "instrument_network", "room for a /24"),
        ("port = 1\n", "port = 5\n", "instrument[0].port", "rap-4 has no port 5; it has 1, 2, 3, 4"),
        ("port = 1\n", "port = 0\n", "instrument[0].port", ">= 1"),
        ('"CHEM-0001"', '"chem 1"', "instrument[0].serial", "write it like CHEM-0001"),
        (
            "[addresses]",
            '[[instrument]]\nport = 2\nserial = "CHEM-0001"\nmodel = "chemistry-analyzer"\n[addresses]',
            "instrument[1].serial",
            "CHEM-0001 is listed twice",
        ),
        (
            'host = "192.0.2.3"',
            'host = "proxy.example.com"',
            "proxy.host",
            'add [addresses] with "proxy.example.com" = ["…"]',
        ),
        (
            '"ntp2.example.com" =',
            '"ntp3.example.com" =',
            "time_servers[1]",
            "the addresses of ntp2.example.com",
        ),
        ('"audit.example.com" =', '"log.example.com" =', "audit.host", "the addresses of audit.example.com"),
        (
            '"ntp2.example.com" =',
            '"ntp 2" =',
            'addresses."ntp 2"',
            "is not just a host name",
        ),
        ('["203.0.113.5"]', "[]", 'addresses."ingest.example.com"', "length >= 1"),
        ('["203.0.113.5"]', '["203.0.113"]', 'addresses."ingest.example.com"[0]', "write it like 192.0.2.1"),
        ('kind = "http"', 'kind = "ftp"', "proxy.kind", "ftp"),
        ('host = "audit.example.com"', 'host = "a b"', "audit.host", "is not just a host name"),
        ('board = "rap-4"', 'board = "rap-4', "", "is not TOML"),
        (
            "[disk]",
            'instrument_network = "10.77.0.0/24"\n[disk]',
            "administrator[0].instrument_network",
            "unknown key",
        ),
    ],
)
def test_the_error_for_a_wrong_site_names_the_key_and_a_correction(
    tmp_path: Path, old: str, new: str, key: str, message: str
) -> None:
    assert old in SITE
    file = write_site(tmp_path, SITE.replace(old, new))
    with pytest.raises(SettingsError) as caught:
        load_site(file)
    assert caught.value.problems[0].key == key
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "key"),
    [
        ("grub.hash", "hunter2", "boot.password_hash_file"),
        ("labadmin.hash", "$1$abc$" + "a" * 22, "administrator[0].password_hash_file"),
        ("labadmin.hash", None, "administrator[0].password_hash_file"),
        ("audit-ca.pem", "not a certificate", "audit.authority"),
        ("labadmin.hash", "pässword", "administrator[0].password_hash_file"),
    ],
)
def test_an_invalid_secret_is_refused_and_not_shown(
    tmp_path: Path, name: str, content: str | None, key: str
) -> None:
    file = write_site(tmp_path)
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(SettingsError) as caught:
        assemble(load_site(file), file)
    assert caught.value.problems[0].key == key
    assert content is None or content not in str(caught.value)


def test_rhel_over_the_network_needs_the_address_of_a_repository(tmp_path: Path) -> None:
    file = write_site(tmp_path, SITE.replace('base = "https://mirror.example.com/BaseOS/"\n', ""))
    with pytest.raises(SettingsError, match="give the URL of yours"):
        assemble(load_site(file), file, "rhel9")
    assert "https://repo.almalinux.org/almalinux/9/BaseOS" in assemble(load_site(file), file, "almalinux9")


def test_a_wrong_value_hides_no_other_mistakes(tmp_path: Path) -> None:
    text = SITE.replace('board = "rap-4"', 'board = "rap-4"\ncolour = "red"', 1)
    for key, wrong in (("release", "rhel1"), ("timezone", "Europe/Berlln")):
        line = next(line for line in SITE.splitlines() if line.startswith(f"{key} = "))
        text = text.replace(line, f'{key} = "{wrong}"')
    with pytest.raises(SettingsError) as caught:
        load_site(write_site(tmp_path, text))
    assert [problem.key for problem in caught.value.problems] == ["colour", "release", "timezone"]
