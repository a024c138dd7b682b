"""The commands for a running lab. Most tests share one, in a network namespace without labs of other tests."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from rap.__main__ import main
from rap.outcome import MACHINE_LACKS, OK, WRONG_INPUT
from sim.worlds.kernel import NoSuchLab, RequestRefused, running
from sim.worlds.kernel.live.screen import request_state
from sim.worlds.kernel.live.state import LabState, LinkState
from sim.worlds.kernel.namespaces import syscalls
from sim.worlds.kernel.supervision.registry import connect, supervisor_of
from tests.support.eventually import WAIT_SECONDS_MAX, poll_until
from tests.support.paths import ROOT

RAP = [sys.executable, "-m", "rap"]
NOBODY = "65534"
NAME = "small"
LAB = """\
[lab]
name = "small"
duration = "1s"
[box]
board = "rap-4"
linger = "100ms"
spool_bytes_max = "16MiB"
[uplink]
rate = "1mbit"
[[instrument]]
port = 2
model = "chemistry-analyzer"
report_every = "100ms"
[[event]]
at = "0s"
fault = "link-down"
target = "instrument:2"
"""


pytestmark = pytest.mark.kernel


@pytest.fixture(scope="module")
def network() -> Iterator[int]:
    """A network namespace for this module: labs are found by name within their namespace."""
    holder = subprocess.Popen(["unshare", "--net", "sh", "-c", "echo; exec cat"], stdin=-1, stdout=-1)
    assert holder.stdout is not None and holder.stdin is not None
    holder.stdout.readline()
    descriptor = os.open(f"/proc/{holder.pid}/ns/net", os.O_RDONLY)
    yield descriptor
    with syscalls.inside(descriptor):
        assert main(["lab", "down", "--all"]) == OK  # left by a failed test
    os.close(descriptor)
    holder.stdin.close()
    holder.stdout.close()
    holder.wait()


@pytest.fixture(autouse=True)
def _inside(network: int) -> Iterator[None]:
    with syscalls.inside(network):
        yield


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("labs") / "small.toml"
    path.write_text(LAB)
    return path


@pytest.fixture(scope="class")
def shared(network: int, file: Path) -> Iterator[None]:
    with syscalls.inside(network):
        assert main(["lab", "up", str(file), "--no-events"]) == OK
    try:
        yield
    finally:
        with syscalls.inside(network):
            assert main(["lab", "down", NAME]) == OK


def rap(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*RAP, *arguments],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS_MAX,
    )


def becomes(holds: Callable[[LabState], bool], name: str = NAME) -> LabState:
    """Wait until that holds for the state of a lab, and return the state."""
    states: list[LabState] = []

    def is_there() -> bool:
        states[:] = [request_state(name)]
        return holds(states[0])

    poll_until(is_there)
    return states[0]


def line(state: LabState, name: str) -> LinkState:
    return next(line for line in state.links if line.name == name)


def wrong(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return the message of a command that must be refused."""
    assert main(list(arguments)) == WRONG_INPUT
    out, err = capsys.readouterr()
    assert out == ""
    return err


@pytest.mark.usefixtures("shared")
@pytest.mark.slow("a lab runs in real time")
class TestTheSharedLab:
    def test_a_lab_runs_on_after_its_duration_and_stores_reports(self) -> None:
        state = becomes(lambda state: state.now_ns > 1_500_000_000 and state.stored > 10)
        assert state.connected
        assert state.made >= state.acknowledged >= state.stored
        assert [device.serial for device in state.instruments] == ["CHEM-0002"]
        assert state.faults == []  # started without its events
        assert state.failures == []

    def test_up_prints_the_hosts_and_links(self, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["lab", "up", str(file), "--name", "another", "--json"]) == OK
        about = json.loads(capsys.readouterr().out)
        try:
            assert about["hosts"]["instrument2"] == {"eth0": "10.77.2.10/24"}
            assert about["links"] == ["uplink", "backbone", "instrument:2"]
            event = becomes(lambda state: bool(state.faults), "another").faults[0]
            assert (event.kind, event.target) == ("link-down", "instrument:2")
            assert not line(request_state("another"), "instrument:2").up
            assert line(request_state(NAME), "instrument:2").up  # two labs, side by side
            assert "several labs are running: another, small" in wrong(capsys, "lab", "watch")
            assert main(["lab", "ps"]) == OK
            assert capsys.readouterr().out == "another\nsmall\n"
        finally:
            assert main(["lab", "down", "another"]) == OK
        assert running() == [NAME]

    def test_a_name_that_is_invalid_or_in_use_is_refused(
        self, file: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert "`rap lab down small`, or give this one another name with --name" in wrong(
            capsys, "lab", "up", str(file)
        )
        assert "cannot name a lab" in wrong(capsys, "lab", "up", str(file), "--name", "a/b")
        assert "no lab named 'big' is running; running: small" in wrong(capsys, "lab", "down", "big")

    def test_a_link_can_be_cut_and_restored(self) -> None:
        becomes(lambda state: state.connected)
        assert main(["lab", "link", "uplink", "down"]) == OK
        assert not line(request_state(NAME), "uplink").up
        assert main(["lab", "link", "uplink", "up"]) == OK
        assert line(request_state(NAME), "uplink").up
        becomes(lambda state: state.connected)

    def test_a_link_can_be_degraded_and_restored(self) -> None:
        assert main(["lab", "link", "uplink", "rate", "64kbit", "delay", "20ms", "loss", "1%"]) == OK
        worse = line(request_state(NAME), "uplink")
        assert (worse.rate_bps, worse.delay_ns, worse.loss) == (64_000, 20_000_000, 0.01)
        assert not worse.is_nominal
        assert main(["lab", "link", "uplink", "restore"]) == OK
        assert line(request_state(NAME), "uplink").rate_bps == 1_000_000

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            ("link uplnk down", 'the lab has no link "uplnk"; did you mean uplink?'),
            ("link uplink rate 64kb", 'uplink.rate: "64kb": write it like'),
            ("link uplink rate 1mbit lost 2%", "uplink.lost: unknown key; did you mean loss?"),
            ("link uplink sideways", "give down, up or restore"),
            ("link uplink down rate", "give down, up or restore"),
            ("fault link-dwn uplink", 'there is no fault "link-dwn"; did you mean link-down?'),
            ("fault link-down uplnk", 'target: "uplnk": did you mean uplink?'),
            ("fault link-down instrument:1", "did you mean instrument:2?"),
            ("fault link-rate uplink", "link-rate.rate: is missing; expected a rate, 1kbit to 10gbit"),
            ("fault link-rate uplink rate=fast", 'link-rate.rate: "fast": write it like'),
            ("fault link-rate uplink rate", "give parameters as KEY=VALUE"),
            (
                "fault instrument-floods instrument:2 rate=0",
                "instrument-floods.rate: 0: must be from 1 to 1000",
            ),
            ("fault power-cut box --lasts 3", 'lasts: "3": write it like'),
            ("fault proxy-slow proxy", "proxy-slow needs a proxy, but this lab has none"),
            ("fault disk-rot disk", "needs emulated hardware, which only the virtual world has"),
            ("fault disk-flush-fails disk", "needs a box with a disk and a clock of its own"),
            ("fault link-down", "give the kind and the target of a fault"),
            ("fault link-down uplink --end", "uplink has no link-down now; active: none"),
            ("fault link-down uplink --end --lasts 3s", "--end takes only the kind and the target"),
            ("capture nowhere x.pcapng", 'the lab has no link "nowhere"'),
            ("shell bax", "the lab has no host 'bax'; it has box, router"),
            ("down --all --report x", "--all cannot be combined with a name or --report"),
        ],
    )
    def test_wrong_arguments_are_reported_and_change_nothing(
        self,
        words: str,
        message: str,
        capsys: pytest.CaptureFixture[str],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert message in wrong(capsys, "lab", *words.split())
        state = request_state(NAME)
        assert state.faults == []
        assert all(line.up and line.is_nominal and not line.captured for line in state.links)
        assert list(tmp_path.iterdir()) == []

    def test_of_several_faults_of_a_kind_the_last_one_is_ended_first(self) -> None:
        assert main(["lab", "fault", "link-rate", "uplink", "rate=64kbit"]) == OK
        assert line(request_state(NAME), "uplink").rate_bps == 64_000
        assert main(["lab", "fault", "link-rate", "uplink", "rate=9600bit"]) == OK
        assert line(request_state(NAME), "uplink").rate_bps == 9600
        assert main(["lab", "fault", "link-rate", "uplink", "--end"]) == OK
        assert line(request_state(NAME), "uplink").rate_bps == 64_000
        assert main(["lab", "fault", "link-rate", "uplink", "--end"]) == OK
        assert line(request_state(NAME), "uplink").rate_bps == 1_000_000

    def test_a_fault_ends_after_its_duration(self) -> None:
        assert main(["lab", "fault", "instrument-unplugged", "instrument:2", "--lasts", "300ms"]) == OK
        assert [(fault.kind, fault.lasts_ns) for fault in request_state(NAME).faults] == [
            ("instrument-unplugged", 300_000_000)
        ]
        assert not request_state(NAME).instruments[0].on
        assert becomes(lambda state: not state.faults).instruments[0].on

    def test_a_momentary_fault_is_not_listed_afterwards(self) -> None:
        accepted = becomes(lambda state: state.box_runs and state.connected).stored
        assert main(["lab", "fault", "program-killed", "box"]) == OK
        becomes(lambda state: not state.connected)
        assert becomes(lambda state: state.connected and state.stored > accepted).faults == []

    def test_the_list_of_faults_has_those_of_the_kernel_world(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["lab", "fault", "--list", "--json"]) == OK
        faults = {fault["kind"]: fault for fault in json.loads(capsys.readouterr().out)}
        assert "disk-rot" not in faults
        assert faults["link-rate"]["parameters"] == {"rate": "a rate, 1kbit to 10gbit"}

    def test_the_shell_verb_passes_on_status_and_output_of_a_command(self) -> None:
        ran = rap("lab", "shell", "instrument2", "sh", "-c", "hostname; exit 7")
        assert (ran.returncode, ran.stdout, ran.stderr) == (7, "instrument2\n", "")
        ran = rap("lab", "shell", "box", "--lab", NAME, "ls", "/sys/class/net")
        assert "enp3s0" in ran.stdout.split()

    def test_a_shell_on_a_terminal_has_a_terminal_of_its_own(self) -> None:
        output = on_terminal(
            [*RAP, "lab", "shell", "box"],
            ("[small box] /# ", "stty size; tty; exit 5\n"),
        )
        assert "0 0\r\n/dev/pts/" in output
        assert output.endswith("ended: 5")

    def test_a_capture_is_a_readable_pcapng_file(self, tmp_path: Path) -> None:
        """The box may still be reconnecting after the previous test: then a later capture has its reports."""
        from scapy.layers import inet, l2  # noqa: F401 - needed to decode the packets
        from scapy.utils import rdpcap

        file = tmp_path / "uplink.pcapng"

        def has_reports() -> bool:
            file.unlink(missing_ok=True)
            assert main(["lab", "capture", "uplink", str(file), "--seconds", "0.5"]) == OK
            assert not line(request_state(NAME), "uplink").captured
            packets = rdpcap(str(file))
            return len(packets) > 3 and any(
                "TCP" in packet and packet["TCP"].dport == 443 for packet in packets
            )

        poll_until(has_reports)

    def test_ctrl_c_ends_a_capture_into_a_pipe(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        command = [*RAP, "lab", "capture", "instrument:2", "-"]
        capture = subprocess.Popen(command, cwd=ROOT, bufsize=0, stdout=-1, stderr=-1)
        assert capture.stdout is not None
        seen = b""
        while len(seen) < 1000:
            seen += capture.stdout.read(1000)
        assert "is already being captured" in wrong(
            capsys, "lab", "capture", "instrument:2", str(tmp_path / "x")
        )
        assert not (tmp_path / "x").exists()
        capture.send_signal(signal.SIGINT)
        rest, output = capture.communicate(timeout=WAIT_SECONDS_MAX)
        assert seen.startswith(b"\x0a\x0d\x0d\x0a")
        assert capture.returncode == OK
        assert b"packets of instrument:2 captured" in output
        blocks = list(pcapng_blocks(seen + rest))
        assert blocks[:2] == [0x0A0D0D0A, 1] and blocks[-1] == 5 and set(blocks[2:-1]) == {6}

    def test_a_capture_ends_when_its_client_is_killed(self) -> None:
        capture = subprocess.Popen([*RAP, "lab", "capture", "uplink", "-"], cwd=ROOT, stdout=-1)
        assert capture.stdout is not None
        capture.stdout.read(1)
        capture.kill()
        capture.communicate()
        becomes(lambda state: not line(state, "uplink").captured)

    def test_a_capture_into_an_unwritable_file_is_refused(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        output = wrong(capsys, "lab", "capture", "uplink", str(tmp_path / "missing/x.pcapng"))
        assert f"{tmp_path}/missing/x.pcapng: No such file or directory" in output
        assert becomes(lambda state: not line(state, "uplink").captured).failures == []

    def test_a_client_that_does_not_wait_for_the_answer_does_not_disturb_the_lab(self) -> None:
        for _ in range(5):
            with connect(NAME) as connection:
                connection.sendall(b'{"verb": "state"}')
        assert request_state(NAME).failures == []

    def test_watch_prints_one_document_a_second(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["lab", "watch", "--json", "--seconds", "1"]) == OK
        (document,) = map(json.loads, capsys.readouterr().out.splitlines())
        assert document["box_runs"]
        there, back = document["links"][0]["use"]
        assert 0 < there < 1 and 0 < back < 1

    def test_the_live_view_restores_the_terminal(self) -> None:
        output = on_terminal([*RAP, "lab", "watch"], ("chemistry-analyzer", "\x03"))
        assert output.index("\x1b[?1049h") < output.index("CONNECTED") < output.index("\x1b[?1049l")
        assert output.index("\x1b[?25l") < output.rindex("\x1b[?25h")
        assert output.endswith("ended: 0")

    @pytest.mark.parametrize("words", ["watch", "down", "down --all", "link uplink down", "shell box"])
    def test_the_error_for_a_user_who_is_not_root_suggests_sudo(self, words: str) -> None:
        ran = as_nobody("lab", *words.split())
        assert (ran.returncode, ran.stdout) == (MACHINE_LACKS, "")
        assert "not root: needs CAP_NET_ADMIN" in ran.stderr
        assert line(request_state(NAME), "uplink").up


def test_a_machine_that_cannot_run_labs_gives_exit_status_3() -> None:
    file = "labs/minutes/01-clinic-128k.toml"
    for verb in (["up"], ["run", "--world", "kernel"]):
        ran = as_nobody("lab", *verb, file)
        assert (ran.returncode, ran.stdout) == (MACHINE_LACKS, "")
        assert "not root: needs CAP_NET_ADMIN" in ran.stderr


def test_a_lab_file_that_needs_the_virtual_world_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rots = tmp_path / "rots.toml"
    rots.write_text(LAB.replace("link-down", "disk-rot").replace("instrument:2", "disk"))
    for verb in (["up"], ["run", "--world", "kernel"]):
        assert "disk-rot needs emulated hardware; run it with --world virtual" in wrong(
            capsys, "lab", *verb, str(rots)
        )
        lies = rots.with_name("lies.toml")
        lies.write_text(LAB.replace("link-down", "disk-lies").replace("instrument:2", "disk"))
        assert "run it with --world virtual or image" in wrong(capsys, "lab", *verb, str(lies))
    assert running() == []


def test_without_a_running_lab_every_verb_explains_how_to_start_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for words in ("watch", "down", "shell box", "link uplink down", "fault power-cut box", "capture a b"):
        assert "no lab is running; start one with `rap lab up FILE`" in wrong(capsys, "lab", *words.split())
    assert main(["lab", "down", "--all"]) == OK


@pytest.mark.slow("a lab runs in real time")
def test_down_evaluates_the_lab_and_writes_the_report(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["lab", "up", str(file), "--no-events"]) == OK
    becomes(lambda state: state.stored > 0)
    capsys.readouterr()
    assert main(["lab", "down", "--report", str(tmp_path / "report"), "--json"]) == OK
    document = json.loads(capsys.readouterr().out)
    assert document["verdict"] == "pass"
    assert document["reports"]["stored"] > 0
    assert (tmp_path / "report" / "report.html").exists()
    assert running() == []


@pytest.mark.parametrize("signalled", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_run_leaves_nothing_behind(file: Path, signalled: signal.Signals) -> None:
    long = file.with_name("long.toml")
    long.write_text(LAB.replace('"1s"', '"10min"'))
    ran = subprocess.Popen([*RAP, "lab", "run", str(long), "--world", "kernel"], cwd=ROOT, stderr=-1)
    supervisor = supervisor_of_the_only_lab()
    ran.send_signal(signalled)
    ran.communicate(timeout=WAIT_SECONDS_MAX)
    assert ran.returncode == (130 if signalled == signal.SIGINT else -signalled)
    assert has_ended(supervisor)


def test_a_lab_whose_supervisor_is_killed_leaves_nothing_behind(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["lab", "up", str(file), "--name", "victim"]) == OK
    supervisor = supervisor_of("victim")
    processes = pid_namespace(supervisor)
    assert processes_in(processes) >= 4
    signal.pidfd_send_signal(supervisor, signal.SIGKILL)
    os.waitid(os.P_PIDFD, supervisor, os.WEXITED)
    assert has_ended(supervisor)
    assert processes_in(processes) == 0
    capsys.readouterr()
    assert "no lab is running" in wrong(capsys, "lab", "watch")


# -- processes and terminals


def as_nobody(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *RAP, *arguments],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS_MAX,
    )


def supervisor_of_the_only_lab() -> int:
    """Return a pidfd of the supervisor of the only lab, once its box runs."""

    def box_runs() -> bool:
        with suppress(IndexError, NoSuchLab, RequestRefused):
            return request_state(running()[0]).box_runs
        return False

    poll_until(box_runs)
    return supervisor_of(running()[0])


def has_ended(supervisor: int) -> bool:
    """Wait for that process; return whether it has ended and no lab is running."""
    ended = bool(select.select([supervisor], [], [], WAIT_SECONDS_MAX)[0])
    os.close(supervisor)
    return ended and not running()


def pid_namespace(process: int) -> str:
    """Return the PID namespace of the process of a pidfd."""
    lines = Path(f"/proc/self/fdinfo/{process}").read_text().splitlines()
    pid = next(line.split()[1] for line in lines if line.startswith("Pid:"))
    return str(Path(f"/proc/{pid}/ns/pid").readlink())


def processes_in(namespace: str) -> int:
    """Return the number of processes in that PID namespace."""
    count = 0
    for path in Path("/proc").glob("[0-9]*/ns/pid"):
        with suppress(OSError):  # the process has ended
            count += str(path.readlink()) == namespace
    return count


def pcapng_blocks(data: bytes) -> Iterator[int]:
    while data:
        kind, length = (int.from_bytes(data[i : i + 4], sys.byteorder) for i in (0, 4))
        assert data[length - 4 : length] == data[4:8]
        yield kind
        data = data[length:]


def on_terminal(command: list[str], *steps: tuple[str, str]) -> str:
    """Run a command on a terminal and type after each expected output. Returns its whole output and its status."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        os.environ["TERM"] = "xterm"
        os.execv(command[0], command)
    output, seen = "", 0
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    for sign, typed in [*steps, ("ended", "")]:
        while sign not in output[seen:]:
            left = max(0.0, deadline - time.monotonic())
            assert select.select([terminal], [], [], left)[0] and left, f"no {sign!r} in {output!r}"
            try:
                output += os.read(terminal, 65536).decode(errors="replace")
            except OSError:  # the last program on the terminal has ended
                output += f"ended: {os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}"
        seen = output.index(sign, seen) + len(sign)
        if typed:
            os.write(terminal, typed.encode())
    os.close(terminal)
    return output
