# SPDX-License-Identifier: MIT
"""What a context makes of sets and flags [draft §3.2, §4.1 step 6, D21, D37]."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noid.constants import NONCES_KEPT_MAX
from noid.engine.context import Context
from noid.identifiers import Nonce
from noid.locators import Locator
from noid.wire.options import Entries, LocatorEntry, LocatorFlag
from tests.engine.network import A1, A2, B1, B2, established
from tests.engine.test_provisional import provisional

LOCAL, REMOTE = LocatorFlag.LOCAL, LocatorFlag.REMOTE


def entries(flags: int, *locators: Locator) -> Entries:
    return tuple(LocatorEntry(one, flags) for one in locators)


@pytest.fixture
def context() -> Context:
    return established().a.context


def test_an_aid_that_is_not_said_is_put_behind_what_is(context: Context) -> None:
    context.learn_peer_locators(entries(LOCAL, B2))
    assert context.peer_local == (B2, B1)
    context.learn_peer_locators(entries(LOCAL, B2, B1))
    assert context.peer_local == (B2, B1)
    context.learn_own_locators(entries(REMOTE, A2))
    assert context.own_remote == (A2, A1)
    context.learn_own_locators(entries(REMOTE, A2, A1))
    assert context.own_remote == (A2, A1)


def test_what_is_not_said_to_be_there_is_not(context: Context) -> None:
    context.learn_peer_locators(entries(LOCAL, B1) + entries(REMOTE, B2))
    assert context.peer_local == (B1,)
    context.learn_own_locators(entries(REMOTE, A1) + entries(LOCAL, A2))
    assert context.own_remote == (A1,)


def test_sets_that_are_alike_are_kept_once(context: Context) -> None:
    context.learn_own_locators(entries(REMOTE, A1, A2))
    assert context.own_remote is context.own_local
    context.learn_peer_locators(entries(LOCAL, B1, B2))
    assert context.peer_local is context.verification.remote


def test_the_flow_of_a_provisional_context_holds_what_arrives() -> None:
    assert provisional(A2).b.context.flow().holds
    assert not established().b.context.flow().holds


@given(st.lists(st.integers(-NONCES_KEPT_MAX - 2, 8) | st.integers(1, 3 * NONCES_KEPT_MAX)))
def test_requests_that_have_come_are_known_and_so_are_all_that_are_long_past(
    steps: list[int],
) -> None:
    context, come, newest = established().a.context, {0}, 0
    for step in steps:
        nonce = max(1, newest + step)
        context.see(Nonce(nonce))
        come.add(nonce)
        newest = max(come)
        for one in range(max(0, newest - 2 * NONCES_KEPT_MAX), newest + 3):
            is_past = one < newest - NONCES_KEPT_MAX
            assert context.is_unseen(Nonce(one)) == (one not in come and not is_past), one
