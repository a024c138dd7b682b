"""Faults: what can go wrong in a lab, one file a kind.

A fault is a msgspec Struct whose fields are its parameters in the lab file. Its file in this package is all there
is to write; `fault_kinds` finds it. For example `sim/faults/link_degraded.py`:

    @fault("link-degraded", targets=("uplink", "instrument"))
    class LinkDegraded(Fault, frozen=True):
        \"\"\"The link loses, delays and reorders packets.\"\"\"

        loss: Fraction = 0.0
        delay: Nanoseconds = 0

        async def start(self, world: World, target: str) -> End:
            return world.link(target).impair(Impairment(loss=self.loss, delay_ns=self.delay))

and in a lab file:

    [[event]]
    at = "2h"
    fault = "link-degraded"
    target = "instrument:1"
    lasts = "5min"
    loss = "2%"

Parameters with a unit take their types from `sim.lab.values`; a parameter without a default must be given.

The world awaits `start` at `at`, and what that returns ends this occurrence of the fault and nothing else: the parts
of a world (`sim.faults.world`) count and layer what is done to them, so that faults can overlap in any way, also one
kind with itself. With `lasts` it ends that much later. Without `lasts`, a fault declared `momentary` ends at once
(the power comes straight back), and any other stays for the rest of the run.

A fault that does not block its target overrides `effect`, from which the verdict takes what the fault explains.

A fault that finds nothing to act on, such as a program to kill on a box without power, does nothing.
An instance may be started by several events: what it must remember is for the world, or for the end that it returns.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from types import MappingProxyType
from typing import Any, ClassVar, Final, Literal, TypeAlias, TypeVar

import msgspec

from sim.engine.layers import End as End
from sim.units import SECOND_NS

TARGETS: Final = ("uplink", "proxy", "datacenter", "box", "disk", "clock", "dns", "instrument")
"""What a fault can act on. In a lab file "instrument" is followed by its port: `instrument:1`."""


RECOVERY_NS: Final = 60 * SECOND_NS

Effect: TypeAlias = Literal["blocks", "slows", "none"]
"""Nothing gets through, or something does but late, or all of it does as if there were no fault."""


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One kind of fault with its parameters; see the module."""

    kind: ClassVar[str]
    targets: ClassVar[tuple[str, ...]]
    momentary: ClassVar[bool]
    emulated: ClassVar[bool]
    """Whether it takes hardware or a far end that is emulated, as only the virtual world's are."""

    @property
    def effect(self) -> Effect:
        """What it does to reports on their way through its target, for the verdict (`sim.verdict.causes`)."""
        return "blocks"

    @property
    def recovery_ns(self) -> int:
        """How long after its end a wait may still be due to it: the box boots, and back-offs run out."""
        return RECOVERY_NS

    async def start(self, world: Any, target: str) -> End:
        """Make it happen to `target`: a name of TARGETS, or `instrument:<port>`. The result ends it.

        `world` is a `World`, and for a fault declared `emulated` an `EmulatedWorld` (`sim.faults.world`).
        """
        raise NotImplementedError


AnyFault = TypeVar("AnyFault", bound=type[Fault])
_registered: dict[str, type[Fault]] = {}


def fault(
    kind: str, *, targets: tuple[str, ...], momentary: bool = False, emulated: bool = False
) -> Callable[[AnyFault], AnyFault]:
    """Register a class as the fault that lab files call `kind`."""
    assert targets and set(targets) <= set(TARGETS), f"{kind}: targets must be among {TARGETS}"

    def register(cls: AnyFault) -> AnyFault:
        assert kind not in _registered, f"fault {kind!r} is defined twice"
        cls.kind, cls.targets, cls.momentary, cls.emulated = kind, targets, momentary, emulated
        _registered[kind] = cls
        return cls

    return register


@cache
def fault_kinds() -> Mapping[str, type[Fault]]:
    """Every fault of this package by its kind, sorted."""
    for module in pkgutil.iter_modules(__path__):  # also `sim.faults.world`, which registers nothing
        import_module(f"{__name__}.{module.name}")
    return MappingProxyType(dict(sorted(_registered.items())))


def port_of(target: str) -> int | None:
    """The port in `instrument:<port>`; None for any other target."""
    name, colon, port = target.partition(":")
    return int(port) if name == "instrument" and colon else None
