# SPDX-License-Identifier: MIT
"""Plays packets before the law of a border and its programs in the kernel."""

import contextlib
import random
import struct
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from noid.flows import border
from noid.flows.border import Choice, Judgement, Outcome, Site
from noid.planes.bpf import border_tables
from noid.planes.bpf.border import Tables, load
from noid.wire import ipv6
from tests.border.packets import CODEPOINTS, INSIDE, REWRITABLE

ETHERNET = bytes(12) + b"\x86\xdd"
OTHER = b"\2\0\0\0\0\7"
"""The link-layer address of another border, as the sender."""
FROM_OTHER = ETHERNET[:6] + OTHER + ETHERNET[12:]
MARK = 0x6D37
CONTEXT = struct.Struct("=IIIIIIIIIII148x")
"""``struct __sk_buff``: length, type, mark, ..., ingress_ifindex, ifindex, and more."""
MARK_FIELD = 2
LOOPBACK = 1
PASS, DROP = 0xFFFFFFFF, 2
PER_SITE, PER_CHOICE = 500, 20
"""Packets before another site, and before another choice."""


class Programs:
    """The programs, and the tables of a site.

    Args:
        directory: for the words of the verifier.
        inside: how many further prefixes are inside.
    """

    def __init__(self, directory: Path, inside: int) -> None:
        settings = border_tables.settings(CODEPOINTS, MARK, INSIDE[:inside])
        self.loaded = load(directory, settings)
        self.tables = Tables(self.loaded)

    def leaving(self, packet: bytes, *, flags: int = 0) -> Judgement:
        return self._judge("border_leaving", packet, incoming=0, flags=flags)

    def handed_over(self, packet: bytes) -> Judgement:
        return self._judge("border_leaving", packet, incoming=0, link=FROM_OTHER)

    def departing(self, packet: bytes, *, incoming: int = LOOPBACK) -> Judgement:
        return self._judge("border_departing", packet, incoming=incoming)

    def arriving(self, packet: bytes) -> Judgement:
        return self._judge("border_arriving", packet, incoming=0)

    def _judge(
        self, name: str, packet: bytes, *, incoming: int, flags: int = 0, link: bytes = ETHERNET
    ) -> Judgement:
        if len(packet) < ipv6.HEADER_OCTETS:
            # BPF_PROG_TEST_RUN refuses it; the program could not read a header.
            return Judgement(Outcome.PASSED, packet)
        context = CONTEXT.pack(0, 0, 0, 0, 0, 0, 0, 0, 0, incoming, LOOPBACK)
        verdict, after, context = self.loaded.try_out_whole(
            name, link + packet, context, flags=flags
        )
        after = after[len(ETHERNET) :]
        if verdict == DROP:
            return Judgement(Outcome.DROPPED, after)
        assert verdict == PASS
        if CONTEXT.unpack(context)[MARK_FIELD] == MARK:
            return Judgement(Outcome.REFUSED, after)
        return Judgement(Outcome.PASSED if after == packet else Outcome.REWRITTEN, after)


class Stage:
    """The players. It is set up anew for other numbers of prefixes that are inside."""

    def __init__(self, directory: Path) -> None:
        self.programs = [Programs(directory, inside) for inside in range(len(INSIDE) + 1)]
        self.outcomes: Counter[str] = Counter()

    def close(self) -> None:
        for one in self.programs:
            one.loaded.close()

    def fill(self, site: Site, choice: Choice, own: Choice) -> None:
        """Fills the tables of the programs, with another border in the LAN."""
        tables = self.programs[len(site.inside)].tables
        tables.put_site(site)
        tables.put_choice(site, choice, handed_over=own)
        tables.put_others({(LOOPBACK, OTHER)})

    def differences(self, site: Site, choice: Choice, own: Choice, packet: bytes) -> list[str]:
        """Where the programs differ from the law, or either from what must hold.

        Args:
            site: the prefixes.
            choice: the uplinks for packets of hosts.
            own: those for packets that another border hands over.
            packet: from the IPv6 header on.
        """
        programs = self.programs[len(site.inside)]
        laws = {
            "leaving": border.leaving(site, choice, REWRITABLE, packet),
            "handed_over": border.leaving(site, own, REWRITABLE, packet),
            "departing": border.departing(site, LOOPBACK, packet),
            "arriving": border.arriving(site, packet),
        }
        found = []
        for where, law in laws.items():
            self.outcomes[f"{where} {law.outcome.value}"] += 1
            kernel = getattr(programs, where)(packet)
            if not _are_alike(kernel, law):
                found.append(f"{where}: kernel {kernel}, law {law}")
        return found + broken(site, packet, laws)


def _are_alike(kernel: Judgement, law: Judgement) -> bool:
    """Whether two say the same; a packet with its own prefix put in again has not changed."""
    if law.outcome is Outcome.REWRITTEN and law.packet == kernel.packet:
        return kernel.outcome in (Outcome.PASSED, Outcome.REWRITTEN)
    return kernel == law


def broken(site: Site, packet: bytes, laws: dict[str, Judgement]) -> list[str]:
    """What must hold for every packet, and does not."""
    leaving = laws["leaving"]
    found = []
    if leaving.packet != packet:
        if site.row_of(leaving.packet[8:]) is None:
            found.append("a rewritten packet has no prefix of the site")
        if leaving.packet[:8] + leaving.packet[16:] != packet[:8] + packet[16:]:
            found.append("more than the prefix was rewritten")
        number = packet[40] if packet[6] == 0 else packet[6]
        if number not in REWRITABLE:
            found.append("a packet was changed that does not say so")
    is_whole = len(packet) >= 40 and packet[0] >> 4 == 6
    row = site.row_of_source(packet[8:24]) if is_whole else None
    is_former = row is not None and site.prefixes[row].gone_s
    to = packet[24:40]
    stays = is_former and (site.has_inside(to) or site.row_of_source(to) is not None)
    if is_former and leaving.outcome is Outcome.PASSED and not stays:
        found.append("a former prefix has left the LAN")
    inside = is_whole and site.row_of(packet[8:24]) is not None
    if inside != (laws["arriving"].outcome is Outcome.DROPPED):
        found.append("spoofed inside sources, and no others, are dropped")
    if is_whole and not inside and laws["departing"].outcome is not Outcome.DROPPED:
        found.append("a source outside the site has left")
    return found


def generated(seed: int, count: int) -> Iterator[tuple[Site, Choice, Choice, bytes, bool]]:
    """Sites, choices, those for other borders, packets; whether the tables are to be filled."""
    from tests.border import packets

    chance = random.Random(seed)
    for number in range(count):
        if number % PER_SITE == 0:
            site = packets.site(chance)
        if number % PER_CHOICE == 0:
            choice, own = (packets.choice(chance, site) for _ in range(2))
        yield site, choice, own, packets.packet(chance, site), number % PER_CHOICE == 0


@contextlib.contextmanager
def stage(directory: Path) -> Iterator[Stage]:
    """The players, closed at the end."""
    made = Stage(directory)
    try:
        yield made
    finally:
        made.close()


def play(made: Stage, seed: int, count: int) -> list[str]:
    """What differs among so many packets, each with the packet."""
    found = []
    for site, choice, own, packet, is_new in generated(seed, count):
        if is_new:
            made.fill(site, choice, own)
        found += [f"{packet.hex()}: {one}" for one in made.differences(site, choice, own, packet)]
    return found
