# SPDX-License-Identifier: MIT
"""Mutants of mutmut: code that is changed in one place; and what the type checker says of each."""

import difflib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

import libcst
from libcst.metadata import CodeRange, MetadataWrapper, PositionProvider
from mutmut.mutation import file_mutation
from mutmut.mutation.trampoline_templates import mangle_function_name

SOURCE: Final = Path("src")
ROOMS: Final = ("noid/wire", "noid/engine")
TYPE_CHECKER: Final = (
    *(sys.executable, "-m", "mypy", "--output", "json"),
    *("--no-warn-unused-ignores", "--no-warn-unreachable"),
)


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change.

    Attributes:
        number: its place in the sample.
        path: the module, from ``src``.
        function: its name, after that of its class.
        lines: a test that executes none of these cannot notice.
        text: the module with the change.
        change: the changed lines, before (-) and after (+).
        is_typed: if the type checker accepts it.
    """

    number: int
    path: Path
    function: str
    lines: range
    text: str
    change: tuple[str, ...]
    is_typed: bool


class Module:
    """A module, and what mutmut changes in it.

    Attributes:
        path: from ``src``.
        mutations: all that are in functions.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._code = (SOURCE / path).read_text(encoding="utf-8")
        self._tree, found, *self._ignored = file_mutation.create_mutations(str(path), self._code)
        wrapper = MetadataWrapper(self._tree, unsafe_skip_copy=True)
        self._positions: Mapping[libcst.CSTNode, CodeRange] = wrapper.resolve(PositionProvider)
        self._parents = dict(_parents(self._tree))
        self.mutations = [
            one
            for one in found
            if isinstance(one.contained_by_top_level_function, libcst.FunctionDef)
        ]

    def combined(self, indices: Sequence[int]) -> file_mutation.MutatedFile:
        """The module with some of its mutations, each in a function of its own."""
        mutations = [self.mutations[index] for index in indices]
        return file_mutation.combine_mutations_to_source(self._tree, mutations, *self._ignored)

    def mutants(self, chosen: Mapping[int, int], wrong: Set[int]) -> Iterator[Mutant]:
        """Those of some mutations.

        Args:
            chosen: the number of each mutant, by the index of its mutation.
            wrong: the lines of the combined module where the type checker finds errors.
        """
        spans = self.combined([*chosen]).line_span_by_function_name
        mutations = [self.mutations[index] for index in chosen]
        groups = file_mutation.group_by_top_level_node(mutations)
        known: set[int] = set()
        for number, mutation in zip(chosen.values(), mutations, strict=True):
            function = mutation.contained_by_top_level_function
            assert function is not None
            name = self._name(function)
            *outer, inner = name.split(".")
            mangled = mangle_function_name(name=inner, class_name=outer[0] if outer else None)
            span = spans[f"{mangled}__mutmut_{groups[function].index(mutation) + 1}"]
            errors = {line for line in wrong if span.start <= line <= span.end}
            known |= errors
            yield self._mutant(number, mutation, name, is_typed=not errors)
        assert wrong == known, f"{self.path}: errors of types that belong to no mutant"

    def _mutant(
        self, number: int, mutation: file_mutation.Mutation, name: str, *, is_typed: bool
    ) -> Mutant:
        old, new = mutation.original_node, mutation.mutated_node
        tree = file_mutation.deep_replace(self._tree, old, new)
        assert isinstance(tree, libcst.Module)
        text = tree.code
        lines = difflib.unified_diff(self._code.splitlines(), text.splitlines(), n=0, lineterm="")
        change = tuple(line for line in lines if not line.startswith(("---", "+++", "@@")))
        return Mutant(number, self.path, name, self._lines(old), text, change, is_typed)

    def _name(self, function: libcst.FunctionDef) -> str:
        outer = self._parents.get(self._parents[function])  # of the block
        name = function.name.value
        return f"{outer.name.value}.{name}" if isinstance(outer, libcst.ClassDef) else name

    def _lines(self, node: libcst.CSTNode) -> range:
        """Those of the statement of a node; of a compound one, up to the end of the node."""
        last = self._positions[node].end.line
        while not isinstance(node, libcst.SimpleStatementLine | libcst.BaseCompoundStatement):
            node = self._parents[node]
        place = self._positions[node]
        if isinstance(node, libcst.SimpleStatementLine | libcst.FunctionDef):
            last = place.end.line
        return range(place.start.line, last + 1)


def _parents(tree: libcst.CSTNode) -> Iterator[tuple[libcst.CSTNode, libcst.CSTNode]]:
    """Each node below one, with the node that it is in."""
    for child in tree.children:
        yield child, tree
        yield from _parents(child)


def _wrong_lines(source: Path) -> dict[Path, set[int]]:
    """The lines where the type checker finds errors, by module."""
    command = [*TYPE_CHECKER, *ROOMS]
    said = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert said.returncode in (0, 1), said.stderr
    wrong: dict[Path, set[int]] = {}
    for one in map(json.loads, filter(str.strip, said.stdout.splitlines())):
        # Attributes that __init__ declares are declared in each copy of it.
        if one["severity"] == "error" and one["code"] != "no-redef":
            wrong.setdefault(Path(one["file"]), set()).add(one["line"])
    return wrong


def drawn(count: int, seed: int) -> list[Mutant]:
    """A sample of all mutants, in random order."""
    paths = [path for room in ROOMS for path in sorted((SOURCE / room).glob("*.py"))]
    modules = [Module(path.relative_to(SOURCE)) for path in paths]
    everything = [(module, index) for module in modules for index in range(len(module.mutations))]
    sample = Random(seed).sample(everything, min(count, len(everything)))
    print(f"{len(sample)} of {len(everything)} mutants, seed {seed}", flush=True)
    chosen: dict[Module, dict[int, int]] = {}
    for number, (module, index) in enumerate(sample):
        chosen.setdefault(module, {})[index] = number
    with tempfile.TemporaryDirectory() as directory:
        source = Path(directory)
        shutil.copytree(SOURCE, source, dirs_exist_ok=True)
        shutil.copy("pyproject.toml", source)
        for module, indices in chosen.items():
            (source / module.path).write_text(module.combined([*indices]).code, encoding="utf-8")
        wrong = _wrong_lines(source)
    assert wrong.keys() <= {module.path for module in chosen}, wrong.keys()
    found = (
        mutant
        for module, indices in chosen.items()
        for mutant in module.mutants(indices, wrong.get(module.path, set()))
    )
    return sorted(found, key=lambda mutant: mutant.number)
