# SPDX-License-Identifier: MIT
"""What the programs need is found out by asking; a refusal says why, with the words in a file."""

import asyncio
import os
import re
from importlib import resources
from pathlib import Path

import pytest

from noid.errors import PlatformError, Unsupported
from noid.host.netlink import HostNetwork
from noid.planes import privileges
from noid.planes.bpf import features, plane
from noid.planes.bpf.features import FUNCTIONS, MAPS, TIMERS, Feature, explained
from noid.planes.bpf.pins import object_code, our_pins
from tests.namespaces import in_network_namespace
from tests.planes.keeping import make_plane
from tests.planes.loading import constants, load

CALL = bytes((0x85, 0, 0, 0))
REDIRECT_NEIGHBOUR, UNKNOWN = 152, 9999
HEADER = (
    resources.files("noid.planes.bpf.programs").joinpath("kernel.h").read_text(encoding="utf-8")
)

STEPS_MAX = 50_000
"""Of a million that the kernel permits. A daemon starts only after all programs are verified."""
OTHER_VERSION = "of another version of noid; install noid again"

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: asks the kernel")


def calling_another(code: bytes, number: int) -> bytes:
    """The object, with calls of a function that it needs turned into those of another."""
    old, new = (CALL + one.to_bytes(4, "little") for one in (REDIRECT_NEIGHBOUR, number))
    assert old in code
    return code.replace(old, new)


@as_root
def test_what_the_verifier_refuses_leaves_its_words_in_a_file(tmp_path: Path) -> None:
    with pytest.raises(PlatformError) as refused:
        load(tmp_path, code=calling_another(object_code(), UNKNOWN))
    assert str(refused.value) == (
        f"load the BPF programs: the verifier refuses them; its log is {tmp_path}/log"
    )
    words = (tmp_path / "log").read_text()
    assert f"#{UNKNOWN}" in words, "the reason, which stands at the end"
    assert "found program" not in words, "what libbpf says about itself"


@as_root
def test_the_verifier_is_soon_done_with_each_program(tmp_path: Path) -> None:
    programs = load(tmp_path)
    try:
        verified = {name: _verified(number) for name, number in programs.programs.items()}
    finally:
        programs.close()
    assert {name: steps for name, steps in verified.items() if steps > STEPS_MAX} == {}


def _verified(descriptor: int) -> int:
    """The instructions that the verifier followed in a program, over all paths."""
    about = Path(f"/proc/self/fdinfo/{descriptor}").read_text(encoding="utf-8")
    found = re.search(r"^verified_insns:\s*(\d+)$", about, re.MULTILINE)
    if not found:
        pytest.skip("the kernel is older than Linux 5.16: it does not say what it verified")
    return int(found[1])


def test_what_is_no_object_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(PlatformError, match="is not one; reinstall"):
        load(tmp_path, code=b"\x7fELF")


@as_root
def test_programs_with_other_constants_are_of_another_version(tmp_path: Path) -> None:
    with pytest.raises(PlatformError, match=OTHER_VERSION):
        load(tmp_path, settings=constants() + bytes(4))


@as_root
def test_programs_with_other_maps_are_of_another_version(
    pins: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = object_code()
    assert b"set_ups\0" in code
    monkeypatch.setattr(plane, "object_code", lambda: code.replace(b"set_ups\0", b"set_upz\0"))

    async def play() -> None:
        network = HostNetwork()
        plane = make_plane(network, pins, "auto", 16, "bpf")
        try:
            with pytest.raises(PlatformError, match=OTHER_VERSION):
                plane.open()
        finally:
            network.close()

    in_network_namespace(lambda: asyncio.run(play()))


def test_the_features_are_those_the_programs_use() -> None:
    called = {int(number) for number in re.findall(r"= \(void \*\)(\d+);", HEADER)}
    assert called == {one.number for one in (*FUNCTIONS, *TIMERS)}
    maps = {int(number) for number in re.findall(r"\bBPF_MAP_TYPE_\w+ = (\d+)", HEADER)}
    assert maps == {one.number for one in MAPS}


@as_root
def test_this_kernel_has_all_of_them_and_none_that_there_is_not() -> None:
    assert features.missing() == []
    strange = Feature("bpf_tell_fortunes", UNKNOWN, "9.9")
    assert features.missing(functions=[FUNCTIONS[0], strange]) == [strange]
    strange_map = Feature("crystal balls", 250, "9.9")
    assert features.missing(maps=[MAPS[0], strange_map]) == [strange_map]


@as_root
def test_a_refusal_is_explained_by_what_the_kernel_lacks() -> None:
    refusal = PlatformError("load the BPF programs", 22, "the verifier refuses them")
    with pytest.raises(PlatformError, match="the verifier refuses them"), explained():
        raise refusal
    lacked = (Feature("bpf_tell_fortunes", UNKNOWN, "9.9"), Feature("bpf_guess", UNKNOWN, "9.10"))
    with pytest.raises(Unsupported) as said, explained(functions=lacked):
        raise refusal
    assert str(said.value) == (
        "bpf_tell_fortunes, bpf_guess of the kernel is not available: Linux 9.10 or newer has it "
        "(load the BPF programs: the verifier refuses them)"
    )


@pytest.mark.parametrize(
    ("held", "lacking"),
    [
        (0, ["CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN"]),
        (1 << 21, ["CAP_NET_ADMIN"]),
        (1 << 39 | 1 << 12, ["CAP_PERFMON"]),
        (1 << 39 | 1 << 38 | 1 << 12, []),
    ],
)
def test_missing_capabilities_are_named(tmp_path: Path, held: int, lacking: list[str]) -> None:
    status = tmp_path / "status"
    status.write_text(f"CapPrm:\t0000000000000000\nCapEff:\t{held:016x}\n")
    assert privileges.lacking(status) == lacking


def test_what_others_have_pinned_is_not_ours(tmp_path: Path) -> None:
    for name in ("link-3-egress", "map-inbound-152", "maps.debug", "cilium_ipcache"):
        (tmp_path / name).touch()
    assert [path.name for path in our_pins(tmp_path)] == ["link-3-egress", "map-inbound-152"]
