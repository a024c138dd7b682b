"""Parts of the charts. A figure is a dictionary in the format of plotly.js, which draws it in the browser.

Colors are names of the page's CSS variables ("--alert"); the page's script replaces them with the values for light or
dark mode before it passes the figure to plotly.js. Lab times are shown on a date axis on which every run starts on
the first day of a year, so that the day of the year is the day of the run.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

Figure: TypeAlias = dict[str, Any]
"""`{"data": [trace, …], "layout": {…}}`, as specified by https://plotly.com/javascript/reference/."""
Trace: TypeAlias = dict[str, Any]

_START_MS: Final = 978_307_200_000
"""2001-01-01T00:00:00Z. The axis cannot start at 0: plotly.js reads a number below 10,000 as a year."""


def at(lab_ns: int) -> float:
    """Convert a lab time to a value of the date axis, in milliseconds."""
    return _START_MS + lab_ns / 1_000_000


def stacked(heights: list[int], gap: int) -> list[tuple[float, float]]:
    """Return (bottom, top), from 0 to 1, of each row of a plot.

    `heights` are the rows' heights and `gap` the distance between them, in pixels; the topmost row is the first.
    """
    total = sum(heights) + gap * (len(heights) - 1)
    top, domains = total, []
    for height in heights:
        domains.append(((top - height) / total, top / total))
        top -= height + gap
    return domains


def layout(height: int, **more: Any) -> dict[str, Any]:
    """Return a layout of `height` pixels with the page's colors, updated by `more`."""
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
    """Return an axis with faint grid lines only, updated by `more`."""
    return {"gridcolor": "--grid", "zeroline": False, "linecolor": "--rule", "automargin": False} | more


def title(text: str, y: float) -> dict[str, Any]:
    """Return a row's heading, at its upper left corner. `text` is plotly.js markup: escape text of lab files."""
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
    """Escape text from a lab file for use in a figure, because plotly.js interprets tags such as `<b>`."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def swatch(name: str, color: str) -> str:
    """Return a name preceded by a square of its color: a legend in a row's heading."""
    return f'<span style="color:{color}">■</span> {name}'
