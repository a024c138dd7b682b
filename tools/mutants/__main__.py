"""Mutation testing: `python -m tools.mutants [--module NAME …] [--only TEXT] [--sample N | --full]`.

For each module of tests/mutants.toml, mutants of its sources are tried with its tests, in a copy of the tree. Prints
each surviving mutant and a score per module: killed / (killed + survived), without equivalent mutants. The exit
status is 1 if a score is too low, 3 if the tests fail without a mutant or the list names a nonexistent function.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from shutil import copy2

from settings.problems import SettingsError
from settings.toml import load
from tools.mutants.modules import Broken, Modules, MutationScore, measure

LIST = Path("tests/mutants.toml")


def main() -> int:
    """Run mutation testing with the arguments of the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--module", action="append", help="a module of tests/mutants.toml; default: all")
    parser.add_argument("--only", default="", help="mutants whose file:function contains this text")
    parser.add_argument("--sample", type=int, help="mutants per module; default: as tests/mutants.toml says")
    parser.add_argument("--full", action="store_true", help="all mutants")
    parser.add_argument("--seed", type=int, help="seed of the sample; default: as tests/mutants.toml says")
    arguments = parser.parse_args()
    try:
        modules = load(LIST, Modules)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 3
    known = [module.name for module in modules.module]
    if unknown := set(arguments.module or ()) - set(known):
        parser.error(f"no module {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    os.environ.pop("PYTEST_ADDOPTS", None)  # the options of another run would select or end tests
    size = None if arguments.full else arguments.sample or modules.sample
    seed = modules.seed if arguments.seed is None else arguments.seed
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copy_tree(Path(folder))
        os.chdir(folder)
        sys.path[:] = [folder, *(path for path in sys.path if path not in ("", str(Path.cwd())))]
        try:
            chosen = [module for module in modules.module if module.name in (arguments.module or known)]
            scores = [measure(modules, module, arguments.only, size, seed) for module in chosen]
        except Broken as error:
            print(error, file=sys.stderr)
            return 3
        finally:
            os.chdir("/")
    return report(scores, modules.score_min)


def copy_tree(folder: Path) -> None:
    """Copy what git tracks or would track, and the built extensions."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    built = [str(path) for path in Path("hal").rglob("*.so")]
    for name in [*filter(None, listed.split("\0")), *built]:
        if Path(name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            copy2(name, folder / name, follow_symlinks=False)


def report(scores: list[MutationScore], score_min: float) -> int:
    """Print the table; return 1 if a score is below `score_min`, else 0."""
    print(
        f"\n{'module':12} {'tried':>6} {'killed':>6} {'survived':>8} {'gaps':>5} {'equivalent':>10} {'score':>7}"
    )
    for score in scores:
        mark = "" if score.value >= score_min else f"  below {score_min:.0%}"
        print(
            f"{score.name:12} {score.tried:6} {score.killed:6} {score.survived:8} {score.gaps:5} "
            f"{score.equivalent:10} {score.value:7.1%}{mark}"
        )
    return int(any(score.value < score_min for score in scores))


if __name__ == "__main__":
    sys.exit(main())
