# SPDX-License-Identifier: MIT
"""Two labs that differ only in noid, measured in alternation; the result is the ratio of each turn.

Other load on the machine affects both.
"""

import argparse
import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, get_args

from noid.bench.report import Report, Series, Watch, add_runs, positive
from noid.errors import PlatformError
from noid.host.netlink import CUTTING
from noid.lab import machine, namespaces, topology
from noid.lab.inventory import Plane
from noid.lab.lab import Lab

PLANES: tuple[Plane, ...] = tuple(one for one in get_args(Plane) if one != "none")
PORT = 5201
SERVER, CLIENT = "b", "a"
PAIR = topology.locators(CLIENT)[0], topology.locators(SERVER)[0]
PROGRAMS = ("ip", "nsd", "nginx", "iperf3")
SEGMENTING = (*CUTTING, "tx-generic-segmentation")
START_TIMEOUT_S = 10.0
ANSWERS_TIMEOUT_S = 20.0
TURN_TIMEOUT_S = 60.0
QUIET_S = 0.2
"""After this time without a datagram, none is in flight."""

Measure = Callable[[Lab, int], float]
"""What a bench measures in one lab for so many seconds."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of benches with two labs."""
    add_runs(parser, default=7)
    parser.add_argument(
        "--plane", choices=PLANES, default=PLANES[0], help="of the lab with noid; default: auto"
    )
    parser.add_argument(
        "--seconds", type=positive, default=2, help="of each measurement; default: %(default)s"
    )
    parser.add_argument(
        "--moved", action="store_true", help="after the context has moved to the other uplink"
    )
    parser.add_argument(
        "--no-offloads",
        action="store_true",
        help="with uplinks that cut no super-packets (TSO and GSO off), in both labs",
    )


def compare(
    arguments: argparse.Namespace, watch: Watch, *, unit: str, measure: Measure, note: str
) -> Report:
    """Measures in both labs in alternation; the second of a turn is the first of the next.

    Raises:
        ShimError: a lab cannot be built, or a measurement fails.
    """
    machine.check_machine(*PROGRAMS)
    with (
        Lab.create(plane="none") as without,
        Lab.create(plane=arguments.plane) as with_noid,
        servers(without),
        servers(with_noid),
    ):
        _prepare(arguments, without, with_noid)
        plain, shimmed = alternate(
            arguments, watch, partial(measure, without), partial(measure, with_noid)
        )
        (context,) = with_noid.contexts(CLIENT)
        status = with_noid.status(CLIENT)["plane"]
    ratios = [mine / other for mine, other in zip(shimmed, plain, strict=True)]
    return Report(
        series={
            "noid_to_plain": Series(tuple(ratios)),
            f"plain_{unit}": Series(tuple(plain)),
            f"noid_{unit}": Series(tuple(shimmed)),
        },
        facts={
            "plane": status["kind"],
            "uplink": status["uplinks"].get("up1", ""),
            "locators": f"{context['local_locator']} -> {context['peer_locator']}",
            "packets_by_the_context": status["counters"]["packets_sent"],
            "counted": note,
        },
    )


def alternate(
    arguments: argparse.Namespace, watch: Watch, *measures: Callable[[int], float]
) -> list[list[float]]:
    """Measures each in turn, after a second that does not count; the order is reversed each time.

    Returns:
        For each of ``measures`` what it came to, run by run.
    """
    for one in measures:
        one(1)
    values: list[list[float]] = [[] for _ in measures]
    turn = list(zip(measures, values, strict=True))
    for run in range(arguments.runs):
        watch(run, arguments.runs)
        for one, found in turn if run % 2 else reversed(turn):
            found.append(one(arguments.seconds))
    watch(arguments.runs, arguments.runs)
    return values


def stream(lab: Lab, seconds: int, pair: tuple[str, str] = PAIR) -> float:
    """One TCP stream, by iperf3: Gbit/s received."""
    answer = _iperf3(lab, pair, "-t", str(seconds))
    return float(answer["end"]["sum_received"]["bits_per_second"]) / 1e9


def small_packets(lab: Lab, seconds: int, pair: tuple[str, str] = PAIR) -> float:
    """UDP with 64 octets as fast as one sender can, by iperf3: packets received in a second."""
    _let_arrive(lab)
    answer = _iperf3(lab, pair, "-t", str(seconds), "-u", "-l", "64", "-b", "0")
    total = answer["end"]["sum"]
    return float(total["packets"] - total["lost_packets"]) / float(total["seconds"])


def exchanges(lab: Lab, seconds: int) -> float:
    """One octet there and one back over TCP, again and again: exchanges in a second."""
    there, back = _connected(lab)
    with there, back:
        echo = threading.Thread(target=_echo, args=(back,), daemon=True)
        echo.start()
        count, end = 0, time.perf_counter() + seconds
        began = time.perf_counter()
        while time.perf_counter() < end:
            for _ in range(100):
                there.send(b".")
                if not there.recv(1):
                    raise PlatformError("exchange", 0, "the connection broke")
            count += 100
        took = time.perf_counter() - began
        there.shutdown(socket.SHUT_WR)
        echo.join()
    return count / took


def _echo(back: socket.socket) -> None:
    while octet := back.recv(1):
        back.send(octet)


def _connected(lab: Lab) -> tuple[socket.socket, socket.socket]:
    """Both ends of a TCP connection from a to b."""

    def listen() -> socket.socket:
        one = socket.create_server(("::", 0), family=socket.AF_INET6)
        one.settimeout(START_TIMEOUT_S)
        return one

    with namespaces.inside(namespaces.namespace(lab.name, SERVER), listen) as listening:
        port = listening.getsockname()[1]
        there = namespaces.inside(
            namespaces.namespace(lab.name, CLIENT),
            lambda: socket.create_connection((PAIR[1], port), timeout=START_TIMEOUT_S),
        )
        back, _ = listening.accept()
    for one in (there, back):
        one.settimeout(None)
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return there, back


def _iperf3(lab: Lab, pair: tuple[str, str], *options: str) -> dict[str, Any]:
    words = ["iperf3", "-6", "-B", pair[0], "-c", pair[1], "-p", str(PORT), "-J", *options]
    done = lab.run(CLIENT, words, timeout_s=TURN_TIMEOUT_S)
    answer: dict[str, Any] = json.loads(done.stdout or "{}")
    if done.returncode != 0 or "error" in answer:
        raise PlatformError("iperf3", done.returncode, answer.get("error", done.stderr.strip()))
    return answer


def _let_arrive(lab: Lab) -> None:
    """Waits until packets of an earlier turn have arrived.

    iperf3's server takes the first datagram it sees for the greeting of a new client.
    """

    def datagrams() -> str:
        return lab.run(
            SERVER, ["grep", "^Udp6InDatagrams\\|^Udp6NoPorts", "/proc/net/snmp6"]
        ).stdout

    def arrived() -> bool:
        before = datagrams()
        time.sleep(QUIET_S)
        return datagrams() == before

    lab.wait_for("no datagram is on the way", arrived, ANSWERS_TIMEOUT_S)


@contextlib.contextmanager
def servers(lab: Lab, address: str = PAIR[1]) -> Iterator[None]:
    """iperf3's other end, on b."""
    process = lab.spawn(SERVER, ["iperf3", "-s", "-B", address, "--forceflush", "-p", str(PORT)])
    lab.wait_for("iperf3 listens", lambda: "listening" in process.output(), START_TIMEOUT_S)
    yield


def _prepare(arguments: argparse.Namespace, without: Lab, with_noid: Lab) -> None:
    """The devices of both labs alike, and a context, where it is wanted."""
    if arguments.no_offloads:
        cut_segments(without, with_noid)
    if arguments.no_offloads and with_noid.plane == "bpf":
        with_noid.wait_for(
            "the plane has noticed",
            lambda: all(
                "cut before" in mode
                for host in (CLIENT, SERVER)
                for mode in with_noid.status(host)["plane"]["uplinks"].values()
            ),
            START_TIMEOUT_S,
        )
    ping = with_noid.spawn(CLIENT, ["ping", "-n", "-i0.1", f"{SERVER}.example"])
    try:
        with_noid.wait_for("the context is up", lambda: _pairs(with_noid), START_TIMEOUT_S)
        if arguments.moved:
            before = _pairs(with_noid)
            with_noid.cut_provider(1)
            with_noid.wait_for(
                "both ends have moved", lambda: _moved(with_noid, before), ANSWERS_TIMEOUT_S
            )
            with_noid.heal_provider(1)
    finally:
        ping.end()


def cut_segments(*labs: Lab) -> None:
    """Lets no uplink of the hosts cut super-packets."""
    for lab in labs:
        for host in (CLIENT, SERVER):
            lab.set_features(host, SEGMENTING, on=False)


def _pairs(lab: Lab) -> list[tuple[str, str]]:
    """The pairs in use of the one context at both ends, once all is verified."""
    contexts = [one for host in (CLIENT, SERVER) for one in lab.contexts(host)]
    if len(contexts) != 2 or not all(len(one["lsv_peer"]) == 2 for one in contexts):
        return []
    return [(one["local_locator"], one["peer_locator"]) for one in contexts]


def _moved(lab: Lab, before: list[tuple[str, str]]) -> bool:
    return all(new != old for new, old in zip(_pairs(lab), before, strict=True))
