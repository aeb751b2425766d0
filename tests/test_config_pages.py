# SPDX-License-Identifier: MIT
"""The pages have every key of the configuration and each value that a key may have."""

import re
from pathlib import Path
from typing import get_args, get_origin

import msgspec
import pytest

import noid
from noid.border_config import BorderSection, ProviderTable
from noid.config import Config, parse_config
from noid.roles.reloading import LIVE

SOURCE = Path(noid.__path__[0])
DOCS = Path(__file__).parents[1] / "docs"
OPERATING = (DOCS / "operating.md").read_text(encoding="utf-8")
BORDER = (DOCS / "border.md").read_text(encoding="utf-8")


def sections() -> dict[str, type[msgspec.Struct]]:
    """The tables of the file of a host; of those that the operator names, their type."""
    return {
        one.name: get_args(one.type)[1] if get_origin(one.type) is dict else one.type
        for one in msgspec.structs.fields(Config)
    }


def choices(field: msgspec.structs.FieldInfo) -> list[str]:
    """The texts that a key may have, where they are a fixed set."""
    kind = msgspec.inspect.type_info(field.type)
    return list(map(str, kind.values)) if isinstance(kind, msgspec.inspect.LiteralType) else []


def sample() -> dict[str, list[str]]:
    """The lines of the complete file in docs/operating.md, by table, without indentation."""
    text = OPERATING[OPERATING.index("    [host]\n") : OPERATING.index("\nThen start it")]
    found: dict[str, list[str]] = {}
    for line in (one.strip() for one in text.splitlines()):
        if header := re.match(r"(?:# )?\[(\w+)[\].]", line):
            name = header[1]
        if line:
            found.setdefault(name, []).append(line)
    return found


@pytest.mark.parametrize("section", sections())
def test_the_sample_has_every_key_of_a_host(section: str) -> None:
    lines = sample()[section]
    for field in msgspec.structs.fields(sections()[section]):
        if field.name == "pin":
            assert "[policy.pin]" in "\n".join(lines)
            continue
        (line,) = (one for one in lines if re.match(rf"(# )?{field.name} = ", one))
        assert [one for one in choices(field) if f'"{one}"' not in line] == []


def test_the_sample_is_accepted() -> None:
    parse_config("\n".join(line for lines in sample().values() for line in lines))


def test_the_page_says_which_keys_are_applied_at_once() -> None:
    _, _, table = OPERATING.partition("| applied at once | needs a restart |\n")
    said: set[str] = set()
    for row in table.split("\n\n")[0].splitlines()[1:]:
        section = ""
        for word in re.findall(r"`([^`]+)`", row.split("|")[1]):
            if word.startswith("["):
                fields = msgspec.structs.fields(sections()[word.strip("[]")])
                said |= {f"{word.strip('[]')}.{one.name}" for one in fields}
                continue
            section, _, key = word.rpartition(".") if "." in word else (section, "", word)
            said.add(f"{section}.{key}")
    assert {one for one in said if not one.startswith("uplinks.")} == LIVE


@pytest.mark.parametrize("section", [BorderSection, ProviderTable])
def test_the_tables_have_every_key_of_a_border(section: type[msgspec.Struct]) -> None:
    rows = [line for line in BORDER.splitlines() if line.startswith("| `")]
    for field in msgspec.structs.fields(section):
        if field.name == "providers":
            continue  # the other table
        (row,) = (one for one in rows if f"`{field.name}`" in one.split("|")[1])
        quoted = set(re.findall(r"[\w-]+", row))
        assert [one for one in choices(field) if one not in quoted] == []


@pytest.mark.parametrize("section", [*sections().values(), BorderSection, ProviderTable])
def test_every_key_is_read(section: type[msgspec.Struct]) -> None:
    text = "\n".join(path.read_text() for path in sorted(SOURCE.rglob("*.py")))
    read = set(re.findall(r"\.([a-z]\w+)\b(?!\()", text))
    assert [one.name for one in msgspec.structs.fields(section) if one.name not in read] == []
