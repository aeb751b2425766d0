# SPDX-License-Identifier: MIT
"""While nothing fails, nothing happens [D42, D43].

No context changes its pair or uses a locator that its owner wants left, no packet is delivered
twice, and there is at most one control message per second and context, with any traffic.
"""

from collections import Counter, deque
from typing import Protocol

from noid.constants import MILLISECOND, MINUTE, SECOND
from noid.locators import Locator
from noid.sim.names import Names
from noid.sim.network import Line, Network
from noid.sim.node import Node
from noid.sim.parcel import Parcel, is_control, is_data, label_of
from noid.sim.ulp import Sent
from noid.sim.violation import Violation
from noid.wire import ipv6
from noid.wire.control import Code

QUIET = "quiet"
CALM_NS = 5 * SECOND
"""How long nothing must have failed, in a world in which nothing has ever failed."""
CALM_AGAIN_NS = 150 * SECOND
"""The same if something has failed before, or if a context is new and some locators have marks: a
better pair may be tried until then [D20]."""
CALM_NAMES_NS = 15 * MINUTE
"""The same if the DNS has changed: until then it may be asked again, and the other end may be told
[D31]."""
CONTROL_WINDOW_NS = 60 * SECOND
CONTROL_MAX = 60
"""Control messages of an end of a context in that time: more than the requests and probes of both
ends in doubt at one time, and their answers."""
SETUP_CODES = frozenset({Code.INIT, Code.CC, Code.CCR, Code.CONF})
LOSS_CALM = 0.2
JITTER_CALM_NS = 50 * MILLISECOND
JUDGED_AGAIN_NS = 250 * MILLISECOND
"""How long the result of checking for failures is used."""


class Scene(Protocol):
    """What the law looks at; see ``noid.sim.world.World``."""

    now_ns: int
    nodes: dict[str, Node]
    names: Names
    network: Network
    measured_ns: int


class Quiet:
    """The law of one world.

    Args:
        world: the world.
        judged: counts the judgements.
    """

    def __init__(self, world: Scene, judged: Counter[str]) -> None:
        self.world = world
        self.judged = judged
        self.changed_ns = world.now_ns
        self.changes = 0
        self.pairs: dict[tuple[str, int], bytes] = {}
        self.control: dict[tuple[str, frozenset[Locator]], deque[int]] = {}
        self.begun_ns: dict[frozenset[Locator], int] = {}
        self.calm = (False, -1)

    def changed(self) -> None:
        """Something fails, works again, or is changed."""
        self.changes += self.world.now_ns > self.changed_ns  # how a world begins is no change
        self.changed_ns = self.world.now_ns
        self.pairs.clear()
        self.control.clear()
        self.calm = (False, -1)

    def delivered(self, one: Sent) -> None:
        """A packet reaches its program, perhaps as a repetition."""
        if one.copies == 1 or one.at_ns < self.changed_ns + CALM_NS or not self._is_calm():
            return
        aids = frozenset({Locator(one.packet[8:24]), Locator(one.packet[24:40])})
        if not self._begins(aids):
            text = f"a packet of {one.sender} reaches {one.receiver} {one.copies} times"
            raise Violation(QUIET, text)

    def _begins(self, aids: frozenset[Locator]) -> bool:
        """Whether two AIDs have just begun a context; an INIT may repeat a packet [D7]."""
        return self.world.now_ns - self.begun_ns.get(aids, -CALM_NS) < CALM_NS

    def _is_calm(self) -> bool:
        """Whether nothing fails, and nothing has failed lately."""
        calm, until_ns = self.calm
        if until_ns < self.world.now_ns:
            calm = self._nothing_fails()
            self.calm = (calm, self.world.now_ns + JUDGED_AGAIN_NS)
        return calm

    def _nothing_fails(self) -> bool:
        world = self.world
        network, weather = world.network, world.network.weather
        settle_ns = CALM_AGAIN_NS if self.changes else CALM_NS
        if world.names.changes:
            settle_ns = CALM_NAMES_NS
        if world.now_ns - self.changed_ns < settle_ns:
            return False
        if self._are_some_worse() and world.now_ns - self._begun_last_ns() < CALM_AGAIN_NS:
            return False
        if network.down or network.cuts or network.filtered or network.doomed or weather.rewriting:
            return False
        if not all(border.is_whole for border in network.sites.values()):
            return False
        lines = (weather, *network.lines.values())
        return all(map(_is_calm, lines)) and all(map(_is_whole, world.nodes.values()))

    def _are_some_worse(self) -> bool:
        return any(node.backup or node.deprecated for node in self.world.nodes.values())

    def _begun_last_ns(self) -> int:
        return max(self.begun_ns.values(), default=0)

    def passes(self, parcel: Parcel) -> None:
        """Counts a packet that is sent."""
        if parcel.forged:
            return
        octets = parcel.octets
        if is_data(octets):
            self._data_passes(parcel)
        elif is_control(octets) and octets[ipv6.HEADER_OCTETS + 1] != Code.KEEPALIVE:
            self._control_passes(parcel.sender, octets)

    def _data_passes(self, parcel: Parcel) -> None:
        key = (parcel.sender, label_of(parcel.octets))
        pair = parcel.octets[8:40]
        before = self.pairs.get(key, pair)
        self.pairs[key] = pair
        # After lost messages of a set-up, its ends may begin with different pairs.
        is_new = self.world.now_ns - self._begun_last_ns() < CALM_NS
        if is_new or not self._is_calm():
            return
        self.judged[QUIET] += 1
        if before != pair:
            raise Violation(QUIET, f"{parcel.sender} changes its pair though nothing fails")
        for end in (pair[:16], pair[16:]):
            if self._is_to_be_left(end):
                raise Violation(QUIET, f"{parcel.sender} uses a locator that is to be left")

    def _is_to_be_left(self, end: bytes) -> bool:
        """Whether a locator has worse marks than others that the DNS lists."""
        node = self.world.nodes[self.world.network.present[end]]
        worse = node.deprecated | node.backup
        return end in worse and not worse.issuperset(
            self.world.names.forward[f"{node.name}.example"]
        )

    def _control_passes(self, sender: str, octets: bytes) -> None:
        at = ipv6.HEADER_OCTETS + 16
        aids = frozenset({Locator(octets[at : at + 16]), Locator(octets[at + 16 : at + 32])})
        if octets[ipv6.HEADER_OCTETS + 1] in SETUP_CODES:
            self.begun_ns[aids] = self.world.now_ns
        if self._begins(aids) or not self._is_calm():
            self.control.pop((sender, aids), None)
            return
        times = self.control.setdefault((sender, aids), deque())
        times.append(self.world.now_ns)
        while times[0] <= self.world.now_ns - CONTROL_WINDOW_NS:
            times.popleft()
        most = CONTROL_MAX
        if self.world.measured_ns:  # its own measurements, and answers to those of the other end
            most += 2 * CONTROL_WINDOW_NS // self.world.measured_ns
        if len(times) > most:
            seconds = CONTROL_WINDOW_NS // SECOND
            text = f"{sender} sends {len(times)} control messages within {seconds} s"
            raise Violation(QUIET, f"{text} though nothing fails")


def _is_calm(line: Line) -> bool:
    if not line.is_up or line.filtered or line.filtered_types or line.rate or line.corruption:
        return False
    return line.loss <= LOSS_CALM and line.jitter_ns <= JITTER_CALM_NS and not line.duplication


def _is_whole(node: Node) -> bool:
    whole = node.present == node.locators == node.claimed
    return node.runs and node.honest and whole and not node.broken
