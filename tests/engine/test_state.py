"""The law, the timers and the keyed hashes."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noid.constants import COOKIE_KEY_LIFETIME, COOKIE_LIFETIME, SECOND
from noid.engine.secrets import CookieKeys, authentication
from noid.engine.state import LAW, PATH_LAW, TIMERS_OF, Cue, Path, State, Timer, Trigger
from noid.engine.timers import KEY_MASK, Timers
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


def test_a_cookie_outlives_one_change_of_keys_and_not_its_time() -> None:
    keys = CookieKeys(lambda count: bytes(count))
    draws = iter(range(1, 100))
    keys.entropy = lambda count: bytes([next(draws)]) * count
    keys.seal(b"", A1, 0)
    late = COOKIE_KEY_LIFETIME - SECOND
    cookie = keys.seal(b"state", A1, late)
    assert keys.opens(cookie, b"state", late + 2 * SECOND)
    assert keys.opens(cookie, b"state", late + COOKIE_LIFETIME)
    assert not keys.opens(cookie, b"state", late + COOKIE_LIFETIME + 1)


def test_a_key_is_forgotten_when_nothing_that_it_signed_can_be_accepted() -> None:
    for age, forgotten in ((2 * COOKIE_KEY_LIFETIME - 1, False), (2 * COOKIE_KEY_LIFETIME, True)):
        keys = CookieKeys(lambda count: b"k" * count)
        keys.seal(b"", A1, 0)
        keys.seal(b"", A1, age)
        assert (keys.previous == b"") is forgotten


@pytest.mark.parametrize("change", [{"timestamp": 1}, {"locator": A2}, {"keyed_hash": bytes(16)}])
def test_an_altered_cookie_does_not_open(change: dict[str, Any]) -> None:
    keys = CookieKeys(lambda count: b"k" * count)
    cookie = keys.seal(b"state", A1, 5)
    assert keys.opens(cookie, b"state", 6)
    assert not keys.opens(cookie, b"other", 6)
    assert not keys.opens(cookie._replace(**change), b"state", 6)


def test_a_cookie_from_the_future_does_not_open() -> None:
    keys = CookieKeys(lambda count: b"k" * count)
    cookie = keys.seal(b"state", A1, 10)
    assert not keys.opens(cookie, b"state", 9)


def test_a_message_turned_round_is_not_authentic() -> None:
    assert authentication(1, 2, b"message") != authentication(2, 1, b"message")
