"""The firewall policy of a box, read from evidence instead of a file."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Final

from netfw.policy.policy import Policy
from netfw.policy.policyfile import PolicyFile, load_policy
from settings.problems import SettingsError
from settings.toml import loads
from trust.evidence import Evidence
from trust.machine import ExaminedBox

FOLDER: Final = "/etc/rap"
POLICY: Final = f"{FOLDER}/firewall.toml"


def policy_of(machine: ExaminedBox) -> tuple[Policy, list[Evidence]] | None:
    """Return the policy in /etc/rap with its evidence; None if there is no valid one."""
    file = machine.file(POLICY)
    if file is None:
        return None
    with tempfile.TemporaryDirectory(prefix="rap-trust-") as folder:
        copy = Path(folder) / "firewall.toml"
        copy.write_text(file.text, "utf-8")
        evidence = [file]
        try:
            board = loads(file.text, copy, PolicyFile).board
            if board.endswith(".toml") and (own := machine.file(f"{FOLDER}/{Path(board).name}")):
                (copy.parent / Path(board).name).write_text(own.text, "utf-8")
                evidence.append(own)
            return load_policy(copy), evidence
        except SettingsError:
            return None
