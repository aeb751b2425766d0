# SPDX-License-Identifier: MIT
"""A headless Chromium, driven through the DevTools protocol over a pair of pipes."""

import base64
import contextlib
import itertools
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from typing import Any, Final

PROGRAM: Final = "chromium"
WAIT_S: Final = 60.0
"""A busy machine takes many seconds to start a browser."""
OPTIONS: Final = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
    *("--no-first-run", "--disable-background-networking", "--disable-component-update"),
    *("--hide-scrollbars", "--remote-debugging-pipe"),
)


class Browser:
    """One page of a running browser.

    Args:
        commands: where messages to the browser are written.
        answers: where those of the browser are read.
    """

    def __init__(self, commands: int, answers: int) -> None:
        self.commands = commands
        self.answers = answers
        self.numbers = itertools.count(1)
        self.session = ""
        self.unread = b""
        self.complaints: list[Any] = []

    def open(self, url: str) -> None:
        """Opens a page in a tab of its own; what its console says is kept in ``complaints``."""
        self.session = ""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self.session = attached["sessionId"]
        self.call("Runtime.enable")
        self.call("Log.enable")
        self.call("Page.enable")
        self.call("Page.navigate", url=url)

    def wait_for(self, condition: str) -> None:
        """Waits until a condition in JavaScript holds; the page itself looks at each change."""
        script = f"""new Promise((done) => {{
            const look = () => {{
                if (!({condition})) return;
                observer.disconnect();
                done(true);
            }};
            const observer = new MutationObserver(look);
            const what = {{subtree: true, childList: true, attributes: true, characterData: true}};
            observer.observe(document, what);
            look();
        }})"""
        assert self.value(script) is True

    def value(self, script: str) -> object:
        """What a script in the page gives."""
        answer = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def look(self, *, width: int, height: int, scheme: str = "light", scale: float = 1) -> None:
        """Sets the size of the page in CSS pixels, and the colours that the user prefers."""
        metrics = {"deviceScaleFactor": scale, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, **metrics)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", features=features)

    def screenshot(self) -> bytes:
        """What the page looks like, as PNG."""
        answer = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=False)
        return base64.b64decode(answer["data"])

    def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """One command, and its result."""
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.commands, json.dumps(message).encode() + b"\0")
        until_s = time.monotonic() + WAIT_S
        while True:
            answer = self._read(until_s)
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return dict(answer["result"])
            if answer.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded"):
                self.complaints.append(answer["params"])

    def _read(self, until_s: float) -> dict[str, Any]:
        while b"\0" not in self.unread:
            left_s = max(0.0, until_s - time.monotonic())
            assert select.select([self.answers], [], [], left_s)[0], "the browser is silent"
            octets = os.read(self.answers, 1 << 20)
            assert octets, "the browser has ended"
            self.unread += octets
        line, _, self.unread = self.unread.partition(b"\0")
        return dict(json.loads(line))


@contextlib.contextmanager
def browsing() -> Iterator[Browser]:
    """A browser for as long as the block lasts. It reads from 3 and writes to 4, as it insists."""
    assert shutil.which(PROGRAM), "chromium is missing: scripts/install-debian-packages"
    from_us, to_browser = os.pipe()
    from_browser, to_us = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        shell = f'exec "$@" 3<&{from_us} 4>&{to_us}'
        options = (*OPTIONS, f"--user-data-dir={profile}")
        process = subprocess.Popen(
            ["bash", "-c", shell, "bash", PROGRAM, *options],
            pass_fds=(from_us, to_us),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": profile},
            start_new_session=True,
        )
        os.close(from_us)
        os.close(to_us)
        try:
            yield Browser(to_browser, from_browser)
        finally:
            os.close(to_browser)
            os.close(from_browser)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 9)
            process.wait()
