# SPDX-License-Identifier: MIT
"""Text of others does nothing to a terminal, a log, JSON or a zone file."""

import ast
import logging
import re
import socket
import socketserver
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dns.message
import dns.name
import dns.rdatatype
import dns.rrset
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noid.cli.main import main
from noid.dns.zone import is_host_name
from noid.roles.logs import LogLines
from noid.text import json_line, printable
from tests.canned import serving
from tests.test_cli import CONTEXT

SOURCE = Path(__file__).parent.parent / "src" / "noid"
HOSTILE = (
    "\x1b]0;owned\x07.example",
    "a.example.\nevil.example. 1 IN A 192.0.2.1",
    "a\rb",
    "\x9b31mred",
    "\u202eelpmaxe.a",
    "x\u2028y",
    "\x00\x7f\x85",
    "[red]b[/red].example",
    "\udcff\udc80",
)
TEXT = st.text(st.characters() | st.sampled_from("\x1b\n\x9b\x7f\u202e\udcff\\"))
BAD = re.compile(r"[^\x20-\x7e\n]")


def assert_harmless(shown: str, lines: int = 0) -> None:
    """Printable ASCII in lines, which are no more than the command has."""
    assert BAD.search(shown) is None, shown
    assert not lines or shown.count("\n") <= lines, shown


@given(TEXT)
def test_printable_text_is_one_line_and_is_stable(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert shown.encode(errors="strict").decode() == shown
    assert printable(shown) == shown
    assert shown == text or not text.isprintable()


def without_surrogates(value: object) -> object:
    if isinstance(value, dict):
        return {without_surrogates(key): without_surrogates(one) for key, one in value.items()}
    return value.encode(errors="replace").decode() if isinstance(value, str) else value


@pytest.mark.slow
@settings(max_examples=50, deadline=None)
@given(st.recursive(TEXT | st.integers(0, 99) | st.none(), lambda one: st.dictionaries(TEXT, one)))
def test_json_is_ascii_and_says_the_same(value: object) -> None:
    line = json_line(value)
    assert_harmless(line, 0)
    assert "\n" not in line
    assert msgspec.json.decode(line) == without_surrogates(value)


@pytest.mark.parametrize("text", HOSTILE)
def test_a_record_of_log_is_one_line(text: str) -> None:
    record = logging.LogRecord("noid", logging.INFO, "", 0, "peer %s", (text,), None)
    assert_harmless(LogLines("%(message)s").format(record))
    assert "\n" not in LogLines("%(message)s").format(record)
    try:
        raise ValueError(text)
    except ValueError:
        record.exc_info = sys.exc_info()
    _, *traceback = LogLines("%(message)s").format(record).split("\n")
    assert traceback
    assert all(one.startswith("  ") and one.isprintable() for one in traceback)


# --- every command --------------------------------------------------------------------------------


def commands(text: str) -> dict[str, Callable[[], Any]]:
    text = text.encode(errors="replace").decode()
    context = {key: [text] if isinstance(value, list) else text for key, value in CONTEXT.items()}
    return {"status": lambda: {text: {text: [text, text]}}, "contexts": lambda: iter([context])}


@pytest.fixture(params=HOSTILE, ids=list(map(ascii, HOSTILE)))
def hostile(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def run(*words: str) -> int:
    try:
        return main(list(words))
    except SystemExit as end:
        return int(str(end.code))


@pytest.mark.parametrize("as_", [(), ("--json",)])
@pytest.mark.parametrize("command", ["status", "contexts"])
def test_what_a_daemon_says_is_escaped(
    hostile: str,
    command: str,
    as_: tuple[str, ...],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "socket"
    with serving(path, commands(hostile)):
        assert run(command, "--socket", str(path), *as_) == 0
    shown = capsys.readouterr()
    assert_harmless(shown.out, 2)
    assert not shown.err


@pytest.mark.parametrize("as_", [(), ("--json",)])
def test_what_the_monitor_shows_is_escaped(
    hostile: str, as_: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "socket"
    with serving(path, {}) as canned:

        def publish_once_monitored() -> None:
            if not canned.server.monitors:
                canned.loop.call_soon(publish_once_monitored)
                return
            canned.server.publish({"event": hostile, "why": hostile, "names": [hostile]})
            canned.loop.create_task(canned.server.stop())

        canned.call(publish_once_monitored)
        assert run("monitor", "--socket", str(path), *as_) == 0
    assert_harmless(capsys.readouterr().out, 2)


WORDS: dict[str, tuple[str, ...]] = {
    "a word that is no command": ("{}",),
    "an argument too many": ("status", "{}"),
    "an option that is none": ("lookup", "--{}"),
    "a socket": ("status", "--socket", "{}"),
    "a configuration": ("zone", "--config", "{}"),
    "a configuration to run": ("run", "--config", "{}"),
    "a configuration to remove": ("down", "--config", "{}"),
    "a configuration of the doctor": ("doctor", "--config", "{}"),
    "a locator": ("zone", "a.example", "--locator", "{}"),
    "a zone": ("zone", "{}", "--locator", "2001:db8::1"),
    "a zone as JSON": ("zone", "{}", "--locator", "2001:db8::1", "--json"),
    "a time to live": ("zone", "a.example", "--locator", "2001:db8::1", "--ttl", "{}"),
    "a resolver": ("lookup", "b.example", "--resolver", "{}"),
    "a name of the doctor": ("doctor", "--name", "{}"),
    "a resolv.conf": ("resolver", "status", "--resolv-conf", "{}"),
    "a resolv.conf as JSON": ("resolver", "status", "--json", "--resolv-conf", "{}"),
    "a lab": ("lab", "down", "--name", "{}"),
    "a lab's status": ("lab", "status", "--name", "{}"),
    "a scenario": ("lab", "run", "{}"),
    "a bench": ("bench", "{}"),
    "a seed": ("sim", "--seed", "{}"),
}


@pytest.mark.parametrize("words", WORDS.values(), ids=list(WORDS))
def test_words_of_the_command_line_are_escaped(
    hostile: str, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    argument = hostile.replace("\0", "")  # which no argument can hold
    assert run(*(word.format(argument) for word in words)) >= 0
    shown = capsys.readouterr()
    assert_harmless(shown.out.encode(errors="surrogateescape").decode())
    assert_harmless(shown.err)


@contextmanager
def name_server(label: bytes) -> Iterator[int]:
    """A name server that says every address has a name with that label; its port."""
    target = dns.name.Name([label, b"example", b""])

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            octets, sender = self.request
            response = dns.message.make_response(dns.message.from_wire(octets))
            (question,) = response.question
            if question.rdtype == dns.rdatatype.PTR:
                found = dns.rrset.from_text(question.name, 60, "IN", "PTR", target.to_text())
                response.answer.append(found)
            sender.sendto(response.to_wire(), self.client_address)

    class Server(socketserver.UDPServer):
        address_family = socket.AF_INET6

    with Server(("::1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("as_", [(), ("--json",)])
def test_what_the_dns_says_is_escaped(
    hostile: str, as_: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with name_server(hostile.encode(errors="surrogateescape")) as port:
        for peer in ("2001:db8::b", hostile):
            assert run("lookup", peer, "--resolver", "::1", "--port", str(port), *as_) == 1
            shown = capsys.readouterr()
            assert "found" in shown.out or peer == hostile, shown
            assert_harmless(shown.out)
            assert_harmless(shown.err)


@given(TEXT)
def test_a_zone_file_takes_host_names_only(name: str) -> None:
    assert not is_host_name(name) or re.fullmatch(r"[a-z0-9_.-]+", name)


@pytest.mark.parametrize("name", ["a.example", "_m6.b-1.example", "xn--bcher-kva.example"])
def test_a_zone_file_takes_these(name: str) -> None:
    assert is_host_name(name)


@pytest.mark.parametrize("name", ["", "a..b", ".a", "a.", "a b", "a;b", "@", "a" * 64, "a." * 127])
def test_a_zone_file_refuses_these(name: str) -> None:
    assert not is_host_name(name)


def test_no_command_prints_but_through_the_module() -> None:
    for path in set((SOURCE / "cli").glob("*.py")) - {SOURCE / "cli" / "output.py"}:
        calls = (one for one in ast.walk(ast.parse(path.read_text())) if isinstance(one, ast.Call))
        names = [one.func.id for one in calls if isinstance(one.func, ast.Name)]
        assert "print" not in names, f"{path}: noid.cli.output.say prints"
