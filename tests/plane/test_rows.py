"""Rows of the table of uplinks: what happens to an uplink is one update for all flows."""

import pytest

from noid.locators import Locator, parse_locator
from noid.plane import layout
from noid.plane.layout import NO_UPLINK
from noid.plane.rows import NO_ROW, Rows, uplink_of
from noid.survey import Device

A1, A2, LINK_LOCAL = map(parse_locator, ("2001:db8:1::a", "2001:db8:2::a", "fe80::1"))
WHOLE = frozenset({"tx-tcp6-segmentation", "tx-udp-segmentation", "tx-checksum-ip-generic"})


def device(name: str, index: int, *addresses: Locator, **other: object) -> Device:
    values = {"mtu": 1500, "has_ethernet": True, "features": WHOLE, "link": bytes(range(6))} | other
    return Device(index=index, name=name, addresses=frozenset(addresses), **values)  # type: ignore[arg-type] # the values of a test


UP1, UP2 = device("up1", 3, A1, LINK_LOCAL), device("up2", 4, A2)


def test_each_uplink_with_an_address_has_a_row() -> None:
    rows = Rows()
    changed, moved = rows.update([UP1, UP2, device("docker0", 5, LINK_LOCAL)], ())
    assert changed == {1: uplink_of(UP1), 2: uplink_of(UP2)}
    assert moved == {A1, A2}
    assert rows.of == {A1: 1, A2: 2}
    assert rows.update([UP1, UP2], ()) == ({}, set())


def test_a_device_that_comes_again_under_its_name_has_the_same_row() -> None:
    rows = Rows()
    rows.update([UP1, UP2], ())
    assert rows.update([UP2], [A1]) == ({1: NO_UPLINK}, set())
    again = device("up1", 9, A1)
    assert rows.update([again, UP2], [A1]) == ({1: uplink_of(again)}, set())


def test_an_address_that_is_not_in_use_gives_its_row_back() -> None:
    rows = Rows()
    rows.update([UP1, UP2], ())
    changed, moved = rows.update([UP2], ())
    assert (changed, moved, rows.of) == ({1: NO_UPLINK}, {A1}, {A2: 2})
    rows.update([device("up3", 7, A1), UP2], ())
    assert rows.of[A1] == 1


def test_an_address_that_moves_to_another_uplink_has_another_row() -> None:
    rows = Rows()
    rows.update([UP1, UP2], [A1])
    _, moved = rows.update([device("up1", 3, A2), device("up2", 4, A1)], [A1])
    assert moved == {A1, A2}
    assert rows.of == {A1: 2, A2: 1}


def test_a_lost_carrier_is_one_update() -> None:
    rows = Rows()
    rows.update([UP1, UP2], ())
    lost = rows.lose(3, layout.RECEIVES)
    (uplink,) = lost.values()
    assert list(lost) == [1]
    assert uplink.flags & (layout.SENDS | layout.RECEIVES) == layout.RECEIVES
    assert rows.lose(3, layout.RECEIVES) == {}, "it is known"
    assert rows.lose(77, 0) == {}, "that device has no row"
    assert rows.update([UP1, UP2], ())[0] == {1: uplink_of(UP1)}


def test_there_are_so_many_rows_and_no_more() -> None:
    rows = Rows()
    devices = [
        device(f"up{n}", n, Locator(bytes.fromhex("20010db8") + n.to_bytes(12, "big")))
        for n in range(1, layout.UPLINKS_MAX + 2)
    ]
    rows.update(devices, ())
    assert len(set(rows.of.values())) == layout.OWN_ROW
    assert sorted(rows.uplinks) == list(range(1, layout.OWN_ROW))
    assert list(rows.of.values()).count(NO_ROW) == len(devices) - layout.OWN_ROW + 1


@pytest.mark.parametrize(
    ("other", "flags"),
    [
        ({}, layout.ETHERNET | layout.SENDS),
        ({"carries": False}, layout.ETHERNET),
        ({"has_ethernet": False, "link": b""}, layout.SENDS),
        (
            {"features": frozenset()},
            layout.ETHERNET | layout.SENDS | layout.CUT_TCP | layout.CUT_UDP,
        ),
    ],
)
def test_a_device_as_the_programs_see_it(other: dict[str, object], flags: int) -> None:
    uplink = uplink_of(device("up1", 3, A1, **other))
    assert uplink.flags == flags | layout.RECEIVES
    assert len(uplink.link) == layout.LINK_OCTETS
