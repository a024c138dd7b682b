"""A chart of the run over lab time: faults and connection, the uplink's rates, and the backlog by priority.

All rows share the time axis, the pointer and the zoom, and each fault shades all rows, so that its effects are
visible directly below it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Final

from sim.report.figure import Figure, Trace, at, axis, escaped, layout, stacked, swatch, title
from sim.verdict.quantities import duration, rate
from sim.verdict.result import FaultOccurrence, Result, Series, SessionResult

_DAY_NS: Final = 86_400 * 10**9
_LABELED_FAULTS_MAX: Final = 12
"""With more faults than this, labels would overlap and are left out; the table of faults lists all of them."""
_SHADED_FAULTS_MAX: Final = 100
_LANE_PX: Final = 26
_CHARACTER_PX: Final = 7
_ROW_PX: Final = 130
_GAP_PX: Final = 36
_TICKS_MAX: Final = 5


def timeline(result: Result) -> Figure | None:
    """Create the chart; None if the result has no series."""
    series = result.series
    if series is None:
        return None
    sessions = dict.fromkeys(_session_lane(session) for session in result.sessions)
    lanes = ["connection", *dict.fromkeys(fault.target for fault in result.faults), *sessions]
    heights = [len(lanes) * _LANE_PX, _ROW_PX, _ROW_PX, _ROW_PX]
    domains = stacked(heights, _GAP_PX)
    run_ns = round(result.sim_seconds * 1e9)
    bottom_px = 40 if run_ns > _DAY_NS else 26
    headings = [
        "Faults and connection, by target"
        + (f"; sessions: {swatch('open', '--up')}  {swatch('before', '--muted')}" if sessions else ""),
        f"Uplink, bit/s: {swatch('up', '--up')}  {swatch('down', '--down')}",
        f"Waiting on the box: {swatch('routine', '--routine')}",
        f"Waiting on the box: {swatch('alert', '--alert')}  {swatch('audit', '--audit')}",
    ]
    return {
        "data": [
            *_lanes(result, lanes),
            *_sessions(result, lanes),
            *_uplink(series),
            *_backlog(series),
        ],
        "layout": layout(
            sum(heights) + _GAP_PX * (len(heights) - 1) + 22 + bottom_px,
            margin={
                "l": max(78, _CHARACTER_PX * max(map(len, lanes)) + 12),
                "r": 12,
                "t": 22,
                "b": bottom_px,
            },
            hovermode="x unified",
            hoversubplots="axis",
            dragmode="zoom",
            xaxis=_time_axis(run_ns),
            yaxis=_lane_axis(lanes, domains[0]),
            yaxis2=_uplink_axis(result, domains[1]),
            yaxis3=_count_axis(domains[2], series.backlog.routine),
            yaxis4=_count_axis(domains[3], series.backlog.alert + series.backlog.audit),
            shapes=[*_shades(result), *_rate_line(result)],
            annotations=[
                *(title(text, top) for text, (_, top) in zip(headings, domains, strict=True)),
                *_rate_label(result),
            ],
        ),
    }


def _time_axis(run_ns: int) -> dict[str, Any]:
    days = run_ns > _DAY_NS
    day_ms = _DAY_NS / 1e6
    return axis(
        type="date",
        range=[at(0), at(run_ns)],
        minallowed=at(0),
        maxallowed=at(run_ns),
        anchor="y4",
        hoverformat="day %-j, %H:%M:%S" if days else "%H:%M:%S",
        tickformatstops=[
            {"dtickrange": [None, 1000], "value": "%H:%M:%S.%L"},
            {"dtickrange": [1000, 60_000], "value": "%H:%M:%S"},
            {"dtickrange": [60_000, day_ms], "value": "%H:%M\nday %-j" if days else "%H:%M"},
            {"dtickrange": [day_ms, None], "value": "day %-j"},
        ],
        showspikes=True,
        spikemode="across",
        spikesnap="cursor",
        spikethickness=1,
        spikedash="solid",
        spikecolor="--muted",
    )


def _count_axis(domain: tuple[float, float], counts: tuple[int, ...]) -> dict[str, Any]:
    """Return an axis for counts, with ticks at integers only."""
    ticks = {"dtick": 1} if max(counts, default=0) < _TICKS_MAX else {"nticks": _TICKS_MAX}
    return axis(domain=domain, rangemode="tozero", fixedrange=True, tickformat="~s", **ticks)


def _uplink_axis(result: Result, domain: tuple[float, float]) -> dict[str, Any]:
    """Return a logarithmic axis: normal traffic is often a thousandth of the traffic after an outage."""
    assert result.series is not None
    bottom = _bottom_decade(result.series)
    busiest = max([*_rates(result.series.bytes_up, result.series), result.uplink.rate_bps or 1])
    top = math.log10(busiest) + 0.25
    decades = range(bottom, math.floor(top) + 1)
    return axis(
        domain=domain,
        type="log",
        range=[bottom, top],
        tickvals=[10.0**decade for decade in decades],
        ticktext=["0", *(_power_of_ten(decade) for decade in decades[1:])],
        fixedrange=True,
    )


def _bottom_decade(series: Series) -> int:
    """Return the exponent of the power of ten below all rates, at which a rate of 0 is drawn."""
    nonzero = [bps for bps in _rates(series.bytes_up + series.bytes_down, series) if bps]
    return math.floor(math.log10(min(nonzero, default=1))) - 1


def _power_of_ten(exponent: int) -> str:
    return str(10 ** (exponent % 3)) + ("", "k", "M", "G", "T")[exponent // 3]


def _rates(counts: tuple[int, ...], series: Series) -> list[int]:
    """Convert bytes per bin to bit/s, rounded up, so that only 0 bytes give 0 bit/s."""
    return [math.ceil(number * 8e9 / series.bin_ns) for number in counts]


def _lane_axis(lanes: list[str], domain: tuple[float, float]) -> dict[str, Any]:
    """Return an axis with one lane per target, numbered downwards and labelled with the targets' names."""
    return axis(
        domain=domain,
        range=[len(lanes) - 0.5, -0.5],
        tickvals=list(range(len(lanes))),
        ticktext=[escaped(lane) for lane in lanes],
        fixedrange=True,
        showgrid=False,
    )


def _lanes(result: Result, lanes: list[str]) -> list[Trace]:
    assert result.series is not None
    traces = [_bars(list(result.series.connected), 0, "--good")]
    targets = dict.fromkeys(fault.target for fault in result.faults)
    for lane, target in enumerate(targets, start=1):
        faults = [fault for fault in result.faults if fault.target == target]
        traces.append(_bars([_span(fault) for fault in faults if fault.lasts_ns], lane, "--bad"))
        traces.append(_moments([fault for fault in faults if not fault.lasts_ns], lane))
    if len(result.faults) <= _LABELED_FAULTS_MAX:
        traces += [
            _label(faults, lanes.index(target, 1), result)
            for (target, _), faults in _group_by_label_position(result)
        ]
    return traces


def _session_lane(session: SessionResult) -> str:
    return f"session {session.instrument}"


def _sessions(result: Result, lanes: list[str]) -> Iterable[Trace]:
    """Draw the time from the request to the opening or the end of each session, and the time in which it is open."""
    end_ns = round(result.sim_seconds * 1e9)
    for session in result.sessions:
        lane, ended_ns = lanes.index(_session_lane(session)), session.ended_ns or end_ns
        opened_ns = session.opened_ns
        yield _bars([(session.requested_ns, ended_ns if opened_ns is None else opened_ns)], lane, "--muted")
        if opened_ns is not None:
            yield _bars([(opened_ns, ended_ns)], lane, "--up")


def _group_by_label_position(result: Result) -> Iterable[tuple[tuple[str, int], list[FaultOccurrence]]]:
    """Group the faults whose labels would be at the same position, and which share one label."""
    groups: dict[tuple[str, int], list[FaultOccurrence]] = {}
    for fault in result.faults:
        groups.setdefault((fault.target, _span(fault)[1]), []).append(fault)
    return groups.items()


def _span(fault: FaultOccurrence) -> tuple[int, int]:
    return fault.at_ns, fault.at_ns + (fault.lasts_ns or 0)


def _bars(intervals: list[tuple[int, int]], lane: int, color: str) -> Trace:
    """Draw intervals as thick lines in a lane."""
    xs: list[float | None] = []
    for start, end in intervals:
        xs += [at(start), at(end), None]
    return {
        "type": "scatter",
        "mode": "lines",
        "x": xs,
        "y": [lane] * len(xs),
        "line": {"width": 9, "color": color},
        "hoverinfo": "skip",
    }


def _moments(faults: list[FaultOccurrence], lane: int) -> Trace:
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [at(fault.at_ns) for fault in faults],
        "y": [lane] * len(faults),
        "marker": {"symbol": "diamond", "size": 11, "color": "--bad"},
        "hoverinfo": "skip",
        "cliponaxis": False,
    }


def _label(faults: Sequence[FaultOccurrence], lane: int, result: Result) -> Trace:
    """Return the names of faults with the same end, after their mark, or before it near the end of the run."""
    start = min(fault.at_ns for fault in faults)
    _, end = _span(faults[0])
    late = end > result.sim_seconds * 1e9 * 0.75
    text = "; ".join(
        fault.kind if fault.lasts_ns is None else f"{fault.kind}, {duration(fault.lasts_ns)}"
        for fault in faults
    )
    return {
        "type": "scatter",
        "mode": "text",
        "x": [at(start if late else end)],
        "y": [lane],
        "text": [f"{escaped(text)}   " if late else f"   {escaped(text)}"],
        "textposition": "middle left" if late else "middle right",
        "textfont": {"color": "--ink", "size": 11},
        "hoverinfo": "skip",
    }


def _uplink(series: Series) -> list[Trace]:
    up, down = _rates(series.bytes_up, series), _rates(series.bytes_down, series)
    busy = [f"up {rate(bps)}, busy {100 * share:.0f} %" for bps, share in zip(up, series.busy, strict=True)]
    return [
        _rate_trace("up", up, busy, series),
        _rate_trace("down", down, [f"down {rate(bps)}" for bps in down], series),
    ]


def _rate_trace(name: str, rates: list[int], texts: list[str], series: Series) -> Trace:
    bottom = 10.0 ** _bottom_decade(series)
    shown = [bps or bottom for bps in rates]
    return _binned(name, "y2", shown, series) | {"text": texts, "hovertemplate": "%{text}<extra></extra>"}


def _backlog(series: Series) -> list[Trace]:
    rows = (("routine", "y3"), ("alert", "y4"), ("audit", "y4"))
    return [
        _binned(name, row, getattr(series.backlog, name), series)
        | {"hovertemplate": f"{name} waiting %{{y:,d}}<extra></extra>"}
        | {"fill": "tozeroy", "fillcolor": f"--{name}-fill"}
        for name, row in rows
    ]


def _binned(name: str, row: str, values: Sequence[float], series: Series) -> Trace:
    """Return a stepped line with one step per bin."""
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x0": at(0),
        "dx": series.bin_ns / 1e6,
        "y": list(values),
        "yaxis": row,
        "line": {"shape": "hv", "width": 1.5, "color": f"--{name}"},
    }


def _shades(result: Result) -> list[dict[str, Any]]:
    """Shade each fault across all rows: a band for its duration, or a line if it is momentary."""
    shades = []
    for start, end in map(_span, result.faults[:_SHADED_FAULTS_MAX]):
        position = {"yref": "paper", "y0": 0, "y1": 1, "layer": "below", "x0": at(start), "x1": at(end)}
        if end > start:
            shades.append(position | {"type": "rect", "fillcolor": "--bad-fill", "line": {"width": 0}})
        else:
            shades.append(position | {"type": "line", "line": {"width": 1, "dash": "dot", "color": "--bad"}})
    return shades


def _rate_line(result: Result) -> list[dict[str, Any]]:
    bps = result.uplink.rate_bps
    if bps is None:
        return []
    line = {"width": 1, "dash": "dash", "color": "--muted"}
    return [
        {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "yref": "y2", "y0": bps, "y1": bps, "line": line}
    ]


def _rate_label(result: Result) -> list[dict[str, Any]]:
    bps = result.uplink.rate_bps
    if bps is None:
        return []
    position = {
        "xref": "paper",
        "x": 1,
        "xanchor": "right",
        "yref": "y2",
        "y": math.log10(bps),
        "yanchor": "top",
    }
    return [position | {"text": f"the link's rate, {rate(bps)}", "showarrow": False, "font": {"size": 11}}]
