# SPDX-License-Identifier: MIT
"""Sessions of BFD: they come up, notice silence within the detection time, and ignore forgeries."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noid.constants import MILLISECOND, SECOND
from noid.flows.bfd import FINAL, POLL, Packet, Session, State
from noid.flows.bfd_authentication import KEYED, METICULOUS, Authentication
from tests.contents import differences

INTERVAL_US = 20_000


class Link:
    """Two sessions, and a link that can be cut in one direction; packets need 1 ms.

    Args:
        has_forgers: whether others can send in the name of the ends.
    """

    def __init__(self, *, has_forgers: bool = False) -> None:
        self.now_ns = 0
        self.has_forgers = has_forgers
        self.ends = self.end(7), self.end(8)
        self.cut = [False, False]
        self.sent: list[tuple[int, int, Packet]] = []

    def end(self, discriminator: int) -> Session:
        return Session(discriminator, INTERVAL_US, 3, has_forgers=self.has_forgers)

    def run(self, span_ns: int) -> None:
        until_ns = self.now_ns + span_ns
        while self.now_ns < until_ns:
            for number, end in enumerate(self.ends):
                self._pass(number, end.due(self.now_ns, 0.5))
            self.now_ns += MILLISECOND

    def _pass(self, sender: int, octets: bytes | None) -> None:
        if octets is None:
            return
        packet = Packet.decode(octets)
        assert packet is not None
        self.sent.append((self.now_ns, sender, packet))
        if not self.cut[sender]:
            receiver = 1 - sender
            self._pass(receiver, self.ends[receiver].hear(packet, self.now_ns))

    def states(self) -> tuple[State, State]:
        return self.ends[0].state, self.ends[1].state


def up(*, has_forgers: bool = False) -> Link:
    made = Link(has_forgers=has_forgers)
    made.run(4 * SECOND)
    assert made.states() == (State.UP, State.UP)
    return made


OF_BEFORE = frozenset({"was_up", "administrative", "_diagnostic", "_send_ns"})
"""What an expired session knows on purpose, and when it sends next."""
packets = st.builds(
    Packet,
    diagnostic=st.integers(0, 31),
    state=st.sampled_from(State),
    flags=st.sampled_from((0, POLL, FINAL)),
    multiplier=st.integers(1, 4),
    mine=st.integers(1, 9),
    yours=st.sampled_from((0, 7)),
    desired_us=st.integers(1, 2_000_000),
    required_us=st.sampled_from((0, 1, INTERVAL_US, 5_000_000)),
)


@given(st.lists(st.tuples(packets, st.integers(0, 3 * SECOND))))
def test_an_expired_session_is_as_a_new_one_after_any_packets(
    heard: list[tuple[Packet, int]],
) -> None:
    """A router that began anew, and only answers, takes packets of a new session alone."""
    one, now_ns = Session(7, INTERVAL_US, 3), 0
    for packet, later_ns in heard:
        one.hear(packet, now_ns)
        one.due(now_ns, 0.5)
        now_ns += later_ns
    now_ns += 20 * SECOND
    one.due(now_ns, 0.5)
    assert differences(one, Session(7, INTERVAL_US, 3), without=OF_BEFORE) == {}
    sent = one.due(now_ns + 2 * SECOND, 0.5)
    assert sent is not None
    said = Packet.decode(sent)
    assert said is not None
    assert (said.state, said.yours) == (State.DOWN, 0)


@pytest.fixture
def link() -> Link:
    return up()


def test_a_silent_session_goes_down_within_the_detection_time(link: Link) -> None:
    link.cut[1] = True
    link.run(59 * MILLISECOND - INTERVAL_US * 1000)
    assert link.states() == (State.UP, State.UP)
    link.run(23 * MILLISECOND)
    assert link.states()[0] is State.DOWN
    link.run(40 * MILLISECOND)
    assert link.states()[1] is State.DOWN, "the other end is told"
    link.cut[1] = False
    link.run(5 * SECOND)
    assert link.states() == (State.UP, State.UP)


def test_bfd_sends_rarely_until_it_is_up_and_then_at_its_interval(link: Link) -> None:
    times = [at_ns for at_ns, sender, _ in link.sent if sender == 0 and at_ns >= 3 * SECOND]
    assert 50 <= len(times) <= 67
    alone = Session(7, INTERVAL_US, 3)
    sent = [at for at in range(0, 10_000, 10) if alone.due(at * MILLISECOND, 1.0)]
    assert len(sent) <= 14


def test_a_change_of_interval_is_polled_until_it_is_confirmed(link: Link) -> None:
    first = next(one for _, sender, one in link.sent if sender == 0 and one.flags & POLL)
    assert first.state is State.UP
    assert first.desired_us == INTERVAL_US
    assert any(one.flags & FINAL for _, sender, one in link.sent if sender == 1)
    late = [one for at_ns, _, one in link.sent if at_ns >= 3 * SECOND]
    assert not any(one.flags & POLL for one in late)


def packet(state: State, *, yours: int = 7, flags: int = 0, required_us: int = 20_000) -> Packet:
    return Packet(0, state, flags, 3, 8, yours, INTERVAL_US, required_us)


def test_a_packet_for_another_session_changes_nothing(link: Link) -> None:
    link.ends[0].hear(packet(State.DOWN, yours=9), link.now_ns)
    assert link.states()[0] is State.UP
    link.ends[0].hear(packet(State.DOWN), link.now_ns)
    assert link.states()[0] is State.DOWN


def test_an_end_that_began_anew_is_believed(link: Link) -> None:
    link.ends[0].hear(packet(State.DOWN, yours=0), link.now_ns)
    assert link.states()[0] is State.DOWN


@pytest.mark.parametrize("state", [State.DOWN, State.ADMIN_DOWN])
def test_who_does_not_know_our_discriminator_cannot_end_a_session(state: State) -> None:
    """The discriminator is random, and over several hops any host may send such a packet."""
    link = up(has_forgers=True)
    for _ in range(1_000):
        assert link.ends[0].hear(packet(state, yours=0), link.now_ns) is None
        link.run(MILLISECOND)
        assert link.states() == (State.UP, State.UP)
    assert not link.ends[0].administrative


def test_where_packets_are_forged_the_genuine_end_is_believed_after_the_detection_time() -> None:
    link = up(has_forgers=True)
    link.ends = link.ends[0], link.end(9)
    link.sent.clear()
    link.run(70 * MILLISECOND)
    assert any(sender == 0 and one.state is State.DOWN for _, sender, one in link.sent)
    link.run(4 * SECOND)
    assert link.states() == (State.UP, State.UP)
    link.cut[1] = True
    link.run(150 * MILLISECOND)
    assert link.states() == (State.DOWN, State.DOWN), "the end that still hears is told"


def test_an_end_that_its_operator_took_down_is_no_failure(link: Link) -> None:
    link.ends[0].hear(packet(State.ADMIN_DOWN), link.now_ns)
    assert link.states()[0] is State.DOWN
    assert link.ends[0].administrative


def test_an_end_that_wants_no_packets_gets_none_until_it_does(link: Link) -> None:
    end = link.ends[0]
    end.hear(packet(State.UP, required_us=0), link.now_ns)
    end.due(link.now_ns, 0.0)
    assert end.due(link.now_ns + 30 * MILLISECOND, 0.0) is None
    end.hear(packet(State.UP), link.now_ns + 31 * MILLISECOND)
    assert end.due(link.now_ns + 31 * MILLISECOND, 0.0) is not None


GOOD = packet(State.UP).encode()
BAD = {
    "short": GOOD[:-1],
    "another version": bytes([0x40]) + GOOD[1:],
    "authenticated": GOOD[:1] + bytes([GOOD[1] | 0x04]) + GOOD[2:],
    "multipoint": GOOD[:1] + bytes([GOOD[1] | 0x01]) + GOOD[2:],
    "no multiplier": GOOD[:2] + b"\0" + GOOD[3:],
    "longer than it is": GOOD[:3] + b"\x19" + GOOD[4:],
    "shorter than a header": GOOD[:3] + b"\x17" + GOOD[4:],
    "from no session": GOOD[:4] + bytes(4) + GOOD[8:],
    "up, to no session": GOOD[:8] + bytes(4) + GOOD[12:],
}


@pytest.mark.parametrize("name", BAD)
def test_a_malformed_packet_is_discarded(name: str) -> None:
    assert Packet.decode(GOOD) == packet(State.UP)
    assert Packet.decode(BAD[name]) is None


@given(st.binary(max_size=40))
def test_no_packet_raises(octets: bytes) -> None:
    found = Packet.decode(octets)
    if found is not None:
        Session(7, INTERVAL_US, 3).hear(found, 0)


# --- authentication -------------------------------------------------------------------------------


def ends(kind: int = METICULOUS, key: bytes = b"secret") -> tuple[Authentication, Authentication]:
    """Two ends with random first sequence numbers; the second knows the first already."""
    made = [
        Authentication(kind, 7, one, sequence=first, interval_us=INTERVAL_US)
        for one, first in ((b"secret", 0xFFFFFFFE), (key, 5))
    ]
    return made[0], made[1]


@pytest.mark.parametrize("kind", [KEYED, METICULOUS])
def test_a_sealed_packet_is_opened_and_found_in_no_other_form(kind: int) -> None:
    one, other = ends(kind)
    sealed = one.seal(GOOD)
    assert len(sealed) == 52
    assert Packet.decode(sealed) is None, "without a key it is discarded"
    assert other.open(sealed, 0) == GOOD
    assert other.open(GOOD, 0) is None
    for at in range(len(sealed)):
        altered = sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]
        assert ends(kind)[1].open(altered, 0) is None, at
    assert ends(kind, b"another")[1].open(sealed, 0) is None
    assert ends(KEYED + METICULOUS - kind)[1].open(sealed, 0) is None


def test_a_repeated_or_old_packet_is_discarded_until_the_end_was_silent_for_long() -> None:
    one, other = ends()
    first, second = one.seal(GOOD), one.seal(GOOD)
    assert other.open(first, 0) == GOOD
    assert other.open(second, 0) == GOOD, "over the end of the numbers"
    assert other.open(second, 1) is None
    assert other.open(first, 1) is None
    for _ in range(10):
        late = one.seal(GOOD)
    assert other.open(late, 1) is None, "too far ahead"
    silent_ns = 2 * 3 * INTERVAL_US * 1000
    assert other.open(late, silent_ns - 1) is None
    assert other.open(late, silent_ns) == GOOD
    plain_one, plain_other = ends(KEYED)
    again = plain_one.seal(GOOD)
    assert plain_other.open(again, 0) == plain_other.open(again, 1) == GOOD


@given(st.binary(max_size=60))
def test_no_octets_make_authentication_raise(octets: bytes) -> None:
    assert ends()[1].open(octets, 0) is None
