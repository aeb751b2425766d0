# SPDX-License-Identifier: MIT
"""How long a daemon that starts again takes over very many contexts, and if it answers then."""

import argparse
import itertools
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from noid.bench.report import Bench, Report, Watch, add_contexts
from noid.constants import CONTEXTS_MAX, FLOW_LABEL_MASK, Codepoints
from noid.control.client import ask
from noid.engine.records import ContextRecord
from noid.errors import PlatformError, UsageError
from noid.flows.clock import FlowClock
from noid.flows.flow import Flow
from noid.identifiers import NO_LABEL, Label
from noid.lab import machine
from noid.lab.inventory import PINS
from noid.lab.lab import Lab
from noid.lab.waiting import wait_for
from noid.locators import Locator
from noid.planes.bpf import layout, libbpf
from noid.planes.bpf.carried import TABLES, pin_of
from noid.state.contexts import ContextStore

HOST, PEER = "a", "b"
ROW = 1
"""Of the first uplink, in the table of uplinks."""
PEER_PREFIXES: Final = ("20010db80003", "20010db80004")
NUMBER_OCTETS: Final = 10
SPARE: Final = 16
"""Room for contexts beside those that are made up."""
BATCH: Final = 5_000
ASK_EVERY_S: Final = 0.02
TIMEOUT_S: Final = 600.0
NOTE = (
    "a real daemon on a host of a lab, whose one real context was multiplied in memory file and "
    "kernel tables while there was none; from its start until it has taken all of them up; "
    "its status is queried fifty times a second during that time, which costs it time as well"
)


def _add_options(parser: argparse.ArgumentParser) -> None:
    add_contexts(parser, 100_000, "are there")


def measure(arguments: argparse.Namespace, watch: Watch) -> Report:
    """Kills a daemon, gives it many contexts, and starts it again.

    Raises:
        ShimError: a lab cannot be built, or the daemon does not take them up.
    """
    total: int = arguments.contexts
    if total + SPARE > CONTEXTS_MAX:
        raise UsageError(f"--contexts: a host has no more than {CONTEXTS_MAX - SPARE:,} beside one")
    machine.check_machine("ip", "nsd", "nginx")
    with Lab.create(plane="bpf") as lab:
        make_room(lab, total + SPARE)
        lab.kill_daemon(HOST)
        multiply(lab, total)
        return take_up(lab, total, watch)


def make_room(lab: Lab, contexts: int) -> None:
    """A daemon with room for so many contexts, and one of them."""
    lab.take_noid_down(HOST)
    path = lab.directory / f"{HOST}.toml"
    text = path.read_text(encoding="utf-8")
    path.write_text(
        text.replace("[plane]\n", f"[plane]\ncontexts = {contexts}\n"), encoding="utf-8"
    )
    lab.start_daemon(HOST)
    lab.run(HOST, ["ping", "-c1", "-w20", f"{PEER}.example"])

    def is_there() -> bool:
        return any(one["state"] == "established" for one in lab.contexts(HOST))

    wait_for("there is a context", is_there, TIMEOUT_S)


def multiply(lab: Lab, total: int) -> ContextRecord:
    """Stores and installs copies of the present context, each with another peer.

    Returns:
        The one there is.
    """
    memories = ContextStore(lab.directory / f"{HOST}-state")
    ((_, model),) = memories.page(NO_LABEL, 2)
    assert model is not None
    pins = lab.directory / PINS / HOST
    outbound, inbound = (_table(pins, name) for name in ("outbound", "inbound"))
    clock = FlowClock()
    alike = (like(model, label) for label in itertools.islice(labels_beside(model), total - 1))
    while batch := list(itertools.islice(alike, BATCH)):
        memories.keep((memory.local_label, memory) for memory in batch)
        flows = [_flow(memory) for memory in batch]
        came = [layout.inbound_entries(flow, ROW, clock)[0] for flow in flows]
        sent = [layout.outbound_entry(flow, ROW, Codepoints(), clock) for flow in flows]
        labels = [layout.label_key(flow.local_label) for flow in flows]
        pairs = [layout.aids_key(flow) for flow in flows]
        for table, keys, values in ((inbound, labels, came), (outbound, pairs, sent)):
            if table.put_all(b"".join(keys), b"".join(values)) != len(flows):
                raise PlatformError("bench adoption", 0, "the kernel has no room for so many")
    for table in (outbound, inbound):
        os.close(table.descriptor)
    memories.close()
    return model


def _table(pins: Path, name: str) -> libbpf.Table:
    descriptor = libbpf.pinned(pin_of(pins, name))
    assert descriptor is not None, "the daemon has pinned it"
    return libbpf.Table(descriptor, *TABLES[name])


def like(model: ContextRecord, label: Label) -> ContextRecord:
    """A context like another, under another label and with a peer of its own."""
    first, second = (
        Locator(bytes.fromhex(prefix) + label.to_bytes(NUMBER_OCTETS, "big"))
        for prefix in PEER_PREFIXES
    )
    return replace(
        model,
        peer_aid=first,
        local_label=label,
        peer_label=label,
        peer_locator=first,
        peer_local=(first, second),
        name=f"peer{label}.example",
        remote=(first, second),
        proven=(first, second),
    )


def label_of(locator: Locator) -> Label:
    """The label of the context with a peer that has a locator; 0 if no such peer has it."""
    known = locator[:-NUMBER_OCTETS].hex() in PEER_PREFIXES
    number = int.from_bytes(locator[-NUMBER_OCTETS:], "big") & FLOW_LABEL_MASK
    return Label(number) if known else NO_LABEL


def labels_beside(model: ContextRecord) -> Iterator[Label]:
    """The labels of contexts that are like another."""
    return (Label(one) for one in itertools.count(1) if one != model.local_label)


def _flow(memory: ContextRecord) -> Flow:
    return Flow(
        local_aid=memory.local_aid,
        peer_aid=memory.peer_aid,
        local_label=memory.local_label,
        peer_label=memory.peer_label,
        local_locator=memory.local_locator,
        peer_locator=memory.peer_locator,
        local_locators=frozenset(memory.own_local),
        peer_locators=frozenset(memory.peer_local),
        verified_locators=frozenset(memory.proven),
        rewritable=True,
        transmits=True,
        silence_ns=10**9,
    )


def take_up(lab: Lab, total: int, watch: Watch) -> Report:
    """Starts the daemon and asks it for its status again and again until it has them all."""
    command = [sys.executable, "-m", "noid", "run", "--config", f"{lab.directory}/{HOST}.toml"]
    began = time.monotonic()
    process = lab.spawn(HOST, command, name=f"noid-{HOST}")
    first = longest = 0.0
    while True:
        asked = time.monotonic()
        if asked - began > TIMEOUT_S or not process.running:
            raise PlatformError("bench adoption", 0, f"not taken up: {process.output()[-200:]}")
        try:
            status = ask(lab.control_socket(HOST), "status")
        except PlatformError:
            time.sleep(ASK_EVERY_S)
            continue
        answered = time.monotonic()
        longest = max(longest, answered - asked) if first else 0.0
        first = first or answered - began
        done = sum(status["contexts"].values())
        watch(done, total)
        if done >= total and status["taking_up"] is None:
            break
        time.sleep(ASK_EVERY_S)
    return Report(
        facts={
            "contexts": total,
            "seconds_to_take_up": round(answered - began, 2),
            "seconds_to_first_answer": round(first, 2),
            "longest_answer_milliseconds": round(longest * 1000),
            "resident_octets_each": round(_resident_octets(process.record.pid) / total),
            "counted": NOTE,
        }
    )


def _resident_octets(pid: int) -> int:
    """Of a process, as the kernel counts."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


BENCH = Bench(
    name="adoption",
    summary="how long a daemon that starts again takes over very many contexts",
    explanation=f"What is counted: {NOTE}.",
    example="noid bench adoption --contexts 20000 --json",
    add_options=_add_options,
    measure=measure,
)
