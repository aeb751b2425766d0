# SPDX-License-Identifier: MIT
"""The file that says where a border has put its rules, routes and pins."""

import os
from pathlib import Path

import msgspec
import pytest

from noid.border_config import BorderSection
from noid.roles.border_placed import Place, former_places


def section(socket: Path | str) -> BorderSection:
    return BorderSection(lans=["lan0"], providers=[], socket=str(socket))


def test_the_file_says_what_the_former_place_was(tmp_path: Path) -> None:
    now = section(tmp_path / "border.sock")
    former = Place(60, 0x6D3700, now.pins, now.socket)
    assert former.file == tmp_path / "border.place.json"
    former.file.write_bytes(msgspec.json.encode(former))
    assert former_places(now, None) == [former]
    assert former_places(now, former) == [former]
    former.file.write_bytes(msgspec.json.encode(Place.of(now)))
    assert former_places(now, None) == []


def test_devices_that_left_the_configuration_are_of_the_former_place(tmp_path: Path) -> None:
    now = section(tmp_path / "border.sock")
    assert Place.of(now).devices == ("lan0",)
    former = msgspec.structs.replace(Place.of(now), devices=("lan0", "wan0"))
    former.file.write_bytes(msgspec.json.encode(former))
    assert former_places(now, None) == [former]


@pytest.mark.parametrize("socket", ["", ".", "/"])
def test_every_name_of_a_socket_has_such_a_file(socket: str) -> None:
    assert Place.of(section(socket)).file.name == ".place.json"


BAD = {
    "a table of the kernel": b'{"rule_priority":60,"table":254,"pins":"/p","socket":"/s"}',
    "a great number": b'{"rule_priority":60,"table":99999999999,"pins":"/p","socket":"/s"}',
    "the rules of the kernel": b'{"rule_priority":32766,"table":999,"pins":"/p","socket":"/s"}',
    "a key less": b'{"rule_priority":60,"table":999,"pins":"/p"}',
    "no text": b'\xff{"',
    "nothing": b"",
}


@pytest.mark.parametrize("octets", BAD.values(), ids=BAD)
def test_a_file_that_cannot_be_ours_says_nothing(tmp_path: Path, octets: bytes) -> None:
    now = section(tmp_path / "border.sock")
    Place.of(now).file.write_bytes(octets)
    assert former_places(now, None) == []


def test_the_file_of_another_user_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A socket may be in a directory in which others can make files, such as /tmp."""
    now = section(tmp_path / "border.sock")
    former = Place(60, 0x6D3700, now.pins, now.socket)
    former.file.write_bytes(msgspec.json.encode(former))
    assert former_places(now, None) == [former]
    user = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: user)
    assert former_places(now, None) == []


def test_a_pipe_in_its_place_is_not_waited_for(tmp_path: Path) -> None:
    now = section(tmp_path / "border.sock")
    os.mkfifo(Place.of(now).file)
    assert former_places(now, None) == []
