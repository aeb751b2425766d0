# SPDX-License-Identifier: MIT
"""The programs that people have, asking the stub as they ask any resolver: on ::1, port 53."""

import asyncio
import sys
from pathlib import Path

import pytest

from noid.constants import Codepoints
from noid.lab.resolution import LOOPBACK, ROOT_ZONE, Resolution, serving
from noid.resolver.port import Server
from noid.resolver.stub import Stub
from noid.resolver.upstream import Upstream
from tests.namespaces import in_network_namespace, ip

ZONE = (
    ROOT_ZONE
    + r"""m6 300 AAAA 2001:db8:1::1
m6 300 AAAA 2001:db8:2::1
m6 300 TYPE65286 \# 0
plain 300 AAAA 2001:db8:1::2
plain 300 AAAA 2001:db8:2::2
plain 300 A 192.0.2.2
alias 300 CNAME m6
"""
    + "".join(f'big 300 TXT "{index:0250}"\n' for index in range(30))
)

PYTHON = "import socket; print(len({one[4][0] for one in socket.getaddrinfo('NAME', 80)}))"
CURL = "curl --silent --max-time 2 --verbose http://NAME/ 2>&1 | grep --count 'Trying \\['"
ASKED = {
    "dig +short AAAA m6.clients.test | wc -l": "1",
    "dig +short AAAA plain.clients.test | wc -l": "2",
    "dig +short +dnssec AAAA m6.clients.test | wc -l": "2",
    "dig +short TXT big.clients.test | wc -l": "30",
    "dig +tcp +short A plain.clients.test": "192.0.2.2",
    "dig AAAA gone.clients.test | grep --only-matching NXDOMAIN": "NXDOMAIN",
    "drill AAAA m6.clients.test | grep --count '^m6.*AAAA'": "1",
    "drill -D AAAA m6.clients.test | grep --count '^m6.*AAAA'": "2",
    "getent ahostsv6 m6.clients.test | grep --count STREAM": "1",
    "getent ahostsv6 alias.clients.test | grep --count STREAM": "1",
    # AI_ADDRCONFIG: a host without an IPv4 address does not ask for any.
    "getent ahosts plain.clients.test | grep --count STREAM": "2",
    f'{sys.executable} -c "{PYTHON.replace("NAME", "m6.clients.test")}"': "1",
    f'{sys.executable} -c "{PYTHON.replace("NAME", "plain.clients.test")}"': "3",
    CURL.replace("NAME", "m6.clients.test"): "1",
    CURL.replace("NAME", "plain.clients.test"): "2",
}
"""What is typed, and what has to come of it."""


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each program said, all of them in one network of their own."""
    directory = tmp_path_factory.mktemp("clients")
    (directory / "resolv.conf").write_text(f"nameserver {LOOPBACK}\n")
    (directory / "nsswitch.conf").write_text("hosts: dns\n")

    def scenario() -> dict[str, str]:
        for command in (
            "link set lo up",
            "address add 2001:db8:ffff::1/128 dev lo nodad",
            "route add unreachable 2001:db8::/32 metric 4096",
        ):
            ip(command)
        with serving(directory, {"clients.test": ZONE}) as places:
            return asyncio.run(ask_all(places, directory))

    return in_network_namespace(scenario)


async def ask_all(places: Resolution, directory: Path) -> dict[str, str]:
    server: Server = places.resolver
    upstream = Upstream([server], Codepoints(), tuple, 0)
    stub = Stub(LOOPBACK, 53, upstream, lambda *_: True, tuple)
    await stub.start()
    try:
        return {command: await typed(command, directory) for command in ASKED}
    finally:
        await stub.stop()
        await upstream.close()


async def typed(command: str, directory: Path) -> str:
    """The output of a command that finds our files in /etc, and the machine's in all the rest."""
    script = "".join(
        f"mount --bind {directory}/{name} /etc/{name} && "
        for name in ("resolv.conf", "nsswitch.conf")
    )
    process = await asyncio.create_subprocess_exec(
        "unshare", "--mount", "sh", "-c", script + command,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    return (await process.communicate())[0].decode().strip()


@pytest.mark.lab
@pytest.mark.parametrize("command", ASKED)
def test_a_program_gets_what_it_should(command: str, said: dict[str, str]) -> None:
    assert said[command] == ASKED[command]
