"""Package repositories, and resolving a `%packages` section with all its dependencies.

`Repository.resolve` finds problems that would stop an installation: unknown names, unmet requirements, and packages
that are both excluded and required. It chooses providers as dnf does in simple cases (a package already chosen, then
the shortest name, then the newest version), and does not try another one if that choice leads to a conflict. Each
reported problem is real, but a section without problems may still be impossible to install.
"""

from __future__ import annotations

import fnmatch
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property, cmp_to_key
from itertools import chain
from pathlib import Path
from typing import Any, Final

from imaging.repository.repodata import (
    Package,
    PackageGroup,
    RepositoryError,
    gc_disabled,
    locations,
    read_files,
    read_groups,
    read_packages,
)
from imaging.repository.versions import Dependency, Evr, compare

__all__ = ["Package", "Repository", "RepositoryError", "Resolution"]

_TOKEN: Final = re.compile(r"\(|\)|[^\s()]+(?:\([^()\s]*\))*")
_OPERATORS: Final = ("and", "or", "if", "unless", "with", "without", "else")


@dataclass(slots=True)
class Resolution:
    """The result of resolving a %packages section."""

    installed: dict[str, Package] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    """Unknown names, as written in the section: "htop", "@web-server", "@^minimal"."""
    unmet: list[tuple[str, str, bool]] = field(default_factory=list)
    """Unmet requirements: (package, requirement, whether only an exclusion prevents it)."""


class Repository:
    """The packages and groups of one or more repositories."""

    def __init__(self, packages: list[Package], groups: list[PackageGroup], file_lists: list[Path]) -> None:
        self.packages = packages
        self.groups = {group.id: group for group in groups if not group.is_environment}
        self.environments = {group.id: group for group in groups if group.is_environment}
        self._file_lists = file_lists

    @classmethod
    def load(cls, folder: Path) -> Repository:
        """Read the repository in `folder`. Raises: RepositoryError."""
        files = locations(folder)
        comps = files.get("group") or files.get("group_gz") or files.get("group_zst") or files.get("group_xz")
        groups = read_groups(comps) if comps else []
        lists = [files["filelists"]] if "filelists" in files else []
        return cls(read_packages(files["primary"]), groups, lists)

    @classmethod
    def joined(cls, repositories: Sequence[Repository]) -> Repository:
        """Return one repository with the packages and groups of several."""
        if len(repositories) == 1:
            return repositories[0]
        return cls(
            [package for one in repositories for package in one.packages],
            [group for one in repositories for group in (*one.groups.values(), *one.environments.values())],
            [path for one in repositories for path in one._file_lists],
        )

    @cached_property
    def by_name(self) -> dict[str, list[Package]]:
        """The packages of each name, newest first."""
        table: dict[str, list[Package]] = defaultdict(list)
        for package in self.packages:
            if package.arch != "src":
                table[package.name].append(package)
        for same in table.values():
            same.sort(key=cmp_to_key(lambda a, b: compare(b.evr, a.evr)))
        return dict(table)

    @cached_property
    def offers(self) -> dict[str, list[tuple[Dependency, Package]]]:
        """The packages that provide each capability, and each file named in the primary metadata."""
        table: dict[str, list[tuple[Dependency, Package]]] = defaultdict(list)
        with gc_disabled():
            for package in chain.from_iterable(self.by_name.values()):
                for offer in package.provides:
                    table[offer.name].append((offer, package))
                for path in package.files:
                    table[path].append((Dependency(path), package))
        return table

    @cached_property
    def files(self) -> dict[str, list[Package]]:
        """The packages that contain each file, from all file lists. Raises: RepositoryError."""
        known = {(package.name, package.arch, package.evr): package for package in self.packages}
        for path in self._file_lists:
            read_files(path, known)
        table: dict[str, list[Package]] = defaultdict(list)
        with gc_disabled():
            for package in self.packages:
                for name in package.files:
                    table[name].append(package)
        return table

    def providers(self, wanted: Dependency) -> list[Package]:
        """Return the packages that meet a requirement (not a boolean one), best first."""
        by_identity = {id(p): p for offer, p in self.offers.get(wanted.name, ()) if wanted.met_by(offer)}
        if not by_identity and wanted.name.startswith("/"):
            by_identity = {id(p): p for p in self.files.get(wanted.name, ())}
        return sorted(by_identity.values(), key=lambda p: (p.name != wanted.name, len(p.name), p.name))

    def matching(self, entry: str) -> list[str]:
        """Return the names of the packages that an entry of %packages selects.

        An entry is a name, a glob, name.arch, a file or a capability.
        """
        if entry in self.by_name:
            return [entry]
        if any(sign in entry for sign in "*?["):
            return fnmatch.filter(self.by_name, entry)
        name, _, arch = entry.rpartition(".")
        if any(package.arch == arch for package in self.by_name.get(name, ())):
            return [name]
        return [package.name for package in self.providers(Dependency(entry))[:1]]

    def members(self, name: str, *, environment: bool, optional: bool = False) -> list[str] | None:
        """Return the packages of a group or environment, given by id or name; None if it does not exist."""
        table = self.environments if environment else self.groups
        group = table.get(name) or next((g for g in table.values() if g.name.lower() == name.lower()), None)
        if group is None:
            return None
        if not environment:
            return [*group.members, *(group.optional if optional else ())]
        return [one for part in group.members for one in self.members(part, environment=False) or ()]

    def nearest(self, entry: str) -> str:
        """Return the most similar name, as written in %packages, or ""."""
        mark = "@^" if entry.startswith("@^") else "@" if entry.startswith("@") else ""
        tables: dict[str, Iterable[str]] = {"@^": self.environments, "@": self.groups, "": self.by_name}
        close = get_close_matches(entry.removeprefix(mark), tables[mark], n=1, cutoff=0.75)
        return mark + close[0] if close else ""

    def resolve(self, section: Any) -> Resolution:
        """Resolve a %packages section (pykickstart's `Packages`)."""
        return _Resolver(self, section).run()


class _Resolver:
    """Resolves one section by walking its requirements, breadth first."""

    def __init__(self, repository: Repository, section: Any) -> None:
        self._repository = repository
        self._section = section
        self._result = Resolution()
        self._excluded: set[str] = set()
        self._queue: list[Package] = []
        self._met: set[Dependency] = set()

    def run(self) -> Resolution:
        for entry in self._section.excludedList:
            self._excluded.update(self._repository.matching(entry))
        for group in self._section.excludedGroupList:
            self._excluded.update(self._repository.members(group.name, environment=False) or ())
        for name in self._wanted():
            self._choose(self._repository.by_name[name][0])
        for package in self._queue:  # grows during the iteration
            for requirement in package.requires:
                self._meet(package, requirement)
        return self._result

    def _wanted(self) -> Iterator[str]:
        """Yield the names of the packages requested; unknown names are added to the result."""
        for entry in self._section.packageList:
            names = self._repository.matching(entry)
            if not names:
                self._result.unknown.append(entry)
            yield from names
        groups = [(f"@{g.name}", g.name, False, g.include == 2) for g in self._section.groupList]
        if self._section.environment:
            name = self._section.environment
            groups.append((f"@^{name}", name, True, False))
        if not self._section.nocore and "core" in self._repository.groups:
            groups.append(("@core", "core", False, False))
        for entry, name, environment, optional in groups:
            members = self._repository.members(name, environment=environment, optional=optional)
            if members is None:
                self._result.unknown.append(entry)
            yield from (m for m in members or () if m in self._repository.by_name and m not in self._excluded)

    def _choose(self, package: Package) -> None:
        if package.name not in self._result.installed:
            self._result.installed[package.name] = package
            self._queue.append(package)

    def _meet(self, package: Package, requirement: Dependency) -> None:
        if requirement in self._met or requirement.name.startswith(("rpmlib(", "config(")):
            return
        rich = requirement.name.startswith("(")
        if self._rich(requirement.name) if rich else self._plain(requirement):
            self._met.add(requirement)
        else:
            blocked = not rich and bool(self._repository.providers(requirement))
            self._result.unmet.append((package.name, str(requirement), blocked))

    def _plain(self, requirement: Dependency) -> bool:
        candidates = [p for p in self._repository.providers(requirement) if p.name not in self._excluded]
        if not candidates:
            return False
        chosen = next((p for p in candidates if p.name in self._result.installed), candidates[0])
        self._choose(chosen)
        return True

    def _rich(self, text: str) -> bool:
        """Return whether a boolean dependency, such as `(a >= 1 or b)`, is met.

        Conditional dependencies count as met.

        Source: rpm's manual, boolean_dependencies.
        """
        tokens = _TOKEN.findall(text)[1:-1]
        if any(word in tokens for word in ("if", "unless", "without", "(")):
            return True
        operands = _operands(tokens)
        if "or" in tokens:
            return any(self._plain(operand) for operand in operands)
        return all(self._plain(operand) for operand in operands)


def _operands(tokens: list[str]) -> list[Dependency]:
    """Return the operands of a boolean dependency."""
    operands: list[Dependency] = []
    operand: list[str] = []
    for token in (*tokens, "or"):
        if token not in _OPERATORS:
            operand.append(token)
            continue
        flag = (
            {"=": "EQ", "<": "LT", "<=": "LE", ">": "GT", ">=": "GE"}.get(operand[1], "")
            if operand[1:]
            else ""
        )
        if operand:
            evr = _evr_of(operand[2]) if operand[2:] else Evr(0, "", "")
            operands.append(Dependency(operand[0], flag, evr))
        operand = []
    return operands


def _evr_of(text: str) -> Evr:
    epoch, _, rest = text.rpartition(":")
    version, _, release = rest.partition("-")
    return Evr(int(epoch or 0), version, release)
