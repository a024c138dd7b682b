"""Rules of the layout: a folder has few modules, and a public class has a name of its own."""

from __future__ import annotations

import ast
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

MODULES_MAX: Final = 16
"""Maximum number of modules in a folder, with `__init__.py`: a reader takes in more only with subfolders."""
CATALOGUES: Final = {
    "datacenter/web/pages": "a page each",
    "datacenter/store/migrations/versions": "a migration each",
}
"""Folders of modules that all have the same form."""


def crowded_folders(modules: Sequence[Path]) -> Iterator[str]:
    """Yield a finding for each folder with more than `MODULES_MAX` modules."""
    for folder, count in Counter(map(str, (module.parent for module in modules))).items():
        if count > MODULES_MAX and folder not in CATALOGUES:
            yield f"{folder}: {count} modules; at most {MODULES_MAX}: move those of one idea to a subfolder"


def repeated_class_names(modules: Mapping[Path, str]) -> Iterator[str]:
    """Yield a finding for each public class whose name another module also gives to a class."""
    homes = defaultdict[str, list[Path]](list)
    for path, text in modules.items():
        for node in ast.parse(text).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes[node.name].append(path)
    for name, paths in homes.items():
        if len(paths) > 1:
            yield f"{paths[1]}: the class {name} exists in {paths[0]} as well; a name says which one is meant"
