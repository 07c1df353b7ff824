"""Arrays by an expression such as ``np.random.rand(1, 100)``, of names from a list: nothing else is ever called."""

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

_CONSTANTS: Mapping[str, Any] = {
    **{
        name: np.dtype(name).type
        for name in (
            *("float16", "float32", "float64", "complex64", "complex128"),
            *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
        )
    },
    "bool_": np.bool_,
    "pi": np.pi,
    "e": np.e,
    "nan": np.nan,
    "inf": np.inf,
}
_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    **{
        name: getattr(np, name)
        for name in ("zeros", "ones", "full", "eye", "identity", "arange", "linspace", "array", "tile", "repeat")
    },
    **{
        f"random.{name}": getattr(np.random, name)
        for name in ("rand", "randn", "randint", "random", "uniform", "normal", "random_sample", "standard_normal")
    },
}
_METHODS = ("astype", "reshape", "transpose")
_BINARY: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_DEEPEST = 100
_LONGEST = 1 << 20


class ExpressionError(ValueError):
    """The text is not such an expression, or it could not be computed."""


def evaluate(text: str) -> Any:
    """The value of an expression of numbers, texts, lists, tuples, + - * / // %, and some of numpy's functions.

    ``np.`` and ``numpy.`` mean the same. Raises ExpressionError.
    """
    if len(text) > _LONGEST:
        raise ExpressionError(f"{len(text)} characters, of which {_LONGEST} are possible; put the values into a file")
    try:
        tree = ast.parse(text.strip(), mode="eval")
        return _value(tree.body, 0)
    except ExpressionError:
        raise
    except SyntaxError as error:
        raise ExpressionError(f"{error.msg} at character {error.offset}") from None
    except (MemoryError, RecursionError):
        raise ExpressionError("it needs too much memory") from None
    except Exception as error:
        raise ExpressionError(str(error)) from None


def _value(node: ast.expr, depth: int) -> Any:
    if depth > _DEEPEST:
        raise ExpressionError(f"nested more than {_DEEPEST} deep")
    inner = depth + 1
    match node:
        case ast.Constant(value=bool() | int() | float() | complex() | str() | bytes() as value):
            return value
        case ast.List(elts=elements):
            return [_value(element, inner) for element in elements]
        case ast.Tuple(elts=elements):
            return tuple(_value(element, inner) for element in elements)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_number(_value(operand, inner))
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _number(_value(operand, inner))
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _BINARY:
            # Of numbers and arrays alone: a list or a text times a number could fill the memory.
            return _BINARY[type(sign)](_number(_value(left, inner)), _number(_value(right, inner)))
        case ast.Call(func=function, args=arguments, keywords=keywords):
            return _call(function, arguments, keywords, inner)
        case ast.Attribute() if (name := _numpy_name(node)) in _CONSTANTS:
            return _CONSTANTS[name]
        case ast.Name(id="float" | "int" | "bool" as name):
            return {"float": np.float64, "int": np.int64, "bool": np.bool_}[name]
    raise ExpressionError(f"{ast.unparse(node)} is not allowed here; {_ALLOWED}")


def _call(function: ast.expr, arguments: list[ast.expr], keywords: list[ast.keyword], depth: int) -> Any:
    called: Callable[..., Any]
    name = _numpy_name(function)
    if name in _FUNCTIONS:
        called = _FUNCTIONS[name]
    elif name in _CONSTANTS and callable(_CONSTANTS[name]):
        called = _CONSTANTS[name]
    elif isinstance(function, ast.Attribute) and function.attr in _METHODS:
        owner = _value(function.value, depth)
        if not isinstance(owner, np.ndarray):
            raise ExpressionError(f"{ast.unparse(function)}: {function.attr} is for arrays")
        called = getattr(owner, function.attr)
    else:
        raise ExpressionError(f"{ast.unparse(function)} cannot be called here; {_ALLOWED}")
    if any(keyword.arg is None for keyword in keywords):
        raise ExpressionError("** is not allowed here")
    named = {str(keyword.arg): _value(keyword.value, depth) for keyword in keywords}
    made = called(*(_value(argument, depth) for argument in arguments), **named)
    return np.asarray(made) if not isinstance(made, np.ndarray) else made


def _numpy_name(node: ast.expr) -> str:
    """What follows ``np.`` or ``numpy.``; empty where the expression is no such name."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.insert(0, node.attr)
        node = node.value
    return ".".join(names) if isinstance(node, ast.Name) and node.id in ("np", "numpy") else ""


def _number(value: Any) -> Any:
    if isinstance(value, int | float | complex | np.ndarray | np.generic):
        return value
    raise ExpressionError(f"expected a number or an array, got {type(value).__name__}")


_ALLOWED = "allowed are values, + - * / // %, and np." + ", np.".join(_FUNCTIONS)
