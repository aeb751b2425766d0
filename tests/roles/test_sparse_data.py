# SPDX-License-Identifier: MIT
"""A context whose rare data stays unanswered suspects its pair soon, and seldom in vain."""

import pytest

from noid.engine.context import Context
from noid.engine.events import Input, MeasurePairs
from noid.engine.history import Pair
from noid.roles.sparse_data import CONTEXTS_MAX, LATE_NS, REST_LATE_NS, REST_NS, SparseData
from tests.engine.network import A2, B2, Network, established

WAIT_S = 0.1
WAIT_NS = 100_000_000
SECOND = 1_000_000_000


class Scene:
    """A context, what it asks, and how long its packets have been unanswered."""

    def __init__(self) -> None:
        self.network: Network = established()
        (self.context,) = self.network.a.host.contexts
        self.asked: list[Input] = []
        self.silence_ns = self.heard_ns = 0
        self.sparse = SparseData(
            self.network.a.host,
            latest=self.latest,
            silence_ns=lambda label: self.silence_ns,
            heard_ns=lambda label: self.heard_ns,
            wait_s=self.wait_s,
            handle=self.ask,
        )

    def latest(self, count: int) -> list[int]:
        assert count == CONTEXTS_MAX
        return [1, self.context.local_label]  # the first is that of no context any more

    def wait_s(self, context: Context, pair: Pair, *, here: bool) -> float:
        assert (context, pair, here) == (self.context, context.pair, True)
        return WAIT_S

    def ask(self, event: Input) -> None:
        self.asked.append(event)
        self.network.give(self.network.a, event)

    def look(self, after_ns: int = 0) -> int:
        """How many questions are asked after a time."""
        self.network.run(after_ns)
        self.asked.clear()
        self.sparse.look(self.network.now_ns)
        return len(self.asked)


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_a_packet_without_an_answer_causes_one_question(scene: Scene) -> None:
    for scene.silence_ns in (0, WAIT_NS - 1):
        assert not scene.look()
    scene.silence_ns = WAIT_NS
    assert scene.look()
    assert scene.asked == [MeasurePairs(scene.context.local_label, (), suspects=True)]
    scene.heard_ns = scene.network.now_ns + LATE_NS  # the next packet of the peer is no answer
    assert not scene.look(REST_NS - 1), "the law of quiet"
    assert scene.look(1)


def test_after_a_late_answer_the_pair_is_asked_again_sooner(scene: Scene) -> None:
    scene.silence_ns = WAIT_NS
    assert scene.look()
    scene.heard_ns = scene.network.now_ns + LATE_NS - 1
    assert not scene.look(LATE_NS)
    scene.heard_ns += SECOND
    assert not scene.look(REST_LATE_NS - LATE_NS - 1), "the law of quiet"
    assert scene.look(1)


def test_a_question_that_the_engine_refuses_is_asked_again(scene: Scene) -> None:
    label = scene.context.local_label
    scene.network.give(scene.network.a, MeasurePairs(label, (), suspects=True))
    scene.network.run(WAIT_NS // 2)  # it was a false alarm
    scene.silence_ns = WAIT_NS
    scene.look()
    assert scene.context.search is None
    scene.look(SECOND)
    assert scene.context.search is not None


def test_after_a_question_that_was_right_the_next_pair_is_asked_at_once(scene: Scene) -> None:
    scene.silence_ns = WAIT_NS
    scene.network.kill_provider(1)
    assert scene.look()
    scene.network.run(SECOND // 2)
    assert scene.context.pair == (A2, B2)
    scene.silence_ns = SECOND // 2 + WAIT_NS
    assert not scene.look(), "the packet was sent over the pair before"
    scene.silence_ns = WAIT_NS
    assert scene.look()


def test_a_context_that_searches_is_not_asked(scene: Scene) -> None:
    label = scene.context.local_label
    scene.network.kill_provider(1)
    scene.network.give(scene.network.a, MeasurePairs(label, (), suspects=True))
    assert scene.context.search is not None
    scene.silence_ns = SECOND
    assert not scene.look()


def test_a_question_about_a_pair_that_failed_moves_the_context(scene: Scene) -> None:
    network, context = scene.network, scene.context
    network.kill_provider(1)
    network.give(network.a, MeasurePairs(context.local_label, (), suspects=True))
    network.run(SECOND)
    assert context.pair == (A2, B2)
