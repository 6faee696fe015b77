"""A headless Chromium, told what to do through two pipes: no network, no driver."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome-headless-shell")
START_SECONDS = 40.0
ANSWER_SECONDS = 30.0


def find() -> str:
    """Where it is; skips where there is none."""
    for name in NAMES:
        found = shutil.which(name)
        if found:
            return found
    pytest.skip("there is no Chromium on this machine (Debian: apt-get install chromium)")


class Page:
    """One page in one browser."""

    def __init__(self, write: int, read: int) -> None:
        self._write = write
        self._read = read
        self._buffer = b""
        self._number = 0
        self._session: str | None = None
        self.errors: list[str] = []  # what scripts have raised

    def attach(self) -> None:
        target = self("Target.createTarget", url="about:blank")["targetId"]
        self._session = self("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self("Runtime.enable")
        self("Page.enable")
        self("Log.enable")

    def __call__(self, method: str, **params: Any) -> Any:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + (START_SECONDS if self._number == 1 else ANSWER_SECONDS)
        while True:
            answer = self._next(until)
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            if answer.get("method") == "Runtime.exceptionThrown":
                self.errors.append(json.dumps(answer["params"])[:600])
            if answer.get("method") == "Log.entryAdded" and answer["params"]["entry"]["level"] == "error":
                self.errors.append(answer["params"]["entry"]["text"])

    def _next(self, until: float) -> Any:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(0.0, until - time.monotonic()))
            assert ready, "the browser does not answer"
            some = os.read(self._read, 1 << 20)
            assert some, "the browser has ended"
            self._buffer += some
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def drain(self) -> None:
        """Until it has ended, which closes its end of the pipe."""
        until = time.monotonic() + ANSWER_SECONDS
        while time.monotonic() < until:
            ready, _, _ = select.select([self._read], [], [], 1.0)
            if ready and not os.read(self._read, 1 << 20):
                return
        raise AssertionError("the browser does not end")

    def open(self, path: Path, width: int = 1400, height: int = 1000, dark: bool = False) -> None:
        self("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self("Emulation.setEmulatedMedia", features=features)
        self("Page.navigate", url=path.as_uri())
        self.until("document.documentElement && document.documentElement.dataset.ready === 'yes'")
        self.settle()

    def settle(self) -> None:
        """Until what was asked for is drawn."""
        self.js("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))")

    def js(self, code: str) -> Any:
        """The value of an expression."""
        result = self("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def until(self, code: str, seconds: float = 30.0) -> None:
        end = time.monotonic() + seconds
        while not self.js(code):
            assert time.monotonic() < end, f"{code}: {self.errors}"
            time.sleep(0.01)

    def key(self, key: str) -> None:
        text = {"text": key} if len(key) == 1 else {}
        self("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
        self("Input.dispatchKeyEvent", type="keyUp", key=key)
        self.settle()

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        self("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)
        self.settle()

    def picture(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self("Page.captureScreenshot", format="png")["data"]))


def _above(descriptor: int) -> int:
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 20)
    os.close(descriptor)
    return moved


@contextlib.contextmanager
def browser(folder: Path) -> Iterator[Page]:
    """A page in a browser of its own, which has ended when the block has."""
    chromium = find()
    to_browser, from_us = os.pipe()
    to_us, from_browser = os.pipe()
    flags = [
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-breakpad",
        "--disable-dev-shm-usage", "--no-zygote", "--remote-debugging-pipe", f"--user-data-dir={folder / 'profile'}",
    ]  # fmt: skip
    # Numbers above those that the browser wants, so that neither is overwritten before it is copied.
    to_browser, from_browser = _above(to_browser), _above(from_browser)

    def wire() -> None:
        os.dup2(to_browser, 3)
        os.dup2(from_browser, 4)

    # In a session of its own, and nobody's child: it starts and ends helpers when it likes, which are no leaks of the
    # test that runs then.  It ends by itself when the pipes do, however the tests end.
    subprocess.run(
        ["setsid", "--fork", chromium, *flags],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=wire,
        close_fds=False,
        env={**os.environ, "HOME": str(folder), "TMPDIR": str(folder)},
        check=True,
    )
    os.close(to_browser)
    os.close(from_browser)
    page = Page(from_us, to_us)
    try:
        page.attach()
        yield page
    finally:
        with contextlib.suppress(OSError):
            os.write(from_us, json.dumps({"id": 1 << 30, "method": "Browser.close"}).encode() + b"\0")
        os.close(from_us)
        page.drain()
        os.close(to_us)
