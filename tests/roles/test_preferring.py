# SPDX-License-Identifier: MIT
"""What the operator wants of the uplinks becomes marks of locators, and is refused in words."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from noid.cli.prefer import preference_lines
from noid.config import HostSection
from noid.control.uplinks import Sighting, Uplinks
from noid.engine.events import LocatorsChanged
from noid.host.survey import Device, OwnAddress, Survey
from noid.locators import Locator
from noid.policy_config import UplinkSection, UplinkSections
from noid.roles.local_locators import NO_UPLINKS, LocalLocators
from noid.roles.preferring import AVOID_MAX_S, CLOCK_WAIT_MAX_S, Preferring
from noid.state.preferences import AVOIDED_MAX, Preferences, load_preferences
from tests.engine.network import A1, A2, B1
from tests.test_json import check

TIMEOUT_S = 30.0


def survey(*addresses: tuple[str, Locator]) -> Survey:
    """A host with these addresses, of which nothing is wrong."""
    names = dict.fromkeys(name for name, _ in addresses)
    devices = [
        Device(
            index=number,
            name=name,
            mtu=1500,
            has_ethernet=True,
            addresses=frozenset(one for other, one in addresses if other == name),
            features=frozenset(),
        )
        for number, name in enumerate(names, start=1)
    ]
    own = [
        OwnAddress(one, name, deprecated=False, broken=False, leads_out=True)
        for name, one in addresses
    ]
    return Survey(
        devices=tuple(devices),
        locators=tuple(own),
        addresses=frozenset(one for _, one in addresses),
        rules=(),
        mtu=1500,
        ours={},
    )


TWO = survey(("up1", A1), ("up2", A2))


class Operated:
    """A host whose operator says what is wanted; marks are those of its locators."""

    def __init__(
        self,
        directory: Path,
        host: HostSection | None = None,
        sections: UplinkSections = NO_UPLINKS,
        clock_wait_s: float = CLOCK_WAIT_MAX_S,
    ) -> None:
        self.own = LocalLocators(host or HostSection(), sections)
        self.uplinks = Uplinks()
        self.survey = TWO
        self.marked: list[LocatorsChanged] = []
        self.changed = asyncio.Event()
        self.preferring = Preferring(
            self.own, self.uplinks, self.look, clock_wait_max_s=clock_wait_s
        )
        self.preferring.open(directory)
        self.look()

    def look(self) -> None:
        self.own.look(self.survey)
        self.see(*((one.interface, one.locator) for one in self.survey.locators))
        self.changed.set()

    def see(self, *addresses: tuple[str, Locator]) -> None:
        names = dict.fromkeys(name for name, _ in addresses)
        sightings = [
            Sighting(
                name,
                is_up=True,
                carries=True,
                locators=tuple(one for other, one in addresses if other == name),
            )
            for name in names
        ]
        self.uplinks.see(sightings, 1.0)

    async def say(self, command: str, **request: object) -> dict[str, Any]:
        return await self.preferring.requests[command](dict(request))

    @property
    def deprecated(self) -> frozenset[Locator]:
        return self.own.said.deprecated

    @property
    def backup(self) -> frozenset[Locator]:
        return self.own.said.backup


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A state directory."""
    tmp_path.chmod(0o700)
    return tmp_path


@contextlib.contextmanager
def operated(
    directory: Path,
    host: HostSection | None = None,
    sections: UplinkSections = NO_UPLINKS,
    clock_wait_s: float = CLOCK_WAIT_MAX_S,
) -> Iterator[Operated]:
    one = Operated(directory, host, sections, clock_wait_s)
    try:
        yield one
    finally:
        one.preferring.close()


def run(
    directory: Path,
    scenario: Callable[[Operated], Awaitable[None]],
    host: HostSection | None = None,
    sections: UplinkSections = NO_UPLINKS,
    clock_wait_s: float = CLOCK_WAIT_MAX_S,
) -> None:
    """Runs a scenario with a host that is operated."""

    async def main() -> None:
        with operated(directory, host, sections, clock_wait_s) as one:
            async with asyncio.timeout(TIMEOUT_S):
                await scenario(one)

    asyncio.run(main())


def test_locators_of_an_avoided_uplink_are_deprecated_until_told(directory: Path) -> None:
    async def scenario(host: Operated) -> None:
        answer = await host.say("avoid", uplink="up1")
        check("preferences", answer)
        check("avoided", answer["avoid"][0])
        assert host.deprecated == {A1}
        assert host.backup == frozenset()
        assert (await host.say("auto"))["avoid"] == []
        assert host.deprecated == frozenset()

    run(directory, scenario)


def test_new_connections_begin_at_no_avoided_uplink_while_there_is_another(
    directory: Path,
) -> None:
    async def scenario(host: Operated) -> None:
        await host.say("avoid", uplink="up1")
        assert host.own.sources == (A2,)
        host.survey = survey(("up1", A1))
        host.look()
        assert host.own.sources == (A1,)

    run(directory, scenario)


def test_where_one_uplink_is_used_the_others_are_backups_and_it_is_none(directory: Path) -> None:
    async def scenario(host: Operated) -> None:
        assert host.backup == {A2}
        await host.say("use", uplink="up2")
        assert host.deprecated == frozenset()
        assert host.backup == {A1}
        await host.say("auto")
        assert host.backup == {A2}

    run(directory, scenario, HostSection(backup=["up2"]))


def test_the_last_command_about_an_uplink_holds(directory: Path) -> None:
    async def scenario(host: Operated) -> None:
        await host.say("use", uplink="up1")
        answer = await host.say("avoid", uplink="up1")
        assert answer["use"] == ""
        assert host.deprecated == {A1}
        assert host.backup == frozenset()
        answer = await host.say("use", uplink="up1")
        assert answer["avoid"] == []
        assert host.backup == {A2}
        assert host.deprecated == frozenset()

    run(directory, scenario)


def test_one_of_several_uplinks_of_an_interface_is_avoided(directory: Path) -> None:
    async def scenario(host: Operated) -> None:
        host.survey = survey(("eth0", A1), ("eth0", B1))
        host.look()
        first = host.uplinks.by_name["eth0/2001:db8:1:a"]
        assert first.locators == (A1,)
        await host.say("avoid", uplink=first.name)
        assert host.deprecated == {A1}
        host.preferring.show()
        shown = {one.name: one.preference for one in host.preferring.there}
        assert shown.pop(first.name) == "avoid"
        assert set(shown.values()) == {""}

    run(directory, scenario)


def test_what_is_wanted_holds_after_a_restart(directory: Path) -> None:
    async def before(host: Operated) -> None:
        await host.say("avoid", uplink="up1", for_s=3600)

    async def after(host: Operated) -> None:
        assert host.deprecated == {A1}
        host.preferring.show()
        until_s = host.uplinks.by_name["up1"].until_s
        assert until_s is not None
        assert 0 < until_s - time.time() <= 3600

    run(directory, before)
    run(directory, after)


def test_a_time_that_ended_while_no_daemon_ran_is_over(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def before(host: Operated) -> None:
        await host.say("avoid", uplink="up1", for_s=60)

    async def after(host: Operated) -> None:
        assert host.deprecated == frozenset()

    run(directory, before)
    later_s = time.time() + 61
    monkeypatch.setattr(time, "time", lambda: later_s)
    run(directory, after)


@pytest.mark.parametrize("clock_wait_s", [0.01, 30.0])
def test_an_uplink_is_used_again_when_its_time_is_over(
    directory: Path, clock_wait_s: float
) -> None:
    async def scenario(host: Operated) -> None:
        await host.say("avoid", uplink="up1", for_s=0.05)
        host.changed.clear()
        await host.changed.wait()
        assert host.deprecated == frozenset()
        assert load_preferences(directory) == (Preferences(), "")

    run(directory, scenario, clock_wait_s=clock_wait_s)


@pytest.mark.parametrize(
    "for_s", [0, -1, True, "2h", AVOID_MAX_S + 1, float("inf"), float("nan"), 10**400]
)
def test_a_time_that_is_none_is_refused(directory: Path, for_s: object) -> None:
    async def scenario(host: Operated) -> None:
        answer = await host.say("avoid", uplink="up1", for_s=for_s)
        assert answer.keys() == {"error"}
        assert host.deprecated == frozenset()

    run(directory, scenario)


@pytest.mark.parametrize("uplink", ["up9", "", "up1\n", None, ["up1"], "x" * 4000])
@pytest.mark.parametrize("command", ["use", "avoid"])
def test_an_uplink_that_is_none_is_refused_with_those_there_are(
    directory: Path, command: str, uplink: object
) -> None:
    async def scenario(host: Operated) -> None:
        answer = await host.say(command, uplink=uplink)
        assert answer.keys() == {"error"}
        assert "there are: up1, up2" in answer["error"]
        assert "\n" not in answer["error"]
        assert host.own.wanted == Preferences()

    run(directory, scenario)


def test_the_last_uplink_is_not_avoided(directory: Path) -> None:
    async def scenario(host: Operated) -> None:
        await host.say("avoid", uplink="up1")
        answer = await host.say("avoid", uplink="up2")
        assert answer == {"error": "no uplink besides up2 would be left to use; first: noid auto"}
        assert (await host.say("avoid", uplink="up1", for_s=60))["warnings"] == []

    run(directory, scenario)


def test_the_number_of_avoided_uplinks_is_limited_by_the_file(directory: Path) -> None:
    async def scenario(host: Operated) -> None:
        host.own.wanted = Preferences(avoid={f"old{n}": None for n in range(AVOIDED_MAX)})
        answer = await host.say("avoid", uplink="up1")
        assert answer == {"error": f"{AVOIDED_MAX} uplinks are avoided already; first: noid auto"}

    run(directory, scenario)


def test_that_what_is_left_is_down_is_said(directory: Path) -> None:
    async def scenario(host: Operated) -> None:
        host.uplinks.lose("up2", is_up=True, now_s=2.0)
        answer = await host.say("avoid", uplink="up1")
        assert answer["warnings"] == ["up2 is down: others are used until it is up"]

    run(directory, scenario)


def test_that_the_uplink_to_be_used_is_down_is_said(directory: Path) -> None:
    async def scenario(host: Operated) -> None:
        host.survey = survey(("up1", A1))  # a link that is set down has no address
        host.look()
        answer = await host.say("use", uplink="up2")
        assert answer["warnings"] == ["up2 is down: others are used until it is up"]
        assert (await host.say("use", uplink="up1"))["warnings"] == []

    run(directory, scenario)


def test_a_full_disk_is_reported_and_the_preference_takes_effect(directory: Path) -> None:
    async def scenario(host: Operated) -> None:
        host.preferring.directory = directory / "missing"
        (warning,) = (await host.say("avoid", uplink="up1"))["warnings"]
        assert "a restart forgets this" in warning
        assert host.deprecated == {A1}

    run(directory, scenario)


FIRST_WINS = {"up1": UplinkSection(priority=1), "up2": UplinkSection(priority=2)}
WEIGHTED = {"up1": UplinkSection(weight=3), "up2": UplinkSection()}


def down(host: Operated, *locators: Locator) -> None:
    """Peers answer over uplinks other than those with these locators."""
    if host.own.set_down(frozenset(locators)):
        host.look()


def test_uplinks_of_a_higher_priority_are_backups_while_one_of_the_lowest_works(
    directory: Path,
) -> None:
    async def scenario(host: Operated) -> None:
        assert host.backup == {A2}
        assert host.own.sources == (A1,)
        down(host, A1)
        assert host.backup == frozenset()
        assert host.own.sources == (A2,)
        down(host)
        assert host.backup == {A2}

    run(directory, scenario, sections=FIRST_WINS)


def test_an_uplink_of_the_lowest_priority_that_is_avoided_is_replaced(directory: Path) -> None:
    async def scenario(host: Operated) -> None:
        await host.say("avoid", uplink="up1")
        assert host.backup == frozenset()
        assert host.own.sources == (A2,)

    run(directory, scenario, sections=FIRST_WINS)


def test_noid_use_takes_precedence_over_priorities(directory: Path) -> None:
    async def scenario(host: Operated) -> None:
        await host.say("use", uplink="up2")
        assert host.backup == {A1}
        assert host.own.sources == (A2,)

    run(directory, scenario, sections=FIRST_WINS)


def test_a_backup_is_in_no_priority(directory: Path) -> None:
    async def scenario(host: Operated) -> None:
        assert host.backup == {A1}
        down(host, A2)
        assert host.backup == {A1}
        assert host.own.sources == (A1,)

    sections = {"up1": UplinkSection(backup=True), "up?": UplinkSection(priority=9)}
    run(directory, scenario, sections=sections)


def test_without_weights_the_routes_decide(directory: Path) -> None:
    async def scenario(host: Operated) -> None:
        assert host.own.weights == {}
        host.preferring.show()
        assert {one.share for one in host.preferring.there} == {None}

    run(directory, scenario, sections=FIRST_WINS)


def test_shares_follow_the_weights_of_the_uplinks_in_use(directory: Path) -> None:
    async def scenario(host: Operated) -> None:
        assert host.own.weights == {A1: 3, A2: 1}
        host.preferring.show()
        shares = {one.name: one.share for one in host.preferring.there}
        assert shares == {"up1": 0.75, "up2": 0.25}
        await host.say("avoid", uplink="up1")
        host.preferring.show()
        shares = {one.name: one.share for one in host.preferring.there}
        assert shares == {"up1": 0.0, "up2": 1.0}

    run(directory, scenario, sections=WEIGHTED)


def test_what_is_configured_is_in_every_answer(directory: Path) -> None:
    async def scenario(host: Operated) -> None:
        for command in ("use", "avoid", "auto"):
            answer = await host.say(command, uplink="up2")
            check("preferences", answer)
            (one,) = answer["configured"]
            check("configured", one)
            assert one == {"uplink": "up1", "priority": 1, "weight": 3, "backup": False}
            lines = preference_lines(answer, 1.0)
            assert "up1 is configured with priority 1, weight 3" in lines

    run(directory, scenario, sections=WEIGHTED)
