"""Evaluates an assignment's formulas: numbers, names and arithmetic, no more."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

_LONGEST = 500
_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: math.pow,  # in floating point: 9 ** 9 ** 9 overflows at once, instead of computing for ever
}
_PARTS = {ast.Expression, ast.Constant, ast.Name, ast.Load, ast.UnaryOp, ast.USub, ast.BinOp, ast.Call, *_BINARY}
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "min": min,
    "max": max,
    "round": round,
    "floor": math.floor,
    "ceil": math.ceil,
}


def names(formula: str) -> set[str]:
    """Return the names that the formula uses; raises ValueError: not a formula."""
    tree = _parsed(formula)
    functions = {
        node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} - (functions & set(_FUNCTIONS))


def value(formula: str, known: Mapping[str, Any]) -> float:
    """Evaluate the formula.

    Raises:
        ValueError: it is not a formula, a name is unknown or not a number, or the result is not
        finite.
    """
    try:
        result = float(_value(_parsed(formula).body, known))
    except (ArithmeticError, TypeError) as error:
        raise ValueError(f"{formula}: {error}") from None
    if not math.isfinite(result):
        raise ValueError(f"{formula} comes to no number")
    return result


def _parsed(formula: str) -> ast.Expression:
    if len(formula) > _LONGEST:
        raise ValueError(f"a formula of more than {_LONGEST} characters")
    try:
        tree = ast.parse(formula.strip(), mode="eval")
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(f"{formula!r} is no formula: {error}") from None
    if foreign := [node for node in ast.walk(tree) if type(node) not in _PARTS]:
        raise ValueError(f"{formula!r} is no formula: {type(foreign[0]).__name__} cannot stand in one")
    return tree


def _value(node: ast.expr, known: Mapping[str, Any]) -> Any:
    match node:
        case ast.Constant() if type(node.value) in (int, float):
            return node.value
        case ast.Name(id=name):
            if not isinstance(known.get(name), int | float):
                raise ValueError(f"{name} is no number that is known here")
            return known[name]
        case ast.UnaryOp(op=ast.USub()):
            return -_value(node.operand, known)
        case ast.BinOp(op=op) if type(op) in _BINARY:
            return _BINARY[type(op)](_value(node.left, known), _value(node.right, known))
        case ast.Call(func=ast.Name(id=name), keywords=[]) if name in _FUNCTIONS:
            return _FUNCTIONS[name](*(_value(argument, known) for argument in node.args))
    raise ValueError(f"{ast.unparse(node)} cannot stand in a formula")
