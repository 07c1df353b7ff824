"""Columns of texts, as a file of lines has them, to typed arrays."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pyserving.core.errors import invalid_argument
from pyserving.platforms.model import Array

_HEADING = re.compile(r"(?P<name>.*):(?P<type>str|bool|u?int(?:8|16|32|64)|float(?:16|32|64))")
_INTEGER = re.compile(r"0|-?[1-9]\d{0,18}", re.ASCII)
_REAL = re.compile(
    r"-?(?:0|[1-9]\d{0,14}|(?:0|[1-9]\d*)(?=[.eE]))(?:\.\d+)?(?:[eE][+-]?\d+)?|nan|-?inf|", re.ASCII | re.I
)
_BOOLEANS = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class Column:
    """One column: ``values`` are of numbers, booleans, or objects of bytes; the first dimension is the rows."""

    name: str
    values: Array


def read_column(heading: str, cells: Sequence[str]) -> Column:
    """The column of a heading, ``name`` or ``name:type``, and the cells below it. Raises INVALID_ARGUMENT.

    Without a type it is int64 if each cell is a whole number as Python would write it (so ``007`` is none), float64 if
    each is a decimal number or empty, bool if each is true or false, else str. An empty cell of numbers is NaN.
    """
    match = _HEADING.fullmatch(heading)
    name = match["name"] if match else heading
    if not name:
        raise invalid_argument("a column has no name")
    kind = match["type"] if match else _kind_of(cells)
    if kind == "str":
        values = np.empty(len(cells), object)
        values[:] = [cell.encode() for cell in cells]
        return Column(name, values)
    try:
        if kind == "bool":
            return Column(name, np.array([_BOOLEANS[cell.lower()] for cell in cells], bool))
        if kind.startswith("float"):
            return Column(name, np.array([float(cell or "nan") for cell in cells], kind))
        return Column(name, np.array([int(cell) for cell in cells], kind))
    except (ValueError, KeyError, OverflowError):
        row = next(row for row, cell in enumerate(cells, 1) if not _is_of(kind, cell))
        raise invalid_argument(f"column {name}, row {row}: expected {kind}, got {cells[row - 1]!r}") from None


def _kind_of(cells: Sequence[str]) -> str:
    if not cells:
        return "str"
    if all(_INTEGER.fullmatch(cell) for cell in cells) and all(-(1 << 63) <= int(cell) < 1 << 63 for cell in cells):
        return "int64"
    if all(cell.lower() in _BOOLEANS for cell in cells):
        return "bool"
    return "float64" if any(cells) and all(_REAL.fullmatch(cell) for cell in cells) else "str"


def _is_of(kind: str, cell: str) -> bool:
    try:
        if kind == "bool":
            return cell.lower() in _BOOLEANS
        if kind.startswith("float"):
            float(cell or "nan")
        else:
            np.array([int(cell)], kind)
    except (ValueError, OverflowError):
        return False
    return True
