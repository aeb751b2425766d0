# SPDX-License-Identifier: MIT
"""The files of the state directory: with anything in them the daemon starts, and says so."""

import tempfile
from pathlib import Path

import msgspec

from noid.constants import MINUTE, SECOND
from noid.engine.adoption import UPDATE_NONCE_LEAP
from noid.engine.events import ContextRestored, InstallFlow
from noid.engine.records import ContextRecord
from noid.engine.secrets import KEY_OCTETS
from noid.flows.clock import FlowClock
from noid.identifiers import NO_LABEL, Label
from noid.planes.bpf import layout
from noid.state import contexts as stored_contexts
from noid.state import identity
from noid.state.contexts import NONCES, ContextStore, decoded
from noid.state.identity import BIRTHDAYS, Stored, load_identity
from tests.engine.network import Network, packet
from tests.fuzz.choices import Choices, altered
from tests.state.test_contexts import memory, row

STATE = msgspec.json.encode(Stored(birthday=7, reset_key="ab" * KEY_OCTETS))
MEMORY = "/dev/shm"
"""A file system without a disk, which is faster."""
LABEL = Label(7)
ROW = msgspec.msgpack.encode(memory(LABEL))
HOME = 1
"""A row of the table of uplinks."""
DURATIONS = (0, SECOND, 6 * MINUTE)


def birthday(octets: bytes) -> None:
    """The birthday and the key: a start with any file, and the start after it."""
    choices = Choices(octets)
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        directory = Path(name)
        for one in (octets, altered(choices, STATE)):
            (directory / identity.FILE_NAME).write_bytes(one)
            first, second = load_identity(directory), load_identity(directory)
            assert len(first.reset_key) == KEY_OCTETS
            assert second.reset_key == first.reset_key, "it was replaced, durably"
            assert second.birthday == (first.birthday + 1) % BIRTHDAYS
            assert not second.warning


def record(octets: bytes) -> None:
    """The record of a context: what is accepted is taken up, goes on, and can be kept again."""
    choices = Choices(octets)
    for one in (octets, altered(choices, ROW)):
        found = decoded(LABEL, one)
        if found is not None:
            _go_on(found, choices.pick(DURATIONS))


def _go_on(found: ContextRecord, duration_ns: int) -> None:
    network = Network(seed=1)
    outputs = network.give(network.a, ContextRestored(found))
    sent = packet(found.local_aid, found.peer_aid)
    network.ulp_sends(network.a, sent)
    network.run(duration_ns)
    network.ulp_sends(network.a, sent)
    network.run(SECOND)
    for flow in [one.flow for one in outputs if isinstance(one, InstallFlow)]:
        layout.inbound_entries(flow, HOME, FlowClock())
    kept = network.a.host.memory_of(LABEL)
    is_used_up = found.update_nonce + UPDATE_NONCE_LEAP >= NONCES
    assert kept is None or is_used_up or decoded(LABEL, msgspec.msgpack.encode(kept)) == kept


def contexts(octets: bytes) -> None:
    """The contexts of an earlier daemon: any file."""
    choices = Choices(octets)
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        directory = Path(name)
        kept = ContextStore(directory)
        kept.keep([row(LABEL)])
        kept.close()
        path = directory / stored_contexts.FILE_NAME
        path.write_bytes(octets if choices.flag() else altered(choices, path.read_bytes()))
        again = ContextStore(directory)
        assert all(label > 0 for label, _ in again.page(NO_LABEL, 200))
        again.keep([(LABEL, memory(LABEL))])
        again.close()
