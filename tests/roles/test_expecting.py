# SPDX-License-Identifier: MIT
"""A provider that is down when the daemon starts is listed, and reported once."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from noid.control.uplinks import Change, Health, Reason, Sighting, Uplinks
from noid.roles.expecting import MISSING_MAX_S, WRITTEN_AGAIN_S, Expecting
from noid.state import known_uplinks
from noid.state.known_uplinks import FILE_NAME, OCTETS_MAX, keep_uplinks, load_uplinks
from tests.engine.network import A1, A2
from tests.waiting import until

UP1 = Sighting("up1", is_up=True, carries=True, locators=(A1,))
UP2 = Sighting("up2", is_up=True, carries=True, locators=(A2,))


class Started:
    """A daemon that sees only some of its uplinks."""

    def __init__(self, directory: Path) -> None:
        directory.chmod(0o700)
        self.uplinks = Uplinks()
        self.changes: list[Change] = []
        self.expecting = Expecting(self.uplinks, self.look, starting_s=0.001)
        self.troubles = self.expecting.open(directory)
        self.seen = [UP2]
        self.look()

    def look(self) -> None:
        self.changes += self.uplinks.see(self.seen, 100.0)

    async def runs(self, interfaces: Sequence[str], condition: Callable[[], bool]) -> None:
        task = asyncio.create_task(self.expecting.watch(lambda: interfaces))
        await until(condition)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def earlier(directory: Path, at_s: float) -> None:
    """A daemon that has had both uplinks."""
    before = Started(directory)
    before.seen = [UP1, UP2]
    before.look()
    asyncio.run(before.expecting.keep(at_s))


def test_an_interface_that_the_configuration_names_is_down_until_it_is_there(
    tmp_path: Path,
) -> None:
    daemon = Started(tmp_path)
    wanted = ["up1", "up2", "eth*"]
    asyncio.run(daemon.runs(wanted, lambda: "up1" in daemon.uplinks.by_name))
    daemon.look()
    (change,) = daemon.changes
    assert (change.uplink, change.new) == ("up1", Health.DOWN)
    assert change.reason is Reason.INTERFACE_DOWN
    assert list(daemon.uplinks.by_name) == ["up2", "up1"]
    daemon.seen = [Sighting("up1", is_up=True, carries=True, locators=(A1,)), UP2]
    daemon.look()
    assert [(one.uplink, one.new) for one in daemon.changes[1:]] == [("up1", Health.UP)]


def test_an_interface_that_comes_with_two_prefixes_was_one_of_them(tmp_path: Path) -> None:
    daemon = Started(tmp_path)
    daemon.seen = []
    daemon.expecting.expect(["eth0"])
    daemon.seen = [Sighting("eth0", is_up=True, carries=True, locators=(A1, A2))]
    daemon.look()
    there = [name for name in daemon.uplinks.by_name if name.startswith("eth0")]
    assert there == ["eth0/2001:db8:1:a", "eth0/2001:db8:2:a"]


def test_an_uplink_of_an_earlier_daemon_is_down_with_its_last_locators(tmp_path: Path) -> None:
    earlier(tmp_path, time.time())
    daemon = Started(tmp_path)
    asyncio.run(daemon.runs([], lambda: bool(daemon.changes)))
    assert [(one.uplink, one.new) for one in daemon.changes] == [("up1", Health.DOWN)]
    assert daemon.uplinks.by_name["up1"].locators == (A1,)
    assert daemon.uplinks.of(A1) is daemon.uplinks.by_name["up1"]


@pytest.mark.parametrize(
    ("age_s", "interfaces", "also"),
    [
        (MISSING_MAX_S + 60, [], []),
        (0, ["up2"], []),
        (0, [], [Sighting("br0", is_up=True, carries=True, locators=(A1,))]),
    ],
    ids=["long ago", "not named", "its address is elsewhere"],
)
def test_what_is_no_uplink_any_more_is_not_expected(
    tmp_path: Path, age_s: float, interfaces: list[str], also: list[Sighting]
) -> None:
    earlier(tmp_path, time.time() - age_s)
    daemon = Started(tmp_path)
    daemon.seen += also
    daemon.look()
    looked = asyncio.Event()
    daemon.expecting.changed = looked.set
    asyncio.run(daemon.runs(interfaces, looked.is_set))
    assert "up1" not in daemon.uplinks.by_name


def test_the_file_is_written_when_uplinks_are_others_and_once_a_day(tmp_path: Path) -> None:
    daemon = Started(tmp_path)

    async def written_s(at_s: float) -> float:
        await daemon.expecting.keep(at_s)
        return load_uplinks(tmp_path)[0]["up2"].seen_s

    async def play() -> None:
        assert await written_s(1e9) == 1e9
        assert await written_s(1e9 + 10) == 1e9
        assert await written_s(1e9 + WRITTEN_AGAIN_S) == 1e9 + WRITTEN_AGAIN_S
        daemon.seen = [UP1, UP2]
        daemon.look()
        again_s = 1e9 + WRITTEN_AGAIN_S + 10
        assert await written_s(again_s) == again_s
        daemon.seen = []
        daemon.look()
        assert await written_s(again_s + 10) == again_s, "an uplink that fails needs no disk"

    asyncio.run(play())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[" * 10_000,
        b'{"up1": {"interface": "up1", "locators": ["x"], "seen_s": 1}}',
        b'{"up1": {"interface": "up1", "locators": [], "seen_s": 1}}',
        b'{"up1": {"interface": "up1", "locators": ["2001:db8::1"], "seen_s": "now"}}',
        b" " * (OCTETS_MAX + 1),
    ],
)
def test_a_damaged_file_is_moved_aside(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / FILE_NAME
    path.write_bytes(content)
    path.chmod(0o600)
    daemon = Started(tmp_path)
    assert "not known" in daemon.troubles[0]
    assert (tmp_path / f"{FILE_NAME}.damaged").read_bytes() == content


def test_as_many_as_may_be_known_fit_into_the_file(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    longest = (A1,) * (known_uplinks.LOCATORS_MAX + 1)
    known = {
        f"{number:03}".ljust(64, "x"): known_uplinks.known_uplink("x" * 15, longest, 1.5)
        for number in range(known_uplinks.KNOWN_MAX)
    }
    keep_uplinks(tmp_path, known)
    assert load_uplinks(tmp_path) == (known, "")
