# SPDX-License-Identifier: MIT
"""The guide for a site, typed on a router with two LANs on which nothing is configured."""

import re
import signal
import sys
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from noid.counters import BorderCounter
from noid.host.programs import find_program
from noid.lab.inventory import PINS
from noid.lab.passing import TCP_OF_CONTEXTS
from tests.guide.site import (
    HOST,
    LEARN,
    OTHER,
    OUTSIDE,
    ROUTER,
    TARGET,
    Site,
    address,
    listening,
    send_rewritable,
    typed,
)
from tests.lab.conftest import lab_machine
from tests.lab.test_border import CONNECT

__all__ = ["lab_machine"]
pytestmark = [pytest.mark.lab, pytest.mark.slow]


@pytest.fixture(scope="module")
def site(lab_machine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site as the guide sets it up, with another LAN of the same kind."""
    made = Site(tmp_path_factory.mktemp("site"))
    made.build()
    try:
        made.type(ROUTER, typed("Enable forwarding"))
        for number in (1, 2):
            made.advertise(number)
            for lan, subnet in (("lan0", 7), ("lan1", 8)):
                own = f"2001:db8:{number}:{subnet}::1/64"
                made.type(ROUTER, f"ip address add {own} dev {lan}")
        made.type(ROUTER, typed("Add a route for subnets"))
        lan = typed("Add an address of each prefix")
        radvd = made.directory / "radvd.conf"
        radvd.write_text(lan + lan.replace("lan0", "lan1").replace(":7:", ":8:"), encoding="utf-8")
        made.stay(ROUTER, f"{find_program('radvd')} -n -m stderr -C {radvd} -p {radvd}.pid")
        for node in (HOST, OTHER):
            made.type(node, LEARN)
            for number in (1, 2):
                made.wait("it learns", partial(made.has_learnt, node, address(number, node)))
        keys = f'socket = "{made.socket}"\npins = "{made.directory / PINS}"\nhold_s = 0.2\n'
        text = typed("Write `/etc/noid-border.toml`").replace("[border]\n", f"[border]\n{keys}")
        text = text.replace('["lan0"]', '["lan0", "lan1"]')
        made.config.write_text(text, encoding="utf-8")
        made.start()
        made.leaves_by("one", "two")
        yield made
        assert not any(" ERROR " in one.output() for one in made.processes)
    finally:
        made.close()


def test_every_command_of_the_guide_works(site: Site) -> None:
    for line in typed("Show the status, and test a switch").splitlines():
        said = site.type(ROUTER, line.replace("/etc/noid-border.toml", str(site.config)))
        assert said, line
        if line.endswith("use two"):
            site.leaves_by("two", "two")
    site.leaves_by("one", "two")


def test_hosts_of_both_lans_reach_all_and_their_packets_are_moved(site: Site) -> None:
    for node, other in ((HOST, OTHER), (OTHER, HOST)):
        for number in (1, 2):
            source = address(number, node)
            assert site.reaches(node, source)
            assert site.reaches(node, source, address(3 - number, other)), "within the site"
            assert site.source_outside(node, source) == source
        site.type(ROUTER, "noid border use two")
        assert site.source_outside(node, address(1, node)) == address(2, node)
        assert site.reaches(node, address(1, node)), "plain packets keep their uplink"
        site.type(ROUTER, "noid border use auto")


def test_packets_to_a_subnet_that_the_site_does_not_use_are_answered(site: Site) -> None:
    for number in (1, 2):
        for node, own in ((HOST, address(number, HOST)), (OUTSIDE, TARGET)):
            done = site.run(node, f"ping -n -c1 -W5 -I {own} 2001:db8:{number}:99::9")
            assert "Destination unreachable: No route" in done.stdout


def test_a_firewall_of_the_router_lets_contexts_pass(site: Site) -> None:
    rules = typed("If the router filters what it forwards")
    assert site.run(OUTSIDE, f"ping -n -c1 -W5 {address(1, HOST)}").returncode == 0
    site.type(ROUTER, rules + rules.splitlines()[3].replace("lan0", "lan1"))
    try:
        assert site.run(OUTSIDE, f"ping -n -c1 -W1 {address(1, HOST)}").returncode == 1
        assert site.reaches(HOST, address(1, HOST))
        with site.inside(HOST, partial(listening, TCP_OF_CONTEXTS)) as listener:
            site.inside(OUTSIDE, lambda: send_rewritable(TARGET, address(2, HOST)))
            assert listener.recvfrom(100)[1][0] == TARGET
        site.type(ROUTER, "noid border use two")
        assert site.source_outside(HOST, address(1, HOST)) == address(2, HOST)
    finally:
        site.type(ROUTER, "noid border use auto; nft delete table inet site")


def test_a_provider_that_withdraws_its_router_is_not_used(site: Site) -> None:
    site.advertise(1, lifetime_s=0)
    site.leaves_by("two", "two")
    for node in (HOST, OTHER):
        assert site.source_outside(node, address(1, node)) == address(2, node)
        connect = f"{sys.executable} -c '{CONNECT}' {address(1, node)} {TARGET}"
        assert site.type(node, connect) == "EACCES\n", "as Linux takes code 5"
    site.advertise(1)
    site.leaves_by("one", "two")


def test_the_rules_against_sources_of_other_lans_work(site: Site) -> None:
    site.type(ROUTER, typed("To check the LAN as well, use nftables"))
    stolen = address(1, OTHER).replace("::a", "::99")
    site.type(HOST, f"ip address add {stolen}/128 dev eth0")
    forwarded = site.count(BorderCounter.PACKETS_FORWARDED)
    assert not site.reaches(HOST, stolen)
    assert site.count(BorderCounter.PACKETS_FORWARDED) == forwarded
    site.type(ROUTER, "noid border use two")
    assert site.source_outside(HOST, address(1, HOST)) == address(2, HOST)
    site.type(ROUTER, "noid border use auto; nft delete table ip6 lans")
    site.type(HOST, f"ip address del {stolen}/128 dev eth0")


def test_a_border_that_boots_while_a_provider_is_dead_uses_the_other(site: Site) -> None:
    site.daemon.popen.send_signal(signal.SIGKILL)
    site.daemon.popen.wait()
    site.type(ROUTER, f"noid border down --config {site.config}; ip link set wan1 down")
    site.start()
    site.leaves_by("two", "two")
    assert site.source_outside(HOST, address(1, HOST)) == address(2, HOST)
    site.type(ROUTER, "ip link set wan1 up")
    site.connect(1)
    site.advertise(1)
    site.leaves_by("one", "two")
    assert site.source_outside(HOST, address(1, HOST)) == address(1, HOST)
    assert site.reaches(OTHER, address(1, OTHER))


RELOADS = 3
CHANGES: dict[str, Callable[[str], str]] = {
    "a LAN less": lambda text: text.replace('["lan0", "lan1"]', '["lan0"]'),
    "another mark": lambda text: text.replace("[border]\n", "[border]\nmark = 77\n"),
    "a prefix more": lambda text: text.replace('2::/48"]', '2::/48", "2001:db8:5::/48"]'),
    "a gateway": lambda text: text.replace(
        'uplink = "wan2"', 'uplink = "wan2"\ngateway = "2001:db8:f002::1"'
    ),
    "another priority": lambda text: text.replace(
        'uplink = "wan2"', 'uplink = "wan2"\npriority = 7'
    ),
    "a check": lambda text: text.replace(
        'uplink = "wan2"', 'uplink = "wan2"\ncheck = "2001:db8:e002::1"'
    ),
    "another inside": lambda text: text.replace(
        "[border]\n", '[border]\ninside = ["2001:db8:77::/48"]\n'
    ),
    "another table": lambda text: text.replace("[border]\n", "[border]\ntable = 7000\n"),
    "other rules": lambda text: text.replace("[border]\n", "[border]\nrule_priority = 70\n"),
    "a provider before the others": lambda text: text.replace(
        "[[border.providers]]",
        '[[border.providers]]\nname = "new"\nprefixes = ["2001:db8:9::/48"]\n'
        "\n[[border.providers]]",
        1,
    ),
    "another name": lambda text: text.replace('"two"', '"second"'),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_no_reload_loses_a_packet(site: Site, change: Callable[[str], str]) -> None:
    """Plain packets of a host whose LAN and prefixes stay, by either provider."""
    text = site.config.read_text(encoding="utf-8")
    sources = [address(number, HOST) for number in (1, 2)]
    pings = [site.stay(HOST, f"ping -n -i0.001 -I {one} {TARGET}") for one in sources]
    assert change(text) != text
    for _ in range(RELOADS):
        site.reload(change(text))
        site.reload(text)
    for ping in pings:
        ping.end()
        answered = {int(one) for one in re.findall(r"icmp_seq=(\d+)", ping.output())}
        lost = set(range(1, max(answered))) - answered
        assert not lost, f"{len(lost)} of {max(answered)}"


COUNTED = """table ip6 seen {{
chain c {{ type filter hook prerouting priority 0; iif cust ip6 {what}; }}; }}"""


def test_no_reload_lets_a_refused_packet_pass(site: Site) -> None:
    """With another mark the rule that answers and the programs change one after the other."""
    text = site.config.read_text(encoding="utf-8")
    check = 'check = "2001:db8:e001::1"\ncheck_interval_s = 0.05'
    dead = text.replace('uplink = "wan1"', f'uplink = "wan1"\n{check}')
    site.type("isp1", f"nft '{COUNTED.format(what='daddr 2001:db8:e001::1 drop')}'")
    site.reload(dead)
    site.leaves_by("two", "two")
    kept = dead.replace("check_interval_s = 0.05", "check_interval_s = 3600")
    site.reload(kept)
    site.type("isp1", "nft delete table ip6 seen")
    site.leaves_by("two", "two")
    source = address(1, HOST)
    site.type("isp1", f"nft '{COUNTED.format(what=f'saddr {source} counter')}'")
    ping = site.stay(HOST, f"ping -n -i0.001 -I {source} {TARGET}")
    for _ in range(RELOADS):
        site.reload(CHANGES["another mark"](kept))
        site.reload(kept)
    ping.end()
    assert "packets 0 bytes 0" in site.type("isp1", "nft list table ip6 seen")
    site.type("isp1", "nft delete table ip6 seen")
    site.reload(text)
    site.leaves_by("one", "two")


def test_a_line_that_flaps_is_not_used_until_it_stays(site: Site) -> None:
    text = site.config.read_text(encoding="utf-8")
    site.reload(text.replace("hold_s = 0.2", "hold_s = 3600"))
    site.leaves_by("one", "two")
    for _ in range(5):
        site.set_line(1, "down")
        site.leaves_by("two", "two")
        site.set_line(1, "up")
        assert site.source_outside(HOST, address(1, HOST)) == address(2, HOST)
    site.reload(text)
    site.leaves_by("one", "two")
    assert site.source_outside(HOST, address(1, HOST)) == address(1, HOST)


def test_an_uplink_that_waits_is_used_while_no_other_works(site: Site) -> None:
    text = site.config.read_text(encoding="utf-8")
    site.reload(text.replace("hold_s = 0.2", "hold_s = 3600"))
    site.leaves_by("one", "two")
    site.set_line(1, "down")
    site.leaves_by("two", "two")
    site.set_line(1, "up")
    site.set_line(2, "down")
    site.leaves_by("one", "one")
    assert site.reaches(HOST, address(1, HOST))
    assert site.source_outside(HOST, address(2, HOST)) == address(1, HOST)
    assert [one["works"] for one in site.status()["providers"]] == [True, False]
    site.set_line(2, "up")
    site.wait("the other one waits", lambda: "long enough" in site.status()["providers"][1]["why"])
    site.leaves_by("one", "one")
    site.reload(text)
    site.leaves_by("one", "two")
