# SPDX-License-Identifier: MIT
"""A context whose rare data stays unanswered suspects its pair soon, and seldom in vain."""

import pytest

from noid.engine.context import Context
from noid.engine.events import Input, MeasurePairs
from noid.engine.history import Pair
from noid.roles.sparse_data import CONTEXTS_MAX, REST_NS, SparseData
from tests.engine.network import A1, A2, B1, B2, START_NS, Network, established

WAIT_S = 0.1
WAIT_NS = 100_000_000
SECOND = 1_000_000_000


class Scene:
    """A context, what it asks, and how long its packets have been unanswered."""

    def __init__(self) -> None:
        self.network: Network = established()
        (self.context,) = self.network.a.host.contexts
        self.asked: list[Input] = []
        self.silence_ns = 0
        self.sparse = SparseData(
            self.network.a.host,
            latest=self.latest,
            silence_ns=lambda label: self.silence_ns,
            wait_s=self.wait_s,
            handle=self.asked.append,
        )

    def latest(self, count: int) -> list[int]:
        assert count == CONTEXTS_MAX
        return [1, self.context.local_label]  # the first is that of no context any more

    def wait_s(self, context: Context, pair: Pair, *, here: bool) -> float:
        assert (context, pair, here) == (self.context, context.pair, True)
        return WAIT_S

    def look(self, now_ns: int) -> int:
        """How many questions are asked."""
        self.asked.clear()
        self.sparse.look(now_ns)
        return len(self.asked)


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_a_packet_without_an_answer_causes_one_question(scene: Scene) -> None:
    for scene.silence_ns in (0, WAIT_NS - 1):
        assert not scene.look(START_NS)
    scene.silence_ns = WAIT_NS
    assert scene.look(START_NS)
    assert scene.asked == [MeasurePairs(scene.context.local_label, (), suspects=True)]
    assert not scene.look(START_NS + REST_NS - 1), "the law of quiet"
    assert scene.look(START_NS + REST_NS)


def test_after_a_question_that_was_right_the_next_pair_is_asked_at_once(scene: Scene) -> None:
    scene.silence_ns = WAIT_NS
    assert scene.look(START_NS)
    scene.context.local_locator, scene.context.peer_locator = A2, B2
    scene.silence_ns = 0
    assert not scene.look(START_NS + 1)
    scene.context.local_locator, scene.context.peer_locator = A1, B1
    scene.silence_ns = WAIT_NS
    assert scene.look(START_NS + 2)


def test_a_context_that_searches_is_not_asked(scene: Scene) -> None:
    label = scene.context.local_label
    scene.network.kill_provider(1)
    scene.network.give(scene.network.a, MeasurePairs(label, (), suspects=True))
    assert scene.context.search is not None
    scene.silence_ns = SECOND
    assert not scene.look(START_NS)


def test_a_question_about_a_pair_that_failed_moves_the_context(scene: Scene) -> None:
    network, context = scene.network, scene.context
    network.kill_provider(1)
    network.give(network.a, MeasurePairs(context.local_label, (), suspects=True))
    network.run(SECOND)
    assert context.pair == (A2, B2)
