// Plays the recording of a session: the server replays it as an RFB desktop, and keys sent to it control the replay.
const screen = document.getElementById("screen");
const state = document.getElementById("connection");
const { default: RFB } = await import(screen.dataset.viewer);

const address = new URL(screen.dataset.socket, location.href);
address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
const rfb = new RFB(screen, address.href);
rfb.focusOnClick = false;
rfb.scaleViewport = true;
rfb.background = "transparent";
rfb.addEventListener("desktopname", (event) => { state.textContent = event.detail.name.split(": ").pop(); });
rfb.addEventListener("disconnect", () => { state.textContent = "ended"; });
for (const button of document.querySelectorAll("[data-key]")) {
  button.addEventListener("click", () => rfb.sendKey(Number(button.dataset.key), null));
}
