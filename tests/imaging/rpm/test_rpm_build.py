"""The package is built twice, inspected, installed into an empty root, and run there.

Building it takes some ten seconds, and so does a repository to install from; the first worker that needs one makes it
for the session.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from imaging.mock_repo.rpms import MockPackages, Stub, contents, make_repository
from imaging.rpm.build import build_rpm, source_date_epoch
from imaging.rpm.contents import REPOSITORY, load_contents, locked
from imaging.rpm.tree import PLATFORMS
from rap.__main__ import main
from tests.support.imaging.sites import PROVISIONED_SITE
from tests.support.runner.once import once

PROGRAMS = ("rpmbuild", "rpm", "cc", "createrepo_c", "dnf", "apt-get", "dpkg-deb", "unshare")
MISSING = [program for program in PROGRAMS if shutil.which(program) is None]
pytestmark = [
    pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]
NEWEST_GLIBC = (2, 34)
"""The glibc of RHEL 9."""
NOT_RUN = (
    "NetworkManager",
    "firewalld",
    "httpd",
    "iproute",
    "mod_ssl",
    "openvpn",
    "rsyslog",
    "rsyslog-gnutls",
    "util-linux",
)
"""Packages that the box's package requires and `rap box run --check` does not use."""


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package for RHEL 9, alone in its folder."""
    return next(once(tmp_path_factory, "rpm", lambda folder: build_rpm(folder, "rhel9")).glob("*.rpm"))


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Packages with RHEL's names: real ones for programs that are run, empty ones for the rest."""
    everything = contents()
    with_files = {name: everything.stubs[name] for name in ("filesystem", "libreswan")}
    stubs = {**with_files, **{name: Stub() for name in NOT_RUN}}
    few = MockPackages(
        debs=["bash", "coreutils", "netbase", "nftables", "python3.11", "python3-cryptography", "systemd"],
        leave_out=everything.leave_out,
        also={**everything.also, "libc6": ["glibc"], "netbase": ["setup"]},
        scripts={},
        first={},
        groups={},
        environments={},
        stubs=stubs,
    )
    debs = tmp_path_factory.mktemp("debs")
    return once(tmp_path_factory, "repository", lambda folder: make_repository(folder, debs, few))


@pytest.fixture(scope="module")
def installed(package: Path, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root into which dnf has installed only the package and its dependencies."""
    home = tmp_path_factory.mktemp("dnf")
    subprocess.run(["createrepo_c", "--quiet", "--outputdir", home, package.parent], check=True)
    (home / ".rpmmacros").write_text("%_dbpath /var/lib/rpm\n")
    (home / "dnf.conf").write_text("[main]\n")
    root = home / "root"
    settings = {"reposdir": "/dev/null", "install_weak_deps": 0, "module_platform_id": ""}
    command = ["dnf", "--assumeyes", "--noplugins", "--nogpgcheck", f"--config={home / 'dnf.conf'}"]
    command += [
        f"--installroot={root}",
        "--releasever=/",
        *(f"--setopt={k}={v}" for k, v in settings.items()),
    ]
    command += [f"--repofrompath=mock-repo,file://{repository}", f"--repofrompath=box,file://{home}"]
    (home / package.name).symlink_to(package)
    environment = {**os.environ, "HOME": str(home)}
    done = subprocess.run(
        [*command, "install", "rap-box"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "scriptlet failed" not in done.stdout + done.stderr
    return root


def query(package: Path, *options: str) -> list[str]:
    done = subprocess.run(["rpm", "-qp", *options, package], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


@pytest.mark.slow("the package is built and installed, by the first test that needs it")
def test_units_are_wanted_by_links(installed: Path) -> None:
    """systemd ignores files that are not links in these folders: "Wants dependency dropin … is not a symlink"."""
    links = sorted((installed / "usr/lib/systemd/system").glob("*.wants/rap-*"))
    assert {link.parent.name.partition(".")[0] for link in links} == {"emergency", "multi-user", "sysinit"}
    for link in links:
        assert link.is_symlink() and link.resolve(strict=True) == link.parent.parent / link.name


@pytest.mark.slow("the package is built twice")
def test_two_builds_are_identical(package: Path, tmp_path: Path) -> None:
    """The second build has another folder, time zone, umask and host name, and installs from wheels."""
    copy, wheels = tmp_path / "another/folder", tmp_path / "wheels"
    for name in (
        "agents",
        "firmware-image",
        "hal",
        "imaging",
        "kickstart",
        "netfw",
        "profiles",
        "rap",
        "settings",
        "trust",
        "wire",
        "LICENSES",
    ):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(REPOSITORY / name, copy / name, symlinks=True, ignore=ignored)
    for name in ("LICENSE", "pyproject.toml", "requirements.txt"):
        shutil.copy(REPOSITORY / name, copy)
    fetch_wheels(wheels, tmp_path)
    command = [sys.executable, "-m", "rap", "image", "rpm", "-o", "out", "--wheels", str(wheels)]
    done = subprocess.run(
        ["unshare", "--uts", "sh", "-c", 'hostname elsewhere; umask 077; exec "$@"', "sh", *command],
        cwd=copy,
        env={
            **os.environ,
            "PYTHONPATH": str(copy),
            "TZ": "Asia/Tokyo",
            "SOURCE_DATE_EPOCH": str(source_date_epoch()),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (copy / "out" / package.name).read_bytes() == package.read_bytes()


def fetch_wheels(folder: Path, work: Path) -> None:
    """Download the wheels of the package's requirements."""
    packages = locked(load_contents(), (REPOSITORY / "requirements.txt").read_text())
    (work / "requirements.txt").write_text("".join(one.text for one in packages))
    platforms = [option for name in PLATFORMS for option in ("--platform", name)]
    command = [
        "download",
        "--quiet",
        "--dest",
        str(folder),
        "--no-deps",
        "--only-binary=:all:",
        "--require-hashes",
    ]
    command += ["--python-version", "3.11", *platforms, "--requirement", str(work / "requirements.txt")]
    subprocess.run([sys.executable, "-m", "pip", *command], check=True, capture_output=True)


def test_the_package_describes_itself_and_does_not_name_its_build_host(package: Path) -> None:
    description = "\n".join(query(package, "--info", "--requires", "--provides"))
    assert re.search(r"^Build Host +: rap-box$", description, re.MULTILINE)
    for needed in (
        "python3.11 < 3.12",
        "python3.11-cryptography",
        "bundled(python3dist(cffi)) = ",
        "nftables >= 1.0",
    ):
        assert needed in description
    assert query(package, "--recommends") == ["tpm2-openssl"]
    assert "tpm2-openssl" not in description
    assert "bundled(python3dist(cryptography))" not in description
    assert re.search(r"^License +: .*GPL-2.0-only", description, re.MULTILINE)
    assert os.uname().nodename not in description


def test_the_package_contains_only_the_box(package: Path) -> None:
    files = query(package, "--list")
    python = "/usr/lib/rap/python"
    for file in (
        f"{python}/agents/box/box.py",
        f"{python}/settings/boards/rap-4.toml",
        f"{python}/wire/dictionaries/v1.zdict",
    ):
        assert file in files
    assert "/usr/lib/rap/provision" in files
    others = (
        "datacenter",
        "sim",
        "hal/emul",
        "imaging/kickstart",
        "imaging/rpm/build.py",
        "rap/lab/__init__.py",
        "simpy",
        "plotly",
    )
    assert not [file for file in files if file.startswith(f"{python}/cryptography")], (
        "the distribution's cryptography must be used"
    )
    assert not [file for file in files if file.startswith(tuple(f"{python}/{name}" for name in others))]
    modules = {file for file in files if file.endswith(".py")}
    compiled = {
        re.sub(r"__pycache__/(\w+)\.cpython-311\.pyc$", r"\1.py", file)
        for file in files
        if file.endswith(".pyc")
    }
    assert compiled == modules


def test_compiled_modules_run_with_the_oldest_c_library(package: Path, tmp_path: Path) -> None:
    subprocess.run(f"rpm2cpio {package} | cpio --quiet -idm '*.so*'", shell=True, cwd=tmp_path, check=True)
    libraries = list(tmp_path.rglob("*.so*"))
    assert "_ioctl.abi3.so" in {library.name for library in libraries}
    for library in libraries:
        wanted = re.findall(rb"GLIBC_(\d+)\.(\d+)", library.read_bytes())
        assert all((int(major), int(minor)) <= NEWEST_GLIBC for major, minor in wanted), library


@pytest.mark.slow("the package and its dependencies are installed into a new root")
def test_the_installed_box_program_runs(installed: Path, tmp_path: Path) -> None:
    def inside(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["chroot", installed, *command], capture_output=True, text=True, check=False)

    (installed / "etc/rap/site.toml").write_text(PROVISIONED_SITE)
    provisioned = inside("/usr/lib/rap/provision", "--site", "/etc/rap/site.toml")
    assert provisioned.returncode == 0, provisioned.stderr
    rendered = inside("/usr/bin/rap", "fw", "render", "/etc/rap/firewall.toml")
    assert rendered.stdout.startswith("table inet rap {"), rendered.stderr
    check = ("/usr/bin/rap", "box", "run", "--check", "--config", "/etc/rap/box.toml")
    assert "identity.certificate: /var/lib/rap/identity/box.crt" in inside(*check).stderr
    bring_identity(installed / "var/lib/rap/identity", tmp_path / "pki")
    assert inside(*check).stdout == "/etc/rap/box.toml: OK\n"
    statements = "import sys; sys.path.insert(0, '/usr/lib/rap/python'); import hal.linux._ioctl"
    assert inside("/usr/bin/python3.11", "-ISc", statements).returncode == 0
    tested = json.loads(inside("/usr/bin/rap", "trust", "fips", "--json").stdout)
    assert not {"cryptography", "answers"} & set(tested["failed"]), (
        "the system's OpenSSL must be used, not a wheel's"
    )
    assert {"provider", "default"} <= set(tested["failed"])


def test_nothing_installed_differs_from_the_package(installed: Path) -> None:
    command = ["rpm", f"--root={installed}", "--dbpath=/var/lib/rpm", "-V", "-v", "rap-box"]
    lines = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
    assert [line for line in lines if not line.startswith("." * 9)] == []
    assert "/usr/bin/rap" in {line.split()[-1] for line in lines}
    assert (installed / "etc/sudoers.d/rap").stat().st_mode & 0o7777 == 0o440  # or `visudo -c` complains


def test_the_folders_of_the_box_belong_to_its_user(installed: Path) -> None:
    user = re.search(r"^rap:x:(\d+):(\d+):", (installed / "etc/passwd").read_text(), re.MULTILINE)
    assert user
    spool, identity = (installed / "var/lib/rap" / name for name in ("spool", "identity"))
    assert (spool.stat().st_uid, spool.stat().st_mode & 0o7777) == (int(user[1]), 0o700)
    assert (identity.stat().st_uid, identity.stat().st_gid) == (0, int(user[2]))
    assert identity.stat().st_mode & 0o7777 == 0o2750


def bring_identity(folder: Path, pki: Path) -> None:
    """Issue an identity for a box, and copy it to where the box program reads it."""
    assert main(["pki", "init", str(pki)]) == 0
    assert main(["pki", "issue", str(pki), "RAP-0001", "--for", "box", "--host", "127.0.0.1"]) == 0
    for name in ("vendor-ca.crt", "datacenter-root.crt"):
        shutil.copy(pki / name, folder)
    for end in ("crt", "key"):
        shutil.copy(pki / f"rap-0001.{end}", folder / f"box.{end}")
