"""One HTML page about one run, that can be mailed, archived and opened anywhere: it asks the network for nothing.

`page.html` holds the words, `page.css` the looks and `page.js` the little that moves; they are put into one file
together with plotly.js. Jinja2 escapes every value by default, so a lab file cannot put markup into the page; and
the page's own content security policy forbids it every connection, so that what went wrong there would stay there.
"""

from __future__ import annotations

from functools import cache
from importlib import resources

import jinja2
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from sim.report import distribution, timeline
from sim.report.explanation import contents_in_words, gap_in_words
from sim.report.figure import Figure
from sim.verdict import quantities
from sim.verdict.result import Result


def render(result: Result) -> str:
    """The page as text; it belongs in a UTF-8 file whose name ends in `.html`."""
    return _template().render(
        result=result,
        figures=_figures(result),
        headline=_headline(result),
        causes=_causes(result),
        plotly_js=Markup(get_plotlyjs()),  # noqa: S704 - the package's own file, not input
    )


def _figures(result: Result) -> dict[str, Figure]:
    """The charts this result has the data for, by the id of their place in the page."""
    figures = {
        "timeline": timeline.timeline(result),
        "latency": distribution.latency(result),
        "bytes": distribution.bytes_by_cause(result),
    }
    return {name: figure for name, figure in figures.items() if figure is not None}


def _headline(result: Result) -> str:
    total = len(result.expectations)
    failed = sum(not expectation.holds for expectation in result.expectations)
    if not total:
        return "Nothing was expected of this run"
    if failed:
        return f"{failed} of {total} expectations {'does' if failed == 1 else 'do'} not hold"
    return "The one expectation holds" if total == 1 else f"All {total} expectations hold"


def _causes(result: Result) -> list[tuple[str, str, int, int]]:
    """Rows of the table of bytes: field, name, up, down."""
    up, down = result.uplink.up, result.uplink.down
    if up is None or down is None:
        return []
    return [(field, name, getattr(up, field), getattr(down, field)) for field, name in distribution.CAUSES]


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_source),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in ("duration", "clock", "size", "count", "limit", "measured", "fault_in_words"):
        environment.filters[name] = getattr(quantities, name)
    environment.filters["gap_in_words"] = gap_in_words
    environment.filters["contents_in_words"] = contents_in_words
    environment.filters["percent_of"] = _percent_of
    return environment.get_template("page.html")


def _source(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text("utf-8")


def _percent_of(part: int, whole: int) -> str:
    """A share, rounded down: only the whole is 100 %."""
    if part == whole:
        return "100 %"
    return f"{1000 * part // whole / 10:.1f} %" if whole else "–"
