# SPDX-License-Identifier: MIT
"""Prose is literal: pages, source and test names avoid words that a reader has to interpret."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
SOURCES = [
    path
    for directory, kinds in (("src", ("py", "c", "h")), ("tests", ("py",)), ("contrib", ("*",)))
    for kind in kinds
    for path in (ROOT / directory).rglob(f"*.{kind}")
    if path.suffix in (".py", ".c", ".h", ".lua", ".yml", ".service") and path != Path(__file__)
]
PHRASES = {
    "[Ww]hoever|[Ss]omebody|[Nn]obody|[Aa]nybody|[Ee]verybody": "the program, host or user",
    "[Mm]eanwhile": "during ..., until then",
    "for ever": "without limit",
    "ever more": "increasingly",
    "in vain": "without an answer",
    "[Ss]eldom": "rarely, or the rate",
    "(has|have|gets?|had) (its|their) turns?|in turns": "in batches, in rotation, alternately",
    "deaf|eaten|be born": "does not respond, dropped, loaded",
    "[Mm]end(s|ed|ing)?": "fix",
    "wide world": "the Internet, a default route",
    "left alone": "not changed, ignored",
    "(is|are) left for what": "hosts switch from ... to ...",
    "dead provider is left": "hosts switch from a failed provider to another",
    "[Ww]hat says that": "the message that",
    "(to|can|cannot) be had": "available",
    "of (its|their) own accord": "without a request",
    "outlives? (a|its|the|their) provider": "survives a provider failure",
    "goes by itself|go by themselves": "the kernel removes",
}
"""Patterns, and what to write instead."""
ALLOWED = re.compile(
    r'"mend"|"nobody"|nobody[.-]\w|run as nobody|nobody (reads|is one)|in turns(\(| if)'
)
"""A key of JSON, names of a user and of hosts in tests, and code."""


def patterns() -> Iterator[tuple[re.Pattern[str], str]]:
    """Each pattern for text without line breaks, and what to write instead."""
    for words, instead in PHRASES.items():
        yield re.compile(rf"(?<![\w-])({words})(?![\w-])"), instead


def prose(path: Path) -> str:
    """The text of a file on one line; quotations of the draft in pages are left out."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        text = re.sub(r'"[^"\n]*"', "", text)
    return re.sub(r"[\s#*]+", " ", ALLOWED.sub("", text))


def test_prose_has_none_of_the_phrases() -> None:
    texts = {str(path.relative_to(ROOT)): prose(path) for path in [*PAGES, *SOURCES]}
    assert len(texts) > 500
    found = [
        f"{name}: ...{text[max(0, one.start() - 40) : one.end() + 40]}...; write: {instead}"
        for pattern, instead in patterns()
        for name, text in texts.items()
        for one in pattern.finditer(text)
    ]
    assert found == []


@pytest.mark.parametrize("text", ["Nobody asks", "for\n# ever", "it is\n    mended", "in turns."])
def test_a_phrase_is_found_across_lines(tmp_path: Path, text: str) -> None:
    path = tmp_path / "page.py"
    path.write_text(text)
    assert any(pattern.search(prose(path)) for pattern, _ in patterns())


NAME_MAX = 80


def test_names_of_tests_are_short() -> None:
    names = [
        name
        for path in (ROOT / "tests").rglob("*.py")
        for name in re.findall(r"^\s*(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE)
    ]
    assert len(names) > 1000
    assert [name for name in names if len(name) > NAME_MAX] == []
