# SPDX-License-Identifier: MIT
"""``noid setup`` on a host with two uplinks, which is a network namespace."""

import fcntl
import fnmatch
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from noid.config import load_config
from tests.setup.host import NOID, PREFIXES, Host, address, two_uplinks

pytestmark = [pytest.mark.lab, pytest.mark.slow]
NAMED = ("--name", "a.example")


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with two_uplinks(tmp_path) as one:
        yield one


def test_setup_routes_each_source_by_its_uplink_and_undo_restores_everything(host: Host) -> None:
    host.config.write_bytes(b"# mine\n[plane]\nkind = 'tun'  # \xc3\xa4, without a last newline")
    host.config.chmod(0o640)
    os.chown(host.config, 65534, 65534)
    os.utime(host.config, ns=(1, 1_000_000_007))
    before = host.snapshot()
    assert [host.leaves_by(address(one)) for one in PREFIXES] == ["eth0", "eth0"]

    said = host.setup(*NAMED, doctor=True).stdout

    assert [host.leaves_by(address(one)) for one in PREFIXES] == ["eth0", "eth1"]
    config = load_config(host.config)
    assert config.host.name == "a.example"
    assert config.host.interfaces == ["eth0", "eth1"]
    assert config.plane.kind == "tun"
    assert host.config.stat().st_mode & 0o777 == 0o640
    assert host.config.stat().st_uid == 65534
    assert f"a.example. 300 IN AAAA {address('eth1')}" in said
    assert f"ok      route from {address('eth1')}: by eth1" in said

    host.setup("--undo")
    assert host.snapshot() == before
    restored = host.config.stat()
    assert (restored.st_uid, restored.st_gid) == (65534, 65534)
    assert restored.st_mtime_ns == 1_000_000_007
    assert not host.journal.exists()


def test_a_dry_run_prints_the_steps_and_does_none(host: Host) -> None:
    before = host.snapshot()
    dry = json.loads(host.setup(*NAMED, "--dry-run", "--json").stdout)
    assert host.snapshot() == before
    assert not host.journal.exists()
    real = json.loads(host.setup(*NAMED, "--json", doctor=True).stdout)
    assert dry["steps"] == real["steps"]
    assert (dry["done"], real["done"]) == (False, True)
    commands = [one for one in dry["steps"] if one.startswith("ip ")]
    assert len(commands) == 6
    assert {one["check"] for one in real["doctor"]} >= {"addresses", "kernel", "daemon"}

    undone = host.setup("--undo", "--dry-run").stdout.splitlines()
    assert undone[-1] == f"delete {host.config}"
    assert host.leaves_by(address("eth1")) == "eth1"


def test_set_up_goes_on_although_no_resolver_answers(host: Host) -> None:
    (host.directory / "etc" / "resolv.conf").write_text("nameserver 2001:db8:ffff::53\n")
    said = json.loads(host.setup("--json").stdout)
    assert said["records"] == []
    assert host.leaves_by(address("eth1")) == "eth1"


def test_what_is_reached_without_a_router_stays_so(host: Host) -> None:
    host.ip("link add lan type veth peer name far-lan")
    host.ip("link set lan up")
    host.ip("link set far-lan up")
    host.ip("-6 route add 2001:db8:ffff::/64 dev lan")
    host.setup(*NAMED)
    assert host.leaves_by(address("eth1")) == "lan"


def test_a_second_set_up_follows_a_changed_prefix(host: Host) -> None:
    before = host.snapshot()
    host.setup(*NAMED)
    assert host.setup(*NAMED, "--dry-run").stdout.count("write ") == 0
    host.ip(f"address del {address('eth1')}/64 dev eth1")
    host.ip("address add 2001:db8:3:a::a/64 dev eth1 nodad")
    host.setup(*NAMED)
    assert host.leaves_by("2001:db8:3:a::a") == "eth1"
    assert "2001:db8:2:a" not in host.run("ip", "-6", "rule").stdout
    host.setup("--undo")
    assert host.run("ip", "-6", "rule").stdout == before["rules"]


def test_a_second_set_up_finds_an_uplink_that_the_first_has_not_found(host: Host) -> None:
    host.ip(f"-6 route del default via {PREFIXES['eth1']}::1 dev eth1")
    host.setup(*NAMED)
    assert load_config(host.config).host.interfaces == ["eth0"]
    host.ip(f"-6 route add default via {PREFIXES['eth1']}::1 dev eth1 metric 2")
    host.setup()
    config = load_config(host.config).host
    assert (config.name, config.interfaces) == ("a.example", ["eth0", "eth1"])
    assert host.leaves_by(address("eth1")) == "eth1"


def test_set_up_waits_for_an_address_that_is_tested_for_duplicates(host: Host) -> None:
    host.setup(*NAMED)
    host.ip("link set eth1 down")
    host.ip("link set eth1 up")
    host.ip(f"address replace {address('eth1')}/64 dev eth1")
    host.ip(f"-6 route replace default via {PREFIXES['eth1']}::1 dev eth1 metric 2")
    host.setup(*NAMED)
    assert host.leaves_by(address("eth1")) == "eth1"


def test_set_up_repairs_what_others_removed(host: Host) -> None:
    host.setup(*NAMED)
    host.ip("-6 route flush table 102")
    assert host.leaves_by(address("eth1")) == "eth0"
    host.setup(*NAMED)
    assert host.leaves_by(address("eth1")) == "eth1"


def test_routes_and_a_host_table_of_the_operator_are_kept(host: Host) -> None:
    host.config.write_text('[host]\nname = "own.example"\n')
    host.ip("-6 route add default via 2001:db8:2:a::1 dev eth1 table 7000")
    host.ip("-6 rule add from 2001:db8:2:a::/64 lookup 7000")
    done = json.loads(host.setup("--json").stdout)
    assert not any("eth1" in one for one in done["steps"])
    assert f"{host.config} already has keys in [host] and is not changed" in done["notes"]
    assert done["records"][0].startswith("own.example.")
    host.setup("--undo")
    assert "lookup 7000" in host.run("ip", "-6", "rule").stdout


def test_undo_refuses_a_file_that_was_changed_since_and_does_nothing(host: Host) -> None:
    host.setup(*NAMED)
    with host.config.open("a") as file:
        file.write("# mine\n")
    refused = host.setup("--undo", good=False)
    assert refused.returncode != 0
    assert "was changed since noid setup wrote it" in refused.stderr
    assert "noid setup --undo --keep-changed" in refused.stderr
    assert host.leaves_by(address("eth1")) == "eth1"
    assert "has been changed since noid setup wrote it, and is kept" in host.setup(*NAMED).stdout
    assert host.config.read_text().endswith("# mine\n")
    host.config.unlink()
    host.setup("--undo")
    assert host.leaves_by(address("eth1")) == "eth0"
    assert not host.config.exists()


def test_undo_that_keeps_changed_files_does_everything_else(host: Host) -> None:
    before = host.snapshot()
    host.setup(*NAMED)
    with host.config.open("a") as file:
        file.write("# mine\n")
    changed = host.config.read_bytes()
    words = ("--undo", "--keep-changed")
    dry = host.setup(*words, "--dry-run").stdout
    assert host.leaves_by(address("eth1")) == "eth1"
    assert host.setup(*words).stdout == dry
    assert dry.endswith(f"keep {host.config}, which was changed since noid setup wrote it\n")
    after = host.snapshot()
    assert (after["rules"], after["routes"]) == (before["rules"], before["routes"])
    assert host.config.read_bytes() == changed
    host.config.unlink()
    host.setup("--undo")
    assert host.snapshot() == before
    assert not host.journal.exists()


@pytest.mark.parametrize(("mode", "owner"), [(0o777, 0), (0o700, 65534)])
def test_a_journal_that_others_could_have_written_is_refused(
    host: Host, mode: int, owner: int
) -> None:
    host.setup(*NAMED)
    os.chmod(host.journal, mode)
    os.chown(host.journal, owner, owner)
    for words in (("--undo",), ("--undo", "--dry-run"), NAMED):
        refused = host.setup(*words, good=False)
        assert refused.returncode != 0
        assert len(refused.stderr.splitlines()) == 1
        assert str(host.journal) in refused.stderr
    assert host.config.exists()


def test_a_file_whose_directory_is_gone_is_named_in_one_line(host: Host) -> None:
    host.config = host.directory / "conf" / "noid.toml"
    host.config.parent.mkdir()
    host.config.write_text("# mine\n")
    host.setup(*NAMED)
    shutil.rmtree(host.config.parent)
    refused = host.setup("--undo", good=False)
    assert len(refused.stderr.splitlines()) == 1
    assert str(host.config) in refused.stderr
    host.config.parent.mkdir()
    host.setup("--undo")
    assert host.config.read_text() == "# mine\n"


def test_a_damaged_journal_is_refused(host: Host) -> None:
    host.setup(*NAMED)
    (host.journal / "journal.json").write_text("{")
    refused = host.setup("--undo", good=False)
    assert "delete it and undo the steps by hand" in refused.stderr


def test_what_a_failed_set_up_has_done_can_be_taken_back(host: Host, tmp_path: Path) -> None:
    before = host.snapshot()
    bin_directory = tmp_path / "bin"
    bin_directory.mkdir()
    failing = bin_directory / "ip"
    failing.write_text(
        "#!/bin/sh\n"
        f'case "$*" in *add*from*{PREFIXES["eth1"]}*) echo "RTNETLINK: no" >&2; exit 2;; esac\n'
        f'exec {shutil.which("ip")} "$@"\n'
    )
    failing.chmod(0o755)
    path = f"PATH={bin_directory}:{os.environ['PATH']}"
    places = ("--config", str(host.config), "--journal", str(host.journal))
    refused = host.run("env", path, *NOID, "setup", *places, *NAMED, good=False)
    assert refused.returncode != 0
    assert "RTNETLINK: no; noid setup --undo undoes the steps that were done" in refused.stderr
    assert host.config.exists()

    host.setup("--undo")
    failing.unlink()
    bin_directory.rmdir()
    assert host.snapshot() == before


@pytest.mark.parametrize("step", ["route replace", "rule add"])
def test_an_interrupted_set_up_can_be_undone(host: Host, step: str) -> None:
    before = host.snapshot()
    interrupting = host.programs / "ip"
    interrupting.write_text(
        f'#!/bin/sh\ncase "$*" in *"{step}"*) kill -INT $PPID; exit 130;; esac\n'
        f'exec {shutil.which("ip")} "$@"\n'
    )
    interrupting.chmod(0o755)
    interrupted = host.setup(*NAMED, good=False)
    assert interrupted.returncode == 130
    said = interrupted.stderr.splitlines()
    assert said[:2] == [
        "noid: interrupted; done, perhaps but for the last step:",
        f"write {host.config}",
    ]
    assert step in said[-2]
    assert said[-1] == "noid setup does the rest; noid setup --undo undoes this"
    assert host.journal.exists()

    interrupting.write_text(interrupting.read_text().replace(step, " del "))
    interrupted = host.setup("--undo", good=False)
    assert interrupted.returncode == 130
    said = interrupted.stderr.splitlines()
    assert said[0] == "noid: interrupted; not undone yet:"
    assert said[-2:] == [f"delete {host.config}", "noid setup --undo undoes this"]
    interrupting.unlink()
    host.setup("--undo")
    assert host.snapshot() == before


FULL: Final = """
mount -t tmpfs -o size=4096 none "$1" && chmod 700 "$1" && shift
"$@"; echo $?
head -c 4096 /dev/zero >"$JOURNAL/rest" || true
"$@" --undo; echo $?
ls "$JOURNAL"
"""


def test_what_was_done_on_a_disk_that_becomes_full_can_be_undone(host: Host) -> None:
    before = host.snapshot()
    host.journal.mkdir()
    places = ("--config", str(host.config), "--journal", str(host.journal))
    words = (*NOID, "setup", *places, *NAMED, "--no-doctor")
    script = ("env", f"JOURNAL={host.journal}", "sh", "-c", FULL, "sh", str(host.journal))
    done = host.run(*script, *words)
    refused = f"{host.journal / 'journal.json'}: No space left on device; make room there"
    assert refused in done.stderr
    assert "noid setup --undo undoes the steps that were done" in done.stderr
    lines = done.stdout.splitlines()
    assert lines[-2:] == ["0", "rest"]
    assert "1" in lines
    assert host.snapshot() == before


def test_an_interrupted_set_up_that_has_done_nothing_says_so(host: Host) -> None:
    interrupting = host.programs / "ip"
    interrupting.write_text("#!/bin/sh\nkill -INT $PPID; exit 130\n")
    interrupting.chmod(0o755)
    interrupted = host.setup(*NAMED, good=False)
    assert interrupted.returncode == 130
    assert interrupted.stderr == "noid: interrupted; nothing is changed\n"
    assert not host.config.exists()


@pytest.mark.parametrize("name", ['e"0', "eth[0]", "*", "$(id)", "'", "\\", "ü😀", "-6", "\x7f"])
def test_an_uplink_may_have_any_name(host: Host, name: str) -> None:
    before = host.snapshot()
    host.run("ip", "link", "set", "eth1", "name", name)
    host.run("ip", "link", "set", name, "up")
    prefix = PREFIXES["eth1"]
    host.run("ip", "address", "replace", f"{prefix}::a/64", "dev", name, "nodad")
    via = ("default", "via", f"{prefix}::1", "dev", name, "metric", "2")
    host.run("ip", "-6", "route", "replace", *via)
    (host.directory / "etc/network/interfaces").write_text(f"iface {name} inet6 manual\n")
    host.setup(*NAMED)
    patterns = load_config(host.config).host.interfaces
    for device in ("eth0", name, "eth9", "far-eth0", "eth"):
        is_wanted = any(fnmatch.fnmatchcase(device, one) for one in patterns)
        assert is_wanted == (device in ("eth0", name)), (device, patterns)
    assert host.leaves_by(address("eth1")) == name
    stanzas = (host.directory / "etc/network/interfaces.noid").read_text()
    assert f"iface {name} inet6 manual" in stanzas
    host.setup("--undo")
    after = host.snapshot()
    assert after["rules"] == before["rules"]
    assert not host.config.exists()


def test_a_link_to_a_configuration_stays_one(host: Host) -> None:
    target = host.directory / "elsewhere.toml"
    host.config.symlink_to(target)
    before = host.snapshot()
    for text in (None, "# mine\n"):
        if text is not None:
            target.write_text(text)
            before = host.snapshot()
        host.setup(*NAMED)
        assert load_config(target).host.name == "a.example"
        assert host.config.is_symlink()
        host.setup("--undo")
        assert host.config.is_symlink()
        assert host.snapshot() == before


def test_a_host_without_uplinks_is_refused_in_one_line(host: Host) -> None:
    host.ip("-6 route flush table main")
    refused = host.setup(*NAMED, good=False)
    assert "ip -6 route show default" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert host.setup("--undo").stdout == "nothing to undo\n"


def test_two_set_ups_do_not_run_at_once(host: Host) -> None:
    host.journal.mkdir(mode=0o700)
    descriptor = os.open(host.journal, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    refused = host.setup(*NAMED, good=False)
    os.close(descriptor)
    assert "another noid setup is running" in refused.stderr
    assert not host.config.exists()
