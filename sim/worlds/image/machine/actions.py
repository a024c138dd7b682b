"""Actions in the guest's system, for faults that cannot be injected from outside.

Nothing is added to the image. The machine's firmware tables contain a systemd credential (SMBIOS type 11), from which
the guest's systemd-tmpfiles creates a unit and a udev rule in /run. Nothing runs in the guest until the simulator
adds a port to the machine's virtio serial device: then the rule starts the unit, which executes the one action that
it reads from that port, and ends.

Source: systemd.system-credentials(7), systemd-tmpfiles(8) (`tmpfiles.extra`), of systemd 252 or later.
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Protocol

DEVICE: Final = "inside"
"""The machine's virtio serial device."""
_PORT: Final = "rap-lab"
_READY, _DONE, _FAILED = "ready", "done", "failed"
_RETRY_SECONDS: Final = 0.1
READY_SECONDS_MAX: Final = 15.0
FILLER: Final = "something-else"
"""The name of the file that fills the state partition."""
STATE: Final = "/var/lib/rap"
"""The mount point of the state partition."""

_SCRIPT: Final = f"""\
exec 3<> /dev/virtio-ports/{_PORT}
exec 2>&3
echo {_READY} >&3
read -r action value <&3
filler={STATE}/{FILLER}
fill() {{
    size=0 part=1073741824
    [ ! -e $filler ] || size=$(stat -c %s $filler)
    while [ $part -ge 4096 ]; do
        if fallocate -o $size -l $part $filler 2> /dev/null; then size=$((size + part)); else part=$((part / 2)); fi
    done
    sync $filler
}}
case $action in
    look) command -v fallocate systemctl > /dev/null && mountpoint -q {STATE} ;;
    fill) fill ;;
    clear) rm -f $filler ;;
    kill) systemctl kill --signal=SIGKILL rap-box.service || true ;;
    clock)
        now=$(($(date +%s%N) + value))
        date -s @$((now / 1000000000)).$(printf %09d $((now % 1000000000))) > /dev/null ;;
    *) false ;;
esac && echo {_DONE} >&3 || echo {_FAILED} >&3
"""
_UNIT: Final = """\
[Unit]
Description=Fault of a simulated lab
CollectMode=inactive-or-failed
[Service]
Type=oneshot
ExecStart=/bin/sh -c '{script}'
"""
_RULE: Final = (
    f'ACTION=="add", SUBSYSTEM=="virtio-ports", ATTR{{name}}=="{_PORT}", TAG+="systemd", '
    f'ENV{{SYSTEMD_WANTS}}+="{_PORT}.service"\n'
)


class ActionFailed(Exception):
    """The guest's system has not executed an action; the message gives the reason, or what the guest may lack."""


class MachineMonitor(Protocol):
    """The monitor of a running machine."""

    def execute(self, command: str, **arguments: object) -> Any:
        """Execute a command of QMP."""
        ...


def _text(data: str) -> str:
    return b64encode(data.encode()).decode()


def _credential() -> str:
    """Return lines of tmpfiles.d(5)."""
    script = _SCRIPT.replace("%", "%%").replace("$", "$$").replace("\n", "\\n")
    unit = _UNIT.format(script=script)
    return (
        f"f~ /run/systemd/system/{_PORT}.service 0644 root root - {_text(unit)}\n"
        "d /run/udev/rules.d 0755 root root -\n"
        f"f~ /run/udev/rules.d/99-{_PORT}.rules 0644 root root - {_text(_RULE)}\n"
    )


def _socket(folder: Path) -> Path:
    return folder / "inside.sock"


def arguments(folder: Path) -> list[str]:
    """Return QEMU's arguments; `folder` is for the port's socket."""
    value = f"io.systemd.credential.binary:tmpfiles.extra={_text(_credential())}"
    return [
        *("-smbios", f"type=11,value={value}"),
        *("-device", f"virtio-serial-pci,id={DEVICE},bus=pcie.0,addr=0x0f"),
        *("-chardev", f"socket,id={DEVICE},path={_socket(folder)},server=on,wait=off"),
    ]


async def execute(machine: MachineMonitor, folder: Path, action: str, seconds_max: float) -> None:
    """Execute `action` in the guest, and return when it is done. Raises: ActionFailed; OSError if QEMU ends."""
    reader, writer = await asyncio.open_unix_connection(_socket(folder))
    try:
        async with asyncio.timeout(seconds_max):
            await _until_ready(machine, reader)
            writer.write(f"{action}\n".encode())
            answer = await _answer(reader)
    except TimeoutError:
        raise ActionFailed(
            f"the box's system gave no answer within {seconds_max:.0f} s; it needs systemd 252 or later, and the "
            "kernel's module virtio_console"
        ) from None
    finally:
        writer.close()
        with suppress(OSError, RuntimeError):  # QEMU has ended, or there is no port
            machine.execute("device_del", id=_PORT)
    if answer != _DONE:
        raise ActionFailed(f"the box's system failed to execute {action!r}: {answer}")


async def _until_ready(machine: MachineMonitor, reader: asyncio.StreamReader) -> None:
    """Add the port repeatedly until the guest's udev rule reacts: the box may accept connections before it does."""
    port = {"driver": "virtserialport", "id": _PORT, "bus": f"{DEVICE}.0", "chardev": DEVICE, "name": _PORT}
    while True:
        try:
            machine.execute("device_add", **port)
        except RuntimeError:
            # QEMU has not finished the removal of the last port (device_del is asynchronous)
            await asyncio.sleep(_RETRY_SECONDS)
            continue
        with suppress(TimeoutError):
            async with asyncio.timeout(READY_SECONDS_MAX):
                if await _line(reader) == _READY:
                    return
        machine.execute("device_del", id=_PORT)


async def _answer(reader: asyncio.StreamReader) -> str:
    """Return the guest's output up to `_DONE` or `_FAILED`."""
    lines = [await _line(reader)]
    while lines[-1] not in (_DONE, _FAILED):
        lines.append(await _line(reader))
    return "\n".join(lines)


async def _line(reader: asyncio.StreamReader) -> str:
    if line := await reader.readline():
        return line.decode(errors="replace").strip()
    raise ConnectionResetError("QEMU has ended")
