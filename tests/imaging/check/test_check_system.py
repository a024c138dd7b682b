"""OpenSCAP checks the box's own image by the STIG: every rule passes or has a reason; changed files are found."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from imaging.build.build import build
from imaging.build.types import BuildRequest
from imaging.check.content import FOLDER, content_for, default_content
from imaging.check.openscap import RULE, ScanReports, scan
from imaging.check.reasons import RuleResult, evaluate, load_exceptions, load_left_out
from imaging.check.tree import opened_tree
from imaging.check.types import InvalidCheckInput
from imaging.kickstart.assemble import assemble
from imaging.kickstart.site import load_site
from imaging.mock_repo.rpms import cached_repository
from imaging.programs import PrerequisiteMissing
from imaging.rpm.build import build_rpm
from rap.__main__ import main
from rap.outcome import FAILED, OK, WRONG_INPUT
from tests.support.imaging.sites import SITE, write_site
from tests.support.imaging.small_system import need_tools
from tests.support.imaging.starts.first_report import MOCK_REPO
from tests.support.paths import ROOT

CONTENT = FOLDER / "ssg-rhel9-ds.xml"
EPOCH = "1700000000"
PASSED_SHARE_MIN = 0.90
MIB_OF = {
    "/boot/efi": 64, "/boot": 192, "/": 1024, "/slots/b": 64, "/home": 32, "/tmp": 32, "/var": 128, "/var/log": 32,
    "/var/log/audit": 32, "/var/tmp": 32, "/var/lib/rap": 256,
}  # fmt: skip

OTHER_POLICY = {"configure_crypto_policy"}
"""CIS requires the policy DEFAULT and OSPP FIPS:OSPP; the box has FIPS, which the STIG requires."""

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("oscap") or not CONTENT.exists(),
    reason="needs root, oscap and RHEL's SCAP content: make setup-image",
)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The box's image with packages of the mock repository; unchanged build steps are cached between runs."""
    need_tools()
    folder = tmp_path_factory.mktemp("image")
    luks, proxy = (re.search(rf"\[{name}\]\n(.+\n)+", SITE) for name in ("luks", "proxy"))
    assert luks and proxy
    sizes = "".join(f'"{mount}" = {mib}\n' for mount, mib in MIB_OF.items())
    text = SITE.replace(luks[0], "").replace(proxy[0], "").replace("ingest.example.com", "192.0.2.1")
    site = write_site(folder, text.replace("[boot]\n", f"[disk.sizes_mib]\n{sizes}\n[boot]\n"))
    kickstart = folder / "box.ks"
    kickstart.write_text(assemble(load_site(site), site))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOURCE_DATE_EPOCH", EPOCH)
        build_rpm(folder / "rpm", "rhel9")
        subprocess.run(
            ["createrepo_c", "--quiet", "--revision", EPOCH, "--set-timestamp-to-revision", folder / "rpm"],
            check=True,
        )
        repositories = (str(cached_repository(MOCK_REPO)), str(folder / "rpm"))
        request = BuildRequest(kickstart, "RHEL9", repositories, folder / "out", MOCK_REPO / "checked")
        return build(request, lambda _name, _kept: None, lambda _line: None).image


@pytest.mark.slow("an image is built, and OpenSCAP checks a thousand rules")
def test_the_box_passes_all_rules_without_a_reason_for_an_exception(
    image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["image", "check", str(image), "--stand-in", "--json"]) == OK
    document = json.loads(capsys.readouterr().out)
    assert document["verdict"] == "pass" and document["stale"] == []
    assert document["counts"]["high"]["fail"] == 0 and document["counts"]["high"]["pass"] >= 15
    assert document["passed_share"] >= PASSED_SHARE_MIN
    assert all(one["reason"] for one in document["fails"])
    assert sum(count["pass"] for count in document["counts"].values()) >= 350


@pytest.mark.slow("OpenSCAP checks hundreds of rules")
def test_the_box_passes_another_profile_with_a_reason_for_each_exception(
    image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """CIS requires another cryptographic policy; `make bench-image ONLY=stig` also checks ANSSI and OSPP."""
    assert main(["image", "check", str(image), "--mock-repo", "--profile", "cis", "--json"]) == OK
    document = json.loads(capsys.readouterr().out)
    assert document["stale"] == [] and all(one["reason"] for one in document["fails"])
    assert {one["rule"] for one in document["fails"] if one["severity"] == "high"} <= OTHER_POLICY


SPOILED = {
    "sysctl_kernel_dmesg_restrict": ("etc/sysctl.d/99-rap.conf", "dmesg_restrict = 1", "dmesg_restrict = 0"),
    "partition_for_tmp": ("etc/fstab", " /tmp ", " /mnt "),
    "mount_option_home_nosuid": ("etc/fstab", " /home ext4 nodev,nosuid,", " /home ext4 nodev,"),
    "sshd_disable_root_login": (
        "etc/ssh/sshd_config.d/00-rap.conf",
        "PermitRootLogin no",
        "PermitRootLogin yes",
    ),
    "accounts_password_pam_minlen": ("etc/security/pwquality.conf", "minlen = 18", "minlen = 8"),
    "accounts_passwords_pam_faillock_deny": (
        "etc/authselect/system-auth",
        "pam_faillock.so preauth",
        "pam_permit.so",
    ),
    "audit_rules_privileged_commands_sudo": (
        "etc/audit/rules.d/50-rap.rules",
        "/usr/bin/sudo ",
        "/usr/bin/nothing ",
    ),
    "kernel_module_tipc_disabled": ("etc/modprobe.d/rap.conf", "install tipc /bin/false", ""),
    "set_firewalld_default_zone": ("etc/firewalld/firewalld.conf", "DefaultZone=drop", "DefaultZone=public"),
    "grub2_audit_argument": ("boot/loader/entries/rap-*.conf", "audit=1", "audit=0"),
    "selinux_state": ("etc/selinux/config", "SELINUX=enforcing", "SELINUX=permissive"),
    "rsyslog_remote_loghost": ("etc/rsyslog.d/50-rap-audit.conf", "*.* @@", "#"),
}


@pytest.mark.slow("OpenSCAP checks a thousand rules")
def test_changed_files_are_found_and_the_tree_is_not_written_to(image: Path, tmp_path: Path) -> None:
    """One scan, which takes 15 s, for all changed files, a disabled service and a changed mode."""
    with opened_tree(image) as tree:
        for pattern, right, wrong in SPOILED.values():
            (file,) = tree.glob(pattern)
            text = file.read_text()
            assert right in text, file
            file.unlink()  # writing through a symbolic link would change this machine's own file
            file.write_text(text.replace(right, wrong))
        (tree / "etc/systemd/system/multi-user.target.wants/auditd.service").unlink()
        (tree / "etc/shadow").chmod(0o644)
        (tree / "etc/localtime").unlink()
        (tree / "etc/localtime").symlink_to("/etc/hostname")
        (arf := tmp_path / "arf.xml").touch()
        before = _listing(tree)
        results = scan(tree, CONTENT, ScanReports(arf=arf))
        assert _listing(tree) == before
    evaluation = evaluate(results, load_exceptions(), load_left_out(image=True, mock_repo=True))
    unexplained = {one.rule for one in evaluation.fails if not one.reason}
    expected = {*SPOILED, "service_auditd_enabled", "file_permissions_etc_shadow"}
    assert expected <= unexplained, expected - unexplained
    assert f"{RULE}selinux_state" in arf.read_text()
    assert not Path("/proc/mounts").read_text().count("rap-check-")


def _listing(tree: Path) -> Sequence[tuple[str, int, float]]:
    return [(str(path), path.lstat().st_mode, path.lstat().st_mtime) for path in sorted(tree.rglob("*"))]


def _rhel(tree: Path, name: str = "rhel", version: str = "9.4") -> Path:
    """Make a tree with the release files of RHEL or of the distribution `name`; return it."""
    for folder in ("etc", "usr/lib", "var/lib/rpm"):
        (tree / folder).mkdir(parents=True)
    (tree / "etc/redhat-release").write_text(f"Somebody's Linux release {version} (Somewhat)\n")
    (tree / "usr/lib/os-release").write_text(
        f'ID="{name}"\nVERSION_ID="{version}"\nPRETTY_NAME="Somebody\'s Linux"\n'
    )
    return tree


def test_the_scap_content_is_that_of_the_systems_release(tmp_path: Path) -> None:
    assert default_content(_rhel(tmp_path / "9")) == CONTENT
    with pytest.raises(
        PrerequisiteMissing, match=r"ssg-rhel77-ds.xml: missing; apt-get install ssg-nondebian"
    ):
        default_content(_rhel(tmp_path / "77", version="77.1"))
    with pytest.raises(InvalidCheckInput, match="is neither RHEL nor a rebuild of it"):
        default_content(tmp_path)


def test_a_rhel_rebuild_is_checked_with_the_content_of_rhel(tmp_path: Path) -> None:
    content = CONTENT.read_bytes()
    assert content_for(CONTENT, _rhel(tmp_path / "rhel")) == content
    platform = b'<xccdf-1.2:platform idref="cpe:/o:redhat:enterprise_linux:9"/>'
    assert (
        content_for(CONTENT, _rhel(tmp_path / "rocky", "rocky")) == content.replace(platform, b"") != content
    )
    assert content_for(CONTENT, _rhel(tmp_path / "alma", "almalinux", "8.9")) == content


def test_a_system_that_cannot_be_checked_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (empty := tmp_path / "empty").mkdir()
    (image := tmp_path / "some.raw").touch()
    (text := tmp_path / "text.xml").write_text("<Benchmark/>")
    (cut := tmp_path / "cut.xml").write_bytes(CONTENT.read_bytes()[:100_000])
    (bare := tmp_path / "bare.xml").write_text("<data-stream-collection/>")
    system = str(_rhel(tmp_path / "system"))
    for arguments, message in (
        ([str(tmp_path / "nothing")], "nothing: does not exist; give the folder of a system"),
        ([str(empty)], "is neither RHEL nor a rebuild of it"),
        ([str(image)], "some.build.json: cannot be read"),
        ([system, "--content", str(text)], "text.xml: is not a SCAP data stream"),
        ([system, "--content", str(tmp_path / "none.xml")], "none.xml: cannot be read"),
        ([system, "--content", str(cut)], "cut.xml: is not a complete SCAP data stream"),
        ([system, "--content", str(bare)], "bare.xml: has no XCCDF benchmark"),
        (
            [system, "--profile", "cis2"],
            "has no profile cis2; give one of these with --profile: anssi_bp28_enhanced",
        ),
        (["--httpd", str(text), "--profile", "cis"], "--profile requires a system"),
        ([str(empty), "--content", str(CONTENT)], "has no package database"),
        ([system, "--exceptions", str(text)], "text.xml: "),
        ([system, "--report", str(tmp_path / "none/report.html")], "is not a file in an existing folder"),
        ([system, "--arf", str(empty)], "is not a file in an existing folder"),
        ([system, "--httpd-program", "x"], "--httpd-program requires --httpd"),
    ):
        assert main(["image", "check", *arguments]) == WRONG_INPUT
        assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("**/mounts"))


UNITS = ROOT / "tests/fixtures/scap/units-ds.xml"
"""Content in DISA's form: rules that ask systemd for the state of units and whose names do not contain the unit."""


def test_rules_that_ask_systemd_are_decided_by_the_symbolic_links_in_the_tree(tmp_path: Path) -> None:
    tree = _rhel(tmp_path / "system")
    units = tree / "usr/lib/systemd/system"
    (wants := tree / "etc/systemd/system/multi-user.target.wants").mkdir(parents=True)
    units.mkdir(parents=True)
    for name in ("log.service", "dump.service"):
        (units / name).write_text("[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n")
        (wants / name).symlink_to(f"/usr/lib/systemd/system/{name}")

    def results() -> dict[str, str]:
        return {one.rule: one.result for one in scan(tree, UNITS, profile="all")}

    assert results() == {"RHEL-09-000001": "pass", "RHEL-09-000002": "fail", "RHEL-09-000003": "fail"}
    (wants / "log.service").unlink()
    (tree / "etc/systemd/system/dump.service").symlink_to("/dev/null")
    assert results() == {"RHEL-09-000001": "fail", "RHEL-09-000002": "pass", "RHEL-09-000003": "fail"}


def _scanner(folder: Path, body: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Replace oscap by a script that appends a line to the returned file and then runs the commands in `body`."""
    (programs := folder / "bin").mkdir()
    (programs / "oscap").write_text(f"#!/bin/sh\necho started >> {folder}/log\n{body}\n")
    (programs / "oscap").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setattr("imaging.check.openscap.IDLE_SECONDS_MAX", 1)
    return folder / "log"


def test_a_scanner_that_waits_forever_is_started_again_and_then_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = _scanner(tmp_path, "exec sleep 1000", monkeypatch)
    with pytest.raises(InvalidCheckInput, match="oscap used no processor time for 1 s, in 3 tries"):
        scan(_rhel(tmp_path / "system"), CONTENT)
    assert log.read_text() == "started\n" * 3


def test_a_scanner_that_computes_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    busy = "i=0; while [ $i -lt 1500000 ]; do i=$((i + 1)); done; exit 9"
    log = _scanner(tmp_path, busy, monkeypatch)
    with pytest.raises(InvalidCheckInput, match="oscap failed with exit status 9"):
        scan(_rhel(tmp_path / "system"), CONTENT)
    assert log.read_text() == "started\n"


def test_the_processor_time_of_a_scanner_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = _scanner(tmp_path, "while :; do :; done", monkeypatch)
    monkeypatch.setattr("imaging.check.view.PROCESSOR_SECONDS_MAX", 1)
    with pytest.raises(InvalidCheckInput, match="did not end within 1 s of processor time"):
        scan(_rhel(tmp_path / "system"), CONTENT)
    assert log.read_text() == "started\n"


def test_content_for_another_system_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    system, report = _rhel(tmp_path / "system"), tmp_path / "report.html"
    version, another = "<xccdf:version>1</xccdf:version>", '<xccdf:platform idref="cpe:/o:example:linux:1"/>'
    text = UNITS.read_text()
    assert version in text
    (content := tmp_path / "another.xml").write_text(text.replace(version, another + version))
    arguments = ["--content", str(content), "--profile", "all", "--report", str(report)]
    assert main(["image", "check", str(system), *arguments]) == WRONG_INPUT
    assert "<html" in report.read_text()
    assert (
        "no rule applies to Somebody's Linux; give the content for that system with --content"
        in capsys.readouterr().err
    )


def test_a_failing_rule_ends_the_command_with_status_1(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    results = [RuleResult("a_rule", "high", "about a rule", "fail")]
    monkeypatch.setattr("imaging.check.system.scan", lambda *_: results)
    assert main(["image", "check", str(_rhel(tmp_path / "system"))]) == FAILED
