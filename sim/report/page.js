"use strict";
// Draws the figures in the page's colors, redraws them when the colors change, and copies commands.

const figures = JSON.parse(document.getElementById("figures").textContent);
const touch = matchMedia("(pointer: coarse)").matches;

// Replaces the names of CSS variables in a figure by their values.
function colored(value, style) {
  if (typeof value === "string") {
    return value.replace(/(^|:)(--[a-z-]+)/g, (_, before, name) => before + style.getPropertyValue(name).trim());
  }
  if (Array.isArray(value)) return value.map((item) => colored(item, style));
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, colored(item, style)]));
}

function draw() {
  const style = getComputedStyle(document.documentElement);
  for (const [id, figure] of Object.entries(figures)) {
    const { data, layout } = colored(figure, style);
    if (touch) layout.dragmode = false;  // on touch screens, dragging scrolls the page
    Plotly.react(id, data, layout, {
      responsive: true,
      displayModeBar: false,  // its buttons would cover the charts, and one of them opens a website
    });
  }
}

async function copy(event) {
  const code = event.target.previousElementSibling;
  getSelection().selectAllChildren(code);  // lets the reader copy by hand where scripts must not
  await navigator.clipboard.writeText(code.textContent);
  event.target.textContent = "Copied";
  setTimeout(() => { event.target.textContent = "Copy"; }, 1500);
}

draw();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
matchMedia("print").addEventListener("change", draw);
document.querySelectorAll(".copy").forEach((button) => button.addEventListener("click", copy));
