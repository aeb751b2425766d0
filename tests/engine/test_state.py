# SPDX-License-Identifier: MIT
"""The law, the timers and the keyed hashes."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noid.constants import COOKIE_LIFETIME, KEYS_KEPT, KEYS_LIFETIME, SECOND
from noid.engine.host import OF_CODE, OF_TIMER
from noid.engine.secrets import HostKeys, KeyPair, Side, context_key
from noid.engine.state import LAW, PATH_LAW, TIMERS_OF, Cue, Path, State, Timer, Trigger
from noid.engine.timers import KEY_MASK, Timers
from noid.identifiers import Label, Token
from noid.wire.control import Code
from tests.engine.network import A1, A2, established


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("trigger", list(Trigger))
def test_the_law_says_something_about_everything(state: State, trigger: Trigger) -> None:
    rule = LAW[state][trigger]
    assert rule.next
    assert rule.reference
    if state not in rule.next:
        pytest.fail(f"{trigger} must be able to change nothing in {state}")


def test_every_state_can_be_reached_and_left() -> None:
    for state in State:
        others = [other for other in State if other is not state]
        assert any(state in rule.next for other in others for rule in LAW[other].values())
        assert any(set(rule.next) - {state} for rule in LAW[state].values())


def test_a_timer_that_a_state_does_not_have_changes_nothing_in_it() -> None:
    for state in State:
        for timer in set(Timer) - TIMERS_OF[state]:
            assert LAW[state][Trigger(timer.value)].next == {state}


def test_every_timer_and_message_has_a_function_and_every_timer_a_state() -> None:
    assert set(OF_TIMER) == set(Timer)
    assert set(OF_CODE) == set(Code)
    assert frozenset().union(*TIMERS_OF.values()) == set(Timer)
    assert all(Trigger[timer.name].value == timer.value for timer in Timer)


def test_what_the_law_forbids_cannot_be_done() -> None:
    context = established().a.context
    with pytest.raises(AssertionError, match="may not become"):
        context.enter(State.CCR_SENT, Trigger.UA)
    with pytest.raises(AssertionError, match="may not become"):
        context.turn(Path.SEARCHING, Cue.TIME)


def test_the_law_of_paths_says_something_about_everything() -> None:
    assert set(PATH_LAW) == set(Path)
    for path, cues in PATH_LAW.items():
        assert set(cues) == set(Cue)
        others = [other for other in Path if other is not path]
        assert any(path in following for one in others for following in PATH_LAW[one].values())
        assert any(following - {path} for following in cues.values())


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 100), st.booleans())))
def test_timers_expire_in_order_and_once(operations: list[tuple[int, int, bool]]) -> None:
    timers = Timers()
    expected: dict[int, int] = {}
    for key, at_ns, stop in operations:
        if stop:
            timers.stop(key)
            expected.pop(key, None)
        else:
            timers.set(key, at_ns)
            expected[key] = at_ns
    upcoming = timers.next()
    assert (upcoming[0] if upcoming else None) == min(expected.values(), default=None)
    expired = []
    while (upcoming := timers.next()) is not None and upcoming[0] <= 50:
        assert expected.pop(upcoming[1]) == upcoming[0]
        expired.append(upcoming[0])
        timers.stop(upcoming[1])
    assert expired == sorted(expired)
    assert all(at_ns > 50 for at_ns in expected.values())


def test_a_deadline_is_brought_forward_and_never_put_off() -> None:
    timers = Timers()
    timers.set(1, 10)
    timers.bring_forward(1, 20)
    assert timers.next() == (10, 1)
    timers.bring_forward(1, 5)
    assert timers.next() == (5, 1)


def test_the_greatest_key_has_its_deadline() -> None:
    timers = Timers()
    timers.set(KEY_MASK, 10)
    assert timers.next() == (10, KEY_MASK)


def test_timers_set_again_and_again_do_not_pile_up() -> None:
    timers = Timers()
    for at_ns in range(10_000):
        timers.set(1, at_ns)
    assert timers.next() == (9_999, 1)
    assert len(timers._heap) < 100


def host_keys() -> HostKeys:
    """Keys that differ from one another."""
    draws = iter(range(1, 100))
    return HostKeys(lambda count: bytes([next(draws)]) * count)


def held(keys: HostKeys) -> list[KeyPair]:
    """The key pairs that are kept, the present one first."""
    return [one.pair for one in (keys.current, keys.previous) if one is not None]


def test_a_cookie_outlives_one_change_of_keys_and_not_its_time() -> None:
    keys = host_keys()
    keys.seal(b"", A1, 0)
    late = KEYS_LIFETIME - SECOND
    cookie = keys.seal(b"state", A1, late)
    assert keys.opens(cookie, b"state", late + 2 * SECOND)
    assert keys.opens(cookie, b"state", late + COOKIE_LIFETIME)
    assert not keys.opens(cookie, b"state", late + COOKIE_LIFETIME + 1)


@pytest.mark.parametrize("up_ns", [SECOND, 400 * 86_400 * SECOND])
def test_a_cookie_does_not_tell_how_long_the_host_has_been_up(up_ns: int) -> None:
    keys = host_keys()
    assert [keys.seal(b"", A1, up_ns + ns).timestamp for ns in (0, 7)] == [0, 7]
    second = up_ns + KEYS_LIFETIME
    assert keys.seal(b"", A1, second).timestamp == 0
    cookie = keys.seal(b"state", A1, second + 1)
    assert keys.opens(cookie, b"state", second + 2) == (keys.pair(second + 2), second + 1)


def test_keys_are_renewed_and_the_earlier_ones_kept_30_s_longer_than_a_cookie() -> None:
    keys = host_keys()
    first = keys.pair(0)
    assert keys.pair(KEYS_LIFETIME - 1) is first
    second = keys.pair(KEYS_LIFETIME)
    assert second.public != first.public
    assert held(keys) == [second, first]
    keys.forget(KEYS_LIFETIME + KEYS_KEPT - 1)
    assert held(keys) == [second, first]
    keys.forget(KEYS_LIFETIME + KEYS_KEPT)
    assert held(keys) == [second]


def test_keys_that_no_exchange_can_need_are_forgotten_without_new_ones() -> None:
    keys = host_keys()
    keys.pair(0)
    keys.forget(KEYS_LIFETIME + KEYS_KEPT - 1)
    assert len(held(keys)) == 1
    keys.forget(KEYS_LIFETIME + KEYS_KEPT)
    assert held(keys) == []


def test_a_cookie_opens_with_the_key_pair_whose_public_key_its_cc_had() -> None:
    keys = host_keys()
    late = KEYS_LIFETIME - 1
    first = keys.pair(late)
    cookie = keys.seal(b"state", A1, late)
    keys.pair(KEYS_LIFETIME)
    opened = keys.opens(cookie, b"state", KEYS_LIFETIME)
    assert opened == (first, late)


def test_both_ends_make_the_same_key_and_each_value_changes_it() -> None:
    one, other = KeyPair(b"1" * 32), KeyPair(b"2" * 32)
    shared = one.agree(other.public)
    assert shared == other.agree(one.public)
    assert len(shared) == 32
    a, b = Side(A1, Label(1), Token(2), one.public), Side(A2, Label(3), Token(4), other.public)
    key = context_key(shared, a, b)
    assert key == context_key(shared, b, a)
    assert len(key) == 32
    changes = [{"aid": A2}, {"label": 9}, {"token": 9}, {"key": other.public}]
    others = {context_key(shared, a._replace(**change), b) for change in changes}  # type: ignore[arg-type] # a table
    assert len({key, *others, context_key(other.public, a, b)}) == 6


@pytest.mark.parametrize("point", [bytes(32), b"\1" + bytes(31)])
def test_a_public_key_of_small_order_shares_nothing(point: bytes) -> None:
    assert KeyPair(b"1" * 32).agree(point) == b""


@pytest.mark.parametrize("change", [{"timestamp": 1}, {"locator": A2}, {"keyed_hash": bytes(16)}])
def test_an_altered_cookie_does_not_open(change: dict[str, Any]) -> None:
    keys = HostKeys(lambda count: b"k" * count)
    cookie = keys.seal(b"state", A1, 5)
    assert keys.opens(cookie, b"state", 6)
    assert not keys.opens(cookie, b"other", 6)
    assert not keys.opens(cookie._replace(**change), b"state", 6)


def test_a_cookie_from_the_future_does_not_open() -> None:
    keys = HostKeys(lambda count: b"k" * count)
    cookie = keys.seal(b"state", A1, 10)
    assert not keys.opens(cookie, b"state", 9)
