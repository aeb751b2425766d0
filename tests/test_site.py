# SPDX-License-Identifier: MIT
"""The documentation site: it is built without a warning, and its reference is that of the code."""

import os
import re
import shutil
import subprocess
import sys
from html import unescape
from pathlib import Path
from typing import get_args, get_origin

import msgspec
import pytest

from noid.cli.table import SUMMARIES
from noid.config import Config
from noid.counters import COUNTERS, BorderCounter, CounterName

ROOT = Path(__file__).parent.parent
KINDS: tuple[type[CounterName], ...] = (*COUNTERS, BorderCounter)
pytestmark = pytest.mark.slow


def build(root: Path, site: Path) -> "subprocess.CompletedProcess[str]":
    """What make docs does, into another directory."""
    words = ["-m", "mkdocs", "build", "--strict", "-f", str(root / "mkdocs.yml"), "-d", str(site)]
    return subprocess.run(
        [sys.executable, *words],
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("site")
    done = build(ROOT, directory)
    assert done.returncode == 0, done.stdout + done.stderr
    return directory


def text_of(site: Path, page: str) -> str:
    return unescape((site / page).read_text(encoding="utf-8"))


def test_the_site_has_every_page_of_docs(site: Path) -> None:
    docs = ROOT / "docs"
    pages = [page.relative_to(docs).with_suffix(".html") for page in docs.rglob("*.md")]
    assert [page for page in pages if not (site / page).is_file()] == []


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert re.findall(r'src="(?:https?:)?//|rel="stylesheet" href="(?:https?:)?//', text) == []


def test_a_broken_link_ends_the_build(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    for name in ("docs", "scripts"):
        shutil.copytree(ROOT / name, copy / name)
    for path in (*ROOT.glob("*.md"), ROOT / "LICENSE", ROOT / "mkdocs.yml"):
        shutil.copy(path, copy)
    page = copy / "docs" / "index.md"
    page.write_text(page.read_text() + "\n[nothing](operating.md#no-such-heading)\n")
    done = build(copy, tmp_path / "site")
    assert done.returncode != 0
    assert "no-such-heading" in done.stdout + done.stderr


@pytest.mark.parametrize("command", SUMMARIES)
def test_the_reference_has_every_command(site: Path, command: str) -> None:
    assert f"usage: noid {command}" in text_of(site, "reference/commands.html")


@pytest.mark.parametrize("section", [field.name for field in msgspec.structs.fields(Config)])
def test_the_reference_has_every_key_with_its_meaning(site: Path, section: str) -> None:
    page = text_of(site, "reference/configuration.html")
    kind = {field.name: field.type for field in msgspec.structs.fields(Config)}[section]
    title = section
    if get_origin(kind) is dict:
        kind, title = get_args(kind)[1], f"{section}.NAME"
    table = page.partition(f">[{title}]<")[2].partition("</table>")[0]
    for field in msgspec.structs.fields(kind):
        row = table.partition(f"<td><code>{field.name}</code></td>")[2].partition("</tr>")[0]
        assert row.count("<td>") == 3, f"{field.name} is missing"
        assert "<td></td>" not in row, f"the meaning of {field.name} is missing"


def test_the_reference_has_every_counter(site: Path) -> None:
    page = text_of(site, "reference/counters.html")
    for kind in KINDS:
        assert [one.metric for one in kind if f"<code>{one.metric}</code>" not in page] == []
