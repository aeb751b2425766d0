# SPDX-License-Identifier: MIT
"""A kernel or an operator that does not let the programs in: one line that says what is missing."""

import contextlib
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from noid.control.client import answers
from noid.lab.lab import Lab
from tests.lab.conversations import PATIENCE_S
from tests.lab.refusals import NOID, Edit, left, refusal, write_configuration

IN_KERNEL = ('kind = "tun"', 'kind = "bpf"')
WHAT_IT_TAKES = "run as root, or with CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN"
EXEC = 'exec "$0" "$@"'


@pytest.fixture
def bare_lab(plain_lab: Lab) -> Iterator[Lab]:
    """A lab without noid, and nothing of noid on a before and after."""
    assert left(plain_lab) == []
    yield plain_lab
    assert left(plain_lab) == []


@pytest.mark.parametrize("capability", ["CAP_BPF", "CAP_PERFMON"])
def test_a_capability_that_is_missing_is_named(
    bare_lab: Lab, tmp_path: Path, capability: str
) -> None:
    name = capability.removeprefix("CAP_").lower()
    # Mounting the BPF file system is the administrator's, who has done it before.
    pins = tmp_path / "pins"
    pins.mkdir()
    mounted = f"mount -t bpf bpf {pins}; {EXEC}"
    said = refusal(
        bare_lab,
        tmp_path,
        IN_KERNEL,
        (f"{bare_lab.directory}/pins/a", str(pins)),
        prefix=(
            *("unshare", "--mount", "sh", "-c", mounted),
            *("setpriv", f"--bounding-set=-{name},-sys_admin"),
        ),
    )
    assert said.startswith("load the BPF programs: permission denied (lacking: ")
    assert f"{capability}" in said
    assert WHAT_IT_TAKES in said


def test_without_a_bpf_file_system_it_is_said_how_to_mount_one(
    bare_lab: Lab, tmp_path: Path
) -> None:
    said = refusal(bare_lab, tmp_path, IN_KERNEL, prefix=("setpriv", "--bounding-set=-sys_admin"))
    pins = bare_lab.directory / "pins" / "a"
    assert said == (
        f"mount a BPF file system on {pins}: permission denied; as root: mount -t bpf bpf {pins}"
    )


def test_a_kernel_that_is_too_old_is_told_what_it_lacks(bare_lab: Lab, tmp_path: Path) -> None:
    said = refusal(bare_lab, tmp_path, IN_KERNEL, noid=_as_on_a_kernel_without("map"))
    assert said.startswith("hash maps, ")
    assert "ring buffers of the kernel is not available: Linux 5.8 or newer has it" in said


def test_with_plane_auto_the_status_says_why_the_kernel_plane_is_not_used(
    bare_lab: Lab, tmp_path: Path
) -> None:
    any_plane = ('kind = "tun"', 'kind = "auto"')
    with _running(bare_lab, tmp_path, any_plane, noid=_as_on_a_kernel_without("map")):
        plane = bare_lab.status("a")["plane"]
    assert plane["kind"] == "tun"
    assert "ring buffers of the kernel is not available" in plane["why"]


def test_a_kernel_without_tcx_is_said_to_be_one_where_that_is_asked_for(
    bare_lab: Lab, tmp_path: Path
) -> None:
    hook = ("[plane]", '[plane]\nhook = "tcx"')
    said = refusal(bare_lab, tmp_path, IN_KERNEL, hook, noid=_as_on_a_kernel_without("link"))
    assert said == "the hook tcx is not available: Linux 6.6 has it"


def test_on_a_kernel_without_tcx_the_programs_hang_on_clsact(bare_lab: Lab, tmp_path: Path) -> None:
    with _running(bare_lab, tmp_path, IN_KERNEL, noid=_as_on_a_kernel_without("link")):
        modes = bare_lab.status("a")["plane"]["uplinks"]
    assert {mode.split(",")[0] for mode in modes.values()} == {"clsact"}


def test_a_missing_library_is_named(bare_lab: Lab, tmp_path: Path) -> None:
    hide = f"mount --bind /dev/null $(ldconfig -p | sed -n 's,.*libbpf.so.1.* => ,,p'); {EXEC}"
    said = refusal(bare_lab, tmp_path, IN_KERNEL, prefix=("unshare", "--mount", "sh", "-c", hide))
    assert said == "libbpf is not available: install the Debian package libbpf1"


def test_the_kernels_own_types_are_not_needed(bare_lab: Lab, tmp_path: Path) -> None:
    hide = f"mount -t tmpfs none /sys/kernel/btf; {EXEC}"
    prefix = ("unshare", "--mount", "sh", "-c", hide)
    with _running(bare_lab, tmp_path, IN_KERNEL, noid=(*prefix, *NOID)):
        assert bare_lab.status("a")["plane"]["kind"] == "bpf"


@pytest.mark.parametrize(
    ("kind", "health", "begins"), [("bpf", "wrong", "none: "), ("auto", "unknown", "in user space")]
)
def test_the_doctor_knows_before_what_the_kernel_lacks(
    bare_lab: Lab, tmp_path: Path, kind: str, health: str, begins: str
) -> None:
    edit = ('kind = "tun"', f'kind = "{kind}"')
    (plane,) = _doctor(bare_lab, tmp_path, edit, noid=_as_on_a_kernel_without("map"))
    assert plane["health"] == health
    assert plane["text"].startswith(begins)
    assert "ring buffers of the kernel is not available" in plane["text"]


def test_the_doctor_says_how_each_uplink_would_be_served(bare_lab: Lab, tmp_path: Path) -> None:
    plane, *uplinks = _doctor(bare_lab, tmp_path, IN_KERNEL, noid=NOID)
    assert plane["health"] == "ok"
    assert [one["check"] for one in uplinks] == ["uplink up1", "uplink up2"]
    assert all("super-packets whole" in one["text"] for one in uplinks)


def test_the_doctor_needs_the_privileges_of_the_daemon(bare_lab: Lab, tmp_path: Path) -> None:
    noid = ("setpriv", "--bounding-set=-bpf,-sys_admin", *NOID)
    (plane,) = _doctor(bare_lab, tmp_path, IN_KERNEL, noid=noid)
    assert plane["health"] == "unknown"
    assert plane["text"].endswith("lacking: CAP_BPF")


# --- what the tests above stand on ----------------------------------------------------------------


def _as_on_a_kernel_without(commands: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "tests.lab.old_kernel", commands)


def _doctor(lab: Lab, directory: Path, edit: Edit, *, noid: Sequence[str]) -> list[dict[str, str]]:
    """What the doctor finds of plane and uplinks."""
    path = write_configuration(lab, directory, edit)
    done = lab.run("a", [*noid, "doctor", "--config", str(path), "--json"])
    findings: list[dict[str, str]] = json.loads(done.stdout)
    return [one for one in findings if one["check"].split()[0] in ("plane", "uplink")]


@contextlib.contextmanager
def _running(lab: Lab, directory: Path, *edits: Edit, noid: Sequence[str]) -> Iterator[None]:
    """A running noid on a of a lab that has none; it is taken down afterwards."""
    path = write_configuration(lab, directory, *edits)
    process = lab.spawn("a", [*noid, "run", "--config", str(path)], name="noid-a")
    try:
        lab.wait_for(
            "noid answers",
            lambda: answers(lab.control_socket("a")) or not process.running,
            PATIENCE_S,
        )
        assert process.running, process.output()
        yield
    finally:
        process.end()
        lab.run("a", [*NOID, "down", "--config", str(path)])
