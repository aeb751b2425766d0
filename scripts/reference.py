# SPDX-License-Identifier: MIT
"""What the site has besides docs/: a reference generated from the code, and files of the root.

A hook of mkdocs (mkdocs.yml): these pages exist in the site alone, not in the repository.
"""

import argparse
import inspect
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args, get_origin

import msgspec
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from noid.border_config import BorderSection, ProviderTable
from noid.cli.main import parser
from noid.config import Config
from noid.counters import COUNTERS, BorderCounter

ROOT = Path(__file__).parent.parent
ROOT_FILES = {
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "reporting.md",
    "LICENSE": "licence.md",
}
"""Files outside docs/ that pages link to, and their pages in the site."""
USAGE_COLUMNS = "80"
ATTRIBUTE = re.compile(r"^ {4}(\w+): (.*(?:\n {6,}\S.*)*)", re.MULTILINE)


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Adds the pages to the site."""
    pages = {
        "reference/commands.md": commands(),
        "reference/configuration.md": configuration(),
        "reference/counters.md": counters(),
    }
    for name, page in ROOT_FILES.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        pages[page] = (
            text.replace("](docs/", "](") if name.endswith(".md") else f"# Licence\n\n{text}"
        )
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lets links to files of the root lead to their pages."""
    for name, target in ROOT_FILES.items():
        markdown = markdown.replace(f"](../{name})", f"]({target})")
    return markdown


def commands() -> str:
    """Every command with its options, as --help shows them."""
    os.environ["COLUMNS"] = USAGE_COLUMNS
    lines = ["# Commands", "", "`noid COMMAND --help` prints what stands here.", ""]
    for words, one in _parsers(["noid"], parser()):
        lines += [f"{'#' * min(len(words), 3)}# {' '.join(words)}", ""]
        lines += ["```text", one.format_help().rstrip(), "```", ""]
    return "\n".join(lines)


def _parsers(
    words: list[str], one: argparse.ArgumentParser
) -> Iterator[tuple[list[str], argparse.ArgumentParser]]:
    yield words, one
    for action in one._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, inner in action.choices.items():
                yield from _parsers([*words, name], inner)


def configuration() -> str:
    """Every key of the two configuration files: its type, its default and its meaning."""
    lines = [
        "# Configuration",
        "",
        "Keys that are not listed are refused; `noid check` says which, and why.",
        "",
        "## A host: /etc/noid.toml",
        "",
    ]
    for section in msgspec.structs.fields(Config):
        if get_origin(section.type) is dict:  # of tables that the operator names
            lines += _section(f"[{section.name}.NAME]", get_args(section.type)[1])
        else:
            lines += _section(f"[{section.name}]", section.type)
    lines += ["## A border", "", "The configuration of `noid border run`.", ""]
    lines += _section("[border]", BorderSection)
    lines += _section("[[border.providers]]", ProviderTable)
    return "\n".join(lines)


def _section(title: str, section: type[msgspec.Struct]) -> list[str]:
    text = inspect.getdoc(section) or ""
    meanings = {name: " ".join(meaning.split()) for name, meaning in ATTRIBUTE.findall(text)}
    lines = [f"### {title}", "", "| key | type | default | meaning |", "|---|---|---|---|"]
    for field in msgspec.structs.fields(section):
        cells = (
            f"`{field.name}`",
            _type(field.type),
            _default(field),
            meanings.get(field.name, ""),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def _default(field: msgspec.structs.FieldInfo) -> str:
    value = field.default
    if field.default_factory is not msgspec.NODEFAULT:
        value = field.default_factory()
    if value is None:
        return "none"
    return "required" if value is msgspec.NODEFAULT else f"`{msgspec.json.encode(value).decode()}`"


def _type(annotation: object) -> str:
    """A type in the words of TOML, with its limits."""
    kind = msgspec.inspect.type_info(annotation)
    match kind:
        case msgspec.inspect.UnionType():
            (inner,) = (one for one in get_args(annotation) if one is not type(None))
            return _type(inner)
        case msgspec.inspect.DictType():
            return "table of strings"
        case msgspec.inspect.IntType() | msgspec.inspect.FloatType():
            word = "integer" if isinstance(kind, msgspec.inspect.IntType) else "number"
            return word if kind.ge is None else f"{word}, {kind.ge} to {kind.le}"
        case msgspec.inspect.BoolType():
            return "boolean"
        case msgspec.inspect.LiteralType():
            return " or ".join(f'`"{value}"`' for value in kind.values)
        case msgspec.inspect.ListType():
            return "list of tables" if hasattr(kind.item_type, "cls") else "list of strings"
        case _:
            return "string"


def counters() -> str:
    """Every counter: its key, its metric and what it counts."""
    lines = [
        "# Counters",
        "",
        "Counters only increase while the daemon runs. `[metrics] listen` serves them by the name",
        "of their metric.",
        "",
    ]
    for kind in (*COUNTERS, BorderCounter):
        command = "noid border status" if kind is BorderCounter else "noid status"
        lines += [f"## {command}: {'.'.join(kind.path)}", ""]
        lines += ["| key | metric | counts |", "|---|---|---|"]
        lines += [f"| `{one.identifier}` | `{one.metric}` | {one.description} |" for one in kind]
        lines.append("")
    return "\n".join(lines)
