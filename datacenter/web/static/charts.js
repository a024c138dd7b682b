// Draws the charts of readings and of an alert's evidence with uPlot. One request gets the columns of all channels. A
// line is never drawn across a span without reports: in the data the span has an empty point, and it is shaded.
"use strict";

const HEIGHT = 150;
const SHADES = { missing: "--gap-missing", silent: "--gap-silent", evidence: "--evidence", held: "--held" };

// Each color is read once: reading a style after a change of the page makes the browser compute all styles again.
function readColors() {
  const style = getComputedStyle(document.documentElement);
  const known = new Map();
  return (name) => {
    if (!known.has(name)) known.set(name, style.getPropertyValue(name).trim());
    return known.get(name);
  };
}

function shadeSpans(plot, spans, color) {
  const { left, top, width, height } = plot.bbox;
  for (const [since, until, kind] of spans) {
    const from = Math.max(left, plot.valToPos(since, "x", true));
    const to = Math.min(left + width, plot.valToPos(until, "x", true));
    if (to > from) {
      plot.ctx.fillStyle = color(SHADES[kind]);
      plot.ctx.fillRect(from, top, Math.max(to - from, 1), height);
    }
  }
}

// Draws the range of the installed base from its 5th to its 95th percentile, with the median.
function drawBase(plot, [low, median, high], color) {
  const { left, top, width, height } = plot.bbox;
  const clamped = (value) => Math.min(top + height, Math.max(top, plot.valToPos(value, "y", true)));
  plot.ctx.fillStyle = color("--base");
  plot.ctx.fillRect(left, clamped(high), width, Math.max(clamped(low) - clamped(high), devicePixelRatio));
  const y = plot.valToPos(median, "y", true);
  if (y < top || y > top + height) return;
  plot.ctx.fillStyle = color("--base-median");
  plot.ctx.fillRect(left, y, width, devicePixelRatio);
}

function drawLimit(plot, value, color) {
  const { left, top, width, height } = plot.bbox;
  const y = plot.valToPos(value, "y", true);
  if (y < top || y > top + height) return;
  plot.ctx.save();
  plot.ctx.strokeStyle = color("--band");
  plot.ctx.setLineDash([6, 5]);
  plot.ctx.lineWidth = devicePixelRatio;
  plot.ctx.beginPath();
  plot.ctx.moveTo(left, y);
  plot.ctx.lineTo(left + width, y);
  plot.ctx.stroke();
  plot.ctx.restore();
}

// Draws the thresholds of triggers with their names. Of a moving threshold, only the latest value is drawn, at the right.
function drawThresholds(plot, thresholds, color) {
  const { left, top, width, height } = plot.bbox;
  const { ctx } = plot;
  const named = [];
  for (const [value, name, severity, moves] of thresholds) {
    const y = plot.valToPos(value, "y", true);
    if (y < top || y > top + height) continue;
    const length = moves ? width / 8 : width;
    ctx.save();
    ctx.fillStyle = color(severity);
    ctx.fillRect(left + width - length, y, length, 1.5 * devicePixelRatio);
    ctx.font = `${11 * devicePixelRatio}px sans-serif`;
    ctx.textAlign = "right";
    ctx.textBaseline = y - top < 16 * devicePixelRatio ? "top" : "bottom";
    // If names would overlap, only the first is drawn; the list below the chart has all names.
    if (named.every((other) => Math.abs(other - y) >= 13 * devicePixelRatio)) {
      named.push(y);
      ctx.fillText(name, left + width - 4 * devicePixelRatio, y + (ctx.textBaseline === "top" ? 3 : -2) * devicePixelRatio);
    }
    ctx.restore();
  }
}

// Returns uPlot's function for the range of the y axis. Limits, base and thresholds are included only if the readings
// are near them, so that distant ones do not flatten the line.
function rangeWith(limits, base, thresholds) {
  return (_plot, low, high) => {
    if (low === null || high === null) return [0, 1];
    let bottom = low;
    let top = high;
    for (const limit of limits) {
      const reach = limits[1] - limits[0];
      if (limit > low - reach && limit < high + reach) {
        bottom = Math.min(bottom, limit);
        top = Math.max(top, limit);
      }
    }
    if (base !== null && base[0] < top && base[2] > bottom) {
      bottom = Math.min(bottom, base[0]);
      top = Math.max(top, base[2]);
    }
    const spread = top - bottom;
    for (const [value] of thresholds) {
      if (value > low - spread && value < high + spread) {
        bottom = Math.min(bottom, value);
        top = Math.max(top, value);
      }
    }
    const margin = (top - bottom) * 0.08 || Math.abs(top) * 0.05 || 1;
    return [bottom - margin, top + margin];
  };
}

// Labels days as "8 Nov" and hours as "14:00" in a time zone.
function timeLabels(zone) {
  const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", timeZone: zone });
  const hour = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", timeZone: zone });
  return (_plot, splits, _axis, _space, step) =>
    splits.map((ms) => {
      const text = hour.format(ms);
      return step >= 86400000 || text === "00:00" ? day.format(ms) : text;
    });
}

// A chart of readings has the line of its channel; a chart of an alert's evidence has the lines of `data-lines`.
function linesOf(figure, data) {
  const { channel, unit, lines } = figure.dataset;
  const wanted = lines ? JSON.parse(lines) : [{ channel, label: unit || "value", color: "--series" }];
  return wanted.filter((line) => data.channels[line.channel]);
}

// Converts times to a time zone for uPlot. The results are kept, because a conversion takes 0.1 ms and all charts have
// the same tick marks.
function zoneDates(zone) {
  const known = new Map();
  return (ms) => {
    let date = known.get(ms);
    if (!date) known.set(ms, (date = uPlot.tzDate(new Date(ms), zone)));
    return new Date(date);
  };
}

function draw(figure, width, data, shared) {
  const { color, labels, tzDate, zoom } = shared;
  const lines = linesOf(figure, data);
  const container = figure.querySelector(".plot");
  container.classList.toggle("without", !lines.length);
  container.classList.toggle("drawn", lines.length > 0);
  if (!lines.length) {
    container.textContent = "No readings in this period";
    return null;
  }
  const factor = Number(figure.dataset.factor);
  const limits = figure.dataset.low === undefined ? [] : [Number(figure.dataset.low), Number(figure.dataset.high)];
  const base = figure.dataset.base === undefined ? null : figure.dataset.base.split(" ").map(Number);
  const thresholds = JSON.parse(figure.dataset.thresholds ?? "[]");
  const axis = { stroke: color("--muted"), grid: { stroke: color("--line"), width: 1 }, ticks: { show: false } };
  const options = {
    width,
    height: HEIGHT,
    ms: 1,
    tzDate,
    cursor: { sync: { key: "readings" }, points: { size: 6 }, drag: { x: true, y: false } },
    scales: { x: { min: data.since_ms, max: data.until_ms }, y: { range: rangeWith(limits, base, thresholds) } },
    axes: [{ ...axis, space: 64, size: 30, values: labels }, { ...axis, size: 56 }],
    legend: { live: true },
    series: [
      { value: "{YYYY}-{MM}-{DD} {HH}:{mm}" },
      ...lines.map((line) => ({
        label: line.label,
        stroke: color(line.color),
        width: 1.25,
        points: { show: data.times.length < 200, size: 4 },
        spanGaps: false,
        value: (_plot, value) => (value === null ? "–" : value.toFixed(factor < 1 || value % 1 ? 3 : 0)),
      })),
    ],
    hooks: {
      drawClear: [(plot) => base && drawBase(plot, base, color), (plot) => shadeSpans(plot, data.spans, color)],
      draw: [
        (plot) => limits.forEach((limit) => drawLimit(plot, limit, color)),
        (plot) => drawThresholds(plot, thresholds, color),
      ],
      ...(zoom && { setSelect: [(plot) => zoom(plot)] }),
    },
  };
  const scale = (values) => (factor === 1 ? values : values.map((value) => (value === null ? null : value * factor)));
  container.replaceChildren();
  const plot = new uPlot(options, [data.times, ...lines.map((line) => scale(data.channels[line.channel]))], container);
  plot.root.setAttribute("aria-hidden", "true");
  return plot;
}

async function load(source) {
  const response = await fetch(source, { headers: { accept: "application/json" } });
  if (!response.ok) throw new Error(response.status === 401 ? "the session has ended; sign in again" : await response.text());
  return response.json();
}

async function showCharts(container) {
  const state = document.querySelector(".chart-state");
  const started = performance.now();
  const { source } = container.dataset;
  let data;
  try {
    data = await load(source);
  } catch (error) {
    state.textContent = `The charts could not be loaded: ${error.message}. The table has the numbers.`;
    return;
  }
  const figures = [...container.querySelectorAll(".chart")];
  const zone = container.dataset.zone;
  const labels = timeLabels(zone);
  const tzDate = zoneDates(zone);
  const showReduction = () => {
    state.textContent = data.reduced ? "The lowest and highest reading of each interval are drawn; select a part of a chart to see every reading in it." : "";
  };
  // Used only if the readings are reduced: then a shorter period has more of them.
  const zoom = (plot) => {
    const { left, width } = plot.select;
    if (width < 2) return;
    const [since, until] = [left, left + width].map((x) => Math.round(plot.posToVal(x, "x")));
    queueMicrotask(() => replace(source.replace(/since_ms=.*/, `since_ms=${since}&until_ms=${until}`)));
  };
  const redraw = () => {
    const shared = { color: readColors(), labels, tzDate, zoom: data.reduced && zoom };
    const widths = figures.map((figure) => figure.querySelector(".plot").clientWidth);
    const plots = figures.map((figure, index) => draw(figure, widths[index], data, shared));
    return plots.filter((plot) => plot !== null);
  };
  let plots = redraw();
  // A selection in one chart applies to all charts; each of them calls `replace`, and the first call loads the data.
  let requested = source;
  const replace = async (wanted) => {
    if (requested === wanted) return;
    requested = wanted;
    try {
      data = await load(wanted);
    } catch (error) {
      state.textContent = `The part could not be loaded: ${error.message}.`;
      return;
    }
    plots.forEach((plot) => plot.destroy());
    plots = redraw();
    showReduction();
    if (wanted !== source) state.textContent += " A part of the period is shown; double-click to see the whole period.";
  };
  container.addEventListener("dblclick", () => replace(source));
  showReduction();
  // uPlot draws in microtasks, which are queued before this one
  queueMicrotask(() => (container.dataset.drawnMs = String(Math.round(performance.now() - started))));
  new ResizeObserver(() => {
    for (const plot of plots) {
      const width = plot.root.parentElement.clientWidth;
      if (width !== plot.width) plot.setSize({ width, height: HEIGHT });
    }
  }).observe(container);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    plots.forEach((plot) => plot.destroy());
    plots = redraw();
  });
}

document.querySelectorAll(".charts").forEach(showCharts);
