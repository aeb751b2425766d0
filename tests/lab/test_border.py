# SPDX-License-Identifier: MIT
"""The border of a site: connections go on when an uplink fails, and without their daemon."""

import json
import re
import signal
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from noid.control.client import answers
from noid.counters import BorderCounter
from noid.lab import inventory, namespaces
from noid.lab.configuration import METRICS
from noid.lab.sites import LAN_DEVICE
from noid.lab.topology import BORDER, NAME_SERVER
from tests.browser import browsing
from tests.lab.border_lab import FIRST, NOID, BorderLab, bordered
from tests.lab.conversations import (
    PATIENCE_S,
    tcp,
)
from tests.lab.test_rewriting import send_rewritable
from tests.lab.test_web import page_of

SECOND, PEER = "2001:db8:2:a::a", "2001:db8:1:b::b"
CONNECT = """
import errno, socket, sys
with socket.socket(socket.AF_INET6) as one:
    one.bind((sys.argv[1], 0))
    one.settimeout(20)
    print(errno.errorcode.get(one.connect_ex((sys.argv[2], 9)), "timeout"))
"""
TABLE = 0x6D3700
"""The routing table."""


@pytest.fixture(scope="module")
def site(lab_machine: None) -> Iterator[BorderLab]:
    with bordered() as made:
        yield made


def test_a_connection_survives_the_loss_of_carrier_of_its_uplink(site: BorderLab) -> None:
    with tcp(site.lab, "a") as conversation:
        conversation.echoes()
        with site.carrier_lost(1):
            conversation.echoes()
            site.wait_leaves_by("isp2", "isp2")
            conversation.echoes()
            # Where the border is slow, the host has changed its source: here is one that has not.
            before = site.count(BorderCounter.PACKETS_REWRITTEN)
            namespaces.inside(namespaces.namespace(site.lab.name, "a"), send_rewritable)
            site.lab.wait_for(
                "the border rewrites",
                lambda: site.count(BorderCounter.PACKETS_REWRITTEN) > before,
                PATIENCE_S,
            )
        conversation.echoes()


def test_the_operator_moves_what_may_be_rewritten_and_back(site: BorderLab) -> None:
    with tcp(site.lab, "a") as conversation:
        conversation.echoes()
        with site.moved() as name:
            assert site.leaves_by() == [name, name]
            before = site.count(BorderCounter.PACKETS_REWRITTEN)
            conversation.echoes()
            assert site.count(BorderCounter.PACKETS_REWRITTEN) > before
            for source in (FIRST, SECOND):
                plain = site.lab.run("a", ["ping", "-c1", "-W20", "-I", source, "2001:db8:c::53"])
                assert plain.returncode == 0, "plain packets keep their uplink"
        assert site.leaves_by() == ["isp1", "isp2"]
        conversation.echoes()


def test_a_sender_of_plain_packets_hears_of_a_dead_uplink(site: BorderLab) -> None:
    before = site.count(BorderCounter.REFUSED_NO_UPLINK)
    with site.carrier_lost(1):
        site.wait_leaves_by("isp2", "isp2")
        done = site.lab.run("a", [sys.executable, "-c", CONNECT, FIRST, "2001:db8:c::53"])
        assert done.stdout == "EACCES\n", "as Linux takes code 5; code 0 is ENETUNREACH"
        alive = site.lab.run("a", ["ping", "-c1", "-W20", "-I", SECOND, "2001:db8:c::53"])
        assert alive.returncode == 0
        said = site.snmp("Icmp6OutDestUnreachs")
        site.lab.run("a", ["ping", "-f", "-c", "300", "-W1", "-I", FIRST, "2001:db8:c::53"])
        refused = site.count(BorderCounter.REFUSED_NO_UPLINK) - before
        assert refused > 200
        said = site.snmp("Icmp6OutDestUnreachs") - said
        assert said < refused / 2, "the kernel limits the rate"


@pytest.mark.parametrize("on", [True, False])
def test_bulk_data_is_rewritten_with_and_without_super_packets(site: BorderLab, on: bool) -> None:
    lab = site.lab
    lab.set_features("a", ["tx-tcp6-segmentation"], on=on)
    try:
        with site.moved():
            before = site.count(BorderCounter.PACKETS_REWRITTEN)
            sent = lab.run("a", ["iperf3", "-c", PEER, "-B", FIRST, "-n", "20M", "-J"])
    finally:
        lab.set_features("a", ["tx-tcp6-segmentation"], on=True)
    assert json.loads(sent.stdout)["end"]["sum_received"]["bytes"] > 16 << 20
    # A super-packet has 64 KiB at most; without them, each packet has a segment.
    octets_each = 65536 if on else 1500
    assert site.count(BorderCounter.PACKETS_REWRITTEN) - before > (16 << 20) // octets_each


def test_spoofed_sources_neither_leave_nor_come_in(site: BorderLab) -> None:
    lab = site.lab
    for source in ("2001:db8:99::1", "fd00::1"):
        lab.run("a", ["ip", "-6", "addr", "add", f"{source}/128", "dev", "up0", "nodad"])
        lab.run("a", ["ip", "-6", "rule", "add", "from", source, "lookup", "101"])
        site.drops(BorderCounter.DROPPED_SOURCE_OUTSIDE, "a", source, "2001:db8:c::53")
        lab.run("a", ["ip", "-6", "rule", "del", "from", source])
        lab.run("a", ["ip", "-6", "addr", "del", f"{source}/128", "dev", "up0"])
    inside = "2001:db8:2:a::66"
    lab.run("isp1", ["ip", "-6", "addr", "add", f"{inside}/128", "dev", "lo", "nodad"])
    site.drops(BorderCounter.DROPPED_SOURCE_OF_SITE, "isp1", inside, FIRST)
    lab.run("isp1", ["ip", "-6", "addr", "del", f"{inside}/128", "dev", "lo"])


def test_a_gateway_that_is_silent_and_a_route_that_is_gone_are_failures(site: BorderLab) -> None:
    lab = site.lab
    cut = "type filter hook input priority 0; policy accept; icmpv6 type nd-neighbor-solicit drop;"
    with tcp(lab, "a") as conversation:
        conversation.echoes()
        lab.run("isp1", ["nft", f"table ip6 mute {{ chain c {{ {cut} }}; }}"])
        lab.run(BORDER, ["ip", "-6", "neigh", "flush", "dev", "up1"])
        site.wait_leaves_by("isp2", "isp2")
        assert site.status()["providers"][0]["why"] == "the gateway does not answer"
        site.reload_keeps("isp2", "isp2")
        conversation.echoes()
        lab.run("isp1", ["nft", "delete", "table", "ip6", "mute"])
        site.wait_leaves_by("isp1", "isp2")
        route = ["default", "via", "2001:db8:1:fa::1", "metric", "100"]
        lab.run(BORDER, ["ip", "-6", "route", "del", *route])
        site.wait_leaves_by("isp2", "isp2")
        assert site.status()["providers"][0]["why"] == "no default route"
        conversation.echoes()
        lab.run(BORDER, ["ip", "-6", "route", "add", *route])
        site.wait_leaves_by("isp1", "isp2")


@pytest.mark.parametrize("target", ["2001:db8:c::53", "gateway"])
def test_a_target_that_is_silent_by_an_uplink_is_a_failure(site: BorderLab, target: str) -> None:
    text = site.config.read_text(encoding="utf-8")
    keys = f'name = "isp1"\ncheck = "{target}"\ncheck_interval_s = 0.05\ncheck_up = 2\n'
    silence = "type filter hook prerouting priority 0; policy accept;"
    rule = "iif custa icmpv6 type echo-request drop"
    with tcp(site.lab, "a") as conversation:
        conversation.echoes()
        site.config.write_text(text.replace('name = "isp1"\n', keys))
        site.run("reload", "--socket", str(site.socket))
        site.lab.wait_for("it has reloaded", lambda: answers(site.socket), PATIENCE_S)
        # With a carrier, a route, and a gateway that answers its neighbours.
        site.lab.run("isp1", ["nft", f"table ip6 mute {{ chain c {{ {silence} {rule}; }}; }}"])
        site.wait_leaves_by("isp2", "isp2")
        assert site.status()["providers"][0]["why"].endswith(" does not answer")
        site.reload_keeps("isp2", "isp2")
        conversation.echoes()
        site.lab.run("isp1", ["nft", "delete", "table", "ip6", "mute"])
        site.wait_leaves_by("isp1", "isp2")
        site.config.write_text(text)
        site.run("reload", "--socket", str(site.socket))
        conversation.echoes()


BFD_KEYS = 'name = "isp1"\nbfd = true\nbfd_interval_s = 0.02\n'
PEER_KEYS = f"""bfd_peer = "{NAME_SERVER}"
bfd_authentication = "meticulous-keyed-sha1"
bfd_key = "secret"
bfd_key_id = 7
"""
BIRD = """
log stderr all;
router id 192.0.2.1;
protocol device {{}}
protocol bfd {{
  {}
}}
"""
ONE_HOP = """interface "custa" { interval 20 ms; multiplier 3; };
  neighbor 2001:db8:1:fa::2 dev "custa" local 2001:db8:1:fa::1;"""
SEVERAL_HOPS = f"""multihop {{ interval 20 ms; multiplier 3;
    authentication meticulous keyed sha1; password "secret" {{ id 7; }}; }};
  neighbor 2001:db8:1:fa::2 local {NAME_SERVER} multihop on;"""


@pytest.mark.parametrize(
    ("node", "session", "keys", "name"),
    [
        ("isp1", ONE_HOP, BFD_KEYS, "the gateway"),
        ("dns", SEVERAL_HOPS, BFD_KEYS + PEER_KEYS, NAME_SERVER),
    ],
    ids=["one hop", "several hops"],
)
def test_bfd_with_bird_tells_a_router_that_is_silent(
    site: BorderLab, node: str, session: str, keys: str, name: str
) -> None:
    lab = site.lab
    text = site.config.read_text(encoding="utf-8")
    (lab.directory / "bird.conf").write_text(BIRD.format(session), encoding="utf-8")
    files = ["-c", "bird.conf", "-s", "bird.ctl", "-P", "bird.pid"]
    words = [one if one.startswith("-") else str(lab.directory / one) for one in files]
    bird = lab.spawn(node, ["/usr/sbin/bird", "-f", *words])

    def sessions() -> str:
        control = str(lab.directory / "bird.ctl")
        return lab.run(node, ["/usr/sbin/birdc", "-s", control, "show bfd sessions"]).stdout

    with tcp(lab, "a") as conversation:
        conversation.echoes()
        site.config.write_text(text.replace('name = "isp1"\n', keys))
        site.run("reload", "--socket", str(site.socket))
        lab.wait_for("the session is up", lambda: " Up " in sessions(), PATIENCE_S)
        lab.wait_for("at its intervals", lambda: "0.020" in sessions(), PATIENCE_S)
        site.wait_leaves_by("isp1", "isp2")
        bird.popen.send_signal(signal.SIGSTOP)
        site.wait_leaves_by("isp2", "isp2")
        assert site.status()["providers"][0]["why"] == f"BFD with {name} is down"
        site.reload_keeps("isp2", "isp2")
        assert site.status()["providers"][0]["why"] == f"BFD with {name} is down"
        conversation.echoes()
        bird.popen.send_signal(signal.SIGCONT)
        site.wait_leaves_by("isp1", "isp2")
        site.config.write_text(text)
        site.run("reload", "--socket", str(site.socket))
        conversation.echoes()
    bird.end()


def test_a_reload_applies_other_prefixes(site: BorderLab) -> None:
    text = site.config.read_text(encoding="utf-8")
    with tcp(site.lab, "a") as conversation:
        conversation.echoes()
        site.config.write_text(text.replace("2001:db8:2:a::/64", "2001:db8:2:e::/64"))
        site.run("reload", "--socket", str(site.socket))
        site.lab.wait_for(
            "the other prefix", lambda: "2001:db8:2:e::/64" in site.prefixes(), PATIENCE_S
        )
        shown = site.lab.run(BORDER, ["ip", "-6", "route", "show", "table", str(TABLE)]).stdout
        assert "default from 2001:db8:2:e::/64 via" in shown
        assert "2001:db8:2:a::" not in shown
        conversation.echoes()
        site.config.write_text("[border]\nlans = []\n")
        refused = site.lab.run(BORDER, [*NOID, "reload", "--socket", str(site.socket)])
        assert refused.returncode == 1
        assert "border.providers: is missing" in refused.stdout
        site.config.write_text(text)
        site.process.popen.send_signal(signal.SIGHUP)
        site.lab.wait_for(
            "the prefix again", lambda: "2001:db8:2:a::/64" in site.prefixes(), PATIENCE_S
        )
        conversation.echoes()


def test_rewriting_continues_without_the_daemon_until_the_next_start(site: BorderLab) -> None:
    with tcp(site.lab, "a") as conversation, site.moved() as name:
        conversation.echoes()
        site.process.popen.send_signal(signal.SIGKILL)
        site.process.popen.wait()
        # No packet can leave by the provider of its source: what comes back has been rewritten.
        (source,) = {"isp1", "isp2"} - {name}
        hook = "type filter hook prerouting priority 0; policy accept;"
        rule = "iif custa meta l4proto 224-231 drop"
        site.lab.run(source, ["nft", f"table ip6 cut {{ chain c {{ {hook} {rule}; }}; }}"])
        for _ in range(5):
            conversation.echoes()
        site.start()
        assert site.leaves_by() == [name, name], "the operator's choice is kept"
        conversation.echoes()
        site.lab.run(source, ["nft", "delete", "table", "ip6", "cut"])


TAGGED_PACKETS = 10
SEND_TAGGED = f"""\
import socket, sys
link, source, to = sys.argv[1:]
addresses = b"".join(socket.inet_pton(socket.AF_INET6, one) for one in (source, to))
packet = bytes.fromhex("60000000" "0000" "3bff") + addresses
frame = bytes.fromhex(link.replace(":", "")) + bytes([2, 0, 0, 0, 0, 9])
frame += bytes.fromhex("81000000" "81000000" "86dd") + packet
sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
sender.bind(("custa", 0))
for _ in range({TAGGED_PACKETS}):
    sender.send(frame)
"""


def test_two_priority_tags_hide_no_source_of_the_site(site: BorderLab) -> None:
    lab = site.lab
    dropped = BorderCounter.DROPPED_SOURCE_OF_SITE.identifier
    before = site.status()["counters"][dropped]
    link = lab.run(BORDER, ["cat", "/sys/class/net/up1/address"]).stdout.strip()
    words = [sys.executable, "-c", SEND_TAGGED, link, "2001:db8:2:a::66", "2001:db8:1:a::a"]
    done = lab.run("isp1", words)
    assert done.returncode == 0, done.stderr
    lab.wait_for(
        "each is dropped",
        lambda: site.status()["counters"][dropped] == before + TAGGED_PACKETS,
        PATIENCE_S,
    )


def test_what_others_remove_is_restored(site: BorderLab) -> None:
    lab = site.lab
    restored = site.status()["restored"]
    assert lab.run(BORDER, ["nft", "flush", "ruleset"]).returncode == 0
    assert lab.run(BORDER, ["ip", "-6", "rule", "del", "priority", "51"]).returncode == 0
    assert lab.run(BORDER, ["ip", "-6", "route", "flush", "table", str(TABLE)]).returncode == 0
    pins = lab.directory / inventory.PINS / BORDER
    for pin in pins.glob("link-*-ingress"):
        pin.unlink()

    def shown(*words: str) -> str:
        return lab.run(BORDER, words).stdout

    lab.wait_for("counted", lambda: site.status()["restored"] >= restored + 2, PATIENCE_S)
    lab.wait_for("nft", lambda: "noid_border" in shown("nft", "list", "ruleset"), PATIENCE_S)
    lab.wait_for("rule", lambda: shown("ip", "-6", "rule").count("\n51:") == 1, PATIENCE_S)
    table = ("ip", "-6", "route", "show", "table", str(TABLE))
    lab.wait_for("routes", lambda: shown(*table).count("default from ") == 4, PATIENCE_S)
    lab.wait_for("pinned", lambda: len(list(pins.glob("link-*-ingress"))) == 3, PATIENCE_S)


def test_commands_say_what_to_do(site: BorderLab, tmp_path: Path) -> None:
    said = site.run("status", "--socket", str(site.socket))
    assert "provider isp1 on up1 by 2001:db8:1:fa::1: works" in said
    used = site.run("use", "auto", "--json", "--socket", str(site.socket))
    assert json.loads(used)["use"] == "auto"
    unknown = site.lab.run(BORDER, [*NOID, "use", "isp3", "--socket", str(site.socket)])
    assert unknown.returncode == 1
    assert "the providers are isp1, isp2" in unknown.stderr
    nowhere = site.lab.run(BORDER, [*NOID, "status", "--socket", str(tmp_path / "no.sock")])
    assert "noid border run --config" in nowhere.stderr
    running = site.lab.run(BORDER, [*NOID, "down", "--config", str(site.config)])
    assert "stop it first" in running.stderr


def test_the_page_shows_providers_switches_and_prefixes_live(site: BorderLab) -> None:
    def card(state: str) -> str:
        return f'document.querySelector(\'[data-uplink="isp1"][data-state="{state}"]\')'

    moved = "document.querySelector('#prefixes [data-rewritten=\"isp2\"]')"
    with page_of(site.socket) as url, browsing() as browser:
        browser.open(url)
        browser.wait_for(card("up"))
        browser.wait_for("document.querySelectorAll('#prefixes tr').length === 2")
        assert browser.value("document.getElementById('host-contexts').hidden") is True
        with site.carrier_lost(1):
            browser.wait_for(f"{card('down')}?.textContent.includes('no carrier')")
            browser.wait_for(moved)
            browser.wait_for("document.querySelector('#events li.switch')")
            with tcp(site.lab, "a") as conversation:
                conversation.echoes()
            counts = "document.getElementById('counts').textContent"
            browser.wait_for(f"/packets rewritten[1-9]/.test({counts})")
            browser.look(width=390, height=760)
            assert browser.value("document.documentElement.scrollWidth <= innerWidth") is True
        browser.wait_for(card("up"))
        browser.wait_for(f"!{moved}")
        browser.wait_for(f"{card('up')}?.querySelector('svg rect.down')")  # of the last hour
        assert not browser.complaints
    assert "provider isp1: down -> up" in site.run("history", "--socket", str(site.socket))


def test_metrics_are_served_on_the_router(site: BorderLab) -> None:
    def fetched() -> str:
        with urllib.request.urlopen(f"http://{METRICS}/metrics", timeout=20) as answer:
            text: str = answer.read().decode()
            return text

    text = namespaces.inside(namespaces.namespace(site.lab.name, BORDER), fetched)
    for name in ("isp1", "isp2"):
        uplink = f"up{name[-1]}"
        line = f'noid_border_provider_works{{provider="{name}",uplink="{uplink}"}} 1.0'
        assert line in text, text
    forwarded = site.count(BorderCounter.PACKETS_FORWARDED)
    (found,) = re.findall(r"^noid_border_packets_forwarded_total ([0-9.e+]+)$", text, re.M)
    assert 0 < float(found) <= forwarded


def test_down_leaves_a_plain_router(site: BorderLab) -> None:
    site.process.end()
    assert json.loads(site.run("down", "--json", "--config", str(site.config)))["removed"]
    assert "nothing to remove" in site.run("down", "--config", str(site.config))
    assert "noid_border" not in site.lab.run(BORDER, ["nft", "list", "ruleset"]).stdout
    assert "\n51:" not in site.lab.run(BORDER, ["ip", "-6", "rule"]).stdout
    assert not site.lab.run(BORDER, ["ip", "-6", "route", "show", "table", str(TABLE)]).stdout
    assert LAN_DEVICE in site.lab.run(BORDER, ["ip", "link"]).stdout
    with tcp(site.lab, "a") as conversation:
        conversation.echoes()
    site.start()
