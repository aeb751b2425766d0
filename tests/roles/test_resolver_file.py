# SPDX-License-Identifier: MIT
"""The daemon's watch over the file that says where programs ask, on a file of its own."""

import logging
from pathlib import Path

import pytest

from noid.host.resolvconf import asked, is_on, turn_off, turn_on
from noid.roles.resolver_file import ResolverFile

LISTEN = "::1"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "resolv.conf"
    file.write_text("nameserver 192.0.2.1\n")
    return file


def write_as_dhcp(path: Path, server: str) -> None:
    """As dhclient and NetworkManager do: a new file in the place of the old one."""
    fresh = path.with_name("resolv.conf.dhclient-new")
    fresh.write_text(f"nameserver {server}\n")
    fresh.rename(path)


def test_the_file_is_restored_each_time_and_reported_once(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "noid")
    turn_on(path, LISTEN)
    changes: list[bool] = []
    watched = ResolverFile(path, LISTEN, lambda: changes.append(True))
    assert not watched.look()
    for number in (2, 3):
        write_as_dhcp(path, f"192.0.2.{number}")
        assert watched.look()
        assert asked(path) == [LISTEN, f"192.0.2.{number}"]
        assert not watched.look()
    assert len(changes) == 3
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert watched.describe() == {"on": True, "restored": 2, "trouble": ""}


def test_without_resolver_on_nothing_is_written(path: Path) -> None:
    watched = ResolverFile(path, LISTEN, lambda: None)
    assert not watched.look()
    turn_on(path, LISTEN)
    turn_off(path, LISTEN)
    write_as_dhcp(path, "192.0.2.2")
    assert not watched.look()
    assert path.read_text() == "nameserver 192.0.2.2\n"


def test_what_cannot_be_written_is_reported_once_and_tried_again(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    turn_on(path, LISTEN)
    watched = ResolverFile(path, LISTEN, lambda: None)
    path.unlink()
    path.mkdir()
    assert watched.look()
    assert watched.look()
    assert "is no file that can be replaced" in watched.trouble
    (record,) = caplog.records
    assert record.getMessage().endswith("programs do not ask noid until: noid resolver on")
    path.rmdir()
    write_as_dhcp(path, "192.0.2.2")
    assert watched.look()
    assert is_on(path)
    assert watched.trouble == ""
