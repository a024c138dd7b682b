"""A view of a tree for the scanner, which leaves the tree unchanged and hides everything outside.

    links       absolute links, such as those in /etc/pam.d, would lead out of the tree, so that the scanner would
                evaluate the machine that it runs on; in the view they are relative
    mounts      rules about partitions read /proc/mounts, which here lists what the tree's fstab mounts
    /dev/null   exists, because masked units are links to it

The view is an overlay in a mount namespace of the scanner, which is removed with it.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

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
    tree: Path, place: Path, command: Sequence[str], environment: Mapping[str, str], seconds_max: float
) -> subprocess.CompletedProcess[str]:
    """Run a program in the folder `place`, where the view of `tree` is layer/view.

    Raises: subprocess.TimeoutExpired, when the program has been ended because it took too long.
    """
    (place / "layer").mkdir(exist_ok=True)
    (place / "mounts").write_text(_mounts(tree))
    namespaces = ["unshare", "--mount", "--propagation", "private", "--fork", "--kill-child=KILL"]
    return subprocess.run(
        [*namespaces, "sh", "-c", _INSIDE, "sh", str(tree), str(place / "layer"), *command],
        cwd=place,
        env=dict(environment),
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds_max,
    )


def _mounts(tree: Path) -> str:
    """Return the mounts of fstab(5) at boot, in the format of /proc/mounts."""
    fstab = tree / "etc/fstab"
    lines = fstab.read_text("utf-8", "replace").splitlines() if fstab.exists() else []
    entries = [line.split() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    mounted = [entry for entry in entries if len(entry) >= 4 and "noauto" not in entry[3].split(",")]
    return "".join(f"{what} {where} {kind} rw,{how} 0 0\n" for what, where, kind, how, *_ in mounted)
