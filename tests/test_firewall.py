"""``noid doctor`` behind a firewall that is really there, and what it says to mend it."""

import json
import subprocess
from pathlib import Path

import pytest

from noid.cli.main import main
from noid.firewall import ranges
from noid.lab.waiting import wait_for
from tests.dns.conftest import in_network_namespace

LINKS = """\
link set lo up
link add up1 type veth peer name provider1
link set up1 up
link set provider1 up
address add 2001:db8:1:a::a/64 dev up1 nodad
route add default via 2001:db8:1:a::1 dev up1
"""
BASE = (
    "table inet house {{\nchain {hook} {{\ntype filter hook {hook} priority 0;\n{rules}\n}}\n}}\n"
)
EVERYTHING = "next headers 224-239 and ICMPv6 type 200"
ONLY_KNOWN = "policy drop\niif lo accept\nicmpv6 type { 135, 136 } accept"
EATEN = [
    ("input", ONLY_KNOWN, f"comes in of {EVERYTHING}"),
    ("input", "meta l4proto 224-239 drop", "comes in of next headers 224-239"),
    ("input", "icmpv6 type 200 drop", "comes in of ICMPv6 type 200"),
    ("prerouting", "meta l4proto 224-239 drop", "comes in of next headers 224-239"),
    ("output", "meta l4proto { 225, 232-239 } drop", "leaves of next headers 225, 232-239"),
    ("output", "icmpv6 type 200 reject", "leaves of ICMPv6 type 200"),
]
"""A hook, the rules there, and what doctor says of them."""


def run(program: str, text: str) -> None:
    arguments = {"ip": ["ip", "-6", "-batch", "-"], "nft": ["nft", "-f", "-"]}[program]
    subprocess.run(arguments, input=text, text=True, check=True)


def make_links() -> None:
    """An uplink, once the kernel says that it is up: it finds that out a while after."""
    run("ip", LINKS)
    wait_for("the links are up", lambda: shown().count("state UP") == 2, 30)


def shown() -> str:
    """Every link as ip shows it."""
    return subprocess.run(["ip", "link"], capture_output=True, text=True, check=True).stdout


def examined(capsys: pytest.CaptureFixture[str], directory: Path) -> list[dict[str, str]]:
    """What doctor says of the firewall, and nothing is left behind."""
    before = shown()
    capsys.readouterr()
    assert main(["doctor", "--json", "--resolv-conf", str(directory / "none")]) == 1
    findings = json.loads(capsys.readouterr().out)
    after = shown()
    assert before == after
    return [one for one in findings if one["check"] == "firewall"]


@pytest.mark.lab
@pytest.mark.parametrize(("hook", "rules", "text"), EATEN)
def test_a_firewall_that_eats_m6_is_found_out_and_mended(
    hook: str, rules: str, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:

    def scenario() -> tuple[list[dict[str, str]], list[dict[str, str]]]:
        make_links()
        run("nft", BASE.format(hook=hook, rules=rules))
        ill = examined(capsys, tmp_path)
        for one in ill:
            subprocess.run(one["mend"], shell=True, check=True)
        return ill, examined(capsys, tmp_path)

    ill, well = in_network_namespace(scenario)
    assert [(one["health"], one["text"]) for one in ill] == [("wrong", f"eats what {text}")]
    assert f"insert rule inet house {hook} " in ill[0]["mend"]
    assert [one["health"] for one in well] == ["ok"], well


@pytest.mark.lab
def test_without_a_firewall_all_is_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def scenario() -> list[dict[str, str]]:
        make_links()
        return examined(capsys, tmp_path)

    assert [one["health"] for one in in_network_namespace(scenario)] == ["ok"]


def test_numbers_are_written_as_nft_reads_them() -> None:
    assert ranges((224, 225, 226, 230, 239, 238)) == ["224-226", "230", "238-239"]
