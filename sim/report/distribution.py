"""Two charts of the whole run: the distribution of latency by priority, and the uplink's bytes by protocol layer."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Final

from sim.report.figure import Figure, Trace, axis, layout, stacked, swatch, title
from sim.verdict.quantities import count, duration, size
from sim.verdict.result import Latency, Result

LAYERS: Final = (
    ("payload", "payload"),
    ("http", "HTTP"),
    ("tls", "TLS"),
    ("tcpip", "TCP/IP"),
)
"""The fields of `LayerBytes`, and their names in the report."""

_ROW_PX: Final = 66
_GAP_PX: Final = 24
_QUANTILES: Final = (
    ("p50", "circle"),
    ("p90", "diamond"),
    ("p99", "triangle-up"),
    ("max", "line-ns-open"),
)
_TICKS_S: Final = {
    1e-3: "1 ms",
    1e-2: "10 ms",
    1e-1: "0.1 s",
    1: "1 s",
    10: "10 s",
    60: "1 min",
    600: "10 min",
    3600: "1 h",
    36_000: "10 h",
    86_400 * 10: "10 d",
}


def latency(result: Result) -> Figure | None:
    """Return the latency histograms on one logarithmic axis, one row per priority; None if nothing was measured."""
    rows = [row for row in result.latencies if row.count and row.counts]
    if not rows:
        return None
    figure: Figure = {
        "data": [],
        "layout": layout(
            (_ROW_PX + _GAP_PX) * len(rows) - _GAP_PX + 48,
            margin={"l": 12, "r": 16, "t": 22, "b": 26},
            hovermode="closest",
            xaxis=axis(
                type="log",
                tickvals=list(_TICKS_S),
                ticktext=list(_TICKS_S.values()),
                anchor="y" if len(rows) == 1 else f"y{len(rows)}",
            ),
            annotations=[],
        ),
    }
    domains = stacked([_ROW_PX] * len(rows), _GAP_PX)
    for i, (row, domain) in enumerate(zip(rows, domains, strict=True)):
        name = "y" if i == 0 else f"y{i + 1}"
        figure["layout"]["yaxis" + name[1:]] = axis(
            domain=domain,
            fixedrange=True,
            showticklabels=False,
            showgrid=False,
            range=[0, max(row.counts) * 1.35],
        )
        figure["layout"]["annotations"].append(title(swatch(row.priority, f"--{row.priority}"), domain[1]))
        figure["data"] += [_histogram(row, name), _quantiles(row, name)]
    return figure


def _histogram(row: Latency, axis_name: str) -> Trace:
    bins = zip(pairwise(row.edges_ns), row.counts, strict=True)
    texts = [
        f"{duration(start)} to {duration(end)}: {count(number)} reports ({100 * number / row.count:.1f} %)"
        for (start, end), number in bins
    ]
    seconds = [edge / 1e9 for edge in row.edges_ns]
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [seconds[0], *seconds],
        "y": [0, *row.counts, 0],
        "text": ["", *texts, ""],
        "hoverinfo": "text",
        "yaxis": axis_name,
        "line": {"shape": "hv", "width": 1.5, "color": f"--{row.priority}"},
        "fill": "tozeroy",
        "fillcolor": f"--{row.priority}-fill",
    }


def _quantiles(row: Latency, axis_name: str) -> Trace:
    """Return the quantiles as marks above the histogram."""
    values = [getattr(row, f"{name}_ns") for name, _ in _QUANTILES]
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [value / 1e9 for value in values],
        "y": [max(row.counts) * 1.18] * len(values),
        "text": [f"{name}: {duration(value)}" for (name, _), value in zip(_QUANTILES, values, strict=True)],
        "hoverinfo": "text",
        "yaxis": axis_name,
        "marker": {
            "symbol": [symbol for _, symbol in _QUANTILES],
            "size": 9,
            "color": "--ink",
            "line": {"width": 2, "color": "--ink"},
        },
    }


def bytes_by_layer(result: Result) -> Figure | None:
    """Return a stacked bar for each direction of the uplink; None if the world does not measure bytes by layer."""
    up, down = result.uplink.up, result.uplink.down
    if up is None or down is None:
        return None
    totals = [max(result.uplink.bytes_up, 1), max(result.uplink.bytes_down, 1)]
    data = []
    for field, name in LAYERS:
        data.append(_segments(name, f"--{field}", [getattr(up, field), getattr(down, field)], totals))
    return {
        "data": data,
        "layout": layout(
            132,
            margin={"l": 46, "r": 12, "t": 4, "b": 26},
            barmode="stack",
            bargap=0.35,
            hovermode="closest",
            xaxis=axis(tickformat="~s", ticksuffix="B", rangemode="tozero", fixedrange=True, nticks=6),
            yaxis=axis(autorange="reversed", fixedrange=True, showgrid=False),
        ),
    }


def _segments(name: str, color: str, values: list[int], totals: list[int]) -> dict[str, Any]:
    shares = [f"{100 * value / total:.0f} %" for value, total in zip(values, totals, strict=True)]
    return {
        "type": "bar",
        "orientation": "h",
        "name": name,
        "y": ["up", "down"],
        "x": values,
        "text": shares,
        "textposition": "inside",
        "insidetextanchor": "middle",
        "textangle": 0,
        "textfont": {"color": f"{color}-ink"},
        "constraintext": "both",
        "hovertext": [
            f"{name}: {size(value)} ({share})" for value, share in zip(values, shares, strict=True)
        ],
        "hoverinfo": "text",
        "marker": {"color": color, "line": {"width": 1, "color": "--panel"}},
    }
