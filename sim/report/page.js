"use strict";
// Draws the figures in the page's colors, again when those change; and copies commands.

const figures = JSON.parse(document.getElementById("figures").textContent);
const touch = matchMedia("(pointer: coarse)").matches;

// Puts the values of the CSS variables where a figure names them.
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
    if (touch) layout.dragmode = false;  // there a drag is for scrolling the page
    Plotly.react(id, data, layout, {
      responsive: true,
      displayModeBar: false,  // its buttons would cover the charts, and one of them leads to the network
    });
  }
}

async function copy(event) {
  const code = event.target.previousElementSibling;
  getSelection().selectAllChildren(code);  // where copying is not allowed, the reader can do it
  await navigator.clipboard.writeText(code.textContent);
  event.target.textContent = "Copied";
  setTimeout(() => { event.target.textContent = "Copy"; }, 1500);
}

draw();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
matchMedia("print").addEventListener("change", draw);
document.querySelectorAll(".copy").forEach((button) => button.addEventListener("click", copy));
