"""A headless Chromium for tests of pages, by DevTools' protocol over a pipe: nothing but Chromium need be installed.

Use it by the fixture `browser`, which skips where there is no Chromium:

    def test_a_page(browser, tmp_path):
        with served(tmp_path) as url, browser.open(url + "page.html") as page:
            assert page.wait_for("window.result")["vertices"] == 13492
            picture = page.screenshot(tmp_path / "page.png")  # (H, W, 3) uint8
"""

from __future__ import annotations

import base64
import contextlib
import functools
import http.server
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

__all__ = ["WEB", "Browser", "Page", "chromium_path", "import_map", "served"]

WEB = Path(__file__).parents[1] / "assets" / "web"
"""three.js as it ships."""

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_OPTIONS = (
    *(
        "--headless",
        "--no-sandbox",
        "--remote-debugging-pipe",
        "--use-angle=swiftshader",
        "--enable-unsafe-swiftshader",
    ),
    *("--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--disable-dev-shm-usage", "--disable-extensions", "--hide-scrollbars", "--mute-audio"),
)
# Chromium reads commands from descriptor 3 and answers on 4; Python cannot hand a child descriptors by number.
_START = "import os, sys; os.dup2({reads}, 93); os.dup2({writes}, 94); os.dup2(93, 3); os.dup2(94, 4); "
_START += "os.execvp(sys.argv[1], sys.argv[1:])"


def chromium_path() -> str | None:
    """The Chromium or Chrome to run: the environment's BODYFIT_CHROMIUM, or the first on the path; None without one."""
    return os.environ.get("BODYFIT_CHROMIUM") or next((p for name in _NAMES if (p := shutil.which(name))), None)


def import_map(prefix: str = "/web") -> str:
    """The element by which a page finds `three` and `three/addons/...`, WEB being served under `prefix`."""
    imports = {"three": f"{prefix}/three.module.min.js", "three/addons/": f"{prefix}/"}
    return f'<script type="importmap">{json.dumps({"imports": imports})}</script>'


@contextlib.contextmanager
def served(folder: Path, *, web: str = "/web/") -> Iterator[str]:
    """Serve a folder, and three.js under `web`, on localhost; gives the address with a slash at its end."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def translate_path(self, path: str) -> str:
            if not path.startswith(web):
                return super().translate_path(path)
            self.directory, before = str(WEB), self.directory
            try:
                return super().translate_path("/" + path[len(web) :])
            finally:
                self.directory = before

        def log_message(self, *_: Any) -> None:
            """Nothing: failed requests show in `Page.errors`."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


class Browser:
    """One Chromium process; a context manager that ends it."""

    def __init__(self, path: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="bodyfit-chromium-", ignore_cleanup_errors=True)
        to_chromium, self._commands = os.pipe()
        self._answers, from_chromium = os.pipe()
        command = [path, *_OPTIONS, f"--user-data-dir={self._folder.name}", "about:blank"]
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START.format(reads=to_chromium, writes=from_chromium), *command],
            pass_fds=(to_chromium, from_chromium),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_chromium)
        os.close(from_chromium)
        self._buffer, self._number = b"", 0
        self._pages: dict[str, Page] = {}

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(TimeoutError, RuntimeError, OSError):  # it may have died; what follows ends it anyway
            self.call("Browser.close", timeout_s=5)
        os.close(self._commands)
        os.close(self._answers)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._folder.cleanup()

    @contextlib.contextmanager
    def open(
        self, address: str | Path, *, size: tuple[int, int] = (1000, 700), dark: bool = False, scripts: bool = True
    ) -> Iterator[Page]:
        """A page in a window of `size` pixels; `dark` says what the user prefers, `scripts` whether JavaScript runs."""
        address = address.absolute().as_uri() if isinstance(address, Path) else address
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = self._pages[session] = Page(self, session)
        try:
            for domain in ("Page", "Runtime", "Network", "Log"):
                page.call(f"{domain}.enable")
            width, height = size
            page.call(
                "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
            )
            scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
            page.call("Emulation.setEmulatedMedia", features=[scheme])
            page.call("Emulation.setScriptExecutionDisabled", value=not scripts)
            page.call("Page.navigate", url=address)
            page.until(lambda: page.loaded, f"{address} to load")
            yield page
        finally:
            del self._pages[session]
            self.call("Target.closeTarget", targetId=target)

    def call(
        self, method: str, *, session: str | None = None, timeout_s: float = 60.0, **params: Any
    ) -> dict[str, Any]:
        """A command of the protocol and its answer; events that come meanwhile go to their pages."""
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": params} | ({"sessionId": session} if session else {})
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + timeout_s
        while True:
            answer = self.receive(deadline - time.monotonic())
            if answer is None:
                raise TimeoutError(f"Chromium gave no answer to {method} in {timeout_s:.0f} s")
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]

    def receive(self, timeout_s: float) -> dict[str, Any] | None:
        """The next message, given to its page if it is an event; None if none comes in time."""
        import select

        deadline = time.monotonic() + timeout_s
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._answers], [], [], max(deadline - time.monotonic(), 0))
            if not ready:
                return None
            data = os.read(self._answers, 1 << 20)
            if not data:
                raise RuntimeError(f"Chromium ended, exit code {self._process.poll()}")
            self._buffer += data
        raw, _, self._buffer = self._buffer.partition(b"\0")
        message = json.loads(raw)
        if (page := self._pages.get(message.get("sessionId", ""))) is not None and "method" in message:
            page.hear(message["method"], message["params"])
        return message


class Page:
    """An open page: what it says, shows and asks of the network."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser, self._session = browser, session
        self.loaded = False
        self.errors: list[str] = []
        """Uncaught exceptions, failed requests and what the console calls an error."""
        self.requests: list[str] = []
        """Every address that was asked for, the page's own first; not what pages carry in themselves (data, blob)."""

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """A command of the protocol to this page."""
        return self._browser.call(method, session=self._session, **params)

    def hear(self, method: str, params: dict[str, Any]) -> None:
        """Note an event."""
        if method == "Page.loadEventFired":
            self.loaded = True
        elif method == "Network.requestWillBeSent":
            address = params["request"]["url"]
            self.requests += [] if address.startswith(("data:", "blob:")) else [address]
        elif method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description") or details["text"])
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.errors.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "assert"):
            self.errors.append(" ".join(str(a.get("value", a.get("description"))) for a in params["args"]))

    def evaluate(self, expression: str) -> Any:
        """The value of an expression as JSON has it, awaited if it is a promise. `RuntimeError` if it throws."""
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            raise RuntimeError(details.get("exception", {}).get("description") or details["text"])
        return answer["result"].get("value")

    def wait_for(self, expression: str, *, timeout_s: float = 60.0) -> Any:
        """The value of an expression once it is true in JavaScript's sense; an error of the page ends the wait."""
        value: list[Any] = [None]

        def ready() -> bool:
            if self.errors:
                raise AssertionError(f"while waiting for {expression}: {'; '.join(self.errors)}")
            value[0] = self.evaluate(expression)
            return bool(value[0])

        self.until(ready, expression, timeout_s=timeout_s)
        return value[0]

    def until(self, ready: Any, what: str, *, timeout_s: float = 60.0) -> None:
        """Hear events until `ready()`. Raises `TimeoutError`, with what the page said of errors."""
        deadline = time.monotonic() + timeout_s
        while not ready():
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited {timeout_s:.0f} s for {what}; errors of the page: {self.errors}")
            self._browser.receive(0.05)

    def text(self) -> str:
        """What the page shows as text, scripts on or off."""
        nodes = self.call("DOMSnapshot.captureSnapshot", computedStyles=[])
        texts, layout = nodes["strings"], nodes["documents"][0]["layout"]
        return " ".join(texts[i] for i in layout["text"] if i >= 0)

    def mouse(self, kind: str, x: float, y: float, *, buttons: int = 0) -> None:
        """A mouse event: "mousePressed", "mouseMoved" or "mouseReleased" at a place in the window."""
        button = "none" if kind == "mouseMoved" and not buttons else "left"
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button=button, buttons=buttons, clickCount=1)

    def drag(self, start: tuple[float, float], end: tuple[float, float], *, steps: int = 5) -> None:
        """Press the left button at a place of the window, move to another and let go."""
        self.mouse("mousePressed", *start, buttons=1)
        for i in range(1, steps + 1):
            self.mouse("mouseMoved", *(a + (b - a) * i / steps for a, b in zip(start, end, strict=True)), buttons=1)
        self.mouse("mouseReleased", *end)

    def screenshot(self, path: Path | None = None, *, full: bool = False) -> np.ndarray:
        """(H, W, 3) uint8 of the window, or of the `full` page; written to a PNG if a path is given."""
        data = base64.b64decode(self.call("Page.captureScreenshot", format="png", captureBeyondViewport=full)["data"])
        if path is not None:
            path.write_bytes(data)
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
