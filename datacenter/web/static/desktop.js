// The desktop of a remote session: noVNC, the state of its connection, and a key combination that leaves the desktop.
const screen = document.getElementById("screen");
const state = document.getElementById("connection");
const { default: RFB } = await import(screen.dataset.viewer);

const address = new URL(screen.dataset.socket, location.href);
address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
const rfb = new RFB(screen, address.href);
rfb.viewOnly = screen.dataset.control !== "1";
rfb.scaleViewport = true;
rfb.background = "transparent";
rfb.addEventListener("connect", () => {
  state.textContent = "connected";
  rfb.focus();
});
rfb.addEventListener("desktopname", (event) => {
  const note = / \((.+)\)$/.exec(event.detail.name); // the state that the data center appends to the name
  state.textContent = note ? note[1] : "connected";
});
rfb.addEventListener("disconnect", () => {
  state.textContent = "disconnected";
  document.getElementById("again").hidden = false;
});

// A session ends soon after its page is left; the browser therefore asks for confirmation.
let isEnding = false;
document.addEventListener("submit", () => { isEnding = true; });
addEventListener("beforeunload", (event) => {
  if (!isEnding && state.textContent !== "disconnected") event.preventDefault();
});

// The desktop receives all keys. Control, Alt and Shift together move the focus out of it.
screen.addEventListener("keydown", (event) => {
  if (event.ctrlKey && event.altKey && event.shiftKey) {
    rfb.blur();
    document.getElementById("end")?.focus(); // a person who only watches has no such button
    event.stopImmediatePropagation();
    event.preventDefault();
  }
}, true);
