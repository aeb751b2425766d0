# SPDX-License-Identifier: MIT
"""What ``noid doctor`` suggests is typed, and the line that suggested it becomes ok."""

import ast
import contextlib
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from noid.control.client import answers
from noid.doctor import checks, programs
from noid.doctor.remedies import of_sources
from noid.lab.waiting import wait_for
from noid.state.history import FILE_NAME as HISTORY_FILE
from tests.setup.host import LIMIT_S, PREFIXES, Host, address, fresh
from tests.setup.test_dynamic import server

NOID_WORDS: Final = (sys.executable, "-m", "noid")
NOID: Final = f'noid() {{ {sys.executable} -m noid "$@"; }}; '
ROUNDS_MAX: Final = 6
ELSEWHERE: Final = "2001:db8:9::9"
RULES: Final = """\
table inet house {
    chain input { type filter hook input priority 0; policy accept; icmpv6 type 200 drop; }
}
"""
TYPED: Final = {
    *("addresses", "route from", "mtu", "name", "resolvers", "forward", "m6 record", "reverse"),
    *("resolver", "firewall", "kernel", "daemon", "uplinks", "sources", "events", "state"),
}
"""The checks whose fixes are typed here; ``sources`` and that of a data plane in the lab."""

pytestmark = [pytest.mark.lab, pytest.mark.slow]


class Operator:
    """Reads what the doctor suggests, and types it.

    Args:
        host: the host.
        place: of the files of the name server.
    """

    def __init__(self, host: Host, place: Path) -> None:
        self.host = host
        self.place = place
        self.resolv_conf = host.directory / "resolv.conf"
        self.socket = host.directory / "noid.sock"
        self.daemon: subprocess.Popen[bytes] | None = None
        self.command = ""
        self.fixed: set[str] = set()

    def examine(self) -> list[dict[str, Any]]:
        """What the doctor says, once no address is being tried."""
        wait_for("addresses", self._is_settled, LIMIT_S)
        words = ("--config", str(self.host.config), "--resolv-conf", str(self.resolv_conf))
        done = self.host.run(*NOID_WORDS, "doctor", "--json", *words, good=False)
        assert not done.stderr, done.stderr
        findings: list[dict[str, Any]] = json.loads(done.stdout)
        assert done.returncode == any(one["health"] == "wrong" for one in findings)
        return findings

    def _is_settled(self) -> bool:
        return "tentative" not in self.host.ip("-6 address show")

    def repair(self) -> None:
        """Types every fix, from top to bottom, until nothing is wrong."""
        suggested: dict[str, str] = {}
        texts: dict[str, str] = {}
        for _ in range(ROUNDS_MAX):
            findings = self.examine()
            now = {(one["check"], one["text"]) for one in findings if one["health"] == "wrong"}
            for check, mend in suggested.items():  # a link may be up now and lack its route
                assert (check, texts[check]) not in now, f"{check}: {mend} did not help: {findings}"
            self.fixed |= suggested.keys()
            texts = dict(now)
            wrong = {one["check"]: one["mend"] for one in findings if one["health"] == "wrong"}
            if not wrong:
                return
            suggested = {check: mend for check, mend in wrong.items() if check != "daemon"} or wrong
            for check, mend in suggested.items():
                self.type(check, mend)
        raise AssertionError(f"still wrong: {wrong}")

    def type(self, check: str, mend: str) -> None:
        """Types one suggestion; words in capitals are what an operator knows."""
        device = "eth1"
        mend = mend.replace("ADDRESS/64", f"{address(device)}/64").replace('"ADDRESS"', '"::1"')
        mend = mend.replace("DEVICE", device).replace("ROUTER", f"{PREFIXES[device]}::1")
        if mend.startswith("noid run"):
            self.command = mend
            self._start(mend)
        elif mend.endswith("restart the daemon"):
            self.stop()
            self._start(self.command)
        elif mend.startswith("["):
            section, _, line = mend.partition(", or ")[0].partition("] ")
            text = self.host.config.read_text()
            title = f"{section}]\n"
            text += title * (title not in text)
            self.host.config.write_text(text.replace(title, f"{title}{line}\n"))
        elif mend == "remove its AAAA record":
            self.update(f"update delete a.example. AAAA {check.split()[1]}")
        elif " IN " in mend:
            self.update(f"update add {mend}")
        else:
            self.host.run("sh", "-euc", NOID + mend)

    def _start(self, command: str) -> None:
        words = [*NOID_WORDS, *command.split()[1:]]
        log = (self.host.directory / "noid.log").open("ab")
        with log:
            self.daemon = subprocess.Popen(self.host.command(*words), stdout=log, stderr=log)
        wait_for("noid answers", lambda: answers(self.socket), LIMIT_S)

    def update(self, line: str) -> None:
        """Sends a line of nsupdate to the name server."""
        text = f"server ::1\n{line}\nsend\n"
        path = self.place / "update"
        path.write_text(text)
        self.host.run("nsupdate", "-k", str(self.place / "key"), str(path))

    def stop(self) -> None:
        """Ends the daemon."""
        if self.daemon is not None:
            self.daemon.send_signal(signal.SIGTERM)
            self.daemon.wait(LIMIT_S)


@contextlib.contextmanager
def operated(host: Host, place: Path) -> Iterator[Operator]:
    """An operator of a host with a name server."""
    with server("bind", host, place):
        operator = Operator(host, place)
        try:
            yield operator
        finally:
            operator.stop()


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with fresh(tmp_path) as one:
        yield one


def break_everything(host: Host) -> None:
    """A host on which nothing is set up."""
    for metric, (device, prefix) in enumerate(PREFIXES.items(), 1):
        host.ip(f"link set {device} up")
        host.ip(f"-6 route add default via {prefix}::1 dev {device} onlink metric {metric}")
    host.ip(f"address add {address('eth0')}/64 dev eth0 nodad")
    host.ip("link add small type veth peer name far-small")
    host.ip("link set small mtu 1000 up")
    host.run("sh", "-euc", f"nft -f - <<'END'\n{RULES}END")
    (host.directory / "resolv.conf").write_text("search example\n")
    sections = {
        "control": {"socket": f"{host.directory}/noid.sock"},
        "state": {"directory": f"{host.directory}/state"},
        "dns": {"listen": "127.0.0.1"},
        "plane": {"kind": "tun"},
        "events": {"directory": f"{host.directory}/for events"},
    }
    lines = [
        line
        for name, keys in sections.items()
        for line in (f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in keys.items()))
    ]
    host.config.write_text("\n".join(lines) + "\n")
    script = host.directory / "for events" / "script"
    script.parent.mkdir()
    script.write_text("#!/bin/sh\n")
    state = host.directory / "state"
    state.mkdir(mode=0o700)
    (state / HISTORY_FILE).write_text("no database")
    (state / HISTORY_FILE).chmod(0o600)


def test_each_fix_of_a_host_where_everything_is_wrong_corrects_its_line(
    host: Host, tmp_path: Path
) -> None:
    break_everything(host)
    with operated(host, tmp_path / "dns") as operator:
        operator.update(f"update add a.example. 300 IN AAAA {ELSEWHERE}")
        operator.repair()
        first = {re.sub(r" \S*:\S*$", "", one) for one in operator.fixed}
        assert first == TYPED - {"kernel", "uplinks", "sources"}

        host.ip("link set eth1 down")
        wait_for("the uplink is down", lambda: is_down(operator), LIMIT_S)
        operator.repair()
        assert "uplinks" in operator.fixed


def is_down(operator: Operator) -> bool:
    said = operator.host.run(*NOID_WORDS, "paths", "--json", "--socket", str(operator.socket))
    return any(one["state"] == "down" for one in json.loads(said.stdout)["uplinks"])


def test_a_tun_device_that_is_not_there_is_made(host: Host) -> None:
    """In one mount namespace, as a container may have no such device."""
    words = f"doctor --json --config {host.config}"
    host.config.write_text("")
    script = f"""
{NOID}
mount -t tmpfs none /dev/net
said() {{ noid {words} | {sys.executable} -c '
import json, sys
(one,) = [one for one in json.load(sys.stdin) if one["check"] == "kernel"]
print(one["health"] if sys.argv[1] == "health" else one["mend"])
' "$1"; }}
test "$(said health)" = wrong
eval "$(said mend)"
test "$(said health)" = ok
"""
    host.run("sh", "-euc", script)


@pytest.mark.parametrize("by_router", [False, True])
def test_locators_get_the_same_interface_identifier(host: Host, *, by_router: bool) -> None:
    host.ip("link set eth0 up")
    host.ip("link set eth1 up")
    host.ip(f"address add {address('eth0')}/64 dev eth0 nodad")
    host.run("sh", "-c", "echo 0 >/proc/sys/net/ipv6/conf/far-eth1/accept_ra")
    host.config.write_text('[host]\ninterfaces = ["eth*"]\n')
    if not by_router:
        host.ip(f"address add {PREFIXES['eth1']}::b/64 dev eth1 nodad")
    wait_for("an address", lambda: identifiers(host, by_router=by_router), LIMIT_S)
    assert "a" not in identifiers(host, by_router=by_router)
    before = identifier_check(host)
    assert before["health"] == "unknown"
    host.run("sh", "-euc", before["mend"])
    wait_for("another", lambda: identifiers(host, by_router=by_router) == ["a"], LIMIT_S)
    assert identifier_check(host)["health"] == "ok"


def identifiers(host: Host, *, by_router: bool) -> list[str]:
    """Those of the global addresses of eth1 that are in use, after another advertisement."""
    if by_router:
        advertise(host, "eth1")
    found = json.loads(host.ip("-j -6 address show dev eth1 scope global -tentative"))
    local = [one["local"] for link in found for one in link.get("addr_info", ()) if "local" in one]
    return [one.partition("::")[2] or one for one in local]


def identifier_check(host: Host) -> dict[str, Any]:
    words = (*NOID_WORDS, "doctor", "--json", "--config", str(host.config))
    found = json.loads(host.run(*words, good=False).stdout)
    return next(one for one in found if one["check"] == "interface identifier")


def test_temporary_addresses_stay_away(host: Host) -> None:
    """The advice for programs that send from one; the lab has that for other addresses."""
    host.run("sh", "-c", "echo 2 >/proc/sys/net/ipv6/conf/eth1/use_tempaddr")
    host.ip("link set eth1 up")

    def temporary() -> list[str]:
        found = json.loads(host.ip("-j -6 address show dev eth1"))
        return [one["local"] for link in found for one in link["addr_info"] if "temporary" in one]

    def is_there() -> bool:
        advertise(host, "eth1")
        return bool(temporary())

    wait_for("a temporary address", is_there, LIMIT_S)
    say = f"from noid.doctor.remedies import of_sources; print(of_sources({temporary()!r}, []))"
    mend = host.run(sys.executable, "-c", say).stdout.strip()
    commands, _, last = mend.rpartition("; ")
    assert last == "noid reload"
    host.run("sh", "-euc", commands)
    advertise(host, "eth1")
    assert temporary() == []


def advertise(host: Host, device: str) -> None:
    """A router at the other end of a link advertises the prefix."""
    script = (
        "from noid.lab.advertisement import advertisement, send;"
        f"send('far-{device}', advertisement('{PREFIXES[device]}::/64', lifetime_s=1800))"
    )
    done = host.run(sys.executable, "-c", script, good=False)
    assert done.returncode == 0 or "Errno 99" in done.stderr, done.stderr  # still tentative


# --- without a host -------------------------------------------------------------------------------


def test_every_check_that_can_be_wrong_is_typed() -> None:
    """Names of the checks, without the address that some end with."""
    files = [Path(str(one.__file__)) for one in (checks, programs)]
    texts = [one.read_text(encoding="utf-8") for one in files]
    nodes = [node for text in texts for node in ast.walk(ast.parse(text))]
    calls = [node for node in nodes if isinstance(node, ast.Call)]
    found = {
        re.split(r" ?\{", ast.unparse(node.args[0]).removeprefix("f").strip("'"))[0]
        for node in calls
        if ast.unparse(node.func) == "_of_record"
        or [ast.unparse(one) for one in node.args[1:2]] == ["Health.WRONG"]
    }
    names = found - {"check"}
    assert names == TYPED


def test_a_source_that_is_no_locator_can_be_listed_as_one() -> None:
    mend = of_sources(["2001:db8::9"], ["2001:db8::1"])
    assert '[host] locators = ["2001:db8::1", "2001:db8::9"]' in mend
    assert mend.endswith("; noid reload")
