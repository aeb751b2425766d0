# SPDX-License-Identifier: MIT
"""Compiles the data plane for the kernel while the package is built.

Debian's clang does it where it is installed; elsewhere the compiler in PyPI's ziglang, which the
build then asks for. The programs need no header of the system's. Objects that are newer than all
they are built from are kept.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PROGRAMS = Path("src/noid/planes/bpf/programs")
FLAGS = ("-O2", "-g", "-Wall", "-Wextra", "-Werror", "-fno-asynchronous-unwind-tables")


class ObjectBuilder(BuildHookInterface):
    """Makes ``NAME.bpf.o`` beside its source, where an editable installation finds it too."""

    def dependencies(self) -> list[str]:
        """The compiler, where the machine has none."""
        return [] if _clang() or _is_current(Path(self.root)) else ["ziglang>=0.13"]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compiles; the build fails with the compiler's words where that fails."""
        root = Path(self.root)
        for source in _sources(root):
            build_data["artifacts"].append(str(_object(source).relative_to(root)))
        build_data["tag"] = f"py3-none-{_platform()}"
        if _is_current(root):
            return
        clang = _clang()
        if clang:
            compiler = [clang, "-target", "bpfel" if sys.byteorder == "little" else "bpfeb"]
        else:
            target = "bpfel-freestanding" if sys.byteorder == "little" else "bpfeb-freestanding"
            compiler = [sys.executable, "-m", "ziglang", "cc", "-target", target]
        with tempfile.TemporaryDirectory() as cache:
            # ziglang keeps a cache, which would stay in the home directory of whoever builds.
            environment = {
                **os.environ,
                "ZIG_GLOBAL_CACHE_DIR": cache,
                "ZIG_LOCAL_CACHE_DIR": cache,
            }
            for source in _sources(root):
                subprocess.run(
                    [*compiler, *FLAGS, "-c", str(source), "-o", str(_object(source))],
                    env=environment,
                    check=True,
                )

    def clean(self, versions: list[str]) -> None:
        """Removes the objects."""
        for source in _sources(Path(self.root)):
            _object(source).unlink(missing_ok=True)


def _sources(root: Path) -> list[Path]:
    """What is compiled, each to an object of its own."""
    return sorted((root / PROGRAMS).glob("*.bpf.c"))


def _object(source: Path) -> Path:
    return source.with_suffix(".o")


def _platform() -> str:
    """The machine of a wheel, since the object has its byte order; no library of it is linked."""
    return sysconfig.get_platform().replace("linux-", "manylinux_2_17_").replace("-", "_")


def _is_current(root: Path) -> bool:
    """Whether the objects are newer than the programs and this file."""
    made = [_object(source) for source in _sources(root)]
    sources = [root / "hatch_build.py", *(root / PROGRAMS).glob("*.[ch]")]
    newest_ns = max(source.stat().st_mtime_ns for source in sources)
    return all(one.exists() and one.stat().st_mtime_ns > newest_ns for one in made)


def _clang() -> str | None:
    return shutil.which("clang")
