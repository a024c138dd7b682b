"""Worlds: the environments in which a lab runs. The same lab reaches the same verdict in each.

`virtual` simulates time, network and hardware; `kernel` runs the real programs on network namespaces. Both have the
same modules (`world`, `box`, `analyzer`, `datacenter`, `proxy`, `firewall`, `site`, `run`), do not import each other,
and build on `shared`. Hosts, links and names come from `sim.net` and from `sim.worlds.kernel.namespaces`,
respectively. `image` is the kernel world with the built image in QEMU as the box; it replaces the modules `box`,
`site`, `world` and `run`.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Final

from sim.lab.labfile import Lab
from sim.verdict.result import Result
from sim.worlds.shared.progress import LabProgress


def run_lab(
    lab: Lab,
    *,
    world: str = "virtual",
    seed: int | None = None,
    progress: LabProgress | None = None,
) -> Result:
    """Run a lab to its end and evaluate it; `seed` replaces that of the lab file.

    Raises: Stalled, whose message says what the run waits for, if it cannot end; in the kernel world also
    SettingsError, MachineLacksError.
    """
    result = _RUNNERS[world](lab, seed, progress)
    # The objects of a lab form many reference cycles. Without this, two labs would be in memory at the same time
    gc.collect()
    return result


def _virtual(lab: Lab, seed: int | None, progress: LabProgress | None) -> Result:
    from sim.worlds.virtual.run import run_virtual_lab

    return run_virtual_lab(lab, seed, progress)


def _kernel(lab: Lab, seed: int | None, progress: LabProgress | None) -> Result:
    from sim.worlds.kernel.run import run_kernel_lab

    return run_kernel_lab(lab, seed, progress)


_RUNNERS: Final[dict[str, Callable[[Lab, int | None, LabProgress | None], Result]]] = {
    "virtual": _virtual,
    "kernel": _kernel,
}
"""The function that runs a lab in each world. Each imports its world only when it is used."""
