"""Kickstarts of systems other than the box: automatic partitions, images and packages of other vendors."""

from __future__ import annotations

from pathlib import Path

import pytest

from imaging.kickstart.lint import lint
from imaging.repository.repository import Repository
from tests.support.imaging.kickstarts import check, good
from tests.support.imaging.repositories import BOX, BOX_COMPS, Comps, Rpm, write_repository

VENDORS = (
    Rpm("vendor", files=("/etc/systemd/system/vendor.socket",)),
    Rpm("older", files=("/lib/systemd/system/older.service",)),
    Rpm("terminal", files=("/usr/lib/systemd/system/getty@.service",)),
)
AUTOMATIC = """\
#version=RHEL9
text
url --url=https://mirror.example.com/BaseOS/
zerombr
clearpart --all --initlabel
{}
rootpw --lock
user --name=labadmin --groups=wheel --lock
bootloader --append="fips=1"
%packages
@core
%end
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    return Repository.load(write_repository(tmp_path_factory.mktemp("repo"), (*BOX, *VENDORS), BOX_COMPS))


def rules_reported(text: str, folder: Path, repository: Repository) -> set[str]:
    (folder / "other.ks").write_text(text)
    return {finding.rule for finding in check(folder / "other.ks", repository).findings}


@pytest.mark.parametrize(
    ("line", "rules"),
    [
        ("autopart", set()),
        ("autopart --fstype=ext4", set()),
        ("autopart --fstype=zfs", {"unknown-file-system"}),
        ("autopart --encrypted --pbkdf=pbkdf2 --passphrase=$passphrase", set()),
        ("autopart --encrypted --pbkdf=pbkdf2", {"passphrase-missing"}),
        ("autopart --encrypted --pbkdf=pbkdf2 --passphrase=hunter2", {"passphrase-in-file"}),
        ("autopart --encrypted --passphrase=$passphrase", {"luks-key-derivation"}),
        ("autopart --encrypted --luks-version=luks1 --passphrase=$passphrase", set()),
        ("autopart --pbkdf=argon2id", set()),
    ],
)
def test_automatic_partitioning_is_checked_like_explicit_partitions(
    line: str, rules: set[str], tmp_path: Path, repository: Repository
) -> None:
    about = {"passphrase-missing", "passphrase-in-file", "luks-key-derivation", "unknown-file-system"}
    assert rules_reported(AUTOMATIC.format(line), tmp_path, repository) & about == rules


@pytest.mark.parametrize(
    "command", ["liveimg --url=https://mirror.example.com/root.img", "url --url=https://mirror.example.com/"]
)
def test_an_image_of_a_root_needs_no_packages(command: str, tmp_path: Path, repository: Repository) -> None:
    text = AUTOMATIC.format("autopart").replace("url --url=https://mirror.example.com/BaseOS/", command)
    text = text.replace("%packages\n@core\n%end\n", "")
    assert ("no-packages" in rules_reported(text, tmp_path, repository)) is command.startswith("url")


def test_units_may_be_in_any_unit_folder_and_may_be_instances_of_templates(
    tmp_path: Path, repository: Repository
) -> None:
    text = good("", "almalinux9").replace("\nchrony\n", "\nchrony\nvendor\nolder\nterminal\n")
    for names, rules in (
        ("vendor.socket,older,getty@tty1,getty@tty2.service", set()),
        ("vendor", {"unknown-service"}),
        ("older.socket", {"unknown-service"}),
        ("tty@getty", {"unknown-service"}),
    ):
        changed = text.replace("services --enabled=auditd,", f"services --enabled=auditd,{names},")
        assert rules_reported(changed, tmp_path, repository) == rules, names


def test_without_a_repository_packages_are_not_checked(tmp_path: Path) -> None:
    text = good("", "almalinux9").replace("\nchrony\n", "\nnonesuch\n")
    text = text.replace("services --enabled=auditd,", "services --enabled=nonesuch,")
    (tmp_path / "other.ks").write_text(text)
    assert {finding.rule for finding in lint(tmp_path / "other.ks", "", [], None, None).findings} == set()


def test_a_requirement_of_a_groups_package_is_reported_at_the_packages(tmp_path: Path) -> None:
    comps = Comps(groups={**BOX_COMPS.groups, "core": ("bash", "needy")}, environments=BOX_COMPS.environments)
    repository = Repository.load(write_repository(tmp_path / "repo", BOX, comps))
    (tmp_path / "other.ks").write_text(text := AUTOMATIC.format("autopart"))
    findings = check(tmp_path / "other.ks", repository).findings
    (unmet,) = [finding for finding in findings if finding.rule == "unmet-requirement"]
    assert unmet.line == text.splitlines().index("%packages") + 1
    assert unmet.problem == "needy requires libnothing.so.1()(64bit), which no package has"
