# SPDX-License-Identifier: MIT
"""``noid report`` on a host of the lab: nothing in it leads to the lab's names, addresses, keys."""

import base64
import ipaddress
import json
import sqlite3
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from noid.lab.lab import Lab
from noid.lab.topology import HOSTS, NAME_SERVER, locators
from tests.lab.conversations import establish_context, tcp
from tests.lab.refusals import NOID
from tests.test_json import check

HOSTILE = "\x1b]0;owned\x07 \u202e\n"
"""A line of log that another program may have written."""
NAMES = ("a.example", "b.example")
WHOLE = {
    *("README.txt", "versions.json", "kernel.json", "config.json", "status.json"),
    *("counters.json", "paths.json", "contexts.json", "history.json", "doctor.json", "log.txt"),
}


@pytest.fixture
def lab(kernel_lab: Lab) -> Lab:
    """The lab, with a context in use."""
    establish_context(kernel_lab)
    with tcp(kernel_lab, "a") as conversation:
        conversation.echoes()
    return kernel_lab


def reported(lab: Lab, directory: Path, *options: str) -> dict[str, bytes]:
    """The files of a report of a."""
    path = directory / f"{len(options)}.tar.gz"
    log = lab.directory / "log"
    log.write_text(lab.log("a") + HOSTILE, encoding="utf-8")
    environment = [f"{key}={value}" for key, value in lab.environment("a").items()]
    words = ["env", *environment, *NOID, "report", "--json", "--log", str(log)]
    done = lab.run("a", [*words, "--output", str(path), *options], timeout_s=120)
    assert done.returncode == 0, done.stderr
    assert path.stat().st_mode & 0o777 == 0o600
    with tarfile.open(path) as archive:
        members = archive.getmembers()
        assert {(one.uid, one.gid, one.uname) for one in members} == {(0, 0, "")}
        files = {one.name.rpartition("/")[2]: archive.extractfile(one) for one in members}
        found = {name: file.read() for name, file in files.items() if file is not None}
    answer = json.loads(done.stdout)
    check("report", answer)
    for one in answer["contents"]:
        check("report_file", one)
    listed = {one["name"]: one["octets"] for one in answer["contents"]}
    assert listed.keys() == WHOLE - {"README.txt"}
    assert all(name in found["README.txt"].decode() for name in listed)
    return found


def forms(address: str) -> Iterator[bytes]:
    """An address in every encoding."""
    one = ipaddress.IPv6Address(address)
    digits = one.packed.hex()
    for text in (str(one), one.exploded, digits, one.packed.hex(":"), one.reverse_pointer):
        yield from (text.encode(), text.upper().encode())
    yield one.packed
    yield base64.b64encode(one.packed).rstrip(b"=")
    yield str(one).rpartition("::")[0].encode()  # the prefix


def secrets_of(lab: Lab) -> set[bytes]:
    """The octets of keys that a keeps, and the number of this life."""
    state = json.loads((lab.directory / "a-state" / "state.json").read_text(encoding="utf-8"))
    keys = {bytes.fromhex(state["reset_key"])}
    with sqlite3.connect(lab.directory / "a-state" / "contexts.sqlite") as database:
        tables = [row[0] for row in database.execute("SELECT name FROM sqlite_master")]
        for table in tables:
            for row in database.execute(f"SELECT * FROM '{table}'"):
                keys |= {one for one in row if isinstance(one, bytes)}
    database.close()
    found = set()
    for key in keys:
        for at in range(0, len(key) - 15, 8):
            piece = key[at : at + 16]
            if piece.strip(b"\0"):
                found |= {piece, piece.hex().encode(), piece.hex().upper().encode()}
                found.add(base64.b64encode(piece)[:20])
    return found | {str(state["birthday"]).encode(), f"{state['birthday']:08x}".encode()}


def test_nothing_in_a_report_leads_to_names_addresses_or_keys(lab: Lab, tmp_path: Path) -> None:
    files = reported(lab, tmp_path)
    whole = b"\n".join(files.values())
    assert files.keys() == WHOLE
    addresses = [NAME_SERVER, *(one for host in HOSTS for one in locators(host))]
    for address in addresses:
        for form in forms(address):
            assert form not in whole, (address, form)
    for name in NAMES:
        assert name.encode() not in whole.lower(), name
    for secret in secrets_of(lab):
        assert secret not in whole, secret
    assert b"birthday" not in files["status.json"] + files["contexts.json"]
    contexts, paths = (json.loads(files[f"{name}.json"]) for name in ("contexts", "paths"))
    own = {one for uplink in paths["uplinks"] for one in uplink["locators"]}
    assert {one["local_locator"] for one in contexts} <= own
    assert len(own) == len(locators("a"))
    assert "error" not in json.loads(files["doctor.json"])
    assert all(line.isprintable() for line in whole.decode().split("\n"))
    given = (lab.directory / "log").read_text(encoding="utf-8")
    assert files["log.txt"].count(b"\n") == len(given.splitlines()[-1000:])


def test_a_plain_report_has_addresses_and_no_keys(lab: Lab, tmp_path: Path) -> None:
    files = reported(lab, tmp_path, "--plain")
    whole = b"\n".join(files.values())
    assert all(one.encode() in files["paths.json"] for one in locators("a"))
    assert all(secret not in whole for secret in secrets_of(lab))
