# SPDX-License-Identifier: MIT
"""Which pair is measured while nothing is suspected: few, and mostly those that are not in use."""

from collections import Counter

from noid.engine.context import Context
from noid.engine.history import Pair
from noid.locators import Locator
from noid.roles.sampling import CONTEXT_INTERVAL_S, IN_USE_EVERY, RESTING_MAX, Sampling
from tests.engine.network import A1, A2, B1, B2, established

NONE: frozenset[Locator] = frozenset()


def context_of_two_uplinks() -> Context:
    (context,) = established().a.host.contexts
    return context


def samples(
    sampling: Sampling, context: Context, count: int, silent: frozenset[Locator] = NONE
) -> list[Pair]:
    found: list[Pair] = []
    for number in range(count):
        sample = sampling.next_of([context], number * CONTEXT_INTERVAL_S, silent)
        assert sample is not None
        found.append(sample[1])
    return found


def test_a_context_is_measured_once_a_second() -> None:
    sampling, context = Sampling(), context_of_two_uplinks()
    times = [n / 8 for n in range(81)]
    taken = [at_s for at_s in times if sampling.next_of([context], at_s)]
    assert taken == [float(n) for n in range(11)]


def test_the_pair_in_use_is_measured_rarely_and_others_in_rotation() -> None:
    context = context_of_two_uplinks()
    seen = Counter(samples(Sampling(), context, 10 * IN_USE_EVERY))
    assert seen[A1, B1] == 10
    assert seen[A2, B1] == seen[A2, B2] == 10 * (IN_USE_EVERY - 1) // 2
    assert set(seen) == {(A1, B1), (A2, B1), (A2, B2)}


def test_while_an_uplink_is_silent_only_its_pairs_are_measured() -> None:
    context = context_of_two_uplinks()
    seen = set(samples(Sampling(), context, 10, frozenset({A1})))
    assert seen == {(A1, B1), (A1, B2)}


def test_other_contexts_are_measured_while_one_rests() -> None:
    sampling, first, second = Sampling(), context_of_two_uplinks(), context_of_two_uplinks()
    second.local_label = first.local_label + 1
    taken = [sampling.next_of([first, second], 0.0) for _ in range(3)]
    assert [sample and sample[0] for sample in taken] == [first, second, None]


def test_only_so_many_resting_contexts_are_remembered() -> None:
    sampling, context = Sampling(), context_of_two_uplinks()
    for label in range(2 * RESTING_MAX):
        context.local_label = label
        sampling.rest(context, 60.0)
    context.local_label = 0
    assert sampling.next_of([context], 0.0), "the oldest is forgotten"
    context.local_label = 2 * RESTING_MAX - 1
    assert sampling.next_of([context], 0.0) is None
