# SPDX-License-Identifier: MIT
"""The pages under docs/, held against the code, the tests and the draft they speak of."""

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from noid.engine.secrets import KeyPair, Side, context_key, keyed_hash
from noid.locators import Locator, parse_locator
from noid.sim.illustration import law_section, path_table
from noid.wire import ipv6
from noid.wire.control import Code, ControlMessage, decode_message
from noid.wire.peek import blank_authentication

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "noid"
PROTOCOL = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
CONFORMANCE = (ROOT / "docs" / "conformance.md").read_text(encoding="utf-8")
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
SOURCES = sorted(SOURCE.rglob("*.py"))

DECISIONS = [f"D{number}" for number in range(1, 51)]
CHAPTERS = {3: 3, 4: 6, 5: 2, 7: 14, 15: 3, 16: 2}
"""The sections of the draft that have parts, and how many."""
SECTIONS = {
    *map(str, range(1, 20)),
    "1.1", "1.2", "2.1", "18.1", "18.2", "4.3.1", "4.3.2",
    *(f"{chapter}.{part}" for chapter, parts in CHAPTERS.items() for part in range(1, parts + 1)),
    *(f"3.3.{message}" for message in range(1, 8)),
}  # fmt: skip
"""The draft's table of contents."""

STATUSES = ("done", "partly: ", "not done: ", "not applicable: ")


# --- the conformance table ------------------------------------------------------------------------


def rows() -> list[list[str]]:
    """The cells of every row of the conformance table, headings left out."""
    lines = [line for line in CONFORMANCE.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return [row for row in cells if row[0] != "id"]


ROWS = rows()


def names_in(tree: ast.Module | ast.ClassDef) -> set[str]:
    """What a module defines: functions, classes, their methods and their annotated fields."""
    found: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
        elif isinstance(node, ast.ClassDef):
            found |= {node.name} | {f"{node.name}.{name}" for name in names_in(node)}
    return found


@functools.cache
def defined_in(path: Path) -> set[str]:
    """The same of a file, read once."""
    return names_in(ast.parse(path.read_text(encoding="utf-8")))


def quoted(cell: str) -> list[str]:
    """What stands in backquotes in a cell; a dash stands for nothing."""
    found = re.findall(r"`([^`]+)`", cell)
    assert found or cell == "-", cell
    return found


def test_every_row_has_five_cells_and_a_status() -> None:
    for row in ROWS:
        assert len(row) == 5, row
        assert row[4].startswith(STATUSES), row


def test_no_row_stands_twice() -> None:
    ids = [row[0] for row in ROWS]
    assert len(ids) == len(set(ids))


def test_every_function_the_table_names_exists() -> None:
    for row in ROWS:
        for place in quoted(row[2]):
            path, name = place.split(": ")
            assert (SOURCE / path).is_file(), row
            assert name in defined_in(SOURCE / path), place


def test_every_test_the_table_names_exists() -> None:
    for row in ROWS:
        for place in quoted(row[3]):
            path, name = place.split("::")
            assert (ROOT / path).is_file(), row
            assert name in defined_in(ROOT / path), place


def test_what_is_done_is_done_somewhere_and_shown_by_a_test() -> None:
    for row in ROWS:
        if row[4].startswith("done"):
            assert quoted(row[2]), row
            assert quoted(row[3]), row


def test_every_decision_has_a_row() -> None:
    ids = {row[0] for row in ROWS}
    assert [decision for decision in DECISIONS if decision not in ids] == []


@pytest.mark.parametrize("section", [*(f"7.{part}" for part in range(1, 15)), "4.1", "4.4", "4.5"])
def test_every_section_that_asks_for_something_has_rows(section: str) -> None:
    assert any(row[0].startswith(f"§{section}-") for row in ROWS)


# --- what the code cites --------------------------------------------------------------------------


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_what_the_code_cites_exists(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for tag in re.findall(r"\[draft ([^\]]+)\]", text):
        sections = re.findall(r"§(\d+(?:\.\d+)*)(?:-(\d+(?:\.\d+)*))?", tag)
        assert sections or tag.startswith("App"), f"[draft {tag}]"
        for ends in sections:
            assert {end for end in ends if end} <= SECTIONS, f"[draft {tag}]"
    assert set(re.findall(r"\bD\d+\b", text)) <= set(DECISIONS)


# --- the pages ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "content"), [("law", law_section()), ("path law", path_table())]
)
def test_the_law_in_the_page_is_the_law_of_the_code(section: str, content: str) -> None:
    pattern = rf"<!-- {section}: [^\n]* -->\n\n(.*?)\n\n<!-- /{section} -->"
    found = re.search(pattern, PROTOCOL, re.DOTALL)
    assert found is not None
    assert found[1] == content, "run scripts/update-documentation"


def test_the_sections_of_the_protocol_are_numbered_in_order() -> None:
    numbers = [int(number) for number in re.findall(r"^## (\d+)\.", PROTOCOL, re.MULTILINE)]
    assert numbers == list(range(1, len(numbers) + 1))


README_LINES = 120


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= README_LINES


def anchors(path: Path) -> set[str]:
    """What a page's headings can be linked to as."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_between_the_pages_leads_somewhere(page: Path) -> None:
    text = re.sub(r"`[^`\n]*`", "", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        linked = (page.parent / file).resolve() if file else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


# --- the hexadecimal examples ---------------------------------------------------------------------

A1, B1 = parse_locator("2001:db8:1:a::a"), parse_locator("2001:db8:1:b::b")
HEX_LINE = re.compile(r"^ {4,}((?:[0-9a-f]{2})+(?: (?:[0-9a-f]{2})+)*)(?: {2,}\S.*)?$")


def examples() -> list[bytes]:
    """The octets of every annotated message of the page, in order."""
    found: list[str] = []
    inside = False
    for line in PROTOCOL.splitlines():
        match = HEX_LINE.match(line)
        if match is not None and not inside:
            found.append("")
        if match is not None:
            found[-1] += match[1]
        inside = match is not None
    return [bytes.fromhex(text) for text in found]


EXAMPLES = examples()


def locators_of(octets: bytes) -> tuple[Locator, Locator]:
    """The addresses that the checksum of an example covers: the AIDs, also in the slot."""
    sent_by_b = Locator(octets[16:32]) == B1 or octets[1] == Code.UC
    return (B1, A1) if sent_by_b else (A1, B1)


def decoded(octets: bytes) -> ControlMessage:
    """An example as a message; a checksum that is left out is filled in."""
    ends = locators_of(octets)
    if octets[2:4] == bytes(2):
        total = ipv6.checksum(*ends, ipv6.ICMPV6, octets).to_bytes(2, "big")
        octets = octets[:2] + total + octets[4:]
    return decode_message(octets, *ends, in_slot=False)


def test_there_is_an_example_of_every_message() -> None:
    assert {Code(octets[1]) for octets in EXAMPLES} == set(Code)


@pytest.mark.parametrize("octets", EXAMPLES, ids=lambda octets: Code(octets[1]).name)
def test_each_example_decodes_and_encodes_to_the_same_octets(octets: bytes) -> None:
    again = decoded(octets).encode(200)
    assert again[:2] + octets[2:4] + again[4:] == octets


def test_the_examples_are_authentic_under_the_key_of_their_set_up() -> None:
    conversation = EXAMPLES[-len(Code) :]
    ours, theirs = KeyPair(b"\xaa" * 32), KeyPair(b"\xbb" * 32)
    ccr, conf = decoded(conversation[2]), decoded(conversation[3])
    assert (ccr.key, conf.key) == (ours.public, theirs.public)
    sides = []
    for message in (ccr, conf):
        assert message.tokens is not None
        label = message.context.sender_label
        sides.append(Side(message.sender_aid, label, message.tokens.sender, message.key))
    shared = ours.agree(theirs.public)
    key = context_key(shared, *sides)
    assert all(f"  {secret.hex()}\n" in PROTOCOL for secret in (shared, key))
    authenticated = 0
    for octets in conversation:
        message = decoded(octets)
        if message.authentication:
            assert message.authentication == keyed_hash(key, blank_authentication(octets))
            authenticated += 1
    assert authenticated == 6


# --- the security page ----------------------------------------------------------------------------


def test_every_test_file_the_security_page_names_exists() -> None:
    page = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(?:tests/)?((?:\w+/)?test_\w+\.py)`", page))
    places = ROOT / "tests", ROOT / "tests" / "attacks"
    missing = [one for one in named if not any((place / one).exists() for place in places)]
    assert len(named) > 10
    assert missing == []


# --- the language ---------------------------------------------------------------------------------

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
    "in silence": "silently, without an error",
    "[Ww]hat came of": "the result of",
    "or enough": "or given up",
}
"""Patterns, and what to write instead."""
ALLOWED = re.compile(r'"mend"|`mend:?`|nobody[.]example')
"""A key of JSON, the word it had, and a name of a host."""


def patterns() -> Iterator[tuple[re.Pattern[str], str]]:
    """Each pattern for text without line breaks, and what to write instead."""
    for words, instead in PHRASES.items():
        yield re.compile(rf"(?<![\w-])({words})(?![\w-])"), instead


def prose(path: Path) -> str:
    """The text of a file on one line; quotations of the draft in pages are omitted."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        text = re.sub(r'"[^"\n]*"', "", text)
    return re.sub(r"[\s#*]+", " ", ALLOWED.sub("", text))


def test_prose_has_none_of_the_phrases() -> None:
    programs = [path for kind in ("*.c", "*.h") for path in SOURCE.rglob(kind)]
    paths = [*PAGES, *SOURCES, *programs]
    texts = {str(path.relative_to(ROOT)): prose(path) for path in paths}
    assert len(texts) > 250
    found = [
        f"{name}: ...{text[max(0, one.start() - 40) : one.end() + 40]}...; write: {instead}"
        for pattern, instead in patterns()
        for name, text in texts.items()
        for one in pattern.finditer(text)
    ]
    assert found == []


@pytest.mark.parametrize("text", ["Nobody asks", "for\n# ever", "it is\n    mended", "in turns"])
def test_a_phrase_is_found_across_lines(tmp_path: Path, text: str) -> None:
    path = tmp_path / "page.py"
    path.write_text(text)
    assert any(pattern.search(prose(path)) for pattern, _ in patterns())


UNCLEAR = re.compile(
    r"(Does so|Those|That of|The same (as|for|of|with)|Its|It|They|Whether (it|they)|For people)\b"
)
"""How a docstring begins that can be understood only after another text."""


def docstrings(path: Path) -> Iterator[str]:
    """The docstrings of the functions and classes of a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield ast.get_docstring(node) or ""


def test_a_docstring_says_what_each_argument_is() -> None:
    bare = re.compile(r"^ *\w+: (which( \w+)?|where|when)\.$", re.MULTILINE)
    found = {
        path for path in SOURCE.rglob("*.py") for text in docstrings(path) if bare.search(text)
    }
    assert found == set()


def test_docstrings_name_their_subject() -> None:
    found = [(path, text) for path in SOURCE.rglob("*.py") for text in docstrings(path)]
    assert len(found) > 3000
    assert [(path, text) for path, text in found if UNCLEAR.match(text)] == []
    assert UNCLEAR.match("Those of some rules that a plane has made.")


NAME_MAX = 90


def test_names_of_tests_are_short() -> None:
    names = [
        name
        for path in (ROOT / "tests").rglob("*.py")
        for name in re.findall(r"^\s*(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE)
    ]
    assert len(names) > 1000
    assert [name for name in names if len(name) > NAME_MAX] == []
