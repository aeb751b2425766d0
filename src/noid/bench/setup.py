# SPDX-License-Identifier: MIT
"""How many contexts two engines can set up in a second [draft §4.1]."""

import argparse
import time

from noid.bench.encounter import Client, Encounter
from noid.bench.report import Bench, Report, Series, Watch, add_contexts, add_runs
from noid.engine.state import State
from noid.errors import ShimError

MESSAGES = 4
"""INIT, CC, CCR, CONF."""
NOTE = (
    "one process, one core, seconds of processor time; in the figure: both ends, every "
    "message encoded, decoded, summed and hashed, and every DNS answer, forward and reverse, "
    "until both locators of the peer are proven at both ends; not in the figure: the making "
    "of the clients' empty engines"
)


def _add_options(parser: argparse.ArgumentParser) -> None:
    add_runs(parser)
    add_contexts(parser, 5_000, "clients set one up with the server in each run")


def measure(arguments: argparse.Namespace, watch: Watch) -> Report:
    """Sets up contexts between clients and a server, in several runs."""
    rates = []
    encounter = Encounter(seed=0)
    for run in range(arguments.runs):
        watch(run, arguments.runs)
        encounter = Encounter(seed=run)
        clients = [encounter.client(number + 1) for number in range(arguments.contexts)]
        started_ns = time.process_time_ns()
        for client in clients:
            encounter.meet(client)
        seconds = (time.process_time_ns() - started_ns) / 1e9
        _check(encounter, clients)
        rates.append(round(len(clients) / seconds, 1))
    watch(arguments.runs, arguments.runs)
    return Report(
        series={"set_ups_per_second": Series(tuple(rates))},
        facts={
            "set_ups_per_run": arguments.contexts,
            "messages_per_set_up": encounter.messages / arguments.contexts,
            "dns_answers_per_set_up": encounter.answers_given / arguments.contexts,
            "counted": NOTE,
        },
    )


def _check(encounter: Encounter, clients: list[Client]) -> None:
    """Checks that both ends have every context, and may use every locator of the peer."""
    ends = [context for one in clients for context in one.host.contexts]
    ends += encounter.server.contexts
    good = [
        one
        for one in ends
        if one.state is State.ESTABLISHED and len(one.peer_verified) == len(one.own_local)
    ]
    if len(good) != 2 * len(clients) or encounter.messages != MESSAGES * len(clients):
        raise ShimError(f"{2 * len(clients) - len(good)} ends of contexts are not established")


BENCH = Bench(
    name="setup",
    summary="complete set-ups between two engines: INIT, CC, CCR, CONF and the DNS answers",
    explanation=f"What is counted: {NOTE}.",
    example="noid bench setup --json",
    add_options=_add_options,
    measure=measure,
)
