"""Headless Chromium, driven by the Chrome DevTools Protocol over a pipe."""

from __future__ import annotations

import json
import os
import select
import shlex
import shutil
import subprocess
import time
from base64 import b64decode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.eventually import WAIT_SECONDS_MAX
from tests.support.paths import FIXTURES

ANSWER_SECONDS_MAX = WAIT_SECONDS_MAX
AXE = FIXTURES / "vendor/axe.min.js"
PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser")
OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-background-networking",
    "--no-first-run",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)


class NavigatedError(Exception):
    """The page was replaced by another during the call."""


class BrowserPage:
    """One page of the browser. `problems` are exceptions of scripts and violations of the security policy."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self._to, self._from = to_browser, from_browser
        self._data = b""
        self._number = 0
        self._session = ""
        self.problems: list[str] = []
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self._call(f"{domain}.enable")

    def resize(self, width: int, height: int, *, dark: bool = False) -> None:
        self._call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, url: str) -> None:
        """Load a page and wait until its scripts have run."""
        self._call("Page.navigate", url=url)
        self.wait_for("document.readyState === 'complete' && location.href !== 'about:blank'")

    def evaluate(self, script: str) -> Any:
        """Return the value of an expression, awaited if it is a promise."""
        reply = self._call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in reply, reply["exceptionDetails"]
        return reply["result"].get("value")

    def wait_for(self, condition: str) -> None:
        """Wait until an expression is true, in the page that is shown at that time."""
        end = time.monotonic() + ANSWER_SECONDS_MAX
        while time.monotonic() < end:
            try:
                reply = self._call("Runtime.evaluate", expression=f"Boolean({condition})", returnByValue=True)
            except NavigatedError:
                continue
            if reply["result"].get("value") is True:
                return
        raise AssertionError(f"never true: {condition}")

    def press(self, key: str) -> None:
        """Press and release a key."""
        for kind in ("keyDown", "keyUp"):
            text = {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
            codes = {"Tab": 9, "Enter": 13}
            self._call(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                windowsVirtualKeyCode=codes[key],
                **text,
            )

    def choose_file(self, selector: str, file: Path) -> None:
        """Choose a file in the file input that matches `selector`."""
        root = self._call("DOM.getDocument")["root"]["nodeId"]
        node = self._call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self._call("DOM.setFileInputFiles", nodeId=node, files=[str(file)])

    def add_security_key(self) -> None:
        """Add a virtual security key that reports a touch whenever one is required (domain WebAuthn)."""
        self._call("WebAuthn.enable")
        options = {
            "protocol": "ctap2",
            "transport": "usb",
            "hasResidentKey": False,
            "hasUserVerification": False,
        }
        self._call(
            "WebAuthn.addVirtualAuthenticator", options=options | {"automaticPresenceSimulation": True}
        )

    def without_scripts(self) -> None:
        """Disable JavaScript for the pages that are loaded from now on."""
        self._call("Emulation.setScriptExecutionDisabled", value=True)

    def screenshot(self, file: Path) -> None:
        """Save a screenshot of the entire page."""
        size = self._call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        image = self._call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        file.write_bytes(b64decode(image["data"]))

    def _call(self, method: str, **parameters: Any) -> Any:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._to, data) :]
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                if "navigated" in answer.get("error", {}).get("message", ""):
                    raise NavigatedError
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]
            self._note(answer)

    def _note(self, event: dict[str, Any]) -> None:
        if event.get("method") == "Runtime.exceptionThrown":
            self.problems.append(str(event["params"]["exceptionDetails"]))
        elif event.get("method") == "Log.entryAdded" and event["params"]["entry"]["level"] == "error":
            self.problems.append(str(event["params"]["entry"]["text"]))

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._data:
            ready, _, _ = select.select([self._from], [], [], ANSWER_SECONDS_MAX)
            assert ready, "the browser does not answer"
            part = os.read(self._from, 1 << 20)
            assert part, "the browser has ended"
            self._data += part
        message, _, self._data = self._data.partition(b"\0")
        decoded: dict[str, Any] = json.loads(message)
        return decoded


def axe_violations(page: BrowserPage) -> list[str]:
    """Return the violated rules of axe-core in the current page, each with the first element that violates it."""
    page.evaluate(f"{AXE.read_text()};0")
    violations: list[str] = page.evaluate(
        "axe.run(document).then(results => results.violations.map(one => one.id + ': ' + one.nodes[0].html))"
    )
    return violations


@contextmanager
def open_browser(profile: Path, *more: str, prefix: Sequence[str] = ()) -> Iterator[BrowserPage]:
    """Run the browser within the block, with the profile folder `profile` and further options `more`.

    `prefix` is a command that executes the browser, for example in a network namespace.
    """
    assert PROGRAM is not None, "chromium is not installed: make setup-datacenter"
    command_end, to_browser = os.pipe()
    from_browser, answer_end = os.pipe()
    options = shlex.join((*OPTIONS, *more))
    with subprocess.Popen(
        [
            *prefix,
            "bash",
            "-c",
            f'exec "{PROGRAM}" {options} --user-data-dir="{profile}" 3<&{command_end} 4>&{answer_end}',
        ],
        pass_fds=(command_end, answer_end),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        os.close(command_end)
        os.close(answer_end)
        try:
            yield BrowserPage(to_browser, from_browser)
        finally:
            os.close(to_browser)
            os.close(from_browser)
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
