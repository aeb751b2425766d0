# SPDX-License-Identifier: MIT
"""Every case of when the DNS is asked about a peer again, and of what its answers change."""

import pytest

from noid.constants import (
    DNS_RETRY_FIRST,
    DNS_RETRY_MAX,
    LOOK_AGAIN_MIN,
    SECOND,
    VERIFY_AGAIN_MIN,
    VERIFY_AGAIN_QUESTIONS_MAX,
    VERIFY_AGAIN_WAITING,
)
from noid.dns.records import Kind, Question
from noid.engine import verifying
from noid.engine.context import Context
from noid.engine.core import Core
from noid.engine.events import AskDns, CheckIdle, IdleChecked, LocatorsVerified
from noid.engine.phases import Probation
from noid.engine.state import Path, State, Timer
from noid.locators import Locator
from tests.engine.network import A2, B1, B2, X1
from tests.engine.test_shared_cases import due_timers
from tests.engine.test_timetable import settled
from tests.engine.timetable import Timetable

FAILED = Question(Kind.LOCATORS, "b.example")


@pytest.fixture
def network() -> Timetable:
    return settled()


@pytest.fixture
def context(core: Core, network: Timetable) -> Context:
    due_timers(core, network.a.context)
    return network.a.context


def asked(core: Core) -> list[Question]:
    found = [one.question for one in core.outputs if isinstance(one, AskDns)]
    core.outputs.clear()
    return found


def fail(context: Context, *failed: Question) -> None:
    """An inquiry has met transient errors, and has asked all else."""
    context.verification.failed = failed or (FAILED,)


# --- when a context is found to be in use ---------------------------------------------------------


@pytest.mark.parametrize("used", [False, True])
def test_what_failed_is_asked_again_if_the_context_is_in_use(
    core: Core, context: Context, used: bool
) -> None:
    fail(context)
    context.dns_tries = 3
    verifying.on_use_checked(core, IdleChecked(context.local_label, 0, used))
    assert asked(core) == [FAILED] * used
    assert context.dns_tries == 4
    expected = [] if used else [(core.now_ns + (DNS_RETRY_FIRST << 4) // 2, Timer.DNS_RETRY)]
    assert due_timers(core, context) == expected


def test_it_waits_no_longer_than_ten_minutes(core: Core, context: Context) -> None:
    fail(context)
    for tries in (9, 10, 60):
        context.dns_tries = tries - 1
        verifying.on_use_checked(core, IdleChecked(context.local_label, 0, False))
        wait_ns = min(DNS_RETRY_FIRST << tries, DNS_RETRY_MAX) // 2
        assert due_timers(core, context) == [(core.now_ns + wait_ns, Timer.DNS_RETRY)]


def test_nothing_is_asked_again_before_its_time_or_if_nothing_failed(
    core: Core, context: Context
) -> None:
    fail(context)
    core.set_timer(context, Timer.DNS_RETRY, 5)
    verifying.on_use_checked(core, IdleChecked(context.local_label, 0, True))
    assert asked(core) == []
    due_timers(core, context)
    context.verification.failed, context.verification.open = (), (FAILED,)
    verifying.on_use_checked(core, IdleChecked(context.local_label, 0, True))
    assert (asked(core), due_timers(core, context)) == ([], [])


@pytest.mark.parametrize("used", [False, True])
@pytest.mark.parametrize("many", [0, 1])
def test_the_next_inquiry_begins_if_it_is_in_use_and_few_questions_are_open(
    core: Core, context: Context, used: bool, many: int
) -> None:
    for number in range(VERIFY_AGAIN_QUESTIONS_MAX - 1 + many):
        core.questions[Question(Kind.NAMES, f"{number}.example")] = {}
    verifying.on_use_checked(core, IdleChecked(context.local_label, 0, used))
    begins = used and not many
    assert (context.renewal is not None) is begins
    assert (asked(core) != []) is begins
    wait_ns = VERIFY_AGAIN_WAITING if used else VERIFY_AGAIN_MIN
    expected = [] if begins else [(core.now_ns + wait_ns // 2, Timer.VERIFY_AGAIN)]
    assert due_timers(core, context) == expected


def test_none_does_while_its_time_has_not_come_or_nothing_can_change(
    core: Core, context: Context
) -> None:
    core.set_timer(context, Timer.VERIFY_AGAIN, 5)
    verifying.on_use_checked(core, IdleChecked(context.local_label, 0, True))
    assert (context.renewal, asked(core)) == (None, [])
    due_timers(core, context)
    context.peer_local, context.aid_proven = (B1,), True
    verifying.on_use_checked(core, IdleChecked(context.local_label, 0, True))
    assert (context.renewal, asked(core), due_timers(core, context)) == (None, [], [])


# --- timers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [State.ESTABLISHED, State.UR_SENT, State.INIT_SENT])
@pytest.mark.parametrize("lapsing", [False, True])
def test_it_is_asked_first_whether_a_context_is_in_use_unless_a_proof_lapses(
    core: Core, context: Context, state: State, lapsing: bool
) -> None:
    context.state = state
    context.lapsing = {B2: core.now_ns + 1} if lapsing else {}
    verifying.on_verify_again(core, context)
    begins = lapsing or state is State.INIT_SENT
    assert (context.renewal is not None) is begins
    assert (CheckIdle(context.local_label) in core.outputs) is not begins
    core.outputs.clear()


def test_no_inquiry_begins_during_another_or_if_nothing_can_change(
    core: Core, context: Context
) -> None:
    context.verification.open = (FAILED,)
    verifying.on_verify_again(core, context)
    context.verification.open = ()
    context.peer_local, context.aid_proven = (B1,), True
    verifying.on_verify_again(core, context)
    assert (context.renewal, core.outputs) == (None, [])
    context.aid_proven = False
    verifying.on_verify_again(core, context)
    assert core.outputs == [CheckIdle(context.local_label)]
    core.outputs.clear()


@pytest.mark.parametrize("state", [State.ESTABLISHED, State.INIT_SENT, State.PROVISIONAL])
@pytest.mark.parametrize("held", [None, [], [b"held"]])
def test_what_failed_is_asked_again_at_once_only_for_whom_a_program_waits(
    core: Core, context: Context, state: State, held: list[bytes] | None
) -> None:
    fail(context)
    context.state = state
    context.probation = None if held is None else Probation(B1, held)
    verifying.on_retry(core, context)
    assert (CheckIdle(context.local_label) in core.outputs) is (state is State.ESTABLISHED)
    asks = state is not State.ESTABLISHED and (held is None or held != [])
    waits = state is not State.ESTABLISHED and held == []
    assert asked(core) == [FAILED] * asks
    assert core.is_timer_set(context, Timer.DNS_RETRY) is waits


# --- a source that is not proven ------------------------------------------------------------------


@pytest.mark.parametrize("source", [B1, B2, X1, A2])
@pytest.mark.parametrize("failed", [False, True])
@pytest.mark.parametrize("state", [State.ESTABLISHED, State.INIT_SENT])
def test_a_source_of_the_peer_is_verified_next(
    core: Core, context: Context, source: Locator, failed: bool, state: State
) -> None:
    context.state, context.peer_local = state, (B1, B2, X1)
    context.settled_ns, context.verification.ttl_seconds = core.now_ns, 0
    if failed:
        fail(context)
        core.set_timer(context, Timer.DNS_RETRY, 5)
    verifying.put_first(core, context, source)
    counts = state is State.ESTABLISHED and source != A2
    assert asked(core) == [FAILED] * (counts and failed)
    due = [timer for _, timer in due_timers(core, context)]
    if counts and failed:
        assert due == []
    elif counts and source == X1:
        assert due == [Timer.VERIFY_AGAIN], "the DNS did not list it"
    else:
        assert due == [Timer.DNS_RETRY] * failed


# --- how long its answers hold ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ttl_seconds", "searching", "listed", "wait_ns"),
    [
        (0, False, True, VERIFY_AGAIN_MIN),
        (0, True, True, VERIFY_AGAIN_MIN),
        (0, False, False, VERIFY_AGAIN_MIN),
        (0, True, False, LOOK_AGAIN_MIN),
        (100, True, False, 100 * SECOND),
        (1_000, False, True, 1_000 * SECOND),
    ],
)
def test_what_the_dns_says_of_a_peer_holds_for_its_ttl(
    network: Timetable,
    core: Core,
    context: Context,
    ttl_seconds: int,
    searching: bool,
    listed: bool,
    wait_ns: int,
) -> None:
    """Not as long if no pair works, and the peer has a locator that is not listed."""
    network.ttl_seconds = ttl_seconds
    context.peer_local = (B1, B2) if listed else (B1, B2, X1)
    context.path = Path.SEARCHING if searching else Path.STEADY
    network.give(network.a, IdleChecked(context.local_label, 0, True))
    context.path = Path.SEARCHING if searching else Path.STEADY
    network.a.outputs.clear()
    network.run(10 * 1_000_000)
    assert context.renewal is None
    told = [one for one in network.a.outputs if isinstance(one, LocatorsVerified)]
    assert told == [LocatorsVerified(B1, "b.example", (B1, B2))]
    due = dict((timer, at_ns) for at_ns, timer in due_timers(core, context))
    assert due[Timer.VERIFY_AGAIN] == context.settled_ns + wait_ns
    assert core.peers[B1].confirmed_until_ns == context.settled_ns + max(
        ttl_seconds * SECOND, LOOK_AGAIN_MIN
    )
