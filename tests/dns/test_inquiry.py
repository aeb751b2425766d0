# SPDX-License-Identifier: MIT
"""``noid zone``, ``noid lookup``; §3.1, §7.13 and §16.2 of the draft in front of Unbound."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from noid import config_places
from noid.cli.main import main
from noid.dns.records import reverse_name
from noid.dns.zone import forward_records, reverse_records
from noid.lab.resolution import Resolution, knowing, serving
from noid.locators import parse_locator
from tests.dns.conftest import NOBODY, locators
from tests.namespaces import in_network_namespace, ip
from tests.test_json import check

TOP = "$TTL 300\n@ SOA ns.peers.test. root.peers.test. 1 3600 600 86400 120\n@ NS ns.peers.test.\n"
REVERSE = "8.b.d.0.1.0.0.2.ip6.arpa"
B = locators("2001:db8:1:b::b", "2001:db8:2:b::b")
X = locators("2001:db8:1:b::b", "2001:db8:9::1")
HALF = locators("2001:db8:1:c::c", "2001:db8:2:c::c")
MANY = locators("2001:db8:1:d::d", "2001:db8:2:d::d")
DELEGATED = locators("2001:db8:5::e", "2001:db8:2:e::e")
CUSTOMER = locators("2001:db8:6::e", "2001:db8:6:1::e")
CUSTOMER_ZONE = f"6.0.0.0.{REVERSE}"
CUSTOMER_SERVER = "2001:db8:6::53"


def pointer(address: str, data: str) -> str:
    return f"{reverse_name(parse_locator(address))}. {data}\n"


def zone_lines() -> tuple[str, str, str]:
    """The forward zone, the reverse zone, and a zone that a part of the reverse is delegated to."""
    forward, reverse = TOP + "ns AAAA ::1\n", TOP
    for name, these in {"b": B, "x": X, "half": HALF, "many": MANY, "far": DELEGATED}.items():
        records = forward_records(f"{name}.peers.test", these, 65286)
        forward += "".join(record.line(300) + "\n" for record in records)
    for name, these in {"b": B, "x": X[1:], "half": HALF[:1], "many": MANY}.items():
        records = reverse_records(f"{name}.peers.test", these)
        reverse += "".join(record.line(300) + "\n" for record in records)
    forward += 'www CNAME b\n_m6.old TXT "v=m6"\nold AAAA 2001:db8:1:f::f\n'
    reverse += pointer("2001:db8:1:d::d", "PTR www.elsewhere.test.")
    # A part of the reverse tree that its holder has delegated by aliases [RFC 2317].
    reverse += pointer("2001:db8:5::e", "CNAME e.part.test.")
    reverse += pointer("2001:db8:2:e::e", "CNAME e.part.test.")
    return forward, reverse, TOP + "e PTR far.peers.test.\n"


@pytest.fixture(scope="module")
def resolution(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Resolution]:
    forward, reverse, part = zone_lines()
    zones = {"peers.test": forward, REVERSE: reverse, "part.test": part}
    with serving(tmp_path_factory.mktemp("peers"), zones) as places:
        yield places


@pytest.mark.lab
@pytest.mark.parametrize("peer", ["customer.peers.test", "2001:db8:6::e"])
def test_a_part_of_the_reverse_tree_may_be_another_servers(
    peer: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The provider's zone delegates the customer's prefix; the customer has aliases in it."""
    forward = TOP + f"ns AAAA ::1\nns.customer AAAA {CUSTOMER_SERVER}\n"
    for record in forward_records("customer.peers.test", CUSTOMER, 65286):
        forward += record.line(300) + "\n"
    provider = TOP + f"{CUSTOMER_ZONE}. NS ns.customer.peers.test.\n"
    customer = TOP.replace("NS ns.peers", "NS ns.customer.peers")
    customer += pointer("2001:db8:6::e", "PTR customer.peers.test.")
    customer += pointer("2001:db8:6:1::e", f"CNAME e.aliases.{CUSTOMER_ZONE}.")
    customer += "e.aliases PTR customer.peers.test.\n"

    def scenario() -> tuple[int, Any]:
        ip("link set lo up")
        ip(f"address add {CUSTOMER_SERVER}/128 dev lo nodad")
        place = CUSTOMER_SERVER, 53
        for name in ("provider", "customer"):
            (tmp_path / name).mkdir()
        with (
            knowing(tmp_path / "customer", {CUSTOMER_ZONE: customer}, place),
            serving(tmp_path / "provider", {"peers.test": forward, REVERSE: provider}) as places,
        ):
            return looked_up(places, peer, capsys)

    code, found = in_network_namespace(scenario)
    assert (code, found["name"]) == (0, "customer.peers.test"), found["steps"]
    assert set(found["verified"]) == {"2001:db8:6::e", "2001:db8:6:1::e"}


def looked_up(
    resolution: Resolution, peer: str, capsys: pytest.CaptureFixture[str]
) -> tuple[int, Any]:
    address, port = resolution.resolver
    code = main(["lookup", peer, "--resolver", address, "--port", str(port), "--json"])
    found = json.loads(capsys.readouterr().out)
    check("lookup", found)
    for one in found["steps"]:
        check("step", one)
    return code, found


@pytest.mark.parametrize(
    ("name", "remote", "verified"),
    [
        ("b", 2, 2),
        ("many", 2, 2),
        ("far", 2, 2),
        ("half", 1, 1),
    ],
)
def test_an_initiator_accepts_what_forward_and_reverse_dns_confirm(
    resolution: Resolution,
    name: str,
    remote: int,
    verified: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One of them, half, has a locator without reverse record."""
    code, found = looked_up(resolution, f"{name}.peers.test", capsys)
    assert code == 0
    assert found["speaks_m6"]
    assert (len(found["remote"]), len(found["verified"])) == (remote, verified)


def test_a_name_that_lists_anothers_address_does_not_get_its_traffic(
    resolution: Resolution, capsys: pytest.CaptureFixture[str]
) -> None:
    _, found = looked_up(resolution, "x.peers.test", capsys)
    if found["aid"] == "2001:db8:1:b::b":
        assert (found["name"], "2001:db8:9::1" in found["verified"]) == ("b.peers.test", False)
    else:
        assert found["verified"] == ["2001:db8:9::1"]


@pytest.mark.parametrize(
    ("address", "name", "remote"),
    [
        ("2001:db8:1:b::b", "b.peers.test", 2),
        ("2001:db8:1:d::d", "many.peers.test", 2),
        ("2001:db8:5::e", "far.peers.test", 2),
        ("2001:db8:1:c::c", "half.peers.test", 1),
        ("2001:db8:7::7", "", 1),
    ],
)
def test_a_responder_goes_from_the_address_to_the_name_and_back(
    resolution: Resolution,
    address: str,
    name: str,
    remote: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Through aliases in the reverse tree, and with several names of which one is the peer's."""
    _, found = looked_up(resolution, address, capsys)
    assert found["name"] == name, found["steps"]
    assert len(found["remote"]) == remote


def test_the_lookup_reads_as_steps_and_a_verdict(
    resolution: Resolution, capsys: pytest.CaptureFixture[str]
) -> None:
    address, port = resolution.resolver
    assert main(["lookup", "b.peers.test", "--resolver", address, "--port", str(port)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "AAAA  b.peers.test"
    assert lines[-1] == "speaks M6, 2 of 2 locators verified"
    assert main(["lookup", "old.peers.test", "--resolver", address, "--port", str(port)]) == 1
    assert capsys.readouterr().out.endswith("no locator is verified: only the AID is used\n")
    assert main(["lookup", "gone.peers.test", "--resolver", address, "--port", str(port)]) == 1
    assert capsys.readouterr().out.endswith("no address\n")
    assert main(["lookup", "192.0.2.1", "--resolver", address, "--port", str(port)]) == 1
    assert "'192.0.2.1' is not an IPv6 address" in capsys.readouterr().err


def test_a_lookup_without_an_answer_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lookup", "b.peers.test", "--resolver", NOBODY[0], "--port", str(NOBODY[1])]) == 1
    assert capsys.readouterr().out.endswith("the DNS gives no answer\n")


def test_the_usual_configuration_is_read_unless_another_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usual = tmp_path / "noid.toml"
    monkeypatch.setattr(config_places, "USUAL_CONFIG", usual)
    options = ["zone", "--locator", "2001:db8:1:b::b"]
    assert main(options) == 1
    usual.write_text('[host]\nname = "usual.test"\n')
    other = tmp_path / "other.toml"
    other.write_text('[host]\nname = "other.test"\n')
    for more, name in (([], "usual.test"), (["--config", str(other)], "other.test")):
        capsys.readouterr()
        assert main([*options, *more]) == 0
        assert f"; in the zone of {name}" in capsys.readouterr().out


def test_the_zone_is_what_a_name_server_takes(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--locator", "2001:db8:1:b::b", "--locator", "2001:db8:2:b::b"]
    assert main(["zone", "B.peers.test.", *options]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if not line.startswith(";")]
    assert lines[0] == "b.peers.test. 300 IN AAAA 2001:db8:1:b::b"
    assert lines[2] == r"b.peers.test. 300 IN TYPE65286 \# 0"
    assert lines[3].endswith(".b.0.0.0.1.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa. 300 IN PTR b.peers.test.")
    assert main(["zone", "b.peers.test", "--json", *options]) == 0
    assert len(json.loads(capsys.readouterr().out)["reverse"]) == 2
    assert main(["zone"]) == 1


@pytest.mark.parametrize("command", ["zone", "lookup", "resolver"])
def test_the_help_of_each_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    assert f"example:\n  noid {command}" in capsys.readouterr().out
