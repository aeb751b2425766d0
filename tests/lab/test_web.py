# SPDX-License-Identifier: MIT
"""The page of ``noid web`` in a real browser, before the daemon of a running lab."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from noid.lab.faults import Fault
from noid.lab.lab import Lab
from tests.browser import browsing
from tests.lab.conversations import establish_context, restart_daemons, tcp

FIGURES = os.environ.get("NOID_FIGURES")
"""Where screenshots are written, if the environment says it."""
LOOKS = {
    "web-light": (1100, 760, "light"),
    "web-dark": (1100, 760, "dark"),
    "web-phone": (390, 760, "dark"),
}


@contextlib.contextmanager
def page_of(lab: Lab) -> Iterator[str]:
    """``noid web`` for the daemon on a; the address of its page."""
    socket = str(lab.control_socket("a"))
    words = [sys.executable, "-m", "noid", "web", "--listen", "127.0.0.1:0", "--socket", socket]
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            yield process.stdout.readline().split()[-1]
        finally:
            process.terminate()
            assert process.wait(20) == 0
            assert process.stderr.read() == ""


def test_a_provider_that_is_cut_is_down_in_a_browser(kernel_lab: Lab) -> None:
    lab = kernel_lab
    restart_daemons(lab)
    establish_context(lab)
    name = lab.plan.uplink("a", 1)

    def card(state: str) -> str:
        return f'document.querySelector(\'[data-uplink="{name}"][data-state="{state}"]\')'

    with page_of(lab) as url, browsing() as browser, tcp(lab, "a") as conversation:
        conversation.echoes()
        browser.open(url)
        browser.wait_for(card("up"))
        browser.wait_for("document.querySelectorAll('#contexts tr').length === 1")
        began_s = time.monotonic()
        lab.cut(1, Fault.CARRIER)
        try:
            browser.wait_for(card("down"))
            took_s = time.monotonic() - began_s
            print(f"down in the page after {took_s:.3f} s")
            browser.wait_for(f"{card('down')}?.textContent.includes('the link has no carrier')")
            conversation.echoes()
            browser.wait_for("document.querySelector('#events li.switch')")
            for scheme in ("light", "dark"):
                browser.look(width=390, height=760, scheme=scheme)
                assert browser.value("document.documentElement.scrollWidth <= innerWidth") is True
            for figure, (width, height, scheme) in LOOKS.items() if FIGURES else ():
                browser.look(width=width, height=height, scheme=scheme)
                (Path(FIGURES or "") / f"{figure}.png").write_bytes(browser.screenshot())
        finally:
            lab.heal(1)
        browser.wait_for(card("up"))
        browser.wait_for("document.querySelector('#events li.up')")
        assert not browser.complaints
