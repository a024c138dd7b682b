"""A view of a tree for the scanner: the scanner does not change the tree, and sees nothing outside.

    links       absolute links, such as those in /etc/pam.d, would lead out of the tree, so that the scanner would
                evaluate its own machine; in the view they are relative
    mounts      rules about partitions read /proc/mounts, which here lists the mounts of the tree's fstab
    /dev/null   exists, because masked units are links to it

The view is an overlay in the scanner's mount namespace, and is removed together with it.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from imaging.check.types import InvalidCheckInput

PROCESSOR_SECONDS_MAX: Final = 3600
"""A limit against endless scans; one takes 15 s to 2 min, depending on the content."""
_WORK_SECONDS_MIN: Final = 0.05
"""A program that uses less processor time than this in a period counts as waiting; waiting threads may still poll."""

_INSIDE: Final = """\
set -e
tree=$1 layer=$2; shift 2
mount -t tmpfs -o mode=0755 layer "$layer"
mkdir "$layer/upper" "$layer/work" "$layer/view"
mount -t overlay -o "lowerdir=$tree,upperdir=$layer/upper,workdir=$layer/work" view "$layer/view"
cd "$layer/view"
find . -xdev -type l -lname '/*' | while IFS= read -r link; do
    ln -sfnr ".$(readlink "$link")" "$link"
done
mkdir -p proc dev
cp ../../mounts proc/mounts
[ -e dev/null ] || : > dev/null
cd ../..
exec "$@"
"""


def run_on_view(
    tree: Path, folder: Path, command: Sequence[str], environment: Mapping[str, str], idle_seconds_max: float
) -> subprocess.CompletedProcess[str]:
    """Run a program in the folder `folder`, with the view of `tree` at layer/view.

    The limit is on processor time, so that a busy machine does not end the program early.

    Raises: subprocess.TimeoutExpired, if the program used no processor time for `idle_seconds_max` seconds;
    InvalidCheckInput, if it used more than `PROCESSOR_SECONDS_MAX`. The program has then been ended.
    """
    (folder / "layer").mkdir(exist_ok=True)
    (folder / "mounts").write_text(_mounts(tree))
    namespaces = ["unshare", "--mount", "--propagation", "private", "--fork", "--kill-child=KILL"]
    inside = ["sh", "-c", _INSIDE, "sh", str(tree), str(folder / "layer")]
    with subprocess.Popen(
        [*namespaces, *inside, *command],
        cwd=folder,
        env=dict(environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            out, err = _communicate(process, idle_seconds_max)
        finally:
            process.kill()
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def _communicate(process: subprocess.Popen[str], idle_seconds_max: float) -> tuple[str, str]:
    used = 0.0
    while True:
        try:
            return process.communicate(timeout=idle_seconds_max)
        except subprocess.TimeoutExpired:
            before, used = used, sum(_processor_seconds(process.pid))
            if used - before < _WORK_SECONDS_MIN:
                raise
            if used > PROCESSOR_SECONDS_MAX:
                raise InvalidCheckInput(
                    f"the scanner did not end within {PROCESSOR_SECONDS_MAX} s of processor time; use another "
                    "version of OpenSCAP or other content"
                ) from None


def _processor_seconds(session: int) -> Iterator[float]:
    """Yield the processor time of each process of a session, including its ended children: proc_pid_stat(5)."""
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # the process has ended
            fields = file.read_text().rpartition(")")[2].split()
            if int(fields[3]) == session:
                yield sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def _mounts(tree: Path) -> str:
    """Return the mounts of fstab(5) at boot, in the format of /proc/mounts."""
    fstab = tree / "etc/fstab"
    lines = fstab.read_text("utf-8", "replace").splitlines() if fstab.exists() else []
    entries = [line.split() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    mounted = [entry for entry in entries if len(entry) >= 4 and "noauto" not in entry[3].split(",")]
    return "".join(f"{what} {where} {kind} rw,{how} 0 0\n" for what, where, kind, how, *_ in mounted)
