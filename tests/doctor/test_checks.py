# SPDX-License-Identifier: MIT
"""``noid doctor`` in a network of its own, in front of a real resolver."""

import errno
import json
import subprocess
import tempfile
from pathlib import Path

import pytest

from noid.cli.main import main
from noid.dns.zone import ZoneRecord, forward_records, reverse_records
from noid.doctor.checks import of_daemon, of_plane
from noid.doctor.findings import Finding, Health
from noid.errors import PlatformError
from noid.lab.resolution import ROOT_ZONE, serving
from tests.dns.conftest import locators
from tests.doctor.rulesets import SECOND_PROVIDER, UPLINKS
from tests.namespaces import in_network_namespace

OWN = locators("2001:db8:1:a::a", "2001:db8:2:a::a")
REVERSE = "8.b.d.0.1.0.0.2.ip6.arpa"


def lines(records: list[ZoneRecord]) -> str:
    return ROOT_ZONE + "".join(record.line(300) + "\n" for record in records)


def examined(
    capsys: pytest.CaptureFixture[str],
    links: str,
    forward: list[ZoneRecord],
    reverse: list[ZoneRecord],
) -> dict[str, str]:
    """The checks that found a problem, and the fix of each."""

    def look() -> int:
        subprocess.run(["ip", "-6", "-batch", "-"], input=links, text=True, check=True)
        with tempfile.TemporaryDirectory() as directory:
            resolv_conf = Path(directory, "resolv.conf")
            resolv_conf.write_text("nameserver ::1\n")
            config = Path(directory, "noid.toml")
            config.write_text(f'[control]\nsocket = "{directory}/none.sock"\n')
            zones = {"example.test": lines(forward), REVERSE: lines(reverse)}
            with serving(Path(directory), zones) as places:
                address, port = places.resolver
                options = ["--resolver", address, "--port", str(port), "--json"]
                options += ["--name", "a.example.test", "--resolv-conf", str(resolv_conf)]
                options += ["--config", str(config)]
                return main(["doctor", *options])

    assert in_network_namespace(look) == 1, "no noid is running"
    findings = json.loads(capsys.readouterr().out)
    assert {"ok", "wrong"} <= {one["health"] for one in findings} <= {"ok", "wrong", "unknown"}
    return {one["check"]: one["mend"] for one in findings if one["health"] == "wrong"}


@pytest.mark.lab
def test_a_healthy_host_only_lacks_the_daemon(capsys: pytest.CaptureFixture[str]) -> None:
    forward = forward_records("a.example.test", OWN, 65286)
    reverse = reverse_records("a.example.test", OWN)
    wrong = examined(capsys, UPLINKS + SECOND_PROVIDER, forward, reverse)
    assert wrong.keys() == {"daemon"}
    assert wrong["daemon"].startswith("noid run --config ")


@pytest.mark.lab
def test_each_problem_is_reported_with_a_fix(capsys: pytest.CaptureFixture[str]) -> None:
    """Route and records of the second provider are missing, and so is the M6 record."""
    forward = [*forward_records("a.example.test", OWN[:1], 65286)[:1]]
    forward += forward_records("a.example.test", locators("2001:db8:9::9"), 65286)[:1]
    wrong = examined(capsys, UPLINKS, forward, reverse_records("a.example.test", OWN[:1]))
    second = "2001:db8:2:a::a"
    (pointer,) = reverse_records("a.example.test", OWN[1:])
    assert wrong[f"route from {second}"].startswith(f"ip -6 rule add from {second} lookup")
    assert wrong[f"forward {second}"] == f"a.example.test. 300 IN AAAA {second}"
    assert wrong["forward 2001:db8:9::9"] == "remove its AAAA record"
    assert wrong["m6 record"] == r"a.example.test. 300 IN TYPE65286 \# 0"
    assert wrong[f"reverse {second}"] == pointer.line(300)
    assert "forward 2001:db8:1:a::a" not in wrong


@pytest.mark.lab
def test_a_missing_name_and_missing_addresses_are_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--resolv-conf", str(tmp_path / "none")]
    assert in_network_namespace(lambda: main(["doctor", *options])) == 1
    said = capsys.readouterr().out
    assert "wrong   addresses: none" in said
    assert 'fix: [host] name = "a.example"' in said


@pytest.mark.parametrize(
    ("number", "fix"),
    [
        (errno.ENOENT, "noid run --config a.toml"),
        (errno.ETIMEDOUT, "the daemon is stopped or stuck: systemctl restart noid"),
    ],
)
def test_a_daemon_that_does_not_answer_is_reported(number: int, fix: str) -> None:
    error = PlatformError("control socket", number, "no answer")
    (found,) = of_daemon(error, error, "--config a.toml")
    assert found.health is Health.WRONG
    assert found.fix.startswith(fix)


RUNNING = {"version": "1", "sources_not_covered": [], "state": {"trouble": []}}


def test_each_problem_of_the_state_files_is_reported() -> None:
    troubles = ["history.sqlite is damaged", "uplinks.json is damaged"]
    *_, first, second = of_daemon(RUNNING | {"state": {"trouble": troubles}}, {"uplinks": []})
    assert [first.text, second.text] == troubles
    assert {first.health, second.health} == {Health.WRONG}


def test_a_daemon_in_user_space_is_not_said_to_be_in_the_kernel() -> None:
    would_get = [Finding("plane", Health.OK, "in the kernel, by tcx")]
    assert of_plane({"kind": "bpf", "why": ""}, would_get) == would_get
    (found,) = of_plane({"kind": "tun", "why": "/sys/fs/bpf: not mounted"}, would_get)
    assert found.health is Health.UNKNOWN
    assert found.text.startswith("in user space: /sys/fs/bpf: not mounted")


def test_a_daemon_that_an_ordinary_user_may_not_ask_is_unknown() -> None:
    error = PlatformError("control socket", errno.EACCES, "permission denied")
    (found,) = of_daemon(error, error)
    assert (found.health, found.fix) == (Health.UNKNOWN, "run it as root")


def test_an_uplink_that_is_down_is_reported() -> None:
    status = RUNNING | {"uplinks_down": ["up1"]}
    uplink = {"uplink": "up1/2001:db8:1:a", "interface": "up1", "state": "down"}
    paths = {"uplinks": [uplink | {"reason": "silent", "locators": ["2001:db8:1:a::a"]}]}
    running, down, sources = of_daemon(status, paths)
    assert (running.health, down.health, sources.health) == (Health.OK, Health.WRONG, Health.OK)
    assert down.text.startswith("up1/2001:db8:1:a is down: peers answer over other uplinks")
    assert down.fix.startswith("noid paths")
