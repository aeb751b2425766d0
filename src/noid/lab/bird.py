# SPDX-License-Identifier: MIT
"""BIRD on a router of a provider: the other end of a border's session of BFD."""

from noid.errors import PlatformError
from noid.host.programs import find_program
from noid.lab.lab import Lab
from noid.lab.sites import Router, router_of_line
from noid.lab.topology import site

INTERVAL_MS, MULTIPLIER = 20, 3
READY_S = 60.0
"""A busy machine."""


class Bird:
    """BIRD with a session to a border, by one of its lines.

    Args:
        lab: the lab.
        router: the border.
        number: of the provider, from 1.

    Raises:
        Unsupported: BIRD is not installed.
        PlatformError: it does not start.
    """

    def __init__(self, lab: Lab, router: Router, number: int) -> None:
        self.lab = lab
        self.node = f"isp{number}"
        ours = router_of_line(number, router.host)
        self._files = {one: str(lab.directory / f"bird.{one}") for one in ("conf", "ctl", "pid")}
        text = f"""\
log stderr all;
router id 192.0.2.{number};
protocol device {{}}
protocol bfd {{
  interface "cust{router.host}" {{ interval {INTERVAL_MS} ms; multiplier {MULTIPLIER}; }};
  neighbor {ours.removesuffix("::1")}::2 dev "cust{router.host}" local {ours};
}}
"""
        (lab.directory / "bird.conf").write_text(text, encoding="utf-8")
        files = ["-c", self._files["conf"], "-s", self._files["ctl"], "-P", self._files["pid"]]
        lab.spawn(self.node, [find_program("bird"), "-f", *files])

    def await_up(self) -> None:
        """Waits until the session is up, at its intervals.

        Raises:
            PlatformError: it is not.
        """
        self.lab.wait_for("BFD is up", self._is_up, READY_S)

    def _is_up(self) -> bool:
        show = [find_program("birdc"), "-s", self._files["ctl"], "show bfd sessions"]
        said = self.lab.run(self.node, show).stdout
        return " Up " in said and f"{INTERVAL_MS / 1000:.3f}" in said


def with_bfd(text: str, host: str, number: int) -> str:
    """The configuration of a border whose provider has such a session.

    Raises:
        PlatformError: the configuration does not name the provider.
    """
    key = f'prefixes = ["{site(number, host)}"]\n'
    keys = f"bfd = true\nbfd_interval_s = {INTERVAL_MS / 1000}\nbfd_multiplier = {MULTIPLIER}\n"
    if key not in text:
        raise PlatformError("border", 0, f"its configuration lacks {key.strip()}")
    return text.replace(key, key + keys)
