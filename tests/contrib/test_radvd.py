# SPDX-License-Identifier: MIT
"""What noid-radvd makes of a configuration of radvd; tests/lab/test_site_hosts.py runs it."""

import contextlib
import json
import re
import runpy
import subprocess
from ipaddress import IPv6Network
from pathlib import Path
from typing import Any

import pytest

from noid.host.programs import find_program

SCRIPT = Path(__file__).parents[2] / "contrib" / "border" / "noid-radvd"
TEMPLATE = """\
interface lan0 {
  AdvSendAdvert on;
  # prefix 2001:db8:1:9::/64 { };
  prefix 2001:db8:1:7::/64 {
    AdvOnLink on;
    AdvPreferredLifetime 3600;
  };
  prefix 2001:db8:2:7::/64 { };
  RDNSS 2001:db8:1:7::1 { };
};
"""
STATUS = {
    "providers": [{"provider": "one", "works": False}, {"provider": "two", "works": True}],
    "prefixes": [
        {"prefix": "2001:db8:1::/48", "provider": "one"},
        {"prefix": "2001:db8:2::/48", "provider": "two"},
    ],
    "former": ["2001:db8:3::/48"],
}


def script() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPT))


def test_prefixes_that_no_uplink_carries_are_dead() -> None:
    dead = script()["dead_prefixes"](STATUS)
    assert dead == [IPv6Network("2001:db8:1::/48"), IPv6Network("2001:db8:3::/48")]


EVERY = """\
# interface lan9 { prefix ::/64 { }; };
interface lan0 {
  prefix ::/64 { AdvOnLink on; # text
  };
};
interface lan1 { prefix ::/64; prefix 2001:db8:9::/64 { }; };
interface lan2 { prefix ::/64 { Base6Interface wan1; }; };
interface lan3 { prefix ::/64; };
"""
ADDRESSES = {
    "lan0": ["2001:db8:1:7::/64", "2001:db8:2:7::/64"],
    "lan1": ["2001:db8:1:8::/64"],
    "lan2": ["2001:db8:1:9::/64"],
}


def test_the_prefixes_that_radvd_finds_on_an_interface_are_written_out(tmp_path: Path) -> None:
    names = script()

    def networks(interface: str) -> list[IPv6Network]:
        return [IPv6Network(one) for one in ADDRESSES.get(interface, [])]

    text = names["written_out"](EVERY, networks)
    assert text.count("::/64 { AdvOnLink on; # text\n  };") == 2
    assert "interface lan1 { prefix 2001:db8:1:8::/64; prefix 2001:db8:9::/64 { }; };" in text
    assert text.splitlines()[0] == EVERY.splitlines()[0]
    assert text.splitlines()[-2:] == EVERY.splitlines()[-2:]
    text = names["deprecated"](text, [IPv6Network("2001:db8:1::/48")])
    assert "prefix 2001:db8:1:7::/64 { AdvPreferredLifetime 0; AdvOnLink on;" in text
    assert "prefix 2001:db8:2:7::/64 { AdvOnLink on;" in text
    assert "prefix 2001:db8:1:8::/64 { AdvPreferredLifetime 0; };" in text
    file = tmp_path / "radvd.conf"
    file.write_text(text.replace("Base6Interface wan1;", ""), encoding="utf-8")
    done = subprocess.run(
        [find_program("radvd"), "-c", "-C", str(file)], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr


IGNORING = """\
interface lan0 {
  Prefix ::/64 { advpreferredlifetime 3600; };
  AutoIgnorePrefixes { 2001:db8:2:7::1/64; # 2001:db8:1:7::/64;
    fd00:7::/64; };
};
interface lan1 { prefix ::/64; };
interface lan2 { autoignoreprefixes { 2001:db8:1:9::/64; }; prefix ::/64; };
"""


def test_what_radvd_is_to_ignore_is_not_written_out() -> None:
    """As of radvd 2.20, which takes no notice of the case of its words either."""
    names = script()
    ours = [IPv6Network(one) for one in ("2001:db8:1:7::/64", "2001:db8:2:7::/64", "fd00:7::/64")]
    found = {"lan0": ours, "lan1": ours[2:], "lan2": [IPv6Network("2001:db8:1:9::/64")]}
    text = names["deprecated"](names["written_out"](IGNORING, found.__getitem__), ours[:1])
    assert text == IGNORING.replace(
        "Prefix ::/64 { advpreferredlifetime 3600; }",
        "prefix 2001:db8:1:7::/64 { AdvPreferredLifetime 0;  }",
    ).replace("lan1 { prefix ::/64", "lan1 { prefix fd00:7::/64")


def test_what_is_below_a_dead_prefix_is_deprecated_and_nothing_else() -> None:
    deprecated = script()["deprecated"]
    assert deprecated(TEMPLATE, []) == TEMPLATE
    text = deprecated(TEMPLATE, [IPv6Network("2001:db8:1::/48")])
    assert text.split() == (
        TEMPLATE.replace("AdvPreferredLifetime 3600;", "")
        .replace("1:7::/64 {", "1:7::/64 { AdvPreferredLifetime 0;")
        .split()
    )
    both = deprecated(TEMPLATE, [IPv6Network("2001:db8::/32")])
    assert "prefix 2001:db8:2:7::/64 { AdvPreferredLifetime 0; };" in both
    assert both.count("AdvPreferredLifetime") == 2


BODIES = {
    "a comment behind the last statement": "{\n AdvAutonomous on; # text\n};",
    "a lifetime in a comment": "{\n AdvOnLink on; # AdvPreferredLifetime 60;\n};",
    "a brace in a comment": "{ # { }\n AdvOnLink on; # }\n AdvPreferredLifetime 9; # }\n};",
    "a comment before the brace": "# { text\n{ AdvOnLink on; };",
    "several lines": "\n{\n AdvPreferredLifetime\n 3600\n ; AdvOnLink on;\n}\n;",
    "no space": "{AdvOnLink on;AdvPreferredLifetime 9;AdvAutonomous on;};",
    "no braces": "; # text",
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_radvd_accepts_it_however_the_prefix_is_written(tmp_path: Path, body: str) -> None:
    names = script()
    before = f"interface lan0 {{ AdvSendAdvert on; prefix 2001:db8:1:7::/64 {body}\n}};\n"
    after = names["deprecated"](before, [IPv6Network("2001:db8:1::/48")])
    for text in (before, after):
        file = tmp_path / "radvd.conf"
        file.write_text(text, encoding="utf-8")
        done = subprocess.run(
            [find_program("radvd"), "-c", "-C", str(file)], capture_output=True, check=False
        )
        assert done.returncode == 0, (text, done.stderr)
    stated = re.sub("#.*", "", after)
    assert re.findall(r"AdvPreferredLifetime\s+(\w+)", stated) == ["0"]
    assert re.findall("#.*", after) == re.findall("#.*", before)
    assert stated.count("AdvOnLink on;") == re.sub("#.*", "", before).count("AdvOnLink on;")


def test_a_prefix_that_is_none_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    template, output = tmp_path / "radvd.conf.in", tmp_path / "radvd.conf"
    template.write_text(TEMPLATE.replace("2001:db8:2:7::/64", "2001:db8:2:7/64"), encoding="utf-8")
    output.write_text(TEMPLATE, encoding="utf-8")
    script()["update"](template, output, ["false"], [IPv6Network("2001:db8:1::/48")])
    assert output.read_text(encoding="utf-8") == TEMPLATE
    assert "2001:db8:2:7" in capsys.readouterr().err


def test_a_border_that_does_not_answer_is_asked_again(tmp_path: Path) -> None:
    """Its monitor is ended: it would end with the next event only."""
    follow = script()["follow"]
    says = "case $0 in monitor) echo; exec sleep 600;; *) exit 1;; esac"
    follow.__globals__["BORDER"] = ("sh", "-c", says)
    follow(tmp_path / "radvd.conf.in", tmp_path / "radvd.conf", ["false"])
    follow.__globals__["BORDER"] = ("sh", "-c", says.replace("exit 1", "cat status.json"))
    (tmp_path / "status.json").write_text(json.dumps(STATUS), encoding="utf-8")
    with pytest.raises(FileNotFoundError), contextlib.chdir(tmp_path):
        follow(tmp_path / "radvd.conf.in", tmp_path / "radvd.conf", ["false"])
