# SPDX-License-Identifier: MIT
"""Units are the last word of a name: no expression mixes nanoseconds, seconds and octets.

Types of their own for them would need a constructor after each addition. A product or quotient may
change the unit, so it has none here.
"""

import ast
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
UNIT = re.compile(r"_(ns|us|ms|s|octets|bits)$", re.IGNORECASE)
SAME_UNIT = (ast.Add, ast.Sub)
OF_THEIR_ARGUMENTS = {"max", "min", "abs", "round", "int", "float", "sum"}


def named(name: str) -> str:
    """The unit that a name says; empty if it says none."""
    found = UNIT.search(name)
    return found[1].lower() if found else ""


def unit(node: ast.expr | None) -> str:
    """The unit of an expression; empty if it is not known."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return named(name)
        case ast.Call(func=ast.Name(id=name), args=arguments) if name in OF_THEIR_ARGUMENTS:
            return next(filter(None, map(unit, arguments)), "")
        case ast.Call(func=function):
            return unit(function)
        case ast.Subscript(value=value) | ast.UnaryOp(operand=value) | ast.NamedExpr(value=value):
            return unit(value)
        case ast.IfExp(body=one, orelse=other):
            return unit(one) or unit(other)
        case ast.BinOp(left=one, op=op, right=other) if isinstance(op, SAME_UNIT):
            return unit(one) or unit(other)
    return ""


def joined(node: ast.AST) -> Iterator[tuple[str, str]]:
    """The units that have to agree in one node."""
    match node:
        case ast.BinOp(left=one, op=op, right=other) if isinstance(op, SAME_UNIT):
            yield unit(one), unit(other)
        case ast.AugAssign(target=one, op=op, value=other) if isinstance(op, SAME_UNIT):
            yield unit(one), unit(other)
        case ast.Compare(left=first, comparators=others):
            yield from itertools.pairwise(map(unit, (first, *others)))
        case ast.IfExp(body=one, orelse=other):
            yield unit(one), unit(other)
        case ast.Call(func=ast.Name(id="max" | "min"), args=arguments):
            yield from ((unit(arguments[0]), unit(other)) for other in arguments[1:])
        case ast.Assign(targets=targets, value=value):
            yield from ((unit(target), unit(value)) for target in targets)
        case ast.AnnAssign(target=target, value=value) | ast.NamedExpr(target=target, value=value):
            yield unit(target), unit(value)
        case ast.keyword(arg=str(name), value=value):
            yield named(name), unit(value)
        case ast.FunctionDef(name=name):
            for inner in ast.walk(node):
                if isinstance(inner, ast.Return):
                    yield named(name), unit(inner.value)


def mixed(text: str) -> list[str]:
    """The expressions of a file that mix units."""
    return [
        ast.unparse(node)
        for node in ast.walk(ast.parse(text))
        for one, other in joined(node)
        if one and other and one != other
    ]


@pytest.mark.parametrize("place", ["src", "tests"])
def test_no_expression_mixes_units(place: str) -> None:
    texts = {path: path.read_text(encoding="utf-8") for path in (ROOT / place).rglob("*.py")}
    found = {path: mixed(text) for path, text in texts.items()}
    assert len(found) > 300
    assert not {path: those for path, those in found.items() if those}


@pytest.mark.parametrize(
    "text",
    [
        "now_ns + delay_s",
        "late = at_s < now_ns",
        "wait_s = left_ns",
        "f(mtu_octets=length_bits)",
        "max(a_ns, b_ms)",
        "total_ns += more_s",
        "def age_s(): return self.now_ns - self.at_ns",
        "x_ns = y_s if z else 0",
    ],
)
def test_mixed_units_are_found(text: str) -> None:
    assert mixed(text)


@pytest.mark.parametrize("text", ["a_s = b_ns / SECOND", "a_ns + b_ns", "a_ns = 2 * b_s * SECOND"])
def test_conversions_are_no_mixture(text: str) -> None:
    assert not mixed(text)
