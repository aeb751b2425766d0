# SPDX-License-Identifier: MIT
"""What noid cannot do it says in one line, and leaves nothing behind; what it does, it tells."""

import contextlib
import json
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from noid.lab import configuration, namespaces
from noid.lab.lab import Lab
from noid.lab.topology import NAME_SERVER, locators
from tests.lab.conversations import PATIENCE_S, establish_context, restart_daemons
from tests.lab.privilege import NOBODY
from tests.lab.refusals import NOID, Edit, left, one_line, refusal, run_noid

EXEC = 'exec "$0" "$@"'
WAYS = (
    ["init-sent", "ccr-sent", "established"],
    ["init-sent", "established"],  # the INIT of the peer has crossed
    ["established"],  # the peer was the first
)
"""The states of a context while it is made: both hosts may begin, on seeing the first packet."""


@pytest.fixture
def bare_lab(plain_lab: Lab) -> Iterator[Lab]:
    """A lab without noid, and nothing of noid on a before and after."""
    assert left(plain_lab) == []
    yield plain_lab
    assert left(plain_lab) == []


# --- a configuration that cannot be ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (("[dns]", "[dns"), "noid.toml: is not TOML: "),
        (("[dns]", "[dns]\ncolour = 1"), "dns.colour: is no known key; here are listen, port"),
        (("[dns]", "[colours]\n[dns]"), "colours: is no known key; here are host, dns, policy"),
        (("[dns]", '[dns]\nport = "53"'), "dns.port: expected `int`, got `str`"),
        (("[dns]", "[dns]\nport = 65536"), "dns.port: expected `int` <= 65535"),
        (
            ('listen = "::1"', 'listen = "home"'),
            "dns.listen: 'home' is not an IPv4 or IPv6 address",
        ),
        ((NAME_SERVER, "ns.example"), "dns.upstream: 'ns.example' is not an IPv4 or IPv6 address"),
        (('kind = "tun"', 'kind = "wings"'), "plane.kind: must be one of auto, bpf, tun"),
        (("[plane]", '[plane]\ndevice = "a/b"'), "plane.device: expected `str` matching"),
        (("[plane]", "[plane]\nrule_priority = 0"), "plane.rule_priority: expected `int` >= 1"),
        (('["up*"]', "[]"), 'host.interfaces: is empty; ["*"] means every interface'),
        (
            ("[host]", '[host]\nlocators = ["fe80::1"]'),
            "host.locators: fe80::1 is not a global unicast address",
        ),
        (
            ("[dns]", "[codepoints]\nrewritable_first = 6\n[dns]"),
            "codepoints.rewritable_first: must be 146 to 245, not 6",
        ),
        (
            ("[dns]", "[codepoints]\nrewritable_first = 230\n[dns]"),
            "codepoints.fixed_first: overlaps the eight of rewritable_first",
        ),
    ],
)
def test_a_configuration_that_cannot_be_is_refused_by_its_key(
    bare_lab: Lab, tmp_path: Path, edit: Edit, expected: str
) -> None:
    assert expected in refusal(bare_lab, tmp_path, edit)


def test_a_configuration_that_is_missing_is_refused(bare_lab: Lab, tmp_path: Path) -> None:
    words = [*NOID, "run", "--config", f"{tmp_path}/none.toml"]
    said = one_line(bare_lab.run("a", words))
    why = "cannot be read: No such file or directory; name a file that is there"
    assert said == f"{tmp_path}/none.toml: {why}"


# --- a machine that will not ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "prefix",
    [
        NOBODY,
        ("setpriv", "--bounding-set=-net_admin,-net_raw"),
        ("setpriv", "--bounding-set=-net_admin"),
        ("setpriv", "--bounding-set=-net_raw"),
    ],
    ids=["nobody", "neither capability", "no CAP_NET_ADMIN", "no CAP_NET_RAW"],
)
def test_a_missing_privilege_is_named(bare_lab: Lab, tmp_path: Path, prefix: Sequence[str]) -> None:
    said = refusal(bare_lab, tmp_path, prefix=prefix)
    assert "run as root, or with CAP_NET_ADMIN and CAP_NET_RAW" in said


def test_a_missing_tun_driver_is_named(bare_lab: Lab, tmp_path: Path) -> None:
    hidden = ("unshare", "--mount", "sh", "-c", f"mount -t tmpfs none /dev/net; {EXEC}")
    said = refusal(bare_lab, tmp_path, prefix=hidden)
    assert said.endswith("/dev/net/tun is missing; try: modprobe tun")


def test_a_missing_name_server_is_named(bare_lab: Lab, tmp_path: Path) -> None:
    hidden = (
        "unshare",
        "--mount",
        "sh",
        "-c",
        f"umount /etc/resolv.conf; mount --bind /dev/null /etc/resolv.conf; {EXEC}",
    )
    said = refusal(bare_lab, tmp_path, (f'"{NAME_SERVER}"', ""), prefix=hidden)
    assert said == "dns.upstream: is empty and /etc/resolv.conf names no other resolver"


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_an_occupied_dns_port_is_named(
    bare_lab: Lab, tmp_path: Path, kind: socket.SocketKind
) -> None:
    def occupy() -> socket.socket:
        one = socket.socket(socket.AF_INET6, kind)
        one.bind(("::1", 53))
        if kind == socket.SOCK_STREAM:
            one.listen()
        return one

    with namespaces.inside(namespaces.namespace(bare_lab.name, "a"), occupy):
        said = refusal(bare_lab, tmp_path)
    assert said == ("DNS on ::1 port 53: is in use; set dns.port or stop what listens there")


@pytest.mark.parametrize("kind", ["veth", "tap", "tun"])
def test_an_occupied_device_name_is_named_and_left_alone(
    bare_lab: Lab, tmp_path: Path, kind: str
) -> None:
    with _device(bare_lab, kind):
        said = one_line(run_noid(bare_lab, tmp_path))
        assert "noid0" in bare_lab.run("a", ["ip", "-o", "link"]).stdout
    assert said.startswith("device noid0: ")
    assert "plane.device" in said


def test_an_occupied_control_socket_is_named_and_its_owner_goes_on(
    bare_lab: Lab, tmp_path: Path
) -> None:
    with _running(bare_lab):
        said = one_line(run_noid(bare_lab, tmp_path))
        assert bare_lab.status("a")["name"] == "a.example"
        assert len(left(bare_lab)) == 3, "the device, the rule and the socket of the first"
    socket_path = bare_lab.control_socket("a")
    assert said == (
        f"control socket {socket_path}: another noid answers there; "
        "stop it first or set control.socket"
    )


def test_a_second_noid_with_the_same_device_leaves_the_first_alone(
    bare_lab: Lab, tmp_path: Path
) -> None:
    with _running(bare_lab):
        before = left(bare_lab)
        said = one_line(run_noid(bare_lab, tmp_path, ("a.sock", "second.sock")))
        assert left(bare_lab) == before
    assert said.startswith("device noid0: ")


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (("a.sock", "dns"), "set control.socket"),
        (("a.sock", "x" * 110), "control.socket: has more than 107 octets"),
        (("a-state", "a.toml/state"), "set state.directory to a directory that can be written"),
    ],
    ids=["socket is a directory", "socket path too long", "state under a file"],
)
def test_a_path_that_cannot_be_used_is_named(
    bare_lab: Lab, tmp_path: Path, edit: Edit, expected: str
) -> None:
    (bare_lab.directory / "a.toml").touch()
    assert expected in refusal(bare_lab, tmp_path, edit)


# --- what a running daemon tells ------------------------------------------------------------------


@pytest.mark.parametrize("command", ["status", "contexts", "monitor"])
def test_without_a_daemon_there_is_one_clear_line(tmp_path: Path, command: str) -> None:
    words = [*NOID, command, "--socket", f"{tmp_path}/none.sock"]
    said = one_line(subprocess.run(words, capture_output=True, text=True, timeout=60))
    assert said == (
        f"control socket {tmp_path}/none.sock: no noid answers there; start one with: noid run"
    )


def test_the_status_is_one_json_object(lab: Lab) -> None:
    status = json.loads(_ask(lab, "status", "--json"))
    assert status["name"] == "a.example"
    assert status["locators"] == list(locators("a"))
    assert (status["plane"]["kind"], status["plane"]["device"]) == (lab.plane, "noid0")


def test_the_status_is_a_table_for_people(lab: Lab) -> None:
    rows = dict(line.split(maxsplit=1) for line in _ask(lab, "status").splitlines() if " " in line)
    assert rows["name"].strip() == "a.example"
    assert rows["plane.device"].strip() == "noid0"
    assert rows["locators"].split() == list(locators("a"))


def test_the_contexts_are_one_json_list(lab: Lab) -> None:
    establish_context(lab)
    (context,) = json.loads(_ask(lab, "contexts", "--json"))
    assert context["state"] == "established"
    assert (context["local_aid"], context["peer_aid"]) == (locators("a")[0], locators("b")[0])
    assert context["lsv_peer"] == list(locators("b"))
    assert context["peer_name"] == "b.example"


def test_the_contexts_are_a_table_for_people(lab: Lab) -> None:
    establish_context(lab)
    head, row = _ask(lab, "contexts").splitlines()
    columns = ["AID(local)", "AID(peer)", "state", "Lp(local)", "Lp(peer)", "Lsv(peer)", "name"]
    assert head.split() == columns
    mine, other = locators("a")[0], locators("b")[0]
    assert row.split() == [mine, other, "established", mine, other, "2", "b.example"]


def test_the_monitor_tells_of_a_context_as_it_is_made(lab: Lab) -> None:
    restart_daemons(lab)
    words = [*NOID, "monitor", "--json", "--socket", str(lab.control_socket("a"))]
    monitor = lab.spawn("a", words)

    def told() -> list[dict[str, str]]:
        lines = monitor.output().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def tells(event: str) -> bool:
        return any(one["event"] == event for one in told())

    lab.wait_for("the monitor is there", lambda: tells("monitoring"), PATIENCE_S)
    establish_context(lab)
    lab.wait_for("it tells of the locators", lambda: tells("locators_verified"), PATIENCE_S)

    def states() -> list[str]:
        return [event["new"] for event in told() if event["event"] == "state_changed"]

    lab.wait_for("it tells of the end of the set-up", lambda: "established" in states(), PATIENCE_S)
    assert states() in WAYS
    lab.stop_daemon("a")
    assert monitor.popen.wait(PATIENCE_S) == 0, "it ends with the daemon"
    lab.start_daemon("a")


# --- what the tests above stand on ----------------------------------------------------------------


@contextlib.contextmanager
def _device(lab: Lab, kind: str) -> Iterator[None]:
    """A device noid0 on a that belongs to another program."""
    words = {
        "veth": ["ip", "link", "add", "noid0", "type", "veth", "peer", "name", "other"],
        "tap": ["ip", "tuntap", "add", "dev", "noid0", "mode", "tap"],
        "tun": ["ip", "tuntap", "add", "dev", "noid0", "mode", "tun"],
    }
    assert lab.run("a", words[kind]).returncode == 0
    try:
        yield
    finally:
        lab.run("a", ["ip", "link", "del", "noid0"])


@contextlib.contextmanager
def _running(lab: Lab) -> Iterator[None]:
    """A running noid on a of a lab that has none."""
    text = configuration.noid_toml("a", lab.directory, "tun")
    (lab.directory / "a.toml").write_text(text, encoding="utf-8")
    lab.start_daemon("a")
    try:
        yield
    finally:
        lab.stop_daemon("a")


def _ask(lab: Lab, *words: str) -> str:
    """What a command prints that asks the daemon of a."""
    command, *options = words
    arguments = [*NOID, command, "--socket", str(lab.control_socket("a")), *options]
    done = subprocess.run(
        arguments,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"COLUMNS": "160", "PATH": "/usr/bin"},
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout
