# SPDX-License-Identifier: MIT
"""``noid capture`` writes what the uplinks carry of one context, and nothing else."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from noid.cli.capture import control_type, find_context, packet_filter
from noid.errors import PlatformError, UsageError
from noid.lab.lab import Lab
from tests.contrib.test_wireshark import DISSECTOR
from tests.lab.conversations import PATIENCE_S, established

CONTEXT: dict[str, Any] = {
    "local_aid": "2001:db8:1:a::a",
    "peer_aid": "2001:db8:1:b::b",
    "peer_name": "b.example",
    "lsl_peer": ["2001:db8:1:b::b", "2001:db8:2:b::b"],
    "lsr_peer": ["2001:db8:1:b::b"],
    "local_label": 0x12345,
    "peer_label": 0xABCDE,
}
OTHER = {**CONTEXT, "local_aid": "2001:db8:2:a::a", "local_label": 7, "peer_label": 8}


@pytest.mark.parametrize(
    "wanted", ["b.example", "B.example.", "2001:DB8:2:b::b", "0x12345", str(0xABCDE)]
)
def test_a_context_is_found_by_name_address_and_label(wanted: str) -> None:
    assert find_context([CONTEXT], wanted) is CONTEXT


def test_no_context_and_several_are_refused_with_a_remedy() -> None:
    with pytest.raises(UsageError, match="noid contexts lists all contexts"):
        find_context([CONTEXT], "c.example")
    with pytest.raises(UsageError, match="by its flow label: 0x12345, 0x7"):
        find_context([CONTEXT, OTHER], "b.example")


def test_a_daemon_from_before_an_upgrade_is_to_be_restarted() -> None:
    assert control_type({"codepoints": {"icmpv6_type": 201}}) == 201
    with pytest.raises(PlatformError, match="earlier version; restart it: systemctl restart noid"):
        control_type({"state": "running"})


def test_one_context_is_captured_on_both_uplinks(lab: Lab, tmp_path: Path) -> None:
    lab.run("a", ["ping", "-c1", "-i0.2", "-w20", "b.example"])
    lab.wait_for("the context is up", lambda: established(lab, "a"), PATIENCE_S)
    path = tmp_path / "b.pcapng"
    command = [sys.executable, "-m", "noid", "capture", "b.example", "--output", str(path)]
    process = lab.spawn("a", [*command, "--socket", str(lab.control_socket("a"))])
    lab.wait_for(
        "it captures", lambda: "capturing" in process.output() and path.exists(), PATIENCE_S
    )

    def has_both() -> bool:
        lab.run("a", ["ping", "-c1", "-W1", "b.example"])
        return {"icmpv6"} <= set(protocols(path))

    lab.wait_for("packets are written", has_both, PATIENCE_S)
    process.popen.send_signal(signal.SIGINT)
    lab.wait_for("it ends", lambda: not process.running, PATIENCE_S)
    assert process.popen.returncode == 0, process.output()
    assert "dns" not in protocols(path)


FULL_DISK: Final = """
mount -t tmpfs -o size=4k none {place} || exit 9
head -c 8192 /dev/zero > {place}/filler
exec "$0" "$@"
"""


def test_a_capture_to_a_full_disk_says_so(lab: Lab, tmp_path: Path) -> None:
    lab.run("a", ["ping", "-c1", "-i0.2", "-w20", "b.example"])
    lab.wait_for("the context is up", lambda: established(lab, "a"), PATIENCE_S)
    mount = ["unshare", "--mount", "sh", "-c", FULL_DISK.format(place=tmp_path)]
    path = tmp_path / "b.pcapng"
    words = ["capture", "b.example", "--output", str(path), "--duration", "1"]
    socket = str(lab.control_socket("a"))
    done = lab.run("a", [*mount, sys.executable, "-m", "noid", *words, "--socket", socket])
    assert done.returncode == 1, done.stderr
    reason = done.stderr.splitlines()[-1]
    assert "no space left on the file system" in reason
    assert "File:" not in reason


def test_a_capture_does_not_follow_a_link_of_another_user(lab: Lab, tmp_path: Path) -> None:
    lab.run("a", ["ping", "-c1", "-i0.2", "-w20", "b.example"])
    lab.wait_for("the context is up", lambda: established(lab, "a"), PATIENCE_S)
    victim, path = tmp_path / "victim", tmp_path / "noid.pcapng"
    victim.write_text("precious")
    path.symlink_to(victim)
    words = ["capture", "b.example", "--output", str(path), "--duration", "1"]
    socket = str(lab.control_socket("a"))
    done = lab.run("a", [sys.executable, "-m", "noid", *words, "--socket", socket])
    assert done.returncode == 1, done.stderr
    assert "it is a symbolic link" in done.stderr.splitlines()[-1]
    assert victim.read_text() == "precious"


def protocols(path: Path) -> list[str]:
    """The protocols of the packets; a file that is still being written may end too early."""
    command = ["tshark", "-X", f"lua_script:{DISSECTOR}", "-r", str(path)]
    done = subprocess.run(
        [*command, "-T", "fields", "-e", "frame.protocols"], capture_output=True, text=True
    )
    return [name for line in done.stdout.splitlines() for name in line.split(":")]


def test_the_filter_is_one_that_pcap_takes() -> None:
    wanted = packet_filter(CONTEXT, 201)
    assert "ip6[40] == 201" in wanted
    assert "ip6[40] == 200" not in wanted
    done = subprocess.run(
        ["dumpcap", "-d", "-i", "lo", "-f", wanted], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
