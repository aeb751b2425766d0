# SPDX-License-Identifier: MIT
"""How much faster many downloads are over two providers of limited rate than over one."""

import argparse
import json
import sys
import time
from typing import Final

from noid.bench.report import Bench, Report, Series, Watch, add_runs, positive
from noid.bench.twins import PLANES
from noid.control.client import ask
from noid.errors import PlatformError
from noid.lab import configuration, machine
from noid.lab.lab import Lab
from noid.lab.processes import Process
from noid.lab.servers import CONTENT_NAME
from noid.lab.topology import HOSTS, PROVIDERS, locators
from noid.lab.waiting import wait_for

CLIENT: Final = "a"
NUMBERS: Final = (1, 2)
BURST: Final = "128kb"
"""Two super-packets: in a lab they pass the providers whole."""
QUEUE: Final = "50ms"
OPEN_TIMEOUT_S: Final = 60.0
SETTLE_S: Final = 1.0
"""From the last connection to the measurement: the streams reach their rates."""
NOTE: Final = (
    "octets that both providers deliver to a, with their headers, while all downloads run; "
    "the ratio is taken turn by turn"
)


def _weights(text: str) -> tuple[int, int]:
    """The weights of the two uplinks, such as ``3:1``."""
    parts = text.split(":")
    if len(parts) == len(NUMBERS) and all(one.isdecimal() and 1 <= int(one) <= 8 for one in parts):
        return int(parts[0]), int(parts[1])
    raise argparse.ArgumentTypeError(f"{text!r} is not two weights from 1 to 8, such as 3:1")


def _add_options(parser: argparse.ArgumentParser) -> None:
    add_runs(parser)
    parser.add_argument("--plane", choices=PLANES, default=PLANES[0], help="default: auto")
    parser.add_argument(
        "--seconds", type=positive, default=5, help="of each measurement; default: %(default)s"
    )
    parser.add_argument(
        "--connections", type=positive, default=100, metavar="COUNT", help="default: %(default)s"
    )
    parser.add_argument(
        "--mbit", type=positive, default=100, help="rate of each provider; default: %(default)s"
    )
    parser.add_argument(
        "--weights", type=_weights, default=(1, 1), metavar="W1:W2", help="default: 1:1"
    )


def measure(arguments: argparse.Namespace, watch: Watch) -> Report:
    """Downloads over one provider and over both, alternately."""
    machine.check_machine("ip", "nsd", "nginx", "tc")
    one: list[float] = []
    both: list[float] = []
    first = at_first = 0
    chosen_by = ""
    with Lab.create(plane=arguments.plane) as lab:
        for provider in PROVIDERS:
            for host in HOSTS:
                _limit(lab, provider, host, arguments.mbit)
        for run in range(arguments.runs):
            watch(run, arguments.runs)
            sides = (((), one), (arguments.weights, both))
            for weights, rates in sides if run % 2 else reversed(sides):
                _configure(lab, weights)
                rate, local = _download(lab, arguments.connections, arguments.seconds)
                rates.append(rate)
                if weights:
                    first += local.get(locators(CLIENT)[0], 0)
                    at_first += arguments.connections
                    chosen_by = lab.status(CLIENT)["spread"]["by"]
        watch(arguments.runs, arguments.runs)
        status = lab.status(CLIENT)
    ratios = [two / single for two, single in zip(both, one, strict=True)]
    return Report(
        series={
            "both_to_one": Series(tuple(ratios)),
            "one_mbit_per_second": Series(tuple(one)),
            "both_mbit_per_second": Series(tuple(both)),
        },
        facts={
            "connections": arguments.connections,
            "started_at_the_first_uplink": f"{first} of {at_first}",
            "chosen_by": chosen_by,
            "plane": status["plane"]["kind"],
            "counted": NOTE,
        },
    )


def _limit(lab: Lab, provider: str, host: str, mbit: int) -> None:
    """Limits what a provider sends to a customer."""
    words = ["tc", "qdisc", "add", "dev", f"cust{host}", "root", "tbf", "rate", f"{mbit}mbit"]
    done = lab.run(provider, [*words, "burst", BURST, "latency", QUEUE])
    if done.returncode != 0:
        raise PlatformError(f"tc on {provider}", done.returncode, done.stderr.strip())


def _configure(lab: Lab, weights: tuple[int, ...]) -> None:
    """Sets the weights of the uplinks of the client; without any, the second is a backup."""
    text = configuration.noid_toml(CLIENT, lab.directory, lab.plane)
    text = text.replace("[dns]", '[dns]\npolicy = "rotate"')
    first, second = (lab.plan.uplink(CLIENT, number) for number in NUMBERS)
    if weights:
        text += f"[uplinks.{first}]\nweight = {weights[0]}\n"
        text += f"[uplinks.{second}]\nweight = {weights[1]}\n"
    else:
        text += f"[uplinks.{second}]\nbackup = true\n"
    lab.configure(CLIENT, text)
    wait_for("it applies", lambda: _is_used(lab, second) == bool(weights), OPEN_TIMEOUT_S)


def _is_used(lab: Lab, uplink: str) -> bool:
    """Whether connections may start at an uplink of the client, or a context uses it."""
    (found,) = (
        one
        for one in ask(lab.control_socket(CLIENT), "paths")["uplinks"]
        if one["uplink"] == uplink
    )
    return bool(not found["backup"] or found["contexts"])


def _download(lab: Lab, count: int, seconds: int) -> tuple[float, dict[str, int]]:
    """The rate of many downloads in Mbit/s, and how many started at each locator."""
    lab.serve_content()
    words = [sys.executable, "-m", "noid.bench.downloads", "--name", "b.example"]
    words += ["--path", f"/{CONTENT_NAME}", "--count", str(count)]
    process = lab.spawn(CLIENT, words)
    try:
        opened = wait_for("all downloads run", lambda: _opened(process), OPEN_TIMEOUT_S)
        time.sleep(SETTLE_S)
        before, began = _delivered(lab), time.monotonic()
        time.sleep(seconds)
        octets, took = _delivered(lab) - before, time.monotonic() - began
    finally:
        process.end()
    local: dict[str, int] = json.loads(opened)["local"]
    return 8 * octets / took / 1e6, local


def _opened(process: Process) -> str:
    """What the program has said.

    Raises:
        PlatformError: it has ended.
    """
    if process.popen.poll() is not None:
        raise PlatformError("downloads", process.popen.returncode, process.output().strip())
    return process.output().strip()


def _delivered(lab: Lab) -> int:
    return sum(lab.delivered_octets(number, CLIENT) for number in NUMBERS)


BENCH = Bench(
    name="spread",
    summary="many downloads over two providers of limited rate, to one",
    explanation=(
        "Host a downloads from b in a lab whose providers have a limited rate: with weights, so "
        "that connections are spread over both, and with the second as a backup, alternately."
    ),
    example="noid bench spread --weights 3:1 --json",
    add_options=_add_options,
    measure=measure,
)
