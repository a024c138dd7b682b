"""Sources of facts: a tree of files, the running system, or recorded evidence.

All three have the same interface, and record the returned evidence: the same functions compute facts from a folder,
from a box, and from a file that a box sent. Missing sources are returned as None, and yield no fact.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Final, Protocol

from trust.evidence import Evidence, capture

FILE_BYTES_MAX: Final = 4 * 1024 * 1024
KERNEL_BYTES_MAX: Final = 64 * 1024
"""The kernel refuses larger reads of its settings (ENOMEM)."""
COMMAND_SECONDS_MAX: Final = 60
LINKS_MAX: Final = 40
_OF_THE_KERNEL: Final = ("/proc/", "/sys/")
_ENVIRONMENT: Final = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}


class ExaminedBox(Protocol):
    """A box, or recorded evidence about one."""

    def file(self, path: str) -> Evidence | None:
        """Return the content of a file, or None."""

    def paths(self, pattern: str) -> Evidence | None:
        """Return the paths that match a pattern, such as "/etc/sudoers.d/*", one per line; links as "PATH -> TARGET".

        An empty text means that no path matches; None means that it was not examined.
        """

    def command(self, *words: str) -> Evidence | None:
        """Return the output of a command on the running system; None if it fails, or if no system runs."""

    def document(self, kind: str) -> Evidence | None:
        """Return the document of a kind ("proof") that was given with the machine, or None."""

    def on_tree(self, *words: str) -> Evidence | None:
        """Run a command that only reads files, as `command` does; "{root}" stands for the root of the tree."""


class Files:
    """A tree of files below `root`, in which `own` files replace others; links are resolved inside the tree.

    With `runs`, the kernel, the processes and the network namespace are those of this process.
    """

    def __init__(
        self,
        root: Path,
        *,
        runs: bool,
        own: Mapping[str, str] | None = None,
        documents: Mapping[str, str] | None = None,
    ) -> None:
        self._root, self._runs, self._own = root, runs, dict(own or {})
        self.evidence = documents_of(documents)
        """The evidence returned so far, and the documents, by id."""

    def file(self, path: str) -> Evidence | None:
        """Return the content of a file, or None."""
        return self._once(f"file:{path}", lambda: self._read(path))

    def paths(self, pattern: str) -> Evidence | None:
        """Return the paths that match a pattern."""
        return self._once(
            f"paths:{pattern}", lambda: capture("paths", pattern, "".join(self._matching(pattern)), _now())
        )

    def command(self, *words: str) -> Evidence | None:
        """Run a command, if this is the running system."""
        return self._once(f"command:{' '.join(words)}", lambda: self._run(words) if self._runs else None)

    def document(self, kind: str) -> Evidence | None:
        """Return a document that was given."""
        return self.evidence.get(f"document:{kind}")

    def on_tree(self, *words: str) -> Evidence | None:
        """Run a command that reads the tree."""
        filled = tuple(word.replace("{root}", str(self._root)) for word in words)
        shown = " ".join(word.replace("{root}", "/") for word in words)
        return self._once(f"command:{shown}", lambda: self._run(filled, shown))

    def _once(self, ident: str, make: Callable[[], Evidence | None]) -> Evidence | None:
        if ident not in self.evidence and (evidence := make()):
            self.evidence[ident] = evidence
        return self.evidence.get(ident)

    def _read(self, path: str) -> Evidence | None:
        text = self._own.get(path.lstrip("/"))
        if text is None:
            of_kernel = path.startswith(_OF_THE_KERNEL)
            if of_kernel and not self._runs:
                return None
            location = Path(path) if of_kernel else resolve(self._root, path)
            try:
                with location.open("rb") as file:
                    text = file.read(KERNEL_BYTES_MAX if of_kernel else FILE_BYTES_MAX).decode(
                        "utf-8", "replace"
                    )
            except OSError:
                return None
        return capture("file", path, text, _now())

    def _matching(self, pattern: str) -> Iterable[str]:
        folder = resolve(self._root, str(PurePosixPath(pattern).parent))
        name = PurePosixPath(pattern).name
        targets = {} if "*" in str(folder) else {f"/{path}": "" for path in self._own_matching(pattern)}
        if "*" in str(folder):
            matches = sorted(self._root.glob(pattern.lstrip("/")))
            targets |= {f"/{path.relative_to(self._root)}": _target(path) for path in matches}
        elif folder.is_dir():
            parent = str(PurePosixPath(pattern).parent).rstrip("/")
            targets |= {f"{parent}/{path.name}": _target(path) for path in folder.glob(name)}
        return [f"{path}{target}\n" for path, target in sorted(targets.items())]

    def _own_matching(self, pattern: str) -> Iterable[str]:
        return [path for path in self._own if PurePosixPath(f"/{path}").match(pattern)]

    def _run(self, words: tuple[str, ...], shown: str = "") -> Evidence | None:
        program = shutil.which(words[0], path=_ENVIRONMENT["PATH"])
        if program is None:
            return None
        try:
            process = subprocess.run(
                [program, *words[1:]],
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
                env=_ENVIRONMENT,
                timeout=COMMAND_SECONDS_MAX,
                stdin=subprocess.DEVNULL,
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return (
            capture("command", shown or " ".join(words), process.stdout, _now())
            if process.returncode == 0
            else None
        )


class Recorded:
    """The machine as described by a file of `rap trust evidence`."""

    def __init__(self, evidence: Iterable[Evidence], documents: Mapping[str, str] | None = None) -> None:
        self.evidence = {each.id: each for each in evidence} | documents_of(documents)

    def file(self, path: str) -> Evidence | None:
        """Return the recorded content of a file."""
        return self.evidence.get(f"file:{path}")

    def paths(self, pattern: str) -> Evidence | None:
        """Return the recorded paths."""
        return self.evidence.get(f"paths:{pattern}")

    def command(self, *words: str) -> Evidence | None:
        """Return the recorded output of the command."""
        return self.evidence.get(f"command:{' '.join(words)}")

    def document(self, kind: str) -> Evidence | None:
        """Return a document that was recorded or given."""
        return self.evidence.get(f"document:{kind}")

    def on_tree(self, *words: str) -> Evidence | None:
        """Return the recorded output of the command."""
        return self.command(*(word.replace("{root}", "/") for word in words))


def resolve(root: Path, path: str) -> Path:
    """Return the location of `path` below `root`; absolute links are followed within the tree."""
    location = PurePosixPath("/")
    parts = list(PurePosixPath(path).parts[1:])
    for _ in range(LINKS_MAX):
        for index, part in enumerate(parts):
            candidate = root / (location / part).relative_to("/")
            if part == "..":
                location = location.parent
            elif candidate.is_symlink():
                target = PurePosixPath(candidate.readlink())
                location = PurePosixPath("/") if target.is_absolute() else location
                rest = target.parts[1:] if target.is_absolute() else target.parts
                parts = [*rest, *parts[index + 1 :]]
                break
            else:
                location /= part
        else:
            return root / location.relative_to("/")
    return root / location.relative_to("/")


def documents_of(texts: Mapping[str, str] | None) -> dict[str, Evidence]:
    """Return documents, given by their kind, as evidence by id."""
    documents = [capture("document", kind, text, _now()) for kind, text in (texts or {}).items()]
    return {document.id: document for document in documents}


def _target(path: Path) -> str:
    return f" -> {path.readlink()}" if path.is_symlink() else ""


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
