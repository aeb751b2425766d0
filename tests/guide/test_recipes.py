# SPDX-License-Identifier: MIT
"""The recipes, typed as they stand on two machines that the ten-minute guide has set up."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.guide.blocks import DOCS, blocks
from tests.guide.network import Network
from tests.guide.typing_in import CUT, heal, set_up
from tests.lab.conftest import lab_machine
from tests.packaging.machine import LIMIT_S

__all__ = ["lab_machine"]
pytestmark = [
    pytest.mark.lab,
    pytest.mark.slow,
    pytest.mark.alone,  # over an overlay of this machine, below which nothing may change
    pytest.mark.timeout(600),
]

BY_PROVIDER_2 = "2001:db8:2:a::a"
RECIPES = sorted(path.stem for path in (DOCS / "recipes").glob("*.md") if path.stem != "index")
READY = {
    "rsync": ("b", "test -n \"$(find /srv/in -name '.big.*' -size +2000k)\""),
    "seq 30": ("a", "test $(wc -l </tmp/counted) -gt 3"),
    "wireguard-go": ("a", "ip link show wg0"),
}
"""What a person sees in a terminal before typing in the next one."""
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


def locators_in_use(network: Network) -> set[str]:
    """From which locators of its own machine a sends."""
    contexts = json.loads(network.run("a", "noid contexts --json").stdout)
    return {one["local_locator"] for one in contexts}


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_command_of_a_recipe_works_and_survives_a_cut(recipe: str, network: Network) -> None:
    begun = len(network.staying)
    was_cut = False
    for block in blocks(f"recipes/{recipe}.md"):
        if was_cut and not block.stays:
            wait_for_the_end(network, begun)
        network.type(block)
        for word, (host, seen) in READY.items():
            if block.stays and word in block.text:
                network.wait(host, seen)
        if CUT in block.text:
            was_cut = True
            network.machines["a"].until(lambda: locators_in_use(network) == {BY_PROVIDER_2})
    assert was_cut, "a recipe that nothing is cut in shows nothing"
    heal(network)


def wait_for_the_end(network: Network, begun: int) -> None:
    """Waits for programs that end by themselves; each has to have succeeded."""
    for text, process in network.staying[begun:]:
        if "rsync" in text or "seq 30" in text:
            assert process.wait(LIMIT_S) == 0, text


def test_the_index_names_every_recipe() -> None:
    page = (DOCS / "recipes" / "index.md").read_text(encoding="utf-8")
    assert [one for one in RECIPES if f"({one}.md)" not in page] == []
