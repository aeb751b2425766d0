# SPDX-License-Identifier: MIT
"""The networks with borders, as data, and the faults of their lines."""

import ipaddress
import itertools
import json
import secrets
import subprocess
import sys

import pytest

from noid.border_config import parse_border_config
from noid.lab import faults, inventory
from noid.lab.configuration import border_toml
from noid.lab.faults import Down, Fault
from noid.lab.inventory import directory_of
from noid.lab.lab import Lab
from noid.lab.sites import ROUTERS, SITES, SITES_TEXTS, Sites, sites_plan
from noid.lab.topology import HOSTS

NAME = f"sites-{secrets.token_hex(4)}"
REACHES = "until ping -c1 -W1 b.example; do sleep 0.1; done"


@pytest.mark.parametrize("sites", SITES)
def test_every_gateway_is_a_neighbour(sites: Sites) -> None:
    plan = sites_plan(sites)
    for route in plan.routes:
        prefixes = [
            ipaddress.IPv6Interface(address.text).network
            for address in plan.addresses
            if address.node == route.node and address.interface in plan.interfaces(route.node)
        ]
        assert any(ipaddress.IPv6Address(route.gateway) in prefix for prefix in prefixes), route


@pytest.mark.parametrize("sites", SITES)
def test_every_address_is_on_exactly_one_existing_interface(sites: Sites) -> None:
    plan = sites_plan(sites)
    texts = [address.text for address in plan.addresses]
    assert len(texts) == len(set(texts))
    for address in plan.addresses:
        assert address.interface in plan.interfaces(address.node), address
    assert set(SITES_TEXTS) == set(SITES)


@pytest.mark.parametrize(("sites", "host", "number"), list(itertools.product(SITES, HOSTS, (1, 2))))
def test_the_loss_of_a_line_hits_the_border_that_has_it(
    sites: Sites, host: str, number: int
) -> None:
    plan = sites_plan(sites)
    owners = [one.node for one in ROUTERS[sites] if one.host == host and number in one.numbers]
    effect = faults.effect(plan, Fault.ADMIN, number, host)
    assert isinstance(effect, Down)
    assert effect.node == (owners[0] if owners else host)
    assert effect.line == f"up{number}"
    carrier = faults.effect(plan, Fault.CARRIER, number, host)
    assert isinstance(carrier, Down)
    assert (carrier.node, carrier.line) == (f"isp{number}", f"cust{host}")


@pytest.mark.parametrize("sites", SITES)
def test_every_border_has_a_configuration(sites: Sites) -> None:
    for router in ROUTERS[sites]:
        config = parse_border_config(border_toml(router, directory_of(NAME)))
        behind = [config.is_behind_lan(one) for one in config.border.providers]
        assert behind == [number not in router.numbers for number in (1, 2)]


def noid_lab(*words: str) -> str:
    """What a command of noid lab says."""
    command = [sys.executable, "-m", "noid", "lab", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{words}: {done.stdout} {done.stderr}"
    return done.stdout


def test_a_lab_with_sites_is_built_and_taken_up_by_its_name(lab_machine: None) -> None:
    """As ``noid lab up --sites`` and the commands after it do it."""
    try:
        noid_lab("up", "--name", NAME, "--sites", "both", "--plane", "bpf")
        assert inventory.survey(NAME)["sites"] == "both"
        assert Lab.attach(NAME).plan == sites_plan("both")
        status = [sys.executable, "-m", "noid", "border", "status", "--json"]
        for node in ("border", "borderb"):
            said = json.loads(noid_lab("exec", "--name", NAME, node, "--", *status))
            assert [row["works"] for row in said["providers"]] == [True, True]
        for how in ("carrier", "admin"):
            noid_lab("cut", "--name", NAME, "1", "--how", how)
            noid_lab("exec", "--name", NAME, "a", "--", "timeout", "60", "sh", "-c", REACHES)
            noid_lab("heal", "--name", NAME, "1")
    finally:
        noid_lab("down", "--name", NAME)


def test_a_variant_and_sites_are_two_networks(lab_machine: None) -> None:
    words = ["lab", "up", "--name", NAME, "--sites", "--variant", "vlan"]
    done = subprocess.run(
        [sys.executable, "-m", "noid", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "choose one of them" in done.stderr
