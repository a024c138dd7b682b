"""Faults that a lab file can inject into a running lab; each kind is one module.

A fault is a msgspec Struct whose fields are its parameters in the lab file. Only its module has to be written, in the
subpackage of its target: `fault_kinds` discovers it. For example `sim/faults/link/degraded.py`:

    @fault("link-degraded", targets=("uplink", "instrument"))
    class LinkDegraded(Fault[World], frozen=True):
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

Parameters with a unit take their types from `sim.values`; a parameter without a default is required.

At the time `at` the world awaits `start`, which returns a function that ends this occurrence of the fault and no
other: the parts of a world (`sim.faults.world`) combine all effects in force, so that faults can overlap in any way,
including two of the same kind. An occurrence with `lasts` ends after that time. Without `lasts`, a fault declared
`momentary` ends immediately (after a power cut, power returns at once), and any other fault lasts until the end of
the run.

A fault that does not block its target overrides `effect`, from which the verdict derives which delays it explains.

A fault that has nothing to act on does nothing: for example, a box without power has no program to kill. Several
events may start the same instance, so it has no state: state belongs to the world, or to the function that `start`
returns.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from types import MappingProxyType
from typing import ClassVar, Final, Generic, Literal, TypeAlias, TypeGuard, TypeVar, get_args

import msgspec

from sim.engine.layers import End as End
from sim.faults.world import EmulatedWorld, MachineWorld, World
from sim.units import SECOND_NS

TARGETS: Final = ("uplink", "proxy", "datacenter", "box", "disk", "clock", "dns", "siem", "instrument")
"""Targets of faults. In a lab file "instrument" is followed by its port: `instrument:1`."""

RECOVERY_NS: Final = 60 * SECOND_NS
"""How long after a fault the box may still need to boot and to wait for its retry delays."""

Effect: TypeAlias = Literal["blocks", "slows", "none"]
"""Whether a fault stops reports, delays them, or does not affect them."""

W = TypeVar("W", bound=World, contravariant=True)


class Fault(msgspec.Struct, Generic[W], frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A fault with its parameters, for worlds of type `W`: `World`, `MachineWorld` or `EmulatedWorld`."""

    kind: ClassVar[str]
    targets: ClassVar[tuple[str, ...]]
    momentary: ClassVar[bool]
    emulated: ClassVar[bool]
    """Whether only some worlds support the fault."""
    of_machine: ClassVar[bool]
    """Whether it needs a `MachineWorld`, each of which supports it."""

    @property
    def effect(self) -> Effect:
        """Its effect on reports that pass through its target, for the verdict (`sim.verdict.causes`)."""
        return "blocks"

    @property
    def recovery_ns(self) -> int:
        """How long after its end, in ns, it still explains a delay: the box boots, and retry delays expire."""
        return RECOVERY_NS

    async def start(self, world: W, target: str) -> End:
        """Inject it into `target`: a name of TARGETS, or `instrument:<port>`. The result ends it."""
        raise NotImplementedError


AnyFault: TypeAlias = Fault[EmulatedWorld]
"""A fault of any kind: an emulated world supports all of them."""
FaultClass = TypeVar("FaultClass", bound=type[AnyFault])
_registered: dict[str, type[AnyFault]] = {}


def fault(
    kind: str, *, targets: tuple[str, ...], momentary: bool = False
) -> Callable[[FaultClass], FaultClass]:
    """Register a subclass of `Fault[W]` for a type of world `W` as the fault that lab files call `kind`."""
    assert targets and set(targets) <= set(TARGETS), f"{kind}: targets must be among {TARGETS}"

    def register(cls: FaultClass) -> FaultClass:
        assert kind not in _registered, f"fault {kind!r} is defined twice"
        cls.kind, cls.targets, cls.momentary = kind, targets, momentary
        cls.emulated, cls.of_machine = _world_of(cls) is not World, _world_of(cls) is MachineWorld
        _registered[kind] = cls
        return cls

    return register


def _world_of(cls: type[AnyFault]) -> object:
    (base,) = cls.__orig_bases__  # type: ignore[attr-defined]  # types.get_original_bases, from Python 3.12 on
    return (*get_args(base), World)[0]


def is_portable(fault: AnyFault) -> TypeGuard[Fault[World]]:
    """Return whether every world supports the fault."""
    return not fault.emulated


def needs_machine_only(fault: AnyFault) -> TypeGuard[Fault[MachineWorld]]:
    """Return whether the fault needs a `MachineWorld`, each of which supports it."""
    return fault.of_machine


@cache
def fault_kinds() -> Mapping[str, type[AnyFault]]:
    """Return all fault classes of this package by their kind, sorted."""
    for module in pkgutil.walk_packages(__path__, f"{__name__}."):  # also modules without a fault
        import_module(module.name)
    return MappingProxyType(dict(sorted(_registered.items())))


def port_of(target: str) -> int | None:
    """Return the port number in `instrument:<port>`; None for any other target."""
    name, colon, port = target.partition(":")
    return int(port) if name == "instrument" and colon else None
