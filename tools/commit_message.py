"""A Git hook that checks the message of a commit: `python -m tools.commit_message FILE`; status 1 if wrong."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

SUBJECT_MAX: Final = 72
SUBJECT: Final = re.compile(r"[a-z][\w./-]*(, [a-z][\w./-]*)*: [a-z0-9`].*[^.]")
WRITTEN_BY_GIT: Final = ("Merge ", "Revert ", "fixup! ", "squash! ", "amend! ")


def problems(message: str) -> Iterator[str]:
    """Yield the errors of a commit message; comment lines are ignored, as git does."""
    lines = [line.rstrip() for line in message.splitlines() if not line.startswith("#")]
    subject = lines[0] if lines else ""
    if subject.startswith(WRITTEN_BY_GIT):
        return
    if not SUBJECT.fullmatch(subject):
        yield f"the subject is {subject!r}; write `area: imperative summary`, without a full stop"
    if len(subject) > SUBJECT_MAX:
        yield f"the subject has {len(subject)} characters; at most {SUBJECT_MAX}"
    if len(lines) > 1 and lines[1]:
        yield "the second line has text; leave it empty, and begin the body below"


def main() -> int:
    """Print each problem of the message in the file."""
    found = list(problems(Path(sys.argv[1]).read_text("utf-8")))
    for problem in found:
        print(f"commit message: {problem}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
