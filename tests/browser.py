"""A real Chromium without a screen, spoken to over two pipes (DevTools protocol): pages as people see them.

Nothing is mocked: where no Chromium is installed, who asks for one is skipped with that reason.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "chrome")
# How much wider the page is than its window: text that is cut at the window's edge.
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
DEADLINE_S = 240  # a hang, not a speed


class Browser:
    """One tab. Methods and events are those of the protocol's domains Page, Runtime, Emulation, Input, Network."""

    def __init__(self, process: subprocess.Popen[bytes], to: int, of: int) -> None:
        self._process, self._to, self._of = process, to, of
        self._numbers, self._rest = itertools.count(1), b""
        self.seen: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    _session: str | None = None

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Ask for something, and wait for its answer; events that come meanwhile are kept in `seen`."""
        number = next(self._numbers)
        asked: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session is not None:
            asked["sessionId"] = self._session
        os.write(self._to, json.dumps(asked).encode() + b"\0")
        while True:
            told = self._next()
            if told.get("id") == number:
                assert "error" not in told, told["error"]
                result: dict[str, Any] = told["result"]
                return result

    def wait(self, method: str) -> dict[str, Any]:
        """The next event of that name that was not asked for before."""
        while True:
            for at, told in enumerate(self.seen):
                if told["method"] == method:
                    return self.seen.pop(at)
            self._next()

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            got = os.read(self._of, 1 << 20)
            assert got, "the browser has ended"
            self._rest += got
        line, self._rest = self._rest.split(b"\0", 1)
        told: dict[str, Any] = json.loads(line)
        if "method" in told:
            self.seen.append(told)
        return told

    def open(self, address: str) -> None:
        """Go there, and wait until it is loaded."""
        self.seen = [one for one in self.seen if one["method"] != "Page.loadEventFired"]
        self.call("Page.navigate", url=address)
        self.wait("Page.loadEventFired")

    def look(self, *, width: int, dark: bool = False, printed: bool = False) -> None:
        """See the page as on a screen of that width, by day or by night, or on paper."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", media="print" if printed else "screen", features=[scheme])

    def value(self, expression: str) -> Any:
        """What an expression of the page's own language comes to; a promise is waited for."""
        done = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    def press(self, key: str, code: int, text: str = "") -> None:
        """One key, down and up."""
        for kind in ("keyDown", "keyUp"):
            typed = {"text": text} if text and kind == "keyDown" else {}
            self.call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **typed)

    def picture(self, file: Path) -> None:
        """The whole page, as a PNG."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(shot["data"]))

    @property
    def requested(self) -> list[str]:
        """Every address that was asked for until now."""
        return [one["params"]["request"]["url"] for one in self.seen if one["method"] == "Network.requestWillBeSent"]

    @property
    def complaints(self) -> list[str]:
        """What the browser found wrong: a policy that was broken, an error of a script."""
        said = [one["params"]["entry"]["text"] for one in self.seen if one["method"] == "Log.entryAdded"]
        thrown = [one for one in self.seen if one["method"] == "Runtime.exceptionThrown"]
        return said + [str(one["params"]) for one in thrown]


@contextlib.contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """A Chromium of its own, whose files lie in `folder`. Skips where there is none, or it does not start."""
    program = next((found for found in map(shutil.which, PROGRAMS) if found), None)
    if program is None:
        pytest.skip("no Chromium is installed here")
    theirs, to = os.pipe()
    of, mine = os.pipe()

    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--disable-sync"]
    options += ["--disable-background-networking", "--remote-debugging-pipe", f"--user-data-dir={folder / 'chromium'}"]
    # Chromium reads from descriptor 3 and writes to 4: a shell puts the pipes there, since a fork here has threads.
    in_place = f'exec "$0" "$@" 3<&{theirs} 4>&{mine}'
    sockets = tempfile.mkdtemp(prefix="p2pfl-browser-")  # short: a socket's name is; Chromium leaves folders there
    process = subprocess.Popen(
        ["bash", "-c", in_place, program, *options, "about:blank"],
        pass_fds=(theirs, mine),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "HOME": str(folder), "TMPDIR": sockets},
    )
    os.close(theirs)
    os.close(mine)
    try:
        yield Browser(process, to, of)
    finally:
        os.close(to)
        os.close(of)
        process.terminate()
        try:
            process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(sockets, ignore_errors=True)
