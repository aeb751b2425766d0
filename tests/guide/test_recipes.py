# SPDX-License-Identifier: MIT
"""The recipes, typed as they stand on two machines that the ten-minute guide has set up."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from noid.lab.topology import INGRESS_PRIORITY
from tests.guide.blocks import DOCS, blocks
from tests.guide.network import Network
from tests.guide.typing_in import CUT, heal, set_up
from tests.lab.conftest import lab_machine
from tests.packaging.machine import LIMIT_S
from tests.packaging.upgrades import said

__all__ = ["lab_machine"]
pytestmark = [
    pytest.mark.lab,
    pytest.mark.slow,
    pytest.mark.timeout(600),
]

ROUTER_1 = "2001:db8:1:a::1"
BY_PROVIDER_1 = "2001:db8:1:a::a"
BY_PROVIDER_2 = "2001:db8:2:a::a"
RECIPES = sorted(path.stem for path in (DOCS / "recipes").glob("*.md") if path.stem != "index")
COUNTED = "test $(wc -l </tmp/{}) -gt 3"
READY = {
    "rsync": ("b", "test -n \"$(find /srv/in -name '.big.*' -size +2000k)\""),
    **{
        word: ("a", COUNTED.format(word))
        for word in ("counted", "bridged", "tagged", "contained", "filtered")
    },
    "INSERT": (
        "a",
        "test $(runuser -u postgres -- psql -Atc 'SELECT count(*) FROM entries') -gt 3",
    ),
    "sn uas": ("b", "ss -Huln sport = :5060 | grep -q ."),
    "sipp -sf": ("a", "ss -Huan sport = :6000 | awk '{ exit !($2 > 0) }'"),  # voice came back
    "wireguard-go": ("ab", "wg show wg0"),
}
"""What a person sees in a terminal before typing in the next one."""
ENDS = ("rsync", "seq 30", "sipp -sf")
"""Words of the commands that end by themselves."""
BUS = "mkdir -p /run/dbus; exec dbus-daemon --system --nofork --nopidfile"
FIREWALLD = "exec firewalld --nofork --nopid"
VLAN = Path(__file__).with_name("vlan.py")
VLAN_THERE, STAND_IN = "usr/local/lib/vlan.py", "usr/local/sbin/ip"
KEY_EXCHANGE_OCTETS = 3000
"""What ssh sends before a command runs is more; neighbour discovery and noid send less."""
IP = """\
#!/bin/sh
case "$*" in
"link add link "*" type vlan id "*) exec /usr/bin/python3 {vlan} "$4" "$6" "${{10}}" ;;
esac
/usr/sbin/ip "$@" || exit
# A VLAN device goes down and up with its card.
[ "$1 $2 $3" != "link set eth0" ] || [ ! -e /sys/class/net/eth0.20 ] ||
    /usr/sbin/ip link set eth0.20 "$4"
"""
LOGIN = """\
ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_recipe
printf 'IdentityFile /root/.ssh/id_recipe\\nStrictHostKeyChecking accept-new\\n' >/root/.ssh/config
cat /root/.ssh/id_recipe.pub
"""


@pytest.fixture(scope="module")
def network(
    lab_machine: None, packages: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Network]:
    with Network(tmp_path_factory.mktemp("network"), packages) as network:
        set_up(network)
        allow_login(network)
        yield network


def allow_login(network: Network) -> None:
    """What the recipes expect: a may log in on b with a key."""
    for host in ("a", "b"):
        done = network.run(
            host, "rm -rf /root/.ssh && mkdir -m 700 /root/.ssh && mkdir -p /run/sshd"
        )
        assert done.returncode == 0, done.stderr
    key = network.run("a", LOGIN).stdout
    network.machines["b"].path("root/.ssh/authorized_keys").write_text(key)
    done = network.run("b", "chmod 600 /root/.ssh/authorized_keys && ssh-keygen -A")
    assert done.returncode == 0, done.stderr
    network.stay("b", "exec /usr/sbin/sshd -D -e")
    network.wait("a", "ssh b.example true")


def return_to_provider_1(network: Network) -> None:
    """Moves the conversations of a to provider 1: a pair that works is not left by itself.

    An earlier recipe has moved them to provider 2, or the change of the card, which a recipe begins
    with. Without this step, the cut would cut nothing that is in use.
    """
    network.wait("a", "ping -c 1 -W 1 b.example")  # so that there is a conversation
    card = f"$(ip -6 -o address show to {BY_PROVIDER_1} up | grep -v noid | cut -d' ' -f2)"
    network.wait("a", f"noid use {card}")
    network.machines["a"].until(lambda: locators_in_use(network) == {BY_PROVIDER_1})
    network.wait("a", "noid auto")


def locators_in_use(network: Network) -> set[str]:
    """From which locators of its own machine a sends."""
    contexts = json.loads(network.run("a", "noid contexts --json").stdout)
    return {one["local_locator"] for one in contexts}


@contextmanager
def firewalld(network: Network) -> Iterator[None]:
    """What the recipe about firewalld expects: both machines run it."""
    for host in ("a", "b"):
        network.stay(host, BUS)
        network.wait(host, "test -S /run/dbus/system_bus_socket")
        network.stay(host, FIREWALLD)
    for host in ("a", "b"):
        network.wait(host, "firewall-cmd --state")
    yield
    for command in (FIREWALLD, BUS):
        for process in network.started(command):
            process.terminate()
            process.wait(LIMIT_S)


@contextmanager
def vlan(network: Network) -> Iterator[None]:
    """What the recipe about VLANs expects: provider 1 sends to a in VLAN 20.

    On a kernel without VLAN devices a stand-in adds and removes the tags; vlan.py says how it
    differs from a VLAN device of the kernel.
    """
    probe = "ip link add link eth0 name probe type vlan id 9 && ip link delete probe"
    is_real = network.run("a", probe).returncode == 0
    if not is_real:
        print("this kernel has no VLAN devices (8021q): a stand-in is used")
        machine = network.machines["a"]
        machine.path(VLAN_THERE).write_bytes(VLAN.read_bytes())
        machine.path(STAND_IN).write_text(IP.format(vlan=f"/{VLAN_THERE}"))
        machine.path(STAND_IN).chmod(0o755)
    rules = (
        f"iif custa.20 from 2001:db8:1::/48 lookup main pref {INGRESS_PRIORITY}",
        f"iif custa.20 blackhole pref {INGRESS_PRIORITY + 1}",
    )

    def at_the_provider(*words: str) -> str:
        return said(*network.command("isp1", words))

    if is_real:
        at_the_provider("sh", "-c", "ip link add link custa name custa.20 type vlan id 20")
    else:
        at_the_provider(sys.executable, str(VLAN), "custa", "custa.20", "20")
    for line in (
        "link set custa.20 up",
        f"address del {ROUTER_1}/64 dev custa",
        f"address add {ROUTER_1}/64 dev custa.20 nodad",
        *(f"-6 rule add {rule}" for rule in rules),
    ):
        at_the_provider("ip", *line.split())
    yield
    received = at_the_provider("cat", "/sys/class/net/custa.20/statistics/rx_bytes")
    assert int(received) > KEY_EXCHANGE_OCTETS, "the conversation was not in the VLAN"
    for line in (
        "link delete custa.20",
        f"address add {ROUTER_1}/64 dev custa nodad",
        *(f"-6 rule del {rule}" for rule in rules),
    ):
        at_the_provider("ip", *line.split())
    network.machines["a"].path(STAND_IN).unlink(missing_ok=True)


@contextmanager
def nothing(network: Network) -> Iterator[None]:
    """What most recipes expect."""
    yield


PREPARED = {"firewalld": firewalld, "vlan": vlan}


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_command_of_a_recipe_works_and_survives_a_cut(recipe: str, network: Network) -> None:
    try:
        with PREPARED.get(recipe, nothing)(network):
            type_recipe(recipe, network)
    finally:
        heal(network)


def type_recipe(recipe: str, network: Network) -> None:
    """Types the blocks of a recipe in order."""
    begun = len(network.staying)
    was_cut = False
    for block in blocks(f"recipes/{recipe}.md"):
        if was_cut and not block.stays:
            wait_for_the_end(network, begun)
        elif block.stays and not was_cut:
            return_to_provider_1(network)
        network.type(block)
        for word, (hosts, seen) in READY.items():
            if block.stays and word in block.text:
                for host in hosts:
                    network.wait(host, seen)
        if CUT in block.text:
            was_cut = True
            network.machines["a"].until(lambda: locators_in_use(network) == {BY_PROVIDER_2})
    assert was_cut, "a recipe that nothing is cut in shows nothing"
    wait_for_the_end(network, begun)


def wait_for_the_end(network: Network, begun: int) -> None:
    """Waits for programs that end by themselves; each has to have succeeded."""
    for text, process in network.staying[begun:]:
        if any(word in text for word in ENDS):
            assert process.wait(LIMIT_S) == 0, text


def test_the_index_names_every_recipe() -> None:
    page = (DOCS / "recipes" / "index.md").read_text(encoding="utf-8")
    assert [one for one in RECIPES if f"({one}.md)" not in page] == []
