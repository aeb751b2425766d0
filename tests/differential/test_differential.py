# SPDX-License-Identifier: MIT
"""Every parser of noid, the kernel's stack and the second implementation judge packets alike.

Attacker: any host that can send packets to this host. The corpus has packets that parsers judged
differently before, and one of each kind; ``python -m tests.differential 1000000`` plays more.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from noid.config import Plane
from noid.flows.verdict import Outcome
from tests.differential.packets import Frame, Generator
from tests.differential.play import Stage
from tests.differential.players import PLAYER_OF, Law
from tests.namespaces import in_network_namespace

CORPUS = Path(__file__).parent / "corpus.txt"
GENERATED = 2_000
SEED = 7


def corpus() -> Iterator[Frame]:
    for line in CORPUS.read_text().split():
        yield Frame.of(bytes.fromhex(line))


@pytest.mark.slow
@pytest.mark.parametrize("source", ["corpus", "generator"])
def test_all_judge_a_packet_alike(source: str, tmp_path: Path) -> None:
    def play() -> None:
        stage = Stage(tmp_path, has_stack=True)
        generator = Generator(SEED)
        frames = (
            corpus() if source == "corpus" else map(lambda _: generator.frame(), range(GENERATED))
        )
        try:
            for frame in frames:
                assert not stage.differences(frame), frame.octets.hex()
        finally:
            stage.close()
        assert {one.value for one in Outcome} == set(stage.outcomes), "each was met"

    in_network_namespace(play)


def test_every_plane_has_a_player() -> None:
    assert set(PLAYER_OF) == set(get_args(Plane))


def test_the_corpus_has_no_packet_twice() -> None:
    lines = CORPUS.read_text().split()
    assert len(lines) == len(set(lines)) >= 300


@pytest.mark.parametrize("octets", range(1, 56))
def test_a_packet_cut_short_anywhere_is_neither_delivered_nor_sent_again(octets: int) -> None:
    law = Law()
    for frame in corpus():
        announced = 40 + int.from_bytes(frame.packet[4:6], "big")
        if octets < min(announced, len(frame.packet)):
            assert law.play(Frame(frame.packet[:octets])).outcome in ("not M6", "dropped")
