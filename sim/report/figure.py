"""The parts every chart shares. A figure is the plain dictionary that plotly.js draws; nothing here draws.

Colors are the names of the page's CSS variables ("--alert"): the page's script puts in what they are in light or
dark before it hands the figure to plotly.js. Times of the lab go on a date axis, on which every run starts with
the first day of a year: the day of the year is the day of the run.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

Figure: TypeAlias = dict[str, Any]
"""`{"data": [trace, …], "layout": {…}}`, as https://plotly.com/javascript/reference/ has it."""
Trace: TypeAlias = dict[str, Any]

_START_MS: Final = 978_307_200_000
"""2001-01-01T00:00:00Z. Counting from 0 would not do: plotly.js takes a number below 10,000 for a year."""


def at(lab_ns: int) -> float:
    """A time of the lab as a value of the date axis, in milliseconds."""
    return _START_MS + lab_ns / 1_000_000


def stacked(heights: list[int], gap: int) -> list[tuple[float, float]]:
    """Where rows of those pixel heights lie in a plot, the first on top: (bottom, top) of each, from 0 to 1."""
    total = sum(heights) + gap * (len(heights) - 1)
    top, domains = total, []
    for height in heights:
        domains.append(((top - height) / total, top / total))
        top -= height + gap
    return domains


def layout(height: int, **more: Any) -> dict[str, Any]:
    """A layout of that height in pixels, quiet and in the page's colors."""
    return {
        "height": height,
        "margin": {"l": 46, "r": 12, "t": 22, "b": 26},
        "paper_bgcolor": "--transparent",
        "plot_bgcolor": "--transparent",
        "font": {"family": "system-ui, sans-serif", "size": 12, "color": "--muted"},
        "hoverlabel": {"bgcolor": "--panel", "bordercolor": "--rule", "font": {"color": "--ink"}},
        "showlegend": False,
    } | more


def axis(**more: Any) -> dict[str, Any]:
    """An axis with faint grid lines and nothing else."""
    return {"gridcolor": "--grid", "zeroline": False, "linecolor": "--rule", "automargin": False} | more


def title(text: str, y: float) -> dict[str, Any]:
    """A row's heading, at its upper left corner; `text` may hold plotly's markup, so nothing from a lab file."""
    return {
        "text": text,
        "x": 0,
        "y": y,
        "xref": "paper",
        "yref": "paper",
        "xanchor": "left",
        "yanchor": "bottom",
        "showarrow": False,
        "font": {"color": "--ink", "size": 12},
    }


def escaped(text: str) -> str:
    """Text from a lab file for use in a figure: plotly.js reads `<b>`, `<a href>` and the like."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def swatch(name: str, color: str) -> str:
    """A name with its color before it, for a row's heading: a legend where it is needed."""
    return f'<span style="color:{color}">■</span> {name}'
