"""The checks of `bench.image.trust` without QEMU: `python -m bench.image.trust_tree [--json]`. Needs root.

systemd starts the tree of the same image in namespaces (`tests.support.imaging.starts.started_tree`): everything but
the kernel is from the image, and a start takes seconds. The kernel's FIPS mode, its options and settings, the device
of the TPM and auditd need a started machine, and are left to `bench.image.trust`.

Needs what `make setup-image`, `make setup-sessions` and `make setup-fips` install. Building the image takes minutes.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bench.figures import Figure, figure, run
from bench.image import trust
from tests.support.crypto import fips
from tests.support.imaging.starts.emulated import software_tpm
from tests.support.imaging.starts.started_tree import started_tree
from tests.support.namespaces import own_network

OF_THE_KERNEL: Final = {"kernel in FIPS mode", "the TPM belongs to the box program"}
"""Checks of the kernel and its devices, which a tree in namespaces lacks."""
CHECKS: Final = {name: script for name, script in trust.CHECKS.items() if name not in OF_THE_KERNEL}
TPM_CHECKS: Final = {name: script for name, script in trust.TPM_CHECKS.items() if name not in OF_THE_KERNEL}
FACTS_OF_THE_KERNEL: Final = {"system.kernel-options", "system.kernel-settings"}


def examine(folder: Path, tree: Path) -> Iterator[Figure]:
    """Yield all figures of a tree whose site and data center are in `folder`."""
    with own_network(), started_tree(tree, folder, folder / "site.toml") as shell:
        results = asyncio.run(trust.watch(folder, lambda: trust.examine(shell, folder, tree, CHECKS)))
    with own_network(), software_tpm(folder / "tpm") as chip:
        site = trust.site_with_tpm(folder)
        with started_tree(tree, folder, site, chip) as shell:
            passed = asyncio.run(trust.watch(folder, lambda: trust.check(shell, TPM_CHECKS)))
    differ = [name for name in results.differ_from_tree if name not in FACTS_OF_THE_KERNEL]
    yield figure("checks of FIPS mode that fail", f"of {len(CHECKS)}", len(CHECKS) - results.passed, "<= 0")
    yield figure("facts of the papers that differ on the box", f"of {results.facts}", results.differ, "<= 0")
    yield figure("facts of the image's papers that differ", "but the kernel's", len(differ), "<= 0")
    yield figure("deviations planted on the box", "", results.planted, ">= 20")
    yield figure("planted deviations that are not found", "", len(results.missed), "<= 0")
    yield figure("facts that differ without a planted deviation", "", len(results.others), "<= 0")
    failed = len(TPM_CHECKS) - passed
    yield figure("checks of a key in the TPM that fail", f"of {len(TPM_CHECKS)}", failed, "<= 0")


def figures() -> list[Figure]:
    """Return all figures, and print the state of the box to standard error."""
    assert fips.CAN_RUN, fips.REASON
    with tempfile.TemporaryDirectory(prefix="rap-trust-", dir="/var/tmp") as name:
        folder = Path(name)
        trust.make_image(folder)
        (tree,) = folder.glob("work/system-*/tree")
        return list(examine(folder, tree))


if __name__ == "__main__":
    run(figures, __doc__)
