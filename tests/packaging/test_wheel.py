# SPDX-License-Identifier: MIT
"""The wheel, installed into fresh virtual environments of every Python that noid supports."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from noid import __version__
from noid.control.client import answers
from noid.control.web.server import FILES
from noid.lab.waiting import wait_for
from noid.planes.bpf.pins import object_code
from tests.namespaces import in_network_namespace, ip
from tests.planes.keeping import UPLINKS, make_uplinks

ROOT = Path(__file__).parent.parent.parent
SUPPORTED = ("3.11", "3.12", "3.13")
LIMIT_S = 60.0
CONFIG = """\
[host]
name = "a.example"
interfaces = ["up*"]
[dns]
listen = "::1"
upstream = ["2001:db8:9::53"]
[plane]
pins = "{directory}/pins"
[control]
socket = "{directory}/socket"
[state]
directory = "{directory}/state"
"""


def interpreter(version: str) -> str:
    """An interpreter of a version, of pyenv or on the path; without one, the test is skipped."""
    managed = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python{version}"))
    named = shutil.which(f"python{version}")
    for path in [*map(str, managed), *([named] if named else [])]:
        runs = subprocess.run([path, "-c", "import venv"], capture_output=True, check=False)
        if runs.returncode == 0:
            return path
    pytest.skip(f"no python{version} with venv: install it, or pyenv install {version}")


pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-deps", "--wheel-dir", str(directory), str(ROOT))
    (path,) = directory.glob("*.whl")
    return path


def pip(*words: str) -> None:
    options = ["--quiet", "--disable-pip-version-check"]
    done = subprocess.run(
        [sys.executable, "-m", "pip", *options, *words], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_wheel_is_for_one_kind_of_machine_and_has_the_object(wheel: Path) -> None:
    machine = sysconfig.get_platform().partition("-")[2].replace("-", "_")
    assert wheel.name == f"noid_m6-{__version__}-py3-none-manylinux_2_17_{machine}.whl"
    with zipfile.ZipFile(wheel) as archive:
        assert archive.read("noid/planes/bpf/programs/host.bpf.o") == object_code()
        assert f"noid_m6-{__version__}.dist-info/licenses/LICENSE" in archive.namelist()
        page = {f"noid/control/web/{name}" for name, _kind in FILES.values()}
        assert page <= set(archive.namelist())


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("version", SUPPORTED)
def test_doctor_and_daemon_run_from_the_wheel(version: str, wheel: Path, tmp_path: Path) -> None:
    words = [interpreter(version), "-m", "venv", "--without-pip", str(tmp_path / "venv")]
    subprocess.run(words, check=True)
    python = tmp_path / "venv" / "bin" / "python"
    pip("--python", str(python), "install", "--no-compile", str(wheel))
    config = tmp_path / "noid.toml"
    config.write_text(CONFIG.format(directory=tmp_path))
    in_network_namespace(lambda: use(python.with_name("noid"), config, tmp_path / "socket"))


def use(noid: Path, config: Path, control: Path) -> None:
    """Runs the installed commands on a host with two uplinks."""
    make_uplinks()
    for name in (*UPLINKS, "far1", "far2"):
        ip(f"addr flush dev {name} scope link")
    found = json.loads(said(noid, "doctor", "--json", "--config", str(config), status=1))
    checks = {one["check"]: one["health"] for one in found}
    assert checks["kernel"] == "ok", found
    with daemon(noid, config) as process:
        wait_for("noid answers", lambda: answers(control) or process.poll() is not None, LIMIT_S)
        status = json.loads(said(noid, "status", "--json", "--socket", str(control)))
        assert status["version"] == __version__
        assert status["plane"]["kind"] == "bpf", status["plane"]["why"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT_S) == 0
    assert "removed" in said(noid, "down", "--config", str(config))


def said(noid: Path, *words: str, status: int = 0) -> str:
    """What a command prints. The environment has no program but those of the system."""
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        [noid, *words], capture_output=True, text=True, timeout=LIMIT_S, env=environment
    )
    assert done.returncode == status, done.stderr
    return done.stdout


@contextlib.contextmanager
def daemon(noid: Path, config: Path) -> "Iterator[subprocess.Popen[bytes]]":
    environment = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    process = subprocess.Popen([noid, "run", "--config", config], env=environment)
    try:
        yield process
    finally:
        process.kill()
        process.wait(LIMIT_S)
