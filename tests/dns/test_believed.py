# SPDX-License-Identifier: MIT
"""What the stub does when the shim does not believe that a name's address is the name's [D33]."""

import dns.message

from tests.dns.conftest import TWO, Peer, Pretend, Program, aaaa, addresses, as_program, m6_host


def test_a_name_whose_first_address_is_another_hosts_is_answered_whole(pretend: Pretend) -> None:
    async def scenario(program: Program) -> tuple[dns.message.Message, list[Peer]]:
        program.believes = False
        return await program.resolve(aaaa("host")), program.peers

    message, peers = as_program(scenario, pretend(m6_host(TWO)))
    assert sorted(addresses(message)) == ["2001:db8:1::1", "2001:db8:2::1"]
    assert len(peers) == 1
