# SPDX-License-Identifier: MIT
"""An observer has every packet of a conversation, and sends it again after a restart [D36, D40].

The next daemon knows the greatest nonces of each peer, so that what was heard proves nothing.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from noid.constants import MILLISECOND, MINUTE, SECOND
from noid.engine.events import (
    ContextRestored,
    InstallFlow,
    LocatorsChanged,
    NoteHeard,
    Output,
    RememberLater,
)
from noid.engine.host import Host
from noid.engine.records import ContextRecord
from noid.flows.events import OneWayDataSeen
from noid.identifiers import NO_LABEL, Label
from noid.locators import Locator
from noid.roles.keeping import RENEWED_S, KeptContexts
from noid.state.contexts import ContextStore
from tests.attacks.test_observer import portrait
from tests.engine.network import A1, B1, B2, Network, Station, packet
from tests.engine.test_reachability import silence
from tests.state.test_contexts import memory

LABELS = range(1, 1_000)


class Keeping(Network):
    """Stations whose daemons store what the engine says, and no more."""

    def __init__(self) -> None:
        self.kept: dict[str, ContextRecord | None] = {}
        super().__init__()

    def carry_out(self, station: Station, output: Output) -> None:
        """Stores contexts as the daemon does."""
        match output:
            case InstallFlow():
                self.kept[station.name] = station.host.memory_of(output.flow.local_label)
            case RememberLater():
                self.kept[station.name] = station.host.memory_of(output.local_label)
        super().carry_out(station, output)

    def restart(self, station: Station) -> None:
        """Another daemon takes up what the one before has stored; the plane has gone on."""
        station.host = Host(station.host.options, station.random.randbytes)
        self.give(station, LocatorsChanged(station.locators))
        found = self.kept[station.name]
        assert found is not None
        self.give(station, ContextRestored(found))


def conversation() -> Keeping:
    """A conversation with probes of both ends, keepalives and a change of sets."""
    network = Keeping()
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(SECOND)
    network.give(network.b, LocatorsChanged((B1, B2), backup=frozenset({B2})))
    network.run(SECOND)
    for _ in range(4):
        for station in network.stations:
            network.give(station, silence(station))
            network.give(station, OneWayDataSeen(station.context.local_label))
            network.run(SECOND)
    return network


@pytest.mark.parametrize("end", ["a", "b"])
def test_what_was_heard_before_a_restart_proves_nothing_after_it(end: str) -> None:
    network = conversation()
    captured = list(network.trace)
    station = cast(Station, getattr(network, end))
    network.restart(station)
    network.run(MINUTE)
    before = portrait(station.context)
    station.outputs.clear()
    for octets in captured:
        network.arrive(octets)
        network.run(MILLISECOND)
    assert portrait(station.context) == before
    assert not [one for one in station.outputs if isinstance(one, NoteHeard)], "no sign of life"


def stored(
    directory: Path, use: Callable[[KeptContexts], None], *, renewed_s: float = RENEWED_S
) -> list[Locator]:
    """The peers in the file of a daemon, after it has stored and was killed, or ended."""

    async def play() -> None:
        kept = KeptContexts(
            store,
            lambda label: replace(memory(label), local_label=label),
            tuple,
            renewed_s=renewed_s,
        )
        use(kept)
        while len(store.page(NO_LABEL, len(LABELS))) < len(LABELS):
            await asyncio.sleep(0.01)

    store = ContextStore(directory)
    asyncio.run(play())
    return [one.peer_aid for _, one in store.page(NO_LABEL, 2 * len(LABELS)) if one is not None]


def test_new_nonces_are_stored_before_long(tmp_path: Path) -> None:
    def use(kept: KeptContexts) -> None:
        for label in LABELS:
            kept.renewed(Label(label))

    assert len(stored(tmp_path, use, renewed_s=0.01)) == len(LABELS)


def test_they_are_stored_at_once_when_the_daemon_ends(tmp_path: Path) -> None:
    def use(kept: KeptContexts) -> None:
        for label in LABELS:
            kept.renewed(Label(label))
        kept.close()

    assert len(stored(tmp_path, use)) == len(LABELS)
