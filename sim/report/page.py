"""A self-contained HTML page about one run, which can be mailed, archived and opened without a network.

The template `page.html`, the style sheet `page.css`, the script `page.js` and plotly.js are combined into one file.
Jinja2 escapes all values, so that a lab file cannot insert markup into the page. The page's content security policy
forbids all connections, so that inserted markup could not send data anywhere.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Final

import jinja2
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from sim.report import distribution, timeline
from sim.report.explanation import contents_in_words, gap_in_words
from sim.report.figure import Figure
from sim.verdict import quantities
from sim.verdict.result import Result

SESSIONS_OPEN_MAX: Final = 3
"""The number of sessions shown expanded; further ones are collapsed, unless something is wrong with them."""


def render(result: Result) -> str:
    """Render the page as text, to be written in UTF-8 to a file with the suffix `.html`."""
    return _template().render(
        result=result,
        figures=_figures(result),
        headline=_headline(result),
        layers=_layers(result),
        sessions_open_max=SESSIONS_OPEN_MAX,
        plotly_js=Markup(get_plotlyjs()),  # noqa: S704 - the package's own file, not input
    )


def _figures(result: Result) -> dict[str, Figure]:
    """Return the charts for which the result has data, by the id of their element in the page."""
    figures = {
        "timeline": timeline.timeline(result),
        "latency": distribution.latency(result),
        "bytes": distribution.bytes_by_layer(result),
    }
    return {name: figure for name, figure in figures.items() if figure is not None}


def _headline(result: Result) -> str:
    total = len(result.expectations)
    failed = sum(not expectation.holds for expectation in result.expectations)
    if not total:
        return "This run had no expectations"
    if failed:
        return f"{failed} of {total} expectations {'does' if failed == 1 else 'do'} not hold"
    return "The one expectation holds" if total == 1 else f"All {total} expectations hold"


def _layers(result: Result) -> list[tuple[str, str, int, int]]:
    """Return the rows of the table of bytes: (field, name, bytes up, bytes down)."""
    up, down = result.uplink.up, result.uplink.down
    if up is None or down is None:
        return []
    return [(field, name, getattr(up, field), getattr(down, field)) for field, name in distribution.LAYERS]


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_source),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in ("duration", "clock", "size", "count", "limit", "measured", "moment", "describe_fault"):
        environment.filters[name] = getattr(quantities, name)
    environment.filters["gap_in_words"] = gap_in_words
    environment.filters["contents_in_words"] = contents_in_words
    environment.filters["percent_of"] = _percent_of
    return environment.get_template("page.html")


def _source(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text("utf-8")


def _percent_of(part: int, whole: int) -> str:
    """Format a share in percent, rounded down, so that only the whole is "100 %"."""
    if part == whole:
        return "100 %"
    return f"{1000 * part // whole / 10:.1f} %" if whole else "–"
