# SPDX-License-Identifier: MIT
"""Licences: of the object for the kernel, and of every library that is shipped."""

import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest

from noid.planes.bpf.pins import OBJECT

ROOT = Path(__file__).parent.parent.parent
OF_CLASSIFIER = {
    "MIT": "License :: OSI Approved :: MIT License",
    "PSF-based": "License :: OSI Approved :: Python Software Foundation License",
}
"""How packages without an expression of SPDX say it."""
ROW = re.compile(r"^\| `([^`]+)` \| ([^|]+) \|", re.MULTILINE)
PAGE = (ROOT / "docs" / "third-party.md").read_text(encoding="utf-8")
LISTED = dict(ROW.findall(PAGE))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SHIPPED = (*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["testbed"])


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", re.split(r"[\s\[<>=!~;(]", name)[0]).lower()


def needed(names: list[str]) -> set[str]:
    """The libraries that some need, themselves among them."""
    found: set[str] = set()
    while names:
        name = canonical(names.pop())
        if name not in found:
            found.add(name)
            wanted = importlib.metadata.requires(name) or []
            names += [one for one in wanted if ";" not in one or "PyPy" in one]
    return found


def test_the_object_for_the_kernel_declares_both_licences() -> None:
    path = ROOT / "src/noid/planes/bpf/programs" / OBJECT
    assert b"\0Dual MIT/GPL\0" in path.read_bytes()


def test_every_library_that_is_shipped_is_listed_and_no_other() -> None:
    shipped = PAGE.partition("## Libraries of single commands")[0]
    listed = {canonical(name) for name, _ in ROW.findall(shipped)}
    assert needed(list(SHIPPED)) == listed


@pytest.mark.parametrize("name", LISTED)
def test_a_library_is_listed_with_the_licence_that_it_has(name: str) -> None:
    metadata = importlib.metadata.metadata(name)
    fields = metadata.json
    licence = fields.get("license_expression") or fields.get("license")
    classifiers = metadata.get_all("Classifier") or []
    assert LISTED[name] == licence or OF_CLASSIFIER[LISTED[name]] in classifiers
