"""The data-flow diagram, which becomes SVG and PDF: zones as columns, parties as boxes, flows as arrows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from reportlab.graphics.shapes import Drawing, Line, Polygon, Rect, String
from reportlab.lib.colors import HexColor

from imaging.papers.flows import ZONES, Flow, Zone

WIDTH: Final = 1060
COLUMN: Final[dict[Zone, int]] = {"instruments": 20, "box": 290, "hospital": 560, "outside": 830}
BOX_WIDTH: Final = 210
BOX_HEIGHT: Final = 34
ROW: Final = 62
TOP: Final = 60
FILL: Final[dict[Zone, str]] = {
    "instruments": "#eef4ee",
    "box": "#eef1f8",
    "hospital": "#fbf5e8",
    "outside": "#f6eef4",
}
INK: Final = HexColor("#1d2733")
ARROW: Final = HexColor("#2a5d9f")


def draw(flows: Sequence[Flow]) -> Drawing:
    """Return the diagram."""
    parties = _parties(flows)
    rows = max((sum(1 for zone in parties.values() if zone == each) for each in COLUMN), default=1)
    height = TOP + ROW * max(rows, 2) + 40
    drawing = Drawing(WIDTH, height)
    for zone, x in COLUMN.items():
        frame = _rectangle(x - 12, 10, BOX_WIDTH + 24, height - 20, FILL[zone])
        frame.strokeDashArray, frame.strokeWidth = [4, 3], 0.7
        drawing.add(frame)
        drawing.add(_text(x, height - 30, ZONES[zone], 12, bold=True))
    positions = _positions(parties, height)
    for name, (left, bottom) in positions.items():
        is_box = name == "Box"  # it is as high as its column
        size, base = (height - TOP - 30, 30.0) if is_box else (float(BOX_HEIGHT), bottom)
        drawing.add(_rectangle(left, base, BOX_WIDTH, size, "#ffffff"))
        drawing.add(_text(left + 8, base + size / 2 - 4, name[:38], 10))
    for flow in flows:
        _arrow(drawing, flow, positions)
    return drawing


def _parties(flows: Sequence[Flow]) -> dict[str, Zone]:
    zones: dict[str, Zone] = {"Box": "box"}
    for flow in flows:
        zones.setdefault(flow.source, flow.zones[0])
        zones.setdefault(flow.target, flow.zones[1])
    return zones


def _positions(parties: dict[str, Zone], height: float) -> dict[str, tuple[float, float]]:
    rows: dict[Zone, int] = {}
    positions = {}
    for name, zone in parties.items():
        row = rows.get(zone, 0)
        rows[zone] = row + 1
        positions[name] = (float(COLUMN[zone]), height - TOP - ROW * row - BOX_HEIGHT)
    return positions


def _arrow(drawing: Drawing, flow: Flow, positions: dict[str, tuple[float, float]]) -> None:
    (x0, y0), (x1, y1) = positions[flow.source], positions[flow.target]
    start = x0 + BOX_WIDTH
    y = (y1 if flow.source == "Box" else y0) + BOX_HEIGHT / 2
    target_y = y1 + BOX_HEIGHT / 2 if flow.target != "Box" else y
    shift = -9 if flow.content.startswith("remote session") else 0
    y, target_y = y + shift, target_y + shift
    drawing.add(Line(start, y, x1 - 7, target_y, strokeColor=ARROW, strokeWidth=1.3))
    drawing.add(
        Polygon(
            [x1, target_y, x1 - 8, target_y + 4, x1 - 8, target_y - 4], fillColor=ARROW, strokeColor=ARROW
        )
    )
    label = f"{flow.content[:46]}: {', '.join(flow.services)}"
    below = 6 if shift else -BOX_HEIGHT / 2 - 10
    if flow.target == "Data center":
        drawing.add(_text(x1, y1 - 11 + shift, label, 7))
        return
    x = x1 if flow.source == "Box" or flow.target != "Box" else x0
    drawing.add(_text(x, (y1 if flow.target != "Box" else y0) + BOX_HEIGHT / 2 + below, label, 7))


def _rectangle(x: float, y: float, width: float, height: float, color: str) -> Any:
    shape: Any = Rect(x, y, width, height, rx=4, ry=4)
    shape.fillColor, shape.strokeColor = HexColor(color), INK
    return shape


def _text(x: float, y: float, text: str, size: float, *, bold: bool = False) -> String:
    font = "Helvetica-Bold" if bold else "Helvetica"
    return String(x, y, text, fontName=font, fontSize=size, fillColor=INK)
