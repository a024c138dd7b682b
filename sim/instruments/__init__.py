"""Simulated laboratory analyzers. A new model is one file in `sim/instruments/models/`, without other changes."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from sim.instruments import models
from sim.instruments.assurance import Emit
from sim.instruments.instrument import SimulatedInstrument
from sim.instruments.model import InstrumentModel

__all__ = ["Emit", "InstrumentModel", "ModelError", "SimulatedInstrument", "load_model", "model_names"]


class ModelError(ValueError):
    """The instrument model does not exist; the message lists those that do."""


@cache
def _models() -> dict[str, InstrumentModel]:
    modules = (import_module(f"{models.__name__}.{info.name}") for info in iter_modules(models.__path__))
    return {module.MODEL.name: module.MODEL for module in modules}


def model_names() -> list[str]:
    """Return the names of all models, sorted."""
    return sorted(_models())


def load_model(name: str) -> InstrumentModel:
    """Return the model with the name used in lab files ("chemistry-analyzer"). Raises: ModelError."""
    if name not in _models():
        raise ModelError(f"there is no instrument model {name!r}; there are {', '.join(model_names())}")
    return _models()[name]
