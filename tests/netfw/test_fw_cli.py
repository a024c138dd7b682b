"""`rap fw` as a command, in a separate network namespace."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from netfw.kernel.firewall import Firewall
from netfw.kernel.nft import Nft
from netfw.policy.policyfile import load_policy
from netfw.ruleset import names
from tests.support.eventually import WAIT_SECONDS_MAX, poll_until
from tests.support.namespaces import Namespace, namespace
from tests.support.netfw.boxlab import POLICIES

pytestmark = pytest.mark.kernel

CLINIC = str(POLICIES / "clinic.toml")
IPSEC = str(POLICIES / "ipsec.toml")
RAP = (sys.executable, "-m", "rap", "fw")


@pytest.fixture
def here() -> Iterator[Namespace]:
    with namespace() as entered:
        yield entered


def rap(here: Namespace, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(here.wrap(*RAP, *arguments), check=False, capture_output=True, text=True)


def start(here: Namespace, *arguments: str) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen(
        here.wrap(*RAP, *arguments), stdin=pipe, stdout=pipe, stderr=pipe, text=True, bufsize=1
    )


def read_output(process: subprocess.Popen[str]) -> str:
    """Return the first line on standard error if it is a message of rap, otherwise the complete output there."""
    assert process.stderr is not None
    first = process.stderr.readline()
    return first if first.startswith("rap: ") else first + process.stderr.read()


def in_force(here: Namespace, file: str) -> bool:
    return Firewall(here.run(Nft)).differences(load_policy(Path(file))) == []


def test_a_policy_is_rendered_for_nft_and_as_json(here: Namespace) -> None:
    text = rap(here, "render", CLINIC).stdout
    here.command("nft", "-f", "-", input=text)
    assert in_force(here, CLINIC)
    document = json.loads(rap(here, "render", "--json", IPSEC).stdout)
    here.command("nft", "flush", "ruleset")
    here.command("nft", "-j", "-f", "-", input=json.dumps(document))
    assert in_force(here, IPSEC)


def test_apply_puts_a_policy_in_force_and_check_confirms_it(here: Namespace) -> None:
    assert rap(here, "check", CLINIC).returncode == 1
    assert rap(here, "apply", CLINIC).stdout == f"{CLINIC}: in force\n"
    checked = rap(here, "check", CLINIC)
    assert checked.returncode == 0
    assert f"{CLINIC}: the kernel's ruleset is identical\nopen sessions: 0\nrefused:\n" in checked.stdout
    here.command("nft", "add rule inet rap input accept")
    checked = rap(here, "check", CLINIC)
    assert checked.returncode == 1
    document = json.loads(rap(here, "render", "--json", CLINIC).stdout)["nftables"]
    rules = sum(command["add"].get("rule", {}).get("chain") == "input" for command in document)
    assert f"chain input has beyond the policy, as rule {rules + 1}: accept" in checked.stdout
    document = json.loads(rap(here, "check", "--json", CLINIC).stdout)
    assert document["holds"] is False
    assert set(document["refused"]) == set(names.CAUSES)


def test_a_wrong_policy_changes_nothing(here: Namespace, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.toml"
    wrong.write_text('board = "rap-4"\n[[port]]\nnumber = 9\naddresses = ["10.0.0.1/24"]\n')
    rap(here, "apply", CLINIC)
    for verb in ("render", "check", "apply", "watch"):
        ended = rap(here, verb, str(wrong))
        assert ended.returncode == 2
        assert f"{wrong}:3: port[0].number: rap-4 has no port 9; it has 1, 2, 3, 4" in ended.stderr
    assert in_force(here, CLINIC)


@pytest.mark.parametrize(
    ("typed", "status", "outcome"), [("yes\n", 0, "kept"), ("no\n", 1, "reverted"), ("", 1, "reverted")]
)
def test_a_trial_is_kept_if_confirmed_and_reverted_otherwise(
    here: Namespace, typed: str, status: int, outcome: str
) -> None:
    rap(here, "apply", IPSEC)
    applying = start(here, "apply", "--confirm", "60", CLINIC)
    output, _ = applying.communicate(typed, timeout=WAIT_SECONDS_MAX)
    assert applying.returncode == status
    assert outcome in output
    assert in_force(here, CLINIC if status == 0 else IPSEC)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGKILL])
def test_a_trial_is_reverted_when_a_signal_ends_the_command(here: Namespace, number: int) -> None:
    applying = start(here, "apply", "--confirm", "60", CLINIC)
    assert applying.stdout is not None
    assert "type" in os.read(applying.stdout.fileno(), 200).decode()
    assert in_force(here, CLINIC)
    applying.send_signal(number)
    applying.wait(WAIT_SECONDS_MAX)
    poll_until(lambda: Firewall(here.run(Nft)).save() is None)


def test_a_trial_is_reverted_at_its_time_limit(here: Namespace) -> None:
    applying = start(here, "apply", "--confirm", "1", CLINIC)
    assert applying.stdout is not None
    assert "reverted" in applying.stdout.read(), read_output(applying)
    assert applying.wait(WAIT_SECONDS_MAX) == 1
    assert Firewall(here.run(Nft)).save() is None


def test_watch_reports_and_reverts_a_change(here: Namespace) -> None:
    watching = start(here, "watch", CLINIC)
    assert watching.stdout is not None
    assert f"watching {CLINIC}" in read_output(watching)
    assert [watching.stdout.readline() for _ in range(2)][1] == "the policy is in force again\n"
    here.command("nft", "flush ruleset")
    assert watching.stdout.readline().startswith("changed by nft (process ")
    assert watching.stdout.readline() == "  there is no table inet rap\n"
    assert watching.stdout.readline() == "the policy is in force again\n"
    watching.terminate()
    assert watching.wait(WAIT_SECONDS_MAX) == 0
    assert in_force(here, CLINIC)


def watch(here: Namespace, file: Path) -> tuple[subprocess.Popen[str], Callable[[], dict[str, object]]]:
    """Start a watch that prints events as JSON; return its process, and a function that returns the next event."""
    watching = start(here, "watch", "--json", str(file))
    assert "watching" in read_output(watching)
    output = watching.stdout
    assert output is not None
    return watching, lambda: json.loads(output.readline())


def test_a_watch_reloads_its_file_when_it_is_applied_again(here: Namespace, tmp_path: Path) -> None:
    file = tmp_path / "firewall.toml"
    shutil.copy(CLINIC, file)
    rap(here, "apply", str(file))
    watching, event = watch(here, file)
    file.write_text(file.read_text().replace('from_outside = "drop"', 'from_outside = "reject"'))
    assert rap(here, "apply", str(file)).returncode == 0
    assert event()["event"] == "changed"
    assert event() == {"event": "follows"}
    assert event()["differences"] == []
    here.command("nft", "flush", "chain", "inet", "rap", "output")
    assert event()["program"] == "nft"
    assert event()["event"] == "repaired"
    assert in_force(here, str(file))
    watching.terminate()
    assert watching.wait(WAIT_SECONDS_MAX) == 0


def test_a_watch_ignores_another_policy_until_its_own_is_in_force(here: Namespace, tmp_path: Path) -> None:
    file = tmp_path / "firewall.toml"
    shutil.copy(CLINIC, file)
    rap(here, "apply", str(file))
    watching, event = watch(here, file)
    rap(here, "apply", IPSEC)
    assert event()["event"] == "changed"
    assert "another policy was put in force" in str(event()["problem"])
    here.command("nft", "add", "rule", "inet", "rap", "output", "drop")
    assert event()["event"] == "changed"
    rap(here, "apply", str(file))
    assert event()["event"] == "changed"
    assert event() == {"event": "repaired", "differences": [], "in_force": True, "problem": ""}
    here.command("nft", "flush", "ruleset")
    assert event()["event"] == "changed"
    assert event()["differences"] == ["there is no table inet rap"]
    assert in_force(here, str(file))
    watching.terminate()
    assert watching.wait(WAIT_SECONDS_MAX) == 0


@pytest.mark.parametrize("verb", ["apply", "check", "prove", "watch"])
def test_missing_privileges_are_reported_with_their_remedy(here: Namespace, verb: str) -> None:
    weak = ("setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin")
    command = here.wrap(*weak, *RAP, verb, CLINIC)
    ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=WAIT_SECONDS_MAX)
    assert ended.returncode == 3, ended.stderr
    assert "run it as root" in ended.stderr


@pytest.mark.parametrize("seconds", ["0", "-1", "soon", "3601"])
def test_an_invalid_time_is_refused(here: Namespace, seconds: str) -> None:
    ended = rap(here, "apply", f"--confirm={seconds}", CLINIC)
    assert ended.returncode == 2
    assert "a number of seconds from 1 to 3600" in ended.stderr
