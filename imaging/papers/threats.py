"""The threat model: STRIDE for each data flow, from `imaging/papers/threats.toml`, as a page with a diagram."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final

from msgspec import Meta, structs

from imaging.papers.flows import ROLES, ZONES, Zone
from settings.toml import load
from settings.types import Table

THREATS: Final = Path(__file__).parent / "threats.toml"
OWN_FLOWS: Final = {
    "instruments": ("Instruments", "Box", "reports"),
    "page": ("Person in the laboratory", "Box", "local page"),
    "session": ("Box", "Data center", "remote session"),
    "enrolment": ("Box", "Data center", "requests for certificates"),
    "updates": ("Data center", "Box", "updates"),
    "staff": ("Staff", "Data center", "pages and API"),
    "siem": ("Data center", "SIEM", "audit records"),
}
"""Flows without a destination in the firewall's policy: source, target, content."""
OWN_PARTIES: Final[dict[str, Zone]] = {
    "Box": "box",
    "Instruments": "instruments",
    "Person in the laboratory": "instruments",
    "Staff": "outside",
    "SIEM": "outside",
}
"""The zones of the parties of these flows that are not in `ROLES`."""
HEAD: Final = """\
# Threat model

STRIDE for each data flow of a box and of the data center. The flows of a box are in the data-flow diagram of the
[papers of a site](../how-to/papers.md); `make golden` writes this page from `imaging/papers/threats.toml`.
[SECURITY.md](../../SECURITY.md) lists threats without protection.

"""


class Threat(Table, frozen=True):
    """One kind of threat to a flow: the threat, its mitigation or why it is accepted, and the evidence."""

    threat: str
    answer: str
    evidence: Annotated[list[str], Meta(min_length=1)]


class FlowThreats(Table, frozen=True):
    """The six kinds of threats to a flow."""

    name: str
    roles: list[str]
    spoofing: Threat
    tampering: Threat
    repudiation: Threat
    disclosure: Threat
    denial: Threat
    elevation: Threat

    def by_kind(self) -> Iterator[tuple[str, Threat]]:
        """Yield each kind with its threat."""
        for info in structs.fields(self):
            if isinstance(value := getattr(self, info.name), Threat):
                yield info.name, value


class ThreatModel(Table, frozen=True):
    """The content of threats.toml."""

    flow: list[FlowThreats]


def threat_model(file: Path = THREATS) -> ThreatModel:
    """Read the threat model. Raises: SettingsError."""
    return load(file, ThreatModel)


def page() -> str:
    """Return the page docs/reference/threat-model.md."""
    return HEAD + _diagram() + "".join(_flow(flow) for flow in threat_model().flow)


def _diagram() -> str:
    lines = ["```mermaid", "flowchart LR"]
    zone_of = {name: where for name, where, _, _ in ROLES.values()} | OWN_PARTIES
    for zone, title in ZONES.items():
        parties = [name for name, where in zone_of.items() if where == zone]
        lines.append(f'    subgraph {zone}["{title}"]')
        lines += [f'        {_node(name)}["{name}"]' for name in parties]
        lines.append("    end")
    lines += [f"    box_ -->|{content}| {_node(name)}" for name, _, content, _ in ROLES.values()]
    lines += [f"    {_node(a)} -->|{content}| {_node(b)}" for a, b, content in OWN_FLOWS.values()]
    return "\n".join([*lines, "```", "", ""])


def _node(name: str) -> str:
    return "box_" if name == "Box" else "".join(letter for letter in name if letter.isalnum())


def _flow(flow: FlowThreats) -> str:
    rows = [
        f"| {kind} | {one.threat} | {one.answer} | {', '.join(map(_link, one.evidence))} |"
        for kind, one in flow.by_kind()
    ]
    return "\n".join(
        [f"## {flow.name}", "", "| kind | threat | answer | shown by |", "|---|---|---|---|", *rows, "", ""]
    )


def _link(evidence: str) -> str:
    path = evidence.partition("::")[0]
    return f"`{evidence}`" if evidence.startswith("rap ") else f"[{Path(path).name}](../../{path})"
