"""Every planted deviation of a machine from its papers is detected, with the statement and both values."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from imaging.papers.make import make_papers
from netfw.kernel.nft import Nft
from netfw.policy.policyfile import load_policy
from netfw.ruleset.render import render
from settings.toml import load
from settings.types import Table
from tests.support.namespaces import Namespace, namespace
from tests.support.paths import FIXTURES
from tests.support.trust.recorded_tree import recorded_tree
from trust.machine import Files
from trust.papers import Papers
from trust.verify import PaperComparison, compare
from wire.pki.hierarchy import Authority

AUTHORITY = Authority.make("another").certificate.public_bytes(Encoding.PEM).decode()


class Plant(Table, frozen=True):
    """A change of a file, and the fact that it affects."""

    name: str
    fact: str
    file: str
    new: str
    old: str = ""

    def apply(self, tree: Path) -> None:
        path = tree / self.file
        path.parent.mkdir(parents=True, exist_ok=True)
        before = path.read_text() if path.exists() else ""
        assert self.old in before
        new = self.new.replace("AUTHORITY", AUTHORITY)
        path.write_text(before.replace(self.old, new, 1) if self.old else before + new)


class Plants(Table, frozen=True):
    """The content of deviations.toml."""

    plant: list[Plant]


PLANTS = load(FIXTURES / "trust/deviations.toml", Plants).plant


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recorded_tree(tmp_path_factory.mktemp("image"))


@pytest.fixture(scope="module")
def papers(image: Path) -> Papers:
    return make_papers("clinic", Files(image, runs=False), "tree")


@pytest.fixture
def tree(image: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(image, tmp_path / "tree", symlinks=True))


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.name)
def test_a_changed_file_is_found(plant: Plant, papers: Papers, tree: Path) -> None:
    plant.apply(tree)
    result = compare(papers, Files(tree, runs=False))
    assert not result.agrees
    (deviation,) = [deviation for deviation in result.deviations if deviation.fact == plant.fact]
    assert deviation.machine is not None
    assert set(deviation.machine) ^ set(deviation.papers), "the deviation shows no difference"


def test_an_enabled_service_is_found(papers: Papers, tree: Path) -> None:
    (tree / "etc/systemd/system/multi-user.target.wants/telnet.service").symlink_to(
        "/usr/lib/systemd/system/telnet.service"
    )
    assert {deviation.fact for deviation in compare(papers, Files(tree, runs=False)).deviations} == {
        "services.enabled"
    }


def test_an_unmasked_service_is_found(papers: Papers, tree: Path) -> None:
    (tree / "etc/systemd/system/debug-shell.service").unlink()
    assert {deviation.fact for deviation in compare(papers, Files(tree, runs=False)).deviations} == {
        "services.masked"
    }


def test_a_file_that_disappeared_is_found(papers: Papers, tree: Path) -> None:
    (tree / "etc/rap/firewall.toml").unlink()
    deviations = {
        deviation.fact: deviation for deviation in compare(papers, Files(tree, runs=False)).deviations
    }
    assert deviations["firewall.rules"].machine is None
    assert "not shown" in "\n".join(deviations["firewall.rules"].lines())


def test_a_deviation_names_the_statement_and_both_values(papers: Papers, tree: Path) -> None:
    next(plant for plant in PLANTS if plant.fact == "policy.outbound").apply(tree)
    deviations = {
        deviation.fact: deviation for deviation in compare(papers, Files(tree, runs=False)).deviations
    }
    lines = "\n".join(deviations["policy.outbound"].lines())
    assert "PORT-1" in lines
    assert "198.51.100.1" in lines


# --- the kernel: its packet filter and its sockets

needs_root = pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("nft"), reason="needs root and nft")


@dataclass
class RunningBox:
    """A network namespace with the image's firewall and listening sockets."""

    space: Namespace
    tree: Path
    sockets: ExitStack

    def compare(self, papers: Papers) -> PaperComparison:
        return self.space.run(lambda: compare(papers, Files(self.tree, runs=True)))

    def papers(self) -> Papers:
        return self.space.run(lambda: make_papers("clinic", Files(self.tree, runs=True), "running"))

    def nft(self, text: str) -> None:
        self.space.command("nft", "-f", "-", input=text)

    def listen(self, address: str, port: int, kind: socket.SocketKind = socket.SOCK_STREAM) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        own = self.sockets.enter_context(self.space.socket(family, kind))
        level, free_bind = (socket.IPPROTO_IPV6, 78) if family == socket.AF_INET6 else (socket.SOL_IP, 15)
        own.setsockopt(level, free_bind, 1)
        if family == socket.AF_INET6:
            own.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        own.bind((address, port))
        if kind == socket.SOCK_STREAM:
            own.listen()


@pytest.fixture
def running(tree: Path) -> Iterator[RunningBox]:
    with namespace() as space, ExitStack() as sockets:
        box = RunningBox(space, tree, sockets)
        policy = load_policy(tree / "etc/rap/firewall.toml")

        def apply() -> None:
            nft = Nft()
            nft.run(render(policy).commands())
            nft.close()

        space.run(apply)
        space.write("ipv4/ip_forward", 0)
        box.nft("table inet firewalld {}")
        for port in policy.ports:
            box.listen(str(port.addresses[0].ip), 443)
        box.listen("0.0.0.0", 22)
        box.listen("::", 22)
        box.listen("127.0.0.1", 9999)
        yield box


@needs_root
@pytest.mark.kernel
def test_the_kernel_of_a_box_agrees_with_the_papers_of_its_image(papers: Papers, running: RunningBox) -> None:
    result = running.compare(papers)
    of_kernel = {deviation.fact for deviation in result.deviations} & {
        "firewall.rules",
        "firewall.other-tables",
        "sockets.listening",
    }
    assert of_kernel == set()


OF_THE_KERNEL = {"firewall.rules", "firewall.other-tables", "sockets.listening"}
NAT = "table ip nat { chain c { type nat hook postrouting priority 100; policy accept; }; }"
ONE_MORE = "add element inet rap authorized4 { 198.51.100.1 . tcp . 443 }"
ACCEPTS = "add chain inet rap input { policy accept; }"
KERNEL_PLANTS: list[tuple[str, str, Callable[[RunningBox], None]]] = [
    ("an open TCP port", "sockets.listening", lambda box: box.listen("0.0.0.0", 4444)),
    ("an open UDP port", "sockets.listening", lambda box: box.listen("::", 161, socket.SOCK_DGRAM)),
    ("a rule that accepts", "firewall.rules", lambda box: box.nft("insert rule inet rap input accept")),
    ("a rule removed", "firewall.rules", lambda box: box.nft("flush chain inet rap output")),
    ("a chain that accepts by default", "firewall.rules", lambda box: box.nft(ACCEPTS)),
    ("one more destination", "firewall.rules", lambda box: box.nft(ONE_MORE)),
    ("a destination removed", "firewall.rules", lambda box: box.nft("flush set inet rap authorized4")),
    ("another table", "firewall.other-tables", lambda box: box.nft(NAT)),
    ("no firewall", "firewall.rules", lambda box: box.nft("flush ruleset")),
    ("a kernel setting", "system.kernel-settings", lambda box: box.space.write("ipv4/ip_forward", 1)),
]  # fmt: skip


@needs_root
@pytest.mark.kernel
@pytest.mark.parametrize(("fact", "plant"), [pytest.param(*rest, id=name) for name, *rest in KERNEL_PLANTS])
def test_a_change_of_the_kernel_is_found(
    fact: str, plant: Callable[[RunningBox], None], running: RunningBox
) -> None:
    own_papers = running.papers()
    assert running.compare(own_papers).agrees
    plant(running)
    assert fact in {deviation.fact for deviation in running.compare(own_papers).deviations}


@needs_root
def test_a_package_that_was_installed_is_found(tree: Path, tmp_path: Path) -> None:
    if not shutil.which("rpm") or not shutil.which("rpmbuild"):
        pytest.skip("needs rpm and rpmbuild: make setup-image")
    database = tree / "var/lib/rpm"
    database.mkdir(parents=True)
    rpm = ["rpm", "--root", str(tree), "--dbpath", "/var/lib/rpm"]
    subprocess.run([*rpm, "--initdb"], check=True)
    own_papers = make_papers("clinic", Files(tree, runs=False), "tree")
    spec = tmp_path / "more.spec"
    spec.write_text(
        "Name: more\nVersion: 1\nRelease: 1\nSummary: more\nLicense: MIT\n%description\nmore\n%files\n"
    )
    subprocess.run(["rpmbuild", "-bb", "--quiet", "--define", f"_topdir {tmp_path}/rpm", spec], check=True)
    (package,) = (tmp_path / "rpm").rglob("more-*.rpm")
    inside = tree / "more.rpm"
    shutil.copy(package, inside)
    subprocess.run([*rpm, "-i", "--justdb", "--nodeps", "--noscripts", str(inside)], check=True)
    assert [deviation.fact for deviation in compare(own_papers, Files(tree, runs=False)).deviations] == [
        "packages.installed"
    ]
