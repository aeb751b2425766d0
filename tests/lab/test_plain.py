# SPDX-License-Identifier: MIT
"""Where there is no M6, everything is as without noid: peers, the host itself, what it leaves."""

import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import dns.message
import dns.query
import pytest

from noid.counters import PlaneCounter
from noid.lab import configuration, namespaces
from noid.lab.lab import Lab
from noid.lab.processes import Process
from noid.lab.topology import HOSTS, NAME_SERVER, PLAIN_ADDRESS, locators
from noid.wire.ipv6 import ICMPV6, TCP
from tests.lab.captures import CONTROL_TYPE, next_headers, read_capture
from tests.lab.conversations import (
    PATIENCE_S,
    PEERS,
    Pinging,
    counters,
    establish_context,
    established,
    restart_daemons,
    serve_echoes,
    tcp,
)

B_1, _ = locators("b")
PINGS = 50
both_roles = pytest.mark.parametrize("client", HOSTS)
NETWORKING = (
    ("ip", "-6", "rule"),
    ("ip", "-6", "route", "show", "table", "all"),
    ("ip", "-o", "link"),
    ("ip", "-o", "address"),
)


@pytest.fixture(scope="module")
def echoing(lab: Lab) -> Lab:
    """The lab, with echo servers on both hosts."""
    serve_echoes(lab)
    return lab


@pytest.fixture
def forgetful(echoing: Lab) -> Lab:
    """The echoing lab, both daemons fresh."""
    restart_daemons(echoing)
    return echoing


@pytest.fixture
def late_lab(plain_lab: Lab) -> Iterator[Lab]:
    """A lab without noid that is ready for ``start_daemon``; noid is stopped again afterwards."""
    for host in HOSTS:
        text = configuration.noid_toml(host, plain_lab.directory, "tun")
        (plain_lab.directory / f"{host}.toml").write_text(text, encoding="utf-8")
    yield plain_lab
    plain_lab.stop_daemon(*HOSTS)


# --- a peer without M6 ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["plain.example", "a.example", "nobody.example"])
@pytest.mark.parametrize("rrtype", ["AAAA", "A", "TYPE65286"])
def test_the_stub_answers_programs_what_the_name_server_would(
    echoing: Lab, name: str, rrtype: str
) -> None:
    stub, server = (_ask(echoing, "a", where, name, rrtype) for where in ("::1", NAME_SERVER))
    assert stub.rcode() == server.rcode()
    assert {records.name for records in stub.answer} == {records.name for records in server.answer}
    assert _texts(stub) == _texts(server)


def test_the_stub_answers_with_one_address_of_a_peer_with_m6(echoing: Lab) -> None:
    establish_context(echoing)
    echoing.wait_for(
        "programs get one address",
        lambda: _texts(_ask(echoing, "a", "::1", "b.example", "AAAA")) == {B_1},
        PATIENCE_S,
    )


def test_a_host_without_m6_is_reached_past_the_shim(forgetful: Lab, tmp_path: Path) -> None:
    _assert_plain(forgetful, tmp_path, contexts=0)


def test_a_host_without_m6_is_reached_plain_while_a_context_exists(
    forgetful: Lab, tmp_path: Path
) -> None:
    establish_context(forgetful)
    _assert_plain(forgetful, tmp_path, contexts=1)


def _assert_plain(lab: Lab, directory: Path, *, contexts: int) -> None:
    """Talks to plain.example from a and asserts that noid has no part in it."""
    before = counters(lab, "a")
    outside, inside = directory / "isp1.pcapng", directory / "noid0.pcapng"
    with (
        lab.capture("isp1", "custa", outside),
        lab.capture("a", "noid0", inside),
        tcp(lab, "a", "plain.example") as conversation,
    ):
        conversation.echoes()
        done = lab.run("a", ["ping", f"-c{PINGS}", "-i0.01", "-w20", "plain.example"])
        assert f"{PINGS} received" in done.stdout
    route = lab.run("a", ["ip", "-6", "route", "get", PLAIN_ADDRESS]).stdout
    assert " dev up1 " in route
    assert next_headers(outside, f"ipv6.addr == {PLAIN_ADDRESS}") == {TCP, ICMPV6}
    assert not read_capture(inside, f"ipv6.addr == {PLAIN_ADDRESS}", "ipv6.nxt")
    control = f"icmpv6.type == {CONTROL_TYPE} && ipv6.addr == {PLAIN_ADDRESS}"
    assert not read_capture(outside, control, "ipv6.nxt")
    assert [len(lab.contexts(host)) for host in HOSTS] == [contexts, contexts]
    # Hosts that have a context may measure their pairs at the same time: a few messages.
    counted = counters(lab, "a") - before
    del counted[PlaneCounter.PACKETS_TO_SLOW_PATH]  # a control message may come at any time
    assert max(counted.values(), default=0) < (PINGS if contexts else 1), counted


# --- a peer of which the DNS does not say that it speaks M6 ---------------------------------------


def test_a_peer_without_the_m6_record_gets_an_init_if_configured(
    late_lab: Lab,
) -> None:
    _look_for_no_record(late_lab, probe=True)
    _establish_by_stub(late_lab)
    assert [late_lab.status(host)["contexts"] for host in HOSTS] == [{"established": 1}] * 2


def test_a_peer_without_the_m6_record_gets_no_init_by_default(late_lab: Lab) -> None:
    _look_for_no_record(late_lab, probe=False)
    assert _ask(late_lab, "a", "::1", "b.example", "AAAA").answer
    done = late_lab.run("a", ["ping", "-c10", "-i0.2", "-w20", B_1])
    assert "10 received" in done.stdout
    assert [late_lab.status(host)["contexts"] for host in HOSTS] == [{}, {}]


def test_a_host_that_does_not_answer_init_is_reached_with_plain_packets(late_lab: Lab) -> None:
    _look_for_no_record(late_lab, probe=True)
    assert _ask(late_lab, "a", "::1", "plain.example", "AAAA").answer
    done = late_lab.run("a", ["ping", "-c20", "-i0.2", "-w40", PLAIN_ADDRESS])
    assert "20 received" in done.stdout


# --- the host before and after --------------------------------------------------------------------


def test_a_daemon_that_is_stopped_leaves_the_host_as_it_was(late_lab: Lab) -> None:
    before = _networking(late_lab)
    for host in HOSTS:
        late_lab.start_daemon(host)
    _establish_by_stub(late_lab)
    assert _networking(late_lab) != before
    late_lab.stop_daemon("a")
    assert _networking(late_lab) == before
    assert not late_lab.control_socket("a").exists()


def test_a_daemon_that_is_killed_leaves_a_rule_that_leads_nowhere(late_lab: Lab) -> None:
    before = _networking(late_lab)
    late_lab.start_daemon("b")
    late_lab.start_daemon("a").end()
    _kill_while_in_use(late_lab)
    left = _networking(late_lab)
    rules = left.pop("rule").splitlines(keepends=True)
    ours = [rule for rule in rules if rule.startswith(("60:", "63:", "64:"))]
    assert len(ours) == 3
    assert "".join(rule for rule in rules if rule not in ours) == before.pop("rule")
    assert left == before
    done = late_lab.run("a", ["ping", "-c2", "-i0.1", "-w20", PLAIN_ADDRESS])
    assert "2 received" in done.stdout


def test_a_daemon_takes_over_what_a_killed_one_left(late_lab: Lab) -> None:
    late_lab.start_daemon("b")
    before = _networking(late_lab)
    _kill_while_in_use(late_lab)
    late_lab.start_daemon("a")
    _establish_by_stub(late_lab)
    assert _networking(late_lab)["rule"].count("lookup 27958") == 1
    late_lab.stop_daemon("a")
    assert "lookup 27958" not in _networking(late_lab)["rule"]
    assert {**_networking(late_lab), "rule": ""} == {**before, "rule": ""}


# --- a peer that stops, and one that comes back ---------------------------------------------------


def monitoring(lab: Lab, node: str) -> Process:
    """``noid monitor`` on a node, once it shows what happens."""
    command = [sys.executable, "-m", "noid", "monitor", "--json"]
    process = lab.spawn(node, [*command, "--socket", str(lab.control_socket(node))])
    lab.wait_for("noid monitor is connected", lambda: "monitoring" in process.output(), PATIENCE_S)
    return process


@both_roles
def test_a_host_whose_peer_has_stopped_reaches_it_plainly(forgetful: Lab, client: str) -> None:
    establish_context(forgetful, client)
    try:
        with Pinging(forgetful, client) as ping:
            ping.goes_on()
            monitor = monitoring(forgetful, client)
            forgetful.take_noid_down(PEERS[client])
            ping.goes_on()
            forgetful.wait_for(
                "it is known to be unable",
                lambda: "it does not know M6" in monitor.output(),
                PATIENCE_S,
            )
            ping.goes_on()
            with tcp(forgetful, client) as conversation:
                conversation.echoes()
    finally:
        forgetful.start_daemon(PEERS[client])


@both_roles
def test_a_connection_goes_on_when_one_end_stops_noid(forgetful: Lab, client: str) -> None:
    establish_context(forgetful)
    with tcp(forgetful, client) as conversation:
        conversation.echoes()
        forgetful.take_noid_down("a")
        try:
            conversation.echoes()
        finally:
            forgetful.start_daemon("a")


@both_roles
@pytest.mark.parametrize("restarted", HOSTS)
def test_a_connection_goes_on_when_a_daemon_is_started_again(
    forgetful: Lab, client: str, restarted: str
) -> None:
    establish_context(forgetful, client)
    with tcp(forgetful, client) as conversation:
        conversation.echoes()
        forgetful.stop_daemon(restarted)
        forgetful.start_daemon(restarted)
        conversation.echoes()
        conversation.echoes()


def test_a_connection_is_protected_again_after_its_daemon_was_killed(forgetful: Lab) -> None:
    forgetful.stop_daemon("a")
    daemon = forgetful.start_daemon("a")
    establish_context(forgetful)
    with tcp(forgetful, "a") as conversation:
        conversation.echoes()
        _kill(daemon)
        forgetful.start_daemon("a")

        def spoken_to_by_context() -> bool:
            conversation.echoes()
            return all(established(forgetful, host) for host in HOSTS)

        forgetful.wait_for("both have the context again", spoken_to_by_context, PATIENCE_S)
        forgetful.cut_provider(1)
        try:
            conversation.echoes()
        finally:
            forgetful.heal_provider(1)


# --- what the tests above stand on ----------------------------------------------------------------


def _ask(lab: Lab, host: str, server: str, name: str, rrtype: str) -> dns.message.Message:
    """The answer a program on a host gets from a server."""
    query = dns.message.make_query(name, rrtype)
    namespace = namespaces.namespace(lab.name, host)
    return namespaces.inside(namespace, lambda: dns.query.udp(query, server, timeout=PATIENCE_S))


def _texts(answer: dns.message.Message) -> set[str]:
    return {record.to_text() for records in answer.answer for record in records}


def _networking(lab: Lab) -> dict[str, str]:
    """All that ip tells of the rules, routes, devices and addresses of a."""
    found = {}
    for words in NETWORKING:
        done = lab.run("a", words)
        assert done.returncode == 0, done.stderr
        found[words[2]] = done.stdout
    return found


def _look_for_no_record(lab: Lab, *, probe: bool) -> None:
    """Starts noid on both hosts; for a, no name has the record that says it speaks M6."""
    place = lab.directory / "a.toml"
    text = configuration.noid_toml("a", lab.directory, "tun")
    text = text.replace("[dns]", f"[dns]\nprobe = {json.dumps(probe)}")
    place.write_text(f"{text}[codepoints]\nm6_rrtype = 65287\n", encoding="utf-8")
    for host in HOSTS:
        lab.start_daemon(host)


def _establish_by_stub(lab: Lab) -> None:
    """Establishes a context of a where the programs do not ask the stub by themselves."""
    assert _ask(lab, "a", "::1", "b.example", "AAAA").answer
    done = lab.run("a", ["ping", "-c3", "-i0.2", "-w20", B_1])
    # The first answer is lost where b still has a context that the end of another noid outlived.
    assert done.returncode == 0, done.stdout
    lab.wait_for("the context is up", lambda: _has_context(lab), PATIENCE_S)


def _has_context(lab: Lab) -> bool:
    return "noid0" in lab.run("a", ["ip", "-6", "route", "get", B_1]).stdout


def _kill_while_in_use(lab: Lab) -> None:
    """Starts noid on a, lets it have a context, and kills it with no time to tidy up."""
    daemon = lab.start_daemon("a")
    _establish_by_stub(lab)
    _kill(daemon)
    assert lab.control_socket("a").exists()


def _kill(daemon: Process) -> None:
    daemon.popen.kill()
    assert daemon.popen.wait(PATIENCE_S) == -signal.SIGKILL
