# SPDX-License-Identifier: MIT
"""The files of the state directory: with anything in them the daemon starts, and says so."""

import tempfile
from pathlib import Path

import msgspec

from noid.engine.events import ContextRestored
from noid.engine.secrets import KEY_OCTETS
from noid.state import contexts as stored_contexts
from noid.state import identity
from noid.state.contexts import ContextStore, decoded
from noid.state.identity import BIRTHDAYS, Stored, load_identity
from tests.engine.network import Network
from tests.fuzz.choices import Choices, altered
from tests.state.test_contexts import memory

STATE = msgspec.json.encode(Stored(birthday=7, reset_key="ab" * KEY_OCTETS))
MEMORY = "/dev/shm"
"""A file system without a disk, which is faster."""
LABEL = 7
ROW = msgspec.msgpack.encode(memory(LABEL))


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


def contexts(octets: bytes) -> None:
    """The contexts of an earlier daemon: any row, and any file."""
    choices = Choices(octets)
    for one in (octets, altered(choices, ROW)):
        found = decoded(LABEL, one)
        if found is not None:
            network = Network(seed=1)
            network.b.host.handle(ContextRestored(found), network.now_ns)
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        directory = Path(name)
        kept = ContextStore(directory)
        kept.keep([(LABEL, memory(LABEL))])
        kept.close()
        path = directory / stored_contexts.FILE_NAME
        path.write_bytes(octets if choices.flag() else altered(choices, path.read_bytes()))
        again = ContextStore(directory)
        assert all(label > 0 for label, _ in again.page(0, 200))
        again.keep([(LABEL, memory(LABEL))])
        again.close()
