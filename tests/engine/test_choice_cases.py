# SPDX-License-Identifier: MIT
"""Every case of what decides where data goes: the flow, marks of pairs, pairs that are left."""

from itertools import product

import pytest

from noid.constants import NEVER, SECOND
from noid.dns.records import Kind, Question
from noid.engine import selection
from noid.engine.causes import Cause
from noid.engine.context import Context
from noid.engine.history import History, Pair
from noid.engine.phases import Search, Trial
from noid.engine.state import Path, State
from noid.identifiers import NO_LABEL
from noid.locators import Locator
from noid.wire.options import Entries, LocatorEntry, LocatorFlag
from tests.engine.network import A1, A2, B1, B2, X1, Network, established
from tests.engine.test_provisional import provisional

AIDS, OTHER, FAR, NEAR = (A1, B1), (A2, B2), (A1, B2), (A2, B1)
LOCAL, BROKEN = LocatorFlag.LOCAL, LocatorFlag.BROKEN
DEPRECATED, BACKUP = LocatorFlag.DEPRECATED, LocatorFlag.BACKUP
BOOLEANS = (False, True)


@pytest.fixture
def network() -> Network:
    return established()


def use(context: Context, pair: Pair) -> None:
    context.local_locator, context.peer_locator = pair


def mark(context: Context, *marks: tuple[Locator, int]) -> None:
    """Marks locators of either host, and no others."""
    entries = tuple(LocatorEntry(*one) for one in marks)
    context.own_marks = tuple(one for one in entries if one.locator in (A1, A2))
    context.peer_marks = tuple(one for one in entries if one.locator in (B1, B2))


# --- the flow -------------------------------------------------------------------------------------


@pytest.mark.parametrize("pair", [AIDS, OTHER, FAR, NEAR])
@pytest.mark.parametrize(("tests", "contests", "on_switch"), list(product(BOOLEANS, repeat=3)))
def test_data_is_plain_where_a_plain_packet_takes_the_same_path_and_is_safer(
    context: Context, pair: Pair, tests: bool, contests: bool, on_switch: bool
) -> None:
    use(context, pair)
    context.trial = Trial(1) if tests else None
    context.contested_until_ns = 1 if contests else 0
    is_plain = pair == AIDS and (tests or contests or on_switch)
    assert context.flow(on_switch=on_switch).transmits is not is_plain


@pytest.mark.parametrize("path", list(Path))
@pytest.mark.parametrize("broken", [None, A1, A2, B1])
def test_data_is_plain_during_a_search_unless_our_aid_is_broken(
    context: Context, path: Path, broken: Locator | None
) -> None:
    context.path = path
    mark(context, *([(broken, BROKEN)] if broken else []))
    is_plain = path in (Path.SEARCHING, Path.ASIDE) and broken != A1
    assert context.flow().transmits is not is_plain


def test_data_goes_to_no_locator_that_is_not_proven(context: Context) -> None:
    use(context, (A1, X1))
    assert not context.flow().transmits


@pytest.mark.parametrize("state", list(State))
def test_only_a_context_that_is_set_up_sends_data(context: Context, state: State) -> None:
    context.state = state
    flow = context.flow()
    assert flow.transmits is (state in (State.ESTABLISHED, State.UR_SENT))
    assert flow.aside is (state is State.CLOSING)
    assert not flow.holds


def test_one_that_is_not_complete_or_proven_is_aside_and_holds_what_comes() -> None:
    context = provisional(A2).b.context
    assert (context.flow().aside, context.flow().holds) == (True, True)
    other = established().a.context
    other.peer_label, other.state = NO_LABEL, State.INIT_SENT
    assert (other.flow().aside, other.flow().holds) == (True, True)


@pytest.mark.parametrize(("own", "rewritable"), [((A1,), False), ((A1, A2), True)])
def test_routers_may_rewrite_the_source_if_there_are_several(
    context: Context, own: tuple[Locator, ...], rewritable: bool
) -> None:
    context.own_local = own
    flow = context.flow()
    assert flow.rewritable is rewritable
    assert flow.local_locators == flow.usable_locators == {*own}


@pytest.mark.parametrize(
    ("broken", "in_use", "verified"),
    [((), B1, {B1, B2}), ((B2,), B1, {B1}), ((B2,), B2, {B1, B2}), ((B1, B2), B1, {B1})],
)
def test_the_plane_follows_to_no_broken_locator_but_the_one_in_use(
    context: Context, broken: tuple[Locator, ...], in_use: Locator, verified: set[Locator]
) -> None:
    use(context, (A1, in_use))
    mark(context, *[(one, BROKEN) for one in broken], (B1, DEPRECATED) if not broken else (A1, 0))
    assert context.flow().verified_locators == verified


@pytest.mark.parametrize(("source", "expected"), [(None, B1), (B1, B1), (B2, B2), (X1, B1)])
def test_the_peer_sends_from_a_proven_locator_as_far_as_is_known(
    context: Context, source: Locator | None, expected: Locator
) -> None:
    context.peer_source = source
    assert context.flow().peer_source == expected


def test_before_the_peer_has_sent_its_set_that_of_the_dns_is_accepted(context: Context) -> None:
    assert context.flow().peer_locators == {B1, B2}
    context.peer_local = (B1, X1)
    assert context.flow().peer_locators == {B1, X1}
    context.peer_local = ()
    assert context.flow().peer_locators == {B1, B2}


@pytest.mark.parametrize("path", [Path.STEADY, Path.FOLLOWING])
@pytest.mark.parametrize("followed", [AIDS, OTHER])
def test_no_data_moves_a_pair_while_a_move_is_not_confirmed(
    context: Context, path: Path, followed: Pair
) -> None:
    context.follow_ns, context.path = 7, path
    assert context.flow().follow_ns == 7
    context.search = Search(Cause.SOURCE_MOVED, 0, b"", 0, told_by_peer=False)
    context.search.followed = followed
    is_moved = path is Path.FOLLOWING and followed == AIDS
    assert context.flow().follow_ns == (NEVER if is_moved else 7)


# --- sets -----------------------------------------------------------------------------------------


def entries(*marks: tuple[Locator, int]) -> Entries:
    return tuple(LocatorEntry(*one) for one in marks)


def test_only_marks_are_stored_apart_and_only_of_locators_that_are_listed(context: Context) -> None:
    context.learn_peer_locators(entries((B1, LOCAL), (B2, LOCAL | BACKUP), (X1, BACKUP)))
    assert context.peer_local == (B1, B2)
    assert context.peer_marks == entries((B2, LOCAL | BACKUP))
    assert [context.marks_of(one) for one in (B1, B2, X1)] == [0, BACKUP, 0]


def test_what_is_known_of_pairs_goes_with_either_locator(context: Context) -> None:
    for pair in (AIDS, OTHER, FAR, NEAR, (X1, B1)):
        context.note(pair, History(heard_ns=1))
    context.learn_peer_locators(entries((B1, LOCAL)))
    assert {*context.history} == {AIDS, NEAR}


@pytest.mark.parametrize(
    ("pair", "own", "listed", "expected"),
    [
        (OTHER, (A1, A2), (B1, B2), OTHER),
        (OTHER, (A1,), (B1, B2), (A1, B2)),
        (OTHER, (A1, A2), (B1,), (A2, B1)),
        ((A2, X1), (A1, A2), (B1, B2), (A2, B1)),
        (AIDS, (A2,), (B1, B2), AIDS),
    ],
)
def test_a_pair_moves_back_into_its_sets(
    context: Context,
    pair: Pair,
    own: tuple[Locator, ...],
    listed: tuple[Locator, ...],
    expected: Pair,
) -> None:
    use(context, pair)
    context.own_local, context.peer_local = own, listed
    context.settle_pair()
    assert context.pair == expected


@pytest.mark.parametrize("settled", [False, True])
@pytest.mark.parametrize("listed", [False, True])
def test_a_pair_stays_while_the_dns_may_still_prove_it(
    context: Context, settled: bool, listed: bool
) -> None:
    """The set-up used it."""
    use(context, (A1, X1))
    context.peer_local = (B1, B2, X1) if listed else (B1, B2)
    if not settled:
        context.verification.open = (Question(Kind.LOCATORS, "b.example"),)
    context.settle_pair()
    assert context.pair == ((A1, X1) if listed and not settled else AIDS)


def test_to_the_aid_if_nothing_is_proven(context: Context) -> None:
    use(context, (A1, X1))
    context.peer_local, context.aid_proven = (X1,), False
    context.verification.proven = ()
    context.settle_pair()
    assert context.pair == AIDS


@pytest.mark.parametrize(
    ("locator", "proven", "lapsing", "by_aid", "verified"),
    [
        (B1, (), {}, False, False),
        (B1, (), {}, True, True),
        (B2, (), {}, True, False),
        (B2, (B2,), {}, False, True),
        (B2, (), {B2: 5}, False, True),
        (X1, (X1,), {}, False, False),
        (X1, (), {X1: 5}, False, False),
    ],
)
def test_a_locator_is_verified_if_it_is_proven_and_said_to_be_there(
    context: Context,
    locator: Locator,
    proven: tuple[Locator, ...],
    lapsing: dict[Locator, int],
    by_aid: bool,
    verified: bool,
) -> None:
    context.verification.proven, context.lapsing = proven, lapsing
    context.aid_proven = by_aid
    assert context.is_verified(locator) is verified
    assert (locator in context.peer_verified) is verified


# --- the order of pairs ---------------------------------------------------------------------------


@pytest.mark.parametrize("pair", [AIDS, OTHER, FAR, NEAR])
def test_the_standing_of_a_pair_counts_the_marks_of_each_of_its_ends(
    context: Context, pair: Pair
) -> None:
    flags = (BROKEN, DEPRECATED, BACKUP)
    for own, peer in product(range(8), range(8)):
        marks = [sum(flag for bit, flag in enumerate(flags) if n >> bit & 1) for n in (own, peer)]
        mark(context, (pair[0], marks[0]), (pair[1], marks[1]))
        expected = tuple((own >> bit & 1) + (peer >> bit & 1) for bit in range(3))
        assert selection.standing(context, pair) == expected
        use(context, pair)
        assert selection.is_broken(context) is (expected[0] > 0)


def test_a_locator_that_the_dns_does_not_list_counts_as_deprecated(context: Context) -> None:
    context.own_remote = (A1,)
    assert selection.standing(context, AIDS) == (0, 0, 0)
    assert selection.standing(context, OTHER) == (0, 1, 0)
    context.lapsing = {B2: 1}
    assert selection.standing(context, OTHER) == (0, 2, 0)
    mark(context, (A2, DEPRECATED), (B2, DEPRECATED))
    assert selection.standing(context, OTHER) == (0, 2, 0)


@pytest.mark.parametrize("home", [None, AIDS, OTHER])
@pytest.mark.parametrize("marked", [None, A1, A2, B1, B2])
def test_better_pairs_have_fewer_marks_or_are_the_pair_that_was_left(
    context: Context, home: Pair | None, marked: Locator | None
) -> None:
    context.left_pair = home
    mark(context, *([(marked, DEPRECATED)] if marked else []))
    for pair in (AIDS, OTHER, FAR, NEAR):
        use(context, pair)
        expected = set()
        for other in {AIDS, OTHER, FAR, NEAR} - {pair}:
            is_better = marked in pair and marked not in other
            is_equal = (marked in pair) == (marked in other)
            if is_better or (other == home and is_equal):
                expected.add(other)
        found = selection.better_pairs(context)
        assert {*found} == expected
        assert found == sorted(found, key=lambda one: selection.rank(context, one))
        assert selection.is_worse(context) is (marked in pair)


@pytest.mark.parametrize("why", [Cause.OWN_LOCATORS_BETTER, Cause.BETTER_PAIR])
@pytest.mark.parametrize("pair", [AIDS, OTHER])
@pytest.mark.parametrize("home", [None, FAR])
def test_a_pair_is_returned_to_if_only_its_marks_are_why_it_is_left(
    context: Context, why: Cause, pair: Pair, home: Pair | None
) -> None:
    """Of two such pairs to the first, which is FAR here, unless it is a backup."""
    context.left_pair = home
    for own, peer in product((0, BROKEN, DEPRECATED, BACKUP), repeat=2):
        mark(context, (pair[0], own), (pair[1], peer))
        home_is_backup = BACKUP in (own if pair == AIDS else 0, peer if pair == OTHER else 0)
        if (home is not None and not home_is_backup) or BROKEN in (own, peer):
            expected = False
        elif pair == AIDS and BACKUP in (own, peer) and why is Cause.OWN_LOCATORS_BETTER:
            expected = True
        else:
            expected = DEPRECATED in (own, peer)
        assert selection.is_set_aside(context, pair, why) is expected, (own, peer)


@pytest.mark.parametrize("path", list(Path))
@pytest.mark.parametrize("pair", [AIDS, OTHER])
@pytest.mark.parametrize("broken", [None, A1])
def test_an_answer_also_goes_between_the_aids_if_data_does(
    context: Context, path: Path, pair: Pair, broken: Locator | None
) -> None:
    use(context, pair)
    context.path = path
    mark(context, *([(broken, BROKEN)] if broken else []))
    is_plain = path in (Path.SEARCHING, Path.ASIDE) and broken is None
    expected = (pair, AIDS) if is_plain and pair != AIDS else (pair,)
    assert selection.answer_pairs(context) == expected


def test_every_pair_but_the_one_in_use_is_an_alternative_if_its_end_is_proven(
    context: Context,
) -> None:
    assert {*selection.other_pairs(context)} == {OTHER, FAR, NEAR}
    use(context, FAR)
    assert {*selection.other_pairs(context)} == {OTHER, AIDS, NEAR}
    context.verification.proven, context.aid_proven = (B2,), False
    assert {*selection.other_pairs(context)} == {OTHER}


def test_an_update_goes_from_locators_that_the_peer_does_not_list_if_no_other_works(
    context: Context,
) -> None:
    assert selection.unlisted_pairs(context) == []
    context.own_local, context.own_remote = (A1, A2), (A1,)
    assert selection.unlisted_pairs(context) == []
    mark(context, (A1, BROKEN))
    assert selection.unlisted_pairs(context) == [OTHER, NEAR]
    use(context, FAR)
    assert selection.unlisted_pairs(context) == [NEAR, OTHER]


def test_inits_use_each_source_and_destination_once_before_any_again(context: Context) -> None:
    assert selection.first_contacts(context) == [AIDS, OTHER, NEAR, FAR]
    mark(context, (A1, DEPRECATED))
    assert selection.first_contacts(context) == [AIDS, OTHER, NEAR, FAR]
    mark(context, (A2, DEPRECATED))
    assert selection.first_contacts(context) == [AIDS, FAR, NEAR, OTHER]
    mark(context, (A1, BROKEN))
    assert selection.first_contacts(context) == [NEAR, OTHER]
    mark(context, (A1, BROKEN), (A2, BROKEN))
    assert selection.first_contacts(context) == [AIDS, OTHER, NEAR, FAR]
    mark(context)
    context.own_remote = (A1,)
    assert selection.first_contacts(context) == [AIDS, FAR]
    context.own_remote = None
    context.verification.proven, context.aid_proven = (), False
    assert selection.first_contacts(context) == [AIDS, NEAR]


def test_a_locator_has_the_weight_that_the_peer_says(network: Network, context: Context) -> None:
    assert selection.weight([], B2) == 1
    for weight in (1, 3, 8):
        mark(context, (B2, LOCAL | BACKUP | weight - 1))
        assert selection.weight([context], B2) == weight
        assert network.a.host.working((B1, B2)) == (B1,) + (B2,) * weight
    context.state = State.CLOSING
    assert selection.weight([context], B2) == 1


def test_what_was_heard_in_the_same_second_is_equal(context: Context) -> None:
    history = {FAR: History(heard_ns=2 * SECOND - 1), NEAR: History(heard_ns=SECOND)}
    context.history = history
    ranks = [selection.rank(context, pair)[2] for pair in (FAR, NEAR, OTHER)]
    assert ranks == [-1, -1, 0]
    shares = [selection.rank(context, pair)[1] for pair in (AIDS, FAR, NEAR, OTHER)]
    assert shares == [True, True, True, False]
