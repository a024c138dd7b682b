"""`rap` with base dependencies only: `python -m tests.support.base_only ARGUMENT …` blocks all other packages."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.metadata import packages_distributions, requires
from types import ModuleType

from packaging.requirements import Requirement

from tests.support.paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def names(requirements: Sequence[str]) -> set[str]:
    """Return the names of the required distributions whose environment markers apply here, without extras."""
    parsed = [Requirement(text) for text in requirements]
    return {
        _canonical(requirement.name)
        for requirement in parsed
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""})
    }


def base_distributions() -> set[str]:
    """Return the base dependencies and their dependencies."""
    distributions, new = set[str](), names(PROJECT["dependencies"])
    while new:
        distributions |= new
        new = names([needed for name in new for needed in requires(name) or ()]) - distributions
    return distributions


def _canonical(name: str) -> str:
    return name.lower().replace(".", "-").replace("_", "-")


class Blocker(MetaPathFinder):
    """Refuses to import third-party modules that no base dependency provides."""

    def __init__(self) -> None:
        allowed = base_distributions() | {"rap-box"}
        self.blocked = {
            module
            for module, distributions in packages_distributions().items()
            if not {_canonical(name) for name in distributions} & allowed
        }

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] in self.blocked:
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)
        return None


def block() -> None:
    """Block all imports except those of base dependencies in this process."""
    blocker = Blocker()
    for name in [name for name in sys.modules if name.partition(".")[0] in blocker.blocked]:
        del sys.modules[name]
    sys.meta_path.insert(0, blocker)


if __name__ == "__main__":
    block()
    from rap.__main__ import main

    sys.exit(main(sys.argv[1:]))
