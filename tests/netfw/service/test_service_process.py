"""The firewall service as a process: permitted observers, accepted policies, and loaded modules."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hal.linux import netlink
from netfw.events import FirewallState
from netfw.service.protocol import ConnectionRefusal, Hello, decoded, framed
from netfw.service.requests import receive
from netfw.service.spawn import environment
from tests.support.eventually import WAIT_SECONDS_MAX, poll_until
from tests.support.namespaces import Namespace, cable, namespaces
from tests.support.netfw.service_process import ready, service
from tests.support.paths import ROOT

pytestmark = pytest.mark.kernel

NOBODY = 65534
BOARD = 'name = "two"\nuplink = "uplink"\n[instrument_ports]\n1 = "port1"\n2 = "port2"\n'
POLICY = """\
board = "board.toml"
[[authorized]]
role = "datacenter"
addresses = ["203.0.113.5"]
protocol = "tcp"
ports = [443]
[[port]]
number = 1
addresses = ["10.77.1.1/24"]
services = ["tcp/443"]
"""


@pytest.fixture
def box() -> Iterator[Namespace]:
    with namespaces(2) as (box, other):
        for name in ("uplink", "port1", "port2"):
            cable(box, name, other, f"{name}-peer")
        yield box


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that only root can write to, inside one that other users can access."""
    for path in (tmp_path, *list(tmp_path.parents)[:3]):
        path.chmod(0o755)
    (tmp_path / "board.toml").write_text(BOARD)
    (tmp_path / "firewall.toml").write_text(POLICY)
    return tmp_path


def observe(folder: Path, request: bytes = framed(Hello())) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(WAIT_SECONDS_MAX)
    connection.connect(os.fspath(folder / "socket"))
    connection.sendall(request)
    return connection


def state_of(connection: socket.socket) -> FirewallState:
    while not isinstance(answer := decoded(receive(connection, 1 << 20)), FirewallState):
        assert not isinstance(answer, ConnectionRefusal), answer
    return answer


def is_open(box: Namespace, interface: str) -> bool:
    return bool(box.run(lambda: netlink.interface_info(interface)).flags & netlink.IFF_UP)


def rules(box: Namespace) -> list[str]:
    listed = subprocess.run(
        box.wrap("nft", "-a", "list", "table", "inet", "rap"), capture_output=True, text=True, check=False
    )
    return re.findall(r"# handle \d+", listed.stdout)


def test_the_service_opens_ports_and_a_killed_service_leaves_everything_in_force(
    box: Namespace, folder: Path
) -> None:
    with service(box, folder, "--ready", f"{folder}/ready") as process:
        ready(process)
        with observe(folder) as observer:
            assert state_of(observer).in_force
            assert (folder / "ready").exists()
            assert (is_open(box, "port1"), is_open(box, "port2")) == (True, False)
            box.command("nft", "flush ruleset")
            while not state_of(observer).repairs:
                pass
            before = rules(box)
            process.kill()
            process.wait()
            assert observer.recv(1 << 20) is not None  # the end of the connection is received at once
    assert rules(box) == before
    assert is_open(box, "port1")
    with service(box, folder) as process:  # the socket of the killed service is replaced
        ready(process)
        with observe(folder) as observer:
            assert state_of(observer).in_force
            assert rules(box) == before
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT_SECONDS_MAX) == 0
    assert not (folder / "socket").exists()
    assert (rules(box), is_open(box, "port1")) == (before, True)


def test_the_service_continues_after_its_observer_was_killed(box: Namespace, folder: Path) -> None:
    with service(box, folder, "--ready", f"{folder}/ready") as process:
        ready(process)
        pid = os.fork()
        if pid == 0:
            try:
                state_of(observe(folder))
                signal.pause()
            finally:
                os._exit(1)
        poll_until((folder / "ready").exists)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        box.command("nft", "flush ruleset")
        poll_until(lambda: rules(box) != [])
        with observe(folder) as observer:  # the next observer gets the events since then
            while not (state := state_of(observer)).repairs:
                pass
            assert state.in_force


def test_another_user_can_neither_connect_nor_send(box: Namespace, folder: Path) -> None:
    with service(box, folder) as process:
        ready(process)
        hostile = f"""
import os, socket, sys
os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})
s = socket.socket(socket.AF_UNIX)
try:
    s.connect({os.fspath(folder / "socket")!r})
except PermissionError:
    print("refused")
    sys.exit()
print(s.recv(1000))
"""
        command = [sys.executable, "-c", hostile]
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "refused\n"
        (folder / "socket").chmod(0o777)  # as a careless administrator may do
        answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert f"user {NOBODY} may not observe the service" in answer
        with observe(folder) as observer:
            assert state_of(observer).in_force


def test_the_named_user_of_the_box_can_connect(box: Namespace, folder: Path) -> None:
    with service(box, folder, "--user", "nobody") as process:
        ready(process)
        status = (folder / "socket").stat()
        assert (status.st_mode & 0o777, status.st_uid) == (0o660, 0)
        script = f"""
import os, socket
os.setgroups([]); os.setgid({status.st_gid}); os.setuid({NOBODY})
s = socket.socket(socket.AF_UNIX)
s.connect({os.fspath(folder / "socket")!r})
s.sendall({framed(Hello())!r})
print(s.recv(1000))
"""
        command = [sys.executable, "-c", script]
        assert "in_force" in subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda folder: (folder / "firewall.toml").chmod(0o664), "firewall.toml is writable by others"),
        (lambda folder: (folder / "board.toml").chmod(0o666), "board.toml is writable by others"),
        (lambda folder: folder.chmod(0o777), "is writable by others"),
        (lambda folder: os.chown(folder / "firewall.toml", NOBODY, 0), f"belongs to user {NOBODY}"),
        (lambda folder: (folder / "firewall.toml").write_text("board = 1\n"), "board: 1: must be a string"),
        (lambda folder: (folder / "firewall.toml").unlink(), "No such file or directory"),
        (lambda folder: (folder / "socket").write_text("x"), "exists and is not a socket"),
    ],
)
def test_an_untrusted_policy_ends_the_service_before_anything_is_changed(
    spoil: Callable[[Path], object], problem: str, box: Namespace, folder: Path
) -> None:
    spoil(folder)
    with service(box, folder) as process:
        _, errors = process.communicate(timeout=WAIT_SECONDS_MAX)
        assert process.returncode in (2, 3)
    assert problem in errors
    assert rules(box) == []


def test_a_policy_that_becomes_writable_by_others_is_not_followed(box: Namespace, folder: Path) -> None:
    with service(box, folder) as process:
        ready(process)
        with observe(folder) as observer:
            assert state_of(observer).in_force
            (folder / "firewall.toml").chmod(0o666)
            (folder / "firewall.toml").write_text(POLICY.replace("tcp/443", "tcp/22"))
            rap = (sys.executable, "-m", "rap", "fw", "apply", f"{folder}/firewall.toml")
            box.command(*rap, capture_output=True)
            while (state := state_of(observer)).in_force:
                pass
            assert "another policy was put in force" in state.problem
            assert not is_open(box, "port1")


def test_a_second_service_on_the_same_socket_is_refused_and_the_first_continues(
    box: Namespace, folder: Path
) -> None:
    with service(box, folder) as first:
        ready(first)
        with service(box, folder) as second:
            _, errors = second.communicate(timeout=WAIT_SECONDS_MAX)
            assert second.returncode == 3
            assert "another program listens on this socket" in errors
        with observe(folder) as observer:
            assert state_of(observer).in_force


# -- loaded modules and their licenses

COMPATIBLE = {"nftables", "msgspec", "tomli_w", "typing_extensions"}
"""Packages under GPL-2.0-only, and under BSD-3-Clause, MIT and PSF-2.0, which may be combined with it."""
LOADED = """
import json, sys
def loaded():
    files = {name: getattr(module, "__file__", None) for name, module in sys.modules.items()}
    libraries = [line.split()[-1] for line in open("/proc/self/maps") if "libnftables" in line]
    return {"files": {name: file for name, file in files.items() if file}, "libraries": libraries}
"""


def report(box: Namespace, script: str) -> Any:
    done = box.command(sys.executable, "-c", LOADED + script, capture_output=True, cwd=ROOT)
    return json.loads(done.stdout.splitlines()[-1])


def projects_own(files: dict[str, str]) -> list[Path]:
    return [
        Path(file)
        for file in files.values()
        if Path(file).is_relative_to(ROOT)
        and ".venv" not in Path(file).relative_to(ROOT).parts
        and not file.endswith(".so")
    ]


def test_project_modules_loaded_beside_the_library_may_be_used_under_its_license(
    box: Namespace, folder: Path
) -> None:
    """libnftables and its Python module are GPL-2.0-only, with which Apache-2.0 alone is not compatible."""
    modules = report(
        box,
        f"""
import os, signal
from netfw.service import main, notify
notify.ready = lambda: os.kill(os.getpid(), signal.SIGTERM)  # ends the service when the policy is in force
assert main.main(["serve", "--socket", "{folder}/socket", "--policy", "{folder}/firewall.toml"]) == 0
print(json.dumps(loaded()))
""",
    )
    assert modules["libraries"]
    own = projects_own(modules["files"])
    assert len(own) > 25
    assert any(file.name == "request_handler.py" for file in own)
    others = {name.partition(".")[0] for name, file in modules["files"].items() if "site-packages" in file}
    assert {name for name in others if "distutils" not in name and "editable" not in name} <= COMPATIBLE
    for file in own:
        assert "SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only" in file.read_text()[:200], file


@pytest.mark.parametrize(
    "script",
    [
        "import agents.box.main, rap.box",
        "import rap.__main__; rap.__main__.main(['fw', 'prove', 'FILE'])",
        "import rap.__main__; rap.__main__.main(['fw', 'check', 'FILE'])",
        "import rap.__main__; rap.__main__.main(['fw', 'apply', 'FILE'])",
        "import rap.__main__; rap.__main__.main(['fw', 'render', 'FILE'])",
        "import rap.__main__; rap.__main__.main(['fw', 'log', '--seconds', '1'])",
        "import sim.worlds.kernel.run, sim.worlds.kernel.supervision.supervisor",
        "import sim.worlds.kernel.box, sim.worlds.virtual.world",
        "import agents.provision.main",
    ],
)
def test_no_other_program_loads_the_library(script: str, box: Namespace, folder: Path) -> None:
    box.command(sys.executable, "-m", "rap", "fw", "apply", f"{folder}/firewall.toml", cwd=ROOT)
    modules = report(box, script.replace("FILE", f"{folder}/firewall.toml") + "\nprint(json.dumps(loaded()))")
    assert modules["libraries"] == []
    assert "nftables" not in modules["files"]
    assert "netfw.kernel.nft" not in modules["files"]


def test_the_environment_names_each_folder_of_the_module_path_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", ["/a", "", "/b", "/a", *["/b"] * 100_000])
    assert environment()["PYTHONPATH"] == "/a:/b"
