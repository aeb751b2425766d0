# SPDX-License-Identifier: MIT
"""What a name server may have done is undone, whichever of its answers did not arrive."""

import socketserver
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import dns.message
import dns.rcode
import dns.rdataclass
import dns.tsig
import dns.update
import pytest

from noid.errors import PlatformError
from noid.setup.dynamic import read_key
from noid.setup.journal import Journal
from noid.setup.plan import Record
from noid.setup.planning import Plan

SECRET: Final = "bm90IGEgc2VjcmV0IG9mIGFueWJvZHkgYXQgYWxsISE="
KEY: Final = f'key "a.example" {{ algorithm hmac-sha256; secret "{SECRET}"; }};\n'
LOCATORS: Final = ("2001:db8:1::a", "2001:db8:2::a", "2001:db8:3::a")


class NameServer(socketserver.TCPServer):
    """Takes updates, and loses one of its answers."""

    allow_reuse_address = True
    has: Counter[str]
    lost: int
    asked: int
    keys: dict[dns.name.Name, dns.tsig.Key]


class Updates(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        server = self.server
        assert isinstance(server, NameServer)
        octets = self.rfile.read(int.from_bytes(self.rfile.read(2), "big"))
        message = dns.message.from_wire(octets, keyring=server.keys)
        assert isinstance(message, dns.update.UpdateMessage)
        for rrset in message.update:
            for one in rrset:
                text = f"{rrset.name} {one}"
                if rrset.deleting == dns.rdataclass.NONE:
                    del server.has[text]
                else:
                    server.has[text] = 1
        server.asked += 1
        if server.asked - 1 != server.lost:
            answer = dns.message.make_response(message).to_wire()
            self.wfile.write(len(answer).to_bytes(2, "big") + answer)


@contextmanager
def name_server(lost: int, key: Path) -> Iterator[NameServer]:
    with NameServer(("127.0.0.1", 0), Updates) as server:
        found = read_key(str(key))
        server.has, server.lost, server.asked = Counter(), lost, 0
        server.keys = {found.name: found}
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("lost", range(len(LOCATORS)))
def test_undo_takes_back_what_a_server_may_have_taken_without_an_answer(
    tmp_path: Path, lost: int
) -> None:
    key = tmp_path / "key"
    key.write_text(KEY)
    with name_server(lost, key) as server:
        host, port = server.server_address[:2]
        records = tuple(
            Record(str(host), int(port), str(key), "example.", "a.example.", "AAAA", one, 300)
            for one in LOCATORS
        )
        plan = Plan(steps=records, tables={}, notes=())
        journal = Journal(tmp_path / "journal")
        with journal.held(), pytest.raises(PlatformError):
            journal.apply(plan)
        assert len(server.has) == lost + 1, "it has taken the last one, too"
        again = Journal(tmp_path / "journal")
        with again.held():
            again.undo()
        assert not server.has
        assert not (tmp_path / "journal").exists()
