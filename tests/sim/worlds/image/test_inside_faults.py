"""Faults inside the guest: when actions are sent to it, with a simulated guest, and the script that executes them."""

from __future__ import annotations

import asyncio
import re
import subprocess
from base64 import b64decode
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from sim.engine.trace import Trace
from sim.worlds.image.inside import InsideFaults
from sim.worlds.image.machine import actions, qemu
from sim.worlds.shared.refusals import FaultRefused, ImageRefused

DAY_NS = 86_400 * 1_000_000_000


class Guest:
    """Simulates QEMU's monitor and a guest that records actions and gives the same answer to each.

    The guest ignores the first `ignored_ports` ports that are added.
    """

    def __init__(self, ignored_ports: int = 0, answer: str = "done\n") -> None:
        self.actions: list[str] = []
        self.ports = 0
        """The number of times that a port was added."""
        self.answer = answer
        self.is_busy = False
        """Whether the machine has not finished the removal of the last port."""
        self._ignored_ports = ignored_ports
        self._has_port = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def execute(self, command: str, **arguments: object) -> Any:
        if command == "device_del":
            self._has_port.clear()
            return
        assert command == "device_add" and not self._has_port.is_set()
        assert arguments["driver"] == "virtserialport"
        if self.is_busy:
            self.is_busy = False
            raise RuntimeError("QEMU: device_add: Device 'inside' is in use")
        self.ports += 1
        if self.ports > self._ignored_ports:
            self._has_port.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._has_port.wait()
        writer.write(b"ready\n")
        self.actions.append((await reader.readline()).decode().strip())
        writer.write(self.answer.encode())
        if not self.answer:  # the power is cut
            writer.close()
        await reader.read()
        writer.close()


Use = Callable[[InsideFaults, Guest], Awaitable[None]]


def run_with(folder: Path, guest: Guest, use: Use) -> None:
    async def main() -> None:
        server = await asyncio.start_unix_server(guest.serve, folder / "inside.sock")
        async with server:
            faults = InsideFaults(folder, lambda: guest, Trace(lambda: 0))  # type: ignore[arg-type, return-value]
            await use(faults, guest)

    asyncio.run(main())


def test_a_disk_is_full_until_the_last_effect_ends(tmp_path: Path) -> None:
    async def use(faults: InsideFaults, guest: Guest) -> None:
        await faults.booted()
        assert guest.actions == []
        one, two = await faults.fill_disk(), await faults.fill_disk()
        for end in (one, two):
            ending = end()
            assert ending is not None
            await ending
        assert guest.actions == ["fill", "fill", "fill", "clear"]

    run_with(tmp_path, Guest(), use)


def test_the_disk_is_filled_again_after_a_boot_and_cleared_if_the_effect_has_ended_meanwhile(
    tmp_path: Path,
) -> None:
    async def use(faults: InsideFaults, guest: Guest) -> None:
        await faults.booted()
        end = await faults.fill_disk()
        for _ in range(2):
            faults.powered_off()
            faults.powered_on()
            await faults.booted()
        faults.powered_off()
        ending = end()
        assert ending is not None
        await ending
        assert guest.actions == ["fill", "fill", "fill"]
        faults.powered_on()
        await faults.booted()
        assert guest.actions[3:] == ["clear"]

    run_with(tmp_path, Guest(), use)


def test_a_step_of_the_clock_moves_the_running_system_and_the_hardware_clock(tmp_path: Path) -> None:
    async def use(faults: InsideFaults, guest: Guest) -> None:
        await faults.booted()
        await faults.jump_clock(-30 * DAY_NS)
        await faults.jump_clock(DAY_NS)
        assert guest.actions == [f"clock {-30 * DAY_NS}", f"clock {DAY_NS}"]
        assert faults.hardware_clock_ns == -29 * DAY_NS

    run_with(tmp_path, Guest(), use)


def test_a_step_of_the_clock_without_power_changes_only_the_hardware_clock(tmp_path: Path) -> None:
    async def use(faults: InsideFaults, guest: Guest) -> None:
        await faults.jump_clock(DAY_NS)
        faults.powered_on()
        await faults.booted()
        assert guest.actions == [] and faults.hardware_clock_ns == DAY_NS

    run_with(tmp_path, Guest(), use)


def test_a_step_of_the_clock_during_a_boot_is_executed_after_it(tmp_path: Path) -> None:
    async def use(faults: InsideFaults, guest: Guest) -> None:
        faults.powered_on()
        await faults.jump_clock(DAY_NS)
        assert guest.actions == []
        await faults.booted()
        await faults.booted()
        assert guest.actions == [f"clock {DAY_NS}"]

    run_with(tmp_path, Guest(), use)


@pytest.mark.parametrize("days", [-36_500, 365 * 175])
def test_a_date_that_linux_does_not_support_is_refused(tmp_path: Path, days: int) -> None:
    async def use(faults: InsideFaults, guest: Guest) -> None:
        await faults.booted()
        with pytest.raises(FaultRefused, match="before 1971 or after 2199"):
            await faults.jump_clock(days * DAY_NS)
        assert guest.actions == [] and faults.hardware_clock_ns == 0

    run_with(tmp_path, Guest(), use)


def test_the_program_is_killed_only_while_the_system_runs(tmp_path: Path) -> None:
    async def use(faults: InsideFaults, guest: Guest) -> None:
        await faults.kill()
        assert guest.actions == []
        await faults.booted()
        await faults.kill()
        assert guest.actions == ["kill"]

    run_with(tmp_path, Guest(), use)


def test_a_power_cut_during_an_action_is_no_error(tmp_path: Path) -> None:
    async def use(faults: InsideFaults, guest: Guest) -> None:
        await faults.booted()
        await faults.kill()
        assert guest.actions == ["kill"]

    run_with(tmp_path, Guest(answer=""), use)


def test_a_failed_action_is_reported_with_the_reason_of_the_system(tmp_path: Path) -> None:
    async def use(faults: InsideFaults, guest: Guest) -> None:
        await faults.booted()
        with pytest.raises(FaultRefused, match="date: cannot set date"):
            await faults.jump_clock(DAY_NS)
        with pytest.raises(ImageRefused, match="impossible with this image"):
            await faults.check()

    run_with(tmp_path, Guest(answer="date: cannot set date\nfailed\n"), use)


def test_an_action_waits_until_the_machine_has_removed_the_last_port(tmp_path: Path) -> None:
    async def use(faults: InsideFaults, guest: Guest) -> None:
        await faults.booted()
        await faults.kill()
        guest.is_busy = True
        await faults.kill()
        assert guest.actions == ["kill", "kill"]

    run_with(tmp_path, Guest(), use)


def test_the_port_is_added_until_the_guest_uses_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actions, "READY_SECONDS_MAX", 0.01)

    async def use(faults: InsideFaults, guest: Guest) -> None:
        await faults.booted()
        await faults.kill()
        assert guest.actions == ["kill"] and guest.ports == 4

    run_with(tmp_path, Guest(ignored_ports=3), use)


def test_a_system_that_never_executes_actions_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actions, "READY_SECONDS_MAX", 0.01)
    monkeypatch.setattr("sim.worlds.image.inside.ACTION_SECONDS_MAX", 0.1)

    async def use(faults: InsideFaults, guest: Guest) -> None:
        with pytest.raises(ImageRefused, match=r"no answer within .* systemd 252 or later"):
            await faults.check()

    run_with(tmp_path, Guest(ignored_ports=10_000), use)


def test_the_hardware_clock_starts_at_the_time_of_the_step() -> None:
    command = qemu.command(
        "tcg", "bios", Path("/x"), Path("/x/disk"), [], datetime(2001, 2, 3, 4, 5, 6, tzinfo=UTC)
    )
    assert "base=2001-02-03T04:05:06,clock=host" in command


# -- the script that the guest executes


def script() -> str:
    """Return the script as systemd passes it to /bin/sh."""
    (smbios,) = (argument for argument in actions.arguments(Path("/x")) if argument.startswith("type=11"))
    credential = b64decode(smbios.split("tmpfiles.extra=")[1]).decode()
    unit = b64decode(credential.splitlines()[0].split()[-1]).decode()
    match = re.search(r"^ExecStart=/bin/sh -c '([^']*)'$", unit, re.MULTILINE)
    assert match is not None
    # systemd.service(5), "command lines": C-style escapes, $$ and %%
    return match[1].replace("\\n", "\n").replace("$$", "$").replace("%%", "%")


class State:
    """A small tmpfs in place of the state partition, with pipes in place of the port."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._port = folder, folder.with_name("port")
        folder.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3000k", "tmpfs", folder], check=True)

    def execute(self, action: str) -> str:
        """Execute the script with an action; return its output."""
        text = (
            script()
            .replace(actions.STATE, str(self.folder))
            .replace("exec 3<> /dev/virtio-ports/rap-lab", "exec 3>&1")
        )
        text = text.replace("read -r action value <&3", "read -r action value")
        done = subprocess.run(
            ["/bin/sh", "-c", text], input=f"{action}\n", capture_output=True, text=True, check=False
        )
        return done.stdout + done.stderr

    def free_blocks(self) -> int:
        done = subprocess.run(
            ["stat", "-f", "-c", "%a", self.folder], check=True, capture_output=True, text=True
        )
        return int(done.stdout)

    def close(self) -> None:
        subprocess.run(["umount", self.folder], check=True)


@pytest.fixture
def state(tmp_path: Path) -> Any:
    mounted = State(tmp_path / "state")
    yield mounted
    mounted.close()


@pytest.mark.kernel
def test_the_script_fills_a_file_system_to_its_last_block_and_frees_it(state: State) -> None:
    (state.folder / "kept").write_bytes(bytes(100_000))
    before = state.free_blocks()
    assert state.execute("fill") == "ready\ndone\n"
    assert state.free_blocks() == 0
    assert state.execute("fill") == "ready\ndone\n"
    assert state.execute("clear") == "ready\ndone\n"
    assert state.free_blocks() == before
    assert state.execute("clear") == "ready\ndone\n"


@pytest.mark.kernel
def test_the_script_gives_the_reason_of_a_failed_action(state: State) -> None:
    output = state.execute(f"clock {-200 * 365 * DAY_NS}")
    assert "date" in output and output.endswith("failed\n")
    assert state.execute("nonsense").endswith("failed\n")
