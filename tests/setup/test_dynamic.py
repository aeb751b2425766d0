# SPDX-License-Identifier: MIT
"""Records sent to BIND 9 and to Knot DNS by RFC 2136, and taken back."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from noid.errors import ConfigError
from noid.lab.waiting import wait_for
from noid.setup.dynamic import read_key, readable_by_others
from tests.setup.host import LIMIT_S, PREFIXES, Host, address, two_uplinks

SECRET: Final = "bm90IGEgc2VjcmV0IG9mIGFueWJvZHkgYXQgYWxsISE="
KEY: Final = f'key "a.example" {{\n\talgorithm hmac-sha256;\n\tsecret "{SECRET}";\n}};\n'
REVERSE: Final = "8.b.d.0.1.0.0.2.ip6.arpa"
ZONES: Final = ("example", REVERSE)
ZONE: Final = """\
$TTL 300
@ SOA ns.example. root.example. 1 3600 600 86400 60
@ NS ns.example.
"""
BIND: Final = """\
options { directory "{place}"; listen-on { none; }; listen-on-v6 { ::1; }; recursion no;
  pid-file none; session-keyfile none; dnssec-validation no; };
controls { };
"""
BIND_ZONE: Final = (
    'zone "{zone}" {{ type primary; file "{zone}.zone"; allow-update {{ key a.example; }}; }};\n'
)
KNOT: Final = f"""\
server:
  listen: ::1@53
  rundir: "PLACE"
database:
  storage: "PLACE"
key:
  - id: a.example
    algorithm: hmac-sha256
    secret: {SECRET}
acl:
  - id: update
    key: a.example
    action: update
template:
  - id: default
    storage: "PLACE"
    file: "%s.zone"
    acl: update
zone:
"""

pytestmark = [pytest.mark.lab, pytest.mark.slow]


def start(kind: str, place: Path) -> list[str]:
    """The command that starts a name server on ::1 with its zones under a directory."""
    if not place.exists():
        place.mkdir()
        for zone in ZONES:
            (place / f"{zone}.zone").write_text(ZONE + "ns AAAA ::1\n" * (zone == "example"))
        (place / "key").write_text(KEY)
    conf = place / f"{kind}.conf"
    if kind == "bind":
        zones = "".join(BIND_ZONE.format(zone=zone) for zone in ZONES)
        conf.write_text(BIND.replace("{place}", str(place)) + KEY + zones)
        return ["named", "-f", "-u", "root", "-c", str(conf)]
    zones = "".join(f"  - domain: {zone}\n" for zone in ZONES)
    conf.write_text(KNOT.replace("PLACE", str(place)) + zones)
    return ["knotd", "-c", str(conf)]


@contextmanager
def server(kind: str, host: Host, place: Path) -> Iterator[None]:
    command = start(kind, place)
    with (
        (place / "log").open("w") as log,
        subprocess.Popen(host.command(*command), stdout=log, stderr=log) as process,
    ):
        try:
            wait_for(
                f"{kind} has its zones", lambda: len(asked(host, REVERSE, "SOA")) == 1, LIMIT_S
            )
            yield
        finally:
            process.terminate()


def asked(host: Host, name: str, kind: str) -> list[str]:
    said = host.run("dig", "+short", "@::1", name, kind, good=False).stdout.splitlines()
    return [line for line in said if not line.startswith(";")]


def pointer(host: Host, text: str) -> list[str]:
    return host.run("dig", "+short", "@::1", "-x", text, good=False).stdout.splitlines()


@pytest.mark.parametrize("kind", ["bind", "knot"])
def test_records_appear_change_with_a_prefix_and_disappear_with_undo(
    tmp_path: Path, kind: str
) -> None:
    place = tmp_path / "dns"
    with two_uplinks(tmp_path) as host, server(kind, host, place):
        named = ("--name", "a.example")
        words = (*named, "--update", "::1", "--tsig-key", str(place / "key"))
        assert "update add a.example. 300 IN AAAA" in host.setup(*words, "--dry-run").stdout
        assert asked(host, "a.example", "AAAA") == []

        host.setup(*words)
        assert sorted(asked(host, "a.example", "AAAA")) == [address("eth0"), address("eth1")]
        assert asked(host, "a.example", "TYPE65286") == ["\\# 0"]
        assert pointer(host, address("eth1")) == ["a.example."]

        host.ip(f"address del {address('eth1')}/64 dev eth1")
        host.ip("address add 2001:db8:3:a::a/64 dev eth1 nodad")
        (place / "key").rename(place / "moved")
        host.setup(*words[:-1], str(place / "moved"))
        assert sorted(asked(host, "a.example", "AAAA")) == [address("eth0"), "2001:db8:3:a::a"]
        assert pointer(host, address("eth1")) == []
        assert pointer(host, "2001:db8:3:a::a") == ["a.example."]

        host.setup(*named)
        assert pointer(host, "2001:db8:3:a::a") == ["a.example."]

        host.setup("--undo")
        assert asked(host, "a.example", "AAAA") == []
        assert asked(host, "a.example", "TYPE65286") == []
        assert pointer(host, address("eth0")) == []
        assert not host.config.exists()


def test_a_record_of_the_operator_stays_and_a_wrong_key_is_refused(tmp_path: Path) -> None:
    place = tmp_path / "dns"
    with two_uplinks(tmp_path) as host, server("knot", host, place):
        wrong = tmp_path / "wrong"
        wrong.write_text(KEY.replace("bm90", "bm91"))
        words = ("--name", "a.example", "--update", "::1", "--tsig-key")
        refused = host.setup(*words, str(wrong), good=False)
        assert refused.returncode != 0
        assert len(refused.stderr.splitlines()) == 1
        assert not host.config.exists()
        assert "a.example" not in host.setup("--undo").stdout

        send = f"server ::1\nupdate add a.example 60 AAAA {address('eth0')}\nsend\n"
        (tmp_path / "batch").write_text(send)
        host.run("nsupdate", "-k", str(place / "key"), str(tmp_path / "batch"))
        said = host.setup(*words, str(place / "key")).stdout
        assert f"every user of this host can read the key: chmod o-r {place / 'key'}" in said
        assert f"update add a.example. 300 IN AAAA {address('eth0')}" not in said
        host.setup("--undo")
        assert asked(host, "a.example", "AAAA") == [address("eth0")]

        other = host.setup("--name", "a.test", *words[2:], str(place / "key")).stdout
        assert "::1 does not have the zone of a record; add it to its zone: a.test." in other


def test_while_the_server_is_away_everything_but_its_records_is_undone(tmp_path: Path) -> None:
    place = tmp_path / "dns"
    with two_uplinks(tmp_path) as host:
        before = host.snapshot()
        named = ("--name", "a.example")
        with server("bind", host, place):
            host.setup(*named)
            host.setup(*named, "--update", "::1", "--tsig-key", str(place / "key"))
        refused = host.setup("--undo", good=False)
        assert refused.returncode != 0
        assert "steps that are not undone: 5; correct this, and run it again" in refused.stderr
        assert len(refused.stderr.splitlines()) == 1
        after = host.snapshot()
        assert (after["rules"], after["routes"]) == (before["rules"], before["routes"])
        assert not host.config.exists()

        with server("bind", host, place):
            (place / "key").rename(place / "moved")
            assert "name the key file: --tsig-key" in host.setup("--undo", good=False).stderr
            assert sorted(asked(host, "a.example", "AAAA")) == list(map(address, PREFIXES))
            host.setup("--undo", "--tsig-key", str(place / "moved"))
            assert asked(host, "a.example", "AAAA") == []
        assert not host.journal.exists()


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644, 0o604])
def test_a_key_that_every_user_can_read_is_noted(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key"
    path.write_text(KEY)
    path.chmod(mode)
    assert bool(readable_by_others(str(path))) is bool(mode & 0o004)


@pytest.mark.parametrize("text", ["", "key x { };", "# none", KEY.replace("sha256", "sha9")])
def test_a_file_without_a_key_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "key"
    path.write_text(text)
    with pytest.raises(ConfigError, match="tsig-keygen"):
        read_key(str(path))
    path.unlink()
    with pytest.raises(ConfigError, match="--tsig-key"):
        read_key(str(path))
