# SPDX-License-Identifier: MIT
"""The page of ``noid web`` in a real browser, before the daemon of a running lab."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from noid.lab.faults import Fault
from noid.lab.lab import Lab
from tests.browser import browsing
from tests.lab.conversations import Pinging, establish_context, restart_daemons, tcp
from tests.lab.privilege import NOBODY

FIGURES = os.environ.get("NOID_FIGURES")
"""Where screenshots are written, if the environment says it."""
NOBODY_ID = 65534
LOOKS = {
    "web-light": (1100, 820, "light"),
    "web-dark": (1100, 820, "dark"),
    "web-phone": (390, 760, "dark"),
}


def command(socket: Path) -> list[str]:
    """``noid web``, run as nobody."""
    noid = (sys.executable, "-m", "noid", "web", "--listen", "127.0.0.1:0")
    return [*NOBODY, *noid, "--socket", str(socket)]


@contextlib.contextmanager
def page_of(socket: Path) -> Iterator[str]:
    """``noid web``, without privileges, for a daemon; the address of its page."""
    os.chown(socket, NOBODY_ID, NOBODY_ID)  # as if the daemon were its user's
    words = command(socket)
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            yield process.stdout.readline().split()[-1]
        finally:
            process.terminate()
            assert process.wait(60) == 0
            assert process.stderr.read() == ""


def test_who_may_not_open_the_socket_is_refused(kernel_lab: Lab) -> None:
    restart_daemons(kernel_lab)
    done = subprocess.run(
        command(kernel_lab.control_socket("a")), capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "run as the user of the daemon, or as root" in done.stderr


@pytest.mark.parametrize(
    ("number", "fault", "text"),
    [
        (1, Fault.CARRIER, "the link has no carrier"),
        (1, Fault.SILENT, "none over this one"),
        (2, Fault.SILENT, "none over this one"),
    ],
    ids=["carrier", "silent", "silent and not in use"],
)
def test_a_provider_that_is_cut_is_down_in_a_browser(
    kernel_lab: Lab, number: int, fault: Fault, text: str
) -> None:
    lab = kernel_lab
    restart_daemons(lab)
    establish_context(lab)
    name = lab.plan.uplink("a", number)
    looks = LOOKS if FIGURES and fault is Fault.CARRIER else {}

    def card(state: str) -> str:
        return f'document.querySelector(\'[data-uplink="{name}"][data-state="{state}"]\')'

    with (
        page_of(lab.control_socket("a")) as url,
        browsing() as browser,
        tcp(lab, "a") as conversation,
        Pinging(lab, "a") as ping,
    ):
        conversation.echoes()
        ping.goes_on()
        browser.open(url)
        browser.wait_for(card("up"))
        browser.wait_for("document.querySelectorAll('#contexts tr').length === 1")
        began_s = time.monotonic()
        lab.cut(number, fault)
        try:
            browser.wait_for(card("down"))
            took_s = time.monotonic() - began_s
            print(f"down in the page after {took_s:.3f} s")
            browser.wait_for(f"{card('down')}?.textContent.includes({json.dumps(text)})")
            conversation.echoes()
            if number == 1:
                browser.wait_for("document.querySelector('#events li.switch')")
            for scheme in ("light", "dark"):
                browser.look(width=390, height=760, scheme=scheme)
                assert browser.value("document.documentElement.scrollWidth <= innerWidth") is True
            for figure, (width, height, scheme) in looks.items():
                browser.look(width=width, height=height, scheme=scheme)
                (Path(FIGURES or "") / f"{figure}.png").write_bytes(browser.screenshot())
        finally:
            lab.heal(number)
        browser.wait_for(card("up"))
        browser.wait_for("document.querySelector('#events li.up')")
        browser.wait_for(f"{card('up')}?.querySelector('svg rect.down')")  # of the last hour
        assert not browser.complaints
