# SPDX-License-Identifier: MIT
"""A provider that is down when the daemon starts is listed, and reported once."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from noid.config import HostSection
from noid.control.uplinks import Change, Health, Reason, Sighting, Uplinks
from noid.locators import format_locator, parse_locator
from noid.roles.expecting import (
    BOOTING_S,
    MISSING_MAX_S,
    STARTING_S,
    WRITTEN_AGAIN_S,
    Expecting,
    patience_s,
)
from noid.state import known_uplinks
from noid.state.known_uplinks import FILE_NAME, OCTETS_MAX, keep_uplinks, load_uplinks
from noid.state.system_start import system_start
from tests.engine.network import A1, A2
from tests.waiting import until

UP1 = Sighting("lo", is_up=True, carries=True, locators=(A1,))
"""Its device exists on every machine, also while noid sees no uplink."""
GONE = UP1._replace(interface="gone0")
NEXT_TO_A1 = parse_locator("2001:db8:1:a::b")
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

    async def runs(self, host: HostSection, condition: Callable[[], bool]) -> None:
        task = asyncio.create_task(self.expecting.watch(lambda: host))
        await until(condition)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def earlier(directory: Path, at_s: float, seen: tuple[Sighting, ...] = (UP1, UP2)) -> None:
    """A daemon that has had both uplinks."""
    before = Started(directory)
    before.seen = [*seen]
    before.look()
    asyncio.run(before.expecting.keep(at_s))


def test_an_interface_that_the_configuration_names_is_down_until_it_is_there(
    tmp_path: Path,
) -> None:
    daemon = Started(tmp_path)
    wanted = HostSection(interfaces=["up1", "up2", "eth*"])
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
    daemon.expecting.expect(HostSection(interfaces=["eth0"]))
    daemon.seen = [Sighting("eth0", is_up=True, carries=True, locators=(A1, A2))]
    daemon.look()
    there = [name for name in daemon.uplinks.by_name if name.startswith("eth0")]
    assert there == ["eth0/2001:db8:1:a", "eth0/2001:db8:2:a"]


@pytest.mark.parametrize(
    ("one", "host"),
    [
        (UP1, HostSection()),
        (GONE, HostSection(interfaces=["gone0", "up*"])),
        (GONE, HostSection(locators=[format_locator(A1), format_locator(A2)])),
    ],
    ids=["its device exists", "its interface is named", "its locator is named"],
)
def test_an_uplink_of_an_earlier_daemon_is_down_with_its_last_locators(
    tmp_path: Path, one: Sighting, host: HostSection
) -> None:
    earlier(tmp_path, time.time(), (one, UP2))
    daemon = Started(tmp_path)
    asyncio.run(daemon.runs(host, lambda: bool(daemon.changes)))
    assert [(at.uplink, at.new) for at in daemon.changes] == [(one.interface, Health.DOWN)]
    assert daemon.uplinks.by_name[one.interface].locators == (A1,)
    assert daemon.uplinks.of(A1) is daemon.uplinks.by_name[one.interface]


@pytest.mark.parametrize("seen_s", [0, 1e300])
def test_an_uplink_that_stays_away_is_not_expected_for_ever(tmp_path: Path, seen_s: float) -> None:
    earlier(tmp_path, time.time() + seen_s)
    daemon = Started(tmp_path)
    asyncio.run(daemon.runs(HostSection(), lambda: bool(daemon.changes)))
    asyncio.run(daemon.expecting.keep(now_s := time.time()))
    assert load_uplinks(tmp_path)[0]["lo"].seen_s <= now_s


@pytest.mark.parametrize(
    ("before", "age_s", "host", "also"),
    [
        (UP1, MISSING_MAX_S + 60, HostSection(), []),
        (UP1, 0, HostSection(interfaces=["up2"]), []),
        (UP1, 0, HostSection(locators=[format_locator(A2)]), []),
        (UP1, 0, HostSection(), [UP1._replace(interface="br0")]),
        (UP1, 0, HostSection(), [UP1._replace(interface="br0", locators=(NEXT_TO_A1,))]),
        (UP1._replace(interface="up2", locators=(A1, A2)), 0, HostSection(), []),
        (GONE, 0, HostSection(), []),
    ],
    ids=[
        "long ago",
        "not named",
        "locator not named",
        "its address is elsewhere",
        "its prefix is elsewhere",
        "its interface has another prefix",
        "its device is gone",
    ],
)
def test_what_is_no_uplink_any_more_is_not_expected(
    tmp_path: Path, before: Sighting, age_s: float, host: HostSection, also: list[Sighting]
) -> None:
    earlier(tmp_path, time.time() - age_s, (UP2, before))
    daemon = Started(tmp_path)
    daemon.seen += also
    daemon.look()
    looked = asyncio.Event()
    daemon.expecting.changed = looked.set
    there = list(daemon.uplinks.by_name)
    asyncio.run(daemon.runs(host, looked.is_set))
    assert list(daemon.uplinks.by_name) == there


@pytest.mark.parametrize("seen", [[UP1, UP2], [UP2]], ids=["there", "missing"])
@pytest.mark.parametrize(
    ("host", "left"),
    [
        (HostSection(), ["up2", "lo"]),
        (HostSection(interfaces=["l*", "up?"]), ["up2", "lo"]),
        (HostSection(interfaces=["up2"]), ["up2"]),
        (HostSection(locators=[format_locator(A2)]), ["up2"]),
    ],
)
def test_a_reload_forgets_what_the_configuration_does_not_name(
    tmp_path: Path, seen: list[Sighting], host: HostSection, left: list[str]
) -> None:
    daemon = Started(tmp_path)
    daemon.seen = [UP1, UP2]
    daemon.look()
    daemon.seen = seen
    daemon.look()
    daemon.seen = [one for one in seen if one.interface in left]
    daemon.changes.clear()
    daemon.expecting.expect(host)
    assert list(daemon.uplinks.by_name) == left
    assert daemon.changes == []


def test_an_interface_whose_name_is_no_text_is_not_stored(tmp_path: Path) -> None:
    daemon = Started(tmp_path)
    daemon.seen = [UP1._replace(interface="e\udcff"), UP2]
    daemon.look()
    asyncio.run(daemon.expecting.keep(1.0))
    assert list(load_uplinks(tmp_path)[0]) == ["up2"]


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
        b'{"up1": {"interface": "up1", "locators": ["::"], "seen_s": 1}}',
        b'{"up1": {"interface": "up1", "locators": ["ff02::1"], "seen_s": 1}}',
        b'{"up1": {"interface": "up1", "locators": ["fe80::1"], "seen_s": 1}}',
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
        f"{number:03}".ljust(64, "x"): known_uplinks.known_uplink("x" * 15, longest, 1.5, "s" * 64)
        for number in range(known_uplinks.KNOWN_MAX)
    }
    keep_uplinks(tmp_path, known)
    assert load_uplinks(tmp_path) == (known, "")


def test_only_while_the_host_starts_uplinks_may_take_long() -> None:
    assert patience_s(["before"], "now", 10 * BOOTING_S) == BOOTING_S
    assert patience_s(["before", "now"], "now", 0.0) == STARTING_S


def test_where_no_uplink_is_known_the_time_since_the_start_of_the_machine_counts() -> None:
    assert patience_s([], "now", 0.0) == BOOTING_S
    assert patience_s([], "now", BOOTING_S - 2 * STARTING_S) == 2 * STARTING_S
    assert patience_s([], "now", 10 * BOOTING_S) == STARTING_S


def test_a_daemon_that_ends_while_uplinks_may_still_appear_keeps_the_missing_ones(
    tmp_path: Path,
) -> None:
    earlier(tmp_path, time.time())
    daemon = Started(tmp_path)
    daemon.expecting.starting_s = BOOTING_S
    file = tmp_path / FILE_NAME
    before = load_uplinks(tmp_path)[0]
    file.unlink()
    asyncio.run(daemon.runs(HostSection(), file.exists))
    known, _ = load_uplinks(tmp_path)
    assert known.keys() == before.keys()
    assert not any(one.start for one in known.values()), "the next daemon has to wait, too"


def test_the_next_daemon_knows_that_the_host_has_started(tmp_path: Path) -> None:
    daemon = Started(tmp_path)

    def is_known() -> bool:
        return any(one.start == system_start() for one in load_uplinks(tmp_path)[0].values())

    asyncio.run(daemon.runs(HostSection(), is_known))
    assert system_start()
